"""The tricky scenarios of Azure Batch's semantics (section 8), by number, with our choice where Azure says nothing.

Those that are about files, job files and queries are in `tests/test_scenarios.py`, and those where a process matters are run for real in
`tests/test_scenarios_local.py`; the former holds that none is forgotten.
Out of scope here: 8 and 45 (resource files; a program that cannot be launched stands for every error before the start),
35 (told by test_release), 40 (a job does not change its pool), 50, 51 (job managers), 53 (a status query),
55 (exit conditions), 56 (output files) and 57 (required slots).
"""

import pytest

from jobledger.core.events import JobBlocked
from jobledger.core.explain import explain
from jobledger.core.ids import SECOND
from jobledger.core.reports import NodeFaulted, NodeReallocated
from jobledger.core.requests import (
    AddTasks,
    CreatePool,
    DeleteJob,
    DisableJob,
    EnableJob,
    PatchJob,
    ReactivateTask,
    RebootNode,
    ReimageNode,
    RemoveNode,
    ResizePool,
    SubmitJob,
    TerminateJob,
)
from jobledger.core.specs import (
    ExitCodeMapping,
    ExitConditions,
    ExitOptions,
    JobConstraints,
    PoolInfo,
    PoolSpec,
    PreparationSpec,
    ReleaseSpec,
    TaskConstraints,
    TaskSpec,
)
from jobledger.testing.scenario import CannotStart, Exits, Hangs, Scenario, story


def prep(**more):
    return PreparationSpec(command_line="prepare", **more)


def state(s, task="t1"):
    return s.world.task("j", task).state


def job_state(s):
    return s.world.jobs["j"].state


def test_01_a_job_without_tasks_runs_neither_preparation_nor_release(given):
    s = given(tasks=())
    s.finish(TerminateJob(job="j"))
    assert (s.launches(), s.world.jobs["j"].preparations, job_state(s)) == ([], {}, "completed")


def test_02_three_tasks_on_five_nodes_prepare_and_release_three(given):
    s = given(nodes=5, tasks=("a", "b", "c"))
    s.run()
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobpreparation") == [f"jobpreparation@p-{n}" for n in (1, 2, 3)]
    assert sorted(s.launches(task="jobrelease")) == [f"jobrelease@p-{n}" for n in (1, 2, 3)]


def test_03_four_tasks_at_once_on_one_node_share_one_preparation(given):
    s = given(slots=4, tasks=tuple("abcd"), script={"jobpreparation": Hangs(), **{task: Hangs() for task in "abcd"}})
    s.run()
    assert [state(s, task) for task in "abcd"] == ["preparing"] * 4
    s.answer("preparation", "exited")
    assert [state(s, task) for task in "abcd"] == ["running"] * 4
    assert s.launches(task="jobpreparation") == ["jobpreparation@p-1"]


def test_04_preparation_fails_everywhere_and_the_job_says_so_and_stays_active(given):
    s = given(nodes=2, tasks=("t1", "t2", "t3"), script={"jobpreparation": Exits(1)})
    events = s.run()
    assert [event.job for event in events if isinstance(event, JobBlocked)] == ["j"]
    assert job_state(s) == "active"
    assert {(task.state, task.failure, task.retries) for task in s.world.jobs["j"].tasks.values()} == {("active", None, 0)}


def test_05_preparation_fails_on_one_of_two_nodes_and_the_tasks_move(given, job_spec, task_specs):
    s = given(nodes=2, tasks=("t1", "t2"), script={"jobpreparation@p-1": [Exits(1), Exits(0)]})
    s.run()
    assert {task.node for task in s.world.jobs["j"].tasks.values()} == {"p-2"}
    s.finish(SubmitJob(spec=job_spec("k"), tasks=task_specs("x")))
    assert s.world.task("k", "x").node == "p-1", "the node serves other jobs"


def test_06_preparation_that_nobody_waits_for_fails_and_tasks_run_on(given):
    s = given(tasks=("t1", "t2"), prep=prep(wait_for_success=False), script={"jobpreparation": Exits(1)})
    s.run()
    assert [state(s, task) for task in ("t1", "t2")] == ["completed", "completed"]
    assert s.world.jobs["j"].preparations["p-1"].result == "failure"


def test_07_preparation_succeeds_at_the_third_try(given):
    s = given(prep=prep(constraints=TaskConstraints(max_task_retry_count=2)), script={"jobpreparation": [Exits(1), Exits(1), Hangs()]})
    s.run()
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.state, entry.retries, state(s)) == ("running", 2, "preparing")
    assert entry.last_retry_at is not None
    s.answer("preparation", "exited")
    assert state(s) == "running"


