"""History: what the invariants remember of the events so far, kept without the fold.

1. It is built from events alone and shares no code with `evolve`, so that an error of the fold is not repeated here.
   What the program did on a node is read from the outcomes of executions, not from what the rules made of them.
2. It never judges and never fails: an event that makes no sense is passed over, for it is the invariants that speak of it.
3. It is bounded by what lives: a node, job or execution that is gone is forgotten, and so are a deleted job's tasks.
"""

from collections.abc import Iterator
from typing import Final, Literal

from attrs import Factory, define, evolve, fields, frozen

from . import events as e
from . import history_of_files as of_files
from .ids import SECOND, Duration, ExecutionId, ExecutionKind, JobId, Micros, NodeId, PoolId, TaskId
from .machine import ABSENT, Machine
from .specs import JobConstraints, JobSpec, PoolSpec, ReleaseScope, TaskConstraints, TaskSpec
from .subjects import Key, key_of, moves, target_of
from .world import World

Outcome = e.ExecutionEnded | e.ExecutionNeverRan | e.ExecutionUnresolved
OUTCOMES: Final = (e.ExecutionEnded, e.ExecutionNeverRan, e.ExecutionUnresolved)

LIMITS: Final = frozenset({"maxWallClockTime", "silentTimeout"})
"""The causes of stops for limits in time, as they are recorded."""

_WITHIN: Final[dict[ReleaseScope, tuple[ReleaseScope, ...]]] = {
    "taskRan": ("taskRan",),
    "prepared": ("taskRan", "prepared"),
    "attempted": ("taskRan", "prepared", "attempted"),
}

_AFTER: Final[dict[type[e.Event], Literal["interrupted", "completed", "abandoned"]]] = {
    e.FinalizerInterrupted: "interrupted",
    e.FinalizerCompleted: "completed",
    e.FinalizerAbandoned: "abandoned",
}
"""What each event makes of a job's finalizer."""

_DOWN: Final = (
    e.NodeRebooting,
    e.NodeReimaging,
    e.NodeUnusable,
    e.NodeUnknown,
    e.NodePreempted,
    e.NodeDeallocating,
    e.NodeLeaving,
)
_EMPTIED: Final = (e.NodeReimaging, e.NodePreempted, e.NodeDeallocating, e.NodeLeaving)


@frozen(kw_only=True)
class Seen:
    """An event under judgement: when it was recorded, and, where known, its position and the world after it."""

    event: e.Event
    at: Micros
    position: int | None = None
    world: World | None = None


@define
class LiveExecution:
    """A launch without an outcome yet.  Its program starts no earlier than `requested_at`, and maybe earlier than `confirmed_at`."""

    requested: e.ExecutionRequested
    requested_at: Micros
    confirmed_at: Micros | None = None
    stop: e.StopThen | None = None


@define
class TaskFacts:
    """`exited` is the code with which the latest program ended by itself; `failures` counts those that were not 0.
    `outcome` is how its latest execution ended, and `limited` tells that this had been asked for by a limit in time.
    """

    spec: TaskSpec
    tries: TaskConstraints | JobConstraints
    """How often and when it is tried again: its own constraints, or what its job said when it was added if it has none."""
    node: NodeId | None = None
    exited: int | None = None
    failures: int = 0
    stop: e.StopThen | None = None
    """The strongest stop that its latest execution was asked for."""
    limited: bool = False
    outcome: Outcome | None = None
    succeeded: bool = False
    retries: int = 0
    not_before: Micros | None = None
    """When the next try may begin, after one that failed."""
    doomed: bool = False
    """It was on a node when what was asked of that one said that its tasks are to be ended."""

    def forget_launch(self) -> None:
        """What its latest execution was is no longer about what it does now."""
        self.exited = self.stop = self.outcome = None
        self.limited = False


