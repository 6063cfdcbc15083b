"""`jobledger engine`: drives a ledger until it is asked to stop, or has nothing more to do."""

import signal
from contextlib import closing
from pathlib import Path

import pytest

from jobledger import BlockingEngine, SqliteStore
from jobledger.core import events as e
from jobledger.jobfile import load

LEDGER = Path(".jobledger/ledger.db")


def events(kind=object):
    with closing(SqliteStore.open(LEDGER, read_only=True)) as store:
        return [one.event for one in store.read() if isinstance(one.event, kind)]


def submitted(name):
    """A ledger with a job that nobody drives any more."""
    job_file = load(name)
    with BlockingEngine(LEDGER) as engine:
        engine.create_pool(job_file.pool)
        engine.submit(job_file.job, job_file.tasks)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_lets_go_in_good_order(start, until, number, status):
    process = start("engine")
    until(lambda: LEDGER.exists() and events(e.EngineStarted), "the engine")
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status
    assert err.splitlines() == ["jobledger: driving .jobledger/ledger.db", "jobledger: letting go"]
    assert events(e.EngineStopped)


def test_until_idle_it_finishes_what_is_there(invoke, write):
    submitted(write(*["true"] * 4, prep="true", release="true", pool={"nodes": 2}))
    result = invoke("engine", "--until-idle")
    assert result.exit_code == 0
    assert "job j: completed" in result.stderr.splitlines()
    assert len(events(e.TaskCompleted)) == 4


def test_until_idle_it_ends_at_once_where_nothing_is_to_do(invoke):
    assert invoke("engine", "--until-idle", "--quiet").stderr == ""
    assert [type(event) for event in events()] == [e.EngineStarted, e.EngineStopped]


def test_a_ledger_has_one_engine(invoke):
    with BlockingEngine(LEDGER):
        result = invoke("engine", "--until-idle")
    assert (result.exit_code, "drives this ledger already" in result.stderr) == (4, True)
