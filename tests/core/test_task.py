"""Tasks: the rules of `core/task.py`, and each refusal with its code."""

import pytest

from jobledger.core.errors import ImpossibleEvent
from jobledger.core.events import TaskReactivated, TaskRetried
from jobledger.core.reports import ExecutionExited, NodeFaulted
from jobledger.core.requests import (
    AddTasks,
    DeallocateNode,
    DeleteJob,
    DeletePool,
    DeleteTask,
    DisableScheduling,
    EnableScheduling,
    ReactivateTask,
    RebootNode,
    ReimageNode,
    RemoveNode,
    StartNode,
    TerminateJob,
    TerminateTask,
)
from jobledger.core.specs import JobConstraints, TaskConstraints, TaskSpec
from jobledger.testing.scenario import CannotStart, Exits, Hangs, Silent, Vanishes, story


def retrying(count, task="t1"):
    return TaskSpec(id=task, command_line="work", constraints=TaskConstraints(max_task_retry_count=count))


def task_of(s, task="t1"):
    return s.world.task("j", task)


# --- success, retries, failure --------------------------------------------------------------------------------


def test_a_task_that_exits_with_0_succeeded(given):
    s = given()
    s.run()
    task = task_of(s)
    assert (task.state, task.result, task.exit_code, task.failure) == ("completed", "success", 0, None)
    assert s.world.nodes["p-1"].tasks == {}
    assert (s.world.nodes["p-1"].tasks_run, s.world.nodes["p-1"].tasks_succeeded) == (1, 1)


def test_a_non_zero_exit_is_retried_while_retries_are_left(given):
    s = given(tasks=(retrying(1),), prep=False, script={"t1": Hangs()})
    s.run()
    assert story(s.answer("task", "exited", 3)) == [
        "execution.ended t1 p-1",
        "task.retried t1",
        "execution.requested t1 p-1",
        "task.running t1 p-1",
    ]
    task = task_of(s)
    assert (task.state, task.retries, task.exit_code) == ("running", 1, 3)
    assert task.last_retry_at is not None
    assert story(s.answer("task", "exited", 4))[:2] == ["execution.ended t1 p-1", "task.completed t1 failure"]
    assert (task_of(s).retries, task_of(s).exit_code, task_of(s).failure.code) == (1, 4, "FailureExitCode")


def test_by_default_there_is_one_try(given):
    s = given(script={"t1": Exits(1)})
    s.run()
    assert s.launches(task="t1") == ["t1@p-1"]
    assert task_of(s).failure.code == "FailureExitCode"


def test_a_task_without_constraints_has_the_jobs_retries(given):
    own = TaskSpec(id="own", command_line="work", constraints=TaskConstraints())
    s = given(tasks=("t1", own), constraints=JobConstraints(max_task_retry_count=2), script={"t1": Exits(1), "own": Exits(1)})
    s.run()
    assert len(s.launches(task="t1")) == 3
    assert len(s.launches(task="own")) == 1


def test_minus_one_retries_without_limit(given):
    s = given(tasks=(retrying(-1),), script={"t1": [*[Exits(1)] * 60, Exits(0)]})
    s.run()
    assert (task_of(s).retries, task_of(s).result) == (60, "success")
    assert [launch.attempt for launch in s.executor.launched if launch.task == "t1"] == list(range(1, 62))


def test_a_retry_may_go_to_any_node_and_keeps_its_place_in_the_queue(given):
    s = given(tasks=(retrying(1, "a"), "b"), prep=False, script={"a": [Exits(1), Exits(0)]})
    s.run()
    assert s.launches() == ["a@p-1", "a@p-1", "b@p-1"]

    s = given(nodes=2, tasks=(retrying(1, "a"),), prep=False, script={"a": Hangs()})
    s.run()
    s.when(DisableScheduling(node="p-1"))
    s.answer("task", "exited", 1)
    assert task_of(s, "a").node == "p-2"


def test_a_signal_is_named_in_the_failure(given):
    s = given(script={"t1": Exits(signal=9)})
    s.run()
    details = {detail.name: detail.value for detail in task_of(s).failure.details}
    assert details == {"ExitCode": "137", "Signal": "9"}


def test_a_program_that_cannot_be_launched_is_final(given):
    s = given(tasks=(retrying(5),), script={"t1": CannotStart()})
    s.run()
    task = task_of(s)
    assert (task.state, task.exit_code, task.failure.code, task.retries) == ("completed", None, "CommandProgramNotFound", 0)


