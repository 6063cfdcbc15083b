"""The family `jobledger tasks`."""

from pathlib import Path
from typing import Final

import click

from ..core import requests as q
from ..core.errors import RequestRefused
from ..core.events import JobCreated
from ..core.ids import JobId, TaskId
from ..core.specs import JobSpec
from ..jobfile import folder_of, parse_tasks, read
from ..views import dry_run_view, task_view
from . import render
from .asking import ask_engine, asking, reason_option
from .common import ListingGroup, counted, json_option, ledger_option, opened, print_json
from .complete import job_ids, task_ids
from .looking import job_in, now_in, print_lines, replayed
from .selecting import Wanted, has_metadata, metadata_option

TASK_STATES: Final = ("active", "preparing", "running", "completed", "succeeded", "failed")

_job_argument = click.argument("job", shell_complete=job_ids)
_task_argument = click.argument("task", shell_complete=task_ids)


@click.group(cls=ListingGroup)
def tasks() -> None:
    """List a job's tasks, add some, or terminate, delete or reactivate one.

    \b
      jobledger tasks sample
      jobledger tasks reactivate sample task003
    """


@tasks.command("list")
@_job_argument
@click.option("--state", type=click.Choice(TASK_STATES), help="Only tasks in this state, or that ended so.")
@metadata_option
@ledger_option
@json_option
def list_tasks(job: str, state: str | None, metadata: tuple[Wanted, ...], ledger: Path, as_json: bool) -> None:
    """List a job's tasks, where they ran and how they ended.

    With --json: Azure Batch's task objects under tasks, and the ledger's position.

    \b
      jobledger tasks sample
      jobledger tasks sample --state failed
      jobledger tasks list sample --metadata camera=north --json
    """
    with opened(ledger) as store:
        world, position = replayed(store)
        found = job_in(store, world, job)
        at = now_in(store, world)
    result = {"succeeded": "success", "failed": "failure"}.get(state or "")
    chosen = [
        task
        for task in found.tasks.values()
        if (state is None or task.state == state or (result is not None and task.state == "completed" and task.result == result))
        and has_metadata(task.spec.metadata, metadata)
    ]
    if as_json:
        print_json(dry_run_view(world) | {"tasks": [task_view(found, task, world) for task in chosen], "position": position})
    elif chosen:
        print_lines(render.task_table(chosen, at))
    else:
        click.echo(f"job {job} has no tasks" + (f" that are {state}" if state is not None else "") + (" with that metadata" if metadata else ""))


@click.command("add-tasks")
@_job_argument
@click.argument("file", type=click.Path(allow_dash=True))
@asking
def add_tasks(job: str, file: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """Add tasks to a job, all of FILE's or none.

    FILE is a list of tasks, or a mapping with `tasks`; tasks that the job has already are passed over.

    \b
      jobledger tasks add sample more.yaml
      jobledger add-tasks sample - < more.json
    """
    tasks = parse_tasks(_spec_of(ledger, JobId(job)), read(file), source=file, base=folder_of(file))
    ask_engine(
        ledger,
        [q.AddTasks(job=JobId(job), tasks=tasks)],
        f"job {job} has the {counted(len(tasks), 'task')} of {file}",
        timeout_s=timeout_s,
        as_json=as_json,
    )


@click.command("terminate-task")
@_job_argument
@_task_argument
@reason_option
@asking
def terminate_task(job: str, task: str, reason: str, ledger: Path, timeout_s: float, as_json: bool) -> None:
    """End one task as failed.

    \b
      jobledger tasks terminate sample task003
      jobledger terminate-task sample task003 --reason "wrong input"
    """
    request = q.TerminateTask(job=JobId(job), task=TaskId(task), reason=reason)
    ask_engine(ledger, [request], f"task {task} of job {job} is being ended", timeout_s=timeout_s, as_json=as_json)


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


def _spec_of(ledger: Path, job: JobId) -> JobSpec:
    """The specification that the latest job of that id was created with, which says what its tasks may use.  Raises `RequestRefused` (JobNotFound)."""
    with opened(ledger) as store:
        specs = [recorded.event.spec for recorded in store.read(stream=f"job/{job}") if isinstance(recorded.event, JobCreated)]
    if not specs:
        raise RequestRefused("JobNotFound", f"there is no job {job}; cannot add tasks to it")
    return specs[-1]


tasks.add_command(add_tasks, "add")
tasks.add_command(terminate_task, "terminate")
