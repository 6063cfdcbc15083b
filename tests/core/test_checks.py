"""Checks: every part of a pool, a job and a task is looked at, and each mistake is told with its own path."""

import pytest

from jobledger.core import limits
from jobledger.core.checks import check_job, check_pool, check_tasks
from jobledger.core.specs import (
    ApplicationPackageReference,
    EnvironmentSetting,
    FinalizerSpec,
    JobConstraints,
    JobSpec,
    MetadataItem,
    OutputFile,
    OutputFileContainer,
    OutputFileDestination,
    PoolInfo,
    PoolSpec,
    PreparationSpec,
    ReleaseSpec,
    ResourceFile,
    StartTaskSpec,
    TaskConstraints,
    TaskSpec,
    UserIdentity,
)

WRONG = {
    "command_line": "",
    "environment_settings": (EnvironmentSetting(name="A=B"), EnvironmentSetting(name="A", value="\0")),
    "user_identity": UserIdentity(),
    "resource_files": (ResourceFile(),),
}
OUTPUTS = {"output_files": (OutputFile(file_pattern="*", destination=OutputFileDestination(container=OutputFileContainer(container_url="x"))),)}
PACKAGES = (ApplicationPackageReference(application_id="no id", url="/a.zip"),)
NAMELESS = (MetadataItem(name="", value="x"),)
CONSTRAINTS = {"max_wall_clock_time": 0, "max_task_retry_count": -2, "retention_time": -2}
ENDLESS = {"retry_delay": limits.RETRY_DELAY_MAX + 1, "retry_delay_max": limits.RETRY_DELAY_MAX + 1}

OF_WRONG = ["commandLine", "environmentSettings[0].name", "environmentSettings[1].value", "userIdentity", "resourceFiles[0]"]
OF_CONSTRAINTS = ["maxWallClockTime", "maxTaskRetryCount", "retentionTime"]
OF_OUTPUTS = "outputFiles[0].destination.container.containerUrl"


def below(path, names):
    return [f"{path}.{name}" for name in names]


def paths(mistakes):
    return sorted(mistake.path for mistake in mistakes)


def job(**more):
    return JobSpec(**{"id": "j", "pool_info": PoolInfo(pool_id="p"), **more})


def test_every_part_of_a_pool():
    start = StartTaskSpec(**WRONG, max_task_retry_count=-2)
    spec = PoolSpec(
        id="p" * 64,
        nodes=-1,
        task_slots_per_node=0,
        metadata=NAMELESS,
        start_task=start,
        resize_timeout=1,
        application_package_references=PACKAGES,
    )
    assert paths(check_pool(spec)) == sorted(
        [
            "id",
            "nodes",
            "taskSlotsPerNode",
            "metadata[0].name",
            *below("startTask", [*OF_WRONG, "maxTaskRetryCount"]),
            "resizeTimeout",
            "applicationPackageReferences[0].applicationId",
        ]
    )
    (long,) = check_pool(PoolSpec(id="p" * 63))
    assert str(long) == "id: too long: node ids are the pool's id and a number, 64 characters in all"


def test_every_part_of_a_job():
    spec = job(
        id="no id",
        pool_info=PoolInfo(pool_id="no id"),
        priority=1001,
        max_parallel_tasks=0,
        constraints=JobConstraints(**CONSTRAINTS, **ENDLESS),
        common_environment_settings=WRONG["environment_settings"],
        metadata=NAMELESS,
    )
    assert paths(check_job(spec)) == sorted(
        [
            "id",
            "poolInfo.poolId",
            "priority",
            "maxParallelTasks",
            *below("constraints", [*OF_CONSTRAINTS, "retryDelay", "retryDelayMax"]),
            "commonEnvironmentSettings[0].name",
            "commonEnvironmentSettings[1].value",
            "metadata[0].name",
        ]
    )


