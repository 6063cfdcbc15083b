"""What a user asks for: pools, jobs, tasks, preparation and release, with Azure Batch's names and defaults.

Field names are Azure Batch's in snake_case; the job file and `status --json` show them in camelCase.  A spec is
checked for form where it is read (the job file) and for sense by `checks`.
Source of names and defaults: Azure Batch REST API 2025-06-01.
"""

import re
import shlex
from typing import Final, Literal

from attrs import frozen

from . import limits
from .ids import Duration, JobId, NodeId, PoolId, Retention, TaskId

ReleaseScope = Literal["taskRan", "prepared", "attempted"]
OnAllTasksComplete = Literal["noaction", "terminatejob"]
NodeFillType = Literal["spread", "pack"]
OnTaskFailure = Literal["noaction", "performexitoptionsjobaction"]
JobAction = Literal["none", "disable", "terminate"]
DependencyAction = Literal["satisfy", "block"]
DisableTasks = Literal["requeue", "terminate", "wait"]
NodeOption = Literal["requeue", "terminate", "taskcompletion"]
"""What becomes of a node's tasks when something is done to it: they run again elsewhere, are ended as failed, or are waited for."""
AutoUserScope = Literal["pool"]
"""Azure Batch has `task` too, for a user made for one task alone: none is made here."""
ElevationLevel = Literal["nonadmin", "admin"]
UploadCondition = Literal["tasksuccess", "taskfailure", "taskcompletion"]

AFFINITY_PREFIX: Final = "TVM:"
"""What Azure Batch writes before a node's id where it is an affinityId."""


@frozen(kw_only=True, repr=False)
class EnvironmentSetting:
    """One environment variable of a command line.

    The value of a `secret` one stays out of the ledger, which has a keyed digest in its place (see `core/secrecy.py`).
    """

    name: str
    value: str = ""
    secret: bool = False

    def __repr__(self) -> str:
        """Without the value of a secret: records are printed in messages and tracebacks."""
        shown = "value=..., secret=True" if self.secret else f"value={self.value!r}"
        return f"EnvironmentSetting(name={self.name!r}, {shown})"


@frozen(kw_only=True)
class MetadataItem:
    """A name and value that jobledger stores and shows but never interprets."""

    name: str
    value: str


@frozen(kw_only=True)
class AutoUserSpecification:
    """The user that a node chooses: one without rights of an administrator, or with them."""

    scope: AutoUserScope = "pool"
    elevation_level: ElevationLevel = "nonadmin"


@frozen(kw_only=True)
class UserIdentity:
    """As which user of the node a command line runs: one by name, or one that the node chooses; exactly one of both."""

    username: str | None = None
    auto_user: AutoUserSpecification | None = None


@frozen(kw_only=True)
class TaskConstraints:
    """Limits of a task or of the job preparation task.

    `max_wall_clock_time` is counted from the start of each try; None is unlimited.  `max_task_retry_count` counts
    retries after a non-zero exit only: 0 is one try, -1 is no limit.  `retention_time` is how long its folder is kept, a task's from the
    end of its latest run on the node and the preparation's from the end of the job; None is what the job says.

    The rest is jobledger's own.  The first retry waits for `retry_delay` (None: not at all), each one after it twice as long as the one before, up to
    `retry_delay_max` (None is a day).  A program that writes nothing to stdout or stderr for `silent_timeout` is ended; None is no limit.
    """

    max_wall_clock_time: Duration | None = None
    max_task_retry_count: int = 0
    retry_delay: Duration | None = None
    retry_delay_max: Duration | None = None
    silent_timeout: Duration | None = None
    retention_time: Retention | None = None


@frozen(kw_only=True)
class JobConstraints:
    """Limits of a job, and what its tasks get when they state no constraints of their own.

    `max_wall_clock_time` is counted from the job's creation; when it ends the job is terminated with the reason
    `MaxWallClockTimeExpiry`.  `retention_time` is jobledger's own: what tasks, preparation and release have that state none.
    """

    max_wall_clock_time: Duration | None = None
    max_task_retry_count: int = 0
    retry_delay: Duration | None = None
    retry_delay_max: Duration | None = None
    retention_time: Retention = limits.RETENTION


@frozen(kw_only=True)
class ResourceFile:
    """What is fetched into the working directory before a command line runs: one file (`http_url`) or all of a folder (`storage_container_url`).

    Exactly one of the two addresses is given: http, https, file or any that fsspec knows, or an absolute path on the node's machine.
    """

    http_url: str | None = None
    storage_container_url: str | None = None
    blob_prefix: str | None = None
    file_path: str | None = None
    file_mode: str | None = None


