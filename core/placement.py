"""Placement: queued tasks to free slots.

1. Jobs in order of priority, then of submission; tasks of a job in order of submission (retries keep their place).
2. A task is given all the slots that it requires or none.  One that no node has room for is passed over, and what requires less is placed:
   slots are not saved up for it (semantics 3.4 knows no reservation), and one that requires more than a node has waits for ever.
3. A task goes to the node that its `affinityInfo` names if that one has room and may take it, and else where any other would go.
4. `spread` takes the node with the most free slots, `pack` the one with the fewest that are enough; among equals, the longest so.
   A policy of the engine's owner may choose another of the nodes that may take the task; it never chooses the task, and cannot hold one back.
5. A node that failed a job's preparation is passed over for that job alone.
6. The cost of a placement does not grow with the number of tasks, nor with that of nodes that may take the task, nor with that of jobs
   whose tasks no node has room for; it grows only with the nodes that this job must pass over.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import chain

from . import execution as executions
from . import preparation as preparations
from .errors import PolicyError
from .events import Event, TaskPreparing, TaskRunning
from .ids import NodeId
from .ports import PlacementPolicy
from .world import Job, JobRank, Pool, Task, World, rank


def rule(world: World, pool: Pool, policy: PlacementPolicy | None = None) -> Iterator[Event]:
    """Place tasks until no free node may take any.  Raises `PolicyError` where the policy chooses a node that may not take the task."""
    if pool.state != "active":
        return
    passed: dict[int, JobRank] = {}
    while (found := _first(world, pool, passed)) is not None:
        job, task = found
        node = _choose(world, pool, job, task, policy)
        if node is None:
            passed[task.spec.required_slots] = rank(job)  # No node with room for it may take it; the next job may have more luck.
        else:
            yield from _place(world, job, task, node)


def _first(world: World, pool: Pool, passed: dict[int, JobRank]) -> tuple[Job, Task] | None:
    """The task whose turn it is among those that some node has room for; `passed` says up to which job to leave them out, by required slots."""
    if not pool.free_of or not pool.ready:
        return None
    roomiest = len(pool.free) - 1
    while not pool.free[roomiest]:
        roomiest -= 1
    best: tuple[JobRank, int, int] | None = None
    for slots, ready in pool.ready.items():
        place = bisect_right(ready, passed[slots]) if slots in passed else 0
        if slots <= roomiest and place < len(ready):
            entry = ready[place]
            turn = (entry, world.jobs[entry[2]].queue[slots][0][0], slots)
            if best is None or turn < best:
                best = turn
    if best is None:
        return None
    job = world.jobs[best[0][2]]
    return job, job.tasks[job.queue[best[2]][0][1]]


def _choose(world: World, pool: Pool, job: Job, task: Task, policy: PlacementPolicy | None) -> NodeId | None:
    """The node for the job's next task; the nodes of one that none may run are not gone through to learn it."""
    if len(job.ineligible) == len(pool.nodes):
        return None
    least, wish = task.spec.required_slots, task.spec.affinity_info
    if wish is not None and pool.free_of.get(wish.node, 0) >= least and wish.node not in job.ineligible:
        return wish.node
    nodes = _candidates(pool, job, least)
    first = next(nodes, None)
    if first is None or policy is None:
        return first
    chosen = policy.choose(world, job, task, chain((first,), nodes))
    if pool.free_of.get(chosen, 0) < least or chosen in job.ineligible:
        raise PolicyError(f"the placement policy chose node {chosen} for task {task.spec.id} of job {job.id}, and it may not take the task")
    return chosen


def _candidates(pool: Pool, job: Job, least: int) -> Iterator[NodeId]:
    """The nodes with room that may run a task of the job, the one that is to be preferred first."""
    rooms: Iterable[int] = range(least, len(pool.free))
    if pool.spec.task_scheduling_policy.node_fill_type == "spread":
        rooms = reversed(range(least, len(pool.free)))
    for room in rooms:
        for node in pool.free[room]:
            if node not in job.ineligible:
                yield node


def _place(world: World, job: Job, task: Task, node: NodeId) -> Iterator[Event]:
    """Give the task to the node, and begin preparation there if this is what it takes."""
    waits = preparations.awaited(job, node)
    if preparations.needed(job, node):
        yield from preparations.start(world, job, node)
    if waits:
        yield TaskPreparing(job=job.id, task=task.spec.id, node=node)
        return
    event = executions.request(world, "task", job.id, task.spec.id, node, task.launches + 1)
    yield event
    yield TaskRunning(job=job.id, task=task.spec.id, node=node, execution=event.execution)
