"""What makes sense: every mistake in a pool, a job or tasks, found all at once and each with its path.

The job file's reader and the core ask the same checks, so that an embedder who builds a spec by hand gets the same answers.
"""

import re
from collections.abc import Iterable, Iterator

from attrs import evolve, frozen

from . import limits
from .file_checks import Found, mistakes_in_output_files, mistakes_in_packages, mistakes_in_resource_files
from .ids import ID_PATTERN, UNLIMITED_RETENTION, Duration, Retention
from .specs import (
    EnvironmentSetting,
    ExitConditions,
    ExitOptions,
    FinalizerSpec,
    JobConstraints,
    JobSpec,
    MetadataItem,
    PoolSpec,
    TaskConstraints,
    TaskDependencies,
    TaskSpec,
    UserIdentity,
    split_command_line,
)

USER_NAME_PATTERN = r"[^\s\0-\x1f:/#-][^\s\0-\x1f:/]{0,255}"
"""What may be an account's name at all: never an option, nor a number with `#` before it, which some tools take for a user's id."""


@frozen(kw_only=True)
class Mistake:
    """One thing wrong with a spec: where (a path such as `tasks[3].constraints.maxTaskRetryCount`), what, and Azure Batch's code for it."""

    path: str
    text: str
    code: str = "InvalidPropertyValue"

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


def check_pool(spec: PoolSpec) -> Iterator[Mistake]:
    """Every mistake of sense in a pool, with paths below `pool`."""
    yield from _check_id("id", spec.id)
    yield from _check_range("nodes", spec.nodes, 0, limits.NODES_PER_POOL_MAX)
    yield from _check_range("taskSlotsPerNode", spec.task_slots_per_node, 1, limits.TASK_SLOTS_PER_NODE_MAX)
    yield from _check_metadata("metadata", spec.metadata)
    if len(f"{spec.id}-{spec.nodes}") > limits.NODE_ID_LENGTH_MAX:
        yield Mistake(path="id", text=f"too long: node ids are the pool's id and a number, {limits.NODE_ID_LENGTH_MAX} characters in all")
    if (start := spec.start_task) is not None:
        yield from _check_command_line("startTask.commandLine", start.command_line)
        yield from _check_environment("startTask.environmentSettings", start.environment_settings)
        yield from _check_range("startTask.maxTaskRetryCount", start.max_task_retry_count, -1, 1_000_000)
        yield from _check_identity("startTask.userIdentity", start.user_identity)
        yield from _below("startTask.resourceFiles", mistakes_in_resource_files(start.resource_files))
    yield from check_resize_timeout(spec.resize_timeout)
    yield from _below("applicationPackageReferences", mistakes_in_packages(spec.application_package_references))


def check_resize_timeout(timeout: Duration) -> Iterator[Mistake]:
    """The mistake in how long a resize may last, if there is one."""
    if timeout < limits.RESIZE_TIMEOUT_MIN:
        yield Mistake(path="resizeTimeout", text="must be at least PT5M (Azure Batch's rule)")


