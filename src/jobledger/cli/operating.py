"""Families of commands: `jobledger pools`, `nodes` and `tasks`, each of which lists where no more is said."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click

from .. import durations
from ..core import requests as q
from ..core.ids import Duration, JobId, NodeId, PoolId, TaskId
from ..core.specs import NodeOption
from ..jobfile import folder_of, parse_pool, read
from . import reading
from .asking import ask_engine, asking, reason_option
from .common import ListingGroup
from .complete import job_ids, node_ids, pool_ids, task_ids

NodeRequest = q.RebootNode | q.ReimageNode | q.RemoveNode | q.DeallocateNode | q.DisableScheduling

_pool_argument = click.argument("pool", shell_complete=pool_ids)
_node_argument = click.argument("node", shell_complete=node_ids)
_job_argument = click.argument("job", shell_complete=job_ids)
_task_argument = click.argument("task", shell_complete=task_ids)


def _duration(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> Duration | None:
    try:
        duration = None if text is None else durations.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if text is not None and duration is None:
        raise click.BadParameter("a resize cannot be unlimited")
    return duration


_option_option = click.option(
    "--option",
    type=click.Choice(get_args(NodeOption)),
    default="requeue",
    show_default=True,
    help="What becomes of the tasks there: they run again elsewhere, end as failed, or are waited for.",
)


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
    spec = parse_pool(read(file), source=file, base=folder_of(file))
    ask_engine(ledger, [q.CreatePool(spec=spec)], f"pool {spec.id} is created", timeout_s=timeout_s, as_json=as_json)


@pools.command("resize")
@_pool_argument
@click.argument("nodes", type=click.IntRange(0))
@_option_option
@click.option(
    "--resize-timeout", callback=_duration, metavar="DURATION", help="How long it may take, such as PT10M, in place of the pool's resizeTimeout."
)
@asking
def resize_pool(pool: str, nodes: int, option: NodeOption, resize_timeout: Duration | None, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Bring a steady pool to NODES nodes.

    Surplus nodes leave, the youngest first: their files are removed, and what they owed is not released.  With taskcompletion each leaves
    when its tasks have ended; to hurry those that still drain, ask for as many nodes again with another option, once the pool is steady.
    When its time is over the pool is steady with the nodes that it has, and `jobledger pools` shows what is missing.

    \b
      jobledger pools resize workstation 4
      jobledger pools resize workstation 1 --option taskcompletion --resize-timeout PT2H
    """
    request = q.ResizePool(pool=PoolId(pool), target=nodes, option=option, resize_timeout=resize_timeout)
    ask_engine(ledger, [request], f"pool {pool} is to have {nodes} nodes", timeout_s=timeout_s, as_json=as_json)


@pools.command("stop-resize")
@_pool_argument
@asking
def stop_resize(pool: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Stop a resize: the pool is steady at once.

    Nothing is rolled back: nodes that were to come or to go do so, each in its time.

    \b
      jobledger pools stop-resize workstation
    """
    ask_engine(ledger, [q.StopResize(pool=PoolId(pool))], f"the resize of pool {pool} is stopped", timeout_s=timeout_s, as_json=as_json)


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


def _about_node(name: str, request: type[NodeRequest], said: str, later: str) -> Callable[[Callable[[], None]], click.Command]:
    """A command that asks for one thing about one node and its tasks; what it decorates has the help, `later` is said where it waits."""

    def make(described: Callable[[], None]) -> click.Command:
        @nodes.command(name, help=described.__doc__)
        @_node_argument
        @_option_option
        @reason_option
        @asking
        def command(node: str, option: NodeOption, reason: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
            text = later if option == "taskcompletion" else said
            asked = request(node=NodeId(node), option=option, reason=reason)
            ask_engine(ledger, [asked], text.format(node=node), timeout_s=timeout_s, as_json=as_json)

        return command

    return make


@_about_node("reboot", q.RebootNode, "node {node} is rebooting", "node {node} reboots when its tasks have ended")
def reboot() -> None:
    """Reboot a node: what runs there is stopped and requeued, unless --option says otherwise.

    Preparation runs again before the next task of a job there, unless the job says otherwise (rerunOnNodeRebootAfterSuccess).
    A local node reboots by ending all its programs.  Granted to nodes that are idle, running, starttaskfailed or unusable.

    \b
      jobledger nodes reboot workstation-2
      jobledger nodes reboot workstation-2 --option taskcompletion --reason "new kernel"
    """


@_about_node("reimage", q.ReimageNode, "node {node} is being reimaged", "node {node} is reimaged when its tasks have ended")
def reimage() -> None:
    """Give a node back as new: its files are removed, and what runs there is requeued, unless --option says otherwise.

    This is what makes a node eligible again for a job whose preparation failed there.  A release that it owed has nothing left to release,
    and is abandoned.  Granted to nodes that are idle or running.

    \b
      jobledger nodes reimage workstation-2
      jobledger nodes reimage workstation-2 --option terminate --reason "disk full of core dumps"
    """


@_about_node("remove", q.RemoveNode, "node {node} is leaving its pool", "node {node} leaves its pool when its tasks have ended")
def remove() -> None:
    """Remove a node from its pool: its files are removed, and what runs there is requeued, unless --option says otherwise.

    Granted in any state while the pool is steady, and at any time to hurry a node that leaves when its tasks have ended.

    \b
      jobledger nodes remove workstation-2
      jobledger nodes remove workstation-2 --option taskcompletion
    """


@_about_node("deallocate", q.DeallocateNode, "node {node} is being deallocated", "node {node} is deallocated when its tasks have ended")
def deallocate() -> None:
    """Switch a node off without removing it: its files are removed, and what runs there is requeued, unless --option says otherwise.

    Granted to nodes that are idle or running.

    \b
      jobledger nodes deallocate workstation-2
      jobledger nodes deallocate workstation-2 --option taskcompletion
    """


@nodes.command("start")
@_node_argument
@asking
def start(node: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Start a deallocated node again.

    \b
      jobledger nodes start workstation-2
    """
    ask_engine(ledger, [q.StartNode(node=NodeId(node))], f"node {node} is starting", timeout_s=timeout_s, as_json=as_json)


@_about_node("disable-scheduling", q.DisableScheduling, "node {node} takes no more tasks", "node {node} takes no more tasks, and ends those it has")
def disable_scheduling() -> None:
    """Place no more tasks on a node; those that run there are requeued, unless --option says otherwise.

    When it has none it is offline.  Releases still run there.

    \b
      jobledger nodes disable-scheduling workstation-2
      jobledger nodes disable-scheduling workstation-2 --option taskcompletion --reason "to be looked at"
    """


@nodes.command("enable-scheduling")
@_node_argument
@asking
def enable_scheduling(node: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Let a node take tasks again.

    A node that was to be rebooted, reimaged, deallocated or removed when its tasks have ended is not.

    \b
      jobledger nodes enable-scheduling workstation-2
    """
    ask_engine(ledger, [q.EnableScheduling(node=NodeId(node))], f"node {node} takes tasks again", timeout_s=timeout_s, as_json=as_json)


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
