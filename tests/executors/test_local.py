"""The local executor when things go wrong: engines and supervisors that die, records that lie, folders in the way."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobledger.core.commands import BootNode
from jobledger.core.errors import ExecutorError
from jobledger.core.ids import SECOND, Duration
from jobledger.core.reports import ExecutionExited, ExecutionLost, ExecutionNotStarted, ExecutionStarted, NodeFaulted, NodeReady
from jobledger.executors import processes, supervisor
from jobledger.executors.local import LocalExecutor
from jobledger.executors.local_link import socket_path
from jobledger.executors.local_nodes import host_boot_id
from jobledger.testing.executors import (
    BOUND_S,
    JOB,
    LEDGER_ID,
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

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
LONG_GRACE = Duration(int(BOUND_S) * SECOND)


def make(folder: Path) -> LocalExecutor:
    return LocalExecutor(folder / "nodes", drain_grace=Duration(SECOND // 5), linger=Duration(0))


def node(folder: Path) -> Path:
    return folder / "nodes" / POOL / NODE


def record(folder: Path, number: int = 1) -> Path:
    return node(folder) / "executions" / f"{LEDGER_ID}.{number}"


def waiting(folder: Path, code: int = 3) -> str:
    """A program that says its pid and waits for the file `go`."""
    return script(folder, "wait.sh", f"echo $$ >> pids; until test -e go; do sleep 0.02; done; exit {code}")


def supervisor_of(driver: Driver) -> int:
    assert isinstance(driver.executor, LocalExecutor)
    pid = driver.executor.supervisor_pid
    assert pid is not None
    return pid


async def kill_supervisor(driver: Driver) -> None:
    """SIGKILL it, and wait for the next one."""
    pid = supervisor_of(driver)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: supervisor_of(driver) != pid, "another supervisor")


async def failure_of(driver: Driver) -> str:
    assert isinstance(driver.executor, LocalExecutor)
    return str(await asyncio.wait_for(driver.executor.failed(), BOUND_S))


def start(*words: str) -> "subprocess.Popen[bytes]":
    """A process of nobody's."""
    return subprocess.Popen(words, start_new_session=True)


def play(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


# --- engines and supervisors that die ---


def test_what_ran_when_the_engine_was_killed_is_adopted(tmp_path: Path) -> None:
    command_line = waiting(tmp_path)
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("drive_forever.py")), str(tmp_path), command_line], stdout=subprocess.PIPE
    ) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == b"started\n"
        engine.kill()
    assert engine.returncode == -signal.SIGKILL

    async def adopt() -> None:
        async with driving(make(tmp_path), boot=False) as driver:
            driver.executor.recover([run(1, command_line)], {NODE: POOL})
            await driver.report(NodeReady, NODE)
            (tmp_path / "go").touch()
            assert (await driver.exit(1)).exit_code == 3
            assert len(await written(tmp_path / "pids")) == 1

    play(adopt())


def test_a_program_outlives_its_supervisor_and_is_lost_when_it_ends(tmp_path: Path) -> None:
    async def lose() -> None:
        async with driving(make(tmp_path)) as driver:
            driver.submit(run(1, waiting(tmp_path)))
            (pid,) = await written(tmp_path / "pids")
            await driver.report(ExecutionStarted, 1)
            after = len(driver.reports)
            await kill_supervisor(driver)
            await driver.report(ExecutionStarted, 1, after=after)
            driver.submit(run(2, "true"))
            assert (await driver.exit(2)).exit_code == 0
            assert lives(int(pid))
            (tmp_path / "go").touch()
            end = await driver.end(1)
            assert isinstance(end, ExecutionLost)
            assert "supervisor died" in end.reason
            assert not lives(int(pid))
            after = len(driver.reports)
            driver.submit(run(1, waiting(tmp_path)))
            assert await driver.end(1, after=after) == end
            assert len(await written(tmp_path / "pids")) == 1

    play(lose())


def test_what_outlived_its_supervisor_can_be_stopped(tmp_path: Path) -> None:
    async def end_it() -> None:
        async with driving(make(tmp_path)) as driver:
            text = "setsid sleep 1000 & echo $! >> pids; sleep 1000 & echo $! >> pids; echo $$ >> pids; wait"
            driver.submit(run(1, script(tmp_path, "family.sh", text)))
            pids = [int(line) for line in await written(tmp_path / "pids", 3)]
            await kill_supervisor(driver)
            driver.submit(stop(1, grace=LONG_GRACE))
            assert isinstance(await driver.end(1), ExecutionLost)
            if processes.LINUX:
                assert not any(lives(pid) for pid in pids)
            assert not lives(pids[2])

    play(end_it())