def check_job(spec: JobSpec) -> Iterator[Mistake]:
    """Every mistake of sense in a job, with paths below `job`."""
    yield from _check_id("id", spec.id)
    yield from _check_id("poolInfo.poolId", spec.pool_info.pool_id)
    yield from _check_range("priority", spec.priority, limits.PRIORITY_MIN, limits.PRIORITY_MAX)
    if spec.max_parallel_tasks != -1:
        for wrong in _check_range("maxParallelTasks", spec.max_parallel_tasks, 1, limits.PARALLEL_TASKS_MAX):
            yield evolve(wrong, text=f"{wrong.text}; -1 is without limit")
    yield from _check_constraints("constraints", spec.constraints)
    yield from _check_environment("commonEnvironmentSettings", spec.common_environment_settings)
    yield from _check_metadata("metadata", spec.metadata)
    if (preparation := spec.job_preparation_task) is not None:
        yield from _check_id("jobPreparationTask.id", preparation.id)
        yield from _check_command_line("jobPreparationTask.commandLine", preparation.command_line)
        yield from _check_environment("jobPreparationTask.environmentSettings", preparation.environment_settings)
        yield from _check_constraints("jobPreparationTask.constraints", preparation.constraints)
        for name, value in (("retryDelay", preparation.constraints.retry_delay), ("retryDelayMax", preparation.constraints.retry_delay_max)):
            if value:
                yield Mistake(path=f"jobPreparationTask.constraints.{name}", text="is for tasks alone: a preparation is tried again at once")
        yield from _check_identity("jobPreparationTask.userIdentity", preparation.user_identity)
        yield from _below("jobPreparationTask.resourceFiles", mistakes_in_resource_files(preparation.resource_files))
    if (release := spec.job_release_task) is not None:
        if preparation is None:
            yield Mistake(path="jobReleaseTask", text="a job release task needs a jobPreparationTask, if only '/bin/true' (Azure Batch's rule)")
        elif preparation.id == release.id:
            yield Mistake(path="jobReleaseTask.id", text=f"'{release.id}' is already the id of the job preparation task")
        yield from _check_id("jobReleaseTask.id", release.id)
        yield from _check_command_line("jobReleaseTask.commandLine", release.command_line)
        yield from _check_environment("jobReleaseTask.environmentSettings", release.environment_settings)
        if not 0 < release.max_wall_clock_time <= limits.RELEASE_WALL_CLOCK_MAX:
            yield Mistake(path="jobReleaseTask.maxWallClockTime", text="must be more than 0 and at most PT15M (Azure Batch's rule)")
        yield from _check_identity("jobReleaseTask.userIdentity", release.user_identity)
        yield from _below("jobReleaseTask.resourceFiles", mistakes_in_resource_files(release.resource_files))
        yield from _below("jobReleaseTask.outputFiles", mistakes_in_output_files(release.output_files))
        yield from _check_retention("jobReleaseTask.retentionTime", release.retention_time)
    if (finalizer := spec.job_finalizer_task) is not None:
        yield from _check_finalizer(spec, finalizer)


def check_tasks(job: JobSpec, tasks: Iterable[TaskSpec]) -> Iterator[Mistake]:
    """Every mistake of sense in tasks meant for one job, with paths such as `tasks[3].id`."""
    seen: dict[str, int] = {}
    for number, task in enumerate(tasks):
        for mistake in _check_task(job, task):
            yield evolve(mistake, path=f"tasks[{number}].{mistake.path}")
        if (first := seen.setdefault(task.id, number)) != number:
            yield Mistake(path=f"tasks[{number}].id", text=f"'{task.id}' is already the id of tasks[{first}]")


def reserved_ids(job: JobSpec) -> dict[str, str]:
    """Task ids that a job's own tasks may not use, each with the code of the refusal."""
    taken: dict[str, str] = {}
    if job.job_preparation_task is not None:
        taken[job.job_preparation_task.id] = "TaskIdSameAsJobPreparationTask"
    if job.job_release_task is not None:
        taken[job.job_release_task.id] = "TaskIdSameAsJobReleaseTask"
    if job.job_finalizer_task is not None:
        taken[job.job_finalizer_task.id] = "TaskIdSameAsJobFinalizerTask"
    return taken


def _check_finalizer(job: JobSpec, finalizer: FinalizerSpec) -> Iterator[Mistake]:
    """What is wrong with a job finalizer."""
    for name, other in (("preparation", job.job_preparation_task), ("release", job.job_release_task)):
        if other is not None and other.id == finalizer.id:
            yield Mistake(path="jobFinalizerTask.id", text=f"'{finalizer.id}' is already the id of the job {name} task")
    yield from _check_id("jobFinalizerTask.id", finalizer.id)
    yield from _check_command_line("jobFinalizerTask.commandLine", finalizer.command_line)
    yield from _check_environment("jobFinalizerTask.environmentSettings", finalizer.environment_settings)
    if finalizer.max_wall_clock_time <= 0:
        yield Mistake(path="jobFinalizerTask.maxWallClockTime", text="must be more than 0")
    if finalizer.node_id is not None:
        yield from _check_id("jobFinalizerTask.nodeId", finalizer.node_id)
    yield from _check_identity("jobFinalizerTask.userIdentity", finalizer.user_identity)
    yield from _below("jobFinalizerTask.resourceFiles", mistakes_in_resource_files(finalizer.resource_files))
    yield from _below("jobFinalizerTask.outputFiles", mistakes_in_output_files(finalizer.output_files))


