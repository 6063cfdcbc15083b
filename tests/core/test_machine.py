"""The tables: every state crossed with every input, and held equal to what `transitions` itself allows."""

import pytest
from transitions import MachineError

from jobledger.core.errors import ImpossibleEvent
from jobledger.core.events import (
    STORED,
    EngineStarted,
    EngineStopped,
    JobCreated,
    JobDeleted,
    JobTerminating,
    PoolCreated,
    TaskAdded,
    TaskRetried,
)
from jobledger.core.machine import ABSENT, Machine, Row, rows
from jobledger.core.machines import MACHINES

INPUTS = tuple(STORED)
TRIGGERS = {event: name for event, (name, _) in STORED.items()}

AZURE_STATES = {
    "job": "active disabling disabled enabling terminating completed deleting",
    "task": "active preparing running completed",
    "preparation": "running completed",
    "release": "running completed",
    "start-task": "running completed",
    "node": (
        "creating starting waitingforstarttask starttaskfailed idle running rebooting reimaging offline unusable unknown leavingpool "
        "preempted deallocating deallocated upgradingos"
    ),
    "scheduling": "enabled disabled",
    "pool": "active deleting",
    "allocation": "steady resizing stopping",
}
"""Every state of Azure Batch's objects (semantics, section 1)."""

LEFT_OUT = {("node", "upgradingos"): "an upgrade of the operating system is Azure's own work on its images; no executor here does it"}

FINALS = {
    "pool": {"deleted"},
    "allocation": set(),
    "node": {"removed"},
    "scheduling": set(),
    "start-task": set(),
    "job": {"deleted"},
    "task": {"deleted"},
    "preparation": set(),
    "release": {"completed"},
    "finalizer": {"completed", "abandoned"},
    "execution": {"ended", "never-ran", "unresolved"},
    "files": {"removed"},
    "job-files": {"removed"},
}


def instance(event):
    """An event without content: a move depends on its type alone."""
    return event.__new__(event)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_the_lookup_allows_exactly_what_transitions_allows(machine):
    referee = machine.referee()
    known = set(referee.events)
    for state in machine.states:
        for event in INPUTS:
            trigger = TRIGGERS[event]
            referee.set_state(state)
            allowed = trigger in known and referee.may_trigger(trigger)
            assert machine.allows(state, event) == allowed, (state, trigger)
            if allowed:
                assert referee.trigger(trigger)
                assert machine.move(state, instance(event), "it") == referee.state, (state, trigger)
            else:
                if trigger in known:
                    with pytest.raises(MachineError):
                        referee.trigger(trigger)
                with pytest.raises(ImpossibleEvent):
                    machine.move(state, instance(event), "it")
                assert referee.state == state


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_an_impossible_move_names_the_entity_its_state_and_the_event(machine):
    for state in machine.states:
        for event in INPUTS:
            if not machine.allows(state, event):
                with pytest.raises(ImpossibleEvent) as caught:
                    machine.move(state, instance(event), "x-17")
                assert str(caught.value) == f"{machine.name} x-17 is {state}: {TRIGGERS[event]} cannot happen to it"
                assert caught.value.entity == f"{machine.name} x-17"


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_every_state_is_reached_from_absent(machine):
    reached, found = {ABSENT}, [ABSENT]
    while found:
        state = found.pop()
        for row in machine.rows:
            if row.source == state and row.target not in reached:
                reached.add(row.target)
                found.append(row.target)
    assert reached == set(machine.states)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_final_states_are_those_that_no_row_leaves(machine):
    assert set(machine.finals) == FINALS[machine.name]
    for final in machine.finals:
        assert not any(machine.allows(final, event) for event in INPUTS)


def test_every_state_of_azure_is_in_its_table_or_left_out_for_a_reason():
    missing = {(name, state) for name, states in AZURE_STATES.items() for state in states.split() if state not in MACHINES[name].states}
    assert missing == set(LEFT_OUT)


def test_every_event_but_the_engines_own_moves_some_machine():
    moving = {row.event for machine in MACHINES.values() for row in machine.rows}
    assert set(INPUTS) - moving == {EngineStarted, EngineStopped}


def test_machines_are_known_by_their_own_names():
    assert [machine.name for machine in MACHINES.values()] == list(MACHINES)


def test_two_rows_for_one_source_and_event_are_refused():
    with pytest.raises(ValueError, match=r"job: two rows for job\.terminating in active"):
        Machine("job", "a job", rows(("active", JobTerminating, "terminating"), ("active disabled", JobTerminating, "completed")))


def test_states_and_finals_are_derived_from_the_rows():
    machine = Machine("job", "a job", rows((ABSENT, JobCreated, "active"), ("active", JobDeleted, "deleted")))
    assert machine.states == (ABSENT, "active", "deleted")
    assert machine.finals == ("deleted",)
    assert (machine.name, machine.of, [row.target for row in machine.rows]) == ("job", "a job", ["active", "deleted"])
    assert machine.move("active", instance(JobDeleted), "j") == "deleted"
    assert not machine.allows("active", JobCreated)


def test_a_row_entry_may_name_several_sources_and_leave_the_state_as_it_is():
    assert rows(("active running", TaskRetried, "=", "why not")) == [
        Row("active", TaskRetried, "active", "why not"),
        Row("running", TaskRetried, "running", "why not"),
    ]


def test_a_referee_is_fresh_each_time_and_speaks_of_events_by_their_stored_names():
    machine = MACHINES["pool"]
    first, second = machine.referee(), machine.referee()
    first.trigger("pool.created")
    assert (first.state, second.state) == ("active", ABSENT)
    assert first.name == "pool: ", "transitions puts a colon after it, for its log"
    assert not hasattr(first, "to_deleted"), "there is no way into a state but by an event"
    assert Row(ABSENT, PoolCreated, "active").trigger == "pool.created"
    assert TRIGGERS[TaskAdded] == "task.added"
