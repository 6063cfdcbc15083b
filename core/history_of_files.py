"""What the history remembers of folders: which execution holds one, and since when its retention counts.  See `history` for its rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from attrs import Factory, define

from . import events as e
from .ids import UNLIMITED_RETENTION, ExecutionId, ExecutionKind, JobId, Micros, NodeId, Retention, TaskId
from .specs import JobSpec, TaskSpec

if TYPE_CHECKING:
    from .history import History


@define
class FolderFacts:
    """A folder on a node that has not expired with its whole job."""

    kind: ExecutionKind
    live: ExecutionId | None
    since: Micros | None = None
    """When its retention began to count; None while it does not."""
    retention: Retention = UNLIMITED_RETENTION


@define
class FilesOfNode:
    """`doomed` are jobs whose folders are to be removed as one."""

    folders: dict[JobId, dict[TaskId, FolderFacts]] = Factory(dict)
    doomed: dict[JobId, None] = Factory(dict)

    def held(self, job: JobId, task: TaskId | None) -> Iterator[ExecutionId]:
        """Executions that hold the folder, or any folder of the job."""
        for name, folder in self.folders.get(job, {}).items():
            if task in {None, name} and folder.live is not None:
                yield folder.live


def record(history: History, event: e.Event, at: Micros) -> None:
    """Make what the event says of folders part of the history."""
    match event:
        case e.NodeBooted() if (node := history.nodes.get(event.node)) is not None and node.emptied:
            _forget(history, event.node)
        case e.NodeDeallocated() | e.NodeRemoved():
            _forget(history, event.node)
        case e.JobDeleting() if event.job in history.jobs:
            history.jobs[event.job].removes_files = event.removes_files
        case e.JobCompleted():
            for node_id in history.jobs[event.job].visits if event.job in history.jobs else ():
                if (node := history.nodes.get(node_id)) is not None:
                    _end_job(node.files, event.job, at)
        case e.ExecutionRequested() if (node := history.nodes.get(event.node)) is not None:
            _launch(node.files, event)
        case e.ExecutionEnded() | e.ExecutionNeverRan() | e.ExecutionUnresolved() if (node := history.nodes.get(event.node)) is not None:
            job = history.jobs.get(event.job) if event.job is not None else None
            folder = node.files.folders.get(event.job, {}).get(event.task) if event.job is not None else None
            if event.job is not None and job is not None and folder is not None:
                length = _retention_of(job.spec, facts.spec if (facts := job.tasks.get(event.task)) is not None else None, folder.kind)
                _end(node.files, event.job, event.task, length, at)
        case e.FilesRemoved() | e.JobFilesExpired() | e.JobFilesRemoved() if (node := history.nodes.get(event.node)) is not None:
            if isinstance(event, e.JobFilesExpired):
                _forget_states(history, event.node, node.files.folders.get(event.job, ()), event.job)
            _remove(node.files, event)
        case _:
            pass


def _forget(history: History, node_id: NodeId) -> None:
    """The node was emptied: it has no folders any more."""
    if (node := history.nodes.get(node_id)) is None:
        return
    for job_id, of_job in node.files.folders.items():
        _forget_states(history, node_id, of_job, job_id)
    for job_id in node.files.doomed:
        history.states.pop(("job-files", job_id, node_id), None)
    node.files = FilesOfNode()


def _forget_states(history: History, node_id: NodeId, tasks: Iterable[TaskId], job_id: JobId) -> None:
    for task in tasks:
        history.states.pop(("files", job_id, task, node_id), None)


def _retention_of(spec: JobSpec, task: TaskSpec | None, kind: ExecutionKind) -> Retention:
    """How long a folder is to be kept, by the specifications alone."""
    own: Retention | None = None
    if kind == "task" and task is not None and task.constraints is not None:
        own = task.constraints.retention_time
    elif kind == "preparation" and spec.job_preparation_task is not None:
        own = spec.job_preparation_task.constraints.retention_time
    elif kind == "release" and spec.job_release_task is not None:
        own = spec.job_release_task.retention_time
    return spec.constraints.retention_time if own is None else own


def _launch(files: FilesOfNode, event: e.ExecutionRequested) -> None:
    """An execution of a job holds its folder."""
    if event.job is not None:
        files.folders.setdefault(event.job, {})[event.task] = FolderFacts(event.kind, event.execution)


def _end(files: FilesOfNode, job: JobId, task: TaskId, length: Retention, at: Micros) -> None:
    """The execution that held the folder is over; the time of a preparation's begins with the end of its job."""
    folder = files.folders.get(job, {}).get(task)
    if folder is not None:
        folder.live, folder.retention = None, length
        folder.since = None if folder.kind == "preparation" else at


def _end_job(files: FilesOfNode, job: JobId, at: Micros) -> None:
    """The job is completed."""
    for folder in files.folders.get(job, {}).values():
        folder.since = at if folder.since is None else folder.since


def _remove(files: FilesOfNode, event: e.FilesRemoved | e.JobFilesExpired | e.JobFilesRemoved) -> None:
    """Folders are gone, or will go as one; one that somebody waits for is there again."""
    match event:
        case e.FilesRemoved():
            of_job = files.folders.get(event.job, {})
            if (folder := of_job.get(event.task)) is not None and folder.live is None:
                del of_job[event.task]
        case e.JobFilesExpired():
            files.folders.pop(event.job, None)
            files.doomed[event.job] = None
        case e.JobFilesRemoved():
            files.doomed.pop(event.job, None)
