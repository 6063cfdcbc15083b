"""Events: what happened, as a closed set of small records.

An event is past tense, object first, and never refused.  It knows nothing of the ledger's envelope (position,
time, cause, actor, hash).  Its stored name and version, in `STORED`, are a promise to every ledger ever written and are
independent of the class's name; a change of meaning is a new version and an upcaster, for ever.

Every event names the thing it is about in full (job, task, node), so that a ledger reads without a fold.
"""

from typing import Final, Literal

from attrs import frozen

from .failure import FailureInfo, Result
from .ids import Duration, ExecutionId, ExecutionKind, JobId, NodeId, PoolId, TaskId
from .specs import (
    DependencyAction,
    DisableTasks,
    JobAction,
    JobConstraints,
    JobSpec,
    MetadataItem,
    NodeOption,
    OnAllTasksComplete,
    PoolInfo,
    PoolSpec,
    TaskSpec,
)

StopThen = Literal["requeue", "complete", "delete"]
"""What a stop leads to, from the weakest to the strongest: a later stop may only be a stronger one."""

NodeOperation = Literal["reboot", "reimage", "deallocate", "remove"]
"""What may be asked for a node that its tasks have to make way for."""

# --- the engine itself: two starts in a row tell of a crash ---------------------------------------------------


@frozen(kw_only=True)
class EngineStarted:
    """An engine took the ledger's lease with `epoch` and drives it from here on, with nodes' files below `root` of its host.

    `boot_id` names the boot that the host is in, and is empty where nobody could tell.  `dry_run` says what a dry run was made from: nothing
    of what is recorded here really ran; it is empty for real work.
    """

    version: str
    host: str
    pid: int
    epoch: int
    root: str = ""
    boot_id: str = ""
    dry_run: str = ""


@frozen(kw_only=True)
class EngineStopped:
    """The engine let the ledger go in good order; what runs on nodes goes on and is adopted by the next engine."""

    epoch: int


# --- pool -----------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class PoolCreated:
    pool: PoolId
    spec: PoolSpec


@frozen(kw_only=True)
class PoolResizing:
    """The pool is to have `target` nodes; `option` says what becomes of the tasks of those that leave, and `timeout` how long it may
    take, None as long as the pool says.
    """

    pool: PoolId
    target: int
    option: NodeOption = "requeue"
    timeout: Duration | None = None


@frozen(kw_only=True)
class PoolResizeStopping:
    pool: PoolId


@frozen(kw_only=True)
class PoolSteady:
    """The pool has the nodes it should have, or the resize was stopped or ran out of time; `errors`, each as `Code: message`, says
    what was not reached.
    """

    pool: PoolId
    errors: tuple[str, ...] = ()


@frozen(kw_only=True)
class PoolDeleting:
    pool: PoolId


@frozen(kw_only=True)
class PoolDeleted:
    pool: PoolId


# --- node -----------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class NodeAdded:
    pool: PoolId
    node: NodeId


@frozen(kw_only=True)
class NodeStarting:
    node: NodeId


@frozen(kw_only=True)
class NodeBooted:
    """The node answered from a boot named `boot_id`."""

    node: NodeId
    boot_id: str


@frozen(kw_only=True)
class NodeAwaitingStartTask:
    node: NodeId


@frozen(kw_only=True)
class NodeStartTaskFailed:
    node: NodeId


@frozen(kw_only=True)
class NodeIdle:
    node: NodeId


@frozen(kw_only=True)
class NodeRunning:
    node: NodeId


@frozen(kw_only=True)
class NodeOffline:
    node: NodeId


@frozen(kw_only=True)
class NodeRebooting:
    """The node's boot ends and `incarnation` begins; `cause` says whether it was asked for or only noticed, and `option` what becomes of
    its tasks (`taskcompletion`: they have ended).
    """

    node: NodeId
    incarnation: int
    cause: str
    option: NodeOption = "requeue"


@frozen(kw_only=True)
class NodeReimaging:
    """The node is made new, or was found to have lost all its files; `cause` says which."""

    node: NodeId
    incarnation: int
    cause: str
    option: NodeOption = "requeue"


@frozen(kw_only=True)
class NodeUnusable:
    node: NodeId
    reason: str


@frozen(kw_only=True)
class NodeUnknown:
    """Contact with the node is lost and it is given up until it returns."""

    node: NodeId
    reason: str


@frozen(kw_only=True)
class NodePreempted:
    node: NodeId
    incarnation: int
    reason: str


