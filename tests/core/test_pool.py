"""Pools: the rules of `core/pool.py`, and each refusal with its code."""

import pytest

from jobledger.core.deadlines import next_deadline
from jobledger.core.events import NodeLeaving, PoolSteady
from jobledger.core.ids import ENGINE_HOST, ENGINE_POOL
from jobledger.core.limits import NODES_PER_POOL_MAX, RESIZE_TIMEOUT, RESIZE_TIMEOUT_MIN
from jobledger.core.pool import pool_of
from jobledger.core.reports import NodeFaulted, NodeReady, NodeRetired
from jobledger.core.requests import AddTasks, CreatePool, DeletePool, RemoveNode, ResizePool, StopResize, TerminateJob
from jobledger.core.specs import PoolSpec
from jobledger.testing.indexes import index_faults
from jobledger.testing.scenario import Exits, Hangs, Scenario, story


def pool(s):
    return s.world.pools["p"]


def unanswered(nodes=2):
    """A pool whose nodes were asked for and have not answered."""
    return Scenario().given(CreatePool(spec=PoolSpec(id="p", nodes=nodes)))


def steady(nodes=2):
    s = unanswered(nodes)
    s.run()
    return s


# --- creating -------------------------------------------------------------------------------------------------


def test_a_pool_is_resized_to_its_nodes_and_then_steady():
    s = Scenario()
    assert story(s.when(CreatePool(spec=PoolSpec(id="p", nodes=2)))) == ["pool.created p", "pool.resizing p", "node.added p-1", "node.added p-2"]
    s.run()
    assert (pool(s).state, pool(s).allocation, list(pool(s).nodes), pool(s).errors) == ("active", "steady", ["p-1", "p-2"], ())


def test_a_pool_without_nodes_is_steady_at_once():
    assert story(Scenario().when(CreatePool(spec=PoolSpec(id="p", nodes=0)))) == ["pool.created p"]


def test_creating_the_same_again_decides_to_nothing_and_another_is_refused():
    s = steady()
    s.ignores(CreatePool(spec=PoolSpec(id="p", nodes=2)))
    s.refuses(CreatePool(spec=PoolSpec(id="p", nodes=3)), "PoolExists")


def test_every_mistake_of_a_pool_is_named():
    refusal = Scenario().refuses(CreatePool(spec=PoolSpec(id="bad id", nodes=-1, task_slots_per_node=0)), "InvalidPropertyValue")
    for part in ("id: 'bad id'", "nodes: -1", "taskSlotsPerNode: 0"):
        assert part in str(refusal)


def test_a_pool_of_the_same_name_waits_until_the_deleted_one_is_gone():
    s = steady()
    s.when(DeletePool(pool="p"))
    s.refuses(CreatePool(spec=PoolSpec(id="p", nodes=2)), "PoolBeingDeleted")
    s.run()
    s.finish(CreatePool(spec=PoolSpec(id="p", nodes=1)))
    assert pool(s).state == "active"


# --- resizing -------------------------------------------------------------------------------------------------


def test_a_resize_lasts_until_no_node_is_being_created():
    s = unanswered()
    assert pool(s).allocation == "resizing"
    s.when(NodeReady(node="p-1", boot_id="b", incarnation=1))
    assert pool(s).allocation == "resizing"
    assert story(s.when(NodeReady(node="p-2", boot_id="b", incarnation=1)))[-1] == "pool.steady p"


def test_a_resize_lasts_until_no_node_is_leaving():
    s = steady()
    assert story(s.when(ResizePool(pool="p", target=0))) == ["pool.resizing p", "node.leaving p-2", "node.leaving p-1"]
    assert story(s.when(NodeRetired(node="p-2", incarnation=2))) == ["node.removed p-2"]
    assert story(s.when(NodeRetired(node="p-1", incarnation=2))) == ["node.removed p-1", "pool.steady p"]


@pytest.mark.parametrize("option", ["requeue", "terminate", "taskcompletion"])
def test_idle_nodes_leave_at_once_whatever_is_to_become_of_tasks(option):
    told = steady().when(ResizePool(pool="p", target=1, option=option))
    assert told[1:] == [NodeLeaving(node="p-2", incarnation=2, cause="the pool is resized", option=option)]


