"""Deadlines: limits in time as events decided from `now`, never timers hidden in the shell.

The heap holds every moment at which something may be over its limit; an entry whose cause is gone is dropped when it comes up.
"""

import heapq
from collections.abc import Iterator

from . import execution as executions
from . import job as jobs
from .events import Event, JobTerminating
from .failure import wall_clock_failure
from .ids import ExecutionId, JobId, Micros
from .world import World


def next_deadline(world: World) -> Micros | None:
    """When the core wants to be woken at the latest; None for never.  An earlier wake-up does nothing."""
    deadlines = world.deadlines
    while deadlines and not _stands(world, *deadlines[0]):
        heapq.heappop(deadlines)
    return deadlines[0][0] if deadlines else None


def due(world: World, now: Micros) -> Iterator[Event]:
    """The events of every limit that was reached by `now`."""
    while (at := next_deadline(world)) is not None and at <= now:
        _, execution_id, job_id = world.deadlines[0]
        if execution_id:
            yield from executions.stop(world.executions[ExecutionId(execution_id)], "complete", executions.WALL_CLOCK, wall_clock_failure())
        else:
            yield JobTerminating(job=JobId(job_id), reason=jobs.MAX_WALL_CLOCK_TIME_EXPIRY)


def _stands(world: World, at: Micros, execution_id: int, job_id: str) -> bool:
    """Whether the entry still limits something: an execution that nobody stops for good yet, or a job that is not ending."""
    if execution_id:
        execution = world.executions.get(ExecutionId(execution_id))
        return execution is not None and (execution.stop is None or execution.stop.then == "requeue")
    job = world.jobs.get(JobId(job_id))
    limit = job.spec.constraints.max_wall_clock_time if job is not None else None
    return job is not None and limit is not None and job.created_at + limit == at and job.state in {"active", "disabling", "disabled", "enabling"}
