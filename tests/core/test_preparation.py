"""Preparation: the rules of `core/preparation.py`, per job and node."""

import pytest

from jobledger.core.events import PreparationCompleted, PreparationRetried
from jobledger.core.reports import ExecutionExited, ExecutionLost, ExecutionNotStarted, ExecutionStarted, NodeFaulted, NodeReady
from jobledger.core.requests import (
    AddTasks,
    DeleteTask,
    DisableJob,
    EnableJob,
    RebootNode,
    ReimageNode,
    RemoveNode,
    ResizePool,
    SubmitJob,
    TerminateJob,
)
from jobledger.core.specs import PreparationSpec, ReleaseSpec, TaskConstraints
from jobledger.testing.scenario import CannotStart, Exits, Hangs, Silent, Vanishes, story


def preparation(**more):
    return PreparationSpec(command_line="prepare", **more)


def retrying(count):
    return preparation(constraints=TaskConstraints(max_task_retry_count=count))


# --- when it runs ---------------------------------------------------------------------------------------------


def test_only_a_placed_task_starts_it(given, task_specs):
    s = given(nodes=3, tasks=())
    assert s.run() == []
    s.finish(AddTasks(job="j", tasks=task_specs("t1")))
    assert s.launches(task="jobpreparation") == ["jobpreparation@p-1"]


def test_tasks_that_land_at_once_share_one_run(given):
    s = given(slots=4, tasks=("a", "b", "c", "d"), script={"jobpreparation": Hangs()})
    s.run()
    assert {task.state for task in s.world.jobs["j"].tasks.values()} == {"preparing"}
    assert list(s.world.jobs["j"].preparations["p-1"].waiting) == ["a", "b", "c", "d"]
    s.answer("preparation", "exited")
    assert {task.state for task in s.world.jobs["j"].tasks.values()} == {"running"}
    assert s.launches() == ["jobpreparation@p-1"]


def test_it_runs_once_however_many_tasks_follow(given):
    s = given(tasks=("a", "b", "c"))
    s.run()
    assert s.launches() == ["jobpreparation@p-1", "a@p-1", "b@p-1", "c@p-1"]


def test_a_job_without_preparation_runs_its_tasks_at_once(given):
    s = given(prep=False)
    assert "task.running t1 p-1" in story(s.events)
    s.run()
    assert s.launches() == ["t1@p-1"]


def test_a_task_that_is_deleted_while_it_waits_does_not_stop_it(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    assert story(s.when(DeleteTask(job="j", task="t1"))) == ["task.deleted t1", "node.idle p-1"]
    assert story(s.answer("preparation", "exited")) == ["execution.ended jobpreparation p-1", "preparation.completed p-1 success"]


# --- waitForSuccess -------------------------------------------------------------------------------------------


def test_tasks_wait_for_success_by_default(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    assert s.world.task("j", "t1").state == "preparing"
    assert story(s.answer("preparation", "exited")) == [
        "execution.ended jobpreparation p-1",
        "preparation.completed p-1 success",
        "execution.requested t1 p-1",
        "task.running t1 p-1",
    ]


def test_tasks_run_beside_it_where_the_job_does_not_wait(given):
    s = given(slots=2, tasks=("a", "b"), prep=preparation(wait_for_success=False), script={"jobpreparation": Hangs()})
    s.run()
    assert s.launches() == ["jobpreparation@p-1", "a@p-1", "b@p-1"]
    assert s.world.task("j", "a").result == "success"


def test_a_failure_changes_nothing_where_the_job_does_not_wait(given, task_specs):
    s = given(prep=preparation(wait_for_success=False), script={"jobpreparation": Exits(9)})
    s.run()
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.state, entry.result, entry.exit_code) == ("completed", "failure", 9)
    s.finish(AddTasks(job="j", tasks=task_specs("t2")))
    assert s.launches() == ["jobpreparation@p-1", "t1@p-1", "t2@p-1"]


# --- retries and failure --------------------------------------------------------------------------------------


def test_a_non_zero_exit_is_retried_on_the_same_node_while_retries_are_left(given):
    s = given(nodes=2, prep=retrying(2), script={"jobpreparation@p-1": [Exits(1), Exits(2), Exits(0)]})
    events = s.run()
    entry = s.world.jobs["j"].preparations["p-1"]
    assert s.launches() == ["jobpreparation@p-1"] * 3 + ["t1@p-1"]
    assert (entry.state, entry.result, entry.retries, entry.launches) == ("completed", "success", 2, 3)
    assert entry.last_retry_at is not None
    assert [event.exit_code for event in events if isinstance(event, PreparationRetried)] == [1, 2]
    assert [launch.attempt for launch in s.executor.launched] == [1, 2, 3, 1]


def test_it_fails_for_good_when_the_retries_are_used(given):
    s = given(prep=retrying(1), script={"jobpreparation": Exits(7)})
    events = s.run()
    assert s.launches() == ["jobpreparation@p-1"] * 2
    ended = next(event for event in events if isinstance(event, PreparationCompleted))
    assert (ended.result, ended.exit_code, ended.failure.code) == ("failure", 7, "FailureExitCode")


def test_minus_one_retries_without_limit(given):
    s = given(prep=retrying(-1), script={"jobpreparation": [*[Exits(1)] * 40, Exits(0)]})
    s.run()
    assert s.world.jobs["j"].preparations["p-1"].retries == 40
    assert s.world.task("j", "t1").result == "success"


def test_a_program_that_cannot_be_launched_is_final_at_once(given):
    s = given(prep=retrying(5), script={"jobpreparation": CannotStart()})
    s.run()
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.result, entry.exit_code, entry.failure.code, entry.retries) == ("failure", None, "CommandProgramNotFound", 0)


