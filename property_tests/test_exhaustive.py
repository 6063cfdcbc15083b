"""Exhaustive small worlds: all holds in every state, what is merged is the same, and a planted bug is found with the shortest story."""

import json
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
from planted_core import releases_do_not_wait_for_tasks
from planting import around, swapped

from jobledger.core import events as e
from jobledger.core import evolve, job, owed, placement, preparation, specs
from jobledger.core import history as h
from jobledger.core import requests as q
from jobledger.core import world as w
from jobledger.testing import exhaustive, exhaustive_forms, exhaustive_steps
from jobledger.testing.exhaustive import Counterexample, Wish, explore, main
from jobledger.testing.exhaustive_forms import LEFT_OUT, UNORDERED, copy_of, digest
from jobledger.testing.exhaustive_steps import PROGRESS, SmallStage
from jobledger.testing.exhaustive_worlds import SMALL_WORLDS, WORLDS
from jobledger.testing.stage import Stage

SMALL, TWO_NODES, FAULTS = SMALL_WORLDS
PLAIN = attrs.evolve(SMALL, name="plain", exit_codes={}, wishes=(), crashes=0)


@pytest.mark.parametrize("bounds", SMALL_WORLDS, ids=lambda bounds: bounds.name)
def test_small_worlds_hold_in_every_state_and_come_to_their_end(bounds):
    found = explore(bounds)
    assert found.states > 100
    assert found.transitions > found.states
    assert 0 < found.resting < found.states
    assert found.over


@pytest.mark.parametrize("bounds", SMALL_WORLDS, ids=lambda bounds: bounds.name)
def test_states_that_are_merged_lead_to_the_same_states(bounds):
    assert explore(bounds, compare=4).compared == 4


def test_symmetry_saves_states_and_loses_none_of_what_happens():
    with_it, without = explore(TWO_NODES), explore(TWO_NODES, symmetric=False)
    assert with_it.states < without.states * 0.8
    assert with_it.rows == without.rows


def test_progress_is_told(monkeypatch):
    told = []
    monkeypatch.setattr(exhaustive, "PROGRESS_EVERY", 100)
    found = explore(TWO_NODES, progress=lambda so_far: told.append(so_far.states))
    assert told == sorted(told)
    assert len(told) == found.states // 100


# --- it can fail ----------------------------------------------------------------------------------------------


def test_a_broken_invariant_is_found_with_the_shortest_story():
    bounds = attrs.evolve(PLAIN, wishes=(Wish(request=q.TerminateJob(job="a")),))
    with releases_do_not_wait_for_tasks(), pytest.raises(Counterexample, match="release") as found:
        explore(bounds)
    assert "TerminateJob(job='a')" in found.value.story
    assert len(found.value.story) == len(found.value.steps) < 10
    assert str(found.value).endswith(found.value.story[-1])


def test_a_lost_command_that_is_never_issued_again_is_a_dead_end():
    with swapped(owed, "reissue", lambda _world: None), pytest.raises(Counterexample, match=r"a dead end: .* nothing is under way") as found:
        explore(attrs.evolve(PLAIN, crashes=1))
    assert found.value.story == (
        "the engine dies, what was under way is lost, and another one recovers",
        "NodeReady(node='p-1', boot_id='boot-1') arrives",
    )


def test_a_task_that_is_never_placed_again_is_a_dead_end():
    """Not only in the state itself: whatever led there is a way to no end."""
    placed_once = around(placement, "_choose", lambda choose, *of: None if of[3].launches else choose(*of))
    with placed_once, swapped(Stage, "_judge_world", lambda *_: None), pytest.raises(Counterexample):
        explore(attrs.evolve(PLAIN, exit_codes={"task": (0, 1)}))


def test_what_is_run_again_for_ever_is_a_livelock():
    """A preparation that fails is run again and again: every state is fine, and there is no end to them."""

    def again(of_job, node, _exit_code, _failure):
        yield e.PreparationDue(job=of_job.id, node=node, cause="once more")
        yield from preparation.return_tasks(of_job, node, "once more")

    with ExitStack() as planted:
        planted.enter_context(swapped(preparation, "_failed", again))
        planted.enter_context(swapped(SmallStage, "_record", unjudged))
        with pytest.raises(Counterexample, match="a livelock") as found:
            explore(attrs.evolve(PLAIN, exit_codes={"preparation": (0, 1)}))
    assert all(step.verb in PROGRESS for step in found.value.steps)


def unjudged(stage, event):
    """Record an event and ask no invariant: here it is the ways between states that are judged."""
    evolve.evolve(stage.shadow, event, stage.now)
    stage.log.append((event, stage.now))
    stage.batch.append(event)


def test_a_stale_report_that_is_believed_is_found():
    """What is said of an execution that is over is taken for what became of the one that now is in its place."""

    def believing(right, of, stimulus, now):
        number = getattr(stimulus, "execution", None)
        if number is not None and number not in of.executions and of.executions:
            stimulus = attrs.evolve(stimulus, execution=min(of.executions))
        return right(of, stimulus, now)

    with around(exhaustive_steps, "decide", believing), pytest.raises(Counterexample, match="stale and was not ignored"):
        explore(PLAIN)


