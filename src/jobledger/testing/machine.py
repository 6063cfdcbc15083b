"""A state machine over the real engine, for an executor, a store or a placement policy of one's own.

    class MyMachine(EngineMachine):
        words = evolve(WORDS, executor="mine", second=SECOND // 20)      # how long a second is, for programs that really run
        virtual = False                                                 # it waits for more than timers

        def make_executor(self, folder: Path) -> Executor:
            return MyExecutor(folder)

    TestMine = MyMachine.TestCase

1. What a hook does not give is the kit's own: a store in memory, the stand-in for an executor, no policy.  Each life of an engine has a loop,
   an executor and a store of its own; only what they keep in the folder outlives it.
2. After each rule the jury judges the ledger.  At the end every program that can end has ended, every job completes and can be deleted, and
   what programs themselves wrote down is held against the ledger.
3. No rule is chosen by what the world is like: where programs really run it is never twice the same, and Hypothesis would be at a loss.
4. What is found is shrunk by Hypothesis, and its ledger written to a file for `jobledger replay`, whose path is printed.
"""

import asyncio
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from attrs import evolve
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.core.errors import ExecutorError, LedgerBusy, RequestRefused, StoreError
from jobledger.core.execution import run_command
from jobledger.core.ids import HOST_EXECUTOR, SECOND, ExecutionId, JobId, NodeId, PoolId, TaskId
from jobledger.core.ports import EventStore, Executor, PlacementPolicy
from jobledger.core.world import UP, World
from jobledger.engine import Engine
from jobledger.eventstore import MemoryStore
from jobledger.surroundings import LEASE_TTL, Surroundings
from jobledger.virtual import VirtualLoop

from . import strategies as of
from .endings import record_faults
from .jury import Crash, GuardedExecutor, GuardedStore, Jury, Life, guard_executor
from .model import Fault
from .stage import Broken
from .stand_in import SAID, Field, StandIn, command_line
from .strategies import DISABLE, FAULTS, JOB_WISHES, NODE_WISHES, OPTIONS, PICK, JobWish, NodeWish, Words, allowed, pick
from .witness import Ran, contradictions, read_ran

T = TypeVar("T")

EPOCH: Final = 1_700_000_000 * SECOND
ENDLESS_S: Final = 10.0**5
"""Seconds of a program that ends only when it is stopped."""
LIVES_MAX: Final = 20
"""Engines that die one after the other while they recover, before that is called endless."""
_PROGRAMS: Final = st.sampled_from(
    [command_line(0), command_line(0), command_line(1), command_line(0, 2), command_line(3, 1), command_line(0, ENDLESS_S)]
)
_SHORT: Final = st.sampled_from([command_line(0), command_line(0), command_line(1), command_line(0, 1)])

WORDS: Final = Words(
    executor=HOST_EXECUTOR,
    command=lambda kind: _PROGRAMS if kind == "task" else _SHORT,
    retries=(0, 1, 2),
    users=False,
    files=False,
    silences=False,
)
"""What the machine's jobs are made of; programs are told as `exit CODE after SECONDS`, and the hook `command` makes command lines of that."""

