"""Views: what the world looks like in Azure Batch's JSON (semantics sections 1, 3.11 and 4).

Pure projections of a world, made of dicts, lists, texts and numbers.  Names are camelCase, times are RFC 3339 with microseconds,
and what is absent is left out.  Where Azure Batch has no field for what the ledger knows, one of our own stands beside the
others; `due`, `releaseState`, `releaseAbandonedBecause`, `jobFinalizerTaskStatus`, `blocked`, `reason`, `incarnation`,
`bootId`, `draining`, `drainingNodes` and a task's `metadata` are these.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from .core import files
from .core.errors import RequestRefused
from .core.failure import FailureInfo, unknown_outcome_failure
from .core.ids import ENGINE_HOST, JobId, Micros, NodeId, TaskId
from .core.pool import pool_of
from .core.specs import AFFINITY_PREFIX
from .core.world import Job, Node, Pool, Preparation, Release, Run, Task, World
from .eventstore import rfc3339
from .executors.layout import node_folder, task_folder
from .jsonnames import nearest
from .specjson import unstructure

Json = dict[str, Any]

_FILES_STATES: Final = {"held": "held", "kept": "kept", "expiring": "expiring", "awaited": "expiring"}
"""What is told of a folder: that a launch waits for its removal is the engine's own affair."""


# --- whole documents ------------------------------------------------------------------------------------------


def status_document(world: World, job: JobId, position: int) -> Json:
    """What `status JOB --json` prints.  `position` is the ledger's, as of which all this holds.  Refused: JobNotFound."""
    found = find_job(world, job)
    document: Json = dry_run_view(world) | {
        "job": job_view(found),
        "tasks": [task_view(found, task, world) for task in found.tasks.values()],
        "jobPreparationAndReleaseTaskStatus": preparation_and_release_status(found),
    }
    if (finalizer := finalizer_status(found)) is not None:
        document["jobFinalizerTaskStatus"] = finalizer
    return document | {"taskCounts": task_counts(found), "taskSlotCounts": task_slot_counts(found), "position": position}


def dry_run_view(world: World) -> Json:
    """`dryRun`, which is ours: what a dry run was made from; nothing for real work."""
    return {"dryRun": world.dry_run} if world.dry_run else {}


def find_job(world: World, job: str) -> Job:
    """A job by id.  Refused: JobNotFound, with the id that was probably meant."""
    found = world.jobs.get(JobId(job))
    if found is None:
        raise RequestRefused("JobNotFound", f"there is no job {job}{_meant(job, world.jobs)}")
    return found


def find_task(job: Job, task: str) -> Task:
    """A task of a job by id.  Refused: TaskNotFound, with the id that was probably meant."""
    found = job.tasks.get(TaskId(task))
    if found is None:
        raise RequestRefused("TaskNotFound", f"job {job.id} has no task {task}{_meant(task, job.tasks)}")
    return found


def _meant(wrong: str, ids: Iterable[str]) -> str:
    meant = nearest(wrong, ids)
    return f"; did you mean {meant}?" if meant else ""


# --- jobs and tasks -------------------------------------------------------------------------------------------


def job_view(job: Job) -> Json:
    """Azure Batch's job object.  `blocked` (ours) says that no node of the pool may take its tasks any more."""
    execution = {
        "startTime": rfc3339(job.created_at),
        "endTime": _time(job.ended_at),
        "poolId": job.spec.pool_info.pool_id,
        "terminateReason": job.terminate_reason if job.state == "completed" else None,
    }
    return _present(
        {
            "id": job.id,
            "state": job.state,
            "stateTransitionTime": rfc3339(job.changed_at),
            "previousState": job.previous_state,
            "creationTime": rfc3339(job.created_at),
            **unstructure(job.spec),
            "executionInfo": _present(execution),
            "blocked": job.blocked or None,
        }
    )


def task_view(job: Job, task: Task, world: World | None = None) -> Json:
    """Azure Batch's task object.  What became of a try that is over shows only once the task is completed, as Azure has it.

    With `world`, its nodeInfo also tells `filesState` (`held`, `kept`, `expiring` or `gone`) and `filesRemovalTime`, which are ours.
    """
    completed = task.state == "completed"
    execution = {
        "startTime": _time(task.started_at) if task.state in {"running", "completed"} else None,
        "endTime": _time(task.ended_at) if completed else None,
        "exitCode": task.exit_code if completed else None,
        "result": task.result if completed else None,
        "failureInfo": failure_view(task.failure) if completed else None,
        "retryCount": task.retries,
        "lastRetryTime": _time(task.last_retry_at),
        "nextRetryTime": _time(task.retry_at),
        "requeueCount": task.requeues,
        "lastRequeueTime": _time(task.last_requeue_at),
    }
    return _present(
        {
            "id": task.spec.id,
            "state": task.state,
            "stateTransitionTime": rfc3339(task.changed_at),
            "creationTime": rfc3339(task.added_at),
            **unstructure(task.spec),
            "executionInfo": _present(execution),
            "nodeInfo": _node_info(job, task, world),
        }
    )


