"""Retelling: moves, findings, and what follows after an event that cannot be."""

import pytest

from jobledger.core.events import (
    EngineStarted,
    ExecutionConfirmed,
    JobCompleted,
    NodeBooted,
    ReleaseOwed,
    TaskCompleted,
    TaskRunning,
)
from jobledger.core.requests import CreatePool, SubmitJob
from jobledger.core.specs import FinalizerSpec, JobSpec, PoolInfo, PoolSpec, PreparationSpec, ReleaseSpec, TaskSpec
from jobledger.retelling import FOLD, entity_of, retell
from jobledger.testing.ledgers import ledger_of
from jobledger.testing.scenario import Scenario


@pytest.fixture
def log():
    """A whole job, from its pool to its end."""
    s = Scenario()
    s.finish(CreatePool(spec=PoolSpec(id="p")))
    job = JobSpec(
        id="j",
        pool_info=PoolInfo(pool_id="p"),
        on_all_tasks_complete="terminatejob",
        job_preparation_task=PreparationSpec(command_line="prepare"),
        job_release_task=ReleaseSpec(command_line="release"),
        job_finalizer_task=FinalizerSpec(command_line="finish"),
    )
    s.finish(SubmitJob(spec=job, tasks=(TaskSpec(id="t", command_line="work"),)))
    return [(event, at) for event, at in s.log]


def told(log):
    return list(retell(ledger_of(log)))


def where(log, kind):
    return next(number for number, (event, _) in enumerate(log) if isinstance(event, kind))


def test_a_clean_story_has_every_event_and_no_findings(log):
    story = told(log)
    assert [one.recorded.event for one in story] == [event for event, _ in log]
    assert all(one.folds and not one.findings for one in story)


def test_moves_are_those_of_the_tables_and_what_stays_is_no_move(log):
    story = told(log)
    by_kind = {type(one.recorded.event): [(move.machine, move.entity, move.source, move.target) for move in one.moves] for one in story}
    assert by_kind[TaskRunning] == [("task", "j/t", "preparing", "running")]
    assert by_kind[NodeBooted] == []
    assert by_kind[JobCompleted] == [("job", "j", "terminating", "completed")]
    finalizer = [move for one in story for move in one.moves if move.machine == "finalizer"]
    assert [(move.entity, move.source, move.target) for move in finalizer] == [("j", "absent", "running"), ("j", "running", "completed")]


def test_what_breaks_an_invariant_is_found_where_it_does(log):
    number = where(log, ReleaseOwed)
    story = told([*log[:number], *log[number + 1 :]])
    findings = [finding for one in story for finding in one.findings]
    assert {finding.invariant for finding in findings} > {FOLD}
    assert all(finding.sentence.endswith(".") and finding.text and finding.entity for finding in findings)
    assert [finding.position for finding in findings] == sorted(finding.position for finding in findings)


def test_after_an_event_that_cannot_be_the_rest_is_judged_by_events(log):
    number = where(log, TaskRunning)
    doubled = [*log[: number + 1], log[number], *log[number + 1 :]]
    story = told(doubled)
    assert [one.recorded.event for one in story] == [event for event, _ in doubled]
    assert [one.folds for one in story] == [True] * (number + 1) + [False] * (len(story) - number - 1)
    first, *others = story[number + 1].findings
    assert (first.invariant, first.position, first.entity) == (FOLD, number + 2, "task j/t")
    assert first.text == "task t of job j is running: task.running cannot happen to it"
    assert "only_moves_of_the_tables" in {finding.invariant for finding in others}
    assert all(finding.invariant != FOLD for one in story[number + 2 :] for finding in one.findings)


def test_what_is_wrong_after_the_fold_has_stopped_is_still_found(log):
    number = where(log, TaskRunning)
    end = where(log, JobCompleted)
    at = log[-1][1]
    again = ExecutionConfirmed(execution=1, job="j", task="jobpreparation", node="p-1", pid=1)
    story = told([*log[: number + 1], log[number], *log[number + 1 : end + 1], (again, at)])
    assert any(finding.invariant == "what_ended_stays_ended" for finding in story[-1].findings)


@pytest.mark.parametrize(
    ("event", "entity"),
    [
        (EngineStarted(version="1", host="h", pid=1, epoch=1), "engine"),
        (NodeBooted(node="p-1", boot_id="b"), "node p-1"),
        (TaskCompleted(job="j", task="t", result="success", exit_code=0, failure=None), "task j/t"),
    ],
)
def test_an_event_is_about_a_thing(event, entity):
    assert entity_of(event) == entity
