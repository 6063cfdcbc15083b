"""The ledger says why: what ends, is put back or goes down carries the cause, with the words of whoever asked for it."""

import pytest

from jobledger.core import events as e
from jobledger.core.failure import FailureInfo, ended_failure, exit_code_failure, internal_retries_failure
from jobledger.core.ids import SECOND
from jobledger.core.reports import ExecutionExited, NodeFaulted, NodeReady
from jobledger.core.requests import (
    DeallocateNode,
    DeleteJob,
    DeletePool,
    DeleteTask,
    DisableJob,
    DisableScheduling,
    EnableJob,
    PatchJob,
    ReactivateTask,
    RebootNode,
    ReimageNode,
    RemoveNode,
    TerminateJob,
    TerminateTask,
)
from jobledger.core.specs import ExitConditions, ExitOptions, JobConstraints, PreparationSpec, ReleaseSpec, TaskConstraints, TaskSpec
from jobledger.testing.scenario import Exits, Hangs, Silent

WHY = "Ann said so"
OF_T1 = {"job": "j", "task": "t1"}


def running(given, *, prep=False, **more):
    """The job `j` whose task t1 runs on p-1; it is the first execution unless there is a preparation."""
    s = given(prep=prep, script={"t1": Hangs()}, **more)
    s.run()
    return s


def preparing(given, **more):
    """The job `j` whose task t1 waits for the preparation on p-1, execution 1."""
    s = given(script={"jobpreparation": Hangs()}, **more)
    s.run()
    return s


def stopped(then, cause, failure=None, task="t1", job="j"):
    return e.ExecutionStopRequested(execution=1, job=job, task=task, node="p-1", then=then, cause=cause, failure=failure)


def failed(why, exit_code=None):
    return e.TaskCompleted(**OF_T1, result="failure", exit_code=exit_code, failure=ended_failure(why))


# --- a task that runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "then", "why"),
    [
        (TerminateTask(**OF_T1, reason=WHY), "complete", "the task was terminated: Ann said so"),
        (TerminateTask(**OF_T1), "complete", "the task was terminated"),
        (DeleteTask(**OF_T1, reason=WHY), "delete", "the task was deleted: Ann said so"),
        (TerminateJob(job="j", reason=WHY), "complete", "the job was terminated: Ann said so"),
        (DeleteJob(job="j", reason=WHY), "complete", "the job was deleted: Ann said so"),
        (DeleteJob(job="j"), "complete", "the job was deleted"),
        (DisableJob(job="j", disable_tasks="terminate", reason=WHY), "complete", "the job was disabled: Ann said so"),
        (DisableScheduling(node="p-1", option="terminate", reason=WHY), "complete", "scheduling was disabled on the node: Ann said so"),
    ],
    ids=lambda part: type(part).__name__ if not isinstance(part, str) else None,
)
def test_a_task_that_is_ended_on_request(given, request_, then, why):
    s = running(given)
    assert stopped(then, why, ended_failure(why)) in s.when(request_)
    ends = s.answer("task", "stopped", 143)
    if then == "delete":
        assert e.TaskDeleted(**OF_T1) in ends
    else:
        assert failed(why, 143) in ends


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (DisableJob(job="j", disable_tasks="requeue", reason=WHY), "the job was disabled: Ann said so"),
        (DisableScheduling(node="p-1", option="requeue", reason=WHY), "scheduling was disabled on the node: Ann said so"),
        (DisableScheduling(node="p-1", option="requeue"), "scheduling was disabled on the node"),
        (RebootNode(node="p-1", reason=WHY), "the node is rebooting"),
        (ReimageNode(node="p-1"), "the node is being reimaged"),
        (DeallocateNode(node="p-1"), "the node is being deallocated"),
        (RemoveNode(node="p-1"), "the node is leaving its pool"),
        (DeletePool(pool="p"), "the node is leaving its pool"),
        (NodeFaulted(node="p-1", fault="unusable", reason="disk full"), "the node is unusable"),
    ],
    ids=lambda part: type(part).__name__ if not isinstance(part, str) else None,
)
def test_a_task_that_is_put_back(given, request_, why):
    s = running(given)
    assert stopped("requeue", why) in s.when(request_)
    assert e.TaskRequeued(**OF_T1, cause=why) in s.answer("task", "stopped")


