"""Seeing a job through: waiting for its end, and ending it where nothing of it can go on.

`run` and dry runs share these rules, so that a dry run ends where the real one would.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from .asks import Session
from .core.errors import RequestRefused
from .core.ids import JobId
from .core.world import Job, World


class Interrupts:
    """How often the user pressed Ctrl-C, and whether a service manager asked us to go (SIGTERM)."""

    def __init__(self) -> None:
        self.count = 0
        self.detach = False
        self.wake: asyncio.Event | None = None

    def on_interrupt(self) -> None:
        self.count += 1
        self._wake()

    def on_terminate(self) -> None:
        self.detach = True
        self._wake()

    def _wake(self) -> None:
        if self.wake is not None:
            self.wake.set()


async def to_the_end(
    engine: Session, job_id: JobId, interrupts: Interrupts, say: Callable[[str], None], *, actor: str, leave_active: bool = False, alone: bool = False
) -> bool:
    """Wait until the job is over, ending it where it does not end by itself; whether whoever waits left before that.

    `say` is told why it is ended; with `leave_active` it is left as it is instead.  `alone` says that nobody else can ask the engine for anything.
    """
    interrupts.wake = asyncio.Event()
    disabled = False
    while True:
        job = engine.world.jobs.get(job_id)
        if job is None or job.state == "completed":
            return False
        if interrupts.count > 1 or interrupts.detach:
            return True
        if not job.ending and (reason := reason_to_end(engine.world, job, interrupted=interrupts.count > 0)) is not None:
            if leave_active and not interrupts.count:
                return True
            say(reason[1])
            with suppress(RequestRefused):  # Somebody else has ended or deleted it in this very moment: look again.
                await engine.terminate(job_id, reason[0], actor=actor)
            continue
        if job.state == "disabled" and not disabled and not alone:
            say(f"job {job_id} is disabled: `jobledger enable {job_id}` from another terminal lets it go on, Ctrl-C ends it")
        disabled = job.state == "disabled"
        await _first(engine, job_id, interrupts.wake, disabled=disabled)
        interrupts.wake.clear()


async def _first(engine: Session, job_id: JobId, wake: asyncio.Event, *, disabled: bool) -> None:
    """Until the job is over, stuck or complete, comes to be disabled or is so no more, or the user wants something."""

    def changed(world: World) -> bool:
        job = world.jobs.get(job_id)  # Asked for anew each time: the engine may have rebuilt its world meanwhile.
        return (
            job is None
            or job.state == "completed"
            or (job.state == "disabled") != disabled
            or (not job.ending and reason_to_end(world, job, interrupted=False) is not None)
        )

    waits = {asyncio.create_task(engine.until(changed)), asyncio.create_task(wake.wait())}
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waits:
            task.cancel()


def reason_to_end(world: World, job: Job, *, interrupted: bool) -> tuple[str, str] | None:
    """Why `run` should end a job that does not end by itself: the reason to record, and the words for the user."""
    if interrupted:
        return "UserTerminate", "interrupted: ending the job, its release runs (Ctrl-C again to detach)"
    if job.live or job.delayed or job.state != "active":
        return None
    if job.counts["completed"] == len(job.tasks):
        return "AllTasksComplete", "all tasks are complete: ending the job"
    if job.counts["active"] and not job.queue:
        return "DependenciesNotSatisfied", "the tasks that are left wait for tasks that will not succeed: ending the job"
    if job.blocked:
        return "PreparationFailed", "the job preparation task failed on every node: ending the job"
    if job.queue and (pool := world.pools.get(job.spec.pool_info.pool_id)) is not None and min(job.queue) > pool.spec.task_slots_per_node:
        return "TooFewSlots", "the tasks that are left require more slots than a node has: ending the job"
    if _no_node_left(world, job):
        return "NoUsableNode", "no node of the pool can be used: ending the job"
    return None


def _no_node_left(world: World, job: Job) -> bool:
    pool = world.pools.get(job.spec.pool_info.pool_id)
    if pool is None or pool.allocation != "steady":
        return False
    return all(world.nodes[node].state in {"starttaskfailed", "unusable", "unknown"} for node in pool.nodes)
