# ruff: noqa: S101 - what a test of an executor waits for must be so
"""Playing the engine's part: a driver that gives commands to an executor and waits for its reports, and the commands to give.

No wait is by the clock: each is for a report or a file, and fails after `BOUND_S`.  `executors` has the conformance suite that is made of these.
"""

import asyncio
import shlex
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, TypeVar

import psutil
import pytest

from jobledger.core.commands import BootNode, Command, Launch, RemoveFiles, RunTask, StopExecution
from jobledger.core.ids import SECOND, Duration, ExecutionId, JobId, NodeId, PoolId, TaskId
from jobledger.core.ports import Executor, Outputs
from jobledger.core.reports import ExecutionExited, ExecutionLost, ExecutionNotStarted, ExecutionSilent, ExecutionStarted, NodeReady, Report
from jobledger.core.specs import EnvironmentSetting

BOUND_S: Final = 20.0
"""What no test should ever need; an executor that hangs fails instead of hanging the suite."""
POLL_S: Final = 0.01
LEDGER_ID: Final = "c0ffee00"
POOL: Final = PoolId("p")
NODE: Final = NodeId("p-1")
JOB: Final = JobId("job")
GRACE: Final = Duration(SECOND // 5)

Ended = ExecutionExited | ExecutionNotStarted | ExecutionLost
"""The reports that say how an execution ended."""

R = TypeVar("R", bound=Report)


class Driver:
    """Plays the engine: gives commands to an executor and waits for its reports."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.reports: list[Report] = []
        self._news = asyncio.Event()

    def take(self, report: Report) -> None:
        """The executor's sink."""
        self.reports.append(report)
        self._news.set()

    def submit(self, *commands: Command) -> None:
        self.executor.submit(commands)

    async def report(self, kind: type[R], about: int | str, *, after: int = 0) -> R:
        """The first report of that kind about that execution or node; the first `after` reports are passed over."""
        async with asyncio.timeout(BOUND_S):
            while True:
                self._news.clear()
                for report in self.reports[after:]:
                    if isinstance(report, kind) and about_of(report) == about:
                        return report
                await self._news.wait()

    async def end(self, execution: int, *, after: int = 0) -> Ended:
        """The first report that says how the execution ended."""
        return await self.report(Ended, execution, after=after)  # type: ignore[arg-type]  # a union of classes serves isinstance

    async def exit(self, execution: int, *, after: int = 0) -> ExecutionExited:
        """Its end, which must be an exit."""
        end = await self.end(execution, after=after)
        assert isinstance(end, ExecutionExited), end
        return end

    async def boot(self, node: NodeId = NODE, *, incarnation: int = 1, wipe: bool = True) -> NodeReady:
        after = len(self.reports)
        self.submit(BootNode(pool=POOL, node=node, incarnation=incarnation, wipe=wipe))
        return await self.report(NodeReady, node, after=after)


def about_of(report: Report) -> int | str:
    """What a report is about: an execution's number or a node's id."""
    if isinstance(report, ExecutionStarted | ExecutionExited | ExecutionNotStarted | ExecutionLost | ExecutionSilent):
        return report.execution
    return report.node


def check_reports(reports: Sequence[Report]) -> None:
    """Hold that nothing reported contradicts what was reported before: an execution has one end, however often it is told."""
    ends: dict[int, Report] = {}
    for report in reports:
        if isinstance(report, Ended):
            assert ends.setdefault(report.execution, report) == report


@asynccontextmanager
async def driving(executor: Executor, *, boot: bool = True) -> AsyncIterator[Driver]:
    """An open executor with a node to run on."""
    driver = Driver(executor)
    await executor.open(driver.take, ledger_id=LEDGER_ID)
    try:
        if boot:
            await driver.boot()
        yield driver
    finally:
        await executor.close()


def run(number: int, command_line: str, *, task: str | None = None, environment: Mapping[str, str] | None = None) -> RunTask:
    """A task of its own to run; an execution of the same `task` is a later attempt."""
    return RunTask(launch=launch(number, command_line, task=task or f"t-{number}", environment=environment))


def launch(number: int, command_line: str, *, task: str, job: JobId | None = JOB, environment: Mapping[str, str] | None = None) -> Launch:
    return Launch(
        execution=ExecutionId(number),
        pool=POOL,
        node=NODE,
        job=job,
        task=TaskId(task),
        attempt=1,
        command_line=command_line,
        environment=tuple(EnvironmentSetting(name=name, value=value) for name, value in (environment or {}).items()),
        preparation=TaskId("prep") if job is not None else None,
    )


def stop(number: int, *, grace: Duration = GRACE) -> StopExecution:
    return StopExecution(execution=ExecutionId(number), pool=POOL, node=NODE, grace=grace)


def remove(task: str | None, *, before: int) -> RemoveFiles:
    """Remove the folder of a task, or with None those of the whole job."""
    return RemoveFiles(pool=POOL, node=NODE, job=JOB, task=TaskId(task) if task is not None else None, before=ExecutionId(before))


def script(folder: Path, name: str, text: str) -> str:
    """Write a shell script whose working directory for helper files is `folder`; the command line that runs it."""
    path = folder / name
    path.write_text(f"cd {shlex.quote(str(folder))}\n{text}\n")
    return f"/bin/sh {shlex.quote(str(path))}"


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something outside that nothing announces."""
    try:
        async with asyncio.timeout(BOUND_S):
            while not condition():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        pytest.fail(f"waited {BOUND_S} s in vain: {what}")


async def written(path: Path, lines: int = 1) -> list[str]:
    """The lines of a file that programs write, as soon as there are that many."""
    await until(lambda: path.exists() and path.read_text().count("\n") >= lines, f"{lines} lines in {path}")
    return path.read_text().splitlines()  # noqa: ASYNC240 - a file of a few bytes, in a test


def lives(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def read_output(executor: Executor, number: int, which: Literal["stdout", "stderr"] = "stdout") -> bytes:
    """What the task `t-<number>` wrote."""
    return read_output_of(executor, launch(number, "", task=f"t-{number}"), which)


def read_output_of(executor: Executor, of: Launch, which: Literal["stdout", "stderr"] = "stdout") -> bytes:
    outputs: Outputs = executor  # type: ignore[assignment]  # asked only of executors that can tell
    return Path(outputs.output_path(of.pool, of.node, of.job, of.task, which)).read_bytes()
