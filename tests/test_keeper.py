"""What an engine does about secrets: values only on their way to an executor, kept as long as something can need them, and no longer."""

import asyncio
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import attrs
import pytest

from jobledger import (
    BlockingEngine,
    Engine,
    EnvironmentSetting,
    FinalizerSpec,
    JobId,
    MemoryStore,
    NodeId,
    PoolId,
    RequestRefused,
    SqliteStore,
    StartTaskSpec,
    StoreError,
    TaskId,
)
from jobledger.core import events as e
from jobledger.core import requests as q
from jobledger.core.commands import Launch, RunFinalizer, RunPreparation, RunRelease, RunStartTask, RunTask
from jobledger.core.failure import FailureInfo
from jobledger.core.ports import InboxRequest, NewEvent
from jobledger.core.secrecy import digests_in
from jobledger.core.world import World
from jobledger.eventstore import encode_request
from jobledger.inbox import ask
from jobledger.keeper import SecretKeeper
from jobledger.sealing import SecretStore
from jobledger.testing.scenario import Hangs

BOUND_S = 10.0
JOB = JobId("j")
VALUE = "correct-horse-battery-staple"


def secret(name="TOKEN", value=VALUE):
    return EnvironmentSetting(name=name, value=value, secret=True)


def kept(store):
    """How many values there are."""
    path = store.path.with_name("ledger.db.secrets")
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM secrets").fetchone()[0]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def drive(path, instant):
    """Runs a scenario with an engine on the file at `path`, and an executor that never ends the tasks named `hangs`."""

    def call(scenario, executor=None):
        executor = executor or instant({"hangs": Hangs()})

        async def main():
            async with await Engine.open(path, executors={"instant": executor}, durability="relaxed") as engine:
                return await scenario(engine)

        return asyncio.run(main())

    return call


def launched(executor):
    return {type(command): command.launch for command in executor.commands if hasattr(command, "launch")}


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_only_commands_have_values_in_them(kind, path, instant, pool_spec, shell_job, shell_tasks):
    store = MemoryStore() if kind == "memory" else SqliteStore.open(path)
    executor = instant()

    async def scenario():
        async with await Engine.open(store, executors={"instant": executor}) as engine:
            await engine.create_pool(pool_spec(start_task=StartTaskSpec(command_line="start", environment_settings=(secret("START"),))))
            common = (secret("COMMON", "of all"), EnvironmentSetting(name="PLAIN", value="seen"))
            job = shell_job(prep="prepare", release="release", common_environment_settings=common)
            await engine.submit(job, shell_tasks(1, environment_settings=(secret(), secret("COMMON", "of one"))))
            await engine.wait(JOB, timeout_s=BOUND_S)
            world = repr(engine.world)
            sealed = engine.world.jobs[JOB].spec, engine.world.pools[PoolId("p")].spec
            return world, sealed, [json.dumps(encode_request(q.SubmitJob(spec=sealed[0]))), *map(repr, store.read())]

    world, sealed, stored = asyncio.run(scenario())
    of = launched(executor)
    found = {kind: {setting.name: setting.value for setting in of[kind].environment} for kind in of}
    assert found == {
        RunStartTask: {"START": VALUE},
        RunPreparation: {"COMMON": "of all", "PLAIN": "seen"},
        RunRelease: {"COMMON": "of all", "PLAIN": "seen"},
        RunTask: {"COMMON": "of one", "PLAIN": "seen", "TOKEN": VALUE},
    }
    assert all(setting.secret == (setting.name != "PLAIN") for launch in of.values() for setting in launch.environment)
    for text in (world, repr(executor.commands), *stored):
        assert VALUE not in text
        assert "of all" not in text
    assert len(digests_in(sealed[0]) | digests_in(sealed[1])) == 2


def test_the_same_job_again_is_the_same_job_and_another_secret_is_not(drive, pool_spec, shell_job, shell_tasks):
    async def scenario(engine):
        await engine.create_pool(pool_spec())
        for _ in range(2):
            await engine.submit(shell_job(common_environment_settings=(secret(),), on_all_tasks_complete="noaction"))
        with pytest.raises(RequestRefused) as refused:
            await engine.submit(shell_job(common_environment_settings=(secret(value="another"),), on_all_tasks_complete="noaction"))
        assert refused.value.code == "JobExists"
        assert "another" not in str(refused.value).replace("another specification", "")
        assert kept(engine.store) == 1  # the refused one's is forgotten

    drive(scenario)


