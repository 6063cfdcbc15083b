"""Command lines that run as another user, started by an engine that is root; `test_sudo.py` has those of an engine that is not.

The folders that programs use lie beside pytest's own, which nobody but its user may enter.
"""

import asyncio
import json
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from attrs import evolve

from jobledger.core.commands import Command, RetireNode, RunCommand, RunPreparation, RunTask
from jobledger.core.ids import SECOND, Duration, TaskId
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
from jobledger.executors import spawn_as
from jobledger.executors.local import LocalExecutor
from jobledger.testing.environment import SHOW_ENVIRONMENT
from jobledger.testing.executors import (
    BOUND_S,
    JOB,
    NODE,
    POOL,
    Driver,
    driving,
    launch,
    lives,
    read_output,
    run,
    script,
    stop,
    until,
    written,
)
from jobledger.testing.processes import ProcessConformance

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")

NOBODY = UserIdentity(username="nobody")
DAEMON = UserIdentity(username="daemon")
ADMIN = UserIdentity(auto_user=AutoUserSpecification(elevation_level="admin"))
NONADMIN = UserIdentity(auto_user=AutoUserSpecification())
LONG_GRACE = Duration(int(BOUND_S) * SECOND)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that every user can use."""
    folder = Path(tempfile.mkdtemp(prefix="jobledger-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def runs_for_nobody(program: str) -> bool:
    try:
        return subprocess.run([program, "-c", ""], user="nobody", cwd="/", capture_output=True, check=False).returncode == 0
    except OSError:
        return False


PYTHON = next(filter(runs_for_nobody, [sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"]), sys.executable) if os.geteuid() == 0 else ""


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


class AsNobody(LocalExecutor):
    """Runs all that it is given as nobody."""

    def submit(self, commands: Sequence[Command]) -> None:
        super().submit([evolve(one, launch=evolve(one.launch, user=NOBODY)) if isinstance(one, RunCommand) else one for one in commands])


class TestAnotherUser(ProcessConformance):
    """What holds for a program of the engine's own user holds for one of another's."""

    python = PYTHON

    def make_executor(self, folder: Path) -> LocalExecutor:
        return AsNobody(folder / "nodes", drain_grace=Duration(SECOND // 5), linger=Duration(0))


# --- who it is ---


@pytest.mark.parametrize(
    ("user", "name"), [(NOBODY, "nobody"), (DAEMON, "daemon"), (NONADMIN, "nobody"), (ADMIN, "root"), (UserIdentity(username="root"), "root")]
)
def test_it_runs_as_the_user_that_is_asked_for(tmp_path: Path, user: UserIdentity, name: str) -> None:
    async def scenario(driver: Driver) -> None:
        account = pwd.getpwnam(name)
        assert await output_as(user, driver, 1, "/bin/sh -c 'id -un; id -ru; id -rg'") == f"{name}\n{account.pw_uid}\n{account.pw_gid}\n"

    play(tmp_path, scenario)


def test_it_has_the_users_groups_and_none_of_the_engines(tmp_path: Path) -> None:
    """In a process of its own, which has a group more than it needs."""
    code = (
        "import os, sys; os.setgroups([0, 54321]); sys.argv[1:] = sys.argv[1:]\n"
        "import asyncio; from pathlib import Path; from attrs import evolve\n"
        "from jobledger.core.specs import UserIdentity; from jobledger.executors.local import LocalExecutor\n"
        "from jobledger.testing.executors import driving, read_output, run\n"
        "async def go():\n"
        "    async with driving(LocalExecutor(Path(sys.argv[1]) / 'nodes')) as driver:\n"
        "        for number, name in enumerate(['root', 'daemon'], 1):\n"
        "            command = run(number, 'id -G')\n"
        "            driver.submit(evolve(command, launch=evolve(command.launch, user=UserIdentity(username=name))))\n"
        "            assert (await driver.exit(number)).exit_code == 0\n"
        "            print(read_output(driver.executor, number).decode().strip())\n"
        "asyncio.run(go())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=BOUND_S * 2, check=True)
    own, others = done.stdout.splitlines()
    assert own.split() == ["0", "54321"]
    assert set(map(int, others.split())) == set(os.getgrouplist("daemon", pwd.getpwnam("daemon").pw_gid))


def test_it_may_read_only_what_the_user_may(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("for root\n")
    secret.chmod(0o600)

    async def scenario(driver: Driver) -> None:
        driver.submit(run_as(NOBODY, 1, f"cat {secret}"), run_as(ADMIN, 2, f"cat {secret}"), run(3, f"cat {secret}"))
        assert (await driver.exit(1)).exit_code == 1
        assert b"Permission denied" in read_output(driver.executor, 1, "stderr")
        for number in (2, 3):
            assert (await driver.exit(number)).exit_code == 0

    play(tmp_path, scenario)


def test_it_gets_the_users_home_and_little_of_the_engines_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_ENGINE", "secret")
    monkeypatch.setenv("LC_MESSAGES", "C.UTF-8")
    show = f"{shlex.quote(PYTHON)} -c {shlex.quote(SHOW_ENVIRONMENT)}"

    async def variables(driver: Driver, number: int, settings: Mapping[str, str]) -> dict[str, str]:
        driver.submit(run_as(NOBODY, number, show, environment=settings))
        assert (await driver.exit(number)).exit_code == 0
        found: dict[str, str] = json.loads(read_output(driver.executor, number))[0]
        return found

    async def scenario(driver: Driver) -> None:
        found = await variables(driver, 1, {"MINE": "1"})
        assert (found["HOME"], found["USER"], found["LOGNAME"]) == (pwd.getpwnam("nobody").pw_dir, "nobody", "nobody")
        assert (found["MINE"], found["PATH"], found["LC_MESSAGES"]) == ("1", os.environ["PATH"], "C.UTF-8")
        assert "OF_THE_ENGINE" not in found
        assert (await variables(driver, 2, {"HOME": "/elsewhere"}))["HOME"] == "/elsewhere"

    play(tmp_path, scenario)


def test_nothing_of_its_environment_is_in_force_before_it_is_that_user(tmp_path: Path) -> None:
    """The dynamic linker writes a file for each program that it starts under these: none of them is root's."""
    logs = tmp_path / "logs"
    logs.mkdir()
    logs.chmod(0o777)

    async def scenario(driver: Driver) -> None:
        driver.submit(run_as(NOBODY, 1, "true", environment={"LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": f"{logs}/ld"}))
        assert (await driver.exit(1)).exit_code == 0
        assert {path.owner() for path in logs.iterdir()} == {"nobody"}

    play(tmp_path, scenario)


