"""Finalizers with real processes: once, last, and however a job ends; the witness is what they write themselves."""

import asyncio
import json
import os
import signal
from contextlib import closing

import pytest

from jobledger import Duration, Engine, ExecutorError, FinalizerSpec, JobConstraints, JobId, JobSpec, NodeId, PoolInfo, RequestRefused, SqliteStore
from jobledger.core import events as e
from jobledger.core import requests as q
from jobledger.core.ids import SECOND, Micros
from jobledger.core.invariants import audit
from jobledger.core.specs import ExitConditions, ExitOptions, TaskSpec
from jobledger.keeper import SecretKeeper
from jobledger.recorder import Arrival, Recorder, subject_of
from jobledger.replay import replay

BOUND_S = 30.0
JOB = JobId("j")


def finalizer(folder, *, then="true", **more):
    """Adds what it is told to the file `last`."""
    told = "$AZ_BATCH_JOB_ID $AZ_BATCH_TASK_ID $JOBLEDGER_TERMINATE_REASON"
    counts = "$JOBLEDGER_TASKS_SUCCEEDED/$JOBLEDGER_TASKS_FAILED/$JOBLEDGER_RELEASES_FAILED"
    return FinalizerSpec(command_line=f"/bin/sh -c 'echo {told} {counts} >> {folder}/last; {then}'", **more)


def waits_for(path):
    """Shell words that wait for a file to be there, but not for ever."""
    return f"for i in $(seq 500); do test -e {path} && break; sleep 0.02; done"


def last(folder):
    """What finalizers said, a line each."""
    file = folder / "last"
    return file.read_text().splitlines() if file.exists() else []


def opened(folder, **more):
    return Engine.open(folder / "ledger.db", root=folder / "nodes", durability="relaxed", **more)


def sound(folder):
    with closing(SqliteStore.open(folder / "ledger.db", read_only=True)) as store:
        return audit((recorded.event, recorded.recorded_at) for recorded in store.read()) == []


def drive(folder, pool, job, tasks, act=None):
    """Drive a job to its end, doing `act` with the engine meanwhile; what comes back is the job as it ended, None where it is gone."""

    async def scenario():
        async with await opened(folder) as engine:
            await engine.create_pool(pool)
            await engine.submit(job, tasks)
            if act is not None:
                await act(engine)
            await engine.wait(JOB, timeout_s=BOUND_S)
            await engine.until(lambda _: engine.idle, timeout_s=BOUND_S)
            return engine.world.jobs.get(JOB)

    job = asyncio.run(scenario())
    assert sound(folder)
    return job


async def running(engine):
    await engine.until(lambda world: world.jobs[JOB].counts["running"] > 0, timeout_s=BOUND_S)


async def terminate(engine):
    await running(engine)
    await engine.terminate(JOB, "enough")


async def delete(engine):
    await running(engine)
    await engine.delete(JOB)


FAILING = TaskSpec(id="t1", command_line="false", exit_conditions=ExitConditions(default=ExitOptions(job_action="terminate")))


@pytest.mark.parametrize(
    ("command_line", "count", "more", "act", "told"),
    [
        pytest.param("true", 2, {}, None, "AllTasksComplete 2/0/0", id="all tasks complete"),
        pytest.param("true", 0, {}, None, "AllTasksComplete 0/0/0", id="no tasks at all"),
        pytest.param("sleep 30", 2, {}, terminate, "enough 0/2/0", id="terminated"),
        pytest.param("sleep 30", 2, {}, delete, "JobDeleted 0/2/0", id="deleted while active"),
        pytest.param(
            "sleep 30",
            1,
            {"constraints": JobConstraints(max_wall_clock_time=Duration(SECOND))},
            None,
            "MaxWallClockTimeExpiry 0/1/0",
            id="its wall clock",
        ),
        pytest.param(FAILING, 1, {"on_task_failure": "performexitoptionsjobaction"}, None, "TaskFailed 0/1/0", id="a failed task"),
        pytest.param("true", 2, {"prep": "true", "release": "true"}, None, "AllTasksComplete 2/0/0", id="after releases"),
        pytest.param("true", 1, {"prep": "true", "release": "false"}, None, "AllTasksComplete 1/0/1", id="after a failed release"),
    ],
)
def test_it_runs_once_however_the_job_ends(tmp_path, pool_spec, shell_job, shell_tasks, command_line, count, more, act, told):
    tasks = [command_line] if isinstance(command_line, TaskSpec) else shell_tasks(count, command_line)
    job = drive(tmp_path, pool_spec(executor="local"), shell_job(job_finalizer_task=finalizer(tmp_path), **more), tasks, act)
    assert last(tmp_path) == [f"j jobfinalizer {told}"]
    assert (job is None) == (act is delete)
    assert job is None or (job.finalizer.state, job.finalizer.exit_code) == ("completed", 0)