def test_09_preparation_over_its_limit_is_a_failure_and_not_retried(given):
    spec = prep(constraints=TaskConstraints(max_wall_clock_time=SECOND, max_task_retry_count=3))
    s = given(prep=spec, script={"jobpreparation": Hangs()})
    s.run()
    s.wake()
    s.run()
    assert s.launches() == ["jobpreparation@p-1"]
    assert s.world.jobs["j"].blocked


def test_10_preparation_hangs_without_a_limit_until_the_user_ends_the_job(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    s.pass_time(365 * 24 * 3600 * SECOND)
    assert state(s) == "preparing"
    s.finish(TerminateJob(job="j"))
    assert job_state(s) == "completed"


def test_11_a_reboot_before_preparation_makes_no_difference(given, task_specs):
    s = given(tasks=())
    s.finish(RebootNode(node="p-1"))
    assert s.launches() == []
    s.finish(AddTasks(job="j", tasks=task_specs("t1")))
    assert s.launches() == ["jobpreparation@p-1", "t1@p-1"]


@pytest.mark.parametrize("rerun", [True, False])
def test_12_a_reboot_while_preparation_runs_runs_it_again_whatever_the_flag(given, rerun):
    s = given(prep=prep(rerun_on_node_reboot_after_success=rerun), script={"jobpreparation": [Hangs(), Exits(0)]})
    s.run()
    started = s.world.jobs["j"].preparations["p-1"].started_at
    s.finish(RebootNode(node="p-1"))
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.result, entry.retries, state(s)) == ("success", 0, "completed")
    assert entry.started_at > started


@pytest.mark.parametrize(("rerun", "runs"), [(True, 2), (False, 1)])
def test_13_14_a_reboot_after_success_runs_it_again_before_the_next_task_if_the_flag_says_so(given, task_specs, rerun, runs):
    s = given(prep=prep(rerun_on_node_reboot_after_success=rerun))
    s.run()
    s.finish(RebootNode(node="p-1"))
    assert len(s.launches(task="jobpreparation")) == 1
    s.finish(AddTasks(job="j", tasks=task_specs("t2")))
    assert len(s.launches(task="jobpreparation")) == runs
    assert state(s, "t2") == "completed"


def test_15_a_reboot_after_a_failed_preparation_does_not_help(given):
    s = given(script={"jobpreparation": [Exits(1), Exits(0)]})
    s.run()
    s.finish(RebootNode(node="p-1"))
    assert (s.launches(), state(s)) == (["jobpreparation@p-1"], "active")


def test_16_a_reimage_makes_preparation_run_again(given, task_specs):
    s = given(tasks=(), prep=prep(rerun_on_node_reboot_after_success=False))
    s.finish(ReimageNode(node="p-1"))
    s.finish(AddTasks(job="j", tasks=task_specs("t1")))
    s.finish(ReimageNode(node="p-1"))
    s.finish(AddTasks(job="j", tasks=task_specs("t2")))
    assert s.launches() == ["jobpreparation@p-1", "t1@p-1", "jobpreparation@p-1", "t2@p-1"]


def test_17_a_reimaged_node_without_a_later_task_gets_no_release(given):
    s = given()
    s.run()
    s.finish(ReimageNode(node="p-1"))
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == []
    assert s.world.jobs["j"].releases["p-1"].abandoned_because == "the node was reimaged"


def test_18_a_reimage_after_a_failed_preparation_makes_the_node_eligible(given):
    s = given(script={"jobpreparation": [Exits(1), Exits(0)]})
    s.run()
    s.finish(ReimageNode(node="p-1"))
    assert state(s) == "completed"


def test_19_a_node_that_joins_later_prepares_with_its_first_task(given, task_specs):
    s = given()
    s.run()
    s.finish(ResizePool(pool="p", target=2))
    assert s.launches(node="p-2") == []
    s.finish(AddTasks(job="j", tasks=task_specs("a", "b")))
    assert "jobpreparation@p-2" in s.launches()


def test_20_terminate_while_preparation_runs_stops_it_and_runs_no_release(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.result, entry.failure.code) == ("failure", "TaskEnded")
    assert (s.launches(task="jobrelease"), job_state(s)) == ([], "completed")


