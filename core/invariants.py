"""Invariants: what holds of every ledger and every world, each with its sentence, checked without trusting the fold.

1. An invariant looks at one event, at the history before it, and, where it is given, at the world after it.
2. What it says is its docstring; its name is the function's.  Each rule has one invariant that speaks of it, so that a broken
   rule is reported once: an event that two might object to belongs to the more special one.
3. `Auditor` asks them all while a ledger grows, `audit` asks them of one that is written.  Nothing here raises.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from . import events as e
from .history import OUTCOMES, History, Seen, places
from .ids import ExecutionKind, JobId, Micros, NodeId
from .judging import Invariant, Violation, invariant
from .machine import ABSENT
from .subjects import Key, moves, state_in, target_of
from .world import World

__all__ = ["INVARIANTS", "Auditor", "Invariant", "Violation", "audit"]

ENDING: Final = frozenset({"terminating", "deleting"})


class Auditor:
    """Asks the invariants of one event after the other, and remembers what it must."""

    def __init__(self, invariants: Iterable[Invariant] | None = None) -> None:
        self.history: Final = History()
        self._seen = 0
        self._on: Final[dict[type[e.Event], list[Invariant]]] = {}
        for one in INVARIANTS if invariants is None else invariants:
            for event in one.on:
                self._on.setdefault(event, []).append(one)

    def see(self, event: e.Event, at: Micros, world: World | None = None, position: int | None = None) -> list[Violation]:
        """The violations that `event`, recorded at `at`, brings about; `world` is the one after it."""
        seen = Seen(event=event, at=at, position=position, world=world)
        found = [
            Violation(invariant=one.name, index=self._seen, position=position, text=text)
            for one in self._on.get(type(event), ())
            for text in one.judge(self.history, seen)
        ]
        self.history.record(seen)
        self._seen += 1
        return found


def audit(events: Iterable[tuple[e.Event, Micros]]) -> list[Violation]:
    """Every violation in a history, from its beginning."""
    auditor = Auditor()
    return [violation for event, at in events for violation in auditor.see(event, at)]


# --- release --------------------------------------------------------------------------------------------------


@invariant(e.ReleaseOwed, e.ExecutionRequested, rule="ARCHITECTURE, choices: on which nodes release runs (customer); semantics 2.5")
def release_only_within_its_scope(history: History, seen: Seen) -> Iterator[str]:
    """A release is owed and runs only where what its scope asks for has happened since the node was last emptied: a task of
    the job ran or may have (`taskRan`), or preparation succeeded (`prepared`) or was launched (`attempted`).
    """
    event = seen.event
    job = history.jobs.get(_job(event))
    if not (isinstance(event, e.ReleaseOwed) or _launches(event, "release")) or job is None or job.completed:
        return
    release = job.spec.job_release_task
    if release is None:
        yield f"job {_job(event)} has no release task"
    elif not history.visit(_job(event), _node(event)).reached(release.release_scope):
        yield f"job {_job(event)} has not reached the scope {release.release_scope} on {_node(event)}"


@invariant(e.ExecutionRequested, rule="ARCHITECTURE, choices: release after terminate, then delete (customer); semantics 2.5")
def release_completes_once(history: History, seen: Seen) -> Iterator[str]:
    """On one node a job's release is launched again only after a launch that the node cut short; one that completed, well or
    not, is never repeated, and there is never a second one beside it.
    """
    event = seen.event
    if isinstance(event, e.ExecutionRequested) and event.kind == "release" and not _is_over(history, event.job):
        release = history.visit(event.job, event.node).release
        if release in {"completed", "running"}:
            yield f"the release of job {event.job} on {event.node} is {release} and is launched again"


@invariant(e.ReleaseOwed, e.ExecutionRequested, rule="ARCHITECTURE, choices: release after terminate, then delete (customer)")
def release_never_after_completion(history: History, seen: Seen) -> Iterator[str]:
    """Once a job is completed no release of it is owed or runs, and deleting it changes nothing about that."""
    event = seen.event
    if (isinstance(event, e.ReleaseOwed) or _launches(event, "release")) and _is_over(history, _job(event)):
        yield f"job {_job(event)} was completed before"


@invariant(e.ExecutionRequested, rule="customer: job active -> terminating -> completed; semantics 2.5, 2.6")
def release_comes_last(history: History, seen: Seen) -> Iterator[str]:
    """A release is launched only when its job is ending and nothing else of the job lives anywhere."""
    event = seen.event
    if not isinstance(event, e.ExecutionRequested) or event.kind != "release" or (job := history.jobs.get(_job(event))) is None or job.completed:
        return
    if (state := history.state("job", _job(event))) not in ENDING:
        yield f"job {event.job} is {state}"
    if others := [live for live in job.live if history.executions[live].requested.kind != "release"]:
        yield f"of job {event.job} still live executions {others}"


# --- preparation ----------------------------------------------------------------------------------------------


@invariant(e.TaskPreparing, e.TaskRunning, rule="semantics 3.3")
def dependencies_come_first(history: History, seen: Seen) -> Iterator[str]:
    """No task is placed before everything that it depends on is satisfied, by success or by what exit conditions say: tasks by id, and a
    task for each number of its ranges.
    """
    event = seen.event
    if not isinstance(event, e.TaskPreparing | e.TaskRunning) or (job := history.jobs.get(event.job)) is None:
        return
    wanted = task.spec.depends_on if (task := job.tasks.get(event.task)) is not None else None
    if wanted is not None:
        numbers = [number for part in wanted.task_id_ranges for number in range(part.start, part.end + 1)]
        if missing := [one for one in (*wanted.task_ids, *numbers) if one not in job.fulfilled]:
            yield f"task {event.task} of job {event.job} is placed, and {missing[:8]} are not satisfied"


@invariant(e.ExecutionRequested, rule="semantics 2.2, 2.3")
def preparation_before_task(history: History, seen: Seen) -> Iterator[str]:
    """Where a job has a preparation, no task starts on a node before preparation succeeded there (`waitForSuccess`) or was at
    least begun, in what the node holds now: emptying it undoes preparation, and so does a reboot if the job says so.
    """
    event = seen.event
    if not isinstance(event, e.ExecutionRequested) or event.kind != "task" or (job := history.jobs.get(_job(event))) is None:
        return
    spec, preparation = job.spec.job_preparation_task, history.visit(event.job, event.node).preparation
    if spec is not None and (preparation == "none" or (preparation == "running" and spec.wait_for_success)):
        yield f"task {event.task} of job {event.job} starts on {event.node}, where preparation is {preparation}"


@invariant(e.TaskPreparing, e.ExecutionRequested, rule="semantics 2.3")
def failed_preparation_bars_the_node(history: History, seen: Seen) -> Iterator[str]:
    """A node where a preparation with `waitForSuccess` failed for good gets no task and no preparation of that job until it is emptied."""
    event = seen.event
    if not (isinstance(event, e.TaskPreparing) or _launches(event, "task") or _new_preparation(history, event)):
        return
    job = history.jobs.get(_job(event))
    spec = job.spec.job_preparation_task if job is not None else None
    if spec is not None and spec.wait_for_success and history.visit(_job(event), _node(event)).preparation == "failed":
        yield f"preparation of job {_job(event)} failed on {_node(event)}"


@invariant(*e.STORED, rule="semantics 2.2: lazily, triggered by the placement of a task")
def preparation_only_where_a_task_is_placed(history: History, seen: Seen) -> Iterator[str]:
    """A preparation is started by the placement of a task: the very next event places one of that job on that node."""
    waited = history.unplaced
    if waited is not None and places(seen.event) != (waited.job, waited.node):
        yield f"preparation of job {waited.job} started on {waited.node} and no task was placed there"


@invariant(e.ExecutionRequested, rule="semantics 2.2: still one run, however many tasks land on the node at once")
def one_preparation_at_a_time(history: History, seen: Seen) -> Iterator[str]:
    """Of one job at most one preparation lives on one node."""
    event = seen.event
    if isinstance(event, e.ExecutionRequested) and event.kind == "preparation" and (job := history.jobs.get(_job(event))) is not None:
        for live in job.live:
            other = history.executions[live].requested
            if other.kind == "preparation" and other.node == event.node:
                yield f"execution {live} still prepares {event.node} for job {event.job}"


# --- job ------------------------------------------------------------------------------------------------------


@invariant(e.TaskPreparing, e.PreparationStarted, e.ExecutionRequested, rule="semantics 1.1; core/job.py, rule 1")
def starts_only_while_active(history: History, seen: Seen) -> Iterator[str]:
    """No task is given a node, and no task or preparation starts, once its job left `active`; a preparation that runs is
    tried again only while the job is not ending.
    """
    event = seen.event
    if isinstance(event, e.ExecutionRequested) and event.kind not in {"task", "preparation"}:
        return
    state = history.state("job", _job(event))
    allowed = {"active"} if not isinstance(event, e.ExecutionRequested) or event.kind == "task" else {"active", "disabling", "disabled", "enabling"}
    if state not in allowed | {ABSENT}:
        yield f"job {_job(event)} is {state}"


@invariant(e.JobCompleted, e.JobDeleted, rule="semantics 1.1; core/job.py, rule 2 (customer)")
def nothing_lives_when_a_job_ends(history: History, seen: Seen) -> Iterator[str]:
    """A job is completed or gone only when no execution of it lives."""
    if (job := history.jobs.get(_job(seen.event))) is not None and job.live:
        yield f"live executions of job {_job(seen.event)}: {list(job.live)}"


@invariant(e.JobCompleted, e.JobDeleted, rule="semantics 1.1, 2.5 (customer)")
def nothing_is_owed_when_a_job_ends(history: History, seen: Seen) -> Iterator[str]:
    """A job is completed or gone only when on each node under its release scope a release ran to its end or was explicitly abandoned."""
    if (job := history.jobs.get(_job(seen.event))) is not None:
        for node, visit in job.visits.items():
            if visit.debt:
                yield f"job {_job(seen.event)} still owes its release on {node}"


@invariant(e.JobCompleted, e.JobDeleted, rule="ARCHITECTURE, choices: queued tasks at terminate")
def no_task_is_left_when_a_job_ends(history: History, seen: Seen) -> Iterator[str]:
    """A job is completed or gone only when all its tasks are completed."""
    if (job := history.jobs.get(_job(seen.event))) is not None and job.unfinished:
        yield f"tasks of job {_job(seen.event)} not completed: {list(job.unfinished)[:5]}"


@invariant(e.ExecutionRequested, rule="core/job.py, rule 3")
def a_job_that_is_gone_runs_nothing(history: History, seen: Seen) -> Iterator[str]:
    """Nothing is launched for a job that is not there, because it was deleted or never was."""
    event = seen.event
    if isinstance(event, e.ExecutionRequested) and event.job is not None and event.job not in history.jobs:
        yield f"there is no job {event.job}"


# --- task -----------------------------------------------------------------------------------------------------


@invariant(e.ExecutionRequested, e.PreparationRetried, e.StartTaskRetried, rule="semantics 3.1")
def tries_within_retries(history: History, seen: Seen) -> Iterator[str]:
    """A task, preparation or start task whose program failed by itself is tried again at most `maxTaskRetryCount` times (-1: without limit)."""
    match seen.event:
        case e.ExecutionRequested(kind="task", job=job, task=name) if job is not None and (task := history.task(job, name)) is not None:
            yield from _too_many(f"task {name} of job {job}", task.failures, history.task_retries(job, name))
        case e.PreparationRetried(job=job, node=node) if job in history.jobs:
            yield from _too_many(f"preparation of job {job} on {node}", history.visit(job, node).failures, history.preparation_retries(job))
        case e.StartTaskRetried(node=node) if (facts := history.nodes.get(node)) is not None:
            yield from _too_many(f"the start task of {node}", facts.start_failures, history.start_task_retries(node))
        case _:
            pass


@invariant(e.TaskRetried, e.PreparationRetried, e.StartTaskRetried, rule="semantics 3.1: only a non-zero exit consumes a retry")
def retries_count_only_failed_programs(history: History, seen: Seen) -> Iterator[str]:
    """A retry is counted only after a program ended by itself with a code other than 0; what the platform took away is not counted."""
    if not _exited(history, seen.event):
        yield f"no program failed before {type(seen.event).__name__}"


@invariant(e.TaskCompleted, e.PreparationCompleted, e.StartTaskCompleted, rule="semantics 3.1")
def retries_are_granted(history: History, seen: Seen) -> Iterator[str]:
    """What failed by itself is not given up while it has retries left, unless it was asked to end or its job is ending."""
    event = seen.event
    if not _exited(history, event) or (not isinstance(event, e.StartTaskCompleted) and history.state("job", _job(event)) in ENDING):
        return
    match event:
        case e.TaskCompleted(job=job, task=name) if (task := history.task(job, name)) is not None and task.stop in {None, "requeue"}:
            failures, allowed = task.failures, history.task_retries(job, name)
        case e.PreparationCompleted(job=job, node=node) if (visit := history.visit(job, node)).stop is None:
            failures, allowed = visit.failures, history.preparation_retries(job)
        case e.StartTaskCompleted(node=node) if (facts := history.nodes.get(node)) is not None:
            failures, allowed = facts.start_failures, history.start_task_retries(node)
        case _:
            return
    if allowed == -1 or failures <= allowed:
        yield f"it failed {failures} times and may be retried {allowed} times"


@invariant(e.TaskCompleted, e.PreparationCompleted, e.ReleaseCompleted, e.StartTaskCompleted, rule="ARCHITECTURE: never guessed")
def results_are_what_was_seen(history: History, seen: Seen) -> Iterator[str]:
    """Success is recorded of what was seen to end by itself with code 0, and of nothing else."""
    event = seen.event
    if isinstance(event, e.TaskCompleted | e.PreparationCompleted | e.ReleaseCompleted | e.StartTaskCompleted):
        exited = _exited(history, event)
        if (event.result == "success") != (exited == 0):
            yield f"{event.result} is recorded, and the program {'was not seen to end by itself' if exited is None else f'exited {exited}'}"


# --- node -----------------------------------------------------------------------------------------------------


@invariant(e.ExecutionRequested, e.NodeBooted, e.NodeRemoved, e.NodeDeallocated, rule="core/node.py, rules 2 and 3")
def executions_live_only_on_nodes_that_are_up(history: History, seen: Seen) -> Iterator[str]:
    """Nothing is launched on a node that is down, and a node boots, leaves or is deallocated only when nothing lives there any more."""
    event = seen.event
    node = history.nodes.get(_node(event))
    if isinstance(event, e.ExecutionRequested):
        if node is None or not node.up:
            yield f"{event.kind} {event.task} is launched on {event.node}, which is {history.state('node', event.node)}"
    elif node is not None and node.live:
        yield f"on {_node(event)} still live executions {list(node.live)}"


@invariant(e.TaskPreparing, e.ExecutionRequested, rule="semantics 1.5; core/node.py, rule 5")
def disabled_scheduling_is_respected(history: History, seen: Seen) -> Iterator[str]:
    """A node whose scheduling is disabled is given no task."""
    event = seen.event
    if places(event) is not None and history.state("scheduling", _node(event)) == "disabled":
        yield f"a task is placed on {_node(event)}"


@invariant(e.TaskPreparing, e.ExecutionRequested, rule="semantics 1.4")
def start_task_comes_first(history: History, seen: Seen) -> Iterator[str]:
    """Where a pool waits for its start task, nothing else runs on a node before that succeeded in this boot."""
    event = seen.event
    if _launches(event, "starttask") or (node := history.nodes.get(_node(event))) is None:
        return
    start = pool.start_task if (pool := history.pools.get(node.pool)) is not None else None
    if start is not None and start.wait_for_success and not node.start_succeeded:
        yield f"the start task of {_node(event)} has not succeeded"


@invariant(e.TaskPreparing, e.TaskRunning, rule="taskSlotsPerNode; core/placement.py")
def slots_are_never_exceeded(history: History, seen: Seen) -> Iterator[str]:
    """At most `taskSlotsPerNode` tasks are preparing or running on a node."""
    event = seen.event
    node = history.nodes.get(_node(event))
    pool = history.pools.get(node.pool) if node is not None else None
    if node is not None and pool is not None and isinstance(event, e.TaskPreparing | e.TaskRunning):
        held = len(node.holders) + ((event.job, event.task) not in node.holders)
        if held > pool.task_slots_per_node:
            yield f"{held} tasks on the {pool.task_slots_per_node} slots of {event.node}"


@invariant(e.TaskPreparing, e.TaskRunning, rule="semantics 3.4")
def parallel_tasks_are_never_exceeded(history: History, seen: Seen) -> Iterator[str]:
    """At most `maxParallelTasks` tasks of a job are preparing or running at the same time."""
    event = seen.event
    if not isinstance(event, e.TaskPreparing | e.TaskRunning) or (job := history.jobs.get(event.job)) is None:
        return
    most = job.spec.max_parallel_tasks
    placed = len(job.placed) + (event.task not in job.placed)
    if most != -1 and placed > most:
        yield f"{placed} tasks of job {event.job} are placed, and it may have {most}"


@invariant(e.TaskPreparing, e.TaskRunning, e.TaskRetried, e.TaskRequeued, e.TaskCompleted, e.TaskDeleted, rule="core/world.py, rule 2")
def slots_are_held_by_tasks_alone(history: History, seen: Seen) -> Iterator[str]:
    """The world holds a node's slots for exactly the tasks that are preparing or running there."""
    event, world = seen.event, seen.world
    if world is None or not isinstance(event, e.TaskPreparing | e.TaskRunning | e.TaskRetried | e.TaskRequeued | e.TaskCompleted | e.TaskDeleted):
        return
    task = history.task(event.job, event.task)
    arrives = isinstance(event, e.TaskPreparing | e.TaskRunning)
    node_id = event.node if isinstance(event, e.TaskPreparing | e.TaskRunning) else task.node if task is not None else None
    if node_id is None or (facts := history.nodes.get(node_id)) is None or (node := world.nodes.get(node_id)) is None:
        return
    expected = set(facts.holders) | {(event.job, event.task)} if arrives else set(facts.holders) - {(event.job, event.task)}
    if expected != set(node.tasks):
        yield f"{node_id} holds {sorted(node.tasks)}, and it should be {sorted(expected)}"


