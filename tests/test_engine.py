"""The engine without processes: requests in, events recorded with their causes, answers out, and a clean end."""

import asyncio
import gc
import os
import re

import pytest

from jobledger import Engine, ExecutorError, JobId, MemoryStore, PoolId, RequestRefused, SqliteStore
from jobledger import engine as engine_module
from jobledger.core import events as e
from jobledger.core import requests as q
from jobledger.surroundings import here
from jobledger.testing.scenario import Exits, Hangs

BOUND_S = 10.0


def types(store, stream=None):
    return [type(recorded.event) for recorded in store.read(stream=stream)]


def test_start_and_stop_are_recorded_with_host_and_process(tmp_path):
    async def scenario():
        for _ in range(2):
            async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes") as engine:
                assert engine.idle
                assert engine.world.engine_running

    asyncio.run(scenario())
    store = SqliteStore.open(tmp_path / "ledger.db", read_only=True)
    started, stopped, again, stopped_again = [recorded.event for recorded in store.read()]
    store.close()
    assert (started.pid, started.epoch, again.epoch) == (os.getpid(), 1, 2)
    assert stopped == e.EngineStopped(epoch=1)
    assert stopped_again == e.EngineStopped(epoch=2)
    assert not (tmp_path / "nodes").exists()  # no pool, no executor, no folder


def test_a_job_runs_to_its_end_and_every_event_says_why(instant, pool_spec, shell_job, shell_tasks):
    store = MemoryStore()

    async def scenario():
        async with await Engine.open(store, executors={"instant": instant({"t2": Exits(1)})}) as engine:
            await engine.create_pool(pool_spec(nodes=2), actor="user:ann")
            await engine.submit(shell_job(prep="prepare", release="release"), shell_tasks(8), actor="user:bob")
            await engine.wait(JobId("j"), timeout_s=BOUND_S)
            assert engine.world.jobs[JobId("j")].succeeded == 7
            check_reasons(list(store.read()))

    asyncio.run(scenario())


def check_reasons(recorded):
    """Each event names an earlier one, a request, a report, the clock or the engine, and who asked where somebody did."""
    by_position = {one.position: one for one in recorded}
    pattern = re.compile(r"event:(\d+)|request:[0-9a-f]{12}|report:(?:\d+|p-\d+)|clock|engine")
    executions = {event.execution for one in recorded if (event := one.event) and hasattr(event, "execution") and event.execution is not None}
    for one in recorded:
        found = pattern.fullmatch(one.causation)
        assert found, one
        if found[1]:
            assert int(found[1]) < one.position
            assert one.actor == "jobledger"
            assert int(found[1]) in by_position
        if one.causation.startswith("report:") and (subject := one.causation.removeprefix("report:")).isdigit():
            assert int(subject) in executions
        if one.causation.startswith("request:"):
            assert one.actor.startswith("user:")
        else:
            assert one.actor == "jobledger"
        if (job := getattr(one.event, "job", None)) is not None:
            assert one.correlation == f"job/{job}"
    asked = {type(one.event): one.actor for one in recorded if one.actor != "jobledger"}
    assert asked[e.PoolCreated] == "user:ann"
    assert asked[e.JobCreated] == "user:bob"
    assert {one.causation.split(":")[0] for one in recorded} == {"event", "request", "report", "engine"}


def test_a_refused_request_leaves_no_event(instant, pool_spec, shell_job, shell_tasks):
    async def scenario():
        async with await Engine.open(MemoryStore(), executors={"instant": instant()}) as engine:
            before = engine.position
            for code, request in [
                ("JobNotFound", q.TerminateJob(job=JobId("none"))),
                ("InvalidPropertyValue", q.CreatePool(spec=pool_spec(nodes=-1))),
                ("InvalidPropertyValue", q.CreatePool(spec=pool_spec(executor="carrier-pigeon"))),
                ("PoolNotFound", q.DeletePool(pool=PoolId("none"))),
                ("InvalidPropertyValue", q.SubmitJob(spec=shell_job(), tasks=tuple(shell_tasks(1, "")))),
            ]:
                with pytest.raises(RequestRefused) as refused:
                    await engine.request(request)
                assert refused.value.code == code
            assert (engine.position, engine.store.head().position) == (before, before)
            assert "there are: dry-run, instant, local" in await _refusal(engine, q.CreatePool(spec=pool_spec(executor="carrier-pigeon")))

    asyncio.run(scenario())


