"""Explain: why a job or a task is in its state, as data.

It looks at counts, queue heads and the pool's nodes, never at all tasks of a job, so that asking about one of a million tasks is cheap.
The answers are facts of the world now; what led to them is in the ledger.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice, takewhile

from attrs import frozen

from . import dependencies, files
from . import job as jobs
from . import task as tasks
from .ids import ENGINE_HOST, JobId, Micros, NodeId, TaskId, place_name
from .world import UP, Execution, Job, Node, Pool, Run, Task, World, may_place, present, rank, ready_jobs, takes_tasks

NODES_NAMED_MAX = 8
"""Nodes that one reason names; the text says how many more there are."""

DEPENDENCIES_NAMED_MAX = 8
"""Things that a task waits for, likewise."""

DELAYS_READ_MAX = 10_000
"""Tasks that wait for their next try among which the first one is looked for."""

CYCLE_STEPS_MAX = 10_000
"""Tasks visited in search of a cycle of dependencies: an answer that takes longer is not worth the wait."""


@frozen(kw_only=True)
class Reason:
    """One fact that holds something back, or that settled it.

    `code` is stable and for programs, `text` for people; `subject` names the node, task, pool or execution that it is about, and `at` the
    moment that is waited for.
    """

    code: str
    text: str
    subject: str | None = None
    at: Micros | None = None


def explain(world: World, job_id: JobId, task_id: TaskId | None = None) -> list[Reason]:
    """Why a job, or one of its tasks, is where it is.  Refused: JobNotFound, TaskNotFound."""
    if task_id is None:
        return list(_job(world, jobs.find(world, job_id, "explain it")))
    job, task = tasks.find(world, job_id, task_id, "explain")
    return list(_task(world, job, task))


# --- a task ---------------------------------------------------------------------------------------------------


def _task(world: World, job: Job, task: Task) -> Iterator[Reason]:
    match task.state:
        case "active" if task.unmet:
            yield from _waits_for_tasks(job, task)
        case "active" if task.retry_at is not None:
            yield Reason(code="RetryDelayed", text="it waits for the time of its next try", subject=task.spec.id, at=task.retry_at)
        case "active":
            yield from _waits_for_a_node(world, job, task.spec.required_slots)
        case "preparing" if task.node is not None:
            yield from _waits_for_preparation(world, job, task.node)
        case "running" if task.execution is not None:
            yield _runs(world.executions[task.execution])
            yield from _drains(world, world.executions[task.execution].node)
        case _:
            yield _ended(task)
            yield from _files(world, job, task)
    if task.retries:
        allowed = tasks.retries_allowed(task)
        limit = "without limit" if allowed == -1 else f"of {allowed}"
        yield Reason(code="Retried", text=f"it was retried {_count(task.retries, 'time')} ({limit}); the last exit code was {task.exit_code}")
    if task.requeues:
        yield Reason(code="Requeued", text=f"it was requeued {_count(task.requeues, 'time')}, which counts as no retry", subject=task.node)


def _files(world: World, job: Job, task: Task) -> Iterator[Reason]:
    """What is to become of what it left on nodes."""
    for node in files.nodes_of(job, task)[-NODES_NAMED_MAX:]:
        folder = files.find(world, node, job.id, task.spec.id)
        what = f"its files on {node}"
        match folder.state if folder is not None else None:
            case None:
                yield Reason(code="FilesGone", text=f"{what} are gone: they were removed, or the node was emptied or left", subject=node)
            case "kept" if folder is not None and folder.due is None:
                yield Reason(code="FilesKept", text=f"{what} are kept without limit", subject=node)
            case "kept":
                yield Reason(code="FilesKept", text=f"{what} will be removed", subject=node, at=present(folder).due)
            case "expiring" | "awaited":
                waits = "" if world.nodes[node].state in UP else f", once the node is up: it is {world.nodes[node].state}"
                yield Reason(code="FilesExpiring", text=f"{what} are being removed{waits}", subject=node)
            case _:
                pass


def _waits_for_tasks(job: Job, task: Task) -> Iterator[Reason]:
    for one in islice(dependencies.unmet(job, task), DEPENDENCIES_NAMED_MAX):
        if not isinstance(one, int):
            yield _waits_for_task(job, one)
        elif (named := next(dependencies.reading_as(job, one), None)) is not None:
            yield _waits_for_task(job, named)
        else:
            yield Reason(
                code="DependencyNotMet", text=f"it depends on number {one}, and no task whose id reads as {one} has satisfied it", subject=str(one)
            )
    if task.unmet > DEPENDENCIES_NAMED_MAX:
        yield Reason(code="DependencyNotMet", text=f"and on {task.unmet - DEPENDENCIES_NAMED_MAX} more", subject=job.id)
    if circle := _circle(job, task.spec.id):
        yield Reason(code="DependencyCycle", text=f"these tasks wait for each other and will never run: {' -> '.join(circle)}", subject=task.spec.id)


def _waits_for_task(job: Job, one: TaskId) -> Reason:
    other = job.tasks.get(one)
    if other is None:
        return Reason(code="DependencyUnknown", text=f"it depends on task {one}, which the job does not have", subject=one)
    if other.state == "completed" and other.result == "success":
        text = f"it depends on task {one}, which succeeded, and by its exit conditions blocks those that depend on it"
        return Reason(code="DependencyBlocked", text=text, subject=one)
    if other.state == "completed":
        return Reason(
            code="DependencyFailed", text=f"it depends on task {one}, which failed: it waits until that one is reactivated and succeeds", subject=one
        )
    return Reason(code="DependencyNotMet", text=f"it depends on task {one}, which is {other.state}", subject=one)


def _circle(job: Job, start: TaskId) -> list[TaskId]:
    """The way from a task through what it waits for back to itself; empty if there is none within the bound."""
    before: dict[TaskId, TaskId] = {}
    looking = [start]
    while looking and len(before) < CYCLE_STEPS_MAX:
        at = looking.pop()
        for one in dependencies.unmet(job, job.tasks[at]):
            if one == start:
                way = [start, at]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return way[::-1]
            if not isinstance(one, int) and one in job.tasks and one not in before:
                before[one] = at
                looking.append(one)
    return []


def _waits_for_a_node(world: World, job: Job, least: int) -> Iterator[Reason]:
    """What holds back a task that requires at least so many slots."""
    if job.state != "active":
        yield Reason(code="JobNotActive", text=f"job {job.id} is {job.state}, and tasks start only while it is active", subject=job.id)
        return
    pool = world.pools.get(job.spec.pool_info.pool_id)
    if pool is None:
        name = job.spec.pool_info.pool_id
        yield Reason(code="PoolNotFound", text=f"there is no pool {name}; the job waits until there is one", subject=name)
    elif job.blocked:
        yield _all_failed(job)
    else:
        yield from _waits_for_a_slot(world, job, pool, least)


def _waits_for_a_slot(world: World, job: Job, pool: Pool, least: int) -> Iterator[Reason]:
    if least > pool.spec.task_slots_per_node:
        yield _never_fits(pool, least)
        return
    others = [world.nodes[node_id] for node_id in pool.nodes if node_id not in job.ineligible]
    eligible = [node for node in others if takes_tasks(node)]
    if job.ineligible:
        yield _some_failed(job, able_left=len(eligible))
    if not eligible:
        yield _no_node(pool, others)
        return
    slots, used = len(eligible) * pool.spec.task_slots_per_node, sum(node.slots for node in eligible)
    if used >= slots:
        yield Reason(code="NoFreeSlot", text=f"{used} of {slots} task slots taken on the nodes it may use", subject=pool.id)
    elif (roomiest := max(pool.free_of.get(node.id, 0) for node in eligible)) < least:
        text = f"it requires {least} slots of one node, and no node that it may use has more than {roomiest} free"
        yield Reason(code="NoFreeSlot", text=text, subject=pool.id)
    if not may_place(job):
        most = job.spec.max_parallel_tasks
        yield Reason(code="MaxParallelTasks", text=f"the job may have {most} tasks at work at the same time, and has", subject=job.id)
    ahead = [entry[2] for entry in takewhile(lambda entry: entry < rank(job), ready_jobs(pool))]
    if ahead:
        named = ", ".join(ahead[:NODES_NAMED_MAX]) + (f" and {len(ahead) - NODES_NAMED_MAX} more" if len(ahead) > NODES_NAMED_MAX else "")
        yield Reason(code="JobsAhead", text=f"jobs of higher priority or submitted earlier have tasks waiting too: {named}", subject=pool.id)
    yield Reason(code="Queued", text=f"{_count(job.counts['active'], 'task')} of the job in the queue, in order of submission", subject=job.id)


def _never_fits(pool: Pool, least: int) -> Reason:
    text = f"it requires {least} slots, and a node of pool {pool.id} has {pool.spec.task_slots_per_node}: it waits for ever"
    advice = "delete it and add one that requires less, or let the job go on on another pool (`jobledger jobs patch`)"
    return Reason(code="TooFewSlots", text=f"{text}; {advice}", subject=pool.id)


def _no_node(pool: Pool, candidates: list[Node]) -> Reason:
    if not candidates:
        return Reason(code="NoNodes", text=f"pool {pool.id} has no nodes", subject=pool.id)
    words = Counter(_node_word(node) for node in candidates)
    listed = ", ".join(f"{count} {word}" for word, count in words.most_common(NODES_NAMED_MAX))
    more = len(words) - NODES_NAMED_MAX
    text = f"no node of pool {pool.id} that may take it is up: {listed}" + (f" and {more} more kinds" if more > 0 else "")
    return Reason(code="NoNodeUp", text=text, subject=pool.id)


def _node_word(node: Node) -> str:
    """A node's state, why it is in it where that is known, and that it takes no tasks where it is up and was told so."""
    if node.state in {"unusable", "unknown", "preempted"} and node.reason:
        return f"{node.state} ({node.reason})"
    if node.draining is not None:
        return f"{node.state} (draining to {node.draining.then})"
    return f"{node.state} (scheduling is disabled)" if node.state in {"idle", "running"} else node.state


