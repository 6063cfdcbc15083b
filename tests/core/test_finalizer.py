"""Finalizer: the rules of `core/finalizer.py`, per job."""

import pytest
from attrs import evolve

from jobledger.core.commands import RunFinalizer, StopExecution
from jobledger.core.events import EngineStarted, ExecutionStopRequested, FinalizerAbandoned, FinalizerCompleted, FinalizerInterrupted
from jobledger.core.failure import ended_failure, exit_code_failure, internal_retries_failure, unknown_outcome_failure, wall_clock_failure
from jobledger.core.ids import ENGINE_HOST, ENGINE_POOL, SECOND, Duration
from jobledger.core.limits import INTERNAL_RETRIES_MAX, REASON_TOLD_LENGTH_MAX, RELEASE_WALL_CLOCK_MAX
from jobledger.core.owed import commands, running, take_fresh
from jobledger.core.reports import ExecutionExited, NodeFaulted, NodeReady
from jobledger.core.requests import (
    CreatePool,
    DeallocateNode,
    DeleteJob,
    DeletePool,
    DisableScheduling,
    RebootNode,
    ReimageNode,
    RemoveNode,
    ResizePool,
    SubmitJob,
    TerminateJob,
)
from jobledger.core.specs import (
    ApplicationPackageReference,
    EnvironmentSetting,
    ExitConditions,
    ExitOptions,
    FinalizerSpec,
    JobConstraints,
    OutputFile,
    OutputFileContainer,
    OutputFileDestination,
    PoolSpec,
    PreparationSpec,
    ResourceFile,
    StartTaskSpec,
    TaskSpec,
)
from jobledger.testing.scenario import CannotStart, Exits, Hangs, Scenario, Silent, Vanishes, story

LAST = FinalizerSpec(command_line="finalize")
ON_P1 = FinalizerSpec(command_line="finalize", node_id="p-1")


def started(boot, epoch=1):
    return EngineStarted(version="0", host="host", pid=1, epoch=epoch, boot_id=boot)


@pytest.fixture
def finishing(given):
    """A scenario that has come to the finalizer of its job, which hangs there; `boot` is that of the engine's host."""

    def make(spec=LAST, boot="boot-1", *, script=None, **more):
        s = given(job_finalizer_task=spec, script={"jobfinalizer": Hangs(), **(script or {})}, **more)
        s.given(started(boot))
        s.run()
        s.finish(TerminateJob(job="j"))
        return s

    return make


def finalizers(s):
    return s.launches(task="jobfinalizer")


def over(s, job="j"):
    return s.world.jobs[job].state


def outcome(s):
    finalizer = s.world.jobs["j"].finalizer
    return (finalizer.state, finalizer.result, finalizer.exit_code, finalizer.failure.code if finalizer.failure else None)


# --- when it starts -------------------------------------------------------------------------------------------


def test_it_comes_last_after_all_releases_and_before_the_job_is_completed(given):
    s = given(nodes=2, tasks=("a", "b"), job_finalizer_task=LAST)
    s.run()
    told = story(s.finish(TerminateJob(job="j")))
    assert told[0] == "job.terminating j"
    assert told[-6:] == [
        "execution.requested jobfinalizer .engine",
        "finalizer.started .engine",
        "execution.confirmed jobfinalizer .engine",
        "execution.ended jobfinalizer .engine",
        "finalizer.completed .engine success",
        "job.completed j",
    ]
    assert told.index("execution.requested jobfinalizer .engine") > max(told.index(f"release.completed p-{number} success") for number in (1, 2))


def test_it_does_not_wait_for_a_release_that_was_abandoned(given):
    s = given(nodes=2, tasks=("a", "b"), job_finalizer_task=LAST)
    s.run()
    s.finish(NodeFaulted(node="p-1", fault="lost", reason="gone"))
    s.finish(NodeFaulted(node="p-2", fault="lost", reason="gone"))
    told = story(s.when(TerminateJob(job="j")))
    assert told == [
        "job.terminating j",
        "release.abandoned p-1",
        "release.abandoned p-2",
        "execution.requested jobfinalizer .engine",
        "finalizer.started .engine",
    ]


def ends_by_itself(given, **more):
    s = given(job_finalizer_task=LAST, on_all_tasks_complete="terminatejob", **more)
    s.run()
    return s


