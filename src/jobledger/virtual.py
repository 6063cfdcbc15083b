"""Virtual time for asyncio: an event loop whose clock jumps to the next timer as soon as nothing is left to do.

1. Time is counted in whole microseconds from 0, and passes only while every callback has run and none is ready.
2. What runs on such a loop is as quick as its work, and does the same thing each time as long as it waits for timers alone.
3. Threads, sockets and child processes work only where nothing else would happen before they are done: time does not wait for them.
4. Where nothing is ready, no timer is left and nothing outside is watched, waiting would never end: that is an error.
"""

import asyncio
import math
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")

_LOOPS_OWN: Final = 1
"""Files that a loop watches for itself: the one through which threads and signals wake it."""


class NothingLeft(RuntimeError):
    """Everybody waits, and nothing is left that could ever happen."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; `microseconds` is how much of it has passed."""

    def __init__(self) -> None:
        self.microseconds = 0
        self.when_nothing_left: Callable[[], None] | None = None
        """Called, once, in place of `NothingLeft`."""
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.microseconds / 1_000_000


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """What `main` returns, run to its end in virtual time that begins at 0.  Raises `NothingLeft` where it never would come to its end."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class _Jumping(selectors.DefaultSelector):
    """Lets virtual time pass where a loop would sleep."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            if len(self.get_map()) <= _LOOPS_OWN:
                if (last_chance := self._loop.when_nothing_left) is not None:
                    self._loop.when_nothing_left = None
                    self._loop.call_soon(last_chance)
                    return ready
                raise NothingLeft("nothing is left that could happen, and somebody still waits")
            return super().select(None)
        # Rounded to a nanosecond first: the difference of two floating point times may be a little more than what was asked for.
        self._loop.microseconds += max(1, math.ceil(round(timeout * 1_000_000, 3)))
        return ready
