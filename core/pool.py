"""Pool: the nodes that jobs run on, and how many there should be.

1. A resize lasts until no node is being created or leaving; then the pool is `steady` and says what it could not reach.
2. Surplus nodes leave youngest first.
3. Only a steady, active pool may be resized or lose a single node (semantics 1.6).
4. A deleted pool requeues its tasks, shrinks to nothing and is gone; jobs that name it wait for another of that name.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from . import limits
from . import node as nodes
from .checks import check_pool
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
from .ids import Micros, NodeId, PoolId
from .machine import ABSENT, Machine, rows
from .requests import CreatePool, DeletePool, RemoveNode, ResizePool, StopResize
from .world import Pool, World, index_job

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
    if request.target != pool.target:
        yield PoolResizing(pool=pool.id, target=request.target)


def stop_resize(world: World, request: StopResize) -> Iterator[Event]:
    """Nodes that are on their way come or go all the same; nothing is rolled back.  Refused: PoolNotFound, PoolBeingDeleted, OperationNotValidOnPool."""
    pool = _active(world, request.pool, "stop its resize")
    if pool.allocation != "resizing":
        raise RequestRefused("OperationNotValidOnPool", f"pool {pool.id} is {pool.allocation}; there is no resize to stop")
    yield PoolResizeStopping(pool=pool.id)


def delete(world: World, request: DeletePool) -> Iterator[Event]:
    """Refused: PoolNotFound, PoolBeingDeleted."""
    pool = _active(world, request.pool, "delete it")
    yield PoolDeleting(pool=pool.id)


def remove_node(world: World, request: RemoveNode) -> Iterator[Event]:
    """Refused: NodeNotFound, PoolBeingDeleted, PoolBeingResized."""
    node = nodes.find(world, request.node)
    pool = _steady(world, node.pool, f"remove node {node.id}")
    yield PoolResizing(pool=pool.id, target=pool.target - 1)
    yield nodes.leave(node)


def node_id(pool: PoolId, number: int) -> NodeId:
    """The id of a pool's n-th node, counted from 0 over the pool's whole life."""
    return NodeId(f"{pool}-{number + 1}")


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
                    yield nodes.leave(node)
        if not pool.nodes:
            yield PoolDeleted(pool=pool.id)
        return
    if pool.allocation == "resizing":
        yield from _approach(world, pool)
    if pool.allocation != "steady" and not pool.unsettled:
        yield PoolSteady(pool=pool.id, errors=_shortfalls(world, pool))


def _approach(world: World, pool: Pool) -> Iterator[Event]:
    present = len(pool.nodes) - pool.leaving
    for _ in range(pool.target - present):
        yield NodeAdded(pool=pool.id, node=node_id(pool.id, pool.added))
    if (surplus := present - pool.target) > 0:
        staying = [world.nodes[node_id] for node_id in pool.nodes if world.nodes[node_id].state != "leavingpool"]
        for node in sorted(staying, key=lambda node: -node.number)[:surplus]:
            yield nodes.leave(node)


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


def on_allocation(world: World, event: PoolResizing | PoolResizeStopping | PoolSteady, _at: Micros) -> None:
    pool = world.pools[event.pool]
    pool.allocation = ALLOCATION.move(pool.allocation, event, event.pool)
    if isinstance(event, PoolResizing):
        pool.target = event.target
        pool.errors = ()
    elif isinstance(event, PoolSteady):
        pool.errors = event.errors
    world.agenda.pool(event.pool)


def on_deleting(world: World, event: PoolDeleting, at: Micros) -> None:
    pool = world.pools[event.pool]
    pool.state = POOL.move(pool.state, event, event.pool)
    pool.changed_at = at
    world.agenda.pool(event.pool)


def on_deleted(world: World, event: PoolDeleted, _at: Micros) -> None:
    pool = world.pools.pop(event.pool)
    POOL.move(pool.state, event, event.pool)
    for _, _, job in pool.ready:
        world.agenda.job(job)
