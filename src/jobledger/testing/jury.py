"""The jury of a running engine: what it writes, gives to executors and answers, held against what must be so, on guarded ports.

    jury, life = Jury(), Life()
    store = GuardedStore(mine, jury, life)
    engine = await Engine.open(store, executors={"local": guard_executor(my_executor, jury, life)})
    ...
    jury.judge(mine, engine.world)          # raises Broken with what does not hold

1. What the store gives back is what was appended, event by event, with the positions and hashes that the chain gives them.
2. All invariants hold of it, and the world that it makes is the one that the engine lives in.
3. No program is launched, and nobody is answered, before the events that say so are in the ledger; only the latest lease may append.
4. An engine whose `Life` is over reaches neither its store nor its executor any more, whatever it still tries: that is what kill -9 is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from attrs import define, evolve

from jobledger.core import events as e
from jobledger.core.commands import Command, RunCommand
from jobledger.core.errors import ExecutorError, StoreError
from jobledger.core.evolve import evolve as fold
from jobledger.core.ids import SECOND, Duration, ExecutionId, Micros, NodeId, PoolId
from jobledger.core.invariants import Auditor
from jobledger.core.ports import EventStore, Executor, Head, Identities, InboxReply, Lease, NewEvent, RecordedEvent, ReportSink
from jobledger.core.reports import Report
from jobledger.core.specs import UserIdentity
from jobledger.core.world import Agenda, World
from jobledger.eventstore import SqliteStore
from jobledger.eventstore.chain import genesis, recorded, seal
from jobledger.eventstore.codec import default_codec

from .stage import Broken

Point = Callable[[str], None]
"""Told where an engine is; it may raise `Crash`."""


class Crash(BaseException):
    """The engine's process ends here and now: nobody may catch it and go on."""


@define(eq=False)
class Life:
    """One life of an engine; what is guarded for it does nothing any more when it is over."""

    number: int = 1
    over: bool = False
    point: Point = lambda _: None

    def at(self, where: str) -> None:
        """The engine is there, if it lives; `Crash` ends its life."""
        try:
            self.point(where)
        except Crash:
            self.over = True
            raise


class Jury:
    """What is known for sure of one ledger, and what speaks against it."""

    def __init__(self, *, heard: Callable[[Sequence[RecordedEvent]], None] | None = None) -> None:
        """`heard` is told of all events right after each append."""
        self.auditor: Final = Auditor()
        self.shadow = World()
        self.events: Final[list[RecordedEvent]] = []
        """What was appended, as a store has to give it back."""
        self.complaints: Final[list[str]] = []
        self.launched: Final[set[ExecutionId]] = set()
        self._heard = heard
        self._head: Head | None = None
        self._requested: Final[set[ExecutionId]] = set()
        self._judged = 0
        self._epoch = 0

    @property
    def position(self) -> int:
        """The ledger's last position."""
        return len(self.events)

    def leased(self, lease: Lease) -> None:
        """A lease was taken."""
        if lease.epoch <= self._epoch:
            self.complaints.append(f"a lease with epoch {lease.epoch} was given after one with epoch {self._epoch}")
        self._epoch = lease.epoch

    def appended(self, store: EventStore, events: Sequence[NewEvent], expected: int, lease: Lease, head: Head) -> None:
        """The store says that these events are in the ledger."""
        if lease.epoch != self._epoch:
            self.complaints.append(f"the store took events of epoch {lease.epoch}, and epoch {self._epoch} drives the ledger")
        if expected != self.position:
            self.complaints.append(f"the store took events after position {expected}, and the ledger is at {self.position}")
        before = self._head or Head(position=0, hash=genesis(store.ledger_id))
        rows = seal(events, evolve(before, position=self.position), default_codec())
        new = [recorded(row[0], str(row[1]), one.event, row[4], *row[5:8], row[9]) for one, row in zip(events, rows, strict=True)]
        self.events.extend(new)
        if new:
            self._head = Head(position=new[-1].position, hash=new[-1].hash)
        if (self._head or before) != head:
            self.complaints.append(f"the store says that its head is {head}, and it is {self._head}")
        self._requested.update(one.event.execution for one in new if isinstance(one.event, e.ExecutionRequested))
        if self._heard is not None:
            self._heard(new)

    def given(self, commands: Sequence[Command]) -> None:
        """These commands are about to be given to an executor."""
        for command in commands:
            if isinstance(command, RunCommand):
                self.launched.add(command.launch.execution)
                if command.launch.execution not in self._requested:
                    self.complaints.append(f"execution {command.launch.execution} is to be launched before it is recorded")

    def answered(self, position: int) -> None:
        """Somebody was told that what was asked is in the ledger, up to a position."""
        if position > self.position:
            self.complaints.append(f"a request was answered with position {position}, and the ledger is at {self.position}")

    def judge(self, store: EventStore, world: World | None = None, *, whole: bool = False) -> None:
        """Hold what is new against all that must be so, or with `whole` the whole ledger as the store has it.

        `world` is the engine's.  Raises `Broken`.
        """
        if self.complaints:
            raise Broken("; ".join(self.complaints))
        after = 0 if whole else self._judged
        self._compare(store, after)
        for one in self.events[self._judged :]:
            fold(self.shadow, one.event, one.recorded_at)
            violations = tuple(self.auditor.see(one.event, one.recorded_at, self.shadow, one.position))
            if violations:
                raise Broken("\n".join(map(str, violations)), violations)
        self._judged = self.position
        self.shadow.agenda = Agenda()
        self.shadow.owed.fresh.clear()
        if world is not None and world != self.shadow:
            raise Broken("the engine's world is not the one that its ledger makes")

    def _compare(self, store: EventStore, after: int) -> None:
        """Hold what the store has against what was appended."""
        found = list(store.read(after=after))
        for have, want in zip(found, self.events[after:], strict=False):
            if have != want:
                raise Broken(f"the store gives back {have}, and what was appended is {want}")
        if len(found) != self.position - after:
            raise Broken(f"the store has {len(found)} events after position {after}, and {self.position - after} were appended")
        head = store.head()
        if head != (self._head or Head(position=0, hash=genesis(store.ledger_id))):
            raise Broken(f"the store's head is {head}, and the last event appended is {self._head}")

    def write_ledger(self, path: Path) -> Path:
        """Write what was appended into an SQLite ledger of its own, for `jobledger replay`; one that is there is replaced."""
        for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            name.unlink(missing_ok=True)
        with closing(SqliteStore.open(path)) as store:
            lease = store.acquire_lease("kit", now=Micros(0), ttl=Duration(SECOND))
            again = [
                NewEvent(event=one.event, recorded_at=one.recorded_at, causation=one.causation, correlation=one.correlation, actor=one.actor)
                for one in self.events
            ]
            store.append(again, expected=0, lease=lease)
            store.release_lease(lease)
        return path


