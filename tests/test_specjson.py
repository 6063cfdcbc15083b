import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger import specjson
from jobledger.core.ids import SECOND, UNLIMITED_RETENTION, Duration, JobId, PoolId, Retention, TaskId
from jobledger.core.specs import (
    EnvironmentSetting,
    JobConstraints,
    JobSpec,
    PoolInfo,
    PoolSpec,
    PreparationSpec,
    ReleaseSpec,
    TaskConstraints,
    TaskSpec,
)
from jobledger.durations import UNLIMITED

JOB = JobSpec(
    id=JobId("job"),
    pool_info=PoolInfo(pool_id=PoolId("pool")),
    job_preparation_task=PreparationSpec(command_line="prepare"),
    job_release_task=ReleaseSpec(command_line="tidy"),
)

IDS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
LENGTHS = st.integers(0, 10**12).map(Duration)
SETTINGS = st.lists(st.builds(EnvironmentSetting, name=st.text(), value=st.text(), secret=st.booleans()), max_size=3).map(tuple)
KEPT = st.integers(-1, 10**12).map(Retention)
TASKS = st.builds(
    TaskSpec,
    id=IDS.map(TaskId),
    command_line=st.text(),
    display_name=st.none() | st.text(),
    environment_settings=SETTINGS,
    constraints=st.none()
    | st.builds(TaskConstraints, max_wall_clock_time=st.none() | LENGTHS, max_task_retry_count=st.integers(), retention_time=st.none() | KEPT),
)
JOBS = st.builds(
    JobSpec,
    id=IDS.map(JobId),
    pool_info=st.builds(PoolInfo, pool_id=IDS.map(PoolId)),
    priority=st.integers(),
    constraints=st.builds(JobConstraints, max_wall_clock_time=st.none() | LENGTHS, max_task_retry_count=st.integers(), retention_time=KEPT),
    job_preparation_task=st.none() | st.builds(PreparationSpec, command_line=st.text(), environment_settings=SETTINGS),
    job_release_task=st.none() | st.builds(ReleaseSpec, command_line=st.text(), max_wall_clock_time=LENGTHS, retention_time=st.none() | KEPT),
    common_environment_settings=SETTINGS,
)


@given(TASKS | JOBS)
def test_a_spec_comes_back_from_its_json(spec: TaskSpec | JobSpec) -> None:
    assert specjson.structure(specjson.unstructure(spec), type(spec)) == (spec, [])


def test_json_has_azures_names_and_leaves_out_what_is_absent() -> None:
    assert specjson.unstructure(JOB) == {
        "id": "job",
        "poolInfo": {"poolId": "pool"},
        "priority": 0,
        "maxParallelTasks": -1,
        "constraints": {"maxTaskRetryCount": 0, "retentionTime": "P7D"},
        "jobPreparationTask": {
            "commandLine": "prepare",
            "id": "jobpreparation",
            "constraints": {"maxTaskRetryCount": 0},
            "waitForSuccess": True,
            "rerunOnNodeRebootAfterSuccess": True,
        },
        "jobReleaseTask": {"commandLine": "tidy", "id": "jobrelease", "maxWallClockTime": "PT15M", "releaseScope": "taskRan"},
        "onAllTasksComplete": "noaction",
        "onTaskFailure": "noaction",
        "usesTaskDependencies": False,
    }


def test_durations_are_iso_8601() -> None:
    assert specjson.unstructure(TaskConstraints(max_wall_clock_time=Duration(90 * SECOND)))["maxWallClockTime"] == "PT1M30S"


@pytest.mark.parametrize(("text", "kept"), [("PT0S", 0), ("P7D", 7 * 86_400 * SECOND), (UNLIMITED, UNLIMITED_RETENTION)])
def test_a_retention_time_may_be_nothing_and_without_limit(text: str, kept: int) -> None:
    for record in (TaskConstraints, JobConstraints):
        found, mistakes = specjson.structure({"retentionTime": text}, record)
        assert (found, mistakes) == (record(retention_time=Retention(kept)), [])
        assert specjson.unstructure(found)["retentionTime"] == text


