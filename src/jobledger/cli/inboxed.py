"""Commands about jobs that ask the engine that drives a ledger, and say what it decided."""

from pathlib import Path
from typing import Literal

import click

from ..core import requests as q
from ..core.errors import RequestRefused
from ..core.events import JobCreated, PoolCreated, TaskAdded
from ..core.ids import JobId, TaskId
from ..core.specs import JobSpec, TaskSpec
from ..eventstore import SqliteStore
from ..jobfile import JobFile, folder_of, load, parse_tasks, read
from ..sealing import SecretStore
from .asking import ask_engine, reason_option, timeout_option
from .common import counted, json_option, ledger_option, opened
from .sameness import job_differs, pool_differs


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@ledger_option
@timeout_option
@json_option
def submit(file: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Submit a job file to the engine that drives the ledger.

    The file's pool is created first if it has one.  The same file again is the same job.

    \b
      jobledger submit job.yaml
      cat job.json | jobledger submit -
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


@click.command("add-tasks")
@click.argument("job")
@click.argument("file", type=click.Path(allow_dash=True))
@ledger_option
@timeout_option
@json_option
def add_tasks(job: str, file: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Add tasks to a job, all of FILE's or none.

    FILE is a list of tasks, or a mapping with `tasks`; tasks that the job has already are passed over.

    \b
      jobledger add-tasks sample more.yaml
    """
    tasks = parse_tasks(_spec_of(ledger, JobId(job)), read(file), source=file, base=folder_of(file))
    ask_engine(
        ledger,
        [q.AddTasks(job=JobId(job), tasks=tasks)],
        f"job {job} has the {counted(len(tasks), 'task')} of {file}",
        timeout_s=timeout_s,
        as_json=as_json,
    )


@click.command()
@click.argument("job")
@click.option("--reason", default="UserTerminate", show_default=True, help="Recorded as the job's terminateReason.")
@ledger_option
@timeout_option
@json_option
def terminate(job: str, reason: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """End a job: its tasks end, and then its release runs.

    \b
      jobledger terminate sample --reason "wrong input"
    """
    ask_engine(ledger, [q.TerminateJob(job=JobId(job), reason=reason)], f"job {job} is terminating", timeout_s=timeout_s, as_json=as_json)


@click.command()
@click.argument("job")
@reason_option
@ledger_option
@timeout_option
@json_option
def delete(job: str, reason: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Delete a job, ending it first if it has not ended.  The events stay in the ledger.

    A release that has run does not run again.

    \b
      jobledger delete sample
    """
    ask_engine(ledger, [q.DeleteJob(job=JobId(job), reason=reason)], f"job {job} is deleting", timeout_s=timeout_s, as_json=as_json)


@click.command()
@click.argument("job")
@click.option("--tasks", "option", type=click.Choice(["requeue", "terminate", "wait"]), required=True, help="What to do with tasks that run.")
@reason_option
@ledger_option
@timeout_option
@json_option
def disable(job: str, option: Literal["requeue", "terminate", "wait"], reason: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Place no more tasks of a job.

    Running tasks are requeued (to run again once the job is enabled), terminated (as failed), or waited for.

    \b
      jobledger disable sample --tasks requeue
    """
    request = q.DisableJob(job=JobId(job), disable_tasks=option, reason=reason)
    ask_engine(ledger, [request], f"job {job} is disabling", timeout_s=timeout_s, as_json=as_json)


@click.command()
@click.argument("job")
@ledger_option
@timeout_option
@json_option
def enable(job: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Let a disabled job go on.

    \b
      jobledger enable sample
    """
    ask_engine(ledger, [q.EnableJob(job=JobId(job))], f"job {job} is enabling", timeout_s=timeout_s, as_json=as_json)


@click.command("terminate-task")
@click.argument("job")
@click.argument("task")
@reason_option
@ledger_option
@timeout_option
@json_option
def terminate_task(job: str, task: str, reason: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """End one task as failed.

    \b
      jobledger terminate-task sample task003 --reason "wrong input"
    """
    request = q.TerminateTask(job=JobId(job), task=TaskId(task), reason=reason)
    ask_engine(ledger, [request], f"task {task} of job {job} is being ended", timeout_s=timeout_s, as_json=as_json)


def _spec_of(ledger: Path, job: JobId) -> JobSpec:
    """The specification that a job was created with.  Raises `RequestRefused` (JobNotFound)."""
    with opened(ledger) as store:
        spec, _ = _submitted(store, job)
    if spec is None:
        raise RequestRefused("JobNotFound", f"there is no job {job}; cannot add tasks to it")
    return spec


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