@define
class Visit:
    """A job on a node: what happened there since the node was last emptied, and the release that it leads to."""

    preparation: Literal["none", "running", "succeeded", "failed"] = "none"
    exited: int | None = None
    failures: int = 0
    stop: e.StopThen | None = None
    task_ran: bool = False
    prepared: bool = False
    attempted: bool = False
    debt: bool = False
    """A release has to run or to be abandoned before the job may end; emptying the node does not settle it."""
    release: Literal["none", "running", "interrupted", "completed"] = "none"
    release_exited: int | None = None
    release_uploaded: bool = True

    def reached(self, scope: ReleaseScope) -> bool:
        """Whether what the scope asks for has happened here."""
        return any({"taskRan": self.task_ran, "prepared": self.prepared, "attempted": self.attempted}[what] for what in _WITHIN[scope])

    def empty(self) -> None:
        """The node was emptied: what was done on it is gone."""
        self.preparation = "none"
        self.task_ran = self.prepared = self.attempted = False


@define
class JobFacts:
    spec: JobSpec
    created_at: Micros
    completed: bool = False
    removes_files: bool = False
    live: dict[ExecutionId, None] = Factory(dict)
    tasks: dict[TaskId, TaskFacts] = Factory(dict)
    unfinished: dict[TaskId, None] = Factory(dict)
    placed: dict[TaskId, None] = Factory(dict)
    """Tasks that are preparing or running."""
    fulfilled: set[TaskId | int] = Factory(set)
    """Ids of tasks that ended so that they satisfy, and the numbers these read as: what dependencies ask for."""
    visits: dict[NodeId, Visit] = Factory(dict)
    finalizer: Literal["none", "running", "interrupted", "completed", "abandoned"] = "none"
    finalizer_exited: int | None = None
    finalizer_uploaded: bool = True


@define
class NodeFacts:
    pool: PoolId
    up: bool = False
    emptied: bool = True
    """The next boot begins with an empty node."""
    incarnation: int = 1
    live: dict[ExecutionId, None] = Factory(dict)
    holders: dict[tuple[JobId, TaskId], int] = Factory(dict)
    """Tasks that are preparing or running here, with the slots that each requires."""
    jobs: dict[JobId, None] = Factory(dict)
    draining: e.NodeOperation | None = None
    start_succeeded: bool = False
    start_exited: int | None = None
    start_failures: int = 0
    files: of_files.FilesOfNode = Factory(of_files.FilesOfNode)


