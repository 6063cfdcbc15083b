"""Pool: the nodes that jobs run on, and how many there should be.

1. A resize lasts until no node is being created or leaving, until it is stopped, or until its time is over; then the pool is `steady` and
   says what it could not reach.  Nothing is rolled back: nodes that are on their way come or go all the same, and no later resize waits for them.
2. Surplus nodes leave youngest first; with `taskcompletion` each leaves when it has drained, and counts as leaving meanwhile.
3. Only a steady, active pool may be resized or lose a single node (semantics 1.6).  What was polite may be asked for more firmly: of a
   node that drains at any time, of all that still drain by a resize to as many nodes or fewer.
4. A deleted pool requeues its tasks, shrinks to nothing and is gone; jobs that name it wait for another of that name.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from . import drain as drains
from . import limits
from . import node as nodes
from .checks import check_pool, check_resize_timeout
from .errors import RequestRefused
from .events import (
    Event,
    NodeAdded,
    PoolCreated,
    PoolDeleted,
    PoolDeleting,
    PoolResizeStopping,
    PoolResizing,
    PoolSteady,
)
from .ids import ENGINE_HOST, ENGINE_POOL, Micros, NodeId, PoolId
from .machine import ABSENT, Machine, rows
from .requests import CreatePool, DeletePool, RemoveNode, ResizePool, StopResize
from .world import Node, Pool, World, index_job, ready_jobs

POOL: Final = Machine(
    "pool",
    "a pool",
    rows(
        (ABSENT, PoolCreated, "active"),
        ("active", PoolDeleting, "deleting"),
        ("deleting", PoolDeleted, "deleted"),
    ),
)

ALLOCATION: Final = Machine(
    "allocation",
    "whether a pool has the nodes it should have",
    rows(
        (ABSENT, PoolCreated, "steady"),
        ("steady", PoolResizing, "resizing"),
        ("resizing", PoolResizeStopping, "stopping"),
        ("resizing stopping", PoolSteady, "steady"),
    ),
)

_RESIZED: Final = "the pool is resized"


# --- decide ---------------------------------------------------------------------------------------------------


def create(world: World, request: CreatePool) -> Iterator[Event]:
    """Create a pool and ask for its nodes; a repetition of the same specification decides to nothing.

    Refused: InvalidPropertyValue, PoolBeingDeleted, PoolExists.
    """
    spec = request.spec
    if mistakes := "; ".join(map(str, check_pool(spec))):
        raise RequestRefused("InvalidPropertyValue", mistakes)
    if (pool := world.pools.get(spec.id)) is not None:
        if pool.state == "deleting":
            raise RequestRefused("PoolBeingDeleted", f"pool {spec.id} is deleting; wait until it is gone")
        if pool.spec != spec:
            raise RequestRefused("PoolExists", f"pool {spec.id} exists with another specification")
        return
    yield PoolCreated(pool=spec.id, spec=spec)
    if spec.nodes:
        yield PoolResizing(pool=spec.id, target=spec.nodes)


def resize(world: World, request: ResizePool) -> Iterator[Event]:
    """Refused: PoolNotFound, PoolBeingDeleted, PoolBeingResized, InvalidPropertyValue."""
    pool = _steady(world, request.pool, "resize it")
    if not 0 <= request.target <= limits.NODES_PER_POOL_MAX:
        raise RequestRefused("InvalidPropertyValue", f"target: {request.target} is not between 0 and {limits.NODES_PER_POOL_MAX}")
    longest = node_id(pool.id, pool.added + request.target - pool.target - 1)
    if len(longest) > limits.NODE_ID_LENGTH_MAX:
        raise RequestRefused(
            "InvalidPropertyValue", f"target: node ids such as {longest} would be longer than {limits.NODE_ID_LENGTH_MAX} characters"
        )
    nodes.refuse_option(request.option)
    if request.resize_timeout is not None and (mistake := "; ".join(map(str, check_resize_timeout(request.resize_timeout)))):
        raise RequestRefused("InvalidPropertyValue", mistake)
    hurried = list(pool.draining) if request.option != "taskcompletion" and request.target <= pool.target else []
    if request.target != pool.target or hurried:
        yield PoolResizing(pool=pool.id, target=request.target, option=request.option, timeout=request.resize_timeout)
    for node in hurried:
        yield drains.operation(world.nodes[node], "remove", request.option, _RESIZED)


def stop_resize(world: World, request: StopResize) -> Iterator[Event]:
    """The pool is steady at once (rule 1).  Refused: PoolNotFound, PoolBeingDeleted, OperationNotValidOnPool."""
    pool = _active(world, request.pool, "stop its resize")
    if pool.allocation != "resizing":
        raise RequestRefused("OperationNotValidOnPool", f"pool {pool.id} is {pool.allocation}; there is no resize to stop")
    yield PoolResizeStopping(pool=pool.id)


def delete(world: World, request: DeletePool) -> Iterator[Event]:
    """Refused: PoolNotFound, PoolBeingDeleted."""
    pool = _active(world, request.pool, "delete it")
    yield PoolDeleting(pool=pool.id)


def remove_node(world: World, request: RemoveNode) -> Iterator[Event]:
    """Remove one node, or one that drains for it at once.

    Refused: NodeNotFound, InvalidPropertyValue, PoolBeingDeleted, PoolBeingResized, OperationNotValidOnNode.
    """
    node = nodes.find(world, request.node)
    nodes.refuse_option(request.option)
    if node.leaves and node.state != "leavingpool":
        _active(world, node.pool, f"remove node {node.id}")
    else:
        pool = _steady(world, node.pool, f"remove node {node.id}")
        if node.leaves:
            raise RequestRefused("OperationNotValidOnNode", f"node {node.id} is leavingpool; cannot remove it again")
        yield PoolResizing(pool=pool.id, target=pool.target - 1, option=request.option)
    yield from drains.operate(world, node, "remove", request.option, nodes.on_request_of(request.reason))


def node_id(pool: PoolId, number: int) -> NodeId:
    """The id of a pool's n-th node, counted from 0 over the pool's whole life."""
    return NodeId(f"{pool}-{number + 1}")


def pool_of(node: NodeId) -> PoolId:
    """The pool that a node belongs to or belonged to, by its id: it may be gone, and its job may have moved to another one since."""
    return ENGINE_POOL if node == ENGINE_HOST else PoolId(node.rpartition("-")[0])


def _active(world: World, pool_id: PoolId, wish: str) -> Pool:
    pool = world.pools.get(pool_id)
    if pool is None:
        raise RequestRefused("PoolNotFound", f"there is no pool {pool_id}; cannot {wish}")
    if pool.state == "deleting":
        raise RequestRefused("PoolBeingDeleted", f"pool {pool_id} is deleting; cannot {wish}")
    return pool


def _steady(world: World, pool_id: PoolId, wish: str) -> Pool:
    pool = _active(world, pool_id, wish)
    if pool.allocation != "steady":
        raise RequestRefused("PoolBeingResized", f"pool {pool_id} is {pool.allocation}; cannot {wish} before it is steady")
    return pool


# --- the joint rule -------------------------------------------------------------------------------------------


def rule(world: World, pool: Pool) -> Iterator[Event]:
    """Bring the pool towards the nodes it should have, and say when it has them (rules 1, 2 and 4)."""
    if pool.state == "deleting":
        if pool.leaving < len(pool.nodes):
            for node in [world.nodes[node_id] for node_id in pool.nodes]:
                if node.state != "leavingpool":
                    yield drains.operation(node, "remove", "requeue", "the pool is deleted")
        if not pool.nodes:
            yield PoolDeleted(pool=pool.id)
        return
    if pool.allocation == "resizing":
        yield from _approach(world, pool)
    if pool.allocation == "stopping" or (pool.allocation == "resizing" and not pool.unsettled):
        yield end_resize(world, pool)


def end_resize(world: World, pool: Pool) -> PoolSteady:
    """The end of a resize, whatever it has reached: with what it could not reach, and why (rule 1)."""
    coming = [node for node_id in pool.unsettled if not (node := world.nodes[node_id]).leaves]
    going = [node for node_id in pool.unsettled if (node := world.nodes[node_id]).leaves]
    errors = [*_shortfalls(world, pool)]
    why = "the resize was stopped" if pool.allocation == "stopping" else "the resize ran out of time"
    if coming:
        code = "ResizeStopped" if pool.allocation == "stopping" else "AllocationTimedout"
        errors.append(f"{code}: {why} before these nodes had come, which may still come: {_named(coming)}")
    if going:
        code = "ResizeStopped" if pool.allocation == "stopping" else "RemoveNodesFailed"
        errors.append(f"{code}: {why} before these nodes had gone, which go on leaving: {_named(going)}")
    return PoolSteady(pool=pool.id, errors=tuple(errors))


def _named(some: Sequence[Node]) -> str:
    named = [f"{node.id} ({'draining' if node.draining is not None else node.state})" for node in some[: limits.NODES_NAMED_MAX]]
    more = len(some) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _approach(world: World, pool: Pool) -> Iterator[Event]:
    present = len(pool.nodes) - pool.leaving - len(pool.draining)
    for _ in range(pool.target - present):
        yield NodeAdded(pool=pool.id, node=node_id(pool.id, pool.added))
    if (surplus := present - pool.target) > 0:
        staying = [node for node_id in pool.nodes if not (node := world.nodes[node_id]).leaves]
        for node in sorted(staying, key=lambda node: -node.number)[:surplus]:
            yield from drains.operate(world, node, "remove", pool.option, _RESIZED)


def _shortfalls(world: World, pool: Pool) -> tuple[str, ...]:
    return tuple(
        f"AllocationFailed: node {node_id} is {node.state}: {node.reason}"
        for node_id in pool.nodes
        if (node := world.nodes[node_id]).state in {"unusable", "unknown", "preempted"} and node.booted_at is None
    )


# --- evolve ---------------------------------------------------------------------------------------------------


def on_created(world: World, event: PoolCreated, at: Micros) -> None:
    known = world.pools.get(event.pool)
    pool = Pool(
        id=event.pool,
        spec=event.spec,
        state=POOL.move(ABSENT if known is None else known.state, event, event.pool),
        allocation=ALLOCATION.move(ABSENT, event, event.pool),
        changed_at=at,
        created_at=at,
        free=[OrderedDict() for _ in range(event.spec.task_slots_per_node + 1)],
    )
    world.pools[event.pool] = pool
    for job in world.jobs_of_pool.get(event.pool, ()):
        index_job(world, world.jobs[job])
    world.agenda.pool(event.pool)


def on_allocation(world: World, event: PoolResizing | PoolResizeStopping | PoolSteady, at: Micros) -> None:
    pool = world.pools[event.pool]
    pool.allocation = ALLOCATION.move(pool.allocation, event, event.pool)
    if isinstance(event, PoolResizing):
        pool.target, pool.option, pool.errors = event.target, event.option, ()
        pool.resize_due = Micros(at + (pool.spec.resize_timeout if event.timeout is None else event.timeout))
        world.add_deadline(pool.resize_due, "resize", pool.id)
    elif isinstance(event, PoolSteady):
        pool.errors, pool.resize_due = event.errors, None
        for late in pool.unsettled:
            world.nodes[late].overdue = True
        pool.unsettled.clear()
    world.agenda.pool(event.pool)


def on_deleting(world: World, event: PoolDeleting, at: Micros) -> None:
    pool = world.pools[event.pool]
    pool.state = POOL.move(pool.state, event, event.pool)
    pool.changed_at = at
    world.agenda.pool(event.pool)


def on_deleted(world: World, event: PoolDeleted, _at: Micros) -> None:
    pool = world.pools.pop(event.pool)
    POOL.move(pool.state, event, event.pool)
    for _, _, job in ready_jobs(pool):
        world.agenda.job(job)