async def _refusal(engine, request):
    try:
        await engine.request(request)
    except RequestRefused as error:
        return str(error)
    return ""


def test_the_position_that_a_request_comes_back_with_has_its_events(instant, pool_spec, shell_job):
    async def scenario():
        async with await Engine.open(MemoryStore(), executors={"instant": instant()}) as engine:
            position = await engine.create_pool(pool_spec())
            assert e.PoolCreated in [type(one.event) for one in engine.store.read(until=position)]
            assert await engine.create_pool(pool_spec()) >= position  # the same pool again is the same pool
            assert types(engine.store).count(e.PoolCreated) == 1

    asyncio.run(scenario())


def test_a_clock_that_steps_back_stands_still(instant, pool_spec, shell_job, shell_tasks):
    times = iter(range(10_000_000_000, 0, -1_000_000))
    store = MemoryStore()

    async def scenario():
        async with await Engine.open(store, executors={"instant": instant()}, surroundings=here(clock=lambda: next(times))) as engine:
            await engine.create_pool(pool_spec())
            await engine.submit(shell_job(), shell_tasks(3))
            await engine.wait(JobId("j"), timeout_s=BOUND_S)
            return [recorded.recorded_at for recorded in store.read()]

    recorded_at = asyncio.run(scenario())
    assert recorded_at == sorted(recorded_at)
    assert len(recorded_at) > 20


def test_a_restart_with_the_clock_set_back_goes_on_from_what_the_ledger_has(tmp_path, instant, pool_spec):
    async def scenario(now):
        async with await Engine.open(tmp_path / "ledger.db", executors={"instant": instant()}, surroundings=here(clock=lambda: now)) as engine:
            await engine.create_pool(pool_spec())
            return [recorded.recorded_at for recorded in engine.store.read()]

    asyncio.run(scenario(2_000_000_000))
    assert set(asyncio.run(scenario(1_000_000_000))) == {2_000_000_000}


def test_requests_beyond_the_bound_are_refused_and_the_others_answered(monkeypatch, instant, pool_spec):
    monkeypatch.setattr(engine_module, "WAITING_REQUESTS_MAX", 3)

    async def scenario():
        async with await Engine.open(MemoryStore(), executors={"instant": instant()}) as engine:
            answers = await asyncio.gather(*(engine.create_pool(pool_spec()) for _ in range(5)), return_exceptions=True)
            assert [type(answer) for answer in answers] == [int, int, int, RequestRefused, RequestRefused]
            assert answers[-1].code == "ServerBusy"
            assert await engine.create_pool(pool_spec())

    asyncio.run(scenario())


def test_waiting_gives_up_in_time_and_the_engine_goes_on(instant, pool_spec, shell_job, shell_tasks):
    async def scenario():
        async with await Engine.open(MemoryStore(), executors={"instant": instant({"t1": Hangs()})}) as engine:
            await engine.create_pool(pool_spec())
            await engine.submit(shell_job(), shell_tasks(1))
            with pytest.raises(TimeoutError):
                await engine.wait(JobId("j"), timeout_s=0.05)
            with pytest.raises(TimeoutError):
                await engine.until(lambda world: False, timeout_s=0.05)
            assert not engine.idle
            await engine.terminate(JobId("j"))
            await engine.wait(JobId("j"), timeout_s=BOUND_S)
            await engine.wait(JobId("never-there"), timeout_s=BOUND_S)
            assert engine.idle

    asyncio.run(scenario())


def test_whoever_waits_hears_that_the_engine_was_closed(instant, pool_spec, shell_job, shell_tasks):
    async def scenario():
        engine = await Engine.open(MemoryStore(), executors={"instant": instant({"t1": Hangs()})})
        await engine.create_pool(pool_spec())
        await engine.submit(shell_job(), shell_tasks(1))
        waiting = asyncio.create_task(engine.wait(JobId("j")))
        await asyncio.sleep(0)
        await engine.close()
        await engine.close()
        with pytest.raises(ExecutorError, match="closed"):
            await waiting
        with pytest.raises(ExecutorError, match="closed"):
            await engine.terminate(JobId("j"))

    asyncio.run(scenario())


