"""The files of nodes: what tasks, preparations, releases, finalizers and start tasks left there, to be listed and read.

Needs no engine: a ledger, a world made of it, and an executor that can say where its nodes' folders lie (`core.ports.Folders`).

    folder = files.of_task(store, world, executor_for, "sample", "task001")
    for entry in folder.list("wd", deep=True): ...
    with folder.open("wd/out.csv") as file: ...

1. A path is relative and leads nowhere but below the folder: not by `..`, and not by a link, for no link is followed.
2. Only plain files are opened: a FIFO would block, and a device may act.
3. What cannot be had is refused with the reason: the node is gone or was emptied (`TaskFilesUnavailable`), the files were removed
   (`TaskFilesCleanedup`, with when and by which event), or there is no such file (`FileNotFound`).
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, Final, Literal

from attrs import frozen

from .core import files as folders
from .core import limits
from .core.errors import ExecutorError, RequestRefused
from .core.events import STORED, FilesRemoved, JobFilesRemoved
from .core.filepaths import mistake_in_folder_path
from .core.ids import ENGINE_HOST, START_TASK_ID, JobId, Micros, NodeId, PoolId, TaskId, place_name
from .core.pool import pool_of
from .core.ports import EventStore, Executor, Folders, RecordedEvent
from .core.world import Job, World
from .eventstore import rfc3339
from .executors import beneath
from .views import find_job, find_task

ExecutorOf = Callable[[PoolId], Executor]
"""Finds the executor of a pool: `Engine.executor_of`, or one that is made for the purpose and never opened."""

_OTHERS: Final = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


@frozen(kw_only=True)
class Entry:
    """One thing in a folder; `size` in bytes is a plain file's, and `target` is where a link points, which nobody follows."""

    path: str
    """Relative to the folder that was asked, with `/`."""
    kind: Literal["file", "folder", "link", "other"]
    size: int | None
    modified_at: Micros
    mode: int
    target: str | None = None


class NodeFolder:
    """A folder of a node, of which nothing outside is ever read.  `of_task` and `of_node` find one."""

    def __init__(self, node: NodeId, base: str, names: Sequence[str], missing: RequestRefused) -> None:
        self.node: Final = node
        self._base = base
        self._names = list(names)
        self._missing = missing

    @property
    def path(self) -> str:
        """Where it lies on this machine."""
        return "/".join([self._base, *self._names])

    def list(self, path: str = "", *, deep: bool = False) -> Iterator[Entry]:
        """What is in the folder, or below `path` in it, by name; `deep` goes into the folders found, each right after its own entry.

        A path that names a file lists that.  Refused: InvalidInput, FileNotFound, TaskFilesUnavailable, TaskFilesCleanedup.
        """
        names = _names(path)
        try:
            with self._inside(names[:-1]) as folder:
                found = os.stat(names[-1], dir_fd=folder, follow_symlinks=False) if names else None
                if found is not None and not stat.S_ISDIR(found.st_mode):
                    yield _entry(folder, names[-1], "/".join(names), found)
                    return
                with beneath.entered(folder, names[-1:]) as inner:
                    yield from _walk(inner, "".join(f"{name}/" for name in names), deep, limits.FOLDER_DEPTH_MAX)
        except OSError as error:
            raise self._refusal(path, error) from None

    def open(self, path: str) -> BinaryIO:
        """A plain file, opened for reading.  Refused: InvalidInput, FileNotFound, TaskFilesUnavailable, TaskFilesCleanedup."""
        names = _names(path)
        if not names:
            raise RequestRefused("InvalidInput", f"{path!r} names no file")
        try:
            with self._inside(names[:-1]) as folder:
                found = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode):
                    raise RequestRefused("InvalidInput", f"{path} is a {_word(found.st_mode)}; only plain files are read, and links are not followed")
                return os.fdopen(beneath.open_file(folder, names[-1]), "rb")
        except OSError as error:
            raise self._refusal(path, error) from None

    @contextmanager
    def _inside(self, names: Sequence[str]) -> Iterator[int]:
        """The descriptor of a folder in this one.  Raises OSError, or this folder's own refusal where it is not there itself."""
        with ExitStack() as stack:
            try:
                base = os.open(self._base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, base)
                here = stack.enter_context(beneath.entered(base, self._names))
            except FileNotFoundError:
                raise self._missing from None
            yield stack.enter_context(beneath.entered(here, list(names)))

    def _refusal(self, path: str, error: OSError) -> RequestRefused:
        shown = f"{path or 'the folder'} ({self.path}{'/' + path if path else ''})"
        if isinstance(error, FileNotFoundError):
            return RequestRefused("FileNotFound", f"{shown} is not there")
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            return RequestRefused("FileNotFound", f"{shown} is not there: a part of it is a file, or a link, which is not followed")
        return RequestRefused("TaskFilesUnavailable", f"{shown} cannot be read: {error.strerror}")


