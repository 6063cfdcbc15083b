import copy
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobledger import jobfile, plaindata
from jobledger.core import limits
from jobledger.core.checks import Mistake, check_job
from jobledger.core.ids import SECOND, Duration, JobId, NodeId, PoolId, TaskId
from jobledger.core.specs import (
    AutoUserSpecification,
    EnvironmentSetting,
    FinalizerSpec,
    JobConstraints,
    JobSpec,
    MetadataItem,
    PoolInfo,
    PoolSpec,
    PreparationSpec,
    ReleaseSpec,
    ResourceFile,
    StartTaskSpec,
    TaskConstraints,
    TaskSchedulingPolicy,
    TaskSpec,
    UserIdentity,
)
from jobledger.jsonnames import about_unknown, names_of

EXAMPLES = Path(__file__).parents[1] / "examples"

EVERYTHING: dict[str, Any] = {
    "pool": {
        "id": "workstation",
        "executor": "local",
        "nodes": 2,
        "taskSlotsPerNode": 4,
        "taskSchedulingPolicy": {"nodeFillType": "Pack"},
        "startTask": {
            "commandLine": "setup",
            "environmentSettings": [{"name": "A", "value": "1"}],
            "maxTaskRetryCount": 2,
            "waitForSuccess": False,
            "userIdentity": {"autoUser": {"elevationLevel": "Admin"}},
        },
        "displayName": "Below the desk",
        "metadata": [{"name": "room", "value": "4.12"}],
        "resizeTimeout": "PT20M",
    },
    "job": {
        "id": "job",
        "poolInfo": {"poolId": "workstation"},
        "displayName": "A job",
        "priority": -5,
        "constraints": {"maxWallClockTime": "P1D", "maxTaskRetryCount": 1},
        "jobPreparationTask": {
            "id": "prepare",
            "commandLine": "prepare it",
            "environmentSettings": [{"name": "B"}],
            "constraints": {"maxWallClockTime": "PT10M", "maxTaskRetryCount": -1},
            "waitForSuccess": False,
            "rerunOnNodeRebootAfterSuccess": False,
            "userIdentity": {"username": "ann"},
        },
        "jobReleaseTask": {"id": "tidy", "commandLine": "tidy up", "maxWallClockTime": "PT30S", "releaseScope": "prepared"},
        "commonEnvironmentSettings": [{"name": "C", "value": "3"}],
        "onAllTasksComplete": "terminateJob",
        "metadata": [{"name": "team", "value": "blue"}],
        "jobFinalizerTask": {
            "id": "last",
            "commandLine": "tell them",
            "environmentSettings": [{"name": "E", "value": "5"}],
            "maxWallClockTime": "PT2H",
            "nodeId": "workstation-2",
            "userIdentity": {"username": "ann"},
            "resourceFiles": [{"storageContainerUrl": "/srv/in", "filePath": "in"}],
        },
    },
    "tasks": [
        {"id": "one", "commandLine": "work 'a b'", "displayName": "First", "environmentSettings": [{"name": "D", "value": ""}]},
        {"id": "two", "commandLine": "work", "constraints": {"maxWallClockTime": "PT0.5S"}},
    ],
}

MISTAKEN_CONSTRAINTS = (
    "job.jobFinalizerTask.constraints: is not known here: a job finalizer is never retried, and 'maxWallClockTime' stands on the finalizer itself"
)
MINIMAL: dict[str, Any] = {"job": {"id": "job", "poolInfo": {"poolId": "pool"}}}


def refused(data: object) -> tuple[Mistake, ...]:
    """The mistakes of a job file, empty where it is right."""
    try:
        jobfile.parse(data)
    except jobfile.JobFileError as error:
        return error.mistakes
    return ()


def mistakes_in(data: object) -> list[str]:
    return [str(mistake) for mistake in refused(data)]


def changed(path: str, value: Any, base: dict[str, Any] = EVERYTHING) -> dict[str, Any]:
    """A copy of a job file with another value at a path such as `job.constraints.x` or `tasks.0.id`."""
    data = copy.deepcopy(base)
    *way, last = path.split(".")
    place: Any = data
    for part in way:
        place = place[int(part) if isinstance(place, list) else part]
    place[int(last) if isinstance(place, list) else last] = value
    return data


