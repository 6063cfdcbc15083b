"""Folders: held, kept for their retention, and removed."""

import pytest

from jobledger.core.commands import RemoveFiles, RunTask, StopExecution
from jobledger.core.deadlines import next_deadline
from jobledger.core.events import FilesRemoved, JobDeleted, JobDeleting, JobFilesRemoved
from jobledger.core.ids import SECOND, UNLIMITED_RETENTION
from jobledger.core.owed import commands, reissue, take_fresh
from jobledger.core.reports import ExecutionExited, ExecutionStarted, NodeFaulted, NodeReady
from jobledger.core.reports import FilesRemoved as Removed
from jobledger.core.requests import (
    DeallocateNode,
    DeleteJob,
    DeleteTask,
    DisableScheduling,
    ReactivateTask,
    RebootNode,
    ReimageNode,
    RemoveNode,
    SubmitJob,
    TerminateJob,
    TerminateTask,
)
from jobledger.core.specs import JobConstraints, PreparationSpec, ReleaseSpec, StartTaskSpec, TaskConstraints, TaskSpec
from jobledger.testing.scenario import Exits, Hangs, Silent, story

AT_ONCE = JobConstraints(retention_time=0)
DAY = 86_400 * SECOND


def folders(s, node="p-1"):
    return {task: folder.state for of_job in s.world.nodes[node].folders.values() for task, folder in of_job.items()}


def removed(task=None, node="p-1", *, s, problem=None, job="j"):
    """The answer to the removal that is owed now."""
    return Removed(node=node, job=job, task=task, before=s.world.nodes[node].removals[(job, task)], problem=problem)


def removals(s):
    return [(command.node, command.job, command.task) for command in commands(s.world).values() if isinstance(command, RemoveFiles)]


def test_a_folder_is_held_while_its_task_runs_and_kept_for_a_week_after_it(given):
    s = given(prep=False, script={"t1": Hangs()})
    s.run()
    assert folders(s) == {"t1": "held"}
    s.answer("task", "exited")
    ended = s.now
    assert folders(s) == {"t1": "kept"}
    assert next_deadline(s.world) == ended + 7 * DAY
    s.now = ended
    assert s.pass_time(7 * DAY - 1) == []
    assert story(s.pass_time(1)) == ["files.expired t1 p-1"]
    assert removals(s) == [("p-1", "j", "t1")]
    assert story(s.run()) == ["files.removed t1 p-1"]
    assert (folders(s), s.world.nodes_with_files, removals(s)) == ({}, {"j": {"p-1": None}}, [])


@pytest.mark.parametrize(
    ("own", "jobs", "length"), [(None, 5, 5), (2, 5, 2), (0, 5, 0), (UNLIMITED_RETENTION, 5, None), (None, UNLIMITED_RETENTION, None), (3, -1, 3)]
)
def test_a_task_is_kept_as_it_says_itself_or_as_its_job_does(given, own, jobs, length):
    task = TaskSpec(id="t1", command_line="work", constraints=TaskConstraints(retention_time=own))
    s = given(tasks=(task,), prep=False, constraints=JobConstraints(retention_time=jobs))
    s.run()
    assert next_deadline(s.world) == (None if length is None else s.now + length)


def test_preparation_and_release_are_kept_as_they_say(given):
    preparation = PreparationSpec(command_line="prepare", constraints=TaskConstraints(retention_time=3 * SECOND))
    s = given(prep=preparation, release=ReleaseSpec(command_line="release", retention_time=2 * SECOND))
    s.run()
    s.finish(TerminateJob(job="j"))
    assert story(s.wake()) == ["files.expired jobrelease p-1"]
    s.run()
    assert story(s.wake()) == ["files.expired jobpreparation p-1"]


def test_a_start_task_keeps_its_folder(given):
    s = given(prep=False, constraints=AT_ONCE, pool={"start_task": StartTaskSpec(command_line="begin")})
    s.run()
    assert folders(s) == {"t1": "kept"}


def test_each_run_in_the_same_folder_begins_its_time_anew_with_one_alarm(given):
    constraints = TaskConstraints(max_task_retry_count=50, retention_time=3600 * SECOND)
    s = given(tasks=(TaskSpec(id="t1", command_line="work", constraints=constraints),), prep=False, script={"t1": [*[Exits(1)] * 50, Exits(0)]})
    s.run()
    assert [entry for entry in s.world.deadlines if entry[1] == "files"][1:] == []
    assert next_deadline(s.world) == s.now + 3600 * SECOND
    assert story(s.wake()) == ["files.expired t1 p-1"]


def test_an_alarm_that_was_moved_is_still_the_only_one(given):
    s = given(prep=False, constraints=JobConstraints(retention_time=10 * SECOND), script={"t1": Exits(1)})
    s.run()
    for length in (5, 6):  # The second time the first alarm has come up.
        s.pass_time(length * SECOND)
        next_deadline(s.world)
        s.finish(ReactivateTask(job="j", task="t1"))
    assert [kind for _, kind, _ in s.world.deadlines if kind == "files"] == ["files"]
    ended = s.now
    assert story(s.wake()) == ["files.expired t1 p-1"]
    assert s.now == ended + 10 * SECOND