def of_task(store: EventStore, world: World, executor_of: ExecutorOf, job_id: str, task: str, *, node: str | None = None) -> NodeFolder:
    """The folder of a task, or of a preparation, release or finalizer by its id: on `node`, or where it ran last.

    Refused: JobNotFound, TaskNotFound, FileNotFound (it has not run, or not there), TaskFilesUnavailable, TaskFilesCleanedup.
    Raises `ExecutorError` where the executor cannot say where folders lie.
    """
    job = find_job(world, job_id)
    ran_on = nodes_of(job, task)
    if node is not None and node not in ran_on:
        raise RequestRefused("FileNotFound", f"{task} of job {job.id} has not run on node {node}; it ran on: {', '.join(ran_on) or 'no node'}")
    if not ran_on:
        raise RequestRefused("FileNotFound", f"{task} of job {job.id} has not run, so there are no files of it")
    there = NodeId(node) if node is not None else ran_on[-1]
    pool, executor = _executor(there, executor_of)
    base, folder = executor.node_path(pool, there), executor.folder_path(pool, there, job.id, TaskId(task))
    gone = why_gone(store, world, job, TaskId(task), there)
    if folders.find(world, there, job.id, TaskId(task)) is None and there != ENGINE_HOST:
        raise gone
    return NodeFolder(there, base, os.path.relpath(folder, base).split("/"), gone)


def of_node(world: World, executor_of: ExecutorOf, node: str) -> NodeFolder:
    """A node's own folder, with `shared`, `startup`, `workitems` and the others in it.

    Refused: NodeNotFound.  Raises `ExecutorError` where the executor cannot say where folders lie.
    """
    if node not in world.nodes:
        raise RequestRefused("NodeNotFound", f"there is no node {node}")
    pool, executor = _executor(NodeId(node), executor_of)
    base = executor.node_path(pool, NodeId(node))
    return NodeFolder(NodeId(node), base, (), RequestRefused("TaskFilesUnavailable", f"the folder of node {node} is not there: {base}"))


def of_start_task(world: World, executor_of: ExecutorOf, node: str) -> NodeFolder:
    """The folder of a node's start task.  Refused: NodeNotFound.  Raises `ExecutorError`."""
    found = of_node(world, executor_of, node)
    pool, executor = _executor(found.node, executor_of)
    base, folder = found.path, executor.folder_path(pool, found.node, None, START_TASK_ID)
    missing = RequestRefused("FileNotFound", f"the start task of node {node} has not run: {folder} is not there")
    return NodeFolder(found.node, base, os.path.relpath(folder, base).split("/"), missing)


def nodes_of(job: Job, task: str) -> list[NodeId]:
    """The nodes that a task, preparation, release or finalizer was launched on, the latest last.  Refused: TaskNotFound."""
    spec = job.spec
    if spec.job_preparation_task is not None and task == spec.job_preparation_task.id:
        return [node for node, run in job.preparations.items() if run.launches]
    if spec.job_release_task is not None and task == spec.job_release_task.id:
        return [node for node, run in job.releases.items() if run.launches]
    if spec.job_finalizer_task is not None and task == spec.job_finalizer_task.id:
        return [job.finalizer.node] if job.finalizer is not None and job.finalizer.launches else []
    return folders.nodes_of(job, find_task(job, task))


