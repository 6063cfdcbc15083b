"""Task: one command line of a job.

1. `active` waits for a node, `preparing` has one and waits there for preparation, `running` was handed to it, `completed`
   runs no more.  Only an active task of an active job is ever given a node.
2. A non-zero exit is retried while retries are left, on any eligible node and after the delay that the constraints ask for, whatever became
   of its outputs.  A program that could not be launched or given its files, outputs of a good end that could not be uploaded, a wall-clock
   limit, a silence and an end on request are final (semantics 3.1).
3. What the platform took away (reboot, lost node, disable with requeue) is requeued at once and never counted as a retry.  What the
   executor lost or stopped unasked on a node that stayed up is requeued too, but only `INTERNAL_RETRIES_MAX` times in a row.
4. A program that ended by itself before a stop reached it keeps its own result; the stop then only forbids another try.
5. When the job ends, a task that is not completed is completed as failed with `TaskEnded`; none is left behind as active.
   (The job's rule asks every execution to end for good the moment the job is ending, so nothing here has to look at the job.)
"""

from collections.abc import Iterator
from typing import Final

from . import dependencies, exits, files, limits
from . import execution as executions
from . import release as releases
from .errors import RequestRefused
from .events import (
    Event,
    TaskAdded,
    TaskCompleted,
    TaskDeleted,
    TaskPreparing,
    TaskReactivated,
    TaskRequeued,
    TaskRetried,
    TaskRetryDue,
    TaskRunning,
)
from .failure import FailureInfo, end_failure, ended_failure, internal_retries_failure, with_upload
from .ids import Duration, JobId, Micros, TaskId
from .machine import ABSENT, Machine, rows
from .outcome import Ended, NeverRan, Outcome, Unresolved
from .requests import DeleteTask, ReactivateTask, TerminateTask
from .specs import ExitOptions
from .world import Execution, Job, Stop, Task, World, enqueue, index_node, present, trim_queue

TASK: Final = Machine(
    "task",
    "one task of a job",
    rows(
        (ABSENT, TaskAdded, "active"),
        ("active", TaskPreparing, "preparing"),
        ("active preparing", TaskRunning, "running"),
        ("preparing running", TaskRequeued, "active"),
        ("running", TaskRetried, "active"),
        ("active", TaskRetryDue, "=", "the delay before its next try is over"),
        ("active preparing running", TaskCompleted, "completed"),
        ("completed", TaskReactivated, "active"),
        ("active preparing running completed", TaskDeleted, "deleted"),
    ),
)

_DOUBLINGS_MAX: Final = limits.RETRY_DELAY_MAX.bit_length()
"""More than it takes to get from a microsecond to the longest delay."""


# --- decide ---------------------------------------------------------------------------------------------------


def terminate(world: World, request: TerminateTask) -> Iterator[Event]:
    """End one task.  Refused: JobNotFound, TaskNotFound, TaskCompleted, and the codes of a job that is ending."""
    job, task = find(world, request.job, request.task, "terminate")
    if task.state == "completed":
        raise RequestRefused("TaskCompleted", f"task {request.task} of job {job.id} is completed; it cannot be terminated")
    refuse_if_over(job, f"terminate task {request.task}")
    yield from end(world, job, task, ended_failure(because("the task was terminated", request.reason)))


def delete(world: World, request: DeleteTask) -> Iterator[Event]:
    """Delete one task, ending it first where it runs.  Refused: JobNotFound, TaskNotFound, and the codes of a job that is ending."""
    job, task = find(world, request.job, request.task, "delete")
    if job.state != "completed":
        refuse_if_over(job, f"delete task {request.task}")
    if task.state == "running":
        why = because("the task was deleted", request.reason)
        yield from executions.stop(_execution(world, task), "delete", why, ended_failure(why))
    else:
        yield from _delete(world, job, task, request.reason)


def _delete(world: World, job: Job, task: Task, reason: str = "") -> Iterator[Event]:
    """The task is gone, and its files are to go."""
    nodes = files.nodes_of(job, task)
    yield TaskDeleted(job=job.id, task=task.spec.id, reason=reason)
    for node in nodes:
        yield from files.expire(world, node, job.id, task.spec.id)


