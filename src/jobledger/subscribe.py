"""Catch up with a ledger and stay with it: every event after a position, once and in order, as long as somebody listens.

Both ways read the log itself, so that nothing is missed between catching up and living on, and the chain is checked across
the whole way.  On SQLite they see what any process appends, within a fraction of a second.  Whoever remembers the position of
the last event that was dealt with goes on from there after a restart: `after=` that position.

`subscribe` is for asyncio programs, `follow` for the others.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Final

from .core.ports import EventStore, RecordedEvent

POLL_S: Final = 0.02
"""How often `subscribe` looks for new events while there are none."""

STOP_S: Final = 0.2
"""How long `follow` may wait before it asks again whether to stop."""

_TURN: Final = 500
"""Events after which `subscribe` lets the rest of the program have a turn while it catches up."""


async def subscribe(store: EventStore, *, after: int = 0, poll_s: float = POLL_S) -> AsyncGenerator[RecordedEvent, None]:
    """Every event after position `after`, for ever; it ends when its task is cancelled or it is closed (`aclose`), at once.

    Raises what `EventStore.read` raises.
    """
    position = after
    while True:
        for recorded in store.read(after=position):
            yield recorded
            position = recorded.position
            if position % _TURN == 0:
                await asyncio.sleep(0)
        while not store.wait(after=position, timeout_s=0):  # noqa: ASYNC110 - no event in this program tells of another process's append
            await asyncio.sleep(poll_s)


def follow(store: EventStore, *, after: int = 0, stop: Callable[[], bool] = lambda: False) -> Iterator[RecordedEvent]:
    """Every event after position `after`, until `stop` says so; it is asked before each event and every `STOP_S` seconds.

    Raises what `EventStore.read` raises.
    """
    position = after
    while not stop():
        for recorded in store.read(after=position):
            if stop():
                return
            yield recorded
            position = recorded.position
        store.wait(after=position, timeout_s=STOP_S)