def test_a_retention_time_that_is_not_stated_is_the_jobs() -> None:
    found, mistakes = specjson.structure({"retentionTime": None}, TaskConstraints)
    assert (found, mistakes) == (TaskConstraints(retention_time=None), [])
    assert "retentionTime" not in specjson.unstructure(found)


def test_a_difference_names_each_property() -> None:
    changed = JobSpec(
        id=JOB.id,
        pool_info=JOB.pool_info,
        priority=5,
        job_preparation_task=JOB.job_preparation_task,
        constraints=JobConstraints(max_wall_clock_time=Duration(SECOND)),
        common_environment_settings=(EnvironmentSetting(name="A", value="b"),),
    )
    assert specjson.difference(JOB, JOB) == []
    assert specjson.difference(JOB, changed) == [
        "job.priority: 0 -> 5",
        "job.jobReleaseTask.commandLine: \"tidy\" -> (none)",
        "job.jobReleaseTask.id: \"jobrelease\" -> (none)",
        "job.jobReleaseTask.maxWallClockTime: \"PT15M\" -> (none)",
        "job.jobReleaseTask.releaseScope: \"taskRan\" -> (none)",
        "job.constraints.maxWallClockTime: (none) -> \"PT1S\"",
        "job.commonEnvironmentSettings[0].name: (none) -> \"A\"",
        "job.commonEnvironmentSettings[0].value: (none) -> \"b\"",
    ]  # fmt: skip


def test_a_difference_says_that_a_secret_is_another_one_and_not_which() -> None:
    def job(value: str, secret: bool = True) -> JobSpec:
        return attrs.evolve(JOB, common_environment_settings=(EnvironmentSetting(name="A", value=value, secret=secret),))

    path = "job.commonEnvironmentSettings[0]"
    assert specjson.difference(job("hunter1"), job("hunter1")) == []
    assert specjson.difference(job("hunter1"), job("hunter2")) == [f"{path}.value: (secret) -> (another secret)"]
    assert specjson.difference(job("seen", secret=False), job("hunter2")) == [f'{path}.value: "seen" -> (secret)', f"{path}.secret: (none) -> true"]
    assert specjson.difference(JOB, job("hunter2"))[-2:] == [f"{path}.value: (none) -> (secret)", f"{path}.secret: (none) -> true"]
    assert specjson.difference(job("hunter2"), JOB)[-2:] == [f"{path}.value: (secret) -> (none)", f"{path}.secret: true -> (none)"]


def test_secret_shows_only_where_it_is_true() -> None:
    assert specjson.unstructure(EnvironmentSetting(name="A", value="b")) == {"name": "A", "value": "b"}
    assert specjson.unstructure(EnvironmentSetting(name="A", value="b", secret=True)) == {"name": "A", "value": "b", "secret": True}


def test_a_pool_and_a_task_differ_under_their_own_names() -> None:
    assert specjson.difference(PoolSpec(id=PoolId("p")), PoolSpec(id=PoolId("p"), nodes=3)) == ["pool.nodes: 1 -> 3"]
    one, two = (TaskSpec(id=TaskId("t"), command_line=line) for line in ("a", "b"))
    assert specjson.difference(one, two) == ['task t.commandLine: "a" -> "b"']


def test_tasks_are_matched_by_id() -> None:
    def tasks(**lines: str) -> list[TaskSpec]:
        return [TaskSpec(id=TaskId(name), command_line=line) for name, line in lines.items()]

    assert specjson.task_differences(tasks(a="x", b="x"), tasks(b="x", a="x")) == []
    assert specjson.task_differences(tasks(a="x", b="x"), tasks(b="y", c="x")) == [
        "task a: is gone",
        'task b.commandLine: "x" -> "y"',
        "task c: is new",
    ]


def test_a_path_is_spelt_as_in_the_file() -> None:
    assert specjson.spell(("tasks", 3, "constraints", "maxTaskRetryCount")) == "tasks[3].constraints.maxTaskRetryCount"
    assert specjson.spell((0, "id")) == "[0].id"
    assert specjson.spell(("a b",)) == "'a b'"
