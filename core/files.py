"""Files: the folder of a task, preparation or release on one node, and how long it is kept.

1. An execution holds its folder from the moment it is intended; once it has an outcome the folder is kept for its retention time.
2. Retention is counted from the end of the latest execution there, and for a preparation from the end of the job (semantics 3.8, scenario
   37).  A start task's folder lives as long as its node, and one on the engine's host until somebody removes it: they are not looked after here.
3. A folder whose time has passed, or whose task was deleted, is expiring until it is known to be gone.  The deletion of a job has all
   its folders expire, node by node and whatever their retention; the job is gone when no node that is up has any left.
4. Only a node that is up is asked to remove anything; what is on another goes when that is up again, or with all else that is on it.
5. What was intended in a folder that is expiring is launched after the removal's end is on record, so that a removal that is asked for
   again after a crash never touches what was written later.  Each removal has a fencing number, the first execution that it does not mean.
6. What cannot be removed is recorded with the reason and holds up nothing.
7. A node that is emptied forgets its folders.
"""

from collections.abc import Iterator
from typing import Final

from .events import (
    Event,
    ExecutionEnded,
    ExecutionNeverRan,
    ExecutionRequested,
    ExecutionUnresolved,
    FilesExpired,
    FilesRemoved,
    JobFilesExpired,
    JobFilesRemoved,
)
from .ids import UNLIMITED_RETENTION, ExecutionId, ExecutionKind, JobId, Micros, NodeId, Retention, TaskId
from .machine import ABSENT, Machine, rows
from .reports import FilesRemoved as FilesRemovedReport
from .world import UP, CommandKey, Execution, Folder, Job, Node, Task, World, present

FILES: Final = Machine(
    "files",
    "the folder of a task, preparation or release on one node",
    rows(
        (f"{ABSENT} kept", ExecutionRequested, "held"),
        ("held", ExecutionEnded, "kept"),
        ("held", ExecutionNeverRan, "kept"),
        ("held", ExecutionUnresolved, "kept"),
        ("kept", FilesExpired, "expiring"),
        ("expiring", FilesRemoved, "removed"),
        ("expiring", ExecutionRequested, "awaited", "it is launched when the old folder is gone"),
        ("awaited", FilesRemoved, "held"),
        ("awaited", ExecutionNeverRan, "expiring", "it was stopped before it was launched"),
        ("awaited", ExecutionUnresolved, "expiring", "its node was lost before it was launched"),
    ),
)

JOB_FILES: Final = Machine(
    "job-files",
    "all folders of a deleted job on one node",
    rows(
        (ABSENT, JobFilesExpired, "expiring"),
        ("expiring", JobFilesExpired, "=", "a later job of that id was deleted too, and the node was down in between"),
        ("expiring", JobFilesRemoved, "removed"),
    ),
)

OutcomeEvent = ExecutionEnded | ExecutionNeverRan | ExecutionUnresolved


# --- decide ---------------------------------------------------------------------------------------------------


def retention(job: Job, kind: ExecutionKind, task: TaskId) -> Retention:
    """How long the folder of such an execution is kept: as it says itself, or as its job does now."""
    own: Retention | None = None
    if kind == "task":
        constraints = job.tasks[task].spec.constraints
        own = constraints.retention_time if constraints is not None else None
    elif kind == "preparation":
        own = present(job.spec.job_preparation_task).constraints.retention_time
    elif kind == "release":
        own = present(job.spec.job_release_task).retention_time
    return job.spec.constraints.retention_time if own is None else own


def waits(world: World, execution: Execution) -> bool:
    """Whether an execution is not to be launched yet, because its folder is being removed (rule 5)."""
    node = world.nodes.get(execution.node)
    if node is None or not node.removals or execution.job is None:
        return False
    removals = node.removals
    return (execution.job, None) in removals or (execution.job, execution.task) in removals


def nodes_of(job: Job, task: Task) -> list[NodeId]:
    """The nodes that may have a folder of the task."""
    nodes = dict.fromkeys(job.wrote_elsewhere.get(task.spec.id, ()))
    if task.wrote_on is not None:
        nodes[task.wrote_on] = None
    return list(nodes)


def expire(world: World, node_id: NodeId, job: JobId, task: TaskId) -> Iterator[Event]:
    """Have a folder removed, if it is kept there."""
    folder = find(world, node_id, job, task)
    if folder is not None and folder.state == "kept":
        yield FilesExpired(job=job, task=task, node=node_id, before=ExecutionId(world.next_execution))