def reactivate(world: World, request: ReactivateTask) -> Iterator[Event]:
    """Run a failed task again.  Refused: JobNotFound, TaskNotFound, TaskNotCompleted, TaskSucceeded, and the codes of a job that is over."""
    job, task = find(world, request.job, request.task, "reactivate")
    refuse_if_over(job, f"reactivate task {request.task}")
    if task.state != "completed":
        raise RequestRefused("TaskNotCompleted", f"task {request.task} of job {job.id} is {task.state}, not completed; it cannot be reactivated")
    if task.result == "success":
        raise RequestRefused("TaskSucceeded", f"task {request.task} of job {job.id} succeeded; it cannot be reactivated")
    yield TaskReactivated(job=job.id, task=request.task, reason=request.reason)


def because(what: str, reason: str) -> str:
    """What was done on request, with the caller's reason if there is one."""
    return f"{what}: {reason}" if reason else what


def end(world: World, job: Job, task: Task, failure: FailureInfo) -> Iterator[Event]:
    """Bring a task that is not completed to its end as failed: at once, or through the end of its execution."""
    if task.state == "running":
        yield from executions.stop(_execution(world, task), "complete", failure.details[0].value, failure)
    elif task.state != "completed":
        yield TaskCompleted(job=job.id, task=task.spec.id, result="failure", exit_code=None, failure=failure)


def requeue(world: World, job: Job, task: Task, cause: str) -> Iterator[Event]:
    """Take a task from its node and put it back: at once, or through the end of its execution (rule 3)."""
    if task.state == "running":
        yield from executions.stop(_execution(world, task), "requeue", cause)
    elif task.state == "preparing":
        yield TaskRequeued(job=job.id, task=task.spec.id, cause=cause)


def on_confirmed(world: World, execution: Execution) -> Iterator[Event]:
    """A task of the job runs on the node: a release is owed there from now on."""
    yield from releases.reached(world, world.jobs[present(execution.job)], execution.node, "taskRan")


def on_outcome(world: World, execution: Execution, outcome: Outcome) -> Iterator[Event]:
    """What the end of a task's execution means (rules 2 to 5)."""
    job = world.jobs[present(execution.job)]
    task = job.tasks[execution.task]
    if not isinstance(outcome, NeverRan):
        yield from on_confirmed(world, execution)
    if execution.stop is not None and execution.stop.then == "delete":
        yield from _delete(world, job, task)
        return
    match outcome:
        case Ended(stopped=False):
            yield from _ended_by_itself(job, task, execution, outcome)
        case NeverRan(failure=FailureInfo() as failure):
            yield _over(job, task, None, failure, exits.options_for(task.spec, None))
        case Ended() | NeverRan():
            cause = execution.stop.cause if execution.stop is not None else "stopped by the executor"
            yield from _taken(world, job, task, execution, cause, outcome if isinstance(outcome, Ended) else None)
        case Unresolved(reason=reason):
            yield from _taken(world, job, task, execution, reason, None)


def _ended_by_itself(job: Job, task: Task, execution: Execution, ended: Ended) -> Iterator[Event]:
    failure = end_failure(ended.exit_code, ended.signal, ended.upload_failure)
    final = execution.stop is not None and execution.stop.then == "complete"
    if failure is not None and ended.exit_code != 0 and not final and _retries_left(task):
        yield TaskRetried(job=job.id, task=task.spec.id, exit_code=ended.exit_code, failure=failure)
    else:
        options = exits.options_for(task.spec, ended.exit_code, upload_failed=ended.upload_failure is not None)
        yield _over(job, task, ended.exit_code, failure, options)


def _taken(world: World, job: Job, task: Task, execution: Execution, cause: str, ended: Ended | None) -> Iterator[Event]:
    """The program did not end by itself: on request, or with its node or executor (rule 3)."""
    wish = execution.stop
    if wish is not None and wish.then == "complete":
        yield _ended(job, task, wish, ended)
        return
    internal = executions.unasked(world, execution)
    if internal and task.internal >= limits.INTERNAL_RETRIES_MAX:
        yield _over(job, task, None, internal_retries_failure(cause), exits.default_of(task.spec))
    else:
        yield TaskRequeued(job=job.id, task=task.spec.id, cause=cause, internal=internal)


