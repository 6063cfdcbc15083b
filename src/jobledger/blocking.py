"""The engine for programs without an event loop: the same calls, each of which blocks until it is done.

The engine runs in a thread of its own; every call may come from any thread.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeVar

from .core.errors import ExecutorError
from .core.ids import Duration, JobId, NodeId, PoolId, TaskId
from .core.ports import EventStore, Executor, PlacementPolicy, RecordedEvent
from .core.requests import Request
from .core.specs import DisableTasks, JobConstraints, JobSpec, MetadataItem, NodeOption, OnAllTasksComplete, PoolSpec, TaskSpec
from .core.world import World
from .engine import DEFAULT_LEDGER, DEFAULT_ROOT, Engine
from .eventstore import Durability
from .subscribe import follow
from .surroundings import Surroundings

T = TypeVar("T")


class BlockingEngine:
    """Drives one ledger from a thread.  Use as `with BlockingEngine("ledger.db") as engine`.

    Arguments and errors are those of `Engine.open` and of `Engine`'s methods of the same names.
    """

    def __init__(
        self,
        ledger: str | PathLike[str] | EventStore = DEFAULT_LEDGER,
        *,
        root: str | PathLike[str] = DEFAULT_ROOT,
        executors: Mapping[str, Executor] | None = None,
        durability: Durability = "full",
        policy: PlacementPolicy | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="jobledger engine", daemon=True)
        self._closing = threading.Lock()
        self._thread.start()
        try:
            opening = Engine.open(ledger, root=root, executors=executors, durability=durability, policy=policy, surroundings=surroundings)
            self._engine = self._call(opening)
        except BaseException:
            self._end_thread()
            raise

    def create_pool(self, spec: PoolSpec, *, actor: str = "embedder") -> int:
        """Create a pool; the same specification twice is the same pool."""
        return self._call(self._engine.create_pool(spec, actor=actor))

    def delete_pool(self, pool: PoolId, *, actor: str = "embedder") -> int:
        """Delete a pool; its tasks are requeued and its nodes go."""
        return self._call(self._engine.delete_pool(pool, actor=actor))

    def resize_pool(
        self, pool: PoolId, target: int, option: NodeOption = "requeue", *, resize_timeout: Duration | None = None, actor: str = "embedder"
    ) -> int:
        """Bring a pool to `target` nodes; surplus nodes leave, the youngest first."""
        return self._call(self._engine.resize_pool(pool, target, option, resize_timeout=resize_timeout, actor=actor))

    def stop_resize(self, pool: PoolId, *, actor: str = "embedder") -> int:
        """Let a resize be over with what it has reached; nothing is rolled back."""
        return self._call(self._engine.stop_resize(pool, actor=actor))

    def reboot_node(self, node: NodeId, option: NodeOption = "requeue", *, reason: str = "", actor: str = "embedder") -> int:
        """Reboot a node; `option` says what becomes of its tasks."""
        return self._call(self._engine.reboot_node(node, option, reason=reason, actor=actor))

    def reimage_node(self, node: NodeId, option: NodeOption = "requeue", *, reason: str = "", actor: str = "embedder") -> int:
        """Give a node back as new, without its files; `option` says what becomes of its tasks."""
        return self._call(self._engine.reimage_node(node, option, reason=reason, actor=actor))

    def remove_node(self, node: NodeId, option: NodeOption = "requeue", *, reason: str = "", actor: str = "embedder") -> int:
        """Take a node out of its pool; `option` says what becomes of its tasks."""
        return self._call(self._engine.remove_node(node, option, reason=reason, actor=actor))

    def deallocate_node(self, node: NodeId, option: NodeOption = "requeue", *, reason: str = "", actor: str = "embedder") -> int:
        """Switch a node off without removing it; `option` says what becomes of its tasks."""
        return self._call(self._engine.deallocate_node(node, option, reason=reason, actor=actor))

    def start_node(self, node: NodeId, *, actor: str = "embedder") -> int:
        """Start a deallocated node again."""
        return self._call(self._engine.start_node(node, actor=actor))

    def disable_scheduling(self, node: NodeId, option: NodeOption = "requeue", *, reason: str = "", actor: str = "embedder") -> int:
        """Place no more tasks on a node; `option` says what becomes of those that are there."""
        return self._call(self._engine.disable_scheduling(node, option, reason=reason, actor=actor))

    def enable_scheduling(self, node: NodeId, *, actor: str = "embedder") -> int:
        """Let a node take tasks again, and undo a drain."""
        return self._call(self._engine.enable_scheduling(node, actor=actor))

    def submit(self, spec: JobSpec, tasks: Sequence[TaskSpec] = (), *, actor: str = "embedder") -> int:
        """Create a job with its first tasks; the same specification twice is the same job."""
        return self._call(self._engine.submit(spec, tasks, actor=actor))

    def add_tasks(self, job: JobId, tasks: Sequence[TaskSpec], *, actor: str = "embedder") -> int:
        """Add tasks to a job, all or none."""
        return self._call(self._engine.add_tasks(job, tasks, actor=actor))

    def terminate(self, job: JobId, reason: str = "UserTerminate", *, actor: str = "embedder") -> int:
        """End a job: its tasks end, its release runs, then it is completed."""
        return self._call(self._engine.terminate(job, reason, actor=actor))

    def delete(self, job: JobId, *, reason: str = "", actor: str = "embedder") -> int:
        """End a job if it has not ended, and then forget it."""
        return self._call(self._engine.delete(job, reason=reason, actor=actor))

    def disable(self, job: JobId, tasks: DisableTasks, *, reason: str = "", actor: str = "embedder") -> int:
        """Place no more tasks of a job, and requeue, terminate or wait for those that run."""
        return self._call(self._engine.disable(job, tasks, reason=reason, actor=actor))

    def enable(self, job: JobId, *, actor: str = "embedder") -> int:
        """Let a disabled job go on."""
        return self._call(self._engine.enable(job, actor=actor))

    def patch_job(
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
        return self._call(
            self._engine.patch_job(
                job,
                priority=priority,
                max_parallel_tasks=max_parallel_tasks,
                constraints=constraints,
                on_all_tasks_complete=on_all_tasks_complete,
                metadata=metadata,
                pool=pool,
                reason=reason,
                actor=actor,
            )
        )

    def terminate_task(self, job: JobId, task: TaskId, *, reason: str = "", actor: str = "embedder") -> int:
        """End one task as failed."""
        return self._call(self._engine.terminate_task(job, task, reason=reason, actor=actor))

    def delete_task(self, job: JobId, task: TaskId, *, reason: str = "", actor: str = "embedder") -> int:
        """Delete one task, ending it first where it runs."""
        return self._call(self._engine.delete_task(job, task, reason=reason, actor=actor))

    def reactivate_task(self, job: JobId, task: TaskId, *, reason: str = "", actor: str = "embedder") -> int:
        """Run a task again that failed, with all its retries anew."""
        return self._call(self._engine.reactivate_task(job, task, reason=reason, actor=actor))

    def request(self, request: Request, *, actor: str = "embedder") -> int:
        """Have any request decided."""
        return self._call(self._engine.request(request, actor=actor))

    def wait(self, job: JobId, *, timeout_s: float | None = None) -> None:
        """Come back when the job is completed or gone.  Raises `TimeoutError`."""
        self._call(self._engine.wait(job, timeout_s=timeout_s))

    def until(self, condition: Callable[[World], bool], *, timeout_s: float | None = None) -> None:
        """Come back as soon as the world fulfils `condition`, which is asked in the engine's thread.  Raises `TimeoutError`."""
        self._call(self._engine.until(condition, timeout_s=timeout_s))

    def read(self, ask: Callable[[World], T]) -> T:
        """What `ask` makes of the world; it runs in the engine's thread and must not hand out parts of the world that change."""

        async def asked() -> T:
            return ask(self._engine.world)

        return self._call(asked())

    def follow(self, *, after: int = 0, stop: Callable[[], bool] = lambda: False) -> Iterator[RecordedEvent]:
        """Every event after a position and then those to come, until `stop` says so."""
        return follow(self._engine.store, after=after, stop=stop)

    def executor_of(self, pool: PoolId) -> Executor:
        """The executor that runs a pool, for what it can tell without the loop (such as where output lies)."""
        return self._engine.executor_of(pool)

    @property
    def position(self) -> int:
        """The ledger's last position."""
        return self._engine.position

    def close(self) -> None:
        """Record the stop and let go of the ledger; what runs goes on.  Raises the error that stopped the engine, if one did."""
        with self._closing:
            if self._thread.is_alive():
                try:
                    self._call(self._engine.close())
                finally:
                    self._end_thread()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            called = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:  # The loop is closed.
            coroutine.close()
            raise ExecutorError("the engine is closed") from None
        return called.result()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
