"""What holds for command lines of another user where the engine is not root; `test_sudo.py` runs it on a machine of its own.

The engine's user is jl-engine.  It may become jl-worker and root, and jl-locked with a password only.
"""

import asyncio
import os
import pwd
import shlex
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from attrs import evolve

from jobledger.core.commands import Command, RetireNode, RunCommand, RunTask
from jobledger.core.ids import SECOND, Duration
from jobledger.core.reports import ExecutionExited, ExecutionLost, ExecutionNotStarted, ExecutionStarted, NodeRetired
from jobledger.core.specs import (
    ApplicationPackageReference,
    AutoUserSpecification,
    OutputFile,
    OutputFileContainer,
    OutputFileDestination,
    ResourceFile,
    UserIdentity,
)
from jobledger.executors import processes
from jobledger.executors.local import LocalExecutor
from jobledger.testing.executors import (
    BOUND_S,
    JOB,
    NODE,
    POOL,
    Driver,
    driving,
    lives,
    read_output,
    run,
    script,
    stop,
    until,
    written,
)
from jobledger.testing.processes import ProcessConformance

WORKER = UserIdentity(username="jl-worker")
LOCKED = UserIdentity(username="jl-locked")
OWN = UserIdentity(username="jl-engine")
ADMIN = UserIdentity(auto_user=AutoUserSpecification(elevation_level="admin"))
NONADMIN = UserIdentity(auto_user=AutoUserSpecification())
LONG_GRACE = Duration(int(BOUND_S) * SECOND)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that every user can use."""
    folder = Path(tempfile.mkdtemp(prefix="jobledger-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    processes.remove_tree(folder)


def make(folder: Path) -> LocalExecutor:
    return LocalExecutor(folder / "nodes", drain_grace=Duration(SECOND // 5), linger=Duration(0))


def run_as(user: UserIdentity, number: int, command_line: str, **more: Any) -> RunTask:
    return RunTask(launch=evolve(run(number, command_line, **more).launch, user=user))


def node(folder: Path) -> Path:
    return folder / "nodes" / POOL / NODE


def task_folder(folder: Path, number: int) -> Path:
    return node(folder) / "workitems" / JOB / "job-1" / f"t-{number}"


def play(folder: Path, scenario: Callable[[Driver], Coroutine[Any, Any, None]]) -> None:
    async def run_it() -> None:
        async with driving(make(folder)) as driver:
            await scenario(driver)

    asyncio.run(run_it())


async def output_as(user: UserIdentity, driver: Driver, number: int, command_line: str) -> str:
    driver.submit(run_as(user, number, command_line))
    end = await driver.exit(number)
    assert end.exit_code == 0, read_output(driver.executor, number, "stderr")
    return read_output(driver.executor, number).decode()


async def failure_as(user: UserIdentity, driver: Driver, number: int, command_line: str = "true") -> tuple[str, str, str]:
    driver.submit(run_as(user, number, command_line))
    end = await driver.end(number)
    assert isinstance(end, ExecutionNotStarted), end
    assert end.failure is not None
    return end.failure.category, end.failure.code, end.failure.message


class AsWorker(LocalExecutor):
    """Runs all that it is given as jl-worker."""

    def submit(self, commands: Sequence[Command]) -> None:
        super().submit([evolve(one, launch=evolve(one.launch, user=WORKER)) if isinstance(one, RunCommand) else one for one in commands])


class TestThroughSudo(ProcessConformance):
    """What holds for a program of the engine's own user holds for one that runs through sudo."""

    python = os.path.realpath(sys.executable)

    def make_executor(self, folder: Path) -> LocalExecutor:
        return AsWorker(folder / "nodes", drain_grace=Duration(SECOND // 5), linger=Duration(0))


def test_the_world_is_as_it_should_be() -> None:
    assert pwd.getpwuid(os.geteuid()).pw_name == "jl-engine"
    assert subprocess.run(["sudo", "-n", "-u", "jl-worker", "true"], check=False).returncode == 0


@pytest.mark.parametrize(("user", "name"), [(WORKER, "jl-worker"), (ADMIN, "root"), (OWN, "jl-engine"), (NONADMIN, "jl-engine")])
def test_it_runs_as_the_user_that_is_asked_for(tmp_path: Path, user: UserIdentity, name: str) -> None:
    async def scenario(driver: Driver) -> None:
        assert isinstance(driver.executor, LocalExecutor)
        assert await driver.executor.refusal(user) is None
        account = pwd.getpwnam(name)
        groups = " ".join(map(str, os.getgrouplist(name, account.pw_gid)))
        told = await output_as(user, driver, 1, "/bin/sh -c 'id -un; id -ru; id -rg; id -G; echo $HOME $USER $LOGNAME'")
        home = f"{account.pw_dir} {name} {name}"
        assert told == f"{name}\n{account.pw_uid}\n{account.pw_gid}\n{groups}\n{home}\n"
        assert name != "jl-worker" or "61010" in groups

    play(tmp_path, scenario)


def test_what_sudo_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        assert isinstance(driver.executor, LocalExecutor)
        reason = await driver.executor.refusal(LOCKED)
        assert reason is not None
        assert "`sudo -n -u jl-locked` does not work" in reason
        assert "password is required" in reason
        category, code, message = await failure_as(LOCKED, driver, 1)
        assert (category, code) == ("usererror", "CommandLaunchFailed")
        assert "password is required" in message
        assert stat.S_IMODE(task_folder(tmp_path, 1).stat().st_mode) == 0o755
        other = await driver.executor.refusal(UserIdentity(username="nobody"))
        assert other is not None
        assert "sudo" in other
        assert "no user" in (await driver.executor.refusal(UserIdentity(username="no-such-user")) or "")

    play(tmp_path, scenario)


def test_a_folder_above_the_root_that_the_user_may_not_enter_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)

    async def scenario(driver: Driver) -> None:
        assert isinstance(driver.executor, LocalExecutor)
        asked = await driver.executor.refusal(WORKER)
        assert asked is not None
        assert f"chmod o+x {closed}`" in asked
        assert asked in (await failure_as(WORKER, driver, 1))[2]

    play(closed, scenario)


def test_neither_sudo_nor_the_list_of_processes_shows_what_runs(tmp_path: Path) -> None:
    """Until the program itself is there, which is to be seen as every program is."""

    async def scenario(driver: Driver) -> None:
        go = tmp_path / "go"
        command_line = f"/bin/sh -c 'until test -e {go}; do sleep 0.02; done' the-argument"
        driver.submit(run_as(WORKER, 1, command_line, environment={"TOKEN": "the-secret"}))
        await driver.report(ExecutionStarted, 1)
        shown = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]
        of_sudo = [words for words in shown if words and "sudo" in words[0] + "".join(words[1:6])]
        assert of_sudo
        assert not [words for words in of_sudo if "the-argument" in words]
        assert not [words for words in shown if any("the-secret" in word for word in words)]
        assert [words for words in shown if words[:2] == ["/bin/sh", "-c"] and words[-1] == "the-argument"]
        go.touch()
        assert (await driver.exit(1)).exit_code == 0

    play(tmp_path, scenario)