def test_a_secret_is_forgotten_when_the_last_job_or_pool_that_needs_it_has_ended(drive, path, pool_spec, shell_job, shell_tasks):
    async def scenario(engine):
        start = StartTaskSpec(command_line="start", environment_settings=(secret(value="of the pool"),))
        await engine.create_pool(pool_spec(start_task=start))
        common = (secret(value="shared"), secret("OWN", "of j"))
        await engine.submit(shell_job(common_environment_settings=common, on_all_tasks_complete="noaction"))
        await engine.submit(shell_job("k", common_environment_settings=(secret(value="shared"),), on_all_tasks_complete="noaction"))
        await engine.add_tasks(JobId("k"), shell_tasks(1, environment_settings=(secret(value="of a task of k"),)))
        await engine.until(lambda world: world.jobs[JobId("k")].succeeded == 1, timeout_s=BOUND_S)
        assert kept(engine.store) == 4  # the task may be reactivated as long as its job lives
        await engine.terminate(JOB)
        await engine.wait(JOB, timeout_s=BOUND_S)
        assert kept(engine.store) == 3
        await engine.delete(JobId("k"))
        await engine.until(lambda world: JobId("k") not in world.jobs, timeout_s=BOUND_S)
        assert kept(engine.store) == 1
        await engine.delete_pool(PoolId("p"))
        await engine.until(lambda world: not world.pools, timeout_s=BOUND_S)
        assert kept(engine.store) == 0

    drive(scenario)
    assert all(value not in path.with_name("ledger.db.secrets").read_bytes() for value in (b"shared", b"of j", b"of a task", b"of the pool"))


def test_a_job_that_is_over_and_submitted_again_keeps_nothing(drive, pool_spec, shell_job, shell_tasks):
    async def scenario(engine):
        await engine.create_pool(pool_spec())
        for _ in range(2):
            await engine.submit(shell_job(common_environment_settings=(secret(),)), shell_tasks(1))
            await engine.wait(JOB, timeout_s=BOUND_S)
            assert kept(engine.store) == 0

    drive(scenario)


def test_an_asker_who_does_not_wait_for_the_answer_loses_no_secret(drive, instant, pool_spec, shell_job, shell_tasks):
    executor = instant()

    async def scenario(engine):
        await engine.create_pool(pool_spec())
        submitting = asyncio.create_task(engine.submit(shell_job(common_environment_settings=(secret(),)), shell_tasks(1)))
        await asyncio.sleep(0)  # it is put, and not decided yet
        submitting.cancel()
        await engine.until(lambda world: JOB in world.jobs and world.jobs[JOB].state == "completed", timeout_s=BOUND_S)
        assert engine.world.jobs[JOB].succeeded == 1
        assert kept(engine.store) == 0

    drive(scenario, executor)
    assert launched(executor)[RunTask].environment[0].value == VALUE


