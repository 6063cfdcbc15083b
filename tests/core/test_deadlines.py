"""Deadlines: limits in time are events decided from `now`."""

import pytest

from jobledger.core.deadlines import next_deadline
from jobledger.core.decide import ClockAdvanced
from jobledger.core.events import JobTerminating
from jobledger.core.ids import SECOND, UNLIMITED_RETENTION
from jobledger.core.requests import DeleteJob, DeleteTask, DisableJob, EnableJob, RebootNode, TerminateJob, TerminateTask
from jobledger.core.specs import JobConstraints, PreparationSpec, ReleaseSpec, TaskConstraints, TaskSpec
from jobledger.testing.scenario import Exits, Hangs, Silent, story

LIMIT = 60 * SECOND


def limited(task="t1", limit=LIMIT):
    return TaskSpec(id=task, command_line="work", constraints=TaskConstraints(max_wall_clock_time=limit))


def test_nothing_limited_means_no_deadline(given):
    s = given(script={"t1": Hangs()})
    s.run()
    assert next_deadline(s.world) is None


def test_a_tasks_limit_counts_from_its_seen_start(given):
    s = given(tasks=(limited(),), prep=False, script={"t1": Silent()})
    s.run()
    assert next_deadline(s.world) is None, "it has not started, as far as anybody knows"
    s.answer("task", "started")
    assert next_deadline(s.world) == s.now + LIMIT


def test_an_early_wake_up_does_nothing_and_one_in_time_stops_the_execution(given):
    s = given(tasks=(limited(),), prep=False, script={"t1": Hangs()})
    s.run()
    start = s.now
    s.ignores(ClockAdvanced())
    s.now = start + LIMIT - 2
    s.ignores(ClockAdvanced())
    assert story(s.when(ClockAdvanced())) == ["execution.stop-requested t1 p-1 complete"]
    assert s.now == start + LIMIT
    s.ignores(ClockAdvanced())
    assert next_deadline(s.world) is None


def test_a_late_wake_up_finds_all_that_is_due(given):
    s = given(
        slots=3, tasks=(limited("a"), limited("b", 2 * LIMIT), limited("c", 9 * LIMIT)), prep=False, script={"a": Hangs(), "b": Hangs(), "c": Hangs()}
    )
    s.run()
    assert story(s.pass_time(3 * LIMIT)) == ["execution.stop-requested a p-1 complete", "execution.stop-requested b p-1 complete"]
    assert next_deadline(s.world) is not None


