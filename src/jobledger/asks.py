"""What can be asked of an engine, a method for each request: the part of `Engine` that embedding programs read first.

`Session` is that and the world that comes of it, for those who need no more of an engine: it may be another process's (`guest`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from .core import requests as q
from .core.ids import Duration, JobId, NodeId, PoolId, TaskId
from .core.ports import EventStore
from .core.specs import DisableTasks, JobConstraints, JobSpec, MetadataItem, NodeOption, OnAllTasksComplete, PoolInfo, PoolSpec, TaskSpec
from .core.world import World


class Asks(ABC):
    """Every request by name.  Each method comes back with the ledger's position after the request, durable.

    Each raises `RequestRefused` (nothing was recorded), or the error that stopped the engine.
    """

    @abstractmethod
    async def request(self, request: q.Request, *, actor: str = "embedder") -> int:
        """Have any request decided."""

    async def create_pool(self, spec: PoolSpec, *, actor: str = "embedder") -> int:
        """Create a pool; the same specification twice is the same pool."""
        return await self.request(q.CreatePool(spec=spec), actor=actor)

    async def delete_pool(self, pool: PoolId, *, actor: str = "embedder") -> int:
        """Delete a pool; its tasks are requeued and its nodes go."""
        return await self.request(q.DeletePool(pool=pool), actor=actor)

    async def resize_pool(
        self, pool: PoolId, target: int, option: NodeOption = "requeue", *, resize_timeout: Duration | None = None, actor: str = "embedder"
    ) -> int:
        """Bring a pool to `target` nodes; surplus nodes leave, the youngest first."""
        return await self.request(q.ResizePool(pool=pool, target=target, option=option, resize_timeout=resize_timeout), actor=actor)

    async def stop_resize(self, pool: PoolId, *, actor: str = "embedder") -> int:
        """Let a resize be over with what it has reached; nothing is rolled back."""
        return await self.request(q.StopResize(pool=pool), actor=actor)

    async def reboot_node(self, node: NodeId, option: NodeOption = "requeue", *, reason: str = "", actor: str = "embedder") -> int:
        """Reboot a node; `option` says what becomes of its tasks."""
        return await self.request(q.RebootNode(node=node, option=option, reason=reason), actor=actor)

    async def reimage_node(self, node: NodeId, option: NodeOption = "requeue", *, reason: str = "", actor: str = "embedder") -> int:
        """Give a node back as new, without its files; `option` says what becomes of its tasks."""
        return await self.request(q.ReimageNode(node=node, option=option, reason=reason), actor=actor)

    async def remove_node(self, node: NodeId, option: NodeOption = "requeue", *, reason: str = "", actor: str = "embedder") -> int:
        """Take a node out of its pool; `option` says what becomes of its tasks."""
        return await self.request(q.RemoveNode(node=node, option=option, reason=reason), actor=actor)

    async def deallocate_node(self, node: NodeId, option: NodeOption = "requeue", *, reason: str = "", actor: str = "embedder") -> int:
        """Switch a node off without removing it; `option` says what becomes of its tasks."""
        return await self.request(q.DeallocateNode(node=node, option=option, reason=reason), actor=actor)

    async def start_node(self, node: NodeId, *, actor: str = "embedder") -> int:
        """Start a deallocated node again."""
        return await self.request(q.StartNode(node=node), actor=actor)

    async def disable_scheduling(self, node: NodeId, option: NodeOption = "requeue", *, reason: str = "", actor: str = "embedder") -> int:
        """Place no more tasks on a node; `option` says what becomes of those that are there."""
        return await self.request(q.DisableScheduling(node=node, option=option, reason=reason), actor=actor)

    async def enable_scheduling(self, node: NodeId, *, actor: str = "embedder") -> int:
        """Let a node take tasks again, and undo a drain."""
        return await self.request(q.EnableScheduling(node=node), actor=actor)

    async def submit(self, spec: JobSpec, tasks: Sequence[TaskSpec] = (), *, actor: str = "embedder") -> int:
        """Create a job with its first tasks; the same specification twice is the same job."""
        return await self.request(q.SubmitJob(spec=spec, tasks=tuple(tasks)), actor=actor)

    async def add_tasks(self, job: JobId, tasks: Sequence[TaskSpec], *, actor: str = "embedder") -> int:
        """Add tasks to a job, all or none."""
        return await self.request(q.AddTasks(job=job, tasks=tuple(tasks)), actor=actor)

    async def terminate(self, job: JobId, reason: str = "UserTerminate", *, actor: str = "embedder") -> int:
        """End a job: its tasks end, its release runs, then it is completed."""
        return await self.request(q.TerminateJob(job=job, reason=reason), actor=actor)

    async def delete(self, job: JobId, *, reason: str = "", actor: str = "embedder") -> int:
        """End a job if it has not ended, and then forget it."""
        return await self.request(q.DeleteJob(job=job, reason=reason), actor=actor)

    async def disable(self, job: JobId, tasks: DisableTasks, *, reason: str = "", actor: str = "embedder") -> int:
        """Place no more tasks of a job, and requeue, terminate or wait for those that run."""
        return await self.request(q.DisableJob(job=job, disable_tasks=tasks, reason=reason), actor=actor)

    async def enable(self, job: JobId, *, actor: str = "embedder") -> int:
        """Let a disabled job go on."""
        return await self.request(q.EnableJob(job=job), actor=actor)

    async def patch_job(
        self,
        job: JobId,
        *,
        priority: int | None = None,
        max_parallel_tasks: int | None = None,
        constraints: JobConstraints | None = None,
        on_all_tasks_complete: OnAllTasksComplete | None = None,
        metadata: Sequence[MetadataItem] | None = None,
        pool: PoolId | None = None,
        reason: str = "",
        actor: str = "embedder",
    ) -> int:
        """Change a job that is not over: what is not None replaces what it had.  Another pool is granted only while it is disabled."""
        request = q.PatchJob(
            job=job,
            priority=priority,
            max_parallel_tasks=max_parallel_tasks,
            constraints=constraints,
            on_all_tasks_complete=on_all_tasks_complete,
            metadata=None if metadata is None else tuple(metadata),
            pool_info=None if pool is None else PoolInfo(pool_id=pool),
            reason=reason,
        )
        return await self.request(request, actor=actor)

    async def terminate_task(self, job: JobId, task: TaskId, *, reason: str = "", actor: str = "embedder") -> int:
        """End one task as failed."""
        return await self.request(q.TerminateTask(job=job, task=task, reason=reason), actor=actor)

    async def delete_task(self, job: JobId, task: TaskId, *, reason: str = "", actor: str = "embedder") -> int:
        """Delete one task, ending it first where it runs."""
        return await self.request(q.DeleteTask(job=job, task=task, reason=reason), actor=actor)

    async def reactivate_task(self, job: JobId, task: TaskId, *, reason: str = "", actor: str = "embedder") -> int:
        """Run a task again that failed, with all its retries anew."""
        return await self.request(q.ReactivateTask(job=job, task=task, reason=reason), actor=actor)


class Session(Asks):
    """Who can be asked, and whose world can be seen: an `Engine`, or a `Guest` of one that another process drives."""

    @abstractmethod
    async def until(self, condition: Callable[[World], bool], *, timeout_s: float | None = None) -> None:
        """Come back as soon as the world fulfils `condition`.  Raises `TimeoutError`, or the error that stopped the engine."""

    @property
    @abstractmethod
    def world(self) -> World:
        """The world as the ledger has it; to be read and never changed, and not across an `await`."""

    @property
    @abstractmethod
    def store(self) -> EventStore:
        """The ledger, to read."""

    @property
    @abstractmethod
    def position(self) -> int:
        """The position of the last event that this world has."""

    async def wait(self, job: JobId, *, timeout_s: float | None = None) -> None:
        """Come back when the job is completed or gone.  Raises `TimeoutError`, or the error that stopped the engine."""
        await self.until(lambda world: job not in world.jobs or world.jobs[job].state == "completed", timeout_s=timeout_s)
