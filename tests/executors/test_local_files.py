"""Files of single executions: orders that come twice, stops and boots in the middle, and files for other users."""

import asyncio
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import Any

import attrs
import pytest

from jobledger.core.commands import BootNode, RunTask, StopExecution
from jobledger.core.ids import SECOND, Duration
from jobledger.core.reports import ExecutionExited, ExecutionNotStarted, ExecutionStarted, NodeReady
from jobledger.core.specs import (
    ApplicationPackageReference,
    OutputFile,
    OutputFileContainer,
    OutputFileDestination,
    ResourceFile,
    UserIdentity,
)
from jobledger.executors.local import LocalExecutor
from jobledger.testing.executors import JOB, LEDGER_ID, NODE, POOL, Driver, driving, launch, run, stop, until


def make(folder: Path) -> LocalExecutor:
    return LocalExecutor(folder / "nodes", drain_grace=Duration(SECOND // 5), linger=Duration(0))


def with_files(number: int, command_line: str, **files: Any) -> RunTask:
    return RunTask(launch=attrs.evolve(launch(number, command_line, task=f"t-{number}"), **files))


def fetching(number: int, command_line: str, url: str) -> RunTask:
    return with_files(number, command_line, resource_files=(ResourceFile(http_url=url, file_path="in/x"),))


def uploading(number: int, command_line: str, url: str) -> RunTask:
    destination = OutputFileDestination(container=OutputFileContainer(container_url=url))
    return with_files(number, command_line, output_files=(OutputFile(file_pattern="x", destination=destination),))


def staged(folder: Path) -> list[Path]:
    return list((folder / "nodes" / POOL / NODE / "volatile").glob(".stage.*"))


def wd(folder: Path, number: int) -> Path:
    return folder / "nodes" / POOL / NODE / "workitems" / JOB / "job-1" / f"t-{number}" / "wd"


def play(folder: Path, scene: Any) -> None:
    async def scenario() -> None:
        async with driving(make(folder)) as driver:
            await scene(driver)

    asyncio.run(scenario())


# --- before the launch ----------------------------------------------------------------------------------------


def test_a_launch_that_is_ordered_again_fetches_and_runs_once(tmp_path, file_server):
    file_server.files["/x"] = b"data\n"
    file_server.hold("/x")
    command = fetching(1, f"/bin/sh -c 'cat in/x >> {tmp_path}/ran'", f"{file_server.url}/x")

    async def scene(driver: Driver) -> None:
        driver.submit(command, command)
        await until(lambda: file_server.asked["/x"] > 0, "the fetch")
        driver.submit(command)
        file_server.go.set()
        assert (await driver.exit(1)).exit_code == 0
        after = len(driver.reports)
        driver.submit(command)
        assert (await driver.exit(1, after=after)).exit_code == 0
        await until(lambda: not staged(tmp_path), "nothing staged is left")

    play(tmp_path, scene)
    assert (tmp_path / "ran").read_text() == "data\n"
    assert file_server.asked["/x"] == 1


def test_a_launch_without_its_file_is_forbidden_for_good(tmp_path, file_server):
    command = fetching(1, f"touch {tmp_path}/ran", f"{file_server.url}/x")

    async def scene(driver: Driver) -> None:
        driver.submit(command)
        first = await driver.end(1)
        assert isinstance(first, ExecutionNotStarted)
        assert first.failure is not None
        assert first.failure.code == "BlobNotFound"
        file_server.files["/x"] = b"too late"
        after = len(driver.reports)
        driver.submit(command)
        assert isinstance(await driver.end(1, after=after), ExecutionNotStarted)
        await until(lambda: not staged(tmp_path), "nothing staged is left")

    play(tmp_path, scene)
    assert not (tmp_path / "ran").exists()
    assert file_server.asked["/x"] == 1


def test_a_stop_while_it_fetches_forbids_the_launch(tmp_path, file_server):
    file_server.hold("/x")

    async def scene(driver: Driver) -> None:
        driver.submit(fetching(1, f"touch {tmp_path}/ran", f"{file_server.url}/x"))
        await until(lambda: file_server.asked["/x"] > 0, "the fetch")
        driver.submit(stop(1))
        assert await driver.end(1) == ExecutionNotStarted(execution=1)
        await until(lambda: not staged(tmp_path), "nothing staged is left")
        driver.submit(run(2, "true"))
        assert (await driver.exit(2)).exit_code == 0

    play(tmp_path, scene)
    assert not (tmp_path / "ran").exists()


def test_a_boot_while_it_fetches_ends_that(tmp_path, file_server):
    file_server.hold("/x")

    async def scene(driver: Driver) -> None:
        driver.submit(fetching(1, f"touch {tmp_path}/ran", f"{file_server.url}/x"))
        await until(lambda: file_server.asked["/x"] > 0, "the fetch")
        driver.submit(BootNode(pool=POOL, node=NODE, incarnation=2, wipe=True))
        assert await driver.end(1) == ExecutionNotStarted(execution=1)
        await driver.report(NodeReady, NODE, after=1)
        assert not staged(tmp_path)

    play(tmp_path, scene)
    assert not (tmp_path / "ran").exists()


def test_what_an_engine_that_died_had_staged_is_removed(tmp_path):
    async def scene(driver: Driver) -> None:
        left = tmp_path / "nodes" / POOL / NODE / "volatile" / f".stage.{LEDGER_ID}.7.1.0badcafe"
        (left / "in").mkdir(parents=True)
        other = left.with_name(".stage.0ther1ed.7.1.0badcafe")
        other.mkdir()
        driver.executor.recover([], {NODE: POOL})
        await until(lambda: not left.exists(), "it is removed")
        assert other.exists()

    play(tmp_path, scene)


def test_a_stop_of_one_that_waits_for_a_package_lets_the_others_have_it(tmp_path, file_server):
    file_server.hold("/app.zip")
    package = ApplicationPackageReference(application_id="app", url=f"{file_server.url}/app.zip")

    async def scene(driver: Driver) -> None:
        driver.submit(*(with_files(number, "true", packages=(package,)) for number in (1, 2)))
        await until(lambda: file_server.asked["/app.zip"] > 0, "the fetch")
        driver.submit(stop(1))
        assert await driver.end(1) == ExecutionNotStarted(execution=1)
        assert not [report for report in driver.reports if isinstance(report, ExecutionStarted)]
        file_server.go.set()
        end = await driver.end(2)  # the zip is none, and that is what it is told
        assert isinstance(end, ExecutionNotStarted)
        assert end.failure is not None
        assert end.failure.code == "ApplicationPackageError"

    file_server.files["/app.zip"] = b"no zip"
    play(tmp_path, scene)
    assert file_server.asked["/app.zip"] == 1


# --- after the end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upload", [True, False])
def test_a_stop_while_it_uploads(tmp_path, file_server, upload):
    """A stop for good lets it finish; any other gives it up, and a success without its outputs is none."""
    file_server.hold("/c/x")
    ending = StopExecution(execution=1, pool=POOL, node=NODE, grace=Duration(SECOND // 5), upload=upload)

    async def scene(driver: Driver) -> None:
        driver.submit(uploading(1, "touch x", f"{file_server.url}/c"))
        await until(lambda: file_server.asked["/c/x"] > 0, "the upload")
        driver.submit(ending)
        if upload:
            file_server.go.set()
        end = await driver.exit(1)
        assert (end.exit_code, end.stopped, end.upload_failure) == (0, not upload, None)
        assert [report for report in driver.reports if isinstance(report, ExecutionExited)] == [end]

    play(tmp_path, scene)
    assert ("/c/x" in file_server.files) is upload


def test_a_stop_without_upload_that_comes_before_the_end_uploads_nothing(tmp_path, file_server):
    async def scene(driver: Driver) -> None:
        driver.submit(uploading(1, "/bin/sh -c 'touch x; exec sleep 60'", f"{file_server.url}/c"))
        await until(lambda: (wd(tmp_path, 1) / "x").exists(), "it runs")
        driver.submit(stop(1))
        end = await driver.exit(1)
        assert end.stopped

    play(tmp_path, scene)
    assert not file_server.asked


def test_an_adopted_program_has_its_outputs_uploaded(tmp_path, file_server):
    command = uploading(1, f"/bin/sh -c 'touch x; until test -e {tmp_path}/go; do sleep 0.02; done'", f"{file_server.url}/c")

    async def begin(driver: Driver) -> None:
        driver.submit(command)
        await driver.report(ExecutionStarted, 1)

    async def adopt() -> None:
        async with driving(make(tmp_path), boot=False) as driver:
            driver.executor.recover([command], {NODE: POOL})
            (tmp_path / "go").touch()
            assert (await driver.exit(1)).upload_failure is None

    play(tmp_path, begin)
    asyncio.run(adopt())
    assert file_server.files == {"/c/x": b""}


# --- as another user ------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_files_belong_to_the_user_that_the_program_runs_as(file_server):
    file_server.files["/x"] = b"data\n"
    folder = Path(tempfile.mkdtemp(prefix="jobledger-", dir="/tmp"))
    folder.chmod(0o755)
    destination = OutputFileDestination(container=OutputFileContainer(container_url=f"{file_server.url}/c"))
    command = with_files(
        1,
        "/bin/sh -c 'cat in/x > in/y && cp in/y x'",
        user=UserIdentity(username="nobody"),
        resource_files=(ResourceFile(http_url=f"{file_server.url}/x", file_path="in/x", file_mode="0600"),),
        output_files=(OutputFile(file_pattern="x", destination=destination),),
    )

    async def scene(driver: Driver) -> None:
        driver.submit(command)
        end = await driver.exit(1)
        assert (end.exit_code, end.upload_failure) == (0, None)

    try:
        play(folder, scene)
        nobody = pwd.getpwnam("nobody").pw_uid
        assert {path.stat().st_uid for path in (wd(folder, 1), wd(folder, 1) / "in", wd(folder, 1) / "in/x")} == {nobody}
        assert file_server.files["/c/x"] == b"data\n"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
