"""Release: the rules of `core/release.py`, per job and node."""

import pytest

from jobledger.core.events import ReleaseAbandoned, ReleaseCompleted
from jobledger.core.limits import RELEASE_WALL_CLOCK_MAX
from jobledger.core.reports import ExecutionExited, NodeFaulted, NodeReady, NodeReallocated
from jobledger.core.requests import (
    AddTasks,
    DeallocateNode,
    DeleteJob,
    DeletePool,
    DisableScheduling,
    RebootNode,
    ReimageNode,
    RemoveNode,
    ResizePool,
    StartNode,
    SubmitJob,
    TerminateJob,
    TerminateTask,
)
from jobledger.core.specs import PreparationSpec, ReleaseSpec, StartTaskSpec
from jobledger.testing.scenario import CannotStart, Exits, Hangs, Silent, Vanishes, story


def scope(name):
    return ReleaseSpec(command_line="release", release_scope=name)


def abandoned(s):
    return [(event.node, event.cause) for event in s.events if isinstance(event, ReleaseAbandoned)]


# --- the scope ------------------------------------------------------------------------------------------------


def test_by_default_it_runs_exactly_where_a_task_ran(given):
    s = given(nodes=4, tasks=("a", "b"))
    s.run()
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1", "jobrelease@p-2"]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("taskRan", ["jobrelease@p-1"]),
        ("prepared", ["jobrelease@p-1", "jobrelease@p-2"]),
        ("attempted", ["jobrelease@p-1", "jobrelease@p-2", "jobrelease@p-3"]),
    ],
)
def test_a_wider_scope_adds_prepared_nodes_and_then_attempted_ones(given, name, where):
    """A task ran on p-1; on p-2 preparation succeeded but the task never ran; on p-3 it failed; on p-4 it certainly never ran."""
    script = {"jobpreparation@p-3": Exits(1), "jobpreparation@p-4": Silent(), "b": CannotStart(), "a": Hangs()}
    s = given(nodes=4, tasks=("a", "b", "c"), release=scope(name), script=script)
    s.run()
    s.finish(TerminateJob(job="j"))
    assert sorted(s.launches(task="jobrelease")) == where
    assert s.world.jobs["j"].state == "completed"


def test_a_debt_is_recorded_when_the_start_is_seen(given):
    s = given(script={"t1": Silent()})
    s.run()
    assert story(s.answer("task", "started")) == ["execution.confirmed t1 p-1", "release.owed p-1"]


def test_an_end_without_a_seen_start_is_a_start_too(given):
    s = given(script={"t1": Silent()})
    s.run()
    assert story(s.answer("task", "exited"))[:3] == ["execution.ended t1 p-1", "release.owed p-1", "task.completed t1 success"]


def test_a_launch_that_may_have_happened_counts(given):
    s = given(script={"t1": [Silent(), Exits(0)]})
    s.run()
    assert story(s.answer("task", "lost"))[:2] == ["execution.unresolved t1 p-1", "release.owed p-1"]


@pytest.mark.parametrize("answer", [Silent(), CannotStart()])
def test_a_launch_that_certainly_did_not_happen_does_not_count(given, answer):
    s = given(script={"t1": answer})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == []
    assert s.world.jobs["j"].state == "completed"


def test_one_debt_per_node_however_many_tasks_ran(given):
    s = given(slots=2, tasks=("a", "b", "c"))
    s.run()
    assert story(s.events).count("release.owed p-1") == 1


def test_a_job_without_a_release_task_owes_nothing(given):
    s = given(release=False)
    s.run()
    assert story(s.finish(TerminateJob(job="j"))) == ["job.terminating j", "job.completed j"]


# --- when it starts -------------------------------------------------------------------------------------------


def test_it_starts_only_when_nothing_else_of_the_job_lives_anywhere(given):
    s = given(nodes=2, tasks=("a", "b"), script={"b": Hangs()})
    s.run()
    assert story(s.when(TerminateJob(job="j"))) == ["job.terminating j", "execution.stop-requested b p-2 complete"]
    assert s.launches(task="jobrelease") == []
    told = story(s.answer("task", "stopped"))
    assert [line for line in told if "release.started" in line] == ["release.started p-1", "release.started p-2"]


