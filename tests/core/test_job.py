"""Jobs: the rules of `core/job.py`, and each refusal with its code."""

import pytest

from jobledger.core.events import JobBlocked, JobTerminating, JobUnblocked, TaskCompleted
from jobledger.core.limits import TASKS_PER_REQUEST_MAX
from jobledger.core.requests import (
    AddTasks,
    CreatePool,
    DeleteJob,
    DeletePool,
    DeleteTask,
    DisableJob,
    EnableJob,
    ReimageNode,
    ResizePool,
    SubmitJob,
    TerminateJob,
    TerminateTask,
)
from jobledger.core.specs import JobConstraints, PoolSpec, PreparationSpec, ReleaseSpec, TaskSpec
from jobledger.testing.scenario import Exits, Hangs, Scenario, Silent, story

# --- submitting -----------------------------------------------------------------------------------------------


def test_a_job_and_its_first_tasks_are_one_batch(job_spec, task_specs):
    s = Scenario()
    assert story(s.when(SubmitJob(spec=job_spec(), tasks=task_specs("t1", "t2")))) == ["job.created j", "task.added t1", "task.added t2"]
    assert s.world.jobs["j"].state == "active"


def test_submitting_the_same_again_decides_to_nothing(given, job_spec, task_specs):
    s = given(tasks=("t1", "t2"))
    s.ignores(SubmitJob(spec=job_spec(), tasks=task_specs("t1", "t2")))
    s.ignores(SubmitJob(spec=job_spec(), tasks=task_specs("t2")))
    s.run()
    s.finish(TerminateJob(job="j"))
    s.ignores(SubmitJob(spec=job_spec(), tasks=task_specs("t1", "t2")))


def test_another_specification_under_the_same_id_is_refused(given, job_spec, task_specs):
    s = given()
    s.refuses(SubmitJob(spec=job_spec(priority=1), tasks=task_specs("t1")), "JobExists")
    s.refuses(SubmitJob(spec=job_spec(), tasks=task_specs("t1", "new")), "JobExists")
    s.refuses(SubmitJob(spec=job_spec(), tasks=(TaskSpec(id="t1", command_line="other"),)), "JobExists")


def test_submitting_again_while_the_job_is_being_deleted_is_refused(given, job_spec, task_specs):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(DeleteJob(job="j"))
    refusal = s.refuses(SubmitJob(spec=job_spec(), tasks=task_specs("t1")), "JobBeingDeleted")
    assert "job j is deleting" in str(refusal)


def test_every_mistake_of_a_job_is_named_in_one_refusal(job_spec):
    s = Scenario()
    spec = job_spec("bad id", priority=5000)
    refusal = s.refuses(SubmitJob(spec=spec, tasks=(TaskSpec(id="t1", command_line=""), TaskSpec(id="t1", command_line="x"))), "InvalidPropertyValue")
    for part in ("id: 'bad id'", "priority: 5000", "tasks[0].commandLine", "tasks[1].id: 't1' is already"):
        assert part in str(refusal)


def test_a_refusal_shows_a_bounded_number_of_mistakes_and_counts_the_rest(job_spec):
    tasks = tuple(TaskSpec(id=f"t{number}", command_line="") for number in range(25))
    refusal = Scenario().refuses(SubmitJob(spec=job_spec(), tasks=tasks), "InvalidPropertyValue")
    assert "tasks[19]" in str(refusal)
    assert "tasks[20]" not in str(refusal)
    assert str(refusal).endswith("; and 5 more")


def test_more_tasks_than_fit_one_request_are_refused_before_they_are_checked(given, job_spec):
    s = given()
    tasks = (TaskSpec(id="t", command_line=""),) * (TASKS_PER_REQUEST_MAX + 1)
    s.refuses(AddTasks(job="j", tasks=tasks), "RequestBodyTooLarge")
    s.refuses(SubmitJob(spec=job_spec("k"), tasks=tasks), "RequestBodyTooLarge")


def test_a_job_waits_for_a_pool_of_that_name(given, job_spec, task_specs):
    s = Scenario().given(SubmitJob(spec=job_spec(), tasks=task_specs("t1")))
    assert s.run() == []
    s.finish(CreatePool(spec=PoolSpec(id="p")))
    assert s.world.task("j", "t1").result == "success"


# --- adding tasks ---------------------------------------------------------------------------------------------


