"""Families of commands: `jobledger pools`, `nodes` and `tasks`, each of which lists where no more is said."""

from collections.abc import Callable
from pathlib import Path

import click

from ..core import requests as q
from ..core.ids import JobId, NodeId, PoolId, TaskId
from ..jobfile import parse_pool, read
from . import reading
from .asking import ask_engine, asking, reason_option
from .common import ListingGroup
from .complete import job_ids, node_ids, pool_ids, task_ids

NodeRequest = q.RebootNode | q.ReimageNode | q.RemoveNode | q.DeallocateNode | q.StartNode | q.DisableScheduling | q.EnableScheduling

_pool_argument = click.argument("pool", shell_complete=pool_ids)
_node_argument = click.argument("node", shell_complete=node_ids)
_job_argument = click.argument("job", shell_complete=job_ids)
_task_argument = click.argument("task", shell_complete=task_ids)


@click.group(cls=ListingGroup)
def pools() -> None:
    """List pools, or create, resize and delete them.

    \b
      jobledger pools
      jobledger pools resize workstation 4
    """


@pools.command("create")
@click.argument("file", type=click.Path(allow_dash=True))
@asking
def create_pool(file: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Create a pool.  FILE (YAML or JSON, `-` for standard input) holds it, alone or under `pool`.

    The same pool again is the same pool.

    \b
      jobledger pools create pool.yaml
    """
    spec = parse_pool(read(file), source=file)
    ask_engine(ledger, [q.CreatePool(spec=spec)], f"pool {spec.id} is created", timeout_s=timeout_s, as_json=as_json)


@pools.command("resize")
@_pool_argument
@click.argument("nodes", type=click.IntRange(0))
@asking
def resize_pool(pool: str, nodes: int, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Bring a steady pool to NODES nodes.

    Surplus nodes leave, the youngest first: their tasks are requeued, their files removed, and what they owed is not released.

    \b
      jobledger pools resize workstation 4
    """
    ask_engine(ledger, [q.ResizePool(pool=PoolId(pool), target=nodes)], f"pool {pool} is to have {nodes} nodes", timeout_s=timeout_s, as_json=as_json)


@pools.command("stop-resize")
@_pool_argument
@asking
def stop_resize(pool: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Stop a resize: nodes that come or go already do so, and no more.

    \b
      jobledger pools stop-resize workstation
    """
    ask_engine(ledger, [q.StopResize(pool=PoolId(pool))], f"the resize of pool {pool} is being stopped", timeout_s=timeout_s, as_json=as_json)


@pools.command("delete")
@_pool_argument
@asking
def delete_pool(pool: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Delete a pool: its tasks are requeued, and its nodes and their files go.

    Jobs that name it wait until there is a pool of that name again.

    \b
      jobledger pools delete workstation
    """
    ask_engine(ledger, [q.DeletePool(pool=PoolId(pool))], f"pool {pool} is deleting", timeout_s=timeout_s, as_json=as_json)


@click.group(cls=ListingGroup)
def nodes() -> None:
    """List nodes, or reboot, reimage and remove them.

    \b
      jobledger nodes
      jobledger nodes reimage workstation-2
    """


pools.add_command(reading.pools, "list")
nodes.add_command(reading.nodes, "list")


def _about_node(name: str, request: type[NodeRequest], said: str) -> Callable[[Callable[[], None]], click.Command]:
    """A command that asks for one thing about one node; what it decorates has the help."""

    def make(described: Callable[[], None]) -> click.Command:
        @nodes.command(name, help=described.__doc__)
        @_node_argument
        @asking
        def command(node: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
            ask_engine(ledger, [request(node=NodeId(node))], said.format(node=node), timeout_s=timeout_s, as_json=as_json)

        return command

    return make


@_about_node("reboot", q.RebootNode, "node {node} is rebooting")
def reboot() -> None:
    """Reboot a node: what runs there is stopped and requeued.

    Preparation runs again before the next task of a job there, unless the job says otherwise (rerunOnNodeRebootAfterSuccess).
    A local node reboots by ending all its programs.  Granted to nodes that are idle, running, starttaskfailed or unusable.

    \b
      jobledger nodes reboot workstation-2
    """


@_about_node("reimage", q.ReimageNode, "node {node} is being reimaged")
def reimage() -> None:
    """Give a node back as new: what runs there is requeued, and its files are removed.

    This is what makes a node eligible again for a job whose preparation failed there.  A release that it owed has nothing left to release,
    and is abandoned.  Granted to nodes that are idle or running.

    \b
      jobledger nodes reimage workstation-2
    """


@_about_node("remove", q.RemoveNode, "node {node} is leaving its pool")
def remove() -> None:
    """Remove a node from its pool: what runs there is requeued, and its files are removed.

    \b
      jobledger nodes remove workstation-2
    """


@_about_node("deallocate", q.DeallocateNode, "node {node} is being deallocated")
def deallocate() -> None:
    """Switch a node off without removing it: what runs there is requeued, and its files are removed.

    \b
      jobledger nodes deallocate workstation-2
    """


@_about_node("start", q.StartNode, "node {node} is starting")
def start() -> None:
    """Start a deallocated node again.

    \b
      jobledger nodes start workstation-2
    """


@_about_node("disable-scheduling", q.DisableScheduling, "node {node} takes no more tasks")
def disable_scheduling() -> None:
    """Place no more tasks on a node; those that run there are requeued, and then it is offline.  Releases still run there.

    \b
      jobledger nodes disable-scheduling workstation-2
    """


@_about_node("enable-scheduling", q.EnableScheduling, "node {node} takes tasks again")
def enable_scheduling() -> None:
    """Let a node take tasks again.

    \b
      jobledger nodes enable-scheduling workstation-2
    """


@click.group(cls=ListingGroup)
def tasks() -> None:
    """List a job's tasks, or delete or reactivate one.

    \b
      jobledger tasks sample
      jobledger tasks reactivate sample task003
    """


tasks.add_command(reading.tasks, "list")


@tasks.command("delete")
@_job_argument
@_task_argument
@reason_option
@asking
def delete_task(job: str, task: str, reason: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Delete a task, ending it first where it runs.  Its events stay in the ledger.

    \b
      jobledger tasks delete sample task003
    """
    request = q.DeleteTask(job=JobId(job), task=TaskId(task), reason=reason)
    ask_engine(ledger, [request], f"task {task} of job {job} is deleted, or will be when it has ended", timeout_s=timeout_s, as_json=as_json)


@tasks.command("reactivate")
@_job_argument
@_task_argument
@reason_option
@asking
def reactivate(job: str, task: str, reason: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Run a failed task again, with all its retries anew.

    The job must not be over, so this is for jobs that do not end by themselves.

    \b
      jobledger tasks reactivate sample task003
    """
    request = q.ReactivateTask(job=JobId(job), task=TaskId(task), reason=reason)
    ask_engine(ledger, [request], f"task {task} of job {job} is active again", timeout_s=timeout_s, as_json=as_json)