def test_a_start_forgets_what_nothing_needs_and_keeps_what_something_does(drive, path, instant, pool_spec, shell_job, shell_tasks):
    ended = shell_job("ended", common_environment_settings=(secret(value="of a job that has ended"),))

    async def begin(engine):
        start = StartTaskSpec(command_line="start", environment_settings=(secret("START", "of the pool"),))
        await engine.create_pool(pool_spec(start_task=start))
        await engine.submit(ended, shell_tasks(1))
        await engine.wait(ended.id, timeout_s=BOUND_S)
        job = shell_job(pool="later", common_environment_settings=(secret(),), on_all_tasks_complete="noaction")
        await engine.submit(job, [attrs.evolve(shell_tasks(1)[0], id=TaskId("own"), environment_settings=(secret("OWN", "of a task"),))])

    drive(begin)
    left = q.AddTasks(job=JOB, tasks=tuple(shell_tasks(1, environment_settings=(secret("LEFT", "in the inbox"),))))
    with closing(SqliteStore.open(path)) as store, SecretStore.of(store) as secrets:
        secrets.seal(shell_job("never", common_environment_settings=(secret(value="of nobody"),)))
        secrets.seal(ended)
        kind, data = encode_request(secrets.seal(left))  # as by an asker who was killed, and whose hold has run out
        store.put_request(InboxRequest(id="r", kind=kind, data=data, actor="ann", reason=None, submitted_at=1))
        store.put_request(InboxRequest(id="x", kind="nonsense/1", data={}, actor="ann", reason=None, submitted_at=1))
        assert kept(store) == 6
    executor = instant()

    async def go_on(engine):
        await engine.create_pool(pool_spec("later"))
        await engine.request(q.RebootNode(node=NodeId("p-1")))
        await engine.until(lambda world: world.jobs[JOB].succeeded == 2, timeout_s=BOUND_S)
        await engine.until(lambda world: world.nodes[NodeId("p-1")].state == "idle", timeout_s=BOUND_S)
        assert kept(engine.store) == 4

    drive(go_on, executor)
    given = {
        (launch.task, setting.value)
        for command in executor.commands
        if (launch := getattr(command, "launch", None))
        for setting in launch.environment
    }
    assert given == {("t1", VALUE), ("t1", "in the inbox"), ("own", VALUE), ("own", "of a task"), ("starttask", "of the pool")}


def test_a_request_that_waits_keeps_what_it_needs(shell_job):
    """It may wait for many turns behind others, and another job with the same secret ends meanwhile."""
    keeper = SecretKeeper.of(MemoryStore(), World())
    spec = shell_job(common_environment_settings=(secret(),))
    sealed = keeper.seal(q.SubmitJob(spec=spec), "request:1")

    def recorded(event):
        keeper.recorded([NewEvent(event=event, recorded_at=1, causation="clock", correlation="job/j", actor="ann")])

    def is_kept():
        return not isinstance(keeper.opened(run(sealed.spec)), FailureInfo)

    recorded(e.JobCreated(job=JOB, spec=sealed.spec))
    recorded(e.JobCompleted(job=JOB))
    assert is_kept()
    keeper.answered(["request:1", "of somebody else"])
    assert not is_kept()


def run(spec):
    launch = Launch(execution=1, pool="p", node="p-1", job="j", task="t", attempt=1, command_line="x", environment=spec.common_environment_settings)
    return RunTask(launch=launch)


# --- the inbox ------------------------------------------------------------------------------------------------


def test_who_asks_through_the_inbox_seals_by_himself(path, instant, pool_spec, shell_job, shell_tasks):
    executor = instant({"hangs": Hangs()})
    with BlockingEngine(path, executors={"instant": executor}) as engine, closing(SqliteStore.open(path)) as store:
        engine.create_pool(pool_spec())
        submit = q.SubmitJob(spec=shell_job(common_environment_settings=(secret(),)), tasks=tuple(shell_tasks(1)))
        assert ask(store, submit, actor="ann", timeout_s=BOUND_S).accepted
        engine.wait(JOB, timeout_s=BOUND_S)
        assert launched(executor)[RunTask].environment[0].value == VALUE
        assert ask(store, submit, actor="ann", timeout_s=BOUND_S).accepted  # the same job, which is over
        other = q.SubmitJob(spec=shell_job(common_environment_settings=(secret(value="another"),)))
        assert ask(store, other, actor="ann", timeout_s=BOUND_S).code == "JobExists"
        assert kept(store) == 0
    files = [one for one in path.parent.rglob("*") if one.is_file()]
    assert len(files) >= 2
    assert [one for one in files if VALUE.encode() in one.read_bytes() or b"another" in one.read_bytes().replace(b"another spec", b"")] == []


def test_asking_within_one_process_on_a_ledger_in_memory(instant, pool_spec, shell_job, shell_tasks):
    executor, store = instant(), MemoryStore()
    with BlockingEngine(store, executors={"instant": executor}) as engine:
        engine.create_pool(pool_spec())
        submit = q.SubmitJob(spec=shell_job(common_environment_settings=(secret(),)), tasks=tuple(shell_tasks(1)))
        assert ask(store, submit, actor="ann", timeout_s=BOUND_S).accepted
        engine.wait(JOB, timeout_s=BOUND_S)
    assert launched(executor)[RunTask].environment[0].value == VALUE


