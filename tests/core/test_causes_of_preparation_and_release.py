"""The ledger says why a preparation or a release ended, was cut short or is due again, and with which code."""

import pytest

from jobledger.core import events as e
from jobledger.core.failure import FailureInfo, ended_failure, exit_code_failure, internal_retries_failure, silent_failure, unknown_outcome_failure
from jobledger.core.ids import SECOND
from jobledger.core.limits import INTERNAL_RETRIES_MAX
from jobledger.core.reports import ExecutionExited, ExecutionNotStarted, ExecutionSilent
from jobledger.core.requests import DisableJob, RebootNode, TerminateJob
from jobledger.core.specs import FinalizerSpec, PreparationSpec, TaskConstraints
from jobledger.testing.scenario import Hangs

PLACE = {"job": "j", "node": "p-1"}
NO_SPACE = FailureInfo(category="usererror", code="FileUploadMiscError", message="no space")
LOST = "its record is gone"


def preparing(given, **prep):
    s = given(prep=PreparationSpec(command_line="prepare", **prep), script={"jobpreparation": Hangs()})
    s.run()
    return s


def releasing(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    return s


# --- preparation ----------------------------------------------------------------------------------------------


def test_a_preparation_that_the_end_of_its_job_stops(given):
    s = preparing(given)
    s.when(TerminateJob(job="j", reason="enough"))
    failure = ended_failure("the job was terminated: enough")
    assert e.PreparationCompleted(**PLACE, result="failure", exit_code=143, failure=failure) in s.answer("preparation", "stopped", 143)


@pytest.mark.parametrize("lost", [True, False])
def test_a_preparation_that_an_older_version_stopped_without_a_failure(given, lost):
    s = preparing(given)
    s.given(e.ExecutionStopRequested(execution=1, **PLACE, task="jobpreparation", then="complete", cause="enough"))
    ends = s.answer("preparation", "lost" if lost else "stopped", 0 if lost else 143)
    assert e.PreparationCompleted(**PLACE, result="failure", exit_code=None if lost else 143, failure=ended_failure("enough")) in ends


@pytest.mark.parametrize(("how", "cause"), [("stopped", "the node is rebooting"), ("notstarted", "the node is rebooting"), ("lost", LOST)])
def test_a_preparation_that_goes_down_with_its_node_is_due_again(given, how, cause):
    s = given() if how == "notstarted" else preparing(given)
    s.when(RebootNode(node="p-1"))
    assert e.PreparationDue(**PLACE, cause=cause) in s.answer("preparation", how)


def test_a_preparation_that_its_executor_stops_or_loses_is_due_again(given):
    s = preparing(given)
    assert e.PreparationDue(**PLACE, cause="stopped by the executor", internal=True) in s.answer("preparation", "stopped")
    s.run()
    assert e.PreparationDue(**PLACE, cause=LOST, internal=True) in s.answer("preparation", "lost")


def test_a_preparation_that_is_lost_too_often_fails(given):
    s = preparing(given)
    for _ in range(INTERNAL_RETRIES_MAX):
        s.answer("preparation", "lost")
        s.run()
    events = s.answer("preparation", "lost")
    assert e.PreparationCompleted(**PLACE, result="failure", exit_code=None, failure=internal_retries_failure(LOST)) in events
    assert e.TaskRequeued(job="j", task="t1", cause="preparation failed on the node") in events


def test_losses_are_counted_anew_after_a_try_that_failed_by_itself(given):
    s = preparing(given, constraints=TaskConstraints(max_task_retry_count=1))
    for _ in range(INTERNAL_RETRIES_MAX):
        s.answer("preparation", "lost")
        s.run()
    s.answer("preparation", "exited", 1)
    s.run()
    for _ in range(INTERNAL_RETRIES_MAX):
        s.answer("preparation", "lost")
        s.run()
    assert s.world.jobs["j"].preparations["p-1"].state == "running"


def test_the_world_knows_which_try_of_a_preparation_runs(given):
    s = preparing(given, constraints=TaskConstraints(max_task_retry_count=1))
    s.answer("preparation", "exited", 1)
    assert s.world.jobs["j"].preparations["p-1"].execution == s.live("preparation") == 2


# --- release --------------------------------------------------------------------------------------------------


def test_a_release_that_a_signal_ended_says_which(given):
    s = releasing(given)
    ends = s.when(ExecutionExited(execution=s.live("release"), exit_code=137, signal=9))
    assert e.ReleaseCompleted(**PLACE, result="failure", exit_code=137, failure=exit_code_failure(137, 9)) in ends


def test_a_release_over_its_limit_tells_its_code_and_of_its_outputs(given):
    s = releasing(given)
    (stop,) = s.wake()
    ends = s.when(ExecutionExited(execution=s.live("release"), exit_code=143, signal=15, stopped=True, upload_failure=NO_SPACE))
    over = next(event for event in ends if isinstance(event, e.ReleaseCompleted))
    assert over.exit_code == 143
    assert over.failure.details[0] == stop.failure.details[0]
    assert over.failure.details[-1].value == "FileUploadMiscError: no space"


def test_a_release_that_an_older_version_stopped_without_a_failure(given):
    s = releasing(given)
    s.given(e.ExecutionStopRequested(execution=s.live("release"), **PLACE, task="jobrelease", then="complete", cause="enough"))
    ends = s.answer("release", "stopped", 143)
    assert e.ReleaseCompleted(**PLACE, result="failure", exit_code=143, failure=ended_failure("enough")) in ends


def test_a_release_that_is_cut_short_says_by_what(given):
    s = releasing(given)
    s.when(RebootNode(node="p-1"))
    assert e.ReleaseInterrupted(**PLACE, cause="the node is rebooting") in s.answer("release", "stopped")
    s = releasing(given)
    assert e.ReleaseInterrupted(**PLACE, cause="stopped by the executor", internal=True) in s.answer("release", "stopped")
    s = releasing(given)
    s.when(RebootNode(node="p-1"))
    assert e.ReleaseInterrupted(**PLACE, cause=LOST) in s.answer("release", "lost")


def test_a_release_whose_end_nobody_saw_says_why(given):
    s = releasing(given)
    assert e.ReleaseCompleted(**PLACE, result="failure", exit_code=None, failure=unknown_outcome_failure(LOST)) in s.answer("release", "lost")


def test_a_release_that_is_stopped_too_often_fails_and_its_launches_are_counted(given):
    s = releasing(given)
    for _ in range(INTERNAL_RETRIES_MAX):
        s.answer("release", "stopped")
        s.run()
    release = s.world.jobs["j"].releases["p-1"]
    assert (release.launches, release.execution) == (INTERNAL_RETRIES_MAX + 1, s.live("release"))
    failure = internal_retries_failure("stopped by the executor")
    assert e.ReleaseCompleted(**PLACE, result="failure", exit_code=None, failure=failure) in s.answer("release", "stopped")


# --- launches -------------------------------------------------------------------------------------------------


def test_what_could_not_be_launched_says_why(given):
    s = given()
    failure = FailureInfo(category="usererror", code="CommandProgramNotFound", message="there is no such program")
    events = s.when(ExecutionNotStarted(execution=s.live("preparation"), failure=failure))
    assert events[0] == e.ExecutionNeverRan(execution=1, **PLACE, task="jobpreparation", failure=failure)


def test_a_job_that_is_disabled_leaves_its_preparation_alone(given):
    s = preparing(given)
    assert not [event for event in s.when(DisableJob(job="j", disable_tasks="requeue")) if isinstance(event, e.ExecutionStopRequested)]


def test_a_try_of_a_preparation_that_failed_says_how(given):
    s = preparing(given, constraints=TaskConstraints(max_task_retry_count=1))
    first = s.when(ExecutionExited(execution=s.live("preparation"), exit_code=137, signal=9))
    assert e.PreparationRetried(**PLACE, execution=2, exit_code=137, failure=exit_code_failure(137, 9)) in first
    last = s.when(ExecutionExited(execution=s.live("preparation"), exit_code=137, signal=9))
    assert e.PreparationCompleted(**PLACE, result="failure", exit_code=137, failure=exit_code_failure(137, 9)) in last


def test_a_stop_for_silence_says_how_long_it_may_be(given):
    s = preparing(given, constraints=TaskConstraints(silent_timeout=2 * SECOND))
    (stop,) = s.when(ExecutionSilent(execution=s.live("preparation"), silent_for=2 * SECOND))
    assert (stop.cause, stop.failure) == ("silentTimeout", silent_failure(2 * SECOND))


def test_a_finalizer_waits_for_a_release_on_a_node_that_is_down(given):
    s = given(prep=True, job_finalizer_task=FinalizerSpec(command_line="finish"))
    s.run()
    s.executor.dead.add("p-1")
    s.given(RebootNode(node="p-1"))
    s.finish(TerminateJob(job="j"))
    assert (s.world.jobs["j"].owed, s.launches(task="jobfinalizer")) == ({"p-1": None}, [])
