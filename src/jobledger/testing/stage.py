"""A stage for walks: one world, its ledger, all judges and a model of an executor, without Hypothesis.

1. Every stimulus goes through `take`, which after each step holds: all invariants; replay equal to live; every index equal to
   what it indexes; nothing more to settle with everything on the agenda; a refusal changed nothing.
2. The executor is a witness of its own: what it saw on its machines is held against what the ledger says.
3. `rest` drives everything to its end and holds that nothing is stuck.
"""

from collections.abc import Sequence
from typing import Final

from jobledger import snapshots
from jobledger.core import events as e
from jobledger.core import owed
from jobledger.core import reports as r
from jobledger.core import requests as q
from jobledger.core.advance import Decided, advance, reconsider, settle
from jobledger.core.deadlines import next_deadline
from jobledger.core.decide import ClockAdvanced, Stimulus
from jobledger.core.errors import JobledgerError, RequestRefused
from jobledger.core.evolve import evolve
from jobledger.core.ids import SECOND, Duration, ExecutionId, Micros, NodeId
from jobledger.core.invariants import Auditor, Violation
from jobledger.core.machine import ABSENT
from jobledger.core.subjects import moves
from jobledger.core.world import UP, Agenda, World

from .endings import record_faults, unrest
from .indexes import index_faults
from .model import ModelExecutor

ROUNDS_MAX: Final = 2_000
"""Rounds of delivering everything before a world that does not come to rest is called stuck."""

RowTaken = tuple[str, str, str]
"""A row of a table: the machine's name, the source state and the event's stored name."""

_ENDED: Final = {"completed"}