def test_signals_are_as_every_program_expects_them(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        ours, others = run(1, "grep -E 'SigIgn|SigBlk' /proc/self/status"), run_as(NOBODY, 2, "grep -E 'SigIgn|SigBlk' /proc/self/status")
        driver.submit(ours, others)
        for number in (1, 2):
            assert (await driver.exit(number)).exit_code == 0
        assert read_output(driver.executor, 2) == read_output(driver.executor, 1)

    play(tmp_path, scenario)


# --- what cannot be ---


def test_a_user_that_is_not_there_is_refused_beforehand_and_at_the_launch(tmp_path: Path) -> None:
    stranger = UserIdentity(username="no-such-user")

    async def scenario(driver: Driver) -> None:
        assert isinstance(driver.executor, LocalExecutor)
        assert await driver.executor.refusal(stranger) == "there is no user 'no-such-user' on this machine: create it, or name another"
        category, code, message = await failure_as(stranger, driver, 1)
        assert (category, code) == ("usererror", "CommandLaunchFailed")
        assert "no user 'no-such-user'" in message
        for user in (NOBODY, NONADMIN, ADMIN, UserIdentity(username="root")):
            assert await driver.executor.refusal(user) is None

    play(tmp_path, scenario)


def test_a_folder_above_the_root_that_the_user_may_not_enter_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)

    async def scenario(driver: Driver) -> None:
        assert isinstance(driver.executor, LocalExecutor)
        asked = await driver.executor.refusal(NOBODY)
        assert (
            asked
            == f"user 'nobody' may not pass through the folder {closed}: allow it with `chmod o+x {closed}`, or choose another root for the nodes"
        )
        category, code, message = await failure_as(NOBODY, driver, 1)
        assert (category, code) == ("usererror", "CommandLaunchFailed")
        assert asked in message
        closed.chmod(0o711)
        assert await driver.executor.refusal(NOBODY) is None
        assert await output_as(NOBODY, driver, 2, "id -un") == "nobody\n"

    play(closed, scenario)


