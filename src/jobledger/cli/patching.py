"""`jobledger jobs patch`: what is to change, from options or from a file."""

from pathlib import Path
from typing import get_args

import click
from attrs import evolve

from .. import durations
from ..core import requests as q
from ..core.ids import JobId, PoolId
from ..core.specs import JobConstraints, MetadataItem, OnAllTasksComplete, PoolInfo
from ..jobfile import parse_patch, read
from .asking import ask_engine, asking, reason_option
from .common import opened
from .complete import job_ids, pool_ids
from .looking import job_in, replayed

UNLIMITED = "unlimited"


def _metadata(_ctx: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[MetadataItem, ...] | None:
    parts = [text.partition("=") for text in texts]
    if not all(name and equals for name, equals, _ in parts):
        raise click.BadParameter("write NAME=VALUE")
    return tuple(MetadataItem(name=name, value=value) for name, _, value in parts) or None


def _limit(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    try:
        if text not in {None, UNLIMITED}:
            durations.parse(str(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return text


@click.command()
@click.argument("job", shell_complete=job_ids)
@click.option("--priority", type=int, help="Tasks of jobs with a higher one are placed first, from the next placement on.")
@click.option("--max-parallel-tasks", type=int, help="How many of its tasks may be at work at the same time; -1 is without limit.")
@click.option(
    "--on-all-tasks-complete", type=click.Choice(get_args(OnAllTasksComplete)), help="terminatejob ends a job at once that is complete already."
)
@click.option("--max-wall-clock-time", callback=_limit, metavar="DURATION", help="Counted from the job's creation, such as PT2H, or `unlimited`.")
@click.option("--max-task-retry-count", type=int, help="For tasks that are added from now on and state no constraints of their own.")
@click.option(
    "--metadata", multiple=True, callback=_metadata, metavar="NAME=VALUE", help="Replaces all of the job's metadata; may be given several times."
)
@click.option("--no-metadata", is_flag=True, help="Takes away all of the job's metadata.")
@click.option("--pool", shell_complete=pool_ids, help="The pool to go on on; the job has to be disabled.")
@click.option("--file", type=click.Path(allow_dash=True), help="What is to change as YAML or JSON (`-` is standard input), in place of options.")
@reason_option
@asking
def patch(
    job: str,
    priority: int | None,
    max_parallel_tasks: int | None,
    on_all_tasks_complete: OnAllTasksComplete | None,
    max_wall_clock_time: str | None,
    max_task_retry_count: int | None,
    metadata: tuple[MetadataItem, ...] | None,
    no_metadata: bool,
    pool: str | None,
    file: str | None,
    reason: str,
    ledger: Path,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Change a job that is not over.

    Of --max-wall-clock-time and --max-task-retry-count, the one that is not given stays as it is.  In a FILE, which has Azure Batch's
    names (priority, maxParallelTasks, constraints, onAllTasksComplete, metadata, poolInfo), `constraints` are replaced as a whole: what
    they leave out goes back to its default.

    \b
      jobledger jobs patch sample --priority 100 --max-parallel-tasks 8
      jobledger jobs patch sample --max-wall-clock-time PT12H
      jobledger disable sample --tasks requeue && jobledger jobs patch sample --pool bigger && jobledger enable sample
      echo 'constraints: {maxTaskRetryCount: 3}' | jobledger jobs patch sample --file -
    """
    constraints = None
    if max_wall_clock_time is not None or max_task_retry_count is not None:
        constraints = _with(_constraints_of(ledger, job), max_wall_clock_time, max_task_retry_count)
    request = q.PatchJob(
        job=JobId(job),
        priority=priority,
        max_parallel_tasks=max_parallel_tasks,
        constraints=constraints,
        on_all_tasks_complete=on_all_tasks_complete,
        metadata=() if no_metadata else metadata,
        pool_info=None if pool is None else PoolInfo(pool_id=PoolId(pool)),
    )
    if (file is None) == (request == q.PatchJob(job=JobId(job))):
        raise click.UsageError("say what is to change, by options or with --file" + ("" if file is None else ", not both"))
    if file is not None:
        request = parse_patch(JobId(job), read(file), source=file)
    ask_engine(ledger, [evolve(request, reason=reason)], f"job {job} is patched", timeout_s=timeout_s, as_json=as_json)


def _constraints_of(ledger: Path, job: str) -> JobConstraints:
    with opened(ledger) as store:
        world, _ = replayed(store)
        return job_in(store, world, job).spec.constraints


def _with(known: JobConstraints, limit: str | None, retries: int | None) -> JobConstraints:
    if retries is not None:
        known = evolve(known, max_task_retry_count=retries)
    if limit is not None:
        known = evolve(known, max_wall_clock_time=None if limit == UNLIMITED else durations.parse(limit))
    return known
