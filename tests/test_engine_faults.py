"""The engine when the store, an executor, another engine or the inbox's users misbehave: nothing untrue is told or launched."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from attrs import evolve

from jobledger import Engine, ExecutorError, JobId, LeaseLost, LedgerBusy, MemoryStore, PoolId, RequestRefused, SqliteStore, StoreError
from jobledger.core import events as e
from jobledger.core import requests as q
from jobledger.core.ids import SECOND
from jobledger.core.ports import InboxRequest, Lease, NewEvent
from jobledger.core.reports import ExecutionExited, NodeReady
from jobledger.engine import TURN_ARRIVALS_MAX
from jobledger.eventstore import encode_request
from jobledger.owner import certainly_dead, new_name
from jobledger.surroundings import LEASE_TTL, here, wall_clock
from jobledger.testing.scenario import Hangs

BOUND_S = 10.0


class FaultyStore:
    """A store that does as another one until `broken` says why it cannot append any more, or `before_append` has something to do."""

    def __init__(self, store) -> None:
        self._store = store
        self.broken = None
        self.before_append = None

    def __getattr__(self, name):
        return getattr(self._store, name)

    def append(self, events, *, expected, lease, replies=()):
        if self.before_append is not None:
            self.before_append(events, replies)
        if self.broken is not None:
            raise StoreError(self.broken)
        return self._store.append(events, expected=expected, lease=lease, replies=replies)


def letter(request, identity="letter", actor="user:ann"):
    kind, data = encode_request(request)
    return InboxRequest(id=identity, kind=kind, data=data, actor=actor, reason=None, submitted_at=wall_clock())


async def answered(store, identity="letter"):
    """The reply to a letter, as soon as there is one."""
    async with asyncio.timeout(BOUND_S):
        while (reply := store.reply_to(identity)) is None:  # noqa: ASYNC110 - no event tells of a reply
            await asyncio.sleep(0.005)
        return reply


# --- the store ------------------------------------------------------------------------------------------------


def test_nothing_is_launched_or_told_before_it_is_recorded(tmp_path, instant, pool_spec, shell_job, shell_tasks):
    executor = instant()

    async def break_it():
        store = FaultyStore(SqliteStore.open(tmp_path / "ledger.db"))
        engine = await Engine.open(store, executors={"instant": executor})
        await engine.create_pool(pool_spec(nodes=2))
        await engine.until(lambda world: all(node.state == "idle" for node in world.nodes.values()), timeout_s=BOUND_S)
        given = len(executor.commands)
        store.broken = "no space left on the device"
        submitting, waiting = asyncio.create_task(engine.submit(shell_job(), shell_tasks(2))), asyncio.create_task(engine.wait(PoolId("p")))
        also = asyncio.create_task(engine.until(lambda world: False))
        with pytest.raises(StoreError, match="no space left"):
            await submitting
        for task in (also, asyncio.create_task(engine.terminate(JobId("j")))):
            with pytest.raises(StoreError, match="no space left"):
                await task
        await waiting  # there is no such job, and so nothing to wait for
        assert len(executor.commands) == given
        with pytest.raises(StoreError, match="no space left"):
            await engine.close()
        assert executor.closed

    async def see():
        async with await Engine.open(tmp_path / "ledger.db", executors={"instant": instant()}) as engine:
            assert JobId("j") not in engine.world.jobs
            await engine.submit(shell_job(), shell_tasks(2))
            await engine.wait(JobId("j"), timeout_s=BOUND_S)
            assert engine.world.jobs[JobId("j")].succeeded == 2

    asyncio.run(break_it())
    asyncio.run(see())  # at once: an engine that failed gives the lease back if it can


def test_an_end_that_could_not_be_recorded_is_not_waited_for_with_success(instant, pool_spec, shell_job, shell_tasks):
    """The world of an engine that failed is ahead of the ledger: there the job is completed, and nobody may be told so."""
    executor = instant({"t1": Hangs()})
    store = FaultyStore(MemoryStore())

    async def scenario():
        engine = await Engine.open(store, executors={"instant": executor})
        await engine.create_pool(pool_spec())
        await engine.submit(shell_job(), shell_tasks(1))
        await engine.until(lambda world: world.jobs[JobId("j")].counts["running"] == 1, timeout_s=BOUND_S)
        waiting = asyncio.create_task(engine.wait(JobId("j"), timeout_s=BOUND_S))
        store.broken = "no space left on the device"
        executor.report(ExecutionExited(execution=next(iter(engine.world.executions)), exit_code=0))
        with pytest.raises(StoreError, match="no space left"):
            await waiting
        assert engine.world.jobs[JobId("j")].state == "completed"  # as it is not recorded
        with pytest.raises(StoreError, match="no space left"):
            await engine.wait(JobId("j"))
        with pytest.raises(StoreError, match="no space left"):
            await engine.close()

    asyncio.run(scenario())


def test_commands_come_after_the_commit_of_what_they_follow_from(instant, pool_spec, shell_job, shell_tasks):
    """At each append, the executor has been given nothing that only these events call for."""
    executor, launched = instant(), []
    store = FaultyStore(MemoryStore())

    def check(events: Sequence, replies):
        given = {command.launch.execution for command in executor.commands if hasattr(command, "launch")}
        for new in events:
            if isinstance(new.event, e.ExecutionRequested):
                launched.append(new.event.execution)
                assert new.event.execution not in given

    async def scenario():
        store.before_append = check
        async with await Engine.open(store, executors={"instant": executor}) as engine:
            await engine.create_pool(pool_spec(nodes=2))
            await engine.submit(shell_job(prep="prepare", release="release"), shell_tasks(5))
            await engine.wait(JobId("j"), timeout_s=BOUND_S)

    asyncio.run(scenario())
    assert len(launched) == 5 + 2 + 2


def test_an_engine_that_fails_as_it_opens_lets_go(tmp_path, pool_spec, instant):
    """The pool's executor is not there any more: the next engine that has it gets the ledger at once."""

    async def with_executor():
        async with await Engine.open(tmp_path / "ledger.db", executors={"instant": instant()}) as engine:
            await engine.create_pool(pool_spec())

    async def without():
        with pytest.raises(ExecutorError, match="there is no executor 'instant'"):
            await Engine.open(tmp_path / "ledger.db")

    for scenario in (with_executor, without, with_executor):
        asyncio.run(scenario())