def test_a_program_that_only_root_may_execute(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)

    async def scenario(driver: Driver) -> None:
        assert await failure_as(NOBODY, driver, 1, str(program)) == (
            "usererror",
            "CommandLaunchFailed",
            f"{program} cannot be executed: Permission denied",
        )
        assert await output_as(ADMIN, driver, 2, str(program)) == ""

    play(tmp_path, scenario)


def test_a_user_that_has_another_id_now_is_not_the_one_that_was_meant(tmp_path: Path) -> None:
    """The supervisor's process looks the name up anew."""
    told = {"name": "nobody", "uid": 12345, "gid": 12345, "through_sudo": False}

    async def scenario(driver: Driver) -> None:
        assert isinstance(driver.executor, LocalExecutor)
        link = driver.executor._opened()
        order = {"op": "launch", "x": 1, "node": f"{POOL}/{NODE}", "folder": f"{POOL}/{NODE}/workitems/{JOB}/job-1/t-1", "arguments": ["true"]}
        link.send([{**order, "environment": {}, "user": told, "ways": []}])
        end = await driver.end(1)
        assert isinstance(end, ExecutionNotStarted)
        assert end.failure is not None
        assert "no longer 12345" in end.failure.message

    play(tmp_path, scenario)


def test_what_was_launched_before_its_user_was_gone_is_not_said_never_to_have_run(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        command_line = script(tmp_path, "wait.sh", "echo >> launches; until test -e go; do sleep 0.02; done; exit 3")
        driver.submit(run_as(NOBODY, 1, command_line))
        await written(tmp_path / "launches")
        await driver.report(ExecutionStarted, 1)
        driver.submit(run_as(UserIdentity(username="no-such-user"), 1, command_line))
        (tmp_path / "go").touch()
        assert (await driver.end(1)) == await driver.exit(1)
        assert await written(tmp_path / "launches") == [""]

    play(tmp_path, scenario)


# --- ends ---


def test_a_stop_that_comes_at_once_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        numbers = range(1, 21)
        for number in numbers:
            driver.submit(run_as(NOBODY, number, "sleep 1000"), stop(number, grace=LONG_GRACE))
        for number in numbers:
            end = await driver.end(number)
            assert isinstance(end, ExecutionNotStarted | ExecutionExited)
            assert end.stopped if isinstance(end, ExecutionExited) else end.failure is None
        assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "1000"] and str(tmp_path) in one.cwd()]

    play(tmp_path, scenario)


