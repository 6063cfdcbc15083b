"""What holds of nodes, executions and everything that has a state machine: invariants, see `invariants`."""

from collections.abc import Iterator
from typing import Final

from . import events as e
from .history import OUTCOMES, History, Seen
from .ids import ENGINE_HOST
from .judging import Invariant, invariant, launches, node_of
from .machine import ABSENT
from .subjects import Key, moves, state_in, target_of

# --- node -----------------------------------------------------------------------------------------------------


@invariant(e.ExecutionRequested, e.NodeBooted, e.NodeRemoved, e.NodeDeallocated, rule="core/node.py, rules 2 and 3")
def executions_live_only_on_nodes_that_are_up(history: History, seen: Seen) -> Iterator[str]:
    """Nothing is launched on a node that is down, and a node boots, leaves or is deallocated only when nothing lives there any more.

    On the engine's host, which is no node, nothing is launched but finalizers.
    """
    event = seen.event
    node = history.nodes.get(node_of(event))
    if isinstance(event, e.ExecutionRequested):
        on_host = event.node == ENGINE_HOST and event.kind == "finalizer"
        if not on_host and (node is None or not node.up):
            yield f"{event.kind} {event.task} is launched on {event.node}, which is {history.state('node', event.node)}"
    elif node is not None and node.live:
        yield f"on {node_of(event)} still live executions {list(node.live)}"


@invariant(e.TaskPreparing, e.ExecutionRequested, rule="semantics 1.5; core/node.py, rule 5")
def disabled_scheduling_is_respected(history: History, seen: Seen) -> Iterator[str]:
    """A node whose scheduling is disabled is given no task; one that waited there for preparation already may run."""
    event = seen.event
    if history.gives_task(event) and history.state("scheduling", node_of(event)) == "disabled":
        yield f"a task is placed on {node_of(event)}"


@invariant(e.TaskPreparing, e.ExecutionRequested, rule="semantics 1.4")
def start_task_comes_first(history: History, seen: Seen) -> Iterator[str]:
    """Where a pool waits for its start task, nothing else runs on a node before that succeeded in this boot."""
    event = seen.event
    if launches(event, "starttask") or (node := history.nodes.get(node_of(event))) is None:
        return
    start = pool.start_task if (pool := history.pools.get(node.pool)) is not None else None
    if start is not None and start.wait_for_success and not node.start_succeeded:
        yield f"the start task of {node_of(event)} has not succeeded"


@invariant(e.TaskPreparing, e.TaskRunning, rule="taskSlotsPerNode; core/placement.py")
def slots_are_never_exceeded(history: History, seen: Seen) -> Iterator[str]:
    """The tasks that are preparing or running on a node require at most its `taskSlotsPerNode` together."""
    event = seen.event
    node = history.nodes.get(node_of(event))
    pool = history.pools.get(node.pool) if node is not None else None
    if node is not None and pool is not None and isinstance(event, e.TaskPreparing | e.TaskRunning):
        task = history.task(event.job, event.task)
        required = task.spec.required_slots if task is not None else 1
        held = sum(node.holders.values()) + (required if (event.job, event.task) not in node.holders else 0)
        if held > pool.task_slots_per_node:
            yield f"tasks that require {held} slots are on the {pool.task_slots_per_node} slots of {event.node}"


@invariant(e.TaskPreparing, e.TaskRunning, rule="semantics 3.4")
def parallel_tasks_are_never_exceeded(history: History, seen: Seen) -> Iterator[str]:
    """No task is placed while `maxParallelTasks` of its job, as it is then, are preparing or running."""
    event = seen.event
    if not isinstance(event, e.TaskPreparing | e.TaskRunning) or (job := history.jobs.get(event.job)) is None:
        return
    most = job.spec.max_parallel_tasks
    if most != -1 and event.task not in job.placed and len(job.placed) >= most:
        yield f"{len(job.placed) + 1} tasks of job {event.job} are placed, and it may have {most}"


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
    if (node := history.nodes.get(node_of(seen.event))) is not None and incarnation <= node.incarnation:
        yield f"{node_of(seen.event)} was {node.incarnation} and becomes {incarnation}"


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
    e.TaskRunning,
    e.PreparationStarted,
    e.PreparationRetried,
    e.ReleaseStarted,
    e.FinalizerStarted,
    e.StartTaskStarted,
    e.StartTaskRetried,
    rule="core/execution.py",
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
        case e.FinalizerStarted():
            kind = "finalizer"
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
    """Nothing more happens to an execution with an outcome, a completed release or finalizer or a task that succeeded, and to a completed
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


OF_NODES: Final[tuple[Invariant, ...]] = (
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


def _illegal(history: History, event: e.Event) -> Iterator[tuple[Key, str]]:
    """The things that have no row for the event, with their states."""
    for machine, key in moves(event):
        state = history.states.get(key, ABSENT)
        if not machine.allows(state, type(event)):
            yield key, state


def _is_ended(history: History, key: Key, state: str) -> bool:
    if key[0] == "execution":
        return state == ABSENT and int(key[1]) <= history.last_execution
    return state == "completed" and key[0] in {"job", "task", "release", "finalizer"}


def _is_told_elsewhere(key: Key, state: str, event: e.Event) -> bool:
    """Whether a more special invariant speaks of an illegal move."""
    if key[0] == "execution":
        return isinstance(event, e.ExecutionRequested) or (isinstance(event, OUTCOMES) and state == ABSENT)
    if key[0] == "finalizer":
        return isinstance(event, e.FinalizerStarted) and state in {"completed", "abandoned"}
    if key[0] == "files":  # Of the execution itself its own invariants speak.
        return isinstance(event, (e.ExecutionRequested, *OUTCOMES)) or (isinstance(event, e.FilesExpired) and state == "held")
    return key[0] == "release" and isinstance(event, e.ReleaseStarted) and state == "completed"
