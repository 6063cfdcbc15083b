"""What holds of jobs, tasks, preparations and releases: invariants, see `invariants`."""

from collections.abc import Iterator
from typing import Final

from . import events as e
from .history import History, Seen, places
from .ids import JobId
from .judging import Invariant, invariant, job_of, launches, node_of
from .machine import ABSENT

ENDING: Final = frozenset({"terminating", "deleting"})


# --- release --------------------------------------------------------------------------------------------------


@invariant(e.ReleaseOwed, e.ExecutionRequested, rule="ARCHITECTURE, choices: on which nodes release runs (customer); semantics 2.5")
def release_only_within_its_scope(history: History, seen: Seen) -> Iterator[str]:
    """A release is owed and runs only where what its scope asks for has happened since the node was last emptied: a task of
    the job ran or may have (`taskRan`), or preparation succeeded (`prepared`) or was launched (`attempted`).
    """
    event = seen.event
    job = history.jobs.get(job_of(event))
    if not (isinstance(event, e.ReleaseOwed) or launches(event, "release")) or job is None or job.completed:
        return
    release = job.spec.job_release_task
    if release is None:
        yield f"job {job_of(event)} has no release task"
    elif not history.visit(job_of(event), node_of(event)).reached(release.release_scope):
        yield f"job {job_of(event)} has not reached the scope {release.release_scope} on {node_of(event)}"


@invariant(e.ExecutionRequested, rule="ARCHITECTURE, choices: release after terminate, then delete (customer); semantics 2.5")
def release_completes_once(history: History, seen: Seen) -> Iterator[str]:
    """On one node a job's release is launched again only after a launch that the node cut short; one that completed, well or
    not, is never repeated, and there is never a second one beside it.
    """
    event = seen.event
    if isinstance(event, e.ExecutionRequested) and event.kind == "release" and not _is_over(history, event.job):
        release = history.visit(event.job, event.node).release
        if release in {"completed", "running"}:
            yield f"the release of job {event.job} on {event.node} is {release} and is launched again"


@invariant(e.ReleaseOwed, e.ExecutionRequested, rule="ARCHITECTURE, choices: release after terminate, then delete (customer)")
def release_never_after_completion(history: History, seen: Seen) -> Iterator[str]:
    """Once a job is completed no release of it is owed or runs, and deleting it changes nothing about that."""
    event = seen.event
    if (isinstance(event, e.ReleaseOwed) or launches(event, "release")) and _is_over(history, job_of(event)):
        yield f"job {job_of(event)} was completed before"


@invariant(e.ExecutionRequested, rule="customer: job active -> terminating -> completed; semantics 2.5, 2.6")
def release_comes_last(history: History, seen: Seen) -> Iterator[str]:
    """A release is launched only when its job is ending and nothing else of the job lives anywhere."""
    event = seen.event
    if not isinstance(event, e.ExecutionRequested) or event.kind != "release" or (job := history.jobs.get(job_of(event))) is None or job.completed:
        return
    if (state := history.state("job", job_of(event))) not in ENDING:
        yield f"job {event.job} is {state}"
    if others := [live for live in job.live if history.executions[live].requested.kind not in {"release", "finalizer"}]:
        yield f"of job {event.job} still live executions {others}"


# --- preparation ----------------------------------------------------------------------------------------------


@invariant(e.TaskPreparing, e.TaskRunning, rule="semantics 3.3")
def dependencies_come_first(history: History, seen: Seen) -> Iterator[str]:
    """No task is placed before everything that it depends on is satisfied, by success or by what exit conditions say: tasks by id, and a
    task for each number of its ranges.
    """
    event = seen.event
    if not isinstance(event, e.TaskPreparing | e.TaskRunning) or (job := history.jobs.get(event.job)) is None:
        return
    wanted = task.spec.depends_on if (task := job.tasks.get(event.task)) is not None else None
    if wanted is not None:
        numbers = [number for part in wanted.task_id_ranges for number in range(part.start, part.end + 1)]
        if missing := [one for one in (*wanted.task_ids, *numbers) if one not in job.fulfilled]:
            yield f"task {event.task} of job {event.job} is placed, and {missing[:8]} are not satisfied"


