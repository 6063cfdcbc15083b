"""`jobledger jobs` and `tasks` where they ask: patches, several jobs at once, and what is refused; the jobs wait for a pool that never comes."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from jobledger import BlockingEngine, JobId, SqliteStore
from jobledger.cli import main
from jobledger.core.events import JobPatched

LEDGER = Path(".jobledger/ledger.db")


@pytest.fixture
def engine():
    with BlockingEngine(LEDGER, durability="relaxed") as opened:
        yield opened


@pytest.fixture
def asked(invoke):
    """Runs a command that must be granted."""

    def ask(*words, text=None):
        result = invoke(*words, text=text)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    return ask


@pytest.fixture
def job(asked):
    """Submits a job that waits: its id, its metadata and its tasks."""

    def call(name, tasks=(), metadata=None, **more):
        items = [{"name": key, "value": value} for key, value in (metadata or {}).items()]
        content = {"id": name, "poolInfo": {"poolId": "nowhere"}, "metadata": items, **more}
        Path("job.json").write_text(json.dumps({"job": content, "tasks": [{"id": task, "commandLine": "true"} for task in tasks]}))
        asked("jobs", "submit", "job.json")
        return name

    return call


def of(engine, name, ask):
    return engine.read(lambda world: ask(world.jobs[JobId(name)]))


def spec(engine, name):
    return of(engine, name, lambda job: job.spec)


def states(engine):
    return engine.read(lambda world: {name: job.state for name, job in world.jobs.items()})


# --- patch --------------------------------------------------------------------------------------------------------


def test_a_job_is_patched_by_options(engine, asked, job):
    job("a", constraints={"maxTaskRetryCount": 2})
    said = asked(
        "jobs", "patch", "a", "--priority", 7, "--max-parallel-tasks", 3, "--max-wall-clock-time", "PT2H", "--metadata", "run=2", "--reason", "why"
    )
    assert said.startswith("job a is patched (position ")
    found = spec(engine, "a")
    assert (found.priority, found.max_parallel_tasks, [(item.name, item.value) for item in found.metadata]) == (7, 3, [("run", "2")])
    assert (found.constraints.max_wall_clock_time, found.constraints.max_task_retry_count) == (7_200_000_000, 2)
    with closing(SqliteStore.open(LEDGER, read_only=True)) as store:
        assert [one.event.reason for one in store.read() if isinstance(one.event, JobPatched)] == ["why"]
    asked("jobs", "patch", "a", "--max-wall-clock-time", "unlimited", "--max-task-retry-count", -1, "--no-metadata")
    found = spec(engine, "a")
    assert (found.constraints.max_wall_clock_time, found.constraints.max_task_retry_count, found.metadata) == (None, -1, ())


def test_a_job_is_patched_by_a_file_whose_constraints_replace_all(engine, asked, job):
    job("a", constraints={"maxTaskRetryCount": 2, "maxWallClockTime": "PT1H"})
    Path("patch.yaml").write_text("job: {constraints: {maxTaskRetryCount: 1}, metadata: [{name: x, value: y}]}")
    asked("jobs", "patch", "a", "--file", "patch.yaml")
    found = spec(engine, "a")
    assert (found.constraints.max_wall_clock_time, found.constraints.max_task_retry_count) == (None, 1)
    asked("jobs", "patch", "a", "--file", "-", text="priority: 5")
    assert (spec(engine, "a").priority, spec(engine, "a").metadata[0].value) == (5, "y")


def test_a_disabled_job_goes_on_on_another_pool(engine, asked, invoke, job):
    job("a")
    refused = invoke("jobs", "patch", "a", "--pool", "other")
    assert (refused.exit_code, "OperationInvalidForCurrentState" in refused.stderr) == (3, True)
    asked("jobs", "disable", "a", "--tasks", "wait")
    asked("jobs", "patch", "a", "--pool", "other")
    asked("jobs", "enable", "a")
    assert (spec(engine, "a").pool_info.pool_id, states(engine)["a"]) == ("other", "active")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say what is to change"),
        (("--priority", 1, "--file", "x.yaml"), "not both"),
        (("--metadata", "novalue"), "NAME=VALUE"),
        (("--metadata", "=x"), "NAME=VALUE"),
        (("--max-wall-clock-time", "2 hours"), "not a duration"),
        (("--priority", 2000), "priority: 2000 is not between"),
    ],
)
def test_a_patch_that_makes_no_sense_is_bad_input(engine, invoke, job, words, said):
    job("a")
    Path("x.yaml").write_text("priority: 3")
    result = invoke("jobs", "patch", "a", *words)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert spec(engine, "a").priority == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("priorty: 3", "did you mean 'priority'?"),
        ("displayName: x", "cannot be changed once a job is submitted"),
        ("{job: b, priority: 3}", "stands beside what is to change"),
        ("priority: high", "must be a whole number"),
        ("[]", "must be a mapping"),
    ],
)
def test_a_file_that_is_no_patch_is_refused_with_its_mistakes(engine, invoke, job, text, said):
    job("a")
    result = invoke("jobs", "patch", "a", "--file", "-", text=text)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_the_same_file_again_is_still_the_same_job_after_a_patch(engine, asked, job):
    job("a", priority=1)
    asked("jobs", "patch", "a", "--priority", 9)
    asked("submit", "job.json")
    assert spec(engine, "a").priority == 9


# --- several jobs -------------------------------------------------------------------------------------------------


def test_several_jobs_are_each_told_of_and_one_refusal_makes_the_status_3(engine, asked, invoke, job):
    for name in "abc":
        job(name)
    result = invoke("jobs", "terminate", "a", "nobody", "b")
    assert result.exit_code == 3
    assert [line.split(" (")[0] for line in result.stdout.splitlines()] == ["job a is terminating", "nobody: refused", "job b is terminating"]
    assert states(engine) == {"a": "completed", "b": "completed", "c": "active"}
    decided = json.loads(invoke("delete", "a", "b", "a", "--json").stdout)["decided"]
    assert [(one["id"], one["accepted"]) for one in decided] == [("a", True), ("b", True)]
    refused = json.loads(invoke("enable", "nobody", "c", "--json").stdout)["decided"]
    assert [(one["accepted"], one.get("code")) for one in refused] == [(False, "JobNotFound"), (True, None)]


def test_one_job_that_is_named_is_told_of_as_ever(engine, invoke, job):
    job("a")
    assert list(json.loads(invoke("terminate", "a", "--json").stdout)) == ["accepted", "position"]
    again = invoke("terminate", "a")
    assert (again.exit_code, "refused (JobCompleted)" in again.stderr) == (3, True)


def test_jobs_are_selected_by_metadata_in_the_states_in_which_it_makes_sense(engine, asked, job):
    job("a", metadata={"owner": "ada", "run": "1"})
    job("b", metadata={"owner": "ada", "run": "2"})
    job("c", metadata={"owner": "bob"})
    assert asked("jobs", "disable", "--tasks", "wait", "--metadata", "owner=ada", "--metadata", "run=1", "--yes").startswith("job a is disabling")
    assert states(engine) == {"a": "disabled", "b": "active", "c": "active"}
    asked("jobs", "enable", "--metadata", "owner", "--yes")
    asked("jobs", "terminate", "--metadata", "run", "--reason", "campaign is over", "--yes")
    assert states(engine) == {"a": "completed", "b": "completed", "c": "active"}
    assert of(engine, "a", lambda job: job.terminate_reason) == "campaign is over"
    assert asked("jobs", "terminate", "--metadata", "run", "--yes") == "no job has that metadata and is in a state for it\n"
    assert json.loads(asked("jobs", "terminate", "--metadata", "run", "--yes", "--json")) == {"decided": []}
    asked("jobs", "delete", "--metadata", "owner", "--yes")
    assert states(engine) == {}


def test_jobs_that_were_selected_are_acted_on_only_after_yes(engine, invoke, asked, job):
    job("a", metadata={"owner": "ada"})
    for answer in ("n\n", ""):
        result = invoke("jobs", "terminate", "--metadata", "owner=ada", text=answer)
        assert result.exit_code == 1
        assert "terminate 1 job: a?" in result.stderr
    assert states(engine) == {"a": "active"}
    asked("jobs", "terminate", "--metadata", "owner=ada", text="y\n")
    assert states(engine) == {"a": "completed"}


@pytest.mark.parametrize("words", [(), ("a", "--metadata", "x=y")])
def test_jobs_are_named_or_selected_and_not_both(engine, invoke, words):
    result = invoke("jobs", "enable", *words)
    assert (result.exit_code, "select them with --metadata" in result.stderr) == (2, True)


def test_several_jobs_without_an_engine_are_not_asked_about(invoke, engine, job):
    for name in "ab":
        job(name)
    engine.close()
    result = invoke("jobs", "terminate", "a", "b")
    assert (result.exit_code, "NoEngine" in result.stderr) == (3, True)


# --- tasks --------------------------------------------------------------------------------------------------------


def test_tasks_are_added_and_terminated_within_their_family(engine, asked, job):
    job("a", tasks=["t1"])
    Path("more.json").write_text(json.dumps([{"id": "t2", "commandLine": "true", "requiredSlots": 2, "metadata": [{"name": "k", "value": "v"}]}]))
    assert "has the 1 task of more.json" in asked("tasks", "add", "a", "more.json")
    asked("tasks", "terminate", "a", "t1", "--reason", "wrong")
    assert of(engine, "a", lambda job: {name: task.state for name, task in job.tasks.items()}) == {"t1": "completed", "t2": "active"}
    assert of(engine, "a", lambda job: job.tasks["t2"].spec.required_slots) == 2


SAME = {
    "jobs submit": "submit",
    "jobs create": "submit",
    "jobs terminate": "terminate",
    "jobs delete": "delete",
    "jobs disable": "disable",
    "jobs enable": "enable",
    "tasks add": "add-tasks",
    "tasks terminate": "terminate-task",
}


@pytest.mark.parametrize("name", SAME)
def test_a_command_of_a_family_is_the_one_that_stands_alone(name):
    family, member = name.split()
    assert main.commands[family].commands[member] is main.commands[SAME[name]]
