"""Execution: one launch of one command line, of whatever kind.

1. Its number is never used again; it is what an executor carries through process, records and reports.
2. `requested` is the intent, recorded before any effect: from then on a launch may have happened.
3. Exactly one outcome ends it: it ended and this is how, it certainly never ran, or nobody knows.
4. That it should stop is a wish kept beside the state; the state says only what was seen.
5. A later stop may only be stronger: requeue, then complete, then delete.
"""

from collections.abc import Iterator
from typing import Final

from attrs import evolve

from . import files, limits
from .commands import Launch, RunCommand, RunFinalizer, RunPreparation, RunRelease, RunStartTask, RunTask, StopExecution
from .events import (
    Event,
    ExecutionConfirmed,
    ExecutionEnded,
    ExecutionNeverRan,
    ExecutionRequested,
    ExecutionStopRequested,
    ExecutionUnresolved,
    StopThen,
)
from .failure import FailureInfo, silent_failure
from .ids import ENGINE_HOST, ENGINE_POOL, Duration, ExecutionId, ExecutionKind, JobId, Micros, NodeId, PoolId, TaskId
from .machine import ABSENT, Machine, rows
from .specs import (
    ApplicationPackageReference,
    EnvironmentSetting,
    FinalizerSpec,
    PreparationSpec,
    ReleaseSpec,
    StartTaskSpec,
    TaskConstraints,
    TaskSpec,
)
from .world import CommandKey, Execution, Job, Stop, World, live_execution, owe_node, present

EXECUTION: Final = Machine(
    "execution",
    "one launch of one command line",
    rows(
        (ABSENT, ExecutionRequested, "requested"),
        ("requested", ExecutionConfirmed, "running"),
        ("requested running", ExecutionStopRequested, "=", "a wish, not a fact"),
        ("requested running", ExecutionEnded, "ended", "the report of the start may be lost or come with that of the end"),
        ("requested", ExecutionNeverRan, "never-ran"),
        ("requested running", ExecutionUnresolved, "unresolved"),
    ),
)

WALL_CLOCK: Final = "maxWallClockTime"
SILENT: Final = "silentTimeout"
LIMITS: Final = frozenset({WALL_CLOCK, SILENT})
"""Causes of stops that a limit asked for, and nobody's request."""

_UP: Final = frozenset({"waitingforstarttask", "starttaskfailed", "idle", "running", "offline"})

JOB_DELETED: Final = "JobDeleted"
"""What a finalizer is told as the reason for the end of a job that was deleted and never terminated."""

_STRENGTH: Final[dict[StopThen, int]] = {"requeue": 0, "complete": 1, "delete": 2}


# --- decide ---------------------------------------------------------------------------------------------------


def request(world: World, kind: ExecutionKind, job: JobId | None, task: TaskId, node: NodeId, attempt: int) -> ExecutionRequested:
    """The event that intends a launch, under the next free number."""
    return ExecutionRequested(execution=ExecutionId(world.next_execution), kind=kind, job=job, task=task, node=node, attempt=attempt)


def stop(execution: Execution, then: StopThen, cause: str, failure: FailureInfo | None = None, silent_for: Duration | None = None) -> Iterator[Event]:
    """The event that asks for the execution's end, unless a stop as strong was asked for before."""
    if execution.stop is None or _STRENGTH[then] > _STRENGTH[execution.stop.then]:
        yield ExecutionStopRequested(
            execution=execution.id,
            job=execution.job,
            task=execution.task,
            node=execution.node,
            then=then,
            cause=cause,
            failure=failure,
            silent_for=silent_for,
        )


def confirmed(execution: Execution, pid: int | None) -> ExecutionConfirmed:
    return ExecutionConfirmed(execution=execution.id, job=execution.job, task=execution.task, node=execution.node, pid=pid)


def never_ran(execution: Execution, failure: FailureInfo | None) -> ExecutionNeverRan:
    return ExecutionNeverRan(execution=execution.id, job=execution.job, task=execution.task, node=execution.node, failure=failure)


def unresolved(execution: Execution, reason: str) -> ExecutionUnresolved:
    return ExecutionUnresolved(execution=execution.id, job=execution.job, task=execution.task, node=execution.node, reason=reason)


def on_silent(world: World, execution: Execution, silent_for: Duration) -> Iterator[Event]:
    """The program has been silent: the events that end it, where that is as long as it may be."""
    limit = silent_limit(world, execution)
    if limit is not None and silent_for >= limit and execution.state == "running":
        yield from stop(execution, "complete", SILENT, silent_failure(limit), silent_for)


