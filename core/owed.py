"""What executors owe: commands derived from the world, never remembered as "sent".

`commands(world)` says from scratch what should be running, stopped, booted, retired or removed and is not known to be.  Evolve keeps
the same as a set of keys, so that an event costs the same in a large world; a property test holds the two equal.
A command lost in a crash is derived again, so recovery is the normal path.
"""

from collections.abc import Iterator

from . import execution as executions
from . import files
from .commands import BootNode, Command, RemoveFiles, RetireNode
from .ids import ExecutionId, NodeId
from .world import CommandKey, Execution, World, node_command_key


def commands(world: World) -> dict[CommandKey, Command]:
    """Every command owed now, by key, from scratch."""
    keys: list[CommandKey] = []
    for execution in world.executions.values():
        if (key := executions.owed_key(world, execution)) is not None:
            keys.append(key)
    for node in world.nodes.values():
        if (key := node_command_key(node)) is not None:
            keys.append(key)
        keys += files.owed_keys(node)
    return {key: _command(world, key) for key in keys}


def take_fresh(world: World) -> list[Command]:
    """The commands that became owed since the last call and still are."""
    owed = world.owed
    fresh, owed.fresh = owed.fresh, []
    return [_command(world, key) for key in dict.fromkeys(fresh) if key in owed.now]


def reissue(world: World) -> None:
    """Make every owed command fresh again: after a restart, nothing is known to have been given to an executor."""
    world.owed.fresh = list(world.owed.now)


def running(world: World) -> Iterator[Execution]:
    """Live executions whose start was seen: after a restart, what an executor has to recognise rather than launch."""
    return (execution for execution in world.executions.values() if execution.state == "running")


def _command(world: World, key: CommandKey) -> Command:
    verb, subject, number = key
    if isinstance(subject, tuple):
        node_id, job, task = subject
        return RemoveFiles(pool=world.nodes[node_id].pool, node=node_id, job=job, task=task, before=ExecutionId(number))
    if verb in {"run", "stop"}:
        execution = world.executions[ExecutionId(int(subject))]
        return executions.stop_command(world, execution) if verb == "stop" else executions.run_command(world, execution)
    node = world.nodes[NodeId(str(subject))]
    if verb == "boot":
        return BootNode(pool=node.pool, node=node.id, incarnation=number, wipe=node.wipe)
    return RetireNode(pool=node.pool, node=node.id, incarnation=number, wipe=node.wipe)
