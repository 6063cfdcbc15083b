"""Views: what `status --json` and its kin promise, over worlds that the rules made."""

import json
import re

import pytest

from jobledger.core.errors import RequestRefused
from jobledger.core.ids import Micros
from jobledger.core.reports import NodeFaulted
from jobledger.core.requests import (
    CreatePool,
    DisableScheduling,
    RebootNode,
    ReimageNode,
    RemoveNode,
    ResizePool,
    StopResize,
    SubmitJob,
    TerminateJob,
)
from jobledger.core.specs import (
    EnvironmentSetting,
    FinalizerSpec,
    JobConstraints,
    JobSpec,
    PoolInfo,
    PoolSpec,
    PreparationSpec,
    ReleaseSpec,
    StartTaskSpec,
    TaskConstraints,
    TaskSpec,
)
from jobledger.testing.scenario import CannotStart, Exits, Hangs, Scenario, Silent
from jobledger.views import (
    finalizer_status,
    find_task,
    job_view,
    node_view,
    nodes_of,
    pool_view,
    preparation_and_release_status,
    status_document,
    task_counts,
    task_view,
)

BEGIN = 1_795_444_415_000_000
TIME = re.compile(r"2026-11-23T14:33:35\.\d{6}Z")


def scenario(script=None, *, nodes=1, start_task=None):
    s = Scenario(script)
    s.now = Micros(BEGIN)
    s.finish(CreatePool(spec=PoolSpec(id="p", nodes=nodes, start_task=start_task)))
    return s


def submit(s, *tasks, run=True, **more):
    spec = JobSpec(
        id="j",
        pool_info=PoolInfo(pool_id="p"),
        job_preparation_task=PreparationSpec(command_line="prepare"),
        job_release_task=ReleaseSpec(command_line="release"),
        **{"on_all_tasks_complete": "terminatejob", **more},
    )
    specs = tuple(TaskSpec(id=task, command_line="work") if isinstance(task, str) else task for task in tasks)
    s.when(SubmitJob(spec=spec, tasks=specs))
    if run:
        s.run()
    return s.world.jobs["j"]


def only(entries):
    (entry,) = entries
    return entry


def leaves(value, path=""):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, path)
    else:
        yield path, value


# --- the whole document ---------------------------------------------------------------------------------------


def test_the_document_of_a_job_that_is_completed():
    s = scenario({"t2": Exits(3)})
    submit(s, "t1", "t2", priority=7, constraints=JobConstraints(max_wall_clock_time=3_600_000_000))
    document = status_document(s.world, "j", 42)
    assert list(document) == ["job", "tasks", "jobPreparationAndReleaseTaskStatus", "taskCounts", "taskSlotCounts", "position"]
    assert document["position"] == 42
    assert document["taskCounts"] == {"active": 0, "running": 0, "completed": 2, "succeeded": 1, "failed": 1}
    job = document["job"]
    assert (job["id"], job["state"], job["previousState"], job["priority"]) == ("j", "completed", "terminating", 7)
    assert job["poolInfo"] == {"poolId": "p"}
    assert job["constraints"] == {"maxWallClockTime": "PT1H", "maxTaskRetryCount": 0, "retentionTime": "P7D"}
    assert job["jobPreparationTask"]["commandLine"] == "prepare"
    assert job["jobReleaseTask"]["releaseScope"] == "taskRan"
    assert job["onAllTasksComplete"] == "terminatejob"
    assert job["executionInfo"]["poolId"] == "p"
    assert job["executionInfo"]["terminateReason"] == "AllTasksComplete"
    assert job["executionInfo"]["startTime"] == job["creationTime"] < job["executionInfo"]["endTime"]
    assert [task["id"] for task in document["tasks"]] == ["t1", "t2"]
    status = only(document["jobPreparationAndReleaseTaskStatus"])
    assert (status["poolId"], status["nodeId"], status["releaseState"]) == ("p", "p-1", "completed")


def test_documents_are_plain_leave_out_what_is_absent_and_write_times_in_rfc_3339():
    s = scenario({"t2": CannotStart(), "starttask": Exits(1)}, start_task=StartTaskSpec(command_line="begin", wait_for_success=False))
    submit(s, "t1", "t2", common_environment_settings=(EnvironmentSetting(name="A", value="b"),))
    views = [status_document(s.world, "j", 1), pool_view(s.world.pools["p"]), node_view(s.world.nodes["p-1"])]
    assert json.loads(json.dumps(views)) == views
    found = list(leaves(views))
    assert all(value is not None for _, value in found)
    times = [
        (path, value)
        for path, value in found
        if path.endswith("Time") and not path.endswith(("maxWallClockTime", "retentionTime", "filesRemovalTime"))
    ]
    assert len(times) > 20
    assert all(TIME.fullmatch(value) for _, value in times), times


