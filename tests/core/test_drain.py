"""Drains: the rules of `core/drain.py`, and what `requeue` and `terminate` do instead."""

import pytest

from jobledger.core.events import NodeDraining, NodeLeaving, NodeRebooting, TaskCompleted, TaskRequeued
from jobledger.core.explain import explain
from jobledger.core.reports import NodeFaulted, NodeReady
from jobledger.core.requests import (
    AddTasks,
    DeallocateNode,
    DeletePool,
    DisableScheduling,
    EnableScheduling,
    RebootNode,
    ReimageNode,
    RemoveNode,
    ResizePool,
    TerminateJob,
    TerminateTask,
)
from jobledger.core.specs import FinalizerSpec, JobConstraints, StartTaskSpec
from jobledger.testing.scenario import Exits, Hangs, story

PATIENT = "taskcompletion"
OPERATIONS = {
    "reboot": (RebootNode, "node.rebooting p-1"),
    "reimage": (ReimageNode, "node.reimaging p-1"),
    "deallocate": (DeallocateNode, "node.deallocating p-1"),
    "remove": (RemoveNode, "node.leaving p-1"),
}


def node(s, name="p-1"):
    return s.world.nodes[name]


def pool(s):
    return s.world.pools["p"]


def task(s, name="t1"):
    return s.world.task("j", name)


def busy(given, **more):
    """A node with two slots, of which one task that hangs takes one."""
    s = given(**{"slots": 2, "prep": False, "script": {"t1": Hangs()}, **more})
    s.run()
    return s


# --- taskcompletion -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_waits_for_the_tasks_happens_when_the_last_one_has_ended(given, task_specs, operation):
    request, happens = OPERATIONS[operation]
    s = busy(given)
    told = s.when(request(node="p-1", option=PATIENT, reason="new kernel"))
    assert told[-1] == NodeDraining(node="p-1", then=operation, cause="on request: new kernel")
    assert (node(s).state, node(s).draining.then, node(s).draining.since) == ("running", operation, s.now)
    assert story(s.when(AddTasks(job="j", tasks=task_specs("t2")))) == ["task.added t2"], "it takes no task, though a slot is free"
    told = story(s.answer("task", "exited"))
    assert told[:3] == ["execution.ended t1 p-1", "task.completed t1 success", happens]
    assert (task(s).result, node(s).draining) == ("success", None)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_where_nothing_is_to_be_waited_for_it_happens_at_once(given, operation):
    request, happens = OPERATIONS[operation]
    s = given(tasks=())
    assert happens in story(s.when(request(node="p-1", option=PATIENT)))