def expire_all(world: World, job: JobId) -> Iterator[Event]:
    """Have all folders of a job removed, on every node that has one (rule 3).  Nothing of the job lives."""
    for node_id in list(world.nodes_with_files.get(job, ())):
        yield JobFilesExpired(job=job, node=node_id, before=ExecutionId(world.next_execution))


def on_report(world: World, report: FilesRemovedReport) -> Iterator[Event]:
    """A removal is over; an answer to an earlier one says nothing of this."""
    node = world.nodes.get(report.node)
    if node is None or node.removals.get((report.job, report.task)) != report.before:
        return
    if report.task is None:
        yield JobFilesRemoved(job=report.job, node=report.node, problem=report.problem)
    else:
        yield FilesRemoved(job=report.job, task=report.task, node=report.node, problem=report.problem)


def find(world: World, node: NodeId, job: JobId, task: TaskId) -> Folder | None:
    """A folder, None where there is none that is looked after."""
    found = world.nodes.get(node)
    return found.folders.get(job, {}).get(task) if found is not None else None


def owed_keys(node: Node) -> Iterator[CommandKey]:
    """The removals that a node owes its executor now (rule 4)."""
    if node.state in UP:
        for (job, task), before in node.removals.items():
            yield ("remove", (node.id, job, task), before)


# --- deadlines ------------------------------------------------------------------------------------------------


def is_due_at(world: World, at: Micros, node: NodeId, job: JobId, task: TaskId) -> bool:
    """Whether a folder's retention ends at that very time."""
    folder = find(world, node, job, task)
    return folder is not None and folder.due == at


def due_later(world: World, at: Micros, node: NodeId, job: JobId, task: TaskId) -> Micros | None:
    """When the one alarm of a folder has to go off after all, which was held or written again meanwhile."""
    folder = find(world, node, job, task)
    if folder is None or folder.alarm != at:
        return None
    folder.alarm = folder.due
    return folder.due


# --- evolve: executions ---------------------------------------------------------------------------------------


def hold(world: World, node: Node, job: Job, event: ExecutionRequested) -> None:
    """An execution of the job is intended in its folder (rule 1)."""
    of_job = node.folders.get(job.id)
    if of_job is None:
        of_job = node.folders[job.id] = {}
        world.nodes_with_files.setdefault(job.id, {})[node.id] = None
    folder = of_job.get(event.task)
    if folder is None:
        of_job[event.task] = Folder(FILES.move(ABSENT, event, event.task))
    else:
        folder.state = FILES.move(folder.state, event, event.task)
        folder.due = None
    if event.kind == "task":
        task = job.tasks[event.task]
        if task.wrote_on != node.id:
            if task.wrote_on is not None:
                job.wrote_elsewhere.setdefault(event.task, {})[task.wrote_on] = None
            task.wrote_on = node.id


def keep(world: World, node: Node, job: Job, execution: Execution, event: OutcomeEvent, at: Micros) -> None:
    """The execution is over: its folder's time begins, unless it is a preparation's (rule 2)."""
    folder = node.folders[job.id][execution.task]
    folder.state = FILES.move(folder.state, event, execution.task)
    if folder.state == "kept" and execution.kind != "preparation":
        _set_due(world, node.id, job.id, execution.task, folder, at, retention(job, execution.kind, execution.task))


def _set_due(world: World, node: NodeId, job: JobId, task: TaskId, folder: Folder, since: Micros, length: Retention) -> None:
    if length == UNLIMITED_RETENTION:
        return
    due = folder.due = Micros(since + length)
    if folder.alarm is None or folder.alarm > due:
        folder.alarm = due
        world.add_deadline(due, "files", node, job, task)


# --- evolve: jobs and nodes -----------------------------------------------------------------------------------


def job_ended(world: World, job: Job, at: Micros) -> None:
    """The job is completed: its preparations' time begins (rule 2)."""
    spec = job.spec.job_preparation_task
    for node_id in world.nodes_with_files.get(job.id, ()) if spec is not None else ():
        folder = find(world, node_id, job.id, present(spec).id)
        if folder is not None and folder.state == "kept":
            _set_due(world, node_id, job.id, present(spec).id, folder, at, retention(job, "preparation", present(spec).id))


def job_gone(world: World, job: Job, at: Micros) -> None:
    """The job is deleted.  Only in a ledger of a version that removed no files is there anything left of it: that is due now."""
    for node_id in world.nodes_with_files.get(job.id, ()):
        for task, folder in world.nodes[node_id].folders[job.id].items():
            _set_due(world, node_id, job.id, task, folder, at, Retention(0))


