"""Snapshots of the world beside a ledger: `src/jobledger/snapshots.py`."""

import asyncio
import os
import shutil

import pytest

from jobledger import Engine, JobId, JobSpec, PoolId, PoolInfo, PreparationSpec, ReleaseSpec, SqliteStore, snapshots
from jobledger.core import requests as q
from jobledger.core.evolve import evolve
from jobledger.core.world import World
from jobledger.replay import replay
from jobledger.testing.scenario import Hangs
from jobledger.testing.stage import Stage
from jobledger.testing.trail import Trail

BOUND_S = 20


@pytest.fixture
def lived(tmp_path, instant, pool_spec, shell_job, shell_tasks):
    """The path of a ledger with a job that has come some way: tasks done, tasks that run and tasks that wait."""

    async def scenario():
        executor = instant({"t9": Hangs()})
        async with await Engine.open(tmp_path / "ledger.db", root=tmp_path / "nodes", executors={"instant": executor}) as engine:
            await engine.create_pool(pool_spec(nodes=1))
            await engine.submit(shell_job(prep="prepare", release="release"), shell_tasks(12))
            await engine.until(lambda world: world.jobs[JobId("j")].counts["completed"] == 8, timeout_s=BOUND_S)

    asyncio.run(scenario())
    return tmp_path / "ledger.db"


@pytest.fixture
def kept(lived):
    """The same with a snapshot of its 30th position; the store is open."""
    store = SqliteStore.open(lived)
    world, _ = replay(store, until=30)
    snapshots.save(store, world, 30)
    yield store
    store.close()


def folded(store):
    """The world by the events alone."""
    world, at = World(), 0
    for recorded in store.read():
        evolve(world, recorded.event, recorded.recorded_at)
        at = recorded.recorded_at
    return world, at


def beside(store):
    return store.path.with_name(store.path.name + snapshots.SUFFIX)


class CountingStore(SqliteStore):
    read_from: list[int]

    def read(self, *, after=0, until=None, stream=None):
        if until is None:
            self.read_from.append(after)
        return super().read(after=after, until=until, stream=stream)


def test_what_comes_after_the_snapshot_is_all_that_is_folded(kept):
    store = CountingStore.open(kept.path)
    store.read_from = []
    assert replay(store) == folded(kept)
    assert store.read_from == [30]
    store.close()


def test_a_snapshot_is_the_world(kept):
    found = snapshots.load(kept)
    assert (found.position, snapshots.held(kept)) == (30, 30)
    beside(kept).unlink()
    assert (found.world, found.at) == replay(kept, until=30)


def test_the_past_before_a_snapshot_is_folded_from_the_beginning(kept):
    world, _ = replay(kept, until=29)
    assert snapshots.load(kept, until=29) is None
    assert snapshots.load(kept, until=30).position == 30
    assert len(world.jobs) == 1


def test_who_listens_hears_all_events(kept):
    heard = []
    replay(kept, hear=heard.append)
    assert [one.position for one in heard] == list(range(1, kept.head().position + 1))


JOB = JobSpec(
    id=JobId("j"),
    pool_info=PoolInfo(pool_id=PoolId("p")),
    job_preparation_task=PreparationSpec(command_line="prepare"),
    job_release_task=ReleaseSpec(command_line="release"),
)


@pytest.mark.parametrize("walk", [["ends", "terminate", "lost"], ["ends", "reboot", "fail"], ["disable", "reimage"], ["wiped", "disable"]])
def test_worlds_of_all_kinds_come_back_as_they_were(walk):
    """Through every field of every record, since worlds are compared by all of them."""
    trail = Trail(job=JOB, slots=2, tasks=("t1", "t2", "t3")).arrive()
    wishes = {
        "ends": lambda: trail.exit(0),
        "terminate": lambda: trail.do(q.TerminateJob(job="j")),
        "disable": lambda: trail.do(q.DisableJob(job="j", disable_tasks="requeue")),
        "reboot": lambda: trail.do(q.RebootNode(node="p-1", option="taskcompletion")),
        "reimage": lambda: trail.do(q.ReimageNode(node="p-1")),
        "lost": lambda: trail.fail("lost"),
        "wiped": lambda: trail.fail("wiped"),
        "fail": lambda: trail.exit(1),
    }
    for what in walk:
        wishes[what]()
        _same(trail)
    trail.bring_back()
    trail.drain()
    _same(trail)


def _same(stage: Stage) -> None:
    back = snapshots.decoded(snapshots.encoded(stage.world))
    assert back == stage.world
    assert list(back.jobs) == list(stage.world.jobs)


def damaged(data):
    return data[:-10] + bytes([data[-10] ^ 1]) + data[-9:]


