"""Nodes: the rules of `core/node.py`, each request with its refusals, and each report."""

import pytest

from jobledger.core.commands import BootNode, RetireNode
from jobledger.core.events import NodeRebooting
from jobledger.core.owed import commands
from jobledger.core.reports import NodeFaulted, NodeReady, NodeReallocated, NodeRetired
from jobledger.core.requests import (
    AddTasks,
    CreatePool,
    DeallocateNode,
    DisableScheduling,
    EnableScheduling,
    RebootNode,
    ReimageNode,
    RemoveNode,
    StartNode,
    TerminateJob,
)
from jobledger.core.specs import PoolSpec, StartTaskSpec
from jobledger.testing.scenario import Exits, Hangs, Scenario, Silent, story

START = StartTaskSpec(command_line="start")


def node(s, name="p-1"):
    return s.world.nodes[name]


def fresh_pool(**more):
    """A pool of one node whose boot was asked for and not answered."""
    s = Scenario({"starttask": Hangs()})
    return s.given(CreatePool(spec=PoolSpec(id="p", **more)))


def in_state(given, state):
    """A scenario whose node p-1 is in `state`."""
    if state == "creating":
        return fresh_pool()
    if state in {"waitingforstarttask", "starttaskfailed"}:
        s = fresh_pool(start_task=START)
        s.run()
        if state == "starttaskfailed":
            s.answer("starttask", "exited", 1)
        return s
    s = given(nodes=1, prep=False, script={"t1": Hangs()}, tasks=("t1",) if state == "running" else ())
    s.run()
    s.executor.dead.add("p-1")
    steps = {
        "idle": [],
        "running": [],
        "rebooting": [RebootNode(node="p-1")],
        "reimaging": [ReimageNode(node="p-1")],
        "starting": [DeallocateNode(node="p-1"), NodeRetired(node="p-1", incarnation=2), StartNode(node="p-1")],
        "unusable": [NodeFaulted(node="p-1", fault="unusable", reason="disk full")],
        "unknown": [NodeFaulted(node="p-1", fault="lost", reason="no route")],
        "preempted": [NodeFaulted(node="p-1", fault="preempted", reason="evicted")],
        "deallocating": [DeallocateNode(node="p-1")],
        "deallocated": [DeallocateNode(node="p-1"), NodeRetired(node="p-1", incarnation=2)],
        "leavingpool": [RemoveNode(node="p-1")],
        "offline": [DisableScheduling(node="p-1")],
    }
    s.given(*steps[state])
    s.run()
    return s


STATES = [
    "creating", "starting", "waitingforstarttask", "starttaskfailed", "idle", "running", "offline", "rebooting", "reimaging",
    "unusable", "unknown", "preempted", "deallocating", "deallocated", "leavingpool",
]  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_reached_by_requests_and_reports(given, state):
    assert node(in_state(given, state)).state == state


# --- joining --------------------------------------------------------------------------------------------------


def test_a_new_node_is_booted_empty_and_then_idle():
    s = fresh_pool()
    assert list(commands(s.world).values()) == [BootNode(pool="p", node="p-1", incarnation=1, wipe=True)]
    assert story(s.when(NodeReady(node="p-1", boot_id="b1", incarnation=1))) == [
        "node.starting p-1",
        "node.booted p-1",
        "node.idle p-1",
        "pool.steady p",
    ]
    assert node(s).boot_id == "b1"
    assert commands(s.world) == {}


def test_a_repeated_or_foreign_answer_to_a_boot_decides_to_nothing():
    s = fresh_pool()
    s.ignores(NodeReady(node="p-1", boot_id="b0", incarnation=0))
    s.ignores(NodeReady(node="p-1", boot_id="b0"))
    s.ignores(NodeReady(node="p-9", boot_id="b0", incarnation=1))
    s.when(NodeReady(node="p-1", boot_id="b1", incarnation=1))
    s.ignores(NodeReady(node="p-1", boot_id="b1", incarnation=1))
    s.ignores(NodeReady(node="p-1", boot_id="b1"))


