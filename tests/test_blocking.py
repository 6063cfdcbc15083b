"""The blocking front: every call from any thread, errors as they are, and an end that leaves no thread behind."""

import asyncio
import inspect
import threading
import typing
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobledger import BlockingEngine, ExecutorError, JobId, LedgerBusy, MemoryStore, MetadataItem, NodeId, PoolId, RequestRefused, TaskId, TaskSpec
from jobledger.asks import Asks
from jobledger.core import events as e
from jobledger.core.limits import RESIZE_TIMEOUT_MIN
from jobledger.core.requests import RemoveNode, Request
from jobledger.testing.scenario import Hangs

BOUND_S = 10.0
JOB = JobId("j")


@pytest.fixture
def engine(instant, pool_spec):
    with BlockingEngine(MemoryStore(), executors={"instant": instant({"t1": Hangs()})}) as opened:
        opened.create_pool(pool_spec(nodes=2))
        yield opened


def test_every_call_does_as_the_engine_does(engine, shell_job, shell_tasks):
    assert engine.submit(shell_job(), shell_tasks(2)) > 0
    engine.until(lambda world: world.jobs[JOB].counts == {"active": 0, "preparing": 0, "running": 1, "completed": 1}, timeout_s=BOUND_S)
    engine.add_tasks(JOB, shell_tasks(3))
    engine.disable(JOB, "wait")
    engine.enable(JOB)
    engine.terminate_task(JOB, TaskId("t1"))
    engine.wait(JOB, timeout_s=BOUND_S)
    assert engine.read(lambda world: world.jobs[JOB].succeeded) == 2
    engine.submit(shell_job("k", on_all_tasks_complete="noaction"))
    engine.patch_job(JobId("k"), priority=4, metadata=[MetadataItem(name="run", value="1")])
    assert engine.read(lambda world: (world.jobs[JobId("k")].spec.priority, len(world.jobs[JobId("k")].spec.metadata))) == (4, 1)
    engine.add_tasks(JobId("k"), [TaskSpec(id=TaskId("gone"), command_line="nothing", required_slots=100)])
    engine.delete_task(JobId("k"), TaskId("gone"))
    with pytest.raises(RequestRefused, match="no task"):
        engine.reactivate_task(JobId("k"), TaskId("gone"))
    engine.terminate(JobId("k"), "enough")
    engine.wait(JobId("k"), timeout_s=BOUND_S)
    engine.delete(JOB)
    engine.until(lambda world: JOB not in world.jobs, timeout_s=BOUND_S)
    assert engine.executor_of(PoolId("p")).opened == 1
    before = engine.position
    assert engine.delete_pool(PoolId("p")) > before
    engine.until(lambda world: not world.pools, timeout_s=BOUND_S)


def test_every_call_about_pools_and_nodes_does_as_the_engine_does(engine):
    pool, first, second = PoolId("p"), NodeId("p-1"), NodeId("p-2")

    def state(node, wanted):
        engine.until(lambda world: world.nodes[node].state == wanted, timeout_s=BOUND_S)

    state(first, "idle")
    state(second, "idle")
    for call, wanted in [
        (engine.reboot_node, "idle"),
        (engine.reimage_node, "idle"),
        (engine.disable_scheduling, "offline"),
        (engine.enable_scheduling, "idle"),
        (engine.deallocate_node, "deallocated"),
        (engine.start_node, "idle"),
    ]:
        before = engine.position
        assert call(first) > before
        state(first, wanted)
    engine.remove_node(first, "terminate", reason="too old")
    engine.until(lambda world: first not in world.nodes, timeout_s=BOUND_S)
    engine.resize_pool(pool, 0, "taskcompletion", resize_timeout=RESIZE_TIMEOUT_MIN)
    engine.until(lambda world: not world.nodes, timeout_s=BOUND_S)
    with pytest.raises(RequestRefused, match="there is no resize to stop"):
        engine.stop_resize(pool)