@invariant(e.NodeRebooting, e.NodeReimaging, e.NodePreempted, e.NodeDeallocating, e.NodeLeaving, rule="core/node.py, rule 2: it is a fencing number")
def incarnations_grow(history: History, seen: Seen) -> Iterator[str]:
    """Each incarnation of a node has a greater number than the one before."""
    incarnation = getattr(seen.event, "incarnation", 0)
    if (node := history.nodes.get(_node(seen.event))) is not None and incarnation <= node.incarnation:
        yield f"{_node(seen.event)} was {node.incarnation} and becomes {incarnation}"


# --- execution ------------------------------------------------------------------------------------------------


@invariant(e.ExecutionRequested, rule="core/execution.py, rule 1")
def execution_numbers_grow(history: History, seen: Seen) -> Iterator[str]:
    """An execution's number is greater than all before it: it is the fencing number and never used again."""
    if isinstance(seen.event, e.ExecutionRequested) and seen.event.execution <= history.last_execution:
        yield f"execution {seen.event.execution} comes after {history.last_execution}"


@invariant(*OUTCOMES, rule="core/execution.py, rule 3")
def an_execution_has_one_outcome(history: History, seen: Seen) -> Iterator[str]:
    """An outcome belongs to an execution that lives, names what was requested, and is its only one."""
    event = seen.event
    if isinstance(event, OUTCOMES):
        live = history.executions.get(event.execution)
        asked = live.requested if live is not None else None
        if asked is None:
            yield f"execution {event.execution} does not live"
        elif (asked.job, asked.task, asked.node) != (event.job, event.task, event.node):
            yield f"execution {event.execution} is of {asked.task} on {asked.node}, not of {event.task} on {event.node}"