def test_a_job_that_does_not_exist_is_refused_with_the_one_that_was_meant():
    s = scenario()
    job = submit(s, "task001")
    with pytest.raises(RequestRefused, match=r"there is no job nightly$") as refused:
        status_document(s.world, "nightly", 1)
    assert refused.value.code == "JobNotFound"
    with pytest.raises(RequestRefused, match=r"there is no job J; did you mean j\?"):
        status_document(s.world, "J", 1)
    with pytest.raises(RequestRefused, match=r"job j has no task task01; did you mean task001\?") as refused:
        find_task(job, "task01")
    assert refused.value.code == "TaskNotFound"


def test_a_job_that_ends_says_why_only_once_it_is_completed():
    s = scenario({"t1": Hangs()})
    job = submit(s, "t1")
    s.when(TerminateJob(job="j", reason="enough"))
    view = job_view(job)
    assert (view["state"], view["previousState"]) == ("terminating", "active")
    assert "terminateReason" not in view["executionInfo"]
    assert "endTime" not in view["executionInfo"]
    s.run()
    assert job_view(job)["executionInfo"]["terminateReason"] == "enough"


def test_a_job_that_no_node_may_serve_says_that_it_is_blocked():
    s = scenario({"jobpreparation": Exits(1)})
    job = submit(s, "t1")
    assert job_view(job)["blocked"] is True
    assert "previousState" not in job_view(job)


# --- tasks ----------------------------------------------------------------------------------------------------


def test_a_task_that_succeeded():
    s = scenario()
    job = submit(s, "t1")
    view = task_view(job, job.tasks["t1"])
    assert view["commandLine"] == "work"
    assert view["nodeInfo"] == {"poolId": "p", "nodeId": "p-1", "taskRootDirectory": "workitems/j/job-1/t1"}
    execution = view["executionInfo"]
    assert set(execution) == {"startTime", "endTime", "exitCode", "result", "retryCount", "requeueCount"}
    assert (execution["exitCode"], execution["result"]) == (0, "success")


def test_a_task_that_was_never_placed_has_no_node_and_no_times():
    s = scenario(nodes=0)
    job = submit(s, "t1")
    view = task_view(job, job.tasks["t1"])
    assert view["state"] == "active"
    assert view["executionInfo"] == {"retryCount": 0, "requeueCount": 0}
    assert "nodeInfo" not in view


def test_a_task_that_waits_for_preparation_has_a_node_and_no_folder_there():
    s = scenario({"jobpreparation": Hangs()})
    job = submit(s, "t1")
    view = task_view(job, job.tasks["t1"])
    assert view["state"] == "preparing"
    assert view["nodeInfo"] == {"poolId": "p", "nodeId": "p-1"}
    assert "startTime" not in view["executionInfo"]
    assert task_counts(job) == {"active": 0, "running": 1, "completed": 0, "succeeded": 0, "failed": 0}


def test_a_task_between_tries_shows_its_retries_and_not_how_the_last_one_ended():
    s = scenario({"t1": [Exits(3), Hangs()]})
    job = submit(s, TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_task_retry_count=1)), "t2")
    execution = task_view(job, job.tasks["t1"])["executionInfo"]
    assert set(execution) == {"startTime", "retryCount", "lastRetryTime", "requeueCount"}
    assert execution["retryCount"] == 1
    s.finish(TerminateJob(job="j"))
    execution = task_view(job, job.tasks["t1"])["executionInfo"]
    assert execution["failureInfo"]["code"] == "TaskEnded"
    assert execution["failureInfo"]["details"] == [{"name": "Message", "value": "the job was terminated: UserTerminate"}]


def test_a_task_that_was_requeued_counts_that_apart():
    s = scenario({"t1": [Hangs(), Exits(0)]})
    job = submit(s, "t1")
    s.finish(RebootNode(node="p-1"))
    execution = task_view(job, job.tasks["t1"])["executionInfo"]
    assert (execution["retryCount"], execution["requeueCount"]) == (0, 1)
    assert "lastRequeueTime" in execution