def test_a_node_is_running_while_it_has_a_task_and_a_waiting_one_counts(given):
    s = given(script={"jobpreparation": Hangs()})
    s.run()
    assert node(s).state == "running"
    s.answer("preparation", "exited")
    s.run()
    assert node(s).state == "idle"


def test_a_node_that_gets_its_next_task_at_once_stays_running(given):
    s = given(tasks=("a", "b", "c"), prep=False)
    s.run()
    assert [line for line in story(s.events) if line in {"node.running p-1", "node.idle p-1"}] == [
        "node.idle p-1",
        "node.running p-1",
        "node.idle p-1",
    ]


def test_a_release_alone_does_not_make_a_node_running(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert node(s).state == "idle"


# --- which requests are granted in which state ----------------------------------------------------------------

BUSY = {
    "creating": "NodeBeingCreated",
    "starting": "NodeBeingStarted",
    "waitingforstarttask": "NodeBeingStarted",
    "rebooting": "NodeBeingRebooted",
    "reimaging": "NodeBeingReimaged",
    "unusable": "NodeStateUnusable",
}
GRANTED = {
    RebootNode: {"idle", "running", "starttaskfailed", "unusable"},
    ReimageNode: {"idle", "running"},
    DeallocateNode: {"idle", "running"},
    StartNode: {"deallocated"},
}
LEADS_TO = {RebootNode: "rebooting", ReimageNode: "reimaging", DeallocateNode: "deallocating", StartNode: "starting"}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("request_type", GRANTED, ids=lambda request: request.__name__)
def test_a_wish_about_a_node_is_granted_in_its_states_and_refused_in_all_others(given, state, request_type):
    s = in_state(given, state)
    if state in GRANTED[request_type]:
        s.when(request_type(node="p-1"))
        assert node(s).state == LEADS_TO[request_type]
    else:
        refusal = s.refuses(request_type(node="p-1"), BUSY.get(state, "OperationNotValidOnNode"))
        assert f"node p-1 is {state}" in str(refusal)


@pytest.mark.parametrize("request_type", [*GRANTED, RemoveNode, DisableScheduling, EnableScheduling], ids=lambda request: request.__name__)
def test_an_unknown_node_is_refused(given, request_type):
    given().refuses(request_type(node="nope"), "NodeNotFound")


@pytest.mark.parametrize("state", [state for state in STATES if state not in {"leavingpool", "creating"}])
def test_a_node_is_removed_from_any_state_once_the_pool_is_steady(given, state):
    s = in_state(given, state)
    s.when(RemoveNode(node="p-1"))
    assert node(s).state == "leavingpool"
    s.executor.dead.clear()
    s.world.owed.fresh[:] = list(s.world.owed.now)
    s.run()
    assert "p-1" not in s.world.nodes


def test_a_node_of_a_pool_that_is_resizing_is_not_removed(given):
    in_state(given, "creating").refuses(RemoveNode(node="p-1"), "PoolBeingResized")
    in_state(given, "leavingpool").refuses(RemoveNode(node="p-1"), "PoolBeingResized")


# --- going down: first stop, then boot or retire --------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_of", "command"),
    [
        (lambda: RebootNode(node="p-1"), BootNode(pool="p", node="p-1", incarnation=2, wipe=False)),
        (lambda: ReimageNode(node="p-1"), BootNode(pool="p", node="p-1", incarnation=2, wipe=True)),
        (lambda: DeallocateNode(node="p-1"), RetireNode(pool="p", node="p-1", incarnation=2, wipe=True)),
        (lambda: RemoveNode(node="p-1"), RetireNode(pool="p", node="p-1", incarnation=2, wipe=True)),
    ],
)
def test_a_node_goes_down_only_when_what_ran_there_has_ended(given, request_of, command):
    s = given(prep=False, script={"t1": Hangs()})
    s.run()
    told = story(s.when(request_of()))
    assert told[-1] == "execution.stop-requested t1 p-1 requeue"
    assert [type(owed).__name__ for owed in commands(s.world).values()] == ["StopExecution"]
    s.answer("task", "stopped")
    assert list(commands(s.world).values()) == [command]


