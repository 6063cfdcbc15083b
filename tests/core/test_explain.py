"""Explain: why a job or a task is where it is, each reason with its code, its text and what it is about."""

import pytest

from jobledger.core.errors import RequestRefused
from jobledger.core.explain import NODES_NAMED_MAX, explain
from jobledger.core.ids import SECOND
from jobledger.core.reports import NodeFaulted, NodeReady
from jobledger.core.requests import (
    AddTasks,
    CreatePool,
    DeallocateNode,
    DeleteJob,
    DeletePool,
    DisableJob,
    DisableScheduling,
    EnableJob,
    PatchJob,
    RebootNode,
    SubmitJob,
    TerminateJob,
    TerminateTask,
)
from jobledger.core.specs import FinalizerSpec, PoolSpec, PreparationSpec, TaskConstraints, TaskSpec
from jobledger.testing.scenario import CannotStart, Exits, Hangs, Scenario, Silent


def of_task(s, task="t1", job="j"):
    return {reason.code: reason for reason in explain(s.world, job, task)}


def of_job(s, job="j"):
    return {reason.code: reason for reason in explain(s.world, job)}


# --- a task that waits for a node -----------------------------------------------------------------------------


def test_a_task_waits_because_no_node_has_room_for_all_its_slots(given):
    wide = [TaskSpec(id=name, command_line="work", required_slots=slots) for name, slots in (("a", 3), ("b", 2), ("big", 3))]
    s = given(nodes=2, slots=4, tasks=wide, prep=False, script={"a": Hangs(), "b": Hangs()})
    s.run()
    found = of_task(s, "big")
    assert list(found) == ["NoFreeSlot", "Queued"]
    assert found["NoFreeSlot"].text == "it requires 3 slots of one node, and no node that it may use has more than 2 free"


def test_a_task_waits_for_ever_because_no_node_has_so_many_slots(given):
    s = given(slots=4, tasks=(TaskSpec(id="big", command_line="work", required_slots=5),))
    (found,) = of_task(s, "big").values()
    assert (found.code, found.subject) == ("TooFewSlots", "p")
    assert found.text.startswith("it requires 5 slots, and a node of pool p has 4: it waits for ever")
    assert "TooFewSlots" in of_job(s)


def test_a_job_is_told_of_by_the_least_that_its_tasks_require(given):
    s = given(slots=2, tasks=(TaskSpec(id="big", command_line="work", required_slots=5), "a", "b", "c"), script={"a": Hangs(), "b": Hangs()})
    s.run()
    assert list(of_job(s))[:2] == ["NoFreeSlot", "Queued"]


def test_a_job_that_comes_first_by_a_patch_is_told_of_as_ahead(given, job_spec, task_specs):
    s = given(tasks=("t1", "t2"), prep=False, script={"t1": Hangs()})
    s.given(SubmitJob(spec=job_spec("k", prep=False), tasks=task_specs("x")))
    assert "JobsAhead" not in of_task(s, "t2")
    s.given(PatchJob(job="k", priority=1))
    assert "k" in of_task(s, "t2")["JobsAhead"].text


@pytest.mark.parametrize("option", ["requeue", "wait"])
def test_a_task_waits_because_its_job_is_not_active(given, option):
    s = given(tasks=("t1", "t2"), script={"t1": Hangs()})
    s.run()
    s.when(DisableJob(job="j", disable_tasks=option))
    found = of_task(s, "t2")
    assert list(found) == ["JobNotActive"]
    assert found["JobNotActive"].text == "job j is disabling, and tasks start only while it is active"
    assert found["JobNotActive"].subject == "j"


def test_a_task_waits_because_there_is_no_such_pool(job_spec, task_specs):
    s = Scenario().given(SubmitJob(spec=job_spec(pool="later"), tasks=task_specs("t1")))
    found = of_task(s)
    assert list(found) == ["PoolNotFound"]
    assert found["PoolNotFound"].subject == "later"


def test_a_task_waits_because_the_pool_has_no_nodes(given):
    s = given(nodes=0)
    assert "pool p has no nodes" in of_task(s)["NoNodes"].text