def test_a_change_that_no_event_tells_of_is_found():
    """A request that is refused, and changes something all the same."""

    def refusing(right, of, request):
        for found in of.jobs.values():
            found.satisfied.add("t1")
        return right(of, request)

    bounds = attrs.evolve(PLAIN, wishes=(Wish(request=q.TerminateJob(job="no-such-job")),))
    with around(job, "terminate", refusing), pytest.raises(Counterexample, match="no event tells of it"):
        explore(bounds)


def test_a_form_that_leaves_out_too_much_is_found_by_comparing(monkeypatch):
    """Whether a task was retried decides whether it is retried again."""
    for place in ((w.Task, "retries"), (h.TaskFacts, "retries"), (h.TaskFacts, "failures")):
        monkeypatch.setitem(LEFT_OUT, place, "a bug")
    monkeypatch.setattr(exhaustive_forms, "_FORMERS", {})
    spec, tasks = PLAIN.jobs[0]
    twice = attrs.evolve(spec, constraints=attrs.evolve(spec.constraints, max_task_retry_count=2))
    with pytest.raises(Counterexample, match="leads elsewhere"):
        explore(attrs.evolve(PLAIN, jobs=((twice, tasks),), exit_codes={"task": (0, 1)}), compare=10_000)


# --- forms and copies -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [*LEFT_OUT, *UNORDERED], ids=lambda place: f"{place[0].__name__}.{place[1]}")
def test_what_forms_treat_specially_is_there(place):
    owner, name = place
    assert name in attrs.fields_dict(owner)


def test_a_step_leaves_the_state_that_it_is_taken_from_as_it_was():
    stage = SmallStage(SMALL)
    state, symmetry = stage.begin(), SMALL.symmetry
    stage.hasty = True
    for _ in range(12):
        before = digest(state, symmetry)
        steps = list(stage.steps(state))
        after = [stage.after(state, step) for step in steps]
        assert digest(state, symmetry) == before
        assert digest(copy_of(state), symmetry) == before
        state = next(one for one in after if one is not None)


def test_what_forms_cannot_tell_apart_is_refused():
    with pytest.raises(ValueError, match="PatchJob changes what forms leave out"):
        explore(attrs.evolve(PLAIN, wishes=(Wish(request=q.PatchJob(job="a", priority=1)),)))
    twice = attrs.evolve(PLAIN, jobs=(*PLAIN.jobs, (attrs.evolve(PLAIN.jobs[0][0], id="b"), PLAIN.jobs[0][1])))
    with pytest.raises(ValueError, match="two tasks have the same id"):
        explore(twice)


def test_too_many_states_are_refused(monkeypatch):
    monkeypatch.setattr(exhaustive, "STATES_MAX", 100)
    with pytest.raises(ValueError, match="more than 100 states"):
        explore(SMALL)


def test_what_is_named_is_not_interchangeable():
    named = attrs.evolve(TWO_NODES, wishes=(Wish(request=q.RebootNode(node="p-1")), Wish(request=q.DeleteTask(job="a", task="t1"))))
    assert TWO_NODES.symmetry.nodes == ("p-1", "p-2")
    assert TWO_NODES.symmetry.groups == (("a", ("t1", "t2")),)
    assert named.symmetry.nodes == ()
    assert named.symmetry.groups == (("a", ("t2",)),)
    wish = specs.AffinityInfo(affinity_id="p-2")
    job, tasks = TWO_NODES.jobs[0]
    assert attrs.evolve(TWO_NODES, jobs=((job, tuple(attrs.evolve(task, affinity_info=wish) for task in tasks)),)).symmetry.nodes == ()


# --- the command ----------------------------------------------------------------------------------------------


def test_the_command_prints_what_was_explored(capsys):
    assert main(["small-two-nodes", "--small"]) == 0
    assert "1 worlds: " in capsys.readouterr().out
    assert main(["small-two-nodes", "--small", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["worlds"]["small-two-nodes"]["states"] > 100


def test_the_command_lists_the_worlds_and_knows_no_others(capsys):
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.count("\n") == len(WORLDS)
    assert main(["no-such-world"]) == 2
    assert "there is no world no-such-world" in capsys.readouterr().err


def test_every_world_of_make_verify_is_published():
    page = (Path(__file__).parents[1] / "docs/explanation/exhaustive-worlds.md").read_text(encoding="utf-8")
    missing = [bounds.name for bounds in WORLDS if f"| `{bounds.name}`: {bounds.about} |" not in page]
    assert not missing
    assert len({bounds.name for bounds in (*WORLDS, *SMALL_WORLDS)}) == len(WORLDS) + len(SMALL_WORLDS)


def test_the_command_tells_the_story_of_what_does_not_hold(capsys):
    with swapped(owed, "reissue", lambda _world: None):
        assert main(["--small", "small"]) == 1
    assert "   1. the engine dies" in capsys.readouterr().err