@pytest.mark.parametrize("wish", [RebootNode, ReimageNode, DeallocateNode, RemoveNode])
def test_a_task_that_is_ended_with_its_node(given, wish):
    causes = {"RebootNode": "rebooting", "ReimageNode": "being reimaged", "DeallocateNode": "being deallocated", "RemoveNode": "leaving its pool"}
    cause = f"the node is {causes[wish.__name__]}"
    why = f"{cause}: on request: Ann said so"
    assert stopped("complete", cause, ended_failure(why)) in running(given).when(wish(node="p-1", option="terminate", reason=WHY))
    assert failed(why) in preparing(given).when(wish(node="p-1", option="terminate", reason=WHY))


def test_a_task_that_its_executor_stops_or_loses(given):
    s = running(given)
    assert e.TaskRequeued(**OF_T1, cause="stopped by the executor", internal=True) in s.answer("task", "stopped")
    s.run()
    assert e.TaskRequeued(**OF_T1, cause="its record is gone", internal=True) in s.answer("task", "lost")


def test_a_task_that_is_lost_too_often_fails_and_its_default_exit_options_hold(given):
    options = ExitConditions(default=ExitOptions(dependency_action="satisfy"))
    task = TaskSpec(id="t1", command_line="work", exit_conditions=options)
    s = given(prep=False, tasks=(task,), uses_task_dependencies=True, script={"t1": Hangs()})
    s.run()
    for _ in range(10_000):
        if e.TaskCompleted in map(type, events := s.answer("task", "lost")):
            break
        s.run()
    over = next(event for event in events if isinstance(event, e.TaskCompleted))
    assert over == e.TaskCompleted(
        **OF_T1, result="failure", exit_code=None, failure=internal_retries_failure("its record is gone"), dependency_action="satisfy"
    )


def test_a_try_that_failed_says_how(given):
    s = given(prep=False, script={"t1": Hangs()}, constraints=JobConstraints(max_task_retry_count=1))
    s.run()
    assert e.TaskRetried(**OF_T1, exit_code=7, failure=exit_code_failure(7, None)) in s.answer("task", "exited", 7)


def test_a_task_that_cannot_be_seen_any_more_with_its_node(given):
    s = running(given)
    events = s.when(NodeFaulted(node="p-1", fault="lost", reason="no route"))
    assert e.NodeUnknown(node="p-1", reason="no route") in events
    assert e.ExecutionUnresolved(execution=1, **OF_T1, node="p-1", reason="no route") in events
    assert e.TaskRequeued(**OF_T1, cause="no route") in events


def test_a_task_that_waits_on_a_node_that_cannot_be_seen_any_more(given):
    events = preparing(given).when(NodeFaulted(node="p-1", fault="lost", reason="no route"))
    assert e.TaskRequeued(**OF_T1, cause="no route") in events


def test_what_is_asked_of_a_task_that_does_not_run_is_recorded_with_its_reason(given):
    s = given(prep=False, tasks=("t1", "t2"), script={"t1": Exits(1), "t2": Hangs()})
    s.run()
    assert s.when(ReactivateTask(**OF_T1, reason=WHY))[0] == e.TaskReactivated(**OF_T1, reason=WHY)
    assert s.when(DeleteTask(**OF_T1, reason=WHY))[0] == e.TaskDeleted(**OF_T1, reason=WHY)


# --- a task that waits for preparation ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "event"),
    [
        (TerminateTask(**OF_T1, reason=WHY), failed("the task was terminated: Ann said so")),
        (DisableJob(job="j", disable_tasks="terminate"), failed("the job was disabled")),
        (DisableJob(job="j", disable_tasks="requeue"), e.TaskRequeued(**OF_T1, cause="the job was disabled")),
        (DisableScheduling(node="p-1", option="requeue"), e.TaskRequeued(**OF_T1, cause="scheduling was disabled on the node")),
        (DisableScheduling(node="p-1", option="terminate"), failed("scheduling was disabled on the node")),
        (TerminateJob(job="j", reason=WHY), failed("the job was terminated: Ann said so")),
        (DeleteJob(job="j", reason=WHY), failed("the job was deleted: Ann said so")),
        (RebootNode(node="p-1"), e.TaskRequeued(**OF_T1, cause="the node is rebooting")),
    ],
    ids=lambda part: type(part).__name__,
)
def test_a_task_that_waits(given, request_, event):
    assert event in preparing(given).when(request_)