@invariant(
    e.TaskRunning, e.PreparationStarted, e.PreparationRetried, e.ReleaseStarted, e.StartTaskStarted, e.StartTaskRetried, rule="core/execution.py"
)
def what_runs_names_its_execution(history: History, seen: Seen) -> Iterator[str]:
    """What is said to run names a live execution of its own kind, job and node."""
    event = seen.event
    match event:
        case e.TaskRunning():
            kind = "task"
        case e.PreparationStarted() | e.PreparationRetried():
            kind = "preparation"
        case e.ReleaseStarted():
            kind = "release"
        case e.StartTaskStarted() | e.StartTaskRetried():
            kind = "starttask"
        case _:
            return
    live = history.executions.get(event.execution)
    job, task = getattr(event, "job", None), getattr(event, "task", None)
    if (
        live is None
        or (live.requested.kind, live.requested.job, live.requested.node) != (kind, job, event.node)
        or (task is not None and live.requested.task != task)
    ):
        yield f"execution {event.execution} is not a live {kind} of it"


@invariant(e.ExecutionStopRequested, rule="core/execution.py, rule 5")
def a_stop_only_grows(history: History, seen: Seen) -> Iterator[str]:
    """An execution is asked again to end only for a stronger reason: requeue, then complete, then delete."""
    event = seen.event
    if not isinstance(event, e.ExecutionStopRequested) or (live := history.executions.get(event.execution)) is None:
        return
    if live.stop is not None and _STOPS.index(event.then) <= _STOPS.index(live.stop):
        yield f"execution {event.execution} was asked to end with {live.stop} and is with {event.then}"