def test_the_user_can_use_its_output_by_name_and_the_engine_can_read_what_it_made(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        text = 'echo by name >> /dev/stdout; mkdir deep; echo made > deep/file; ln -sf /etc/shadow "$AZ_BATCH_TASK_DIR/stdout.txt" 2>/dev/null; true'
        assert await output_as(WORKER, driver, 1, f"/bin/sh -c {shlex.quote(text)}") == "by name\n"
        folder = task_folder(tmp_path, 1)
        assert (folder / "wd" / "deep" / "file").read_text() == "made\n"
        assert {path.name: (path.owner(), path.group()) for path in (folder, *folder.iterdir())} == {
            "t-1": ("jl-engine", "jl-engine"),
            "wd": ("jl-worker", "jl-engine"),
            "stdout.txt": ("jl-worker", "jl-engine"),
            "stderr.txt": ("jl-worker", "jl-engine"),
        }
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755

    play(tmp_path, scenario)


def test_a_retry_finds_nothing_of_the_user_before(tmp_path: Path) -> None:
    """What is left belongs to the other user, and is closed to all."""
    leave = "/bin/sh -c 'test -z \"$(ls -A)\" && mkdir -p deep/er && touch deep/er/file && chmod 000 deep/er deep; exit 9'"

    async def scenario(driver: Driver) -> None:
        for number, user in enumerate([WORKER, WORKER, OWN, ADMIN, WORKER], 1):
            driver.submit(run_as(user, number, leave, task="t-1"))
            assert (await driver.exit(number)).exit_code == 9
        await until(lambda: not list((node(tmp_path) / "volatile").iterdir()), "the earlier folders are gone")

    play(tmp_path, scenario)


def test_a_wipe_and_a_retirement_take_what_belongs_to_others(tmp_path: Path) -> None:
    leave = "/bin/sh -c 'mkdir $AZ_BATCH_NODE_SHARED_DIR/mine; touch $AZ_BATCH_NODE_SHARED_DIR/mine/file; mkdir -m 700 private && touch private/file'"

    async def scenario(driver: Driver) -> None:
        await output_as(WORKER, driver, 1, leave)
        await driver.boot(incarnation=2, wipe=True)
        assert list((node(tmp_path) / "shared").iterdir()) == []
        await output_as(ADMIN, driver, 2, leave)
        driver.submit(RetireNode(pool=POOL, node=NODE, incarnation=2, wipe=True))
        await driver.report(NodeRetired, NODE)
        assert not node(tmp_path).exists()

    play(tmp_path, scenario)


def test_users_share_the_nodes_folder(tmp_path: Path) -> None:
    shared = "$AZ_BATCH_NODE_SHARED_DIR"

    async def scenario(driver: Driver) -> None:
        for number, user in enumerate([OWN, WORKER, ADMIN], 1):
            await output_as(user, driver, number, f"/bin/sh -c 'id -un > {shared}/$(id -un)'")
        assert await output_as(WORKER, driver, 4, f"/bin/sh -c 'cat {shared}/jl-engine {shared}/root'") == "jl-engine\nroot\n"

    play(tmp_path, scenario)


@pytest.mark.parametrize("user", [WORKER, ADMIN])
@pytest.mark.parametrize("stopped", [True, False])
def test_it_is_adopted_when_the_supervisor_died(tmp_path: Path, user: UserIdentity, stopped: bool) -> None:
    async def scenario(driver: Driver) -> None:
        child = script(tmp_path, "child.sh", "trap '' TERM; echo $$ >> pids; while :; do sleep 1000; done")
        program = script(tmp_path, "program.sh", f"setsid {child} & echo $$ >> pids; until test -e go; do sleep 0.02; done; exit 3")
        driver.submit(run_as(user, 1, program))
        pids = [int(line) for line in await written(tmp_path / "pids", 2)]
        await driver.report(ExecutionStarted, 1)
        after = len(driver.reports)
        assert isinstance(driver.executor, LocalExecutor)
        os.kill(driver.executor.supervisor_pid or 0, signal.SIGKILL)
        await driver.report(ExecutionStarted, 1, after=after)
        if stopped:
            driver.submit(stop(1))
        else:
            (tmp_path / "go").touch()
        assert isinstance(await driver.end(1), ExecutionLost)
        assert not any(lives(pid) for pid in pids)

    play(tmp_path, scenario)


def test_an_orphan_that_hides_is_found(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        hidden = script(tmp_path, "hidden.sh", "echo $$ > pid; exec sleep 1000")
        other = script(tmp_path, "other.sh", "until test -e go; do sleep 0.02; done")
        driver.submit(run_as(WORKER, 2, other))
        driver.submit(run_as(WORKER, 1, script(tmp_path, "hide.sh", f"(env -i setsid {hidden} &) ; until test -s pid; do sleep 0.02; done")))
        assert (await driver.exit(1)).exit_code == 0
        (pid,) = await written(tmp_path / "pid")
        assert not lives(int(pid))
        (tmp_path / "go").touch()
        assert (await driver.exit(2)).exit_code == 0

    play(tmp_path, scenario)


def test_a_stop_tells_a_program_once(tmp_path: Path) -> None:
    """Neither sudo nor what watches it passes the signal on a second time."""

    async def scenario(driver: Driver) -> None:
        text = "trap 'echo told' TERM; touch ready; until test -e go; do sleep 0.02; done; exit 5"
        driver.submit(run_as(WORKER, 1, script(tmp_path, "patient.sh", text)))
        await until((tmp_path / "ready").exists, "the program is ready")
        driver.submit(stop(1, grace=LONG_GRACE))
        output = task_folder(tmp_path, 1) / "stdout.txt"
        await until(lambda: output.read_text() != "", "the program is told")
        (tmp_path / "go").touch()
        end = await driver.exit(1)
        assert (end.exit_code, end.stopped) == (5, True)
        assert output.read_text() == "told\n"

    play(tmp_path, scenario)


def test_a_stop_that_comes_at_once_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        numbers = range(1, 11)
        for number in numbers:
            driver.submit(run_as(WORKER, number, "sleep 1234"), stop(number, grace=LONG_GRACE))
        for number in numbers:
            end = await driver.end(number)
            assert isinstance(end, ExecutionNotStarted | ExecutionExited)
            assert end.stopped if isinstance(end, ExecutionExited) else end.failure is None
        await until(lambda: not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "1234"]], "all are gone")

    play(tmp_path, scenario)


