"""Executors that break a promise only when their engine is killed: `test_suites_can_fail.py` runs this file in a pytest of its own.

Their programs are over as soon as they are launched, and all that is known of them lies in files.  `TestRight` passes; each other says in
`caught_by` which tests fail for it, and no other may.
"""

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from jobledger.core.commands import BootNode, Command, Launch, RunCommand, RunTask, StopExecution
from jobledger.core.errors import ExecutorError
from jobledger.core.ids import ExecutionId, NodeId, PoolId
from jobledger.core.ports import ReportSink
from jobledger.core.reports import ExecutionExited, ExecutionLost, ExecutionNotStarted, ExecutionStarted, NodeReady, Report
from jobledger.testing.crashes import NO_MACHINERY, CrashConformance

ALL = ("test_an_engine_is_killed_when", "test_an_engine_is_killed_as_it_recovers", "test_an_engine_is_killed_as_it_stops_a_program")


class Bookkeeper:
    """Keeps every promise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def open(self, sink: ReportSink, *, ledger_id: str) -> None:
        self.sink = sink

    async def failed(self) -> ExecutorError:
        return await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        self.sink = lambda report: None

    def recover(self, commands: Sequence[RunCommand], nodes: Mapping[NodeId, PoolId]) -> None:
        for node in nodes:
            self.say(NodeReady(node=node, boot_id="boot"))
        for command in commands:
            self.tell_end(command.launch.execution)

    def submit(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case BootNode():
                    self.say(NodeReady(node=command.node, boot_id="boot", incarnation=command.incarnation))
                case StopExecution():
                    self.stop(command.execution)
                case RunTask():
                    self.launch(command.launch)
                case _:
                    raise AssertionError(f"no test here asks for {command}")

    def launch(self, launch: Launch) -> None:
        number = launch.execution
        if self.claim(number):
            with (self.folder / f"launches-{number}").open("a") as witness:
                witness.write("launched\n")
            if launch.command_line != "stays":
                self.record(number, launch.command_line)
        self.say(ExecutionStarted(execution=number))
        self.tell_end(number)

    def stop(self, number: ExecutionId) -> None:
        if self.claim(number):
            self.record(number, "never")
        elif not self.ended(number).exists():
            self.record(number, "stopped")
        self.tell_end(number)

    def tell_end(self, number: ExecutionId) -> None:
        if not (self.folder / f"claim-{number}").exists():
            self.say(ExecutionLost(execution=number, reason="nobody has heard of it"))
        elif self.ended(number).exists():
            self.say(self.end_of(number, self.ended(number).read_text()))

    def end_of(self, number: ExecutionId, word: str) -> Report:
        if word == "never":
            return ExecutionNotStarted(execution=number)
        return ExecutionExited(execution=number, exit_code=143 if word == "stopped" else int(word), stopped=word == "stopped")

    def ended(self, number: ExecutionId) -> Path:
        return self.folder / f"ended-{number}"

    def say(self, report: Report) -> None:
        asyncio.get_running_loop().call_soon(lambda: self.sink(report))

    # --- what the wrong ones do otherwise ---

    def claim(self, number: ExecutionId) -> bool:
        try:
            os.close(os.open(self.folder / f"claim-{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def record(self, number: ExecutionId, word: str) -> None:
        self.ended(number).write_text(word)


class TestRight(CrashConformance):
    """Passes: what fails below fails for what is wrong there."""

    output = None
    not_applicable: ClassVar = NO_MACHINERY
    executor: type[Bookkeeper] = Bookkeeper
    caught_by: tuple[str, ...] = ()

    def make_executor(self, folder: Path) -> Bookkeeper:
        return self.executor(folder)

    def ends(self, folder: Path, number: int, *, code: int = 0, after_s: float = 0) -> str:
        return str(code)

    def stays(self, folder: Path, number: int) -> str:
        return "stays"

    def launches(self, folder: Path, number: int) -> int:
        witness = folder / f"launches-{number}"
        return len(witness.read_text().splitlines()) if witness.exists() else 0

    def living(self, folder: Path, number: int) -> int:
        return 0


class ClaimsInMemory(Bookkeeper):
    """Knows what it launched as long as it lives."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.claimed: set[int] = set()

    def claim(self, number: ExecutionId) -> bool:
        super().claim(number)
        known = number in self.claimed
        self.claimed.add(number)
        return not known


class TestClaimsInMemory(TestRight):
    executor = ClaimsInMemory
    caught_by = ALL


class ForgetsEnds(Bookkeeper):
    """An end that nobody was told of is lost with the engine."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for ended in folder.glob("ended-*"):
            ended.unlink()
            (folder / f"claim-{ended.name.partition('-')[2]}").unlink()


class TestForgetsEnds(TestRight):
    executor = ForgetsEnds
    caught_by = ALL


class GuessesCodes(Bookkeeper):
    """Of what ended under another engine it knows that it ended."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for ended in folder.glob("ended-*"):
            ended.write_text("0")


class TestGuessesCodes(TestRight):
    executor = GuessesCodes
    caught_by = ALL


class TestNeverDies(TestRight):
    """Its engine comes to its end in good order before anybody can kill it: that is no crash."""

    def in_loop(self, main: Coroutine[Any, Any, None]) -> None:
        if "doomed" in main.cr_code.co_filename:
            main.close()
        else:
            super().in_loop(main)

    caught_by = ALL
