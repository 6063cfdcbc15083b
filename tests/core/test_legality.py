"""Every request about pools and nodes in every state: granted where the table says so, and otherwise refused with its code and without a trace.

The tables are Azure Batch's rules as `semantics` 1.5, 1.6 and 3.10 have them, written down once more and not taken from the rules.
"""

import pytest

from jobledger.core.events import Event
from jobledger.core.reports import NodeFaulted, NodeRetired
from jobledger.core.requests import (
    CreatePool,
    DeallocateNode,
    DeletePool,
    DisableScheduling,
    EnableScheduling,
    RebootNode,
    ReimageNode,
    RemoveNode,
    ResizePool,
    StartNode,
    StopResize,
)
from jobledger.core.specs import PoolSpec, StartTaskSpec
from jobledger.testing.scenario import Hangs, Scenario

OPTIONS = ("requeue", "terminate", "taskcompletion")
PATIENT = "taskcompletion"
START = StartTaskSpec(command_line="start")


def fresh(**more):
    """A pool whose node was asked for and has not come."""
    return Scenario({"starttask": Hangs()}).given(CreatePool(spec=PoolSpec(id="p", nodes=1, **more)))


def up(given, *steps, busy=False):
    """A pool whose node came up and no longer answers, and then `steps`."""
    s = given(prep=False, script={"t1": Hangs()}, tasks=("t1",) if busy else ())
    s.run()
    s.executor.dead.add("p-1")
    s.given(*steps)
    s.run()
    return s


def started(*codes):
    s = fresh(start_task=START)
    s.run()
    for code in codes:
        s.answer("starttask", "exited", code)
    return s


DEALLOCATED = (DeallocateNode(node="p-1"), NodeRetired(node="p-1", incarnation=2))

# How the node p-1 comes into each state; the pool is steady unless the name says otherwise.
NODES = {
    "creating, resizing": lambda _: fresh(),
    "creating": lambda _: late(),
    "starting": lambda given: up(given, *DEALLOCATED, StartNode(node="p-1")),
    "waitingforstarttask": lambda _: started(),
    "starttaskfailed": lambda _: started(1),
    "idle": lambda given: up(given),
    "running": lambda given: up(given, busy=True),
    "running, draining": lambda given: up(given, RebootNode(node="p-1", option=PATIENT), busy=True),
    "running, leaving": lambda given: up(given, RemoveNode(node="p-1", option=PATIENT), busy=True),
    "running, disabled": lambda given: up(given, DisableScheduling(node="p-1", option=PATIENT), busy=True),
    "offline": lambda given: up(given, DisableScheduling(node="p-1")),
    "rebooting": lambda given: up(given, RebootNode(node="p-1")),
    "reimaging": lambda given: up(given, ReimageNode(node="p-1")),
    "unusable": lambda given: up(given, NodeFaulted(node="p-1", fault="unusable", reason="disk full")),
    "unknown": lambda given: up(given, NodeFaulted(node="p-1", fault="lost", reason="no route")),
    "preempted": lambda given: up(given, NodeFaulted(node="p-1", fault="preempted", reason="evicted")),
    "deallocating": lambda given: up(given, DeallocateNode(node="p-1")),
    "deallocated": lambda given: up(given, *DEALLOCATED),
    "leavingpool, resizing": lambda given: up(given, RemoveNode(node="p-1")),
    "leavingpool": lambda given: late(up(given, RemoveNode(node="p-1"))),
    "leavingpool, deleting": lambda given: up(given, DeletePool(pool="p")),
}


def late(s=None):
    """The resize ran out of time."""
    s = s or fresh()
    s.wake()
    return s


BUSY = {
    "creating": "NodeBeingCreated",
    "starting": "NodeBeingStarted",
    "waitingforstarttask": "NodeBeingStarted",
    "rebooting": "NodeBeingRebooted",
    "reimaging": "NodeBeingReimaged",
    "unusable": "NodeStateUnusable",
}


def of_operation(*granted):
    """Which states grant it, and for all others the code."""

    def code(state):
        if state == "running, leaving":
            return "OperationNotValidOnNode"
        plain = state.partition(",")[0]
        return None if plain in granted else BUSY.get(plain, "OperationNotValidOnNode")

    return code


def of_removal(state):
    special = {
        "creating, resizing": "PoolBeingResized",
        "leavingpool, resizing": "PoolBeingResized",
        "leavingpool, deleting": "PoolBeingDeleted",
        "leavingpool": "OperationNotValidOnNode",
    }
    return special.get(state)


def of_scheduling(granted):
    def code(state):
        if state.startswith("leavingpool"):
            return "OperationNotValidOnNode"
        enabled = state not in {"offline", "running, disabled"}
        undoes = granted == "disabled" and state in {"running, draining", "running, leaving"}
        return None if undoes or enabled == (granted == "enabled") else "NodeAlreadyInTargetSchedulingState"

    return code


