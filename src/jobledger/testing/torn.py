"""Writers that die in the middle of an append, each a process of its own, so that nothing but the ledger is left of them.

The points: `event ...` and `reply`, at which SIGKILL comes while the store takes what it was given, and `bytes N`, where the system kills
whoever lets a file grow past N bytes (SIGXFSZ), in the middle of a write if need be.
"""

import base64
import os
import pickle
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from jobledger.core.ports import EventStore

from .forks import Forks
from .store_kit import NOW, TTL, new_event, new_reply

BATCH_TORN: Final = 60
DYING: Final = ("event 0", f"event {BATCH_TORN // 2}", f"event {BATCH_TORN - 1}", "reply")
SURVIVED: Final = 0

T = TypeVar("T")


class Deadly(Sequence[T], Generic[T]):
    """Items of which one kills who takes it."""

    def __init__(self, items: Sequence[T], at: int) -> None:
        self._items = items
        self._at = at

    def __iter__(self) -> Iterator[T]:
        for index in range(len(self._items)):
            yield self[index]

    def __getitem__(self, index: int) -> T:  # type: ignore[override]  # no store needs slices
        if index == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)


def append(forks: Forks, opener: Callable[[], EventStore], store: EventStore, point: str, request: str, *, told: Path) -> bool:
    """Have a batch of `BATCH_TORN` events appended with an answer to `request` by a writer that dies at `point`; True if it survived.

    `opener` opens the ledger of `store` in another process.  Raises AssertionError where the writer ended in any other way than it should.
    """
    pickled = base64.b64encode(pickle.dumps(opener)).decode()
    order = {"opener": pickled, "ledger": store.ledger_id, "point": point, "request": request}
    status = forks.start(f"{__name__}:main", order, told=told).wait()
    if status not in ({-signal.SIGXFSZ, SURVIVED} if point.startswith("bytes") else {-signal.SIGKILL}):
        raise AssertionError(f"the writer that was to die at {point!r} ended with {status}: {told.read_text()}")
    return status == SURVIVED


def main(order: dict[str, str]) -> None:
    """Be a writer."""
    opener: Callable[[], EventStore] = pickle.loads(base64.b64decode(order["opener"]))  # noqa: S301 - from the test that started this process
    store = opener()
    if store.ledger_id != order["ledger"]:
        raise AssertionError(f"what opens the ledger {order['ledger']} in another process opened {store.ledger_id}")
    kind, _, number = order["point"].partition(" ")
    lease = store.acquire_lease("torn", now=NOW, ttl=TTL)
    expected = store.head().position
    events = [new_event(one, actor="torn", size=1_000) for one in range(BATCH_TORN)]
    if kind == "bytes":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    store.append(
        Deadly(events, int(number) if kind == "event" else -1),
        expected=expected,
        lease=lease,
        replies=Deadly([new_reply(order["request"], position=expected + BATCH_TORN)], 0 if kind == "reply" else -1),
    )