def _check_task(job: JobSpec, task: TaskSpec) -> Iterator[Mistake]:
    yield from _check_id("id", task.id)
    if (code := reserved_ids(job).get(task.id)) is not None:
        whose = "finalizer" if code == "TaskIdSameAsJobFinalizerTask" else "preparation or release task"
        yield Mistake(path="id", text=f"'{task.id}' is the id of the job's own {whose}", code=code)
    yield from _check_command_line("commandLine", task.command_line)
    yield from _check_environment("environmentSettings", task.environment_settings)
    if task.constraints is not None:
        yield from _check_constraints("constraints", task.constraints)
    if task.depends_on is not None:
        yield from _check_dependencies(job, task.depends_on)
    if task.exit_conditions is not None:
        yield from _check_exit_conditions(job, task.exit_conditions)
    yield from _check_identity("userIdentity", task.user_identity)
    yield from _check_range("requiredSlots", task.required_slots, 1, limits.TASK_SLOTS_PER_NODE_MAX)
    if task.affinity_info is not None and not re.fullmatch(ID_PATTERN, task.affinity_info.node):
        text = f"{task.affinity_info.affinity_id!r} is neither a node's id nor its affinityId, which `jobledger nodes --json` shows"
        yield Mistake(path="affinityInfo.affinityId", text=text)
    yield from _check_metadata("metadata", task.metadata)
    yield from _below("resourceFiles", mistakes_in_resource_files(task.resource_files))
    yield from _below("outputFiles", mistakes_in_output_files(task.output_files))
    yield from _below("applicationPackageReferences", mistakes_in_packages(task.application_package_references))


def _check_metadata(path: str, items: Iterable[MetadataItem]) -> Iterator[Mistake]:
    """Every mistake in the metadata of a job, a task or a pool."""
    for number, item in enumerate(items):
        if not item.name:
            yield Mistake(path=f"{path}[{number}].name", text="is empty", code="EmptyMetadataKey")


def _check_dependencies(job: JobSpec, wanted: TaskDependencies) -> Iterator[Mistake]:
    if not job.uses_task_dependencies:
        text = "the job does not say usesTaskDependencies: true"
        yield Mistake(path="dependsOn", text=text, code="TaskDependenciesNotSpecifiedOnJob")
    for number, task_id in enumerate(wanted.task_ids):
        yield from _check_id(f"dependsOn.taskIds[{number}]", task_id)
    if sum(map(len, wanted.task_ids)) > limits.DEPENDENCY_IDS_LENGTH_MAX:
        text = f"more than {limits.DEPENDENCY_IDS_LENGTH_MAX} characters in all (Azure Batch's rule); use taskIdRanges"
        yield Mistake(path="dependsOn.taskIds", text=text, code="TaskDependencyListTooLong")
    for number, part in enumerate(wanted.task_id_ranges):
        if not 0 <= part.start <= part.end:
            yield Mistake(path=f"dependsOn.taskIdRanges[{number}]", text=f"from {part.start} to {part.end} is no range: 0 <= start <= end")
    if sum(max(0, part.end - part.start + 1) for part in wanted.task_id_ranges) > limits.DEPENDENCY_NUMBERS_MAX:
        text = f"more than {limits.DEPENDENCY_NUMBERS_MAX} numbers in all"
        yield Mistake(path="dependsOn.taskIdRanges", text=text, code="TaskDependencyRangesTooLong")


def _check_exit_conditions(job: JobSpec, conditions: ExitConditions) -> Iterator[Mistake]:
    for path, options in _exit_options(conditions):
        if options.job_action is not None and job.on_task_failure == "noaction":
            text = "the job does not say onTaskFailure: performexitoptionsjobaction"
            yield Mistake(path=f"exitConditions.{path}.jobAction", text=text)
        if options.dependency_action is not None and not job.uses_task_dependencies:
            yield Mistake(path=f"exitConditions.{path}.dependencyAction", text="the job does not say usesTaskDependencies: true")
    for number, part in enumerate(conditions.exit_code_ranges):
        if part.start > part.end:
            yield Mistake(path=f"exitConditions.exitCodeRanges[{number}]", text=f"from {part.start} to {part.end} is no range")
    seen: dict[int, int] = {}
    for number, mapping in enumerate(conditions.exit_codes):
        if (first := seen.setdefault(mapping.code, number)) != number:
            yield Mistake(path=f"exitConditions.exitCodes[{number}].code", text=f"{mapping.code} is already mapped by exitCodes[{first}]")