def test_growing_adds_nodes_with_numbers_never_used_before():
    s = steady()
    s.finish(ResizePool(pool="p", target=1))
    s.finish(ResizePool(pool="p", target=3))
    assert list(pool(s).nodes) == ["p-1", "p-3", "p-4"]


def test_surplus_nodes_leave_youngest_first_and_their_tasks_are_requeued(given):
    s = given(nodes=3, tasks=("a", "b", "c"), prep=False, script={"a": Hangs(), "b": Hangs(), "c": Hangs()})
    s.run()
    s.finish(ResizePool(pool="p", target=1))
    assert list(pool(s).nodes) == ["p-1"]
    assert [s.world.task("j", task).state for task in ("a", "b", "c")] == ["running", "active", "active"]


def test_resizing_to_the_present_target_decides_to_nothing():
    steady().ignores(ResizePool(pool="p", target=2))


@pytest.mark.parametrize("target", [-1, NODES_PER_POOL_MAX + 1])
def test_a_target_out_of_range_is_refused(target):
    refusal = steady().refuses(ResizePool(pool="p", target=target), "InvalidPropertyValue")
    assert f"target: {target}" in str(refusal)


def test_a_pool_does_not_grow_past_the_length_of_a_node_id():
    s = Scenario().given(CreatePool(spec=PoolSpec(id="p" * 62, nodes=9)))
    s.run()
    s.refuses(ResizePool(pool="p" * 62, target=10), "InvalidPropertyValue")
    refusal = s.refuses(ResizePool(pool="p" * 62, target=NODES_PER_POOL_MAX), "InvalidPropertyValue")
    assert "longer than 64 characters" in str(refusal), "as many nodes as there may be at most are no mistake by themselves"
    s.finish(ResizePool(pool="p" * 62, target=8))
    s.refuses(ResizePool(pool="p" * 62, target=9), "InvalidPropertyValue")  # The number of a node that has left is not used again.


def test_a_pool_that_is_not_steady_is_not_resized():
    unanswered().refuses(ResizePool(pool="p", target=5), "PoolBeingResized")


@pytest.mark.parametrize(("fault", "state"), [("unusable", "unusable"), ("lost", "unknown"), ("preempted", "preempted")])
def test_a_node_that_never_came_up_is_named_when_the_resize_is_over(fault, state):
    s = unanswered()
    s.when(NodeReady(node="p-1", boot_id="b", incarnation=1))
    events = s.when(NodeFaulted(node="p-2", fault=fault, reason="no disk"))
    assert events[-1] == PoolSteady(pool="p", errors=(f"AllocationFailed: node p-2 is {state}: no disk",))
    assert pool(s).errors == events[-1].errors


def test_a_node_that_was_up_before_it_failed_is_no_failure_of_the_resize():
    s = steady()
    s.when(NodeFaulted(node="p-1", fault="unusable", reason="disk full"))
    s.finish(ResizePool(pool="p", target=3))
    assert (pool(s).allocation, pool(s).errors) == ("steady", ())


def test_an_error_of_an_earlier_resize_is_forgotten_with_the_next():
    s = unanswered()
    s.when(NodeFaulted(node="p-2", fault="unusable", reason="no disk"))
    s.run()
    s.finish(RemoveNode(node="p-2"))
    assert pool(s).errors == ()


# --- stopping a resize ----------------------------------------------------------------------------------------


def test_stopping_a_resize_rolls_nothing_back():
    s = unanswered()
    assert story(s.when(StopResize(pool="p"))) == ["pool.resize-stopping p", "pool.steady p"]
    (error,) = pool(s).errors
    assert error.startswith("ResizeStopped: the resize was stopped before these nodes had come")
    assert error.endswith("p-1 (creating), p-2 (creating)")
    s.run()
    assert [s.world.nodes[node].state for node in pool(s).nodes] == ["idle", "idle"]


def test_a_resize_that_is_stopped_names_the_nodes_that_had_not_gone():
    s = steady()
    s.when(ResizePool(pool="p", target=1))
    s.when(StopResize(pool="p"))
    assert pool(s).errors == ("ResizeStopped: the resize was stopped before these nodes had gone, which go on leaving: p-2 (leavingpool)",)