def test_tasks_are_added_all_or_none(given, task_specs):
    s = given(tasks=())
    assert story(s.when(AddTasks(job="j", tasks=task_specs("a", "b"))))[:2] == ["task.added a", "task.added b"]
    s.refuses(AddTasks(job="j", tasks=(*task_specs("c"), TaskSpec(id="a", command_line="other"))), "TaskExists")
    assert "c" not in s.world.jobs["j"].tasks


def test_a_task_that_is_there_with_the_same_specification_is_passed_over(given, task_specs):
    s = given(tasks=("a",), script={"a": Hangs()})
    s.run()
    assert story(s.when(AddTasks(job="j", tasks=task_specs("a", "b")))) == ["task.added b"]
    s.ignores(AddTasks(job="j", tasks=task_specs("a", "b")))


def test_tasks_are_added_to_a_disabled_job_and_wait(given, task_specs):
    s = given(tasks=())
    s.when(DisableJob(job="j", disable_tasks="requeue"))
    assert story(s.when(AddTasks(job="j", tasks=task_specs("a")))) == ["task.added a"]
    assert s.run() == []
    s.finish(EnableJob(job="j"))
    assert s.world.task("j", "a").result == "success"


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: AddTasks(job="nope", tasks=()),
        lambda: TerminateJob(job="nope"),
        lambda: DeleteJob(job="nope"),
        lambda: DisableJob(job="nope", disable_tasks="wait"),
        lambda: EnableJob(job="nope"),
    ],
)
def test_a_job_that_is_not_there_is_refused(given, request_of):
    refusal = given().refuses(request_of(), "JobNotFound")
    assert "nope" in str(refusal)


REQUESTS_OF_A_LIVE_JOB = {
    "add": lambda: AddTasks(job="j", tasks=(TaskSpec(id="late", command_line="x"),)),
    "terminate": lambda: TerminateJob(job="j"),
    "disable": lambda: DisableJob(job="j", disable_tasks="requeue"),
    "enable": lambda: EnableJob(job="j"),
}


@pytest.mark.parametrize("wish", REQUESTS_OF_A_LIVE_JOB)
def test_a_job_that_is_over_grants_nothing_more(given, wish):
    wanted = REQUESTS_OF_A_LIVE_JOB[wish]()
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.refuses(wanted, "JobBeingTerminated")
    s.answer("release", "exited")
    s.refuses(wanted, "JobCompleted")

    s = given(script={"t1": Hangs()})
    s.run()
    s.when(DeleteJob(job="j"))
    refusal = s.refuses(wanted, "JobBeingDeleted")
    assert "job j is deleting" in str(refusal)


# --- terminating ----------------------------------------------------------------------------------------------


def test_ending_a_job_ends_tasks_then_pays_releases_then_completes(given):
    s = given(tasks=("t1", "t2"), script={"t1": Hangs()})
    s.run()
    assert story(s.when(TerminateJob(job="j"))) == ["job.terminating j", "task.completed t2 failure", "execution.stop-requested t1 p-1 complete"]
    assert s.world.jobs["j"].state == "terminating"
    assert story(s.answer("task", "stopped")) == [
        "execution.ended t1 p-1",
        "task.completed t1 failure",
        "execution.requested jobrelease p-1",
        "release.started p-1",
        "node.idle p-1",
    ]
    s.answer("release", "started")
    assert s.world.jobs["j"].state == "terminating"
    assert story(s.answer("release", "exited")) == ["execution.ended jobrelease p-1", "release.completed p-1 success", "job.completed j"]
    assert s.world.jobs["j"].state == "completed"


def test_the_reason_of_a_termination_is_kept_and_told_to_its_tasks(given):
    s = given(tasks=("t1", "t2"), script={"t1": Hangs()})
    s.run()
    events = s.when(TerminateJob(job="j", reason="enough seen"))
    assert s.world.jobs["j"].terminate_reason == "enough seen"
    ended = next(event for event in events if isinstance(event, TaskCompleted))
    assert (ended.task, ended.failure.code, ended.failure.details[0].value) == ("t2", "TaskEnded", "the job was terminated: enough seen")


def test_a_termination_without_a_reason_has_azures(given):
    s = given()
    s.when(TerminateJob(job="j"))
    assert s.world.jobs["j"].terminate_reason == "UserTerminate"