# --- the lease ------------------------------------------------------------------------------------------------


def test_an_engine_that_was_replaced_stops_and_records_nothing_more(tmp_path, instant, pool_spec):
    async def scenario():
        engine = await Engine.open(tmp_path / "ledger.db", executors={"instant": instant()})
        other = SqliteStore.open(tmp_path / "ledger.db")
        other.acquire_lease("another machine", now=wall_clock() + 2 * LEASE_TTL, ttl=LEASE_TTL)
        before = other.head()
        with pytest.raises(LeaseLost, match="another machine holds it"):
            await engine.create_pool(pool_spec())
        with pytest.raises(LeaseLost):
            await engine.close()
        assert other.head() == before
        assert other.current_lease().owner == "another machine"
        other.close()

    asyncio.run(scenario())


def test_an_idle_engine_renews_its_lease_and_learns_when_it_lost_it():
    now = [wall_clock()]
    store = MemoryStore()

    async def scenario():
        engine = await Engine.open(store, surroundings=here(clock=lambda: now[0]))
        first = store.current_lease()
        now[0] += LEASE_TTL * 2 // 3
        async with asyncio.timeout(BOUND_S):
            while (renewed := store.current_lease()) == first:  # noqa: ASYNC110 - no event tells of a lease
                await asyncio.sleep(0.005)
        assert (renewed.epoch, renewed.expires_at) == (first.epoch, now[0] + LEASE_TTL)
        store.acquire_lease("another machine", now=now[0] + 2 * LEASE_TTL, ttl=LEASE_TTL)
        now[0] += LEASE_TTL
        with pytest.raises(LeaseLost):
            await engine.until(lambda world: False, timeout_s=BOUND_S)
        with pytest.raises(LeaseLost):
            await engine.close()

    asyncio.run(scenario())


def test_a_clock_behind_the_ledger_does_not_make_the_engine_spin(tmp_path):
    """Time in the ledger stands still until the clock has caught up; the lease goes by the clock, and is renewed once in a while."""
    ledger, renewed, looked = tmp_path / "ledger.db", [], []

    class Counting(FaultyStore):
        def renew_lease(self, *arguments, **options):
            renewed.append(arguments)
            return self._store.renew_lease(*arguments, **options)

        def pending_requests(self):
            looked.append(True)
            return self._store.pending_requests()

    async def scenario():
        async with await Engine.open(ledger):
            pass
        async with await Engine.open(Counting(SqliteStore.open(ledger)), surroundings=here(clock=lambda: wall_clock() - 3600 * SECOND)):
            async with asyncio.timeout(BOUND_S):
                while len(looked) < 5:  # noqa: ASYNC110 - no event tells of a look at the inbox
                    await asyncio.sleep(0.005)

    asyncio.run(scenario())
    assert renewed == []