def test_the_wall_clock_limit_is_final_at_once(given):
    spec = preparation(constraints=TaskConstraints(max_wall_clock_time=500, max_task_retry_count=5))
    s = given(prep=spec, script={"jobpreparation": Hangs()})
    s.run()
    assert story(s.wake()) == ["execution.stop-requested jobpreparation p-1 complete"]
    s.run()
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.result, entry.failure.code, entry.retries) == ("failure", "TaskEnded", 0)
    assert "maximum execution time" in entry.failure.details[0].value
    assert s.world.jobs["j"].blocked


def test_waiting_tasks_go_back_to_the_queue_and_move_to_another_node(given):
    s = given(nodes=2, slots=2, tasks=("a", "b", "c"), script={"jobpreparation@p-1": Exits(3)})
    told = story(s.run())
    assert "task.requeued a" in told
    tasks = s.world.jobs["j"].tasks
    assert {task.node for task in tasks.values()} == {"p-2"}
    assert {(task.retries, task.requeues, task.result) for task in tasks.values()} == {(0, 0, "success")}, "they never ran on the bad node"


def test_the_failed_node_takes_no_task_of_this_job_but_those_of_others(given, job_spec, task_specs):
    s = given(script={"jobpreparation": [Exits(3), Exits(0)]})
    s.run()
    assert list(s.world.jobs["j"].ineligible) == ["p-1"]
    s.given(SubmitJob(spec=job_spec("other"), tasks=task_specs("x"))).run()
    assert s.world.task("other", "x").result == "success"
    assert s.world.task("j", "t1").state == "active"


@pytest.mark.parametrize("rerun", [True, False])
def test_a_reboot_does_not_make_a_failed_node_eligible(given, rerun):
    s = given(prep=preparation(rerun_on_node_reboot_after_success=rerun), script={"jobpreparation": [Exits(3), Exits(0)]})
    s.run()
    s.finish(RebootNode(node="p-1"))
    assert s.world.nodes["p-1"].state == "idle"
    assert s.launches() == ["jobpreparation@p-1"]
    assert s.world.jobs["j"].blocked


def test_a_reimage_makes_a_failed_node_eligible(given):
    s = given(script={"jobpreparation": [Exits(3), Exits(0)]})
    s.run()
    s.finish(ReimageNode(node="p-1"))
    assert s.world.task("j", "t1").result == "success"


def test_a_failed_node_that_is_removed_is_forgotten(given):
    s = given(nodes=2, script={"jobpreparation@p-1": Exits(3)})
    s.run()
    s.finish(RemoveNode(node="p-1"))
    assert not s.world.jobs["j"].ineligible


# --- reboot and reimage ---------------------------------------------------------------------------------------


