"""Start tasks: the rules of `core/start_task.py`."""

import pytest

from jobledger.core.events import StartTaskCompleted, StartTaskInterrupted, StartTaskRetried
from jobledger.core.failure import exit_code_failure, internal_retries_failure
from jobledger.core.limits import INTERNAL_RETRIES_MAX
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


# --- what is told of it ---------------------------------------------------------------------------------------


def interruptions(events):
    return [event for event in events if isinstance(event, StartTaskInterrupted)]


def test_every_launch_has_a_number_of_its_own():
    s = pool_with([Exits(1), Exits(1), Exits(0)], max_task_retry_count=2)
    s.finish(RebootNode(node="p-1"))
    assert [launch.attempt for launch in s.executor.launched] == [1, 2, 3, 4]


def test_a_run_is_known_from_its_start_to_its_end():
    s = pool_with(Hangs(), max_task_retry_count=1)
    assert run_of(s).execution == s.live("starttask") == 1
    assert s.answer("starttask", "exited", 3)[-1] == StartTaskRetried(node="p-1", execution=2, exit_code=3)
    assert (run_of(s).execution, run_of(s).started_at, run_of(s).last_retry_at) == (s.live("starttask"), s.now, s.now)
    assert StartTaskCompleted(node="p-1", result="success", exit_code=0, failure=None) in s.answer("starttask", "exited")
    assert (run_of(s).execution, run_of(s).ended_at) == (None, s.now)


@pytest.mark.parametrize(("answer", "code", "signal"), [(Exits(2), 2, None), (Exits(signal=9), 137, 9)])
def test_its_failure_says_how_it_ended(answer, code, signal):
    assert run_of(pool_with(answer)).failure == exit_code_failure(code, signal)


def test_a_run_that_was_cut_short_says_by_what():
    s = pool_with(Hangs(), wait_for_success=False)
    assert interruptions(s.finish(RebootNode(node="p-1"))) == [StartTaskInterrupted(node="p-1", cause="the node is rebooting")]
    assert interruptions(s.answer("starttask", "stopped")) == [StartTaskInterrupted(node="p-1", cause="stopped by the executor", internal=True)]
    assert interruptions(s.answer("starttask", "lost")) == [StartTaskInterrupted(node="p-1", cause="its record is gone", internal=True)]


def test_one_that_is_lost_too_often_in_a_row_fails_with_the_last_cause():
    s = pool_with(Vanishes(reason="no trace"))
    assert (state(s), run_of(s).failure) == ("starttaskfailed", internal_retries_failure("no trace"))
    assert run_of(s).launches == INTERNAL_RETRIES_MAX + 1


@pytest.mark.parametrize("end", [Exits(0), Exits(1)])
def test_losses_are_in_a_row_no_more_after_an_end_that_was_seen(end):
    s = pool_with([Vanishes(), end, Hangs()], max_task_retry_count=1)
    if end == Exits(0):
        s.finish(RebootNode(node="p-1"))
    assert run_of(s).internal == 0
    s.answer("starttask", "lost")
    assert run_of(s).internal == 1


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