def _ended(job: Job, task: Task, wish: Stop, ended: Ended | None) -> TaskCompleted:
    """A task that was made to end: over its limit it failed like any other, on request it is nobody's failure (`core/exits.py`, rule 4)."""
    exit_code = ended.exit_code if ended is not None else None
    failure = with_upload(wish.failure or ended_failure(wish.cause), ended.upload_failure if ended is not None else None)
    if wish.cause in executions.LIMITS:
        return _over(job, task, exit_code, failure, exits.default_of(task.spec))
    return TaskCompleted(job=job.id, task=task.spec.id, result="failure", exit_code=exit_code, failure=failure)


def _over(job: Job, task: Task, exit_code: int | None, failure: FailureInfo | None, options: ExitOptions | None) -> TaskCompleted:
    """The task is over, and what follows is in the options that its exit conditions state for this end."""
    good = failure is None
    return TaskCompleted(
        job=job.id,
        task=task.spec.id,
        result="success" if good else "failure",
        exit_code=exit_code,
        failure=failure,
        dependency_action=options.dependency_action if options is not None else None,
        job_action=exits.job_action(job.spec, options, good=good),
    )


def _retries_left(task: Task) -> bool:
    allowed = retries_allowed(task)
    return allowed == -1 or task.retries < allowed


def retries_allowed(task: Task) -> int:
    """A task's maxTaskRetryCount: its own constraints', or the job's where it has none (semantics 3.1)."""
    return (task.spec.constraints or task.job_constraints).max_task_retry_count


def retry_delay(task: Task) -> Duration:
    """How long a task that has just failed waits for its next try: twice as long as before the last one, up to a bound."""
    constraints = task.spec.constraints or task.job_constraints
    longest = limits.RETRY_DELAY_MAX if constraints.retry_delay_max is None else constraints.retry_delay_max
    doublings = min(task.retries - 1, _DOUBLINGS_MAX)
    return Duration(min((constraints.retry_delay or 0) << doublings, longest))


def find(world: World, job_id: JobId, task_id: TaskId, wish: str) -> tuple[Job, Task]:
    """A task by job and id.  Refused: JobNotFound, TaskNotFound."""
    job = world.jobs.get(job_id)
    if job is None:
        raise RequestRefused("JobNotFound", f"there is no job {job_id}; cannot {wish} its task {task_id}")
    task = job.tasks.get(task_id)
    if task is None:
        raise RequestRefused("TaskNotFound", f"job {job_id} has no task {task_id}; cannot {wish} it")
    return job, task


def refuse_if_over(job: Job, wish: str) -> None:
    """Refuse what a job that is ending or completed no longer grants."""
    codes = {"terminating": "JobBeingTerminated", "completed": "JobCompleted", "deleting": "JobBeingDeleted"}
    if (code := codes.get(job.state)) is not None:
        raise RequestRefused(code, f"job {job.id} is {job.state}; cannot {wish}")


def _execution(world: World, task: Task) -> Execution:
    return world.executions[present(task.execution)]


# --- evolve ---------------------------------------------------------------------------------------------------


def on_added(world: World, event: TaskAdded, at: Micros) -> None:
    job = world.jobs[event.job]
    state = TASK.move(ABSENT if event.task not in job.tasks else job.tasks[event.task].state, event, _name(event.job, event.task))
    task = Task(spec=event.spec, number=job.added, job_constraints=job.spec.constraints, state=state, changed_at=at, added_at=at)
    job.added += 1
    job.tasks[event.task] = task
    job.counts[state] += 1
    dependencies.register(job, task)
    enqueue(world, job, task)
    world.agenda.job(event.job)


def on_preparing(world: World, event: TaskPreparing, at: Micros) -> None:
    job, task = _move(world, event, at)
    _hold_slots(world, job, task, event)
    job.preparations[event.node].waiting[event.task] = None
    trim_queue(world, job, task.spec.required_slots)


def on_running(world: World, event: TaskRunning, at: Micros) -> None:
    was = world.task(event.job, event.task).state
    job, task = _move(world, event, at)
    if was == "preparing":
        del job.preparations[event.node].waiting[event.task]
    else:
        _hold_slots(world, job, task, event)
        trim_queue(world, job, task.spec.required_slots)
    task.execution = event.execution
    task.launches += 1
    task.started_at = at
    world.nodes[event.node].tasks_run += 1


