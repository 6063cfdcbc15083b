"""Delays between retries, silence, what executors lose again and again, and the reasons that callers give."""

import pytest

from jobledger.core import limits
from jobledger.core.checks import check_job, check_tasks
from jobledger.core.deadlines import next_deadline
from jobledger.core.decide import ClockAdvanced
from jobledger.core.events import JobDeleting, JobDisabling, TaskDeleted, TaskReactivated
from jobledger.core.ids import SECOND, UNLIMITED_RETENTION
from jobledger.core.reports import ExecutionSilent
from jobledger.core.requests import (
    DeleteJob,
    DeleteTask,
    DisableJob,
    EnableJob,
    ReactivateTask,
    RebootNode,
    TerminateJob,
    TerminateTask,
)
from jobledger.core.specs import JobConstraints, PreparationSpec, StartTaskSpec, TaskConstraints, TaskSpec
from jobledger.testing.scenario import Exits, Hangs, Vanishes, story

DAY = 86_400 * SECOND


def constrained(**constraints):
    return TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(**constraints))


def task_of(s, task="t1"):
    return s.world.task("j", task)


# --- back-off -------------------------------------------------------------------------------------------------


def test_each_retry_waits_twice_as_long_as_the_one_before_up_to_the_longest(given):
    spec = constrained(max_task_retry_count=-1, retry_delay=10 * SECOND, retry_delay_max=60 * SECOND)
    s = given(tasks=(spec,), prep=False, script={"t1": Exits(1)})
    waits = []
    for _ in range(5):
        s.run()
        assert (task_of(s).state, task_of(s).retry_at) == ("active", next_deadline(s.world))
        waits.append((next_deadline(s.world) - s.now) // SECOND)
        assert story(s.wake())[:1] == ["task.retry-due t1"]
    assert waits == [10, 20, 40, 60, 60]


def test_without_a_longest_delay_it_is_a_day(given):
    s = given(tasks=(constrained(max_task_retry_count=-1, retry_delay=SECOND),), prep=False, script={"t1": Exits(1)})
    for _ in range(20):
        s.run()
        s.wake()
    s.run()
    assert next_deadline(s.world) - s.now == DAY == limits.RETRY_DELAY_MAX


def test_a_delayed_task_is_not_placed_early_and_nothing_of_it_is_recorded(given):
    s = given(tasks=(constrained(max_task_retry_count=1, retry_delay=10 * SECOND), "t2"), prep=False, script={"t1": [Exits(1), Exits(0)]})
    s.run()
    assert [task_of(s, task).state for task in ("t1", "t2")] == ["active", "completed"], "others pass it by"
    s.now += 10 * SECOND - 10
    s.ignores(ClockAdvanced())
    s.wake()
    s.run()
    assert (task_of(s).result, task_of(s).retry_at) == ("success", None)


def test_the_jobs_delay_is_for_tasks_without_constraints(given):
    own = TaskSpec(id="own", command_line="work", constraints=TaskConstraints(max_task_retry_count=1))
    s = given(
        tasks=("t1", own),
        prep=False,
        constraints=JobConstraints(max_task_retry_count=1, retry_delay=5 * SECOND),
        script={"t1": Exits(1), "own": Exits(1)},
    )
    s.run()
    assert (task_of(s).state, task_of(s, "own").state) == ("active", "completed")


def test_what_the_platform_took_away_is_not_delayed(given):
    s = given(tasks=(constrained(max_task_retry_count=1, retry_delay=DAY),), prep=False, script={"t1": Hangs()})
    s.run()
    s.finish(RebootNode(node="p-1"))
    assert (task_of(s).state, task_of(s).requeues) == ("running", 1)


@pytest.mark.parametrize("request_", [TerminateTask(job="j", task="t1"), TerminateJob(job="j")])
def test_a_delayed_task_can_be_ended(given, request_):
    task = constrained(max_task_retry_count=1, retry_delay=DAY, retention_time=UNLIMITED_RETENTION)
    s = given(tasks=(task,), prep=False, script={"t1": Exits(1)})
    s.run()
    s.finish(request_)
    assert (task_of(s).state, task_of(s).retry_at, next_deadline(s.world)) == ("completed", None, None)


def test_a_delayed_task_can_be_deleted_and_another_of_its_id_is_not_delayed(given):
    s = given(tasks=(constrained(max_task_retry_count=1, retry_delay=DAY),), prep=False, script={"t1": Exits(1)})
    s.run()
    s.finish(DeleteTask(job="j", task="t1"))
    assert next_deadline(s.world) is None


def test_the_delay_runs_on_while_the_job_is_disabled(given):
    s = given(tasks=(constrained(max_task_retry_count=1, retry_delay=10 * SECOND),), prep=False, script={"t1": [Exits(1), Exits(0)]})
    s.run()
    s.finish(DisableJob(job="j", disable_tasks="requeue"))
    assert story(s.wake()) == ["task.retry-due t1"]
    s.finish(EnableJob(job="j"))
    assert task_of(s).result == "success"


def test_a_reactivated_task_begins_its_delays_anew(given):
    s = given(tasks=(constrained(max_task_retry_count=1, retry_delay=10 * SECOND),), prep=False, script={"t1": Exits(1)})
    s.run()
    s.wake()
    s.run()
    s.finish(ReactivateTask(job="j", task="t1"))
    assert next_deadline(s.world) - s.now == 10 * SECOND


@pytest.mark.parametrize(
    ("constraints", "field"),
    [
        ({"retry_delay": DAY + 1}, "retryDelay"),
        ({"retry_delay": 2 * SECOND, "retry_delay_max": SECOND}, "retryDelayMax"),
        ({"retry_delay_max": DAY + 1}, "retryDelayMax"),
        ({"silent_timeout": SECOND - 1}, "silentTimeout"),
    ],
)
def test_limits_that_make_no_sense_are_named(job_spec, constraints, field):
    assert [mistake.path for mistake in check_tasks(job_spec(), [constrained(**constraints)])] == [f"tasks[0].constraints.{field}"]


def test_a_preparation_has_no_delays(job_spec):
    prep = PreparationSpec(command_line="prepare", constraints=TaskConstraints(retry_delay=SECOND, retry_delay_max=SECOND))
    assert [mistake.path.rpartition(".")[2] for mistake in check_job(job_spec(prep=prep))] == ["retryDelay", "retryDelayMax"]


# --- silence --------------------------------------------------------------------------------------------------


def silent(s, kind="task", length=60 * SECOND):
    s.now += length
    return s.when(ExecutionSilent(execution=s.live(kind), silent_for=length))


def test_a_silent_program_is_ended_and_not_retried(given):
    s = given(tasks=(constrained(max_task_retry_count=3, silent_timeout=60 * SECOND),), prep=False, script={"t1": Hangs()})
    s.run()
    assert s.executor.launched[-1].silent_after == 60 * SECOND
    assert story(silent(s)) == ["execution.stop-requested t1 p-1 complete"]
    s.run()
    task = task_of(s)
    assert (task.state, task.result, task.retries, task.failure.code) == ("completed", "failure", 0, "TaskEnded")
    assert "silentTimeout" in task.failure.details[0].value


def test_a_silent_preparation_fails(given):
    prep = PreparationSpec(command_line="prepare", constraints=TaskConstraints(silent_timeout=60 * SECOND, max_task_retry_count=3))
    s = given(prep=prep, script={"jobpreparation": Hangs()})
    s.run()
    silent(s, "preparation")
    s.run()
    assert s.world.jobs["j"].preparations["p-1"].result == "failure"


def test_a_shorter_silence_and_one_without_a_limit_change_nothing(given):
    s = given(slots=2, tasks=(constrained(silent_timeout=60 * SECOND), "t2"), prep=False, script={"t1": Hangs(), "t2": Hangs()})
    s.run()
    assert [launch.silent_after for launch in s.executor.launched] == [60 * SECOND, None]
    for task, length in (("t1", 59 * SECOND), ("t2", DAY)):
        s.ignores(ExecutionSilent(execution=s.live("task", task=task), silent_for=length))
    s.ignores(ExecutionSilent(execution=99, silent_for=DAY))


def test_a_silence_is_said_twice_and_heard_once(given):
    s = given(tasks=(constrained(silent_timeout=60 * SECOND),), prep=False, script={"t1": Hangs()})
    s.run()
    silent(s)
    s.ignores(ExecutionSilent(execution=s.live("task"), silent_for=61 * SECOND))


# --- what executors lose or stop ------------------------------------------------------------------------------


def test_a_task_that_is_lost_again_and_again_fails_in_the_end(given):
    s = given(prep=False, script={"t1": Vanishes()})
    s.run()
    task = task_of(s)
    assert (task.result, task.failure.code, task.failure.category) == ("failure", "MaxInternalRetryCountReached", "servererror")
    assert (task.launches, task.requeues, task.retries) == (limits.INTERNAL_RETRIES_MAX + 1, limits.INTERNAL_RETRIES_MAX, 0)


def test_an_end_of_its_own_begins_the_count_anew(given):
    lost = [Vanishes()] * limits.INTERNAL_RETRIES_MAX
    spec = constrained(max_task_retry_count=1)
    s = given(tasks=(spec,), prep=False, script={"t1": [*lost, Exits(1), *lost, Exits(0)]})
    s.run()
    assert (task_of(s).result, task_of(s).requeues) == ("success", 2 * limits.INTERNAL_RETRIES_MAX)


def test_reboots_on_request_do_not_count(given):
    s = given(prep=False, script={"t1": Hangs()})
    s.run()
    for _ in range(limits.INTERNAL_RETRIES_MAX + 2):
        s.finish(RebootNode(node="p-1"))
    assert task_of(s).state == "running"


def test_a_preparation_that_is_lost_again_and_again_fails_on_that_node(given):
    s = given(script={"jobpreparation": Vanishes()})
    s.run()
    preparation = s.world.jobs["j"].preparations["p-1"]
    assert (preparation.result, preparation.failure.code) == ("failure", "MaxInternalRetryCountReached")
    assert preparation.launches == limits.INTERNAL_RETRIES_MAX + 1
    assert s.world.jobs["j"].blocked


def test_a_start_task_that_is_lost_again_and_again_fails(given):
    s = given(pool={"start_task": StartTaskSpec(command_line="start")}, script={"starttask": Vanishes()})
    s.run()
    node = s.world.nodes["p-1"]
    assert (node.state, node.start_task.failure.code) == ("starttaskfailed", "MaxInternalRetryCountReached")
    assert node.start_task.launches == limits.INTERNAL_RETRIES_MAX + 1


def test_a_release_that_is_stopped_unasked_is_owed_again_up_to_a_bound(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    for _ in range(limits.INTERNAL_RETRIES_MAX):
        s.answer("release", "stopped", 0)
        s.run()
        assert s.world.jobs["j"].releases["p-1"].state == "running"
    s.answer("release", "stopped", 0)
    release = s.world.jobs["j"].releases["p-1"]
    assert (release.result, release.failure.code, s.world.jobs["j"].state) == ("failure", "MaxInternalRetryCountReached", "completed")


# --- reasons --------------------------------------------------------------------------------------------------


def test_why_a_task_was_terminated_is_in_its_failure(given):
    s = given(prep=False, script={"t1": Hangs()})
    s.run()
    s.finish(TerminateTask(job="j", task="t1", reason="wrong input"))
    assert task_of(s).failure.details[0].value == "the task was terminated: wrong input"


def test_why_a_job_was_disabled_or_deleted_and_a_task_deleted_or_reactivated_is_in_the_events(given):
    s = given(tasks=("t1", "t2"), slots=2, prep=False, script={"t1": Hangs(), "t2": Exits(1)})
    s.run()
    s.finish(ReactivateTask(job="j", task="t2", reason="again"))
    s.finish(DisableJob(job="j", disable_tasks="terminate", reason="maintenance"))
    s.finish(DeleteTask(job="j", task="t2", reason="no use"))
    assert task_of(s).failure.details[0].value == "the job was disabled: maintenance"
    s.finish(DeleteJob(job="j", reason="done with it"))
    kinds = (TaskReactivated, JobDisabling, TaskDeleted, JobDeleting)
    assert [event.reason for event in s.events if isinstance(event, kinds)] == ["again", "maintenance", "no use", "done with it"]


def test_why_a_running_task_was_deleted_is_in_the_event_that_stops_it(given):
    s = given(prep=False, script={"t1": Hangs()})
    s.run()
    (stop,) = s.when(DeleteTask(job="j", task="t1", reason="no use"))
    assert stop.cause == "the task was deleted: no use"


def test_a_task_that_waits_for_its_next_try_makes_room_for_another_of_a_job_with_a_limit_of_parallel_tasks(given):
    slow = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_task_retry_count=1, retry_delay=10 * SECOND))
    s = given(slots=2, prep=False, max_parallel_tasks=1, tasks=(slow, "t2"), script={"t1": Exits(1)})
    s.run()
    assert (s.world.task("j", "t1").state, s.world.task("j", "t2").result) == ("active", "success")
