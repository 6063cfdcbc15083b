"""Requests: what a caller wants.  Each may be refused, and then nothing is recorded but the reply.

Codes of refusals are Azure Batch's (semantics section 1.7).
"""

from attrs import frozen

from .ids import JobId, NodeId, PoolId, TaskId
from .specs import DisableTasks, JobSpec, PoolSpec, TaskSpec


@frozen(kw_only=True)
class CreatePool:
    spec: PoolSpec


@frozen(kw_only=True)
class ResizePool:
    """Bring a pool to `target` nodes; surplus nodes leave, the youngest first, and their tasks are requeued."""

    pool: PoolId
    target: int


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


@frozen(kw_only=True)
class ReimageNode:
    """Give the node back as new: its files are gone, and so is what preparation did there."""

    node: NodeId


@frozen(kw_only=True)
class RemoveNode:
    node: NodeId


@frozen(kw_only=True)
class DeallocateNode:
    node: NodeId


@frozen(kw_only=True)
class StartNode:
    """Start a deallocated node again."""

    node: NodeId


@frozen(kw_only=True)
class DisableScheduling:
    """Place no more tasks on the node; running ones are requeued, and then it is offline."""

    node: NodeId


@frozen(kw_only=True)
class EnableScheduling:
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