def _exit_options(conditions: ExitConditions) -> Iterator[tuple[str, ExitOptions]]:
    """Every options record with its path below `exitConditions`."""
    yield from ((f"exitCodes[{number}].exitOptions", mapping.exit_options) for number, mapping in enumerate(conditions.exit_codes))
    yield from ((f"exitCodeRanges[{number}].exitOptions", part.exit_options) for number, part in enumerate(conditions.exit_code_ranges))
    if conditions.pre_processing_error is not None:
        yield "preProcessingError", conditions.pre_processing_error
    if conditions.default is not None:
        yield "default", conditions.default
    if conditions.file_upload_error is not None:
        yield "fileUploadError", conditions.file_upload_error


def _below(path: str, found: Iterable[Found]) -> Iterator[Mistake]:
    return (Mistake(path=path + name, text=text) for name, text in found)


def _check_id(path: str, value: str) -> Iterator[Mistake]:
    if not re.fullmatch(ID_PATTERN, value):
        yield Mistake(path=path, text=f"{value!r} is not an id: 1 to 64 letters, digits, '-' and '_'")


def _check_range(path: str, value: int, low: int, high: int) -> Iterator[Mistake]:
    if not low <= value <= high:
        yield Mistake(path=path, text=f"{value} is not between {low} and {high}")


def _check_constraints(path: str, constraints: TaskConstraints | JobConstraints) -> Iterator[Mistake]:
    if constraints.max_wall_clock_time is not None and constraints.max_wall_clock_time <= 0:
        yield Mistake(path=f"{path}.maxWallClockTime", text="must be more than 0")
    yield from _check_range(f"{path}.maxTaskRetryCount", constraints.max_task_retry_count, -1, 1_000_000)
    delay, longest = constraints.retry_delay, constraints.retry_delay_max
    if delay is not None and delay > limits.RETRY_DELAY_MAX:
        yield Mistake(path=f"{path}.retryDelay", text="must be at most P1D, a day")
    if longest is not None and not (delay or 0) <= longest <= limits.RETRY_DELAY_MAX:
        yield Mistake(path=f"{path}.retryDelayMax", text="must not be less than retryDelay, nor more than P1D, a day")
    if isinstance(constraints, TaskConstraints) and constraints.silent_timeout is not None and constraints.silent_timeout < limits.SILENT_TIMEOUT_MIN:
        yield Mistake(path=f"{path}.silentTimeout", text="must be at least PT1S, a second")
    yield from _check_retention(f"{path}.retentionTime", constraints.retention_time)


def _check_retention(path: str, retention: Retention | None) -> Iterator[Mistake]:
    if retention is not None and retention < 0 and retention != UNLIMITED_RETENTION:
        yield Mistake(path=path, text=f"{retention} is less than nothing")


def _check_command_line(path: str, command_line: str) -> Iterator[Mistake]:
    if "\0" in command_line:
        yield Mistake(path=path, text="holds a NUL character, which no program can be given")
    elif len(command_line.encode(errors="surrogatepass")) > limits.COMMAND_LINE_BYTES_MAX:
        yield Mistake(path=path, text=f"longer than {limits.COMMAND_LINE_BYTES_MAX} bytes")
    else:
        try:
            words = split_command_line(command_line)
        except ValueError as error:
            yield Mistake(path=path, text=f"cannot be split into words: {error}")
        else:
            if not words or not words[0]:
                yield Mistake(path=path, text="is empty")


def _check_environment(path: str, settings: Iterable[EnvironmentSetting]) -> Iterator[Mistake]:
    for number, setting in enumerate(settings):
        if not setting.name or "=" in setting.name or "\0" in setting.name:
            yield Mistake(path=f"{path}[{number}].name", text=f"{setting.name!r} is not the name of an environment variable")
        if "\0" in setting.value:
            yield Mistake(path=f"{path}[{number}].value", text="holds a NUL character")


def _check_identity(path: str, identity: UserIdentity | None) -> Iterator[Mistake]:
    if identity is None:
        return
    if (identity.username is None) == (identity.auto_user is None):
        yield Mistake(path=path, text="needs exactly one of username and autoUser")
    if identity.username is not None and not re.fullmatch(USER_NAME_PATTERN, identity.username):
        yield Mistake(path=f"{path}.username", text=f"{identity.username!r} is not the name of a user")
