"""Every refusal names id, state and wish: whoever reads one alone, in a log, knows what was asked of what, and why it was not granted."""

import pytest

from jobledger.core.ids import SECOND
from jobledger.core.requests import (
    AddTasks,
    CreatePool,
    DeallocateNode,
    DeleteJob,
    DeletePool,
    DeleteTask,
    DisableJob,
    DisableScheduling,
    EnableJob,
    EnableScheduling,
    PatchJob,
    ReactivateTask,
    RebootNode,
    ReimageNode,
    RemoveNode,
    ResizePool,
    StartNode,
    StopResize,
    SubmitJob,
    TerminateJob,
    TerminateTask,
)
from jobledger.core.specs import PoolInfo, PoolSpec, TaskSpec
from jobledger.testing.scenario import Exits, Hangs, Scenario

PATIENT = "taskcompletion"
OF_JOBS = {
    AddTasks: "add tasks to it",
    TerminateJob: "terminate it",
    DisableJob: "disable it",
    EnableJob: "enable it",
    PatchJob: "patch it",
}
OF_TASKS = {TerminateTask: "terminate", DeleteTask: "delete", ReactivateTask: "reactivate"}


NEEDED = {AddTasks: {"tasks": ()}, DisableJob: {"disable_tasks": "requeue"}}


def asked_of(wish, job):
    return wish(job=job, **NEEDED.get(wish, {}))


def ending(given, how=None):
    """The job `j` with one task that goes on running, and then `how`."""
    s = given(script={"t1": Hangs()})
    s.run()
    return s.given(how) if how else s


def over(given):
    s = given(tasks=("t1", "bad"), script={"bad": Exits(1)})
    s.run()
    s.finish(TerminateJob(job="j"))
    return s


# --- jobs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wish", "words"), [*OF_JOBS.items(), (DeleteJob, "delete it")], ids=lambda part: getattr(part, "__name__", ""))
def test_a_job_that_is_not_there(given, wish, words):
    assert str(given().refuses(asked_of(wish, "k"), "JobNotFound")) == f"there is no job k; cannot {words}"


@pytest.mark.parametrize(("wish", "words"), OF_JOBS.items(), ids=lambda part: getattr(part, "__name__", ""))
def test_a_job_that_is_ending_or_over(given, wish, words):
    for s, code, state in (
        (ending(given, TerminateJob(job="j")), "JobBeingTerminated", "terminating"),
        (ending(given, DeleteJob(job="j")), "JobBeingDeleted", "deleting"),
        (over(given), "JobCompleted", "completed"),
    ):
        assert str(s.refuses(asked_of(wish, "j"), code)) == f"job j is {state}; cannot {words}"


def test_a_job_that_is_deleted_again_or_submitted_again_meanwhile(given, job_spec):
    s = ending(given, DeleteJob(job="j"))
    assert str(s.refuses(DeleteJob(job="j"), "JobBeingDeleted")) == "job j is deleting; cannot delete it again"
    assert str(s.refuses(SubmitJob(spec=job_spec(), tasks=()), "JobBeingDeleted")) == "job j is deleting; submit it again when it is gone"


def test_another_job_or_task_under_an_id_that_is_taken(given, job_spec):
    s = ending(given)
    other = TaskSpec(id="t1", command_line="other")
    assert (
        str(s.refuses(SubmitJob(spec=job_spec(priority=7), tasks=()), "JobExists")) == "job j is active and was submitted with another specification"
    )
    assert str(s.refuses(AddTasks(job="j", tasks=(other,)), "TaskExists")) == "job j already has a task t1, with another specification"


def test_a_job_that_is_still_enabling(given):
    s = ending(given)
    s.given(DisableJob(job="j", disable_tasks="requeue"), EnableJob(job="j"))
    refusal = s.refuses(DisableJob(job="j", disable_tasks="requeue"), "OperationInvalidForCurrentState")
    assert str(refusal) == "job j is enabling; disable it when it is active"


def test_what_a_patch_may_not_change(given):
    s = given(on_all_tasks_complete="terminatejob", script={"t1": Hangs()})
    moved = s.refuses(PatchJob(job="j", pool_info=PoolInfo(pool_id="q")), "OperationInvalidForCurrentState")
    assert str(moved) == "job j is active; its poolInfo can be patched only while it is disabled: disable it first, and enable it afterwards"
    kept = s.refuses(PatchJob(job="j", on_all_tasks_complete="noaction"), "InvalidPropertyValue")
    assert str(kept) == "onAllTasksComplete: is terminatejob, which cannot be taken back (Azure Batch's rule)"


