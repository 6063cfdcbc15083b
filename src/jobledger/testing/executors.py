# ruff: noqa: S101 - asserts are what a suite of tests is made of
"""The conformance suite of executors: what every `Executor` promises, as tests to inherit.

    class TestMyExecutor(ExecutorConformance):
        def make_executor(self, folder: Path) -> Executor:
            return MyExecutor(folder, ...)      # called again with the same folder: the same nodes, as after a restart

Nothing here assumes that there are processes: a test asks for a command line that ends with some code (`ends`) or that runs until it is
stopped (`stays`), and an executor that runs no shell gives its own.  One that runs programs on this machine inherits
`processes.ProcessConformance` instead, which has all of this and more; one whose engine may be killed adds `crashes.CrashConformance`.

No test waits by the clock: each waits for a report or a file, and fails after `BOUND_S`.  What it is made of (`driver`) serves tests of
one's own too.  A test that an executor cannot pass for want of something is left out by name only (`applicability`).
"""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from jobledger.core.commands import RetireNode
from jobledger.core.ids import ExecutionId, TaskId
from jobledger.core.ports import Executor, Folders
from jobledger.core.reports import (
    ExecutionExited,
    ExecutionLost,
    ExecutionNotStarted,
    ExecutionStarted,
    FilesRemoved,
    NodeFaulted,
    NodeReady,
    NodeRetired,
)

