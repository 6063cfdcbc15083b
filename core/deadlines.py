"""Deadlines: limits in time as events decided from `now`, never timers hidden in the shell.

The heap holds every moment at which something may be over its limit; an entry whose cause is gone is dropped when it comes up.
Each kind of limit has one row in the table below: whether an entry still stands, and the events when it is reached (the first of which
must make that the entry stands no more).
"""

import heapq
from collections.abc import Callable, Iterator
from typing import Final

from attrs import frozen

from . import execution as executions
from . import files
from . import job as jobs
from . import pool as pools
from .events import Event, JobTerminating, TaskRetryDue
from .failure import wall_clock_failure
from .ids import ExecutionId, JobId, Micros, PoolId, TaskId
from .world import DeadlineKind, World


def next_deadline(world: World) -> Micros | None:
    """When the core wants to be woken at the latest; None for never.  An earlier wake-up does nothing."""
    deadlines = world.deadlines
    while deadlines:
        at, kind, subject = deadlines[0]
        if _LIMITS[kind].stands(world, at, *subject):
            return at
        heapq.heappop(deadlines)
        if (later := _LIMITS[kind].later(world, at, *subject)) is not None:
            world.add_deadline(later, kind, *subject)
    return None


def due(world: World, now: Micros) -> Iterator[Event]:
    """The events of every limit that was reached by `now`."""
    while (at := next_deadline(world)) is not None and at <= now:
        _, kind, subject = world.deadlines[0]
        yield from _LIMITS[kind].reached(world, *subject)


def _execution_stands(world: World, _at: Micros, number: ExecutionId) -> bool:
    """Nobody stops the execution for good yet."""
    execution = world.executions.get(number)
    return execution is not None and (execution.stop is None or execution.stop.then == "requeue")


def _execution_reached(world: World, number: ExecutionId) -> Iterator[Event]:
    yield from executions.stop(world.executions[number], "complete", executions.WALL_CLOCK, wall_clock_failure())


def _job_stands(world: World, at: Micros, job_id: JobId) -> bool:
    """The limit is still the job's, which is not ending."""
    job = world.jobs.get(job_id)
    limit = job.spec.constraints.max_wall_clock_time if job is not None else None
    return job is not None and limit is not None and job.created_at + limit == at and job.state in {"active", "disabling", "disabled", "enabling"}


def _job_reached(_world: World, job_id: JobId) -> Iterator[Event]:
    yield JobTerminating(job=job_id, reason=jobs.MAX_WALL_CLOCK_TIME_EXPIRY)


def _retry_stands(world: World, at: Micros, job_id: JobId, task_id: TaskId) -> bool:
    """The task waits for this moment."""
    job = world.jobs.get(job_id)
    task = job.tasks.get(task_id) if job is not None else None
    return task is not None and task.retry_at == at


def _retry_reached(_world: World, job_id: JobId, task_id: TaskId) -> Iterator[Event]:
    yield TaskRetryDue(job=job_id, task=task_id)


def _resize_stands(world: World, at: Micros, pool_id: PoolId) -> bool:
    """The pool is still at the resize that has this limit."""
    pool = world.pools.get(pool_id)
    return pool is not None and pool.state == "active" and pool.resize_due == at


def _resize_reached(world: World, pool_id: PoolId) -> Iterator[Event]:
    yield pools.end_resize(world, world.pools[pool_id])


@frozen
class _Limit:
    stands: Callable[..., bool]
    reached: Callable[..., Iterator[Event]]
    later: Callable[..., Micros | None] = lambda *_: None
    """When an entry that does not stand is to come up again: a limit that is moved often then has one entry all the same."""


_LIMITS: Final[dict[DeadlineKind, _Limit]] = {
    "execution": _Limit(_execution_stands, _execution_reached),
    "job": _Limit(_job_stands, _job_reached),
    "retry": _Limit(_retry_stands, _retry_reached),
    "resize": _Limit(_resize_stands, _resize_reached),
    "files": _Limit(files.is_due_at, files.expire, files.due_later),
}