def test_there_must_be_a_resize_to_stop():
    s = steady()
    s.refuses(StopResize(pool="p"), "OperationNotValidOnPool")


# --- running out of time --------------------------------------------------------------------------------------


def test_a_resize_ends_by_its_timeout_and_says_which_nodes_have_not_come():
    s = unanswered()
    began = s.now
    s.when(NodeReady(node="p-1", boot_id="b", incarnation=1))
    assert s.wake()[-1] == PoolSteady(
        pool="p",
        errors=("AllocationTimedout: the resize ran out of time before these nodes had come, which may still come: p-2 (creating)",),
    )
    assert s.now - began == RESIZE_TIMEOUT
    assert next_deadline(s.world) is None


def test_a_node_that_comes_late_is_welcome():
    s = unanswered()
    s.wake()
    s.when(NodeReady(node="p-2", boot_id="b", incarnation=1))
    assert s.world.nodes["p-2"].state == "idle"


def test_a_node_that_never_comes_holds_up_no_later_resize():
    s = unanswered(1)
    s.executor.dead.add("p-1")
    s.wake()
    assert index_faults(s.world) == []
    assert story(s.when(ResizePool(pool="p", target=2))) == ["pool.resizing p", "node.added p-2"]
    s.run()
    assert (pool(s).allocation, pool(s).errors) == ("steady", ())
    assert story(s.when(RemoveNode(node="p-1"))) == ["pool.resizing p", "node.leaving p-1"]
    s.wake()
    (error,) = pool(s).errors
    assert error == "RemoveNodesFailed: the resize ran out of time before these nodes had gone, which go on leaving: p-1 (leavingpool)"
    s.refuses(RemoveNode(node="p-1"), "OperationNotValidOnNode")
    s.finish(ResizePool(pool="p", target=2))
    assert (pool(s).allocation, list(pool(s).nodes), pool(s).errors) == ("steady", ["p-1", "p-2", "p-3"], ())
    assert story(s.when(NodeRetired(node="p-1", incarnation=2))) == ["node.removed p-1"]


def test_a_node_that_drains_for_longer_than_the_resize_lasts_goes_on_draining(given):
    s = given(prep=False, script={"t1": Hangs()})
    s.run()
    s.when(ResizePool(pool="p", target=0, option="taskcompletion"))
    s.wake()
    assert pool(s).errors[0].endswith("which go on leaving: p-1 (draining)")
    s.answer("task", "exited")
    s.run()
    assert pool(s).nodes == {}


def test_many_late_nodes_are_counted_and_a_few_are_named():
    s = unanswered(20)
    s.wake()
    assert pool(s).errors[0].endswith("p-8 (creating) and 12 more")


@pytest.mark.parametrize(("asked", "lasts"), [(None, 2 * RESIZE_TIMEOUT), (RESIZE_TIMEOUT_MIN, RESIZE_TIMEOUT_MIN)])
def test_the_timeout_is_the_resizes_own_or_that_of_the_pool(asked, lasts):
    s = Scenario().given(CreatePool(spec=PoolSpec(id="p", nodes=0, resize_timeout=2 * RESIZE_TIMEOUT)))
    s.when(ResizePool(pool="p", target=1, resize_timeout=asked))
    assert next_deadline(s.world) == s.now + lasts


