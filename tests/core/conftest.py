"""What the core's tests begin with: a pool that is up, and a job with tasks on it."""

import time

import pytest

from jobledger.core.requests import CreatePool, SubmitJob
from jobledger.core.specs import JobSpec, PoolInfo, PoolSpec, PreparationSpec, ReleaseSpec, TaskSpec
from jobledger.testing.scenario import Scenario


def _job(job_id="j", *, pool="p", prep=True, release=True, **more):
    """A job with preparation and release unless told otherwise; `prep` and `release` may be specs."""
    preparation = PreparationSpec(command_line="prepare") if prep is True else prep or None
    if release is True:
        release = ReleaseSpec(command_line="release") if preparation else None
    return JobSpec(id=job_id, pool_info=PoolInfo(pool_id=pool), job_preparation_task=preparation, job_release_task=release or None, **more)


def _tasks(*tasks):
    """Task specs from ids; a spec passes as it is."""
    return tuple(TaskSpec(id=task, command_line="work") if isinstance(task, str) else task for task in tasks)


def _given(*, nodes=1, slots=1, pool=None, tasks=("t1",), script=None, **job):
    """A scenario with the pool `p` up and the job `j` submitted; its first commands are fresh and unanswered."""
    scenario = Scenario(script)
    scenario.given(CreatePool(spec=PoolSpec(id="p", nodes=nodes, task_slots_per_node=slots, **(pool or {}))))
    scenario.run()
    return scenario.given(SubmitJob(spec=_job(**job), tasks=_tasks(*tasks)))


@pytest.fixture
def job_spec():
    return _job


@pytest.fixture
def task_specs():
    return _tasks


@pytest.fixture
def given():
    return _given


def _growth(work, *, small=5_000, large=40_000):
    """How many times longer the work of `large` takes than that of `small`, each the best of three; `work(n)` makes what is to be timed."""

    def seconds(size):
        timed = work(size)
        start = time.process_time()
        timed()
        return time.process_time() - start

    best = [min(seconds(size) for _ in range(3)) for size in (small, large)]
    return best[1] / best[0]


@pytest.fixture
def growth():
    return _growth
