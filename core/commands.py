"""Commands: what an executor must make true.  Derived from the world, identified, safe to repeat.

A `Run...` command is identified by its execution: an executor that gets it twice launches once and answers the second
time with what it knows.  `StopExecution` for an execution that was never launched forbids the launch.  `BootNode` and
`RetireNode` are identified by node and incarnation, `RemoveFiles` by node, job, task and the number of the first execution that is not meant.
"""

from attrs import frozen

from .ids import Duration, ExecutionId, JobId, NodeId, PoolId, TaskId
from .specs import ApplicationPackageReference, EnvironmentSetting, OutputFile, ResourceFile, UserIdentity


@frozen(kw_only=True)
class Launch:
    """All an executor needs to run one command line; the same for every kind of execution."""

    execution: ExecutionId
    pool: PoolId
    node: NodeId
    job: JobId | None
    """None for a start task."""
    task: TaskId
    """The task's id, or that of the preparation task, the release task or the finalizer, or `starttask`."""
    attempt: int
    """How many launches of this task (on this node, for all but tasks) there have been, this one included."""
    command_line: str
    environment: tuple[EnvironmentSetting, ...]
    """The job's common settings overlaid with the task's own; the executor adds Azure's variables."""
    preparation: TaskId | None = None
    """Id of the job's preparation task where it has one: the executor derives AZ_BATCH_JOB_PREP_DIR from it."""
    silent_after: Duration | None = None
    """Report `ExecutionSilent` when the program has written nothing for so long; None: nobody wants to know."""
    user: UserIdentity | None = None
    """As which user it runs; None for the one that the executor runs as.  Never as another: what cannot be is not launched."""
    resource_files: tuple[ResourceFile, ...] = ()
    """What has to be in the working directory before the program starts; where it cannot be had, the program never runs."""
    output_files: tuple[OutputFile, ...] = ()
    """What is uploaded when the program has ended, before the end is reported."""
    packages: tuple[ApplicationPackageReference, ...] = ()
    """What has to be unpacked on the node before the program starts: the pool's packages and the task's own."""
    facts: tuple[EnvironmentSetting, ...] = ()
    """Variables of jobledger's own (`JOBLEDGER_*`), which the executor sets over all others: what a finalizer is told of its job."""


@frozen(kw_only=True)
class RunTask:
    launch: Launch


@frozen(kw_only=True)
class RunPreparation:
    launch: Launch


@frozen(kw_only=True)
class RunRelease:
    launch: Launch


@frozen(kw_only=True)
class RunFinalizer:
    """On the engine's host the launch's node is `ENGINE_HOST`, and it goes to the executor `local`."""

    launch: Launch


@frozen(kw_only=True)
class RunStartTask:
    launch: Launch


@frozen(kw_only=True)
class StopExecution:
    """End the execution's whole process group: SIGTERM, `grace`, SIGKILL, until nothing is left.

    `upload` tells whether output files are uploaded all the same, since the end is for good.  Without it an upload under way is given up,
    and the execution has ended by the stop even where its program ended by itself before.
    """

    execution: ExecutionId
    pool: PoolId
    node: NodeId
    grace: Duration
    upload: bool = False


@frozen(kw_only=True)
class BootNode:
    """Bring the node up as `incarnation` and report `NodeReady`; `wipe` empties it first (a new or reimaged node)."""

    pool: PoolId
    node: NodeId
    incarnation: int
    wipe: bool


@frozen(kw_only=True)
class RetireNode:
    """Take the node down and report `NodeRetired`; `wipe` removes its files."""

    pool: PoolId
    node: NodeId
    incarnation: int
    wipe: bool


@frozen(kw_only=True)
class RemoveFiles:
    """Remove the folder of a task, preparation or release, or with `task` None all folders of the job, and report `FilesRemoved`.

    Only what executions with a number below `before` wrote is meant; the engine launches nothing there until it has the answer.
    A folder that is not there is removed; what cannot be removed is said, and nothing outside the node is ever touched.
    """

    pool: PoolId
    node: NodeId
    job: JobId
    task: TaskId | None
    before: ExecutionId


RunCommand = RunTask | RunPreparation | RunRelease | RunFinalizer | RunStartTask
Command = RunCommand | StopExecution | BootNode | RetireNode | RemoveFiles