QUICK: Final = settings(max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
"""About a minute for programs that really run, and some ten seconds in virtual time."""

FAILURES: Final = "JOBLEDGER_KIT_FAILURES"
"""The environment variable that names the folder for ledgers of what was found; the folder for temporary files where it is not set."""


def _mine(strategy: Callable[[Words], st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """The strategy in the words of the machine that draws from it."""
    return st.runner().flatmap(lambda machine: strategy(machine.words))


class EngineMachine(RuleBasedStateMachine):
    """Subclass this, and give it what is to be verified."""

    words: ClassVar[Words] = WORDS
    examples: ClassVar[settings] = QUICK
    """How much is tried: `examples = settings(QUICK, max_examples=1000)` for a night's worth."""
    virtual: ClassVar[bool] = True
    """Whether everything waits for the event loop's timers alone, so that time can jump."""
    bound_s: ClassVar[float] = 60.0
    """What nothing should ever need, in the loop's seconds: what takes longer is stuck."""

    # --- hooks ----------------------------------------------------------------------------------------------

    def make_store(self, folder: Path) -> EventStore:  # noqa: ARG002 - for those who override it
        """A store; called again with the same folder after a restart, where it opens the same ledger."""
        return self._in_memory

    def make_executor(self, folder: Path) -> Executor:  # noqa: ARG002 - the same
        """An executor, not open yet; called again with the same folder after a restart."""
        return StandIn(self.field)

    def make_policy(self) -> PlacementPolicy | None:
        """A placement policy."""
        return None

    async def abandon(self, executor: Executor) -> None:
        """The engine's process was killed: do to the executor what an operating system does, such as to close its connections, and no more."""

    def command(self, code: int, after_s: float) -> str:
        """A command line that exits with `code` some seconds after it began; its output goes where `ran` looks."""
        if self._stands_in:
            return command_line(code, after_s)
        told = shlex.quote(str(self.folder / "ran"))
        wait = f"sleep {after_s:g}; " if after_s else ""
        script = f"echo start $JOBLEDGER_EXECUTION >> {told}; {wait}echo end $JOBLEDGER_EXECUTION {code} >> {told}; exit {code}"
        return f"/bin/sh -c {shlex.quote(script)}"

    def ran(self) -> Sequence[Ran] | None:
        """What programs wrote down when they started and when they ended by themselves, in order; None where nothing can tell."""
        return self.field.ran if self._stands_in else read_ran(self.folder / "ran")

    def befall(self, executor: Executor, node: NodeId, fault: Fault | None) -> bool:
        """Let a fault befall a node, None for a restart by itself; False where this executor offers no such thing."""
        if not isinstance(executor, StandIn):
            return False
        if fault is None:
            executor.cut_power(node)
        else:
            executor.fault(node, fault)
        return True

    def bring_back(self, executor: Executor, node: NodeId, state: str) -> None:
        """A node in that state, which failed before, can be used again."""
        if isinstance(executor, StandIn):
            executor.come_back(node, state)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.TestCase.settings = cls.examples

    # --- beginning and end ----------------------------------------------------------------------------------

    def __init__(self) -> None:
        super().__init__()
        self.folder: Final = Path(tempfile.mkdtemp(prefix="jobledger-kit-"))
        self.field: Final = Field(elapsed_s=self._elapsed_s)
        self.jury: Final = Jury(heard=self.field.hear)
        self.engine: Engine
        self.executor: Executor
        self._in_memory: Final = MemoryStore()
        self._store: EventStore
        self._stores: list[EventStore] = []
        """Those of engines that were killed: nobody closed them."""
        self._guard: GuardedExecutor
        self._life = Life(number=0, over=True)
        self._loop: asyncio.AbstractEventLoop
        self._armed = ("", 0)
        self._passed_s = self._began_s = 0.0
        self._offset = 0
        self._ahead = 0
        """How much the clock of the engine that lives is ahead of the first one's: engines on two machines have two."""
        self._names = 0
        self._owner = "engine"
        self._found = False
        self._engines: list[Engine] = []
        """Those of this loop, which holds their tasks by weak references only."""
        self._begin_life(self._owner)

    @initialize(pool=_mine(lambda words: of.pools(evolve(words, pools=words.pools[:1]))), first=_mine(lambda words: of.submissions(words, least=1)))
    def begin(self, pool: s.PoolSpec, first: q.SubmitJob) -> None:
        """A pool and a job."""
        self._ask(q.CreatePool(spec=pool))
        self._submit(evolve(first.spec, pool_info=s.PoolInfo(pool_id=pool.id)), first.tasks)

    def teardown(self) -> None:
        """Whatever happened, it comes to its end, unless something broke on the way: then that is the finding."""
        try:
            if not self._found:
                with self._finding():
                    self._end_all()
        finally:
            self._life.over = True
            self._end_loop()
            for store in self._stores:
                with suppress(StoreError):
                    store.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- requests -------------------------------------------------------------------------------------------

    @rule(spec=_mine(of.pools))
    def create_pool(self, spec: s.PoolSpec) -> None:
        self._ask(q.CreatePool(spec=spec))

    @rule(job=_mine(of.submissions))
    def submit(self, job: q.SubmitJob) -> None:
        self._submit(job.spec, job.tasks)

    @rule(number=PICK, more=_mine(lambda words: of.task_lists(words, least=1)))
    def add_tasks(self, number: int, more: tuple[s.TaskSpec, ...]) -> None:
        if not self.world.jobs:
            return
        job = self.world.jobs[pick(number, list(self.world.jobs))]
        self._ask(q.AddTasks(job=job.id, tasks=self._translated(allowed(job.spec, more))))

    @rule(number=PICK, wish=JOB_WISHES, what=DISABLE)
    def wish_about_a_job(self, number: int, wish: JobWish, what: s.DisableTasks) -> None:
        job = pick(number, [*self.world.jobs, JobId("no-such-job")])
        self._ask(q.DisableJob(job=job, disable_tasks=what) if wish is None else wish(job=job))

    @rule(number=PICK, wish=st.sampled_from([q.TerminateTask, q.DeleteTask, q.ReactivateTask]))
    def wish_about_a_task(self, number: int, wish: type[q.TerminateTask] | type[q.DeleteTask] | type[q.ReactivateTask]) -> None:
        job, task = pick(number, [*((job.id, task) for job in self.world.jobs.values() for task in job.tasks), (JobId("none"), TaskId("none"))])
        self._ask(wish(job=job, task=task))

    @rule(number=PICK, wish=NODE_WISHES, option=OPTIONS)
    def wish_about_a_node(self, number: int, wish: NodeWish, option: s.NodeOption) -> None:
        self._ask(wish(pick(number, [*self.world.nodes, NodeId("no-such-node")]), option))

    @rule(number=PICK, nodes=st.integers(0, 3), option=OPTIONS)
    def resize(self, number: int, nodes: int, option: s.NodeOption) -> None:
        self._ask(q.ResizePool(pool=pick(number, [*self.world.pools, PoolId("no-such-pool")]), target=nodes, option=option))

    # --- time, faults and death -----------------------------------------------------------------------------

    @rule(more=st.sampled_from([1, 3, 10, 100]))
    def run(self, more: int) -> None:
        """Let it run until there are so many more events, or nothing is left to do, or some time is over."""
        end = self.jury.position + more
        with suppress(TimeoutError):
            self._do(lambda: self.engine.until(lambda _: self.jury.position >= end or self.engine.idle, timeout_s=5 * self._second_s))

    @rule(seconds=st.sampled_from([0, 1, 4]))
    def time_passes(self, seconds: int) -> None:
        self._do(lambda: asyncio.sleep(seconds * self._second_s))

    @rule(by_s=st.sampled_from([-3600, -10, -1, 1, 10, 3600]))
    def the_clock_steps(self, by_s: int) -> None:
        self._offset += by_s * SECOND

    @rule()
    def the_engine_is_killed(self) -> None:
        self._kill()
        self._follow()

    @rule(
        where=st.sampled_from(["before an append", "after an append", "before commands are given", "after a command was given"]),
        count=st.integers(1, 3),
    )
    def the_engine_will_be_killed(self, where: str, count: int) -> None:
        """When it comes to that place, in this life or a later one."""
        self._armed = (where, count)

    @rule()
    def the_engine_is_closed(self) -> None:
        self._do(self.engine.close)
        self._life.over = True
        self._end_loop()
        self._follow()

    @rule(late=st.booleans())
    def another_engine_wants_the_ledger(self, late: bool) -> None:
        """It is refused, or where the first one's lease has run out it takes over, and the first one stops."""
        self._armed = ("", 0)
        self._names += 1
        self._do(lambda: self._contend(f"engine {self._names}", self._ahead + 2 * LEASE_TTL * late))

    @rule()
    def commands_are_given_twice(self) -> None:
        self._guard.twice = True

    @rule(number=PICK, fault=st.none() | FAULTS)
    def a_fault_befalls_a_node(self, number: int, fault: Fault | None) -> None:
        async def befall() -> None:
            if nodes := self._up():
                self.befall(self.executor, pick(number, nodes), fault)

        self._do(befall)

    @rule()
    def failed_nodes_come_back(self) -> None:
        self._do(self._bring_back)

    @invariant()
    def everything_holds(self) -> None:
        """The jury judges what has happened, and an engine that died is followed by the next one."""
        if self._life.over:
            self._follow()
        with self._finding():
            try:
                self._judge()
            except Crash:  # Its loop runs while it is judged, and it came to the place where it had to die.
                self._follow()
                self._judge()

    # --- the end --------------------------------------------------------------------------------------------

    def _end_all(self) -> None:
        self._armed = ("", 0)
        self._offset += max(0, (self.jury.events[-1].recorded_at if self.jury.events else 0) - self._clock() - self._ahead)
        self._kill()
        self._follow()
        self._do(self._bring_back)
        waited = self._can_end()
        self._await(
            lambda world: not any(one in world.executions for one in waited), "programs that end are not heard of: executions", lambda: waited
        )
        for job in list(self.world.jobs.values()):
            if job.state in {"active", "disabled", "disabling", "enabling"}:
                self._ask(q.TerminateJob(job=job.id))
        self._await(
            lambda world: all(job.state in {"completed", "deleting"} for job in world.jobs.values()),
            "jobs that were terminated do not complete:",
            self._jobs,
        )
        for name in list(self.world.jobs):
            self._ask(q.DeleteJob(job=name))
        self._await(lambda world: not world.jobs, "jobs that were deleted are still there:", self._jobs)
        self._judge()
        self._do(self.engine.close)
        again = self.make_store(self.folder)
        self._stores.append(again)
        self.jury.judge(again, whole=True)
        self._hold_witness()

    def _hold_witness(self) -> None:
        events = [one.event for one in self.jury.events]
        faults = [*self.field.model.complaints, *record_faults(events, self.field.model)] if self._stands_in else []
        if (ran := self.ran()) is not None:
            faults += contradictions(events, ran)
        if faults:
            raise Broken("; ".join(faults))

    def _can_end(self) -> list[ExecutionId]:
        """Live executions on nodes that are up, of programs that end by themselves."""
        endless = self.command(0, ENDLESS_S * self._second_s)
        return [
            one.id
            for one in self.world.executions.values()
            if (one.node not in self.world.nodes or self.world.nodes[one.node].state in UP)
            and run_command(self.world, one).launch.command_line != endless
        ]

    def _await(self, condition: Callable[[World], bool], what: str, left: Callable[[], object]) -> None:
        with suppress(TimeoutError):
            self._do(lambda: self.engine.until(condition, timeout_s=self.bound_s))
        if not condition(self.world):
            raise Broken(f"{what} {left()}")

    def _jobs(self) -> list[str]:
        return [f"{job.id} is {job.state} with {dict(job.counts)}" for job in self.world.jobs.values()]

    # --- lives ----------------------------------------------------------------------------------------------

    def _begin_life(self, owner: str) -> None:
        self._loop = VirtualLoop() if self.virtual else asyncio.new_event_loop()
        self._began_s = self._loop.time()
        with self._finding():
            self._loop.run_until_complete(self._open(owner, self._ahead))

    async def _open(self, owner: str, ahead: int) -> None:
        life = Life(number=self._life.number + 1, point=self._at)
        executor = self.make_executor(self.folder)
        guard = guard_executor(executor, self.jury, life)
        store = self.make_store(self.folder)
        around = Surroundings(
            clock=lambda: self._clock() + ahead,
            host="host",
            pid=life.number,
            boot_id="boot",
            owner=owner,
            inbox_poll_s=None,
            new_identity=self._identity,
        )
        self._stores.append(store)
        try:
            engine = await Engine.open(
                GuardedStore(store, self.jury, life, keep=True),
                root=self.folder / "nodes",
                executors={self.words.executor: guard},
                policy=self.make_policy(),
                surroundings=around,
            )
        except Crash:
            await self.abandon(executor)
            raise
        self._engines.append(engine)
        self._life, self._owner, self._ahead = life, owner, ahead
        self.engine, self.executor, self._guard, self._store = engine, executor, guard, store

    async def _contend(self, owner: str, ahead: int) -> None:
        first, life, executor = self.engine, self._life, self.executor
        try:
            await self._open(owner, ahead)
        except LedgerBusy:
            return
        try:
            async with asyncio.timeout(self.bound_s):
                await first.request(q.CreatePool(spec=s.PoolSpec(id=PoolId("late"), executor=self.words.executor, nodes=0)))
        except (StoreError, ExecutorError):
            life.over = True
            await self.abandon(executor)
        else:
            raise Broken("an engine that was replaced goes on")

    def _kill(self) -> None:
        """As by kill -9: nothing is closed, and nothing that was under way goes on."""
        self._life.over = True
        self._loop.run_until_complete(self.abandon(self.executor))
        self._end_loop()
        if isinstance(self.executor, StandIn):
            self.executor.engine_died()

    def _follow(self) -> None:
        """The next engine, which may die as it recovers."""
        if not self._loop.is_closed():
            self._kill()
        for _ in range(LIVES_MAX):
            try:
                self._begin_life(self._owner)
            except Crash:
                self._end_loop()
            else:
                return
        raise Broken("no engine lives long enough to recover")

    def _end_loop(self) -> None:
        if self._loop.is_closed():
            return
        others = sorted(asyncio.all_tasks(self._loop), key=lambda task: task.get_name())
        for task in others:
            task.cancel()
        if others:
            self._loop.run_until_complete(asyncio.wait(others))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._passed_s += self._loop.time() - self._began_s
        self._began_s = self._loop.time()
        self._loop.close()
        self._engines.clear()

    def _at(self, where: str) -> None:
        if where == self._armed[0]:
            self._armed = (where, self._armed[1] - 1)
            if not self._armed[1]:
                self._armed = ("", 0)
                raise Crash

    # --- small things ---------------------------------------------------------------------------------------

    @property
    def world(self) -> World:
        """The world of the engine that lives."""
        return self.engine.world

    def _ask(self, request: q.Request) -> None:
        async def ask() -> None:
            async with asyncio.timeout(self.bound_s):
                with suppress(RequestRefused):
                    self.jury.answered(await self.engine.request(request))

        self._do(ask)

    def _submit(self, spec: s.JobSpec, tasks: tuple[s.TaskSpec, ...]) -> None:
        own = {name: getattr(spec, name) for name in ("job_preparation_task", "job_release_task", "job_finalizer_task")}
        changed = {name: evolve(one, command_line=self._translate(one.command_line)) for name, one in own.items() if one is not None}
        self._ask(q.SubmitJob(spec=evolve(spec, **changed), tasks=self._translated(tasks)))

    def _translated(self, tasks: tuple[s.TaskSpec, ...]) -> tuple[s.TaskSpec, ...]:
        return tuple(evolve(task, command_line=self._translate(task.command_line)) for task in tasks)

    def _translate(self, told: str) -> str:
        said = SAID.search(told)
        return told if said is None else self.command(int(said[1]), float(said[2]) * self._second_s)

    def _do(self, what: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Let it happen in the engine's loop.  That the engine dies of it is no fault."""
        with self._finding():
            try:
                self._loop.run_until_complete(what())
            except Crash:
                self._life.over = True

    def _judge(self) -> None:
        async def judge() -> None:
            await self.engine.until(lambda _: True)  # Raises what stopped it.
            self.jury.judge(self._store, self.world)
            if self.field.model.complaints:
                raise Broken("; ".join(self.field.model.complaints))

        self._loop.run_until_complete(judge())

    @contextmanager
    def _finding(self) -> Iterator[None]:
        """Write down the ledger of what is found."""
        try:
            yield
        except BaseException as error:
            if not self._found and not isinstance(error, Crash | TimeoutError):
                self._found = True
                where = Path(os.environ.get(FAILURES, tempfile.gettempdir())) / f"jobledger-{type(self).__name__}.db"
                where.parent.mkdir(parents=True, exist_ok=True)
                error.add_note(f"its ledger is in {self.jury.write_ledger(where)}; read it with: jobledger replay {where}")
            raise

    async def _bring_back(self) -> None:
        for node, state in self._failed():
            self.bring_back(self.executor, node, state)

    def _failed(self) -> list[tuple[NodeId, str]]:
        return [(node.id, node.state) for node in self.world.nodes.values() if node.state in {"preempted", "unusable", "unknown"}]

    def _up(self) -> list[NodeId]:
        return [node.id for node in self.world.nodes.values() if node.state in UP]

    @property
    def _stands_in(self) -> bool:
        return isinstance(self.executor, StandIn)

    @property
    def _second_s(self) -> float:
        return self.words.second / SECOND

    def _elapsed_s(self) -> float:
        """Seconds that have passed, over all lives."""
        return self._passed_s + self._loop.time() - self._began_s

    def _clock(self) -> int:
        return EPOCH + round(self._elapsed_s() * SECOND) + self._offset

    def _identity(self) -> str:
        self._names += 1
        return f"{self._names:012x}"


EngineMachine.TestCase.settings = QUICK