def test_more_tasks_than_one_request_may_add(given):
    refusal = given().refuses(AddTasks(job="j", tasks=(TaskSpec(id="n", command_line="work"),) * 1_000_001), "RequestBodyTooLarge")
    assert str(refusal) == "1000001 tasks in one request; at most 1000000"


def test_mistakes_are_listed_up_to_twenty_and_the_rest_counted(given):
    def refused(count):
        unnamed = tuple(TaskSpec(id=f"n{number}", command_line="") for number in range(count))
        return str(given().refuses(AddTasks(job="j", tasks=unnamed), "InvalidPropertyValue")).split("; ")

    assert refused(2) == ["tasks[0].commandLine: is empty", "tasks[1].commandLine: is empty"]
    assert refused(20)[-1] == "tasks[19].commandLine: is empty"
    assert refused(21)[-2:] == ["tasks[19].commandLine: is empty", "and 1 more"]


def test_mistakes_of_one_code_are_refused_with_it_and_a_mixture_with_the_common_one(given):
    reserved = TaskSpec(id="jobpreparation", command_line="work")
    s = given()
    s.refuses(AddTasks(job="j", tasks=(reserved,)), "TaskIdSameAsJobPreparationTask")
    s.refuses(AddTasks(job="j", tasks=(reserved, TaskSpec(id="", command_line="work"))), "InvalidPropertyValue")


# --- tasks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wish", "word"), OF_TASKS.items(), ids=lambda part: getattr(part, "__name__", ""))
def test_a_task_that_is_not_there(given, wish, word):
    s = given()
    assert str(s.refuses(wish(job="k", task="t1"), "JobNotFound")) == f"there is no job k; cannot {word} its task t1"
    assert str(s.refuses(wish(job="j", task="t9"), "TaskNotFound")) == f"job j has no task t9; cannot {word} it"


@pytest.mark.parametrize(("wish", "word"), OF_TASKS.items(), ids=lambda part: getattr(part, "__name__", ""))
def test_a_task_of_a_job_that_is_ending(given, wish, word):
    s = ending(given, TerminateJob(job="j"))
    assert str(s.refuses(wish(job="j", task="t1"), "JobBeingTerminated")) == f"job j is terminating; cannot {word} task t1"


def test_a_task_in_a_state_that_does_not_grant_it(given):
    s = given(tasks=("t1", "t2"), script={"t2": Hangs()})
    s.run()
    completed = s.refuses(TerminateTask(job="j", task="t1"), "TaskCompleted")
    assert str(completed) == "task t1 of job j is completed; it cannot be terminated"
    succeeded = s.refuses(ReactivateTask(job="j", task="t1"), "TaskSucceeded")
    assert str(succeeded) == "task t1 of job j succeeded; it cannot be reactivated"
    running = s.refuses(ReactivateTask(job="j", task="t2"), "TaskNotCompleted")
    assert str(running) == "task t2 of job j is running, not completed; it cannot be reactivated"


# --- pools ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "words"),
    [(ResizePool(pool="q", target=1), "resize it"), (StopResize(pool="q"), "stop its resize"), (DeletePool(pool="q"), "delete it")],
    ids=lambda part: type(part).__name__,
)
def test_a_pool_that_is_not_there_or_being_deleted(given, request_, words):
    s = ending(given)
    assert str(s.refuses(request_, "PoolNotFound")) == f"there is no pool q; cannot {words}"
    s.given(CreatePool(spec=PoolSpec(id="q", nodes=1)))
    s.run()
    s.executor.dead.add("q-1")
    s.given(DeletePool(pool="q"))
    assert str(s.refuses(request_, "PoolBeingDeleted")) == f"pool q is deleting; cannot {words}"


def test_a_pool_that_is_being_resized(given):
    s = ending(given)
    s.given(ResizePool(pool="p", target=3))
    resized = s.refuses(ResizePool(pool="p", target=5), "PoolBeingResized")
    assert str(resized) == "pool p is resizing; cannot resize it before it is steady"
    removed = s.refuses(RemoveNode(node="p-1"), "PoolBeingResized")
    assert str(removed) == "pool p is resizing; cannot remove node p-1 before it is steady"