def test_it_takes_no_slot(given, job_spec, task_specs):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    node = s.world.nodes["p-1"]
    assert (node.state, len(node.live), node.tasks) == ("idle", 1, {})
    s.finish(SubmitJob(spec=job_spec("k"), tasks=task_specs("x")))
    assert s.world.task("k", "x").result == "success"
    assert s.world.jobs["j"].state == "terminating"


def test_it_runs_on_a_node_that_is_offline(given):
    s = given()
    s.run()
    s.finish(DisableScheduling(node="p-1"))
    assert s.world.nodes["p-1"].state == "offline"
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_it_waits_for_a_node_that_is_coming_back(given):
    s = given()
    s.run()
    s.executor.dead.add("p-1")
    s.finish(RebootNode(node="p-1"))
    assert story(s.finish(TerminateJob(job="j"))) == ["job.terminating j"]
    told = story(s.when(NodeReady(node="p-1", boot_id="new", incarnation=2)))
    assert told[-2:] == ["execution.requested jobrelease p-1", "release.started p-1"]
    s.run()
    assert s.world.jobs["j"].state == "completed"


def test_it_waits_for_the_start_task_of_a_node_that_is_coming_back(given):
    start = StartTaskSpec(command_line="start")
    s = given(pool={"start_task": start}, script={"starttask": [Exits(0), Hangs()]})
    s.run()
    s.finish(RebootNode(node="p-1"))
    assert s.world.nodes["p-1"].state == "waitingforstarttask"
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == []
    s.answer("starttask", "exited")
    s.run()
    assert s.world.jobs["j"].state == "completed"


# --- its end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "exit_code", "code"),
    [
        (Exits(5), 5, "FailureExitCode"),
        (Exits(signal=9), 137, "FailureExitCode"),
        (CannotStart(), None, "CommandProgramNotFound"),
    ],
)
def test_a_failure_is_recorded_and_never_retried(given, answer, exit_code, code):
    s = given(script={"jobrelease": answer})
    s.run()
    s.finish(TerminateJob(job="j"))
    release = s.world.jobs["j"].releases["p-1"]
    assert (release.state, release.result, release.exit_code, release.failure.code) == ("completed", "failure", exit_code, code)
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]
    assert s.world.jobs["j"].state == "completed"


