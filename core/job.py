"""Job: a set of tasks that share a pool, a preparation and a release.

1. Tasks start only while the job is `active`.
2. active -> terminating -> completed: ending a job ends its tasks and its preparation first, then runs every release that
   is owed, then its finalizer, and only when nothing of it is owed and nothing of the job lives is it `completed` (customer; semantics 2.6).
3. Deleting a job that has not ended does the same and then the job is gone; deleting one that is terminating lets what is
   in flight finish; deleting a completed one runs nothing (customer: no second release).  It is gone when no node that is up
   has files of it any more.
4. `disabling` and `enabling` last until what had to stop has stopped.
5. A job whose every node failed its preparation cannot go on: it says so (`JobBlocked`) and waits for a node or the user.
6. A job that is not over may be patched; it goes to another pool only while it is disabled.  Its tasks then run there, prepared anew on each node;
   what it owes on nodes of the pools before is released at its end there.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from attrs import evolve, fields

from . import execution as executions
from . import files, limits
from . import finalizer as finalizers
from . import preparation as preparations
from . import release as releases
from . import task as tasks
from .checks import Mistake, check_job, check_tasks
from .errors import RequestRefused
from .events import (
    Event,
    JobBlocked,
    JobCompleted,
    JobCreated,
    JobDeleted,
    JobDeleting,
    JobDisabled,
    JobDisabling,
    JobEnabled,
    JobEnabling,
    JobPatched,
    JobTerminating,
    JobUnblocked,
    TaskAdded,
)
from .failure import ended_failure
from .ids import JobId, Micros, PoolId
from .machine import ABSENT, Machine, rows
from .requests import AddTasks, DeleteJob, DisableJob, EnableJob, PatchJob, SubmitJob, TerminateJob
from .specs import DisableTasks, JobSpec, TaskSpec
from .world import Job, World, index_job, present, unindex_job

JOB: Final = Machine(
    "job",
    "a job",
    rows(
        (ABSENT, JobCreated, "active"),
        ("active", JobBlocked, "="),
        ("active disabling terminating deleting", JobUnblocked, "="),
        ("active disabling disabled enabling", JobPatched, "="),
        ("active", JobDisabling, "disabling"),
        ("disabling", JobDisabling, "=", "the tasks that still run are to be dealt with more firmly"),
        ("disabling", JobDisabled, "disabled"),
        ("disabling disabled", JobEnabling, "enabling"),
        ("enabling", JobEnabled, "active"),
        ("active disabling disabled enabling", JobTerminating, "terminating"),
        ("terminating", JobCompleted, "completed"),
        ("active disabling disabled enabling terminating completed", JobDeleting, "deleting"),
        ("deleting", JobDeleted, "deleted"),
    ),
)

TASK_FAILED: Final = "TaskFailed"
ALL_TASKS_COMPLETE: Final = "AllTasksComplete"
MAX_WALL_CLOCK_TIME_EXPIRY: Final = "MaxWallClockTimeExpiry"

_CHANGEABLE: Final = tuple(field.name for field in fields(JobPatched) if field.name not in {"job", "reason"})
"""What a patch may change of a job's specification, by the names that the request, the event and the specification share."""

_FIRMNESS: Final[dict[DisableTasks, int]] = {"wait": 0, "requeue": 1, "terminate": 2}

_MISTAKES_SHOWN_MAX: Final = 20
"""Mistakes listed in one refusal; the text says how many more there are."""


# --- decide ---------------------------------------------------------------------------------------------------


def submit(world: World, request: SubmitJob) -> Iterator[Event]:
    """Create a job with its first tasks; a repetition of the same specification decides to nothing.

    Refused: RequestBodyTooLarge, InvalidPropertyValue or a more exact code (every mistake), JobBeingDeleted, JobExists (another
    specification under the same id).
    """
    _refuse_too_many(request.tasks)
    _refuse_mistakes([*check_job(request.spec), *check_tasks(request.spec, request.tasks)])
    existing = world.jobs.get(request.spec.id)
    if existing is not None:
        if existing.state == "deleting":
            raise RequestRefused("JobBeingDeleted", f"job {existing.id} is deleting; submit it again when it is gone")
        if existing.submitted != request.spec or any(_differs(existing, task) for task in request.tasks):
            raise RequestRefused("JobExists", f"job {existing.id} is {existing.state} and was submitted with another specification")
        return
    yield JobCreated(job=request.spec.id, spec=request.spec)
    for task in request.tasks:
        yield TaskAdded(job=request.spec.id, task=task.id, spec=task)