def test_every_property_is_read() -> None:
    found = jobfile.parse(EVERYTHING)
    assert found == jobfile.JobFile(
        pool=PoolSpec(
            id=PoolId("workstation"),
            executor="local",
            nodes=2,
            task_slots_per_node=4,
            task_scheduling_policy=TaskSchedulingPolicy(node_fill_type="pack"),
            start_task=StartTaskSpec(
                command_line="setup",
                environment_settings=(EnvironmentSetting(name="A", value="1"),),
                max_task_retry_count=2,
                wait_for_success=False,
                user_identity=UserIdentity(auto_user=AutoUserSpecification(elevation_level="admin")),
            ),
            display_name="Below the desk",
            metadata=(MetadataItem(name="room", value="4.12"),),
            resize_timeout=Duration(20 * 60 * SECOND),
        ),
        job=JobSpec(
            id=JobId("job"),
            pool_info=PoolInfo(pool_id=PoolId("workstation")),
            display_name="A job",
            priority=-5,
            constraints=JobConstraints(max_wall_clock_time=Duration(86_400 * SECOND), max_task_retry_count=1),
            job_preparation_task=PreparationSpec(
                id=TaskId("prepare"),
                command_line="prepare it",
                environment_settings=(EnvironmentSetting(name="B"),),
                constraints=TaskConstraints(max_wall_clock_time=Duration(600 * SECOND), max_task_retry_count=-1),
                wait_for_success=False,
                rerun_on_node_reboot_after_success=False,
                user_identity=UserIdentity(username="ann"),
            ),
            job_release_task=ReleaseSpec(
                id=TaskId("tidy"), command_line="tidy up", max_wall_clock_time=Duration(30 * SECOND), release_scope="prepared"
            ),
            common_environment_settings=(EnvironmentSetting(name="C", value="3"),),
            on_all_tasks_complete="terminatejob",
            metadata=(MetadataItem(name="team", value="blue"),),
            job_finalizer_task=FinalizerSpec(
                id=TaskId("last"),
                command_line="tell them",
                environment_settings=(EnvironmentSetting(name="E", value="5"),),
                max_wall_clock_time=Duration(7200 * SECOND),
                node_id=NodeId("workstation-2"),
                user_identity=UserIdentity(username="ann"),
                resource_files=(ResourceFile(storage_container_url="/srv/in", file_path="in"),),
            ),
        ),
        tasks=(
            TaskSpec(
                id=TaskId("one"),
                command_line="work 'a b'",
                display_name="First",
                environment_settings=(EnvironmentSetting(name="D", value=""),),
            ),
            TaskSpec(id=TaskId("two"), command_line="work", constraints=TaskConstraints(max_wall_clock_time=Duration(SECOND // 2))),
        ),
    )


def test_what_is_left_out_has_azures_defaults() -> None:
    assert jobfile.parse(MINIMAL) == jobfile.JobFile(job=JobSpec(id=JobId("job"), pool_info=PoolInfo(pool_id=PoolId("pool"))))


def test_null_is_left_out() -> None:
    with_nulls = {
        "pool": None,
        "job": {**MINIMAL["job"], "priority": None, "constraints": None, "metadata": None, "onTaskFailure": None, "displayName": None},
        "tasks": None,
    }
    assert jobfile.parse(with_nulls) == jobfile.parse(MINIMAL)


def test_the_files_own_pool_is_the_jobs() -> None:
    assert jobfile.parse({"pool": {"id": "mine"}, "job": {"id": "job"}}).job.pool_info.pool_id == "mine"


def test_azures_unlimited_is_no_limit() -> None:
    data = changed("tasks.1.constraints.maxWallClockTime", "P10675199DT2H48M5.4775807S")
    assert jobfile.parse(data).tasks[1].constraints == TaskConstraints(max_wall_clock_time=None)


@pytest.mark.parametrize(
    ("path", "value", "mistake"),
    [
        # form: names
        ("job.pirority", 5, "job.pirority: is not known here: did you mean 'priority'?"),
        ("job.on_all_tasks_complete", "noaction", "job.on_all_tasks_complete: is not known here: did you mean 'onAllTasksComplete'?"),
        ("tasks.0.maxTaskRetryCount", 1, "tasks[0].maxTaskRetryCount: is not known here: it belongs inside 'constraints'"),
        ("poolInfo", {"poolId": "p"}, "poolInfo: is not known here: it belongs inside 'job'"),
        (
            "tasks.1.multiInstanceSettings",
            {},
            f"tasks[1].multiInstanceSettings: {about_unknown(TaskSpec, 'multiInstanceSettings')}",
        ),
        (
            "job.allowTaskPreemption",
            True,
            f"job.allowTaskPreemption: {about_unknown(JobSpec, 'allowTaskPreemption')}",
        ),
        ("tasks.0.state", "active", "tasks[0].state: is what is answered and nothing that can be asked for: leave it out"),
        (
            "tasks.0.what ever",
            0,
            f"tasks[0].'what ever': is not known here: the names are {', '.join(names_of(TaskSpec))}",
        ),
        (
            "job.jobReleaseTask.constraints",
            {},
            "job.jobReleaseTask.constraints: is not known here: a job release task is never retried, "
            "and 'maxWallClockTime' stands on the task itself (Azure Batch's rule)",
        ),
        # form: types
        ("tasks.0.id", 1, "tasks[0].id: must be text, not the number 1: put it in quotes, as '001' and not as 001"),
        (
            "tasks.0.id",
            False,
            "tasks[0].id: must be text, not the truth value false: put it in quotes "
            "(YAML takes a bare yes, no, on, off, true or false for a truth value)",
        ),
        ("tasks.0.commandLine", ["a", "b"], "tasks[0].commandLine: must be text, not a list"),
        ("tasks.0", "true", "tasks[0]: must be a mapping with id and commandLine, not the text 'true'"),
        ("tasks", {"id": "a"}, "tasks: must be a list, not a mapping"),
        ("tasks.0.environmentSettings.0", "D=1", "tasks[0].environmentSettings[0]: must be a mapping with name, not a text"),
        ("job.priority", "5", "job.priority: must be a whole number, not the text '5'"),
        ("job.priority", True, "job.priority: must be a whole number, not the truth value true"),
        ("job.priority", 1.0, "job.priority: must be a whole number, not the number 1.0"),
        ("job.jobPreparationTask.waitForSuccess", "yes", "job.jobPreparationTask.waitForSuccess: must be true or false, not the text 'yes'"),
        (
            "pool.taskSchedulingPolicy.nodeFillType",
            "packed",
            "pool.taskSchedulingPolicy.nodeFillType: must be one of spread, pack, not 'packed': did you mean pack?",
        ),
        ("job.onAllTasksComplete", 1, "job.onAllTasksComplete: must be one of noaction, terminatejob, not the number 1"),
        (
            "job.constraints.maxWallClockTime",
            900,
            "job.constraints.maxWallClockTime: must be an ISO 8601 duration such as PT15M (15 minutes) or P1DT2H (a day and 2 hours), not the number 900",
        ),
        (
            "job.constraints.maxWallClockTime",
            "15m",
            "job.constraints.maxWallClockTime: '15m' is not a duration: "
            "write ISO 8601, such as PT15M (15 minutes), P1DT2H (a day and 2 hours) or PT0.5S (half a second)",
        ),
        (
            "job.jobReleaseTask.maxWallClockTime",
            "P10675199DT2H48M5.4775807S",
            "job.jobReleaseTask.maxWallClockTime: cannot be unlimited, which is what P10675199DT2H48M5.4775807S means",
        ),
        (
            "tasks.0.userIdentity",
            {"autoUser": {"scope": "Task"}},
            "tasks[0].userIdentity.autoUser.scope: cannot be 'task': no user is made for one task alone; "
            "'pool' is what there is, or name a user with 'username'",
        ),
        (
            "tasks.0.userIdentity",
            {"autoUser": {"elevationLevel": "root"}},
            "tasks[0].userIdentity.autoUser.elevationLevel: must be one of nonadmin, admin, not 'root'",
        ),
        # sense
        ("tasks.0.userIdentity", {}, "tasks[0].userIdentity: needs exactly one of username and autoUser"),
        (
            "job.jobPreparationTask.userIdentity",
            {"username": "ann", "autoUser": {}},
            "job.jobPreparationTask.userIdentity: needs exactly one of username and autoUser",
        ),
        ("job.jobReleaseTask.userIdentity", {"username": "-u"}, "job.jobReleaseTask.userIdentity.username: '-u' is not the name of a user"),
        ("pool.startTask.userIdentity", {"username": "#0"}, "pool.startTask.userIdentity.username: '#0' is not the name of a user"),
        ("job.poolInfo.poolId", "other", "job.poolInfo.poolId: is 'other', but the pool of this file is 'workstation'"),
        ("pool.resizeTimeout", "PT4M59S", "pool.resizeTimeout: must be at least PT5M (Azure Batch's rule)"),
        ("pool.nodes", -1, f"pool.nodes: -1 is not between 0 and {limits.NODES_PER_POOL_MAX}"),
        (
            "job.jobReleaseTask.maxWallClockTime",
            "PT16M",
            "job.jobReleaseTask.maxWallClockTime: must be more than 0 and at most PT15M (Azure Batch's rule)",
        ),
        ("job.jobFinalizerTask.maxWallClockTime", "PT0S", "job.jobFinalizerTask.maxWallClockTime: must be more than 0"),
        (
            "job.jobFinalizerTask.maxWallClockTime",
            "P10675199DT2H48M5.4775807S",
            "job.jobFinalizerTask.maxWallClockTime: cannot be unlimited, which is what P10675199DT2H48M5.4775807S means",
        ),
        ("job.jobFinalizerTask.nodeId", ".engine", "job.jobFinalizerTask.nodeId: '.engine' is not an id: 1 to 64 letters, digits, '-' and '_'"),
        ("job.jobFinalizerTask.id", "tidy", "job.jobFinalizerTask.id: 'tidy' is already the id of the job release task"),
        ("job.jobFinalizerTask.id", "prepare", "job.jobFinalizerTask.id: 'prepare' is already the id of the job preparation task"),
        ("job.jobFinalizerTask.commandLine", "", "job.jobFinalizerTask.commandLine: is empty"),
        ("job.jobFinalizerTask.constraints", {}, MISTAKEN_CONSTRAINTS),
        ("job.jobFinalizerTask.id", "one", "tasks[0].id: 'one' is the id of the job's own finalizer"),
        ("tasks.1.id", "one", "tasks[1].id: 'one' is already the id of tasks[0]"),
        ("tasks.1.commandLine", "echo 'a", "tasks[1].commandLine: cannot be split into words: No closing quotation"),
    ],
)
def test_one_mistake_is_named_with_its_path(path: str, value: Any, mistake: str) -> None:
    assert mistakes_in(changed(path, value)) == [mistake]


@pytest.mark.parametrize(
    ("data", "mistakes"),
    [
        (None, ["must be a mapping with job, not nothing"]),
        ([], ["must be a mapping with job, not a list"]),
        ({}, ["job: is missing"]),
        ({"job": {}, "pool": {}}, ["pool.id: is missing", "job.id: is missing"]),
        ({"job": {"id": "a"}}, ["job.poolInfo: is missing: name a pool with {poolId: ...}, or describe one under 'pool'"]),
        ({"job": {"id": "a"}, "pool": {"id": "b c"}}, ["pool.id: 'b c' is not an id: 1 to 64 letters, digits, '-' and '_'"]),
        ({"job": {"id": "a", "poolInfo": {"poolId": "x"}}, "pool": 5}, ["pool: must be a mapping with id, not the number 5"]),
        ({"job": 5}, ["job: must be a mapping with id and poolInfo, not the number 5"]),
        (
            {"id": "a", "poolInfo": {"poolId": "x"}},
            ["job: is missing", "id: is not known here: it belongs inside 'pool' or 'job'", "poolInfo: is not known here: it belongs inside 'job'"],
        ),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_complained_of_twice(data: object, mistakes: list[str]) -> None:
    assert mistakes_in(data) == mistakes


def test_all_mistakes_are_named_at_once() -> None:
    text = """
    pool: {id: p, noodles: 2, vmSize: small}
    job:
      id: job
      jobPreparationTask: 5
      jobReleaseTask: {commandLine: tidy, maxWallClockTime: PT1H}
      constraints: {maxTaskRetryCount: -2, maxWallClockTime: soon}
    tasks:
    - {id: 001, commandLine: ""}
    - {id: a, commandLine: work, id: b}
    - {id: a}
    - 7
    - {id: a, commandLine: work}
    """
    data = plaindata.read_yaml(text)
    assert sorted(mistakes_in(data)) == sorted(
        [
            "tasks[1].id: is written twice, in line 10 and in line 10",
            "pool.noodles: is not known here: did you mean 'nodes'?",
            "pool.vmSize: is a property of Azure Batch that is not supported by this version of jobledger: leave it out; what a node is, its 'executor' says",
            "job.jobPreparationTask: must be a mapping with commandLine, not the number 5",
            "job.jobReleaseTask.maxWallClockTime: must be more than 0 and at most PT15M (Azure Batch's rule)",
            "job.constraints.maxTaskRetryCount: -2 is not between -1 and 1000000",
            "job.constraints.maxWallClockTime: 'soon' is not a duration: "
            "write ISO 8601, such as PT15M (15 minutes), P1DT2H (a day and 2 hours) or PT0.5S (half a second)",
            "tasks[0].id: must be text, not the number 1: put it in quotes, as '001' and not as 001",
            "tasks[0].commandLine: is empty",
            "tasks[2].commandLine: is missing",
            "tasks[2].id: 'a' is already the id of tasks[1]",
            "tasks[3]: must be a mapping with id and commandLine, not the number 7",
            "tasks[4].id: 'a' is already the id of tasks[1]",
        ]
    )


def test_the_error_names_the_file_and_lists_the_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("job: {id: a b, poolInfo: {poolId: 5}}")
    with pytest.raises(jobfile.JobFileError) as error:
        jobfile.load(file)
    assert str(error.value).splitlines() == [
        f"{file} has 2 mistakes:",
        "  job.poolInfo.poolId: must be text, not the number 5: put it in quotes, as '001' and not as 001",
        "  job.id: 'a b' is not an id: 1 to 64 letters, digits, '-' and '_'",
    ]


def test_a_long_list_of_mistakes_is_cut() -> None:
    with pytest.raises(jobfile.JobFileError) as error:
        jobfile.parse({**MINIMAL, "tasks": [{"id": f"t{number}"} for number in range(150)]})
    assert len(error.value.mistakes) == 150
    assert str(error.value).splitlines()[-1] == "  and 50 more"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("job.yaml", "job:\n\t- a", "has a mistake:\n  line 2, column 1: found character"),
        ("job.json", '{"job": }', "has a mistake:\n  line 1, column 9: Expecting value"),
        ("job.json", "job: {}", "has a mistake:\n  line 1, column 1: Expecting value"),
        ("job.yaml", b"job: \xff", "has a mistake:\n  is not UTF-8 text: byte 5 is 0xff"),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(jobfile.JobFileError) as error:
        jobfile.load(tmp_path / name)
    assert message in str(error.value)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(jobfile.JobFileError, match="cannot be read: No such file or directory"):
        jobfile.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("name", ["job.json", "job.yaml", "job"])
def test_json_is_read_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps(EVERYTHING), encoding="utf-8-sig")
    assert jobfile.load(tmp_path / name) == jobfile.parse(EVERYTHING)


def test_a_yaml_text_that_begins_like_json_is_yaml(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("{job: {id: a, poolInfo: {poolId: b}}}")
    assert jobfile.load(tmp_path / "job").job.id == "a"


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"job: {id: a, poolInfo: {poolId: b}}")))
    assert jobfile.load("-").job.id == "a"


@pytest.mark.parametrize("wrap", [lambda tasks: tasks, lambda tasks: {"tasks": tasks}, lambda tasks: {"value": tasks}])
def test_tasks_to_add_come_in_three_forms(wrap: Any) -> None:
    found = jobfile.parse(EVERYTHING)
    assert jobfile.parse_tasks(found.job, wrap(EVERYTHING["tasks"])) == found.tasks


def test_tasks_to_add_are_checked_against_their_job() -> None:
    job = jobfile.parse(EVERYTHING).job
    with pytest.raises(jobfile.JobFileError) as error:
        jobfile.parse_tasks(job, [{"id": "tidy", "commandLine": "x"}, {"id": "y"}])
    assert [str(mistake) for mistake in error.value.mistakes] == [
        "tasks[1].commandLine: is missing",
        "tasks[0].id: 'tidy' is the id of the job's own preparation or release task",
    ]


def test_a_pool_comes_alone_or_under_its_key() -> None:
    pool = jobfile.parse(EVERYTHING).pool
    assert jobfile.parse_pool(EVERYTHING["pool"]) == jobfile.parse_pool({"pool": EVERYTHING["pool"]}) == pool
    with pytest.raises(jobfile.JobFileError, match="taskSlotsPerNode: 0 is not between 1 and 256"):
        jobfile.parse_pool({"id": "p", "taskSlotsPerNode": 0})
    with pytest.raises(jobfile.JobFileError) as refused:
        jobfile.parse_pool({"pool": {"id": "p"}, "job": {}, "tasks": []})
    assert [mistake.path for mistake in refused.value.mistakes] == ["job", "tasks"]
    assert "leave it out, or submit the whole file as a job" in str(refused.value)


def test_the_sample_is_right() -> None:
    found = jobfile.load(EXAMPLES / "job_prep_release.yaml")
    assert found.pool is not None
    assert (found.pool.nodes, found.pool.task_slots_per_node) == (2, 1)
    assert [task.id for task in found.tasks] == [f"task00{number}" for number in range(1, 9)]
    assert found.job.on_all_tasks_complete == "terminatejob"


# --- whatever is done to a file, it is read or refused, and the schema agrees ------------------------------------

JUNK = st.sampled_from(
    [None, True, 0, -2, 5, 1.5, "", "x", "a b", "PT5M", "-PT5M", "spread", "echo 'a", [], [5], ["x"], {}, {"id": "x"}, {"name": 1}]
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path in a tree, the top left out."""
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, value in children for place in [(*path, key), *places(value, (*path, key))]]


@st.composite
def damaged_files(draw: st.DrawFn) -> dict[str, Any]:
    """The file of everything after a few random changes: a value replaced, a key taken out or renamed."""
    data = copy.deepcopy(EVERYTHING)
    for _ in range(draw(st.integers(1, 4))):
        *way, last = draw(st.sampled_from(places(data)))
        place: Any = data
        for part in way:
            place = place[part]
        match draw(st.sampled_from(["replace", "remove", "rename"])):
            case "rename" if isinstance(place, dict):
                place[draw(st.sampled_from(["nam", "resourceFiles", "state", "commandline", "zzz"]))] = place.pop(last)
            case "remove":
                del place[last]
            case _:
                place[last] = copy.deepcopy(draw(JUNK))
        if not data:
            break
    return data


@given(damaged_files())
def test_a_damaged_file_is_read_or_refused_with_each_mistake_named_once(data: dict[str, Any]) -> None:
    mistakes = refused(data)
    assert len(set(mistakes)) == len(mistakes)
    assert not any(re.search(r"'_\w", mistake.text) for mistake in mistakes), "a stand-in was complained of"
    if not mistakes:
        assert list(check_job(jobfile.parse(data).job)) == []


@given(damaged_files())
def test_what_the_schema_lets_through_has_mistakes_of_sense_at_most(data: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(jobfile.json_schema())
    if validator.is_valid(data):
        assert not [line for line in mistakes_in(data) if "must be a" in line or "is not known" in line or "is missing" in line]


@given(damaged_files())
def test_what_is_right_is_right_for_the_schema(data: dict[str, Any]) -> None:
    try:
        found = jobfile.parse(data)
    except jobfile.JobFileError:
        return
    canonical = {"job": jobfile.unstructure(found.job), "tasks": [jobfile.unstructure(task) for task in found.tasks]}
    if found.pool is not None:
        canonical["pool"] = jobfile.unstructure(found.pool)
    jsonschema.Draft202012Validator(jobfile.json_schema()).validate(canonical)
    assert jobfile.parse(canonical) == found
