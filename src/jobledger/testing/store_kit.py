"""What the suites of stores are made of: the hooks that a subclass fills in, a store and a lease to begin with, and events to append."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import pytest
from attrs import frozen

from jobledger.core.events import TaskRequeued
from jobledger.core.ids import SECOND, Duration, JobId, Micros, TaskId
from jobledger.core.ports import EventStore, Head, InboxReply, InboxRequest, Lease, NewEvent

from .applicability import Applicability

NOW: Final = Micros(1_763_908_415_123_456)
TTL: Final = Duration(10 * SECOND)
BOUND_S: Final = 60
"""What no test should ever need; a store that hangs fails instead of hanging the suite."""
BATCH: Final = 5


def new_event(number: int = 0, *, job: str = "j-1", causation: str = "clock", actor: str = "jobledger", size: int = 0) -> NewEvent:
    """An event to append; `number` tells it from others, and it takes `size` bytes more than it has to."""
    event = TaskRequeued(job=JobId(job), task=TaskId(f"t-{number}"), cause="the node was lost" + "." * size)
    return NewEvent(event=event, recorded_at=Micros(NOW + number), causation=causation, correlation=f"job/{job}", actor=actor)


def new_request(name: str = "r-1") -> InboxRequest:
    return InboxRequest(id=name, kind="delete-job/1", data={"job": "j-1", "list": [1, None]}, actor="ann", reason="done", submitted_at=NOW)


def new_reply(name: str = "r-1", *, position: int = 0) -> InboxReply:
    return InboxReply(request=name, accepted=False, code="JobNotFound", message="there is no job j-1", position=position, answered_at=NOW)


def append(store: EventStore, lease: Lease, size: int) -> Head:
    """Append so many events after whatever is there."""
    return store.append([new_event(number) for number in range(size)], expected=store.head().position, lease=lease)


def batch_of(actor: str) -> Sequence[NewEvent]:
    """`BATCH` events that belong together, by who asked for them."""
    return [new_event(number, actor=actor) for number in range(BATCH)]


@frozen(kw_only=True)
class FullDisk:
    """A store whose disk takes little more, a megabyte or so, until `free` gives it room."""

    store: EventStore
    free: Callable[[], None]


class StoreSuite(Applicability):
    """What the suites of stores ask of who inherits them."""

    def open_store(self) -> EventStore:
        """A new, empty ledger."""
        raise NotImplementedError  # The hook that every subclass gives.

    def open_again(self, store: EventStore) -> EventStore:
        """The ledger of `store` once more, as another process would open it; `store` itself for one that lives in memory."""
        return store

    def opener(self, store: EventStore) -> Callable[[], EventStore] | None:  # noqa: ARG002 - for whoever overrides it
        """What opens the ledger of `store` in another process, such as `functools.partial(MyStore.open, path)`; it is pickled to get there.

        None for a ledger that ends with its process.
        """
        return None

    def full_disk(self) -> FullDisk | None:
        """A new ledger on a disk that will soon be full; None for a store that has no disk."""
        return None

    def may_lack(self) -> frozenset[str]:
        return super().may_lack() | {"opener", "full_disk"}

    @pytest.fixture
    def store(self) -> Iterator[EventStore]:
        store = self.open_store()
        yield store
        store.close()

    @pytest.fixture
    def other(self, store: EventStore) -> Iterator[EventStore]:
        other = self.open_again(store)
        yield other
        other.close()

    @pytest.fixture
    def lease(self, store: EventStore) -> Lease:
        return store.acquire_lease("engine-1", now=NOW, ttl=TTL)