@frozen(kw_only=True)
class NodeReallocated:
    node: NodeId


@frozen(kw_only=True)
class NodeDeallocating:
    node: NodeId
    incarnation: int
    cause: str = ""
    option: NodeOption = "requeue"


@frozen(kw_only=True)
class NodeDeallocated:
    node: NodeId


@frozen(kw_only=True)
class NodeLeaving:
    node: NodeId
    incarnation: int
    cause: str = ""
    option: NodeOption = "requeue"


@frozen(kw_only=True)
class NodeRemoved:
    pool: PoolId
    node: NodeId


@frozen(kw_only=True)
class NodeDraining:
    """The node takes no more tasks, and when nothing of a job is left there, `then` happens to it."""

    node: NodeId
    then: NodeOperation
    cause: str


@frozen(kw_only=True)
class NodeDrainStopped:
    """The node takes tasks as before: what it was drained for does not happen."""

    node: NodeId


@frozen(kw_only=True)
class NodeSchedulingDisabled:
    """The node takes no more tasks; `option` says what becomes of those that are there."""

    node: NodeId
    option: NodeOption = "requeue"
    reason: str = ""


@frozen(kw_only=True)
class NodeSchedulingEnabled:
    node: NodeId


# --- start task -----------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class StartTaskStarted:
    node: NodeId
    execution: ExecutionId


@frozen(kw_only=True)
class StartTaskRetried:
    node: NodeId
    execution: ExecutionId
    exit_code: int


@frozen(kw_only=True)
class StartTaskInterrupted:
    """The node went down under its start task; it starts over when the node is back."""

    node: NodeId
    cause: str
    internal: bool = False


@frozen(kw_only=True)
class StartTaskCompleted:
    node: NodeId
    result: Result
    exit_code: int | None
    failure: FailureInfo | None


# --- job ------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class JobCreated:
    job: JobId
    spec: JobSpec


@frozen(kw_only=True)
class JobBlocked:
    """Tasks wait and no node of the pool may take them, because preparation failed on every one."""

    job: JobId


@frozen(kw_only=True)
class JobUnblocked:
    job: JobId


@frozen(kw_only=True)
class JobPatched:
    """The job goes on with another specification: what is not None is new, the rest is as it was."""

    job: JobId
    priority: int | None = None
    max_parallel_tasks: int | None = None
    constraints: JobConstraints | None = None
    on_all_tasks_complete: OnAllTasksComplete | None = None
    metadata: tuple[MetadataItem, ...] | None = None
    pool_info: PoolInfo | None = None
    reason: str = ""


@frozen(kw_only=True)
class JobDisabling:
    """`reason` is what the caller gave, empty where none; the same of other events that follow from a request."""

    job: JobId
    disable_tasks: DisableTasks
    reason: str = ""


@frozen(kw_only=True)
class JobDisabled:
    job: JobId


@frozen(kw_only=True)
class JobEnabling:
    job: JobId


@frozen(kw_only=True)
class JobEnabled:
    job: JobId


@frozen(kw_only=True)
class JobTerminating:
    job: JobId
    reason: str


@frozen(kw_only=True)
class JobCompleted:
    job: JobId


@frozen(kw_only=True)
class JobDeleting:
    """The job is on its way out.  `removes_files` tells that it goes after its files; versions that did not remove any did not say it."""

    job: JobId
    reason: str = ""
    removes_files: bool = False


@frozen(kw_only=True)
class JobDeleted:
    job: JobId


# --- task -----------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class TaskAdded:
    job: JobId
    task: TaskId
    spec: TaskSpec


@frozen(kw_only=True)
class TaskPreparing:
    """The task has a node and waits there for the job's preparation."""

    job: JobId
    task: TaskId
    node: NodeId


@frozen(kw_only=True)
class TaskRunning:
    """The task was handed to its node as `execution` (Azure's `running` includes what precedes the program's start)."""

    job: JobId
    task: TaskId
    node: NodeId
    execution: ExecutionId


@frozen(kw_only=True)
class TaskRetried:
    """A non-zero exit with retries left: the task is active again, one retry is counted, and its delay begins."""

    job: JobId
    task: TaskId
    exit_code: int
    failure: FailureInfo


@frozen(kw_only=True)
class TaskRetryDue:
    """The delay before the task's next try is over: it may be placed again."""

    job: JobId
    task: TaskId


