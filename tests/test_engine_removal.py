"""Files that are really removed: when their time has passed, with their task and with their job, and by an engine that comes later."""

import asyncio
from pathlib import Path

import attrs
import pytest

from jobledger import Engine, JobConstraints, JobId, PreparationSpec, ReleaseSpec, Retention, TaskConstraints, TaskSpec
from jobledger.core.ids import SECOND, UNLIMITED_RETENTION
from jobledger.core.invariants import audit
from jobledger.core.requests import DeleteTask
from jobledger.surroundings import here

BOUND_S = 30.0
JOB = JobId("j")
AT_ONCE = TaskConstraints(retention_time=Retention(0))
FOR_EVER = TaskConstraints(retention_time=UNLIMITED_RETENTION)


@pytest.fixture
def run(tmp_path, pool_spec):
    """Plays with an engine on a pool of one local node; afterwards the ledger is audited."""

    def call(play, *, clock=None):
        async def scenario():
            more = {} if clock is None else {"surroundings": here(clock=clock)}
            async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes", durability="relaxed", **more) as engine:
                await engine.create_pool(pool_spec(executor="local", nodes=1))
                await play(engine)
                assert audit((recorded.event, recorded.recorded_at) for recorded in engine.store.read()) == []

        asyncio.run(scenario())

    return call


@pytest.fixture
def work(tmp_path):
    """Where the folders of the job lie."""
    return tmp_path / "nodes" / "p" / "p-1" / "workitems" / JOB / "job-1"


def task(name, command="true", **more):
    return TaskSpec(id=name, command_line=command, **more)


async def ended(engine, count):
    await engine.until(lambda world: world.jobs[JOB].counts["completed"] == count, timeout_s=BOUND_S)


async def removed(engine):
    await engine.until(lambda world: not world.owed.now and not any(node.removals for node in world.nodes.values()), timeout_s=BOUND_S)


def test_what_is_kept_not_at_all_is_gone_and_the_rest_is_there(run, work, shell_job):
    command = "/bin/sh -c 'mkdir -p deep/er closed; echo x > deep/er/file; chmod 0 closed'"

    async def play(engine):
        await engine.submit(shell_job(), [task("gone", command, constraints=AT_ONCE), task("kept", command, constraints=FOR_EVER)])
        await ended(engine, 2)
        await engine.until(lambda world: list(world.nodes["p-1"].folders[JOB]) == ["kept"], timeout_s=BOUND_S)
        assert sorted(path.name for path in work.iterdir()) == ["kept"]
        assert (work / "kept" / "wd" / "deep" / "er" / "file").read_text() == "x\n"
        assert list((work.parents[2] / "volatile").iterdir()) == []

    run(play)


def test_preparation_is_kept_until_its_job_has_ended_and_release_can_read_it(run, work, shell_job):
    preparation = PreparationSpec(command_line="/bin/sh -c 'echo common > data'", constraints=AT_ONCE)
    release = ReleaseSpec(command_line="/bin/sh -c 'cat $AZ_BATCH_JOB_PREP_WORKING_DIR/data'", retention_time=UNLIMITED_RETENTION)

    async def play(engine):
        job = attrs.evolve(shell_job(on_all_tasks_complete="noaction"), job_preparation_task=preparation, job_release_task=release)
        await engine.submit(job, [task("one", "/bin/sh -c 'cat $AZ_BATCH_JOB_PREP_WORKING_DIR/data'", constraints=AT_ONCE)])
        await ended(engine, 1)
        await removed(engine)
        assert (work / "jobpreparation" / "wd" / "data").exists()
        assert not (work / "one").exists()
        await engine.terminate(JOB)
        await engine.wait(JOB, timeout_s=BOUND_S)
        await engine.until(lambda world: list(world.nodes["p-1"].folders[JOB]) == ["jobrelease"], timeout_s=BOUND_S)
        assert sorted(path.name for path in work.iterdir()) == ["jobrelease"]
        assert (work / "jobrelease" / "stdout.txt").read_text() == "common\n"

    run(play)


def test_deleting_a_task_and_then_its_job_removes_their_folders(run, work, shell_job):
    async def play(engine):
        await engine.submit(shell_job(), [task("one"), task("two")])
        await ended(engine, 2)
        await engine.request(DeleteTask(job=JOB, task="one"))
        await removed(engine)
        assert sorted(path.name for path in work.iterdir()) == ["two"]
        await engine.delete(JOB)
        await engine.wait(JOB, timeout_s=BOUND_S)
        assert JOB not in engine.world.jobs
        assert not work.parent.exists()
        await engine.submit(shell_job(), [task("one", "/bin/sh -c 'test ! -e left; touch left'")])
        await ended(engine, 1)
        assert engine.world.jobs[JOB].tasks["one"].exit_code == 0
        assert (work / "one" / "wd" / "left").exists()

    run(play)


def test_an_engine_that_comes_later_removes_what_is_overdue(run, work, shell_job):
    now = [1_790_000_000 * SECOND]

    async def first(engine):
        await engine.submit(shell_job(constraints=JobConstraints(retention_time=Retention(3600 * SECOND))), [task("one")])
        await ended(engine, 1)
        await removed(engine)
        assert (work / "one").exists()

    async def second(engine):
        await engine.until(lambda world: not world.nodes["p-1"].folders[JOB], timeout_s=BOUND_S)
        assert not (work / "one").exists()

    run(first, clock=lambda: now[0])
    now[0] += 3600 * SECOND
    run(second, clock=lambda: now[0])


def test_a_task_that_runs_again_while_its_folder_goes_finds_a_new_one(run, work, shell_job):
    command = "/bin/sh -c 'test ! -e left; echo $? > result; touch left; exit 1'"

    async def play(engine):
        await engine.submit(shell_job(), [task("one", command, constraints=TaskConstraints(retention_time=Retention(0), max_task_retry_count=20))])
        await ended(engine, 1)
        await engine.until(lambda world: not world.nodes["p-1"].folders[JOB], timeout_s=BOUND_S)
        assert engine.world.jobs[JOB].tasks["one"].launches == 21
        assert not (work / "one").exists()

    run(play)


def test_a_folder_that_became_a_link_is_removed_and_not_what_it_points_to(run, work, shell_job, tmp_path):
    precious = tmp_path / "precious"
    (precious / "job-1" / "two").mkdir(parents=True)
    (precious / "job-1" / "two" / "file").write_text("not yours")

    async def play(engine):
        await engine.submit(shell_job(), [task("one", f"ln -s {precious} link", constraints=FOR_EVER), task("two", constraints=FOR_EVER)])
        await ended(engine, 2)
        (work / "one").rename(tmp_path / "away")
        (work / "one").symlink_to(precious)
        await engine.request(DeleteTask(job=JOB, task="one"))
        await removed(engine)
        assert not (work / "one").is_symlink()
        work.parent.rename(tmp_path / "elsewhere")
        work.parent.symlink_to(precious)
        await engine.request(DeleteTask(job=JOB, task="two"))
        await removed(engine)
        problems = [recorded.event.problem for recorded in engine.store.read() if type(recorded.event).__name__ == "FilesRemoved"]
        assert problems[0] is None
        assert "Not a directory" in problems[1] or "symbolic links" in problems[1]
        await engine.delete(JOB)
        await engine.wait(JOB, timeout_s=BOUND_S)
        assert not work.parent.is_symlink()

    run(play)
    assert (precious / "job-1" / "two" / "file").read_text() == "not yours"
    assert Path(tmp_path / "elsewhere" / "job-1" / "two").exists()
