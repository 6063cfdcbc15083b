"""User identities at the engine's door: refused where no executor could keep the promise, and again at the launch."""

import asyncio
import os

import pytest
from attrs import evolve

from jobledger import Engine, JobId, MemoryStore, NodeId, PoolId, RequestRefused, TaskId
from jobledger.core import requests as q
from jobledger.core.commands import RunCommand
from jobledger.core.ports import InboxRequest
from jobledger.core.specs import AutoUserSpecification, FinalizerSpec, PreparationSpec, ReleaseSpec, StartTaskSpec, TaskSpec, UserIdentity
from jobledger.eventstore import encode_request

BOUND_S = 20.0
STRANGER = UserIdentity(username="no-such-user")
NO_STRANGER = "there is no user 'no-such-user' on this machine: create it, or name another"
OWN = UserIdentity(auto_user=AutoUserSpecification(elevation_level="admin" if os.geteuid() == 0 else "nonadmin"))


def task(name="t1", user=STRANGER, command_line="true"):
    return TaskSpec(id=TaskId(name), command_line=command_line, user_identity=user)


def play(tmp_path, scenario, **more):
    async def run():
        store = MemoryStore()
        async with await Engine.open(store, root=tmp_path / "nodes", **more) as engine:
            await scenario(engine)

    asyncio.run(run())


async def refused(engine, asking):
    """The text of a refusal, which recorded nothing."""
    before = engine.position
    with pytest.raises(RequestRefused) as refusal:
        await asking
    assert (refusal.value.code, engine.position) == ("InvalidPropertyValue", before)
    return str(refusal.value)


def test_a_user_that_is_not_there_is_refused_with_the_path(tmp_path, pool_spec, shell_job):
    async def scenario(engine):
        start = StartTaskSpec(command_line="true", user_identity=STRANGER)
        assert await refused(engine, engine.create_pool(pool_spec(executor="local", start_task=start))) == f"startTask.userIdentity: {NO_STRANGER}"
        await engine.create_pool(pool_spec(executor="local"))
        job = evolve(
            shell_job(),
            job_preparation_task=PreparationSpec(command_line="true", user_identity=STRANGER),
            job_release_task=ReleaseSpec(command_line="true", user_identity=evolve(STRANGER, username="nor-this-one")),
        )
        assert await refused(engine, engine.submit(job)) == (
            f"jobPreparationTask.userIdentity: {NO_STRANGER}; "
            "jobReleaseTask.userIdentity: there is no user 'nor-this-one' on this machine: create it, or name another"
        )
        await engine.submit(shell_job(on_all_tasks_complete="noaction"))
        tasks = [task("fine", None), task("own", OWN), task(), task("again")]
        assert await refused(engine, engine.add_tasks(JobId("j"), tasks)) == f"tasks[2].userIdentity: {NO_STRANGER}"
        await engine.add_tasks(JobId("j"), tasks[:2])
        await engine.until(lambda world: world.jobs[JobId("j")].succeeded == 2, timeout_s=BOUND_S)

    play(tmp_path, scenario)


def test_another_process_is_answered_in_the_same_way_and_the_others_go_on(tmp_path, pool_spec, shell_job):
    async def scenario(engine):
        await engine.create_pool(pool_spec(executor="local"))
        requests = {
            "1" * 12: q.SubmitJob(spec=shell_job("bad"), tasks=(task(),)),
            "2" * 12: q.SubmitJob(spec=shell_job("good"), tasks=(task(user=OWN),)),
        }
        for number, request in requests.items():
            kind, data = encode_request(request)
            engine.store.put_request(InboxRequest(id=number, kind=kind, data=data, actor="user:ann", reason=None, submitted_at=0))
        await engine.until(lambda world: JobId("good") in world.jobs and world.jobs[JobId("good")].state == "completed", timeout_s=BOUND_S)
        replies = [engine.store.reply_to(number) for number in requests]
        assert [reply.accepted for reply in replies] == [False, True]
        assert (replies[0].code, replies[0].message) == ("InvalidPropertyValue", f"tasks[0].userIdentity: {NO_STRANGER}")
        assert JobId("bad") not in engine.world.jobs

    play(tmp_path, scenario)


