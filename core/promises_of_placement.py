"""What holds of the placement of tasks: invariants, see `invariants`."""

from collections.abc import Iterator
from typing import Final

from . import events as e
from .history import History, Seen
from .ids import NodeId
from .judging import Invariant, invariant
from .world import World, rank


@invariant(e.TaskPreparing, e.TaskRunning, rule="semantics 1.1: poolInfo; core/job.py, rule 6")
def tasks_run_in_their_jobs_pool(history: History, seen: Seen) -> Iterator[str]:
    """A task is placed only on a node of the pool that its job names at that time."""
    event = seen.event
    if (placed := _placed(history, event)) is None or (node := history.nodes.get(placed.node)) is None:
        return
    wanted = history.jobs[placed.job].spec.pool_info.pool_id
    if node.pool != wanted:
        yield f"task {placed.task} of job {placed.job} is placed on {placed.node} of pool {node.pool}, and the job runs on pool {wanted}"


@invariant(e.TaskPreparing, e.TaskRunning, rule="semantics 3.4: priority; core/placement.py, rule 1")
def better_jobs_come_first(history: History, seen: Seen) -> Iterator[str]:
    """No task is given a node while a job of higher priority, or of the same and submitted earlier, has a task waiting that would have fitted
    there and may run there; priority is what it is at that time.
    """
    event, world = seen.event, seen.world
    if (placed := _placed(history, event)) is None or world is None or (job := world.jobs.get(placed.job)) is None:
        return
    pool, facts = world.pools.get(job.spec.pool_info.pool_id), history.nodes.get(placed.node)
    if pool is None or facts is None:
        return
    free = pool.spec.task_slots_per_node - sum(facts.holders.values())
    for slots, ready in pool.ready.items():
        for other in ready if slots <= free else ():
            if other >= rank(job):
                break
            if placed.node not in world.jobs[other[2]].ineligible:
                yield f"task {placed.task} of job {placed.job} is placed on {placed.node}, and job {other[2]} has one that requires {slots} slots"
                break


@invariant(e.TaskPreparing, e.TaskRunning, rule="semantics 3.4: affinityInfo; core/placement.py, rule 3")
def affinity_is_heeded(history: History, seen: Seen) -> Iterator[str]:
    """A task whose `affinityInfo` names a node of its job's pool is placed elsewhere only while that node has no room for it or may not take it."""
    event, world = seen.event, seen.world
    if (placed := _placed(history, event)) is None or world is None or (task := history.task(placed.job, placed.task)) is None:
        return
    wish = task.spec.affinity_info.node if task.spec.affinity_info is not None else placed.node
    if wish != placed.node and _has_room(world, placed, wish, task.spec.required_slots):
        yield f"task {placed.task} of job {placed.job} is placed on {placed.node}, and {wish}, where it had best run, has room for it"


OF_PLACEMENT: Final[tuple[Invariant, ...]] = (tasks_run_in_their_jobs_pool, better_jobs_come_first, affinity_is_heeded)


def _placed(history: History, event: e.Event) -> e.TaskPreparing | e.TaskRunning | None:
    """The event, if a task is given a node by it and has not had that node before."""
    if not isinstance(event, e.TaskPreparing | e.TaskRunning) or (job := history.jobs.get(event.job)) is None:
        return None
    return event if event.task not in job.placed else None


def _has_room(world: World, placed: e.TaskPreparing | e.TaskRunning, node: NodeId, slots: int) -> bool:
    job = world.jobs.get(placed.job)
    pool = world.pools.get(job.spec.pool_info.pool_id) if job is not None else None
    if job is None or pool is None:
        return False
    return pool.free_of.get(node, 0) >= slots and node not in job.ineligible