def test_an_answer_from_a_node_where_something_still_runs_decides_to_nothing(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(RebootNode(node="p-1"))
    s.ignores(NodeReady(node="p-1", boot_id="new", incarnation=2))
    s.when(RemoveNode(node="p-1"))
    s.ignores(NodeRetired(node="p-1", incarnation=3))


def test_a_reboot_brings_the_node_back_with_another_boot(given):
    s = given()
    s.run()
    told = story(s.finish(RebootNode(node="p-1")))
    assert told == ["node.rebooting p-1", "node.starting p-1", "node.booted p-1", "preparation.due p-1", "node.idle p-1"]
    assert (node(s).incarnation, node(s).boot_id) == (2, "p-1-boot-2")


def test_an_answer_from_an_earlier_incarnation_decides_to_nothing(given):
    s = in_state(given, "rebooting")
    s.ignores(NodeReady(node="p-1", boot_id="p-1-boot-1", incarnation=1))
    s.ignores(NodeReady(node="p-1", boot_id="p-1-boot-1"))
    s.ignores(NodeRetired(node="p-1", incarnation=2))
    assert node(s).state == "rebooting"


def test_a_node_that_answers_from_another_boot_is_rebooted(given):
    s = given(nodes=2, script={"t1@p-1": Hangs()})
    s.run()
    told = story(s.when(NodeReady(node="p-1", boot_id="surprise")))
    assert told[:2] == ["node.rebooting p-1", "execution.stop-requested t1 p-1 requeue"]
    rebooting = next(event for event in s.events if isinstance(event, NodeRebooting))
    assert rebooting.cause == "it answered from another boot"
    s.answer("task", "lost")
    assert BootNode(pool="p", node="p-1", incarnation=2, wipe=False) in commands(s.world).values()
    s.run()
    assert s.world.task("j", "t1").node == "p-2"


@pytest.mark.parametrize("state", ["idle", "running", "offline", "waitingforstarttask", "starttaskfailed"])
def test_another_boot_is_noticed_in_every_state_in_which_a_node_is_up(given, state):
    s = in_state(given, state)
    assert "node.rebooting p-1" in story(s.when(NodeReady(node="p-1", boot_id="surprise")))


# --- faults ---------------------------------------------------------------------------------------------------


def test_what_ran_on_a_lost_node_has_an_unresolved_outcome_at_once(given):
    s = given(nodes=2, slots=2, tasks=("a", "b", "c"), script={"a": Hangs(), "b": Hangs(), "c": Hangs()}, prep=False)
    s.run()
    told = story(s.when(NodeFaulted(node="p-1", fault="lost", reason="no route")))
    assert told[:5] == ["node.unknown p-1", "execution.unresolved a p-1", "task.requeued a", "execution.unresolved c p-1", "task.requeued c"]
    assert node(s).live == {}
    assert node(s).reason == "no route"


@pytest.mark.parametrize("state", ["unusable", "unknown"])
def test_a_node_that_comes_back_is_rebooted_before_it_takes_tasks(given, state):
    s = in_state(given, state)
    s.executor.dead.clear()
    told = story(s.finish(NodeReady(node="p-1", boot_id="p-1-boot-1")))
    assert told == ["node.rebooting p-1", "node.starting p-1", "node.booted p-1", "node.idle p-1"]


def test_an_unusable_node_stops_what_runs_there_and_settles_nothing_else(given):
    s = given(script={"t1": [Hangs(), Exits(0)]})
    s.run()
    told = story(s.when(NodeFaulted(node="p-1", fault="unusable", reason="disk full")))
    assert told == ["node.unusable p-1", "execution.stop-requested t1 p-1 requeue"]
    s.run()
    assert s.world.task("j", "t1").state == "active"


def test_an_unusable_node_may_still_be_lost_or_preempted(given):
    s = in_state(given, "unusable")
    s.when(NodeFaulted(node="p-1", fault="lost", reason="no route"))
    assert node(s).state == "unknown"
    s.when(NodeFaulted(node="p-1", fault="preempted", reason="evicted"))
    assert node(s).state == "preempted"


@pytest.mark.parametrize("state", ["idle", "running", "offline", "waitingforstarttask", "starttaskfailed", "unusable", "unknown"])
def test_a_node_that_lost_its_files_is_as_good_as_reimaged(given, state):
    s = in_state(given, state)
    s.executor.dead.clear()
    told = story(s.finish(NodeFaulted(node="p-1", fault="wiped", reason="its folder is gone")))
    assert told[0] == "node.reimaging p-1"
    assert "node.booted p-1" in told
    assert (node(s).incarnation, node(s).wipe) == (2, False)


def test_a_node_that_lost_its_files_while_it_reboots_is_emptied_as_well(given):
    s = in_state(given, "rebooting")
    incarnation = node(s).incarnation
    assert story(s.when(NodeFaulted(node="p-1", fault="wiped", reason="its folder is gone")))[0] == "node.reimaging p-1"
    assert (node(s).incarnation, node(s).wipe) == (incarnation + 1, True)


@pytest.mark.parametrize("state", ["creating", "starting", "reimaging", "preempted", "deallocating", "deallocated", "leavingpool"])
def test_the_files_of_a_node_that_is_made_anew_or_going_are_nobodys_loss(given, state):
    in_state(given, state).ignores(NodeFaulted(node="p-1", fault="wiped", reason="its folder is gone"))


def test_what_a_node_with_lost_files_owed_and_had_prepared_went_with_them(given, task_specs):
    s = given()
    s.run()
    s.finish(NodeFaulted(node="p-1", fault="wiped", reason="its folder is gone"))
    assert s.world.jobs["j"].releases["p-1"].state == "abandoned"
    s.finish(AddTasks(job="j", tasks=task_specs("t2")))
    assert s.launches() == ["jobpreparation@p-1", "t1@p-1", "jobpreparation@p-1", "t2@p-1"]
    assert s.world.jobs["j"].releases["p-1"].state == "owed"


@pytest.mark.parametrize("fault", ["lost", "unusable", "preempted"])
def test_a_repeated_fault_decides_to_nothing(given, fault):
    s = given(script={"t1": Silent()})
    s.run()
    s.finish(NodeFaulted(node="p-1", fault=fault, reason="broken"))
    s.ignores(NodeFaulted(node="p-1", fault=fault, reason="broken"))
    s.ignores(NodeFaulted(node="p-9", fault=fault, reason="broken"))


@pytest.mark.parametrize("fault", ["lost", "preempted"])
@pytest.mark.parametrize(("state", "line"), [("leavingpool", "node.removed p-1"), ("deallocating", "node.deallocated p-1")])
def test_a_node_that_is_lost_on_its_way_out_has_gone(given, fault, state, line):
    s = in_state(given, state)
    assert line in story(s.when(NodeFaulted(node="p-1", fault=fault, reason="no route")))


@pytest.mark.parametrize("state", ["leavingpool", "deallocating", "deallocated", "preempted", "unknown"])
def test_a_node_that_is_going_or_gone_does_not_become_unusable(given, state):
    in_state(given, state).ignores(NodeFaulted(node="p-1", fault="unusable", reason="disk full"))


def test_a_preempted_node_returns_under_the_same_id_and_empty(given, task_specs):
    s = given(script={"t1": Exits(0)})
    s.run()
    s.finish(NodeFaulted(node="p-1", fault="preempted", reason="evicted"))
    assert (node(s).state, node(s).owes) == ("preempted", None)
    s.ignores(NodeReady(node="p-1", boot_id="early"))
    assert story(s.when(NodeReallocated(node="p-1"))) == ["node.reallocated p-1"]
    assert list(commands(s.world).values()) == [BootNode(pool="p", node="p-1", incarnation=2, wipe=True)]
    s.ignores(NodeReallocated(node="p-1"))
    s.ignores(NodeReallocated(node="p-9"))
    s.run()
    s.finish(AddTasks(job="j", tasks=task_specs("t2")))
    assert s.launches(task="jobpreparation") == ["jobpreparation@p-1", "jobpreparation@p-1"]


# --- leaving and deallocating ---------------------------------------------------------------------------------


def test_a_removed_node_is_gone_when_it_has_retired(given):
    s = given(nodes=2, tasks=())
    told = story(s.finish(RemoveNode(node="p-2")))
    assert told == ["pool.resizing p", "node.leaving p-2", "node.removed p-2", "pool.steady p"]
    assert list(s.world.nodes) == ["p-1"]
    assert s.world.pools["p"].target == 1


def test_a_deallocated_node_stays_in_its_pool_and_starts_empty_on_request(given):
    s = given()
    s.run()
    told = story(s.finish(DeallocateNode(node="p-1")))
    assert told == ["node.deallocating p-1", "preparation.due p-1", "release.abandoned p-1", "node.deallocated p-1"]
    assert commands(s.world) == {}
    assert story(s.when(StartNode(node="p-1"))) == ["node.starting p-1"]
    assert list(commands(s.world).values()) == [BootNode(pool="p", node="p-1", incarnation=2, wipe=True)]
    s.run()
    assert node(s).state == "idle"


# --- scheduling -----------------------------------------------------------------------------------------------


def test_a_node_whose_scheduling_is_disabled_gives_its_tasks_back_and_goes_offline(given):
    s = given(script={"t1": [Hangs(), Exits(0)]})
    s.run()
    assert story(s.when(DisableScheduling(node="p-1"))) == ["node.scheduling-disabled p-1", "execution.stop-requested t1 p-1 requeue"]
    assert node(s).state == "running"
    assert story(s.run()) == ["execution.ended t1 p-1", "task.requeued t1", "node.idle p-1", "node.offline p-1"]
    assert s.world.task("j", "t1").state == "active"
    assert story(s.when(EnableScheduling(node="p-1")))[:2] == ["node.scheduling-enabled p-1", "node.idle p-1"]
    s.run()
    assert s.world.task("j", "t1").result == "success"


def test_a_task_that_waits_for_preparation_leaves_a_disabled_node_at_once(given):
    s = given(nodes=2, script={"jobpreparation@p-1": Hangs()})
    s.run()
    told = story(s.when(DisableScheduling(node="p-1")))
    assert told[:2] == ["node.scheduling-disabled p-1", "task.requeued t1"]
    s.run()
    assert s.world.task("j", "t1").node == "p-2"


def test_scheduling_that_is_as_wished_is_refused(given):
    s = given(tasks=())
    s.refuses(EnableScheduling(node="p-1"), "NodeAlreadyInTargetSchedulingState")
    s.when(DisableScheduling(node="p-1"))
    s.refuses(DisableScheduling(node="p-1"), "NodeAlreadyInTargetSchedulingState")


def test_a_leaving_node_grants_nothing_about_scheduling(given):
    s = in_state(given, "leavingpool")
    s.refuses(DisableScheduling(node="p-1"), "OperationNotValidOnNode")


def test_a_node_that_boots_with_its_scheduling_disabled_is_offline(given):
    s = given(tasks=())
    s.when(RebootNode(node="p-1"))
    s.when(DisableScheduling(node="p-1"))
    assert story(s.run())[-2:] == ["node.idle p-1", "node.offline p-1"]