@frozen(kw_only=True)
class TaskRequeued:
    """The task lost its node through no fault of its own and is active again; no retry is counted.

    `internal` tells that nobody asked for it and the node stayed up: the executor lost the program or stopped it unasked.
    """

    job: JobId
    task: TaskId
    cause: str
    internal: bool = False


@frozen(kw_only=True)
class TaskCompleted:
    """The task runs no more.  `dependency_action` tells whether it satisfies those that depend on it, None that only success does;
    `job_action` is what its job is to do about the way it ended.
    """

    job: JobId
    task: TaskId
    result: Result
    exit_code: int | None
    failure: FailureInfo | None
    dependency_action: DependencyAction | None = None
    job_action: JobAction = "none"


@frozen(kw_only=True)
class TaskReactivated:
    job: JobId
    task: TaskId
    reason: str = ""


@frozen(kw_only=True)
class TaskDeleted:
    job: JobId
    task: TaskId
    reason: str = ""


# --- preparation, per job and node ----------------------------------------------------------------------------


@frozen(kw_only=True)
class PreparationStarted:
    job: JobId
    node: NodeId
    execution: ExecutionId


@frozen(kw_only=True)
class PreparationRetried:
    """A non-zero exit with retries left: `execution` is the next try on the same node, and the state stays running."""

    job: JobId
    node: NodeId
    execution: ExecutionId
    exit_code: int
    failure: FailureInfo


@frozen(kw_only=True)
class PreparationCompleted:
    job: JobId
    node: NodeId
    result: Result
    exit_code: int | None
    failure: FailureInfo | None


@frozen(kw_only=True)
class PreparationDue:
    """What was prepared no longer holds, or the run was cut short: it must run again before the job's next task there."""

    job: JobId
    node: NodeId
    cause: str
    internal: bool = False


# --- release, per job and node --------------------------------------------------------------------------------


@frozen(kw_only=True)
class ReleaseOwed:
    """The node came under the job's release scope: a release must run there before the job can end."""

    job: JobId
    node: NodeId


@frozen(kw_only=True)
class ReleaseStarted:
    job: JobId
    node: NodeId
    execution: ExecutionId


@frozen(kw_only=True)
class ReleaseInterrupted:
    """The node went down under the release: it has not run to its end and is owed again."""

    job: JobId
    node: NodeId
    cause: str
    internal: bool = False


@frozen(kw_only=True)
class ReleaseCompleted:
    job: JobId
    node: NodeId
    result: Result
    exit_code: int | None
    failure: FailureInfo | None


@frozen(kw_only=True)
class ReleaseAbandoned:
    """The debt is settled without a run, because the node or what was to be released is gone."""

    job: JobId
    node: NodeId
    cause: str


# --- finalizer, per job ---------------------------------------------------------------------------------------


@frozen(kw_only=True)
class FinalizerStarted:
    """All that a job had to do is done, its releases included: its finalizer was handed to its node, or to the engine's host."""

    job: JobId
    node: NodeId
    execution: ExecutionId


@frozen(kw_only=True)
class FinalizerInterrupted:
    """The node, or the engine's host, went down under the finalizer: it has not run to its end and runs again."""

    job: JobId
    node: NodeId
    cause: str
    internal: bool = False


@frozen(kw_only=True)
class FinalizerCompleted:
    job: JobId
    node: NodeId
    result: Result
    exit_code: int | None
    failure: FailureInfo | None


@frozen(kw_only=True)
class FinalizerAbandoned:
    """The finalizer did not run to an end and will not, because the node that was chosen for it is gone or cannot run it."""

    job: JobId
    node: NodeId
    cause: str


# --- execution: one launch of one command line ----------------------------------------------------------------


@frozen(kw_only=True)
class ExecutionRequested:
    """A launch is intended, and from now on may have happened."""

    execution: ExecutionId
    kind: ExecutionKind
    job: JobId | None
    task: TaskId
    node: NodeId
    attempt: int


@frozen(kw_only=True)
class ExecutionConfirmed:
    """The executor saw the program start."""

    execution: ExecutionId
    job: JobId | None
    task: TaskId
    node: NodeId
    pid: int | None


@frozen(kw_only=True)
class ExecutionStopRequested:
    """The execution should end.  `then` is what becomes of its task; `failure` is the result of one that completes so.

    `silent_for` is how long its executor saw it write nothing, where it is to end for that.
    """

    execution: ExecutionId
    job: JobId | None
    task: TaskId
    node: NodeId
    then: StopThen
    cause: str
    failure: FailureInfo | None = None
    silent_for: Duration | None = None


