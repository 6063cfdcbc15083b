"""Drain: something that was asked for a node and waits there until what is on it has ended.

1. What is asked with `taskcompletion` happens at once where nothing of a job is on the node; otherwise the node drains: it takes
   no more tasks, its state stays what it is, and what was asked is kept as an intent beside it.
2. A drain waits for the tasks that hold slots (those that wait for preparation too), for every live execution of a job, and for the
   release that a job which is ending owes there, or the finalizer that it has yet to run there.  Nothing is cut short for it but a start task.
3. It ends when there is nothing left to wait for, by what was asked; when a node goes down by itself, for it has nothing to save any
   more; by something firmer that is asked of the node; or because the node's scheduling is enabled, which undoes it.
4. A node that drains to be removed counts as leaving, and whatever takes it down, it leaves.  If the drain is undone, the pool has one more.
"""

from collections.abc import Iterator
from typing import Final

from .events import Event, NodeDeallocating, NodeDraining, NodeDrainStopped, NodeLeaving, NodeOperation, NodeRebooting, NodeReimaging
from .ids import Micros
from .specs import NodeOption
from .world import Drain, Node, World, index_node, settle_node

DRAINABLE: Final = frozenset({"idle", "running", "offline"})
"""States in which a node may have something that a drain waits for."""

Operation = NodeRebooting | NodeReimaging | NodeDeallocating | NodeLeaving


# --- decide ---------------------------------------------------------------------------------------------------


def operate(world: World, node: Node, then: NodeOperation, option: NodeOption, cause: str) -> Iterator[Event]:
    """Do it now or, where the tasks are to be waited for, begin to drain the node; nothing where it drains for that already (rule 1)."""
    if option != "taskcompletion":
        yield operation(node, then, option, cause)
    elif node.state not in DRAINABLE:
        yield operation(node, then, "requeue", cause)  # What may still live there is being stopped already.
    elif not _is_occupied(world, node):
        yield operation(node, then, option, cause)
    elif node.draining is None or node.draining.then != then:
        yield NodeDraining(node=node.id, then=then, cause=cause)


def operation(node: Node, then: NodeOperation, option: NodeOption, cause: str) -> Operation:
    """The event that begins what was asked for the node."""
    incarnation = node.incarnation + 1
    match then:
        case "reboot":
            return NodeRebooting(node=node.id, incarnation=incarnation, cause=cause, option=option)
        case "reimage":
            return NodeReimaging(node=node.id, incarnation=incarnation, cause=cause, option=option)
        case "deallocate":
            return NodeDeallocating(node=node.id, incarnation=incarnation, cause=cause, option=option)
        case "remove":
            return NodeLeaving(node=node.id, incarnation=incarnation, cause=cause, option=option)


def finish(world: World, node: Node) -> Iterator[Event]:
    """What the node was drained for, once there is nothing left to wait for (rule 3)."""
    drain = node.draining
    if drain is not None and node.state in DRAINABLE and not _is_occupied(world, node):
        yield operation(node, drain.then, "taskcompletion", drain.cause)


def interrupted(node: Node) -> Iterator[Event]:
    """A node that drained to be removed and went down by itself leaves now (rule 4)."""
    if node.draining is not None and node.state not in DRAINABLE:
        yield operation(node, node.draining.then, "requeue", node.draining.cause)


def _is_occupied(world: World, node: Node) -> bool:
    """Whether something of a job is on the node that a drain waits for (rule 2)."""
    if node.tasks or any(world.executions[live].job is not None for live in node.live):
        return True
    return node.id in world.finalizing or any((job := world.jobs[job_id]).ending and node.id in job.owed for job_id in node.jobs)


# --- evolve ---------------------------------------------------------------------------------------------------


def on_draining(world: World, event: NodeDraining, at: Micros) -> None:
    node = world.nodes[event.node]
    node.draining = Drain(then=event.then, cause=event.cause, since=at)
    node.overdue = False
    _touched(world, node)


def on_stopped(world: World, event: NodeDrainStopped) -> None:
    node = world.nodes[event.node]
    if node.leaves:
        world.pools[node.pool].target += 1
    node.draining = None
    _touched(world, node)


def forget(node: Node) -> None:
    """The node's state has changed: a drain is over with the operation, and with the node's going down by itself (rules 3 and 4)."""
    if node.state not in DRAINABLE and (node.state == "leavingpool" or not node.leaves):
        node.draining = None


def _touched(world: World, node: Node) -> None:
    settle_node(world, node)
    index_node(world, node)
    world.agenda.node_load(node.id)
    world.agenda.pool(node.pool)
