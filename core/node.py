"""Node: a machine, or a part of one, that runs what the pool's jobs place on it.

1. `idle` has no task, `running` has at least one (a task that waits for preparation counts; a release does not).
2. An incarnation is one boot that was asked for or noticed; its number is never used again for a node of that name.  A node that goes down first loses what runs on it, through stops
   that are seen to have worked; only then is it booted or retired.
3. A node that is `unknown` or `preempted` cannot be asked: what ran there has an unresolved outcome at once.  When it comes back
   it is rebooted first, so that nothing of the old life goes on beside the new.
4. A node that is wiped or leaves takes preparations with it, and settles the releases it owes (semantics 2.5).
5. With scheduling disabled a node takes no tasks, and is `offline` once it runs none; releases still run there.
6. What becomes of the tasks on a node that goes down, or whose scheduling is disabled, is the option of the request: they are requeued,
   ended as failed, or waited for (`drain`).  What the platform does by itself only ever requeues them.
"""

from collections.abc import Collection, Iterator
from typing import Final, get_args

from . import drain as drains
from . import files, outcomes
from . import preparation as preparations
from . import release as releases
from . import start_task as start_tasks
from . import task as tasks
from .errors import RequestRefused
from .events import (
    Event,
    NodeAdded,
    NodeAwaitingStartTask,
    NodeBooted,
    NodeDeallocated,
    NodeDeallocating,
    NodeDraining,
    NodeDrainStopped,
    NodeIdle,
    NodeLeaving,
    NodeOffline,
    NodeOperation,
    NodePreempted,
    NodeReallocated,
    NodeRebooting,
    NodeReimaging,
    NodeRemoved,
    NodeRunning,
    NodeSchedulingDisabled,
    NodeSchedulingEnabled,
    NodeStarting,
    NodeStartTaskFailed,
    NodeUnknown,
    NodeUnusable,
)
from .execution import stop
from .failure import ended_failure
from .ids import Micros, NodeId
from .machine import ABSENT, Machine, rows
from .reports import NodeFaulted, NodeReady, NodeRetired
from .reports import NodeReallocated as NodeReallocatedReport
from .requests import DeallocateNode, DisableScheduling, EnableScheduling, RebootNode, ReimageNode, StartNode
from .specs import NodeOption
from .world import UP, Job, Node, Pool, World, drop_node_index, index_node, owe_node, ready_jobs, settle_node

_UP: Final = "waitingforstarttask idle running offline starttaskfailed"
_HERE: Final = f"creating starting rebooting reimaging unusable {_UP}"

NODE: Final = Machine(
    "node",
    "a compute node",
    rows(
        (ABSENT, NodeAdded, "creating"),
        ("creating rebooting reimaging deallocated", NodeStarting, "starting"),
        ("starting", NodeBooted, "="),
        ("starting", NodeAwaitingStartTask, "waitingforstarttask"),
        ("waitingforstarttask", NodeStartTaskFailed, "starttaskfailed"),
        ("starting waitingforstarttask running offline", NodeIdle, "idle"),
        ("idle", NodeRunning, "running"),
        ("idle", NodeOffline, "offline"),
        ("idle running offline", NodeDraining, "=", "an intent beside the state"),
        ("idle running offline", NodeDrainStopped, "="),
        (f"{_UP} unusable unknown", NodeRebooting, "rebooting", "on request, or because it came back with another boot"),
        (f"{_UP} rebooting unusable unknown", NodeReimaging, "reimaging", "on request, or because its files are found to be gone"),
        (f"creating starting rebooting reimaging {_UP}", NodeUnusable, "unusable"),
        (_HERE, NodeUnknown, "unknown"),
        (f"{_HERE} unknown", NodePreempted, "preempted"),
        ("preempted", NodeReallocated, "creating"),
        ("idle running", NodeDeallocating, "deallocating"),
        ("offline", NodeDeallocating, "deallocating", "scheduling was disabled while it drained"),
        ("deallocating", NodeDeallocated, "deallocated"),
        (f"{_HERE} unknown preempted deallocating deallocated", NodeLeaving, "leavingpool"),
        ("leavingpool", NodeRemoved, "removed"),
    ),
)

SCHEDULING: Final = Machine(
    "scheduling",
    "whether a node takes tasks",
    rows(
        (ABSENT, NodeAdded, "enabled"),
        ("enabled", NodeSchedulingDisabled, "disabled"),
        ("disabled", NodeSchedulingEnabled, "enabled"),
    ),
)

