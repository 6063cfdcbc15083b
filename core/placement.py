"""Placement: queued tasks to free slots.

1. Jobs in order of priority, then of submission; tasks of a job in order of submission (retries keep their place).
2. `spread` takes the node with the most free slots, `pack` the one with the fewest; among equals, the longest so.
3. A node that failed a job's preparation is passed over for that job alone.
4. The cost of a placement does not grow with the number of tasks, nor with that of nodes that may take the task; it grows
   only with the nodes that this job must pass over.
"""

from collections.abc import Iterator

from . import execution as executions
from . import preparation as preparations
from .events import Event, TaskPreparing, TaskRunning
from .ids import NodeId
from .world import Job, Pool, World


def rule(world: World, pool: Pool) -> Iterator[Event]:
    """Place tasks until no free node may take any."""
    if pool.state != "active":
        return
    passed = 0
    while passed < len(pool.ready) and pool.free_of:
        job = world.jobs[pool.ready[passed][2]]
        node = _choose(pool, job)
        if node is None:
            passed += 1  # No free node may take this job's tasks; the next job may have more luck.
        else:
            yield from _place(world, job, node)


def _choose(pool: Pool, job: Job) -> NodeId | None:
    """The node for the job's next task; the nodes of one that none may run are not gone through to learn it."""
    if len(job.ineligible) == len(pool.nodes):
        return None
    buckets = reversed(pool.free) if pool.spec.task_scheduling_policy.node_fill_type == "spread" else pool.free
    for bucket in buckets:
        for node in bucket:
            if node not in job.ineligible:
                return node
    return None


def _place(world: World, job: Job, node: NodeId) -> Iterator[Event]:
    """Give the job's next task to the node, and begin preparation there if this is what it takes."""
    task = job.queue[0][1]
    waits = preparations.awaited(job, node)
    if preparations.needed(job, node):
        yield from preparations.start(world, job, node)
    if waits:
        yield TaskPreparing(job=job.id, task=task, node=node)
        return
    event = executions.request(world, "task", job.id, task, node, job.tasks[task].launches + 1)
    yield event
    yield TaskRunning(job=job.id, task=task, node=node, execution=event.execution)
