"""Writers that die in the middle of an append, each a process of its own, so that nothing but the ledger is left of them.

    python -m jobledger.testing.torn PATH OPENER        # sys.path as JSON, and what opens the ledger, pickled and in base64

One process is made ready once; for each point that it reads from stdin, a line of JSON, it forks a writer and says how that ended.  The
points: `event ...` and `reply`, at which SIGKILL comes while the store takes what it was given, and `bytes N`, where the system kills
whoever lets a file grow past N bytes (SIGXFSZ), in the middle of a write if need be.
"""

import base64
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

from jobledger.core.ports import EventStore

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


class Writers:
    """The process that forks them, from the side of the test."""

    def __init__(self, opener: Callable[[], EventStore]) -> None:
        pickled = base64.b64encode(pickle.dumps(opener)).decode()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, json.dumps(sys.path), pickled], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.communicate(timeout=60)

    def append(self, point: str, request: str) -> bool:
        """Have a batch of `BATCH_TORN` events appended with an answer to `request` by a writer that dies at `point`; True if it survived.

        Raises AssertionError where it ended in any other way than it should.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError
        self._process.stdin.write(json.dumps([point, request]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        deaths = {-signal.SIGXFSZ, SURVIVED} if point.startswith("bytes") else {-signal.SIGKILL}
        if not answer or json.loads(answer) not in deaths:
            raise AssertionError(f"the writer that was to die at {point!r} ended with {answer!r}")
        return bool(json.loads(answer) == SURVIVED)


def _write(opener: Callable[[], EventStore], point: str, request: str) -> None:
    """Be a writer."""
    kind, _, number = point.partition(" ")
    store = opener()
    lease = store.acquire_lease("torn", now=NOW, ttl=TTL)
    expected = store.head().position
    events = [new_event(one, actor=point, size=1_000) for one in range(BATCH_TORN)]
    if kind == "bytes":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    store.append(
        Deadly(events, int(number) if kind == "event" else -1),
        expected=expected,
        lease=lease,
        replies=Deadly([new_reply(request, position=expected + BATCH_TORN)], 0 if kind == "reply" else -1),
    )


def main(path: str, opener: str) -> None:
    sys.path[:] = json.loads(path)
    opens: Callable[[], EventStore] = pickle.loads(base64.b64decode(opener))  # noqa: S301 - from the test that started this process
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                _write(opens, *json.loads(line))
                code = SURVIVED
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