def task_counts(job: Job) -> dict[str, int]:
    """Azure Batch's task counts: `running` includes `preparing`, and `completed` is `succeeded` and `failed` together."""
    completed = job.counts["completed"]
    return {
        "active": job.counts["active"],
        "running": job.counts["preparing"] + job.counts["running"],
        "completed": completed,
        "succeeded": job.succeeded,
        "failed": completed - job.succeeded,
    }


def task_slot_counts(job: Job) -> dict[str, int]:
    """Azure Batch's task slot counts: as `task_counts`, each task with the slots that it requires."""
    slots = Counter[str]()
    for task in job.tasks.values():
        slots["running" if task.state == "preparing" else task.state] += task.spec.required_slots
        slots[task.result or ""] += task.spec.required_slots
    return {
        "active": slots["active"],
        "running": slots["running"],
        "completed": slots["completed"],
        "succeeded": slots["success"],
        "failed": slots["failure"],
    }


def failure_view(failure: FailureInfo | None) -> Json | None:
    """Azure Batch's `failureInfo`, or None."""
    if failure is None:
        return None
    details = [{"name": detail.name, "value": detail.value} for detail in failure.details]
    return _present({"category": failure.category, "code": failure.code, "message": failure.message, "details": details or None})


def _node_info(job: Job, task: Task, world: World | None) -> Json | None:
    if task.node is None:
        return None
    folder = files.find(world, task.node, job.id, task.spec.id) if world is not None else None
    state = None if world is None or not task.launches else "gone" if folder is None else _FILES_STATES[folder.state]
    return _present(
        {
            "poolId": pool_of(task.node),
            "nodeId": task.node,
            "taskRootDirectory": _root_directory(job, task.node, task.spec.id) if task.launches else None,
            "filesState": state,
            "filesRemovalTime": _time(folder.due) if folder is not None else None,
        }
    )


# --- preparation and release ----------------------------------------------------------------------------------


def preparation_and_release_status(job: Job) -> list[Json]:
    """One entry for each node that started the job's preparation or release, those that have left the pool included.

    Azure's two states say less than ours.  A preparation that is `due` shows its latest run (`completed` where that ended, else
    `running`) and `due: true`.  `releaseState` is ours: `owed`, `running`, `completed` or `abandoned`, the last with
    `releaseAbandonedBecause`; a release that was cut short and is owed again still shows as `running`.
    """
    return [_node_status(job, node) for node in nodes_of(job)]


def refuse_unless_prepared(job: Job) -> None:
    """Refused: JobPreparationTaskNotSpecified (Azure Batch's answer to who asks for the status of what there is not)."""
    if job.spec.job_preparation_task is None:
        raise RequestRefused("JobPreparationTaskNotSpecified", f"job {job.id} has no job preparation task")


def nodes_of(job: Job) -> Iterator[NodeId]:
    """The nodes that started the job's preparation or release, in the order in which they first did."""
    for node in dict.fromkeys((*job.preparations, *job.releases)):
        preparation, release = job.preparations.get(node), job.releases.get(node)
        if (preparation is not None and preparation.launches) or (release is not None and release.launches):
            yield node


def _node_status(job: Job, node: NodeId) -> Json:
    preparation, release = job.preparations.get(node), job.releases.get(node)
    return _present(
        {
            "poolId": pool_of(node),
            "nodeId": node,
            "jobPreparationTaskExecutionInfo": None if preparation is None else _preparation_info(job, node, preparation),
            "due": True if preparation is not None and preparation.state == "due" else None,
            "jobReleaseTaskExecutionInfo": None if release is None or not release.launches else _release_info(job, node, release),
            "releaseState": None if release is None else release.state,
            "releaseAbandonedBecause": None if release is None else release.abandoned_because,
        }
    )


def _preparation_info(job: Job, node: NodeId, preparation: Preparation) -> Json:
    spec = job.spec.job_preparation_task
    info = _run_info(preparation, completed=preparation.ended_at is not None)
    info["taskRootDirectory"] = None if spec is None else _root_directory(job, node, spec.id)
    info["retryCount"] = preparation.retries
    info["lastRetryTime"] = _time(preparation.last_retry_at)
    return _present(info)


def _release_info(job: Job, node: NodeId, release: Release) -> Json:
    spec = job.spec.job_release_task
    if release.state == "abandoned" and release.abandoned_because is not None:
        info = _given_up_info(release, release.abandoned_because)
    else:
        info = _run_info(release, completed=release.ended_at is not None)
    info["taskRootDirectory"] = None if spec is None else _root_directory(job, node, spec.id)
    return _present(info)


