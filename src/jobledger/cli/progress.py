"""What a running engine shows: a live view on a terminal, plain lines elsewhere."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..asks import Session
from ..core import events as e
from ..core.events import Event
from ..core.ids import JobId, place_name
from ..core.world import Job, Run, World

_REFRESH_S: Final = 0.125
_COUNTS_EVERY_S: Final = 2.0
"""How often plain lines say how many tasks are done."""

_NODES_SHOWN_MAX: Final = 24


class Quiet:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """Not even this."""

    def catch_up(self, engine: Session) -> None:
        """Nor this."""


class Progress:
    """Shows what happens to one job, or to all of a ledger for None."""

    def __init__(self, job: JobId | None) -> None:
        self.job = job
        self.console = Console(stderr=True, highlight=False)
        self.live = self.console.is_terminal and job is not None
        self.seen = 0
        self._counts = ""
        self._counted_at = 0.0

    def catch_up(self, engine: Session) -> None:
        """A line for each event worth one since the last time; a live view shows the world instead."""
        if not self.live:
            for recorded in engine.store.read(after=self.seen, until=engine.position):
                self.event(recorded.event)
                self.seen = recorded.position

    def say(self, text: str) -> None:
        """A word to the user."""
        self.console.print(f"jobledger: {text}", soft_wrap=True, markup=False)

    def event(self, event: Event) -> None:
        """A line for an event worth one."""
        job = getattr(event, "job", None)
        if (self.job is None or job in {None, self.job}) and (line := telling(event)) is not None:
            self.console.print(line, soft_wrap=True, markup=False)

    def counts(self, world: World) -> None:
        """Now and then, a line that says how far the tasks are."""
        if self.live or (now := time.monotonic()) < self._counted_at + _COUNTS_EVERY_S:
            return
        self._counted_at = now
        jobs = [job for job in world.jobs.values() if self.job in {None, job.id} and job.state != "completed" and job.tasks]
        text = "; ".join(f"job {job.id}: " + ", ".join(f"{count} {state}" for state, count in job.counts.items()) for job in jobs[:8])
        if text and text != self._counts:
            self._counts = text
            self.console.print(text, soft_wrap=True, markup=False)


@asynccontextmanager
async def watch(engine: Session, progress: Progress | Quiet, *, after: int) -> AsyncIterator[None]:
    """Show what the ledger gets after position `after` for as long as the block runs, and then what is left of it."""
    if isinstance(progress, Quiet):
        yield
        return
    progress.seen = after
    showing = asyncio.create_task(_show_view(engine, progress) if progress.live else _show_lines(engine, progress))
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.wait([showing])
        progress.catch_up(engine)  # Where all was over at once, what shows it has never begun.


async def _show_lines(engine: Session, progress: Progress) -> None:
    while True:
        progress.catch_up(engine)
        progress.counts(engine.world)
        await asyncio.sleep(_REFRESH_S)


async def _show_view(engine: Session, progress: Progress) -> None:
    with Live(console=progress.console, auto_refresh=False, transient=True) as live:
        try:
            while True:
                live.update(_view(engine.world, progress.job), refresh=True)
                await asyncio.sleep(_REFRESH_S)
        finally:
            live.update(_view(engine.world, progress.job), refresh=True)


def _view(world: World, job_id: JobId | None) -> Group | Text:
    job = world.jobs.get(job_id) if job_id is not None else None
    if job is None:
        return Text("waiting")
    done, total = job.counts["completed"], len(job.tasks)
    head = Text.assemble("job ", (job.id, "bold"), f" {job.state}   ", *(f"{count} {state}   " for state, count in job.counts.items()))
    nodes = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("node", "state", "preparation", "tasks now", "release"):
        nodes.add_column(column)
    pool = world.pools.get(job.spec.pool_info.pool_id)
    for node_id in list(pool.nodes)[:_NODES_SHOWN_MAX] if pool is not None else []:
        node = world.nodes[node_id]
        running = " ".join(task for of_job, task in node.tasks if of_job == job.id)
        nodes.add_row(node_id, node.state, run_text(job.preparations.get(node_id)), running, run_text(job.releases.get(node_id)))
    if pool is not None and len(pool.nodes) > _NODES_SHOWN_MAX:
        nodes.add_row(f"and {len(pool.nodes) - _NODES_SHOWN_MAX} more", "", "", "", "")
    shown = [Text(f"finalizer: {finalizer_text(job)}")] if job.spec.job_finalizer_task is not None else []
    return Group(head, ProgressBar(total=max(total, 1), completed=done, width=60), nodes, *shown)


def finalizer_text(job: Job) -> str:
    """The job's finalizer in a few words: how it is or went, and where; `-` until it is started or abandoned."""
    finalizer = job.finalizer
    if finalizer is None:
        return "-"
    why = f": {finalizer.abandoned_because}" if finalizer.abandoned_because is not None else ""
    return f"{run_text(finalizer)} (on {place_name(finalizer.node)}){why}"