def test_a_program_that_is_stopped_for_a_while_goes_on(tmp_path: Path) -> None:
    """sudo stops when its program does; that must not be the end of the story."""

    async def scenario(driver: Driver) -> None:
        text = "echo $$ > pid; (until test -e go; do sleep 0.02; done; kill -CONT $$) & kill -STOP $$; exit 6"
        driver.submit(run_as(WORKER, 1, script(tmp_path, "pause.sh", text)))
        (pid,) = await written(tmp_path / "pid")
        await until(lambda: psutil.Process(int(pid)).status() == psutil.STATUS_STOPPED, "the program stops itself")
        (tmp_path / "go").touch()
        assert (await driver.exit(1)).exit_code == 6

    play(tmp_path, scenario)


def test_when_what_watches_it_is_killed_the_program_ends_too(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        driver.submit(run_as(WORKER, 1, script(tmp_path, "stay.sh", "trap '' TERM; echo $$ > pid; while :; do sleep 1000; done")))
        (pid,) = await written(tmp_path / "pid")
        started = await driver.report(ExecutionStarted, 1)
        assert started.pid is not None
        os.kill(started.pid, signal.SIGKILL)
        end = await driver.exit(1)
        assert (end.exit_code, end.signal, end.leftover) == (137, 9, ())
        assert not lives(int(pid))

    play(tmp_path, scenario)


def test_without_sudo_it_is_refused(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        assert isinstance(driver.executor, LocalExecutor)
        assert await driver.executor.refusal(WORKER) is None
        monkeypatch = pytest.MonkeyPatch()
        monkeypatch.setenv("PATH", str(tmp_path))
        try:
            assert (await failure_as(WORKER, driver, 1))[:2] == ("usererror", "CommandLaunchFailed")
            assert "install sudo" in (await driver.executor.refusal(WORKER) or "")
        finally:
            monkeypatch.undo()
        assert await output_as(WORKER, driver, 2, "id -un") == "jl-worker\n"

    play(tmp_path, scenario)


def test_files_come_to_the_user_and_go_back(tmp_path: Path) -> None:
    """Resource files belong to the user, with their modes; packages can be read; what the user made can be uploaded."""
    source = tmp_path / "source"
    (source / "more" / "deep").mkdir(parents=True)
    (source / "one").write_text("1\n")
    (source / "more" / "deep" / "two").write_text("2\n" * 1_000_000)
    (source / "more" / "empty").touch()
    with zipfile.ZipFile(source / "tool.zip", "w") as archive:
        archive.writestr("bin/data", "packed\n")
    uploaded = tmp_path / "uploaded"
    uploaded.mkdir()
    text = (
        "set -e; cat one; wc -l < more/deep/two; test -e more/empty; stat -c %U.%a one more/deep/two; echo changed > one; "
        'cat "$AZ_BATCH_APP_PACKAGE_tool_1/bin/data"; echo made > made'
    )

    async def scenario(driver: Driver) -> None:
        command = run_as(WORKER, 1, f"/bin/sh -c {shlex.quote(text)}")
        files = (
            ResourceFile(http_url=f"file://{source}/one", file_path="one", file_mode="0750"),
            ResourceFile(storage_container_url=f"file://{source}/more", file_path="more"),
        )
        packages = (ApplicationPackageReference(application_id="tool", version="1", url=f"file://{source}/tool.zip"),)
        container = OutputFileContainer(container_url=f"file://{uploaded}")
        outputs = (OutputFile(file_pattern="made", destination=OutputFileDestination(container=container)),)
        launch = evolve(command.launch, resource_files=files, packages=packages, output_files=outputs)
        driver.submit(RunTask(launch=launch))
        end = await driver.exit(1)
        assert (end.exit_code, end.upload_failure) == (0, None), read_output(driver.executor, 1, "stderr")
        assert read_output(driver.executor, 1).decode() == "1\n1000000\njl-worker.750\njl-worker.770\npacked\n"
        assert {path.name for path in uploaded.rglob("*") if path.is_file()} == {"made"}
        await until(lambda: not list((node(tmp_path) / "volatile").iterdir()), "nothing is left of fetching")

    play(tmp_path, scenario)
