"""The family `jobledger jobs`, whose commands that change a job stand alone as well: `jobledger terminate` is `jobledger jobs terminate`."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import click
import yaml

from ..core import requests as q
from ..core.errors import RequestRefused
from ..core.events import JobCreated, PoolCreated, TaskAdded
from ..core.ids import JobId
from ..core.specs import JobSpec, TaskSpec
from ..core.world import Job
from ..eventstore import SqliteStore
from ..jobfile import JobFile, load
from ..sealing import SecretStore
from ..views import dry_run_view, job_view, preparation_and_release_status, refuse_unless_prepared, task_counts, task_slot_counts
from . import render
from .asking import ask_about_each, ask_engine, asking, reason_option
from .common import ListingGroup, counted, json_option, ledger_option, opened, print_json
from .complete import job_ids
from .looking import job_in, now_in, print_lines, replayed
from .patching import patch
from .sameness import job_differs, pool_differs
from .selecting import Wanted, has_metadata, metadata_option

F = TypeVar("F", bound=Callable[..., Any])

JOB_STATES: Final = ("active", "disabling", "disabled", "enabling", "terminating", "completed", "deleting")
LIVE: Final = frozenset({"active", "disabling", "disabled", "enabling"})

_job_argument = click.argument("job", shell_complete=job_ids)


@click.group(cls=ListingGroup)
def jobs() -> None:
    """List jobs, show one, or submit, patch, disable, enable, terminate and delete them.

    \b
      jobledger jobs
      jobledger jobs show sample
      jobledger jobs patch sample --priority 100
      jobledger jobs terminate --metadata campaign=spring
    """


# --- reading --------------------------------------------------------------------------------------------------


@jobs.command("list")
@metadata_option
@click.option("--state", type=click.Choice(JOB_STATES), help="Only jobs in this state.")
@ledger_option
@json_option
def list_jobs(metadata: tuple[Wanted, ...], state: str | None, ledger: Path, as_json: bool) -> None:
    """List all jobs, or those with some metadata or in some state.

    With --json: Azure Batch's job objects under jobs, each with its taskCounts and taskSlotCounts, and the ledger's position.

    \b
      jobledger jobs
      jobledger jobs --state active --metadata owner=ada --metadata campaign
    """
    with opened(ledger) as store:
        world, position = replayed(store)
        at = now_in(store, world)
    chosen = [job for job in world.jobs.values() if state in {None, job.state} and has_metadata(job.spec.metadata, metadata)]
    if as_json:
        print_json(dry_run_view(world) | {"jobs": [_in_full(job) for job in chosen], "position": position})
    elif chosen:
        print_lines(render.job_table(chosen, at))
    else:
        click.echo("no jobs" + (f" that are {state}" if state is not None else "") + (" with that metadata" if metadata else ""))


@jobs.command("show")
@_job_argument
@ledger_option
@json_option
def show(job: str, ledger: Path, as_json: bool) -> None:
    """Show one job in full: its specification as it is now, patches included, its state and its counts.

    `jobledger status` tells how far its tasks and nodes are.  With --json: the same under job, and the ledger's position.

    \b
      jobledger jobs show sample
      jobledger jobs show sample --json | jq .job.constraints
    """
    with opened(ledger) as store:
        world, position = replayed(store)
        found = job_in(store, world, job)
    if as_json:
        print_json(dry_run_view(world) | {"job": _in_full(found), "position": position})
    else:
        click.echo(yaml.safe_dump(_in_full(found), sort_keys=False, allow_unicode=True, width=120), nl=False)


@jobs.command("preparation")
@_job_argument
@ledger_option
@json_option
def preparation(job: str, ledger: Path, as_json: bool) -> None:
    """Show what became of a job's preparation and release on each node.

    With --json: Azure Batch's objects under jobPreparationAndReleaseTaskStatus, and the ledger's position.  A job without a preparation
    task is refused (JobPreparationTaskNotSpecified).

    \b
      jobledger jobs preparation sample
    """
    with opened(ledger) as store:
        world, position = replayed(store)
        found = job_in(store, world, job)
    refuse_unless_prepared(found)
    if as_json:
        print_json(dry_run_view(world) | {"jobPreparationAndReleaseTaskStatus": preparation_and_release_status(found), "position": position})
    elif lines := list(render.preparation_table(world, found)):
        print_lines(lines)
    else:
        click.echo(f"job {job} has run on no node")


def _in_full(job: Job) -> dict[str, Any]:
    return job_view(job) | {"taskCounts": task_counts(job), "taskSlotCounts": task_slot_counts(job)}


# --- asking ---------------------------------------------------------------------------------------------------


def selecting(command: F) -> F:
    """`JOB ...` or `--metadata`, and `--yes`."""
    argument = click.argument("job", nargs=-1, shell_complete=job_ids)
    return argument(
        metadata_option(click.option("-y", "--yes", is_flag=True, help="Do not ask before acting on jobs selected by --metadata.")(command))
    )


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@asking
def submit(file: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Submit a job file to the engine that drives the ledger.

    The file's pool is created first if it has one.  The same file again is the same job.

    \b
      jobledger submit job.yaml
      jobledger jobs submit job.yaml
      cat job.json | jobledger jobs create -
    """
    job_file = load(file)
    requests: list[q.Request] = [q.CreatePool(spec=job_file.pool)] if job_file.pool is not None else []
    requests.append(q.SubmitJob(spec=job_file.job, tasks=job_file.tasks))
    said = f"job {job_file.job.id} is submitted with {counted(len(job_file.tasks), 'task')}"
    try:
        ask_engine(ledger, requests, said, timeout_s=timeout_s, as_json=as_json)
    except RequestRefused as refusal:
        if refusal.code not in {"JobExists", "PoolExists"}:
            raise
        raise RequestRefused(refusal.code, _how_it_differs(ledger, job_file) or refusal.message) from refusal