def test_a_finalizers_user_is_asked_of_whoever_will_run_it(tmp_path, instant, pool_spec, shell_job):
    """That is the local executor for the engine's host, and for a chosen node that of its pool."""

    def finalized(job, node=None, user=STRANGER):
        return shell_job(job, job_finalizer_task=FinalizerSpec(command_line="true", node_id=node, user_identity=user))

    async def scenario(engine):
        await engine.create_pool(pool_spec())
        assert await refused(engine, engine.submit(finalized("j"))) == f"jobFinalizerTask.userIdentity: {NO_STRANGER}"
        on_a_node = await refused(engine, engine.submit(finalized("j", NodeId("p-1"))))
        assert on_a_node.startswith("jobFinalizerTask.userIdentity: executor 'instant' cannot run a command line as another user")
        await engine.submit(finalized("own", user=OWN))
        await engine.submit(finalized("nowhere", NodeId("p-9")))  # nobody can tell who would run it
        for job in ("own", "nowhere"):
            await engine.wait(JobId(job), timeout_s=BOUND_S)
        assert engine.world.jobs[JobId("own")].finalizer.result == "success"

    play(tmp_path, scenario, executors={"instant": instant()})


def test_an_executor_that_knows_no_users_is_given_nothing_that_is_meant_for_one(tmp_path, instant, pool_spec, shell_job):
    executor = instant()

    async def scenario(engine):
        await engine.submit(shell_job("early"), [task("t1"), task("t2", None)])  # nobody knows yet who will run it
        await engine.create_pool(pool_spec())
        await engine.wait(JobId("early"), timeout_s=BOUND_S)
        failure = engine.world.jobs[JobId("early")].tasks[TaskId("t1")].failure
        assert (failure.category, failure.code) == ("usererror", "CommandLaunchFailed")
        assert "executor 'instant' cannot run a command line as another user" in failure.message
        assert [command.launch.task for command in executor.commands if isinstance(command, RunCommand)] == ["t2"]
        assert "executor 'instant' cannot" in await refused(engine, engine.submit(shell_job("late"), [task()]))

    play(tmp_path, scenario, executors={"instant": executor})


def test_what_became_impossible_since_fails_before_it_runs(tmp_path, pool_spec, shell_job):
    """The job came before its pool, and so nobody could tell."""

    async def scenario(engine):
        await engine.submit(shell_job(), [task(command_line="touch /tmp/never")])
        await engine.create_pool(pool_spec(executor="local"))
        await engine.wait(JobId("j"), timeout_s=BOUND_S)
        failed = engine.world.jobs[JobId("j")].tasks[TaskId("t1")]
        assert (failed.exit_code, failed.failure.code) == (None, "CommandLaunchFailed")
        assert NO_STRANGER in failed.failure.message

    play(tmp_path, scenario)


class Slow:
    """An executor that takes its time to tell who somebody is."""

    def __init__(self, inner):
        self.inner = inner
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    async def refusal(self, user):
        self.asked.set()
        await self.may_answer.wait()


def test_nothing_waits_for_the_answer_but_who_asked(tmp_path, instant, pool_spec, shell_job):
    async def scenario(engine):
        slow = engine._ready_made["instant"]
        await engine.create_pool(pool_spec())
        kind, data = encode_request(q.SubmitJob(spec=shell_job("letter"), tasks=(task(),)))
        engine.store.put_request(InboxRequest(id="1" * 12, kind=kind, data=data, actor="user:ann", reason=None, submitted_at=0))
        await asyncio.wait_for(slow.asked.wait(), BOUND_S)
        asking = asyncio.create_task(engine.submit(shell_job("asked"), [task()]))
        await engine.submit(shell_job("other"), [task("t1", None)])
        await engine.wait(JobId("other"), timeout_s=BOUND_S)
        assert engine.world.jobs.keys() == {"other"}
        assert not engine.idle
        slow.may_answer.set()
        await asyncio.wait_for(asking, BOUND_S)
        await engine.until(lambda world: world.jobs.keys() == {"other", "letter", "asked"}, timeout_s=BOUND_S)

    play(tmp_path, scenario, executors={"instant": Slow(instant())})


def test_an_engine_that_is_closed_meanwhile_answers_later(tmp_path, instant, pool_spec, shell_job):
    """Who asked in the same process is told; the letter stays for the next engine."""

    async def scenario(engine):
        slow = engine._ready_made["instant"]
        await engine.create_pool(pool_spec())
        kind, data = encode_request(q.SubmitJob(spec=shell_job("letter"), tasks=(task(),)))
        engine.store.put_request(InboxRequest(id="1" * 12, kind=kind, data=data, actor="user:ann", reason=None, submitted_at=0))
        await asyncio.wait_for(slow.asked.wait(), BOUND_S)
        await engine.close()
        assert PoolId("p") in engine.world.pools
        assert JobId("letter") not in engine.world.jobs

    play(tmp_path, scenario, executors={"instant": Slow(instant())})