def test_a_task_waits_because_no_node_is_up_yet_and_the_states_are_counted(job_spec, task_specs):
    s = Scenario().given(CreatePool(spec=PoolSpec(id="p", nodes=4)), SubmitJob(spec=job_spec(), tasks=task_specs("t1")))
    s.when(NodeReady(node="p-1", boot_id="b", incarnation=1))
    s.when(DisableScheduling(node="p-1"))
    s.when(NodeFaulted(node="p-2", fault="unusable", reason="disk full"))
    found = of_task(s)
    assert list(found) == ["NoNodeUp"]
    assert found["NoNodeUp"].subject == "p"
    for part in ("2 creating", "1 unusable (disk full)"):
        assert part in found["NoNodeUp"].text


def test_a_node_that_takes_no_tasks_is_told_from_one_that_is_down(given):
    s = given(nodes=2, tasks=("t1", "t2", "t3"), script={"t1": Hangs(), "t2": Hangs()}, prep=False)
    s.run()
    s.finish(DeallocateNode(node="p-2"))
    s.when(DisableScheduling(node="p-1"))
    text = of_task(s, "t3")["NoNodeUp"].text
    assert "1 running (scheduling is disabled)" in text
    assert "1 deallocated" in text


def test_a_deleting_pool_shows_its_nodes_leaving(given):
    s = given(script={"t1": Hangs()}, tasks=("t1", "t2"))
    s.run()
    s.when(DeletePool(pool="p"))
    assert "1 leavingpool" in of_task(s, "t2")["NoNodeUp"].text


def test_a_task_waits_because_all_slots_are_taken(given):
    s = given(nodes=2, slots=2, tasks=tuple("abcdef"), script={task: Hangs() for task in "abcdef"}, prep=False)
    s.run()
    found = of_task(s, "f")
    assert list(found) == ["NoFreeSlot", "Queued"]
    assert found["NoFreeSlot"].text == "4 of 4 task slots taken on the nodes it may use"
    assert found["Queued"].text == "2 tasks of the job in the queue, in order of submission"


def test_a_task_waits_behind_jobs_of_higher_priority_and_earlier_ones(given, job_spec, task_specs):
    s = given(tasks=("t1",), script={"t1": Hangs()}, prep=False)
    s.run()
    for job, priority in (("early", 0), ("late", 0), ("high", 5), ("low", -5)):
        s.when(SubmitJob(spec=job_spec(job, prep=False, priority=priority), tasks=task_specs("x")))
    assert of_task(s, "x", "late")["JobsAhead"].text.endswith(": high, early")
    assert "JobsAhead" not in of_task(s, "x", "high")
    assert of_task(s, "x", "low")["JobsAhead"].text.endswith(": high, early, late")


def test_the_jobs_ahead_that_are_named_are_bounded(given, job_spec, task_specs):
    s = given(tasks=("t1",), script={"t1": Hangs()}, prep=False)
    s.run()
    for number in range(NODES_NAMED_MAX + 4):
        s.when(SubmitJob(spec=job_spec(f"k{number}", prep=False), tasks=task_specs("x")))
    assert of_task(s, "x", f"k{NODES_NAMED_MAX + 3}")["JobsAhead"].text.endswith("and 3 more")


def test_a_task_waits_because_preparation_failed_on_every_node(given):
    s = given(nodes=2, script={"jobpreparation@p-1": Exits(3), "jobpreparation@p-2": CannotStart()})
    s.run()
    found = of_task(s)
    assert list(found) == ["JobPreparationTaskFailed"]
    assert "p-1 (exit code 3), p-2 (CommandProgramNotFound)" in found["JobPreparationTaskFailed"].text
    assert of_job(s).keys() == found.keys()


def test_a_task_waits_because_preparation_failed_on_some_nodes_and_the_others_are_full(given):
    s = given(nodes=2, tasks=("t1", "t2"), script={"jobpreparation@p-1": Exits(3), "t1": Hangs(), "t2": Hangs()})
    s.run()
    waiting = next(task for task, entry in s.world.jobs["j"].tasks.items() if entry.state == "active")
    found = of_task(s, waiting)
    assert list(found) == ["PreparationFailed", "NoFreeSlot", "Queued"]
    assert "preparation failed on p-1 (exit code 3)" in found["PreparationFailed"].text
    assert found["PreparationFailed"].text.endswith("1 other nodes may")
    assert found["NoFreeSlot"].text == "1 of 1 task slots taken on the nodes it may use"


