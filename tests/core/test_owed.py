"""Owed commands: derived from the world, lost with nothing, repeated without harm."""

from jobledger.core.commands import BootNode, RunPreparation, RunTask, StopExecution
from jobledger.core.limits import STOP_GRACE
from jobledger.core.owed import commands, reissue, running, take_fresh
from jobledger.core.requests import CreatePool, DeleteTask, RebootNode, TerminateJob, TerminateTask
from jobledger.core.specs import PoolSpec
from jobledger.testing.scenario import Hangs, Scenario, Silent


def kinds(found):
    return [type(command) for command in found]


def test_a_command_is_fresh_once_and_owed_until_its_answer(given):
    s = given()
    assert kinds(take_fresh(s.world)) == [RunPreparation]
    assert take_fresh(s.world) == []
    assert kinds(commands(s.world).values()) == [RunPreparation]
    s.answer("preparation", "started")
    assert commands(s.world) == {}


def test_a_lost_command_is_derived_again(given):
    s = given()
    first = take_fresh(s.world)
    reissue(s.world)
    assert take_fresh(s.world) == first
    assert take_fresh(s.world) == []


def test_what_runs_is_recognised_and_not_launched_again(given):
    s = given(nodes=2, tasks=("a", "b"), script={"a": Hangs(), "b": Silent()})
    s.run()
    assert [execution.task for execution in running(s.world)] == ["a"]
    reissue(s.world)
    assert [command.launch.task for command in take_fresh(s.world)] == ["b"]


def test_a_stop_takes_the_place_of_a_launch_that_was_not_seen(given):
    s = given()
    s.when(TerminateJob(job="j"))
    assert kinds(take_fresh(s.world)) == [StopExecution], "the launch was fresh too and is owed no more"


def test_a_stronger_stop_is_the_same_command(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(RebootNode(node="p-1"))
    assert kinds(take_fresh(s.world)) == [StopExecution]
    s.when(DeleteTask(job="j", task="t1"))
    assert take_fresh(s.world) == []


def test_a_stop_after_which_outputs_are_uploaded_is_another_command_than_one_after_which_they_are_not(given):
    s = given(script={"t1": Hangs()})
    s.run()
    uploads = []
    for request in (RebootNode(node="p-1"), TerminateTask(job="j", task="t1"), DeleteTask(job="j", task="t1")):
        s.when(request)
        uploads += [command.upload for command in take_fresh(s.world)]
        assert list(commands(s.world).values()) == [StopExecution(execution=2, pool="p", node="p-1", grace=STOP_GRACE, upload=uploads[-1])]
    assert uploads == [False, True, False]
    s.answer("task", "stopped")
    assert not [key for key in commands(s.world) if key[0] == "stop"]
    assert s.world.owed.now == dict.fromkeys(commands(s.world))


def test_commands_that_were_settled_before_they_were_taken_are_not_handed_out(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(TerminateTask(job="j", task="t1"))
    s.answer("task", "exited")
    assert take_fresh(s.world) == []


def test_a_boot_under_a_newer_incarnation_is_another_command():
    s = Scenario().given(CreatePool(spec=PoolSpec(id="p")))
    s.run()
    s.executor.dead.add("p-1")
    s.finish(RebootNode(node="p-1"))
    assert list(commands(s.world)) == [("boot", "p-1", 2)]
    assert list(commands(s.world).values()) == [BootNode(pool="p", node="p-1", incarnation=2, wipe=False)]


def test_commands_come_in_the_order_in_which_they_became_owed(given):
    s = given(nodes=2, slots=2, tasks=("a", "b", "c"), prep=False)
    fresh = take_fresh(s.world)
    assert kinds(fresh) == [RunTask] * 3
    assert [command.launch.task for command in fresh] == ["a", "b", "c"]
