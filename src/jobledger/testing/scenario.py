"""Given, when, then: the rules driven by hand, without an engine, a store or a process.

    s = Scenario().given(CreatePool(spec=pool), SubmitJob(spec=job, tasks=tasks))
    s.run()                                       # the scripted executor answers every command
    events = s.when(TerminateJob(job=job.id))     # the new events
    s.refuses(TerminateJob(job=job.id), "JobBeingTerminated")

1. Every stimulus goes through `advance`, and the world is then held equal to one that only saw the events: what a test
   passes with is what a replay of the ledger would give.
2. `ScriptedExecutor` answers commands from a script, in memory; a program that the script does not name exits with 0.
3. `story` tells events in a line each, for tests that hold a whole batch against what it should be.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from attrs import frozen

from jobledger.core import commands as c
from jobledger.core import reports as r
from jobledger.core import requests as q
from jobledger.core.advance import Decided, advance
from jobledger.core.deadlines import next_deadline
from jobledger.core.decide import ClockAdvanced, Stimulus
from jobledger.core.errors import RequestRefused
from jobledger.core.events import STORED, Event
from jobledger.core.evolve import evolve
from jobledger.core.failure import FailureInfo
from jobledger.core.ids import Duration, ExecutionId, ExecutionKind, Micros, NodeId
from jobledger.core.owed import take_fresh
from jobledger.core.world import World

ANSWERS_MAX: Final = 100_000
"""Commands answered by one `run` before it is called endless."""


@frozen
class Exits:
    """The program starts and ends with `code`, or 128 plus `signal`; `upload` is the code of why its output files could not be uploaded."""

    code: int = 0
    signal: int | None = None
    upload: str | None = None


@frozen
class Hangs:
    """The program starts and runs until it is stopped."""


@frozen
class Silent:
    """Nothing is heard of the launch; a stop finds that it never ran."""


@frozen
class CannotStart:
    """The program cannot be launched."""

    code: str = "CommandProgramNotFound"


@frozen
class Vanishes:
    """The program starts, and nobody sees how it ends."""

    reason: str = "its record is gone"


Answer = Exits | Hangs | Silent | CannotStart | Vanishes
Script = Mapping[str, Answer | Sequence[Answer]]


class ScriptedExecutor:
    """Answers commands from a script, which names a launch by `<task>@<node>` or by `<task>` alone.

    `task` is the id of the task, of the preparation or release task, or `starttask`.  A sequence is used up launch by launch,
    and its last answer stays.  Nodes in `dead` answer neither boot nor retire nor the removal of files; stops of what runs there are answered.
    """

    def __init__(self, script: Script | None = None) -> None:
        self.script: dict[str, Answer | Sequence[Answer]] = dict(script or {})
        self.dead: set[NodeId] = set()
        self.launched: list[c.Launch] = []
        self.started: set[ExecutionId] = set()
        """Executions whose start was reported, by this executor or by hand: a stop of one ends a program."""
        self._uses: dict[str, int] = {}

    def answer(self, command: c.Command) -> Iterator[r.Report]:
        """What is seen when `command` is made true."""
        match command:
            case c.BootNode(node=node, incarnation=incarnation):
                if node not in self.dead:
                    yield r.NodeReady(node=node, boot_id=f"{node}-boot-{incarnation}", incarnation=incarnation)
            case c.RetireNode(node=node, incarnation=incarnation):
                if node not in self.dead:
                    yield r.NodeRetired(node=node, incarnation=incarnation)
            case c.RemoveFiles():
                if command.node not in self.dead:
                    yield r.FilesRemoved(node=command.node, job=command.job, task=command.task, before=command.before)
            case c.StopExecution(execution=execution):
                if execution in self.started:
                    yield r.ExecutionExited(execution=execution, exit_code=143, signal=15, stopped=True)
                else:
                    yield r.ExecutionNotStarted(execution=execution)
            case _:
                yield from self._launch(command.launch)

    def _launch(self, launch: c.Launch) -> Iterator[r.Report]:
        self.launched.append(launch)
        answer = self._next(launch)
        execution = launch.execution
        if not isinstance(answer, Silent | CannotStart):
            self.started.add(execution)
            yield r.ExecutionStarted(execution=execution, pid=10_000 + execution)
        match answer:
            case Exits(code=code, signal=signal, upload=upload):
                failure = None if upload is None else FailureInfo(category="usererror", code=upload, message="the outputs could not be uploaded")
                exit_code = code if signal is None else 128 + signal
                yield r.ExecutionExited(execution=execution, exit_code=exit_code, signal=signal, upload_failure=failure)
            case CannotStart(code=reason):
                failure = FailureInfo(category="usererror", code=reason, message="the program could not be launched")
                yield r.ExecutionNotStarted(execution=execution, failure=failure)
            case Vanishes(reason=reason):
                yield r.ExecutionLost(execution=execution, reason=reason)
            case Hangs() | Silent():
                pass

    def _next(self, launch: c.Launch) -> Answer:
        key = f"{launch.task}@{launch.node}"
        if key not in self.script:
            key = launch.task
        scripted = self.script.get(key, Exits())
        if not isinstance(scripted, Sequence):
            return scripted
        use = self._uses.get(key, 0)
        self._uses[key] = use + 1
        return scripted[min(use, len(scripted) - 1)]


class Scenario:
    """One world and all that happened to it.  `now` grows by a microsecond with each stimulus."""

    def __init__(self, script: Script | None = None) -> None:
        self.world = World()
        self.replayed = World()
        self.executor = ScriptedExecutor(script)
        self.now = Micros(0)
        self.log: list[tuple[Event, Micros]] = []
        self.batch: list[Decided] = []
        """The events of the latest stimulus, with their causes."""

    @property
    def events(self) -> list[Event]:
        """Everything that happened so far."""
        return [event for event, _ in self.log]

    def given(self, *past: Stimulus | Event) -> "Scenario":
        """Let the past be: stimuli are taken, events are taken for granted (give whole batches of them)."""
        for item in past:
            if type(item) in STORED:
                self._record(item)  # type: ignore[arg-type]  # the keys of STORED are the members of Event
                evolve(self.world, item, self.now)  # type: ignore[arg-type]  # the same
            else:
                self.when(item)  # type: ignore[arg-type]  # what is no event is a stimulus
        return self

    def when(self, stimulus: Stimulus) -> list[Event]:
        """Take `stimulus` and answer with the events that it led to.  Raises `RequestRefused`, and AssertionError where replay differs."""
        self.now = Micros(self.now + 1)
        if isinstance(stimulus, r.ExecutionStarted):
            self.executor.started.add(stimulus.execution)
        self.batch = advance(self.world, stimulus, self.now)
        for decided in self.batch:
            self._record(decided.event)
        self.check()
        return [decided.event for decided in self.batch]

    def refuses(self, request: q.Request, code: str) -> RequestRefused:
        """Hold that `request` is refused with `code` and that nothing changed; the refusal comes back for its text."""
        fresh = list(self.world.owed.fresh)
        try:
            events = self.when(request)
        except RequestRefused as refusal:
            if refusal.code != code:
                raise AssertionError(f"refused with {refusal.code}, not {code}: {refusal}") from refusal
            self.check()
            if self.world.owed.fresh != fresh:
                raise AssertionError("a refused request led to commands") from refusal
            return refusal
        raise AssertionError(f"granted, not refused with {code}: {events}")

    def ignores(self, stimulus: Stimulus) -> None:
        """Hold that `stimulus` decides to nothing."""
        if events := self.when(stimulus):
            raise AssertionError(f"{stimulus} led to {events}")

    def run(self) -> list[Event]:
        """Let the executor answer every command until none is fresh; what happened comes back.

        Raises AssertionError where there is no end to the commands.
        """
        start = len(self.log)
        answered = 0
        while commands := take_fresh(self.world):
            answered += len(commands)
            if answered > ANSWERS_MAX:
                raise AssertionError(f"{answered} commands answered and no end")
            for command in commands:
                for report in self.executor.answer(command):
                    self.when(report)
        return self.events[start:]

    def finish(self, request: Stimulus) -> list[Event]:
        """`when` and then `run`."""
        start = len(self.log)
        self.when(request)
        self.run()
        return self.events[start:]

    def pass_time(self, length: Duration) -> list[Event]:
        """Let `length` microseconds pass, without a wake-up in between."""
        self.now = Micros(self.now + length - 1)
        return self.when(ClockAdvanced())

    def wake(self) -> list[Event]:
        """Let time pass until the core wants to be woken.  Raises AssertionError where it never does."""
        deadline = next_deadline(self.world)
        if deadline is None:
            raise AssertionError("nothing is limited in time")
        return self.pass_time(Duration(deadline - self.now))

    def live(self, kind: ExecutionKind, *, job: str | None = None, task: str | None = None, node: str | None = None) -> ExecutionId:
        """The one live execution that fits.  Raises AssertionError where there is none or more than one."""
        found = [
            execution.id
            for execution in self.world.executions.values()
            if execution.kind == kind and job in {None, execution.job} and task in {None, execution.task} and node in {None, execution.node}
        ]
        if len(found) != 1:
            raise AssertionError(f"{len(found)} live executions of kind {kind} fit, not one")
        return found[0]

    def launches(self, *, task: str | None = None, node: str | None = None, job: str | None = None) -> list[str]:
        """`<task>@<node>` of every launch that the executor was given, in order."""
        return [
            f"{launch.task}@{launch.node}"
            for launch in self.executor.launched
            if task in {None, launch.task} and node in {None, launch.node} and job in {None, launch.job}
        ]

    def answer(
        self, kind: ExecutionKind, how: Literal["started", "exited", "stopped", "lost", "notstarted"], code: int = 0, **which: str
    ) -> list[Event]:
        """Report the one live execution that fits by hand, as `live` finds it."""
        execution = self.live(kind, **which)
        match how:
            case "started":
                return self.when(r.ExecutionStarted(execution=execution))
            case "exited":
                return self.when(r.ExecutionExited(execution=execution, exit_code=code))
            case "stopped":
                return self.when(r.ExecutionExited(execution=execution, exit_code=code or 143, signal=None if code else 15, stopped=True))
            case "lost":
                return self.when(r.ExecutionLost(execution=execution, reason="its record is gone"))
            case "notstarted":
                return self.when(r.ExecutionNotStarted(execution=execution))

    def check(self) -> None:
        """Hold the world equal to one that only saw the events.  Raises AssertionError."""
        if self.world != self.replayed:
            raise AssertionError("the world is not the one that its events make")

    def _record(self, event: Event) -> None:
        self.log.append((event, self.now))
        evolve(self.replayed, event, self.now)


def story(events: Iterable[Event]) -> list[str]:
    """Each event in one line: its stored name, what it is about, and where it has one its result or what a stop leads to."""
    return [" ".join([STORED[type(event)][0], *_subject(event), *_result(event)]) for event in events]


def _subject(event: Event) -> list[str]:
    inner = [str(value) for name in ("task", "node") if (value := getattr(event, name, None)) is not None]
    return inner or [str(value) for name in ("job", "pool") if (value := getattr(event, name, None)) is not None]


def _result(event: Event) -> list[str]:
    return [str(value) for name in ("result", "then") if (value := getattr(event, name, None)) is not None]