def _some_failed(job: Job, *, able_left: int) -> Reason:
    return Reason(
        code="PreparationFailed",
        text=f"preparation failed on {_failed_nodes(job)}, which take no task of this job until reimaged; {able_left} other nodes may",
        subject=job.id,
    )


def _all_failed(job: Job) -> Reason:
    return Reason(
        code="JobPreparationTaskFailed",
        text=f"preparation failed on every node of the pool: {_failed_nodes(job)}; until a node is reimaged or added, nothing runs",
        subject=job.id,
    )


def _failed_nodes(job: Job) -> str:
    named = [f"{node} ({_result(job.preparations[node])})" for node in list(job.ineligible)[:NODES_NAMED_MAX]]
    more = len(job.ineligible) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")


def _result(run: Run) -> str:
    ended = [f"exit code {run.exit_code}"] if run.exit_code is not None else []
    if run.failure is not None and not (ended and run.failure.code == "FailureExitCode"):
        ended.append(run.failure.code)
    return ", ".join(ended) or run.result or run.state


def _waits_for_preparation(world: World, job: Job, node: NodeId) -> Iterator[Reason]:
    run, allowed = job.preparations[node], present(job.spec.job_preparation_task).constraints.max_task_retry_count
    attempt = f"try {run.retries + 1}, " + ("without limit" if allowed == -1 else f"of at most {allowed + 1}")
    text = f"it waits on {node} for the job's preparation there, which is {run.state} ({attempt})"
    yield Reason(code="WaitingForPreparation", text=text, subject=node)
    if run.execution is not None:
        yield _runs(world.executions[run.execution])