def test_a_reboot_after_success_makes_it_due_and_the_next_task_runs_it(given, task_specs):
    s = given()
    s.run()
    told = story(s.finish(RebootNode(node="p-1")))
    assert "preparation.due p-1" in told
    assert s.launches() == ["jobpreparation@p-1", "t1@p-1"], "it waits for the next task"
    s.finish(AddTasks(job="j", tasks=task_specs("t2")))
    assert s.launches()[2:] == ["jobpreparation@p-1", "t2@p-1"]
    assert s.world.jobs["j"].preparations["p-1"].launches == 2
    assert [launch.attempt for launch in s.executor.launched if launch.task == "jobpreparation"] == [1, 2]


def test_a_reboot_after_success_changes_nothing_where_it_need_not_rerun(given, task_specs):
    s = given(prep=preparation(rerun_on_node_reboot_after_success=False))
    s.run()
    s.finish(RebootNode(node="p-1"))
    s.finish(AddTasks(job="j", tasks=task_specs("t2")))
    assert s.launches() == ["jobpreparation@p-1", "t1@p-1", "t2@p-1"]


@pytest.mark.parametrize("rerun", [True, False])
def test_a_run_that_a_reboot_cut_short_runs_again_and_counts_no_retry(given, rerun):
    s = given(prep=preparation(rerun_on_node_reboot_after_success=rerun), script={"jobpreparation": [Hangs(), Exits(0)]})
    s.run()
    told = story(s.when(RebootNode(node="p-1")))
    assert told == ["node.rebooting p-1", "execution.stop-requested jobpreparation p-1 requeue", "task.requeued t1"]
    told = story(s.run())
    assert told[:2] == ["execution.ended jobpreparation p-1", "preparation.due p-1"]
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.result, entry.retries, entry.launches) == ("success", 0, 2)
    assert s.world.task("j", "t1").result == "success"


def test_a_failure_under_a_reboot_uses_no_retry_and_does_not_mark_the_node(given):
    s = given(prep=retrying(3), script={"jobpreparation": [Hangs(), Exits(0)]})
    s.run()
    s.when(RebootNode(node="p-1"))
    assert story(s.answer("preparation", "exited", 1)) == ["execution.ended jobpreparation p-1", "preparation.due p-1"]
    s.run()
    assert s.world.jobs["j"].preparations["p-1"].retries == 0
    assert s.world.task("j", "t1").result == "success"


def test_a_success_under_a_reboot_is_spoiled_by_the_boot(given):
    s = given(script={"jobpreparation": [Hangs(), Exits(0)]})
    s.run()
    s.when(RebootNode(node="p-1"))
    assert story(s.answer("preparation", "exited")) == ["execution.ended jobpreparation p-1", "preparation.completed p-1 success"]
    s.run()
    assert s.launches() == ["jobpreparation@p-1", "jobpreparation@p-1", "t1@p-1"]


def test_a_success_under_a_reimage_is_spoiled_at_once(given):
    s = given(script={"jobpreparation": [Hangs(), Exits(0)]})
    s.run()
    s.when(ReimageNode(node="p-1"))
    assert story(s.answer("preparation", "exited")) == [
        "execution.ended jobpreparation p-1",
        "preparation.completed p-1 success",
        "preparation.due p-1",
    ]


def test_an_unresolved_run_is_due_again_and_its_tasks_return(given):
    s = given(script={"jobpreparation": [Vanishes(), Exits(0)]})
    told = story(s.run())
    assert "execution.unresolved jobpreparation p-1" in told
    assert told.index("preparation.due p-1") < told.index("task.requeued t1")
    assert s.launches() == ["jobpreparation@p-1", "jobpreparation@p-1", "t1@p-1"]


def test_a_run_that_the_executor_stopped_by_itself_is_due_again(given):
    s = given(script={"jobpreparation": [Hangs(), Exits(0)]})
    s.run()
    assert story(s.answer("preparation", "stopped"))[:3] == ["execution.ended jobpreparation p-1", "preparation.due p-1", "task.requeued t1"]


def test_each_run_has_all_its_retries(given, task_specs):
    s = given(prep=retrying(1), script={"jobpreparation": [Exits(1), Exits(0), Exits(1), Exits(0)]})
    s.run()
    s.finish(RebootNode(node="p-1"))
    s.finish(AddTasks(job="j", tasks=task_specs("t2")))
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.result, entry.retries, entry.launches) == ("success", 1, 4)


