"""Requests: what a caller wants.  Each may be refused, and then nothing is recorded but the reply.

Codes of refusals are Azure Batch's (semantics section 1.7).  `option` says what becomes of the tasks that are on a node: `requeue` (they run
again elsewhere, and no retry is counted), `terminate` (they end as failed) or `taskcompletion` (the node takes no more of them, and what was
asked for happens when they have ended).  `reason` is a user's own words for the record.
"""

from attrs import frozen

from .ids import Duration, JobId, NodeId, PoolId, TaskId
from .specs import DisableTasks, JobConstraints, JobSpec, MetadataItem, NodeOption, OnAllTasksComplete, PoolInfo, PoolSpec, TaskSpec


@frozen(kw_only=True)
class CreatePool:
    spec: PoolSpec


@frozen(kw_only=True)
class ResizePool:
    """Bring a pool to `target` nodes; surplus nodes leave, the youngest first.  `resize_timeout` None is the pool's own."""

    pool: PoolId
    target: int
    option: NodeOption = "requeue"
    resize_timeout: Duration | None = None


@frozen(kw_only=True)
class StopResize:
    pool: PoolId


@frozen(kw_only=True)
class DeletePool:
    pool: PoolId


@frozen(kw_only=True)
class SubmitJob:
    """Create a job, with its first tasks in the same atomic batch."""

    spec: JobSpec
    tasks: tuple[TaskSpec, ...] = ()


@frozen(kw_only=True)
class AddTasks:
    job: JobId
    tasks: tuple[TaskSpec, ...]


@frozen(kw_only=True)
class TerminateJob:
    """End a job: its tasks are ended, its release runs, then it is completed with `reason`."""

    job: JobId
    reason: str = "UserTerminate"


@frozen(kw_only=True)
class DeleteJob:
    """As terminate where the job has not ended yet, and then the job is gone."""

    job: JobId
    reason: str = ""


@frozen(kw_only=True)
class DisableJob:
    """Stop placing tasks; what runs is requeued, terminated or waited for."""

    job: JobId
    disable_tasks: DisableTasks
    reason: str = ""


@frozen(kw_only=True)
class EnableJob:
    job: JobId


@frozen(kw_only=True)
class PatchJob:
    """Change a job that is not over: what is not None replaces what the job had, as a whole.

    `pool_info` is granted only while the job is disabled.
    """

    job: JobId
    priority: int | None = None
    max_parallel_tasks: int | None = None
    constraints: JobConstraints | None = None
    on_all_tasks_complete: OnAllTasksComplete | None = None
    metadata: tuple[MetadataItem, ...] | None = None
    pool_info: PoolInfo | None = None
    reason: str = ""


@frozen(kw_only=True)
class TerminateTask:
    job: JobId
    task: TaskId
    reason: str = ""


@frozen(kw_only=True)
class DeleteTask:
    job: JobId
    task: TaskId
    reason: str = ""


@frozen(kw_only=True)
class ReactivateTask:
    """Run a completed task again that did not succeed, with all its retries anew."""

    job: JobId
    task: TaskId
    reason: str = ""


@frozen(kw_only=True)
class RebootNode:
    node: NodeId
    option: NodeOption = "requeue"
    reason: str = ""


@frozen(kw_only=True)
class ReimageNode:
    """Give the node back as new: its files are gone, and so is what preparation did there."""

    node: NodeId
    option: NodeOption = "requeue"
    reason: str = ""


@frozen(kw_only=True)
class RemoveNode:
    node: NodeId
    option: NodeOption = "requeue"
    reason: str = ""


@frozen(kw_only=True)
class DeallocateNode:
    node: NodeId
    option: NodeOption = "requeue"
    reason: str = ""


@frozen(kw_only=True)
class StartNode:
    """Start a deallocated node again."""

    node: NodeId


@frozen(kw_only=True)
class DisableScheduling:
    """Place no more tasks on the node; when those that are there have gone or ended, it is offline."""

    node: NodeId
    option: NodeOption = "requeue"
    reason: str = ""


@frozen(kw_only=True)
class EnableScheduling:
    """Let the node take tasks again, which also ends a drain, whatever that was for."""

    node: NodeId


Request = (
    CreatePool
    | ResizePool
    | StopResize
    | DeletePool
    | SubmitJob
    | AddTasks
    | TerminateJob
    | DeleteJob
    | DisableJob
    | EnableJob
    | PatchJob
    | TerminateTask
    | DeleteTask
    | ReactivateTask
    | RebootNode
    | ReimageNode
    | RemoveNode
    | DeallocateNode
    | StartNode
    | DisableScheduling
    | EnableScheduling
)