def add_tasks(world: World, request: AddTasks) -> Iterator[Event]:
    """Add tasks, all or none; one that the job has already with the same specification is passed over.

    Refused: JobNotFound, JobBeingTerminated, JobCompleted, JobBeingDeleted, RequestBodyTooLarge, InvalidPropertyValue, TaskExists.
    """
    job = find(world, request.job, "add tasks to it")
    tasks.refuse_if_over(job, "add tasks to it")
    _refuse_too_many(request.tasks)
    _refuse_mistakes(list(check_tasks(job.spec, request.tasks)))
    for task in request.tasks:
        if task.id in job.tasks and _differs(job, task):
            raise RequestRefused("TaskExists", f"job {job.id} already has a task {task.id}, with another specification")
    for task in request.tasks:
        if task.id not in job.tasks:
            yield TaskAdded(job=job.id, task=task.id, spec=task)


def terminate(world: World, request: TerminateJob) -> Iterator[Event]:
    """Refused: JobNotFound, JobBeingTerminated, JobCompleted, JobBeingDeleted."""
    job = find(world, request.job, "terminate it")
    tasks.refuse_if_over(job, "terminate it")
    yield JobTerminating(job=job.id, reason=request.reason)


def delete(world: World, request: DeleteJob) -> Iterator[Event]:
    """Refused: JobNotFound, JobBeingDeleted."""
    job = find(world, request.job, "delete it")
    if job.state == "deleting":
        raise RequestRefused("JobBeingDeleted", f"job {job.id} is deleting; cannot delete it again")
    yield JobDeleting(job=job.id, reason=request.reason, removes_files=True)


def disable(world: World, request: DisableJob) -> Iterator[Event]:
    """A job that is disabled already stays so; while it is disabling, only a firmer way to deal with its tasks changes anything.

    Refused: JobNotFound, the codes of a job that is over, OperationInvalidForCurrentState.
    """
    job = find(world, request.job, "disable it")
    tasks.refuse_if_over(job, "disable it")
    if job.state == "enabling":
        raise RequestRefused("OperationInvalidForCurrentState", f"job {job.id} is enabling; disable it when it is active")
    firmer = job.state == "disabling" and _FIRMNESS[request.disable_tasks] > _FIRMNESS[present(job.disable_tasks)]
    if job.state == "active" or firmer:
        yield from _disable(world, job, request.disable_tasks, request.reason)


def enable(world: World, request: EnableJob) -> Iterator[Event]:
    """An active job stays so.  Refused: JobNotFound, and the codes of a job that is over."""
    job = find(world, request.job, "enable it")
    tasks.refuse_if_over(job, "enable it")
    if job.state in {"disabling", "disabled"}:
        yield JobEnabling(job=job.id)


def patch(world: World, request: PatchJob, now: Micros) -> Iterator[Event]:
    """Change what a job may change; what is as it was already is passed over.  A limit in time that is over by now ends the job.

    Refused: JobNotFound, the codes of a job that is over, InvalidPropertyValue or a more exact code (every mistake), and
    OperationInvalidForCurrentState for another pool while the job is not disabled.
    """
    job = find(world, request.job, "patch it")
    tasks.refuse_if_over(job, "patch it")
    asked = {name: value for name in _CHANGEABLE if (value := getattr(request, name)) is not None}
    if "pool_info" in asked and job.state != "disabled":
        text = f"job {job.id} is {job.state}; its poolInfo can be patched only while it is disabled: disable it first, and enable it afterwards"
        raise RequestRefused("OperationInvalidForCurrentState", text)
    new = evolve(job.spec, **asked)
    _refuse_mistakes([*_check_patch(job.spec, new), *check_job(new)])
    changed = {name: value for name, value in asked.items() if value != getattr(job.spec, name)}
    if changed:
        yield JobPatched(job=job.id, reason=request.reason, **changed)
    limit = new.constraints.max_wall_clock_time
    if "constraints" in changed and limit is not None and job.created_at + limit <= now:
        yield JobTerminating(job=job.id, reason=MAX_WALL_CLOCK_TIME_EXPIRY)


def _check_patch(old: JobSpec, new: JobSpec) -> Iterator[Mistake]:
    if old.on_all_tasks_complete == "terminatejob" != new.on_all_tasks_complete:
        yield Mistake(path="onAllTasksComplete", text="is terminatejob, which cannot be taken back (Azure Batch's rule)")


