"""What holds of limits: of time between tries, of silence, and of how often something is run again unasked; invariants, see `invariants`."""

from collections.abc import Iterator
from typing import Final

from . import events as e
from . import limits
from .history import History, Seen
from .judging import Invariant, invariant
from .subjects import key_of


@invariant(e.TaskRetryDue, e.TaskPreparing, e.TaskRunning, rule="core/task.py, rule 2")
def no_retry_comes_early(history: History, seen: Seen) -> Iterator[str]:
    """After a failed try a task is placed again only when the delay that its constraints ask for has passed."""
    event = seen.event
    if not isinstance(event, e.TaskRetryDue | e.TaskPreparing | e.TaskRunning) or (task := history.task(event.job, event.task)) is None:
        return
    if task.not_before is not None and seen.at < task.not_before:
        yield f"task {event.task} of job {event.job} may be tried again at {task.not_before}, and it is {seen.at}"


@invariant(e.ExecutionStopRequested, rule="core/specs.py: TaskConstraints")
def no_silence_without_its_limit(history: History, seen: Seen) -> Iterator[str]:
    """Nothing is ended for its silence that has no `silentTimeout`, that nobody saw start, or that its executor saw silent for less time."""
    event = seen.event
    if not isinstance(event, e.ExecutionStopRequested) or event.cause != "silentTimeout" or (live := history.executions.get(event.execution)) is None:
        return
    limit = history.silent_limit(live.requested)
    if limit is None:
        yield f"execution {event.execution} may be silent"
    elif live.confirmed_at is None:
        yield f"execution {event.execution} is ended for its silence, and nobody saw it start"
    elif event.silent_for is None:
        if seen.at < live.requested_at + limit:  # Ledgers that do not tell for how long it was.
            yield f"execution {event.execution} was requested at {live.requested_at}, may be silent for {limit} and is ended at {seen.at}"
    elif event.silent_for < limit:  # By its executor's clock: a start may be recorded late, and ours may step back.
        yield f"execution {event.execution} may be silent for {limit} and is ended after {event.silent_for}"


@invariant(
    e.TaskRequeued,
    e.PreparationDue,
    e.ReleaseInterrupted,
    e.FinalizerInterrupted,
    e.StartTaskInterrupted,
    rule="core/limits.py: INTERNAL_RETRIES_MAX",
)
def what_executors_lose_is_not_repeated_for_ever(history: History, seen: Seen) -> Iterator[str]:
    """What its executor lost or stopped unasked is run again only so many times in a row."""
    event = seen.event
    if (
        isinstance(event, e.TaskRequeued | e.PreparationDue | e.ReleaseInterrupted | e.FinalizerInterrupted | e.StartTaskInterrupted)
        and event.internal
    ):
        times = history.internal.get(key_of(event), 0)
        if times >= limits.INTERNAL_RETRIES_MAX:
            yield f"{' '.join(key_of(event))} was run again {times} times in a row before"


OF_LIMITS: Final[tuple[Invariant, ...]] = (no_retry_comes_early, no_silence_without_its_limit, what_executors_lose_is_not_repeated_for_ever)
