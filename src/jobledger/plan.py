"""The plan of a job: what of it ran, or in a dry run would run, where and when; read from the events of any ledger.

1. It is made from events alone, without the fold and without an engine: a copy of a ledger will do, and so will one of a run that
   is under way.
2. There is one row for each execution of the job, and one for each start task that made a node of its pool ready for it.
3. Times are microseconds from the job's submission; those of start tasks may be negative.  `makespan` is not less than any of them.
4. Rows are in order of their start, those that never started of their request, and among equals of their execution's number.

Reading order: `Plan` and `Row` are what comes out, `plan_of` makes it, `_Reader` is how.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from attrs import Factory, define, frozen

from .core import events as e
from .core.errors import ImpossibleEvent, RequestRefused
from .core.execution import told_of_job
from .core.failure import Result
from .core.ids import ENGINE_HOST, ENGINE_POOL, SECOND, Duration, ExecutionId, ExecutionKind, JobId, Micros, NodeId, PoolId, TaskId
from .core.ports import EventStore, RecordedEvent
from .core.specs import EnvironmentSetting, FinalizerSpec, JobSpec, PoolSpec, PreparationSpec, ReleaseSpec, StartTaskSpec, TaskSpec

Outcome = Literal["succeeded", "failed", "stopped", "never-ran", "lost", "unfinished"]
"""How an execution ended: its program with exit code 0 and its outputs uploaded, with anything else, or by a stop; it was never
launched; it ended and nobody saw how; or it has not ended yet.
"""

TaskEnd = Literal["succeeded", "failed", "unfinished"]

NAMES: Final[dict[ExecutionKind, str]] = {
    "starttask": "start task",
    "preparation": "preparation",
    "task": "task",
    "release": "release",
    "finalizer": "finalizer",
}
"""What people call the kinds of executions."""

What = TaskSpec | PreparationSpec | ReleaseSpec | FinalizerSpec | StartTaskSpec


@define(kw_only=True)
class Row:
    """One execution.  `start` is when the executor saw the program start; where nobody reported that, when its wall time says that it
    began, and at the earliest when it was requested.
    """

    kind: ExecutionKind
    task: TaskId
    """The task's id, or that of the preparation task, the release task or the finalizer, or `starttask`."""
    node: NodeId
    pool: PoolId
    attempt: int
    execution: ExecutionId
    what: What
    """What was asked for when it was requested."""
    slots: int
    """The slots of its node that it holds: none for what is no task."""
    requested: Duration
    start: Duration | None = None
    end: Duration | None = None
    outcome: Outcome = "unfinished"
    exit_code: int | None = None
    signal: int | None = None
    why: str = ""
    """Why it was stopped, lost or never ran."""
    waited: Duration | None = None
    """For a task that started: how long it had been active, that is since it was added or put back, or since its retry was due.
    It includes waiting for what it depends on and for preparation.
    """
    facts: tuple[EnvironmentSetting, ...] = ()
    """What a finalizer is told of its job."""

    @property
    def began(self) -> Duration:
        """By what rows are ordered: the start, or of what never started the request."""
        return self.requested if self.start is None else self.start

    @property
    def took(self) -> Duration | None:
        """How long it ran; None for what never started or has not ended."""
        return None if self.start is None or self.end is None else Duration(self.end - self.start)


@frozen(kw_only=True)
class NodeUse:
    """How much of a node the job's tasks used.  All amounts are slot-microseconds: a task that requires 2 slots uses 2 in each.

    `available` is the node's slots for the time from its first boot, or the job's submission (or move to the pool) if that is later, to the
    job's end, or the node's removal (or the job's move to another pool) if that is earlier.  Time in which the node is down, drains or
    serves other jobs is part of it.
    """

    node: NodeId
    pool: PoolId
    slots: int
    tasks: int
    """Executions of tasks that started here."""
    used: int
    """For each of them, its slots for the time from its start to its end."""
    available: int

    @property
    def utilisation(self) -> float | None:
        """`used / available`, from 0 to 1; None where nothing was available."""
        return self.used / self.available if self.available else None


