"""Folders put aside and removed: nothing outside the node, everything inside, and also what a supervisor that died left."""

import asyncio
import os
import signal

import pytest

from jobledger.core.ids import SECOND, Duration, ExecutionId
from jobledger.core.reports import FilesRemoved
from jobledger.executors.local import LocalExecutor
from jobledger.executors.removal import FOLDERS_PER_HELPER, HELPERS_MAX, put_aside
from jobledger.testing.executors import BOUND_S, JOB, LEDGER_ID, NODE, Driver, driving, lives, remove, run, until


@pytest.fixture
def node(tmp_path):
    """A node's folder with that of a task of a job in it."""
    folder = tmp_path / "nodes" / "p" / "p-1"
    (folder / "workitems" / JOB / "job-1" / "t-1" / "wd").mkdir(parents=True)
    (folder / "volatile").mkdir()
    return folder


def drive(tmp_path, play):
    async def playing():
        async with driving(LocalExecutor(tmp_path / "nodes", drain_grace=Duration(SECOND // 5), linger=Duration(0))) as driver:
            async with asyncio.timeout(BOUND_S):
                await play(driver)

    asyncio.run(playing())


@pytest.mark.parametrize(
    ("below", "found"), [(["workitems", JOB, "job-1", "t-1"], True), (["workitems", JOB], True), (["workitems", "no", "job-1", "t"], False)]
)
def test_a_folder_is_put_aside_within_its_node(node, below, found):
    assert put_aside(str(node), below, ".x") is found
    assert not node.joinpath(*below).exists()
    assert (node / "volatile" / ".x").exists() is found


def test_what_was_put_aside_before_is_found_again(node):
    below = ["workitems", JOB, "job-1", "t-1"]
    assert put_aside(str(node), below, ".x")
    assert put_aside(str(node), below, ".x")


def test_a_node_that_is_gone_has_nothing_to_remove(tmp_path):
    assert not put_aside(str(tmp_path / "none"), ["workitems", "j"], ".x")


def test_a_volatile_that_a_program_removed_is_made_again(node):
    (node / "volatile").rmdir()
    assert put_aside(str(node), ["workitems", JOB], ".x")


@pytest.mark.parametrize("link", ["workitems", f"workitems/{JOB}", f"workitems/{JOB}/job-1", "volatile"])
def test_no_link_below_the_node_is_followed(node, tmp_path, link):
    elsewhere = tmp_path / "elsewhere"
    (node / link).rename(elsewhere)
    (node / link).symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        put_aside(str(node), ["workitems", JOB, "job-1", "t-1"], ".x")
    assert sorted(elsewhere.rglob("*")) == before


def test_many_folders_are_removed_by_few_helpers(tmp_path):
    many = 2 * HELPERS_MAX * FOLDERS_PER_HELPER

    async def play(driver: Driver):
        place = tmp_path / "nodes" / "p" / "p-1" / "workitems" / JOB / "job-1"
        for number in range(many):
            (place / f"t-{number}" / "wd").mkdir(parents=True)
        driver.submit(*(remove(f"t-{number}", before=9) for number in range(many)))
        await until(lambda: sum(isinstance(report, FilesRemoved) for report in driver.reports) == many, "all are answered")
        assert {report.problem for report in driver.reports if isinstance(report, FilesRemoved)} == {None}
        assert list(place.iterdir()) == []
        assert list((place.parents[2] / "volatile").iterdir()) == []

    drive(tmp_path, play)


def test_a_supervisor_that_died_loses_no_removal(tmp_path):
    """It is asked again of the next one, which also finds what was put aside."""

    async def play(driver: Driver):
        node = tmp_path / "nodes" / "p" / "p-1"
        aside = node / "volatile" / f".{LEDGER_ID}.9.workitems.{JOB}.job-1.t-1"
        (aside / "left").mkdir(parents=True)
        pid = driver.executor.supervisor_pid  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGSTOP)
        driver.submit(remove("t-1", before=9))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not lives(pid), "the supervisor is dead")
        report = await driver.report(FilesRemoved, NODE)
        assert (report.before, report.problem) == (ExecutionId(9), None)
        assert not aside.exists()

    drive(tmp_path, play)


def test_a_boot_calls_off_what_was_to_be_removed(tmp_path):
    """The engine asks again for what is still there; what the boot emptied must not be asked of what comes after."""

    async def play(driver: Driver):
        pid = driver.executor.supervisor_pid  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGSTOP)
        driver.submit(remove("t-1", before=1))
        booting = asyncio.create_task(driver.boot(incarnation=2, wipe=True))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        await booting
        driver.submit(run(1, "/bin/sh -c 'touch mine'"))
        await driver.exit(1)
        assert (tmp_path / "nodes" / "p" / "p-1" / "workitems" / JOB / "job-1" / "t-1" / "wd" / "mine").exists()
        assert not any(isinstance(report, FilesRemoved) for report in driver.reports)

    drive(tmp_path, play)