@pytest.mark.parametrize("open_store", [lambda path: MemoryStore(), SqliteStore.open], ids=["memory", "file"])
def test_the_inbox_takes_no_plain_secret(open_store, path, shell_job):
    spec = {"id": "j", "common_environment_settings": [{"name": "TOKEN", "value": VALUE, "secret": True}]}
    letter = InboxRequest(id="r", kind="submit-job/1", data={"spec": spec}, actor="ann", reason=None, submitted_at=1)
    with closing(open_store(path)) as store:
        with pytest.raises(StoreError, match="a secret in it is not sealed") as refused:
            store.put_request(letter)
        assert VALUE not in str(refused.value)
        assert list(store.pending_requests()) == []
        with pytest.raises(RequestRefused, match="'TOKEN' has a plain value"):
            encode_request(q.SubmitJob(spec=shell_job(common_environment_settings=(secret(),))))


def test_an_engine_refuses_a_plain_secret_that_was_written_into_the_inbox_by_hand(path, instant, pool_spec):
    spec = {"id": "j", "pool_info": {"pool_id": "p"}, "common_environment_settings": [{"name": "TOKEN", "value": "by hand", "secret": True}]}
    with BlockingEngine(path, executors={"instant": instant()}) as engine, closing(SqliteStore.open(path)) as store:
        engine.create_pool(pool_spec())
        with closing(sqlite3.connect(path)) as connection:
            row = ("r", "submit-job/1", json.dumps({"spec": spec, "tasks": []}), "ann", 1)
            connection.execute("INSERT INTO inbox (id, kind, data, actor, submitted_at) VALUES (?, ?, ?, ?, ?)", row)
            connection.commit()
        engine.until(lambda _: store.reply_to("r") is not None, timeout_s=BOUND_S)
        reply = store.reply_to("r")
        assert (reply.accepted, reply.code) == (False, "InvalidPropertyValue")
        assert "by hand" not in reply.message


def test_no_secret_is_forgotten_between_the_sealing_and_the_deciding(path, instant, pool_spec, shell_job, shell_tasks):
    """Jobs with the same secret end while others with it are on their way through the inbox."""
    askers, jobs_each = 4, 12

    def submit_all(number):
        with closing(SqliteStore.open(path, durability="relaxed")) as store:
            for count in range(jobs_each):
                job = shell_job(f"j-{number}-{count}", common_environment_settings=(secret(),))
                assert ask(store, q.SubmitJob(spec=job, tasks=tuple(shell_tasks(1))), actor="ann", timeout_s=BOUND_S).accepted

    with BlockingEngine(path, executors={"instant": instant()}, durability="relaxed") as engine, closing(SqliteStore.open(path)) as store:
        engine.create_pool(pool_spec(task_slots_per_node=4))
        with ThreadPoolExecutor(askers) as threads:
            for done in [threads.submit(submit_all, number) for number in range(askers)]:
                done.result(timeout=60)
        engine.until(lambda world: all(job.state == "completed" for job in world.jobs.values()), timeout_s=BOUND_S)
        assert engine.read(lambda world: [job.succeeded for job in world.jobs.values()]) == [1] * askers * jobs_each
        assert kept(store) == 0


# --- a secret that is gone ------------------------------------------------------------------------------------


def test_without_the_value_nothing_runs_and_the_failure_says_what_to_do(drive, path, instant, pool_spec, shell_job, shell_tasks):
    executor = instant()

    async def begin(engine):
        await engine.submit(shell_job(common_environment_settings=(secret(), secret("OTHER", "x"))), shell_tasks(2))

    async def go_on(engine):
        await engine.create_pool(pool_spec())
        await engine.wait(JOB, timeout_s=BOUND_S)
        return engine.world.jobs[JOB].tasks

    drive(begin)
    secrets = path.with_name("ledger.db.secrets")
    secrets.unlink()
    tasks = drive(go_on, executor)
    assert not launched(executor)
    for task in tasks.values():
        failure = task.failure
        assert (failure.category, failure.code, task.retries, task.exit_code) == ("usererror", "CommandLaunchFailed", 0, None)
        assert f"OTHER, TOKEN is not in {secrets}: put that file back" in failure.message
    assert not secrets.exists()


