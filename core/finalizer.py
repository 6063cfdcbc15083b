"""Finalizer: what runs once at the very end of a job, on the engine's host or on a node that was chosen for it.

1. It starts only when the job is ending, no other execution of the job lives and no release is owed: it is the last that runs
   of a job, however that ends.  The job is completed or gone only when its finalizer is completed or abandoned.
2. It has one try: a failure is recorded and never retried, and outputs that could not be uploaded are one.  Only a run that its node cut short is due again, or the engine's host,
   which is told by the host's boot id, or its executor by stopping it unasked (and that `INTERNAL_RETRIES_MAX` times in a row at
   most); one whose end nobody saw on a node that stayed up may have run to its end, and is recorded as failed with an unknown outcome.
3. Once completed or abandoned it never runs again, whatever is asked of the job later.
4. It waits for a chosen node that is coming up.  Where that is gone or cannot run anything, it is abandoned with the cause: the
   job ends, and never claims that its finalizer ran.
"""

from collections.abc import Iterator
from typing import Final

from . import execution as executions
from . import limits
from . import release as releases
from .events import Event, FinalizerAbandoned, FinalizerCompleted, FinalizerInterrupted, FinalizerStarted
from .failure import FailureInfo, end_failure, ended_failure, internal_retries_failure, unknown_outcome_failure, with_upload
from .ids import ENGINE_HOST, JobId, Micros, NodeId
from .machine import ABSENT, Machine, rows
from .outcome import Ended, NeverRan, Outcome, Unresolved
from .world import Execution, Finalizer, Job, Stop, World, present

FINALIZER: Final = Machine(
    "finalizer",
    "a job's finalizer",
    rows(
        (ABSENT, FinalizerStarted, "running"),
        ("due", FinalizerStarted, "running"),
        ("running", FinalizerInterrupted, "due", "the node went down under it"),
        ("running", FinalizerCompleted, "completed"),
        (f"{ABSENT} due", FinalizerAbandoned, "abandoned", "the chosen node is gone, or cannot run anything"),
    ),
)

_CANNOT_RUN: Final = {state: cause for state, cause in releases.CANNOT_RUN.items() if state != "reimaging"}
"""Node states in which a finalizer cannot run and that nothing is known to end.  A node that is being reimaged comes back: its files were
what a release was about, but mean nothing to a finalizer."""


# --- decide ---------------------------------------------------------------------------------------------------


def settled(job: Job) -> bool:
    """Whether the job may end as far as its finalizer goes."""
    return job.spec.job_finalizer_task is None or (job.finalizer is not None and job.finalizer.state in {"completed", "abandoned"})


def running(job: Job) -> bool:
    """Whether the job's finalizer is at work."""
    return job.finalizer is not None and job.finalizer.state == "running"


def run(world: World, job: Job) -> Iterator[Event]:
    """Start or abandon the finalizer of an ending job of which nothing else is left, unless its node is just coming up (rules 1 and 4)."""
    spec = job.spec.job_finalizer_task
    if spec is None or settled(job):
        return
    node_id = spec.node_id or ENGINE_HOST
    if (cause := _cannot_run(world, node_id)) is not None:
        yield FinalizerAbandoned(job=job.id, node=node_id, cause=cause)
    elif _is_up(world, node_id):
        launches = job.finalizer.launches if job.finalizer is not None else 0
        event = executions.request(world, "finalizer", job.id, spec.id, node_id, launches + 1)
        yield event
        yield FinalizerStarted(job=job.id, node=node_id, execution=event.execution)


def stop_if_lost(world: World, job: Job) -> Iterator[Event]:
    """Take a finalizer back that was started on the engine's host before that was rebooted (rule 2)."""
    finalizer = present(job.finalizer)
    if finalizer.node == ENGINE_HOST and finalizer.boot and finalizer.boot != world.engine_boot:
        yield from executions.stop(world.executions[present(finalizer.execution)], "requeue", "the engine's host was rebooted")


