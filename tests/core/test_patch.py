"""Patching a job: what may be changed when, and what follows from it (`core/job.py`, rule 6)."""

import pytest

from jobledger.core.deadlines import next_deadline
from jobledger.core.events import JobPatched
from jobledger.core.explain import explain
from jobledger.core.ids import SECOND
from jobledger.core.requests import (
    AddTasks,
    CreatePool,
    DeleteJob,
    DeletePool,
    DisableJob,
    EnableJob,
    PatchJob,
    ReimageNode,
    SubmitJob,
    TerminateJob,
)
from jobledger.core.specs import JobConstraints, MetadataItem, PoolInfo, PoolSpec
from jobledger.testing.scenario import Exits, Hangs, story

ELSEWHERE = PoolInfo(pool_id="q")


def patch(**changes):
    return PatchJob(job="j", **changes)


def disabled(given, *, more=None, **job):
    """A job that was disabled after its first task ran to its end on p-1, and a pool `q` that is up."""
    s = given(tasks=("t1",), **job)
    s.run()
    s.finish(CreatePool(spec=PoolSpec(id="q", nodes=2)))
    if more:
        s.given(AddTasks(job="j", tasks=more))
    s.finish(DisableJob(job="j", disable_tasks="requeue"))
    return s


# --- what is recorded ---------------------------------------------------------------------------------------------


def test_only_what_changed_is_recorded(given):
    s = given(tasks=(), priority=3)
    assert s.when(patch(priority=3, max_parallel_tasks=2)) == [JobPatched(job="j", max_parallel_tasks=2)]
    assert (s.world.jobs["j"].spec.priority, s.world.jobs["j"].spec.max_parallel_tasks) == (3, 2)


def test_what_changes_nothing_is_not_recorded(given):
    s = given(tasks=(), priority=3)
    s.ignores(patch())
    s.ignores(patch(priority=3, max_parallel_tasks=-1, constraints=JobConstraints(), on_all_tasks_complete="noaction", metadata=()))


def test_metadata_is_replaced_as_a_whole_and_may_be_taken_away(given):
    s = given(tasks=(), metadata=(MetadataItem(name="a", value="1"), MetadataItem(name="b", value="2")))
    s.when(patch(metadata=(MetadataItem(name="c", value="3"),)))
    assert [item.name for item in s.world.jobs["j"].spec.metadata] == ["c"]
    s.when(patch(metadata=()))
    assert s.world.jobs["j"].spec.metadata == ()


def test_a_repeated_submission_is_compared_with_what_was_submitted(given, job_spec, task_specs):
    s = given(priority=3)
    s.given(patch(priority=9))
    s.ignores(SubmitJob(spec=job_spec(priority=3), tasks=task_specs("t1")))
    s.refuses(SubmitJob(spec=job_spec(priority=9), tasks=task_specs("t1")), "JobExists")


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ([TerminateJob(job="j")], "JobBeingTerminated"),
        ([DeleteJob(job="j")], "JobBeingDeleted"),
    ],
)
def test_a_job_that_is_ending_is_not_patched(given, how, code):
    s = given(script={"t1": Hangs()})
    s.run()
    s.given(*how)
    s.refuses(patch(priority=1), code)


def test_a_job_that_is_over_or_never_was_is_not_patched(given):
    s = given()
    s.run()
    s.finish(TerminateJob(job="j"))
    s.refuses(patch(priority=1), "JobCompleted")
    s.refuses(PatchJob(job="k", priority=1), "JobNotFound")


@pytest.mark.parametrize(
    ("changes", "path", "code"),
    [
        ({"priority": 1001}, "priority", "InvalidPropertyValue"),
        ({"max_parallel_tasks": 0}, "maxParallelTasks", "InvalidPropertyValue"),
        ({"constraints": JobConstraints(max_wall_clock_time=0)}, "constraints.maxWallClockTime", "InvalidPropertyValue"),
        ({"constraints": JobConstraints(max_task_retry_count=-2)}, "constraints.maxTaskRetryCount", "InvalidPropertyValue"),
        ({"metadata": (MetadataItem(name="", value=""),)}, "metadata[0].name", "EmptyMetadataKey"),
    ],
)
def test_what_a_submission_may_not_say_a_patch_may_not_either(given, changes, path, code):
    assert path in str(given().refuses(patch(**changes), code))


def test_a_wrong_limit_of_tasks_is_answered_with_the_word_for_none(given):
    assert "-1 is without limit" in str(given().refuses(patch(max_parallel_tasks=0), "InvalidPropertyValue"))


