"""Planted bugs in executors, stores, policies and in the engine itself, each found by the kit in one of its ways."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import attrs
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from planting import TERMINATE, Planted, a_job, fold, swapped

from jobledger.core import commands as c
from jobledger.core import events as e
from jobledger.core import owed, world
from jobledger.core import reports as r
from jobledger.core.ports import Head
from jobledger.engine import Engine
from jobledger.eventstore import MemoryStore
from jobledger.recorder import Recorder
from jobledger.testing.machine import QUICK, EngineMachine
from jobledger.testing.schedule import Parts, play
from jobledger.testing.stage import Broken
from jobledger.testing.stand_in import Field, StandIn
from jobledger.testing.trail import Trail
from jobledger.testing.witness import Ran

ONCE = settings(QUICK, max_examples=200, stateful_step_count=25, derandomize=True, database=None, phases=[Phase.generate], report_multiple_bugs=False)
SEEDS = 100


@attrs.frozen(kw_only=True)
class PlantedInKit:
    """`find` runs a part of the kit with the bug in it and raises; `found_by` is what the finding says, in the words of the check that speaks of it."""

    name: str
    found_by: str
    find: Callable[[], None]


def under_machine(**wrong: Any) -> Callable[[], None]:
    """Run the state machine with hooks that give something wrong."""
    machine = type("Wrong", (EngineMachine,), dict(wrong))
    return lambda: run_state_machine_as_test(machine, settings=ONCE)


def under_schedules(parts: Parts | None = None, bug: Callable[[], AbstractContextManager[None]] = nullcontext) -> Callable[[], None]:
    """Play seeds with something wrong, until one is broken."""

    def find() -> None:
        with bug():
            for seed in range(SEEDS):
                if (played := play(seed, parts=parts)).broken:
                    raise Broken(played.broken)

    return find


# --- executors ------------------------------------------------------------------------------------------------


class LaunchesRepeatedCommands(StandIn):
    """A command that comes again is a launch again."""

    def _deliver(self, node: Any) -> None:
        queue = self.field.model.queues.get(node)
        if queue and isinstance(queue[0], c.RunCommand) and queue[0].launch.execution in self.field.model.running():
            self.field.ran.append(Ran(execution=queue[0].launch.execution))
        super()._deliver(node)


class ForgetsStops(StandIn):
    """A program that was once launched goes on."""

    def submit(self, commands: Any) -> None:
        known = self.field.model.programs
        super().submit([one for one in commands if not (isinstance(one, c.StopExecution) and one.execution in known)])


class TellsStaleExits(StandIn):
    """A later attempt is answered with the exit of an earlier one."""

    def _deliver(self, node: Any) -> None:
        queue = self.field.model.queues.get(node)
        if queue and isinstance(command := queue[0], c.RunTask):
            for program in list(self.field.model.programs.values()):
                last, launch = program.last_word, command.launch
                same = (program.launch.job, program.launch.task) == (launch.job, launch.task) and program.launch.execution < launch.execution
                if same and isinstance(last, r.ExecutionExited):
                    queue.pop(0)
                    self._tell(attrs.evolve(last, execution=launch.execution))
                    return
        super()._deliver(node)


class RemembersWhatItLost(StandIn):
    """What was given to it before its engine died counts as done, whether it had arrived or not."""

    def submit(self, commands: Any) -> None:
        known = GIVEN.setdefault(self.field, set())
        fresh = [one for one in commands if not (isinstance(one, c.RunCommand) and one.launch.execution in known)]
        known.update(one.launch.execution for one in commands if isinstance(one, c.RunCommand))
        super().submit(fresh)


GIVEN: dict[Field, set[int]] = {}


# --- stores ---------------------------------------------------------------------------------------------------


class WrongStore(MemoryStore):
    """A store in memory whose positions are off by what was lost or repeated, so that nobody notices by a conflict."""

    off = 0

    def append(self, events: Any, *, expected: int, lease: Any, replies: Any = ()) -> Head:
        head = super().append(events, expected=expected + self.off, lease=lease, replies=replies)
        return Head(position=head.position - self.off, hash=head.hash)

    def is_unlucky(self, events: Any) -> bool:
        return any(isinstance(new.event, e.TaskCompleted) for new in events)


class LosesABatch(WrongStore):
    def append(self, events: Any, *, expected: int, lease: Any, replies: Any = ()) -> Head:
        if not self.is_unlucky(events):
            return super().append(events, expected=expected, lease=lease, replies=replies)
        self.off -= len(events)
        return Head(position=expected + len(events), hash=self.head().hash)


class RepeatsABatch(WrongStore):
    def append(self, events: Any, *, expected: int, lease: Any, replies: Any = ()) -> Head:
        head = super().append(events, expected=expected, lease=lease, replies=replies)
        if self.is_unlucky(events):
            super().append(events, expected=head.position, lease=lease)
            self.off += len(events)
        return head


class TakesAnyLease(MemoryStore):
    def append(self, events: Any, *, expected: int, lease: Any, replies: Any = ()) -> Head:
        del expected, lease
        assert self._lease is not None
        return super().append(events, expected=self.head().position, lease=self._lease, replies=replies)


class LosesItsTail(MemoryStore):
    """What was appended last was in no file yet when the engine died."""

    def __init__(self, before: "LosesItsTail | None") -> None:
        super().__init__(ledger_id="0123abcd")
        self.batches: list[Any] = []
        if before is not None:
            self._epoch, self._lease = before._epoch, before._lease
            for events in before.batches[:-1]:
                self.append(events, expected=self.head().position, lease=self._lease)

    def append(self, events: Any, *, expected: int, lease: Any, replies: Any = ()) -> Head:
        self.batches.append(events)
        return super().append(events, expected=expected, lease=lease, replies=replies)


# --- the engine -----------------------------------------------------------------------------------------------


class DispatchesFirst(Engine):
    """What was decided is given to executors, and then recorded."""

    def _decide(self, arrivals: Any, now: Any) -> None:
        super()._decide(arrivals, now)
        self._dispatch()


class DropsReports(Engine):
    """Every third end that is reported to it falls under the table."""

    seen = 0

    def _report(self, report: Any) -> None:
        self.seen += isinstance(report, r.ExecutionExited)
        if self.seen % 3 or not isinstance(report, r.ExecutionExited):
            super()._report(report)


def answers_come_first() -> AbstractContextManager[None]:
    right = Recorder.commit

    def wrong(self: Recorder) -> set[str]:
        soon = Head(position=self.head.position + len(self._events), hash=b"")
        answers, self._answers = self._answers, []
        for answer, refusal in answers:
            answer(soon if refusal is None else refusal)
        return right(self)

    return swapped(Recorder, "commit", wrong)


def nothing_is_given_again() -> AbstractContextManager[None]:
    return swapped(owed, "reissue", lambda of: of.owed.fresh.clear())


# --- policies -------------------------------------------------------------------------------------------------


class ChoosesTheFirstOfAll:
    """It does not look at which nodes may take the task."""

    def choose(self, of: world.World, job: world.Job, task: world.Task, nodes: Any) -> Any:
        del task, nodes
        return next(iter(of.pools[job.spec.pool_info.pool_id].nodes))


class Keeping:
    """Stores by machine: what one folder has."""

    last: ClassVar[dict[Any, Any]] = {}


def tail_of(machine: Any, folder: Any) -> LosesItsTail:
    store = LosesItsTail(Keeping.last.get(folder))
    Keeping.last[folder] = store
    return store


def one_of(kind: type[MemoryStore]) -> Callable[..., MemoryStore]:
    def make(machine: Any, folder: Any) -> MemoryStore:
        return Keeping.last.setdefault(folder, kind())

    return make


KIT_CATALOGUE = [
    PlantedInKit(
        name="an executor launches a repeated command twice",
        found_by="was started twice",
        find=under_schedules(Parts(executor=LaunchesRepeatedCommands)),
    ),
    PlantedInKit(
        name="an executor forgets a stop",
        found_by="come to rest|nothing is under way|was terminated|is still there",
        find=under_schedules(Parts(executor=ForgetsStops)),
    ),
    PlantedInKit(
        name="an executor tells of a stale exit under a new identity",
        found_by="the ledger says that execution .* exited with|not in its scope",
        find=under_machine(make_executor=lambda self, _: TellsStaleExits(self.field)),
    ),
    PlantedInKit(
        name="an executor loses a command at a crash",
        found_by="not heard of|do not complete",
        find=under_machine(make_executor=lambda self, _: RemembersWhatItLost(self.field)),
    ),
    PlantedInKit(
        name="a store loses a batch",
        found_by="events after position|the store gives back|its head is",
        find=under_machine(make_store=one_of(LosesABatch)),
    ),
    PlantedInKit(
        name="a store repeats a batch",
        found_by="events after position|the store gives back|its head is",
        find=under_machine(make_store=one_of(RepeatsABatch)),
    ),
    PlantedInKit(
        name="a store takes events under any lease",
        found_by="that was replaced goes on|the store took events",
        find=under_machine(make_store=one_of(TakesAnyLease)),
    ),
    PlantedInKit(name="a store loses its tail at a crash", found_by="the ledger is at|appended", find=under_machine(make_store=tail_of)),
    PlantedInKit(
        name="the engine launches before it has recorded",
        found_by="is to be launched before it is recorded",
        find=under_schedules(Parts(engine=DispatchesFirst)),
    ),
    PlantedInKit(
        name="a command that was lost in a crash is not given again",
        found_by="nothing is under way|come to rest|is still there|was terminated",
        find=under_schedules(bug=nothing_is_given_again),
    ),
    PlantedInKit(
        name="the engine drops a report",
        found_by="nothing is under way|come to rest|is still there|was terminated|the ledger tells of",
        find=under_schedules(Parts(engine=DropsReports)),
    ),
    PlantedInKit(
        name="the engine answers before it has recorded",
        found_by="a request was answered with position",
        find=under_schedules(bug=answers_come_first),
    ),
    PlantedInKit(
        name="a policy chooses a node that may not take the task",
        found_by="the placement policy chose node",
        find=under_machine(make_policy=lambda _: ChoosesTheFirstOfAll()),
    ),
]


# --- of the core, after a crash -------------------------------------------------------------------------------


def crashed_between_two_releases() -> Trail:
    trail = Trail(nodes=2, job=a_job(), tasks=("t1", "t2")).exit(0, 0).do(TERMINATE).arrive()
    trail.end(trail.executor.running()[0], 0)
    trail.report(0)
    trail.start_engine()
    return trail.arrive()


def engines_forget_releases() -> AbstractContextManager[None]:
    def owe(of: world.World, _event: e.EngineStarted) -> None:
        for job in of.jobs.values():
            for node, run in job.releases.items():
                if run.state == "completed" and job.state == "terminating":
                    job.owed[node] = job.payable[node] = None
                    of.agenda.job(job.id)

    return fold(e.EngineStarted, owe)


CATALOGUE = [
    Planted(
        name="a release again after a crash",
        rare=True,
        caught_by="release_completes_once",
        bug=engines_forget_releases,
        script=crashed_between_two_releases,
    )
]

ASKED_FOR = {
    "release before the last task ended": "a release before the last task ended",
    "release twice after a crash": "a release again after a crash",
    "preparation skipped after reimage": "no preparation after a node was reimaged",
    "slot leak on requeue": "a requeued task keeps its slot",
    "retry counted on reboot": "a reboot is counted as a retry by the rule",
    "delete re-running release": "a release again at deletion",
    "a lost command": "a command that was lost in a crash is not given again",
    "a stale report accepted": "a stale report is believed",
}
"""Bugs that everybody who has run such a system knows, by the name under which each is planted here."""