def test_every_part_of_a_preparation_a_release_and_a_finalizer():
    spec = job(
        job_preparation_task=PreparationSpec(**WRONG, id="no id", constraints=TaskConstraints(**CONSTRAINTS, retry_delay=1, retry_delay_max=1)),
        job_release_task=ReleaseSpec(**WRONG, **OUTPUTS, id="no id 2", max_wall_clock_time=0, retention_time=-2),
        job_finalizer_task=FinalizerSpec(**WRONG, **OUTPUTS, id="no id 3", max_wall_clock_time=0, node_id="no id"),
    )
    assert paths(check_job(spec)) == sorted(
        [
            *below("jobPreparationTask", ["id", *OF_WRONG]),
            *below("jobPreparationTask.constraints", [*OF_CONSTRAINTS, "retryDelay", "retryDelayMax"]),
            *below("jobReleaseTask", ["id", *OF_WRONG, OF_OUTPUTS, "maxWallClockTime", "retentionTime"]),
            *below("jobFinalizerTask", ["id", *OF_WRONG, OF_OUTPUTS, "maxWallClockTime", "nodeId"]),
        ]
    )
    delays = {mistake.text for mistake in check_job(spec) if "retryDelay" in mistake.path}
    assert delays == {"is for tasks alone: a preparation is tried again at once"}


def test_every_part_of_a_task():
    task = TaskSpec(
        **WRONG,
        **OUTPUTS,
        id="no id",
        constraints=TaskConstraints(**CONSTRAINTS, **ENDLESS, silent_timeout=1),
        required_slots=0,
        metadata=NAMELESS,
        application_package_references=PACKAGES,
    )
    assert paths(check_tasks(job(), [task])) == sorted(
        below(
            "tasks[0]",
            [
                "id",
                *OF_WRONG,
                OF_OUTPUTS,
                *below("constraints", [*OF_CONSTRAINTS, "retryDelay", "retryDelayMax", "silentTimeout"]),
                "requiredSlots",
                "metadata[0].name",
                "applicationPackageReferences[0].applicationId",
            ],
        )
    )


@pytest.mark.parametrize("other", ["jobPreparationTask", "jobReleaseTask"])
def test_the_commands_of_a_job_have_ids_of_their_own(other):
    ids = {"jobPreparationTask": "a", "jobReleaseTask": "b", "jobFinalizerTask": "c"}
    ids["jobFinalizerTask"] = ids[other]
    spec = job(
        job_preparation_task=PreparationSpec(command_line="x", id=ids["jobPreparationTask"]),
        job_release_task=ReleaseSpec(command_line="x", id=ids["jobReleaseTask"]),
        job_finalizer_task=FinalizerSpec(command_line="x", id=ids["jobFinalizerTask"]),
    )
    name = {"jobPreparationTask": "preparation", "jobReleaseTask": "release"}[other]
    assert list(map(str, check_job(spec))) == [f"jobFinalizerTask.id: '{ids[other]}' is already the id of the job {name} task"]


def test_preparation_and_release_have_different_ids():
    spec = job(job_preparation_task=PreparationSpec(command_line="x", id="a"), job_release_task=ReleaseSpec(command_line="x", id="a"))
    assert list(map(str, check_job(spec))) == ["jobReleaseTask.id: 'a' is already the id of the job preparation task"]


@pytest.mark.parametrize(
    ("length", "is_right"), [(0, False), (1, True), (limits.RELEASE_WALL_CLOCK_MAX, True), (limits.RELEASE_WALL_CLOCK_MAX + 1, False)]
)
def test_a_release_may_take_a_microsecond_and_at_most_a_quarter_of_an_hour(length, is_right):
    release = ReleaseSpec(command_line="x", max_wall_clock_time=length)
    assert bool(list(check_job(job(job_preparation_task=PreparationSpec(command_line="x"), job_release_task=release)))) != is_right


@pytest.mark.parametrize(("retries", "is_right"), [(-2, False), (-1, True), (1_000_000, True), (1_000_001, False)])
def test_retries_may_be_without_limit_or_as_many_as_a_million(retries, is_right):
    start = StartTaskSpec(command_line="x", max_task_retry_count=retries)
    assert bool(list(check_pool(PoolSpec(id="p", start_task=start)))) != is_right
    task = TaskSpec(id="t", command_line="x", constraints=TaskConstraints(max_task_retry_count=retries))
    assert bool(list(check_tasks(job(), [task]))) != is_right