@frozen(kw_only=True)
class TaskResult:
    """What became of a task in the end, whatever its tries were."""

    end: TaskEnd
    exit_code: int | None = None
    failure: str | None = None
    """The failure's code."""


@frozen(kw_only=True)
class Plan:
    """The plan of one job.  `dry_run` is the ledger's own word for a dry run, empty for a real one."""

    ledger: str
    job: JobId
    pool: PoolId
    dry_run: str
    submitted_at: Micros
    ended: bool
    """Whether the job is over; if not, everything is as of the last event."""
    makespan: Duration
    """From the job's submission to its end, or to the last event."""
    peak: int
    """The most executions of tasks at one time."""
    rows: tuple[Row, ...]
    nodes: tuple[NodeUse, ...]
    tasks: Mapping[TaskId, TaskResult]
    spec: JobSpec
    pools: Mapping[PoolId, PoolSpec]
    """The pools that the job was on, and those of the nodes of all rows."""

    @property
    def used(self) -> int:
        return sum(node.used for node in self.nodes)

    @property
    def available(self) -> int:
        return sum(node.available for node in self.nodes)

    @property
    def utilisation(self) -> float | None:
        """Of the whole pool: what its nodes' `used` is of what their `available` is; None where nothing was available."""
        return self.used / self.available if self.available else None

    @property
    def waits(self) -> tuple[Duration, Duration] | None:
        """The mean and the longest of all rows' `waited`; None where no task started."""
        waits = [row.waited for row in self.rows if row.waited is not None]
        return (Duration(sum(waits) // len(waits)), max(waits)) if waits else None


def plan_of(store: EventStore, job: JobId) -> Plan:
    """The plan of a job, of the latest one where an id was used again.

    Refused: JobNotFound.  Raises `LedgerCorrupt`, and `ImpossibleEvent` for one about a node or pool that is not there.
    """
    reader = _Reader(job)
    for recorded in store.read():
        reader.see(recorded)
        if reader.ended_at is not None:
            if not any(isinstance(later.event, e.JobCreated) for later in store.read(after=recorded.position, stream=f"job/{job}")):
                break
            reader.forget_job()
    return reader.plan(store.ledger_id)


def jobs_of(store: EventStore) -> list[JobId]:
    """Every job that the ledger tells of, in order of submission, those that were deleted included."""
    return list(dict.fromkeys(recorded.event.job for recorded in store.read() if isinstance(recorded.event, e.JobCreated)))


# --- reading --------------------------------------------------------------------------------------------------


@define
class _NodeFacts:
    id: NodeId
    pool: PoolId
    slots: int
    booted_at: Micros | None = None
    removed_at: Micros | None = None
    starts: list[Row] = Factory(list)
    """The start tasks since its latest boot."""


class _Reader:
    """Reads events in order, and remembers of other jobs nothing.  All times in its rows are of the clock, until `plan`."""

    def __init__(self, job: JobId) -> None:
        self._job: Final = job
        self._now = Micros(0)
        self._dry_run = ""
        self._pools: Final[dict[PoolId, PoolSpec]] = {}
        self._nodes: Final[dict[NodeId, _NodeFacts]] = {}
        self._ever: Final[list[_NodeFacts]] = []
        """All nodes that there ever were: one of a pool that was made anew may have the id of one that is gone."""
        self._starting: Final[dict[ExecutionId, Row]] = {}
        self._see: Final[dict[type[e.Event], Callable[[Any], None]]] = {
            e.EngineStarted: self._on_engine,
            e.PoolCreated: self._on_pool,
            e.NodeAdded: self._on_node,
            e.NodeBooted: self._on_boot,
            e.NodeRemoved: self._on_removal,
            e.JobCreated: self._on_job,
            e.JobPatched: self._on_patch,
            e.JobTerminating: self._on_terminating,
            e.JobCompleted: self._on_end,
            e.JobDeleted: self._on_end,
            e.TaskAdded: self._on_task,
            e.TaskRetried: self._on_active,
            e.TaskRetryDue: self._on_active,
            e.TaskRequeued: self._on_active,
            e.TaskReactivated: self._on_active,
            e.TaskCompleted: self._on_completed,
            e.TaskDeleted: self._on_task_deleted,
            e.ReleaseCompleted: self._on_release,
            e.ReleaseAbandoned: self._on_release,
            e.ExecutionRequested: self._on_requested,
            e.ExecutionConfirmed: self._on_confirmed,
            e.ExecutionStopRequested: self._on_stop,
            e.ExecutionEnded: self._on_ended,
            e.ExecutionNeverRan: self._on_never_ran,
            e.ExecutionUnresolved: self._on_unresolved,
        }
        self.forget_job()

    def forget_job(self) -> None:
        """Be as before the job was created."""
        self.ended_at: Micros | None = None
        self._spec: JobSpec | None = None
        self._submitted_at = Micros(0)
        self._stays: list[tuple[PoolId, Micros]] = []
        """The pools that the job was on, each with since when."""
        self._rows: list[Row] = []
        self._live: dict[ExecutionId, Row] = {}
        self._tasks: dict[TaskId, TaskSpec] = {}
        self._active_since: dict[TaskId, Micros] = {}
        self._results: dict[TaskId, TaskResult] = {}
        self._reason = ""
        self._releases: dict[NodeId, Result] = {}

    def see(self, recorded: RecordedEvent) -> None:
        event = recorded.event
        self._now = max(self._now, recorded.recorded_at)  # A host's clock may be set back; a plan's does not go so.
        see, owner = self._see.get(type(event)), getattr(event, "job", None)
        if see is None or (owner is not None and owner != self._job):
            return
        try:
            see(event)
        except KeyError as missing:
            raise ImpossibleEvent(f"{e.STORED[type(event)][0]} at position {recorded.position} cannot happen: there is no {missing}") from None

    def plan(self, ledger: str) -> Plan:
        """What was read, as a plan.  Refused: JobNotFound."""
        if self._spec is None:
            raise RequestRefused("JobNotFound", f"the ledger knows no job {self._job}")
        end = self._now if self.ended_at is None else self.ended_at
        nodes = tuple(self._uses(end))
        peak = peak_of((row.start, end if row.end is None else row.end) for row in self._rows if row.kind == "task" and row.start is not None)
        for row in self._rows:
            self._make_relative(row)
        return Plan(
            ledger=ledger,
            job=self._job,
            pool=self._stays[-1][0],
            dry_run=self._dry_run,
            submitted_at=self._submitted_at,
            ended=self.ended_at is not None,
            makespan=Duration(end - self._submitted_at),
            peak=peak,
            rows=tuple(sorted(self._rows, key=lambda row: (row.began, row.execution))),
            nodes=nodes,
            tasks={task: self._results.get(task, TaskResult(end="unfinished")) for task in self._tasks},
            spec=self._spec,
            pools={pool: self._pools[pool] for pool in {pool for pool, _ in self._stays} | {row.pool for row in self._rows} if pool in self._pools},
        )

    # --- the ledger, pools and nodes ---------------------------------------------------------------------------

    def _on_engine(self, event: e.EngineStarted) -> None:
        self._dry_run = event.dry_run

    def _on_pool(self, event: e.PoolCreated) -> None:
        self._pools[event.pool] = event.spec

    def _on_node(self, event: e.NodeAdded) -> None:
        self._nodes[event.node] = _NodeFacts(event.node, event.pool, self._pools[event.pool].task_slots_per_node)
        self._ever.append(self._nodes[event.node])

    def _on_boot(self, event: e.NodeBooted) -> None:
        node = self._nodes[event.node]
        node.starts = []
        if node.booted_at is None:
            node.booted_at = self._now

    def _on_removal(self, event: e.NodeRemoved) -> None:
        self._nodes[event.node].removed_at = self._now

    # --- the job and its tasks ---------------------------------------------------------------------------------

    def _on_job(self, event: e.JobCreated) -> None:
        self._spec, self._submitted_at = event.spec, self._now
        self._come_to(event.spec.pool_info.pool_id)

    def _on_patch(self, event: e.JobPatched) -> None:
        if event.pool_info is not None and event.pool_info.pool_id != self._stays[-1][0]:
            self._come_to(event.pool_info.pool_id)

    def _come_to(self, pool: PoolId) -> None:
        """The job is on that pool from now on: what made its nodes ready belongs to the plan."""
        self._stays.append((pool, self._now))
        known = {row.execution for row in self._rows}
        for node in self._nodes.values():
            if node.pool == pool and node.removed_at is None:
                self._rows += (row for row in node.starts if row.execution not in known)

    def _on_terminating(self, event: e.JobTerminating) -> None:
        self._reason = event.reason

    def _on_end(self, _event: e.JobCompleted | e.JobDeleted) -> None:
        self.ended_at = self._now

    def _on_task(self, event: e.TaskAdded) -> None:
        self._tasks[event.task] = event.spec
        self._active_since[event.task] = self._now

    def _on_active(self, event: e.TaskRetried | e.TaskRetryDue | e.TaskRequeued | e.TaskReactivated) -> None:
        self._active_since[event.task] = self._now
        self._results.pop(event.task, None)

    def _on_completed(self, event: e.TaskCompleted) -> None:
        self._results[event.task] = TaskResult(
            end="succeeded" if event.result == "success" else "failed",
            exit_code=event.exit_code,
            failure=None if event.failure is None else event.failure.code,
        )

    def _on_task_deleted(self, event: e.TaskDeleted) -> None:
        for about in (self._tasks, self._active_since, self._results):
            about.pop(event.task, None)

    def _on_release(self, event: e.ReleaseCompleted | e.ReleaseAbandoned) -> None:
        self._releases[event.node] = event.result if isinstance(event, e.ReleaseCompleted) else "failure"

    # --- executions --------------------------------------------------------------------------------------------

    def _on_requested(self, event: e.ExecutionRequested) -> None:
        what = self._what(event)
        if what is None:
            return
        row = Row(
            kind=event.kind,
            task=event.task,
            node=event.node,
            pool=ENGINE_POOL if event.node == ENGINE_HOST else self._nodes[event.node].pool,
            attempt=event.attempt,
            execution=event.execution,
            what=what,
            slots=what.required_slots if isinstance(what, TaskSpec) else 0,
            requested=Duration(self._now),
            facts=self._facts() if event.kind == "finalizer" else (),
        )
        if event.kind == "starttask":
            self._starting[event.execution] = row
            self._nodes[event.node].starts.append(row)
            if not self._stays or row.pool != self._stays[-1][0]:
                return
        else:
            self._live[event.execution] = row
        self._rows.append(row)

    def _what(self, event: e.ExecutionRequested) -> What | None:
        """What is to be run; None where the ledger does not tell, as one does not that makes no sense."""
        if event.kind == "starttask":
            node = self._nodes.get(event.node)
            return self._pools[node.pool].start_task if node is not None else None
        if self._spec is None or (event.node != ENGINE_HOST and event.node not in self._nodes):
            return None
        match event.kind:
            case "task":
                return self._tasks.get(event.task)
            case "preparation":
                return self._spec.job_preparation_task
            case "release":
                return self._spec.job_release_task
            case "finalizer":
                return self._spec.job_finalizer_task

    def _facts(self) -> tuple[EnvironmentSetting, ...]:
        ends = [result.end for result in self._results.values()]
        failed = sum(result == "failure" for result in self._releases.values())
        return told_of_job(self._reason, succeeded=ends.count("succeeded"), failed=ends.count("failed"), releases_failed=failed)

    def _on_confirmed(self, event: e.ExecutionConfirmed) -> None:
        if (row := self._row(event.execution)) is not None:
            self._start(row, self._now)

    def _start(self, row: Row, at: Micros) -> None:
        row.start = Duration(at)
        if row.kind == "task":
            row.waited = Duration(max(0, at - self._active_since.get(row.task, at)))

    def _on_stop(self, event: e.ExecutionStopRequested) -> None:
        if (row := self._row(event.execution)) is not None:
            row.why = event.cause

    def _on_ended(self, event: e.ExecutionEnded) -> None:
        if (row := self._row(event.execution)) is None:
            return
        if row.start is None:
            self._start(row, Micros(max(row.requested, self._now - (event.wall or 0))))
        row.exit_code, row.signal = event.exit_code, event.signal
        is_good = event.exit_code == 0 and event.signal is None and event.upload_failure is None
        self._end(row, "stopped" if event.stopped else "succeeded" if is_good else "failed")
        if not event.stopped:  # It was quicker than whoever wanted it stopped.
            row.why = "" if event.upload_failure is None else event.upload_failure.code

    def _on_never_ran(self, event: e.ExecutionNeverRan) -> None:
        if (row := self._row(event.execution)) is not None:
            self._end(row, "never-ran")
            row.why = row.why if event.failure is None else event.failure.code

    def _on_unresolved(self, event: e.ExecutionUnresolved) -> None:
        if (row := self._row(event.execution)) is not None:
            self._end(row, "lost")
            row.why = event.reason

    def _end(self, row: Row, outcome: Outcome) -> None:
        row.end, row.outcome = Duration(self._now), outcome
        self._live.pop(row.execution, None)
        self._starting.pop(row.execution, None)

    def _row(self, execution: ExecutionId) -> Row | None:
        """The row of an execution that has not ended; None for one that is no part of the plan."""
        return self._live.get(execution) or self._starting.get(execution)

    # --- the plan ----------------------------------------------------------------------------------------------

    def _uses(self, end: Micros) -> Iterator[NodeUse]:
        """Of every node that was in the pools that the job was on, while it was there."""
        used, started, available = Counter[NodeId](), Counter[NodeId](), Counter[NodeId]()
        for row in self._rows:
            if row.kind == "task" and row.start is not None:
                used[row.node] += row.slots * ((end if row.end is None else row.end) - row.start)
                started[row.node] += 1
        borders = [*(since for _, since in self._stays[1:]), end]
        seen: dict[NodeId, _NodeFacts] = {}
        for node in self._ever:
            gone = end if node.removed_at is None else node.removed_at
            stays = [(since, until) for (pool, since), until in zip(self._stays, borders, strict=True) if pool == node.pool and since <= gone]
            if stays:
                seen[node.id] = node
                up = 0 if node.booted_at is None else sum(max(0, min(until, gone) - max(since, node.booted_at)) for since, until in stays)
                available[node.id] += node.slots * up
        for name, node in seen.items():
            yield NodeUse(node=name, pool=node.pool, slots=node.slots, tasks=started[name], used=used[name], available=available[name])

    def _make_relative(self, row: Row) -> None:
        row.requested = Duration(row.requested - self._submitted_at)
        row.start = None if row.start is None else Duration(row.start - self._submitted_at)
        row.end = None if row.end is None else Duration(row.end - self._submitted_at)


def offset(at: Duration) -> str:
    """A time of a plan for people: seconds from the job's submission, `+12.345s`."""
    return f"{round(at / SECOND, 3) + 0.0:+.3f}s"  # Without the sum what is rounded to nothing might be `-0.000s`.


def peak_of(spans: Iterable[tuple[int, int]]) -> int:
    """The most of `spans`, from a start to before an end, that there are at one time; one that is empty counts for none."""
    moments = sorted(moment for start, end in spans for moment in ((start, 1), (end, -1)))
    peak = now = 0
    for _, step in moments:  # At one moment ends come before starts, since -1 is less than 1.
        now += step
        peak = max(peak, now)
    return peak