def run_text(run: Run | None) -> str:
    """A preparation or release on one node, or a finalizer, in a few words."""
    if run is None:
        return "-"
    if run.state != "completed":
        return run.state + (f", try {run.retries + 1}" if run.retries else "")
    return f"exit {run.exit_code}" if run.exit_code is not None else (run.failure.code if run.failure is not None else run.result or "completed")


def telling(event: Event) -> str | None:
    """One line for an event that a user wants to see go by; None for the rest."""
    match event:
        case e.JobCreated():
            return f"job {event.job}: active"
        case e.JobTerminating():
            return f"job {event.job}: terminating ({event.reason})"
        case e.JobCompleted():
            return f"job {event.job}: completed"
        case e.JobDeleting() | e.JobDeleted() | e.JobDisabling() | e.JobDisabled() | e.JobEnabled():
            return f"job {event.job}: {type(event).__name__.removeprefix('Job').lower()}"
        case e.JobPatched(priority=priority, pool_info=info):
            told = [f"priority {priority}"] if priority is not None else []
            told += [f"pool {info.pool_id}"] if info is not None else []
            return f"job {event.job}: patched" + (f" ({', '.join(told)})" if told else "")
        case e.JobBlocked():
            return f"job {event.job}: blocked, preparation failed on every node"
        case e.PreparationStarted():
            return f"job {event.job}: preparation started on {event.node}"
        case e.PreparationCompleted() | e.ReleaseCompleted():
            what = "preparation" if isinstance(event, e.PreparationCompleted) else "release"
            return f"job {event.job}: {what} on {event.node}: {event.result} ({_how(event)})"
        case e.ReleaseStarted():
            return f"job {event.job}: release started on {event.node}"
        case e.ReleaseAbandoned():
            return f"job {event.job}: release on {event.node} abandoned: {event.cause}"
        case e.FinalizerStarted():
            return f"job {event.job}: finalizer started on {place_name(event.node)}"
        case e.FinalizerCompleted():
            return f"job {event.job}: finalizer: {event.result} ({_how(event)})"
        case e.FinalizerInterrupted():
            return f"job {event.job}: finalizer on {place_name(event.node)} cut short: {event.cause}"
        case e.FinalizerAbandoned():
            return f"job {event.job}: finalizer abandoned: {event.cause}"
        case e.TaskRetried():
            return f"job {event.job}: task {event.task} exited {event.exit_code}, to be tried again"
        case e.TaskRequeued():
            return f"job {event.job}: task {event.task} requeued: {event.cause}"
        case e.TaskCompleted(failure=failure) if failure is not None:
            return f"job {event.job}: task {event.task} failed: {failure.code}" + (
                f" (exit {event.exit_code})" if event.exit_code is not None else ""
            )
        case e.NodeUnusable() | e.NodeUnknown() | e.NodePreempted():
            return f"node {event.node}: {type(event).__name__.removeprefix('Node').lower()}: {event.reason}"
        case e.NodeStartTaskFailed():
            return f"node {event.node}: start task failed"
        case _:
            return None


def _how(event: e.PreparationCompleted | e.ReleaseCompleted | e.FinalizerCompleted) -> str:
    if event.exit_code is not None:
        return f"exit {event.exit_code}"
    return event.failure.code if event.failure is not None else ""
