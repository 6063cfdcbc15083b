"""What may happen in a small world: its bounds, its steps, and a stage that takes them one by one from any state.

1. A step of progress is one that happens by itself sooner or later: a command or report arrives, a program ends, time goes on.
   All others are disturbances and wishes, each as often as the bounds allow; nodes that failed may always come back.
2. After each step everything is dropped of which nothing is ever heard again; a report of an execution that is over, or of a boot that
   is past, is asked for first: it must decide to nothing.
"""

from collections.abc import Iterator
from copy import copy
from typing import Any, Final, Literal, NamedTuple

import attrs
from attrs import frozen

from jobledger.core import commands as c
from jobledger.core import owed
from jobledger.core import reports as r
from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.core.deadlines import next_deadline
from jobledger.core.decide import decide
from jobledger.core.events import Event
from jobledger.core.ids import Duration, ExecutionId, JobId, Micros, NodeId, TaskId
from jobledger.core.world import Agenda, World

from .exhaustive_forms import State, Symmetry, copy_of, symmetry_of
from .model import Fault, Kind
from .stage import RowTaken, Stage

ANY_NODE: Final = NodeId("any-node")
"""In a request of bounds: it may be made of each node."""

ANY_TASK: Final = TaskId("any-task")
"""In a request of bounds: it may be made of each task of its job."""


@frozen(kw_only=True)
class Wish:
    """A request that may be made at any time, so many times in all."""

    request: q.Request
    times: int = 1


@frozen(kw_only=True)
class Bounds:
    """A small world and how often each thing may happen to it."""

    name: str
    about: str
    pool: s.PoolSpec
    jobs: tuple[tuple[s.JobSpec, tuple[s.TaskSpec, ...]], ...]
    exit_codes: dict[Kind, tuple[int, ...]] = attrs.Factory(dict)
    """How programs of a kind may end; 0 where nothing is said."""
    wishes: tuple[Wish, ...] = ()
    crashes: int = 0
    """How often the engine dies: what is under way is lost, and another one recovers from the ledger."""
    host_reboots: int = 0
    """How often its host is rebooted under it."""
    repeats: int = 0
    """How often a command or a report arrives that will arrive again."""
    faults: int = 0
    """How often a node fails, in one of the ways of `fault_kinds`."""
    fault_kinds: tuple[Fault, ...] = ("lost",)
    power_cuts: int = 0
    """How often a machine goes down by itself and comes up from another boot."""
    failed_launches: int = 0
    """How often a program cannot be launched."""
    lingering: int = 0
    """How many reports of executions that are over may be under way at a time; what is more arrives at once."""
    clock: bool = False
    """Whether time goes on, from one limit to the next; otherwise all happens at one instant, and nothing is ever over its limit."""
    booted: bool = True
    """Whether the nodes are up at the beginning."""

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """The nodes that the pool has at the beginning."""
        return tuple(NodeId(f"{self.pool.id}-{number}") for number in range(1, self.pool.nodes + 1))

    @property
    def budget(self) -> tuple[int, ...]:
        """How often each thing may still happen at the beginning, in the order of `BUDGETS`, and then each wish."""
        return (*(getattr(self, name) for name in BUDGETS), *(wish.times for wish in self.wishes))

    @property
    def symmetry(self) -> Symmetry:
        """What is interchangeable."""
        said = {str(value) for wish in self.wishes for name in ("node", "task") if (value := getattr(wish.request, name, None)) is not None}
        return symmetry_of(self.nodes, self.jobs, named=said - {ANY_NODE, ANY_TASK})

    def check(self) -> None:
        """Hold that the forms tell apart what these bounds make differ.  Raises ValueError."""
        for wish in self.wishes:
            if type(wish.request) in _NOT_FORMED:
                raise ValueError(f"{self.name}: {type(wish.request).__name__} changes what forms leave out")
        ids = [task.id for _, tasks in self.jobs for task in tasks]
        if len(ids) != len(set(ids)):
            raise ValueError(f"{self.name}: two tasks have the same id")


_NOT_FORMED: Final = (q.PatchJob, q.AddTasks, q.SubmitJob, q.CreatePool, q.ResizePool, q.StopResize, q.DeletePool)