SPOILT = {
    "cut off": lambda data: data[: len(data) // 2],
    "cut off in its header": lambda data: data[:40],
    "empty": lambda data: b"",
    "of another format": lambda data: data.replace(b"snapshot 1", b"snapshot 2", 1),
    "with a changed byte": damaged,
    "something else": lambda data: b"\0" * 500,
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_snapshot_that_is_damaged_is_not_used(kept, how):
    beside(kept).write_bytes(SPOILT[how](beside(kept).read_bytes()))
    assert snapshots.load(kept) is None
    assert snapshots.held(kept) in {0, 30}  # Its header may be whole.
    assert replay(kept) == folded(kept)


def test_a_snapshot_of_another_ledger_is_not_used(kept, tmp_path):
    other = SqliteStore.open(tmp_path / "other.db")
    shutil.copy(beside(kept), beside(other))
    assert snapshots.load(other) is None
    other.close()


def test_a_snapshot_of_events_that_the_ledger_does_not_have_is_not_used(kept, tmp_path):
    """As after a copy from before was put back: same id, and a shorter or another story."""
    world, _ = replay(kept)
    snapshots.save(kept, world, kept.head().position)
    header = snapshots.held(kept)
    assert header == kept.head().position
    snapshots.save(kept, world, 30)
    data = beside(kept).read_bytes()
    event = next(iter(kept.read(after=29, until=30)))
    assert data.count(event.hash) == 1
    beside(kept).write_bytes(data.replace(event.hash, bytes(32)))
    assert snapshots.load(kept) is None
    assert snapshots.held(kept) == 0


def test_a_snapshot_of_other_code_is_not_used(kept):
    data = beside(kept).read_bytes()
    beside(kept).write_bytes(data.replace(snapshots.code().encode(), b"0" * 64))
    assert snapshots.load(kept) is None


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_snapshot_that_others_could_have_written_is_not_used(kept, mode):
    assert beside(kept).stat().st_mode & 0o777 == 0o600
    beside(kept).chmod(mode)
    assert snapshots.load(kept) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_snapshot_of_another_user_is_not_used(kept):
    os.chown(beside(kept), 12_345, 12_345)
    assert snapshots.load(kept) is None


def test_a_snapshot_of_a_position_that_is_not_there_is_not_made(kept):
    beside(kept).unlink()
    snapshots.save(kept, World(), kept.head().position + 1)
    assert not beside(kept).exists()


def test_a_folder_that_takes_no_snapshot_does_no_harm(kept):
    world, _ = replay(kept)
    before = beside(kept).read_bytes()
    beside(kept).unlink()
    beside(kept).mkdir()  # Nothing can be put in its place.
    (beside(kept) / "file").write_bytes(before)
    snapshots.save(kept, world, 30)
    assert snapshots.load(kept) is None
    assert [path.name for path in kept.path.parent.glob(".*snapshot*")] == []


def test_an_engine_makes_one_when_it_is_worth_its_time(kept):
    world, _ = replay(kept)
    beside(kept).unlink()
    keeper = snapshots.SnapshotKeeper(kept, 0)
    keeper.consider(world, snapshots.EVENTS_MIN - 1)
    keeper.close(world, snapshots.EVENTS_AT_END_MIN - 1)
    assert not beside(kept).exists()
    keeper = snapshots.SnapshotKeeper(kept, 30 - snapshots.EVENTS_MIN)
    keeper.consider(world, 30)
    assert snapshots.held(kept) == keeper.position == 30
    beside(kept).unlink()
    keeper = snapshots.SnapshotKeeper(kept, 30 - snapshots.EVENTS_AT_END_MIN)
    keeper.close(world, 30)
    assert snapshots.held(kept) == 30


def test_a_dry_run_makes_none(kept):
    world, _ = replay(kept)
    beside(kept).unlink()
    world.dry_run = "seed 1"
    keeper = snapshots.SnapshotKeeper(kept, 30 - snapshots.EVENTS_MIN)
    keeper.consider(world, 30)
    keeper.close(world, 30)
    assert not beside(kept).exists()


def test_snapshots_take_a_bounded_share_of_the_time(kept):
    world, _ = replay(kept)
    keeper = snapshots.SnapshotKeeper(kept, 30 - snapshots.EVENTS_MIN)
    keeper.consider(world, 30)
    beside(kept).unlink()
    keeper.position = 30 - snapshots.EVENTS_MIN
    keeper.consider(world, 30)  # Right after the last one: not yet.
    assert not beside(kept).exists()


def test_an_engine_goes_on_from_a_snapshot(kept, instant):
    """What ran is adopted, and what waited runs: nothing was lost on the way."""
    ledger = kept.path
    assert snapshots.held(kept) == 30

    async def again():
        executor = instant()
        async with await Engine.open(ledger, root=ledger.parent / "nodes", executors={"instant": executor}) as engine:
            await engine.wait(JobId("j"), timeout_s=BOUND_S)
            assert engine.world.jobs[JobId("j")].succeeded == 12
            return engine.world

    world = asyncio.run(again())
    beside(kept).unlink()
    found, _ = replay(kept)
    world.engine_running = False  # It has closed meanwhile.
    assert found == world