@invariant(e.ExecutionRequested, rule="semantics 2.2, 2.3")
def preparation_before_task(history: History, seen: Seen) -> Iterator[str]:
    """Where a job has a preparation, no task starts on a node before preparation succeeded there (`waitForSuccess`) or was at
    least begun, in what the node holds now: emptying it undoes preparation, and so does a reboot if the job says so.
    """
    event = seen.event
    if not isinstance(event, e.ExecutionRequested) or event.kind != "task" or (job := history.jobs.get(job_of(event))) is None:
        return
    spec, preparation = job.spec.job_preparation_task, history.visit(event.job, event.node).preparation
    if spec is not None and (preparation == "none" or (preparation == "running" and spec.wait_for_success)):
        yield f"task {event.task} of job {event.job} starts on {event.node}, where preparation is {preparation}"


@invariant(e.TaskPreparing, e.ExecutionRequested, rule="semantics 2.3")
def failed_preparation_bars_the_node(history: History, seen: Seen) -> Iterator[str]:
    """A node where a preparation with `waitForSuccess` failed for good gets no task and no preparation of that job until it is emptied."""
    event = seen.event
    if not (isinstance(event, e.TaskPreparing) or launches(event, "task") or _new_preparation(history, event)):
        return
    job = history.jobs.get(job_of(event))
    spec = job.spec.job_preparation_task if job is not None else None
    if spec is not None and spec.wait_for_success and history.visit(job_of(event), node_of(event)).preparation == "failed":
        yield f"preparation of job {job_of(event)} failed on {node_of(event)}"


@invariant(*e.STORED, rule="semantics 2.2: lazily, triggered by the placement of a task")
def preparation_only_where_a_task_is_placed(history: History, seen: Seen) -> Iterator[str]:
    """A preparation is started by the placement of a task: the very next event places one of that job on that node."""
    waited = history.unplaced
    if waited is not None and places(seen.event) != (waited.job, waited.node):
        yield f"preparation of job {waited.job} started on {waited.node} and no task was placed there"


@invariant(e.ExecutionRequested, rule="semantics 2.2: still one run, however many tasks land on the node at once")
def one_preparation_at_a_time(history: History, seen: Seen) -> Iterator[str]:
    """Of one job at most one preparation lives on one node."""
    event = seen.event
    if isinstance(event, e.ExecutionRequested) and event.kind == "preparation" and (job := history.jobs.get(job_of(event))) is not None:
        for live in job.live:
            other = history.executions[live].requested
            if other.kind == "preparation" and other.node == event.node:
                yield f"execution {live} still prepares {event.node} for job {event.job}"


# --- job ------------------------------------------------------------------------------------------------------


@invariant(e.TaskPreparing, e.PreparationStarted, e.ExecutionRequested, rule="semantics 1.1; core/job.py, rule 1")
def starts_only_while_active(history: History, seen: Seen) -> Iterator[str]:
    """No task is given a node, and no task or preparation starts, once its job left `active`; a preparation that runs is
    tried again only while the job is not ending.
    """
    event = seen.event
    if isinstance(event, e.ExecutionRequested) and event.kind not in {"task", "preparation"}:
        return
    state = history.state("job", job_of(event))
    allowed = {"active"} if not isinstance(event, e.ExecutionRequested) or event.kind == "task" else {"active", "disabling", "disabled", "enabling"}
    if state not in allowed | {ABSENT}:
        yield f"job {job_of(event)} is {state}"