def reconsider(world: World, node: Node) -> None:
    """The node came up or went down: what it can be asked has changed (rule 4)."""
    for (job, task), before in node.removals.items():
        if node.state in UP:
            world.owed.add(("remove", (node.id, job, task), before))
        else:
            world.owed.drop(("remove", (node.id, job, task), before))
        if task is None:
            _index_wipe(world, node, job, pending=node.state in UP)


def forget(world: World, node: Node) -> None:
    """The node was emptied (rule 7)."""
    for (job, task), before in node.removals.items():
        world.owed.drop(("remove", (node.id, job, task), before))
        if task is None:
            _index_wipe(world, node, job, pending=False)
    for job in node.folders:
        _drop(world.nodes_with_files, job, node.id)
    node.folders.clear()
    node.removals.clear()


# --- evolve: removals -----------------------------------------------------------------------------------------


def on_expired(world: World, event: FilesExpired, _at: Micros) -> None:
    node = world.nodes[event.node]
    folder = node.folders[event.job][event.task]
    folder.state = FILES.move(folder.state, event, _name(event.job, event.task, event.node))
    folder.due = None
    _add_removal(world, node, event.job, event.task, event.before)


def on_removed(world: World, event: FilesRemoved, _at: Micros) -> None:
    node = world.nodes[event.node]
    of_job = node.folders[event.job]
    folder = of_job[event.task]
    folder.state = FILES.move(folder.state, event, _name(event.job, event.task, event.node))
    _end_removal(world, node, event.job, event.task)
    if folder.state == "removed":
        del of_job[event.task]
        if not of_job and event.job not in world.jobs:  # Of a job that is there its own folder is left, which goes with the job.
            del node.folders[event.job]
            _drop(world.nodes_with_files, event.job, node.id)
    _launch_what_waited(world, node, event.job)


def on_job_expired(world: World, event: JobFilesExpired, _at: Micros) -> None:
    """From here on the folders are looked after as one; a new job of that id begins with none."""
    node = world.nodes[event.node]
    was = "expiring" if (event.job, None) in node.removals else ABSENT
    JOB_FILES.move(was, event, f"of job {event.job} on {event.node}")
    for task in (None, *node.folders.pop(event.job, {})):
        if (event.job, task) in node.removals:
            _end_removal(world, node, event.job, task)
    _drop(world.nodes_with_files, event.job, node.id)
    _add_removal(world, node, event.job, None, event.before)
    _index_wipe(world, node, event.job, pending=node.state in UP)


def on_job_removed(world: World, event: JobFilesRemoved, _at: Micros) -> None:
    node = world.nodes[event.node]
    JOB_FILES.move("expiring" if (event.job, None) in node.removals else ABSENT, event, f"of job {event.job} on {event.node}")
    _end_removal(world, node, event.job, None)
    _index_wipe(world, node, event.job, pending=False)
    _launch_what_waited(world, node, event.job)


def _add_removal(world: World, node: Node, job: JobId, task: TaskId | None, before: ExecutionId) -> None:
    node.removals[(job, task)] = before
    if node.state in UP:
        world.owed.add(("remove", (node.id, job, task), before))


def _end_removal(world: World, node: Node, job: JobId, task: TaskId | None) -> None:
    before = node.removals.pop((job, task))
    world.owed.drop(("remove", (node.id, job, task), before))


def _launch_what_waited(world: World, node: Node, job: JobId) -> None:
    """Owe the launches that were held back (rule 5)."""
    for live in node.live:
        execution = world.executions[live]
        if execution.job == job and execution.state == "requested" and execution.stop is None and not waits(world, execution):
            world.owed.add(("run", live, 0))


def _index_wipe(world: World, node: Node, job: JobId, *, pending: bool) -> None:
    """Keep which nodes hold up the deletion of a job; it looks again when that may be over."""
    if pending:
        world.wiping.setdefault(job, {})[node.id] = None
    else:
        _drop(world.wiping, job, node.id)
    world.agenda.job(job)


def _drop(index: dict[JobId, dict[NodeId, None]], job: JobId, node: NodeId) -> None:
    nodes = index.get(job)
    if nodes is not None:
        nodes.pop(node, None)
        if not nodes:
            del index[job]


def _name(job: JobId, task: TaskId, node: NodeId) -> str:
    return f"of {task} of job {job} on {node}"