@invariant(e.ExecutionStopRequested, rule="semantics 2.4, 3.1: counted from the start")
def no_limit_comes_early(history: History, seen: Seen) -> Iterator[str]:
    """Nothing is ended for its `maxWallClockTime` before that has passed since its start."""
    event = seen.event
    if not isinstance(event, e.ExecutionStopRequested) or event.cause != "maxWallClockTime":
        return
    live = history.executions.get(event.execution)
    limit = history.limit(live.requested) if live is not None else None
    if live is not None and limit is not None and (live.confirmed_at is None or seen.at < live.confirmed_at + limit):
        yield f"execution {event.execution} started at {live.confirmed_at}, may run for {limit} and is ended at {seen.at}"


# --- of everything --------------------------------------------------------------------------------------------


@invariant(*e.STORED, rule="ARCHITECTURE: explicit state machines (customer)")
def only_moves_of_the_tables(history: History, seen: Seen) -> Iterator[str]:
    """Whatever happens to a thing is a row of its machine's table."""
    for key, state in _illegal(history, seen.event):
        if not _is_ended(history, key, state) and not _is_told_elsewhere(key, state, seen.event):
            yield f"{' '.join(key)} is {state}: {e.STORED[type(seen.event)][0]} cannot happen to it"


@invariant(*e.STORED, rule="semantics 1.1, 1.2; core/release.py, rule 4")
def what_ended_stays_ended(history: History, seen: Seen) -> Iterator[str]:
    """Nothing more happens to an execution with an outcome, a completed release or a task that succeeded, and to a completed
    job nothing but its deletion; a completed task is only deleted or, after a failure, reactivated.
    """
    event = seen.event
    for key, state in _illegal(history, event):
        if _is_ended(history, key, state) and not _is_told_elsewhere(key, state, event):
            yield f"{' '.join(key)} has ended: {e.STORED[type(event)][0]} cannot happen to it"
    if isinstance(event, e.TaskReactivated) and (task := history.task(event.job, event.task)) is not None and task.succeeded:
        yield f"task {event.task} of job {event.job} succeeded"


