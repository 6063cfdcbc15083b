"""What holds of the folders of tasks, preparations and releases: invariants, see `invariants`."""

from collections.abc import Iterator
from typing import Final

from . import events as e
from .history import History, NodeFacts, Seen
from .ids import UNLIMITED_RETENTION, JobId, NodeId, TaskId
from .judging import Invariant, invariant, job_of, node_of


@invariant(e.FilesExpired, rule="semantics 3.1, 3.8; scenario 37")
def files_are_kept_for_their_retention(history: History, seen: Seen) -> Iterator[str]:
    """No folder expires before its retention has passed, counted from the end of what wrote it, or of the job for a preparation; unless
    its task or job was deleted.
    """
    event = seen.event
    node = history.nodes.get(node_of(event))
    if not isinstance(event, e.FilesExpired) or node is None or (folder := node.files.folders.get(event.job, {}).get(event.task)) is None:
        return
    if folder.live is not None or (folder.kind == "task" and history.task(event.job, event.task) is None) or event.job not in history.jobs:
        return
    if folder.since is None or folder.retention == UNLIMITED_RETENTION or seen.at < folder.since + folder.retention:
        yield f"{_name(event)} is to be kept for {folder.retention} from {folder.since} on, and expires at {seen.at}"


@invariant(e.FilesExpired, e.JobFilesExpired, e.FilesRemoved, e.JobFilesRemoved, rule="core/files.py, rules 1 and 5")
def nothing_lives_where_files_go(history: History, seen: Seen) -> Iterator[str]:
    """A folder expires only when nothing lives there, and while it goes nothing is started in it."""
    event = seen.event
    if (node := history.nodes.get(node_of(event))) is None:
        return
    live = list(node.files.held(job_of(event), _task_of(event)))
    if isinstance(event, e.FilesRemoved | e.JobFilesRemoved):
        live = [number for number in live if (found := history.executions.get(number)) is not None and found.confirmed_at is not None]
    if live:
        yield f"{_name(event)} is held by live executions {live}"


@invariant(e.ExecutionConfirmed, rule="core/files.py, rule 5")
def launches_wait_for_removals(history: History, seen: Seen) -> Iterator[str]:
    """Nothing starts in a folder whose removal is not over."""
    event = seen.event
    if isinstance(event, e.ExecutionConfirmed) and event.job is not None and _is_going(history, event.node, event.job, event.task):
        yield f"execution {event.execution} started where {_name(event)} is still to be removed"


@invariant(e.JobDeleted, rule="semantics 1.1: task directories are wiped; core/files.py, rule 3")
def no_job_goes_before_its_files(history: History, seen: Seen) -> Iterator[str]:
    """A job is gone only when no node that is up has files of it any more."""
    event = seen.event
    job = history.jobs.get(job_of(event))
    if not isinstance(event, e.JobDeleted) or job is None or not job.removes_files:
        return
    for node_id in job.visits:
        node = history.nodes.get(node_id)
        if node is not None and node.up and _has_files(node, event.job):
            yield f"{node_id} still has files of job {event.job}"


@invariant(e.NodeBooted, e.NodeDeallocated, rule="core/files.py, rule 7")
def an_emptied_node_has_no_files(history: History, seen: Seen) -> Iterator[str]:
    """A node that was emptied knows of no folder any more."""
    event, world = seen.event, seen.world
    node = history.nodes.get(node_of(event))
    if world is None or node is None or not node.emptied or (found := world.nodes.get(node_of(event))) is None:
        return
    if found.folders or found.removals:
        yield f"{node_of(event)} was emptied and should have no files of {sorted({*found.folders, *(job for job, _ in found.removals)})}"


OF_FILES: Final[tuple[Invariant, ...]] = (
    files_are_kept_for_their_retention,
    nothing_lives_where_files_go,
    launches_wait_for_removals,
    no_job_goes_before_its_files,
    an_emptied_node_has_no_files,
)


def _is_going(history: History, node: NodeId, job: JobId, task: TaskId) -> bool:
    return history.state("job-files", job, node) == "expiring" or history.state("files", job, task, node) in {"expiring", "awaited"}


def _has_files(node: NodeFacts, job: JobId) -> bool:
    return job in node.files.folders or job in node.files.doomed


def _task_of(event: e.Event) -> TaskId | None:
    return getattr(event, "task", None)


def _name(event: e.Event) -> str:
    task = _task_of(event)
    what = f"the folder of {task}" if task is not None else "every folder"
    return f"{what} of job {job_of(event)} on {node_of(event)}"