@frozen(kw_only=True)
class ExecutionEnded:
    """The program ended and this is how.  `upload_failure` is why its output files could not all be uploaded."""

    execution: ExecutionId
    job: JobId | None
    task: TaskId
    node: NodeId
    exit_code: int
    signal: int | None
    stopped: bool
    wall: Duration | None
    leftover: tuple[int, ...] = ()
    upload_failure: FailureInfo | None = None


@frozen(kw_only=True)
class ExecutionNeverRan:
    """The program certainly did not run: it or its files could not be had (`failure`), or a stop came first."""

    execution: ExecutionId
    job: JobId | None
    task: TaskId
    node: NodeId
    failure: FailureInfo | None


@frozen(kw_only=True)
class ExecutionUnresolved:
    """The program runs no more and nobody saw how it ended: an outcome of its own, never guessed at."""

    execution: ExecutionId
    job: JobId | None
    task: TaskId
    node: NodeId
    reason: str


# --- files: the folder of a task, preparation or release on one node ------------------------------------------


@frozen(kw_only=True)
class FilesExpired:
    """The folder's retention has passed, or its task was deleted: what executions with a number below `before` wrote is to be removed."""

    job: JobId
    task: TaskId
    node: NodeId
    before: ExecutionId


@frozen(kw_only=True)
class FilesRemoved:
    """The folder is gone; `problem` says why it, or some of it, could not be removed."""

    job: JobId
    task: TaskId
    node: NodeId
    problem: str | None = None


@frozen(kw_only=True)
class JobFilesExpired:
    """The job was deleted: all its folders on the node are to be removed, whatever their retention."""

    job: JobId
    node: NodeId
    before: ExecutionId


@frozen(kw_only=True)
class JobFilesRemoved:
    """All of the job's folders on the node are gone; `problem` says why some could not be removed."""

    job: JobId
    node: NodeId
    problem: str | None = None


Event = (
    EngineStarted
    | EngineStopped
    | PoolCreated
    | PoolResizing
    | PoolResizeStopping
    | PoolSteady
    | PoolDeleting
    | PoolDeleted
    | NodeAdded
    | NodeStarting
    | NodeBooted
    | NodeAwaitingStartTask
    | NodeStartTaskFailed
    | NodeIdle
    | NodeRunning
    | NodeOffline
    | NodeRebooting
    | NodeReimaging
    | NodeUnusable
    | NodeUnknown
    | NodePreempted
    | NodeReallocated
    | NodeDeallocating
    | NodeDeallocated
    | NodeLeaving
    | NodeRemoved
    | NodeDraining
    | NodeDrainStopped
    | NodeSchedulingDisabled
    | NodeSchedulingEnabled
    | StartTaskStarted
    | StartTaskRetried
    | StartTaskInterrupted
    | StartTaskCompleted
    | JobCreated
    | JobBlocked
    | JobUnblocked
    | JobPatched
    | JobDisabling
    | JobDisabled
    | JobEnabling
    | JobEnabled
    | JobTerminating
    | JobCompleted
    | JobDeleting
    | JobDeleted
    | TaskAdded
    | TaskPreparing
    | TaskRunning
    | TaskRetried
    | TaskRetryDue
    | TaskRequeued
    | TaskCompleted
    | TaskReactivated
    | TaskDeleted
    | PreparationStarted
    | PreparationRetried
    | PreparationCompleted
    | PreparationDue
    | ReleaseOwed
    | ReleaseStarted
    | ReleaseInterrupted
    | ReleaseCompleted
    | ReleaseAbandoned
    | FinalizerStarted
    | FinalizerInterrupted
    | FinalizerCompleted
    | FinalizerAbandoned
    | ExecutionRequested
    | ExecutionConfirmed
    | ExecutionStopRequested
    | ExecutionEnded
    | ExecutionNeverRan
    | ExecutionUnresolved
    | FilesExpired
    | FilesRemoved
    | JobFilesExpired
    | JobFilesRemoved
)

