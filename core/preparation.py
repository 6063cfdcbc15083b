"""Preparation: what runs on a node before a job's first task there.

1. It is started by the placement of a task and by nothing else; however many tasks land at once, there is one run.
2. `waitForSuccess`: tasks placed meanwhile are `preparing` and run when it succeeded; otherwise they run beside it.
3. A non-zero exit is retried on the same node while retries are left; every other failure is final at once.  What the executor lost or
   stopped unasked on a node that stayed up runs again, but only `INTERNAL_RETRIES_MAX` times in a row.
4. When it failed for good and tasks wait for it, they go back to the queue and the node takes no task of this job
   until it is wiped (reimaged, reallocated) or leaves (semantics 2.3; a reboot does not help).
5. `due` means that it must run (again) before the job's next task there: the run was cut short, the node was wiped, or it
   was rebooted and `rerunOnNodeRebootAfterSuccess` holds.  The new run waits for that next task (semantics 2.2).
6. Once the job is ending nothing of it starts: a running preparation is stopped and recorded as failed.
"""

from collections.abc import Iterator
from typing import Final

from . import execution as executions
from . import limits
from . import release as releases
from .events import (
    Event,
    ExecutionRequested,
    PreparationCompleted,
    PreparationDue,
    PreparationRetried,
    PreparationStarted,
    TaskRequeued,
    TaskRunning,
)
from .failure import FailureInfo, ended_failure, exit_code_failure, internal_retries_failure
from .ids import JobId, Micros, NodeId
from .machine import ABSENT, Machine, rows
from .outcome import Ended, NeverRan, Outcome, Unresolved
from .specs import PreparationSpec
from .world import Execution, Job, Preparation, World, present

PREPARATION: Final = Machine(
    "preparation",
    "a job's preparation task on one node",
    rows(
        (ABSENT, PreparationStarted, "running"),
        ("due", PreparationStarted, "running"),
        ("running", PreparationRetried, "="),
        ("running", PreparationCompleted, "completed"),
        ("running", PreparationDue, "due", "the run was cut short"),
        ("completed", PreparationDue, "due", "what it did no longer holds"),
    ),
)


# --- decide ---------------------------------------------------------------------------------------------------


def needed(job: Job, node: NodeId) -> bool:
    """Whether placing a task of the job on the node starts a run."""
    preparation = job.preparations.get(node)
    return job.spec.job_preparation_task is not None and (preparation is None or preparation.state == "due")


def awaited(job: Job, node: NodeId) -> bool:
    """Whether a task placed on the node has to wait there first."""
    spec = job.spec.job_preparation_task
    if spec is None or not spec.wait_for_success:
        return False
    preparation = job.preparations.get(node)
    return preparation is None or not preparation.succeeded


def barred(world: World, job: Job) -> Iterator[NodeId]:
    """The nodes of the job's pool that failed its preparation, and so may take none of its tasks; to be asked when it comes to another pool."""
    spec, pool = job.spec.job_preparation_task, world.pools.get(job.spec.pool_info.pool_id)
    for node, preparation in job.preparations.items():
        if spec is not None and pool is not None and node in pool.nodes and _bars(preparation, spec):
            yield node


def _bars(preparation: Preparation, spec: PreparationSpec) -> bool:
    return preparation.state == "completed" and preparation.result == "failure" and spec.wait_for_success


def start(world: World, job: Job, node: NodeId) -> Iterator[Event]:
    """Begin a run on the node."""
    launches = preparation.launches if (preparation := job.preparations.get(node)) is not None else 0
    event = _request(world, job, node, launches + 1)
    yield event
    yield PreparationStarted(job=job.id, node=node, execution=event.execution)


def on_confirmed(world: World, execution: Execution) -> Iterator[Event]:
    """Preparation runs on the node: under the widest scope a release is owed there from now on."""
    yield from releases.reached(world, world.jobs[present(execution.job)], execution.node, "attempted")


def on_outcome(world: World, execution: Execution, outcome: Outcome) -> Iterator[Event]:
    """What the end of a preparation's execution means (rules 3, 4 and 6)."""
    job = world.jobs[present(execution.job)]
    node, wish = execution.node, execution.stop
    if not isinstance(outcome, NeverRan):
        yield from on_confirmed(world, execution)
    match outcome:
        case Ended(exit_code=0, stopped=False):
            yield from _succeeded(world, job, node)
        case Ended(exit_code=exit_code, signal=signal, stopped=False):
            failure = exit_code_failure(exit_code, signal)
            if wish is None and _retries_left(job, node):
                event = _request(world, job, node, job.preparations[node].launches + 1)
                yield event
                yield PreparationRetried(job=job.id, node=node, execution=event.execution, exit_code=exit_code, failure=failure)
            elif wish is not None and wish.then == "requeue":
                yield from _cut_short(world, execution, wish.cause)
            else:
                yield from _failed(job, node, exit_code, failure)
        case NeverRan(failure=FailureInfo() as failure):
            yield from _failed(job, node, None, failure)
        case Ended() | NeverRan():
            exit_code_or_none = outcome.exit_code if isinstance(outcome, Ended) else None
            if wish is not None and wish.then != "requeue":
                yield from _failed(job, node, exit_code_or_none, wish.failure or ended_failure(wish.cause))
            else:
                yield from _cut_short(world, execution, wish.cause if wish is not None else "stopped by the executor")
        case Unresolved(reason=reason):
            if wish is not None and wish.then != "requeue":
                yield from _failed(job, node, None, wish.failure or ended_failure(wish.cause))
            else:
                yield from _cut_short(world, execution, reason)


