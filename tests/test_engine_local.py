"""The engine with real processes: limits in time, and ends that a user asks for."""

import asyncio
import os
import time

import pytest

from jobledger import Duration, Engine, JobConstraints, JobId, RequestRefused, TaskConstraints
from jobledger.core.ids import SECOND
from jobledger.surroundings import here

BOUND_S = 30.0
JOB = JobId("j")
HALF_A_SECOND = Duration(SECOND // 2)


def run(tmp_path, pool, job, tasks, act=None):
    """Drive a job to its end, doing `act` with the engine meanwhile; what comes back is the job as it ended."""

    async def scenario():
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes", durability="relaxed") as engine:
            await engine.create_pool(pool)
            await engine.submit(job, tasks)
            if act is not None:
                await act(engine)
            await engine.wait(JOB, timeout_s=BOUND_S)
            assert engine.idle
            return engine.world.jobs[JOB]

    return asyncio.run(scenario())


def test_a_task_over_its_limit_is_ended_and_failed(tmp_path, pool_spec, shell_job, shell_tasks):
    began = time.monotonic()
    job = run(
        tmp_path, pool_spec(executor="local"), shell_job(), shell_tasks(1, "sleep 30", constraints=TaskConstraints(max_wall_clock_time=HALF_A_SECOND))
    )
    (task,) = job.tasks.values()
    assert (task.failure.code, task.failure.category) == ("TaskEnded", "usererror")
    assert "maximum execution time" in task.failure.details[0].value
    assert (task.result, task.retries, task.launches) == ("failure", 0, 1)
    assert HALF_A_SECOND <= task.ended_at - task.started_at < 10 * SECOND
    assert time.monotonic() - began < 15


def test_a_program_that_falls_silent_is_ended_and_failed(tmp_path, pool_spec, shell_job, shell_tasks):
    limit = TaskConstraints(silent_timeout=Duration(SECOND), max_task_retry_count=3)
    job = run(
        tmp_path,
        pool_spec(executor="local"),
        shell_job(),
        shell_tasks(1, "/bin/sh -c 'for i in 1 2 3 4; do echo $i; sleep 0.5; done; sleep 30'", constraints=limit),
    )
    (task,) = job.tasks.values()
    assert (task.failure.code, task.result, task.launches) == ("TaskEnded", "failure", 1)
    assert "silentTimeout" in task.failure.details[0].value
    assert task.ended_at - task.started_at >= 2 * SECOND + HALF_A_SECOND, "what it wrote at first put it off"


def test_a_retry_waits_for_its_delay(tmp_path, pool_spec, shell_job, shell_tasks):
    limit = TaskConstraints(max_task_retry_count=2, retry_delay=HALF_A_SECOND)
    job = run(
        tmp_path,
        pool_spec(executor="local"),
        shell_job(),
        shell_tasks(1, "/bin/sh -c 'date +%s%N >> $AZ_BATCH_NODE_SHARED_DIR/tries; exit 1'", constraints=limit),
    )
    (task,) = job.tasks.values()
    assert (task.retries, task.result) == (2, "failure")
    (tries,) = (tmp_path / "nodes").rglob("tries")
    first, second, third = (int(line) // 1_000 for line in tries.read_text().splitlines())
    assert second - first >= HALF_A_SECOND
    assert third - second >= SECOND


def test_a_job_over_its_limit_is_terminated_and_released(tmp_path, pool_spec, shell_job, shell_tasks):
    job = run(
        tmp_path,
        pool_spec(executor="local"),
        shell_job(prep="true", release="touch released", constraints=JobConstraints(max_wall_clock_time=Duration(3 * HALF_A_SECOND))),
        shell_tasks(2, "sleep 30"),
    )
    assert job.terminate_reason == "MaxWallClockTimeExpiry"
    assert {task.failure.code for task in job.tasks.values()} == {"TaskEnded"}
    assert [release.exit_code for release in job.releases.values()] == [0]
    assert len(list((tmp_path / "nodes").rglob("released"))) == 1


def test_a_limit_that_passed_while_no_engine_ran_is_kept_by_the_next_one(tmp_path, pool_spec, shell_job, shell_tasks):
    async def begin():
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes") as engine:
            await engine.create_pool(pool_spec(executor="local"))
            await engine.submit(shell_job(), shell_tasks(1, "sleep 30", constraints=TaskConstraints(max_wall_clock_time=HALF_A_SECOND)))
            await engine.until(lambda world: world.jobs[JOB].counts["running"] == 1, timeout_s=BOUND_S)

    async def go_on():
        later = lambda: time.time_ns() // 1_000 + 3_600 * SECOND  # noqa: E731 - a clock
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes", surroundings=here(clock=later)) as engine:
            await engine.wait(JOB, timeout_s=BOUND_S)
            return engine.world.jobs[JOB].tasks

    asyncio.run(begin())
    (task,) = asyncio.run(go_on()).values()
    assert (task.failure.code, task.launches) == ("TaskEnded", 1)


def test_ending_one_task_and_the_job_ends_real_processes(tmp_path, pool_spec, shell_job, shell_tasks):
    pids = []

    async def act(engine):
        await engine.until(lambda world: sum(one.pid is not None for one in world.executions.values()) == 3, timeout_s=BOUND_S)
        pids.extend(one.pid for one in engine.world.executions.values())
        await engine.terminate_task(JOB, "t1")
        await engine.until(lambda world: world.jobs[JOB].tasks["t1"].state == "completed", timeout_s=BOUND_S)
        await engine.terminate(JOB, "enough")

    job = run(tmp_path, pool_spec(executor="local", task_slots_per_node=3), shell_job(), shell_tasks(3, "sleep 30"), act)
    assert job.terminate_reason == "enough"
    assert {task.failure.code for task in job.tasks.values()} == {"TaskEnded"}
    for pid in pids:
        assert not os.path.exists(f"/proc/{pid}")  # noqa: PTH110 - as short as can be


def test_disabling_requeues_and_enabling_runs_again(tmp_path, pool_spec, shell_job, shell_tasks):
    async def act(engine):
        await engine.until(lambda world: world.jobs[JOB].counts["running"] == 1, timeout_s=BOUND_S)
        await engine.disable(JOB, "requeue")
        await engine.until(lambda world: world.jobs[JOB].state == "disabled", timeout_s=BOUND_S)
        assert engine.world.jobs[JOB].counts["active"] == 2
        (tmp_path / "go").touch()
        await engine.enable(JOB)

    command = f"/bin/sh -c 'test -e {tmp_path}/go || exec sleep 30'"
    job = run(tmp_path, pool_spec(executor="local"), shell_job(), shell_tasks(2, command), act)
    assert job.succeeded == 2
    assert sorted(task.requeues for task in job.tasks.values()) == [0, 1]


def test_a_program_that_is_not_there_fails_its_task_and_says_so(tmp_path, pool_spec, shell_job, shell_tasks):
    job = run(tmp_path, pool_spec(executor="local"), shell_job(), shell_tasks(1, "no-such-program --at all"))
    (task,) = job.tasks.values()
    assert task.failure.code == "CommandProgramNotFound"
    assert "no-such-program" in str(task.failure)


def test_a_ledger_is_not_driven_below_another_root_while_its_own_is_there(tmp_path, pool_spec, shell_job, shell_tasks):
    async def scenario():
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes", durability="relaxed") as engine:
            await engine.create_pool(pool_spec(executor="local"))
            await engine.until(lambda world: all(node.state == "idle" for node in world.nodes.values()), timeout_s=BOUND_S)
            position = engine.position
        with pytest.raises(RequestRefused, match=r"lie below .*/nodes"):
            await Engine.open(tmp_path / "ledger.db", root=tmp_path / "other")
        (tmp_path / "link").symlink_to(tmp_path / "nodes")
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "link") as engine:
            assert [type(one.event).__name__ for one in engine.store.read(after=position)][:2] == ["EngineStopped", "EngineStarted"]
        (tmp_path / "nodes").rename(tmp_path / "moved")
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "moved") as engine:
            await engine.submit(shell_job(), shell_tasks(1, "true"))
            await engine.wait(JOB, timeout_s=BOUND_S)
            assert engine.world.jobs[JOB].succeeded == 1

    asyncio.run(scenario())