Verb = Literal[
    "arrive", "end", "report", "wake", "arrive-again", "launch-fails", "report-again", "crash", "reboot-host", "fault", "power", "wish", "back"
]
PROGRESS: Final = frozenset({"arrive", "end", "report", "wake"})
BUDGETS: Final = ("crashes", "host_reboots", "repeats", "faults", "power_cuts", "failed_launches")
"""What the first numbers of a budget count."""

_COSTS: Final[dict[Verb, str]] = {
    "crash": "crashes",
    "reboot-host": "host_reboots",
    "arrive-again": "repeats",
    "report-again": "repeats",
    "fault": "faults",
    "power": "power_cuts",
    "launch-fails": "failed_launches",
}
_TOUCH_NO_WORLD: Final = frozenset({"arrive", "arrive-again", "launch-fails", "end", "power"})


class Step(NamedTuple):
    """One thing that happens: to a node, an execution, a report or a wish by its place."""

    verb: Verb
    what: Any = None
    how: Any = None

    @property
    def progress(self) -> bool:
        """Whether it happens by itself sooner or later."""
        return self.verb in PROGRESS


class SmallStage(Stage):
    """A stage that stands in any state and takes one step; `begin` makes the first state.

    While `hasty`, the judgements that are of states and not of events are left to `judge`: for a state that is known already they were made.
    """

    tick = Duration(0)

    def __init__(self, bounds: Bounds, rows: set[RowTaken] | None = None) -> None:
        self._shadow: World | None = None
        super().__init__(rows)
        self.bounds = bounds
        self.left = bounds.budget
        self.hasty = False
        self.batch: list[Event] = []
        """The events of the latest step."""
        self._base: World = self.world
        self._travels = False

    # --- states --------------------------------------------------------------------------------------------

    def begin(self) -> State:
        """A pool whose nodes are up, if the bounds say so, and the jobs with their first commands under way."""
        if self.bounds.host_reboots:
            self.start_engine()
        self.take(q.CreatePool(spec=self.bounds.pool))
        while self.bounds.booted and (any(self.executor.queues.values()) or self.executor.reports):
            for node in [node for node, queue in self.executor.queues.items() if queue]:
                self.deliver(node)
            while self.executor.reports:
                self.report(0)
        for spec, tasks in self.bounds.jobs:
            if self.take(q.SubmitJob(spec=spec, tasks=tasks)) is None:
                raise ValueError(f"{self.bounds.name}: job {spec.id} is refused")
        self._tidy()
        return self.state()

    def state(self) -> State:
        """Where it stands."""
        return State(self.world, self.auditor.history, self.executor, self.left, self.now, self.host_boots)

    def stand(self, state: State, *, world_too: bool = True) -> None:
        """Go to a state; what the next step changes is copied first, so that the state stays what it is."""
        self.executor = copy_of(state.executor)
        self._base = state.world
        self._shadow = None
        self.world = copy_of(state.world) if world_too else state.world
        auditor = copy(self.auditor)
        vars(auditor)["history"] = copy_of(state.history) if world_too else state.history  # It is final for all who do not travel.
        self.auditor = auditor
        if world_too:
            auditor.history.position = None  # Each step counts its events from one.
        self.log, self._travels = [], True
        self.left, self.now, self.host_boots = state.left, state.now, state.host_boots
        self.batch = []

    @property
    def shadow(self) -> World:
        """What the events alone make of the world."""
        if self._shadow is None:
            self._shadow = copy_of(self._base)
        return self._shadow

    @shadow.setter
    def shadow(self, world: World) -> None:
        self._shadow = world

    def after(self, state: State, step: Step) -> State | None:
        """The state that a step leads to; None where nothing came of it.  Raises `Broken` and what else shows that something is wrong."""
        changes_world = step.verb not in _TOUCH_NO_WORLD
        self.stand(state, world_too=changes_world)
        done = self._do(step)
        if not done:
            return None
        if step.verb in _COSTS:
            self.left = _less(self.left, BUDGETS.index(_COSTS[step.verb]))
        self._tidy()
        return self.state()

    def judge(self) -> None:
        """What is to hold of a state that is new."""
        self.hasty = False
        self._judge_world("this")
        self.hasty = True

    def judge_end(self, state: State, log: list[tuple[Event, Micros]]) -> None:
        """What is to hold of a state in which nothing happens by itself any more: nothing waits for anything, and everything can come to its end.

        A job that was asked to end is over, and a node that could take a task that waits has it; then failed nodes come back, jobs are terminated,
        and all of them are deleted, each of which must come to its end.
        """
        self.stand(state)
        self._judge_rest()
        self.log, self._travels, self.hasty = list(log), False, False
        self.auditor.history.position = len(log)
        self.rest()
        self.hasty = True

    def over(self, state: State) -> bool:
        """Whether every job is completed or gone."""
        return all(job.state == "completed" for job in state.world.jobs.values())

    # --- steps ---------------------------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that may happen next, progress first."""
        executor, left = state.executor, dict(zip(BUDGETS, state.left, strict=False))
        waiting = [node for node, queue in executor.queues.items() if queue]
        reports = list(_deliverable(executor.reports))
        yield from (Step("arrive", node) for node in waiting)
        for number in executor.running():
            yield from (Step("end", number, code) for code in self.bounds.exit_codes.get(executor.programs[number].kind, (0,)))
        yield from (Step("report", index) for index in reports)
        if self.bounds.clock and next_deadline(state.world) is not None:
            yield Step("wake")
        if left["repeats"]:
            yield from (Step("arrive-again", node) for node in waiting)
            yield from (Step("report-again", index) for index in reports)
        if left["failed_launches"]:
            yield from (Step("launch-fails", node) for node in waiting if isinstance(executor.queues[node][0], c.RunCommand))
        if left["crashes"]:
            yield Step("crash")
        if left["host_reboots"]:
            yield Step("reboot-host")
        yield from self._misfortunes(state, left)
        yield from self._wishes(state)

    def _misfortunes(self, state: State, left: dict[str, int]) -> Iterator[Step]:
        for node in state.world.nodes.values():
            machine = state.executor.machines.get(node.id)
            if left["faults"]:
                yield from (Step("fault", node.id, kind) for kind in self.bounds.fault_kinds)
            if left["power_cuts"] and machine is not None and machine.up and machine.reachable:
                yield Step("power", node.id)
            if node.state in {"preempted", "unusable", "unknown"}:
                yield Step("back", node.id)

    def _wishes(self, state: State) -> Iterator[Step]:
        for place, wish in enumerate(self.bounds.wishes):
            if not state.left[len(BUDGETS) + place]:
                continue
            job = state.world.jobs.get(JobId(getattr(wish.request, "job", "")))
            if getattr(wish.request, "node", None) == ANY_NODE:
                yield from (Step("wish", place, {"node": node}) for node in state.world.nodes)
            elif getattr(wish.request, "task", None) == ANY_TASK:
                yield from (Step("wish", place, {"task": task}) for task in (job.tasks if job is not None else ()))
            else:
                yield Step("wish", place, {})

    def _do(self, step: Step) -> bool:
        """Take the step; False where it was refused or nothing came of it, and all is as it was."""
        match step.verb:
            case "arrive" | "arrive-again" | "launch-fails":
                self.deliver(step.what, again=step.verb == "arrive-again", launches=step.verb != "launch-fails")
            case "end":
                self.end(step.what, step.how)
            case "report" | "report-again":
                self.report(step.what, again=step.verb == "report-again")
            case "wake":
                self.wake()
            case "crash":
                self.crash()
            case "reboot-host":
                self.restart_host()
            case "fault":
                self.take(self.executor.fault(step.what, step.how))
            case "power":
                self.executor.cut_power(step.what)
            case "back":
                preempted = self.world.nodes[step.what].state == "preempted"
                self.take(r.NodeReallocated(node=step.what) if preempted else self.executor.come_back(step.what))
            case "wish":
                if not self.take(self._request(step)):
                    return False
                self.left = _less(self.left, len(BUDGETS) + step.what)
        return True

    def _request(self, step: Step) -> q.Request:
        request = self.bounds.wishes[step.what].request
        made: q.Request = attrs.evolve(request, **step.how) if step.how else request
        return made

    def crash(self) -> None:
        """As on any stage; but while it travels it has no log, and the world that only ever saw the events takes over."""
        if not self._travels:
            super().crash()
            return
        self.world, self._shadow = self.shadow, self.world
        self.executor.lose_mail()
        self._judge_world("recovery")
        owed.reissue(self.world)
        self._pass_on([])
        self.executor.recognise([execution.id for execution in owed.running(self.world)])

    # --- judging -------------------------------------------------------------------------------------------

    def _record(self, event: Event) -> None:
        super()._record(event)
        self.batch.append(event)

    def _judge_world(self, after: str) -> None:
        if not self.hasty:
            super()._judge_world(after)
        elif self._shadow is not None:
            self._shadow.agenda = Agenda()
            self._shadow.owed.fresh.clear()

    # --- what is never heard of again ----------------------------------------------------------------------

    def _tidy(self) -> None:
        executor = self.executor
        stale = [report for report in executor.reports if self._is_stale(report)]
        for report in stale[: len(stale) - self.bounds.lingering]:
            executor.hand_over(executor.reports.index(report))
            self._hold(not list(decide(self.world, report, self.now)), f"{report} is stale and was not ignored")
        named = {number for report in executor.reports if (number := getattr(report, "execution", None)) is not None}
        for queue in executor.queues.values():
            named |= {number for command in queue if (number := _execution_of(command)) is not None}
        executor.programs = {
            number: program
            for number, program in executor.programs.items()
            if program.state == "running" or number in named or number in self.world.executions
        }
        executor.asked = {number: command for number, command in executor.asked.items() if number in self.world.executions}
        executor.heard &= set(executor.programs)
        executor.started = list(dict.fromkeys(executor.started))
        executor.in_doubt = []
        executor.queues = {node: queue for node, queue in executor.queues.items() if queue}

    def _is_stale(self, report: r.Report) -> bool:
        match report:
            case r.NodeReady(node=node_id, incarnation=incarnation) if incarnation is not None:
                node = self.world.nodes.get(node_id)
                return node is not None and incarnation < node.incarnation
            case r.ExecutionStarted() | r.ExecutionExited() | r.ExecutionNotStarted() | r.ExecutionLost():
                return report.execution not in self.world.executions
            case _:
                return False

    # --- words ---------------------------------------------------------------------------------------------

    def describe(self, state: State, step: Step) -> str:
        """A step in words, in the state in which it is taken."""
        executor = state.executor
        match step.verb:
            case "arrive" | "arrive-again" | "launch-fails":
                command = executor.queues[step.what][0]
                how = {"arrive": "", "arrive-again": ", and will arrive again", "launch-fails": ", and the program cannot be launched"}[step.verb]
                return f"{_words(command)} arrives on {step.what}{how}"
            case "end":
                program = executor.programs[step.what]
                return f"{program.kind} {program.launch.task} (execution {step.what}) ends on {program.launch.node} with {step.how}"
            case "report" | "report-again":
                return f"{_brief(executor.reports[step.what])} arrives{', and will arrive again' if step.verb == 'report-again' else ''}"
            case "wish":
                return _brief(self._request(step))
            case "fault":
                return f"{step.what} is {step.how}"
            case _:
                return _SENTENCES[step.verb].format(step.what)


