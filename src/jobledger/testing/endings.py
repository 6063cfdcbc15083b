"""Endings: what must hold of a world in which nothing goes on any more, and of a ledger beside what really ran."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from jobledger.core import events as e
from jobledger.core.ids import JobId, NodeId
from jobledger.core.world import Job, World, takes_tasks

from .model import ModelExecutor

_QUIET_NODE: Final = {"idle", "offline", "starttaskfailed", "unusable", "unknown", "preempted", "deallocated"}


def unrest(world: World) -> list[str]:
    """What waits, in a world where nothing is under way, for something that could happen by itself; nothing where all is well."""
    faults = []
    for node in world.nodes.values():
        if node.state not in _QUIET_NODE:
            faults.append(f"node {node.id} is {node.state} and nothing is under way")
        if node.draining is not None:
            faults.append(f"node {node.id} drains and nothing is under way")
    for pool in world.pools.values():
        if (pool.state, pool.allocation) != ("active", "steady"):
            faults.append(f"pool {pool.id} is {pool.state} and {pool.allocation}, and nothing is under way")
    for job in world.jobs.values():
        if job.state not in {"active", "disabled", "completed"}:
            faults.append(f"job {job.id} is {job.state} and nothing is under way")
        if job.counts["running"] or job.counts["preparing"]:
            faults.append(f"job {job.id} has {job.counts} and nothing is under way")
        waits = [task.spec.required_slots for task in job.tasks.values() if task.state == "active" and not task.unmet]
        if job.state == "active" and waits and _has_room(world, job, min(waits)):  # Nothing runs, so no limit is reached.
            faults.append(f"job {job.id} is not placed: {job.counts}")
    return faults


def record_faults(events: Iterable[e.Event], model: ModelExecutor) -> list[str]:
    """Where a ledger and the model's memory of the releases and finalizers that ran to their own end differ."""
    told: Counter[tuple[JobId, int, NodeId]] = Counter()
    told_last: Counter[tuple[JobId, int, NodeId]] = Counter()
    lives: Counter[JobId] = Counter()
    for event in events:
        if isinstance(event, e.JobCreated):
            lives[event.job] += 1
        elif isinstance(event, e.ReleaseCompleted) and event.exit_code is not None and event.exit_code != 143:
            told[(event.job, lives[event.job], event.node)] += 1
        elif isinstance(event, e.FinalizerCompleted) and event.exit_code is not None and event.exit_code != 143:
            told_last[(event.job, lives[event.job], event.node)] += 1
    faults = []
    if told_last != Counter(model.finalized):
        faults.append(f"the ledger tells of finalizers {dict(told_last)}, and the executor ran {model.finalized}")
    if told != Counter(model.released):
        faults.append(f"the ledger tells of releases {dict(told)}, and the executor ran {model.released}")
    return faults


def _has_room(world: World, job: Job, slots: int) -> bool:
    """Whether some node that nothing runs on may take a task of the job that requires so many slots."""
    pool = world.pools.get(job.spec.pool_info.pool_id)
    if pool is None or slots > pool.spec.task_slots_per_node:
        return False
    return any(takes_tasks(world.nodes[node]) and node not in job.ineligible for node in pool.nodes)