def test_a_hundred_at_once(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        driver.submit(*(run_as(NOBODY, number, f"/bin/sh -c 'exit {number}'") for number in range(1, 101)))
        assert [(await driver.exit(number)).exit_code for number in range(1, 101)] == list(range(1, 101))

    play(tmp_path, scenario)


@pytest.mark.parametrize("stopped", [True, False])
def test_it_is_adopted_when_the_supervisor_died(tmp_path: Path, stopped: bool) -> None:
    async def scenario(driver: Driver) -> None:
        child = script(tmp_path, "child.sh", "trap '' TERM; echo $$ >> pids; while :; do sleep 1000; done")
        program = script(tmp_path, "program.sh", f"setsid {child} & echo $$ >> pids; until test -e go; do sleep 0.02; done; exit 3")
        driver.submit(run_as(NOBODY, 1, program))
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


@pytest.mark.parametrize(
    ("stand_in", "how", "stage"), [("sleep 1000", "kill", "identity"), ("sleep 1000", "stop", "stopped"), ("true", "wait", "identity")]
)
def test_what_ends_before_it_is_the_user_never_ran_the_program(tmp_path: Path, stand_in: str, how: str, stage: str) -> None:
    """With something else in the place of what becomes the user, and in a process of its own, since the table reaps every child."""
    code = f"""
import json, os, signal, sys, time
from pathlib import Path
from jobledger.executors import spawn_as
from jobledger.executors.supervised import Table
os.chdir(sys.argv[1])
spawn_as.PYTHON = ("/bin/sh", "-c", "exec {stand_in}")
Path("n/shared").mkdir(parents=True); Path("n/volatile").mkdir(); Path("n/executions").mkdir()
told = []
table = Table(sys.argv[1], "c0ffee00", "boot", told.append)
user = {{"name": "nobody", "uid": 65534, "gid": 65534, "through_sudo": False}}
order = {{"x": 1, "node": "n", "folder": "n/t", "arguments": ["true"], "environment": {{}}, "user": user, "ways": []}}
table.launch(order)
table.adopt(order)
assert told == []
if {how!r} == "kill":
    os.kill(json.loads(Path("n/executions/c0ffee00.1").read_text().splitlines()[1])["started"], signal.SIGKILL)
elif {how!r} == "stop":
    table.stop({{"x": 1, "node": "n", "grace_s": 10}})
bound = time.monotonic() + {BOUND_S}
while not told and time.monotonic() < bound:
    table.reap()
    table.tick(time.monotonic())
    time.sleep(0.01)
assert table.empty
table.adopt(order)
assert told[0] == told[1]
print(told[0]["op"], told[0]["stage"])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=BOUND_S * 2, check=False)
    assert done.stdout == f"not_started {stage}\n", done.stderr


# --- folders ---


def modes_below(folder: Path, *, without: str) -> dict[str, tuple[str, str]]:
    """Owner and mode of all that lies there."""
    found = [folder, *(path for path in sorted(folder.rglob("*")) if without not in path.parts)]
    return {str(path.relative_to(folder)): (path.owner(), f"{stat.S_IMODE(path.stat().st_mode):o}") for path in found}


def test_folders_let_through_no_more_than_they_must(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        driver.submit(run(1, "true"))
        await driver.exit(1)
        private = modes_below(node(tmp_path), without="executions")
        assert {mode for _, mode in private.values()} == {"700", "600", "644"}  # the boot file is below a folder that is closed
        await output_as(NOBODY, driver, 2, "true")
        job = f"workitems/{JOB}"
        passable = {".": "711", "applications": "711", "fsmounts": "711", "startup": "711", "workitems": "711", job: "711", f"{job}/job-1": "711"}
        assert modes_below(node(tmp_path), without="executions") == {
            **private,
            **{path: ("root", mode) for path, mode in passable.items()},
            "shared": ("root", "1777"),
            f"{job}/job-1/t-2": ("root", "755"),
            f"{job}/job-1/t-2/wd": ("nobody", "700"),
            f"{job}/job-1/t-2/stdout.txt": ("nobody", "600"),
            f"{job}/job-1/t-2/stderr.txt": ("nobody", "600"),
        }
        assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "nodes", tmp_path / "nodes" / POOL)} == {0o711}
        assert stat.S_IMODE((tmp_path / "nodes" / ".control").stat().st_mode) == 0o700

    play(tmp_path, scenario)


def test_it_can_use_its_output_by_name_and_not_replace_it(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        text = 'echo by name >> /dev/stdout; ln -sf /etc/shadow "$AZ_BATCH_TASK_DIR/stdout.txt" 2>/dev/null; ln -s /etc/shadow "$AZ_BATCH_TASK_DIR/x" 2>/dev/null; true'
        assert await output_as(NOBODY, driver, 1, f"/bin/sh -c {shlex.quote(text)}") == "by name\n"
        assert {path.name for path in task_folder(tmp_path, 1).iterdir()} == {"wd", "stdout.txt", "stderr.txt"}

    play(tmp_path, scenario)


def test_a_retry_finds_nothing_of_the_user_before(tmp_path: Path) -> None:
    """What is left belongs to the other user, and is closed to all."""
    leave = "/bin/sh -c 'test -z \"$(ls -A)\" && mkdir -p deep/er && touch deep/er/file && chmod 000 deep/er deep; exit 9'"

    async def scenario(driver: Driver) -> None:
        for number, user in enumerate([NOBODY, NOBODY, DAEMON, ADMIN, NOBODY], 1):
            driver.submit(run_as(user, number, leave, task="t-1"))
            assert (await driver.exit(number)).exit_code == 9
            assert (task_folder(tmp_path, 1) / "wd" / "deep").owner() == {NOBODY: "nobody", DAEMON: "daemon", ADMIN: "root"}[user]
        await until(lambda: not list((node(tmp_path) / "volatile").iterdir()), "the earlier folders are gone")

    play(tmp_path, scenario)


def test_two_users_share_the_nodes_folder_and_keep_their_files_there(tmp_path: Path) -> None:
    shared = "$AZ_BATCH_NODE_SHARED_DIR"

    async def scenario(driver: Driver) -> None:
        for number, user in enumerate([NOBODY, DAEMON, ADMIN], 1):
            await output_as(user, driver, number, f"/bin/sh -c 'id -un > {shared}/$(id -un)'")
        assert await output_as(NOBODY, driver, 4, f"/bin/sh -c 'cat {shared}/daemon {shared}/root'") == "daemon\nroot\n"
        driver.submit(run_as(NOBODY, 5, f"/bin/sh -c 'rm -f {shared}/daemon'"))
        assert (await driver.exit(5)).exit_code == 1
        await driver.boot(incarnation=2, wipe=False)
        assert await output_as(DAEMON, driver, 6, f"/bin/sh -c 'cat {shared}/nobody'") == "nobody\n"

    play(tmp_path, scenario)


def test_a_task_may_use_what_preparation_leaves_open(tmp_path: Path) -> None:
    prepare = "/bin/sh -c 'echo data > data; echo mine > closed; chmod 600 closed; chmod 711 .'"

    async def scenario(driver: Driver) -> None:
        driver.submit(RunPreparation(launch=launch(1, prepare, task=TaskId("prep"))))
        assert (await driver.exit(1)).exit_code == 0
        assert await output_as(NOBODY, driver, 2, "/bin/sh -c 'cat $AZ_BATCH_JOB_PREP_WORKING_DIR/data'") == "data\n"
        driver.submit(run_as(NOBODY, 3, "/bin/sh -c 'cat $AZ_BATCH_JOB_PREP_WORKING_DIR/closed'"))
        assert (await driver.exit(3)).exit_code == 1

    play(tmp_path, scenario)


def test_a_wipe_and_a_retirement_take_what_belongs_to_others(tmp_path: Path) -> None:
    leave = "/bin/sh -c 'mkdir -m 000 $AZ_BATCH_NODE_SHARED_DIR/closed ; mkdir -m 700 private && touch private/file'"

    async def scenario(driver: Driver) -> None:
        await output_as(NOBODY, driver, 1, leave)
        await driver.boot(incarnation=2, wipe=True)
        assert list((node(tmp_path) / "shared").iterdir()) == []
        await output_as(DAEMON, driver, 2, leave)
        driver.submit(RetireNode(pool=POOL, node=NODE, incarnation=2, wipe=True))
        await driver.report(NodeRetired, NODE)
        assert not node(tmp_path).exists()

    play(tmp_path, scenario)


def test_the_engines_own_user_gets_no_go_between(tmp_path: Path) -> None:
    async def scenario(driver: Driver) -> None:
        driver.submit(run_as(ADMIN, 1, "true"))
        assert (await driver.exit(1)).exit_code == 0
        assert stat.S_IMODE(node(tmp_path).stat().st_mode) == 0o700

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
        command = run_as(NOBODY, 1, f"/bin/sh -c {shlex.quote(text)}")
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
        assert read_output(driver.executor, 1).decode() == "1\n1000000\nnobody.750\nnobody.770\npacked\n"
        assert {path.name for path in uploaded.rglob("*") if path.is_file()} == {"made"}
        await until(lambda: not list((node(tmp_path) / "volatile").iterdir()), "nothing is left of fetching")

    play(tmp_path, scenario)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has files that are in memory alone")
def test_an_order_with_its_secrets_is_on_no_disk(tmp_path: Path) -> None:
    descriptor = spawn_as._handed_over(str(tmp_path / "order"), {"environment": {"TOKEN": "hidden"}})
    try:
        assert str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("/memfd:")
        assert b"hidden" in os.read(descriptor, 1000)
        assert list(tmp_path.iterdir()) == []
    finally:
        os.close(descriptor)