@invariant(e.JobCompleted, e.JobDeleted, rule="semantics 1.1; core/job.py, rule 2 (customer)")
def nothing_lives_when_a_job_ends(history: History, seen: Seen) -> Iterator[str]:
    """A job is completed or gone only when no execution of it lives."""
    if (job := history.jobs.get(job_of(seen.event))) is not None and job.live:
        yield f"live executions of job {job_of(seen.event)}: {list(job.live)}"


@invariant(e.JobCompleted, e.JobDeleted, rule="semantics 1.1, 2.5 (customer)")
def nothing_is_owed_when_a_job_ends(history: History, seen: Seen) -> Iterator[str]:
    """A job is completed or gone only when on each node under its release scope a release ran to its end or was explicitly abandoned."""
    if (job := history.jobs.get(job_of(seen.event))) is not None:
        for node, visit in job.visits.items():
            if visit.debt:
                yield f"job {job_of(seen.event)} still owes its release on {node}"


@invariant(e.JobCompleted, e.JobDeleted, rule="ARCHITECTURE, choices: queued tasks at terminate")
def no_task_is_left_when_a_job_ends(history: History, seen: Seen) -> Iterator[str]:
    """A job is completed or gone only when all its tasks are completed."""
    if (job := history.jobs.get(job_of(seen.event))) is not None and job.unfinished:
        yield f"tasks of job {job_of(seen.event)} not completed: {list(job.unfinished)[:5]}"


@invariant(e.ExecutionRequested, rule="core/job.py, rule 3")
def a_job_that_is_gone_runs_nothing(history: History, seen: Seen) -> Iterator[str]:
    """Nothing is launched for a job that is not there, because it was deleted or never was."""
    event = seen.event
    if isinstance(event, e.ExecutionRequested) and event.job is not None and event.job not in history.jobs:
        yield f"there is no job {event.job}"


# --- task -----------------------------------------------------------------------------------------------------


@invariant(e.ExecutionRequested, e.PreparationRetried, e.StartTaskRetried, rule="semantics 3.1")
def tries_within_retries(history: History, seen: Seen) -> Iterator[str]:
    """A task, preparation or start task whose program failed by itself is tried again at most `maxTaskRetryCount` times (-1: without limit)."""
    match seen.event:
        case e.ExecutionRequested(kind="task", job=job, task=name) if job is not None and (task := history.task(job, name)) is not None:
            yield from _too_many(f"task {name} of job {job}", task.failures, history.task_retries(job, name))
        case e.PreparationRetried(job=job, node=node) if job in history.jobs:
            yield from _too_many(f"preparation of job {job} on {node}", history.visit(job, node).failures, history.preparation_retries(job))
        case e.StartTaskRetried(node=node) if (facts := history.nodes.get(node)) is not None:
            yield from _too_many(f"the start task of {node}", facts.start_failures, history.start_task_retries(node))
        case _:
            pass


@invariant(e.TaskRetried, e.PreparationRetried, e.StartTaskRetried, rule="semantics 3.1: only a non-zero exit consumes a retry")
def retries_count_only_failed_programs(history: History, seen: Seen) -> Iterator[str]:
    """A retry is counted only after a program ended by itself with a code other than 0; what the platform took away is not counted."""
    if not _exited(history, seen.event):
        yield f"no program failed before {type(seen.event).__name__}"


@invariant(e.TaskCompleted, e.PreparationCompleted, e.StartTaskCompleted, rule="semantics 3.1")
def retries_are_granted(history: History, seen: Seen) -> Iterator[str]:
    """What failed by itself is not given up while it has retries left, unless it was asked to end or its job is ending."""
    event = seen.event
    if not _exited(history, event) or (not isinstance(event, e.StartTaskCompleted) and history.state("job", job_of(event)) in ENDING):
        return
    match event:
        case e.TaskCompleted(job=job, task=name) if (task := history.task(job, name)) is not None and task.stop in {None, "requeue"}:
            failures, allowed = task.failures, history.task_retries(job, name)
        case e.PreparationCompleted(job=job, node=node) if (visit := history.visit(job, node)).stop is None:
            failures, allowed = visit.failures, history.preparation_retries(job)
        case e.StartTaskCompleted(node=node) if (facts := history.nodes.get(node)) is not None:
            failures, allowed = facts.start_failures, history.start_task_retries(node)
        case _:
            return
    if allowed == -1 or failures <= allowed:
        yield f"it failed {failures} times and may be retried {allowed} times"