def _given_up_info(run: Run, because: str) -> Json:
    """Of a run that was started, that its node cut short, and that will not be started again: Azure's words for that."""
    lost = unknown_outcome_failure(because)
    return {"startTime": _time(run.started_at), "state": "completed", "result": "failure", "failureInfo": failure_view(lost)}


def _run_info(run: Run, *, completed: bool) -> Json:
    """What the execution infos of preparation, release and start task have in common; absent values are None."""
    return {
        "startTime": _time(run.started_at),
        "endTime": _time(run.ended_at) if completed else None,
        "state": "completed" if completed else "running",
        "exitCode": run.exit_code if completed else None,
        "result": run.result if completed else None,
        "failureInfo": failure_view(run.failure) if completed else None,
    }


# --- finalizer ------------------------------------------------------------------------------------------------


def finalizer_status(job: Job) -> Json | None:
    """What became of the job's finalizer, None for a job without one.

    `state` is the machine's, and `absent` until it is started or abandoned; `nodeId` is `.engine` for the engine's host.
    """
    spec, finalizer = job.spec.job_finalizer_task, job.finalizer
    if spec is None:
        return None
    state = {"nodeId": spec.node_id or ENGINE_HOST, "state": "absent" if finalizer is None else finalizer.state}
    if finalizer is None or not finalizer.launches:
        return _present(state | {"abandonedBecause": None if finalizer is None else finalizer.abandoned_because})
    if finalizer.abandoned_because is not None:
        info = _given_up_info(finalizer, finalizer.abandoned_because)
    else:
        info = _run_info(finalizer, completed=finalizer.state == "completed")
    info["taskRootDirectory"] = _root_directory(job, finalizer.node, spec.id)
    return _present(state | {"abandonedBecause": finalizer.abandoned_because, "executionInfo": _present(info)})


# --- pools and nodes ------------------------------------------------------------------------------------------


def pool_view(pool: Pool) -> Json:
    """Azure Batch's pool object, with `executor` and `nodes` (the target it was created with) from the specification.

    `drainingNodes` (ours) counts those that leave when their tasks have ended.
    """
    return _present(
        {
            "id": pool.id,
            "state": pool.state,
            "stateTransitionTime": rfc3339(pool.changed_at),
            "allocationState": pool.allocation,
            "creationTime": rfc3339(pool.created_at),
            **unstructure(pool.spec),
            "targetDedicatedNodes": pool.target,
            "currentDedicatedNodes": len(pool.nodes),
            "drainingNodes": len(pool.draining) or None,
            "resizeErrors": [_resize_error(error) for error in pool.errors] or None,
        }
    )


def _resize_error(error: str) -> Json:
    code, _, message = error.partition(": ")
    return {"code": code, "message": message}


def node_view(node: Node) -> Json:
    """Azure Batch's node object.  Ours are `bootId`, `incarnation`, which counts its boots, `reason`, which says why it cannot be used or
    takes no tasks, and `draining`: what happens `then`, when the tasks that are there have ended, and `since` when it takes no more.
    """
    start = node.start_task
    started = None if start is None else _run_info(start, completed=start.state == "completed")
    if start is not None and started is not None:
        started["retryCount"] = start.retries
        started["lastRetryTime"] = _time(start.last_retry_at)
    return _present(
        {
            "id": node.id,
            "poolId": node.pool,
            "state": node.state,
            "stateTransitionTime": rfc3339(node.changed_at),
            "schedulingState": node.scheduling,
            "affinityId": f"{AFFINITY_PREFIX}{node.id}",
            "allocationTime": rfc3339(node.added_at),
            "lastBootTime": _time(node.booted_at),
            "bootId": node.boot_id,
            "incarnation": node.incarnation,
            "reason": reason_of(node),
            "draining": None if node.draining is None else {"then": node.draining.then, "since": rfc3339(node.draining.since)},
            "runningTasksCount": len(node.tasks),
            "runningTaskSlotsCount": node.slots,
            "totalTasksRun": node.tasks_run,
            "totalTasksSucceeded": node.tasks_succeeded,
            "startTaskInfo": None if started is None else _present(started),
        }
    )


def reason_of(node: Node) -> str | None:
    """Why the node is in its state, drains, or takes no tasks, as far as anybody said."""
    return node.reason or (node.draining.cause if node.draining is not None else node.disabled_because)


# --- helpers --------------------------------------------------------------------------------------------------


def _root_directory(job: Job, node: NodeId, task: TaskId) -> str:
    """A task's folder as Azure Batch names it: relative to the node's root."""
    pool = pool_of(node)
    return task_folder(pool, node, job.id, task).removeprefix(node_folder(pool, node) + "/")


def _time(at: Micros | None) -> str | None:
    return None if at is None else rfc3339(at)


def _present(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not None}
