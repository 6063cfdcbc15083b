"""Planted bugs in the rules of folders: see `planting`."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from planting import PLAIN, TERMINATE, Planted, a_job, around, swapped

from jobledger.core import deadlines, decide, files, task, world
from jobledger.core import events as e
from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.core.ids import SECOND, UNLIMITED_RETENTION
from jobledger.testing.trail import Trail

AT_ONCE = s.JobConstraints(retention_time=0)


def prepared() -> Trail:
    """A preparation whose files would be gone in this moment, were its job not going on."""
    trail = Trail(job=a_job(constraints=AT_ONCE, release=False)).exit(0)
    trail.take(decide.ClockAdvanced())
    return trail


def kept_for_ever() -> Trail:
    trail = Trail(job=a_job(prep=False, constraints=s.JobConstraints(retention_time=UNLIMITED_RETENTION))).exit(0)
    trail.take(decide.ClockAdvanced())
    return trail


def runs_again_while_its_files_go() -> Trail:
    """The answers to all that was asked for come as they may: that to the launch first, if there was one."""
    trail = Trail(job=a_job(prep=False, constraints=AT_ONCE)).exit(1).do(decide.ClockAdvanced(), q.ReactivateTask(job="j", task="t"))
    while trail.executor.queues["p-1"]:
        trail.deliver("p-1")
    trail.report(len(trail.executor.reports) - 1)
    return trail


def deleted() -> Trail:
    return Trail(job=PLAIN).exit(0).do(q.DeleteJob(job="j"))


def deleted_while_it_runs() -> Trail:
    return Trail(job=PLAIN).arrive().do(q.DeleteTask(job="j", task="t"))


def reimaged() -> Trail:
    return Trail(job=a_job()).exit(0, 0).do(q.ReimageNode(node="p-1")).arrive()


def preparations_count_from_their_own_end() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, node: Any, job: Any, execution: Any, event: Any, at: Any) -> None:
        right(of, node, job, execution, event, at)
        if execution.kind == "preparation":
            folder = node.folders[job.id][execution.task]
            files._set_due(of, event.node, job.id, execution.task, folder, at, job.spec.constraints.retention_time)

    return around(files, "keep", wrong)


def unlimited_is_a_length() -> AbstractContextManager[None]:
    return swapped(files, "UNLIMITED_RETENTION", None)


def retention_ends_early() -> AbstractContextManager[None]:
    return around(deadlines, "due", lambda right, of, now: right(of, now + 30 * 24 * 3600 * SECOND))


def files_go_when_their_task_is_asked_to_go() -> AbstractContextManager[None]:
    def wrong(right: Any, of: world.World, request: q.DeleteTask) -> Iterator[e.Event]:
        for node in files.nodes_of(of.jobs[request.job], of.jobs[request.job].tasks[request.task]):
            yield e.FilesExpired(job=request.job, task=request.task, node=node, before=99)
        yield from right(of, request)

    return around(task, "delete", wrong)


def jobs_go_before_their_files() -> AbstractContextManager[None]:
    return swapped(files, "_index_wipe", lambda *_, **__: None)


CATALOGUE = [
    Planted(
        name="a preparation's retention counts from its own end",
        caught_by="files_are_kept_for_their_retention",
        bug=preparations_count_from_their_own_end,
        script=prepared,
    ),
    Planted(
        name="files that are to be kept without limit",
        caught_by="files_are_kept_for_their_retention",
        bug=unlimited_is_a_length,
        script=kept_for_ever,
    ),
    Planted(
        name="a retention that ends a month early",
        caught_by="files_are_kept_for_their_retention",
        bug=retention_ends_early,
        script=lambda: Trail(job=PLAIN).exit(0).do(TERMINATE, decide.ClockAdvanced()),
    ),
    Planted(
        name="files go while their task still runs",
        caught_by="nothing_lives_where_files_go",
        bug=files_go_when_their_task_is_asked_to_go,
        script=deleted_while_it_runs,
    ),
    Planted(
        name="a launch into a folder that is being removed",
        rare=True,
        caught_by="launches_wait_for_removals",
        bug=lambda: swapped(files, "waits", lambda *_: False),
        script=runs_again_while_its_files_go,
    ),
    Planted(name="a job is gone before its files", caught_by="no_job_goes_before_its_files", bug=jobs_go_before_their_files, script=deleted),
    Planted(
        name="a node remembers files that it was emptied of",
        caught_by="an_emptied_node_has_no_files",
        bug=lambda: swapped(files, "forget", lambda *_: None),
        script=reimaged,
    ),
]
