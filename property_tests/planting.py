"""How a bug is planted and watched, and the small jobs that scripts are made of; the bugs are in `planted_*`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import attrs

from jobledger.core import advance as advancing
from jobledger.core import events as e
from jobledger.core import evolve, world
from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.core.errors import ImpossibleEvent
from jobledger.core.invariants import Auditor, Violation
from jobledger.testing.stage import Broken, Stage
from jobledger.testing.trail import Trail

# --- how a bug is planted and watched -------------------------------------------------------------------------


@contextmanager
def swapped(place: Any, name: Any, wrong: Any) -> Iterator[None]:
    """Something of a module, or of the table of folds, is another thing for a while."""
    if isinstance(place, dict):
        right, place[name] = place[name], wrong
    else:
        right = getattr(place, name)
        setattr(place, name, wrong)
    try:
        yield
    finally:
        if isinstance(place, dict):
            place[name] = right
        else:
            setattr(place, name, right)


class Watch:
    """Judges each event as it is decided, so that what the fold cannot swallow is judged too."""

    def __init__(self) -> None:
        self.auditor = Auditor()
        self.first: list[Violation] = []

    def evolve(self, of: world.World, event: e.Event, at: Any) -> None:
        try:
            evolve.evolve(of, event, at)
        except ImpossibleEvent:
            self.see(event, at)
            raise
        self.see(event, at, of)

    def see(self, event: e.Event, at: Any, of: world.World | None = None, position: int | None = None) -> None:
        found = self.auditor.see(event, at, of, position)
        self.first = self.first or found


@attrs.frozen(kw_only=True)
class Planted:
    """`bug` is in force while `script` runs; or `doctor` makes a wrong history of the right one that `script` leads to."""

    name: str
    caught_by: str
    script: Callable[[], Trail | None]
    bug: Callable[[], AbstractContextManager[None]] = nullcontext
    doctor: Callable[[list[e.Event]], list[e.Event]] | None = None
    rare: bool = False
    """Walks need more tries to come upon it than a test should take."""

    def caught(self) -> set[str]:
        watch = Watch()
        if self.doctor is not None:
            trail = self.script()
            assert trail is not None
            for event in self.doctor([event for event, _ in trail.log]):
                watch.see(event, trail.now)
        else:
            try:
                with self.bug(), swapped(advancing, "evolve", watch.evolve), swapped(Stage, "_judge_world", lambda *_: None):
                    self.script()
            except (Broken, ImpossibleEvent):
                pass  # Here it is the invariants alone that count.
        return {violation.invariant for violation in watch.first}


# --- scripts --------------------------------------------------------------------------------------------------


def a_job(*, prep: Any = True, release: Any = True, **more: Any) -> s.JobSpec:
    preparation = s.PreparationSpec(command_line="prepare") if prep is True else prep or None
    return s.JobSpec(
        id="j",
        pool_info=s.PoolInfo(pool_id="p"),
        job_preparation_task=preparation,
        job_release_task=s.ReleaseSpec(command_line="release") if release and preparation else None,
        **more,
    )


def retried(times: int) -> s.JobConstraints:
    return s.JobConstraints(max_task_retry_count=times)


TERMINATE = q.TerminateJob(job="j")
PLAIN = a_job(prep=False)


def depending(task: Any, *others: Any) -> s.TaskSpec:
    return s.TaskSpec(id=task, command_line="work", depends_on=s.TaskDependencies(task_ids=others))


# --- wrong rules and folds ------------------------------------------------------------------------------------


def fold(event: type[e.Event], *after: Callable[[world.World, Any], None], instead: bool = False) -> AbstractContextManager[None]:
    """The fold of an event does something more, or only that."""
    right = evolve._FOLD[event]

    def wrong(of: world.World, happened: Any, at: Any) -> None:
        if not instead:
            right(of, happened, at)
        for more in after:
            more(of, happened)

    return swapped(evolve._FOLD, event, wrong)


def around(module: Any, name: str, wrap: Callable[..., Any]) -> AbstractContextManager[None]:
    """A rule is replaced by `wrap`, which is given the right one first."""
    right = getattr(module, name)
    return swapped(module, name, lambda *arguments, **named: wrap(right, *arguments, **named))


def after(*more: e.Event) -> Callable[[list[e.Event]], list[e.Event]]:
    return lambda events: [*events, *more]