def test_a_task_that_lost_its_node_is_not_started_any_more():
    s = scenario({"t1": Hangs()})
    job = submit(s, "t1")
    s.finish(NodeFaulted(node="p-1", fault="lost", reason="it does not answer"))
    view = task_view(job, job.tasks["t1"])
    assert view["state"] == "active"
    assert set(view["executionInfo"]) == {"retryCount", "requeueCount", "lastRequeueTime"}


def test_a_program_that_could_not_be_launched_has_a_failure_and_no_exit_code():
    s = scenario({"t1": CannotStart()})
    job = submit(s, "t1")
    execution = task_view(job, job.tasks["t1"])["executionInfo"]
    assert "exitCode" not in execution
    assert execution["result"] == "failure"
    assert execution["failureInfo"] == {"category": "usererror", "code": "CommandProgramNotFound", "message": "the program could not be launched"}


# --- preparation and release ----------------------------------------------------------------------------------


def test_a_node_that_took_no_task_has_no_entry():
    s = scenario(nodes=3)
    job = submit(s, "t1", "t2")
    assert sorted(nodes_of(job)) == ["p-1", "p-2"]
    assert sorted(entry["nodeId"] for entry in preparation_and_release_status(job)) == ["p-1", "p-2"]


def test_a_job_without_tasks_has_no_entries():
    assert preparation_and_release_status(submit(scenario())) == []


def test_a_run_of_both_to_the_end():
    s = scenario({"jobpreparation": Exits(0), "jobrelease": Exits(5)})
    entry = only(preparation_and_release_status(submit(s, "t1")))
    preparation, release = entry["jobPreparationTaskExecutionInfo"], entry["jobReleaseTaskExecutionInfo"]
    assert set(preparation) == {"startTime", "endTime", "state", "exitCode", "result", "taskRootDirectory", "retryCount"}
    assert (preparation["state"], preparation["exitCode"], preparation["result"]) == ("completed", 0, "success")
    assert preparation["taskRootDirectory"] == "workitems/j/job-1/jobpreparation"
    assert set(release) == {"startTime", "endTime", "state", "exitCode", "result", "failureInfo", "taskRootDirectory"}
    assert (release["state"], release["exitCode"], release["result"]) == ("completed", 5, "failure")
    assert release["failureInfo"]["code"] == "FailureExitCode"
    assert "due" not in entry


def test_a_preparation_that_runs_has_no_end_and_no_release_yet():
    s = scenario({"jobpreparation": Hangs()})
    entry = only(preparation_and_release_status(submit(s, "t1")))
    assert set(entry) == {"poolId", "nodeId", "jobPreparationTaskExecutionInfo"}
    assert set(entry["jobPreparationTaskExecutionInfo"]) == {"startTime", "state", "taskRootDirectory", "retryCount"}
    assert entry["jobPreparationTaskExecutionInfo"]["state"] == "running"


def test_a_preparation_that_is_retried_stays_running_and_counts():
    s = scenario({"jobpreparation": [Exits(1), Hangs()]})
    retrying = PreparationSpec(command_line="prepare", constraints=TaskConstraints(max_task_retry_count=1))
    s.when(
        SubmitJob(spec=JobSpec(id="j", pool_info=PoolInfo(pool_id="p"), job_preparation_task=retrying), tasks=(TaskSpec(id="t1", command_line="w"),))
    )
    s.run()
    info = only(preparation_and_release_status(s.world.jobs["j"]))["jobPreparationTaskExecutionInfo"]
    assert (info["state"], info["retryCount"]) == ("running", 1)
    assert info["lastRetryTime"] == info["startTime"]
    assert "exitCode" not in info


def test_a_preparation_that_no_longer_holds_is_completed_and_due():
    s = scenario()
    job = submit(s, "t1", on_all_tasks_complete="noaction")
    s.finish(RebootNode(node="p-1"))
    entry = only(preparation_and_release_status(job))
    assert entry["due"] is True
    assert (entry["jobPreparationTaskExecutionInfo"]["state"], entry["jobPreparationTaskExecutionInfo"]["exitCode"]) == ("completed", 0)


def test_a_preparation_that_was_cut_short_is_running_and_due():
    s = scenario({"jobpreparation": Hangs()})
    job = submit(s, "t1")
    s.finish(NodeFaulted(node="p-1", fault="lost", reason="it does not answer"))
    entry = only(preparation_and_release_status(job))
    assert entry["due"] is True
    assert entry["jobPreparationTaskExecutionInfo"]["state"] == "running"
    assert "endTime" not in entry["jobPreparationTaskExecutionInfo"]


