"""Guests of an engine: `src/jobledger/guest.py`."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest

from jobledger import Engine, JobId, RequestRefused, SqliteStore, TaskId
from jobledger.core.errors import EngineGone
from jobledger.core.ids import SECOND
from jobledger.guest import Guest
from jobledger.owner import new_name
from jobledger.surroundings import wall_clock
from jobledger.testing.scenario import Hangs

BOUND_S = 20
JOB = JobId("j")


@pytest.fixture
def visiting(tmp_path, instant):
    """Plays with an engine and a guest of it, in two event loops' worth of one."""

    def call(play, script=None):
        async def scenario():
            executor = instant(script)
            async with (
                await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes", executors={"instant": executor}) as engine,
                await Guest.open(tmp_path / "ledger.db") as guest,
            ):
                await play(engine, guest, executor)

        asyncio.run(scenario())

    return call


def test_a_guest_asks_and_sees_what_comes_of_it(visiting, pool_spec, shell_job, shell_tasks):
    async def play(engine, guest, executor):
        await guest.create_pool(pool_spec(), actor="guest")
        position = await guest.submit(shell_job(), shell_tasks(3), actor="guest")
        assert JOB in guest.world.jobs
        assert guest.position >= position
        await guest.wait(JOB, timeout_s=BOUND_S)
        assert guest.world.jobs[JOB].succeeded == 3
        await engine.until(lambda _: guest.position == engine.position, timeout_s=BOUND_S)
        assert guest.world == engine.world
        assert {one.actor for one in engine.store.read(stream="job/j")} == {"guest", "jobledger"}

    visiting(play)


def test_a_refusal_is_the_engines(visiting):
    async def play(engine, guest, executor):
        before = engine.position
        with pytest.raises(RequestRefused) as refused:
            await guest.terminate(JobId("nobody"))
        assert refused.value.code == "JobNotFound"
        assert engine.position == before

    visiting(play)


def test_what_the_engine_does_for_others_is_seen(visiting, pool_spec, shell_job, shell_tasks):
    async def play(engine, guest, executor):
        await engine.create_pool(pool_spec())
        await engine.submit(shell_job(), shell_tasks(1))
        await guest.until(lambda world: JOB in world.jobs and world.jobs[JOB].tasks[TaskId("t1")].state == "running", timeout_s=BOUND_S)
        with pytest.raises(TimeoutError):
            await guest.wait(JOB, timeout_s=0.1)
        await engine.terminate(JOB)
        await guest.wait(JOB, timeout_s=BOUND_S)

    visiting(play, {"t1": Hangs()})


def test_a_guest_is_told_when_the_engine_has_gone_with_what_it_did_last(tmp_path, instant, pool_spec, shell_job, shell_tasks):
    async def scenario():
        engine = await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes", executors={"instant": instant({"t1": Hangs()})})
        async with await Guest.open(tmp_path / "ledger.db") as guest:
            await engine.create_pool(pool_spec())
            await engine.submit(shell_job(), shell_tasks(1))
            await guest.until(lambda world: JOB in world.jobs, timeout_s=BOUND_S)
            await engine.close()
            with pytest.raises(EngineGone, match="is gone"):
                await guest.wait(JOB, timeout_s=BOUND_S)
            assert not guest.world.engine_running
            with pytest.raises(EngineGone):
                await guest.terminate(JOB)

    asyncio.run(scenario())


def test_nobody_is_a_guest_where_no_engine_is(tmp_path):
    SqliteStore.open(tmp_path / "ledger.db").close()
    with pytest.raises(EngineGone):
        asyncio.run(Guest.open(tmp_path / "ledger.db"))


def test_an_engine_that_was_killed_is_gone_at_once(tmp_path):
    """Its lease has not run out, but its process is known to be dead."""
    ledger = tmp_path / "ledger.db"
    program = (
        "import asyncio, sys\nfrom jobledger import Engine\n"
        "async def main():\n"
        "    async with await Engine.open(sys.argv[1], root=sys.argv[1] + '.nodes'):\n"
        "        print('up', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )

    async def visit(engine):
        async with await Guest.open(ledger) as guest:
            os.kill(engine.pid, signal.SIGKILL)
            engine.wait(timeout=BOUND_S)
            with pytest.raises(EngineGone):
                await guest.until(lambda _: False, timeout_s=BOUND_S)
            assert SqliteStore.open(ledger, read_only=True).current_lease().expires_at > wall_clock()

    with subprocess.Popen([sys.executable, "-c", program, str(ledger)], stdout=subprocess.PIPE, text=True) as engine:
        try:
            assert engine.stdout.readline() == "up\n"
            asyncio.run(visit(engine))
        finally:
            engine.kill()


def test_an_engine_elsewhere_whose_lease_has_run_out_is_gone(tmp_path):
    with contextlib.closing(SqliteStore.open(tmp_path / "ledger.db")) as store:
        store.acquire_lease(new_name(), now=wall_clock() - 20 * SECOND, ttl=10 * SECOND)
    with pytest.raises(EngineGone, match="not been heard of"):
        asyncio.run(Guest.open(tmp_path / "ledger.db"))
