"""Executors that break one promise each, and suites over them that have to fail: `test_suites_can_fail.py` runs this file in a pytest of its own.

All of them pretend: nothing runs, in virtual time.  `TestRight` breaks no promise, and passes; each other says in `caught_by` which tests
fail for it, and no other may.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from attrs import evolve

from jobledger.core.commands import BootNode, Command, Launch, RemoveFiles, RetireNode, RunCommand, StopExecution
from jobledger.core.errors import ExecutorError
from jobledger.core.failure import FailureInfo
from jobledger.core.ids import ExecutionId, JobId, NodeId, PoolId, TaskId
from jobledger.core.ports import ReportSink
from jobledger.core.reports import (
    ExecutionExited,
    ExecutionLost,
    ExecutionNotStarted,
    ExecutionStarted,
    FilesRemoved,
    NodeFaulted,
    NodeReady,
    NodeRetired,
    Report,
)
from jobledger.testing.executors import ExecutorConformance
from jobledger.virtual import run_virtually

Ended = ExecutionExited | ExecutionNotStarted | ExecutionLost
NOWHERE = FailureInfo(category="usererror", code="CommandProgramNotFound", message="there is no such program")


class Machines:
    """What there is whether or not an engine looks: nodes, what runs there, and what is on record."""

    def __init__(self) -> None:
        self.boots: dict[NodeId, int] = {}
        self.ends: dict[int, Ended] = {}
        self.running: dict[int, tuple[NodeId, asyncio.TimerHandle | None]] = {}
        self.launches: Counter[int] = Counter()
        self.tell: Callable[[Report], None] = lambda report: None


class Pretender:
    """Keeps every promise."""

    def __init__(self, machines: Machines, folder: Path) -> None:
        self.machines = machines
        self.folder = folder

    async def open(self, sink: ReportSink, *, ledger_id: str) -> None:
        self.machines.tell = sink

    async def failed(self) -> ExecutorError:
        return await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        self.machines.tell = lambda report: None

    def recover(self, commands: Sequence[RunCommand], nodes: Mapping[NodeId, PoolId]) -> None:
        for command in commands:
            self.adopt(command.launch)
        for node in nodes:
            if (boot := self.machines.boots.get(node)) is None:
                self.say(NodeFaulted(node=node, fault="unusable", reason="it is off"))
            else:
                self.say(NodeReady(node=node, boot_id=self.boot_id(node, boot)))

    def submit(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case BootNode():
                    self.boot(command)
                case RetireNode():
                    self.clear(command.node)
                    self.machines.boots.pop(command.node, None)
                    self.say(NodeRetired(node=command.node, incarnation=command.incarnation))
                case RemoveFiles():
                    self.remove(command)
                case StopExecution():
                    self.stop(command.execution)
                case _:
                    self.launch(command.launch)

    def node_path(self, pool: PoolId, node: NodeId) -> str:
        return f"{self.folder}/{node}"

    def folder_path(self, pool: PoolId, node: NodeId, job: JobId | None, task: TaskId) -> str:
        return f"{self.folder}/{node}/{job}/{task}"

    # --- what the wrong ones do otherwise ---

    def say(self, report: Report) -> None:
        self.machines.tell(report)

    def boot_id(self, node: NodeId, incarnation: int) -> str:
        return f"{node}/{incarnation}"

    def adopt(self, launch: Launch) -> None:
        number = launch.execution
        if number not in self.machines.running:
            lost = ExecutionLost(execution=number, reason="nobody has heard of it")
            self.say(self.machines.ends.setdefault(number, lost))

    def launch(self, launch: Launch) -> None:
        number = launch.execution
        if number in self.machines.ends:
            self.say(self.machines.ends[number])
        elif number in self.machines.running:
            self.say(ExecutionStarted(execution=number))
        elif launch.node not in self.machines.boots or launch.command_line == "missing":
            self.end(ExecutionNotStarted(execution=number, failure=NOWHERE))
        else:
            self.begin(launch)

    def begin(self, launch: Launch) -> None:
        number = launch.execution
        self.machines.launches[number] += 1
        Path(self.folder_path(launch.pool, launch.node, launch.job, launch.task)).mkdir(parents=True, exist_ok=True)
        word, *arguments = launch.command_line.split()
        timer = None
        if word == "ends":
            code, after_s = arguments
            exited = ExecutionExited(execution=number, exit_code=int(code))
            timer = asyncio.get_running_loop().call_later(float(after_s), self.end, exited)
        self.machines.running[number] = launch.node, timer
        self.say(ExecutionStarted(execution=number))

    def stop(self, number: ExecutionId) -> None:
        if number in self.machines.running:
            self.end(ExecutionExited(execution=number, exit_code=143, signal=15, stopped=True))
        else:
            self.end(self.machines.ends.get(number) or ExecutionNotStarted(execution=number))

    def end(self, report: Ended) -> None:
        _, timer = self.machines.running.pop(report.execution, (None, None))
        if timer is not None:
            timer.cancel()
        self.machines.ends[report.execution] = report
        self.say(report)

    def boot(self, command: BootNode) -> None:
        if self.machines.boots.get(command.node) != command.incarnation:
            self.clear(command.node)
            self.machines.boots[command.node] = command.incarnation
        boot_id = self.boot_id(command.node, command.incarnation)
        self.say(NodeReady(node=command.node, boot_id=boot_id, incarnation=command.incarnation))

    def clear(self, node: NodeId) -> None:
        for number, (where, _) in list(self.machines.running.items()):
            if where == node:
                self.stop(ExecutionId(number))

    def remove(self, command: RemoveFiles) -> None:
        shutil.rmtree(Path(self.node_path(command.pool, command.node), command.job, command.task or ""), ignore_errors=True)
        self.say(FilesRemoved(node=command.node, job=command.job, task=command.task, before=command.before))


class TestRight(ExecutorConformance):
    """Passes: what fails below fails for what is wrong there."""

    missing = "missing"
    output = None
    executor: type[Pretender] = Pretender
    caught_by: tuple[str, ...] = ()
    worlds: ClassVar[dict[Path, Machines]] = {}

    def make_executor(self, folder: Path) -> Pretender:
        return self.executor(self.worlds.setdefault(folder, Machines()), folder)

    def in_loop(self, main: Coroutine[Any, Any, None]) -> None:
        run_virtually(main)

    def ends(self, folder: Path, number: int, *, code: int = 0, after_s: float = 0) -> str:
        return f"ends {code} {after_s}"

    def stays(self, folder: Path, number: int) -> str:
        return "stays"

    def launches(self, folder: Path, number: int) -> int:
        return self.worlds[folder].launches[number]

    def living(self, folder: Path, number: int) -> int:
        return number in self.worlds[folder].running


class LaunchesAgain(Pretender):
    def launch(self, launch: Launch) -> None:
        self.begin(launch) if launch.execution in self.machines.running else super().launch(launch)


class TestLaunchesAgain(TestRight):
    executor = LaunchesAgain
    caught_by = (
        "test_a_command_given_again_launches_once",
        "test_a_boot_given_again_ends_nothing",
    )


class RunsAgain(Pretender):
    def launch(self, launch: Launch) -> None:
        self.machines.ends.pop(launch.execution, None)
        super().launch(launch)


class TestRunsAgain(TestRight):
    executor = RunsAgain
    caught_by = (
        "test_a_command_given_again_launches_once",
        "test_an_end_is_said_again_as_it_was",
        "test_a_failed_launch_is_not_tried_again",
        "test_a_stop_before_the_start_forbids_it",
        "test_an_end_reaches_the_next_engine",
        "test_an_execution_nobody_heard_of_is_lost_and_stays_so",
    )


class LaunchesWhatItRecovers(Pretender):
    def adopt(self, launch: Launch) -> None:
        self.launch(launch)


class TestLaunchesWhatItRecovers(TestRight):
    executor = LaunchesWhatItRecovers
    caught_by = ("test_an_execution_nobody_heard_of_is_lost_and_stays_so",)


class ForgetsWhatItAdopted(Pretender):
    def adopt(self, launch: Launch) -> None:
        _, timer = self.machines.running.pop(launch.execution, (None, None))
        if timer is not None:
            timer.cancel()


class TestForgetsWhatItAdopted(TestRight):
    executor = ForgetsWhatItAdopted
    caught_by = (
        "test_an_end_reaches_the_next_engine",
        "test_what_was_adopted_can_be_stopped",
        "test_an_execution_nobody_heard_of_is_lost_and_stays_so",
    )


class GuessesTheEnd(Pretender):
    def adopt(self, launch: Launch) -> None:
        if launch.execution not in self.machines.running:
            self.end(ExecutionExited(execution=launch.execution, exit_code=0))


class TestGuessesTheEnd(TestRight):
    executor = GuessesTheEnd
    caught_by = ("test_an_execution_nobody_heard_of_is_lost_and_stays_so",)


class TellsTwoEnds(Pretender):
    def end(self, report: Ended) -> None:
        super().end(report)
        if isinstance(report, ExecutionExited) and not report.stopped:
            self.say(evolve(report, exit_code=report.exit_code + 1))


class TestTellsTwoEnds(TestRight):
    executor = TellsTwoEnds
    caught_by = (
        "test_an_exit_code_is_reported",
        "test_many_at_once",
        "test_an_end_is_said_again_as_it_was",
        "test_a_stop_after_the_end_changes_nothing",
        "test_an_end_reaches_the_next_engine",
        "test_a_folder_is_removed_and_no_other",
        "test_a_boot_ends_what_runs",
    )


class SwallowsStops(Pretender):
    def stop(self, number: ExecutionId) -> None:
        if number not in self.machines.running:
            super().stop(number)


class TestSwallowsStops(TestRight):
    executor = SwallowsStops
    caught_by = (
        "test_a_command_given_again_launches_once",
        "test_a_stop_ends_what_runs",
        "test_what_was_adopted_can_be_stopped",
        "test_a_boot_given_again_ends_nothing",
        "test_a_boot_ends_what_runs",
        "test_a_retired_node_runs_nothing",
    )


class StopsTheNeighbours(Pretender):
    def stop(self, number: ExecutionId) -> None:
        super().stop(number)
        for other in list(self.machines.running):
            super().stop(ExecutionId(other))


class TestStopsTheNeighbours(TestRight):
    executor = StopsTheNeighbours
    caught_by = ("test_a_stop_ends_what_runs",)


class ForgetsStops(Pretender):
    def stop(self, number: ExecutionId) -> None:
        super().stop(number)
        if isinstance(self.machines.ends.get(number), ExecutionNotStarted):
            del self.machines.ends[number]


class TestForgetsStops(TestRight):
    executor = ForgetsStops
    caught_by = ("test_a_stop_before_the_start_forbids_it",)


class TakesAnEndForAStop(Pretender):
    def stop(self, number: ExecutionId) -> None:
        if isinstance(end := self.machines.ends.get(number), ExecutionExited):
            self.machines.ends[number] = evolve(end, stopped=True)
        super().stop(number)


class TestTakesAnEndForAStop(TestRight):
    executor = TakesAnEndForAStop
    caught_by = ("test_a_stop_after_the_end_changes_nothing",)


class TriesAgain(Pretender):
    def launch(self, launch: Launch) -> None:
        if isinstance(end := self.machines.ends.get(launch.execution), ExecutionNotStarted) and end.failure is not None:
            del self.machines.ends[launch.execution]
        super().launch(launch)


class TestTriesAgain(TestRight):
    executor = TriesAgain
    caught_by = ("test_a_failed_launch_is_not_tried_again",)


class SaysThatNothingStarted(Pretender):
    def say(self, report: Report) -> None:
        super().say(ExecutionStarted(execution=report.execution) if isinstance(report, ExecutionNotStarted) else report)


class TestSaysThatNothingStarted(TestRight):
    executor = SaysThatNothingStarted
    caught_by = (
        "test_what_cannot_be_launched_is_said",
        "test_a_failed_launch_is_not_tried_again",
        "test_a_stop_before_the_start_forbids_it",
        "test_a_retired_node_runs_nothing",
    )


class HasOneBootId(Pretender):
    def boot_id(self, node: NodeId, incarnation: int) -> str:
        return str(node)


class TestHasOneBootId(TestRight):
    executor = HasOneBootId
    caught_by = ("test_a_boot_is_known_by_its_id",)


class BootsAgain(Pretender):
    def boot(self, command: BootNode) -> None:
        self.clear(command.node)
        super().boot(command)


class TestBootsAgain(TestRight):
    executor = BootsAgain
    caught_by = ("test_a_boot_given_again_ends_nothing",)


class LetsRunOverABoot(Pretender):
    def clear(self, node: NodeId) -> None:
        return


class TestLetsRunOverABoot(TestRight):
    executor = LetsRunOverABoot
    caught_by = (
        "test_a_boot_ends_what_runs",
        "test_a_retired_node_runs_nothing",
    )


class RemovesTooMuch(Pretender):
    def remove(self, command: RemoveFiles) -> None:
        super().remove(command)
        shutil.rmtree(Path(self.node_path(command.pool, command.node), command.job), ignore_errors=True)


class TestRemovesTooMuch(TestRight):
    executor = RemovesTooMuch
    caught_by = ("test_a_folder_is_removed_and_no_other",)


class SaysThatItRemoved(Pretender):
    def remove(self, command: RemoveFiles) -> None:
        self.say(FilesRemoved(node=command.node, job=command.job, task=command.task, before=command.before))


class TestSaysThatItRemoved(TestRight):
    executor = SaysThatItRemoved
    caught_by = ("test_a_folder_is_removed_and_no_other",)


class TalksOn(Pretender):
    """Its sink goes on hearing what the next engine hears."""

    async def open(self, sink: ReportSink, *, ledger_id: str) -> None:
        former = self.machines.tell

        def tell(report: Report) -> None:
            former(report)
            sink(report)

        self.machines.tell = tell

    async def close(self) -> None:
        return


class TestTalksOn(TestRight):
    executor = TalksOn
    caught_by = ("test_an_end_reaches_the_next_engine",)


class TestExcusesItself(TestRight):
    """Says that it has no folders, and has them; and excuses what no test asks for."""

    not_applicable: ClassVar = {"folders": "none here", "stopping": "no time"}
    caught_by = (
        "test_a_folder_is_removed_and_no_other",
        "test_what_is_not_applicable_is_known_by_name",
    )


class TestHasNothingToMiss(TestRight):
    """Gives no command line that cannot be launched, and does not say why."""

    missing = None
    caught_by = (
        "test_what_cannot_be_launched_is_said",
        "test_a_failed_launch_is_not_tried_again",
    )
