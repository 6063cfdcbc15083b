"""The dry-run executor: nodes and programs that exist only as timers of the running event loop.

1. It starts no process, writes no file and waits for nothing outside: on a virtual loop a day passes at once, on a real one it takes a day.
2. What becomes of a launch or a node is `Fortune`'s to say.  A launch is asked about once, when it is given for the first time.
3. It keeps the promises of the port: an execution is launched once, its end is told again as it was, a stop before the start forbids it.
   What it pretends to run ends with it: the next one says of everything that it is lost, and its nodes come back from another boot.
4. A command costs the same however many nodes and programs there are, but for the timers' heap.
5. Faults that come again and again pause while nothing runs anywhere, so that a run in which nothing is left to do comes to its end.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from typing import Final, Literal

from attrs import Factory, define

from ..core.commands import (
    BootNode,
    Command,
    Launch,
    RemoveFiles,
    RetireNode,
    RunCommand,
    RunFinalizer,
    RunPreparation,
    RunRelease,
    RunStartTask,
    RunTask,
    StopExecution,
)
from ..core.errors import ExecutorError
from ..core.failure import FailureInfo
from ..core.ids import ENGINE_HOST, SECOND, Duration, ExecutionId, ExecutionKind, NodeId, PoolId
from ..core.ports import ReportSink
from ..core.reports import (
    ExecutionExited,
    ExecutionLost,
    ExecutionNotStarted,
    ExecutionSilent,
    ExecutionStarted,
    FilesRemoved,
    NodeFaulted,
    NodeReady,
    NodeReallocated,
    NodeRetired,
    Report,
)
from ..core.specs import UserIdentity
from .fortune import Fortune, NodeRule, Outcome

_KINDS: Final[Mapping[type, ExecutionKind]] = {
    RunStartTask: "starttask",
    RunPreparation: "preparation",
    RunTask: "task",
    RunRelease: "release",
    RunFinalizer: "finalizer",
}

_State = Literal["off", "booting", "up", "rebooting", "lost", "preempted"]
_End = ExecutionExited | ExecutionNotStarted | ExecutionLost


@define
class _Program:
    """Something that runs: nothing of it exists but the timers that will end it."""

    launch: Launch
    outcome: Outcome
    began: float
    ending: asyncio.TimerHandle | None = None
    silence: asyncio.TimerHandle | None = None
    killing: bool = False


@define
class _Machine:
    """A node as it would be."""

    state: _State = "off"
    incarnation: int = 0
    boots: int = 0
    boot_id: str = ""
    programs: dict[ExecutionId, _Program] = Factory(dict)
    waking: asyncio.TimerHandle | None = None
    """What brings it up."""
    untold: list[Report] = Factory(list)
    """What it will say when it can be heard again."""
    fated: bool = False
    """Whether its faults have been set."""


class DryRunExecutor:
    """Pretends to run everything.  `fortune` says what becomes of it; without one everything goes well, and takes about as long as usual."""

    def __init__(self, fortune: Fortune | None = None, *, root: str | PathLike[str] | None = None) -> None:
        """`root` is where other executors keep their nodes' files; here there are none."""
        del root
        self._fortune: Final = fortune or Fortune()
        self._sink: ReportSink | None = None
        self._began = 0.0
        self._machines: dict[NodeId, _Machine] = {ENGINE_HOST: _Machine(state="up", fated=True)}
        self._ends: dict[ExecutionId, _End] = {}
        self._running: dict[ExecutionId, _Program] = {}
        self._fates: list[asyncio.TimerHandle] = []
        self._paused: list[Callable[[], None]] = []

    # --- the port -------------------------------------------------------------------------------------------

    async def open(self, sink: ReportSink, *, ledger_id: str) -> None:
        del ledger_id  # What is pretended here is known nowhere else.
        self._sink = sink
        self._began = self._now()

    def recover(self, commands: Sequence[RunCommand], nodes: Mapping[NodeId, PoolId]) -> None:
        for command in commands:
            execution = command.launch.execution
            if execution not in self._running:
                self._end(self._ends.get(execution) or ExecutionLost(execution=execution, reason="the dry run in which it ran is over"))
        for node in nodes:
            machine = self._machines.get(node)
            if machine is None:
                machine = self._machines[node] = _Machine(state="up", boot_id=f"{node}/after-restart")
                self._set_faults(node, machine)
            if machine.state == "up":
                self._report(NodeReady(node=node, boot_id=machine.boot_id))
            elif machine.state != "rebooting":
                self._report(_fault_of(node, machine))

    def submit(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case BootNode():
                    self._boot(command)
                case RetireNode():
                    self._retire(command)
                case RemoveFiles():
                    if self._heard(command.node):
                        self._report(FilesRemoved(node=command.node, job=command.job, task=command.task, before=command.before))
                case StopExecution():
                    self._stop(command)
                case _:
                    self._launch(command)

    async def failed(self) -> ExecutorError:
        return await asyncio.Future[ExecutorError]()

    async def close(self) -> None:
        self._sink = None
        for program in self._running.values():
            _cancel(program.ending, program.silence)
        for machine in self._machines.values():
            _cancel(machine.waking)
        _cancel(*self._fates)
        self._paused.clear()

    async def refusal(self, user: UserIdentity) -> str | None:
        """Nothing runs, so it may as well be anybody."""
        del user
        return None

    # --- programs -------------------------------------------------------------------------------------------

    def _launch(self, command: RunCommand) -> None:
        launch = command.launch
        execution = launch.execution
        if execution in self._ends:
            self._report(self._ends[execution])
        elif execution in self._running:
            self._report(ExecutionStarted(execution=execution))
        elif (machine := self._machines.get(launch.node)) is None or machine.state in {"off", "booting"}:
            self._end(ExecutionNotStarted(execution=execution, failure=_failure("CommandLaunchFailed", f"node {launch.node} is not up")))
        elif machine.state != "up":
            self._lose(machine, execution, "the node was down")  # Nobody can say that it did not run.
        else:
            self._begin(machine, launch, self._fortune.of(_KINDS[type(command)], launch, self._since()))

    def _begin(self, machine: _Machine, launch: Launch, outcome: Outcome) -> None:
        execution = launch.execution
        if outcome.not_started is not None:
            failure = _failure(outcome.not_started, "The dry run's scenario or its records say that this cannot be launched")
            self._end(ExecutionNotStarted(execution=execution, failure=failure))
            return
        program = _Program(launch, outcome, self._now())
        machine.programs[execution] = self._running[execution] = program
        self._report(ExecutionStarted(execution=execution))
        if not outcome.hangs:
            program.ending = self._later(outcome.duration, partial(self._ended, execution))
        if outcome.silent and launch.silent_after is not None:
            program.silence = self._later(launch.silent_after, partial(self._silent, execution))
        if self._paused:
            paused, self._paused = self._paused, []
            for resume in paused:
                resume()

    def _ended(self, execution: ExecutionId) -> None:
        """The program comes to its own end."""
        program = self._running[execution]
        outcome = program.outcome
        self._forget(program)
        if outcome.lost:
            self._end(ExecutionLost(execution=execution, reason="the dry run's scenario says that nobody saw how it ended"))
            return
        upload = None
        if outcome.upload_failure is not None and program.launch.output_files:
            upload = _failure(outcome.upload_failure, "The dry run's scenario says that its output files could not be uploaded")
        self._end(
            ExecutionExited(execution=execution, exit_code=outcome.exit_code, signal=outcome.signal, wall=outcome.duration, upload_failure=upload)
        )

    def _silent(self, execution: ExecutionId) -> None:
        if (limit := self._running[execution].launch.silent_after) is not None:
            self._report(ExecutionSilent(execution=execution, silent_for=limit))

    def _stop(self, command: StopExecution) -> None:
        execution = command.execution
        program = self._running.get(execution)
        if program is None:
            self._end(self._ends.get(execution) or ExecutionNotStarted(execution=execution))
        elif not program.outcome.ignores_stop:
            self._kill(execution, 15)
        elif not program.killing:
            program.killing = True
            ends_at = None if program.ending is None else program.ending.when()
            kill_at = self._now() + command.grace / SECOND
            if ends_at is None or kill_at < ends_at:
                _cancel(program.ending)
                program.ending = self._later(command.grace, partial(self._kill, execution, 9))

    def _kill(self, execution: ExecutionId, signal: int) -> None:
        program = self._running[execution]
        self._forget(program)
        wall = Duration(round((self._now() - program.began) * SECOND))
        self._end(ExecutionExited(execution=execution, exit_code=128 + signal, signal=signal, stopped=True, wall=wall))

    def _forget(self, program: _Program) -> None:
        """It runs no more."""
        _cancel(program.ending, program.silence)
        del self._running[program.launch.execution]
        del self._machines[program.launch.node].programs[program.launch.execution]

    def _end(self, report: _End) -> None:
        self._ends[report.execution] = report
        self._report(report)

    def _lose(self, machine: _Machine, execution: ExecutionId, reason: str) -> None:
        """Nobody will ever know how it ended; that is said when the node is heard again."""
        lost = self._ends[execution] = ExecutionLost(execution=execution, reason=reason)
        machine.untold.append(lost)

    def _lose_all(self, machine: _Machine, reason: str) -> None:
        for execution, program in list(machine.programs.items()):
            self._forget(program)
            self._lose(machine, execution, reason)

    # --- nodes ----------------------------------------------------------------------------------------------

    def _boot(self, command: BootNode) -> None:
        node = command.node
        machine = self._machines.setdefault(node, _Machine())
        if machine.state in {"lost", "preempted"}:
            return  # Nobody is there to hear it; it is given again when the node is back.
        if machine.incarnation == command.incarnation and machine.state in {"up", "booting"}:
            if machine.state == "up":
                self._report(NodeReady(node=node, boot_id=machine.boot_id, incarnation=command.incarnation))
            return
        self._lose_all(machine, "the node was booted")
        machine.incarnation, machine.state = command.incarnation, "booting"
        self._wake_later(node, machine, partial(self._booted, node, command.incarnation))
        self._set_faults(node, machine)

    def _booted(self, node: NodeId, incarnation: int) -> None:
        machine = self._machines[node]
        machine.waking, machine.state, machine.boot_id = None, "up", f"{node}/{incarnation}"
        self._tell(machine)
        self._report(NodeReady(node=node, boot_id=machine.boot_id, incarnation=incarnation))

    def _retire(self, command: RetireNode) -> None:
        machine = self._machines.setdefault(command.node, _Machine())
        if machine.state in {"lost", "preempted"}:
            self._report(_fault_of(command.node, machine))  # It cannot be asked, and whoever waits for it is told so.
            return
        _cancel(machine.waking)
        machine.waking = None
        self._lose_all(machine, "the node was retired")
        machine.state = "off"
        self._tell(machine)
        self._report(NodeRetired(node=command.node, incarnation=command.incarnation))

    def _wake_later(self, node: NodeId, machine: _Machine, then: Callable[[], None]) -> None:
        _cancel(machine.waking)
        machine.waking = self._later(self._fortune.boot(node, machine.boots), then)
        machine.boots += 1

    def _tell(self, machine: _Machine) -> None:
        untold, machine.untold = machine.untold, []
        for report in untold:
            self._report(report)

    def _heard(self, node: NodeId) -> bool:
        machine = self._machines.get(node)
        return machine is None or machine.state not in {"lost", "preempted", "rebooting"}

    # --- faults ---------------------------------------------------------------------------------------------

    def _set_faults(self, node: NodeId, machine: _Machine) -> None:
        """Set what will happen to a node, from when it is there for the first time."""
        if machine.fated:
            return
        machine.fated = True
        for number, rule in self._fortune.faults_of(node):
            if rule.mean_time_between is not None:
                self._set_next(node, number, rule, rule.mean_time_between, 0)
            elif rule.at is not None and rule.at >= self._since():
                self._fates.append(self._later(Duration(rule.at - self._since()), partial(self._fault, node, rule)))

    def _set_next(self, node: NodeId, number: int, rule: NodeRule, mean: Duration, before: int) -> None:
        def strike() -> None:
            if not self._running:
                self._paused.append(partial(self._set_next, node, number, rule, mean, before))
                return
            self._fault(node, rule)
            self._set_next(node, number, rule, mean, before + 1)

        self._fates.append(self._later(self._fortune.gap(node, number, mean, before), strike))
        if len(self._fates) > 4 * len(self._machines) + 64:
            self._fates = [fate for fate in self._fates if fate.when() > self._now()]

    def _fault(self, node: NodeId, rule: NodeRule) -> None:
        machine = self._machines[node]
        if machine.state in {"off", "lost", "preempted", "rebooting"}:
            return  # There is nothing that could fail.
        reason = rule.reason or f"the dry run's scenario has it {rule.fault}"
        match rule.fault:
            case "reboot":
                if machine.state == "up":
                    self._reboot(node, machine, rule)
                return
            case "wiped" | "unusable":
                if machine.state == "booting" and rule.fault == "unusable":  # It never comes up; another boot may bring it up.
                    _cancel(machine.waking)
                    machine.state = "off"
            case "lost" | "preempted":
                _cancel(machine.waking)
                self._lose_all(machine, reason)
                machine.state = rule.fault
        self._report(NodeFaulted(node=node, fault=rule.fault, reason=reason))
        if rule.back_after is not None and rule.fault != "wiped":
            self._fates.append(self._later(rule.back_after, partial(self._come_back, node)))

    def _reboot(self, node: NodeId, machine: _Machine, rule: NodeRule) -> None:
        """It goes down by itself, and comes up from another boot."""
        self._lose_all(machine, rule.reason or "the node rebooted by itself")
        machine.state = "rebooting"
        if rule.back_after is None:
            self._wake_later(node, machine, partial(self._up_again, node))
        else:
            machine.boots += 1
            machine.waking = self._later(rule.back_after, partial(self._up_again, node))

    def _up_again(self, node: NodeId) -> None:
        machine = self._machines[node]
        machine.waking, machine.state, machine.boot_id = None, "up", f"{node}/{machine.incarnation}/again-{machine.boots}"
        self._tell(machine)
        self._report(NodeReady(node=node, boot_id=machine.boot_id))

    def _come_back(self, node: NodeId) -> None:
        """A node that was unusable, lost or preempted is there again."""
        machine = self._machines[node]
        if machine.state == "preempted":
            machine.state = "off"
            machine.untold.clear()  # Of what ran on a machine that is no more, nobody asks.
            self._report(NodeReallocated(node=node))
        elif machine.state == "lost":
            machine.boots += 1
            self._up_again(node)
        elif machine.state in {"up", "off"}:
            self._report(NodeReady(node=node, boot_id=machine.boot_id or f"{node}/again-{machine.boots}"))

    # --- small things ---------------------------------------------------------------------------------------

    def _report(self, report: Report) -> None:
        if self._sink is not None:
            self._sink(report)

    def _later(self, length: Duration, then: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(length / SECOND, then)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _since(self) -> Duration:
        """How long it is since the beginning."""
        return Duration(round((self._now() - self._began) * SECOND))


def _failure(code: str, message: str) -> FailureInfo:
    return FailureInfo(category="usererror", code=code, message=message)


def _fault_of(node: NodeId, machine: _Machine) -> NodeFaulted:
    """What is wrong with a node that is not up."""
    match machine.state:
        case "lost" | "preempted" as fault:
            return NodeFaulted(node=node, fault=fault, reason=f"the node is {fault}")
        case _:
            return NodeFaulted(node=node, fault="unusable", reason="the node is off")


def _cancel(*timers: asyncio.TimerHandle | None) -> None:
    for timer in timers:
        if timer is not None:
            timer.cancel()
