"""Engines in surroundings of their own: time, names, and the mark of a dry run."""

import asyncio
import os
import socket

import pytest

from jobledger import Duration, Engine, JobId, MemoryStore, PolicyError, RequestRefused, Surroundings, TaskConstraints, here
from jobledger.core import events as e
from jobledger.core.ids import SECOND
from jobledger.surroundings import LEASE_TTL
from jobledger.testing.scenario import Hangs
from jobledger.virtual import run_virtually

START = 1_700_000_000 * SECOND


def elsewhere(loop_time, **more):
    """Surroundings of which nothing is this machine's."""
    numbers = iter(range(1_000))
    facts = {"host": "nowhere", "pid": 1, "boot_id": "", "owner": "nobody", "lease_ttl": None, "inbox_poll_s": None}
    return Surroundings(clock=lambda: START + round(loop_time() * SECOND), new_identity=lambda: f"{next(numbers):012x}", **facts | more)


def virtually(play):
    """Play on a virtual loop; `play` is given the loop's clock."""

    async def on_stage():
        return await play(asyncio.get_running_loop().time)

    return run_virtually(on_stage())


def test_by_itself_an_engine_is_this_process_on_this_machine():
    found = here()
    assert (found.host, found.pid, found.lease_ttl, found.dry_run) == (socket.gethostname(), os.getpid(), LEASE_TTL, "")
    assert here().owner != found.owner


def test_in_the_same_surroundings_the_same_thing_happens(instant, pool_spec, shell_job, shell_tasks):
    async def play(loop_time):
        store = MemoryStore(ledger_id="00000001")
        async with await Engine.open(store, executors={"instant": instant()}, surroundings=elsewhere(loop_time)) as engine:
            await engine.create_pool(pool_spec())
            await engine.submit(shell_job(), shell_tasks(3))
            await engine.until(lambda world: world.jobs[JobId("j")].counts["completed"] == 3)
            await engine.delete(JobId("j"))
            await engine.until(lambda world: not world.jobs)
            return [(one.event, one.recorded_at, one.causation, one.hash) for one in store.read()]

    first, second = virtually(play), virtually(play)
    assert first == second
    assert first[0][0].host == "nowhere"
    assert first[0][1] == START


def test_a_deadline_far_away_is_there_at_once(instant, pool_spec, shell_job, shell_tasks):
    """A task that hangs for a day of virtual time is ended by its limit."""
    limit = Duration(86_400 * SECOND)

    async def play(loop_time):
        async with await Engine.open("memory:", executors={"instant": instant({"t1": Hangs()})}, surroundings=elsewhere(loop_time)) as engine:
            await engine.create_pool(pool_spec())
            await engine.submit(shell_job(), shell_tasks(1, constraints=TaskConstraints(max_wall_clock_time=limit)))
            await engine.until(lambda world: world.jobs[JobId("j")].counts["completed"] == 1)
            return loop_time()

    assert 86_400 <= virtually(play) < 86_401


@pytest.mark.parametrize(("first", "second", "said"), [("", "seed 1", "no dry run"), ("seed 1", "", "nothing real")])
def test_real_work_and_dry_runs_share_no_ledger(instant, pool_spec, tmp_path, first, second, said):
    async def drive(loop_time, dry_run):
        around = elsewhere(loop_time, dry_run=dry_run)
        async with await Engine.open(tmp_path / "ledger.db", executors={"instant": instant()}, surroundings=around) as engine:
            await engine.create_pool(pool_spec())
            return [one.event for one in engine.store.read()]

    recorded = virtually(lambda loop_time: drive(loop_time, first))
    with pytest.raises(RequestRefused, match=said):
        virtually(lambda loop_time: drive(loop_time, second))
    assert [event.dry_run for event in recorded if isinstance(event, e.EngineStarted)] == [first]
    assert bool(recorded[0].root) != bool(first)  # A dry run has no folders, so it names none.
    again = virtually(lambda loop_time: drive(loop_time, first))
    assert len([event for event in again if isinstance(event, e.EngineStarted)]) == 2


class Last:
    def choose(self, world, job, task, nodes):
        return list(nodes)[-1]


class Wrong:
    def choose(self, world, job, task, nodes):
        return "nowhere"


def test_a_policy_chooses_the_node(instant, pool_spec, shell_job, shell_tasks):
    async def play(loop_time):
        around = elsewhere(loop_time)
        hang = {f"t{number}": Hangs() for number in (1, 2)}
        async with await Engine.open("memory:", executors={"instant": instant(hang)}, policy=Last(), surroundings=around) as engine:
            await engine.create_pool(pool_spec(nodes=3))
            await engine.until(lambda world: all(node.state == "idle" for node in world.nodes.values()))
            await engine.submit(shell_job(), shell_tasks(2))
            await engine.until(lambda world: world.jobs[JobId("j")].counts["running"] == 2)
            return {task.node for task in engine.world.jobs[JobId("j")].tasks.values()}

    assert virtually(play) == {"p-2", "p-3"}


def test_a_policy_that_chooses_what_it_was_not_offered_stops_the_engine(instant, pool_spec, shell_job, shell_tasks):
    async def play(loop_time):
        store = MemoryStore()
        engine = await Engine.open(store, executors={"instant": instant()}, policy=Wrong(), surroundings=elsewhere(loop_time))
        await engine.create_pool(pool_spec())
        await engine.until(lambda world: all(node.state == "idle" for node in world.nodes.values()))
        before = engine.position
        with pytest.raises(PolicyError, match="chose node nowhere for task t1 of job j"):
            await engine.submit(shell_job(), shell_tasks(1))
        assert store.head().position == before
        with pytest.raises(PolicyError):
            await engine.close()

    virtually(play)