def test_a_second_engine_is_told_who_drives_the_ledger(tmp_path):
    async def scenario():
        async with await Engine.open(tmp_path / "ledger.db") as engine:
            before = engine.store.head()
            with pytest.raises(LedgerBusy, match=rf"process {os.getpid()} on .* drives this ledger already"):
                await Engine.open(tmp_path / "ledger.db")
            assert engine.store.head() == before

    asyncio.run(scenario())


def test_the_lease_of_a_dead_process_is_taken_at_once(tmp_path):
    script = (
        "import sys; from jobledger.surroundings import LEASE_TTL, wall_clock; from jobledger.eventstore import SqliteStore; from jobledger.owner import new_name; "
        "SqliteStore.open(sys.argv[1]).acquire_lease(new_name(), now=wall_clock(), ttl=LEASE_TTL)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "ledger.db"], check=True, timeout=BOUND_S)
    store = SqliteStore.open(tmp_path / "ledger.db")
    assert store.current_lease().expires_at > wall_clock()
    assert certainly_dead(store.current_lease())
    store.close()

    async def scenario():
        async with await Engine.open(tmp_path / "ledger.db") as engine:
            assert engine.world.engine_epoch == 2

    asyncio.run(scenario())


def test_only_a_process_of_this_machine_can_be_known_to_be_dead():
    host, pid, start, engine = new_name().split("/")
    owners = {
        new_name(): False,
        f"{host}/{pid}/{start[:-1]}{(int(start[-1]) + 5) % 10}/{engine}": True,  # the pid belongs to another process now
        f"{host}/{pid}/x{start[1:]}/{engine}": True,  # of another boot
        f"{host}/{2**22 + 1}/{start}/{engine}": True,  # beyond any pid
        f"elsewhere/{pid}/1/{engine}": False,
        "someone": False,
        f"{host}/no/1/{engine}": False,
        f"{host}/{pid}/no/{engine}": False,
    }
    assert {owner: certainly_dead(Lease(owner=owner, epoch=1, expires_at=0)) for owner in owners} == owners


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_clock_that_is_set_makes_no_living_engine_dead(tmp_path, monkeypatch):
    """The kernel reckons when it booted by the clock: set it, and every process seems to have started at another time."""
    owner = Lease(owner=new_name(), epoch=1, expires_at=0)
    for entry in Path("/proc").iterdir():
        if entry.name != "stat":
            (tmp_path / entry.name).symlink_to(entry)
    lines = Path("/proc/stat").read_text().splitlines()
    later = [f"btime {int(line.split()[1]) + 3600}" if line.startswith("btime") else line for line in lines]
    (tmp_path / "stat").write_text("\n".join(later) + "\n")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert not certainly_dead(owner)


# --- executors ------------------------------------------------------------------------------------------------


def test_an_executor_that_can_do_no_more_stops_the_engine(instant, pool_spec, shell_job, shell_tasks):
    executor = instant({"t1": Hangs()})
    store = MemoryStore()

    async def scenario():
        engine = await Engine.open(store, executors={"instant": executor})
        await engine.create_pool(pool_spec())
        await engine.submit(shell_job(), shell_tasks(1))
        waiting = asyncio.create_task(engine.wait(JobId("j")))
        await asyncio.sleep(0)
        executor.fail("the pigeons are gone")
        with pytest.raises(ExecutorError, match="the pigeons are gone"):
            await waiting
        with pytest.raises(ExecutorError, match="the pigeons are gone"):
            await engine.terminate(JobId("j"))
        with pytest.raises(ExecutorError, match="the pigeons are gone"):
            await engine.close()

    asyncio.run(scenario())


def test_a_pool_whose_executor_cannot_be_opened_is_refused(tmp_path, instant, pool_spec, shell_job, shell_tasks):
    """Whoever asks, and again after a restart; what the other pools have to do is not held up."""

    class Unreachable(instant):
        async def open(self, sink, *, ledger_id):
            raise ExecutorError("the cluster does not answer")

    async def scenario(refused):
        store = SqliteStore.open(tmp_path / "ledger.db")
        store.put_request(letter(q.CreatePool(spec=pool_spec("far", executor="far")), refused))
        async with await Engine.open(store, executors={"instant": instant(), "far": Unreachable()}) as engine:
            reply = await answered(store, refused)
            assert (reply.accepted, reply.code) == (False, "ExecutorUnavailable")
            before = engine.position
            with pytest.raises(RequestRefused, match="the cluster does not answer"):
                await engine.create_pool(pool_spec("far", executor="far"))
            assert engine.position == before
            await engine.create_pool(pool_spec())
            await engine.submit(shell_job(refused), shell_tasks(1))
            await engine.wait(JobId(refused), timeout_s=BOUND_S)
            assert list(engine.world.pools) == ["p"]

    asyncio.run(scenario("first"))
    asyncio.run(scenario("second"))


def test_an_executor_that_fails_while_another_is_opened_stops_the_engine(tmp_path, instant, pool_spec):
    class Failing(instant):
        async def open(self, sink, *, ledger_id):
            await super().open(sink, ledger_id=ledger_id)
            await asyncio.sleep(0.01)  # the loop comes to rest: whoever watches the one opened before has seen it fail
            self.fail("the pigeons are gone")

    async def scenario():
        async with await Engine.open(tmp_path / "ledger.db", executors={"here": instant(), "there": instant()}) as engine:
            await engine.create_pool(pool_spec("p", executor="here"))
            await engine.create_pool(pool_spec("q", executor="there"))
        executors = {"here": Failing(), "there": Failing()}
        with pytest.raises(ExecutorError, match="the pigeons are gone"):
            await Engine.open(tmp_path / "ledger.db", executors=executors)
        assert [executor.recovered for executor in executors.values()] == [None, None]
        assert all(executor.closed for executor in executors.values())

    asyncio.run(scenario())


def test_reports_that_are_stale_repeated_or_of_nobody_change_nothing(instant, pool_spec, shell_job, shell_tasks):
    executor = instant()

    async def scenario():
        async with await Engine.open(MemoryStore(), executors={"instant": executor}) as engine:
            await engine.create_pool(pool_spec())
            await engine.submit(shell_job(prep="prepare", release="release"), shell_tasks(2))
            await engine.wait(JobId("j"), timeout_s=BOUND_S)
            await engine.until(lambda world: not world.executions and all(node.state == "idle" for node in world.nodes.values()), timeout_s=BOUND_S)
            before = engine.position
            for command in list(executor.commands):
                for report in executor.script.answer(command):
                    executor.report(report)
            executor.report(NodeReady(node="p-1", boot_id="p-1-boot-1"))
            await asyncio.sleep(0)  # they arrive
            with pytest.raises(RequestRefused):  # ... and are decided before this
                await engine.terminate(JobId("none"))
            assert engine.position == before

    asyncio.run(scenario())


# --- the inbox ------------------------------------------------------------------------------------------------


def test_a_letter_is_decided_once_and_answered(instant, pool_spec):
    store = MemoryStore()

    async def scenario():
        async with await Engine.open(store, executors={"instant": instant()}) as engine:
            store.put_request(letter(q.CreatePool(spec=pool_spec())))
            reply = await answered(store)
            assert reply.accepted
            created = next(one for one in store.read() if isinstance(one.event, e.PoolCreated))
            assert (created.actor, created.causation) == ("user:ann", "request:letter")
            assert created.position <= reply.position <= engine.position
            store.put_request(letter(q.TerminateJob(job=JobId("none")), "refused"))
            reply = await answered(store, "refused")
            assert (reply.accepted, reply.code) == (False, "JobNotFound")

    asyncio.run(scenario())


def test_letters_that_nobody_can_read_are_answered_and_stop_nothing(tmp_path, instant, pool_spec):
    bad = [("no-such-request/1", {}), ("terminate-job/1", {"jab": "j"}), ("create-pool/1", {"spec": []}), ("create-pool/9", {})]
    store = SqliteStore.open(tmp_path / "ledger.db")
    for number, (kind, data) in enumerate(bad):
        store.put_request(InboxRequest(id=f"bad{number}", kind=kind, data=data, actor="user:eve", reason=None, submitted_at=1))
    store.put_request(letter(q.CreatePool(spec=pool_spec(executor="carrier-pigeon")), "pigeon"))
    store.put_request(letter(q.CreatePool(spec=pool_spec()), "good"))

    async def scenario():
        async with await Engine.open(store, executors={"instant": instant()}) as engine:
            assert (await answered(store, "good")).accepted
            replies = [store.reply_to(f"bad{number}") for number in range(len(bad))]
            assert [(reply.accepted, reply.code) for reply in replies] == [(False, "InvalidRequestBody")] * len(bad)
            assert store.reply_to("pigeon").code == "InvalidPropertyValue"
            assert list(engine.world.pools) == ["p"]

    asyncio.run(scenario())


def test_what_is_not_unicode_is_refused_and_stops_nothing(instant, pool_spec, shell_job, shell_tasks):
    """A lone surrogate, which JSON and a terminal can hand us, cannot be recorded: found only then, it would stop every engine that opens the letter."""
    store = MemoryStore()
    lone = "\udcff"
    work = letter(q.SubmitJob(spec=shell_job(), tasks=tuple(shell_tasks(1))), "work")
    store.put_request(evolve(work, data=json.loads(json.dumps(work.data).replace('"work"', json.dumps(lone)))))
    store.put_request(evolve(work, id="kind", kind=f"submit-job/{lone}"))
    store.put_request(evolve(work, id="actor", actor=lone))

    async def scenario():
        async with await Engine.open(store, executors={"instant": instant()}) as engine:
            for identity in ("work", "kind", "actor"):
                reply = await answered(store, identity)
                assert (reply.accepted, reply.code) == (False, "InvalidInput")
            await engine.create_pool(pool_spec())
            before = engine.position
            for asked in (
                engine.submit(shell_job(), shell_tasks(1, f"echo {lone}")),
                engine.submit(shell_job(), actor=lone),
                engine.terminate(JobId(lone)),
            ):
                with pytest.raises(RequestRefused, match="not Unicode") as refusal:
                    await asked
                assert refusal.value.code == "InvalidInput"
            assert engine.position == before
            with pytest.raises(RequestRefused, match="not Unicode"):
                encode_request(q.TerminateJob(job=JobId("j"), reason=lone))
            await engine.submit(shell_job(), shell_tasks(1, "echo ÿ"))

    asyncio.run(scenario())


def test_more_letters_than_a_turn_takes_are_each_decided_once(instant):
    """The inbox is read again while letters of the last look still wait for their turn."""
    store, replied = FaultyStore(MemoryStore()), []
    count = 3 * TURN_ARRIVALS_MAX + 1
    for number in range(count):
        store.put_request(letter(q.TerminateJob(job=JobId("none")), f"l{number}"))

    async def scenario():
        store.before_append = lambda events, replies: replied.extend(reply.request for reply in replies)
        async with await Engine.open(store) as engine:
            real, engine._inbox_at = engine._read_inbox, 0.0

            def read_each_turn():
                engine._inbox_at = 0.0
                real()

            engine._read_inbox = read_each_turn
            await answered(store, f"l{count - 1}")

    asyncio.run(scenario())
    assert len(replied) == len(set(replied)) == count


def test_a_letter_taken_back_while_it_is_decided_never_happened(instant, pool_spec, shell_job, shell_tasks):
    """Its writer gave up in that very moment: the engine goes on, all else that came in the same turn is decided, the letter is not."""
    executor = instant({"t1": Hangs()})
    store = FaultyStore(MemoryStore())

    def take_back(events, replies):
        if any(reply.request == "letter" for reply in replies):
            assert store.withdraw_request("letter")

    async def scenario():
        async with await Engine.open(store, executors={"instant": executor}) as engine:
            await engine.create_pool(pool_spec())
            await engine.submit(shell_job(), shell_tasks(2))
            await engine.until(lambda world: world.jobs[JobId("j")].counts["running"] == 1, timeout_s=BOUND_S)
            store.before_append = take_back
            store.put_request(letter(q.TerminateJob(job=JobId("j"))))
            store.put_request(letter(q.SubmitJob(spec=shell_job("k")), "kept"))
            engine._inbox_at = 0.0
            position = await engine.add_tasks(JobId("j"), shell_tasks(3))
            assert (await answered(store, "kept")).accepted
            assert store.reply_to("letter") is None
            assert engine.world.jobs[JobId("j")].state == "active"
            assert engine.world.jobs[JobId("j")].added == 3
            assert position == engine.store.head().position or position < engine.store.head().position
            await engine.terminate(JobId("j"))
            await engine.wait(JobId("j"), timeout_s=BOUND_S)
            launches = [command.launch.execution for command in executor.commands if hasattr(command, "launch")]
            assert launches  # repeating a launch would be harmless, but the world knows that it started
            recorded = [one.event for one in store.read()]
            assert sum(isinstance(event, e.TaskAdded) for event in recorded) == 3

    asyncio.run(scenario())


def test_a_real_conflict_still_stops_the_engine(instant, pool_spec):
    """Somebody wrote to the ledger without the lease's knowledge."""
    store = MemoryStore()

    async def scenario():
        engine = await Engine.open(store, executors={"instant": instant()})
        lease = store.current_lease()
        store.append([_noted()], expected=store.head().position, lease=lease)
        with pytest.raises(StoreError, match="at position 2, not 1"):
            await engine.create_pool(pool_spec())
        with pytest.raises(StoreError):
            await engine.close()

    asyncio.run(scenario())


def _noted():
    return NewEvent(event=e.EngineStopped(epoch=1), recorded_at=wall_clock(), causation="engine", correlation="engine", actor="eve")