def test_no_task_is_left_active_when_its_job_ends(given):
    s = given(tasks=("t1", "t2", "t3"), script={"jobpreparation": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    job = s.world.jobs["j"]
    assert (job.state, job.counts) == ("completed", {"active": 0, "preparing": 0, "running": 0, "completed": 3})
    assert {task.failure.code for task in job.tasks.values()} == {"TaskEnded"}


def test_a_job_that_runs_nothing_completes_in_one_batch(given):
    s = given(tasks=())
    assert story(s.when(TerminateJob(job="j"))) == ["job.terminating j", "job.completed j"]


@pytest.mark.parametrize("state", ["disabling", "disabled", "enabling"])
def test_a_job_is_terminated_from_every_state_before_its_end(given, state):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(DisableJob(job="j", disable_tasks="requeue"))
    if state == "enabling":
        s.when(EnableJob(job="j"))
    elif state == "disabled":
        s.run()
    assert s.world.jobs["j"].state == state
    s.finish(TerminateJob(job="j"))
    assert s.world.jobs["j"].state == "completed"
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


# --- when all tasks are complete ------------------------------------------------------------------------------


def test_all_tasks_complete_terminates_the_job_where_it_asks_for_it(given):
    s = given(tasks=("t1", "t2"), on_all_tasks_complete="terminatejob", script={"t1": Exits(1)})
    s.run()
    job = s.world.jobs["j"]
    assert (job.state, job.terminate_reason) == ("completed", "AllTasksComplete")


def test_by_default_a_job_stays_active_when_all_tasks_are_complete(given):
    s = given()
    s.run()
    assert s.world.jobs["j"].state == "active"


def test_deleting_the_last_open_task_completes_the_others(given):
    s = given(tasks=("t1", "t2"), on_all_tasks_complete="terminatejob", script={"t2": Hangs()}, prep=False)
    s.run()
    assert JobTerminating not in [type(event) for event in s.events]
    s.finish(DeleteTask(job="j", task="t2"))
    assert s.world.jobs["j"].state == "completed"


def test_a_disabled_job_ends_itself_only_when_it_is_active_again(given):
    s = given(on_all_tasks_complete="terminatejob", script={"t1": Hangs()})
    s.run()
    s.finish(DisableJob(job="j", disable_tasks="terminate"))
    assert s.world.jobs["j"].state == "disabled"
    assert s.world.jobs["j"].counts["completed"] == 1
    s.finish(EnableJob(job="j"))
    assert s.world.jobs["j"].terminate_reason == "AllTasksComplete"
    assert s.world.jobs["j"].state == "completed"


# --- deleting -------------------------------------------------------------------------------------------------


def test_deleting_an_active_job_ends_and_releases_it_first(given):
    s = given(script={"t1": Hangs()})
    s.run()
    told = story(s.finish(DeleteJob(job="j")))
    assert told[0] == "job.deleting j"
    assert told.index("task.completed t1 failure") < told.index("release.started p-1") < told.index("release.completed p-1 success")
    assert told[-1] == "job.deleted j"
    assert "j" not in s.world.jobs


def test_deleting_a_job_twice_is_refused(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(DeleteJob(job="j"))
    s.refuses(DeleteJob(job="j"), "JobBeingDeleted")


def test_deleting_a_terminating_job_lets_the_release_in_flight_finish(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert story(s.finish(DeleteJob(job="j"))) == ["job.deleting j"]
    assert story(s.answer("release", "exited"))[-2:] == ["release.completed p-1 success", "job-files.expired p-1"]
    assert story(s.run()) == ["job-files.removed p-1", "job.deleted j"]
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_deleting_a_completed_job_runs_nothing(given):
    s = given()
    s.run()
    s.finish(TerminateJob(job="j"))
    assert story(s.finish(DeleteJob(job="j"))) == ["job.deleting j", "job-files.expired p-1", "job-files.removed p-1", "job.deleted j"]
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_the_id_of_a_deleted_job_may_be_used_again_and_nothing_of_the_old_one_shows(given, job_spec, task_specs):
    s = given(constraints=JobConstraints(max_wall_clock_time=1000))
    s.run()
    s.finish(DeleteJob(job="j"))
    s.refuses(TerminateJob(job="j"), "JobNotFound")
    s.given(SubmitJob(spec=job_spec(constraints=JobConstraints(max_wall_clock_time=100_000)), tasks=task_specs("t1"))).run()
    assert s.launches(task="jobpreparation") == ["jobpreparation@p-1", "jobpreparation@p-1"]
    assert s.world.task("j", "t1").launches == 1
    s.pass_time(5000)
    assert s.world.jobs["j"].state == "active", "the old job's limit is not the new one's"
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1", "jobrelease@p-1"]


# --- disabling and enabling -----------------------------------------------------------------------------------


def test_disable_with_requeue_puts_running_tasks_back(given):
    s = given(script={"t1": [Hangs(), Exits(0)]})
    s.run()
    assert story(s.when(DisableJob(job="j", disable_tasks="requeue"))) == ["job.disabling j", "execution.stop-requested t1 p-1 requeue"]
    assert story(s.answer("task", "stopped")) == ["execution.ended t1 p-1", "task.requeued t1", "job.disabled j", "node.idle p-1"]
    task = s.world.task("j", "t1")
    assert (task.state, task.retries, task.requeues) == ("active", 0, 1)
    s.finish(EnableJob(job="j"))
    assert s.world.task("j", "t1").result == "success"


def test_disable_with_terminate_ends_running_tasks_for_good(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.finish(DisableJob(job="j", disable_tasks="terminate"))
    task = s.world.task("j", "t1")
    assert (task.state, task.failure.code) == ("completed", "TaskEnded")
    s.finish(EnableJob(job="j"))
    assert s.world.task("j", "t1").state == "completed"


def test_disable_with_wait_lets_running_tasks_end(given):
    s = given(tasks=("t1", "t2"), script={"t1": Hangs()})
    s.run()
    assert story(s.when(DisableJob(job="j", disable_tasks="wait"))) == ["job.disabling j"]
    assert story(s.answer("task", "exited"))[1:] == ["task.completed t1 success", "job.disabled j", "node.idle p-1"]
    assert s.world.task("j", "t2").state == "active"


@pytest.mark.parametrize(
    ("first", "then", "acts"),
    [
        ("wait", "requeue", True),
        ("wait", "terminate", True),
        ("requeue", "terminate", True),
        ("requeue", "wait", False),
        ("terminate", "requeue", False),
        ("wait", "wait", False),
    ],
)
def test_while_disabling_only_a_firmer_way_changes_anything(given, first, then, acts):
    s = given(prep=False, script={"t1": [Hangs(), Exits(0)]})
    s.run()
    s.when(DisableJob(job="j", disable_tasks=first))
    if not acts:
        s.ignores(DisableJob(job="j", disable_tasks=then))
        return
    assert story(s.when(DisableJob(job="j", disable_tasks=then)))[0] == "job.disabling j"
    job = s.world.jobs["j"]
    assert (job.state, job.previous_state, job.disable_tasks) == ("disabling", "active", then)
    s.run()
    assert (job.state, job.tasks["t1"].state) == ("disabled", "active" if then == "requeue" else "completed")


@pytest.mark.parametrize("option", ["requeue", "terminate", "wait"])
def test_a_task_that_waits_for_preparation_never_starts_in_a_disabled_job(given, option):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    told = story(s.when(DisableJob(job="j", disable_tasks=option)))
    end = "task.completed t1 failure" if option == "terminate" else "task.requeued t1"
    assert told == ["job.disabling j", end, "job.disabled j", "node.idle p-1"]
    s.answer("preparation", "exited")
    assert s.run() == []
    assert s.launches(task="t1") == []


def test_a_disabled_job_places_nothing_and_runs_no_release(given):
    s = given(tasks=("t1", "t2"))
    s.when(DisableJob(job="j", disable_tasks="requeue"))
    s.run()
    assert s.launches(task="t1") == s.launches(task="t2") == s.launches(task="jobrelease") == []


def test_disabling_a_disabled_job_and_enabling_an_active_one_change_nothing(given):
    s = given(script={"t1": Hangs()})
    s.ignores(EnableJob(job="j"))
    s.run()
    s.when(DisableJob(job="j", disable_tasks="wait"))
    s.answer("task", "exited")
    s.ignores(DisableJob(job="j", disable_tasks="terminate"))


def test_enabling_lasts_until_what_had_to_stop_has_stopped(given):
    s = given(script={"t1": [Hangs(), Exits(0)]})
    s.run()
    s.when(DisableJob(job="j", disable_tasks="requeue"))
    assert story(s.when(EnableJob(job="j"))) == ["job.enabling j"]
    s.ignores(EnableJob(job="j"))
    s.refuses(DisableJob(job="j", disable_tasks="wait"), "OperationInvalidForCurrentState")
    told = story(s.answer("task", "stopped"))
    assert told.index("task.requeued t1") < told.index("job.enabled j") < told.index("task.running t1 p-1")


def test_a_task_that_was_asked_to_stop_twice_does_not_keep_its_job_from_being_enabled(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(DisableJob(job="j", disable_tasks="requeue"))
    s.when(TerminateTask(job="j", task="t1"))
    s.finish(EnableJob(job="j"))
    assert s.world.jobs["j"].state == "active"


def test_enabling_a_job_whose_tasks_run_on_does_not_wait_for_them(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(DisableJob(job="j", disable_tasks="wait"))
    assert story(s.when(EnableJob(job="j"))) == ["job.enabling j", "job.enabled j"]


def test_the_state_before_is_kept_and_absent_in_the_first(given):
    s = given(tasks=())
    assert s.world.jobs["j"].previous_state is None
    s.when(DisableJob(job="j", disable_tasks="wait"))
    assert (s.world.jobs["j"].state, s.world.jobs["j"].previous_state) == ("disabled", "disabling")


# --- blocked --------------------------------------------------------------------------------------------------


def test_a_job_whose_every_node_failed_its_preparation_says_so(given):
    s = given(nodes=2, script={"jobpreparation": Exits(3)})
    events = s.run()
    assert [type(event) for event in events if isinstance(event, JobBlocked | JobUnblocked)] == [JobBlocked]
    assert s.world.jobs["j"].blocked
    assert s.world.task("j", "t1").state == "active"
    assert s.launches() == ["jobpreparation@p-1", "jobpreparation@p-2"]


def test_a_new_node_unblocks_a_job(given):
    s = given(script={"jobpreparation@p-1": Exits(3)})
    s.run()
    assert story(s.when(ResizePool(pool="p", target=2)))[:3] == ["pool.resizing p", "node.added p-2", "job.unblocked j"]
    s.run()
    assert s.world.task("j", "t1").node == "p-2"


def test_a_reimaged_node_unblocks_a_job(given):
    s = given(script={"jobpreparation": [Exits(3), Exits(0)]})
    s.run()
    assert story(s.when(ReimageNode(node="p-1"))) == ["node.reimaging p-1", "preparation.due p-1", "job.unblocked j"]
    s.run()
    assert s.world.task("j", "t1").result == "success"


def test_a_job_is_blocked_again_when_the_last_good_node_leaves(given):
    s = given(nodes=2, script={"jobpreparation@p-1": Exits(3), "t1@p-2": Hangs()})
    s.run()
    assert not s.world.jobs["j"].blocked
    s.finish(ResizePool(pool="p", target=1))
    assert s.world.jobs["j"].blocked


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: TerminateJob(job="j"),
        lambda: DeleteJob(job="j"),
        lambda: DisableJob(job="j", disable_tasks="wait"),
        lambda: DeleteTask(job="j", task="t1"),
        lambda: DeletePool(pool="p"),
    ],
)
def test_a_job_that_no_longer_waits_is_no_longer_blocked(given, request_of):
    s = given(script={"jobpreparation": Exits(3)})
    s.run()
    assert s.world.jobs["j"].blocked
    told = story(s.finish(request_of()))
    assert told.count("job.unblocked j") == 1


def test_a_job_without_queued_tasks_is_not_blocked_by_its_nodes(given):
    s = given(prep=PreparationSpec(command_line="prepare", wait_for_success=False), script={"jobpreparation": Exits(3)})
    s.run()
    assert s.world.task("j", "t1").result == "success"
    assert not any(isinstance(event, JobBlocked) for event in s.events)


# --- form -----------------------------------------------------------------------------------------------------


def test_a_release_without_a_preparation_is_refused(job_spec):
    spec = job_spec(prep=False, release=ReleaseSpec(command_line="x"))
    refusal = Scenario().refuses(SubmitJob(spec=spec), "InvalidPropertyValue")
    assert "jobReleaseTask: a job release task needs a jobPreparationTask" in str(refusal)


def test_a_job_that_ends_before_its_launch_was_seen_waits_for_the_answer(given):
    s = given(script={"jobpreparation": Silent()})
    s.run()
    s.when(TerminateJob(job="j"))
    assert s.world.jobs["j"].state == "terminating"
    assert story(s.answer("preparation", "notstarted")) == [
        "execution.never-ran jobpreparation p-1",
        "preparation.completed p-1 failure",
        "job.completed j",
    ]