def test_a_resize_that_is_over_in_time_has_no_deadline_and_an_old_one_does_not_end_the_next():
    s = steady()
    assert next_deadline(s.world) is None
    s.when(ResizePool(pool="p", target=3))
    s.run()
    s.pass_time(RESIZE_TIMEOUT // 2)
    s.when(ResizePool(pool="p", target=4))
    s.pass_time(RESIZE_TIMEOUT - RESIZE_TIMEOUT // 4)
    assert pool(s).allocation == "resizing"


def test_a_deleted_pool_has_no_deadline():
    s = unanswered()
    s.when(DeletePool(pool="p"))
    assert next_deadline(s.world) is None


def test_a_timeout_below_azures_is_a_mistake():
    refusal = steady().refuses(ResizePool(pool="p", target=3, resize_timeout=RESIZE_TIMEOUT_MIN - 1), "InvalidPropertyValue")
    assert "resizeTimeout: must be at least PT5M (Azure Batch's rule)" in str(refusal)
    refusal = Scenario().refuses(CreatePool(spec=PoolSpec(id="p", resize_timeout=1)), "InvalidPropertyValue")
    assert "resizeTimeout" in str(refusal)


# --- deleting -------------------------------------------------------------------------------------------------


def test_a_deleted_pool_shrinks_to_nothing_and_is_gone():
    s = steady()
    assert story(s.when(DeletePool(pool="p"))) == ["pool.deleting p", "node.leaving p-1", "node.leaving p-2"]
    assert story(s.run()) == ["node.removed p-1", "node.removed p-2", "pool.deleted p"]
    assert s.world.pools == {}


def test_a_deleted_pool_does_not_ask_a_node_to_leave_that_leaves_already():
    s = steady()
    s.when(ResizePool(pool="p", target=1))
    assert story(s.when(DeletePool(pool="p"))) == ["pool.deleting p", "node.leaving p-1"]
    assert (pool(s).state, pool(s).changed_at) == ("deleting", s.now)


def test_a_pool_without_nodes_is_deleted_in_one_batch():
    assert story(steady(0).when(DeletePool(pool="p"))) == ["pool.deleting p", "pool.deleted p"]


def test_a_pool_that_is_resizing_may_be_deleted():
    s = unanswered()
    s.finish(DeletePool(pool="p"))
    assert s.world.pools == {}


def test_deleting_a_pool_requeues_its_tasks_and_leaves_its_jobs_active(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.finish(DeletePool(pool="p"))
    assert (s.world.jobs["j"].state, s.world.task("j", "t1").state, s.world.task("j", "t1").requeues) == ("active", "active", 1)


def test_a_pool_of_the_same_name_prepares_anew_though_its_nodes_have_the_same_names(given):
    s = given(script={"t1": [Hangs(), Exits(0)]})
    s.run()
    s.finish(DeletePool(pool="p"))
    assert s.world.jobs["j"].releases["p-1"].state == "abandoned"
    s.finish(CreatePool(spec=PoolSpec(id="p")))
    assert s.launches() == ["jobpreparation@p-1", "t1@p-1", "jobpreparation@p-1", "t1@p-1"]
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_late_answers_of_a_node_of_the_old_pool_do_not_fit_that_of_the_new():
    s = steady(nodes=1)
    s.finish(DeletePool(pool="p"))
    s.given(CreatePool(spec=PoolSpec(id="p", nodes=1)))
    s.ignores(NodeReady(node="p-1", boot_id="p-1-boot-1", incarnation=1))
    s.ignores(NodeRetired(node="p-1", incarnation=2))
    s.run()
    assert (s.world.nodes["p-1"].state, s.world.nodes["p-1"].incarnation) == ("idle", 3)


def test_a_node_that_failed_preparation_in_the_old_pool_is_eligible_in_the_new(given):
    s = given(script={"jobpreparation": [Exits(1), Exits(0)]})
    s.run()
    s.finish(DeletePool(pool="p"))
    s.finish(CreatePool(spec=PoolSpec(id="p")))
    assert s.world.task("j", "t1").result == "success"


def test_a_deleting_pool_places_nothing(given, task_specs):
    s = given(nodes=2, tasks=("t1",), prep=False, script={"t1": Hangs()})
    s.run()
    s.when(DeletePool(pool="p"))
    assert story(s.when(AddTasks(job="j", tasks=task_specs("t2")))) == ["task.added t2"]


@pytest.mark.parametrize("request_of", [lambda: DeletePool(pool="p"), lambda: ResizePool(pool="p", target=1), lambda: StopResize(pool="p")])
def test_a_deleting_pool_grants_nothing_and_an_unknown_one_is_refused(request_of):
    s = steady()
    s.when(DeletePool(pool="p"))
    s.refuses(request_of(), "PoolBeingDeleted")
    s.refuses(RemoveNode(node="p-1"), "PoolBeingDeleted")
    s.run()
    s.refuses(request_of(), "PoolNotFound")


# --- ids ------------------------------------------------------------------------------------------------------


def test_a_nodes_id_tells_its_pool():
    assert [pool_of("p-1"), pool_of("my-pool-12"), pool_of(ENGINE_HOST)] == ["p", "my-pool", ENGINE_POOL]
