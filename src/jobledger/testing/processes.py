# ruff: noqa: S101 - asserts are what a suite of tests is made of
"""The conformance suite of executors that run real programs on this machine: all of `ExecutorConformance`, and what a program may expect.

    class TestMyExecutor(ProcessConformance):
        def make_executor(self, folder: Path) -> Executor:
            return MyExecutor(folder, ...)

Programs run for real, write to files below `folder` and are looked up by pid, so the nodes must be this machine.  An executor that lets
what a program leaves behind live for a while after SIGTERM should be made with a short while.

Each way to escape that `ESCAPES` names is a test of its own; an executor that cannot end what escaped so says it in `not_applicable`,
by the name `escape: ...`.
"""

import asyncio
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Final

import attrs
import psutil
import pytest
from attrs import evolve

from jobledger.core.commands import RunCommand, RunFinalizer, RunPreparation, RunRelease, RunStartTask, RunTask
from jobledger.core.ids import SECOND, START_TASK_ID, Duration, ExecutionId, TaskId
from jobledger.core.reports import ExecutionNotStarted, ExecutionSilent, ExecutionStarted, FilesRemoved, NodeReady
from jobledger.core.specs import EnvironmentSetting

from .driver import (
    BOUND_S,
    JOB,
    LEDGER_ID,
    NODE,
    POOL,
    Driver,
    driving,
    launch,
    lives,
    read_output,
    read_output_of,
    remove,
    run,
    script,
    stop,
    until,
    written,
)
from .environment import FACTS, HIDDEN, SHOW_ENVIRONMENT, check_environment, files_with_secret, with_secret
from .executors import ExecutorConformance

ESCAPES: Final = {
    "a child": "{child} &",
    "ignores SIGTERM": "(trap '' TERM; exec {child}) &",
    "session of its own": "setsid {child} &",
    "forks twice": "({child} &)",
    "forks twice into a session of its own": "(setsid {child} &)",
    "forks twice, session of its own, no environment": "(setsid env -i {child} &)",
    "forks twice, session of its own, ignores SIGTERM": "(trap '' TERM; setsid {child} &)",
    "holds stdout open and writes on": "(setsid {child} on &)",
}
"""How a program may start `child` so that it is hard to end, as a line of a shell script."""