def test_the_wall_clock_limit_is_final_and_no_retry(given):
    spec = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_wall_clock_time=1000, max_task_retry_count=5))
    s = given(tasks=(spec,), script={"t1": Hangs()})
    s.run()
    assert story(s.wake()) == ["execution.stop-requested t1 p-1 complete"]
    s.run()
    task = task_of(s)
    assert (task.state, task.failure.code, task.exit_code, task.retries) == ("completed", "TaskEnded", 143, 0)
    assert "maximum execution time" in task.failure.details[0].value


def test_success_that_beats_the_wall_clock_stop_is_kept_and_failure_is_not_retried(given):
    spec = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_wall_clock_time=1000, max_task_retry_count=5))
    for code, result in ((0, "success"), (2, "failure")):
        s = given(tasks=(spec,), script={"t1": Hangs()})
        s.run()
        s.wake()
        s.answer("task", "exited", code)
        assert (task_of(s).state, task_of(s).result, task_of(s).exit_code) == ("completed", result, code)


# --- what the platform took away ------------------------------------------------------------------------------


TAKEN_AWAY = {
    "reboot": lambda: RebootNode(node="p-1"),
    "reimage": lambda: ReimageNode(node="p-1"),
    "deallocate": lambda: DeallocateNode(node="p-1"),
    "remove": lambda: RemoveNode(node="p-1"),
    "disable scheduling": lambda: DisableScheduling(node="p-1"),
    "delete pool": lambda: DeletePool(pool="p"),
    "lost": lambda: NodeFaulted(node="p-1", fault="lost", reason="no route"),
    "unusable": lambda: NodeFaulted(node="p-1", fault="unusable", reason="disk full"),
    "preempted": lambda: NodeFaulted(node="p-1", fault="preempted", reason="evicted"),
}


@pytest.mark.parametrize("how", TAKEN_AWAY)
def test_a_running_task_that_the_platform_takes_away_is_requeued_and_not_counted_as_a_retry(given, how):
    s = given(nodes=2, script={"t1@p-1": Hangs(), "t1@p-2": Silent()})
    s.run()
    told = story(s.finish(TAKEN_AWAY[how]()))
    assert "task.requeued t1" in told
    task = task_of(s)
    assert (task.retries, task.requeues, task.result) == (0, 1, None)
    assert task.last_requeue_at is not None
    if how != "delete pool":
        assert (task.state, task.node, task.launches) == ("running", "p-2", 2)
    else:
        assert task.state == "active"


@pytest.mark.parametrize("how", ["reboot", "reimage", "disable scheduling", "deallocate"])
def test_on_a_single_node_it_runs_again_when_the_node_is_back(given, how):
    s = given(script={"t1": [Hangs(), Exits(0)]})
    s.run()
    s.finish(TAKEN_AWAY[how]())
    if how == "disable scheduling":
        s.finish(EnableScheduling(node="p-1"))
    if how == "deallocate":
        s.finish(StartNode(node="p-1"))
    assert (task_of(s).result, task_of(s).retries, task_of(s).requeues) == ("success", 0, 1)


def test_a_task_that_only_waited_is_returned_without_a_count(given):
    s = given(script={"jobpreparation": [Hangs(), Exits(0)]})
    s.run()
    s.finish(RebootNode(node="p-1"))
    assert (task_of(s).result, task_of(s).requeues) == ("success", 0)


def test_an_unresolved_end_is_requeued(given):
    s = given(script={"t1": [Vanishes(), Exits(0)]})
    s.run()
    assert (task_of(s).result, task_of(s).requeues, task_of(s).launches) == ("success", 1, 2)