def unasked(world: World, execution: Execution) -> bool:
    """Whether the execution ended through its executor alone: nobody asked for it, and the node stayed up."""
    return execution.stop is None and (execution.node == ENGINE_HOST or world.nodes[execution.node].state in _UP)


def wall_clock_limit(world: World, execution: Execution) -> Duration | None:
    """How long the execution may run from its start; a start task has no limit (semantics 1.4)."""
    if execution.kind == "release":
        return present(world.jobs[present(execution.job)].spec.job_release_task).max_wall_clock_time
    if execution.kind == "finalizer":
        return present(world.jobs[present(execution.job)].spec.job_finalizer_task).max_wall_clock_time
    constraints = _constraints(world, execution)
    return constraints.max_wall_clock_time if constraints is not None else None


def silent_limit(world: World, execution: Execution) -> Duration | None:
    """How long the execution may run without writing anything; only tasks and preparations have such a limit."""
    constraints = _constraints(world, execution)
    return constraints.silent_timeout if constraints is not None else None


def _constraints(world: World, execution: Execution) -> TaskConstraints | None:
    """The constraints of a task or preparation, None where it states none and of everything else."""
    match execution.kind:
        case "preparation":
            return present(world.jobs[present(execution.job)].spec.job_preparation_task).constraints
        case "task":
            return world.task(present(execution.job), execution.task).spec.constraints
        case _:
            return None


# --- commands -------------------------------------------------------------------------------------------------


def owed_key(world: World, execution: Execution) -> CommandKey | None:
    """Which command an execution owes its executor: stop where one is wished for, run until the start was seen, then none.

    None too while its folder is being removed: it is launched after that.
    """
    if execution.stop is not None:
        return _stop_key(execution.id, execution.stop.then)
    return ("run", execution.id, 0) if execution.state == "requested" and not files.waits(world, execution) else None


def stop_command(world: World, execution: Execution) -> StopExecution:
    """The command that ends an execution; its outputs are uploaded where the end is its task's."""
    return StopExecution(
        execution=execution.id,
        pool=pool_of(world, execution),
        node=execution.node,
        grace=limits.STOP_GRACE,
        upload=present(execution.stop).then == "complete",
    )


def pool_of(world: World, execution: Execution) -> PoolId:
    """The pool of the node that the execution is on; `ENGINE_POOL` for one on the engine's host."""
    return ENGINE_POOL if execution.node == ENGINE_HOST else world.nodes[execution.node].pool


def run_command(world: World, execution: Execution) -> RunCommand:
    """The command that launches an execution, or by which an executor recognises it after a restart."""
    match execution.kind:
        case "starttask":
            return RunStartTask(launch=_launch(world, execution, present(world.pool_of(execution.node).spec.start_task)))
        case "preparation":
            return RunPreparation(launch=_launch(world, execution, present(world.jobs[present(execution.job)].spec.job_preparation_task)))
        case "release":
            return RunRelease(launch=_launch(world, execution, present(world.jobs[present(execution.job)].spec.job_release_task)))
        case "finalizer":
            job = world.jobs[present(execution.job)]
            return RunFinalizer(launch=evolve(_launch(world, execution, present(job.spec.job_finalizer_task)), facts=_facts(job)))
        case "task":
            return RunTask(launch=_launch(world, execution, world.task(present(execution.job), execution.task).spec))


def told_of_job(reason: str, *, succeeded: int, failed: int, releases_failed: int) -> tuple[EnvironmentSetting, ...]:
    """The variables that tell a finalizer of its job: why that ends (empty: it was deleted) and how its tasks and releases did."""
    told = {
        "JOBLEDGER_TERMINATE_REASON": (reason or JOB_DELETED).replace("\0", "?")[: limits.REASON_TOLD_LENGTH_MAX],
        "JOBLEDGER_TASKS_SUCCEEDED": str(succeeded),
        "JOBLEDGER_TASKS_FAILED": str(failed),
        "JOBLEDGER_RELEASES_FAILED": str(releases_failed),
    }
    return tuple(EnvironmentSetting(name=name, value=value) for name, value in told.items())


# --- evolve ---------------------------------------------------------------------------------------------------


def on_requested(world: World, event: ExecutionRequested, _at: Micros) -> None:
    execution = Execution(
        id=event.execution,
        kind=event.kind,
        job=event.job,
        task=event.task,
        node=event.node,
        attempt=event.attempt,
        state=EXECUTION.move(ABSENT, event, event.execution),
    )
    world.executions[event.execution] = execution
    world.next_execution = event.execution + 1
    node = world.nodes[event.node] if event.node != ENGINE_HOST else None
    if node is not None:
        node.live[event.execution] = None
        owe_node(world, node)
    if event.job is not None:
        job = world.jobs[event.job]
        job.live[event.execution] = None
        if event.kind not in {"release", "finalizer"}:
            job.unstopped[event.execution] = None
        if node is not None:
            files.hold(world, node, job, event)
    if node is None or not node.removals or not files.waits(world, execution):
        world.owed.add(("run", event.execution, 0))