@frozen(kw_only=True)
class OutputFileContainer:
    """A folder, or what object stores have for one, that output files are uploaded to."""

    container_url: str
    path: str | None = None


@frozen(kw_only=True)
class OutputFileDestination:
    """Where output files go; containers are all there is."""

    container: OutputFileContainer


@frozen(kw_only=True)
class OutputFileUploadOptions:
    """When output files are uploaded: `tasksuccess` is exit code 0, `taskfailure` every other end, `taskcompletion` both."""

    upload_condition: UploadCondition = "taskcompletion"


@frozen(kw_only=True)
class OutputFile:
    """Files of a task that are uploaded when its program has ended."""

    file_pattern: str
    destination: OutputFileDestination
    upload_options: OutputFileUploadOptions = OutputFileUploadOptions()


@frozen(kw_only=True)
class ApplicationPackageReference:
    """A zip of programs or data that is unpacked on a node once, for all command lines that refer to it.

    There is no account that keeps packages, so the reference says where the zip of that version is; `url` and `sha256` are jobledger's own.
    """

    application_id: str
    version: str | None = None
    url: str
    sha256: str | None = None


@frozen(kw_only=True)
class PreparationSpec:
    """The job preparation task: what runs on a node before the job's first task there."""

    command_line: str
    id: TaskId = TaskId("jobpreparation")
    environment_settings: tuple[EnvironmentSetting, ...] = ()
    constraints: TaskConstraints = TaskConstraints()
    wait_for_success: bool = True
    rerun_on_node_reboot_after_success: bool = True
    user_identity: UserIdentity | None = None
    resource_files: tuple[ResourceFile, ...] = ()


@frozen(kw_only=True)
class ReleaseSpec:
    """The job release task: what runs at the job's end on each node that `release_scope` names.

    `release_scope` is jobledger's own: `taskRan` (default) where a task of the job ran, `prepared` also where
    preparation completed with success, `attempted` also where preparation was launched at all.  `output_files` is jobledger's own
    too: Azure Batch has it for tasks only.  `retention_time` is how long its folder is kept from its end; None is what the job says.
    """

    command_line: str
    id: TaskId = TaskId("jobrelease")
    environment_settings: tuple[EnvironmentSetting, ...] = ()
    max_wall_clock_time: Duration = limits.RELEASE_WALL_CLOCK_MAX
    release_scope: ReleaseScope = "taskRan"
    user_identity: UserIdentity | None = None
    resource_files: tuple[ResourceFile, ...] = ()
    output_files: tuple[OutputFile, ...] = ()
    retention_time: Retention | None = None


@frozen(kw_only=True)
class FinalizerSpec:
    """The job finalizer: what runs once at the very end of a job, when all releases are done, however the job ends.

    It runs on the engine's host, or on the node `node_id` of any pool.  The whole record is jobledger's own.
    """

    command_line: str
    id: TaskId = TaskId("jobfinalizer")
    environment_settings: tuple[EnvironmentSetting, ...] = ()
    max_wall_clock_time: Duration = limits.RELEASE_WALL_CLOCK_MAX
    node_id: NodeId | None = None
    user_identity: UserIdentity | None = None
    resource_files: tuple[ResourceFile, ...] = ()
    output_files: tuple[OutputFile, ...] = ()


@frozen(kw_only=True)
class StartTaskSpec:
    """What runs on a node when it joins its pool and each time it boots."""

    command_line: str
    environment_settings: tuple[EnvironmentSetting, ...] = ()
    max_task_retry_count: int = 0
    wait_for_success: bool = True
    user_identity: UserIdentity | None = None
    resource_files: tuple[ResourceFile, ...] = ()


@frozen(kw_only=True)
class TaskIdRange:
    """Task ids that read as the whole numbers from `start` to `end`, both included."""

    start: int
    end: int


@frozen(kw_only=True)
class TaskDependencies:
    """What has to succeed before a task is placed: tasks by id, and every number of the ranges."""

    task_ids: tuple[TaskId, ...] = ()
    task_id_ranges: tuple[TaskIdRange, ...] = ()


@frozen(kw_only=True)
class ExitOptions:
    """What follows from one way in which a task may end; None leaves it to the rules of `core/exits.py`."""

    job_action: JobAction | None = None
    dependency_action: DependencyAction | None = None


@frozen(kw_only=True)
class ExitCodeMapping:
    """What follows from one exit code."""

    code: int
    exit_options: ExitOptions