class GuardedStore:
    """A store as one life of an engine sees it.  With `keep`, closing it leaves the store open for the next one."""

    def __init__(self, store: EventStore, jury: Jury, life: Life, *, keep: bool = False) -> None:
        self._store = store
        self._jury = jury
        self._life = life
        self._keep = keep

    @property
    def ledger_id(self) -> str:
        return self._store.ledger_id

    def __getattr__(self, name: str) -> Any:
        """What a store may have beyond its port, such as the path of its file."""
        return getattr(self._store, name)

    def head(self) -> Head:
        return self._reached().head()

    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        """See `EventStore.append`."""
        self._reached()
        self._life.at("before an append")
        head = self._store.append(events, expected=expected, lease=lease, replies=replies)
        self._jury.appended(self._store, events, expected, lease, head)
        self._life.at("after an append")
        return head

    def read(self, *, after: int = 0, until: int | None = None, stream: str | None = None) -> Iterator[RecordedEvent]:
        """See `EventStore.read`."""
        return self._reached().read(after=after, until=until, stream=stream)

    def wait(self, *, after: int, timeout_s: float) -> bool:
        """See `EventStore.wait`."""
        return self._reached().wait(after=after, timeout_s=timeout_s)

    def acquire_lease(self, owner: str, *, now: Micros, ttl: Duration) -> Lease:
        """See `EventStore.acquire_lease`."""
        lease = self._reached().acquire_lease(owner, now=now, ttl=ttl)
        self._jury.leased(lease)
        return lease

    def renew_lease(self, lease: Lease, *, now: Micros, ttl: Duration) -> Lease:
        """See `EventStore.renew_lease`."""
        return self._reached().renew_lease(lease, now=now, ttl=ttl)

    def release_lease(self, lease: Lease) -> None:
        """See `EventStore.release_lease`."""
        self._reached().release_lease(lease)

    def current_lease(self) -> Lease | None:
        return self._reached().current_lease()

    def put_request(self, request: Any) -> None:
        self._reached().put_request(request)

    def pending_requests(self) -> Sequence[Any]:
        return self._reached().pending_requests()

    def reply_to(self, request: str) -> InboxReply | None:
        return self._reached().reply_to(request)

    def withdraw_request(self, request: str) -> bool:
        return self._reached().withdraw_request(request)

    def close(self) -> None:
        if not self._life.over and not self._keep:
            self._store.close()

    def _reached(self) -> EventStore:
        if self._life.over:
            raise StoreError("the engine is dead and reaches its store no more")
        return self._store


class GuardedExecutor:
    """An executor as one life of an engine sees it; `twice` gives it the next commands once more."""

    def __init__(self, executor: Executor, jury: Jury, life: Life) -> None:
        self._executor = executor
        self._jury = jury
        self._life = life
        self._sink: ReportSink | None = None
        self.twice = False

    async def open(self, sink: ReportSink, *, ledger_id: str) -> None:
        """See `core.ports.Executor`."""
        self._sink = sink
        self._life.at("before an executor is opened")
        await self._executor.open(self._pass_on, ledger_id=ledger_id)
        self._life.at("after an executor was opened")

    def recover(self, commands: Sequence[RunCommand], nodes: Mapping[NodeId, PoolId]) -> None:
        """See `core.ports.Executor`."""
        self._life.at("before what runs is adopted")
        self._executor.recover(commands, nodes)

    def submit(self, commands: Sequence[Command]) -> None:
        """See `core.ports.Executor`.  One by one, so that an engine can die in between."""
        self._jury.given(commands)
        self._life.at("before commands are given")
        for command in commands:
            self._executor.submit([command])
            if self.twice:
                self._executor.submit([command])
            self._life.at("after a command was given")
        self.twice = False

    async def failed(self) -> ExecutorError:
        """See `core.ports.Executor`."""
        return await self._executor.failed()

    async def close(self) -> None:
        """See `core.ports.Executor`."""
        if not self._life.over:
            await self._executor.close()

    def _pass_on(self, report: Report) -> None:
        if not self._life.over and self._sink is not None:
            self._sink(report)


class _GuardedIdentities(GuardedExecutor):
    """The same for an executor that can run command lines as other users."""

    _executor: Identities  # type: ignore[assignment]  # it is both

    async def refusal(self, user: UserIdentity) -> str | None:
        """See `core.ports.Identities`."""
        return await self._executor.refusal(user)


def guard_executor(executor: Executor, jury: Jury, life: Life) -> GuardedExecutor:
    """The executor, guarded; it can run as other users where the executor can."""
    return (_GuardedIdentities if isinstance(executor, Identities) else GuardedExecutor)(executor, jury, life)
