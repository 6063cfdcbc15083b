"""What becomes of real programs when something is asked of their node: run again, ended, or let end."""

import asyncio
import os
from pathlib import Path

import pytest

from jobledger import Engine, JobId, NodeId, PoolId, SqliteStore, TaskId
from jobledger.core import events as e

BOUND_S = 30.0
JOB = JobId("j")
FIRST = NodeId("p-1")
OPERATIONS = ["reboot_node", "reimage_node", "remove_node", "deallocate_node", "disable_scheduling"]


def until_told(folder: Path) -> str:
    """A program that says how often it was started and ends when it is told to."""
    return f"sh -c 'echo $$ >> {folder}/starts; for i in $(seq 1500); do test -e {folder}/go && exit 0; sleep 0.02; done; exit 9'"


def pids(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "starts").read_text().split()] if (folder / "starts").exists() else []


async def started(folder: Path, times: int) -> None:
    """The program was started so often: it says so itself, and the engine knows earlier."""
    async with asyncio.timeout(BOUND_S):
        while len(pids(folder)) < times:  # noqa: ASYNC110 - a file tells nobody when it comes
            await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def drive(tmp_path, pool, job, tasks, act):
    """Drive a job with real processes, with `act` beside it; what comes back is what `act` makes of it."""

    async def scenario():
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes", durability="relaxed") as engine:
            await engine.create_pool(pool)
            await engine.submit(job, tasks)
            await started(tmp_path, 1)
            # The other node may still be on its way, and until it is there no node is removed.
            await engine.until(lambda world: world.pools[pool.id].allocation == "steady", timeout_s=BOUND_S)
            return await act(engine)

    return asyncio.run(scenario())


def recorded(tmp_path, kind):
    store = SqliteStore.open(tmp_path / "ledger.db", read_only=True)
    events = [one.event for one in store.read() if isinstance(one.event, kind)]
    store.close()
    return events


@pytest.mark.parametrize("operation", OPERATIONS)
def test_taskcompletion_lets_a_running_program_end(tmp_path, pool_spec, shell_job, shell_tasks, operation):
    async def act(engine):
        await getattr(engine, operation)(FIRST, "taskcompletion", reason="the fan is loud")
        node = engine.world.nodes[FIRST]
        assert (node.state, len(node.tasks)) == ("running", 1)
        assert is_running(pids(tmp_path)[0])
        (tmp_path / "go").touch()
        await engine.wait(JOB, timeout_s=BOUND_S)
        quiet = {"reboot_node": "idle", "reimage_node": "idle", "deallocate_node": "deallocated", "disable_scheduling": "offline"}
        await engine.until(lambda world: (world.nodes[FIRST].state if FIRST in world.nodes else None) == quiet.get(operation), timeout_s=BOUND_S)
        return engine.world.jobs[JOB].tasks[TaskId("t1")]

    task = drive(tmp_path, pool_spec(executor="local"), shell_job(prep="true", release="true"), shell_tasks(1, until_told(tmp_path)), act)
    assert (task.result, task.requeues, len(pids(tmp_path))) == ("success", 0, 1)
    assert [(one.result, one.exit_code) for one in recorded(tmp_path, e.ReleaseCompleted)] == [("success", 0)], "the job's release ran before it"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_terminate_ends_a_running_program_for_good(tmp_path, pool_spec, shell_job, shell_tasks, operation):
    async def act(engine):
        await getattr(engine, operation)(FIRST, "terminate", reason="it leaks")
        await engine.wait(JOB, timeout_s=BOUND_S)
        return engine.world.jobs[JOB].tasks[TaskId("t1")]

    task = drive(tmp_path, pool_spec(executor="local"), shell_job(), shell_tasks(1, until_told(tmp_path)), act)
    assert (task.result, task.failure.code, task.exit_code, task.requeues) == ("failure", "TaskEnded", 143, 0)
    assert "it leaks" in task.failure.details[0].value
    assert len(pids(tmp_path)) == 1
    assert not is_running(pids(tmp_path)[0])
    assert [one.stopped for one in recorded(tmp_path, e.ExecutionEnded)] == [True]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_requeue_runs_it_again(tmp_path, pool_spec, shell_job, shell_tasks, operation):
    async def act(engine):
        await getattr(engine, operation)(engine.world.jobs[JOB].tasks[TaskId("t1")].node)
        await started(tmp_path, 2)
        (tmp_path / "go").touch()
        await engine.wait(JOB, timeout_s=BOUND_S)
        return engine.world.jobs[JOB].tasks[TaskId("t1")]

    task = drive(tmp_path, pool_spec(executor="local", nodes=2), shell_job(), shell_tasks(1, until_told(tmp_path)), act)
    assert (task.result, task.requeues, task.retries, len(pids(tmp_path))) == ("success", 1, 0, 2)
    assert not is_running(pids(tmp_path)[0])


def test_a_resize_lets_programs_end_and_a_drain_outlives_the_engine(tmp_path, pool_spec, shell_job, shell_tasks):
    async def act(engine):
        await engine.resize_pool(PoolId("p"), 0, "taskcompletion")
        assert engine.world.pools[PoolId("p")].allocation == "resizing"

    drive(tmp_path, pool_spec(executor="local"), shell_job(), shell_tasks(1, until_told(tmp_path)), act)

    async def go_on():
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes", durability="relaxed") as engine:
            drain = engine.world.nodes[FIRST].draining
            assert drain is not None
            assert drain.then == "remove"
            (tmp_path / "go").touch()
            await engine.until(lambda world: not world.nodes, timeout_s=BOUND_S)
            return engine.world.jobs[JOB].tasks[TaskId("t1")], engine.world.pools[PoolId("p")].allocation

    task, allocation = asyncio.run(go_on())
    assert (task.result, task.launches, allocation) == ("success", 1, "steady")


def test_a_drain_is_undone_and_the_program_goes_on(tmp_path, pool_spec, shell_job, shell_tasks):
    async def act(engine):
        await engine.remove_node(FIRST, "taskcompletion")
        await engine.enable_scheduling(FIRST)
        (tmp_path / "go").touch()
        await engine.wait(JOB, timeout_s=BOUND_S)
        pool = engine.world.pools[PoolId("p")]
        return pool.target, pool.allocation, list(pool.nodes), engine.world.nodes[FIRST].incarnation

    found = drive(tmp_path, pool_spec(executor="local"), shell_job(), shell_tasks(1, until_told(tmp_path)), act)
    assert found == (1, "steady", [FIRST], 1)
