"""`jobs`, `tasks` and `pools` where they only read: lists, selection by metadata and state, one job in full, preparation on each node."""

import json

import pytest
import yaml

from jobledger.core.requests import CreatePool, DisableJob, PatchJob, SubmitJob
from jobledger.core.specs import JobSpec, MetadataItem, PoolInfo, PoolSpec, TaskSpec
from jobledger.testing.scenario import Exits, Hangs


def metadata(**items):
    return tuple(MetadataItem(name=name, value=value) for name, value in items.items())


@pytest.fixture
def ledger(record, scenario):
    """Three jobs: `sample` with two tasks that ended, `b` that is disabled and was patched, `c` with nothing."""
    big = TaskSpec(id="big", command_line="work", required_slots=8, metadata=metadata(camera="north", day="1"))
    s = scenario("t1", big, script={"t1": Exits(3)}, metadata=metadata(owner="ada", run="1"), on_all_tasks_complete="noaction")
    for name in "bc":
        spec = JobSpec(id=name, pool_info=PoolInfo(pool_id="p"), metadata=metadata(owner="bob"))
        s.when(SubmitJob(spec=spec, tasks=()))
    s.given(DisableJob(job="b", disable_tasks="wait"), PatchJob(job="b", priority=7, metadata=metadata(owner="ada", run="2")))
    s.when(CreatePool(spec=PoolSpec(id="q", nodes=0, metadata=metadata(rack="7"))))
    return record(s)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ((), ["sample", "b", "c"]),
        (("--state", "disabled"), ["b"]),
        (("--metadata", "owner=ada"), ["sample", "b"]),
        (("--metadata", "owner=ada", "--metadata", "run=2"), ["b"]),
        (("--metadata", "run"), ["sample", "b"]),
        (("--metadata", "owner=ada", "--state", "active"), ["sample"]),
        (("--metadata", "owner=nobody"), []),
        (("--metadata", "owner="), []),
    ],
)
def test_jobs_are_listed_and_selected(ledger, invoke, words, names):
    listed = invoke("jobs", *words)
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == names
    found = json.loads(invoke("jobs", "list", *words, "--json").stdout)
    assert [job["id"] for job in found["jobs"]] == names


def test_nothing_that_was_selected_says_so(ledger, invoke):
    assert invoke("jobs", "--metadata", "x", "--state", "active").stdout == "no jobs that are active with that metadata\n"
    assert invoke("tasks", "sample", "--metadata", "x").stdout == "job sample has no tasks with that metadata\n"
    assert invoke("pools", "--metadata", "x").stdout == "no pools with that metadata\n"


@pytest.mark.parametrize("words", [("jobs", "list"), ("tasks", "list", "sample"), ("pools", "list"), ("jobs", "terminate")])
def test_a_selection_without_a_name_is_bad_input(ledger, invoke, words):
    result = invoke(*words, "--metadata", "=ada")
    assert (result.exit_code, "NAME=VALUE" in result.stderr) == (2, True)


def test_tasks_and_pools_are_selected_by_their_metadata(ledger, invoke):
    assert [task["id"] for task in json.loads(invoke("tasks", "sample", "--metadata", "camera=north", "--json").stdout)["tasks"]] == ["big"]
    assert json.loads(invoke("tasks", "sample", "--metadata", "camera", "--state", "completed", "--json").stdout)["tasks"] == []
    assert [pool["id"] for pool in json.loads(invoke("pools", "--metadata", "rack=7", "--json").stdout)["pools"]] == ["q"]


def test_slots_are_counted_beside_tasks(ledger, invoke):
    found = json.loads(invoke("status", "sample", "--json").stdout)
    assert found["taskCounts"] == {"active": 1, "running": 0, "completed": 1, "succeeded": 0, "failed": 1}
    assert found["taskSlotCounts"] == {"active": 8, "running": 0, "completed": 1, "succeeded": 0, "failed": 1}
    assert json.loads(invoke("jobs", "--json").stdout)["jobs"][0]["taskSlotCounts"]["active"] == 8


def test_slots_that_run_are_counted_by_what_tasks_require(record, scenario, invoke):
    s = scenario(run=False)
    s.finish(CreatePool(spec=PoolSpec(id="wide", task_slots_per_node=4)))
    s.executor.script["w"] = Hangs()
    wide = JobSpec(id="wide", pool_info=PoolInfo(pool_id="wide"))
    s.finish(SubmitJob(spec=wide, tasks=(TaskSpec(id="w", command_line="work", required_slots=3),)))
    record(s)
    assert json.loads(invoke("status", "wide", "--json").stdout)["taskSlotCounts"]["running"] == 3
    (node,) = [node for node in json.loads(invoke("nodes", "--json").stdout)["nodes"] if node["poolId"] == "wide"]
    assert (node["runningTasksCount"], node["runningTaskSlotsCount"], node["affinityId"]) == (1, 3, "TVM:wide-1")


def test_a_job_is_shown_in_full_as_it_was_patched(ledger, invoke):
    shown = invoke("jobs", "show", "b")
    assert yaml.safe_load(shown.stdout) == json.loads(invoke("jobs", "show", "b", "--json").stdout)["job"]
    found = yaml.safe_load(shown.stdout)
    assert (found["state"], found["priority"], found["metadata"][1]) == ("disabled", 7, {"name": "run", "value": "2"})
    assert invoke("jobs", "show", "nobody").exit_code == 3


def test_preparation_is_shown_node_by_node(ledger, invoke, row):
    assert row(invoke("jobs", "preparation", "sample").stdout, "p-1") == ["p-1", "idle", "exit 0", "1", "owed"]
    (entry,) = json.loads(invoke("jobs", "preparation", "sample", "--json").stdout)["jobPreparationAndReleaseTaskStatus"]
    assert (entry["poolId"], entry["nodeId"], entry["releaseState"]) == ("p", "p-1", "owed")


def test_preparation_that_has_not_run_yet_is_an_empty_list(record, scenario, invoke):
    record(scenario())
    assert invoke("jobs", "preparation", "sample").stdout == "job sample has run on no node\n"
    assert json.loads(invoke("jobs", "preparation", "sample", "--json").stdout)["jobPreparationAndReleaseTaskStatus"] == []


def test_a_job_without_preparation_has_no_status_of_one(ledger, invoke):
    result = invoke("jobs", "preparation", "c")
    assert (result.exit_code, "JobPreparationTaskNotSpecified" in result.stderr) == (3, True)


def test_what_was_patched_is_told_among_the_events(ledger, invoke):
    line = next(line for line in invoke("events", "--job", "b").stdout.splitlines() if "job.patched" in line)
    assert "priority=7" in line
    assert 'metadata="owner=ada, run=2"' in line