def test_a_folder_that_is_being_removed_does_not_expire_again_with_its_task(given):
    s = given(prep=False, constraints=AT_ONCE)
    s.run()
    s.pass_time(1)
    assert folders(s) == {"t1": "expiring"}
    assert story(s.when(DeleteTask(job="j", task="t1"))) == ["task.deleted t1"]


def test_what_a_task_left_on_an_earlier_node_goes_in_its_own_time(given):
    s = given(nodes=2, prep=False, constraints=JobConstraints(retention_time=10 * SECOND), script={"t1": Hangs()})
    s.run()
    s.finish(DisableScheduling(node="p-1"))
    assert (folders(s), folders(s, "p-2")) == ({"t1": "kept"}, {"t1": "held"})
    assert story(s.wake()) == ["files.expired t1 p-1"]


def test_what_cannot_be_removed_is_told_and_forgotten(given):
    s = given(prep=False, constraints=AT_ONCE)
    s.run()
    s.pass_time(1)
    assert s.when(removed("t1", s=s, problem="Permission denied")) == [FilesRemoved(job="j", task="t1", node="p-1", problem="Permission denied")]
    assert folders(s) == {}
    assert story(s.finish(DeleteJob(job="j"))) == ["job.deleting j", "job-files.expired p-1", "job-files.removed p-1", "job.deleted j"]


# --- only from nodes that are up ------------------------------------------------------------------------------


def test_only_a_node_that_is_up_is_asked_to_remove(given):
    s = given(prep=False, constraints=JobConstraints(retention_time=SECOND))
    s.run()
    s.when(NodeFaulted(node="p-1", fault="unusable", reason="its disk is full"))
    assert story(s.wake()) == ["files.expired t1 p-1"]
    assert removals(s) == []
    s.when(RebootNode(node="p-1"))
    assert removals(s) == []
    told = story(s.run())
    assert told.index("node.booted p-1") < told.index("files.removed t1 p-1")
    assert s.world.owed.now == {}


def test_a_removal_that_is_owed_is_not_while_the_node_is_down(given):
    s = given(prep=False, constraints=AT_ONCE)
    s.run()
    s.pass_time(1)
    (owed,) = s.world.owed.now
    s.when(NodeFaulted(node="p-1", fault="unusable", reason="its disk is full"))
    assert s.world.owed.now == {}
    s.when(RebootNode(node="p-1"))
    s.when(NodeReady(node="p-1", boot_id="another", incarnation=2))
    assert list(s.world.owed.now) == [owed]


@pytest.mark.parametrize("wish", [ReimageNode, DeallocateNode, RemoveNode], ids=lambda wish: wish.__name__)
def test_a_node_that_is_emptied_forgets_its_folders(given, wish):
    s = given(prep=False, constraints=JobConstraints(retention_time=3600 * SECOND))
    s.run()
    s.finish(wish(node="p-1"))
    assert "p-1" not in s.world.nodes or not s.world.nodes["p-1"].folders
    assert (s.world.nodes_with_files, next_deadline(s.world), removals(s)) == ({}, None, [])


# --- tasks and jobs that are deleted --------------------------------------------------------------------------


def test_deleting_a_task_removes_its_folders_wherever_it_ran(given):
    s = given(nodes=2, prep=False, script={"t1": Hangs()})
    s.run()
    s.finish(DisableScheduling(node="p-1"))
    s.when(DeleteTask(job="j", task="t1"))
    assert story(s.run())[:4] == ["execution.ended t1 p-2", "task.deleted t1", "files.expired t1 p-1", "files.expired t1 p-2"]
    assert (folders(s), folders(s, "p-2"), s.world.jobs["j"].wrote_elsewhere) == ({}, {}, {})


def test_a_job_is_gone_when_its_folders_are_and_not_before(given):
    s = given(nodes=2, tasks=("t1", "t2"), prep=False)
    s.run()
    s.when(DeleteJob(job="j"))
    assert s.world.jobs["j"].state == "deleting"
    assert removals(s) == [("p-1", "j", None), ("p-2", "j", None)]
    s.when(removed(s=s))
    assert s.world.jobs["j"].state == "deleting"
    assert story(s.when(removed(node="p-2", s=s, problem="Permission denied"))) == ["job-files.removed p-2", "job.deleted j"]
    assert [event.problem for event in s.events if isinstance(event, JobFilesRemoved)] == [None, "Permission denied"]


def test_a_node_that_is_down_does_not_hold_up_the_deletion_of_a_job(given):
    s = given(nodes=2, tasks=("t1", "t2"), prep=False)
    s.run()
    s.when(NodeFaulted(node="p-1", fault="lost", reason="no answer"))
    s.when(DeleteJob(job="j"))
    assert story(s.run()) == ["job-files.removed p-2", "job.deleted j"]
    s.when(NodeReady(node="p-1", boot_id="another"))
    assert story(s.run())[-1] == "job-files.removed p-1"
    assert s.world.nodes["p-1"].removals == {}