@define
class History:
    """What was seen before the event under judgement."""

    position: int | None = None
    """Of the latest event that had one."""
    last_execution: int = 0
    states: dict[Key, str] = Factory(dict)
    """By the tables alone: the state of everything that is not absent or gone."""
    pools: dict[PoolId, PoolSpec] = Factory(dict)
    nodes: dict[NodeId, NodeFacts] = Factory(dict)
    jobs: dict[JobId, JobFacts] = Factory(dict)
    executions: dict[ExecutionId, LiveExecution] = Factory(dict)
    internal: dict[Key, int] = Factory(dict)
    """How often in a row something was run again because its executor lost or stopped it unasked."""
    unplaced: e.PreparationStarted | None = None
    """A preparation that the latest event started: the next one has to place a task there."""

    def state(self, machine: str, *identity: str) -> str:
        """A thing's state by its table, `absent` for one that never was or is gone."""
        return self.states.get((machine, *identity), ABSENT)

    def task(self, job: JobId | None, task: TaskId) -> TaskFacts | None:
        """What is known of a task, None for one that is not there."""
        return facts.tasks.get(task) if job is not None and (facts := self.jobs.get(job)) is not None else None

    def visit(self, job: JobId | None, node: NodeId) -> Visit:
        """What is known of a job on a node; nothing yet where it never came."""
        facts = self.jobs.get(job) if job is not None else None
        return facts.visits.get(node, Visit()) if facts is not None else Visit()

    def gives_task(self, event: e.Event) -> bool:
        """Whether the event gives a node a task that was not there before, waiting for preparation."""
        if not isinstance(event, e.TaskPreparing | e.ExecutionRequested) or places(event) is None or event.job is None:
            return False
        node = self.nodes.get(event.node)
        return node is None or (event.job, event.task) not in node.holders

    def task_retries(self, job: JobId, task: TaskId) -> int:
        """How often a task may be retried, -1 for without limit."""
        return self.jobs[job].tasks[task].tries.max_task_retry_count

    def preparation_retries(self, job: JobId) -> int:
        """How often a preparation may be retried on one node."""
        preparation = facts.spec.job_preparation_task if (facts := self.jobs.get(job)) is not None else None
        return preparation.constraints.max_task_retry_count if preparation is not None else 0

    def start_task_retries(self, node: NodeId) -> int:
        """How often a node's start task may be retried."""
        pool = self.pools.get(facts.pool) if (facts := self.nodes.get(node)) is not None else None
        return pool.start_task.max_task_retry_count if pool is not None and pool.start_task is not None else 0

    def limit(self, requested: e.ExecutionRequested) -> Duration | None:
        """How long an execution may run."""
        job = self.jobs.get(requested.job) if requested.job is not None else None
        if job is None:
            return None
        if requested.kind == "task":
            task = job.tasks.get(requested.task)
            return task.spec.constraints.max_wall_clock_time if task is not None and task.spec.constraints is not None else None
        if requested.kind == "preparation":
            return preparation.constraints.max_wall_clock_time if (preparation := job.spec.job_preparation_task) is not None else None
        if requested.kind == "finalizer":
            return finalizer.max_wall_clock_time if (finalizer := job.spec.job_finalizer_task) is not None else None
        return release.max_wall_clock_time if (release := job.spec.job_release_task) is not None else None

    def silent_limit(self, requested: e.ExecutionRequested) -> Duration | None:
        """How long an execution may write nothing."""
        job = self.jobs.get(requested.job) if requested.job is not None else None
        task = job.tasks.get(requested.task) if job is not None else None
        preparation = job.spec.job_preparation_task if job is not None else None
        constraints = {
            "task": task.spec.constraints if task is not None else None,
            "preparation": preparation.constraints if preparation is not None else None,
        }.get(requested.kind)
        return constraints.silent_timeout if constraints is not None else None

    def record(self, seen: Seen) -> None:
        """Make the event part of the history."""
        event = seen.event
        if seen.position is not None:
            self.position = seen.position
        self.unplaced = event if isinstance(event, e.PreparationStarted) else None
        of_files.record(self, event, seen.at)
        for machine, key in moves(event):
            _move(self.states, machine, key, event)
        _record_pool_or_node(self, event)
        _record_job_or_task(self, event, seen.at)
        _record_execution(self, event, seen.at)
        _record_run(self, event)
        _record_internal(self, event)


def places(event: e.Event) -> tuple[JobId, NodeId] | None:
    """The job and node that the event places a task on, if it does."""
    match event:
        case e.TaskPreparing(job=job, node=node):
            return job, node
        case e.ExecutionRequested(kind="task", job=job, node=node) if job is not None:
            return job, node
        case _:
            return None


def _move(states: dict[Key, str], machine: Machine, key: Key, event: e.Event) -> None:
    target = target_of(machine, states.get(key, ABSENT), event)
    if target == ABSENT:
        states.pop(key, None)
    elif target is not None:
        states[key] = target


def _record_pool_or_node(history: History, event: e.Event) -> None:
    match event:
        case e.PoolCreated():
            history.pools[event.pool] = event.spec
        case e.PoolDeleted():
            history.pools.pop(event.pool, None)
            history.states.pop(("allocation", event.pool), None)
        case e.NodeAdded():
            history.nodes[event.node] = NodeFacts(pool=event.pool)
        case e.NodeRemoved():
            _empty(history, event.node)
            history.nodes.pop(event.node, None)
            for machine in ("scheduling", "start-task"):
                history.states.pop((machine, event.node), None)
        case e.NodeBooted():
            _boot(history, event.node)
        case e.NodeDraining() if (node := history.nodes.get(event.node)) is not None:
            node.draining = event.then
        case e.NodeDrainStopped() if (node := history.nodes.get(event.node)) is not None:
            node.draining = None
        case e.NodeSchedulingDisabled(option="terminate"):
            _doom(history, event.node)
        case _ if isinstance(event, _DOWN) and (node := history.nodes.get(event.node)) is not None:
            node.up, node.draining = False, None
            if getattr(event, "option", None) == "terminate":
                _doom(history, event.node)
            node.emptied = node.emptied or isinstance(event, _EMPTIED)
            node.incarnation = max(node.incarnation, getattr(event, "incarnation", 0))
        case _:
            pass


