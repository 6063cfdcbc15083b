"""Requests from other processes, through the inbox of a ledger that a real `jobledger engine` drives."""

import json
import signal
from contextlib import closing
from pathlib import Path

import pytest

from jobledger import BlockingEngine, SqliteStore
from jobledger.cli.common import actor
from jobledger.core import events as e

LEDGER = Path(".jobledger/ledger.db")
WAITS = "sh -c 'for i in $(seq 500); do sleep 0.02; test -e {}/go && break; done'"


def recorded(kind=object):
    with closing(SqliteStore.open(LEDGER, read_only=True)) as store:
        return [one for one in store.read() if isinstance(one.event, kind)]


def pending():
    with closing(SqliteStore.open(LEDGER, read_only=True)) as store:
        return store.pending_requests()


@pytest.fixture
def engine(start, until):
    """A real engine in a process of its own, that has begun to drive the default ledger."""
    process = start("engine", "--durability", "relaxed")
    until(lambda: LEDGER.exists() and recorded(e.EngineStarted), "the engine")
    yield process
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


@pytest.fixture
def driven():
    """An engine in this process: quick, and enough where it only has to answer."""
    with BlockingEngine(LEDGER, durability="relaxed") as opened:
        yield opened


def test_a_job_is_submitted_extended_disabled_enabled_ended_and_deleted(engine, invoke, write, until, folder):
    waits = WAITS.format(folder)
    assert invoke("submit", write(waits, prep="true", release="true", job={"onAllTasksComplete": "noaction"})).exit_code == 0
    until(lambda: recorded(e.TaskRunning), "the task")
    write("true", waits, name="more.json")
    tasks = [{"id": "t2", "commandLine": "true"}, {"id": "t3", "commandLine": waits}]
    Path("more.json").write_text(json.dumps(tasks))
    result = invoke("add-tasks", "j", "more.json", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["accepted"]) == (0, True)
    assert {one.event.task for one in recorded(e.TaskAdded) if one.position <= told["position"]} == {"t1", "t2", "t3"}

    assert invoke("disable", "j", "--tasks", "requeue").exit_code == 0
    until(lambda: recorded(e.JobDisabled), "disabling")
    assert invoke("enable", "j").exit_code == 0
    until(lambda: len(recorded(e.TaskRunning)) == 2, "running again")
    assert invoke("terminate-task", "j", "t1", "--reason", "not needed").exit_code == 0
    until(lambda: any(one.event.task == "t1" for one in recorded(e.TaskCompleted)), "the end of t1")
    result = invoke("terminate", "j", "--reason", "wrong input")
    assert "job j is terminating (position " in result.stdout
    until(lambda: recorded(e.JobCompleted), "the end of the job")
    assert [one.event.reason for one in recorded(e.JobTerminating)] == ["wrong input"]
    asked = json.loads(invoke("explain", "j", "--json").stdout)["asked"]
    assert [(one["actor"], one["event"], one.get("reason", "")) for one in asked[-3:]] == [
        (actor(), "job.enabling", ""),
        (actor(), "execution.stop-requested", "the task was terminated: not needed"),
        (actor(), "job.terminating", "wrong input"),
    ]
    assert f"job.terminating was asked for by {actor()} at " in invoke("explain", "j").stdout
    *_, of_task = json.loads(invoke("explain", "j", "t1", "--json").stdout)["asked"]
    assert of_task["reason"] == "the task was terminated: not needed"
    assert invoke("delete", "j").exit_code == 0
    until(lambda: recorded(e.JobDeleted), "deletion")

    for kind in (e.PoolCreated, e.JobCreated, e.JobDisabling, e.JobEnabling, e.JobTerminating, e.JobDeleting):
        (one,) = recorded(kind)
        assert one.actor == actor()
        assert one.causation.startswith("request:")
    assert sum(one.event.kind == "release" for one in recorded(e.ExecutionRequested)) == 1
    assert not pending()


def test_refusals_say_why_and_record_nothing(driven, invoke, write, until):
    assert invoke("submit", write("true", prep="true")).exit_code == 0
    until(lambda: recorded(e.JobCompleted), "the job")
    Path("more.json").write_text('[{"id": "t9", "commandLine": "true"}]')
    Path("bad.json").write_text('[{"id": "t 9"}]')
    before = len(recorded())
    for words, code, status in [
        (("terminate", "j"), "JobCompleted", 3),
        (("terminate", "k"), "JobNotFound", 3),
        (("delete", "k"), "JobNotFound", 3),
        (("disable", "j", "--tasks", "wait"), "JobCompleted", 3),
        (("enable", "j"), "JobCompleted", 3),
        (("terminate-task", "j", "t7"), "TaskNotFound", 3),
        (("add-tasks", "j", "more.json"), "JobCompleted", 3),
        (("add-tasks", "k", "more.json"), "JobNotFound", 3),
        (("submit", write("false", prep="true", name="other.json")), "JobExists", 3),
        (("add-tasks", "j", "bad.json"), "JobFileError", 2),
    ]:
        result = invoke(*words, "--json")
        error = json.loads(result.stderr)["error"]
        assert (result.exit_code, error["code"], result.stdout) == (status, code, ""), words
    assert "refused (JobNotFound): " in invoke("terminate", "k").stderr
    refused = invoke("submit", "other.json").stderr
    assert '\n  task t1.commandLine: "true" -> "false"' in refused, refused
    refused = invoke("submit", write("true", prep="true", pool={"taskSlotsPerNode": 3}, name="wider.json")).stderr
    assert "\n  pool.taskSlotsPerNode: 1 -> 3" in refused, refused
    assert invoke("disable", "j").exit_code == 2  # --tasks has no default: it is the user's to choose
    assert len(recorded()) == before
    assert not pending()


def test_without_an_engine_nothing_is_asked(invoke, write):
    result = invoke("submit", write("true"))
    assert (result.exit_code, "there is no ledger" in result.stderr) == (4, True)
    assert not LEDGER.exists()
    assert invoke("run", "job.json").exit_code == 0
    before = len(recorded())
    result = invoke("delete", "j")
    assert result.exit_code == 3
    assert "refused (NoEngine)" in result.stderr
    assert "start one with `jobledger engine --ledger .jobledger/ledger.db`" in result.stderr
    assert not pending()
    assert len(recorded()) == before


def test_an_engine_that_does_not_answer_or_is_dead_leaves_nothing_in_the_inbox(engine, invoke, start, until):
    engine.send_signal(signal.SIGSTOP)
    result = invoke("delete", "j", "--timeout", "0.3")
    assert result.exit_code == 4
    assert "did not answer within 0.3 s; the request was taken back" in result.stderr
    assert not pending()

    asking = start("delete", "j")
    until(pending, "the request")
    asking.send_signal(signal.SIGINT)
    asking.communicate(timeout=30)
    assert asking.returncode == 130
    assert not pending()

    engine.send_signal(signal.SIGCONT)
    assert "JobNotFound" in invoke("delete", "j").stderr
    engine.kill()
    engine.communicate()
    assert "NoEngine" in invoke("delete", "j").stderr
    assert not pending()
