"""`jobledger files`: list and fetch what lies on the nodes.  It needs no engine, as `log` does not."""

import os
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from .. import files as node_files
from ..core.files import find
from ..core.ids import ENGINE_HOST, PoolId, TaskId
from ..core.ports import EventStore, Executor
from ..core.world import World
from ..eventstore import rfc3339
from ..files import Entry, NodeFolder
from ..plugins import make_executor
from ..printing import columns, printable
from . import render
from .common import json_option, ledger_option, opened, print_json, root_option
from .complete import job_and_task, node_ids
from .looking import job_in, replayed

_BLOCK: Final = 1 << 20
_LOOKED_AT: Final = 4096
"""Bytes of a file that tell whether it is text, before it is written to a terminal."""

_node_option = click.option("--node", shell_complete=node_ids, help="The node: where several have files of it, or alone for the node's own folder.")


@click.group()
def files() -> None:
    """List and fetch files of tasks, preparations, releases and nodes.

    \b
      jobledger files ls sample task001
      jobledger files get sample task001 wd/result.csv -o result.csv
    """


@files.command("ls")
@click.argument("words", nargs=-1, metavar="[JOB TASK] [PATH]", shell_complete=job_and_task)
@click.option("-r", "--recursive", is_flag=True, help="Go into folders too.")
@_node_option
@ledger_option
@root_option
@json_option
def list_files(words: tuple[str, ...], recursive: bool, node: str | None, ledger: Path, root: Path, as_json: bool) -> None:
    """List the files of a task, or of a node.

    TASK may be the id of the job preparation task, release task or finalizer too.  With --node and without JOB and TASK it is the node's own
    folder, with shared, startup, workitems and the others in it.  PATH is below that folder.

    \b
      jobledger files ls sample task001
      jobledger files ls sample jobpreparation --node workstation-1 wd
      jobledger files ls --node workstation-1 shared -r
    """
    with opened(ledger) as store:
        folder, path, others = _find(store, words, node, root, path_needed=False)
        entries = folder.list(path, deep=recursive)
        if as_json:
            print_json({"nodeId": folder.node, "folder": folder.path, "files": [_view(entry) for entry in entries]})
            return
        rows = [_row(entry) for entry in entries]
    click.echo(printable(f"{folder.path}{'/' + path if path else ''}"))
    for line in columns(("size", "modified", "name"), rows) if rows else ("nothing",):
        click.echo(line)
    _tell_of_others(others)


@files.command("get")
@click.argument("words", nargs=-1, required=True, metavar="[JOB TASK] PATH", shell_complete=job_and_task)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file, and not to standard output.")
@_node_option
@ledger_option
@root_option
def get_file(words: tuple[str, ...], output: Path | None, node: str | None, ledger: Path, root: Path) -> None:
    """Fetch a file of a task, or of a node.

    It is written to standard output as it is, or to the file that -o names, which is whole or not there.

    \b
      jobledger files get sample task001 stdout.txt
      jobledger files get sample task001 wd/result.csv -o result.csv
      jobledger files get --node workstation-1 startup/stderr.txt
    """
    with opened(ledger) as store:
        folder, path, others = _find(store, words, node, root, path_needed=True)
    with folder.open(path) as file:
        if output is not None:
            _write_whole(file, output)
        else:
            _refuse_binary_on_terminal(file, path)
            shutil.copyfileobj(file, sys.stdout.buffer, _BLOCK)
            sys.stdout.buffer.flush()
    _tell_of_others(others)


def _find(store: EventStore, words: tuple[str, ...], node: str | None, root: Path, *, path_needed: bool) -> tuple[NodeFolder, str, list[str]]:
    """The folder that is meant, the path in it, and where earlier runs of a task left one, if no node was named."""
    rest = len(words) - 2
    world, _ = replayed(store)
    executor_of = _executors(world, root)
    if len(words) <= 1 and node is not None and (words or not path_needed):
        return node_files.of_node(world, executor_of, node), words[0] if words else "", []
    if rest not in ({1} if path_needed else {0, 1}):
        raise click.UsageError("name a JOB and a TASK, or a node with --node" + ("; and the PATH of a file" if path_needed else ""))
    job = job_in(store, world, words[0])
    ran_on = [one for one in node_files.nodes_of(job, words[1]) if one == ENGINE_HOST or find(world, one, job.id, TaskId(words[1])) is not None]
    if node is None and len(ran_on) > 1 and words[1] not in job.tasks:
        raise click.UsageError(f"{words[1]} of job {job.id} has files on {', '.join(ran_on)}: say which with --node")
    folder = node_files.of_task(store, world, executor_of, words[0], words[1], node=node)
    return folder, words[2] if rest else "", [one for one in ran_on if one != folder.node] if node is None else []


def _executors(world: World, root: Path) -> node_files.ExecutorOf:
    """Executors that are never opened: they only tell where folders lie."""

    @cache
    def executor_of(pool: PoolId) -> Executor:
        known = world.pools.get(pool)
        return make_executor(known.spec.executor if known is not None else "local", root)

    return executor_of


def _tell_of_others(others: list[str]) -> None:
    if others:
        click.echo(f"jobledger: an earlier run left files on {', '.join(others)} too (--node)", err=True)


def _row(entry: Entry) -> tuple[object, ...]:
    name = entry.path + ("/" if entry.kind == "folder" else f" -> {entry.target}" if entry.kind == "link" else "")
    size = entry.size if entry.size is not None else entry.kind
    return (size, render.at_text(entry.modified_at), name)


def _view(entry: Entry) -> dict[str, Any]:
    """Azure Batch's file object; `kind` and `target` are ours."""
    properties: dict[str, Any] = {"lastModified": rfc3339(entry.modified_at), "fileMode": f"{entry.mode:04o}"}
    properties |= {"contentLength": entry.size} if entry.size is not None else {}
    view: dict[str, Any] = {"name": entry.path, "isDirectory": entry.kind == "folder", "kind": entry.kind}
    return view | ({"target": entry.target} if entry.target is not None else {}) | {"properties": properties}


def _refuse_binary_on_terminal(file: BinaryIO, path: str) -> None:
    if sys.stdout.isatty():
        if b"\0" in file.read(_LOOKED_AT):
            raise click.UsageError(f"{path} is not text: name a file with -o, or redirect standard output")
        file.seek(0)


def _write_whole(file: BinaryIO, output: Path) -> None:
    """Write beside the file, and put it in its place when it is whole."""
    fresh = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with fresh.open("xb") as target:
            shutil.copyfileobj(file, target, _BLOCK)
        fresh.replace(output)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise click.FileError(str(output), error.strerror or str(error)) from None
