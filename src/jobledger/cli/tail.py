"""Where a task's output lies, and copying it as it grows.

Every launch gets a new folder and so a new file: a file that is another one than before belongs to another try.  What an ended
program wrote is complete once the ledger says that it ended, so the ledger decides when following is over.
"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final, Literal

import click

from ..core.errors import ExecutorError, RequestRefused
from ..core.events import (
    Event,
    FinalizerCompleted,
    FinalizerInterrupted,
    JobDeleted,
    PreparationCompleted,
    PreparationDue,
    ReleaseCompleted,
    ReleaseInterrupted,
    TaskCompleted,
    TaskDeleted,
    TaskRunning,
)
from ..core.ids import NodeId, TaskId
from ..core.pool import pool_of
from ..core.ports import EventStore
from ..core.world import Job, World
from ..plugins import make_executor
from ..views import find_task

Which = Literal["stdout", "stderr"]
PathOn = Callable[[NodeId], Path]

_LOOK_S: Final = 0.1
_BLOCK: Final = 1 << 16


def path_on(world: World, job: Job, task: TaskId, which: Which, root: Path) -> PathOn:
    """Where that output of a task lies, by node.  Raises `ExecutorError` where the pool's executor cannot say."""

    @cache
    def path(node: NodeId) -> Path:
        pool_id = pool_of(node)  # A job that moved to another pool has run in that one too.
        pool = world.pools.get(pool_id)
        name = pool.spec.executor if pool is not None else "local"
        output_path: Callable[..., str] | None = getattr(make_executor(name, root), "output_path", None)
        if output_path is None:
            raise ExecutorError(f"the executor '{name}' of pool {pool_id} cannot say where output lies on this machine")
        return Path(output_path(pool_id, node, job.id, task, which))

    return path


def where_ran(job: Job, task: str, node: str | None) -> NodeId | None:
    """The node whose output of `task` (or of the preparation task, release task or finalizer by its id) is meant; None where it has not run yet.

    Refused: TaskNotFound, and FileNotFound where it never ran there.  Raises `click.UsageError` where several nodes ran it.
    """
    ran = _nodes_that_ran(job, task)
    if node is not None:
        if ran is not None and node not in ran:
            raise RequestRefused("FileNotFound", f"{task} of job {job.id} has not run on node {node}; it ran on: {', '.join(ran) or 'no node'}")
        return NodeId(node)
    if ran is None:
        return find_task(job, task).node if find_task(job, task).launches else None
    if len(ran) > 1:
        raise click.UsageError(f"{task} of job {job.id} ran on {', '.join(ran)}: say which with --node")
    return ran[0] if ran else None


def _nodes_that_ran(job: Job, task: str) -> list[NodeId] | None:
    """The nodes that ran the job's preparation, release or finalizer, or None where `task` is one of its tasks."""
    match _kind(job, task):
        case "preparation":
            return [node for node, preparation in job.preparations.items() if preparation.launches]
        case "release":
            return [node for node, release in job.releases.items() if release.launches]
        case "finalizer":
            return [job.finalizer.node] if job.finalizer is not None and job.finalizer.launches else []
        case "task":
            find_task(job, task)
            return None


def copy(path: Path, out: BinaryIO) -> None:
    """All of a file.  Raises FileNotFoundError, and RequestRefused for what is no plain file: a FIFO would never end."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise RequestRefused("FileNotFound", f"{path} is no plain file any more")
        shutil.copyfileobj(file, out)
    out.flush()


def follow(store: EventStore, job: Job, task: TaskId, node: NodeId | None, path: PathOn, out: BinaryIO, *, after: int) -> None:
    """Copy output as it grows until the ledger says that the task, or the preparation or release on the node, has ended.

    `after` is the position of the world that `job` is from.  A task that runs again, here or on another node, is followed there.
    """
    over = _is_over(job, task, node)
    with _tail(out) as pull:
        while True:
            head = store.head().position
            for recorded in store.read(after=after, until=head, stream=f"job/{job.id}"):
                if isinstance(recorded.event, TaskRunning) and recorded.event.task == task:
                    node, over = recorded.event.node, False
                    click.echo(f"jobledger: {task} runs on {node}", err=True)
                elif _ends(recorded.event, job, task, node):
                    over = True
            after = head
            if node is not None:
                pull(path(node))
            if over:
                return
            store.wait(after=after, timeout_s=_LOOK_S)


def _is_over(job: Job, task: TaskId, node: NodeId | None) -> bool:
    kind = _kind(job, task)
    if kind == "task":
        return job.tasks[task].state == "completed"
    if kind == "finalizer":
        return job.finalizer is None or job.finalizer.state != "running"
    runs = job.preparations if kind == "preparation" else job.releases
    return node is not None and runs[node].state != "running"


def _ends(event: Event, job: Job, task: TaskId, node: NodeId | None) -> bool:
    """Whether nothing more is to be expected from `task` after `event`, which is one of the job's."""
    match event:
        case JobDeleted():
            return True
        case TaskCompleted() | TaskDeleted():
            return event.task == task
        case PreparationCompleted() | PreparationDue():
            return event.node == node and _kind(job, task) == "preparation"
        case ReleaseCompleted() | ReleaseInterrupted():
            return event.node == node and _kind(job, task) == "release"
        case FinalizerCompleted() | FinalizerInterrupted():
            return _kind(job, task) == "finalizer"
        case _:
            return False


def _kind(job: Job, task: str) -> Literal["preparation", "release", "finalizer", "task"]:
    if job.spec.job_preparation_task is not None and task == job.spec.job_preparation_task.id:
        return "preparation"
    if job.spec.job_release_task is not None and task == job.spec.job_release_task.id:
        return "release"
    if job.spec.job_finalizer_task is not None and task == job.spec.job_finalizer_task.id:
        return "finalizer"
    return "task"


@contextmanager
def _tail(out: BinaryIO) -> Iterator[Callable[[Path], None]]:
    """A function that copies what has been added to a file since it was called last, and starts over with a file that is new."""
    file: BinaryIO | None = None

    def drain() -> None:
        while file is not None and (block := file.read(_BLOCK)):
            out.write(block)
        out.flush()

    def pull(path: Path) -> None:
        nonlocal file
        drain()
        try:
            found = path.stat()
        except FileNotFoundError:  # Not made yet, or wiped under us; the ledger will tell.
            return
        if file is None or not os.path.samestat(found, os.fstat(file.fileno())):
            if file is not None:
                file.close()
            file = path.open("rb")
            drain()

    try:
        yield pull
    finally:
        if file is not None:
            file.close()