@click.command()
@selecting
@click.option("--reason", default="UserTerminate", show_default=True, help="Recorded as the job's terminateReason.")
@asking
def terminate(job: tuple[str, ...], metadata: tuple[Wanted, ...], yes: bool, reason: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """End jobs: their tasks end, and then their release runs.

    JOB is one or several ids; with --metadata instead, all jobs that have it and are not over.  Of several jobs each is decided for
    itself, and the exit status is 3 if any is refused.

    \b
      jobledger terminate sample --reason "wrong input"
      jobledger jobs terminate --metadata campaign=spring --yes
    """
    chosen = _chosen(ledger, job, metadata, LIVE, "terminate", yes=yes)
    _ask(
        ledger, {name: q.TerminateJob(job=name, reason=reason) for name in chosen}, job, "job {} is terminating", timeout_s=timeout_s, as_json=as_json
    )


@click.command()
@selecting
@reason_option
@asking
def delete(job: tuple[str, ...], metadata: tuple[Wanted, ...], yes: bool, reason: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Delete jobs, ending them first if they have not ended.  Their events stay in the ledger.

    A release that has run does not run again.  JOB is one or several ids; with --metadata instead, all jobs that have it.

    \b
      jobledger delete sample
      jobledger jobs delete --metadata campaign=spring
    """
    chosen = _chosen(ledger, job, metadata, LIVE | {"terminating", "completed"}, "delete", yes=yes)
    _ask(ledger, {name: q.DeleteJob(job=name, reason=reason) for name in chosen}, job, "job {} is deleting", timeout_s=timeout_s, as_json=as_json)


@click.command()
@selecting
@click.option("--tasks", "option", type=click.Choice(["requeue", "terminate", "wait"]), required=True, help="What to do with tasks that run.")
@reason_option
@asking
def disable(
    job: tuple[str, ...],
    metadata: tuple[Wanted, ...],
    yes: bool,
    option: Literal["requeue", "terminate", "wait"],
    reason: str,
    ledger: Path,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Place no more tasks of jobs.

    Running tasks are requeued (to run again once the job is enabled), terminated (as failed), or waited for.
    JOB is one or several ids; with --metadata instead, all jobs that have it and are active.

    \b
      jobledger disable sample --tasks requeue
      jobledger jobs disable --metadata campaign=spring --tasks wait
    """
    chosen = _chosen(ledger, job, metadata, frozenset({"active"}), "disable", yes=yes)
    requests = {name: q.DisableJob(job=name, disable_tasks=option, reason=reason) for name in chosen}
    _ask(ledger, requests, job, "job {} is disabling", timeout_s=timeout_s, as_json=as_json)


@click.command()
@selecting
@asking
def enable(job: tuple[str, ...], metadata: tuple[Wanted, ...], yes: bool, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Let disabled jobs go on.

    JOB is one or several ids; with --metadata instead, all jobs that have it and are disabled or disabling.

    \b
      jobledger enable sample
      jobledger jobs enable --metadata campaign=spring
    """
    chosen = _chosen(ledger, job, metadata, frozenset({"disabling", "disabled"}), "enable", yes=yes)
    _ask(ledger, {name: q.EnableJob(job=name) for name in chosen}, job, "job {} is enabling", timeout_s=timeout_s, as_json=as_json)


for _name, _command in (("submit", submit), ("create", submit), ("patch", patch), ("terminate", terminate), ("delete", delete)):
    jobs.add_command(_command, _name)
for _name, _command in (("disable", disable), ("enable", enable)):
    jobs.add_command(_command, _name)


def _chosen(ledger: Path, named: tuple[str, ...], metadata: tuple[Wanted, ...], states: frozenset[str], verb: str, *, yes: bool) -> list[JobId]:
    """The jobs that are meant: those named, or those with the metadata that are in one of the states; the user is asked about the latter."""
    if bool(named) == bool(metadata):
        raise click.UsageError("name one or several jobs, or select them with --metadata" + (", not both" if named else ""))
    if named:
        return list(dict.fromkeys(map(JobId, named)))
    with opened(ledger) as store:
        world, _ = replayed(store)
    found = [job.id for job in world.jobs.values() if job.state in states and has_metadata(job.spec.metadata, metadata)]
    if found and not yes:
        click.confirm(f"{verb} {counted(len(found), 'job')}: {', '.join(found)}?", abort=True, err=True)
    return found


def _ask(ledger: Path, requests: Mapping[JobId, q.Request], named: tuple[str, ...], said: str, *, timeout_s: float, as_json: bool) -> None:
    """One job that was named is asked about as ever; of several, or of those that were selected, each is told of."""
    if len(named) == 1:
        ((name, request),) = requests.items()
        ask_engine(ledger, [request], said.format(name), timeout_s=timeout_s, as_json=as_json)
    elif requests or as_json:
        sys.exit(ask_about_each(ledger, requests, said, timeout_s=timeout_s, as_json=as_json))
    else:
        click.echo("no job has that metadata and is in a state for it")


def _submitted(store: SqliteStore, job: JobId) -> tuple[JobSpec | None, list[TaskSpec]]:
    """What the latest job of that id was created with and was given to do, as its events have it."""
    spec: JobSpec | None = None
    tasks: list[TaskSpec] = []
    for recorded in store.read(stream=f"job/{job}"):
        match recorded.event:
            case JobCreated() as created:
                spec, tasks = created.spec, []
            case TaskAdded() as added:
                tasks.append(added.spec)
            case _:
                pass
    return spec, tasks


def _how_it_differs(ledger: Path, job_file: JobFile) -> str | None:
    """The differences between a refused job file and what the ledger has."""
    with opened(ledger) as store, SecretStore.of(store) as secrets:
        job_file = secrets.sealed(job_file)
        spec, tasks = _submitted(store, job_file.job.id)
        if job_file.pool is not None:
            stream = f"pool/{job_file.pool.id}"
            pools = [recorded.event.spec for recorded in store.read(stream=stream) if isinstance(recorded.event, PoolCreated)]
            if pools and (told := pool_differs(pools[-1], job_file)) is not None:
                return told
    return job_differs(spec, tasks, job_file, "was submitted") if spec is not None else None