def _runs(execution: Execution) -> Reason:
    seen = "was asked to run and has not been seen to start yet" if execution.state == "requested" else "runs"
    wish = f"; it was asked to end: {execution.stop.cause}" if execution.stop is not None else ""
    pid = f", process {execution.pid}" if execution.pid is not None else ""
    text = f"{execution.kind} {execution.task} {seen} on {place_name(execution.node)} (execution {execution.id}{pid}){wish}"
    return Reason(code="Stopping" if execution.stop is not None else "Running", text=text, subject=f"execution {execution.id}")


def _drains(world: World, node_id: NodeId) -> Iterator[Reason]:
    node = world.nodes[node_id]
    if (drain := node.draining) is not None:
        text = f"node {node.id} takes no more tasks, and is to {drain.then} when those that are there have ended: {drain.cause}"
        yield Reason(code="NodeDraining", text=text.replace("is to remove", "is to be removed"), subject=node.id)


def _ended(task: Task) -> Reason:
    if task.failure is None:
        return Reason(code="Succeeded", text=f"it ran on {task.node} and exited with 0", subject=task.node)
    details = "".join(f"; {detail.value}" for detail in task.failure.details if detail.name == "Message")
    code = f", exit code {task.exit_code}" if task.exit_code is not None else ""
    return Reason(code=task.failure.code, text=f"it failed: {task.failure.message}{details}{code}", subject=task.node)


# --- a job ----------------------------------------------------------------------------------------------------


def _job(world: World, job: Job) -> Iterator[Reason]:
    match job.state:
        case "active":
            yield from _active(world, job)
        case "disabling" | "enabling":
            yield from _waits_for_ends(world, job, f"the job is {job.state} until what had to stop has stopped")
        case "disabled":
            why = f"disabled ({job.disable_reason})" if job.disable_reason else "disabled"
            yield Reason(code="JobDisabled", text=f"the job is {why}: nothing of it starts until it is enabled", subject=job.id)
        case "terminating" | "deleting":
            yield from _ending(world, job)
        case _:
            yield Reason(code="JobCompleted", text=f"the job is completed: {job.terminate_reason}", subject=job.id)
            if job.ineligible:
                yield Reason(code="PreparationFailed", text=f"preparation failed on {_failed_nodes(job)}", subject=job.id)
            yield from _releases_not_well(job)
            yield from _finalizer_not_well(job)


