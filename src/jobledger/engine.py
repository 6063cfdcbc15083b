"""The engine: a thin loop around the pure core.

A turn takes what has arrived, decides it, appends the events in one durable batch, and only then hands the commands that
became owed to the executors and answers whoever asked.  Reading order: `Engine.open`, `_drive`, `_turn`.

1. Nothing is launched, and nobody is told, before the events that say so are durable.
2. The engine holds the ledger's lease.  When an append says that it lost it, or fails in any other way, the engine stops:
   its world is ahead of the ledger and worth nothing any more, and a restart finds the truth.
3. Recovery is the normal start: replay, give the executors what they are believed to run, and issue every owed command again.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from . import __version__, identities, needs, opening
from .asks import Session
from .core import owed
from .core import requests as q
from .core.advance import Decided, settle
from .core.commands import BootNode, Command, RemoveFiles, RetireNode, RunCommand, StopExecution
from .core.deadlines import next_deadline
from .core.decide import ClockAdvanced
from .core.errors import AppendConflict, ExecutorError, JobledgerError, RequestRefused, StoreError
from .core.events import EngineStarted, EngineStopped
from .core.execution import pool_of, run_command
from .core.failure import FailureInfo
from .core.ids import SECOND, Micros, NodeId, PoolId
from .core.ports import EventStore, Executor, Head, InboxRequest, Lease, PlacementPolicy, RecordedEvent
from .core.reports import ExecutionNotStarted, ExecutionStarted, Report
from .core.world import World
from .eventstore import Durability, decode_request, open_store, refuse_unless_sealed, refuse_unless_unicode
from .keeper import SecretKeeper
from .plugins import executor_names, make_executor
from .recorder import Arrival, Recorder, of_report, subject_of
from .replay import replay
from .snapshots import SnapshotKeeper, held
from .subscribe import subscribe
from .surroundings import Surroundings, here

DEFAULT_LEDGER: Final = Path(".jobledger/ledger.db")
DEFAULT_ROOT: Final = Path(".jobledger/nodes")

TURN_ARRIVALS_MAX: Final = 1_024
"""Stimuli decided in one batch: enough to share one sync among them, few enough to keep answers prompt."""

WAITING_REQUESTS_MAX: Final = 10_000
"""Requests of the embedding program that may wait for a turn; one more is refused with `ServerBusy`."""

START_LINGER_S: Final = 0.005
"""How long the report of a start may wait for company: short programs end within it, and then one commit serves for both."""


class Engine(Session):
    """Drives one ledger.  Use as `async with await Engine.open(...) as engine`; every method belongs to the loop it was opened in."""

    def __init__(
        self,
        store: EventStore,
        world: World,
        lease: Lease,
        last: Micros,
        root: Path,
        executors: Mapping[str, Executor],
        surroundings: Surroundings,
        policy: PlacementPolicy | None,
    ) -> None:
        """Use `open`."""
        self._store = store
        self._world = world
        self._lease = lease
        self._surroundings: Final = surroundings
        self._clock = surroundings.clock
        self._policy: Final = policy
        self._now = last
        self._root = root
        self._ready_made: Final = dict(executors)
        self._executors: dict[str, Executor] = {}
        self._watchers: list[asyncio.Task[ExecutorError]] = []
        self._secrets = SecretKeeper.of(store, world)
        self._recorder = Recorder(store, world, lease, store.head(), self._secrets, policy)
        self._snapshots: Final = SnapshotKeeper(store, held(store))
        self._launched_before = world.next_execution
        """Executions below this number may have been given to an executor before; later ones are given once, by `_dispatch`."""
        self._arrivals: deque[Arrival] = deque()
        self._wake = asyncio.Event()
        self._turned = asyncio.Event()
        self._inbox_at = 0.0
        self._letters: set[str] = set()
        self._asking: set[asyncio.Task[None]] = set()
        self._asked: set[asyncio.Future[int]] = set()
        self._driver: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._closing = False

    @classmethod
    async def open(
        cls,
        ledger: str | PathLike[str] | EventStore = DEFAULT_LEDGER,
        *,
        root: str | PathLike[str] = DEFAULT_ROOT,
        executors: Mapping[str, Executor] | None = None,
        durability: Durability = "full",
        policy: PlacementPolicy | None = None,
        surroundings: Surroundings | None = None,
    ) -> Self:
        """Take the ledger, rebuild the world, adopt what runs, and begin to drive.

        `ledger` is a path (made if missing), `memory:`, or an open store, which the engine then closes.  `root` is the folder for the
        nodes' files.  `executors` are used before those that entry points name.  `policy` chooses among the nodes that may take a task,
        where the pool's own scheduling policy would.  `surroundings` are this process and machine unless others are given.

        Raises `RequestRefused` (the ledger's nodes lie below another root, or it is a dry run's and this one is not), `LedgerBusy` (another engine drives it), `LedgerCorrupt`, `LedgerTooNew`, `StoreError`, `ExecutorError`.
        """
        around = surroundings or here()
        store = open_store(ledger, durability=durability) if isinstance(ledger, str | PathLike) else ledger
        try:
            lease = opening.take_lease(store, around)
        except BaseException:
            store.close()
            raise
        engine = None
        try:
            world, last = replay(store)
            opening.refuse_other_root(world, Path(root))
            opening.refuse_other_purpose(world, around.dry_run)
            engine = cls(store, world, lease, last, Path(root), executors or {}, around, policy)
            await engine._recover()
        except BaseException:
            try:
                if engine is not None:
                    await engine._let_go_of_executors()
                    engine._secrets.close()
            finally:
                with contextlib.suppress(StoreError):
                    store.release_lease(lease)
                store.close()
            raise
        return engine

    # --- what an embedding program asks for ---------------------------------------------------------------------

    async def request(self, request: q.Request, *, actor: str = "embedder") -> int:
        """Have a request decided; what comes back is the ledger's position after it, durable.

        Raises `RequestRefused` (nothing was recorded), or the error that stopped the engine.
        """
        self._check_open()
        refuse_unless_unicode((request, actor))
        self._check_executor(request)
        if wanted := identities.wanted(request, self._world):
            await self._check_users(wanted)
            self._check_open()
        if len(self._asked) >= WAITING_REQUESTS_MAX:
            raise RequestRefused("ServerBusy", f"{WAITING_REQUESTS_MAX} requests wait already; try again")
        identity = f"request:{self._surroundings.new_identity()}"
        request = self._secrets.seal(request, identity)
        answered: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def answer(decided: Head | RequestRefused) -> None:
            self._secrets.answered([identity])
            if answered.done():
                return
            if isinstance(decided, RequestRefused):
                answered.set_exception(decided)
            else:
                answered.set_result(decided.position)

        self._arrive(Arrival(stimulus=request, causation=identity, correlation=subject_of(request), actor=actor, answer=answer))
        self._asked.add(answered)
        answered.add_done_callback(self._asked.discard)
        return await answered

    async def until(self, condition: Callable[[World], bool], *, timeout_s: float | None = None) -> None:
        """Come back as soon as the world fulfils `condition`.  Raises `TimeoutError`, or the error that stopped the engine."""
        async with asyncio.timeout(timeout_s):
            while True:
                if self._failure is not None:  # Asked first: the world may be ahead of the ledger, and what it shows untrue.
                    raise self._failure
                if condition(self._world):
                    return
                self._check_open()
                await self._turned.wait()

    def subscribe(self, *, after: int = 0) -> AsyncGenerator[RecordedEvent, None]:
        """Every event after a position, and then those to come."""
        return subscribe(self._store, after=after)

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
        """The ledger's last position."""
        return self._recorder.head.position

    @property
    def idle(self) -> bool:
        """Whether nothing runs, nothing is owed, nothing has arrived and no retry waits for its time: without a new request no task would run."""
        world = self._world
        return not (self._arrivals or world.executions or world.owed.now or self._letters or any(job.delayed for job in world.jobs.values()))

    def executor_of(self, pool: PoolId) -> Executor:
        """The executor that runs a pool.  Raises KeyError for an unknown pool."""
        return self._executors[self._world.pools[pool].spec.executor]

    async def close(self) -> None:
        """Record the stop and let go of the ledger.  What runs on nodes goes on, and the next engine adopts it.

        Raises the error that stopped the engine, if one did.
        """
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        self._stop_asking()
        if self._driver is not None:
            await asyncio.wait([self._driver])
        self._turn_away(ExecutorError("the engine was closed"))
        try:
            await self._let_go_of_executors()
            if self._failure is None:
                self._recorder.note(EngineStopped(epoch=self._lease.epoch), self._time())
                self._recorder.commit()
                self._snapshots.close(self._world, self._recorder.head.position)
        finally:
            with contextlib.suppress(StoreError):  # What stopped the engine may stop this too; then the lease runs out by itself.
                self._store.release_lease(self._lease)
            self._secrets.close()
            self._store.close()
        if self._failure is not None:
            raise self._failure

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self.close()
        except JobledgerError as failure:
            if failure is not error:
                raise

    # --- the loop -----------------------------------------------------------------------------------------------

    async def _recover(self) -> None:
        """Record the start, wake the executors and issue what is owed."""
        now, around = self._time(), self._surroundings
        self._recorder.note(
            EngineStarted(
                version=__version__,
                host=around.host,
                pid=around.pid,
                epoch=self._lease.epoch,
                root="" if around.dry_run else opening.root_text(self._root),
                boot_id=around.boot_id,
                dry_run=around.dry_run,
            ),
            now,
        )
        left: list[Decided] = []
        settle(self._world, now, left, self._policy)
        self._recorder.decided(left, Arrival(stimulus=ClockAdvanced(), causation="engine", correlation="engine"), now)
        self._recorder.commit()
        for name in sorted(needs.executors_of(self._world)):
            await self._open_executor(name)
        self._check_open()  # One of them may have failed while the next was opened.
        self._adopt()
        owed.reissue(self._world)
        self._dispatch()
        self._driver = asyncio.create_task(self._drive(), name="jobledger engine")

    def _adopt(self) -> None:
        """Tell each executor what it is believed to run and which nodes are believed to be up."""
        for name, executor in self._executors.items():
            mine = needs.pools_of(self._world, name)
            running: list[RunCommand] = [
                run_command(self._world, execution) for execution in owed.running(self._world) if pool_of(self._world, execution) in mine
            ]
            nodes: dict[NodeId, PoolId] = {
                node.id: node.pool for node in self._world.nodes.values() if node.pool in mine and node.booted_at is not None and node.owes is None
            }
            executor.recover(running, nodes)

    async def _drive(self) -> None:
        """Turn after turn, until closed or failed."""
        try:
            while not self._closing:
                self._wake.clear()
                self._read_inbox()
                await self._open_new_executors()
                self._turn()
                if self._wake.is_set():
                    await asyncio.sleep(0)  # Let connections deliver what has come meanwhile: it shares the next commit.
                else:
                    await self._sleep()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it stops the engine, and whoever waits is told
            self._fail(error)

    def _turn(self) -> None:
        """Decide what has arrived, make it durable, then act on it."""
        now = self._time()
        taken = [self._arrivals.popleft() for _ in range(min(len(self._arrivals), TURN_ARRIVALS_MAX))]
        if self._arrivals:
            self._wake.set()
        self._decide(taken, now)
        self._renew_lease()
        if self._recorder.pending:
            try:
                self._letters -= self._recorder.commit()
            except AppendConflict:
                if not self._was_withdrawn():
                    raise
                self._begin_again(taken)
                return
            self._dispatch()
            self._snapshots.consider(self._world, self._recorder.head.position)
            turned, self._turned = self._turned, asyncio.Event()
            turned.set()

    def _decide(self, arrivals: Sequence[Arrival], now: Micros) -> None:
        for arrival in arrivals:
            self._recorder.take(arrival, now)
        deadline = next_deadline(self._world)
        if deadline is not None and deadline <= now:
            self._recorder.take(Arrival(stimulus=ClockAdvanced(), causation="clock", correlation="engine"), now)

    def _was_withdrawn(self) -> bool:
        """Whether nothing has happened but that somebody took a request back while it was being decided."""
        pending = {letter.id for letter in self._store.pending_requests()}
        return not self._letters <= pending and self._store.head() == self._recorder.head

    def _begin_again(self, taken: Sequence[Arrival]) -> None:
        """The world is ahead of the ledger: rebuild it, and let all arrive once more; the inbox is read anew."""
        self._world, _ = replay(self._store)
        self._recorder = Recorder(self._store, self._world, self._lease, self._recorder.head, self._secrets, self._policy)
        self._launched_before = self._world.next_execution
        self._secrets.read_again(self._letters)
        self._arrivals = deque(arrival for arrival in (*taken, *self._arrivals) if arrival.letter is None)
        self._letters.clear()
        self._stop_asking()
        self._inbox_at = 0.0
        self._wake.set()

    def _stop_asking(self) -> None:
        for asking in self._asking:
            asking.cancel()

    def _dispatch(self) -> None:
        """Hand every command that became owed to its executor."""
        by_executor: dict[str, list[Command]] = {}
        command: Command | None
        for command in owed.take_fresh(self._world):
            match command:
                case StopExecution() | BootNode() | RetireNode() | RemoveFiles():
                    pool = command.pool
                case _:
                    pool = command.launch.pool
                    command = self._with_secrets(command)
            if command is not None:
                by_executor.setdefault(needs.executor_of(self._world, pool), []).append(command)
        for name, commands in by_executor.items():
            executor = self._executors[name]
            able, unable = identities.separated(name, executor, commands)
            executor.submit(able)
            for report in unable:
                asyncio.get_running_loop().call_soon(self._report, report)

    def _with_secrets(self, command: RunCommand) -> RunCommand | None:
        """The command as it can be launched; None where a secret's value is gone, and then it is seen to that the execution comes to an end.

        A dry run launches nothing, so it needs no values.
        """
        if self._surroundings.dry_run:
            return command
        opened = self._secrets.opened(command)
        if not isinstance(opened, FailureInfo):
            return opened
        launch = command.launch
        if launch.execution < self._launched_before:  # It may run.  Then it goes on; else it is lost, and the next launch is refused.
            self._executors[needs.executor_of(self._world, launch.pool)].recover([command], {})
        else:
            self._arrive(of_report(ExecutionNotStarted(execution=launch.execution, failure=opened), self._world))
        return None

    async def _sleep(self) -> None:
        """Until something arrives, the next deadline, the lease's renewal or the next look at the inbox."""
        left = [] if (poll := self._surroundings.inbox_poll_s) is None else [poll]
        if (deadline := next_deadline(self._world)) is not None:
            left.append((deadline - self._time()) / SECOND)
        if (renewal := self._renew_at) is not None:
            left.append((renewal - self._clock()) / SECOND)
        try:
            async with asyncio.timeout(max(0.0, min(left)) if left else None):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _read_inbox(self) -> None:
        """Take other processes' requests from the ledger, now and then."""
        now, poll = asyncio.get_running_loop().time(), self._surroundings.inbox_poll_s
        if poll is None or now < self._inbox_at:
            return
        self._inbox_at = now + poll
        for letter in self._store.pending_requests():
            if letter.id not in self._letters:
                self._letters.add(letter.id)
                self._open_letter(letter)

    def _open_letter(self, letter: InboxRequest) -> None:
        try:
            refuse_unless_unicode((letter.kind, letter.data, letter.actor))
            request = decode_request(letter.kind, letter.data)
            refuse_unless_sealed(request)
            self._check_executor(request)
        except (JobledgerError, ValueError) as error:
            self._refuse_letter(letter, error)
            return
        self._secrets.note_request(request, letter.id)
        arrival = Arrival(stimulus=request, causation=f"request:{letter.id}", correlation=subject_of(request), actor=letter.actor, letter=letter)
        if wanted := identities.wanted(request, self._world):
            # The others do not wait for it, nor does the lease: it may take seconds to learn who somebody is.
            asking = asyncio.create_task(self._ask_about(arrival, letter, wanted), name=f"jobledger request {letter.id}")
            self._asking.add(asking)
            asking.add_done_callback(self._asked_about)
        else:
            self._arrive(arrival)

    async def _ask_about(self, arrival: Arrival, letter: InboxRequest, wanted: Sequence[identities.Wanted]) -> None:
        try:
            await self._check_users(wanted)
        except JobledgerError as error:
            self._refuse_letter(letter, error)
            self._wake.set()
        else:
            self._arrive(arrival)

    def _asked_about(self, asking: "asyncio.Task[None]") -> None:
        self._asking.discard(asking)
        if not asking.cancelled() and (error := asking.exception()) is not None:
            self._fail(error)

    def _refuse_letter(self, letter: InboxRequest, error: Exception) -> None:
        code = error.code if isinstance(error, RequestRefused) else "InvalidInput"
        self._recorder.refuse(letter, RequestRefused(code, str(error)), self._time())

    # --- executors ----------------------------------------------------------------------------------------------

    async def _open_new_executors(self) -> None:
        """Open executors that are about to be needed, so that their commands find them."""
        while missing := self._missing_executors():  # Opening one takes a while, in which more may arrive.
            for name in sorted(missing):
                try:
                    await self._open_executor(name)
                except ExecutorError as error:
                    self._refuse_what_needs(name, error)

    def _refuse_what_needs(self, executor: str, error: ExecutorError) -> None:
        """Create no pool of an executor that cannot be opened, and no job that wants it in the end; the others' work goes on."""
        arrivals, self._arrivals = self._arrivals, deque()
        for arrival in arrivals:
            where = "pool.executor" if isinstance(arrival.stimulus, q.CreatePool) else "job.jobFinalizerTask"
            refusal = RequestRefused("ExecutorUnavailable", f"{where}: {error}")
            if needs.executor_for(arrival.stimulus) != executor:
                self._arrivals.append(arrival)
            elif arrival.letter is not None:
                self._recorder.refuse(arrival.letter, refusal, self._time())
            elif arrival.answer is not None:
                arrival.answer(refusal)

    def _missing_executors(self) -> set[str]:
        wanted = {name for arrival in self._arrivals if (name := needs.executor_for(arrival.stimulus)) is not None}
        return wanted - self._executors.keys()

    async def _open_executor(self, name: str) -> None:
        executor = self._ready_made.get(name) or make_executor(name, self._root)
        await executor.open(self._report, ledger_id=self._store.ledger_id)
        self._executors[name] = executor
        watcher = asyncio.create_task(executor.failed(), name=f"jobledger executor {name}")
        watcher.add_done_callback(self._executor_failed)
        self._watchers.append(watcher)

    def _executor_failed(self, watcher: "asyncio.Task[ExecutorError]") -> None:
        if not watcher.cancelled():
            self._fail(watcher.exception() or watcher.result())

    async def _let_go_of_executors(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        if self._watchers:
            await asyncio.wait(self._watchers)
        for executor in self._executors.values():
            await executor.close()

    def _check_executor(self, request: q.Request) -> None:
        if isinstance(request, q.CreatePool) and (name := request.spec.executor) not in self._ready_made and name not in executor_names():
            known = ", ".join(sorted({*self._ready_made, *executor_names()}))
            raise RequestRefused("InvalidPropertyValue", f"pool.executor: there is no executor '{name}'; there are: {known}")

    async def _check_users(self, wanted: Sequence[identities.Wanted]) -> None:
        """Raises RequestRefused where a command line is meant for a user that its executor cannot run it as."""
        for one in wanted:
            name = one.executor
            await identities.refuse(one, self._executors.get(name) or self._ready_made.get(name) or make_executor(name, self._root))

    def _report(self, report: Report) -> None:
        if self._closing:
            return
        if isinstance(report, ExecutionStarted):  # Nothing waits for a start: it may share the commit of what comes next.
            self._arrivals.append(of_report(report, self._world))
            asyncio.get_running_loop().call_later(START_LINGER_S, self._wake.set)
        else:
            self._arrive(of_report(report, self._world))

    # --- small things -------------------------------------------------------------------------------------------

    def _arrive(self, arrival: Arrival) -> None:
        self._arrivals.append(arrival)
        self._wake.set()

    @property
    def _renew_at(self) -> int | None:
        """When to renew the lease, by the clock as it is: others judge the lease by theirs, not by what the ledger has."""
        ttl = self._surroundings.lease_ttl
        return None if ttl is None else self._lease.expires_at - ttl * 2 // 3

    def _renew_lease(self) -> None:
        """Renew the lease if it is time to.  Raises `LeaseLost`."""
        now, ttl, renewal = self._clock(), self._surroundings.lease_ttl, self._renew_at
        if ttl is not None and renewal is not None and now >= renewal:
            self._lease = self._recorder.lease = self._store.renew_lease(self._lease, now=Micros(now), ttl=ttl)

    def _time(self) -> Micros:
        """Now, and never earlier than what the ledger has: a clock that steps back stands still."""
        self._now = max(self._now, Micros(self._clock()))
        return self._now

    def _fail(self, error: BaseException) -> None:
        """Stop for good; whoever waits is told why."""
        if self._failure is None:
            self._failure = error
        if self._driver is not None and self._driver is not asyncio.current_task():
            self._driver.cancel()
        self._turn_away(self._failure)

    def _turn_away(self, error: BaseException) -> None:
        """Tell whoever still waits that nothing more will be decided."""
        for answered in list(self._asked):
            if not answered.done():
                answered.set_exception(error)
        self._turned.set()

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise ExecutorError("the engine is closed")