def _doom(history: History, node_id: NodeId) -> None:
    """The tasks that are on the node are to be ended, and none of them may run again."""
    for job_id, task_id in node.holders if (node := history.nodes.get(node_id)) is not None else ():
        if (task := history.task(job_id, task_id)) is not None:
            task.doomed = True


def _boot(history: History, node_id: NodeId) -> None:
    node = history.nodes.get(node_id)
    if node is None:
        return
    if node.emptied:
        _empty(history, node_id)
    else:
        for job, visit in _visits(history, node_id):
            preparation = job.spec.job_preparation_task
            if visit.preparation == "succeeded" and preparation is not None and preparation.rerun_on_node_reboot_after_success:
                visit.preparation = "none"
    node.up, node.emptied, node.start_succeeded = True, False, False


def _empty(history: History, node_id: NodeId) -> None:
    for _, visit in _visits(history, node_id):
        visit.empty()


def _visits(history: History, node_id: NodeId) -> Iterator[tuple[JobFacts, Visit]]:
    node = history.nodes.get(node_id)
    for job_id in node.jobs if node is not None else ():
        job = history.jobs[job_id]
        yield job, job.visits[node_id]


def _record_job_or_task(history: History, event: e.Event, at: Micros) -> None:
    match event:
        case e.JobCreated():
            history.jobs[event.job] = JobFacts(spec=event.spec, created_at=at)
        case e.JobPatched() if (job := history.jobs.get(event.job)) is not None:
            new = {field.name: value for field in fields(JobSpec) if (value := getattr(event, field.name, None)) is not None and field.name != "id"}
            job.spec = evolve(job.spec, **new)
        case e.JobCompleted() if (job := history.jobs.get(event.job)) is not None:
            job.completed = True
        case e.JobDeleted():
            _forget_job(history, event.job)
        case e.TaskAdded() if (job := history.jobs.get(event.job)) is not None:
            own = event.spec.constraints
            job.tasks[event.task] = TaskFacts(spec=event.spec, tries=job.spec.constraints if own is None else own)
            job.unfinished[event.task] = None
        case e.TaskPreparing() | e.TaskRunning() if (node := history.nodes.get(event.node)) is not None:
            task = history.task(event.job, event.task)
            node.holders[(event.job, event.task)] = task.spec.required_slots if task is not None else 1
            if task is not None:
                task.node = event.node
                history.jobs[event.job].placed[event.task] = None
        case e.TaskRetried() | e.TaskRequeued() | e.TaskCompleted() | e.TaskReactivated() | e.TaskDeleted():
            _record_task(history, event, at)
        case _:
            pass


def _record_task(history: History, event: e.TaskRetried | e.TaskRequeued | e.TaskCompleted | e.TaskReactivated | e.TaskDeleted, at: Micros) -> None:
    """A task left its node, or was over already."""
    job, task = history.jobs.get(event.job), history.task(event.job, event.task)
    if job is None or task is None:
        return
    if task.node is not None and (node := history.nodes.get(task.node)) is not None:
        node.holders.pop((event.job, event.task), None)
    task.node = None
    task.forget_launch()
    job.placed.pop(event.task, None)
    match event:
        case e.TaskRetried():
            task.retries += 1
            task.not_before = Micros(at + _delay(task))
        case e.TaskReactivated():
            task.failures = task.retries = 0
            task.not_before, task.doomed = None, False
            job.unfinished[event.task] = None
        case e.TaskCompleted(result=result):
            task.succeeded = result == "success"
            if (event.dependency_action or ("satisfy" if task.succeeded else "block")) == "satisfy" and job.spec.uses_task_dependencies:
                job.fulfilled.add(event.task)
                if event.task.isascii() and event.task.isdecimal():
                    job.fulfilled.add(int(event.task))
            job.unfinished.pop(event.task, None)
        case e.TaskDeleted():
            job.unfinished.pop(event.task, None)
            del job.tasks[event.task]
        case _:
            pass