def test_a_program_that_may_run_already_is_asked_about_and_not_said_never_to_have_run(drive, path, instant, pool_spec, shell_job, shell_tasks):
    silent, second = instant(), instant()

    async def begin(engine):
        await engine.create_pool(pool_spec())
        await engine.until(lambda world: world.nodes[next(iter(world.nodes))].state == "idle", timeout_s=BOUND_S)
        silent.silent = True
        await engine.submit(shell_job(common_environment_settings=(secret(),)), shell_tasks(1))
        await engine.until(lambda world: any(isinstance(command, RunTask) for command in silent.commands), timeout_s=BOUND_S)

    async def go_on(engine):
        await engine.wait(JOB, timeout_s=BOUND_S)
        return [recorded.event for recorded in engine.store.read()]

    drive(begin, silent)
    path.with_name("ledger.db.secrets").unlink()
    events = drive(go_on, second)
    asked, _ = second.recovered
    assert [command.launch.environment[0].secret for command in asked] == [True]
    assert not launched(second)
    (lost,) = (event for event in events if isinstance(event, e.ExecutionUnresolved))
    (never,) = (event for event in events if isinstance(event, e.ExecutionNeverRan))
    assert lost.execution < never.execution  # only the launch after the one that may have happened is known not to have
    assert never.failure.code == "CommandLaunchFailed"


def test_a_finalizer_that_may_run_already_is_asked_about_too(path, instant, pool_spec, shell_job):
    hangs, host, next_host = instant(), instant({"jobfinalizer": Hangs()}), instant()
    job = attrs.evolve(shell_job(), job_finalizer_task=FinalizerSpec(command_line="finish", environment_settings=(secret(),)))

    async def drive(on_host, done):
        async with await Engine.open(path, executors={"instant": hangs, "local": on_host}, durability="relaxed") as engine:
            await done(engine)

    async def launched_it(engine):
        await engine.create_pool(pool_spec())
        await engine.submit(job)
        await engine.until(lambda world: any(isinstance(command, RunFinalizer) for command in host.commands), timeout_s=BOUND_S)

    async def ended(engine):
        await engine.wait(JOB, timeout_s=BOUND_S)

    host.silent = True
    asyncio.run(drive(host, launched_it))
    path.with_name("ledger.db.secrets").unlink()
    asyncio.run(drive(next_host, ended))
    asked, _ = next_host.recovered
    assert [type(command) for command in asked] == [RunFinalizer]
    assert not launched(next_host)


def test_a_value_that_is_put_back_is_found(drive, path, instant, pool_spec, shell_job, shell_tasks):
    executor = instant()
    secrets = path.with_name("ledger.db.secrets")

    async def scenario(engine):
        await engine.submit(shell_job(common_environment_settings=(secret(),)), shell_tasks(1))
        away = secrets.rename(path.with_name("away"))
        await engine.submit(shell_job("k", common_environment_settings=(secret(value="under a new key"),)), shell_tasks(1))
        away.replace(secrets)
        await engine.create_pool(pool_spec())
        await engine.wait(JOB, timeout_s=BOUND_S)
        await engine.wait(JobId("k"), timeout_s=BOUND_S)
        return engine.world.jobs[JOB].tasks[TaskId("t1")].result, engine.world.jobs[JobId("k")].tasks[TaskId("t1")].result

    assert drive(scenario, executor) == ("success", "failure")


def test_an_engine_does_not_start_on_secrets_that_others_may_read(drive, path, pool_spec, shell_job):
    async def begin(engine):
        await engine.submit(shell_job(common_environment_settings=(secret(),)))

    drive(begin)
    secrets = path.with_name("ledger.db.secrets")
    secrets.chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        drive(begin)
    secrets.chmod(0o600)
    drive(begin)  # nothing was left locked