def test_a_new_node_prepares_when_the_first_task_comes(given, task_specs):
    s = given()
    s.run()
    s.finish(ResizePool(pool="p", target=2))
    assert s.launches(node="p-2") == []
    s.finish(AddTasks(job="j", tasks=task_specs("t2", "t3")))
    assert s.launches(node="p-2")[0] == "jobpreparation@p-2"


# --- the job's end --------------------------------------------------------------------------------------------


def test_a_run_at_the_jobs_end_is_stopped_and_recorded_as_failed(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    told = story(s.when(TerminateJob(job="j")))
    assert told == ["job.terminating j", "task.completed t1 failure", "execution.stop-requested jobpreparation p-1 complete", "node.idle p-1"]
    told = story(s.run())
    assert told == ["execution.ended jobpreparation p-1", "preparation.completed p-1 failure", "job.completed j"]
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.state, entry.result, entry.failure.code) == ("completed", "failure", "TaskEnded")


def test_a_success_that_beats_the_stop_is_kept_but_no_task_starts(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    s.when(TerminateJob(job="j"))
    assert story(s.answer("preparation", "exited")) == ["execution.ended jobpreparation p-1", "preparation.completed p-1 success", "job.completed j"]
    assert s.launches(task="t1") == []


def test_a_failing_run_of_an_ending_job_is_not_retried(given):
    s = given(prep=retrying(5), script={"jobpreparation": Hangs()})
    s.run()
    s.when(TerminateJob(job="j"))
    s.answer("preparation", "exited", 1)
    assert s.launches() == ["jobpreparation@p-1"]
    assert s.world.jobs["j"].state == "completed"


def test_an_unresolved_run_of_an_ending_job_has_failed(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    s.when(TerminateJob(job="j"))
    s.answer("preparation", "lost")
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.result, entry.failure.code, s.world.jobs["j"].state) == ("failure", "TaskEnded", "completed")


def test_an_unresolved_run_that_was_over_its_limit_is_final(given):
    s = given(prep=PreparationSpec(command_line="prepare", constraints=TaskConstraints(max_wall_clock_time=500)), script={"jobpreparation": Hangs()})
    s.run()
    s.wake()
    s.answer("preparation", "lost")
    entry = s.world.jobs["j"].preparations["p-1"]
    assert (entry.state, entry.result, entry.failure.code) == ("completed", "failure", "TaskEnded")
    assert s.world.jobs["j"].blocked


def test_success_in_a_disabled_job_starts_nothing_until_it_is_enabled(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    s.when(DisableJob(job="j", disable_tasks="requeue"))
    assert story(s.answer("preparation", "exited"))[-1] == "preparation.completed p-1 success"
    s.finish(EnableJob(job="j"))
    assert s.launches() == ["jobpreparation@p-1", "t1@p-1"]


# --- stale and repeated reports -------------------------------------------------------------------------------


def test_reports_on_an_execution_that_is_over_decide_to_nothing(given):
    s = given(script={"t1": Hangs()})
    s.run()
    for execution in (1, 999):
        s.ignores(ExecutionStarted(execution=execution, pid=7))
        s.ignores(ExecutionExited(execution=execution, exit_code=1))
        s.ignores(ExecutionNotStarted(execution=execution))
        s.ignores(ExecutionLost(execution=execution, reason="late"))


def test_a_lost_node_cuts_a_run_short_and_the_task_moves(given):
    s = given(nodes=2, script={"jobpreparation@p-1": Hangs()})
    s.run()
    told = story(s.when(NodeFaulted(node="p-1", fault="lost", reason="no route")))
    assert told[:4] == ["node.unknown p-1", "execution.unresolved jobpreparation p-1", "preparation.due p-1", "task.requeued t1"]
    s.run()
    assert s.world.task("j", "t1").node == "p-2"
    s.finish(NodeReady(node="p-1", boot_id="later"))
    assert s.launches(node="p-1") == ["jobpreparation@p-1"], "the node is back and no task needs it"


def test_nothing_is_lost_between_launch_and_start(given):
    s = given(script={"jobpreparation": Silent()}, release=ReleaseSpec(command_line="x", release_scope="attempted"))
    s.run()
    assert s.world.jobs["j"].releases == {}, "nothing ran there, as far as anybody knows"
    s.answer("preparation", "exited")
    assert s.world.jobs["j"].releases["p-1"].state == "owed"