@invariant(*e.STORED, rule="core/evolve.py: what happened, happened")
def the_world_follows_the_events(history: History, seen: Seen) -> Iterator[str]:
    """After each event the world says of what it moved what the table says."""
    if seen.world is None:
        return
    for machine, key in moves(seen.event):
        expected = target_of(machine, history.states.get(key, ABSENT), seen.event)
        if expected is not None and (found := state_in(seen.world, key)) != expected:
            yield f"{' '.join(key)} is {found} in the world and should be {expected}"


@invariant(*e.STORED, rule="ARCHITECTURE: gapless positions")
def positions_have_no_gaps(history: History, seen: Seen) -> Iterator[str]:
    """Each position is the one before it plus one."""
    if seen.position is not None and history.position is not None and seen.position != history.position + 1:
        yield f"position {seen.position} comes after {history.position}"


INVARIANTS: Final[tuple[Invariant, ...]] = (
    release_only_within_its_scope,
    release_completes_once,
    release_never_after_completion,
    release_comes_last,
    dependencies_come_first,
    preparation_before_task,
    failed_preparation_bars_the_node,
    preparation_only_where_a_task_is_placed,
    one_preparation_at_a_time,
    starts_only_while_active,
    nothing_lives_when_a_job_ends,
    nothing_is_owed_when_a_job_ends,
    no_task_is_left_when_a_job_ends,
    a_job_that_is_gone_runs_nothing,
    tries_within_retries,
    retries_count_only_failed_programs,
    retries_are_granted,
    results_are_what_was_seen,
    executions_live_only_on_nodes_that_are_up,
    disabled_scheduling_is_respected,
    start_task_comes_first,
    slots_are_never_exceeded,
    parallel_tasks_are_never_exceeded,
    slots_are_held_by_tasks_alone,
    incarnations_grow,
    execution_numbers_grow,
    an_execution_has_one_outcome,
    what_runs_names_its_execution,
    a_stop_only_grows,
    no_limit_comes_early,
    only_moves_of_the_tables,
    what_ended_stays_ended,
    the_world_follows_the_events,
    positions_have_no_gaps,
)

