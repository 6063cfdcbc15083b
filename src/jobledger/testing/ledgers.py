"""Ledgers of a history: what a scenario or a stage has seen (its `log`), as a store to read from."""

from collections.abc import Iterable
from typing import Final

from jobledger.core.events import Event
from jobledger.core.ids import Duration, Micros
from jobledger.core.ports import EventStore, NewEvent
from jobledger.eventstore import MemoryStore

LEDGER_ID: Final = "0123abcd"
"""Of a ledger that `ledger_of` makes: always the same, so that what is printed of it is too."""


def ledger_of(log: Iterable[tuple[Event, Micros]]) -> MemoryStore:
    """A new ledger in memory with these events, each with the time of its recording."""
    store = MemoryStore(ledger_id=LEDGER_ID)
    write(store, log)
    return store


def write(store: EventStore, log: Iterable[tuple[Event, Micros]]) -> None:
    """Append these events to a ledger that no engine drives.  Raises `LedgerBusy`, `StoreError`."""
    new = [NewEvent(event=event, recorded_at=at, causation="engine", correlation="engine", actor="jobledger") for event, at in log]
    lease = store.acquire_lease("jobledger.testing", now=new[0].recorded_at if new else Micros(0), ttl=Duration(1))
    store.append(new, expected=store.head().position, lease=lease)
    store.release_lease(lease)
