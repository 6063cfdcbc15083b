"""The family `jobledger nodes`."""

from collections.abc import Callable
from pathlib import Path

import click

from ..core import requests as q
from ..core.ids import NodeId
from ..core.specs import NodeOption
from ..views import dry_run_view, node_view
from . import render
from .asking import ask_engine, asking, node_option, reason_option
from .common import ListingGroup, json_option, ledger_option, opened, print_json
from .complete import node_ids
from .looking import print_lines, replayed

NodeRequest = q.RebootNode | q.ReimageNode | q.RemoveNode | q.DeallocateNode | q.DisableScheduling

_node_argument = click.argument("node", shell_complete=node_ids)


@click.group(cls=ListingGroup)
def nodes() -> None:
    """List nodes, or reboot, reimage and remove them.

    \b
      jobledger nodes
      jobledger nodes reimage workstation-2
    """


def _about_node(name: str, request: type[NodeRequest], said: str, later: str) -> Callable[[Callable[[], None]], click.Command]:
    """A command that asks for one thing about one node and its tasks; what it decorates has the help, `later` is said where it waits."""

    def make(described: Callable[[], None]) -> click.Command:
        @nodes.command(name, help=described.__doc__)
        @_node_argument
        @node_option
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


@nodes.command("list")
@ledger_option
@json_option
def list_nodes(ledger: Path, as_json: bool) -> None:
    """List the nodes of all pools.

    With --json: Azure Batch's node objects under nodes, and the ledger's position.

    \b
      jobledger nodes
    """
    with opened(ledger) as store:
        world, position = replayed(store)
    if as_json:
        print_json(dry_run_view(world) | {"nodes": [node_view(node) for node in world.nodes.values()], "position": position})
    elif world.nodes:
        print_lines(render.node_table(world))
    else:
        click.echo("no nodes")
