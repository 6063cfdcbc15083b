"""Which executors are needed: by what has been asked for, by a world, and for what runs on the engine's host, which is no pool's."""

from .core import requests as q
from .core.decide import Stimulus
from .core.ids import ENGINE_POOL, HOST_EXECUTOR, PoolId
from .core.specs import JobSpec
from .core.world import World
from .executors.local_nodes import host_boot_id


def executor_for(stimulus: Stimulus) -> str | None:
    """The executor that must be open before the stimulus is decided, if it is one that needs any."""
    match stimulus:
        case q.CreatePool(spec=pool):
            return pool.executor
        case q.SubmitJob(spec=job) if _ends_on_host(job):
            return HOST_EXECUTOR
        case _:
            return None


def executors_of(world: World) -> set[str]:
    """The executors of the pools that there are, and the one that finalizers of jobs which are not over need."""
    names = {pool.spec.executor for pool in world.pools.values()}
    if any(job.ended_at is None and _ends_on_host(job.spec) for job in world.jobs.values()):
        names.add(HOST_EXECUTOR)
    return names


def executor_of(world: World, pool: PoolId) -> str:
    """The executor that runs what is on a pool's nodes, or on the engine's host."""
    return HOST_EXECUTOR if pool == ENGINE_POOL else world.pools[pool].spec.executor


def pools_of(world: World, executor: str) -> set[PoolId]:
    """The pools that an executor runs, the engine's host counted as one."""
    return {pool for pool in (*world.pools, ENGINE_POOL) if executor_of(world, pool) == executor}


def boot_of_host() -> str:
    """The boot that this host is in, empty where it does not say."""
    try:
        return host_boot_id()
    except OSError:
        return ""


def _ends_on_host(job: JobSpec) -> bool:
    """Whether the job has a finalizer that runs on the engine's host."""
    return job.job_finalizer_task is not None and job.job_finalizer_task.node_id is None
