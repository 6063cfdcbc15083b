"""Planted bugs in the rules of placement, and in what follows from patching a job."""

from contextlib import AbstractContextManager
from typing import Any

import attrs
from planting import PLAIN, Planted, a_job, around, fold, retried

from jobledger.core import events as e
from jobledger.core import placement, world
from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.testing.trail import Trail


def requiring(task: Any, slots: int, affinity: str | None = None) -> s.TaskSpec:
    info = None if affinity is None else s.AffinityInfo(affinity_id=affinity)
    return s.TaskSpec(id=task, command_line="work", required_slots=slots, affinity_info=info)


def two_jobs_and_one_node() -> Trail:
    """The second job is patched to be the better one while the node is busy with the first."""
    trail = Trail(job=PLAIN, tasks=("t1", "t2")).arrive()
    other = attrs.evolve(PLAIN, id="k", priority=-1)
    trail.do(q.SubmitJob(spec=other, tasks=(requiring("u", 1),)), q.PatchJob(job="k", priority=5))
    return trail.exit(0, 0, 0)


def moved_to_another_pool() -> Trail:
    trail = Trail(job=a_job()).arrive().do(q.DisableJob(job="j", disable_tasks="requeue")).arrive()
    trail.do(q.CreatePool(spec=s.PoolSpec(id="q"))).arrive()
    return trail.do(q.PatchJob(job="j", pool_info=s.PoolInfo(pool_id="q")), q.EnableJob(job="j")).exit(0, 0)


def patched_to_retry() -> Trail:
    return Trail(job=a_job(prep=False)).arrive().do(q.PatchJob(job="j", constraints=retried(1))).exit(1)


def the_worst_job_comes_first() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, pool: world.Pool, passed: Any) -> Any:
        for slots, ready in pool.ready.items() if not passed else ():
            if any(pool.free[slots:]):
                found = of.jobs[ready[-1][2]]
                return found, found.tasks[found.queue[slots][0][1]]
        return right(of, pool, passed)

    return around(placement, "_first", wrong)


def affinity_is_ignored() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, pool: world.Pool, found: world.Job, of_it: world.Task, policy: Any) -> Any:
        return right(of, pool, found, attrs.evolve(of_it, spec=attrs.evolve(of_it.spec, affinity_info=None)), policy)

    return around(placement, "_choose", wrong)


def every_task_takes_one_slot() -> AbstractContextManager[None]:
    def less(of: world.World, event: e.TaskRunning | e.TaskPreparing) -> None:
        of.nodes[event.node].slots = len(of.nodes[event.node].tasks)
        world.index_node(of, of.nodes[event.node])

    return fold(e.TaskRunning, less)


def patches_reach_tasks_that_are_there() -> AbstractContextManager[None]:
    def more(of: world.World, event: e.JobPatched) -> None:
        for task in of.jobs[event.job].tasks.values():
            task.job_constraints = of.jobs[event.job].spec.constraints

    return fold(e.JobPatched, more)


CATALOGUE = [
    Planted(
        name="the job of lowest priority comes first",
        rare=True,
        caught_by="better_jobs_come_first",
        bug=the_worst_job_comes_first,
        script=two_jobs_and_one_node,
    ),
    Planted(
        name="affinity is ignored",
        caught_by="affinity_is_heeded",
        bug=affinity_is_ignored,
        script=lambda: Trail(nodes=2, job=PLAIN, tasks=(requiring("t", 1, "TVM:p-2"),)),
    ),
    Planted(
        name="every task takes one slot",
        caught_by="slots_are_never_exceeded",
        bug=every_task_takes_one_slot,
        script=lambda: Trail(slots=3, job=PLAIN, tasks=(requiring("t1", 2), requiring("t2", 2))),
    ),
    Planted(
        name="a job that was moved goes on in its old pool",
        rare=True,
        caught_by="tasks_run_in_their_jobs_pool",
        bug=lambda: fold(e.JobPatched, instead=True),
        script=moved_to_another_pool,
    ),
    Planted(
        name="a lower limit of parallel tasks is not heeded",
        rare=True,
        caught_by="parallel_tasks_are_never_exceeded",
        bug=lambda: fold(e.JobPatched, instead=True),
        script=lambda: Trail(slots=2, job=PLAIN).do(
            q.PatchJob(job="j", max_parallel_tasks=1), q.AddTasks(job="j", tasks=(requiring("u", 1),)), q.PatchJob(job="j", max_parallel_tasks=2)
        ),
    ),
    Planted(
        name="a patch gives tasks that are there more retries",
        rare=True,
        caught_by="tries_within_retries",
        bug=patches_reach_tasks_that_are_there,
        script=patched_to_retry,
    ),
]