def test_a_task_waits_because_preparation_failed_on_some_nodes_and_the_others_are_down(given):
    s = given(nodes=2, script={"jobpreparation@p-1": Exits(3), "t1": Hangs()})
    s.run()
    s.finish(NodeFaulted(node="p-2", fault="lost", reason="no route"))
    found = of_task(s)
    assert found["PreparationFailed"].text.endswith("0 other nodes may")
    assert found["NoNodeUp"].text.endswith(": 1 unknown (no route)")


def test_the_failed_nodes_that_are_named_are_bounded(given):
    s = given(nodes=NODES_NAMED_MAX + 2, script={"jobpreparation": Exits(1)})
    s.run()
    text = of_task(s)["JobPreparationTaskFailed"].text
    assert "and 2 more" in text
    assert f"p-{NODES_NAMED_MAX + 1} " not in text


# --- a task that has a node -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("retries", "words"), [(0, "try 1, of at most 1"), (4, "try 1, of at most 5"), (-1, "try 1, without limit")])
def test_a_preparing_task_names_the_node_the_try_and_the_execution(given, retries, words):
    spec = PreparationSpec(command_line="prepare", constraints=TaskConstraints(max_task_retry_count=retries))
    s = given(prep=spec, script={"jobpreparation": Hangs()})
    s.run()
    found = of_task(s)
    assert found["WaitingForPreparation"].subject == "p-1"
    assert words in found["WaitingForPreparation"].text
    assert found["Running"].text == "preparation jobpreparation runs on p-1 (execution 1, process 10001)"


def test_a_preparing_task_names_a_later_try(given):
    spec = PreparationSpec(command_line="prepare", constraints=TaskConstraints(max_task_retry_count=4))
    s = given(prep=spec, script={"jobpreparation": [Exits(1), Exits(1), Hangs()]})
    s.run()
    assert "try 3, of at most 5" in of_task(s)["WaitingForPreparation"].text


def test_a_running_task_names_its_execution_and_whether_its_start_was_seen(given):
    s = given(script={"t1": Silent()}, prep=False)
    s.run()
    assert "has not been seen to start yet on p-1 (execution 1)" in of_task(s)["Running"].text
    s.answer("task", "started")
    assert of_task(s)["Running"].text == "task t1 runs on p-1 (execution 1)"
    assert of_task(s)["Running"].subject == "execution 1"


def test_a_task_that_was_asked_to_end_says_why(given):
    s = given(script={"t1": Hangs()}, prep=False)
    s.run()
    s.when(TerminateTask(job="j", task="t1"))
    assert of_task(s)["Stopping"].text.endswith("it was asked to end: the task was terminated")


# --- a task that is over, and what it went through ------------------------------------------------------------


def test_a_task_that_succeeded(given):
    s = given()
    s.run()
    assert of_task(s)["Succeeded"].text == "it ran on p-1 and exited with 0"


@pytest.mark.parametrize(
    ("answer", "code", "part"),
    [
        (Exits(7), "FailureExitCode", "exit code 7"),
        (CannotStart(), "CommandProgramNotFound", "could not be launched"),
    ],
)
def test_a_task_that_failed_says_how(given, answer, code, part):
    s = given(script={"t1": answer})
    s.run()
    found = of_task(s)
    assert list(found) == [code, "FilesKept"]
    assert part in found[code].text


def test_a_task_that_was_ended_says_by_what(given):
    s = given(tasks=("t1", "t2"), script={"t1": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j", reason="enough"))
    assert "the job was terminated: enough" in of_task(s, "t2")["TaskEnded"].text


@pytest.mark.parametrize(("allowed", "words"), [(3, "of 3"), (-1, "without limit")])
def test_retries_used_are_counted_beside_those_allowed(given, allowed, words):
    spec = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_task_retry_count=allowed))
    s = given(tasks=(spec,), script={"t1": [Exits(9), Exits(9), Hangs()]})
    s.run()
    assert of_task(s)["Retried"].text == f"it was retried 2 times ({words}); the last exit code was 9"


def test_requeues_are_counted_apart(given):
    s = given(script={"t1": [Hangs(), Hangs()]})
    s.run()
    s.finish(RebootNode(node="p-1"))
    found = of_task(s)
    assert found["Requeued"].text == "it was requeued 1 time, which counts as no retry"
    assert "Retried" not in found


# --- a job ----------------------------------------------------------------------------------------------------


def test_a_job_without_tasks_has_nothing_to_do(given):
    s = given(tasks=())
    assert list(of_job(s)) == ["NoTasks"]


