"""What `run` prints at the end: per node, preparation and release exit codes and the tasks that ran; the finalizer; and where output lies."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Final

import click

from ..core.explain import explain as explain_state
from ..core.world import Job, World
from ..engine import DEFAULT_LEDGER, DEFAULT_ROOT
from .common import counted
from .progress import finalizer_text, run_text
from .render import dry_run_text

_FAILURES_SHOWN_MAX: Final = 20


def print_summary(world: World, job: Job, *, root: Path | None, ledger: Path, explain: bool) -> None:
    """Tell what became of a job; with `explain`, also why it is not further.  Without a `root` there is no output to be found."""
    if world.dry_run:
        click.echo(f"\n{dry_run_text(world)}")
    counts = f"{job.succeeded} succeeded, {job.counts['completed'] - job.succeeded} failed"
    unfinished = len(job.tasks) - job.counts["completed"]
    reason = f" ({job.terminate_reason})" if job.terminate_reason is not None else ""
    click.echo(
        f"\nJob {job.id} is {job.state}{reason}: {counted(len(job.tasks), 'task')}, {counts}" + (f", {unfinished} not ended" if unfinished else "")
    )
    ran = Counter(task.node for task in job.tasks.values() if task.node is not None)
    for node in sorted({*job.preparations, *job.releases, *ran}):
        click.echo(f"\n{node}:")
        if job.spec.job_preparation_task is not None:
            click.echo(f"  Preparation: {run_text(job.preparations.get(node))}")
        click.echo(f"  Tasks run:   {ran[node]}")
        if job.spec.job_release_task is not None:
            release = job.releases.get(node)
            why = f" ({release.abandoned_because})" if release is not None and release.abandoned_because is not None else ""
            click.echo(f"  Release:     {run_text(release)}{why}")
    if job.spec.job_finalizer_task is not None:
        click.echo(f"\nFinalizer: {finalizer_text(job)}")
    _print_failures(job)
    if explain:
        for entry in explain_state(world, job.id, None):
            click.echo(f"\n{entry.text}")
    click.echo()
    if root is not None:
        where = f"{root}/{job.spec.pool_info.pool_id}/<node>/workitems/{job.id}/job-1/<task>/stdout.txt"
        click.echo(f"Output: {where}   (jobledger log {job.id} <task>{_options(root, ledger)})")
    click.echo(f"Ledger: {ledger}   (jobledger events --ledger {shlex.quote(str(ledger))})")


def _options(root: Path, ledger: Path) -> str:
    """What a command needs to find the same ledger and nodes."""
    named = {"--ledger": (ledger, DEFAULT_LEDGER), "--root": (root, DEFAULT_ROOT)}
    return "".join(f" {option} {shlex.quote(str(path))}" for option, (path, default) in named.items() if path != default)


def _print_failures(job: Job) -> None:
    failed = [task for task in job.tasks.values() if task.failure is not None and task.state == "completed"]
    if failed:
        click.echo("\nFailed:")
    for task in failed[:_FAILURES_SHOWN_MAX]:
        failure = task.failure
        if failure is not None:
            code = f" (exit {task.exit_code})" if task.exit_code is not None else ""
            details = "; ".join(detail.value for detail in failure.details if detail.name == "Message")
            click.echo(f"  {task.spec.id}: {failure.code}{code}: {details or failure.message}")
    if len(failed) > _FAILURES_SHOWN_MAX:
        click.echo(f"  and {len(failed) - _FAILURES_SHOWN_MAX} more")