# --- nodes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "event"),
    [
        (RebootNode(node="p-1", reason=WHY), e.NodeRebooting(node="p-1", incarnation=2, cause="on request: Ann said so")),
        (ReimageNode(node="p-1"), e.NodeReimaging(node="p-1", incarnation=2, cause="on request")),
        (DeallocateNode(node="p-1", option="terminate"), e.NodeDeallocating(node="p-1", incarnation=2, cause="on request", option="terminate")),
        (RemoveNode(node="p-1", reason=WHY), e.NodeLeaving(node="p-1", incarnation=2, cause="on request: Ann said so")),
        (RemoveNode(node="p-1", option="terminate"), e.PoolResizing(pool="p", target=0, option="terminate")),
        (RebootNode(node="p-1", option="taskcompletion", reason=WHY), e.NodeDraining(node="p-1", then="reboot", cause="on request: Ann said so")),
        (DeletePool(pool="p"), e.NodeLeaving(node="p-1", incarnation=2, cause="the pool is deleted")),
        (
            DisableScheduling(node="p-1", option="terminate", reason=WHY),
            e.NodeSchedulingDisabled(node="p-1", option="terminate", reason=WHY),
        ),
        (NodeReady(node="p-1", boot_id="other"), e.NodeRebooting(node="p-1", incarnation=2, cause="it answered from another boot")),
        (NodeFaulted(node="p-1", fault="wiped", reason="it is empty"), e.NodeReimaging(node="p-1", incarnation=2, cause="it is empty")),
        (NodeFaulted(node="p-1", fault="unusable", reason="disk full"), e.NodeUnusable(node="p-1", reason="disk full")),
        (NodeFaulted(node="p-1", fault="preempted", reason="evicted"), e.NodePreempted(node="p-1", incarnation=2, reason="evicted")),
    ],
    ids=lambda part: type(part).__name__,
)
def test_a_node_that_goes_down_or_drains(given, request_, event):
    assert event in running(given).when(request_)


@pytest.mark.parametrize("fault", ["unusable", "lost"])
def test_a_node_that_comes_back_is_rebooted_first(given, fault):
    s = given(tasks=())
    s.when(NodeFaulted(node="p-1", fault=fault, reason="no route"))
    assert s.world.nodes["p-1"].reason == "no route"
    assert s.when(NodeReady(node="p-1", boot_id="p-1-boot-1"))[0] == e.NodeRebooting(node="p-1", incarnation=2, cause="it came back")
    assert (s.world.nodes["p-1"].incarnation, s.world.nodes["p-1"].reason) == (2, "it came back")


def test_why_scheduling_is_disabled_is_told_until_it_is_enabled(given):
    s = given(tasks=())
    s.when(DisableScheduling(node="p-1", reason=WHY))
    assert s.world.nodes["p-1"].disabled_because == WHY


# --- jobs -----------------------------------------------------------------------------------------------------


def test_a_job_says_why_it_ends_or_stands_still(given):
    assert running(given).when(TerminateJob(job="j", reason=WHY))[0] == e.JobTerminating(job="j", reason=WHY)
    assert running(given).when(DisableJob(job="j", disable_tasks="wait", reason=WHY))[0] == e.JobDisabling(job="j", disable_tasks="wait", reason=WHY)
    s = running(given)
    assert s.when(DeleteJob(job="j", reason=WHY))[0] == e.JobDeleting(job="j", reason=WHY, removes_files=True)
    assert s.world.jobs["j"].delete_reason == WHY


def failing(action):
    """A task whose failure is to do that to its job."""
    return TaskSpec(id="bad", command_line="work", exit_conditions=ExitConditions(default=ExitOptions(job_action=action)))


def with_a_task_that_fails(given, action, more=()):
    s = given(
        slots=2,
        prep=False,
        tasks=(failing(action), *more),
        on_task_failure="performexitoptionsjobaction",
        script={"bad": Hangs(), "t1": Hangs()},
    )
    s.run()
    return s


def test_a_failed_task_disables_its_job_and_puts_the_others_back(given):
    s = with_a_task_that_fails(given, "disable", more=("t1",))
    events = s.answer("task", "exited", 1, task="bad")
    assert e.JobDisabling(job="j", disable_tasks="requeue", reason="TaskFailed") in events
    assert [event.cause for event in events if isinstance(event, e.ExecutionStopRequested)] == ["the job was disabled: TaskFailed"]


@pytest.mark.parametrize("state", ["active", "disabling", "disabled", "enabling"])
def test_a_failed_task_terminates_its_job_in_any_state_that_is_no_end(given, state):
    s = with_a_task_that_fails(given, "terminate", more=("t1",))
    if state == "disabling":
        s.when(DisableJob(job="j", disable_tasks="wait"))
    elif state == "disabled":  # Both tasks end, and what the second one's failure asks for is held against a job that stands still.
        s.when(DisableJob(job="j", disable_tasks="wait"))
        s.answer("task", "exited", task="t1")
    elif state == "enabling":
        s.when(DisableJob(job="j", disable_tasks="requeue"))
        s.when(EnableJob(job="j"))
    assert s.world.jobs["j"].state == {"disabled": "disabling"}.get(state, state)
    assert e.JobTerminating(job="j", reason="TaskFailed") in s.answer("task", "exited", 1, task="bad")