@pytest.mark.parametrize(("scope", "runs"), [("taskRan", []), ("prepared", []), ("attempted", ["jobrelease@p-1"])])
def test_21_terminate_while_a_task_is_preparing_ends_the_task(given, scope, runs):
    s = given(script={"jobpreparation": Hangs()}, release=ReleaseSpec(command_line="x", release_scope=scope))
    s.run()
    assert state(s) == "preparing"
    s.finish(TerminateJob(job="j"))
    assert s.world.task("j", "t1").failure.code == "TaskEnded"
    assert s.launches(task="jobrelease") == runs


def test_22_terminate_with_queued_tasks_completes_them_as_failed(given):
    s = given(tasks=("t1", "t2"), script={"t1": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    queued = s.world.task("j", "t2")
    assert (queued.state, queued.result, queued.failure.code, queued.launches) == ("completed", "failure", "TaskEnded", 0)


def test_23_terminate_twice_is_refused(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.refuses(TerminateJob(job="j"), "JobBeingTerminated")
    s.answer("release", "exited")
    s.refuses(TerminateJob(job="j"), "JobCompleted")


def test_24_a_disabled_job_may_be_terminated_and_releases_where_tasks_ran(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.finish(DisableJob(job="j", disable_tasks="requeue"))
    s.finish(TerminateJob(job="j"))
    assert (s.launches(task="jobrelease"), job_state(s)) == (["jobrelease@p-1"], "completed")


def test_25_deleting_an_active_job_ends_its_tasks_and_releases_and_then_it_is_gone(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.finish(DeleteJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]
    assert "j" not in s.world.jobs


def test_26_delete_after_terminate_releases_no_second_time(given):
    s = given()
    s.run()
    s.finish(TerminateJob(job="j"))
    s.finish(DeleteJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_27_delete_while_terminating_lets_the_release_in_flight_finish(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.finish(DeleteJob(job="j"))
    assert job_state(s) == "deleting"
    s.answer("release", "exited")
    s.run()
    assert "j" not in s.world.jobs
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_28_no_task_is_added_to_a_job_that_is_over(given, task_specs):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.refuses(AddTasks(job="j", tasks=task_specs("late")), "JobBeingTerminated")
    s.answer("release", "exited")
    s.refuses(AddTasks(job="j", tasks=task_specs("late")), "JobCompleted")


def test_29_a_failing_release_is_recorded_not_retried_and_the_job_completes(given):
    s = given(script={"jobrelease": Exits(1)})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert (s.world.jobs["j"].releases["p-1"].result, job_state(s)) == ("failure", "completed")
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_30_a_release_over_15_minutes_is_killed_and_the_job_completes(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.pass_time(15 * 60 * SECOND - 1)
    assert job_state(s) == "terminating"
    s.pass_time(1)
    s.run()
    assert (s.world.jobs["j"].releases["p-1"].failure.code, job_state(s)) == ("TaskEnded", "completed")


def test_31_a_release_limit_above_15_minutes_is_refused(job_spec):
    spec = job_spec(release=ReleaseSpec(command_line="x", max_wall_clock_time=20 * 60 * SECOND))
    assert "PT15M" in str(Scenario().refuses(SubmitJob(spec=spec), "InvalidPropertyValue"))


def test_32_a_release_without_a_preparation_is_refused(job_spec):
    spec = job_spec(prep=False, release=ReleaseSpec(command_line="x"))
    Scenario().refuses(SubmitJob(spec=spec), "InvalidPropertyValue")


def test_33_a_reboot_during_release_runs_it_again(given):
    s = given(script={"jobrelease": [Hangs(), Exits(0)]})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.finish(RebootNode(node="p-1"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"] * 2
    assert (s.world.jobs["j"].releases["p-1"].result, job_state(s)) == ("success", "completed")


def test_34_a_node_removed_before_the_end_gets_no_release_and_its_preparation_stays_listed(given):
    s = given(nodes=2, tasks=("t1", "t2"))
    s.run()
    s.finish(RemoveNode(node="p-1"))
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-2"]
    assert list(s.world.jobs["j"].preparations) == ["p-1", "p-2"]


def test_35_a_node_removed_while_release_runs_counts_as_released_no_more(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.finish(RemoveNode(node="p-1"))
    assert (s.world.jobs["j"].releases["p-1"].state, job_state(s)) == ("abandoned", "completed")
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_36_an_unusable_node_that_owes_a_release_does_not_hang_the_job(given):
    s = given()
    s.run()
    s.finish(NodeFaulted(node="p-1", fault="unusable", reason="disk full"))
    s.finish(TerminateJob(job="j"))
    assert (s.world.jobs["j"].releases["p-1"].abandoned_because, job_state(s)) == ("the node is unusable", "completed")


def test_37_the_retention_of_preparations_files_cannot_pass_before_the_job_ends(given):
    s = given(constraints=JobConstraints(retention_time=SECOND))
    s.run()
    told = story(s.pass_time(3600 * SECOND))
    assert told == ["files.expired t1 p-1"], "the task's own files, and not preparation's"
    s.run()
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]
    assert sorted(story(s.pass_time(2 * SECOND))) == ["files.expired jobpreparation p-1", "files.expired jobrelease p-1"]


def test_38_disable_with_requeue_and_enable_reruns_tasks_but_not_preparation(given):
    s = given(script={"t1": [Hangs(), Exits(0)]})
    s.run()
    s.finish(DisableJob(job="j", disable_tasks="requeue"))
    assert s.launches(task="jobrelease") == []
    s.finish(EnableJob(job="j"))
    assert s.launches() == ["jobpreparation@p-1", "t1@p-1", "t1@p-1"]


def test_39_disable_with_terminate_completes_tasks_for_good(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.finish(DisableJob(job="j", disable_tasks="terminate"))
    s.finish(EnableJob(job="j"))
    assert (s.world.task("j", "t1").failure.code, s.launches(task="t1")) == ("TaskEnded", ["t1@p-1"])


def test_40_a_job_that_changes_its_pool_prepares_on_the_new_one_and_releases_on_both(given, task_specs):
    s = given(script={"t1": Hangs()})
    s.run()
    s.finish(CreatePool(spec=PoolSpec(id="q")))
    s.finish(DisableJob(job="j", disable_tasks="requeue"))
    s.given(PatchJob(job="j", pool_info=PoolInfo(pool_id="q")))
    s.executor.script["t1"] = Exits(0)
    s.finish(EnableJob(job="j"))
    assert s.launches()[-2:] == ["jobpreparation@q-1", "t1@q-1"]
    s.finish(TerminateJob(job="j"))
    assert (sorted(s.launches(task="jobrelease")), job_state(s)) == (["jobrelease@p-1", "jobrelease@q-1"], "completed")


def test_41_the_jobs_limit_passes_while_preparation_runs(given):
    s = given(constraints=JobConstraints(max_wall_clock_time=SECOND), script={"jobpreparation": Hangs()})
    s.run()
    s.wake()
    assert (job_state(s), s.world.jobs["j"].terminate_reason) == ("terminating", "MaxWallClockTimeExpiry")
    s.run()
    assert (job_state(s), s.launches(task="jobrelease")) == ("completed", [])


def test_42_a_task_that_never_ends_keeps_its_job_from_ending_itself(given):
    """Dependencies are not supported; a task that stays queued for another reason has the same effect."""
    s = given(nodes=1, on_all_tasks_complete="terminatejob", script={"jobpreparation": Exits(1)})
    s.run()
    assert (job_state(s), state(s)) == ("active", "active")


def test_43_terminatejob_on_an_empty_job_ends_it_at_once(given):
    s = given(tasks=(), on_all_tasks_complete="terminatejob")
    assert (job_state(s), s.world.jobs["j"].terminate_reason) == ("completed", "AllTasksComplete")


def test_43_terminatejob_that_is_patched_into_an_empty_job_ends_it_at_once(given):
    s = given(tasks=())
    s.when(PatchJob(job="j", on_all_tasks_complete="terminatejob"))
    assert (job_state(s), s.world.jobs["j"].terminate_reason) == ("completed", "AllTasksComplete")


def test_44_a_task_that_exits_3_with_a_retry_left_runs_again(given):
    spec = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_task_retry_count=1))
    s = given(tasks=(spec,), script={"t1": [Exits(3), Exits(0)]})
    s.run()
    assert (s.world.task("j", "t1").retries, s.world.task("j", "t1").result) == (1, "success")


def test_46_minus_one_and_always_failing_never_completes(given):
    spec = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_task_retry_count=-1))
    s = given(tasks=(spec,), script={"t1": [*[Exits(1)] * 200, Hangs()]})
    s.run()
    assert (state(s), s.world.task("j", "t1").retries) == ("running", 200)


def test_47_a_reboot_under_a_task_requeues_it_without_a_retry(given):
    s = given(script={"t1": [Hangs(), Exits(0)]})
    s.run()
    s.finish(RebootNode(node="p-1"))
    assert (s.world.task("j", "t1").retries, s.world.task("j", "t1").result) == (0, "success")


def test_48_a_failed_task_is_reactivated_and_a_successful_one_is_not(given):
    s = given(tasks=("bad", "good"), script={"bad": [Exits(1), Hangs()]})
    s.run()
    s.refuses(ReactivateTask(job="j", task="good"), "TaskSucceeded")
    s.when(ReactivateTask(job="j", task="bad"))
    task = s.world.task("j", "bad")
    assert (task.retries, task.failure, task.exit_code) == (0, None, None)


@pytest.mark.parametrize(("task", "code"), [("jobpreparation", "TaskIdSameAsJobPreparationTask"), ("jobrelease", "TaskIdSameAsJobReleaseTask")])
def test_49_a_task_may_not_have_the_id_of_preparation_or_release(given, task_specs, task, code):
    given().refuses(AddTasks(job="j", tasks=task_specs(task)), code)
    given().refuses(
        AddTasks(job="j", tasks=task_specs(task, "not an id")), "InvalidPropertyValue"
    )  # Mistakes of several kinds share the general code.


def test_52_two_jobs_on_one_node_prepare_and_release_each_for_itself(given, job_spec, task_specs):
    s = given(slots=2, script={"jobpreparation": [Exits(0), Exits(1)]})
    s.given(SubmitJob(spec=job_spec("k"), tasks=task_specs("x"))).run()
    assert (s.launches(job="j"), s.launches(job="k")) == (["jobpreparation@p-1", "t1@p-1"], ["jobpreparation@p-1"])
    s.finish(TerminateJob(job="j"))
    assert s.world.jobs["k"].state == "active"
    s.finish(TerminateJob(job="k"))
    assert (s.launches(job="j", task="jobrelease"), s.launches(job="k", task="jobrelease")) == (["jobrelease@p-1"], [])


def test_54_a_preempted_node_that_returns_is_as_new(given, task_specs):
    s = given(prep=prep(rerun_on_node_reboot_after_success=False))
    s.run()
    s.finish(NodeFaulted(node="p-1", fault="preempted", reason="evicted"))
    s.finish(NodeReallocated(node="p-1"))
    assert s.world.jobs["j"].releases["p-1"].state == "abandoned"
    s.finish(AddTasks(job="j", tasks=task_specs("t2")))
    assert s.launches() == ["jobpreparation@p-1", "t1@p-1", "jobpreparation@p-1", "t2@p-1"]


@pytest.mark.parametrize(("action", "state_", "reason"), [(None, "active", None), ("none", "active", None), ("terminate", "completed", "TaskFailed")])
def test_55_exit_code_0_ends_the_job_only_where_it_is_mapped_so(given, action, state_, reason):
    """What Azure calls the reason is not said; a task's exit condition is always TaskFailed here."""
    mapped = ExitConditions(exit_codes=(ExitCodeMapping(code=0, exit_options=ExitOptions(job_action=action)),))
    spec = TaskSpec(id="t1", command_line="work", exit_conditions=mapped)
    s = given(tasks=(spec,), on_task_failure="performexitoptionsjobaction")
    s.run()
    assert (job_state(s), s.world.jobs["j"].terminate_reason, s.world.task("j", "t1").result) == (state_, reason, "success")


def test_57_a_task_that_requires_more_slots_than_a_node_has_is_accepted_and_waits_for_ever(given, task_specs):
    s = given(slots=4, tasks=(TaskSpec(id="big", command_line="work", required_slots=8), "small"))
    s.run()
    assert (state(s, "big"), state(s, "small"), job_state(s)) == ("active", "completed", "active")
    assert [reason.code for reason in explain(s.world, "j", "big")] == ["TooFewSlots"]


def test_an_error_before_the_start_is_final_for_preparation_and_task(given):
    """Stands for 8 and 45: what cannot be started is no matter of retries."""
    retried = TaskConstraints(max_task_retry_count=3)
    s = given(prep=prep(constraints=retried), script={"jobpreparation": CannotStart("BlobNotFound")})
    s.run()
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.retries, entry.exit_code, entry.failure.code) == (0, None, "BlobNotFound")
    s = given(tasks=(TaskSpec(id="t1", command_line="work", constraints=retried),), script={"t1": CannotStart("BlobNotFound")})
    s.run()
    assert (s.world.task("j", "t1").retries, s.world.task("j", "t1").failure.code) == (0, "BlobNotFound")
    assert "task.completed t1 failure" in story(s.events)