def test_a_job_whose_tasks_are_complete_stays_active_because_nothing_ends_it(given):
    s = given()
    s.run()
    found = of_job(s)
    assert list(found) == ["AllTasksComplete"]
    assert "onAllTasksComplete is noaction" in found["AllTasksComplete"].text


def test_an_active_job_says_what_runs_and_what_its_queue_waits_for(given):
    s = given(nodes=2, tasks=("t1", "t2", "t3"), script={"t1": Hangs(), "jobpreparation@p-2": Hangs()})
    s.run()
    found = of_job(s)
    assert list(found) == ["NoFreeSlot", "Queued", "Preparing", "TasksRunning"]
    assert found["Preparing"].text == "preparation is running on p-2, 1 task waiting for it"
    assert found["TasksRunning"].text == "1 task running"


def test_a_disabling_job_waits_for_what_was_asked_to_stop(given):
    s = given(script={"t1": Hangs()})
    s.run()
    s.when(DisableJob(job="j", disable_tasks="requeue"))
    found = of_job(s)
    assert "disabling" in found["WaitingForTasksToEnd"].text
    assert found["Stopping"].text.endswith("it was asked to end: the job was disabled")
    s.when(EnableJob(job="j"))
    assert "enabling" in of_job(s)["WaitingForTasksToEnd"].text
    s.run()


def test_a_disabled_job_waits_to_be_enabled(given):
    s = given(tasks=())
    s.when(DisableJob(job="j", disable_tasks="wait"))
    assert list(of_job(s)) == ["JobDisabled"]
    assert of_job(s)["JobDisabled"].text.startswith("the job is disabled: ")
    s.when(EnableJob(job="j"))
    s.when(DisableJob(job="j", disable_tasks="wait", reason="maintenance"))
    assert of_job(s)["JobDisabled"].text.startswith("the job is disabled (maintenance): ")


@pytest.mark.parametrize("request_of", [lambda: TerminateJob(job="j"), lambda: DeleteJob(job="j")])
def test_an_ending_job_waits_first_for_its_tasks_and_then_for_its_releases(given, request_of):
    s = given(nodes=2, tasks=("t1", "t2"), script={"t1": Hangs(), "jobrelease@p-2": Hangs()})
    s.run()
    s.executor.dead.add("p-1")
    s.when(request_of())
    found = of_job(s)
    assert list(found) == ["WaitingForTasksToEnd", "Stopping"]
    assert found["Stopping"].subject == "execution 3"
    s.when(RebootNode(node="p-1"))
    s.run()
    found = of_job(s)
    assert list(found) == ["Releasing", "ReleaseOwed"]
    assert found["Releasing"].text == "release is running on p-2"
    assert (found["ReleaseOwed"].text, found["ReleaseOwed"].subject) == ("release waits for node p-1, which is rebooting", "p-1")


def test_a_completed_job_says_why_it_ended_and_which_releases_went_wrong(given):
    s = given(nodes=3, tasks=("a", "b", "c"), script={"jobrelease@p-2": Exits(4)})
    s.run()
    s.finish(NodeFaulted(node="p-3", fault="lost", reason="no route"))
    s.finish(TerminateJob(job="j", reason="seen enough"))
    found = of_job(s)
    assert list(found) == ["JobCompleted", "ReleaseFailed", "ReleaseAbandoned"]
    assert found["JobCompleted"].text == "the job is completed: seen enough"
    assert found["ReleaseFailed"].text == "release failed on p-2: exit code 4"
    assert found["ReleaseAbandoned"].text == "release did not run on p-3: the node is lost"


def test_the_releases_that_are_named_are_bounded(given):
    nodes = NODES_NAMED_MAX + 3
    s = given(nodes=nodes, tasks=tuple(f"t{number}" for number in range(nodes)), script={"jobrelease": Exits(1)})
    s.run()
    s.finish(TerminateJob(job="j"))
    found = explain(s.world, "j")
    assert [reason.code for reason in found].count("ReleaseFailed") == NODES_NAMED_MAX
    assert found[-1].text == "release failed or did not run on 3 more nodes"


def finalized_by(node=None):
    return FinalizerSpec(command_line="finalize", node_id=node)