_GOING_DOWN: Final = {
    "rebooting": "the node is rebooting",
    "reimaging": "the node is being reimaged",
    "unusable": "the node is unusable",
    "deallocating": "the node is being deallocated",
    "leavingpool": "the node is leaving its pool",
}

_BUSY_CODES: Final = {
    "creating": "NodeBeingCreated",
    "starting": "NodeBeingStarted",
    "waitingforstarttask": "NodeBeingStarted",
    "rebooting": "NodeBeingRebooted",
    "reimaging": "NodeBeingReimaged",
    "unusable": "NodeStateUnusable",
}

_GRANTED: Final[dict[NodeOperation, frozenset[str]]] = {
    "reboot": frozenset({"idle", "running", "starttaskfailed", "unusable"}),
    "reimage": frozenset({"idle", "running"}),
    "deallocate": frozenset({"idle", "running"}),
}

_OPTIONS: Final = frozenset(get_args(NodeOption))

Request = RebootNode | ReimageNode | DeallocateNode | StartNode | DisableScheduling | EnableScheduling


# --- decide: requests -----------------------------------------------------------------------------------------


def on_request(world: World, request: Request) -> Iterator[Event]:
    """Grant a wish about one node.  Refused: NodeNotFound, InvalidPropertyValue for an option, and 409 codes by state (semantics 1.5)."""
    node = find(world, request.node)
    match request:
        case RebootNode():
            yield from _operate(world, node, "reboot", request)
        case ReimageNode():
            yield from _operate(world, node, "reimage", request)
        case DeallocateNode():
            yield from _operate(world, node, "deallocate", request)
        case StartNode():
            _refuse_unless(node, {"deallocated"}, "start")
            yield NodeStarting(node=node.id)
        case DisableScheduling():
            refuse_option(request.option)
            _refuse_scheduling(node, "enabled", "disable")
            yield from _disable_scheduling(world, node, request)
        case EnableScheduling():
            if node.draining is None:
                _refuse_scheduling(node, "disabled", "enable")
            else:
                yield NodeDrainStopped(node=node.id)
            if node.scheduling == "disabled":
                yield NodeSchedulingEnabled(node=node.id)


def _operate(world: World, node: Node, then: NodeOperation, request: RebootNode | ReimageNode | DeallocateNode) -> Iterator[Event]:
    refuse_option(request.option)
    _refuse_unless(node, _GRANTED[then], then)
    if node.leaves:
        raise RequestRefused(
            "OperationNotValidOnNode",
            f"node {node.id} leaves its pool when its tasks have ended; cannot {then} it, unless its scheduling is enabled first, which lets it stay",
        )
    yield from drains.operate(world, node, then, request.option, on_request_of(request.reason))


def _disable_scheduling(world: World, node: Node, request: DisableScheduling) -> Iterator[Event]:
    yield NodeSchedulingDisabled(node=node.id, option=request.option, reason=request.reason)
    why = tasks.because("scheduling was disabled on the node", request.reason)
    for job_id, task_id in list(node.tasks) if request.option != "taskcompletion" else ():
        job, task = world.jobs[job_id], world.task(job_id, task_id)
        yield from tasks.end(world, job, task, ended_failure(why)) if request.option == "terminate" else tasks.requeue(world, job, task, why)


def on_request_of(reason: str) -> str:
    """The cause to record of what a user asked for, with the user's own reason."""
    return tasks.because("on request", reason)


def refuse_option(option: str) -> None:
    """Refuse what is no option, and by name the one that is not supported.  Refused: InvalidPropertyValue."""
    if option == "retaineddata":
        raise RequestRefused(
            "InvalidPropertyValue", "option: retaineddata, which Azure Batch has deprecated, is not supported; taskcompletion waits for the tasks"
        )
    if option not in _OPTIONS:
        raise RequestRefused("InvalidPropertyValue", f"option: {option!r} is not one of {', '.join(get_args(NodeOption))}")


def find(world: World, node_id: NodeId) -> Node:
    """A node by id.  Refused: NodeNotFound."""
    node = world.nodes.get(node_id)
    if node is None:
        raise RequestRefused("NodeNotFound", f"there is no node {node_id}")
    return node