def why_gone(store: EventStore, world: World, job: Job, task: TaskId, node: NodeId) -> RequestRefused:
    """What to tell of a folder that is not there: TaskFilesCleanedup or TaskFilesUnavailable."""
    what = f"the files of {task} of job {job.id} on {place_name(node)}"
    removed = _removal(store, job.id, task, node)
    folder = folders.find(world, node, job.id, task)
    if removed is not None and folder is None:
        at, name = rfc3339(removed.recorded_at)[:19].replace("T", " ") + "Z", STORED[type(removed.event)][0]
        problem = getattr(removed.event, "problem", None)
        but = f", as far as they could be ({problem})" if problem else ""
        return RequestRefused(
            "TaskFilesCleanedup", f"{what} were removed at {at}, as their retentionTime had passed{but} (position {removed.position}, {name})"
        )
    if node != ENGINE_HOST and node not in world.nodes:
        return RequestRefused("TaskFilesUnavailable", f"{what} went with the node, which left its pool")
    if folder is None and node != ENGINE_HOST:
        return RequestRefused("TaskFilesUnavailable", f"{what} are gone: the node has been emptied since")
    if folder is not None and folder.state in {"expiring", "awaited"}:
        return RequestRefused("TaskFilesCleanedup", f"{what} are being removed, as their retentionTime has passed")
    return RequestRefused(
        "FileNotFound", f"{what} are not there: nothing was launched, or they lie below another root than the one that is looked in"
    )


def _removal(store: EventStore, job: JobId, task: TaskId, node: NodeId) -> RecordedEvent | None:
    """The event that told of the latest removal of a folder of the job as it is now."""
    found = None
    for recorded in store.read(stream=f"job/{job}"):
        match recorded.event:
            case FilesRemoved(task=one, node=there) if (one, there) == (task, node):
                found = recorded
            case JobFilesRemoved(node=there) if there == node:
                found = None  # That was of an earlier job of this id.
            case _:
                pass
    return found


def _executor(node: NodeId, executor_of: ExecutorOf) -> tuple[PoolId, Folders]:
    pool = pool_of(node)
    executor = executor_of(pool)
    if not isinstance(executor, Folders):
        raise ExecutorError(f"the executor of pool {pool} cannot say where its nodes' folders lie on this machine")
    return pool, executor


def _names(path: str) -> list[str]:
    if path and (mistake := mistake_in_folder_path(path)) is not None:
        raise RequestRefused("InvalidInput", f"path: {mistake}")
    return [name for name in path.split("/") if name not in {"", "."}]


def _walk(folder: int, prefix: str, deep: bool, depth: int) -> Iterator[Entry]:
    for name in sorted(os.listdir(folder)):
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            yield _entry(folder, name, prefix + name, found)
            if deep and depth and stat.S_ISDIR(found.st_mode):
                with beneath.entered(folder, [name]) as inner:
                    yield from _walk(inner, f"{prefix}{name}/", deep, depth - 1)
        except FileNotFoundError:
            continue  # It went while it was looked at.
        except PermissionError:
            continue  # A folder that is closed to us is listed itself, and not what is in it.


def _entry(folder: int, name: str, path: str, found: os.stat_result) -> Entry:
    kind: Literal["file", "folder", "link", "other"] = "other"
    target = None
    if stat.S_ISREG(found.st_mode):
        kind = "file"
    elif stat.S_ISDIR(found.st_mode):
        kind = "folder"
    elif stat.S_ISLNK(found.st_mode):
        kind, target = "link", os.readlink(name, dir_fd=folder)
    return Entry(
        path=path,
        kind=kind,
        size=found.st_size if kind == "file" else None,
        modified_at=Micros(found.st_mtime_ns // 1_000),
        mode=stat.S_IMODE(found.st_mode),
        target=target,
    )


def _word(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else _OTHERS.get(stat.S_IFMT(mode), "special file")