OF_NODES = {
    RebootNode: of_operation("idle", "running", "starttaskfailed", "unusable"),
    ReimageNode: of_operation("idle", "running"),
    DeallocateNode: of_operation("idle", "running"),
    RemoveNode: of_removal,
    StartNode: of_operation("deallocated"),
    DisableScheduling: of_scheduling("enabled"),
    EnableScheduling: of_scheduling("disabled"),
}
WITHOUT_EFFECT = {
    (RebootNode, "running, draining", PATIENT),  # It drains for that already.
    (RemoveNode, "running, leaving", PATIENT),
}


@pytest.mark.parametrize("state", NODES)
@pytest.mark.parametrize("wish", OF_NODES, ids=lambda wish: wish.__name__)
def test_a_request_about_a_node_in_any_state(given, wish, state):
    for option in OPTIONS if wish not in {StartNode, EnableScheduling} else (None,):
        s = NODES[state](given)
        assert s.world.nodes["p-1"].state == state.partition(",")[0]
        request = wish(node="p-1") if option is None else wish(node="p-1", option=option)
        judge(s, request, OF_NODES[wish](state), nothing=(wish, state, option) in WITHOUT_EFFECT)


@pytest.mark.parametrize("state", NODES)
@pytest.mark.parametrize("wish", [wish for wish in OF_NODES if wish not in {StartNode, EnableScheduling}], ids=lambda wish: wish.__name__)
@pytest.mark.parametrize("option", ["retaineddata", "", "TaskCompletion"])
def test_an_option_that_is_none_is_refused_in_any_state(given, wish, state, option):
    refusal = NODES[state](given).refuses(wish(node="p-1", option=option), "InvalidPropertyValue")
    assert ("deprecated" in str(refusal)) == (option == "retaineddata")


@pytest.mark.parametrize("wish", OF_NODES, ids=lambda wish: wish.__name__)
def test_a_request_about_a_node_that_is_not_there(given, wish):
    given().refuses(wish(node="nope"), "NodeNotFound")


# --- pools ----------------------------------------------------------------------------------------------------


def deleting(given):
    return up(given, DeletePool(pool="p"))


POOLS = {
    "absent": lambda _: Scenario(),
    "resizing": lambda _: fresh(),
    "steady": lambda given: up(given),
    "steady, late": lambda _: late(),
    "steady, stopped": lambda _: fresh().given(StopResize(pool="p")),
    "resizing, draining": lambda given: up(given, ResizePool(pool="p", target=0, option=PATIENT), busy=True),
    "steady, draining": lambda given: late(up(given, ResizePool(pool="p", target=0, option=PATIENT), busy=True)),
    "deleting": deleting,
}
ABSENT_OR_DELETING = {"absent": "PoolNotFound", "deleting": "PoolBeingDeleted"}
OF_POOLS = {
    "resize": ABSENT_OR_DELETING | {"resizing": "PoolBeingResized", "resizing, draining": "PoolBeingResized"},
    "stop": ABSENT_OR_DELETING | dict.fromkeys(("steady", "steady, late", "steady, stopped", "steady, draining"), "OperationNotValidOnPool"),
    "delete": ABSENT_OR_DELETING,
    "create": {"deleting": "PoolBeingDeleted"} | dict.fromkeys(set(POOLS) - {"absent", "deleting"}, "PoolExists"),
}
POOL_WISHES = {
    "resize": [ResizePool(pool="p", target=5, option=option) for option in OPTIONS],
    "stop": [StopResize(pool="p")],
    "delete": [DeletePool(pool="p")],
    "create": [CreatePool(spec=PoolSpec(id="p", nodes=7))],
}


@pytest.mark.parametrize("state", POOLS)
@pytest.mark.parametrize("wish", POOL_WISHES)
def test_a_request_about_a_pool_in_any_state(given, wish, state):
    for request in POOL_WISHES[wish]:
        judge(POOLS[state](given), request, OF_POOLS[wish].get(state))


@pytest.mark.parametrize("state", [state for state in POOLS if state not in {"absent", "deleting"}])
def test_an_option_that_is_none_is_refused_by_a_pool(given, state):
    code = "PoolBeingResized" if state.startswith("resizing") else "InvalidPropertyValue"
    POOLS[state](given).refuses(ResizePool(pool="p", target=5, option="retaineddata"), code)


def judge(s: Scenario, request, code: str | None, *, nothing: bool = False) -> None:
    """Granted where there is no code; else refused with it, and nothing is recorded."""
    before: list[Event] = s.events
    if code is None:
        assert bool(s.when(request)) != nothing, request
    else:
        s.refuses(request, code)
        assert s.events == before
