"""What every reading command does about jobs, tasks and ledgers that are not there or not in order."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from jobledger.core.requests import DeleteJob

LEDGER = Path(".jobledger/ledger.db")
OUTPUT = Path(".jobledger/nodes/p")


# --- refusals and trouble -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("status", "sampel"), ("tasks", "sampel"), ("explain", "sampel"), ("log", "sampel", "t1")])
def test_a_job_that_is_not_there_is_refused(invoke, record, scenario, command):
    record(scenario("t1"))
    result = invoke(*command)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr == "jobledger: refused (JobNotFound): there is no job sampel; did you mean sample?\n"


def test_a_job_that_was_deleted_is_told_from_one_that_never_was(invoke, record, scenario):
    s = scenario("t1")
    s.finish(DeleteJob(job="sample"))
    record(s)
    result = invoke("status", "sample")
    assert result.exit_code == 3
    assert "job sample was deleted; `jobledger events --job sample` tells what happened to it" in result.stderr


@pytest.mark.parametrize("command", [("explain", "sample", "task01"), ("log", "sample", "task01")])
def test_a_task_that_is_not_there_is_refused(invoke, record, scenario, command):
    record(scenario("task001"))
    result = invoke(*command)
    assert result.exit_code == 3
    assert "refused (TaskNotFound): job sample has no task task01; did you mean task001?" in result.stderr


def test_refusals_are_json_where_json_was_asked_for(invoke, record, scenario):
    record(scenario("t1"))
    result = invoke("status", "other", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stderr) == {"error": {"code": "JobNotFound", "message": "there is no job other"}}


@pytest.mark.parametrize("command", [("status",), ("nodes",), ("tasks", "j"), ("explain", "j"), ("events",), ("log", "j", "t")])
def test_without_a_ledger_none_is_made(invoke, folder, command):
    result = invoke(*command)
    assert result.exit_code == 4
    assert "there is no ledger at .jobledger/ledger.db; `jobledger run FILE` makes one" in result.stderr
    assert list(folder.iterdir()) == []


def test_a_damaged_ledger_is_named_with_its_position(invoke, record, scenario):
    record(scenario("t1"))
    with sqlite3.connect(LEDGER) as damaged:
        triggers = damaged.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            damaged.execute(f'DROP TRIGGER "{name}"')
        damaged.execute("UPDATE events SET actor = 'nobody' WHERE position = 5")
    damaged.close()
    for command in ("status", "events"):
        result = invoke(command)
        assert result.exit_code == 4
        assert "(at position 5)" in result.stderr


def test_a_read_only_copy_will_do(invoke, record, scenario, folder, row):
    record(scenario("t1"))
    away = folder / "away"
    away.mkdir()
    copy = away / "copy.db"
    shutil.copy(LEDGER, copy)
    copy.chmod(0o444)
    away.chmod(0o555)
    try:
        result = invoke("status", "--ledger", copy)
        assert result.exit_code == 0
        assert row(result.stdout, "sample")[1] == "completed"
    finally:
        away.chmod(0o755)


def test_the_environment_names_the_ledger(invoke, record, scenario, folder, monkeypatch):
    record(scenario("t1"), folder / "other.db")
    monkeypatch.setenv("JOBLEDGER_LEDGER", "other.db")
    assert invoke("status", "sample").exit_code == 0