def test_each_try_has_the_whole_limit(given):
    spec = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_wall_clock_time=LIMIT, max_task_retry_count=1))
    s = given(tasks=(spec,), prep=False, script={"t1": Hangs()})
    s.run()
    s.pass_time(LIMIT // 2)
    s.answer("task", "exited", 1)
    s.run()
    assert next_deadline(s.world) == s.now + LIMIT


def test_a_preparations_limit(given):
    prep = PreparationSpec(command_line="prepare", constraints=TaskConstraints(max_wall_clock_time=LIMIT))
    s = given(prep=prep, script={"jobpreparation": Hangs()})
    s.run()
    assert story(s.pass_time(LIMIT)) == ["execution.stop-requested jobpreparation p-1 complete"]
    s.run()
    assert s.world.jobs["j"].preparations["p-1"].failure.code == "TaskEnded"


@pytest.mark.parametrize(("release", "limit"), [(True, 15 * 60 * SECOND), (ReleaseSpec(command_line="x", max_wall_clock_time=LIMIT), LIMIT)])
def test_a_releases_limit_is_15_minutes_unless_it_says_less(given, release, limit):
    s = given(release=release, script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert next_deadline(s.world) == s.now + limit
    s.wake()
    s.run()
    assert s.world.jobs["j"].releases["p-1"].result == "failure"
    assert s.world.jobs["j"].state == "completed"


@pytest.mark.parametrize("state", ["active", "disabling", "disabled"])
def test_a_jobs_limit_counts_from_its_creation_and_terminates_it(given, state):
    s = given(constraints=JobConstraints(max_wall_clock_time=LIMIT), script={"t1": Hangs()})
    created = s.now
    s.run()
    if state != "active":
        s.when(DisableJob(job="j", disable_tasks="requeue"))
    if state == "disabled":
        s.run()
    assert s.world.jobs["j"].state == state
    assert next_deadline(s.world) == created + LIMIT
    assert story(s.wake())[0] == "job.terminating j"
    assert s.world.jobs["j"].terminate_reason == "MaxWallClockTimeExpiry"
    s.run()
    assert s.world.jobs["j"].state == "completed"
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


@pytest.mark.parametrize("request_of", [lambda: TerminateJob(job="j"), lambda: DeleteJob(job="j")])
def test_a_job_that_is_over_or_ending_has_no_limit_any_more(given, request_of):
    s = given(constraints=JobConstraints(max_wall_clock_time=LIMIT, retention_time=UNLIMITED_RETENTION), prep=False, script={"t1": Hangs()})
    s.run()
    s.when(request_of())
    assert next_deadline(s.world) is None
    s.run()
    assert next_deadline(s.world) is None
    assert s.pass_time(2 * LIMIT) == []


def test_an_execution_that_ended_or_was_stopped_for_good_has_no_limit_any_more(given):
    s = given(tasks=(limited(),), prep=False, script={"t1": Hangs()})
    s.run()
    s.when(TerminateTask(job="j", task="t1"))
    assert next_deadline(s.world) is None


def test_one_that_was_only_asked_to_requeue_still_has_its_limit(given):
    s = given(tasks=(limited(),), prep=False, script={"t1": [Hangs(), Exits(0)]})
    s.run()
    s.when(RebootNode(node="p-1"))
    assert story(s.wake()) == ["execution.stop-requested t1 p-1 complete"]
    s.run()
    assert s.world.task("j", "t1").failure.code == "TaskEnded"


def test_a_job_whose_limit_and_a_tasks_limit_pass_together_ends_once(given):
    s = given(tasks=(limited(),), prep=False, constraints=JobConstraints(max_wall_clock_time=LIMIT), script={"t1": Hangs()})
    s.run()
    told = story(s.pass_time(2 * LIMIT))
    assert told == ["job.terminating j", "execution.stop-requested t1 p-1 complete"]


@pytest.mark.parametrize("state", ["active", "disabling", "disabled", "enabling"])
def test_a_jobs_limit_ends_it_in_any_state_that_is_no_end(given, state):
    s = given(prep=False, script={"t1": Hangs()}, constraints=JobConstraints(max_wall_clock_time=LIMIT))
    s.run()
    if state != "active":
        s.when(DisableJob(job="j", disable_tasks="wait" if state == "disabling" else "requeue"))
    if state == "disabled":
        s.run()
    if state == "enabling":
        s.when(EnableJob(job="j"))
    assert s.world.jobs["j"].state == state
    assert s.wake()[0] == JobTerminating(job="j", reason="MaxWallClockTimeExpiry")


def test_limits_of_what_is_gone_mean_nothing(given):
    task = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_task_retry_count=1, retry_delay=LIMIT))
    s = given(prep=False, tasks=(task,), script={"t1": Exits(1)}, constraints=JobConstraints(max_wall_clock_time=3 * LIMIT))
    s.run()
    assert next_deadline(s.world) == s.world.task("j", "t1").retry_at
    s.when(DeleteTask(job="j", task="t1"))
    assert s.pass_time(2 * LIMIT) == []
    s.finish(DeleteJob(job="j"))
    assert "j" not in s.world.jobs
    assert next_deadline(s.world) is None
    assert s.pass_time(2 * LIMIT) == []


def test_a_retry_of_a_job_that_is_gone_means_nothing(given):
    task = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_task_retry_count=1, retry_delay=LIMIT))
    s = given(prep=False, tasks=(task,), script={"t1": Exits(1)})
    s.run()
    s.finish(DeleteJob(job="j"))
    assert s.pass_time(2 * LIMIT) == []