def test_it_comes_after_all_else_that_ran_of_the_job(tmp_path, pool_spec, shell_job, shell_tasks):
    """Slow releases on two nodes, and the finalizer finds what both have written."""
    release = f"/bin/sh -c 'sleep 0.2; echo $AZ_BATCH_NODE_ID >> {tmp_path}/released'"
    spec = FinalizerSpec(command_line=f"/bin/sh -c 'sort {tmp_path}/released > {tmp_path}/found'")
    tasks = shell_tasks(2, "sleep 0.2")
    drive(tmp_path, pool_spec(executor="local", nodes=2), shell_job(prep="true", release=release, job_finalizer_task=spec), tasks)
    assert (tmp_path / "found").read_text() == "p-1\np-2\n"


@pytest.mark.parametrize(
    ("then", "limit", "result", "exit_code", "code"),
    [
        ("exit 3", None, "failure", 3, "FailureExitCode"),
        ("exec sleep 30", Duration(SECOND // 2), "failure", 143, "TaskEnded"),
        ("kill -9 $$", None, "failure", 137, "FailureExitCode"),
    ],
)
def test_a_failure_is_recorded_and_never_retried(tmp_path, pool_spec, shell_job, shell_tasks, then, limit, result, exit_code, code):
    more = {} if limit is None else {"max_wall_clock_time": limit}
    spec = finalizer(tmp_path, then=then, **more)
    job = drive(tmp_path, pool_spec(executor="local"), shell_job(job_finalizer_task=spec), shell_tasks(1, "true"))
    assert (job.state, job.finalizer.result, job.finalizer.exit_code, job.finalizer.failure.code) == ("completed", result, exit_code, code)
    assert (job.finalizer.launches, len(last(tmp_path))) == (1, 1)


def test_a_program_that_is_not_there_fails_it(tmp_path, pool_spec, shell_job, shell_tasks):
    spec = FinalizerSpec(command_line="no-such-program")
    job = drive(tmp_path, pool_spec(executor="local"), shell_job(job_finalizer_task=spec), shell_tasks(1, "true"))
    assert (job.state, job.finalizer.failure.code, job.finalizer.launches) == ("completed", "CommandProgramNotFound", 1)


def test_a_delete_that_comes_while_it_runs_lets_it_finish_and_starts_no_second_one(tmp_path, pool_spec, shell_job, shell_tasks):
    async def act(engine):
        await at_work(engine, tmp_path)
        await engine.delete(JOB)
        assert engine.world.jobs[JOB].finalizer.state == "running"
        (tmp_path / "go").touch()

    spec = finalizer(tmp_path, then=f"{waits_for(tmp_path / 'go')}; echo ended >> {tmp_path}/last")
    assert drive(tmp_path, pool_spec(executor="local"), shell_job(job_finalizer_task=spec), shell_tasks(1, "true"), act) is None
    assert last(tmp_path) == ["j jobfinalizer AllTasksComplete 1/0/0", "ended"]


def test_deleting_a_completed_job_does_not_run_it_again(tmp_path, pool_spec, shell_job, shell_tasks):
    async def scenario():
        async with await opened(tmp_path) as engine:
            await engine.create_pool(pool_spec(executor="local"))
            await engine.submit(shell_job(job_finalizer_task=finalizer(tmp_path)), shell_tasks(1, "true"))
            await engine.wait(JOB, timeout_s=BOUND_S)
            await engine.delete(JOB)
            await engine.until(lambda world: JOB not in world.jobs, timeout_s=BOUND_S)
            assert engine.idle

    asyncio.run(scenario())
    assert len(last(tmp_path)) == 1
    assert sound(tmp_path)


# --- a chosen node --------------------------------------------------------------------------------------------


def on(node, folder, **more):
    return finalizer(folder, node_id=NodeId(node), **more)


async def at_work(engine, folder, lines=1):
    """Wait until the finalizer has been begun so often, and its program has written that: a file wakes no engine, so it is looked at."""
    await engine.until(lambda world: world.jobs[JOB].finalizer is not None, timeout_s=BOUND_S)
    async with asyncio.timeout(BOUND_S):
        while len(last(folder)) != lines:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


def test_it_runs_on_the_node_that_was_chosen(tmp_path, pool_spec, shell_job, shell_tasks):
    spec = FinalizerSpec(command_line=f"/bin/sh -c 'echo $AZ_BATCH_NODE_ID $PWD > {tmp_path}/where'", node_id=NodeId("p-2"))
    job = drive(tmp_path, pool_spec(executor="local", nodes=2), shell_job(job_finalizer_task=spec), shell_tasks(1, "true"))
    assert (job.finalizer.node, job.finalizer.result) == ("p-2", "success")
    node, folder = (tmp_path / "where").read_text().split()
    assert (node, folder) == ("p-2", str((tmp_path / "nodes/p/p-2/workitems/j/job-1/jobfinalizer/wd").resolve()))


def test_a_reboot_of_its_node_cuts_it_short_and_it_runs_again(tmp_path, pool_spec, shell_job, shell_tasks):
    async def act(engine):
        await at_work(engine, tmp_path)
        await engine.request(q.RebootNode(node=NodeId("p-1")))
        await at_work(engine, tmp_path, lines=2)
        (tmp_path / "go").touch()

    spec = on("p-1", tmp_path, then=f"{waits_for(tmp_path / 'go')}; echo ended >> {tmp_path}/ended")
    job = drive(tmp_path, pool_spec(executor="local"), shell_job(job_finalizer_task=spec), shell_tasks(1, "true"), act)
    assert (job.finalizer.state, job.finalizer.result, job.finalizer.launches) == ("completed", "success", 2)
    assert (tmp_path / "ended").read_text() == "ended\n"


def test_a_node_that_is_removed_under_it_does_not_hang_the_job_and_nothing_claims_that_it_ran(tmp_path, pool_spec, shell_job, shell_tasks):
    async def act(engine):
        await at_work(engine, tmp_path)
        await engine.request(q.RemoveNode(node=NodeId("p-1")))

    spec = on("p-1", tmp_path, then=f"sleep 30; echo ended >> {tmp_path}/ended")
    job = drive(tmp_path, pool_spec(executor="local"), shell_job(job_finalizer_task=spec), shell_tasks(1, "true"), act)
    assert (job.state, job.finalizer.state, job.finalizer.result) == ("completed", "abandoned", None)
    assert job.finalizer.abandoned_because == "the node is leaving its pool"
    assert not (tmp_path / "ended").exists()


# --- the engine's host ----------------------------------------------------------------------------------------


def test_on_the_host_it_runs_through_the_local_executor_whatever_that_of_the_pool_is(tmp_path, instant, pool_spec, shell_job, shell_tasks):
    async def scenario():
        async with await opened(tmp_path, executors={"instant": instant()}) as engine:
            await engine.create_pool(pool_spec())
            await engine.submit(shell_job(job_finalizer_task=finalizer(tmp_path)), shell_tasks(2))
            await engine.wait(JOB, timeout_s=BOUND_S)
            return engine.world.jobs[JOB]

    assert asyncio.run(scenario()).finalizer.result == "success"
    assert last(tmp_path) == ["j jobfinalizer AllTasksComplete 2/0/0"]
    assert (tmp_path / "nodes/.engine/.engine/workitems/j/job-1/jobfinalizer/stdout.txt").exists()


def test_a_job_whose_finalizer_has_nowhere_to_run_is_refused_and_others_are_not(tmp_path, instant, pool_spec, shell_job, shell_tasks):
    (tmp_path / "nodes").write_text("in the way")

    async def scenario():
        async with await opened(tmp_path, executors={"instant": instant()}) as engine:
            await engine.create_pool(pool_spec())
            with pytest.raises(RequestRefused, match="jobFinalizerTask: the local executor cannot use") as refusal:
                await engine.submit(shell_job(job_finalizer_task=finalizer(tmp_path)), shell_tasks(1))
            assert refusal.value.code == "ExecutorUnavailable"
            assert engine.world.jobs == {}
            await engine.submit(shell_job(), shell_tasks(1))
            await engine.wait(JOB, timeout_s=BOUND_S)

    asyncio.run(scenario())


def test_an_engine_that_is_closed_leaves_it_to_the_next_one(tmp_path, instant, pool_spec, shell_job, shell_tasks):
    spec = finalizer(tmp_path, then=f"{waits_for(tmp_path / 'go')}; echo ended >> {tmp_path}/last")

    async def begin():
        async with await opened(tmp_path, executors={"instant": instant()}) as engine:
            await engine.create_pool(pool_spec())
            await engine.submit(shell_job(job_finalizer_task=spec), shell_tasks(1))
            await at_work(engine, tmp_path)

    async def go_on():
        async with await opened(tmp_path, executors={"instant": instant()}) as engine:
            await engine.wait(JOB, timeout_s=BOUND_S)
            return engine.world.jobs[JOB].finalizer

    asyncio.run(begin())
    (tmp_path / "go").touch()
    ended = asyncio.run(go_on())
    assert (ended.result, ended.launches) == ("success", 1)
    assert last(tmp_path) == ["j jobfinalizer AllTasksComplete 1/0/0", "ended"]


def begun_in_another_boot(folder, job, record):
    """A ledger whose job has come to its finalizer before the host was rebooted, with a record of the execution that says `record`."""
    with closing(SqliteStore.open(folder / "ledger.db")) as store:
        lease = store.acquire_lease("x/1/1", now=Micros(1), ttl=Duration(SECOND))
        world, _ = replay(store)
        recorder = Recorder(store, world, lease, store.head(), SecretKeeper.of(store, world))
        recorder.note(e.EngineStarted(version="0", host="here", pid=1, epoch=lease.epoch, boot_id="boot-of-yore"), Micros(1))
        submit = q.SubmitJob(spec=job)
        recorder.take(Arrival(stimulus=submit, causation="request:x", correlation=subject_of(submit)), Micros(2))
        recorder.commit()
        store.release_lease(lease)
        assert world.jobs[JOB].finalizer.state == "running"
        if record:
            executions = folder / "nodes/.engine/.engine/executions"
            executions.mkdir(parents=True)
            lines = [{"claimed": f"{store.ledger_id}.1", "boot": "boot-of-yore"}, *record]
            (executions / f"{store.ledger_id}.1").write_text("".join(json.dumps(line) + "\n" for line in lines))


STARTED = {"started": 2, "span": [1, 1], "boot": "boot-of-yore"}
ENDED = {"exited": None, "code": 0, "signal": None, "stopped": False, "wall_us": 5}


@pytest.mark.parametrize(
    ("record", "runs", "result"),
    [
        pytest.param([], 1, "success", id="no record of a launch"),
        pytest.param([STARTED], 1, "success", id="it ran"),
        pytest.param([STARTED, ENDED, {"drained": []}], 0, "success", id="it had ended"),
        pytest.param([STARTED, {**ENDED, "code": 4}, {"drained": []}], 0, "failure", id="it had failed"),
    ],
)
def test_a_reboot_of_the_host_runs_it_again_unless_its_end_is_on_record(tmp_path, record, runs, result):
    job = JobSpec(id=JOB, pool_info=PoolInfo(pool_id="p"), job_finalizer_task=finalizer(tmp_path), on_all_tasks_complete="terminatejob")
    begun_in_another_boot(tmp_path, job, record)

    async def go_on():
        async with await opened(tmp_path) as engine:
            await engine.wait(JOB, timeout_s=BOUND_S)
            return engine.world.jobs[JOB]

    ended = asyncio.run(go_on())
    assert (ended.state, ended.finalizer.state, ended.finalizer.result) == ("completed", "completed", result)
    assert len(last(tmp_path)) == runs
    assert sound(tmp_path)


def test_an_engine_that_cannot_run_what_is_owed_on_its_host_does_not_start(tmp_path):
    job = JobSpec(id=JOB, pool_info=PoolInfo(pool_id="p"), job_finalizer_task=finalizer(tmp_path), on_all_tasks_complete="terminatejob")
    begun_in_another_boot(tmp_path, job, [])
    (tmp_path / "nodes").write_text("in the way")
    with pytest.raises(ExecutorError, match="the local executor cannot use"):
        asyncio.run(opened(tmp_path))


def test_one_whose_end_nobody_saw_on_a_host_that_stayed_up_is_not_run_again(tmp_path, pool_spec, shell_job, shell_tasks):
    """Its supervisor is killed, and the next one can only see that it runs no more."""

    async def act(engine):
        await at_work(engine, tmp_path)
        os.kill(engine.executor_of("p").supervisor_pid, signal.SIGKILL)
        (tmp_path / "go").touch()

    spec = finalizer(tmp_path, then=waits_for(tmp_path / "go"))
    job = drive(tmp_path, pool_spec(executor="local"), shell_job(job_finalizer_task=spec), shell_tasks(1, "true"), act)
    assert (job.finalizer.state, job.finalizer.result, job.finalizer.failure.code, job.finalizer.launches) == ("completed", "failure", "Unknown", 1)
    assert len(last(tmp_path)) == 1