from .applicability import Applicability
from .driver import (
    BOUND_S,
    GRACE,
    JOB,
    LEDGER_ID,
    NODE,
    POOL,
    Driver,
    check_reports,
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
from .environment import check_environment

__all__ = [
    "BOUND_S", "GRACE", "JOB", "LEDGER_ID", "NODE", "POOL", "Driver", "ExecutorConformance", "ExecutorSuite", "check_environment", "check_reports",
    "driving", "launch", "lives", "read_output", "read_output_of", "remove", "run", "script", "stop", "until", "written",
]  # fmt: skip


class ExecutorSuite(Applicability):
    """What the suites of executors ask of who inherits them, with answers for executors that run shell programs on this machine."""

    adopts: bool = True
    """What runs goes on without an engine, for the next one to adopt.  Otherwise it ends with its engine, and is lost to the next."""
    missing: str | None = "no-such-program-anywhere"
    """A command line that cannot be launched; None where every one can."""
    output: bytes | None = b"begun\nover\n"
    """What a program of `ends` has written to stdout when it has ended; None where there is none to be read."""

    def make_executor(self, folder: Path) -> Executor:
        """An executor, not open yet, whose nodes live below `folder`."""
        raise NotImplementedError  # The hook that every subclass gives.

    def in_loop(self, main: Coroutine[Any, Any, None]) -> None:
        """Run it to its end, in the kind of event loop that the executor is made for."""
        asyncio.run(main)

    def ends(self, folder: Path, number: int, *, code: int = 0, after_s: float = 0) -> str:
        """A command line for execution `number`, which ends by itself with `code` some seconds after it began."""
        wait = f"sleep {after_s}; " if after_s else ""
        return script(folder, f"ends-{number}.sh", f"echo $$ >> launches-{number}; echo begun; {wait}echo over; exit {code}")

    def stays(self, folder: Path, number: int) -> str:
        """A command line for execution `number`, which runs until it is stopped."""
        return script(folder, f"stays-{number}.sh", f"echo $$ >> launches-{number}; echo begun; exec sleep 1000")

    def launches(self, folder: Path, number: int) -> int | None:
        """How often a program of `ends` or `stays` was launched as that execution, by what it did itself; None where nothing can tell."""
        return len(self._pids(folder, number))

    def living(self, folder: Path, number: int) -> int | None:
        """How many of these run now; None where nothing can tell."""
        return sum(lives(pid) for pid in self._pids(folder, number))

    def may_lack(self) -> frozenset[str]:
        return super().may_lack() | {"missing", "folders"}

    def drive(self, folder: Path, play: Callable[[Driver], Coroutine[Any, Any, None]]) -> None:
        """Run `play` against an open executor with one node, and hold what was reported to be without contradiction."""

        async def run_it() -> None:
            async with driving(self.make_executor(folder)) as driver:
                await play(driver)
            check_reports(driver.reports)

        self.in_loop(run_it())

    async def launched(self, driver: Driver, folder: Path, number: int) -> None:
        """Wait until the execution's start is reported, and its program has got so far that `launches` counts it."""
        await driver.report(ExecutionStarted, number)
        await until(lambda: self.launches(folder, number) != 0, f"the program of execution {number} says that it runs")

    def check_launches(self, folder: Path, number: int, times: int) -> None:
        """Hold that the program was launched so often, and that none of it runs, where that can be told."""
        assert self.launches(folder, number) in (times, None)
        assert not self.living(folder, number)

    def _pids(self, folder: Path, number: int) -> list[int]:
        witness = folder / f"launches-{number}"
        return [int(line) for line in witness.read_text().splitlines()] if witness.exists() else []


class ExecutorConformance(ExecutorSuite):
    """Subclass this and give it `make_executor`."""

    # --- running ---

    @pytest.mark.parametrize("code", [0, 7, 255])
    def test_an_exit_code_is_reported(self, tmp_path: Path, code: int) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, self.ends(tmp_path, 1, code=code)))
            started = await driver.report(ExecutionStarted, 1)
            end = await driver.exit(1)
            assert driver.reports.index(started) < driver.reports.index(end)
            assert (end.exit_code, end.signal, end.stopped, end.leftover) == (code, None, False, ())
            assert end.wall is None or end.wall >= 0
            self.check_launches(tmp_path, 1, 1)

        self.drive(tmp_path, play)

    def test_what_cannot_be_launched_is_said(self, tmp_path: Path) -> None:
        missing = self.need("missing", self.missing)

        async def play(driver: Driver) -> None:
            driver.submit(run(1, missing))
            end = await driver.end(1)
            assert isinstance(end, ExecutionNotStarted)
            assert end.failure is not None
            assert end.failure.code
            assert not any(isinstance(report, ExecutionStarted) for report in driver.reports)

        self.drive(tmp_path, play)

    def test_many_at_once(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(*(run(number, self.ends(tmp_path, number, code=number)) for number in range(1, 51)))
            assert [(await driver.exit(number)).exit_code for number in range(1, 51)] == list(range(1, 51))

        self.drive(tmp_path, play)

    # --- once ---

    def test_a_command_given_again_launches_once(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            command = run(1, self.stays(tmp_path, 1))
            driver.submit(command, command)
            await self.launched(driver, tmp_path, 1)
            after = len(driver.reports)
            driver.submit(command)
            await driver.report(ExecutionStarted, 1, after=after)
            driver.submit(stop(1))
            first = await driver.exit(1)
            after = len(driver.reports)
            driver.submit(command)
            assert await driver.end(1, after=after) == first
            self.check_launches(tmp_path, 1, 1)

        self.drive(tmp_path, play)

    def test_an_end_is_said_again_as_it_was(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            command = run(1, self.ends(tmp_path, 1, code=4))
            driver.submit(command)
            first = await driver.exit(1)
            for _ in range(2):
                after = len(driver.reports)
                driver.submit(command)
                assert await driver.end(1, after=after) == first
            assert first.exit_code == 4
            self.check_launches(tmp_path, 1, 1)

        self.drive(tmp_path, play)

    def test_a_failed_launch_is_not_tried_again(self, tmp_path: Path) -> None:
        """The same execution with a command line that could run now: it is the identity that was used up."""
        missing = self.need("missing", self.missing)

        async def play(driver: Driver) -> None:
            driver.submit(run(1, missing))
            first = await driver.end(1)
            after = len(driver.reports)
            driver.submit(run(1, self.ends(tmp_path, 1)))
            assert await driver.end(1, after=after) == first
            self.check_launches(tmp_path, 1, 0)

        self.drive(tmp_path, play)

    # --- stopping ---

    def test_a_stop_ends_what_runs(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, self.stays(tmp_path, 1)), run(2, self.stays(tmp_path, 2)))
            for number in (1, 2):
                await self.launched(driver, tmp_path, number)
            driver.submit(stop(1), stop(1))
            end = await driver.exit(1)
            assert (end.stopped, end.leftover) == (True, ())
            assert not self.living(tmp_path, 1)
            after = len(driver.reports)
            driver.submit(run(2, self.stays(tmp_path, 2)))  # to find the other one as it was
            await driver.report(ExecutionStarted, 2, after=after)
            driver.submit(stop(2))
            assert (await driver.exit(2)).stopped

        self.drive(tmp_path, play)

    def test_a_stop_before_the_start_forbids_it(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(stop(1))
            assert await driver.end(1) == ExecutionNotStarted(execution=ExecutionId(1), failure=None)
            after = len(driver.reports)
            driver.submit(run(1, self.ends(tmp_path, 1)))
            assert await driver.end(1, after=after) == ExecutionNotStarted(execution=ExecutionId(1), failure=None)
            self.check_launches(tmp_path, 1, 0)

        self.drive(tmp_path, play)

    def test_a_stop_after_the_end_changes_nothing(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, self.ends(tmp_path, 1, code=3)))
            first = await driver.exit(1)
            after = len(driver.reports)
            driver.submit(stop(1))
            assert await driver.exit(1, after=after) == first
            assert not first.stopped

        self.drive(tmp_path, play)

    # --- letting go and adopting ---

    def test_an_end_reaches_the_next_engine(self, tmp_path: Path) -> None:
        """Whether the program ends before or after that engine has come; and the one that let go hears nothing more."""
        command = run(1, self.ends(tmp_path, 1, code=3, after_s=0.2))

        async def play() -> None:
            async with driving(self.make_executor(tmp_path)) as former:
                former.submit(command)
                await self.launched(former, tmp_path, 1)
            heard = len(former.reports)
            async with driving(self.make_executor(tmp_path), boot=False) as driver:
                driver.executor.recover([command], {NODE: POOL})
                ready = await driver.report(NodeReady, NODE)
                assert ready.incarnation is None
                end = await driver.end(1)
                if self.adopts:
                    assert isinstance(end, ExecutionExited)
                    assert (end.exit_code, end.stopped) == (3, False)
                else:
                    assert isinstance(end, ExecutionLost)
                after = len(driver.reports)
                driver.submit(command)
                assert await driver.end(1, after=after) == end
            check_reports(driver.reports)
            assert len(former.reports) == heard
            self.check_launches(tmp_path, 1, 1)

        self.in_loop(play())

    def test_what_was_adopted_can_be_stopped(self, tmp_path: Path) -> None:
        command = run(1, self.stays(tmp_path, 1))

        async def play() -> None:
            async with driving(self.make_executor(tmp_path)) as driver:
                driver.submit(command)
                await self.launched(driver, tmp_path, 1)
            async with driving(self.make_executor(tmp_path), boot=False) as driver:
                driver.executor.recover([command], {NODE: POOL})
                driver.submit(stop(1))
                end = await driver.end(1)
                if self.adopts:
                    assert isinstance(end, ExecutionExited)
                    assert (end.stopped, end.leftover) == (True, ())
                else:
                    assert isinstance(end, ExecutionLost)
                assert not self.living(tmp_path, 1)
            check_reports(driver.reports)

        self.in_loop(play())

    def test_an_execution_nobody_heard_of_is_lost_and_stays_so(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            command = run(1, self.ends(tmp_path, 1))
            driver.executor.recover([command], {})
            assert isinstance(await driver.end(1), ExecutionLost)
            after = len(driver.reports)
            driver.submit(command)
            assert isinstance(await driver.end(1, after=after), ExecutionLost)
            self.check_launches(tmp_path, 1, 0)

        self.drive(tmp_path, play)

    # --- files ---

    @pytest.mark.parametrize("task", [None, "t-1"])
    def test_what_is_not_there_is_removed(self, tmp_path: Path, task: str | None) -> None:
        async def play(driver: Driver) -> None:
            for _ in range(2):
                after = len(driver.reports)
                driver.submit(remove(task, before=3))
                named = None if task is None else TaskId(task)
                removed = FilesRemoved(node=NODE, job=JOB, task=named, before=ExecutionId(3), problem=None)
                assert await driver.report(FilesRemoved, NODE, after=after) == removed

        self.drive(tmp_path, play)

    @pytest.mark.parametrize("whole_job", [False, True])
    def test_a_folder_is_removed_and_no_other(self, tmp_path: Path, whole_job: bool) -> None:
        async def play(driver: Driver) -> None:
            folders = self.need("folders", driver.executor if isinstance(driver.executor, Folders) else None)
            for number in (1, 2):
                driver.submit(run(number, self.ends(tmp_path, number)))
                assert (await driver.exit(number)).exit_code == 0
            mine, other = (Path(folders.folder_path(POOL, NODE, JOB, TaskId(f"t-{number}"))) for number in (1, 2))
            assert mine.is_dir()
            assert other.is_dir()
            driver.submit(remove(None if whole_job else "t-1", before=3))
            assert (await driver.report(FilesRemoved, NODE)).problem is None
            assert (mine.exists(), other.exists()) == (False, not whole_job)

        self.drive(tmp_path, play)

    # --- nodes ---

    def test_a_boot_is_known_by_its_id(self, tmp_path: Path) -> None:
        async def play() -> None:
            async with driving(self.make_executor(tmp_path), boot=False) as driver:
                first = await driver.boot(incarnation=1)
                assert first.incarnation == 1
                assert await driver.boot(incarnation=1) == first
                second = await driver.boot(incarnation=2)
                assert second.boot_id != first.boot_id
            async with driving(self.make_executor(tmp_path), boot=False) as driver:
                driver.executor.recover([], {NODE: POOL})
                found = await driver.report(NodeReady, NODE)
                assert found.incarnation is None
                assert (found.boot_id == second.boot_id) or not self.adopts

        self.in_loop(play())

    def test_a_boot_given_again_ends_nothing(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            command = run(1, self.stays(tmp_path, 1))
            driver.submit(command)
            await self.launched(driver, tmp_path, 1)
            await driver.boot(incarnation=1)
            after = len(driver.reports)
            driver.submit(command)
            await driver.report(ExecutionStarted, 1, after=after)
            driver.submit(stop(1))
            assert (await driver.exit(1)).stopped
            self.check_launches(tmp_path, 1, 1)

        self.drive(tmp_path, play)

    def test_a_boot_ends_what_runs(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, self.stays(tmp_path, 1)))
            await self.launched(driver, tmp_path, 1)
            await driver.boot(incarnation=2)
            assert not self.living(tmp_path, 1)
            await driver.end(1)
            driver.submit(run(2, self.ends(tmp_path, 2, code=5)))
            assert (await driver.exit(2)).exit_code == 5

        self.drive(tmp_path, play)

    def test_a_retired_node_runs_nothing(self, tmp_path: Path) -> None:
        async def play(driver: Driver) -> None:
            driver.submit(run(1, self.stays(tmp_path, 1)))
            await self.launched(driver, tmp_path, 1)
            for _ in range(2):
                after = len(driver.reports)
                driver.submit(RetireNode(pool=POOL, node=NODE, incarnation=1, wipe=True))
                assert (await driver.report(NodeRetired, NODE, after=after)).incarnation == 1
            assert not self.living(tmp_path, 1)
            driver.executor.recover([], {NODE: POOL})
            await driver.report(NodeFaulted, NODE)
            driver.submit(run(2, self.ends(tmp_path, 2)))
            assert isinstance(await driver.end(2), ExecutionNotStarted)
            self.check_launches(tmp_path, 2, 0)

        self.drive(tmp_path, play)