def test_its_wall_clock_limit_ends_it_as_failed(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    started = s.now
    assert story(s.wake()) == ["execution.stop-requested jobrelease p-1 complete"]
    assert s.now <= started + RELEASE_WALL_CLOCK_MAX
    s.run()
    release = s.world.jobs["j"].releases["p-1"]
    assert (release.result, release.failure.code) == ("failure", "TaskEnded")
    assert s.world.jobs["j"].state == "completed"


def test_one_that_was_over_its_limit_and_lost_is_final_too(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.wake()
    s.answer("release", "lost")
    assert s.world.jobs["j"].releases["p-1"].failure.code == "TaskEnded"
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]
    assert s.world.jobs["j"].state == "completed"


def test_one_that_the_executor_stopped_by_itself_runs_again(given):
    s = given(script={"jobrelease": [Hangs(), Exits(0)]})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.answer("release", "stopped")
    s.run()
    assert (s.world.jobs["j"].releases["p-1"].result, s.world.jobs["j"].state) == ("success", "completed")


def test_a_run_that_a_reboot_cut_short_runs_again(given):
    s = given(script={"jobrelease": [Hangs(), Exits(0)]})
    s.run()
    s.finish(TerminateJob(job="j"))
    told = story(s.finish(RebootNode(node="p-1")))
    assert told[:2] == ["node.rebooting p-1", "execution.stop-requested jobrelease p-1 requeue"]
    assert "release.interrupted p-1" in told
    assert s.launches(task="jobrelease") == ["jobrelease@p-1", "jobrelease@p-1"]
    assert [launch.attempt for launch in s.executor.launched if launch.task == "jobrelease"] == [1, 2]
    assert s.world.jobs["j"].state == "completed"


def test_a_release_that_ended_by_itself_under_a_reboot_keeps_its_result(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.when(RebootNode(node="p-1"))
    assert "release.completed p-1 failure" in story(s.answer("release", "exited", 4))
    s.run()
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_an_unresolved_run_on_a_node_that_stayed_up_may_have_run_and_is_not_run_again(given):
    s = given(script={"jobrelease": Vanishes()})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]
    release = s.world.jobs["j"].releases["p-1"]
    assert (release.state, release.result, release.failure.code, s.world.jobs["j"].state) == ("completed", "failure", "Unknown", "completed")


def test_a_repeated_report_of_its_end_decides_to_nothing(given):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    execution = s.live("release")
    s.answer("release", "exited")
    s.ignores(ExecutionExited(execution=execution, exit_code=0))


# --- once, whatever is asked later ----------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [Exits(0), Exits(1)])
def test_deleting_a_terminated_job_never_runs_it_a_second_time(given, answer):
    s = given(nodes=2, tasks=("a", "b"), script={"jobrelease": answer})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.finish(DeleteJob(job="j"))
    assert sorted(s.launches(task="jobrelease")) == ["jobrelease@p-1", "jobrelease@p-2"]
    assert sum(isinstance(event, ReleaseCompleted) for event in s.events) == 2


def test_deleting_an_active_job_runs_it(given):
    s = given()
    s.run()
    s.finish(DeleteJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


# --- debts that cannot be paid --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_of", "cause"),
    [
        (lambda: ReimageNode(node="p-1"), "the node was reimaged"),
        (lambda: RemoveNode(node="p-1"), "the node was removed"),
        (lambda: ResizePool(pool="p", target=0), "the node was removed"),
        (lambda: DeletePool(pool="p"), "the node was removed"),
        (lambda: DeallocateNode(node="p-1"), "the node was deallocated"),
        (lambda: NodeFaulted(node="p-1", fault="preempted", reason="evicted"), "the node was preempted"),
    ],
)
def test_the_debt_of_a_node_that_is_wiped_is_settled_at_once_with_its_cause(given, request_of, cause):
    s = given()
    s.run()
    s.finish(request_of())
    assert abandoned(s) == [("p-1", cause)]
    assert s.world.jobs["j"].releases["p-1"].abandoned_because == cause
    s.finish(TerminateJob(job="j"))
    assert s.world.jobs["j"].state == "completed"
    assert s.launches(task="jobrelease") == []


@pytest.mark.parametrize(("fault", "cause"), [("lost", "the node is lost"), ("unusable", "the node is unusable")])
def test_the_debt_of_a_node_that_is_down_stands_until_the_job_ends(given, fault, cause):
    s = given()
    s.run()
    s.finish(NodeFaulted(node="p-1", fault=fault, reason="broken"))
    assert abandoned(s) == []
    assert story(s.when(TerminateJob(job="j"))) == ["job.terminating j", "release.abandoned p-1", "job.completed j"]
    assert abandoned(s) == [("p-1", cause)]


@pytest.mark.parametrize("fault", ["lost", "unusable"])
def test_a_node_that_comes_back_before_the_job_ends_pays_its_debt(given, fault):
    s = given()
    s.run()
    s.finish(NodeFaulted(node="p-1", fault=fault, reason="broken"))
    s.finish(NodeReady(node="p-1", boot_id="again"))
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_a_failed_start_task_settles_the_debt(given):
    s = given(pool={"start_task": StartTaskSpec(command_line="start")}, script={"starttask": [Exits(0), Exits(1)]})
    s.run()
    s.finish(RebootNode(node="p-1"))
    assert s.world.nodes["p-1"].state == "starttaskfailed"
    s.finish(TerminateJob(job="j"))
    assert abandoned(s) == [("p-1", "the node's start task failed")]
    assert s.world.jobs["j"].state == "completed"


@pytest.mark.parametrize("fault", ["lost", "unusable", "preempted"])
def test_a_node_that_fails_under_its_release_does_not_hang_the_job(given, fault):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    s.finish(NodeFaulted(node="p-1", fault=fault, reason="broken"))
    assert len(abandoned(s)) == 1
    release = s.world.jobs["j"].releases["p-1"]
    assert (release.state, release.result) == ("abandoned", None), "no job claims a release that did not run"
    assert s.world.jobs["j"].state == "completed"


@pytest.mark.parametrize(
    "request_of",
    [
        lambda: RemoveNode(node="p-1"),
        lambda: ReimageNode(node="p-1"),
        lambda: DeallocateNode(node="p-1"),
        lambda: DeletePool(pool="p"),
    ],
)
def test_a_node_that_goes_away_under_its_release_does_not_hang_the_job(given, request_of):
    s = given(script={"jobrelease": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    told = story(s.finish(request_of()))
    assert told.index("execution.stop-requested jobrelease p-1 requeue") < told.index("release.interrupted p-1") < told.index("release.abandoned p-1")
    assert s.world.jobs["j"].state == "completed"
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_a_node_lost_while_the_job_waits_for_its_boot_does_not_hang_the_job(given):
    s = given()
    s.run()
    s.executor.dead.add("p-1")
    s.finish(RebootNode(node="p-1"))
    s.finish(TerminateJob(job="j"))
    assert s.world.jobs["j"].state == "terminating"
    s.finish(NodeFaulted(node="p-1", fault="unusable", reason="did not boot"))
    assert s.world.jobs["j"].state == "completed"


def test_a_wiped_node_where_a_task_runs_again_owes_again(given, task_specs):
    s = given()
    s.run()
    s.finish(ReimageNode(node="p-1"))
    s.finish(AddTasks(job="j", tasks=task_specs("t2")))
    assert s.world.jobs["j"].releases["p-1"].state == "owed"
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_a_task_that_ends_under_a_reimage_leaves_no_debt_behind(given):
    s = given(script={"t1": [Hangs(), Silent()]})
    s.run()
    s.finish(ReimageNode(node="p-1"))
    s.finish(TerminateTask(job="j", task="t1"))
    assert s.world.jobs["j"].releases["p-1"].state == "abandoned"
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == []


def test_a_deallocated_node_that_starts_again_owes_nothing_from_before(given):
    s = given()
    s.run()
    s.finish(DeallocateNode(node="p-1"))
    s.finish(StartNode(node="p-1"))
    assert s.world.nodes["p-1"].state == "idle"
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == []


def test_a_reallocated_node_owes_nothing_from_before(given):
    s = given()
    s.run()
    s.finish(NodeFaulted(node="p-1", fault="preempted", reason="evicted"))
    s.finish(NodeReallocated(node="p-1"))
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == []
    assert s.world.jobs["j"].state == "completed"


def test_one_node_that_is_gone_does_not_keep_others_from_their_release(given):
    s = given(nodes=3, tasks=("a", "b", "c"))
    s.run()
    s.finish(NodeFaulted(node="p-2", fault="lost", reason="gone"))
    s.finish(TerminateJob(job="j"))
    assert sorted(s.launches(task="jobrelease")) == ["jobrelease@p-1", "jobrelease@p-3"]
    assert abandoned(s) == [("p-2", "the node is lost")]


def test_preparation_that_does_not_wait_still_gives_its_nodes_a_release(given):
    s = given(prep=PreparationSpec(command_line="x", wait_for_success=False), script={"jobpreparation": Exits(1)})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert s.launches(task="jobrelease") == ["jobrelease@p-1"]


def test_debts_of_nodes_that_are_still_away_are_not_gone_through_for_one_that_comes_back(given):
    class NotGoneThrough(dict):
        def __iter__(self):
            raise AssertionError("the cost of one node grows with that of all others")

    s = given(nodes=3, tasks=("t1", "t2", "t3"))
    s.run()
    for node in ("p-1", "p-2", "p-3"):
        s.when(RebootNode(node=node))
    s.when(TerminateJob(job="j"))
    job = s.world.jobs["j"]
    assert (list(job.owed), list(job.payable)) == (["p-1", "p-2", "p-3"], [])
    job.owed = NotGoneThrough(job.owed)
    assert "release.started p-2" in story(s.when(NodeReady(node="p-2", boot_id="b", incarnation=2)))