def _delay(task: TaskFacts) -> int:
    """What a task has to wait for after a failed try, by doubling it as often as it was retried before."""
    delay, longest = int(task.tries.retry_delay or 0), task.tries.retry_delay_max
    for _ in range(min(task.retries - 1, 64)):
        delay *= 2
    return min(delay, 86_400 * SECOND if longest is None else longest)


def _record_internal(history: History, event: e.Event) -> None:
    """Count what executors lost or stopped unasked; an end of its own begins the count anew."""
    match event:
        case e.TaskRequeued() | e.PreparationDue() | e.ReleaseInterrupted() | e.FinalizerInterrupted() | e.StartTaskInterrupted() if event.internal:
            history.internal[key_of(event)] = history.internal.get(key_of(event), 0) + 1
        case e.TaskRetried() | e.TaskCompleted() | e.TaskReactivated() | e.TaskDeleted() | e.PreparationRetried() | e.PreparationCompleted():
            history.internal.pop(key_of(event), None)
        case e.ReleaseCompleted() | e.ReleaseAbandoned() | e.FinalizerCompleted() | e.FinalizerAbandoned():
            history.internal.pop(key_of(event), None)
        case e.StartTaskRetried() | e.StartTaskCompleted():
            history.internal.pop(key_of(event), None)
        case e.JobDeleted(job=gone):
            history.internal = {key: times for key, times in history.internal.items() if key[0] == "start-task" or key[1] != gone}
        case e.NodeRemoved(node=gone):
            history.internal.pop(("start-task", gone), None)
        case _:
            pass


def _forget_job(history: History, job_id: JobId) -> None:
    job = history.jobs.pop(job_id, None)
    if job is None:
        return
    for task in job.tasks:
        history.states.pop(("task", job_id, task), None)
    history.states.pop(("finalizer", job_id), None)
    for node_id in job.visits:
        history.states.pop(("preparation", job_id, node_id), None)
        history.states.pop(("release", job_id, node_id), None)
        if (node := history.nodes.get(node_id)) is not None:
            node.jobs.pop(job_id, None)


def _record_execution(history: History, event: e.Event, at: Micros) -> None:
    match event:
        case e.ExecutionRequested():
            history.last_execution = max(history.last_execution, event.execution)
            history.executions[event.execution] = LiveExecution(event, at)
            if (node := history.nodes.get(event.node)) is not None:
                node.live[event.execution] = None
            if event.job is not None and (job := history.jobs.get(event.job)) is not None:
                job.live[event.execution] = None
                if event.kind == "finalizer":
                    job.finalizer, job.finalizer_exited = "running", None
                    return
                _launched(_come(history, event.job, event.node), history.task(event.job, event.task), event.kind)
        case e.ExecutionConfirmed() if (live := history.executions.get(event.execution)) is not None:
            live.confirmed_at = at
            _happened(history, live.requested)
        case e.ExecutionStopRequested() if (live := history.executions.get(event.execution)) is not None:
            live.stop = event.then
            _stop(history, live.requested, event)
        case e.ExecutionEnded() | e.ExecutionNeverRan() | e.ExecutionUnresolved():
            _record_outcome(history, event)
        case _:
            pass


def _come(history: History, job_id: JobId, node_id: NodeId) -> Visit:
    if (node := history.nodes.get(node_id)) is not None:
        node.jobs[job_id] = None
    return history.jobs[job_id].visits.setdefault(node_id, Visit())


def _stop(history: History, requested: e.ExecutionRequested, stop: e.ExecutionStopRequested) -> None:
    if requested.kind == "task" and (task := history.task(requested.job, requested.task)) is not None:
        task.stop, task.limited = stop.then, stop.cause in LIMITS
    elif requested.kind == "preparation":
        history.visit(requested.job, requested.node).stop = stop.then


def _launched(visit: Visit, task: TaskFacts | None, kind: ExecutionKind) -> None:
    if kind == "preparation":
        visit.preparation, visit.stop = "running", None
    elif kind == "release":
        visit.release = "running"
    elif task is not None:
        task.forget_launch()


