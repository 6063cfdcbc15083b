"""`jobledger run` where an engine drives the ledger already: it is asked and waited for, and replaced if it goes."""

import asyncio
import json
import os
import signal
from contextlib import closing
from pathlib import Path

from jobledger import BlockingEngine, Engine, JobId, JobSpec, PoolId, PoolInfo, PoolSpec, SqliteStore
from jobledger.cli.progress import Progress, watch
from jobledger.core import events as e

LEDGER = Path(".jobledger/ledger.db")
AT_ONCE = 6


def events(kind=object):
    with closing(SqliteStore.open(LEDGER, read_only=True)) as store:
        return [one.event for one in store.read() if isinstance(one.event, kind)]


def driven():
    return LEDGER.exists() and events(e.EngineStarted)


def running(count=1):
    return driven() and len(events(e.TaskRunning)) >= count


def noted():
    return Path("ran").read_text().split() if Path("ran").exists() else []


def test_the_engine_that_is_there_runs_the_job(invoke, write, folder):
    with BlockingEngine(LEDGER) as engine:
        result = invoke("run", write(*[f"/bin/sh -c 'echo {number} >> {folder}/ran'" for number in range(4)], prep="true", release="true"))
        assert result.exit_code == 0, result.stderr
        assert engine.read(lambda world: world.jobs[JobId("j")].state) == "completed"
    assert "jobledger: an engine drives .jobledger/ledger.db already: it is asked, and waited for" in result.stderr.splitlines()
    assert "job j: completed" in result.stderr.splitlines()
    assert sorted(noted()) == ["0", "1", "2", "3"]
    assert len(events(e.EngineStarted)) == 1


def test_what_it_tells_is_what_the_engine_did(invoke, write):
    name = write("true", "false")
    with BlockingEngine(LEDGER, root="elsewhere"):
        joined = invoke("run", name, "--json")
        again = invoke("run", name, "--quiet")
    assert (joined.exit_code, again.exit_code) == (1, 1)
    assert joined.stderr == again.stderr == ""
    assert json.loads(joined.stdout)["taskCounts"]["failed"] == 1
    assert str(Path("elsewhere").absolute()) in again.stdout  # where the engine keeps the output of what failed


def test_another_specification_is_refused_before_anything_is_asked(invoke, write):
    with BlockingEngine(LEDGER) as engine:
        assert invoke("run", write("true")).exit_code == 0
        before = engine.position
        result = invoke("run", write("false"))
        assert (result.exit_code, engine.position) == (3, before)
        assert "commandLine" in result.stderr


def test_an_engine_that_is_killed_is_replaced(start, until, write, folder):
    engine = start("engine")
    until(driven, "the engine")
    job = start("run", write(f"/bin/sh -c 'echo once >> {folder}/ran; until [ -e {folder}/go ]; do sleep 0.02; done'", prep="true", release="true"))
    until(noted, "the task")
    os.kill(engine.pid, signal.SIGKILL)
    engine.wait()
    until(lambda: len(events(e.EngineStarted)) == 2, "the other engine")
    (folder / "go").touch()
    _, err = job.communicate(timeout=30)
    assert job.returncode == 0, err
    assert "taking over" in err
    assert noted() == ["once"]
    assert len(events(e.ReleaseCompleted)) == 1


def test_ctrl_c_ends_the_job_and_not_the_engine(start, until, write):
    engine = start("engine")
    until(driven, "the engine")
    job = start("run", write("sleep 30", prep="true", release="true"))
    until(running, "the task")
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 130, err
    assert [event.reason for event in events(e.JobTerminating)] == ["UserTerminate"]
    assert len(events(e.ReleaseCompleted)) == 1
    assert engine.poll() is None


def test_sigterm_leaves_the_job_to_the_engine(start, until, write):
    engine = start("engine")
    until(driven, "the engine")
    job = start("run", write("sleep 30"))
    until(running, "the task")
    job.send_signal(signal.SIGTERM)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 1
    assert "detached" in err
    assert engine.poll() is None
    assert not events(e.JobTerminating)


def test_of_many_that_start_at_once_one_drives(start, write, folder):
    name = write(*[f"/bin/sh -c 'echo {number} >> {folder}/ran; sleep 0.3'" for number in range(4)], prep="true", release="true")
    crowd = [start("run", name, "--quiet") for _ in range(AT_ONCE)]
    for one in crowd:
        _, err = one.communicate(timeout=60)
        assert one.returncode == 0, err
    assert sorted(noted()) == ["0", "1", "2", "3"]
    assert (len(events(e.PreparationCompleted)), len(events(e.ReleaseCompleted)), len(events(e.JobCreated))) == (1, 1, 1)
    story = events((e.EngineStarted, e.EngineStopped))
    assert [event.epoch for event in story[::2]] == [event.epoch for event in story[1::2]]  # One after the other, and each let go by itself.


def test_a_job_that_is_over_before_it_is_watched_is_told_of(folder):
    """What shows events may not have begun when there is no more to wait for."""

    async def watched():
        async with await Engine.open("memory:", root=folder / "nodes") as engine:
            await engine.create_pool(PoolSpec(id=PoolId("p")))
            await engine.submit(JobSpec(id=JobId("j"), pool_info=PoolInfo(pool_id=PoolId("p"))))
            progress = Progress(JobId("j"))
            async with watch(engine, progress, after=0):
                pass
            return progress.seen, engine.position

    seen, position = asyncio.run(watched())
    assert seen == position