def test_terminatejob_is_not_taken_back(given):
    s = given(on_all_tasks_complete="terminatejob", script={"t1": Hangs()})
    s.refuses(patch(on_all_tasks_complete="noaction"), "InvalidPropertyValue")
    s.ignores(patch(on_all_tasks_complete="terminatejob"))


def test_another_pool_needs_a_job_that_is_disabled(given):
    s = given(tasks=("t1",), script={"t1": [Hangs(), Exits(0)]})
    s.run()
    assert "disable it first" in str(s.refuses(patch(pool_info=ELSEWHERE), "OperationInvalidForCurrentState"))
    s.when(DisableJob(job="j", disable_tasks="wait"))
    s.refuses(patch(pool_info=ELSEWHERE), "OperationInvalidForCurrentState")
    s.answer("task", "exited")
    assert s.when(patch(pool_info=ELSEWHERE)) == [JobPatched(job="j", pool_info=ELSEWHERE)]


# --- priority and parallel tasks ----------------------------------------------------------------------------------


def test_another_priority_counts_from_the_next_placement_on(given, job_spec, task_specs):
    s = given(tasks=("a", "b"), prep=False, script={"a": Hangs()})
    s.run()
    s.given(SubmitJob(spec=job_spec("k", prep=False, priority=-1), tasks=task_specs("c")))
    s.given(PatchJob(job="k", priority=1))
    s.answer("task", "exited", task="a")
    assert (s.world.task("k", "c").state, s.world.task("j", "b").state) == ("running", "active")


def test_a_higher_limit_lets_tasks_run_at_once_and_a_lower_one_ends_none(given):
    script = {task: Hangs() for task in "abcd"}
    s = given(slots=4, tasks=tuple("abcd"), prep=False, max_parallel_tasks=2, script=script)
    s.run()
    assert [event.split()[1] for event in story(s.when(patch(max_parallel_tasks=3))) if event.startswith("task.running")] == ["c"]
    s.run()
    assert story(s.when(patch(max_parallel_tasks=1))) == ["job.patched j"]
    s.answer("task", "exited", task="a")
    s.answer("task", "exited", task="b")
    assert s.world.task("j", "d").state == "active"
    s.answer("task", "exited", task="c")
    assert s.world.task("j", "d").state == "running"


# --- limits in time and retries -----------------------------------------------------------------------------------