def _record_outcome(history: History, event: Outcome) -> None:
    live = history.executions.pop(event.execution, None)
    if live is None:
        return
    requested = live.requested
    if not isinstance(event, e.ExecutionNeverRan):
        _happened(history, requested)
    exited = event.exit_code if isinstance(event, e.ExecutionEnded) and not event.stopped else None
    if (node := history.nodes.get(requested.node)) is not None:
        node.live.pop(event.execution, None)
        if requested.kind == "starttask":
            node.start_exited = exited
            node.start_succeeded = exited == 0
            node.start_failures += bool(exited)
    job = history.jobs.get(requested.job) if requested.job is not None else None
    if job is None or requested.job is None:
        return
    job.live.pop(event.execution, None)
    if requested.kind == "finalizer":
        job.finalizer_exited = exited
        job.finalizer_uploaded = not isinstance(event, e.ExecutionEnded) or event.upload_failure is None
        return
    visit, task = _come(history, requested.job, requested.node), job.tasks.get(requested.task)
    if requested.kind == "preparation":
        visit.exited = exited
        visit.failures += bool(exited)
        if exited == 0:
            visit.preparation = "succeeded"
            _mark(history, requested, "prepared")
    elif requested.kind == "release":
        visit.release_exited = exited
        visit.release_uploaded = not isinstance(event, e.ExecutionEnded) or event.upload_failure is None
    elif task is not None:
        task.exited, task.outcome = exited, event
        task.failures += bool(exited)


def _happened(history: History, requested: e.ExecutionRequested) -> None:
    """The program ran, or nobody can say that it did not."""
    if requested.kind == "task":
        _mark(history, requested, "taskRan")
    elif requested.kind == "preparation":
        _mark(history, requested, "attempted")


def _mark(history: History, requested: e.ExecutionRequested, what: ReleaseScope) -> None:
    if requested.job is None or (job := history.jobs.get(requested.job)) is None:
        return
    visit = _come(history, requested.job, requested.node)
    visit.task_ran = visit.task_ran or what == "taskRan"
    visit.prepared = visit.prepared or what == "prepared"
    visit.attempted = visit.attempted or what == "attempted"
    release = job.spec.job_release_task
    if release is not None and visit.release != "completed" and what in _WITHIN[release.release_scope]:
        visit.debt = True


def _record_run(history: History, event: e.Event) -> None:
    """What was made of the run of a preparation, release, finalizer or start task."""
    match event:
        case e.StartTaskStarted() | e.StartTaskRetried() if (node := history.nodes.get(event.node)) is not None:
            node.start_exited = None
            if isinstance(event, e.StartTaskStarted):
                node.start_failures = 0
        case e.FinalizerInterrupted() | e.FinalizerCompleted() | e.FinalizerAbandoned() if event.job in history.jobs:
            history.jobs[event.job].finalizer = _AFTER[type(event)]
        case (
            e.PreparationStarted()
            | e.PreparationRetried()
            | e.PreparationCompleted()
            | e.PreparationDue()
            | e.ReleaseStarted()
            | e.ReleaseInterrupted()
            | e.ReleaseCompleted()
            | e.ReleaseAbandoned()
        ) if event.job in history.jobs:
            _record_visit(_come(history, event.job, event.node), event)
        case _:
            pass


def _record_visit(
    visit: Visit,
    event: e.PreparationStarted
    | e.PreparationRetried
    | e.PreparationCompleted
    | e.PreparationDue
    | e.ReleaseStarted
    | e.ReleaseInterrupted
    | e.ReleaseCompleted
    | e.ReleaseAbandoned,
) -> None:
    match event:
        case e.PreparationStarted():
            visit.failures, visit.exited = 0, None
        case e.PreparationRetried():
            visit.exited = None
        case e.ReleaseStarted():
            visit.release_exited = None
        case e.PreparationCompleted(result="failure"):
            visit.preparation = "failed"
        case e.PreparationCompleted():
            pass  # Whether it succeeded was read from its execution.
        case e.PreparationDue():
            visit.preparation = "none"
        case e.ReleaseInterrupted():
            visit.release = "interrupted"
        case e.ReleaseCompleted():
            visit.release, visit.debt = "completed", False
        case e.ReleaseAbandoned():
            visit.debt = False
