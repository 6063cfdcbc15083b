"""Whether a job file asks for what the ledger has already, and how it differs where it does not."""

from collections.abc import Iterable

from ..core.specs import JobSpec, PoolSpec, TaskSpec
from ..jobfile import JobFile, difference, task_differences

LINES_SHOWN_MAX = 20


def pool_differs(known: PoolSpec, job_file: JobFile) -> str | None:
    """What to tell of a pool that exists with another specification; None where it is the same or the file has none."""
    if job_file.pool is None or not (lines := difference(known, job_file.pool)):
        return None
    return _told(f"pool {known.id} exists with another specification; use another id", lines)


def job_differs(known: JobSpec, tasks: Iterable[TaskSpec], job_file: JobFile, state: str) -> str | None:
    """What to tell of a job that was submitted with another specification; None where it is the same.

    Tasks that the ledger has and the file has not were added later, and are no difference.
    """
    named = {task.id for task in job_file.tasks}
    lines = difference(known, job_file.job) + task_differences([task for task in tasks if task.id in named], job_file.tasks)
    if not lines:
        return None
    advice = f"use another id, or delete the old one (`jobledger delete {known.id}`, with an engine running)"
    return _told(f"job {known.id} {state} with another specification; {advice}", lines)


def _told(what: str, lines: list[str]) -> str:
    more = len(lines) - LINES_SHOWN_MAX
    shown = "".join(f"\n  {line}" for line in lines[:LINES_SHOWN_MAX]) + (f"\n  and {more} more" if more > 0 else "")
    return f"{what}.  In the ledger -> in the file:{shown}"
