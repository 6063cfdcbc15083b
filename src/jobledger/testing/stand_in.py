"""A stand-in for an executor: the model of machines and programs behind the executor's port, in whatever time the event loop keeps.

    field = Field()                                     # the machines; it outlives engines
    executor = StandIn(field)                           # one for each life of an engine
    engine = await Engine.open("memory:", executors={"local": executor})

1. It runs nothing.  A command line says what becomes of it: `exit CODE after SECONDS`; another one exits with 0 at once.
2. What nobody promises, a `Hand` decides: how long things are under way, what is lost or repeated, what fails.  `Hand` itself is steady.
3. The field is a witness: `ModelExecutor.complaints` has what must never happen on real machines, and `record_faults` holds what ran
   against a ledger.  It learns of jobs and pools from the ledger, so pass `Field.hear` to the `Jury`.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from attrs import Factory, define

from jobledger.core import commands as c
from jobledger.core import events as e
from jobledger.core import reports as r
from jobledger.core.errors import ExecutorError
from jobledger.core.ids import SECOND, Duration, ExecutionId, NodeId, PoolId
from jobledger.core.ports import RecordedEvent, ReportSink
from jobledger.core.specs import UserIdentity

from .model import Fault, ModelExecutor
from .witness import Ran

SAID: Final = re.compile(r"exit (\d+) after ([\d.]+)")
"""What a command line says of its program."""


def command_line(code: int = 0, after_s: float = 0) -> str:
    """A program that exits with `code` after some seconds."""
    return f"exit {code} after {after_s:g}"


class Hand:
    """What decides where nobody promises anything: steady and quick.  Override what shall be otherwise."""

    def delay_s(self) -> float:
        """How long a command or a report is under way, in seconds."""
        return 0.001

    def launches(self, launch: c.Launch) -> bool:  # noqa: ARG002 - for those who override it
        """Whether the program and its files can be had."""
        return True

    def again(self) -> bool:
        """Whether what arrives now arrives once more."""
        return False

    def loses(self) -> bool:
        """Whether the report of a start is lost."""
        return False

    def which(self, count: int) -> int:  # noqa: ARG002 - the same
        """Which of so many reports under way arrives first."""
        return 0

    def obeys(self) -> bool:
        """Whether a program ends by the stop, and not by itself just before."""
        return True

    def uploads(self) -> bool:
        """Whether output files can be uploaded."""
        return True


@define(eq=False)
class Field:
    """The machines, and what runs there.  `elapsed_s` tells the seconds that have passed, whichever loop an engine runs in."""

    elapsed_s: Callable[[], float] = lambda: asyncio.get_running_loop().time()
    model: ModelExecutor = Factory(ModelExecutor)
    ends: dict[ExecutionId, tuple[float, int]] = Factory(dict)
    """When each running program ends by itself, and with which code."""
    ran: list[Ran] = Factory(list)
    """Programs that started and that ended by themselves, in order."""
    _ended: set[ExecutionId] = Factory(set)
    _requested: dict[ExecutionId, e.ExecutionRequested] = Factory(dict)
    _newest: "StandIn | None" = None
    """Whom the machines report to."""

    def hear(self, events: Iterable[RecordedEvent]) -> None:
        """These events are in the ledger."""
        for recorded in events:
            match recorded.event:
                case e.NodeRemoved(node=node):
                    self.model.forget(node)
                case e.JobCreated(spec=job):
                    self.model.submitted(job)
                case e.TaskAdded(job=of, spec=task):
                    self.model.added(of, task)
                case e.PoolCreated(spec=pool):
                    self.model.created(pool)
                case e.ExecutionRequested():
                    self._requested[recorded.event.execution] = recorded.event
                case e.ExecutionEnded(execution=execution) | e.ExecutionNeverRan(execution=execution):
                    self._ended.add(execution)
                case e.ExecutionUnresolved(execution=execution):
                    self.model.doubt(self._requested[execution])
                case _:
                    pass

    def engine_died(self) -> None:
        """What was under way to or from it is lost, and what it heard and did not record was never heard."""
        self.model.lose_mail()
        self.model.heard = set(self._ended)

    def connect(self, executor: "StandIn") -> None:
        """From now on the machines report to it; one that was there before hears nothing any more."""
        if self._newest is not None:
            self._newest.engine_died()
        self._newest = executor

    @property
    def quiet(self) -> bool:
        """Whether nothing is under way and nothing runs."""
        return not (any(self.model.queues.values()) or self.model.reports or self.model.running())


class StandIn:
    """The executor of one life of an engine."""

    def __init__(self, field: Field, hand: Hand | None = None) -> None:
        self.field: Final = field
        self.hand = hand or Hand()
        self._sink: ReportSink | None = None
        self._tickets = 0
        """Reports under way that have a time to arrive."""

    async def open(self, sink: ReportSink, *, ledger_id: str) -> None:  # noqa: ARG002 - the port has it
        """See `core.ports.Executor`."""
        self.field.connect(self)
        self._sink = sink
        for execution in list(self.field.ends):
            self._await_end(execution)

    def recover(self, commands: Sequence[c.RunCommand], nodes: Mapping[NodeId, PoolId]) -> None:
        """See `core.ports.Executor`."""
        model = self.field.model
        model.recognise([command.launch.execution for command in commands])
        for node in nodes:  # What befell it may have been told to an engine that died of it.
            machine = model.machines.get(node)
            befell: list[Fault] = ["wiped"] if machine is not None and machine.spoiled else []
            if machine is not None and not machine.reachable:
                befell.append("lost" if machine.up else "preempted")
            for fault in befell:  # At once: a fault carries no incarnation, so it must not be told after a boot that came later.
                asyncio.get_running_loop().call_soon(self._tell, r.NodeFaulted(node=node, fault=fault, reason=f"it is {fault}"))
        self._carry()

    def submit(self, commands: Sequence[c.Command]) -> None:
        """See `core.ports.Executor`."""
        for command in commands:
            self.field.model.send(command)
            self._later(self._deliver, command.launch.node if isinstance(command, c.RunCommand) else command.node)

    async def failed(self) -> ExecutorError:
        """See `core.ports.Executor`.  It never does."""
        never: asyncio.Future[ExecutorError] = asyncio.get_running_loop().create_future()
        return await never

    async def refusal(self, user: UserIdentity) -> str | None:  # noqa: ARG002 - the same
        """See `core.ports.Identities`.  It can be anybody."""
        return None

    async def close(self) -> None:
        """See `core.ports.Executor`.  Whatever is under way is lost."""
        self.engine_died()

    def engine_died(self) -> None:
        """Its engine is no more."""
        self._sink = None
        self.field.engine_died()

    def end_all(self) -> None:
        """Whatever runs ends by itself now."""
        for execution in self.field.model.running():
            self._end(execution)

    # --- what may befall machines ----------------------------------------------------------------------------

    def fault(self, node: NodeId, fault: Fault) -> None:
        """The node fails."""
        self._tell(self.field.model.fault(node, fault))

    def cut_power(self, node: NodeId) -> None:
        """The machine restarts by itself."""
        self.field.model.cut_power(node)
        self._carry()

    def come_back(self, node: NodeId, state: str) -> None:
        """A node in that state, which failed before, can be used again."""
        self._tell(r.NodeReallocated(node=node) if state == "preempted" else self.field.model.come_back(node))

    # --- how things arrive -----------------------------------------------------------------------------------

    def _deliver(self, node: NodeId) -> None:
        model = self.field.model
        if not model.queues.get(node):
            return
        command, again = model.queues[node][0], self.hand.again()
        was_running = isinstance(command, c.StopExecution) and command.execution in model.running()
        launches = not isinstance(command, c.RunCommand) or self.hand.launches(command.launch)
        model.deliver(node, again=again, launches=launches, obeys=self.hand.obeys(), uploads=self.hand.uploads())
        if again:
            self._later(self._deliver, node)
        if isinstance(command, c.RunCommand):
            self._begun(command.launch)
        elif isinstance(command, c.StopExecution) and was_running:
            last = model.programs[command.execution].last_word
            if isinstance(last, r.ExecutionExited) and not last.stopped:  # It ended by itself in that very moment.
                self.field.ran.append(Ran(execution=command.execution, code=last.exit_code))
        self._carry()

    def _begun(self, launch: c.Launch) -> None:
        if launch.execution in self.field.ends or launch.execution not in self.field.model.running():
            return
        self.field.ran.append(Ran(execution=launch.execution))
        said = SAID.search(launch.command_line)
        code, after_s = (int(said[1]), float(said[2])) if said else (0, 0.0)
        self.field.ends[launch.execution] = (self.field.elapsed_s() + after_s, code)
        self._await_end(launch.execution)
        if launch.silent_after is not None:
            asyncio.get_running_loop().call_later(launch.silent_after / SECOND, self._is_silent, launch.execution, launch.silent_after)

    def _await_end(self, execution: ExecutionId) -> None:
        left = self.field.ends[execution][0] - self.field.elapsed_s()
        asyncio.get_running_loop().call_later(max(0.0, left), self._end, execution)

    def _end(self, execution: ExecutionId) -> None:
        """The program ends by itself, if it was not ended before."""
        if self._sink is None:
            return  # The next engine's stand-in has a timer of its own.
        _, code = self.field.ends.pop(execution, (0.0, 0))
        if execution in self.field.model.running():  # What is out of sight goes on there until its machine is booted.
            self.field.ran.append(Ran(execution=execution, code=code))
            self.field.model.end(execution, code, uploads=self.hand.uploads())
            self._carry()

    def _is_silent(self, execution: ExecutionId, length: Duration) -> None:
        if self._sink is not None and execution in self.field.model.running():
            self.field.model.reports.append(r.ExecutionSilent(execution=execution, silent_for=length))
            self._carry()

    def _carry(self) -> None:
        """Every report under way gets a time to arrive."""
        while self._tickets < len(self.field.model.reports):
            self._tickets += 1
            self._later(self._hand_over)

    def _hand_over(self) -> None:
        self._tickets -= 1
        reports = self.field.model.reports
        if not reports:
            return
        index = self.hand.which(len(reports))
        if isinstance(reports[index], r.ExecutionStarted) and self.hand.loses():
            del reports[index]
            return
        self._tell(self.field.model.hand_over(index, again=self.hand.again()))
        self._carry()

    def _tell(self, report: r.Report) -> None:
        if self._sink is not None:
            self._sink(report)

    def _later(self, what: Callable[..., None], *arguments: NodeId) -> None:
        """Do it when it has been under way for a while, unless the engine has died by then."""
        asyncio.get_running_loop().call_later(self.hand.delay_s(), self._unless_dead, what, *arguments)

    def _unless_dead(self, what: Callable[..., None], *arguments: NodeId) -> None:
        if self._sink is not None:
            what(*arguments)