STORED: Final[dict[type[Event], tuple[str, int]]] = {
    EngineStarted: ("engine.started", 1),
    EngineStopped: ("engine.stopped", 1),
    PoolCreated: ("pool.created", 1),
    PoolResizing: ("pool.resizing", 1),
    PoolResizeStopping: ("pool.resize-stopping", 1),
    PoolSteady: ("pool.steady", 1),
    PoolDeleting: ("pool.deleting", 1),
    PoolDeleted: ("pool.deleted", 1),
    NodeAdded: ("node.added", 1),
    NodeStarting: ("node.starting", 1),
    NodeBooted: ("node.booted", 1),
    NodeAwaitingStartTask: ("node.awaiting-start-task", 1),
    NodeStartTaskFailed: ("node.start-task-failed", 1),
    NodeIdle: ("node.idle", 1),
    NodeRunning: ("node.running", 1),
    NodeOffline: ("node.offline", 1),
    NodeRebooting: ("node.rebooting", 1),
    NodeReimaging: ("node.reimaging", 1),
    NodeUnusable: ("node.unusable", 1),
    NodeUnknown: ("node.unknown", 1),
    NodePreempted: ("node.preempted", 1),
    NodeReallocated: ("node.reallocated", 1),
    NodeDeallocating: ("node.deallocating", 1),
    NodeDeallocated: ("node.deallocated", 1),
    NodeLeaving: ("node.leaving", 1),
    NodeRemoved: ("node.removed", 1),
    NodeDraining: ("node.draining", 1),
    NodeDrainStopped: ("node.drain-stopped", 1),
    NodeSchedulingDisabled: ("node.scheduling-disabled", 1),
    NodeSchedulingEnabled: ("node.scheduling-enabled", 1),
    StartTaskStarted: ("start-task.started", 1),
    StartTaskRetried: ("start-task.retried", 1),
    StartTaskInterrupted: ("start-task.interrupted", 1),
    StartTaskCompleted: ("start-task.completed", 1),
    JobCreated: ("job.created", 1),
    JobBlocked: ("job.blocked", 1),
    JobUnblocked: ("job.unblocked", 1),
    JobPatched: ("job.patched", 1),
    JobDisabling: ("job.disabling", 1),
    JobDisabled: ("job.disabled", 1),
    JobEnabling: ("job.enabling", 1),
    JobEnabled: ("job.enabled", 1),
    JobTerminating: ("job.terminating", 1),
    JobCompleted: ("job.completed", 1),
    JobDeleting: ("job.deleting", 1),
    JobDeleted: ("job.deleted", 1),
    TaskAdded: ("task.added", 1),
    TaskPreparing: ("task.preparing", 1),
    TaskRunning: ("task.running", 1),
    TaskRetried: ("task.retried", 1),
    TaskRetryDue: ("task.retry-due", 1),
    TaskRequeued: ("task.requeued", 1),
    TaskCompleted: ("task.completed", 1),
    TaskReactivated: ("task.reactivated", 1),
    TaskDeleted: ("task.deleted", 1),
    PreparationStarted: ("preparation.started", 1),
    PreparationRetried: ("preparation.retried", 1),
    PreparationCompleted: ("preparation.completed", 1),
    PreparationDue: ("preparation.due", 1),
    ReleaseOwed: ("release.owed", 1),
    ReleaseStarted: ("release.started", 1),
    ReleaseInterrupted: ("release.interrupted", 1),
    ReleaseCompleted: ("release.completed", 1),
    ReleaseAbandoned: ("release.abandoned", 1),
    FinalizerStarted: ("finalizer.started", 1),
    FinalizerInterrupted: ("finalizer.interrupted", 1),
    FinalizerCompleted: ("finalizer.completed", 1),
    FinalizerAbandoned: ("finalizer.abandoned", 1),
    ExecutionRequested: ("execution.requested", 1),
    ExecutionConfirmed: ("execution.confirmed", 1),
    ExecutionStopRequested: ("execution.stop-requested", 1),
    ExecutionEnded: ("execution.ended", 1),
    ExecutionNeverRan: ("execution.never-ran", 1),
    ExecutionUnresolved: ("execution.unresolved", 1),
    FilesExpired: ("files.expired", 1),
    FilesRemoved: ("files.removed", 1),
    JobFilesExpired: ("job-files.expired", 1),
    JobFilesRemoved: ("job-files.removed", 1),
}


def stream_of(event: Event) -> str:
    """The stream an event is read by: `job/<id>` where it names a job, else `node/<id>`, `pool/<id>` or `engine`."""
    job = getattr(event, "job", None)
    if job is not None:
        return f"job/{job}"
    node = getattr(event, "node", None)
    if node is not None:
        return f"node/{node}"
    pool = getattr(event, "pool", None)
    return f"pool/{pool}" if pool is not None else "engine"
