"""An engine that is killed and the one after it, with real processes: nothing runs twice, nothing is forgotten, the end is the same."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from jobledger import Engine, JobId, SqliteStore
from jobledger import jobfile as jobfiles
from jobledger.core import events as e
from jobledger.core.invariants import audit

BOUND_S = 30.0
ROUNDS = 10
JOB = JobId("j")


@pytest.fixture(scope="module")
def nursery():
    """Starts engines in processes of their own: `nursery(folder)` is a pid."""
    script = Path(__file__).with_name("engine_nursery.py")
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:

        def start(folder):
            process.stdin.write(f"{folder / 'ledger.db'}\t{folder / 'nodes'}\t{folder / 'job.json'}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield start
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def write_job(folder, *, tasks, slots, command, pause_s=0.0):
    """A job whose every launch appends what it is to the file `ran`; release and finalizer then pause."""
    told = f"echo $AZ_BATCH_TASK_ID $AZ_BATCH_NODE_ID >> {folder}/ran"
    job = {
        "pool": {"id": "p", "nodes": 2, "taskSlotsPerNode": slots},
        "job": {
            "id": JOB,
            "jobPreparationTask": {"commandLine": f"/bin/sh -c '{told}'"},
            "jobReleaseTask": {"commandLine": f"/bin/sh -c '{told}; sleep {pause_s}'"},
            "jobFinalizerTask": {"commandLine": f"/bin/sh -c '{told}; sleep {pause_s}'"},
            "onAllTasksComplete": "terminatejob",
        },
        "tasks": [{"id": f"t{number}", "commandLine": f"/bin/sh -c '{told}; {command}; exit {number % 3}'"} for number in range(1, tasks + 1)],
    }
    (folder / "job.json").write_text(json.dumps(job))


def waits_for(path):
    """Shell words that wait for a file to be there, but not for ever: no test that failed should leave programs behind."""
    return f"for i in $(seq 500); do sleep 0.02; test -e {path} && break; done"


def until(condition):
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)  # what is waited for happens in other processes, which cannot wake us


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid))


def finish(folder):
    """Open the ledger as the next engine, submit the same job again, and come back with the job when it is completed."""

    async def drive():
        job_file = jobfiles.load(folder / "job.json")
        async with await Engine.open(folder / "ledger.db", root=folder / "nodes", durability="relaxed") as engine:
            await engine.create_pool(job_file.pool)
            await engine.submit(job_file.job, job_file.tasks)
            await engine.wait(JOB, timeout_s=BOUND_S)
            return engine.world.jobs[JOB]

    return asyncio.run(drive())


def check_end(folder, job, tasks):
    """All is as if no engine had ever been killed."""
    assert job.state == "completed"
    assert {task: (one.state, one.exit_code, one.launches, one.requeues, one.retries) for task, one in job.tasks.items()} == {
        f"t{number}": ("completed", number % 3, 1, 0, 0) for number in range(1, tasks + 1)
    }
    nodes = {task.node for task in job.tasks.values()}
    for runs in (job.preparations, job.releases):
        assert {node: (run.state, run.exit_code, run.launches) for node, run in runs.items()} == dict.fromkeys(nodes, ("completed", 0, 1))
    assert (job.finalizer.state, job.finalizer.exit_code, job.finalizer.launches) == ("completed", 0, 1)
    ran = (folder / "ran").read_text().split("\n")[:-1]
    assert ran[-1] == "jobfinalizer .engine"
    own = [ran[-1]] + [f"{run} {node}" for run in ("jobpreparation", "jobrelease") for node in nodes]
    assert sorted(ran) == sorted(own + [f"{task} {one.node}" for task, one in job.tasks.items()])
    with closing(SqliteStore.open(folder / "ledger.db", read_only=True)) as store:
        assert audit((recorded.event, recorded.recorded_at) for recorded in store.read()) == []


def test_what_runs_when_the_engine_is_killed_is_adopted(tmp_path, nursery):
    """Eight tasks on two nodes: half of them end while there is no engine, and half after the next one has taken over."""
    command = f"{waits_for(f'{tmp_path}/go-$(( ${{AZ_BATCH_TASK_ID#t}} % 2 ))')}; echo ended >> {tmp_path}/ended"
    write_job(tmp_path, tasks=8, slots=4, command=command)
    pid = nursery(tmp_path)
    until((tmp_path / "ledger.db").exists)
    with closing(SqliteStore.open(tmp_path / "ledger.db", read_only=True)) as store:

        def started():
            return sum(isinstance(recorded.event, e.ExecutionConfirmed) for recorded in store.read())

        until(lambda: started() == 2 + 8)
        kill(pid)
        (tmp_path / "go-0").touch()
        until(lambda: (tmp_path / "ended").exists() and (tmp_path / "ended").read_text().count("ended") == 4)
        before = store.head().position
        ended_early = [recorded for recorded in store.read() if isinstance(recorded.event, e.TaskCompleted)]
        assert ended_early == []

        async def go_on():
            async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes") as engine:
                await engine.until(lambda world: world.jobs[JOB].counts["completed"] == 4, timeout_s=BOUND_S)
                assert engine.world.jobs[JOB].counts["running"] == 4
                (tmp_path / "go-1").touch()
                await engine.wait(JOB, timeout_s=BOUND_S)
                return engine.world.jobs[JOB]

        job = asyncio.run(go_on())
        launched = [recorded.event.kind for recorded in store.read(after=before) if isinstance(recorded.event, e.ExecutionRequested)]
        assert launched == ["release", "release", "finalizer"]
    check_end(tmp_path, job, 8)


def test_an_engine_killed_at_any_moment_loses_and_repeats_nothing(tmp_path, nursery):
    seed = random.randrange(10**6)  # noqa: S311 - as below
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    moments = random.Random(seed)  # noqa: S311 - moments, not secrets
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_job(folder, tasks=8, slots=1, command="sleep 0.05")
        for _ in range(moments.choice([1, 1, 2])):
            pid = nursery(folder)
            time.sleep(moments.uniform(0, 0.6))  # the moment is what the test is about
            with suppress(ProcessLookupError):
                kill(pid)
        check_end(folder, finish(folder), 8)


def test_an_engine_killed_around_the_end_of_a_job_runs_its_finalizer_once(tmp_path, nursery):
    """Killed again and again from the last task on, while releases and the finalizer run and are recorded."""
    seed = random.randrange(10**6)  # noqa: S311 - as above
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    moments = random.Random(seed)  # noqa: S311 - moments, not secrets
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_job(folder, tasks=2, slots=1, command="true", pause_s=moments.choice([0, 0.05]))
        pid = nursery(folder)
        until(lambda ran=folder / "ran": ran.exists() and "t2" in ran.read_text())
        for _ in range(moments.choice([1, 2, 4])):
            time.sleep(moments.uniform(0, 0.1))  # the moment is what the test is about
            with suppress(ProcessLookupError):
                kill(pid)
            pid = nursery(folder)
        with suppress(ProcessLookupError):
            kill(pid)
        check_end(folder, finish(folder), 2)


def test_an_engine_that_is_closed_leaves_what_runs_to_the_next_one(tmp_path):
    write_job(tmp_path, tasks=2, slots=1, command=waits_for(tmp_path / "go"))
    job_file = jobfiles.load(tmp_path / "job.json")

    async def begin():
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes") as engine:
            await engine.create_pool(job_file.pool)
            await engine.submit(job_file.job, job_file.tasks)
            await engine.until(lambda world: world.jobs[JOB].counts["running"] == 2, timeout_s=BOUND_S)

    asyncio.run(begin())
    (tmp_path / "go").touch()
    check_end(tmp_path, finish(tmp_path), 2)