def find(world: World, job_id: JobId, wish: str) -> Job:
    """A job by id.  Refused: JobNotFound."""
    job = world.jobs.get(job_id)
    if job is None:
        raise RequestRefused("JobNotFound", f"there is no job {job_id}; cannot {wish}")
    return job


def _differs(job: Job, task: TaskSpec) -> bool:
    existing = job.tasks.get(task.id)
    return existing is None or existing.spec != task


def _refuse_mistakes(mistakes: Sequence[Mistake]) -> None:
    if mistakes:
        more = len(mistakes) - _MISTAKES_SHOWN_MAX
        shown = "; ".join(map(str, mistakes[:_MISTAKES_SHOWN_MAX])) + (f"; and {more} more" if more > 0 else "")
        codes = {mistake.code for mistake in mistakes}
        raise RequestRefused(codes.pop() if len(codes) == 1 else "InvalidPropertyValue", shown)


def _refuse_too_many(added: Sequence[TaskSpec]) -> None:
    if len(added) > limits.TASKS_PER_REQUEST_MAX:
        raise RequestRefused("RequestBodyTooLarge", f"{len(added)} tasks in one request; at most {limits.TASKS_PER_REQUEST_MAX}")


# --- the joint rule -------------------------------------------------------------------------------------------


def rule(world: World, job: Job) -> Iterator[Event]:
    """What follows from the job's state together with those of its tasks, executions, preparations and releases."""
    blocked = job.state == "active" and _is_blocked(world, job)
    if blocked != job.blocked:
        yield JobBlocked(job=job.id) if blocked else JobUnblocked(job=job.id)
    match job.state:
        case "active" | "disabling" | "disabled" | "enabling" if job.job_action == "terminate":
            yield JobTerminating(job=job.id, reason=TASK_FAILED)
        case "active" if job.job_action == "disable":
            yield from _disable(world, job, "requeue", TASK_FAILED)
        case "active":
            if job.spec.on_all_tasks_complete == "terminatejob" and job.counts["completed"] == len(job.tasks):
                yield JobTerminating(job=job.id, reason=ALL_TASKS_COMPLETE)
        case "disabling":
            if not job.counts["preparing"] and not job.counts["running"]:
                yield JobDisabled(job=job.id)
        case "enabling":
            if not job.stopping:
                yield JobEnabled(job=job.id)
        case "terminating" | "deleting":
            yield from _end(world, job)
        case _:
            pass


def _is_blocked(world: World, job: Job) -> bool:
    pool = world.pools.get(job.spec.pool_info.pool_id)
    return pool is not None and bool(job.queue) and bool(pool.nodes) and len(job.ineligible) == len(pool.nodes)


def _disable(world: World, job: Job, option: DisableTasks, reason: str = "") -> Iterator[Event]:
    yield JobDisabling(job=job.id, disable_tasks=option, reason=reason)
    yield from _clear_tasks(world, job, option, tasks.because("the job was disabled", reason))


def _clear_tasks(world: World, job: Job, option: DisableTasks, why: str) -> Iterator[Event]:
    """Do with placed tasks as `option` says; one that only waits for preparation never starts, whatever it says (rule 1)."""
    placed = [task_id for preparation in job.preparations.values() for task_id in preparation.waiting]
    if option != "wait":
        placed += [execution.task for live in job.live if (execution := world.executions[live]).kind == "task"]
    for task_id in placed:
        if option == "terminate":
            yield from tasks.end(world, job, job.tasks[task_id], ended_failure(why))
        else:
            yield from tasks.requeue(world, job, job.tasks[task_id], why)


def _end(world: World, job: Job) -> Iterator[Event]:
    """End tasks and preparations, then pay the releases, then run the finalizer, then complete or delete the job (rules 2 and 3)."""
    deleted = tasks.because("the job was deleted", job.delete_reason)
    why = ended_failure(deleted if job.state == "deleting" else f"the job was terminated: {job.terminate_reason}")
    if job.counts["active"] or job.counts["preparing"]:
        for task in list(job.tasks.values()):
            if task.state in {"active", "preparing"}:
                yield from tasks.end(world, job, task, why)
    for live in list(job.unstopped) if job.unstopped else ():  # An empty dict that was large once is not gone through for nothing.
        yield from executions.stop(world.executions[live], "complete", why.details[0].value, why)
    if finalizers.running(job):
        yield from finalizers.stop_if_lost(world, job)
        return
    if len(job.live) > job.releasing:
        return
    if job.payable:
        yield from releases.pay(world, job)
    if not job.live and not job.owed and not job.releasing:
        yield from finalizers.run(world, job)
    if job.live or job.owed or job.releasing or not finalizers.settled(job):
        return
    if job.state == "terminating":
        yield JobCompleted(job=job.id)
        return
    yield from files.expire_all(world, job.id)
    if job.id not in world.wiping:
        yield JobDeleted(job=job.id)


