"""Silence: programs that have a limit on it are looked at now and then, and said to be silent once they have written nothing for so long.

1. Only programs with such a limit are looked at, at an eighth of it: a silence is noticed late by that much, and never early.
2. Time is the monotonic clock's, and output is what makes a file's size or time change.  Only of a program that an earlier engine started the
   last change is read from the files' times, and the wall clock believed.
3. A program that stays silent is said to be so again each time the limit passes; what follows from it is not decided here.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from attrs import define

from ..core.ids import SECOND, Duration, ExecutionId

LOOKS: Final = 8
"""How many looks a limit is divided into."""
LOOK_MIN_S: Final = 0.1
LOOK_MAX_S: Final = 30.0

Heard = tuple[tuple[int, int], ...]
"""Size and time of each output file."""


@define
class _Watched:
    paths: Sequence[Path]
    limit_s: float
    heard: Heard
    since: float
    """When it was last seen to have written something, by the monotonic clock."""
    look_at: float


class SilenceWatch:
    """Looks after silent programs, in the loop that it was made in."""

    def __init__(self, silent: Callable[[ExecutionId, Duration], None]) -> None:
        self._silent = silent
        self._watched: dict[ExecutionId, _Watched] = {}
        self._changed = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    def watch(self, execution: ExecutionId, paths: Sequence[Path], limit: Duration, *, adopted: bool) -> None:
        """Look after a program that has just started, or, `adopted`, some time ago; one that is looked after already is left as it is."""
        if execution in self._watched:
            return
        now, limit_s = time.monotonic(), limit / SECOND
        heard = _heard(paths)
        since = now - _age(heard) if adopted else now
        self._watched[execution] = _Watched(paths, limit_s, heard, since, min(now + _pause(limit_s), since + limit_s))
        self._changed.set()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="jobledger silence")

    def forget(self, execution: ExecutionId) -> None:
        """The program has ended."""
        self._watched.pop(execution, None)

    async def close(self) -> None:
        """Look after nothing any more."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
            self._looking = None

    async def _look(self) -> None:
        while True:
            self._changed.clear()
            now = time.monotonic()
            for execution, watched in list(self._watched.items()):
                if watched.look_at <= now:
                    self._look_at(execution, watched, now)
            next_look = min((watched.look_at for watched in self._watched.values()), default=None)
            try:
                async with asyncio.timeout(None if next_look is None else max(0.0, next_look - time.monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _look_at(self, execution: ExecutionId, watched: _Watched, now: float) -> None:
        heard = _heard(watched.paths)
        if heard != watched.heard:
            watched.heard, watched.since = heard, now
        elif now >= watched.since + watched.limit_s:
            self._silent(execution, Duration(int((now - watched.since) * SECOND)))
            watched.look_at = now + watched.limit_s
            return
        watched.look_at = min(now + _pause(watched.limit_s), watched.since + watched.limit_s)


def _pause(limit_s: float) -> float:
    return min(max(limit_s / LOOKS, LOOK_MIN_S), LOOK_MAX_S)


def _heard(paths: Sequence[Path]) -> Heard:
    """Size and time of each file; of one that cannot be looked at, that it has none."""
    heard = []
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            heard.append((-1, 0))
        else:
            heard.append((found.st_size, found.st_mtime_ns))
    return tuple(heard)


def _age(heard: Heard) -> float:
    """How many seconds ago, by the wall clock, the files last changed; 0 where that cannot be told."""
    latest = max((changed for _, changed in heard), default=0)
    return max(0.0, time.time() - latest / 1e9) if latest else 0.0