def _active(world: World, job: Job) -> Iterator[Reason]:
    if not job.tasks:
        yield Reason(code="NoTasks", text="the job has no tasks; add some, or terminate it", subject=job.id)
    elif job.counts["completed"] == len(job.tasks):
        yield Reason(
            code="AllTasksComplete",
            text="all tasks are complete, and onAllTasksComplete is noaction: the job stays active until it is terminated or deleted",
            subject=job.id,
        )
    if job.queue:
        yield from _waits_for_a_node(world, job, min(job.queue))
    elif (others := job.counts["active"] - len(job.delayed)) > 0:
        text = f"{_count(others, 'task')} waiting for other tasks to succeed; ask for one of them to hear which"
        yield Reason(code="WaitingForDependencies", text=text, subject=job.id)
    if job.delayed:
        first = min(present(job.tasks[task].retry_at) for task in islice(job.delayed, DELAYS_READ_MAX))
        text = f"{_count(len(job.delayed), 'task')} waiting for the time of the next try"
        yield Reason(code="RetryDelayed", text=text, subject=job.id, at=first)
    for node, run in _running(job.preparations):
        yield Reason(
            code="Preparing",
            text=f"preparation is running on {node}, {_count(len(job.preparations[node].waiting), 'task')} waiting for it",
            subject=run,
        )
    if job.counts["running"]:
        yield Reason(code="TasksRunning", text=f"{_count(job.counts['running'], 'task')} running", subject=job.id)


def _ending(world: World, job: Job) -> Iterator[Reason]:
    finalizer = job.finalizer
    if finalizer is not None and finalizer.execution is not None:
        text = f"all else is done, and the finalizer is running on {place_name(finalizer.node)}"
        yield Reason(code="Finalizing", text=text, subject=f"execution {finalizer.execution}")
        yield _runs(world.executions[finalizer.execution])
        return
    if len(job.live) > job.releasing:
        yield from _waits_for_ends(world, job, f"the job is {job.state} and its tasks and preparations end first")
        return
    for node, run in _running(job.releases):
        yield Reason(code="Releasing", text=f"release is running on {node}", subject=run)
    for node in list(job.owed)[:NODES_NAMED_MAX]:
        yield Reason(code="ReleaseOwed", text=f"release waits for node {node}, which is {world.nodes[node].state}", subject=node)
    for node in list(world.wiping.get(job.id, ()))[:NODES_NAMED_MAX] if job.state == "deleting" else ():
        yield Reason(code="RemovingFiles", text=f"its files on {node} are being removed", subject=node)
    spec = job.spec.job_finalizer_task
    if spec is not None and not job.live and not job.owed and (chosen := world.nodes.get(spec.node_id or ENGINE_HOST)) is not None:
        yield Reason(code="FinalizerWaiting", text=f"the finalizer waits for node {chosen.id}, which is {chosen.state}", subject=chosen.id)


def _finalizer_not_well(job: Job) -> Iterator[Reason]:
    """The finalizer of a job that is over, if it failed or never ran to an end."""
    finalizer = job.finalizer
    if finalizer is not None and finalizer.state == "abandoned":
        text = f"the finalizer did not run on {place_name(finalizer.node)}: {finalizer.abandoned_because}"
        yield Reason(code="FinalizerAbandoned", text=text, subject=finalizer.node)
    elif finalizer is not None and finalizer.result == "failure":
        text = f"the finalizer failed on {place_name(finalizer.node)}: {_result(finalizer)}"
        yield Reason(code="FinalizerFailed", text=text, subject=finalizer.node)


def _releases_not_well(job: Job) -> Iterator[Reason]:
    """The releases of a job that is over that failed, or never ran although they were owed."""
    failed = [(node, release) for node, release in job.releases.items() if release.state == "abandoned" or release.result == "failure"]
    for node, release in failed[:NODES_NAMED_MAX]:
        if release.state == "abandoned":
            yield Reason(code="ReleaseAbandoned", text=f"release did not run on {node}: {release.abandoned_because}", subject=node)
        else:
            yield Reason(code="ReleaseFailed", text=f"release failed on {node}: {_result(release)}", subject=node)
    if (more := len(failed) - NODES_NAMED_MAX) > 0:
        yield Reason(code="MoreReleases", text=f"release failed or did not run on {more} more nodes", subject=job.id)


def _waits_for_ends(world: World, job: Job, text: str) -> Iterator[Reason]:
    yield Reason(code="WaitingForTasksToEnd", text=text, subject=job.id)
    for execution_id in list(job.live)[:NODES_NAMED_MAX]:
        yield _runs(world.executions[execution_id])


def _running(runs: Mapping[NodeId, Run]) -> Iterator[tuple[NodeId, str]]:
    shown = 0
    for node, run in runs.items():
        if run.state == "running" and shown < NODES_NAMED_MAX:
            shown += 1
            yield node, f"execution {run.execution}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
