"""Completing ids in a shell: what the ledger at hand has.  It helps where it can, and where it cannot it is silent."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from ..core.errors import JobledgerError
from ..core.events import STORED, Event, JobCreated, JobDeleted, NodeAdded, NodeRemoved, PoolCreated, PoolDeleted, TaskAdded, TaskDeleted
from ..engine import DEFAULT_LEDGER
from .common import opened

_EVENTS_MAX: Final = 50_000
"""Events that are read for a completion: about half a second, the most that somebody who pressed Tab should wait."""

_LEDGERS: Final = frozenset({"file", "real"})
"""The arguments that name a ledger, of commands that take one in this way and complete ids."""


def job_ids(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The jobs of the ledger that the command line so far names."""
    ids: dict[str, None] = {}
    for event in _events(ctx, None):
        if isinstance(event, JobCreated):
            ids[event.job] = None
        elif isinstance(event, JobDeleted):
            ids.pop(event.job, None)
    return [job for job in ids if job.startswith(incomplete)]


def task_ids(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The tasks of the job that the command line so far names."""
    return _tasks_of(ctx, ctx.params.get("job"), incomplete)


def command_line_ids(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Whatever has output of its own in the job that the command line so far names: its tasks, preparation, release and finalizer."""
    return _tasks_of(ctx, ctx.params.get("job"), incomplete, others=True)


def job_and_task(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """For words that are a job, a task of it, and something else: what the next one may be."""
    words = ctx.params.get(parameter.name or "") or ()
    if not words:
        return job_ids(ctx, parameter, incomplete)
    return _tasks_of(ctx, words[0], incomplete, others=True) if len(words) == 1 else []


def _tasks_of(ctx: click.Context, job: str | None, incomplete: str, *, others: bool = False) -> list[str]:
    ids: dict[str, None] = {}
    for event in _events(ctx, f"job/{job}"):
        if isinstance(event, JobCreated) and others:
            of_the_job = event.spec.job_preparation_task, event.spec.job_release_task, event.spec.job_finalizer_task
            ids |= dict.fromkeys(one.id for one in of_the_job if one is not None)
        elif isinstance(event, TaskAdded):
            ids[event.task] = None
        elif isinstance(event, TaskDeleted):
            ids.pop(event.task, None)
    return [task for task in ids if task.startswith(incomplete)]


def pool_ids(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The pools of the ledger."""
    ids: dict[str, None] = {}
    for event in _events(ctx, None):
        if isinstance(event, PoolCreated):
            ids[event.pool] = None
        elif isinstance(event, PoolDeleted):
            ids.pop(event.pool, None)
    return [pool for pool in ids if pool.startswith(incomplete)]


def node_ids(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The nodes of the ledger's pools."""
    ids: dict[str, None] = {}
    for event in _events(ctx, None):
        if isinstance(event, NodeAdded):
            ids[event.node] = None
        elif isinstance(event, NodeRemoved):
            ids.pop(event.node, None)
    return [node for node in ids if node.startswith(incomplete)]


def event_types(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The stored names of events."""
    return sorted({name for name, _ in STORED.values() if name.startswith(incomplete)})


def _events(ctx: click.Context, stream: str | None) -> Iterator[Event]:
    named = ctx.params.get("ledger")
    if ctx.args and any(parameter.name in _LEDGERS for parameter in ctx.command.params):
        named = ctx.args[-1]  # Behind arguments, click sorts nothing any more once the value of an option is missing.
    ledger = Path(named or os.environ.get("JOBLEDGER_LEDGER") or DEFAULT_LEDGER)
    try:
        with opened(ledger) as store:
            for recorded in store.read(until=_EVENTS_MAX, stream=stream):
                yield recorded.event
    except (JobledgerError, OSError, sqlite3.Error):
        return
