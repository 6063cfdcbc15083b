"""What holds of the ends of tasks and of what follows from them: invariants, see `invariants`.

What exit conditions say is read here from the specification, and not with the help of `exits`.
"""

from collections.abc import Iterator
from typing import Final

from . import events as e
from .history import History, Seen, TaskFacts
from .judging import Invariant, invariant
from .specs import DependencyAction, ExitConditions, ExitOptions, JobAction, JobSpec

NOTHING_SAID: Final = ExitOptions()


@invariant(e.TaskCompleted, rule="semantics 3.2; core/exits.py")
def ends_have_what_exit_conditions_say(history: History, seen: Seen) -> Iterator[str]:
    """What follows from the end of a task is what its exit conditions say: of the exit code first, then of files that could not be had or
    uploaded, then by default; nothing follows from an end on request.
    """
    event = seen.event
    if not isinstance(event, e.TaskCompleted) or (job := history.jobs.get(event.job)) is None or (task := job.tasks.get(event.task)) is None:
        return
    expected = _expected(job.spec, task, good=event.result == "success")
    if expected != (event.dependency_action, event.job_action):
        yield f"task {event.task} of job {event.job} ended with {event.dependency_action}, {event.job_action}, and should with {expected}"


OF_ENDS: Final[tuple[Invariant, ...]] = (ends_have_what_exit_conditions_say,)


def _expected(job: JobSpec, task: TaskFacts, *, good: bool) -> tuple[DependencyAction | None, JobAction]:
    said = _said(task.spec.exit_conditions or ExitConditions(), task)
    if said is None or job.on_task_failure == "noaction":
        return said.dependency_action if said is not None else None, "none"
    return said.dependency_action, said.job_action or ("none" if good else "terminate")


def _said(conditions: ExitConditions, task: TaskFacts) -> ExitOptions | None:
    """What is said of the end that was seen, None for one on request."""
    match task.outcome:
        case e.ExecutionEnded(stopped=False) as ended:
            return _said_of_exit(conditions, ended)
        case e.ExecutionNeverRan(failure=failure) if failure is not None:
            return conditions.pre_processing_error or conditions.default or NOTHING_SAID
        case None:
            return None
        case _ if task.stop == "complete" and not task.limited:
            return None
        case _:  # over a limit in time, or lost too often
            return conditions.default or NOTHING_SAID


def _said_of_exit(conditions: ExitConditions, ended: e.ExecutionEnded) -> ExitOptions:
    exact = [one.exit_options for one in conditions.exit_codes if one.code == ended.exit_code]
    within = [one.exit_options for one in conditions.exit_code_ranges if ended.exit_code in range(one.start, one.end + 1)]
    if exact or within:
        return (exact + within)[0]
    if ended.upload_failure is not None:
        return conditions.file_upload_error or conditions.default or NOTHING_SAID
    return conditions.default if ended.exit_code != 0 and conditions.default is not None else NOTHING_SAID