class ProcessConformance(ExecutorConformance):
    """Subclass this and give it `make_executor`."""

    python: str = sys.executable
    """A Python that the programs can run."""

    def may_lack(self) -> frozenset[str]:
        return super().may_lack() | {f"escape: {how}" for how in ESCAPES}

    # --- running ---

    def test_how_long_it_ran_is_measured(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, "sleep 0.2"))
            wall = (await driver.exit(1)).wall
            assert wall is not None
            assert SECOND // 5 <= wall < int(BOUND_S) * SECOND

        self.drive(tmp_path, play)

    def test_a_signal_is_reported(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, "/bin/sh -c 'kill -9 $$'"))
            end = await driver.exit(1)
            assert (end.exit_code, end.signal, end.stopped) == (137, 9, False)

        self.drive(tmp_path, play)

    @pytest.mark.parametrize("program", ["no-such-program-anywhere", "/no/such/program", "./no-such-program"])
    def test_a_program_that_is_not_there(self, tmp_path: Path, program: str) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, program))
            end = await driver.end(1)
            assert isinstance(end, ExecutionNotStarted)
            assert end.failure is not None
            assert (end.failure.category, end.failure.code) == ("usererror", "CommandProgramNotFound")
            assert program in end.failure.message
            assert not any(isinstance(report, ExecutionStarted) for report in driver.reports)

        self.drive(tmp_path, play)

    @pytest.mark.parametrize(
        ("mode", "text"), [(0o600, "#!/bin/sh\n"), (0o700, "no format that a system knows\n"), (0o700, "#!/no/such/interpreter\n")]
    )
    def test_a_program_that_cannot_be_executed(self, tmp_path: Path, mode: int, text: str) -> None:
        async def play(driver: Driver) -> None:
            program = tmp_path / "program"
            program.write_text(text)
            program.chmod(mode)
            driver.submit(run(1, shlex.quote(str(program))))
            end = await driver.end(1)
            assert isinstance(end, ExecutionNotStarted)
            assert end.failure is not None
            assert (end.failure.category, end.failure.code) == ("usererror", "CommandLaunchFailed")
            assert str(program) in end.failure.message

        self.drive(tmp_path, play)

    def test_stdin_is_empty(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, "cat"))
            assert (await driver.exit(1)).exit_code == 0

        self.drive(tmp_path, play)

    # --- output and environment ---

    def test_output_is_complete(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            text = "import sys; sys.stdout.write('o' * 3_000_000); sys.stderr.write('e' * 300_000)"
            driver.submit(run(1, f"{shlex.quote(self.python)} -c {shlex.quote(text)}"))
            await driver.exit(1)
            assert read_output(driver.executor, 1) == b"o" * 3_000_000
            assert read_output(driver.executor, 1, "stderr") == b"e" * 300_000

        self.drive(tmp_path, play)

    def test_what_stays_behind_neither_holds_up_nor_cuts_off(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, script(tmp_path, "leave.sh", "sleep 1000 & echo $! > pid\nsetsid sleep 1000 & echo $! >> pid\necho done")))
            end = await driver.exit(1)
            assert (end.exit_code, end.stopped, end.leftover) == (0, False, ())
            assert read_output(driver.executor, 1) == b"done\n"
            assert not any(lives(int(pid)) for pid in await written(tmp_path / "pid", 2))

        self.drive(tmp_path, play)

    def test_a_later_attempt_finds_its_folder_empty(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            command_line = "/bin/sh -c 'mkdir -p sub && touch sub/left; ls -A | wc -l; test ! -e old; result=$?; touch old; exit $result'"
            for number in (1, 2):
                driver.submit(run(number, command_line, task="t-1"))
                assert (await driver.exit(number)).exit_code == 0
            assert read_output(driver.executor, 1).split() == [b"1"]

        self.drive(tmp_path, play)

    @pytest.mark.parametrize("kind", ["starttask", "preparation", "task", "release", "finalizer"])
    def test_the_environment_is_that_of_azure(self, tmp_path: Path, kind: str) -> None:
        settings = {
            "MINE": "two\nlines, 'quotes' and \u00fc",
            "AZ_BATCH_POOL_ID": "forged",
            "JOBLEDGER_EXECUTION": "forged",
            "JOBLEDGER_TASKS_FAILED": "forged",
        }
        command_line = f"{shlex.quote(self.python)} -c {shlex.quote(SHOW_ENVIRONMENT)}"

        async def play(driver: Driver) -> None:
            command: RunCommand
            match kind:
                case "starttask":
                    command = RunStartTask(launch=launch(1, command_line, job=None, task=START_TASK_ID, environment=settings))
                case "preparation":
                    command = RunPreparation(launch=launch(1, command_line, task="prep", environment=settings))
                case "release":
                    command = RunRelease(launch=launch(1, command_line, task="rel", environment=settings))
                case "finalizer":
                    facts = tuple(EnvironmentSetting(name=name, value=value) for name, value in FACTS.items())
                    command = RunFinalizer(launch=evolve(launch(1, command_line, task="last", environment=settings), facts=facts))
                case _:
                    command = RunTask(launch=launch(1, command_line, task="t", environment=settings))
            driver.submit(command)
            assert (await driver.exit(1)).exit_code == 0
            variables, here = json.loads(read_output_of(driver.executor, command.launch))
            check_environment(variables, here, kind, command.launch, LEDGER_ID)
            assert variables["MINE"] == settings["MINE"]
            assert variables["PATH"] == os.environ["PATH"]

        self.drive(tmp_path, play)

    def test_a_secret_is_written_nowhere(self, tmp_path: Path) -> None:
        sees = script(tmp_path, "sees.sh", f'test "${{#TOKEN}}" = {len(HIDDEN)} && echo yes > seen; until test -e go; do sleep 0.02; done')

        async def play(driver: Driver) -> None:
            driver.submit(with_secret(run(1, sees)), with_secret(run(2, str(tmp_path / "none"))))
            assert HIDDEN not in repr(await driver.end(2))
            assert await written(tmp_path / "seen") == ["yes"]
            assert files_with_secret(tmp_path) == []
            (tmp_path / "go").touch()
            await driver.exit(1)

        self.drive(tmp_path, play)
        assert files_with_secret(tmp_path) == []

    def test_a_failed_launch_is_not_tried_again_when_its_program_has_come(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            program = tmp_path / "program"
            driver.submit(run(1, shlex.quote(str(program))))
            first = await driver.end(1)
            program.write_text("#!/bin/sh\n")
            program.chmod(0o700)
            after = len(driver.reports)
            driver.submit(run(1, shlex.quote(str(program))))
            assert await driver.end(1, after=after) == first

        self.drive(tmp_path, play)

    # --- stopping ---

    def test_a_stop_lets_the_program_end_in_its_own_way(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            text = "trap 'sleep 0.05; echo cleaned up; exit 5' TERM; touch ready; while :; do sleep 0.02; done"
            driver.submit(run(1, script(tmp_path, "polite.sh", text)))
            await until((tmp_path / "ready").exists, "the program is ready")
            driver.submit(stop(1, grace=Duration(int(BOUND_S) * SECOND)))
            end = await driver.exit(1)
            assert (end.exit_code, end.signal, end.stopped, end.leftover) == (5, None, True, ())
            assert read_output(driver.executor, 1) == b"cleaned up\n"

        self.drive(tmp_path, play)

    def test_a_stop_ends_the_stubborn_and_all_their_children(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            child = script(tmp_path, "child.sh", "trap '' TERM; sleep 1000 & echo $! >> pids; echo $$ >> pids; while :; do sleep 1000; done")
            driver.submit(
                run(1, script(tmp_path, "stubborn.sh", f"trap '' TERM; {child} & setsid {child} & echo $$ >> pids; while :; do sleep 1000; done"))
            )
            pids = [int(line) for line in await written(tmp_path / "pids", 5)]
            driver.submit(stop(1))
            end = await driver.exit(1)
            assert (end.exit_code, end.signal, end.stopped, end.leftover) == (137, 9, True, ())
            assert not any(lives(pid) for pid in pids)

        self.drive(tmp_path, play)

    def test_a_stop_reaches_a_program_that_stopped_itself(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, script(tmp_path, "halt.sh", "echo $$ > pid; kill -STOP $$; sleep 1000")))
            (pid,) = await written(tmp_path / "pid")
            await until(lambda: psutil.Process(int(pid)).status() == psutil.STATUS_STOPPED, "the program stops itself")
            driver.submit(stop(1, grace=Duration(int(BOUND_S) * SECOND)))
            end = await driver.exit(1)
            assert (end.exit_code, end.signal, end.stopped) == (143, 15, True)

        self.drive(tmp_path, play)

    # --- stubborn children ---

    @pytest.mark.parametrize("stopped", [False, True], ids=["its program ends", "its program is stopped"])
    @pytest.mark.parametrize("how", ESCAPES)
    def test_what_escapes_is_ended_with_its_program(self, tmp_path: Path, how: str, stopped: bool) -> None:
        if f"escape: {how}" in self.not_applicable:
            self.lack(f"escape: {how}")
        text = 'sleep 1000 & echo $! >> pids; echo $$ >> pids; while test -n "$1" && echo on; do sleep 0.02; done; wait; sleep 1000'
        child = script(tmp_path, "child.sh", text)
        then = "exec sleep 1000" if stopped else "echo over; exit 3"
        text = f"{ESCAPES[how].format(child=child)}\nuntil test -e go; do sleep 0.02; done; {then}"

        async def play(driver: Driver) -> None:
            driver.submit(run(1, script(tmp_path, "parent.sh", text)))
            pids = [int(line) for line in await written(tmp_path / "pids", 2)]
            assert all(lives(pid) for pid in pids)
            (tmp_path / "go").touch()
            if stopped:
                driver.submit(stop(1))
            end = await driver.exit(1)
            assert end.stopped is stopped
            assert stopped or end.exit_code == 3
            assert [pid for pid in pids if lives(pid)] == []
            assert end.leftover == ()
            assert stopped or b"over\n" in read_output(driver.executor, 1)

        self.drive(tmp_path, play)

    # --- letting go and adopting ---

    @pytest.mark.parametrize("ends", ["while nobody listens", "after it was adopted"])
    def test_what_runs_is_adopted(self, tmp_path: Path, ends: str) -> None:
        command = run(1, script(tmp_path, "wait.sh", "echo $$ >> launches; until test -e go; do sleep 0.02; done; exit 3"))

        async def play() -> None:
            async with driving(self.make_executor(tmp_path)) as driver:
                driver.submit(command)
                (pid,) = await written(tmp_path / "launches")
            if ends == "while nobody listens":
                (tmp_path / "go").touch()
                await until(lambda: not lives(int(pid)), "the program ends")
            async with driving(self.make_executor(tmp_path), boot=False) as driver:
                driver.executor.recover([command], {NODE: POOL})
                await driver.report(NodeReady, NODE)
                assert ends == "while nobody listens" or lives(int(pid))
                (tmp_path / "go").touch()
                assert (await driver.exit(1)).exit_code == 3
                assert len(await written(tmp_path / "launches")) == 1

        asyncio.run(play())

    def test_what_was_adopted_is_stopped_as_a_whole(self, tmp_path: Path) -> None:
        command = run(1, script(tmp_path, "wait.sh", "echo $$ > pid; exec sleep 1000"))

        async def play() -> None:
            async with driving(self.make_executor(tmp_path)) as driver:
                driver.submit(command)
                (pid,) = await written(tmp_path / "pid")
            async with driving(self.make_executor(tmp_path), boot=False) as driver:
                driver.executor.recover([command], {NODE: POOL})
                driver.submit(stop(1))
                end = await driver.exit(1)
                assert (end.exit_code, end.stopped) == (143, True)
                assert not lives(int(pid))

        asyncio.run(play())

    # --- files ---

    @pytest.mark.parametrize("whole_job", [False, True])
    def test_files_are_removed_and_nothing_else(self, tmp_path: Path, whole_job: bool) -> None:
        kept = tmp_path / "kept"
        kept.mkdir()
        (kept / "file").write_text("not yours")

        async def play(driver: Driver) -> None:
            text = f"ln -s {shlex.quote(str(kept))} link; mkdir -p deep/er closed; touch deep/er/file; chmod 0 closed; echo $AZ_BATCH_TASK_DIR"
            for number in (1, 2):
                driver.submit(run(number, f"/bin/sh -c {shlex.quote(text)}"))
                assert (await driver.exit(number)).exit_code == 0
            mine, other = (Path(read_output(driver.executor, number).decode().strip()) for number in (1, 2))
            for _ in range(2):  # What is gone already is removed.
                after = len(driver.reports)
                driver.submit(remove(None if whole_job else "t-1", before=3))
                report = await driver.report(FilesRemoved, NODE, after=after)
                task = None if whole_job else TaskId("t-1")
                assert report == FilesRemoved(node=NODE, job=JOB, task=task, before=ExecutionId(3), problem=None)
                assert not mine.exists()
                assert other.exists() != whole_job
            assert (kept / "file").read_text() == "not yours"
            driver.submit(run(3, "echo again", task="t-1"))
            assert (await driver.exit(3)).exit_code == 0
            assert read_output(driver.executor, 1) == b"again\n"

        self.drive(tmp_path, play)

    @pytest.mark.parametrize("task", [None, "t-1"])
    def test_files_of_what_runs_are_not_removed(self, tmp_path: Path, task: str | None) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, script(tmp_path, "stay.sh", "echo $AZ_BATCH_TASK_WORKING_DIR >> mine; exec sleep 1000")))
            (mine,) = await written(tmp_path / "mine")
            driver.submit(remove(task, before=1))
            assert (await driver.report(FilesRemoved, NODE)).problem
            await until(Path(mine).exists, "it is still there")
            driver.submit(stop(1))
            await driver.exit(1)

        self.drive(tmp_path, play)

    # --- nodes ---

    def test_silence_is_said_of_programs_that_have_a_limit_and_write_nothing(self, tmp_path: Path) -> None:
        """Each byte on stdout or stderr begins it anew; programs without a limit, and those that have ended, are never said to be silent."""
        talks = script(tmp_path, "talk.sh", "for turn in 1 2 3 4 5 6; do sleep 0.25; echo $turn >&2; done; echo over > said; exec sleep 1000")

        async def play(driver: Driver) -> None:
            driver.submit(_listened_to(run(1, talks), SECOND), run(2, "sleep 1000"), _listened_to(run(3, "sleep 0.1"), SECOND // 2))
            first = await driver.report(ExecutionSilent, 1)
            assert (tmp_path / "said").exists(), "it was said before the program fell silent"
            assert SECOND <= first.silent_for < 10 * SECOND
            assert {report.execution for report in driver.reports if isinstance(report, ExecutionSilent)} == {1}
            driver.submit(stop(1), stop(2))
            for number in (1, 2, 3):
                await driver.end(number)

        self.drive(tmp_path, play)

    def test_silence_is_said_of_what_was_adopted(self, tmp_path: Path) -> None:
        """And the time before counts."""
        command = _listened_to(run(1, "sleep 1000"), 2 * SECOND)

        async def play() -> None:
            async with driving(self.make_executor(tmp_path)) as driver:
                driver.submit(command)
                await driver.report(ExecutionStarted, 1)
            async with driving(self.make_executor(tmp_path), boot=False) as driver:
                driver.executor.recover([command], {NODE: POOL})
                silent = await driver.report(ExecutionSilent, 1)
                assert silent.silent_for >= 2 * SECOND
                driver.submit(stop(1))
                await driver.end(1)

        asyncio.run(play())

    def test_a_boot_ends_what_runs_and_wipes_if_asked(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            text = "touch $AZ_BATCH_NODE_SHARED_DIR/kept; echo $$ >> pids; exec sleep 1000"
            driver.submit(run(1, script(tmp_path, "leave.sh", text)))
            await written(tmp_path / "pids")
            await driver.boot(incarnation=2, wipe=False)
            assert (await driver.exit(1)).stopped
            driver.submit(run(2, "/bin/sh -c 'test -e $AZ_BATCH_NODE_SHARED_DIR/kept'"))
            assert (await driver.exit(2)).exit_code == 0
            await driver.boot(incarnation=3, wipe=True)
            driver.submit(run(3, "/bin/sh -c 'test -e $AZ_BATCH_NODE_SHARED_DIR/kept'"))
            assert (await driver.exit(3)).exit_code == 1

        self.drive(tmp_path, play)


def _listened_to(command: RunTask, limit: int) -> RunTask:
    """The same command, whose silence is limited."""
    return attrs.evolve(command, launch=attrs.evolve(command.launch, silent_after=Duration(limit)))