def ends_on_request(given):
    s = given(job_finalizer_task=LAST)
    s.run()
    s.finish(TerminateJob(job="j"))
    return s


def ends_while_tasks_run_and_wait(given):
    s = given(job_finalizer_task=LAST, tasks=("a", "b"), script={"a": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    return s


def ends_by_its_limit(given):
    s = given(job_finalizer_task=LAST, script={"t1": Hangs()}, constraints=JobConstraints(max_wall_clock_time=Duration(60 * SECOND)))
    s.run()
    s.wake()
    s.run()
    return s


def ends_by_a_failure(given):
    conditions = ExitConditions(default=ExitOptions(job_action="terminate"))
    failing = TaskSpec(id="t", command_line="work", exit_conditions=conditions)
    return ends_by_itself(given, tasks=(failing,), on_task_failure="performexitoptionsjobaction", script={"t": Exits(1)})


def ends_empty(given):
    return ends_by_itself(given, tasks=())


WAYS = [ends_by_itself, ends_on_request, ends_while_tasks_run_and_wait, ends_by_its_limit, ends_by_a_failure, ends_empty]


@pytest.mark.parametrize("way", WAYS)
def test_it_runs_once_however_the_job_ends_and_never_again_at_its_deletion(given, way):
    s = way(given)
    assert over(s) == "completed"
    assert finalizers(s) == ["jobfinalizer@.engine"]
    s.finish(DeleteJob(job="j"))
    assert "j" not in s.world.jobs
    assert finalizers(s) == ["jobfinalizer@.engine"]


@pytest.mark.parametrize("script", [None, {"t1": Hangs()}, {"t1": Silent()}, {"jobpreparation": Hangs()}])
def test_it_runs_once_when_an_active_job_is_deleted(given, script):
    s = given(job_finalizer_task=LAST, script=script)
    s.run()
    s.finish(DeleteJob(job="j"))
    assert "j" not in s.world.jobs
    assert finalizers(s) == ["jobfinalizer@.engine"]
    assert s.executor.launched[-1].task == "jobfinalizer"


def test_a_job_whose_pool_never_came_has_its_finalizer_all_the_same(job_spec):
    s = Scenario().given(SubmitJob(spec=job_spec(job_finalizer_task=LAST, pool="not-there"), tasks=()))
    s.finish(TerminateJob(job="j"))
    assert (over(s), finalizers(s)) == ("completed", ["jobfinalizer@.engine"])


def test_a_delete_that_comes_while_the_job_terminates_lets_it_finish(finishing):
    s = finishing()
    assert story(s.finish(DeleteJob(job="j"))) == ["job.deleting j"]
    told = story(s.answer("finalizer", "exited"))
    assert told == ["execution.ended jobfinalizer .engine", "finalizer.completed .engine success", "job-files.expired p-1"]
    assert story(s.run()) == ["job-files.removed p-1", "job.deleted j"]
    assert finalizers(s) == ["jobfinalizer@.engine"]


def test_a_job_of_the_same_name_has_a_finalizer_of_its_own(given, job_spec, task_specs):
    s = given(job_finalizer_task=LAST)
    s.run()
    s.finish(DeleteJob(job="j"))
    s.finish(SubmitJob(spec=job_spec(job_finalizer_task=LAST), tasks=task_specs("t1")))
    s.finish(TerminateJob(job="j"))
    assert finalizers(s) == ["jobfinalizer@.engine"] * 2


def test_a_job_without_one_ends_without(given):
    s = given()
    s.run()
    s.finish(TerminateJob(job="j"))
    assert (over(s), s.world.jobs["j"].finalizer, finalizers(s)) == ("completed", None, [])


# --- what it is given -----------------------------------------------------------------------------------------


def told(s):
    (launch,) = [launch for launch in s.executor.launched if launch.task == "jobfinalizer"]
    return {fact.name.removeprefix("JOBLEDGER_"): fact.value for fact in launch.facts}


def test_it_is_told_how_the_job_went(given):
    script = {"a": Exits(0), "b": Exits(1), "c": CannotStart(), "jobrelease@p-2": Exits(1)}
    s = given(nodes=3, tasks=("a", "b", "c", "d"), job_finalizer_task=LAST, script=script)
    s.run()
    s.finish(TerminateJob(job="j", reason="enough"))
    assert told(s) == {"TERMINATE_REASON": "enough", "TASKS_SUCCEEDED": "2", "TASKS_FAILED": "2", "RELEASES_FAILED": "1"}


def test_releases_that_went_well_are_not_counted(given):
    s = given(job_finalizer_task=LAST)
    s.run()
    s.finish(TerminateJob(job="j", reason="enough"))
    assert told(s)["RELEASES_FAILED"] == "0"


def test_a_release_that_was_abandoned_counts_as_failed(given):
    s = given(job_finalizer_task=LAST)
    s.run()
    s.finish(NodeFaulted(node="p-1", fault="lost", reason="gone"))
    s.finish(DeleteJob(job="j"))
    assert told(s) == {"TERMINATE_REASON": "JobDeleted", "TASKS_SUCCEEDED": "1", "TASKS_FAILED": "0", "RELEASES_FAILED": "1"}


def test_a_reason_that_no_program_could_be_started_with_is_cut(given):
    s = given(job_finalizer_task=LAST)
    s.run()
    s.finish(TerminateJob(job="j", reason="a\0b" + "x" * 200_000))
    assert told(s)["TERMINATE_REASON"] == "a?b" + "x" * (REASON_TOLD_LENGTH_MAX - 3)


def test_its_command_goes_to_the_hosts_own_pool_and_node(given):
    spec = FinalizerSpec(command_line="finalize", environment_settings=(EnvironmentSetting(name="A", value="own"),))
    common = (EnvironmentSetting(name="A", value="common"), EnvironmentSetting(name="B", value="common"))
    s = given(job_finalizer_task=spec, common_environment_settings=common, release=False)
    s.run()
    s.when(TerminateJob(job="j"))
    (command,) = commands(s.world).values()
    assert isinstance(command, RunFinalizer)
    launch = command.launch
    assert (launch.pool, launch.node, launch.job, launch.task, launch.attempt) == (ENGINE_POOL, ENGINE_HOST, "j", "jobfinalizer", 1)
    assert {setting.name: setting.value for setting in launch.environment} == {"A": "own", "B": "common"}
    assert launch.preparation is None
    assert s.world.nodes["p-1"].live == {}


# --- its end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [LAST, ON_P1])
@pytest.mark.parametrize(
    ("answer", "exit_code", "code"),
    [
        (Exits(5), 5, "FailureExitCode"),
        (Exits(signal=9), 137, "FailureExitCode"),
        (CannotStart(), None, "CommandProgramNotFound"),
        (Vanishes(), None, "Unknown"),
    ],
)
def test_a_failure_is_recorded_and_never_retried(given, spec, answer, exit_code, code):
    s = given(job_finalizer_task=spec, script={"jobfinalizer": answer})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert outcome(s) == ("completed", "failure", exit_code, code)
    assert len(finalizers(s)) == 1
    assert over(s) == "completed"


def last_word(s):
    """The one event that ended the finalizer."""
    (event,) = [event for event in s.events if isinstance(event, FinalizerCompleted)]
    return event


@pytest.mark.parametrize(
    ("answer", "exit_code", "failure"),
    [(Exits(signal=9), 137, exit_code_failure(137, 9)), (Vanishes(reason="no trace"), None, unknown_outcome_failure("no trace"))],
)
def test_its_failure_says_how_it_ended(given, answer, exit_code, failure):
    s = given(job_finalizer_task=ON_P1, script={"jobfinalizer": answer})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert last_word(s) == FinalizerCompleted(job="j", node="p-1", result="failure", exit_code=exit_code, failure=failure)


def test_one_that_could_not_be_launched_names_its_node(given):
    s = given(job_finalizer_task=ON_P1, script={"jobfinalizer": CannotStart()})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert (last_word(s).node, last_word(s).failure.code) == ("p-1", "CommandProgramNotFound")


@pytest.mark.parametrize(("how", "exit_code"), [("stopped", 143), ("lost", None)])
def test_one_that_was_over_its_limit_says_so_however_it_ended(finishing, how, exit_code):
    s = finishing()
    s.wake()
    s.answer("finalizer", how)
    assert last_word(s) == FinalizerCompleted(job="j", node=ENGINE_HOST, result="failure", exit_code=exit_code, failure=wall_clock_failure())


def test_a_stop_without_a_failure_of_its_own_leads_to_one_with_its_cause(finishing):
    s = finishing()
    execution = s.live("finalizer")
    wish = {"execution": execution, "job": "j", "task": "jobfinalizer", "node": ENGINE_HOST, "then": "complete"}
    s.given(ExecutionStopRequested(**wish, cause="an older version said so", failure=None))
    s.answer("finalizer", "stopped")
    assert last_word(s).failure == ended_failure("an older version said so")


def test_one_that_was_cut_short_says_by_what(finishing):
    s = finishing()
    interrupted = FinalizerInterrupted(job="j", node=ENGINE_HOST, cause="stopped by the executor", internal=True)
    assert interrupted in s.answer("finalizer", "stopped")
    s.run()
    restarted(s, "boot-2")
    assert FinalizerInterrupted(job="j", node=ENGINE_HOST, cause="the engine's host was rebooted") in s.answer("finalizer", "stopped")
    s = finishing(ON_P1)
    told = s.when(NodeFaulted(node="p-1", fault="lost", reason="no route"))
    assert FinalizerInterrupted(job="j", node="p-1", cause="no route") in told


def test_its_wall_clock_limit_ends_it_as_failed(finishing):
    s = finishing(FinalizerSpec(command_line="finalize", max_wall_clock_time=Duration(3600 * SECOND)))
    began = s.now
    assert story(s.wake()) == ["execution.stop-requested jobfinalizer .engine complete"]
    assert s.now - began > RELEASE_WALL_CLOCK_MAX
    (command,) = commands(s.world).values()
    assert (type(command), command.pool, command.node) == (StopExecution, ENGINE_POOL, ENGINE_HOST)
    s.run()
    assert outcome(s) == ("completed", "failure", 143, "TaskEnded")
    assert over(s) == "completed"


def test_one_that_was_over_its_limit_and_lost_is_final_too(finishing):
    s = finishing()
    s.wake()
    s.answer("finalizer", "lost")
    assert outcome(s) == ("completed", "failure", None, "TaskEnded")
    assert over(s) == "completed"


@pytest.mark.parametrize("spec", [LAST, ON_P1])
@pytest.mark.parametrize("how", ["stopped", "notstarted"])
def test_one_that_the_executor_stopped_by_itself_runs_again_but_not_for_ever(given, spec, how):
    s = given(job_finalizer_task=spec, script={"jobfinalizer": Hangs() if how == "stopped" else Silent()})
    s.run()
    s.finish(TerminateJob(job="j"))
    for _ in range(INTERNAL_RETRIES_MAX):
        s.answer("finalizer", how)
        s.run()
        assert over(s) == "terminating"
    s.answer("finalizer", how)
    finalizer = s.world.jobs["j"].finalizer
    failure = internal_retries_failure("stopped by the executor")
    assert (finalizer.result, finalizer.failure, finalizer.launches) == ("failure", failure, INTERNAL_RETRIES_MAX + 1)
    assert s.events[-2] == FinalizerCompleted(job="j", node=finalizer.node, result="failure", exit_code=None, failure=failure)
    assert (len(finalizers(s)), over(s)) == (INTERNAL_RETRIES_MAX + 1, "completed")


def test_a_repeated_report_of_its_end_decides_to_nothing(finishing):
    s = finishing()
    execution = s.live("finalizer")
    s.answer("finalizer", "exited")
    s.ignores(ExecutionExited(execution=execution, exit_code=1))


# --- the engine's host ----------------------------------------------------------------------------------------


def restarted(s, boot):
    """Another engine takes over, in a given boot of the host; what it decides by itself comes back."""
    before = len(s.events)
    s.given(started(boot, epoch=2))
    s.when(NodeFaulted(node="no-such-node", fault="lost", reason="it says nothing"))  # Whatever comes first lets the rules look.
    return story(s.events[before + 1 :])


def test_it_goes_on_under_another_engine_in_the_same_boot(finishing):
    s = finishing()
    assert restarted(s, "boot-1") == []
    assert [execution.kind for execution in running(s.world)] == ["finalizer"]
    s.answer("finalizer", "exited")
    assert outcome(s) == ("completed", "success", 0, None)


def test_a_reboot_of_the_host_cuts_it_short_and_it_runs_again(finishing):
    s = finishing()
    assert restarted(s, "boot-2") == ["execution.stop-requested jobfinalizer .engine requeue"]
    again = story(s.answer("finalizer", "lost"))
    assert again == [
        "execution.unresolved jobfinalizer .engine",
        "finalizer.interrupted .engine",
        "execution.requested jobfinalizer .engine",
        "finalizer.started .engine",
    ]
    s.run()
    s.answer("finalizer", "exited")
    assert [launch.attempt for launch in s.executor.launched if launch.task == "jobfinalizer"] == [1, 2]
    assert over(s) == "completed"


def test_one_that_ended_before_the_reboot_keeps_its_result(finishing):
    s = finishing()
    restarted(s, "boot-2")
    s.answer("finalizer", "exited", 4)
    assert outcome(s) == ("completed", "failure", 4, "FailureExitCode")
    assert len(finalizers(s)) == 1


def test_one_that_was_not_seen_to_start_before_the_reboot_is_not_launched_under_its_old_number(given):
    s = given(job_finalizer_task=LAST, tasks=())
    s.given(started("boot-1"))
    s.run()
    s.when(TerminateJob(job="j"))
    restarted(s, "boot-2")
    assert [type(command) for command in take_fresh(s.world)] == [StopExecution]
    assert "finalizer.interrupted .engine" in story(s.answer("finalizer", "notstarted"))
    s.run()
    assert over(s) == "completed"


@pytest.mark.parametrize(("before", "after"), [("", "boot-2"), ("boot-1", "")])
def test_a_boot_that_nobody_could_tell_is_no_reboot(finishing, before, after):
    assert restarted(finishing(boot=before), after) == []


def test_a_reboot_does_not_weaken_the_end_by_its_limit(finishing):
    s = finishing()
    s.wake()
    assert restarted(s, "boot-2") == []
    s.answer("finalizer", "lost")
    assert outcome(s) == ("completed", "failure", None, "TaskEnded")


# --- a chosen node --------------------------------------------------------------------------------------------


def test_it_runs_on_the_node_that_was_chosen_and_takes_no_slot(finishing):
    s = finishing(FinalizerSpec(command_line="finalize", node_id="p-2"), nodes=2)
    assert finalizers(s) == ["jobfinalizer@p-2"]
    node = s.world.nodes["p-2"]
    assert (node.state, len(node.live), node.tasks) == ("idle", 1, {})


def test_the_node_may_be_of_another_pool(given):
    s = given(job_finalizer_task=FinalizerSpec(command_line="finalize", node_id="q-1"))
    s.finish(CreatePool(spec=PoolSpec(id="q")))
    s.finish(TerminateJob(job="j"))
    assert (s.executor.launched[-1].pool, s.executor.launched[-1].node, over(s)) == ("q", "q-1", "completed")


def test_it_runs_on_a_node_that_is_offline(given):
    s = given(job_finalizer_task=ON_P1)
    s.run()
    s.finish(DisableScheduling(node="p-1"))
    s.finish(TerminateJob(job="j"))
    assert (finalizers(s), over(s)) == (["jobfinalizer@p-1"], "completed")


@pytest.mark.parametrize("wish", [RebootNode(node="p-1"), ReimageNode(node="p-1")])
def test_it_waits_for_a_node_that_is_coming_back(given, wish):
    s = given(job_finalizer_task=ON_P1, prep=False)
    s.run()
    s.executor.dead.add("p-1")
    s.finish(wish)
    assert story(s.finish(TerminateJob(job="j"))) == ["job.terminating j"]
    assert "finalizer.started p-1" in story(s.when(NodeReady(node="p-1", boot_id="new", incarnation=2)))
    s.run()
    assert over(s) == "completed"


def test_it_waits_for_the_start_task_of_its_node(given):
    s = given(
        pool={"start_task": StartTaskSpec(command_line="start")}, script={"starttask": [Exits(0), Hangs()]}, job_finalizer_task=ON_P1, prep=False
    )
    s.run()
    s.finish(RebootNode(node="p-1"))
    s.finish(TerminateJob(job="j"))
    assert (finalizers(s), over(s)) == ([], "terminating")
    s.answer("starttask", "exited")
    s.run()
    assert (finalizers(s), over(s)) == (["jobfinalizer@p-1"], "completed")


@pytest.mark.parametrize("wish", [RebootNode(node="p-1"), ReimageNode(node="p-1")])
def test_a_run_that_its_node_cut_short_runs_again(finishing, wish):
    s = finishing(ON_P1, script={"jobfinalizer": [Hangs(), Exits(0)]})
    assert finalizers(s) == ["jobfinalizer@p-1"]
    happened = story(s.finish(wish))
    assert happened[1] == "execution.stop-requested jobfinalizer p-1 requeue"
    assert "finalizer.interrupted p-1" in happened
    assert (finalizers(s), outcome(s), over(s)) == (["jobfinalizer@p-1"] * 2, ("completed", "success", 0, None), "completed")


def test_one_that_ended_by_itself_under_a_reboot_keeps_its_result(finishing):
    s = finishing(ON_P1)
    s.when(RebootNode(node="p-1"))
    assert "finalizer.completed p-1 failure" in story(s.answer("finalizer", "exited", 4))
    s.run()
    assert len(finalizers(s)) == 1


@pytest.mark.parametrize(
    ("request_of", "cause"),
    [
        (lambda: RemoveNode(node="p-1"), "the node is leaving its pool"),
        (lambda: ResizePool(pool="p", target=0), "the node is leaving its pool"),
        (lambda: DeletePool(pool="p"), "the node is leaving its pool"),
        (lambda: DeallocateNode(node="p-1"), "the node is being deallocated"),
        (lambda: NodeFaulted(node="p-1", fault="preempted", reason="evicted"), "the node was preempted"),
        (lambda: NodeFaulted(node="p-1", fault="lost", reason="gone"), "the node is lost"),
        (lambda: NodeFaulted(node="p-1", fault="unusable", reason="broken"), "the node is unusable"),
    ],
)
def test_a_node_that_goes_away_under_its_finalizer_does_not_hang_the_job(finishing, request_of, cause):
    s = finishing(ON_P1)
    happened = story(s.finish(request_of()))
    assert happened.index("finalizer.interrupted p-1") < happened.index("finalizer.abandoned p-1") < happened.index("job.completed j")
    assert [event.cause for event in s.events if isinstance(event, FinalizerAbandoned)] == [cause]
    assert outcome(s) == ("abandoned", None, None, None), "no job claims that its finalizer ran"
    assert len(finalizers(s)) == 1


@pytest.mark.parametrize(
    ("request_of", "cause"),
    [
        (lambda: RemoveNode(node="p-1"), "there is no such node"),
        (lambda: DeallocateNode(node="p-1"), "the node is deallocated"),
        (lambda: NodeFaulted(node="p-1", fault="lost", reason="gone"), "the node is lost"),
    ],
)
def test_a_finalizer_whose_node_went_away_before_is_abandoned(given, request_of, cause):
    s = given(job_finalizer_task=ON_P1)
    s.run()
    s.finish(request_of())
    s.finish(TerminateJob(job="j"))
    assert (over(s), finalizers(s), s.world.jobs["j"].finalizer.abandoned_because) == ("completed", [], cause)
    s.finish(DeleteJob(job="j"))
    assert "j" not in s.world.jobs
    assert sum(isinstance(event, FinalizerAbandoned) for event in s.events) == 1
    assert not any(isinstance(event, FinalizerCompleted) for event in s.events)


def test_a_node_lost_while_the_job_waits_for_its_boot_does_not_hang_the_job(given):
    s = given(job_finalizer_task=ON_P1, prep=False)
    s.run()
    s.executor.dead.add("p-1")
    s.finish(RebootNode(node="p-1"))
    s.finish(TerminateJob(job="j"))
    assert over(s) == "terminating"
    s.finish(NodeFaulted(node="p-1", fault="unusable", reason="did not boot"))
    assert over(s) == "completed"


def test_a_node_that_comes_while_the_job_ends_is_used(given):
    s = given(
        job_finalizer_task=FinalizerSpec(command_line="finalize", node_id="q-1"), prep=PreparationSpec(command_line="p"), script={"t1": Hangs()}
    )
    s.run()
    s.when(TerminateJob(job="j"))
    s.when(CreatePool(spec=PoolSpec(id="q")))
    s.run()
    assert (finalizers(s), over(s)) == (["jobfinalizer@q-1"], "completed")


@pytest.mark.parametrize(("request_of", "state"), [(RebootNode, "rebooting"), (RemoveNode, "leavingpool")])
def test_a_drain_waits_for_it(finishing, request_of, state):
    s = finishing(ON_P1)
    s.when(request_of(node="p-1", option="taskcompletion"))
    assert s.world.nodes["p-1"].state == "idle"
    s.answer("finalizer", "exited")
    assert (outcome(s)[:2], over(s), s.world.nodes["p-1"].state) == (("completed", "success"), "completed", state)


def test_a_drain_waits_for_one_that_the_job_has_yet_to_come_to(given):
    s = given(job_finalizer_task=FinalizerSpec(command_line="finalize", node_id="p-2"), nodes=2, prep=False, script={"t1": Hangs()})
    s.run()
    s.when(TerminateJob(job="j"))
    s.when(RemoveNode(node="p-2", option="taskcompletion"))
    assert s.world.nodes["p-2"].state == "idle"
    s.run()
    assert (outcome(s)[:2], finalizers(s), over(s)) == (("completed", "success"), ["jobfinalizer@p-2"], "completed")
    assert "p-2" not in s.world.nodes


def test_a_drain_does_not_wait_for_that_of_a_job_which_is_not_ending(given):
    s = given(job_finalizer_task=FinalizerSpec(command_line="finalize", node_id="p-2"), nodes=2, prep=False, script={"t1": Hangs()})
    s.run()
    s.when(RebootNode(node="p-2", option="taskcompletion"))
    assert s.world.nodes["p-2"].state == "rebooting"


# --- files ----------------------------------------------------------------------------------------------------

OUTPUT = OutputFile(file_pattern="*", destination=OutputFileDestination(container=OutputFileContainer(container_url="/outputs")))
WITH_FILES = FinalizerSpec(command_line="finalize", resource_files=(ResourceFile(http_url="http://data/x", file_path="x"),), output_files=(OUTPUT,))


def test_its_files_come_with_its_launch_and_the_engines_host_has_no_packages(given):
    package = ApplicationPackageReference(application_id="app", version="1", url="http://data/app.zip")
    for spec, packages in ((WITH_FILES, ()), (evolve(WITH_FILES, node_id="p-1"), (package,))):
        s = given(job_finalizer_task=spec, pool={"application_package_references": (package,)})
        s.run()
        s.finish(TerminateJob(job="j"))
        launch = s.executor.launched[-1]
        assert (launch.resource_files, launch.output_files, launch.packages) == (WITH_FILES.resource_files, WITH_FILES.output_files, packages)


def test_a_good_end_without_its_outputs_is_a_failure_and_not_retried(given):
    s = given(job_finalizer_task=WITH_FILES, script={"jobfinalizer": Exits(0, upload="FileUploadContainerNotFound")})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert outcome(s) == ("completed", "failure", 0, "FileUploadContainerNotFound")
    assert (len(finalizers(s)), over(s)) == (1, "completed")


def test_one_that_was_ended_by_its_limit_says_too_that_its_outputs_are_missing(finishing):
    s = finishing(WITH_FILES)
    s.wake()
    (command,) = commands(s.world).values()
    assert command.upload
    s.when(ExecutionExited(execution=s.live("finalizer"), exit_code=143, signal=15, stopped=True, upload_failure=unknown_outcome_failure("x")))
    failure = s.world.jobs["j"].finalizer.failure
    assert (failure.code, failure.details[-1].name) == ("TaskEnded", "UploadFailure")


def test_only_a_job_that_is_ending_waits_for_its_node(given):
    """So a node's change costs the same however many jobs have chosen it."""
    s = given(job_finalizer_task=ON_P1, prep=False)
    s.run()
    s.executor.dead.add("p-1")
    s.finish(RebootNode(node="p-1"))
    assert s.world.finalizing == {}
    s.finish(TerminateJob(job="j"))
    assert s.world.finalizing == {"p-1": {"j": None}}
    s.finish(NodeFaulted(node="p-1", fault="unusable", reason="did not boot"))
    assert (over(s), s.world.finalizing) == ("completed", {})
