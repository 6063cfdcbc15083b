"""Planted bugs in limits: delays between retries, silence, and what is run again unasked."""

from contextlib import AbstractContextManager
from typing import Any

from planting import PLAIN, Planted, around, fold

from jobledger.core import events as e
from jobledger.core import execution, task
from jobledger.core import reports as r
from jobledger.core import specs as s
from jobledger.core.ids import SECOND
from jobledger.core.world import World
from jobledger.testing.trail import Trail


def one(**constraints: Any) -> Trail:
    """A trail with one task of these constraints under way."""
    return Trail(job=PLAIN, tasks=(s.TaskSpec(id="t", command_line="work", constraints=s.TaskConstraints(**constraints)),)).arrive()


def woken() -> Trail:
    """A try fails, and the time of the next one comes."""
    trail = one(max_task_retry_count=2, retry_delay=1000 * SECOND).exit(1)
    trail.wake()
    return trail


def silent(length: int) -> Trail:
    trail = one(silent_timeout=1000 * SECOND)
    trail.take(r.ExecutionSilent(execution=trail.executor.running()[0], silent_for=length))
    return trail


def stopped_unasked() -> Trail:
    """The program is stopped by its executor, whatever takes its place."""
    trail = one()
    while running := trail.executor.running():
        trail.executor.end(running[0], 143, stopped=True)
        trail.arrive()
    return trail


def retries_do_not_wait() -> AbstractContextManager[None]:
    return around(task, "retry_delay", lambda right, *given: right(*given) // 2)


def the_first_silence_ends_it() -> AbstractContextManager[None]:
    return around(execution, "silent_limit", lambda right, *given: None if right(*given) is None else SECOND)


def _forget_the_count(of: World, event: e.TaskRequeued) -> None:
    of.task(event.job, event.task).internal = 0


CATALOGUE = [
    Planted(
        name="a retry after half of its delay",
        rare=True,
        caught_by="no_retry_comes_early",
        bug=retries_do_not_wait,
        script=woken,
    ),
    Planted(
        name="a program is ended for the first silence",
        rare=True,
        caught_by="no_silence_without_its_limit",
        bug=the_first_silence_ends_it,
        script=lambda: silent(2 * SECOND),
    ),
    Planted(
        name="what an executor stops unasked is run again for ever",
        rare=True,
        caught_by="what_executors_lose_is_not_repeated_for_ever",
        bug=lambda: fold(e.TaskRequeued, _forget_the_count),
        script=stopped_unasked,
    ),
]