def test_a_release_is_owed_then_running_then_completed():
    s = scenario({"t1": Hangs(), "jobrelease": Hangs()})
    job = submit(s, "t1")
    entry = only(preparation_and_release_status(job))
    assert entry["releaseState"] == "owed"
    assert "jobReleaseTaskExecutionInfo" not in entry
    s.finish(TerminateJob(job="j"))
    entry = only(preparation_and_release_status(job))
    assert entry["releaseState"] == "running"
    assert set(entry["jobReleaseTaskExecutionInfo"]) == {"startTime", "state", "taskRootDirectory"}
    s.answer("release", "exited")
    assert only(preparation_and_release_status(job))["releaseState"] == "completed"


def test_a_release_that_was_abandoned_says_why_and_never_that_it_ran():
    s = scenario()
    job = submit(s, "t1", on_all_tasks_complete="noaction")
    s.finish(ReimageNode(node="p-1"))
    entry = only(preparation_and_release_status(job))
    assert (entry["releaseState"], entry["releaseAbandonedBecause"]) == ("abandoned", "the node was reimaged")
    assert "jobReleaseTaskExecutionInfo" not in entry


def test_a_release_that_was_cut_short_and_then_abandoned_has_no_known_end():
    s = scenario({"jobrelease": Hangs()})
    job = submit(s, "t1")
    s.finish(RebootNode(node="p-1"))
    s.finish(NodeFaulted(node="p-1", fault="lost", reason="it does not answer"))
    entry = only(preparation_and_release_status(job))
    assert entry["releaseState"] == "abandoned"
    info = entry["jobReleaseTaskExecutionInfo"]
    assert (info["state"], info["result"], info["failureInfo"]["code"]) == ("completed", "failure", "Unknown")
    assert "endTime" not in info
    assert "exitCode" not in info


def test_a_node_that_left_its_pool_keeps_its_entry():
    s = scenario(nodes=2)
    job = submit(s, "t1", "t2", on_all_tasks_complete="noaction")
    s.finish(RemoveNode(node="p-2"))
    assert "p-2" not in s.world.nodes
    assert [entry["nodeId"] for entry in preparation_and_release_status(job)] == ["p-1", "p-2"]


# --- finalizer ------------------------------------------------------------------------------------------------


def last(node=None):
    return FinalizerSpec(command_line="finalize", node_id=node)


def test_a_job_without_a_finalizer_says_nothing_of_one():
    s = scenario()
    submit(s, "t1")
    assert "jobFinalizerTaskStatus" not in status_document(s.world, "j", 1)


def test_a_finalizer_is_absent_then_running_then_completed():
    s = scenario({"t1": Hangs(), "jobfinalizer": Hangs()})
    job = submit(s, "t1", job_finalizer_task=last())
    assert finalizer_status(job) == {"nodeId": ".engine", "state": "absent"}
    s.answer("task", "exited")
    s.run()
    told = status_document(s.world, "j", 1)["jobFinalizerTaskStatus"]
    assert (told["nodeId"], told["state"], told["executionInfo"]["state"]) == (".engine", "running", "running")
    assert set(told["executionInfo"]) == {"startTime", "state", "taskRootDirectory"}
    s.answer("finalizer", "exited", 4)
    told = finalizer_status(job)
    info = told["executionInfo"]
    assert (told["state"], info["state"], info["exitCode"], info["result"]) == ("completed", "completed", 4, "failure")
    assert info["failureInfo"]["code"] == "FailureExitCode"
    assert info["taskRootDirectory"] == "workitems/j/job-1/jobfinalizer"
    assert TIME.fullmatch(info["endTime"])


def test_a_finalizer_that_was_abandoned_says_why_and_never_that_it_ran():
    job = submit(scenario(), "t1", job_finalizer_task=last("p-9"))
    assert finalizer_status(job) == {"nodeId": "p-9", "state": "abandoned", "abandonedBecause": "there is no such node"}


def test_a_finalizer_that_was_cut_short_and_then_abandoned_has_no_known_end():
    s = scenario({"jobfinalizer": Hangs()})
    job = submit(s, "t1", job_finalizer_task=last("p-1"))
    s.finish(NodeFaulted(node="p-1", fault="lost", reason="it does not answer"))
    told = finalizer_status(job)
    assert (told["state"], told["abandonedBecause"]) == ("abandoned", "the node is lost")
    info = told["executionInfo"]
    assert (info["state"], info["result"], info["failureInfo"]["code"]) == ("completed", "failure", "Unknown")
    assert not {"endTime", "exitCode"} & set(info)