# --- when ------------------------------------------------------------------------------------------------------


def test_every_move_of_a_task_notes_when(given):
    task = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_task_retry_count=1, retry_delay=SECOND))
    s = given(prep=False, tasks=(task,), script={"t1": Hangs()})
    s.run()
    for step, state in (
        (lambda: s.answer("task", "exited", 1), "active"),
        (s.wake, "running"),
        (lambda: s.finish(DisableJob(job="j", disable_tasks="requeue")), "active"),
        (lambda: s.when(TerminateTask(**OF_T1)), "completed"),
        (lambda: s.when(ReactivateTask(**OF_T1)), "active"),
    ):
        s.pass_time(SECOND // 10)
        before = s.now
        step()
        task = s.world.task("j", "t1")
        assert task.state == state
        assert before < task.changed_at <= s.now


def test_a_limit_in_time_is_told_as_the_cause(given):
    task = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_wall_clock_time=SECOND))
    s = given(prep=False, tasks=(task,), script={"t1": Hangs()})
    s.run()
    why = "The maximum execution time configured on the task was exceeded"
    assert s.wake() == [stopped("complete", "maxWallClockTime", ended_failure(why))]
    assert failed(why, 143) in s.answer("task", "stopped", 143)


def test_an_end_on_request_tells_of_outputs_too(given):
    s = running(given)
    s.when(TerminateTask(**OF_T1))
    upload = FailureInfo(category="usererror", code="FileUploadMiscError", message="no space")
    execution = s.live("task")
    ends = s.when(ExecutionExited(execution=execution, exit_code=143, signal=15, stopped=True, upload_failure=upload))
    over = next(event for event in ends if isinstance(event, e.TaskCompleted))
    assert [(detail.name, detail.value) for detail in over.failure.details] == [
        ("Message", "the task was terminated"),
        ("UploadFailure", "FileUploadMiscError: no space"),
    ]


def test_a_stop_without_a_failure_of_its_own_leads_to_one_with_its_cause(given):
    s = running(given)
    s.given(stopped("complete", "an older version said so"))
    assert failed("an older version said so", 143) in s.answer("task", "stopped", 143)


def test_what_a_patch_is_for_is_recorded(given):
    assert given(tasks=()).when(PatchJob(job="j", priority=5, reason=WHY)) == [e.JobPatched(job="j", priority=5, reason=WHY)]


@pytest.mark.parametrize("later", [0, 1])
def test_a_patched_limit_that_is_over_by_now_ends_the_job(given, later):
    s = running(given)
    s.pass_time(SECOND)
    limit = s.now + 1 - later - s.world.jobs["j"].created_at
    events = s.when(PatchJob(job="j", constraints=JobConstraints(max_wall_clock_time=limit)))
    assert e.JobTerminating(job="j", reason="MaxWallClockTimeExpiry") in events


def test_a_preparation_that_a_reboot_undoes_says_so(given):
    s = given(tasks=("t1", "t2"), prep=PreparationSpec(command_line="prepare", rerun_on_node_reboot_after_success=True), script={"t2": Hangs()})
    s.run()
    events = s.finish(RebootNode(node="p-1"))
    assert e.PreparationDue(job="j", node="p-1", cause="the node was rebooted") in events


@pytest.mark.parametrize(("wish", "cause"), [(ReimageNode, "the node was reimaged"), (DeallocateNode, "the node was deallocated")])
def test_a_preparation_and_a_release_that_go_with_the_node_say_so(given, wish, cause):
    s = given()
    s.run()
    events = s.finish(wish(node="p-1"))
    assert e.PreparationDue(job="j", node="p-1", cause=cause) in events
    assert e.ReleaseAbandoned(job="j", node="p-1", cause=cause) in events


def test_a_release_of_the_widest_scope_is_owed_from_the_moment_its_preparation_is_seen_to_run(given):
    release = ReleaseSpec(command_line="release", release_scope="attempted")
    s = given(release=release, script={"jobpreparation": Silent()})
    s.run()
    assert e.ReleaseOwed(job="j", node="p-1") in s.answer("preparation", "started")