def _refuse_unless(node: Node, states: Collection[str], wish: str) -> None:
    if node.state not in states:
        code = _BUSY_CODES.get(node.state, "OperationNotValidOnNode")
        raise RequestRefused(code, f"node {node.id} is {node.state}; {wish} needs {' or '.join(sorted(states))}")


def _refuse_scheduling(node: Node, needed: str, wish: str) -> None:
    if node.state == "leavingpool":
        raise RequestRefused("OperationNotValidOnNode", f"node {node.id} is leavingpool; cannot {wish} its scheduling")
    if node.scheduling != needed:
        raise RequestRefused("NodeAlreadyInTargetSchedulingState", f"scheduling on node {node.id} is {node.scheduling} already")


# --- decide: reports ------------------------------------------------------------------------------------------


def on_ready(world: World, report: NodeReady) -> Iterator[Event]:
    """The node answered: as the boot that was asked for, from the boot it had, or from another one (rules 2 and 3)."""
    node = world.nodes.get(report.node)
    if node is None or (report.incarnation is not None and report.incarnation != node.incarnation):
        return
    match node.state:
        case "creating" | "rebooting" | "reimaging" | "starting" if not node.answered and not node.live:
            if report.incarnation is None:
                return  # It is up, but not yet as the boot that was asked for.
            emptied = node.wipe
            if node.state != "starting":
                yield NodeStarting(node=node.id)
            yield NodeBooted(node=node.id, boot_id=report.boot_id)
            yield from _begin_anew(world, node, emptied=emptied)
        case "waitingforstarttask" | "idle" | "running" | "offline" | "starttaskfailed" if report.boot_id != node.boot_id:
            yield NodeRebooting(node=node.id, incarnation=node.incarnation + 1, cause="it answered from another boot")
        case "unusable" | "unknown":
            yield NodeRebooting(node=node.id, incarnation=node.incarnation + 1, cause="it came back")
        case _:
            pass


def on_retired(world: World, report: NodeRetired) -> Iterator[Event]:
    """The node is off, as was asked."""
    node = world.nodes.get(report.node)
    if node is not None and report.incarnation == node.incarnation and not node.live:
        yield from _retire(node)


def on_faulted(world: World, report: NodeFaulted) -> Iterator[Event]:
    """The node failed, was lost or was taken away (rule 3), or is empty, which is as good as reimaged (rule 4)."""
    node = world.nodes.get(report.node)
    if node is None:
        return
    if report.fault == "wiped":
        if NODE.allows(node.state, NodeReimaging):
            yield NodeReimaging(node=node.id, incarnation=node.incarnation + 1, cause=report.reason)
        return
    if report.fault == "unusable":
        if NODE.allows(node.state, NodeUnusable):
            yield NodeUnusable(node=node.id, reason=report.reason)
        return
    if report.fault == "lost" and NODE.allows(node.state, NodeUnknown):
        yield NodeUnknown(node=node.id, reason=report.reason)
    elif report.fault == "preempted" and NODE.allows(node.state, NodePreempted):
        yield NodePreempted(node=node.id, incarnation=node.incarnation + 1, reason=report.reason)
    elif node.state not in {"leavingpool", "deallocating"}:
        return
    yield from _give_up(world, node, report.reason)
    yield from _retire(node)


def on_reallocated(world: World, report: NodeReallocatedReport) -> Iterator[Event]:
    """A preempted node's capacity came back."""
    node = world.nodes.get(report.node)
    if node is not None and node.state == "preempted":
        yield NodeReallocated(node=node.id)


def _retire(node: Node) -> Iterator[Event]:
    if node.state == "leavingpool":
        yield NodeRemoved(pool=node.pool, node=node.id)
    elif node.state == "deallocating":
        yield NodeDeallocated(node=node.id)


def _give_up(world: World, node: Node, reason: str) -> Iterator[Event]:
    """Settle everything that ran on a node that can no longer be asked."""
    for live in list(node.live):
        yield from outcomes.unresolved(world, world.executions[live], reason)
    yield from _return_waiting(world, node, reason)
    yield from _settle_debts(world, node)


# --- the joint rules ------------------------------------------------------------------------------------------