_STOPS: Final[tuple[e.StopThen, ...]] = ("requeue", "complete", "delete")


# --- helpers --------------------------------------------------------------------------------------------------


def _job(event: e.Event) -> JobId:
    return JobId(getattr(event, "job", None) or "")


def _node(event: e.Event) -> NodeId:
    return NodeId(getattr(event, "node", None) or "")


def _launches(event: e.Event, kind: ExecutionKind) -> bool:
    return isinstance(event, e.ExecutionRequested) and event.kind == kind


def _new_preparation(history: History, event: e.Event) -> bool:
    """Whether the event launches a preparation where none is under way."""
    return _launches(event, "preparation") and history.visit(_job(event), _node(event)).preparation != "running"


def _is_over(history: History, job: JobId | None) -> bool:
    return job is not None and (facts := history.jobs.get(job)) is not None and facts.completed


def _exited(history: History, event: e.Event) -> int | None:
    """The code with which the program that the event is about ended by itself, None where it did not."""
    match event:
        case e.TaskRetried() | e.TaskCompleted():
            return task.exited if (task := history.task(event.job, event.task)) is not None else None
        case e.PreparationRetried() | e.PreparationCompleted():
            return history.visit(event.job, event.node).exited
        case e.ReleaseCompleted():
            return history.visit(event.job, event.node).release_exited
        case e.StartTaskRetried() | e.StartTaskCompleted():
            return node.start_exited if (node := history.nodes.get(event.node)) is not None else None
        case _:
            return None


def _too_many(what: str, failures: int, allowed: int) -> Iterator[str]:
    if allowed != -1 and failures > allowed:
        yield f"{what} failed {failures} times, may be retried {allowed} times and is tried again"


def _illegal(history: History, event: e.Event) -> Iterator[tuple[Key, str]]:
    """The things that have no row for the event, with their states."""
    for machine, key in moves(event):
        state = history.states.get(key, ABSENT)
        if not machine.allows(state, type(event)):
            yield key, state


def _is_ended(history: History, key: Key, state: str) -> bool:
    if key[0] == "execution":
        return state == ABSENT and int(key[1]) <= history.last_execution
    return state == "completed" and key[0] in {"job", "task", "release"}


def _is_told_elsewhere(key: Key, state: str, event: e.Event) -> bool:
    """Whether a more special invariant speaks of an illegal move."""
    if key[0] == "execution":
        return isinstance(event, e.ExecutionRequested) or (isinstance(event, OUTCOMES) and state == ABSENT)
    return key[0] == "release" and isinstance(event, e.ReleaseStarted) and state in {"running", "completed"}