def on_confirmed(world: World, event: ExecutionConfirmed, at: Micros) -> None:
    execution = live_execution(world, event.execution)
    execution.state = EXECUTION.move(execution.state, event, event.execution)
    execution.started_at = at
    execution.pid = event.pid
    world.owed.drop(("run", event.execution, 0))
    if (limit := wall_clock_limit(world, execution)) is not None:
        world.add_deadline(at + limit, "execution", execution.id)


def on_stop_requested(world: World, event: ExecutionStopRequested, _at: Micros) -> None:
    execution = live_execution(world, event.execution)
    execution.state = EXECUTION.move(execution.state, event, event.execution)
    if event.job is not None:
        job = world.jobs[event.job]
        if execution.kind == "task" and execution.stop is None:
            job.stopping += 1
        if event.then != "requeue":
            job.unstopped.pop(event.execution, None)
    owed, now = owed_key(world, execution), _stop_key(event.execution, event.then)
    execution.stop = Stop(then=event.then, cause=event.cause, failure=event.failure)
    if owed is not None and owed != now:
        world.owed.drop(owed)
    world.owed.add(now)


def on_outcome(world: World, event: ExecutionEnded | ExecutionNeverRan | ExecutionUnresolved, at: Micros) -> None:
    execution = live_execution(world, event.execution)
    EXECUTION.move(execution.state, event, event.execution)
    del world.executions[event.execution]
    node = world.nodes[event.node] if event.node != ENGINE_HOST else None
    if node is not None:
        del node.live[event.execution]
        owe_node(world, node)
        world.agenda.node(event.node)
        if node.draining is not None:
            world.agenda.node_load(event.node)
    if event.job is not None:
        job = world.jobs[event.job]
        del job.live[event.execution]
        job.unstopped.pop(event.execution, None)
        if execution.kind == "task" and execution.stop is not None:
            job.stopping -= 1
        if node is not None:
            files.keep(world, node, job, execution, event, at)
        world.agenda.job(event.job)
    if (owed := owed_key(world, execution)) is not None:
        world.owed.drop(owed)


# --- helpers --------------------------------------------------------------------------------------------------


def _stop_key(execution: ExecutionId, then: StopThen) -> CommandKey:
    """A stop that became one with another word about uploads is another command, and goes out again."""
    return ("stop", execution, int(then == "complete"))


def _launch(world: World, execution: Execution, what: StartTaskSpec | PreparationSpec | ReleaseSpec | FinalizerSpec | TaskSpec) -> Launch:
    settings = what.environment_settings
    preparation = None
    if execution.job is not None:
        spec = world.jobs[execution.job].spec
        settings = spec.common_environment_settings + settings
        if spec.job_preparation_task is not None and execution.kind not in {"preparation", "finalizer"}:
            preparation = spec.job_preparation_task.id
    merged = {setting.name: setting for setting in settings}
    return Launch(
        execution=execution.id,
        pool=pool_of(world, execution),
        node=execution.node,
        job=execution.job,
        task=execution.task,
        attempt=execution.attempt,
        command_line=what.command_line,
        environment=tuple(merged.values()),
        preparation=preparation,
        silent_after=silent_limit(world, execution),
        user=what.user_identity,
        resource_files=what.resource_files,
        output_files=what.output_files if isinstance(what, TaskSpec | ReleaseSpec | FinalizerSpec) else (),
        packages=_packages(world, execution, what.application_package_references if isinstance(what, TaskSpec) else ()),
    )


def _packages(world: World, execution: Execution, own: tuple[ApplicationPackageReference, ...]) -> tuple[ApplicationPackageReference, ...]:
    """The packages of the pool and a task's own, which win where both name the same version of an application; the engine's host has none."""
    common = world.pool_of(execution.node).spec.application_package_references if execution.node != ENGINE_HOST else ()
    if not common or not own:
        return common or own
    return tuple({(one.application_id.lower(), one.version): one for one in (*common, *own)}.values())


def _facts(job: Job) -> tuple[EnvironmentSetting, ...]:
    """What a finalizer is told of its job, all of which is settled by the time it starts."""
    failed = sum(release.state == "abandoned" or release.result == "failure" for release in job.releases.values())
    return told_of_job(job.terminate_reason or "", succeeded=job.succeeded, failed=job.counts["completed"] - job.succeeded, releases_failed=failed)