def test_an_unresolved_end_in_an_ending_job_is_a_failure(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(TerminateJob(job="j"))
    s.answer("task", "lost")
    assert (task_of(s).state, task_of(s).failure.code) == ("completed", "TaskEnded")


def test_a_requeue_that_meets_the_jobs_end_completes_the_task(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(RebootNode(node="p-1"))
    assert "execution.stop-requested t1 p-1 complete" in story(s.when(TerminateJob(job="j"))), "the stronger stop wins"
    s.answer("task", "stopped")
    assert (task_of(s).state, task_of(s).failure.code) == ("completed", "TaskEnded")


def test_a_task_that_the_executor_stopped_by_itself_is_requeued(given):
    s = given(script={"t1": [Hangs(), Exits(0)]})
    s.run()
    assert "task.requeued t1" in story(s.answer("task", "stopped"))


@pytest.mark.parametrize(("code", "line"), [(0, "task.completed t1 success"), (1, "task.completed t1 failure")])
def test_a_program_that_ended_by_itself_before_the_stop_keeps_its_result(given, code, line):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(RebootNode(node="p-1"))
    assert line in story(s.answer("task", "exited", code))


def test_a_failure_before_a_requeueing_stop_uses_a_retry(given):
    s = given(tasks=(retrying(1),), script={"t1": Hangs()})
    s.run()
    s.when(RebootNode(node="p-1"))
    events = s.answer("task", "exited", 1)
    assert any(isinstance(event, TaskRetried) for event in events)


# --- terminate ------------------------------------------------------------------------------------------------


def test_terminating_an_active_task_completes_it(given):
    s = given(tasks=("t1", "t2"), script={"t1": Hangs()})
    s.run()
    assert story(s.when(TerminateTask(job="j", task="t2"))) == ["task.completed t2 failure"]
    assert task_of(s, "t2").failure.details[0].value == "the task was terminated"


def test_terminating_a_preparing_task_completes_it_and_leaves_preparation_alone(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    assert story(s.when(TerminateTask(job="j", task="t1"))) == ["task.completed t1 failure", "node.idle p-1"]
    assert s.live("preparation") == 1


def test_terminating_a_running_task_stops_it_first(given):
    s = given(tasks=(retrying(3),), script={"t1": Hangs()})
    s.run()
    assert story(s.when(TerminateTask(job="j", task="t1"))) == ["execution.stop-requested t1 p-1 complete"]
    s.ignores(TerminateTask(job="j", task="t1"))
    s.run()
    assert (task_of(s).state, task_of(s).failure.code, task_of(s).retries) == ("completed", "TaskEnded", 0)


def test_a_terminated_task_that_fails_by_itself_is_not_retried(given):
    s = given(tasks=(retrying(3),), script={"t1": Hangs()})
    s.run()
    s.when(TerminateTask(job="j", task="t1"))
    s.answer("task", "exited", 5)
    assert (task_of(s).state, task_of(s).exit_code, task_of(s).failure.code) == ("completed", 5, "FailureExitCode")


def test_a_completed_task_cannot_be_terminated(given):
    s = given()
    s.run()
    refusal = s.refuses(TerminateTask(job="j", task="t1"), "TaskCompleted")
    assert str(refusal) == "task t1 of job j is completed; it cannot be terminated"


# --- delete ---------------------------------------------------------------------------------------------------


def test_deleting_an_active_task_takes_it_from_the_queue(given):
    s = given(tasks=("t1", "t2", "t3"), prep=False, script={"t1": Hangs()})
    s.run()
    assert story(s.when(DeleteTask(job="j", task="t2"))) == ["task.deleted t2"]
    s.answer("task", "exited")
    s.run()
    assert s.launches() == ["t1@p-1", "t3@p-1"]


def test_deleting_a_preparing_task_frees_its_slot(given):
    s = given(tasks=("t1", "t2"), script={"jobpreparation": Hangs()})
    s.run()
    assert story(s.when(DeleteTask(job="j", task="t1"))) == ["task.deleted t1", "task.preparing t2 p-1"]


def test_deleting_a_running_task_ends_it_first(given):
    s = given(script={"t1": Hangs()})
    s.run()
    assert story(s.when(DeleteTask(job="j", task="t1"))) == ["execution.stop-requested t1 p-1 delete"]
    s.ignores(DeleteTask(job="j", task="t1"))
    s.ignores(TerminateTask(job="j", task="t1"))
    assert story(s.run())[:4] == ["execution.ended t1 p-1", "task.deleted t1", "files.expired t1 p-1", "node.idle p-1"]
    assert "t1" not in s.world.jobs["j"].tasks


@pytest.mark.parametrize("how", ["exited", "lost", "stopped", "notstarted"])
def test_a_task_to_be_deleted_is_deleted_however_it_ends(given, how):
    s = given(script={"t1": Silent()})
    s.run()
    s.when(DeleteTask(job="j", task="t1"))
    assert "task.deleted t1" in story(s.answer("task", how))


def test_deleting_a_completed_task_forgets_it(given):
    s = given(tasks=("t1", "t2"))
    s.run()
    assert s.world.jobs["j"].succeeded == 2
    s.when(DeleteTask(job="j", task="t1"))
    assert (list(s.world.jobs["j"].tasks), s.world.jobs["j"].succeeded) == (["t2"], 1)


def test_a_task_of_a_completed_job_may_be_deleted(given):
    s = given()
    s.run()
    s.finish(TerminateJob(job="j"))
    assert story(s.when(DeleteTask(job="j", task="t1"))) == ["task.deleted t1", "files.expired t1 p-1"]


def test_a_task_that_was_deleted_and_added_again_has_its_new_place_in_the_queue(given, task_specs):
    s = given(tasks=("t1", "t2", "t3", "t4"), prep=False, script={"t1": Hangs()})
    s.run()
    s.when(DeleteTask(job="j", task="t3"))
    s.when(AddTasks(job="j", tasks=task_specs("t3")))
    s.answer("task", "exited")
    s.run()
    assert s.launches() == ["t1@p-1", "t2@p-1", "t4@p-1", "t3@p-1"]


# --- reactivate -----------------------------------------------------------------------------------------------


def test_a_failed_task_is_reactivated_with_all_its_retries_anew(given):
    s = given(tasks=(retrying(1),), script={"t1": [Exits(1), Exits(2), Exits(3), Exits(0)]})
    s.run()
    assert (task_of(s).exit_code, task_of(s).retries) == (2, 1)
    events = s.when(ReactivateTask(job="j", task="t1"))
    assert isinstance(events[0], TaskReactivated)
    task = task_of(s)
    assert (task.exit_code, task.failure, task.result, task.retries, task.ended_at, task.last_retry_at) == (None, None, None, 0, None, None)
    s.run()
    assert (task_of(s).result, task_of(s).retries, task_of(s).launches) == ("success", 1, 4)


def test_a_task_that_succeeded_cannot_be_reactivated(given):
    s = given()
    s.run()
    s.refuses(ReactivateTask(job="j", task="t1"), "TaskSucceeded")


@pytest.mark.parametrize("state", ["active", "preparing", "running"])
def test_a_task_that_is_not_completed_cannot_be_reactivated(given, state):
    s = given(tasks=("t1", "t2"), script={"jobpreparation": Hangs()} if state == "preparing" else {"t1": Hangs()})
    s.run()
    task = "t2" if state == "active" else "t1"
    assert task_of(s, task).state == state
    refusal = s.refuses(ReactivateTask(job="j", task=task), "TaskNotCompleted")
    assert f"task {task} of job j is {state}, not completed" in str(refusal)


# --- refusals that all share ----------------------------------------------------------------------------------


WISHES = {"terminate": TerminateTask, "delete": DeleteTask, "reactivate": ReactivateTask}


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
def test_unknown_jobs_and_tasks_are_refused(given, wish):
    s = given()
    s.refuses(wish(job="nope", task="t1"), "JobNotFound")
    assert "job j has no task nope" in str(s.refuses(wish(job="j", task="nope"), "TaskNotFound"))


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
def test_a_job_that_is_ending_grants_nothing_about_its_tasks(given, wish):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(TerminateJob(job="j"))
    s.refuses(wish(job="j", task="t1"), "JobBeingTerminated")
    s.when(DeleteJob(job="j"))
    s.refuses(wish(job="j", task="t1"), "JobBeingDeleted")


def test_a_completed_job_reactivates_nothing(given):
    s = given(script={"t1": Exits(1)})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.refuses(ReactivateTask(job="j", task="t1"), "JobCompleted")


# --- the rest -------------------------------------------------------------------------------------------------


def test_a_repeated_report_of_an_end_decides_to_nothing(given):
    s = given(script={"t1": Hangs()})
    s.run()
    execution = s.live("task")
    s.answer("task", "exited")
    s.ignores(ExecutionExited(execution=execution, exit_code=1))
    assert task_of(s).result == "success"


def test_the_end_of_an_earlier_launch_says_nothing_about_the_present_one(given):
    s = given(tasks=(retrying(1),), script={"t1": [Hangs(), Hangs()]})
    s.run()
    first = s.live("task")
    s.answer("task", "exited", 1)
    s.ignores(ExecutionExited(execution=first, exit_code=0))
    assert task_of(s).state == "running"


def test_a_move_that_no_table_has_is_an_error_that_names_the_task(given):
    s = given()
    with pytest.raises(ImpossibleEvent, match=r"task t1 of job j is preparing: task\.reactivated cannot happen to it"):
        s.given(TaskReactivated(job="j", task="t1"))


def test_a_task_that_only_waited_on_a_node_did_not_run_there(given):
    s = given(nodes=1, tasks=("t1",), script={"jobpreparation": Exits(1)})
    s.run()
    assert s.world.task("j", "t1").node is None
    s.finish(TerminateJob(job="j"))
    assert (s.world.task("j", "t1").state, s.world.task("j", "t1").node) == ("completed", None)