def test_what_a_pool_cannot_do(given):
    s = ending(given)
    assert str(s.refuses(StopResize(pool="p"), "OperationNotValidOnPool")) == "pool p is steady; there is no resize to stop"
    assert str(s.refuses(ResizePool(pool="p", target=-1), "InvalidPropertyValue")) == "target: -1 is not between 0 and 100000"
    assert str(s.refuses(ResizePool(pool="p", target=2, resize_timeout=SECOND), "InvalidPropertyValue")).startswith("resizeTimeout: must be at least")
    other = s.refuses(CreatePool(spec=PoolSpec(id="p", nodes=9)), "PoolExists")
    assert str(other) == "pool p exists with another specification"
    s.executor.dead.add("p-1")
    s.given(DeletePool(pool="p"))
    again = s.refuses(CreatePool(spec=PoolSpec(id="p", nodes=9)), "PoolBeingDeleted")
    assert str(again) == "pool p is deleting; wait until it is gone"


def test_every_mistake_in_a_pool_is_told():
    refusal = Scenario().refuses(CreatePool(spec=PoolSpec(id="", nodes=-1)), "InvalidPropertyValue")
    assert str(refusal) == "id: '' is not an id: 1 to 64 letters, digits, '-' and '_'; nodes: -1 is not between 0 and 100000"


# --- nodes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", [RebootNode, ReimageNode, DeallocateNode, StartNode, DisableScheduling, EnableScheduling, RemoveNode])
def test_a_node_that_is_not_there(given, wish):
    assert str(given().refuses(wish(node="p-9"), "NodeNotFound")) == "there is no node p-9"


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (RebootNode, "reboot needs idle or running or starttaskfailed or unusable"),
        (ReimageNode, "reimage needs idle or running"),
        (DeallocateNode, "deallocate needs idle or running"),
        (StartNode, "start needs deallocated"),
    ],
)
def test_a_node_in_a_state_that_does_not_grant_it(given, wish, words):
    s = given()
    s.given(RebootNode(node="p-1"))
    assert str(s.refuses(wish(node="p-1"), "NodeBeingRebooted")) == f"node p-1 is rebooting; {words}"


@pytest.mark.parametrize(("wish", "word"), [(RebootNode, "reboot"), (ReimageNode, "reimage"), (DeallocateNode, "deallocate")])
def test_a_node_that_leaves_when_its_tasks_have_ended(given, wish, word):
    s = ending(given, RemoveNode(node="p-1", option=PATIENT))
    assert str(s.refuses(wish(node="p-1"), "OperationNotValidOnNode")) == (
        f"node p-1 leaves its pool when its tasks have ended; cannot {word} it, unless its scheduling is enabled first, which lets it stay"
    )


def test_a_node_that_is_leaving(given):
    s = given(tasks=())
    s.executor.dead.add("p-1")
    s.given(RemoveNode(node="p-1"))
    for wish, word in ((DisableScheduling, "disable"), (EnableScheduling, "enable")):
        assert str(s.refuses(wish(node="p-1"), "OperationNotValidOnNode")) == f"node p-1 is leavingpool; cannot {word} its scheduling"
    s.wake()
    assert str(s.refuses(RemoveNode(node="p-1"), "OperationNotValidOnNode")) == "node p-1 is leavingpool; cannot remove it again"


def test_scheduling_that_is_as_it_is_wished(given):
    s = given(tasks=())
    enabled = s.refuses(EnableScheduling(node="p-1"), "NodeAlreadyInTargetSchedulingState")
    assert str(enabled) == "scheduling on node p-1 is enabled already"
    s.given(DisableScheduling(node="p-1"))
    disabled = s.refuses(DisableScheduling(node="p-1"), "NodeAlreadyInTargetSchedulingState")
    assert str(disabled) == "scheduling on node p-1 is disabled already"


def test_an_option_that_is_none(given):
    s = given()
    old = s.refuses(RebootNode(node="p-1", option="retaineddata"), "InvalidPropertyValue")
    assert str(old) == "option: retaineddata, which Azure Batch has deprecated, is not supported; taskcompletion waits for the tasks"
    none = s.refuses(RebootNode(node="p-1", option="kill"), "InvalidPropertyValue")
    assert str(none) == "option: 'kill' is not one of requeue, terminate, taskcompletion"


def test_a_pool_whose_nodes_would_have_too_long_names():
    name = "x" * 62
    s = Scenario().given(CreatePool(spec=PoolSpec(id=name, nodes=0)))
    refused = s.refuses(ResizePool(pool=name, target=10), "InvalidPropertyValue")
    assert str(refused) == f"target: node ids such as {name}-10 would be longer than 64 characters"
    assert len(s.when(ResizePool(pool=name, target=9))) == 1 + 9