def on_outcome(world: World, execution: Execution, outcome: Outcome) -> Iterator[Event]:
    """What the end of a finalizer's execution means (rule 2)."""
    job, node = present(execution.job), execution.node
    wish = execution.stop
    for_good = wish is not None and wish.then != "requeue"
    match outcome:
        case Ended(exit_code=exit_code, stopped=False) as ended:
            yield _completed(job, node, exit_code, end_failure(exit_code, ended.signal, ended.upload_failure))
        case Ended(exit_code=exit_code) as ended if for_good:
            yield _completed(job, node, exit_code, with_upload(_wished(present(wish)), ended.upload_failure))
        case NeverRan(failure=FailureInfo() as failure):
            yield _completed(job, node, None, failure)
        case Ended() | NeverRan():
            yield _cut_short(world, execution, wish.cause if wish is not None else "stopped by the executor")
        case Unresolved() if for_good:
            yield _completed(job, node, None, _wished(present(wish)))
        case Unresolved(reason=reason) if executions.unasked(world, execution):
            yield _completed(job, node, None, unknown_outcome_failure(reason))
        case Unresolved(reason=reason):
            yield _cut_short(world, execution, reason)


def _cut_short(world: World, execution: Execution, cause: str) -> Event:
    """It is due again, unless its executor has stopped it unasked too often in a row."""
    job, node = present(execution.job), execution.node
    internal = executions.unasked(world, execution)
    if internal and present(world.jobs[job].finalizer).internal >= limits.INTERNAL_RETRIES_MAX:
        return _completed(job, node, None, internal_retries_failure(cause))
    return FinalizerInterrupted(job=job, node=node, cause=cause, internal=internal)


def _cannot_run(world: World, node_id: NodeId) -> str | None:
    if node_id == ENGINE_HOST:
        return None
    node = world.nodes.get(node_id)
    return _CANNOT_RUN.get(node.state) if node is not None else "there is no such node"


def _is_up(world: World, node_id: NodeId) -> bool:
    return node_id == ENGINE_HOST or world.nodes[node_id].state in releases.UP


def _wished(wish: Stop) -> FailureInfo:
    return wish.failure or ended_failure(wish.cause)


def _completed(job: JobId, node: NodeId, exit_code: int | None, failure: FailureInfo | None) -> FinalizerCompleted:
    return FinalizerCompleted(job=job, node=node, result="success" if failure is None else "failure", exit_code=exit_code, failure=failure)


# --- evolve ---------------------------------------------------------------------------------------------------


def register(world: World, job: Job) -> None:
    """Note that an ending job waits for the node that was chosen for its finalizer, if one was."""
    spec = job.spec.job_finalizer_task
    if spec is not None and spec.node_id is not None:
        world.finalizing.setdefault(spec.node_id, {})[job.id] = None


def forget(world: World, job: Job) -> None:
    """The job is over: it waits for no node any more."""
    spec = job.spec.job_finalizer_task
    if spec is not None and spec.node_id is not None and (waiting := world.finalizing.get(spec.node_id)) is not None:
        waiting.pop(job.id, None)
        if not waiting:
            del world.finalizing[spec.node_id]
            world.agenda.node_load(spec.node_id)  # A drain may have waited for that.


def on_started(world: World, event: FinalizerStarted, at: Micros) -> None:
    finalizer = _move(world, event)
    finalizer.execution = event.execution
    finalizer.boot = world.engine_boot
    finalizer.launches += 1
    finalizer.started_at = at
    finalizer.ended_at = finalizer.exit_code = finalizer.result = finalizer.failure = None


def on_interrupted(world: World, event: FinalizerInterrupted, _at: Micros) -> None:
    finalizer = _move(world, event)
    finalizer.execution = None
    finalizer.internal += event.internal


def on_completed(world: World, event: FinalizerCompleted, at: Micros) -> None:
    finalizer = _move(world, event)
    finalizer.execution = None
    finalizer.ended_at = at
    finalizer.result, finalizer.exit_code, finalizer.failure = event.result, event.exit_code, event.failure


def on_abandoned(world: World, event: FinalizerAbandoned, _at: Micros) -> None:
    finalizer = _move(world, event)
    finalizer.abandoned_because = event.cause


def _move(world: World, event: FinalizerStarted | FinalizerInterrupted | FinalizerCompleted | FinalizerAbandoned) -> Finalizer:
    job = world.jobs[event.job]
    if job.finalizer is None:
        job.finalizer = Finalizer(state=ABSENT, node=event.node)
    job.finalizer.state = FINALIZER.move(job.finalizer.state, event, f"of job {event.job}")
    world.agenda.job(event.job)
    return job.finalizer