def on_retried(world: World, event: TaskRetried, at: Micros) -> None:
    job, task = _move(world, event, at)
    _free_slots(world, job, task)
    task.retries += 1
    task.last_retry_at = at
    task.internal = 0
    task.exit_code, task.failure = event.exit_code, event.failure
    if delay := retry_delay(task):
        task.retry_at = Micros(at + delay)
        job.delayed[task.spec.id] = None
        world.add_deadline(task.retry_at, "retry", job.id, task.spec.id)
    enqueue(world, job, task)


def on_retry_due(world: World, event: TaskRetryDue, _at: Micros) -> None:
    job = world.jobs[event.job]
    task = job.tasks[event.task]
    task.state = TASK.move(task.state, event, _name(event.job, event.task))
    _no_longer_delayed(job, task)
    enqueue(world, job, task)


def on_requeued(world: World, event: TaskRequeued, at: Micros) -> None:
    was = world.task(event.job, event.task).state
    job, task = _move(world, event, at)
    _free_slots(world, job, task)
    if was == "running":
        task.requeues += 1
        task.internal += event.internal
        task.last_requeue_at = at
    enqueue(world, job, task)


def on_completed(world: World, event: TaskCompleted, at: Micros) -> None:
    job, task = _move(world, event, at)
    if event.result == "success":
        job.succeeded += 1
        world.nodes[present(task.node)].tasks_succeeded += 1
    _free_slots(world, job, task)
    task.ended_at = at
    _no_longer_delayed(job, task)
    task.result, task.exit_code, task.failure = event.result, event.exit_code, event.failure
    if (event.dependency_action or ("satisfy" if event.result == "success" else "block")) == "satisfy":
        dependencies.satisfy(world, job, event.task)
    if exits.STRENGTH[event.job_action] > exits.STRENGTH[job.job_action]:
        job.job_action = event.job_action
    trim_queue(world, job, task.spec.required_slots)


def on_reactivated(world: World, event: TaskReactivated, at: Micros) -> None:
    job, task = _move(world, event, at)
    task.retries = task.internal = 0
    task.node = task.ended_at = task.last_retry_at = task.result = task.exit_code = task.failure = None
    enqueue(world, job, task)


def on_deleted(world: World, event: TaskDeleted, at: Micros) -> None:
    was = world.task(event.job, event.task).state
    job, task = _move(world, event, at, counted=False)
    job.counts[was] -= 1
    if task.result == "success":
        job.succeeded -= 1
    _free_slots(world, job, task)
    _no_longer_delayed(job, task)
    dependencies.forget(job, task)
    job.wrote_elsewhere.pop(event.task, None)
    del job.tasks[event.task]
    trim_queue(world, job, task.spec.required_slots)


def _move(
    world: World,
    event: TaskPreparing | TaskRunning | TaskRetried | TaskRequeued | TaskCompleted | TaskReactivated | TaskDeleted,
    at: Micros,
    *,
    counted: bool = True,
) -> tuple[Job, Task]:
    job = world.jobs[event.job]
    task = job.tasks[event.task]
    state = TASK.move(task.state, event, _name(event.job, event.task))
    if counted:
        job.counts[task.state] -= 1
        job.counts[state] += 1
    task.state = state
    task.changed_at = at
    world.agenda.job(event.job)
    return job, task


def _hold_slots(world: World, job: Job, task: Task, event: TaskPreparing | TaskRunning) -> None:
    node = world.nodes[event.node]
    node.tasks[(job.id, task.spec.id)] = None
    node.slots += task.spec.required_slots
    task.node = event.node
    index_node(world, node)
    world.agenda.node_load(node.id)


def _no_longer_delayed(job: Job, task: Task) -> None:
    task.retry_at = None
    job.delayed.pop(task.spec.id, None)


def _free_slots(world: World, job: Job, task: Task) -> None:
    """Take the task from its node; `task.node` goes on telling where it ran last, if it ran there."""
    node = world.nodes.get(task.node) if task.node is not None else None
    if node is None or (job.id, task.spec.id) not in node.tasks:
        return
    del node.tasks[(job.id, task.spec.id)]
    node.slots -= task.spec.required_slots
    if task.execution is None:
        task.node = None
    task.execution = None
    if (preparation := job.preparations.get(node.id)) is not None:
        preparation.waiting.pop(task.spec.id, None)
    index_node(world, node)
    world.agenda.node_load(node.id)


def _name(job: JobId, task: TaskId) -> str:
    return f"{task} of job {job}"