def rule(world: World, node: Node) -> Iterator[Event]:
    """What follows from a node's state together with what is on it (rules 2, 4 and 6)."""
    yield from drains.interrupted(node)
    if node.state == "starting" and node.answered:
        yield from _joined(world, node)
    elif (cause := _GOING_DOWN.get(node.state)) is not None:
        yield from _clear(world, node, cause)
        yield from _settle_debts(world, node)
    elif node.state in {"waitingforstarttask", "idle", "running", "offline"} and node.start_task is not None and node.start_task.state == "due":
        yield from start_tasks.start(world, node)


def load_rule(world: World, node: Node) -> Iterator[Event]:
    """What a drained node was drained for; else idle, running or offline, by the tasks that are on the node (rules 1 and 5).

    Both come last, so that the end of a job's last task has led to the job's release before a drain looks whether it has to wait for that.
    """
    yield from drains.finish(world, node)
    if node.state == "idle" and node.tasks:
        yield NodeRunning(node=node.id)
    elif node.state == "running" and not node.tasks:
        yield NodeIdle(node=node.id)
    elif node.state == "idle" and node.scheduling == "disabled":
        yield NodeOffline(node=node.id)
    elif node.state == "offline" and node.scheduling == "enabled":
        yield NodeIdle(node=node.id)


def _joined(world: World, node: Node) -> Iterator[Event]:
    spec = world.pools[node.pool].spec.start_task
    if spec is not None:
        yield from start_tasks.start(world, node)
    yield NodeAwaitingStartTask(node=node.id) if spec is not None and spec.wait_for_success else NodeIdle(node=node.id)


def _clear(world: World, node: Node, cause: str) -> Iterator[Event]:
    """End what is on a node that goes down: its tasks as failed where that was asked for, and all else to be run again (rule 6)."""
    why = ended_failure(tasks.because(cause, node.reason or ""))
    for live in list(node.live):
        execution = world.executions[live]
        if node.ends_tasks and execution.kind == "task":
            yield from stop(execution, "complete", cause, why)
        else:
            yield from stop(execution, "requeue", cause)
    for job_id, task_id in list(node.tasks) if node.ends_tasks else ():
        if (task := world.task(job_id, task_id)).state == "preparing":
            yield from tasks.end(world, world.jobs[job_id], task, why)
    yield from _return_waiting(world, node, cause)


def _return_waiting(world: World, node: Node, cause: str) -> Iterator[Event]:
    for job in _jobs_on(world, node):
        if not job.ending:
            yield from preparations.return_tasks(job, node.id, cause)


def _settle_debts(world: World, node: Node) -> Iterator[Event]:
    """What was prepared on a node that is wiped is gone, and so is what was to be released (rule 4)."""
    cause = releases.WIPED.get(node.state)
    if cause is None:
        return
    for job in _jobs_on(world, node):
        yield from preparations.spoil(job, node.id, cause, wiped=True)
        yield from releases.abandon(job, node.id, cause)


def _begin_anew(world: World, node: Node, *, emptied: bool) -> Iterator[Event]:
    """What a boot undoes; a node that failed while it was to be emptied has had more happen to it since (rule 4)."""
    cause = "the node was emptied" if emptied else "the node was rebooted"
    for job in _jobs_on(world, node):
        yield from preparations.spoil(job, node.id, cause, wiped=emptied)
        if emptied:
            yield from releases.abandon(job, node.id, cause)


def _jobs_on(world: World, node: Node) -> list[Job]:
    return [world.jobs[job_id] for job_id in node.jobs]


# --- evolve ---------------------------------------------------------------------------------------------------


def on_added(world: World, event: NodeAdded, at: Micros) -> None:
    pool = world.pools[event.pool]
    known = world.nodes.get(event.node)
    state = NODE.move(ABSENT if known is None else known.state, event, event.node)
    node = Node(
        id=event.node,
        pool=event.pool,
        number=pool.added,
        incarnation=world.past_incarnations.pop(event.node, 0) + 1,
        state=state,
        scheduling=SCHEDULING.move(ABSENT, event, event.node),
        changed_at=at,
        added_at=at,
    )
    pool.added += 1
    pool.nodes[event.node] = None
    world.nodes[event.node] = node
    settle_node(world, node)
    _reconsider_jobs(world, pool)
    _touched(world, node)