def test_a_task_that_waits_for_preparation_still_runs_on_a_draining_node(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    s.when(RebootNode(node="p-1", option=PATIENT))
    s.answer("preparation", "exited")
    s.run()
    assert (task(s).result, task(s).requeues, node(s).incarnation) == ("success", 0, 2)


def test_a_task_that_has_to_be_retried_is_so_elsewhere(given):
    s = given(nodes=2, prep=False, script={"t1@p-1": Hangs(), "t1@p-2": Exits(0)}, constraints=JobConstraints(max_task_retry_count=1))
    s.run()
    s.when(RebootNode(node="p-1", option=PATIENT))
    told = story(s.answer("task", "exited", 1))
    assert told[:3] == ["execution.ended t1 p-1", "task.retried t1", "execution.requested t1 p-2"]
    assert "node.rebooting p-1" in told


def test_a_release_that_runs_is_let_end(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.when(RemoveNode(node="p-1", option=PATIENT))
    assert (node(s).state, node(s).draining.then) == ("idle", "remove")
    told = story(s.answer("release", "exited"))
    assert told == ["execution.ended jobrelease p-1", "release.completed p-1 success", "job.completed j", "node.leaving p-1"]


def test_the_release_of_a_job_that_ends_with_its_last_task_runs_before_the_node_goes(given):
    s = given(script={"t1": Hangs()}, on_all_tasks_complete="terminatejob")
    s.run()
    s.when(RemoveNode(node="p-1", option=PATIENT))
    s.answer("task", "exited")
    s.run()
    assert s.world.jobs["j"].releases["p-1"].result == "success"
    assert not s.world.nodes


def test_a_drain_waits_for_a_release_that_waits_for_a_task_elsewhere(given):
    s = given(nodes=2, tasks=("t1", "t2"), script={"t1": Hangs(), "t2": Hangs()})
    s.run()
    s.when(RemoveNode(node="p-1", option=PATIENT))
    s.when(TerminateJob(job="j"))
    s.answer("task", "stopped", node="p-1")
    assert node(s).draining is not None, "the release is owed, and t2 has not ended yet"
    s.answer("task", "stopped", node="p-2")
    s.run()
    assert {name: release.result for name, release in s.world.jobs["j"].releases.items()} == {"p-1": "success", "p-2": "success"}
    assert list(s.world.nodes) == ["p-2"]


def test_the_release_of_a_job_that_goes_on_is_not_waited_for(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(RemoveNode(node="p-1", option=PATIENT))
    assert "release.abandoned p-1" in story(s.answer("task", "exited"))


def test_a_start_task_that_nobody_waits_for_is_not_waited_for(given):
    s = given(pool={"start_task": StartTaskSpec(command_line="start", wait_for_success=False)}, tasks=(), script={"starttask": Hangs()})
    assert story(s.when(RebootNode(node="p-1", option=PATIENT)))[0] == "node.rebooting p-1"


# --- changing one's mind --------------------------------------------------------------------------------------


def test_asking_for_the_same_again_changes_nothing_and_for_another_thing_does(given):
    s = busy(given)
    s.when(RebootNode(node="p-1", option=PATIENT))
    s.ignores(RebootNode(node="p-1", option=PATIENT))
    assert story(s.when(ReimageNode(node="p-1", option=PATIENT))) == ["node.draining p-1 reimage"]
    assert "node.reimaging p-1" in story(s.answer("task", "exited"))


@pytest.mark.parametrize("operation", ["reboot", "reimage", "deallocate"])
def test_a_firmer_request_ends_a_drain_at_once(given, operation):
    request, happens = OPERATIONS[operation]
    s = busy(given)
    s.when(RebootNode(node="p-1", option=PATIENT))
    assert story(s.when(request(node="p-1"))) == [happens, "execution.stop-requested t1 p-1 requeue"]
    assert node(s).draining is None


def test_enabling_scheduling_undoes_a_drain(given, task_specs):
    s = busy(given)
    s.when(DeallocateNode(node="p-1", option=PATIENT))
    s.when(AddTasks(job="j", tasks=task_specs("t2")))
    told = story(s.when(EnableScheduling(node="p-1")))
    assert told[0] == "node.drain-stopped p-1"
    assert "task.running t2 p-1" in told
    s.refuses(EnableScheduling(node="p-1"), "NodeAlreadyInTargetSchedulingState")


def test_enabling_scheduling_enables_it_and_undoes_the_drain_where_both_were_asked_for(given):
    s = busy(given)
    s.when(RebootNode(node="p-1", option=PATIENT))
    s.when(DisableScheduling(node="p-1", option=PATIENT))
    assert story(s.when(EnableScheduling(node="p-1"))) == ["node.drain-stopped p-1", "node.scheduling-enabled p-1"]


def test_a_node_that_was_to_leave_stays_in_its_pool_when_its_drain_is_undone(given):
    s = busy(given, nodes=2)
    s.when(RemoveNode(node="p-1", option=PATIENT))
    assert (pool(s).target, pool(s).allocation) == (1, "resizing")
    assert story(s.when(EnableScheduling(node="p-1"))) == ["node.drain-stopped p-1", "pool.steady p"]
    assert (pool(s).target, list(pool(s).nodes), pool(s).errors) == (2, ["p-1", "p-2"], ())


def test_a_node_that_is_to_leave_is_hurried_and_nothing_else_is_asked_of_it(given):
    s = busy(given)
    s.when(RemoveNode(node="p-1", option=PATIENT))
    s.ignores(RemoveNode(node="p-1", option=PATIENT))
    for request in (RebootNode, ReimageNode, DeallocateNode):
        refusal = s.refuses(request(node="p-1"), "OperationNotValidOnNode")
        assert "leaves its pool when its tasks have ended" in str(refusal)
    told = story(s.when(RemoveNode(node="p-1", option="terminate")))
    assert told == ["node.leaving p-1", "execution.stop-requested t1 p-1 complete"]
    assert pool(s).target == 0


def test_a_deleted_pool_does_not_wait_for_drains(given):
    s = busy(given)
    s.when(RemoveNode(node="p-1", option=PATIENT))
    told = s.when(DeletePool(pool="p"))
    assert NodeLeaving(node="p-1", incarnation=2, cause="the pool is deleted", option="requeue") in told
    s.run()
    assert (task(s).state, s.world.pools) == ("active", {})


# --- a draining node that goes down by itself -----------------------------------------------------------------


@pytest.mark.parametrize("fault", ["unusable", "lost", "preempted", "wiped"])
def test_a_drain_is_over_with_the_life_that_it_waited_for(given, fault):
    s = busy(given)
    s.when(RebootNode(node="p-1", option=PATIENT))
    s.when(NodeFaulted(node="p-1", fault=fault, reason="it broke"))
    assert node(s).draining is None


@pytest.mark.parametrize("fault", ["unusable", "lost", "preempted", "wiped"])
def test_a_node_that_was_to_leave_leaves_whatever_takes_it_down(given, fault):
    s = busy(given, nodes=2)
    s.when(RemoveNode(node="p-1", option=PATIENT))
    told = story(s.when(NodeFaulted(node="p-1", fault=fault, reason="it broke")))
    assert "node.leaving p-1" in told
    s.run()
    assert (list(pool(s).nodes), pool(s).allocation) == (["p-2"], "steady")


def test_a_draining_node_that_answers_from_another_boot_has_been_rebooted_enough(given):
    s = busy(given)
    s.when(RebootNode(node="p-1", option=PATIENT))
    s.when(NodeReady(node="p-1", boot_id="another"))
    s.answer("task", "lost")
    s.run()
    assert (node(s).incarnation, node(s).draining) == (2, None)


# --- terminate ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_terminated_tasks_are_completed_as_failed_and_do_not_run_again(given, operation):
    request, happens = OPERATIONS[operation]
    s = given(
        nodes=1, slots=2, prep=False, tasks=("t1", "t2"), script={"t1": Hangs(), "t2": Hangs()}, constraints=JobConstraints(max_task_retry_count=5)
    )
    s.run()
    told = story(s.when(request(node="p-1", option="terminate", reason="a leak")))
    assert told[-3:] == [happens, "execution.stop-requested t1 p-1 complete", "execution.stop-requested t2 p-1 complete"]
    s.run()
    for name in ("t1", "t2"):
        assert (task(s, name).state, task(s, name).failure.code, task(s, name).requeues, task(s, name).retries) == ("completed", "TaskEnded", 0, 0)
    assert "on request: a leak" in task(s).failure.details[0].value


def test_a_task_that_waits_for_preparation_is_ended_with_terminate_and_the_preparation_is_not_its_failure(given):
    s = given(script={"jobpreparation": [Hangs(), Exits(0)]})
    s.run()
    told = s.when(ReimageNode(node="p-1", option="terminate"))
    (ended,) = [event for event in told if isinstance(event, TaskCompleted)]
    assert (ended.task, ended.failure.code) == ("t1", "TaskEnded")
    s.run()
    assert s.world.jobs["j"].preparations["p-1"].state == "due"


def test_a_program_that_ends_by_itself_before_the_stop_keeps_its_result(given):
    s = busy(given)
    s.when(RebootNode(node="p-1", option="terminate"))
    s.answer("task", "exited")
    assert task(s).result == "success"


def test_what_the_platform_does_after_it_requeues_nothing_that_was_to_be_ended(given):
    s = busy(given)
    s.when(RebootNode(node="p-1", option="terminate"))
    s.when(NodeFaulted(node="p-1", fault="lost", reason="no route"))
    assert (task(s).state, task(s).failure.code) == ("completed", "TaskEnded")


def test_terminate_after_requeue_ends_what_has_not_stopped_yet(given):
    s = busy(given)
    s.when(RebootNode(node="p-1"))
    assert story(s.when(RemoveNode(node="p-1", option="terminate")))[-1] == "execution.stop-requested t1 p-1 complete"


def test_the_next_life_of_a_node_requeues_again(given, task_specs):
    s = busy(given)
    s.finish(RebootNode(node="p-1", option="terminate"))
    s.executor.script["t2"] = Hangs()
    s.finish(AddTasks(job="j", tasks=task_specs("t2")))
    s.when(NodeFaulted(node="p-1", fault="lost", reason="no route"))
    assert isinstance(s.events[-1], TaskRequeued)


# --- scheduling -----------------------------------------------------------------------------------------------


def test_scheduling_may_be_disabled_without_an_end_to_what_runs(given, task_specs):
    s = given(slots=3, prep=True, script={"jobpreparation": Hangs(), "t1": Hangs()})
    s.run()
    assert story(s.when(DisableScheduling(node="p-1", option=PATIENT))) == ["node.scheduling-disabled p-1"]
    assert story(s.when(AddTasks(job="j", tasks=task_specs("t2")))) == ["task.added t2"]
    s.answer("preparation", "exited")
    s.run()
    assert (node(s).state, task(s).state) == ("running", "running")
    assert story(s.answer("task", "exited"))[-2:] == ["node.idle p-1", "node.offline p-1"]


def test_scheduling_may_be_disabled_with_the_end_of_what_is_there(given):
    s = given(slots=2, tasks=("t1", "t2"), script={"t1": Hangs(), "t2": Hangs()})
    s.run()
    s.finish(DisableScheduling(node="p-1", option="terminate", reason="it smells of smoke"))
    assert {task(s, name).failure.code for name in ("t1", "t2")} == {"TaskEnded"}
    assert "it smells of smoke" in task(s).failure.details[0].value
    assert (node(s).state, node(s).disabled_because) == ("offline", "it smells of smoke")
    s.when(EnableScheduling(node="p-1"))
    assert node(s).disabled_because is None


def test_tasks_that_are_given_back_at_once_end_a_drain(given):
    s = busy(given, nodes=2)
    s.when(RebootNode(node="p-1", option=PATIENT))
    s.when(DisableScheduling(node="p-1"))
    assert "node.rebooting p-1" in story(s.answer("task", "stopped"))


def test_a_waiting_task_that_is_terminated_ends_a_drain(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    s.when(RebootNode(node="p-1", option=PATIENT))
    s.when(TerminateTask(job="j", task="t1"))
    assert "node.rebooting p-1" in story(s.answer("preparation", "exited"))


# --- what is told of it ---------------------------------------------------------------------------------------


def test_the_reason_is_in_the_record(given):
    s = given(tasks=())
    for request in (RebootNode, ReimageNode, DeallocateNode):
        s = given(tasks=())
        assert s.when(request(node="p-1", reason="new kernel"))[0].cause == "on request: new kernel"
        assert node(s).reason == "on request: new kernel"
    rebooting = given(tasks=()).when(RebootNode(node="p-1"))[0]
    assert rebooting == NodeRebooting(node="p-1", incarnation=2, cause="on request", option="requeue")


def test_what_a_node_was_drained_for_says_why_when_it_comes(given):
    s = busy(given)
    s.when(RebootNode(node="p-1", option=PATIENT, reason="new kernel"))
    assert NodeRebooting(node="p-1", incarnation=2, cause="on request: new kernel", option=PATIENT) in s.answer("task", "exited")
    idle = given(tasks=())
    assert idle.when(RebootNode(node="p-1", option=PATIENT))[0] == NodeRebooting(node="p-1", incarnation=2, cause="on request", option=PATIENT)


def test_a_node_that_is_down_is_not_drained_and_what_was_asked_happens_at_once(given):
    s = given(tasks=())
    s.when(NodeFaulted(node="p-1", fault="unusable", reason="disk full"))
    told = s.when(RebootNode(node="p-1", option=PATIENT, reason="new disk"))
    assert told == [NodeRebooting(node="p-1", incarnation=2, cause="on request: new disk", option="requeue")]


def test_a_node_that_was_to_leave_and_went_down_says_why_it_leaves(given):
    s = busy(given, nodes=2)
    s.when(RemoveNode(node="p-1", option=PATIENT, reason="too old"))
    told = s.when(NodeFaulted(node="p-1", fault="unusable", reason="it broke"))
    assert NodeLeaving(node="p-1", incarnation=2, cause="on request: too old", option="requeue") in told


def test_explain_tells_of_a_drain_to_who_runs_there_and_to_who_waits(given, task_specs):
    s = busy(given)
    s.when(RemoveNode(node="p-1", option=PATIENT, reason="too old"))
    s.when(AddTasks(job="j", tasks=task_specs("t2")))
    told = {reason.code: reason.text for reason in explain(s.world, "j", "t1")}
    assert told["NodeDraining"] == "node p-1 takes no more tasks, and is to be removed when those that are there have ended: on request: too old"
    (waits,) = [reason for reason in explain(s.world, "j", "t2") if reason.code == "NoNodeUp"]
    assert "1 running (draining to remove)" in waits.text


# --- resizes --------------------------------------------------------------------------------------------------


def test_a_resize_waits_for_the_tasks_of_nodes_that_leave(given):
    s = given(nodes=3, prep=False, tasks=("t1", "t2", "t3"), script={name: Hangs() for name in ("t1", "t2", "t3")})
    s.run()
    told = story(s.when(ResizePool(pool="p", target=1, option=PATIENT)))
    assert told == ["pool.resizing p", "node.draining p-3 remove", "node.draining p-2 remove"]
    s.answer("task", "exited", node="p-2")
    s.run()
    assert (list(pool(s).nodes), pool(s).allocation) == (["p-1", "p-3"], "resizing")
    s.answer("task", "exited", node="p-3")
    s.run()
    assert (list(pool(s).nodes), pool(s).allocation) == (["p-1"], "steady")


def test_a_resize_ends_the_tasks_of_nodes_that_leave(given):
    s = given(nodes=2, prep=False, tasks=("t1", "t2"), script={"t1": Hangs(), "t2": Hangs()})
    s.run()
    s.finish(ResizePool(pool="p", target=1, option="terminate"))
    assert (task(s, "t1").state, task(s, "t2").failure.code) == ("running", "TaskEnded")


def test_nodes_that_drain_to_leave_count_as_gone_for_the_next_resize(given):
    s = given(nodes=3, prep=False, tasks=("t1", "t2", "t3"), script={name: Hangs() for name in ("t1", "t2", "t3")})
    s.run()
    s.when(ResizePool(pool="p", target=2, option=PATIENT))
    s.wake()
    assert story(s.when(ResizePool(pool="p", target=3))) == ["pool.resizing p", "node.added p-4"]
    s.run()
    assert (pool(s).allocation, len(pool(s).nodes), pool(s).target) == ("steady", 4, 3)


def test_a_firmer_resize_to_the_same_number_hurries_what_drains(given):
    s = given(nodes=2, prep=False, tasks=("t1", "t2"), script={"t1": Hangs(), "t2": Hangs()})
    s.run()
    s.when(ResizePool(pool="p", target=1, option=PATIENT))
    s.wake()
    s.ignores(ResizePool(pool="p", target=1, option=PATIENT))
    told = s.when(ResizePool(pool="p", target=1, option="terminate"))
    assert story(told) == ["pool.resizing p", "node.leaving p-2", "execution.stop-requested t2 p-2 complete"]
    assert told[1] == NodeLeaving(node="p-2", incarnation=2, cause="the pool is resized", option="terminate")


def test_a_drain_waits_for_the_finalizer_that_is_to_run_on_the_node(given):
    finalizer = FinalizerSpec(command_line="finish", node_id="p-2")
    s = given(nodes=2, script={"t1": Hangs(), "jobrelease": Hangs()}, job_finalizer_task=finalizer)
    s.run()
    s.finish(TerminateJob(job="j"))
    s.when(RemoveNode(node="p-2", option=PATIENT))
    assert node(s, "p-2").draining is not None, "nothing of the job was ever there, and its finalizer is to come"
    s.answer("release", "exited")
    s.run()
    assert (s.world.jobs["j"].finalizer.result, list(s.world.nodes)) == ("success", ["p-1"])
