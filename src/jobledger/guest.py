"""A guest: asks the engine that another process drives, and sees its world, as if that engine were its own.

1. Its world is folded from what the ledger has, so it is never ahead of it; every request goes through the ledger's inbox.
2. It writes no event and launches nothing.  When the engine is gone it says so, and whoever opened it may become the engine.
"""

import asyncio
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .asks import Session
from .core import requests as q
from .core.errors import EngineGone, LedgerBusy, RequestRefused
from .core.evolve import evolve
from .core.ports import EventStore
from .core.world import Agenda, World
from .eventstore import SqliteStore
from .inbox import ask
from .opening import refuse_other_purpose
from .owner import certainly_dead
from .replay import replay
from .surroundings import wall_clock

POLL_S: Final = 0.02
"""How often it looks for new events."""

ALIVE_S: Final = 0.5
"""How often it asks whether the engine still lives."""

ANSWER_S: Final = 30.0
"""How long an engine may take to answer a request."""

_TURN: Final = 500
"""Events after which the rest of the program has a turn while it catches up."""


class Guest(Session):
    """Use as `async with await Guest.open(ledger) as guest`; every method belongs to the loop it was opened in."""

    def __init__(self, store: SqliteStore, world: World, position: int) -> None:
        """Use `open`."""
        self._store = store
        self._world = world
        self._position = position
        self._turned = asyncio.Event()
        self._failure: BaseException | None = None
        self._following: asyncio.Task[None] | None = None
        _forget_what_engines_do(world)

    @classmethod
    async def open(cls, ledger: str | PathLike[str]) -> Self:
        """See the world of the engine that drives the ledger at a path.

        Raises `EngineGone` (no engine drives it), `RequestRefused` (a dry run is under way in it), `LedgerCorrupt`, `LedgerTooNew`, `StoreError`.
        """
        store = SqliteStore.open(Path(ledger), create=False)
        try:
            refuse_unless_driven(store)
            position = store.head().position
            world, _ = replay(store, until=position)
            refuse_other_purpose(world, "")
            guest = cls(store, world, position)
        except BaseException:
            store.close()
            raise
        guest._following = asyncio.create_task(guest._follow(), name="jobledger guest")
        guest._following.add_done_callback(guest._over)
        return guest

    async def request(self, request: q.Request, *, actor: str = "embedder") -> int:
        """See `Session.request`; the world has what came of it when this comes back.  Raises `EngineGone` and `LedgerBusy` (no answer in time) too."""
        self._check()
        try:
            reply = await asyncio.to_thread(ask, self._store, request, actor=actor, timeout_s=ANSWER_S)
        except RequestRefused as refusal:
            if refusal.code == "NoEngine":
                raise EngineGone("the engine that drove this ledger is gone, and nothing was asked") from None
            raise
        except LedgerBusy:
            refuse_unless_driven(self._store)
            raise
        if not reply.accepted:
            raise RequestRefused(reply.code or "InvalidInput", reply.message)
        await self.until(lambda _: self._position >= reply.position)
        return reply.position

    async def until(self, condition: Callable[[World], bool], *, timeout_s: float | None = None) -> None:
        """Come back as soon as the world fulfils `condition`.  Raises `TimeoutError`, `EngineGone`, or what reading the ledger raised."""
        async with asyncio.timeout(timeout_s):
            while not condition(self._world):
                self._check()
                await self._turned.wait()

    @property
    def world(self) -> World:
        """The world as the ledger has it; to be read and never changed, and not across an `await`."""
        return self._world

    @property
    def store(self) -> EventStore:
        """The ledger, to read."""
        return self._store

    @property
    def position(self) -> int:
        """The position of the last event that this world has."""
        return self._position

    async def close(self) -> None:
        """Let go of the ledger; the engine goes on."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _follow(self) -> None:
        """Fold what the engine appends, until it is gone."""
        loop = asyncio.get_running_loop()
        ask_at = loop.time() + ALIVE_S
        while True:
            await self._catch_up()
            if loop.time() >= ask_at:
                await self._see_that_it_lives()
                ask_at = loop.time() + ALIVE_S
            await asyncio.sleep(POLL_S)

    def _over(self, following: "asyncio.Task[None]") -> None:
        """Whatever it was that ended the following, whoever waits is told."""
        if not following.cancelled():
            self._failure = following.exception()
            self._turned.set()

    async def _see_that_it_lives(self) -> None:
        try:
            refuse_unless_driven(self._store)
        except EngineGone:
            await self._catch_up()  # With what it did last.
            raise

    async def _catch_up(self) -> None:
        before = self._position
        for recorded in self._store.read(after=self._position):
            evolve(self._world, recorded.event, recorded.recorded_at)
            self._position = recorded.position
            if recorded.position % _TURN == 0:
                _forget_what_engines_do(self._world)
                await asyncio.sleep(0)
        if self._position > before:
            _forget_what_engines_do(self._world)
            turned, self._turned = self._turned, asyncio.Event()
            turned.set()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


def refuse_unless_driven(store: EventStore) -> None:
    """Raises `EngineGone` where no engine holds the ledger's lease, or one that certainly is dead."""
    lease = store.current_lease()
    if lease is None or certainly_dead(lease):
        raise EngineGone("the engine that drove this ledger is gone")
    if lease.expires_at < wall_clock():
        raise EngineGone("the engine that drove this ledger has not been heard of for longer than its lease")


def _forget_what_engines_do(world: World) -> None:
    """Only an engine works off what the fold puts on the agenda, and launches what became owed."""
    world.agenda = Agenda()
    world.owed.fresh.clear()
    world.deadlines.clear()