def test_a_node_that_goes_down_meanwhile_does_not_either(given):
    s = given(prep=False)
    s.run()
    s.when(DeleteJob(job="j"))
    assert story(s.when(NodeFaulted(node="p-1", fault="lost", reason="no answer")))[-1] == "job.deleted j"


def test_deleting_a_job_takes_over_what_was_expiring(given):
    s = given(prep=False, constraints=AT_ONCE)
    s.run()
    s.pass_time(1)
    single = removed("t1", s=s)
    s.when(DeleteJob(job="j"))
    assert removals(s) == [("p-1", "j", None)]
    s.ignores(single)
    assert story(s.run()) == ["job-files.removed p-1", "job.deleted j"]


# --- launches and removals ------------------------------------------------------------------------------------


def again(given, **script):
    """A failed task that is to run again in a folder that is to be removed; nothing was answered yet."""
    s = given(prep=False, constraints=AT_ONCE, script={"t1": [Exits(1), Hangs()], **script})
    s.run()
    s.pass_time(1)
    s.when(ReactivateTask(job="j", task="t1"))
    assert folders(s) == {"t1": "awaited"}
    return s


def test_a_launch_waits_for_the_removal_of_its_folder(given):
    s = again(given)
    (removal,) = take_fresh(s.world)
    assert removal == RemoveFiles(pool="p", node="p-1", job="j", task="t1", before=removal.before)
    reissue(s.world)
    assert [type(command) for command in take_fresh(s.world)] == [RemoveFiles], "nor after a restart"
    waiting = s.live("task")
    s.ignores(ExecutionStarted(execution=waiting))
    s.ignores(ExecutionExited(execution=waiting, exit_code=0))
    s.when(removed("t1", s=s))
    assert [type(command) for command in take_fresh(s.world)] == [RunTask]
    assert folders(s) == {"t1": "held"}


def test_the_end_of_a_removal_launches_only_what_waited_for_it(given):
    s = given(slots=2, prep=False, constraints=AT_ONCE, tasks=("t1", "t2"), script={"t1": [Exits(1), Hangs()], "t2": Hangs()})
    s.run()
    s.pass_time(1)
    s.when(ReactivateTask(job="j", task="t1"))
    take_fresh(s.world)
    s.when(removed("t1", s=s))
    assert [command.launch.task for command in take_fresh(s.world)] == ["t1"], "t2 runs, and is not launched again"


def test_what_waits_for_a_removal_can_be_stopped(given):
    s = again(given)
    s.when(TerminateTask(job="j", task="t1"))
    assert [type(command) for command in take_fresh(s.world)] == [RemoveFiles, StopExecution]
    s.answer("task", "notstarted")
    assert folders(s) == {"t1": "expiring"}
    s.when(removed("t1", s=s))
    assert folders(s) == {}


def test_an_answer_to_an_earlier_removal_is_none_to_this_one(given):
    s = again(given)
    earlier = removed("t1", s=s)
    s.when(earlier)
    s.run()
    s.answer("task", "exited", code=1)
    s.pass_time(1)
    s.ignores(earlier)
    assert removals(s) == [("p-1", "j", "t1")]


def test_a_removal_for_a_job_that_is_gone_never_meets_the_next_job_of_its_id(given, job_spec, task_specs):
    s = given(prep=False, script={"t1": [Exits(0), Silent()]})
    s.run()
    s.when(NodeFaulted(node="p-1", fault="lost", reason="no answer"))
    s.when(DeleteJob(job="j"))
    assert "j" not in s.world.jobs
    s.when(SubmitJob(spec=job_spec(prep=False), tasks=task_specs("t1", "t2")))
    s.when(NodeReady(node="p-1", boot_id="another"))
    (boot,) = take_fresh(s.world)
    s.when(next(iter(s.executor.answer(boot))))
    assert folders(s) == {"t1": "held"}
    (removal,) = take_fresh(s.world)
    assert isinstance(removal, RemoveFiles), "the launch waits, though it has a folder of its own"
    s.when(removed(s=s))
    assert [type(command) for command in take_fresh(s.world)] == [RunTask]
    s.when(DeleteJob(job="j"))
    s.run()
    assert "j" not in s.world.jobs


# --- ledgers of versions that removed nothing -----------------------------------------------------------------


def test_what_an_old_ledger_left_of_a_deleted_job_is_due_at_once(given):
    s = given()
    s.run()
    s.finish(TerminateJob(job="j"))
    s.given(JobDeleting(job="j"), JobDeleted(job="j"))
    assert next_deadline(s.world) <= s.now
    told = story(s.pass_time(1))
    assert sorted(told) == [f"files.expired {task} p-1" for task in ("jobpreparation", "jobrelease", "t1")]
    assert len(s.run()) == 3
    assert (folders(s), s.world.nodes_with_files) == ({}, {})