def test_a_boot_ends_what_a_dead_supervisor_left_running(tmp_path: Path) -> None:
    async def leave_and_boot() -> None:
        async with driving(make(tmp_path)) as driver:
            driver.submit(run(1, waiting(tmp_path)))
            (pid,) = await written(tmp_path / "pids")
            dead = supervisor_of(driver)
        os.kill(dead, signal.SIGKILL)
        await until(lambda: not lives(dead), "the supervisor is dead")
        async with driving(make(tmp_path), boot=False) as driver:
            await driver.boot(incarnation=2)
            assert processes.LINUX is not lives(int(pid))
            (tmp_path / "go").touch()

    play(leave_and_boot())


def test_what_is_asked_for_while_there_is_no_supervisor_is_asked_again(tmp_path: Path) -> None:
    async def ask() -> None:
        async with driving(make(tmp_path)) as driver:
            os.kill(supervisor_of(driver), signal.SIGKILL)
            driver.submit(
                run(1, script(tmp_path, "count.sh", "echo launched >> launches")), stop(2), BootNode(pool=POOL, node=NODE, incarnation=1, wipe=True)
            )
            assert (await driver.exit(1)).exit_code == 0
            assert isinstance(await driver.end(2), ExecutionNotStarted)
            assert await written(tmp_path / "launches") == ["launched"]

    play(ask())


def test_a_supervisor_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    async def keep_killing() -> None:
        async with driving(make(tmp_path)) as driver:
            assert isinstance(driver.executor, LocalExecutor)
            failed = asyncio.create_task(driver.executor.failed())
            killed = None
            while not failed.done():
                if supervisor_of(driver) != killed:
                    killed = supervisor_of(driver)
                    os.kill(killed, signal.SIGKILL)
                await asyncio.wait([failed], timeout=0.01)
            assert "times in a minute" in str(await failed)

    play(asyncio.wait_for(keep_killing(), BOUND_S))


def test_the_newest_engine_wins(tmp_path: Path) -> None:
    async def compete() -> None:
        async with driving(make(tmp_path)) as older, driving(make(tmp_path), boot=False) as newer:
            assert "took over" in await failure_of(older)
            newer.submit(run(1, "true"))
            assert (await newer.exit(1)).exit_code == 0

    play(compete())