def test_errors_come_as_they_are(engine, shell_job, shell_tasks):
    with pytest.raises(RequestRefused) as refused:
        engine.terminate(JOB)
    assert refused.value.code == "JobNotFound"
    with pytest.raises(RequestRefused):
        engine.request(RemoveNode(node="none"))
    engine.submit(shell_job(), shell_tasks(1))
    with pytest.raises(TimeoutError):
        engine.wait(JOB, timeout_s=0.05)
    with pytest.raises(ZeroDivisionError):
        engine.read(lambda world: 1 // 0)


def test_many_threads_ask_at_once(engine, shell_job, shell_tasks):
    def one(number):
        job = JobId(f"j{number}")
        engine.submit(shell_job(job), [task for task in shell_tasks(4) if task.id != "t1"])
        engine.wait(job, timeout_s=BOUND_S)
        return engine.read(lambda world: world.jobs[job].succeeded)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == [3] * 24


def test_a_thread_follows_what_others_cause(engine, shell_job, shell_tasks):
    done = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(lambda: [one.position for one in engine.follow(stop=done.is_set)])
        engine.submit(shell_job(), shell_tasks(3)[1:])
        engine.wait(JOB, timeout_s=BOUND_S)
        last = engine.position
        for recorded in engine.follow(after=last - 1):
            assert recorded.position == last
            break
        done.set()
        seen = following.result(BOUND_S)
    assert seen == list(range(1, len(seen) + 1))


def test_closing_wakes_who_waits_ends_the_thread_and_may_be_said_twice(instant, pool_spec, shell_job, shell_tasks):
    before = threading.active_count()
    engine = BlockingEngine(MemoryStore(), executors={"instant": instant({"t1": Hangs()})})
    engine.create_pool(pool_spec())
    engine.submit(shell_job(), shell_tasks(1))
    with ThreadPoolExecutor(4) as pool:
        asked = threading.Barrier(2)

        def ask():
            engine.read(lambda world: None)
            asked.wait(BOUND_S)
            engine.wait(JOB)

        waiting = pool.submit(ask)
        asked.wait(BOUND_S)
        for closing in [pool.submit(engine.close) for _ in range(3)]:
            closing.result(BOUND_S)
        with pytest.raises(ExecutorError, match="closed"):
            waiting.result(BOUND_S)
    with pytest.raises(ExecutorError, match="closed"):
        engine.terminate(JOB)
    engine.close()
    assert threading.active_count() == before


def test_an_engine_that_cannot_open_leaves_no_thread(tmp_path):
    with BlockingEngine(tmp_path / "ledger.db") as first:
        before = threading.active_count()
        with pytest.raises(LedgerBusy):
            BlockingEngine(tmp_path / "ledger.db")
        assert threading.active_count() == before
        assert [type(recorded.event) for recorded in first.follow(stop=iter([False, False, True]).__next__)] == [e.EngineStarted]


def test_the_error_that_stopped_the_engine_comes_with_its_end(instant, pool_spec):
    executor = instant()
    engine = BlockingEngine(MemoryStore(), executors={"instant": executor})
    engine.create_pool(pool_spec())
    engine.read(lambda world: executor.fail("worn out"))
    for call in (lambda: engine.until(lambda world: False, timeout_s=BOUND_S), engine.close):
        with pytest.raises(ExecutorError, match="worn out"):
            call()


def test_every_request_has_a_method():
    made = set()

    class Noting(Asks):
        async def request(self, request, *, actor="embedder"):
            made.add(type(request))
            return 0

    for name, method in vars(Asks).items():
        if inspect.iscoroutinefunction(method) and name != "request":
            needed = [part for part in inspect.signature(method).parameters.values() if part.default is inspect.Parameter.empty]
            asyncio.run(method(Noting(), *[()] * (len(needed) - 1)))
    assert made == set(typing.get_args(Request))


def test_whatever_can_be_asked_of_an_engine_can_be_asked_blocking():
    def asks(kind):
        return {
            name: str(inspect.signature(member)) for name, member in vars(kind).items() if inspect.isfunction(member) and not name.startswith("_")
        }

    blocking = asks(BlockingEngine)
    assert {name: blocking.get(name) for name in asks(Asks)} == asks(Asks)