_SENTENCES: Final[dict[Verb, str]] = {
    "wake": "time goes on to the next limit",
    "crash": "the engine dies, what was under way is lost, and another one recovers",
    "reboot-host": "the engine's host is rebooted",
    "power": "the machine of {} loses its power and comes up again",
    "back": "{} comes back",
}


def _deliverable(reports: list[r.Report]) -> Iterator[int]:
    """Reports that may arrive next, by their places: any, equal ones once, but what is said of the boots of one node comes in order.

    Which of two boots is the later one could be told by nothing else.
    """
    nodes: set[NodeId] = set()
    for index, report in enumerate(reports):
        if isinstance(report, r.NodeReady):
            if report.node not in nodes:
                yield index
            nodes.add(report.node)
        elif report not in reports[:index]:
            yield index


def _less(left: tuple[int, ...], place: int) -> tuple[int, ...]:
    return (*left[:place], left[place] - 1, *left[place + 1 :])


def _execution_of(command: c.Command) -> ExecutionId | None:
    if isinstance(command, c.RunCommand):
        return command.launch.execution
    return command.execution if isinstance(command, c.StopExecution) else None


def _words(command: c.Command) -> str:
    if isinstance(command, c.RunCommand):
        return f"{type(command).__name__} {command.launch.task} (execution {command.launch.execution})"
    number = _execution_of(command)
    return type(command).__name__ + (f" (execution {number})" if number is not None else "")


def _brief(record: r.Report | q.Request) -> str:
    """A record with what it says beyond the defaults."""
    said = [(field, getattr(record, field.name)) for field in attrs.fields(type(record))]
    return f"{type(record).__name__}({', '.join(f'{field.name}={value!r}' for field, value in said if value != field.default)})"