def test_an_engine_that_slept_through_its_replacement_replaces_nobody(tmp_path: Path) -> None:
    """It was stopped while its supervisor died and a newer engine started another: it comes back to that one, and has to go."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("drive_forever.py")), str(tmp_path), waiting(tmp_path)], stdout=subprocess.PIPE
    ) as older:
        assert older.stdout is not None
        assert older.stdout.readline() == b"started\n"
        older.send_signal(signal.SIGSTOP)

        async def take_over() -> None:
            held = [
                one for one in psutil.process_iter(["cmdline"]) if {supervisor.__file__, str(tmp_path / "nodes")} <= set(one.info["cmdline"] or ())
            ]
            (first,) = held
            first.kill()
            async with driving(make(tmp_path), boot=False) as newer:
                newer.executor.recover([run(1, waiting(tmp_path))], {NODE: POOL})
                pid = supervisor_of(newer)
                older.send_signal(signal.SIGCONT)
                assert b"took over" in await asyncio.to_thread(older.stdout.readline)
                (tmp_path / "go").touch()
                await newer.end(1)
                newer.submit(run(2, "true"))
                assert (await newer.exit(2)).exit_code == 0
                assert supervisor_of(newer) == pid
                assert isinstance(newer.executor, LocalExecutor)
                await kill_supervisor(newer)  # and who comes back to nobody else's is let in
                newer.submit(run(3, "true"))
                assert (await newer.exit(3)).exit_code == 0

        try:
            play(take_over())
        finally:
            older.kill()


def test_a_second_supervisor_does_not_run(tmp_path: Path) -> None:
    async def start_another() -> None:
        async with driving(make(tmp_path)) as driver:
            root = tmp_path / "nodes"
            command = [sys.executable, "-I", "-S", supervisor.__file__, str(root), LEDGER_ID, "boot", str(root / ".control" / "other.sock"), "0"]
            another = await asyncio.create_subprocess_exec(*command)
            assert await asyncio.wait_for(another.wait(), BOUND_S) == supervisor.EXIT_ANOTHER
            driver.submit(run(1, "true"))
            assert (await driver.exit(1)).exit_code == 0

    play(start_another())


def test_a_supervisor_with_nothing_to_do_ends(tmp_path: Path) -> None:
    async def leave() -> None:
        async with driving(make(tmp_path)) as driver:
            pid = supervisor_of(driver)
            driver.submit(run(1, waiting(tmp_path)))
            await written(tmp_path / "pids")
        assert lives(pid)
        (tmp_path / "go").touch()
        await until(lambda: not lives(pid), "the supervisor ends")
        assert not socket_path(tmp_path / "nodes", LEDGER_ID).exists()

    play(leave())


def test_a_supervisor_of_another_version_is_not_talked_to(tmp_path: Path) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(json.dumps({"op": "hello", "version": supervisor.VERSION + 1, "pid": 1}).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def meet(folder: Path) -> None:
        address = socket_path(folder / "nodes", LEDGER_ID)
        server = await asyncio.start_unix_server(greet, str(address))
        async with server:
            with pytest.raises(ExecutorError, match="another version"):
                await make(folder).open(print, ledger_id=LEDGER_ID)

    play(meet(tmp_path))


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    async def go_far() -> None:
        async with driving(make(tmp_path / ("long" * 25))) as driver:
            driver.submit(run(1, "true"))
            assert (await driver.exit(1)).exit_code == 0

    play(go_far())


def test_an_executor_that_is_not_open_says_so(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match="not open"):
        make(tmp_path).submit([run(1, "true")])


# --- records that lie ---


async def recover_from(folder: Path, lines: bytes) -> Driver:
    """Write a record by hand and recover from it."""
    driver = Driver(make(folder))
    await driver.executor.open(driver.take, ledger_id=LEDGER_ID)
    await driver.boot()
    record(folder).write_bytes(lines)
    driver.executor.recover([run(1, "true")], {})
    return driver


def started_line(pid: int, span: tuple[int, int], boot: str | None = None) -> bytes:
    return json.dumps({"started": pid, "span": span, "boot": boot or host_boot_id()}).encode() + b"\n"


EXITED_LINES = b'{"exited":null,"code":6,"signal":null,"stopped":false,"wall_us":1}\n{"drained":[]}\n'


@pytest.mark.parametrize("torn", [b"", b'{"cla', b"\0\0\0\0", b'{"claimed":"c0ffee00.1","boot":"%BOOT"}\n{"started":12', EXITED_LINES[:20]])
def test_a_torn_line_counts_as_not_written(tmp_path: Path, torn: bytes) -> None:
    async def recover() -> None:
        driver = await recover_from(tmp_path, torn.replace(b"%BOOT", host_boot_id().encode()))
        assert isinstance(await driver.end(1), ExecutionLost)
        await driver.executor.close()

    play(recover())


@only_linux
def test_a_program_whose_start_was_not_recorded_is_found_by_its_mark(tmp_path: Path) -> None:
    async def tear() -> None:
        async with driving(make(tmp_path)) as driver:
            driver.submit(run(1, waiting(tmp_path)))
            (pid,) = await written(tmp_path / "pids")
            await driver.report(ExecutionStarted, 1)
            dead = supervisor_of(driver)
        os.kill(dead, signal.SIGKILL)
        await until(lambda: not lives(dead), "the supervisor is dead")
        record(tmp_path).write_bytes(record(tmp_path).read_bytes().splitlines(keepends=True)[0] + b'{"star')
        async with driving(make(tmp_path), boot=False) as driver:
            driver.executor.recover([run(1, waiting(tmp_path))], {})
            assert (await driver.report(ExecutionStarted, 1)).pid == int(pid)
            (tmp_path / "go").touch()
            assert isinstance(await driver.end(1), ExecutionLost)
            assert not lives(int(pid))

    play(tear())


def test_a_recycled_pid_is_not_ours(tmp_path: Path) -> None:
    async def recover() -> None:
        with start("sleep", "1000") as stranger:
            row = processes.look_up(stranger.pid)
            assert row is not None
            driver = await recover_from(tmp_path, started_line(stranger.pid, (row.start - 1000, row.start - 900)))
            driver.submit(stop(1, grace=Duration(0)))
            assert isinstance(await driver.end(1), ExecutionLost)
            await driver.executor.close()
            assert stranger.poll() is None
            stranger.kill()

    play(recover())


def test_a_zombie_is_not_alive(tmp_path: Path) -> None:
    async def recover() -> None:
        before = processes.clock()
        with start("true") as zombie:
            span = processes.span_since(before)
            await until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE, "it ends")
            assert not processes.lives(zombie.pid, span)
            driver = await recover_from(tmp_path, started_line(zombie.pid, span))
            assert isinstance(await driver.end(1), ExecutionLost)
            await driver.executor.close()

    play(recover())


@pytest.mark.parametrize("ended", [True, False])
def test_an_execution_of_an_earlier_boot_runs_no_more(tmp_path: Path, ended: bool) -> None:
    async def recover() -> None:
        driver = await recover_from(tmp_path, started_line(os.getpid(), (0, 1 << 60), "earlier") + (EXITED_LINES if ended else b""))
        end = await driver.end(1)
        if ended:
            assert isinstance(end, ExecutionExited)
            assert end.exit_code == 6
        else:
            assert isinstance(end, ExecutionLost)
            assert "rebooted" in end.reason
        await driver.executor.close()

    play(recover())


def test_an_end_whose_leftovers_nobody_looked_after_is_still_an_end(tmp_path: Path) -> None:
    async def recover() -> None:
        before = processes.clock()
        with start("true") as gone:
            span = processes.span_since(before)
        driver = await recover_from(tmp_path, started_line(gone.pid, span) + EXITED_LINES.splitlines(keepends=True)[0])
        assert (await driver.exit(1)).exit_code == 6
        assert b'"drained":[]' in record(tmp_path).read_bytes()
        await driver.executor.close()

    play(recover())


@only_linux
def test_a_full_disk_loses_no_end(tmp_path: Path) -> None:
    async def fill() -> None:
        async with driving(make(tmp_path)) as driver:
            driver.submit(run(1, waiting(tmp_path)))
            (pid,) = await written(tmp_path / "pids")
            await driver.report(ExecutionStarted, 1)
            record(tmp_path).rename(tmp_path / "record")
            record(tmp_path).symlink_to("/dev/full")
        (tmp_path / "go").touch()
        await until(lambda: not lives(int(pid)), "the program ends")
        record(tmp_path).unlink()
        (tmp_path / "record").rename(record(tmp_path))
        async with driving(make(tmp_path), boot=False) as driver:
            driver.executor.recover([run(1, waiting(tmp_path))], {})
            assert (await driver.exit(1)).exit_code == 3

    play(fill())


def test_records_that_cannot_be_used_end_nothing_else(tmp_path: Path) -> None:
    """An execution that can be neither looked up nor forbidden is lost; what else runs is still watched by the same supervisor."""

    async def block() -> None:
        async with driving(make(tmp_path)) as driver:
            driver.submit(run(1, waiting(tmp_path)))
            await driver.report(ExecutionStarted, 1)
            pid, records = supervisor_of(driver), record(tmp_path).parent
            records.rename(tmp_path / "records")
            records.touch()
            driver.submit(stop(2))
            driver.executor.recover([run(3, "true")], {})
            for number in (2, 3):
                end = await driver.end(number)
                assert isinstance(end, ExecutionLost)
                assert "its record cannot be used" in end.reason
            (tmp_path / "go").touch()
            assert (await driver.exit(1)).exit_code == 3
            assert supervisor_of(driver) == pid
            records.unlink()
            (tmp_path / "records").rename(records)

    play(block())


def test_a_folder_that_cannot_be_removed_for_want_of_processes_stays() -> None:
    """The program that takes its place runs already: the supervisor must not die of it.  In a process of its own, for the limit."""
    code = (
        "import os, resource; from jobledger.executors.supervised import _remove_in_background as remove\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0)); assert remove('/nowhere') is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=BOUND_S)


# --- programs of all kinds ---


def test_two_hundred_at_once(tmp_path: Path) -> None:
    async def crowd() -> None:
        async with driving(make(tmp_path)) as driver:
            numbers = range(1, 201)
            driver.submit(*(run(number, "sleep 1000") for number in numbers))
            pids = {(await driver.report(ExecutionStarted, number)).pid for number in numbers}
            assert len(pids) == 200
            driver.submit(*(stop(number, grace=LONG_GRACE) for number in numbers))
            for number in numbers:
                end = await driver.exit(number)
                assert (end.exit_code, end.stopped) == (143, True)

    play(crowd())


def test_every_awkward_character_arrives(tmp_path: Path) -> None:
    text = "".join(map(chr, range(1, 0x180))) + "\u2028\U0001f600 $HOME `x` \\ * ~"

    async def pass_on() -> None:
        async with driving(make(tmp_path)) as driver:
            driver.submit(run(1, f"printf %s {shlex.quote(text)}"), run(2, "printenv AWKWARD", environment={"AWKWARD": text}))
            assert (await driver.exit(1)).exit_code == 0
            assert read_output(driver.executor, 1).decode() == text
            await driver.exit(2)
            assert read_output(driver.executor, 2).decode() == text + "\n"

    play(pass_on())


@pytest.mark.parametrize("command_line", ["printf \ud800", "printf 'not closed"])
def test_a_command_line_that_no_program_can_be_given(tmp_path: Path, command_line: str) -> None:
    async def refuse() -> None:
        async with driving(make(tmp_path)) as driver:
            driver.submit(run(1, command_line))
            end = await driver.end(1)
            assert isinstance(end, ExecutionNotStarted)
            assert end.failure is not None
            assert end.failure.code == "CommandLaunchFailed"

    play(refuse())


@only_linux
def test_an_orphan_that_hides_is_found(tmp_path: Path) -> None:
    async def hide() -> None:
        async with driving(make(tmp_path)) as driver:
            hidden = script(tmp_path, "hidden.sh", "echo $$ > pid; exec sleep 1000")
            driver.submit(run(1, script(tmp_path, "hide.sh", f"(env -i setsid {hidden} &) ; until test -s pid; do sleep 0.02; done")))
            assert (await driver.exit(1)).exit_code == 0
            (pid,) = await written(tmp_path / "pid")
            assert not lives(int(pid))

    play(hide())


@only_linux
def test_the_engine_keeps_its_own_identity_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZ_BATCH_JOB_MANAGER_ONLY", "outer")
    monkeypatch.setenv("OF_THE_USER", "kept")

    async def nest() -> None:
        async with driving(make(tmp_path)) as driver:
            driver.submit(run(1, "printenv OF_THE_USER AZ_BATCH_JOB_MANAGER_ONLY"))
            assert (await driver.exit(1)).exit_code == 1
            assert read_output(driver.executor, 1) == b"kept\n"

    play(nest())


# --- folders ---


def test_a_task_whose_folder_cannot_be_made(tmp_path: Path) -> None:
    async def block() -> None:
        async with driving(make(tmp_path)) as driver:
            (node(tmp_path) / "workitems").rmdir()
            (node(tmp_path) / "workitems").touch()
            driver.submit(run(1, "true"))
            end = await driver.end(1)
            assert isinstance(end, ExecutionNotStarted)
            assert end.failure is not None
            assert (end.failure.category, end.failure.code) == ("servererror", "ResourceDirectoryCreateFailed")

    play(block())


def test_a_node_whose_folder_cannot_be_made(tmp_path: Path) -> None:
    async def block() -> None:
        async with driving(make(tmp_path), boot=False) as driver:
            (tmp_path / "nodes" / POOL).touch()
            driver.submit(BootNode(pool=POOL, node=NODE, incarnation=1, wipe=True))
            assert (await driver.report(NodeFaulted, NODE)).fault == "unusable"

    play(block())


def test_a_node_whose_folder_is_gone_is_wiped_whatever_is_asked_about_it_first(tmp_path: Path) -> None:
    """To answer for an execution without a record the supervisor makes the folder anew: the node must not be taken for a broken one."""

    async def find() -> None:
        async with driving(make(tmp_path)):
            pass
        shutil.rmtree(node(tmp_path))
        async with driving(make(tmp_path), boot=False) as driver:
            driver.executor.recover([run(1, "true")], {NODE: POOL})
            deadline = time.monotonic() + BOUND_S
            while not record(tmp_path).exists():  # the engine's loop stands still meanwhile, as that of a busy program may
                assert time.monotonic() < deadline
                time.sleep(0.005)  # noqa: ASYNC251
            assert (await driver.report(NodeFaulted, NODE)).fault == "wiped"
            assert isinstance(await driver.end(1), ExecutionLost)

    play(find())


def test_nothing_is_launched_on_a_node_of_an_earlier_boot_of_the_host(tmp_path: Path) -> None:
    """What was wanted there when the host went down may be asked for before the engine has heard; its preparation is not of this boot."""

    async def ask() -> None:
        async with driving(make(tmp_path)):
            pass
        boot = node(tmp_path) / "boot"
        boot.write_text(json.dumps({**json.loads(boot.read_text()), "host": "the boot before"}))
        async with driving(make(tmp_path), boot=False) as driver:
            driver.executor.recover([], {NODE: POOL})
            driver.submit(run(1, "true"))
            assert isinstance(await driver.end(1), ExecutionLost)
            assert isinstance(driver.reports[0], NodeReady)  # first, so that the engine knows better than to try again there
            assert not record(tmp_path).exists()
            await driver.boot(incarnation=2, wipe=False)
            driver.submit(run(2, "true"))
            assert (await driver.exit(2)).exit_code == 0

    play(ask())


def test_a_node_whose_boot_file_cannot_be_read_is_unusable(tmp_path: Path) -> None:
    async def find() -> None:
        async with driving(make(tmp_path)):
            pass
        (node(tmp_path) / "boot").unlink()
        (node(tmp_path) / "boot").mkdir()
        async with driving(make(tmp_path), boot=False) as driver:
            driver.executor.recover([], {NODE: POOL})
            assert (await driver.report(NodeFaulted, NODE)).fault == "unusable"

    play(find())


@only_linux
def test_a_root_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    """Programs run there, and what is reported of it can be recorded."""

    async def use() -> None:
        strange = tmp_path / os.fsdecode(b"\xff")
        async with driving(make(strange)) as driver:
            driver.submit(run(1, "true"))
            assert (await driver.exit(1)).exit_code == 0
        (node(strange) / "boot").unlink()
        async with driving(make(strange), boot=False) as driver:
            driver.executor.recover([], {NODE: POOL})
            assert "\\udcff" in (await driver.report(NodeFaulted, NODE)).reason

    play(use())


def test_a_node_is_private_and_has_azures_folders(tmp_path: Path) -> None:
    async def look() -> None:
        async with driving(make(tmp_path)) as driver:
            driver.submit(run(1, "true"))
            await driver.exit(1)
            assert node(tmp_path).stat().st_mode & 0o777 == 0o700
            names = {path.name for path in node(tmp_path).iterdir() if path.is_dir()}
            assert names >= {"shared", "startup", "workitems", "applications", "fsmounts", "volatile"}
            task = node(tmp_path) / "workitems" / JOB / "job-1" / "t-1"
            assert {path.name for path in task.iterdir()} == {"stdout.txt", "stderr.txt", "wd"}

    play(look())


def test_what_an_earlier_attempt_left_is_removed_behind_the_scenes(tmp_path: Path) -> None:
    async def retry() -> None:
        async with driving(make(tmp_path)) as driver:
            for number in (1, 2):
                driver.submit(run(number, "/bin/sh -c 'mkdir -p deep/er && touch deep/er/file'", task="t-1"))
                assert (await driver.exit(number)).exit_code == 0
            await until(lambda: not list((node(tmp_path) / "volatile").iterdir()), "the earlier folder is gone")

    play(retry())


def test_a_wipe_does_not_leave_the_node(tmp_path: Path) -> None:
    async def wipe() -> None:
        async with driving(make(tmp_path)) as driver:
            outside = tmp_path / "outside"
            outside.mkdir()
            (outside / "precious").touch()
            (node(tmp_path) / "shared" / "link").symlink_to(outside)
            (node(tmp_path) / "top-link").symlink_to(outside)
            await driver.boot(incarnation=2, wipe=True)
            assert (outside / "precious").exists()
            assert list((node(tmp_path) / "shared").iterdir()) == []
            assert not (node(tmp_path) / "top-link").exists()

    play(wipe())


def test_a_claim_outlives_a_wipe(tmp_path: Path) -> None:
    async def wipe() -> None:
        async with driving(make(tmp_path)) as driver:
            command = run(1, script(tmp_path, "count.sh", "echo launched >> launches"))
            driver.submit(command)
            first = await driver.exit(1)
            await driver.boot(incarnation=2, wipe=True)
            after = len(driver.reports)
            driver.submit(command)
            assert await driver.exit(1, after=after) == first
            assert await written(tmp_path / "launches") == ["launched"]

    play(wipe())


def test_a_node_in_use_by_another_ledger_is_left_alone(tmp_path: Path) -> None:
    async def share() -> None:
        other = Driver(make(tmp_path))
        await other.executor.open(other.take, ledger_id="0badcafe")
        async with driving(make(tmp_path)) as driver:
            other.submit(BootNode(pool=POOL, node=NODE, incarnation=1, wipe=True))
            assert LEDGER_ID in (await other.report(NodeFaulted, NODE)).reason
            driver.submit(run(1, "true"))
            assert (await driver.exit(1)).exit_code == 0
        assert (await other.boot()).incarnation == 1
        other.executor.recover([], {NODE: POOL})
        await other.executor.close()

    play(share())