def test_a_subscription_sees_everything_while_it_happens(tmp_path, instant, pool_spec, shell_job, shell_tasks):
    async def scenario():
        async with await Engine.open(tmp_path / "ledger.db", executors={"instant": instant()}, durability="relaxed") as engine:
            seen = []

            async def watch():
                async for recorded in engine.subscribe():
                    seen.append(recorded)
                    if isinstance(recorded.event, e.JobCompleted):
                        return

            watching = asyncio.create_task(watch())
            await engine.create_pool(pool_spec(nodes=3))
            await engine.submit(shell_job(prep="prepare", release="release"), shell_tasks(200))
            await asyncio.wait_for(watching, BOUND_S)
            assert [recorded.position for recorded in seen] == list(range(1, len(seen) + 1))
            assert sum(isinstance(recorded.event, e.TaskCompleted) for recorded in seen) == 200

    asyncio.run(scenario())


def test_an_executor_of_a_third_party_comes_by_its_entry_point(monkeypatch, tmp_path, instant, pool_spec, shell_job, shell_tasks):
    """A distribution with an entry point is put on the path, as pip would."""
    info = tmp_path / "site" / "flyer-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: flyer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[jobledger.executors]\nflyer = flyer_of_a_third_party:Flyer\nbroken = no_such_module_here:Broken\n")
    (tmp_path / "site" / "flyer_of_a_third_party.py").write_text("made = []\ndef Flyer(root):\n    made.append(root)\n    return build()\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    import flyer_of_a_third_party  # noqa: PLC0415 - it is there from here on

    monkeypatch.setattr(flyer_of_a_third_party, "build", instant, raising=False)

    async def scenario():
        async with await Engine.open(MemoryStore(), root=tmp_path / "nodes") as engine:
            await engine.create_pool(pool_spec(executor="flyer"))
            await engine.submit(shell_job(), shell_tasks(2))
            await engine.wait(JobId("j"), timeout_s=BOUND_S)
            assert engine.executor_of(PoolId("p")).opened == 1
        async with await Engine.open(MemoryStore()) as engine:
            with pytest.raises(RequestRefused, match="'broken' cannot be loaded"):
                await engine.create_pool(pool_spec(executor="broken"))

    asyncio.run(scenario())
    assert flyer_of_a_third_party.made == [tmp_path / "nodes"]


def test_two_new_executors_at_once_are_both_open_before_they_are_needed(instant, pool_spec):
    """The second pool arrives while the first one's executor is being opened."""
    first, second = instant(), instant()

    async def scenario():
        async with await Engine.open(MemoryStore(), executors={"first": first, "second": second}) as engine:
            one = asyncio.create_task(engine.create_pool(pool_spec("one", executor="first")))
            while not first.opened:  # noqa: ASYNC110 - the loop's next turn is the event
                await asyncio.sleep(0)
            await engine.create_pool(pool_spec("two", executor="second"))
            await one
            await engine.until(lambda world: all(node.state == "idle" for node in world.nodes.values()), timeout_s=BOUND_S)

    asyncio.run(scenario())


def test_many_requests_at_once_share_commits_and_all_are_answered(tmp_path, instant, pool_spec, shell_job, shell_tasks):
    async def scenario():
        async with await Engine.open(tmp_path / "ledger.db", executors={"instant": instant()}, durability="relaxed") as engine:
            await engine.create_pool(pool_spec(nodes=4))
            await asyncio.gather(*(engine.submit(shell_job(f"j{number}"), shell_tasks(2)) for number in range(50)))
            await asyncio.gather(*(engine.wait(JobId(f"j{number}"), timeout_s=BOUND_S) for number in range(50)))
            assert engine.idle

    asyncio.run(scenario())


def test_nothing_is_left_behind_by_an_engine_that_was_closed(tmp_path, instant, pool_spec):
    async def scenario():
        executor = instant()
        async with await Engine.open(tmp_path / "ledger.db", executors={"instant": executor}) as engine:
            await engine.create_pool(pool_spec())
        assert executor.closed
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(scenario())
    gc.collect()  # An open connection or a pending task would warn now.
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]
