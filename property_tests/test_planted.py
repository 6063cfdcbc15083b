"""Every invariant is able to fail: a catalogue of planted bugs, each caught by exactly the invariant that speaks of it.

A planted bug is a rule or a fold that was swapped for a wrong one while a short script runs, or a history that was doctored.
What is compared is the first event that anything objects to, with the set of invariants that object to it.
"""

import attrs
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from planted import CATALOGUE
from planted_core import (
    deleting_runs_releases_again,
    every_mark_opens_every_scope,
    reimaged,
    releases_do_not_wait_for_tasks,
    terminated_while_preparing,
    terminated_while_running,
    to_the_end,
)
from planted_finalizer import (
    abandoned_releases_are_made_up_for,
    back_while_finishing,
    deleting_runs_finalizers_again,
    finalizers_do_not_wait,
    finished_while_running,
    to_the_finish,
)
from planting import PLAIN, TERMINATE, Watch, a_job, around, swapped

from jobledger.core import advance as advancing
from jobledger.core import events as e
from jobledger.core import evolve, preparation
from jobledger.core import execution as executions
from jobledger.core import specs as s
from jobledger.core.errors import ImpossibleEvent
from jobledger.core.invariants import INVARIANTS
from jobledger.testing.stage import Broken, Stage
from jobledger.testing.trail import Trail
from jobledger.testing.walks import CoreWalk


@pytest.mark.parametrize("planted", CATALOGUE, ids=lambda planted: planted.name)
def test_a_planted_bug_is_caught_by_the_invariant_that_speaks_of_it(planted):
    assert planted.caught() == {planted.caught_by}


@pytest.mark.parametrize("planted", CATALOGUE, ids=lambda planted: planted.name)
def test_without_its_bug_the_same_script_is_clean(planted):
    watch = Watch()
    with swapped(advancing, "evolve", watch.evolve):
        try:
            planted.script()
        except AssertionError as refused:
            assert "led to nothing" in str(refused)  # noqa: PT017 - the bug is what made something of it
    assert not watch.first


@pytest.mark.parametrize("planted", [one for one in CATALOGUE if one.doctor is None and not one.rare], ids=lambda planted: planted.name)
def test_walks_come_upon_planted_bugs(planted, walking):
    """Not only scripts that know where to look: the judges of a walk find the bug, whichever of them is the first."""
    with planted.bug(), pytest.raises((AssertionError, ImpossibleEvent)):
        # Many tries cost nothing where one of the first finds it, and spare the unlucky, who change with every rule that walks are given.
        run_state_machine_as_test(CoreWalk, settings=settings(walking, max_examples=1_500, phases=[Phase.generate], database=None))


def unjudged(stage: Stage, event: e.Event) -> None:
    """Record an event and ask no invariant."""
    evolve.evolve(stage.shadow, event, stage.now)
    stage.log.append((event, stage.now))


ANN = s.UserIdentity(username="ann")
JOB_AS_ANN = a_job(prep=s.PreparationSpec(command_line="prepare", user_identity=ANN))


def everything_runs_as_the_engine():
    """The command forgets as which user it is to run."""
    return around(executions, "_launch", lambda launch, *arguments: attrs.evolve(launch(*arguments), user=None))


WITNESSED = [
    (every_mark_opens_every_scope, terminated_while_preparing, "not in its scope"),
    (deleting_runs_releases_again, to_the_end, "a second time"),
    (releases_do_not_wait_for_tasks, terminated_while_running, "while others of the job run"),
    (lambda: swapped(preparation, "spoil", lambda *_, **__: iter(())), reimaged, "not prepared"),
    (lambda: swapped(preparation, "awaited", lambda *_: False), lambda: Trail(job=a_job()), "not prepared"),
    (everything_runs_as_the_engine, lambda: Trail(job=JOB_AS_ANN), "is to run as None and not as UserIdentity"),
    (finalizers_do_not_wait, finished_while_running, "while others of the job run"),
    (deleting_runs_finalizers_again, to_the_finish, "a second time"),
    (abandoned_releases_are_made_up_for, back_while_finishing, "after its finalizer"),
]


@pytest.mark.parametrize(("bug", "script", "complaint"), WITNESSED, ids=lambda part: part if isinstance(part, str) else "")
def test_the_executor_is_a_witness_of_its_own(bug, script, complaint):
    """What the invariants say of the ledger, the model executor says of what really ran."""
    with bug(), swapped(Stage, "_judge_world", lambda *_: None), swapped(Stage, "_record", unjudged), pytest.raises(Broken, match=complaint):
        script().arrive()


def test_a_release_that_the_ledger_tells_of_and_that_never_ran_is_found():
    trail = Trail(job=a_job()).exit(0, 0).do(TERMINATE).exit(0)
    trail.judge_record()
    trail.executor.released.clear()
    with pytest.raises(Broken, match="the ledger tells of releases"):
        trail.judge_record()


def test_what_never_comes_to_rest_is_found():
    trail = Trail(job=PLAIN).arrive()
    with swapped(trail, "drain", lambda: None), pytest.raises(Broken, match="nothing is under way"):
        trail.rest()


def test_a_gap_in_the_positions_is_caught():
    watch = Watch()
    for position, (event, at) in zip((1, 2, 4), to_the_end().log, strict=False):
        watch.see(event, at, None, position)
    assert {violation.invariant for violation in watch.first} == {"positions_have_no_gaps"}


def test_every_invariant_has_a_planted_bug():
    caught = {planted.caught_by for planted in CATALOGUE} | {"positions_have_no_gaps"}
    assert {invariant.name for invariant in INVARIANTS} == caught


def test_every_invariant_says_what_it_means():
    for invariant in INVARIANTS:
        assert invariant.sentence.endswith(".")
        assert invariant.rule
        assert invariant.on