@invariant(
    e.TaskCompleted, e.PreparationCompleted, e.ReleaseCompleted, e.FinalizerCompleted, e.StartTaskCompleted, rule="ARCHITECTURE: never guessed"
)
def results_are_what_was_seen(history: History, seen: Seen) -> Iterator[str]:
    """Success is recorded of what was seen to end by itself with code 0 and had its output files uploaded, and of nothing else."""
    event = seen.event
    if isinstance(event, e.TaskCompleted | e.PreparationCompleted | e.ReleaseCompleted | e.FinalizerCompleted | e.StartTaskCompleted):
        exited, uploaded = _exited(history, event), _uploaded(history, event)
        if (event.result == "success") != (exited == 0 and uploaded):
            seen_to = "was not seen to end by itself" if exited is None else f"exited {exited}"
            yield f"{event.result} is recorded, and the program {seen_to}{'' if uploaded else ', its output files not uploaded'}"


OF_JOBS: Final[tuple[Invariant, ...]] = (
    release_only_within_its_scope,
    release_completes_once,
    release_never_after_completion,
    release_comes_last,
    dependencies_come_first,
    preparation_before_task,
    failed_preparation_bars_the_node,
    preparation_only_where_a_task_is_placed,
    one_preparation_at_a_time,
    starts_only_while_active,
    nothing_lives_when_a_job_ends,
    nothing_is_owed_when_a_job_ends,
    no_task_is_left_when_a_job_ends,
    a_job_that_is_gone_runs_nothing,
    tries_within_retries,
    retries_count_only_failed_programs,
    retries_are_granted,
    results_are_what_was_seen,
)


# --- helpers --------------------------------------------------------------------------------------------------


def _new_preparation(history: History, event: e.Event) -> bool:
    """Whether the event launches a preparation where none is under way."""
    return launches(event, "preparation") and history.visit(job_of(event), node_of(event)).preparation != "running"


def _is_over(history: History, job: JobId | None) -> bool:
    return job is not None and (facts := history.jobs.get(job)) is not None and facts.completed


def _exited(history: History, event: e.Event) -> int | None:
    """The code with which the program that the event is about ended by itself, None where it did not."""
    match event:
        case e.TaskRetried() | e.TaskCompleted():
            return task.exited if (task := history.task(event.job, event.task)) is not None else None
        case e.PreparationRetried() | e.PreparationCompleted():
            return history.visit(event.job, event.node).exited
        case e.ReleaseCompleted():
            return history.visit(event.job, event.node).release_exited
        case e.FinalizerCompleted():
            return job.finalizer_exited if (job := history.jobs.get(event.job)) is not None else None
        case e.StartTaskRetried() | e.StartTaskCompleted():
            return node.start_exited if (node := history.nodes.get(event.node)) is not None else None
        case _:
            return None


def _uploaded(history: History, event: e.Event) -> bool:
    """Whether nothing kept the output files of the program that the event is about from being uploaded."""
    match event:
        case e.TaskCompleted() if (task := history.task(event.job, event.task)) is not None and isinstance(task.outcome, e.ExecutionEnded):
            return task.outcome.upload_failure is None
        case e.ReleaseCompleted():
            return history.visit(event.job, event.node).release_uploaded
        case e.FinalizerCompleted() if (job := history.jobs.get(event.job)) is not None:
            return job.finalizer_uploaded
        case _:
            return True


def _too_many(what: str, failures: int, allowed: int) -> Iterator[str]:
    if allowed != -1 and failures > allowed:
        yield f"{what} failed {failures} times, may be retried {allowed} times and is tried again"
