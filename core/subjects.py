"""Subjects: which thing of which machine an event moves, and what the tables and a world say of it.

What is gone is `absent` again: its id may be used anew.  A completed release and a finalizer that is over are
remembered, since they may not run again.
"""

from collections.abc import Iterator
from typing import Final

from . import events as e
from .files import FILES
from .ids import ENGINE_HOST, ExecutionId, JobId, NodeId, PoolId, TaskId
from .machine import ABSENT, Machine
from .machines import MACHINES
from .world import Job, Node, Run, Task, World

Key = tuple[str, ...]
"""A machine's name and the ids of the thing it is the machine of, such as `("task", "job-1", "t-1")`."""

_IDENTITY: Final[dict[str, tuple[str, ...]]] = {
    "pool": ("pool",),
    "allocation": ("pool",),
    "node": ("node",),
    "scheduling": ("node",),
    "start-task": ("node",),
    "job": ("job",),
    "task": ("job", "task"),
    "preparation": ("job", "node"),
    "release": ("job", "node"),
    "finalizer": ("job",),
    "execution": ("execution",),
    "files": ("job", "task", "node"),
    "job-files": ("job", "node"),
}

_OF_EVENT: Final[dict[type[e.Event], tuple[Machine, ...]]] = {
    event: tuple(machine for machine in MACHINES.values() if any(row.event is event for row in machine.rows)) for event in e.STORED
}


def moves(event: e.Event) -> Iterator[tuple[Machine, Key]]:
    """The machines that have a row for this event, each with the thing that the event would move."""
    for machine in _OF_EVENT[type(event)]:
        identity = [getattr(event, name) for name in _IDENTITY[machine.name]]
        if None not in identity and (machine is not FILES or ENGINE_HOST not in identity):  # Neither start tasks nor the host's have folders.
            yield machine, (machine.name, *map(str, identity))


def key_of(event: e.Event) -> Key:
    """The thing that the event moves, the first one where it moves several."""
    return next(moves(event))[1]


def target_of(machine: Machine, state: str, event: e.Event) -> str | None:
    """The state that the event leads to by the table, `absent` where nothing is left; None where the table has no row."""
    if not machine.allows(state, type(event)):
        return None
    target = machine.move(state, event, machine.name)
    return ABSENT if target in machine.finals and machine.name not in {"release", "finalizer"} else target


def state_in(world: World, key: Key) -> str:
    """A thing's state as the world has it."""
    machine, name = key[0], key[1]
    if machine in {"pool", "allocation"}:
        pool = world.pools.get(PoolId(name))
        return ABSENT if pool is None else pool.state if machine == "pool" else pool.allocation
    if machine in {"node", "scheduling", "start-task"}:
        return _node_state(world.nodes.get(NodeId(name)), machine)
    if machine == "execution":
        execution = world.executions.get(ExecutionId(int(name)))
        return execution.state if execution is not None else ABSENT
    if machine in {"files", "job-files"}:
        return _files_state(world.nodes.get(NodeId(key[-1])), JobId(name), TaskId(key[2]) if machine == "files" else None)
    job = world.jobs.get(JobId(name))
    if job is None:
        return ABSENT
    found: Job | Task | Run | None = job
    if machine == "finalizer":
        found = job.finalizer
    elif machine == "task":
        found = job.tasks.get(TaskId(key[2]))
    elif machine in {"preparation", "release"}:
        found = (job.preparations if machine == "preparation" else job.releases).get(NodeId(key[2]))
    return found.state if found is not None else ABSENT


def _files_state(node: Node | None, job: JobId, task: TaskId | None) -> str:
    if node is None:
        return ABSENT
    if task is None:
        return "expiring" if (job, None) in node.removals else ABSENT
    folder = node.folders.get(job, {}).get(task)
    return folder.state if folder is not None else ABSENT


def _node_state(node: Node | None, machine: str) -> str:
    if node is None:
        return ABSENT
    if machine == "start-task":
        return node.start_task.state if node.start_task is not None else ABSENT
    return node.scheduling if machine == "scheduling" else node.state