def on_changed(
    world: World,
    event: NodeStarting
    | NodeBooted
    | NodeAwaitingStartTask
    | NodeStartTaskFailed
    | NodeIdle
    | NodeRunning
    | NodeOffline
    | NodeRebooting
    | NodeReimaging
    | NodeUnusable
    | NodeUnknown
    | NodePreempted
    | NodeReallocated
    | NodeDeallocating
    | NodeDeallocated
    | NodeLeaving,
    at: Micros,
) -> None:
    """Every move of a node; what else the event says is kept beside the state."""
    node = world.nodes[event.node]
    was = node.state
    node.state = NODE.move(was, event, event.node)
    node.changed_at = at
    match event:
        case NodeBooted(boot_id=boot_id):
            if node.wipe:
                files.forget(world, node)
            node.boot_id, node.booted_at, node.answered, node.wipe, node.reason = boot_id, at, True, False, None
        case NodeRebooting(incarnation=incarnation, cause=cause):
            node.incarnation, node.answered, node.reason = incarnation, False, cause
        case NodeDeallocating(incarnation=incarnation, cause=cause) | NodeLeaving(incarnation=incarnation, cause=cause):
            node.incarnation, node.answered, node.wipe, node.reason = incarnation, False, True, cause or None
        case NodeReimaging(incarnation=incarnation, cause=reason) | NodePreempted(incarnation=incarnation, reason=reason):
            node.incarnation, node.answered, node.wipe, node.reason = incarnation, False, True, reason
        case NodeUnusable(reason=reason) | NodeUnknown(reason=reason):
            node.reason = reason
        case NodeDeallocated():
            files.forget(world, node)
        case _:
            pass
    if node.state in _GOING_DOWN:
        node.ends_tasks = getattr(event, "option", None) == "terminate"
    drains.forget(node)
    if (was in UP) != (node.state in UP):
        files.reconsider(world, node)
    _count(world, node, was)
    _touched(world, node)
    if {was, node.state} != {"idle", "running"}:  # A release waits for a node to come up or be given up, not for its load.
        for job_id in node.jobs:
            job = world.jobs[job_id]
            releases.index_debt(job, node)
            if job.ending:
                world.agenda.job(job_id)
        for job_id in world.finalizing.get(node.id, ()):
            world.agenda.job(job_id)


def on_drain(world: World, event: NodeDraining | NodeDrainStopped, at: Micros) -> None:
    """An intent beside the state, which stays what it is."""
    NODE.move(world.nodes[event.node].state, event, event.node)
    match event:
        case NodeDraining():
            drains.on_draining(world, event, at)
        case NodeDrainStopped():
            drains.on_stopped(world, event)


def on_scheduling(world: World, event: NodeSchedulingDisabled | NodeSchedulingEnabled, _at: Micros) -> None:
    node = world.nodes[event.node]
    node.scheduling = SCHEDULING.move(node.scheduling, event, event.node)
    node.disabled_because = event.reason or None if isinstance(event, NodeSchedulingDisabled) else None
    _touched(world, node)


def on_removed(world: World, event: NodeRemoved, _at: Micros) -> None:
    node, pool = world.nodes[event.node], world.pools[event.pool]
    NODE.move(node.state, event, event.node)
    pool.leaving -= 1
    files.forget(world, node)
    drop_node_index(pool, event.node)
    world.past_incarnations[event.node] = node.incarnation
    del pool.nodes[event.node]
    pool.unsettled.pop(event.node, None)
    if node.owes is not None:
        world.owed.drop(node.owes)
    del world.nodes[event.node]
    world.agenda.pool(event.pool)
    _reconsider_jobs(world, pool)


def _reconsider_jobs(world: World, pool: Pool) -> None:
    """The number of nodes has changed: jobs that wait may be blocked now, or no longer."""
    for _, _, job_id in ready_jobs(pool):
        if (job := world.jobs[job_id]).ineligible or job.blocked:
            world.agenda.job(job_id)


def _count(world: World, node: Node, was: str) -> None:
    """Keep what the pool must know to tell when a resize is over."""
    if node.state != was:
        node.overdue = False
    if node.state == "leavingpool" != was:
        world.pools[node.pool].leaving += 1
    settle_node(world, node)


def _touched(world: World, node: Node) -> None:
    index_node(world, node)
    owe_node(world, node)
    world.agenda.node(node.id)
    world.agenda.node_load(node.id)
    pool = world.pools[node.pool]
    if pool.allocation != "steady" or pool.state != "active":
        world.agenda.pool(node.pool)
