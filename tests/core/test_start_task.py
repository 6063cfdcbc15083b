"""Start tasks: the rules of `core/start_task.py`."""

import pytest

from jobledger.core.reports import ExecutionExited, NodeFaulted, NodeReady
from jobledger.core.requests import CreatePool, DisableScheduling, RebootNode, ReimageNode, SubmitJob
from jobledger.core.specs import PoolSpec, StartTaskSpec
from jobledger.testing.scenario import CannotStart, Exits, Hangs, Scenario, Vanishes, story


def pool_with(script=None, **start):
    s = Scenario({"starttask": script} if script is not None else None)
    s.finish(CreatePool(spec=PoolSpec(id="p", start_task=StartTaskSpec(command_line="start", **start))))
    return s


def run_of(s):
    return s.world.nodes["p-1"].start_task


def state(s):
    return s.world.nodes["p-1"].state


def test_a_node_waits_for_its_start_task():
    s = pool_with(Hangs())
    assert state(s) == "waitingforstarttask"
    assert story(s.answer("starttask", "exited")) == ["execution.ended starttask p-1", "start-task.completed p-1 success", "node.idle p-1"]


def test_a_node_takes_tasks_only_after_its_start_task_succeeded(job_spec, task_specs):
    s = pool_with(Hangs())
    s.finish(SubmitJob(spec=job_spec(), tasks=task_specs("t1")))
    assert s.launches(task="jobpreparation") == []
    s.answer("starttask", "exited")
    s.run()
    assert s.launches() == ["starttask@p-1", "jobpreparation@p-1", "t1@p-1"]


@pytest.mark.parametrize(("answer", "exit_code", "code"), [(Exits(2), 2, "FailureExitCode"), (CannotStart(), None, "CommandProgramNotFound")])
def test_a_failure_with_no_retries_left_is_the_nodes(answer, exit_code, code):
    s = pool_with(answer)
    assert state(s) == "starttaskfailed"
    assert (run_of(s).result, run_of(s).exit_code, run_of(s).failure.code) == ("failure", exit_code, code)


def test_a_non_zero_exit_is_retried_and_a_launch_failure_is_not():
    s = pool_with([Exits(1), Exits(1), Exits(0)], max_task_retry_count=2)
    assert (state(s), run_of(s).retries, run_of(s).launches) == ("idle", 2, 3)
    s = pool_with([CannotStart(), Exits(0)], max_task_retry_count=2)
    assert (state(s), run_of(s).launches) == ("starttaskfailed", 1)


def test_minus_one_retries_without_limit():
    s = pool_with([*[Exits(1)] * 30, Exits(0)], max_task_retry_count=-1)
    assert (state(s), run_of(s).retries) == ("idle", 30)


def test_a_node_that_does_not_wait_takes_tasks_at_once(job_spec, task_specs):
    s = pool_with(Hangs(), wait_for_success=False)
    assert state(s) == "idle"
    s.finish(SubmitJob(spec=job_spec(), tasks=task_specs("t1")))
    assert s.world.task("j", "t1").result == "success"


def test_a_failure_changes_nothing_where_the_node_does_not_wait():
    s = pool_with(Exits(1), wait_for_success=False)
    assert state(s) == "idle"
    assert run_of(s).result == "failure"


def test_every_boot_owes_it_a_run():
    s = pool_with()
    s.finish(RebootNode(node="p-1"))
    s.finish(ReimageNode(node="p-1"))
    assert s.launches() == ["starttask@p-1"] * 3
    assert (state(s), run_of(s).launches) == ("idle", 3)


def test_retries_begin_anew_with_each_boot():
    s = pool_with([Exits(1), Exits(0), Exits(1), Exits(0)], max_task_retry_count=1)
    s.finish(RebootNode(node="p-1"))
    assert (state(s), run_of(s).retries, run_of(s).launches) == ("idle", 1, 4)


def test_a_reboot_mends_a_failed_start_task():
    s = pool_with([Exits(1), Exits(0)])
    assert state(s) == "starttaskfailed"
    s.finish(RebootNode(node="p-1"))
    assert state(s) == "idle"


def test_a_run_that_the_node_cut_short_is_owed_again():
    s = pool_with([Hangs(), Exits(0)], wait_for_success=False)
    told = story(s.finish(RebootNode(node="p-1")))
    assert told[:4] == [
        "node.rebooting p-1",
        "execution.stop-requested starttask p-1 requeue",
        "execution.ended starttask p-1",
        "start-task.interrupted p-1",
    ]
    assert s.launches() == ["starttask@p-1"] * 2
    assert run_of(s).result == "success"


def test_a_run_whose_end_nobody_saw_starts_over_at_once():
    s = pool_with([Vanishes(), Exits(0)])
    assert s.launches() == ["starttask@p-1"] * 2
    assert state(s) == "idle"


def test_a_lost_node_runs_it_again_when_it_is_back():
    s = pool_with([Hangs(), Exits(0)])
    s.finish(NodeFaulted(node="p-1", fault="lost", reason="no route"))
    assert run_of(s).state == "due"
    s.finish(NodeReady(node="p-1", boot_id="again"))
    assert (state(s), run_of(s).result) == ("idle", "success")


def test_a_failure_under_a_reboot_is_an_interruption_and_no_retry():
    s = pool_with([Hangs(), Exits(0)], max_task_retry_count=1)
    s.when(NodeReady(node="p-1", boot_id="surprise"))
    assert story(s.answer("starttask", "exited", 1)) == ["execution.ended starttask p-1", "start-task.interrupted p-1"]
    s.run()
    assert (state(s), run_of(s).retries) == ("idle", 0)


def test_it_has_no_wall_clock_limit():
    s = pool_with(Hangs())
    assert s.pass_time(10**15) == []
    assert state(s) == "waitingforstarttask"


def test_a_late_report_of_an_earlier_run_decides_to_nothing():
    s = pool_with([Exits(1), Hangs()], max_task_retry_count=1)
    s.ignores(ExecutionExited(execution=1, exit_code=0))
    assert state(s) == "waitingforstarttask"


def test_its_success_under_a_reboot_does_not_make_the_node_idle():
    s = pool_with([Hangs(), Hangs()])
    s.when(NodeReady(node="p-1", boot_id="surprise"))
    assert story(s.answer("starttask", "exited")) == ["execution.ended starttask p-1", "start-task.completed p-1 success"]
    s.run()
    assert state(s) == "waitingforstarttask"


@pytest.mark.parametrize("state", ["idle", "running", "offline"])
def test_a_start_task_that_nobody_waits_for_runs_again_whatever_the_node_does_meanwhile(given, state):
    start = StartTaskSpec(command_line="start", wait_for_success=False)
    s = given(prep=False, pool={"start_task": start}, tasks=("t1",) if state == "running" else (), script={"starttask": Hangs(), "t1": Hangs()})
    s.run()
    if state == "offline":
        s.when(DisableScheduling(node="p-1"))
    assert s.world.nodes["p-1"].state == state
    assert story(s.answer("starttask", "lost"))[-3:] == ["start-task.interrupted p-1", "execution.requested starttask p-1", "start-task.started p-1"]