# --- pools and nodes ------------------------------------------------------------------------------------------


def test_a_pool_says_what_it_should_have_and_what_it_has():
    s = Scenario()
    s.executor.dead.add("p-2")
    s.finish(CreatePool(spec=PoolSpec(id="p", nodes=2, task_slots_per_node=4)))
    s.finish(StopResize(pool="p"))
    view = pool_view(s.world.pools["p"])
    assert (view["id"], view["state"], view["executor"], view["taskSlotsPerNode"]) == ("p", "active", "local", 4)
    assert (view["targetDedicatedNodes"], view["currentDedicatedNodes"]) == (2, len(s.world.pools["p"].nodes))
    assert view["taskSchedulingPolicy"] == {"nodeFillType": "spread"}


def test_a_pool_tells_code_and_message_of_each_resize_error_and_how_many_nodes_drain():
    s = scenario({"t1": Hangs()})
    submit(s, "t1")
    s.when(ResizePool(pool="p", target=0, option="taskcompletion"))
    view = pool_view(s.world.pools["p"])
    assert (view["allocationState"], view["drainingNodes"], view["resizeTimeout"]) == ("resizing", 1, "PT15M")
    assert "resizeErrors" not in view
    s.wake()
    view = pool_view(s.world.pools["p"])
    (error,) = view["resizeErrors"]
    assert (view["allocationState"], error["code"]) == ("steady", "RemoveNodesFailed")
    assert error["message"].endswith("go on leaving: p-1 (draining)")
    s.answer("task", "exited")
    s.run()
    assert "drainingNodes" not in pool_view(s.world.pools["p"])


def test_a_node_tells_its_boot_and_what_it_drains_for():
    s = scenario({"t1": Hangs()})
    submit(s, "t1")
    view = node_view(s.world.nodes["p-1"])
    assert (view["bootId"], view["incarnation"]) == ("p-1-boot-1", 1)
    assert all(TIME.fullmatch(view[name]) for name in ("allocationTime", "lastBootTime", "stateTransitionTime"))
    s.when(RebootNode(node="p-1", option="taskcompletion", reason="new kernel"))
    view = node_view(s.world.nodes["p-1"])
    assert (view["state"], view["reason"], view["draining"]["then"]) == ("running", "on request: new kernel", "reboot")
    assert TIME.fullmatch(view["draining"]["since"])


def test_a_node_whose_scheduling_is_disabled_says_why_if_anybody_did():
    s = scenario()
    s.finish(DisableScheduling(node="p-1", reason="to be looked at"))
    assert node_view(s.world.nodes["p-1"])["reason"] == "to be looked at"


def test_a_node_says_what_it_runs_and_what_ran():
    s = scenario({"t2": Hangs()})
    submit(s, "t1", "t2")
    view = node_view(s.world.nodes["p-1"])
    assert (view["state"], view["schedulingState"], view["incarnation"]) == ("running", "enabled", 1)
    assert (view["runningTasksCount"], view["totalTasksRun"], view["totalTasksSucceeded"]) == (1, 2, 1)
    assert "startTaskInfo" not in view
    assert "reason" not in view


def test_a_node_whose_start_task_failed_says_how():
    s = scenario({"starttask": Exits(9)}, start_task=StartTaskSpec(command_line="begin"))
    view = node_view(s.world.nodes["p-1"])
    assert view["state"] == "starttaskfailed"
    assert (view["startTaskInfo"]["state"], view["startTaskInfo"]["exitCode"], view["startTaskInfo"]["retryCount"]) == ("completed", 9, 0)


def test_a_node_whose_start_task_runs_has_no_end_of_it():
    s = scenario({"starttask": Silent()}, start_task=StartTaskSpec(command_line="begin"))
    assert set(node_view(s.world.nodes["p-1"])["startTaskInfo"]) == {"startTime", "state", "retryCount"}


def test_a_node_that_cannot_be_used_says_why():
    s = scenario()
    s.finish(NodeFaulted(node="p-1", fault="unusable", reason="its disk is full"))
    assert node_view(s.world.nodes["p-1"])["reason"] == "its disk is full"