@frozen(kw_only=True)
class ExitCodeRangeMapping:
    """What follows from the exit codes from `start` to `end`, both included."""

    start: int
    end: int
    exit_options: ExitOptions


@frozen(kw_only=True)
class ExitConditions:
    """What follows from the ways in which a task may end."""

    exit_codes: tuple[ExitCodeMapping, ...] = ()
    exit_code_ranges: tuple[ExitCodeRangeMapping, ...] = ()
    pre_processing_error: ExitOptions | None = None
    default: ExitOptions | None = None
    file_upload_error: ExitOptions | None = None


@frozen(kw_only=True)
class AffinityInfo:
    """Where a task had best run, by a node's id or what `nodes --json` calls its affinityId: it is a hint and no more.

    The task goes to that node if it has room for it when the task's turn comes, and to any other if not.
    """

    affinity_id: str

    @property
    def node(self) -> NodeId:
        """The node that is meant."""
        return NodeId(self.affinity_id.removeprefix(AFFINITY_PREFIX))


@frozen(kw_only=True)
class TaskSpec:
    """One task: a command line that some node of the job's pool runs once, retries apart.

    `required_slots` of its node are the task's alone while it is preparing or running; a node has `PoolSpec.task_slots_per_node` of
    them, and a task that requires more than any node has waits for ever.
    """

    id: TaskId
    command_line: str
    display_name: str | None = None
    environment_settings: tuple[EnvironmentSetting, ...] = ()
    constraints: TaskConstraints | None = None
    depends_on: TaskDependencies | None = None
    exit_conditions: ExitConditions | None = None
    user_identity: UserIdentity | None = None
    required_slots: int = 1
    affinity_info: AffinityInfo | None = None
    metadata: tuple[MetadataItem, ...] = ()
    resource_files: tuple[ResourceFile, ...] = ()
    output_files: tuple[OutputFile, ...] = ()
    application_package_references: tuple[ApplicationPackageReference, ...] = ()


@frozen(kw_only=True)
class PoolInfo:
    """Which pool a job runs on.  A pool that does not exist yet is waited for."""

    pool_id: PoolId


@frozen(kw_only=True)
class JobSpec:
    """A job: where it runs, its preparation, release and finalizer, and what ends it.

    `max_parallel_tasks` is how many of its tasks may be preparing or running at the same time; -1 is no limit.
    """

    id: JobId
    pool_info: PoolInfo
    display_name: str | None = None
    priority: int = 0
    max_parallel_tasks: int = -1
    constraints: JobConstraints = JobConstraints()
    job_preparation_task: PreparationSpec | None = None
    job_release_task: ReleaseSpec | None = None
    common_environment_settings: tuple[EnvironmentSetting, ...] = ()
    on_all_tasks_complete: OnAllTasksComplete = "noaction"
    on_task_failure: OnTaskFailure = "noaction"
    uses_task_dependencies: bool = False
    metadata: tuple[MetadataItem, ...] = ()
    job_finalizer_task: FinalizerSpec | None = None


@frozen(kw_only=True)
class TaskSchedulingPolicy:
    """`spread` places a task on the node with the most free slots, `pack` on the one with the fewest."""

    node_fill_type: NodeFillType = "spread"


@frozen(kw_only=True)
class PoolSpec:
    """A pool: how many nodes, through which executor, with how many task slots each.

    `resize_timeout` is how long a resize may last before it is over with what it has reached.
    """

    id: PoolId
    executor: str = "local"
    nodes: int = 1
    task_slots_per_node: int = 1
    task_scheduling_policy: TaskSchedulingPolicy = TaskSchedulingPolicy()
    start_task: StartTaskSpec | None = None
    display_name: str | None = None
    metadata: tuple[MetadataItem, ...] = ()
    resize_timeout: Duration = limits.RESIZE_TIMEOUT
    application_package_references: tuple[ApplicationPackageReference, ...] = ()


def package_variable(reference: ApplicationPackageReference) -> str:
    """The environment variable that tells a command line where a package lies (semantics 3.7, Linux)."""
    parts = (reference.application_id, *((reference.version,) if reference.version is not None else ()))
    return "AZ_BATCH_APP_PACKAGE_" + re.sub(r"[-.]", "_", "_".join(parts)).lower()


def split_command_line(command_line: str) -> list[str]:
    """The words of a command line, as a POSIX shell would split it but without running one.

    Raises ValueError where a quote is not closed.  Azure Batch does not run command lines under a shell either:
    write `/bin/sh -c "..."` for redirection or variables.
    """
    return shlex.split(command_line)
