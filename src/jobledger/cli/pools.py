"""The family `jobledger pools`."""

from pathlib import Path

import click

from .. import durations
from ..core import requests as q
from ..core.ids import Duration, PoolId
from ..core.specs import NodeOption
from ..jobfile import folder_of, parse_pool, read
from ..views import dry_run_view, pool_view
from . import render
from .asking import ask_engine, asking, node_option
from .common import ListingGroup, counted, json_option, ledger_option, opened, print_json
from .complete import pool_ids
from .looking import print_lines, replayed
from .selecting import Wanted, has_metadata, metadata_option

_pool_argument = click.argument("pool", shell_complete=pool_ids)


def _duration(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> Duration | None:
    try:
        duration = None if text is None else durations.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if text is not None and duration is None:
        raise click.BadParameter("a resize cannot be unlimited")
    return duration


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
@node_option
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
    ask_engine(ledger, [request], f"pool {pool} is to have {counted(nodes, 'node')}", timeout_s=timeout_s, as_json=as_json)


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


@pools.command("list")
@metadata_option
@ledger_option
@json_option
def list_pools(metadata: tuple[Wanted, ...], ledger: Path, as_json: bool) -> None:
    """List all pools, or those with some metadata.

    With --json: Azure Batch's pool objects under pools, and the ledger's position.

    \b
      jobledger pools
    """
    with opened(ledger) as store:
        world, position = replayed(store)
    chosen = [pool for pool in world.pools.values() if has_metadata(pool.spec.metadata, metadata)]
    if as_json:
        print_json(dry_run_view(world) | {"pools": [pool_view(pool) for pool in chosen], "position": position})
    elif chosen:
        print_lines(render.pool_table(world, chosen))
    else:
        click.echo("no pools" + (" with that metadata" if metadata else ""))