def test_a_new_limit_in_time_is_counted_from_the_jobs_creation(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.pass_time(10 * SECOND)
    s.when(patch(constraints=JobConstraints(max_wall_clock_time=30 * SECOND)))
    assert next_deadline(s.world) == s.world.jobs["j"].created_at + 30 * SECOND
    s.wake()
    assert (s.world.jobs["j"].state, s.world.jobs["j"].terminate_reason) == ("terminating", "MaxWallClockTimeExpiry")


def test_a_limit_in_time_that_is_over_ends_the_job_at_once(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.pass_time(10 * SECOND)
    events = story(s.when(patch(constraints=JobConstraints(max_wall_clock_time=5 * SECOND))))
    assert events[:2] == ["job.patched j", "job.terminating j"]
    assert s.world.jobs["j"].terminate_reason == "MaxWallClockTimeExpiry"


def test_a_limit_that_was_taken_away_or_moved_ends_nothing(given):
    s = given(script={"t1": Hangs()}, constraints=JobConstraints(max_wall_clock_time=20 * SECOND))
    s.run()
    s.when(patch(constraints=JobConstraints(max_wall_clock_time=60 * SECOND)))
    s.pass_time(30 * SECOND)
    assert s.world.jobs["j"].state == "active"
    s.when(patch(constraints=JobConstraints()))
    s.pass_time(90 * SECOND)
    assert s.world.jobs["j"].state == "active"
    assert next_deadline(s.world) is None


def test_members_that_constraints_leave_out_go_back_to_their_defaults(given):
    s = given(tasks=(), constraints=JobConstraints(max_wall_clock_time=20 * SECOND, max_task_retry_count=3))
    s.when(patch(constraints=JobConstraints(max_task_retry_count=1)))
    assert s.world.jobs["j"].spec.constraints == JobConstraints(max_task_retry_count=1)
    assert next_deadline(s.world) is None


def test_another_number_of_retries_is_for_tasks_that_are_added_later(given, task_specs):
    s = given(tasks=("early",), prep=False, script={"early": Exits(1), "late": Exits(1)})
    s.when(patch(constraints=JobConstraints(max_task_retry_count=2)))
    s.given(AddTasks(job="j", tasks=task_specs("late")))
    s.run()
    assert {task: entry.retries for task, entry in s.world.jobs["j"].tasks.items()} == {"early": 0, "late": 2}


# --- onAllTasksComplete -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [(), ("t1",)])
def test_a_job_that_is_complete_ends_when_it_is_told_to(given, tasks):
    s = given(tasks=tasks)
    s.run()
    assert story(s.when(patch(on_all_tasks_complete="terminatejob")))[:2] == ["job.patched j", "job.terminating j"]
    s.run()
    assert (s.world.jobs["j"].state, s.world.jobs["j"].terminate_reason) == ("completed", "AllTasksComplete")


def test_a_disabled_job_that_is_told_to_end_does_so_once_it_is_enabled(given):
    s = disabled(given)
    assert story(s.when(patch(on_all_tasks_complete="terminatejob"))) == ["job.patched j"]
    s.finish(EnableJob(job="j"))
    assert s.world.jobs["j"].terminate_reason == "AllTasksComplete"


# --- another pool -------------------------------------------------------------------------------------------------


def test_a_moved_job_is_prepared_on_its_new_pool_and_released_on_both(given, task_specs):
    s = disabled(given)
    s.given(AddTasks(job="j", tasks=task_specs("u")))
    s.given(patch(pool_info=ELSEWHERE))
    assert s.launches(task="u") == []
    s.finish(EnableJob(job="j"))
    assert s.launches()[-2:] == ["jobpreparation@q-1", "u@q-1"]
    s.finish(TerminateJob(job="j"))
    assert sorted(s.launches(task="jobrelease")) == ["jobrelease@p-1", "jobrelease@q-1"]


def test_a_job_may_move_to_a_pool_that_is_yet_to_come_and_back(given, task_specs):
    s = disabled(given, more=task_specs("u"))
    s.given(patch(pool_info=PoolInfo(pool_id="later")), EnableJob(job="j"))
    assert next(reason.code for reason in explain(s.world, "j", "u")) == "PoolNotFound"
    assert s.world.jobs_of_pool == {"later": {"j": None}}
    s.finish(CreatePool(spec=PoolSpec(id="later")))
    assert s.launches()[-1] == "u@later-1"


def test_a_node_of_the_old_pool_that_failed_preparation_bars_no_node_of_the_new_one(given, task_specs):
    s = given(tasks=("t1",), script={"jobpreparation": [Exits(1), Exits(0)]})
    s.run()
    assert s.world.jobs["j"].blocked
    s.finish(CreatePool(spec=PoolSpec(id="q")))
    s.given(DisableJob(job="j", disable_tasks="requeue"), patch(pool_info=ELSEWHERE))
    assert s.world.jobs["j"].ineligible == {}
    s.finish(EnableJob(job="j"))
    assert (s.world.jobs["j"].blocked, s.launches()[-1]) == (False, "t1@q-1")


def test_a_job_that_moves_back_finds_its_old_pool_as_it_left_it(given):
    s = given(tasks=("t1",), script={"jobpreparation": [Exits(1), Exits(0)]})
    s.run()
    s.given(DisableJob(job="j", disable_tasks="requeue"), patch(pool_info=ELSEWHERE), patch(pool_info=PoolInfo(pool_id="p")), EnableJob(job="j"))
    assert s.world.jobs["j"].blocked
    s.finish(ReimageNode(node="p-1"))
    assert s.launches()[-1] == "t1@p-1"


def test_a_preparation_that_fails_on_the_old_pool_after_the_move_bars_nothing(given):
    s = given(tasks=("t1",), script={"jobpreparation@p-1": Hangs()})
    s.run()
    s.finish(CreatePool(spec=PoolSpec(id="q")))
    s.given(DisableJob(job="j", disable_tasks="requeue"), patch(pool_info=ELSEWHERE))
    s.answer("preparation", "exited", code=1)
    assert s.world.jobs["j"].ineligible == {}
    s.finish(EnableJob(job="j"))
    assert s.launches()[-1] == "t1@q-1"


def test_the_release_that_a_job_owes_its_old_pool_is_settled_when_that_goes(given):
    s = disabled(given)
    s.given(patch(pool_info=ELSEWHERE))
    s.finish(DeletePool(pool="p"))
    assert s.world.jobs["j"].releases["p-1"].state == "abandoned"
    s.finish(EnableJob(job="j"))
    s.finish(TerminateJob(job="j"))
    assert (s.world.jobs["j"].state, s.launches(task="jobrelease")) == ("completed", [])