def spoil(job: Job, node: NodeId, cause: str, *, wiped: bool) -> Iterator[Event]:
    """The node lost what preparation did (`wiped`), or was rebooted: the next task there needs a new run (rules 4 and 5)."""
    preparation, spec = job.preparations.get(node), job.spec.job_preparation_task
    if preparation is None or spec is None or preparation.state != "completed" or job.ending:
        return
    if wiped or (preparation.succeeded and spec.rerun_on_node_reboot_after_success):
        yield PreparationDue(job=job.id, node=node, cause=cause)


def _succeeded(world: World, job: Job, node: NodeId) -> Iterator[Event]:
    yield PreparationCompleted(job=job.id, node=node, result="success", exit_code=0, failure=None)
    yield from releases.reached(world, job, node, "prepared")
    if job.state != "active":
        return  # The job's own rule deals with tasks that wait; none of them may start now.
    for task_id in list(job.preparations[node].waiting):
        event = executions.request(world, "task", job.id, task_id, node, job.tasks[task_id].launches + 1)
        yield event
        yield TaskRunning(job=job.id, task=task_id, node=node, execution=event.execution)


def _failed(job: Job, node: NodeId, exit_code: int | None, failure: FailureInfo) -> Iterator[Event]:
    yield PreparationCompleted(job=job.id, node=node, result="failure", exit_code=exit_code, failure=failure)
    yield from return_tasks(job, node, "preparation failed on the node")


def _cut_short(world: World, execution: Execution, cause: str) -> Iterator[Event]:
    """It has to run again, unless its executor has lost or stopped it unasked too often in a row."""
    job, node = world.jobs[present(execution.job)], execution.node
    internal = executions.unasked(world, execution)
    if internal and job.preparations[node].internal >= limits.INTERNAL_RETRIES_MAX:
        yield from _failed(job, node, None, internal_retries_failure(cause))
        return
    yield PreparationDue(job=job.id, node=node, cause=cause, internal=internal)
    yield from return_tasks(job, node, cause)


def return_tasks(job: Job, node: NodeId, cause: str) -> Iterator[Event]:
    """Send the tasks that wait for preparation on the node back to the queue."""
    if (preparation := job.preparations.get(node)) is not None:
        for task in list(preparation.waiting):
            yield TaskRequeued(job=job.id, task=task, cause=cause)


def _request(world: World, job: Job, node: NodeId, attempt: int) -> ExecutionRequested:
    return executions.request(world, "preparation", job.id, _spec(job).id, node, attempt)


def _retries_left(job: Job, node: NodeId) -> bool:
    allowed = _spec(job).constraints.max_task_retry_count
    return allowed == -1 or job.preparations[node].retries < allowed


def _spec(job: Job) -> PreparationSpec:
    return present(job.spec.job_preparation_task)


# --- evolve ---------------------------------------------------------------------------------------------------


def on_started(world: World, event: PreparationStarted, at: Micros) -> None:
    job = world.jobs[event.job]
    preparation = job.preparations.get(event.node)
    if preparation is None:
        preparation = job.preparations[event.node] = Preparation(state=ABSENT)
    world.nodes[event.node].jobs[event.job] = None
    preparation.state = PREPARATION.move(preparation.state, event, _name(event.job, event.node))
    preparation.execution = event.execution
    preparation.launches += 1
    preparation.retries = 0
    preparation.started_at = at
    preparation.ended_at = preparation.last_retry_at = preparation.result = preparation.exit_code = preparation.failure = None


def on_retried(world: World, event: PreparationRetried, at: Micros) -> None:
    preparation = world.jobs[event.job].preparations[event.node]
    preparation.state = PREPARATION.move(preparation.state, event, _name(event.job, event.node))
    preparation.execution = event.execution
    preparation.launches += 1
    preparation.retries += 1
    preparation.internal = 0
    preparation.last_retry_at = preparation.started_at = at


def on_completed(world: World, event: PreparationCompleted, at: Micros) -> None:
    job = world.jobs[event.job]
    preparation = job.preparations[event.node]
    preparation.state = PREPARATION.move(preparation.state, event, _name(event.job, event.node))
    preparation.execution = None
    preparation.internal = 0
    preparation.ended_at = at
    preparation.result, preparation.exit_code, preparation.failure = event.result, event.exit_code, event.failure
    if _bars(preparation, _spec(job)) and world.nodes[event.node].pool == job.spec.pool_info.pool_id:
        job.ineligible[event.node] = None
    world.agenda.job(event.job)
    world.agenda.node(event.node)


def on_due(world: World, event: PreparationDue, _at: Micros) -> None:
    job = world.jobs[event.job]
    preparation = job.preparations[event.node]
    preparation.state = PREPARATION.move(preparation.state, event, _name(event.job, event.node))
    preparation.execution = None
    preparation.internal += event.internal
    job.ineligible.pop(event.node, None)
    world.agenda.job(event.job)
    world.agenda.pool(job.spec.pool_info.pool_id)


def _name(job: JobId, node: NodeId) -> str:
    return f"of job {job} on {node}"