class Broken(AssertionError):
    """Something that must hold does not; the text says what, `violations` which invariants."""

    def __init__(self, text: str, violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(text)
        self.violations = violations


class Stage:
    """One ledger under all judges.  `rows` gathers the rows that were taken, over as many stages as share it."""

    tick = Duration(SECOND // 10)
    """How much time passes with each stimulus."""

    def __init__(self, rows: set[RowTaken] | None = None) -> None:
        self.world = World()
        self.shadow = World()
        """What the recorded events make of a world, folded one by one: replay."""
        self.auditor = Auditor()
        self.executor = ModelExecutor()
        self.log: list[tuple[e.Event, Micros]] = []
        self.rows: Final[set[RowTaken]] = rows if rows is not None else set()
        self.now = Micros(0)
        self.host_boots = 0
        self.crashes = 0
        self.broken: str | None = None
        """What was found first, if anything: nothing that comes after it means much."""

    # --- stimuli -------------------------------------------------------------------------------------------

    def take(self, stimulus: Stimulus) -> list[Decided] | None:
        """Let the stimulus happen, judge what comes of it and send the commands that follow.  None for a request that was refused."""
        self.now = Micros(self.now + self.tick)
        try:
            batch = advance(self.world, stimulus, self.now)
        except RequestRefused as refusal:
            self._hold(bool(refusal.code and refusal.message), f"a refusal without reason: {stimulus}")
            self._judge_world(f"refused {stimulus}")
            return None
        except JobledgerError as bug:
            self.broken = str(bug)
            raise
        for decided in batch:
            self._record(decided.event)
        self._judge_world(str(stimulus))
        self._pass_on(batch)
        return batch

    def wake(self) -> None:
        """Let time pass until the core wants to be woken, if it does."""
        if (deadline := next_deadline(self.world)) is not None:
            self.now = max(self.now, deadline)
            self.take(ClockAdvanced())

    def crash(self) -> None:
        """The engine dies, what was under way is lost, and another one takes over from the ledger."""
        self.crashes += 1
        if self.crashes % 2:
            self.world = World()
            for event, at in self.log:
                evolve(self.world, event, at)
        else:  # It was so kind as to leave a snapshot.
            self.world = snapshots.decoded(snapshots.encoded(self.world))
        self.executor.lose_mail()
        self._judge_world("recovery")
        owed.reissue(self.world)
        self._pass_on([])
        self.executor.recognise([execution.id for execution in owed.running(self.world)])

    def restart_host(self) -> None:
        """The engine's host is rebooted under it, and the engine that then starts tells of another boot."""
        self.executor.restart_host()
        self.host_boots += 1
        self.crash()
        self.start_engine()

    def start_engine(self) -> None:
        """An engine says that it has started, and in which boot of its host."""
        self.now = Micros(self.now + self.tick)
        batch = [Decided(e.EngineStarted(version="0", host="host", pid=1, epoch=self.host_boots, boot_id=f"boot-{self.host_boots}"), None)]
        evolve(self.world, batch[0].event, self.now)
        settle(self.world, self.now, batch)
        for decided in batch:
            self._record(decided.event)
        self._judge_world("a start of the engine")
        self._pass_on(batch)

    def deliver(self, node: NodeId, *, again: bool = False, launches: bool = True, obeys: bool = True, uploads: bool = True) -> None:
        """Let the next command for a node arrive."""
        self.executor.deliver(node, again=again, launches=launches, obeys=obeys, uploads=uploads)
        self._hear_complaints()

    def report(self, index: int, *, again: bool = False) -> None:
        """Let one of the reports under way arrive."""
        self.take(self.executor.hand_over(index, again=again))

    def end(self, execution: ExecutionId, exit_code: int, *, uploads: bool = True) -> None:
        """A program ends; where it has output files and not `uploads`, they cannot be uploaded."""
        self.executor.end(execution, exit_code, uploads=uploads)

    # --- to the end ----------------------------------------------------------------------------------------

    def drain(self, exit_code: int = 0) -> None:
        """Deliver all commands, end all programs and take all reports until nothing is under way any more."""
        for _ in range(ROUNDS_MAX):
            nodes = [node for node, queue in self.executor.queues.items() if queue]
            running = self.executor.running()
            if not nodes and not running and not self.executor.reports:
                if not any(task.retry_at is not None for job in self.world.jobs.values() for task in job.tasks.values()):
                    return
                self.wake()  # Nothing else is left to wait for than the time of a next try.
            for node in nodes:
                if self.executor.queues.get(node):
                    self.deliver(node)
            for execution in running:
                if execution in self.executor.running():
                    self.end(execution, exit_code)
            while self.executor.reports:
                self.report(0)
        self._hold(False, "the world does not come to rest")

    def bring_back(self) -> None:
        """Every node that failed answers again."""
        for node in list(self.world.nodes.values()):
            if node.state == "preempted":
                self.take(r.NodeReallocated(node=node.id))
            elif node.state in {"unusable", "unknown"}:
                self.take(self.executor.come_back(node.id))

    def rest(self, *, nodes_return: bool = True) -> None:
        """Bring everything to its end: whatever can be done is done, every job completes, and every job can be deleted.

        Raises `Broken` where something is stuck, or where the executor remembers another story than the ledger tells.
        """
        self.crash()
        self.drain()
        if nodes_return:
            self.bring_back()
            self.drain()
        self._judge_rest()
        for job in list(self.world.jobs.values()):
            if job.state in {"active", "disabled"}:
                self.take(q.TerminateJob(job=job.id))
        self.drain()
        self._hold(all(job.state in _ENDED for job in self.world.jobs.values()), "a terminated job does not complete")
        self.judge_record()
        for job_id in list(self.world.jobs):
            self.take(q.DeleteJob(job=job_id))
        self.drain()
        self._hold(not self.world.jobs, "a deleted job does not go away")
        self.judge_record()
        up = [node.id for node in self.world.nodes.values() if node.state in UP]
        self._hold(not (left := self.executor.files_left(up)), f"files of deleted jobs are still there: {left}")

    def judge_record(self) -> None:
        """Hold the ledger against what the executor remembers of the releases and finalizers that ran."""
        faults = record_faults((event for event, _ in self.log), self.executor)
        self._hold(not faults, "; ".join(faults))

    # --- judging -------------------------------------------------------------------------------------------

    def _record(self, event: e.Event) -> None:
        for machine, key in moves(event):
            self.rows.add((machine.name, self.auditor.history.states.get(key, ABSENT), e.STORED[type(event)][0]))
        evolve(self.shadow, event, self.now)
        self.log.append((event, self.now))
        found = self.auditor.see(event, self.now, self.shadow, len(self.log))
        self._hold(not found, "\n".join(map(str, found)), found)

    def _judge_world(self, after: str) -> None:
        self._hold(self.world == self.shadow, f"after {after}: the world is not the one that its events make")
        faults = index_faults(self.world)
        self._hold(not faults, f"after {after}: {'; '.join(faults)}")
        reconsider(self.world)
        more: list[Decided] = []
        settle(self.world, self.now, more)
        self._hold(not more, f"after {after}: the world was not settled: {[decided.event for decided in more[:1]]}")
        self.shadow.agenda = Agenda()
        self.shadow.owed.fresh.clear()

    def _pass_on(self, batch: list[Decided]) -> None:
        for decided in batch:
            if isinstance(decided.event, e.NodeRemoved):
                self.executor.forget(decided.event.node)
            elif isinstance(decided.event, e.JobCreated):
                self.executor.submitted(decided.event.spec)
            elif isinstance(decided.event, e.TaskAdded):
                self.executor.added(decided.event.job, decided.event.spec)
            elif isinstance(decided.event, e.PoolCreated):
                self.executor.created(decided.event.spec)
        for command in owed.take_fresh(self.world):
            self.executor.send(command)
        self._hear_complaints()

    def _hear_complaints(self) -> None:
        self._hold(not self.executor.complaints, "; ".join(self.executor.complaints))

    def _judge_rest(self) -> None:
        """Hold that nothing waits for anything that could happen by itself."""
        faults = unrest(self.world)
        self._hold(not faults, "; ".join(faults))

    def _hold(self, holds: bool, text: str, violations: Sequence[Violation] = ()) -> None:
        if not holds:
            self.broken = text
            raise Broken(text, tuple(violations))