def test_a_job_whose_finalizer_runs_says_so_and_where(given):
    s = given(job_finalizer_task=finalized_by(), script={"jobfinalizer": Hangs()})
    s.run()
    s.finish(TerminateJob(job="j"))
    found = of_job(s)
    assert list(found) == ["Finalizing", "Running"]
    execution = s.live("finalizer")
    assert (found["Finalizing"].text, found["Finalizing"].subject) == (
        "all else is done, and the finalizer is running on the engine's host",
        f"execution {execution}",
    )
    assert f"finalizer jobfinalizer runs on the engine's host (execution {execution}, process" in found["Running"].text


def test_a_job_whose_finalizer_waits_says_for_which_node(given):
    s = given(job_finalizer_task=finalized_by("p-2"), nodes=2)
    s.run()
    s.executor.dead.add("p-2")
    s.finish(RebootNode(node="p-2"))
    s.finish(TerminateJob(job="j"))
    found = of_job(s)
    assert list(found) == ["FinalizerWaiting"]
    assert (found["FinalizerWaiting"].text, found["FinalizerWaiting"].subject) == ("the finalizer waits for node p-2, which is rebooting", "p-2")


def test_a_job_that_still_waits_for_a_task_does_not_speak_of_its_finalizer(given):
    s = given(job_finalizer_task=finalized_by(), script={"t1": Hangs()})
    s.run()
    s.when(TerminateJob(job="j"))
    assert list(of_job(s)) == ["WaitingForTasksToEnd", "Stopping"]


def test_a_completed_job_says_what_went_wrong_with_its_finalizer(given):
    s = given(job_finalizer_task=finalized_by(), script={"jobfinalizer": Exits(4)})
    s.run()
    s.finish(TerminateJob(job="j"))
    assert list(of_job(s)) == ["JobCompleted", "FinalizerFailed"]
    assert of_job(s)["FinalizerFailed"].text == "the finalizer failed on the engine's host: exit code 4"


def test_a_completed_job_says_that_its_finalizer_never_ran(given):
    s = given(job_finalizer_task=finalized_by("p-9"))
    s.run()
    s.finish(TerminateJob(job="j"))
    assert list(of_job(s)) == ["JobCompleted", "FinalizerAbandoned"]
    assert of_job(s)["FinalizerAbandoned"].text == "the finalizer did not run on p-9: there is no such node"


# --- what holds for all ---------------------------------------------------------------------------------------


def test_what_is_not_there_is_refused(given):
    s = given()
    for arguments, code in ((("nope", None), "JobNotFound"), (("nope", "t1"), "JobNotFound"), (("j", "nope"), "TaskNotFound")):
        with pytest.raises(RequestRefused) as caught:
            explain(s.world, *arguments)
        assert caught.value.code == code


def test_to_explain_changes_nothing(given, task_specs):
    s = given(nodes=2, tasks=("t1", "t2"), script={"t1": Hangs(), "jobpreparation@p-2": Exits(1)})
    s.run()
    s.given(AddTasks(job="j", tasks=task_specs("t3")))
    owed = dict(s.world.owed.now)
    for task in (None, "t1", "t2", "t3"):
        assert explain(s.world, "j", task) == explain(s.world, "j", task) != []
    s.check()
    assert s.world.owed.now == owed


def test_it_looks_at_no_more_tasks_in_a_large_job_than_in_a_small_one(given):
    """A job whose tasks may not be walked through explains itself all the same."""

    class Tasks(dict):
        def __iter__(self):
            raise AssertionError("explain walks through the tasks of a job")

        keys = values = items = __iter__

    s = given(nodes=2, tasks=tuple(f"t{number}" for number in range(50)), script={"t0": Hangs(), "t1": Hangs()})
    s.run()
    job = s.world.jobs["j"]
    job.tasks = Tasks(job.tasks)
    assert explain(s.world, "j") != []
    assert explain(s.world, "j", "t40") != []


def test_a_job_and_a_task_whose_next_try_waits_for_its_time(given):
    spec = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(max_task_retry_count=1, retry_delay=60 * SECOND))
    s = given(tasks=(spec,), prep=False, script={"t1": Exits(1)})
    s.run()
    due = s.world.task("j", "t1").retry_at
    assert next((reason.code, reason.at) for reason in explain(s.world, "j", "t1")) == ("RetryDelayed", due)
    assert [(reason.code, reason.at) for reason in explain(s.world, "j")] == [("RetryDelayed", due)]