# --- evolve ---------------------------------------------------------------------------------------------------


def on_created(world: World, event: JobCreated, at: Micros) -> None:
    known = world.jobs.get(event.job)
    state = JOB.move(ABSENT if known is None else known.state, event, event.job)
    job = Job(id=event.job, spec=event.spec, submitted=event.spec, number=world.jobs_created, state=state, changed_at=at, created_at=at)
    world.jobs_created += 1
    world.jobs[event.job] = job
    world.jobs_of_pool.setdefault(event.spec.pool_info.pool_id, {})[event.job] = None
    _limit(world, job)
    world.agenda.job(event.job)


def on_patched(world: World, event: JobPatched, _at: Micros) -> None:
    """The job stands elsewhere in its pool's lists, or in those of another pool (rule 6)."""
    job = world.jobs[event.job]
    job.state = JOB.move(job.state, event, event.job)
    unindex_job(world, job)
    old = job.spec.pool_info
    job.spec = evolve(job.spec, **{name: value for name in _CHANGEABLE if (value := getattr(event, name)) is not None})
    if job.spec.pool_info != old:
        _leave_pool(world, job, old.pool_id)
        world.jobs_of_pool.setdefault(job.spec.pool_info.pool_id, {})[job.id] = None
        job.ineligible = dict.fromkeys(preparations.barred(world, job))
    if event.constraints is not None:
        _limit(world, job)
    index_job(world, job)
    world.agenda.job(event.job)


def on_blocked(world: World, event: JobBlocked | JobUnblocked, _at: Micros) -> None:
    job = world.jobs[event.job]
    job.state = JOB.move(job.state, event, event.job)
    job.blocked = isinstance(event, JobBlocked)


def on_changed(
    world: World, event: JobDisabling | JobDisabled | JobEnabling | JobEnabled | JobTerminating | JobCompleted | JobDeleting, at: Micros
) -> None:
    """Every move of a job that changes its state; what else one of them says is kept beside it."""
    job = world.jobs[event.job]
    was, job.state = job.state, JOB.move(job.state, event, event.job)
    if job.state != was:
        job.previous_state, job.changed_at = was, at
    match event:
        case JobDisabling(disable_tasks=option, reason=why):
            job.disable_tasks, job.disable_reason, job.job_action = option, why, "none"
        case JobEnabling():
            job.job_action = "none"  # What asked for it while the job was disabled anyway has been heeded.
        case JobTerminating(reason=reason):
            job.terminate_reason = reason
        case JobDeleting(reason=reason):
            job.delete_reason = reason
        case JobCompleted():
            job.ended_at = at
            files.job_ended(world, job, at)
            _forget(world, job)
        case _:
            pass
    if job.ending:
        finalizers.register(world, job)
    index_job(world, job)
    world.agenda.job(event.job)


def on_deleted(world: World, event: JobDeleted, at: Micros) -> None:
    job = world.jobs[event.job]
    JOB.move(job.state, event, event.job)
    files.job_gone(world, job, at)
    _forget(world, job)
    del world.jobs[event.job]


def _forget(world: World, job: Job) -> None:
    """Take a job that is over from the indexes of nodes and pools."""
    for node_id in (*job.preparations, *job.releases):
        if (node := world.nodes.get(node_id)) is not None:
            node.jobs.pop(job.id, None)
    finalizers.forget(world, job)
    _leave_pool(world, job, job.spec.pool_info.pool_id)


def _leave_pool(world: World, job: Job, pool: PoolId) -> None:
    of_pool = world.jobs_of_pool.get(pool, {})
    of_pool.pop(job.id, None)
    if not of_pool:
        world.jobs_of_pool.pop(pool, None)


def _limit(world: World, job: Job) -> None:
    """Note when the job is over its limit in time, if it has one; the entry of an earlier limit stands no more (`deadlines`)."""
    if (limit := job.spec.constraints.max_wall_clock_time) is not None:
        world.add_deadline(job.created_at + limit, "job", job.id)
