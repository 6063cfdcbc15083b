"""Walks over the whole core under all judges, and the proof that they go everywhere: every row of every table is taken."""

from typing import ClassVar

import pytest
from hypothesis.stateful import run_state_machine_as_test

from jobledger.core.decide import ClockAdvanced
from jobledger.core.ids import SECOND, Duration
from jobledger.core.machines import MACHINES
from jobledger.core.reports import ExecutionNotStarted
from jobledger.core.requests import (
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
from jobledger.core.specs import (
    FinalizerSpec,
    JobConstraints,
    JobSpec,
    PoolInfo,
    PreparationSpec,
    ReleaseSpec,
    StartTaskSpec,
    TaskConstraints,
    TaskSpec,
)
from jobledger.testing.stage import RowTaken
from jobledger.testing.trail import Trail
from jobledger.testing.walks import CoreWalk


def job(name="j", *, prep=True, **more):
    return JobSpec(
        id=name,
        pool_info=PoolInfo(pool_id="p"),
        job_preparation_task=PreparationSpec(command_line="prepare") if prep else None,
        job_release_task=ReleaseSpec(command_line="release") if prep else None,
        **more,
    )


START = StartTaskSpec(command_line="start", max_task_retry_count=1)
PATIENT = "taskcompletion"


def busy(rows):
    """A node with a task that runs and another that waits for the preparation of its job."""
    more = job("k", on_all_tasks_complete="terminatejob")
    trail = Trail(rows, slots=2, job=job(prep=False)).arrive()
    return trail.do(SubmitJob(spec=more, tasks=(TaskSpec(id="t", command_line="work"),))).arrive()


def releasing(rows):
    """A node that is idle while a release runs there."""
    return Trail(rows, job=job()).exit(0, 0).do(TerminateJob(job="j")).arrive()


# How the node p-1 comes into each state, on a trail whose node is up and idle unless `boot` says otherwise.
NODE_STATES = {
    "creating": lambda rows: Trail(rows, boot=False),
    "waitingforstarttask": lambda rows: Trail(rows, start_task=START),
    "starttaskfailed": lambda rows: Trail(rows, start_task=START).exit(1, 1),
    "idle": lambda rows: Trail(rows),
    "running": lambda rows: Trail(rows, job=job(prep=False)).arrive(),
    "offline": lambda rows: Trail(rows).do(DisableScheduling(node="p-1")),
    "rebooting": lambda rows: Trail(rows).do(RebootNode(node="p-1")),
    "reimaging": lambda rows: Trail(rows).do(ReimageNode(node="p-1")),
    "unusable": lambda rows: Trail(rows).fail("unusable"),
    "unknown": lambda rows: Trail(rows).fail("lost"),
    "preempted": lambda rows: Trail(rows).fail("preempted"),
    "deallocating": lambda rows: Trail(rows).do(DeallocateNode(node="p-1")),
    "deallocated": lambda rows: Trail(rows).do(DeallocateNode(node="p-1")).arrive(),
    "starting": lambda rows: Trail(rows).do(DeallocateNode(node="p-1")).arrive().do(StartNode(node="p-1")),
    "leavingpool": lambda rows: Trail(rows).do(RemoveNode(node="p-1")),
    "running, draining": lambda rows: busy(rows).do(DeallocateNode(node="p-1", option=PATIENT)),
    "running, draining to leave": lambda rows: busy(rows).do(RemoveNode(node="p-1", option=PATIENT)),
    "idle, draining": lambda rows: releasing(rows).do(DeallocateNode(node="p-1", option=PATIENT)),
    "offline, draining": lambda rows: releasing(rows).do(DeallocateNode(node="p-1", option=PATIENT), DisableScheduling(node="p-1")),
    "offline, draining to leave": lambda rows: releasing(rows).do(DisableScheduling(node="p-1"), RemoveNode(node="p-1", option=PATIENT)),
}


def of_nodes(rows, state):
    """All that may be wished of a node or happen to it, in one state."""
    for wish in NODE_WISHES:
        trail = NODE_STATES[state](rows)
        assert trail.world.nodes["p-1"].state == state.partition(",")[0]
        assert (trail.world.nodes["p-1"].draining is not None) == ("draining" in state)
        trail.take(wish)
        trail.rest()
    trail = NODE_STATES[state](rows)
    trail.wake()
    trail.rest()
    for fault in ("unusable", "lost", "preempted", "wiped"):
        trail = NODE_STATES[state](rows)
        trail.take(trail.executor.fault("p-1", fault))
        trail.rest()
    trail = NODE_STATES[state](rows)
    if "p-1" in trail.executor.machines:
        trail.executor.cut_power("p-1")
    trail.rest()


OPTIONS = ("requeue", "terminate", PATIENT)
NODE_WISHES = [
    *(wish(node="p-1", option=option) for wish in (RebootNode, ReimageNode, DeallocateNode, RemoveNode, DisableScheduling) for option in OPTIONS),
    StartNode(node="p-1"),
    EnableScheduling(node="p-1"),
    DeletePool(pool="p"),
    *(ResizePool(pool="p", target=0, option=option) for option in OPTIONS),
    StopResize(pool="p"),
]

# How the job j comes into each state, with a task that runs on p-1.
JOB_STATES = {
    "active": lambda rows: Trail(rows, job=job(prep=False)).arrive(),
    "blocked": lambda rows: Trail(rows, job=job()).exit(1),
    "preparing": lambda rows: Trail(rows, job=job()).arrive(),
    "disabling": lambda rows: Trail(rows, job=job(prep=False)).arrive().do(DISABLE),
    "disabled": lambda rows: Trail(rows, job=job(prep=False)).arrive().do(DISABLE).arrive(),
    "enabling": lambda rows: Trail(rows, job=job(prep=False)).arrive().do(DISABLE, EnableJob(job="j")),
    "terminating": lambda rows: Trail(rows, job=job(prep=False)).arrive().do(TerminateJob(job="j")),
    "releasing": lambda rows: Trail(rows, job=job()).exit(0, 0).do(TerminateJob(job="j")).arrive(),
    "finalizing": lambda rows: finalizing(rows, None),
    "finalizing on p-1": lambda rows: finalizing(rows, "p-1"),
    "completed": lambda rows: Trail(rows, job=job(prep=False)).arrive().do(TerminateJob(job="j")).arrive(),
    "failed": lambda rows: Trail(rows, job=job(prep=False)).exit(1),
    "waiting for a retry": lambda rows: Trail(rows, job=job(prep=False), tasks=(TaskSpec(id="t", command_line="work", constraints=DELAYED),)).exit(1),
    "deleting": lambda rows: Trail(rows, job=job(prep=False)).arrive().do(DeleteJob(job="j")),
}


def finalizing(rows, node):
    """A job without tasks whose finalizer runs, on the engine's host or on a node."""
    trail = Trail(rows, job=job(prep=False, job_finalizer_task=FinalizerSpec(command_line="finalize", node_id=node)), tasks=())
    trail.start_engine()
    return trail.do(TerminateJob(job="j")).arrive()


DELAYED = TaskConstraints(max_task_retry_count=1, retry_delay=Duration(60 * SECOND))
DISABLE = DisableJob(job="j", disable_tasks="requeue")
OF_TASK = {"job": "j", "task": "t"}
WISHES = [
    PatchJob(job="j", priority=7, max_parallel_tasks=1, on_all_tasks_complete="terminatejob"),
    PatchJob(job="j", constraints=JobConstraints(max_wall_clock_time=1)),
    PatchJob(job="j", pool_info=PoolInfo(pool_id="elsewhere")),
    TerminateJob(job="j"),
    DeleteJob(job="j"),
    DISABLE,
    DisableJob(job="j", disable_tasks="terminate"),
    EnableJob(job="j"),
    TerminateTask(**OF_TASK),
    DeleteTask(**OF_TASK),
    ReactivateTask(**OF_TASK),
    ReimageNode(node="p-1"),
    RebootNode(node="p-1"),
    RemoveNode(node="p-1"),
]


def of_jobs(rows, state):
    """All that may be wished of a job, of its task or of the node that it is on, in one state."""
    for wish in WISHES:
        trail = JOB_STATES[state](rows)
        trail.take(wish)
        trail.rest()
    trail = JOB_STATES[state](rows)
    trail.wake()
    trail.rest()
    trail = JOB_STATES[state](rows)
    trail.restart_host()
    trail.rest()


def expiring(rows):
    """A trail on which the folder of a failed task is to be removed, and the node has not been told yet."""
    at_once = JobConstraints(retention_time=0)
    return Trail(rows, job=job(prep=False, constraints=at_once)).exit(1).do(ClockAdvanced())


def deleted_while_lost(rows):
    """A trail on which a job is gone and its node, which was lost, is up again and has still to remove its files."""
    trail = Trail(rows, job=job(prep=False)).exit(0).fail("lost").do(DeleteJob(job="j"))
    assert not trail.world.jobs
    trail.bring_back()
    while trail.world.nodes["p-1"].state != "idle":
        trail.deliver("p-1")
        trail.report(0)
    return trail


AGAIN = SubmitJob(spec=job(prep=False), tasks=(TaskSpec(id="t", command_line="work"),))

# What may happen around a folder that is being removed; each leaves it to `rest` to bring all to its end.
FILES = {
    "its task runs again": lambda rows: expiring(rows).do(ReactivateTask(**OF_TASK)),
    "its task runs again and is terminated": lambda rows: stopped_first(expiring(rows).do(ReactivateTask(**OF_TASK), TerminateTask(**OF_TASK))),
    "its task runs again and the node is lost": lambda rows: expiring(rows).do(ReactivateTask(**OF_TASK)).fail("lost"),
    "its task is deleted": lambda rows: Trail(rows, job=job(prep=False)).exit(0).do(DeleteTask(**OF_TASK)),
    "its job is deleted": lambda rows: expiring(rows).do(DeleteJob(job="j")),
    "its node is reimaged": lambda rows: expiring(rows).do(ReimageNode(node="p-1")),
    "its node is removed": lambda rows: expiring(rows).do(RemoveNode(node="p-1")),
    "its node reboots": lambda rows: expiring(rows).do(RebootNode(node="p-1")),
    "its node was down when the job went": deleted_while_lost,
    "a job of the same id begins": lambda rows: deleted_while_lost(rows).do(AGAIN),
    "a job of the same id is deleted too": lambda rows: stopped_first(deleted_while_lost(rows).do(AGAIN, DeleteJob(job="j"))),
}


def stopped_first(trail):
    """Let the answer to a stop arrive before that to a removal."""
    while trail.executor.queues["p-1"]:
        trail.deliver("p-1")
    trail.report(next(number for number, report in enumerate(trail.executor.reports) if isinstance(report, ExecutionNotStarted)))
    return trail


@pytest.mark.parametrize("what", FILES)
def test_whatever_happens_around_files_that_go_breaks_nothing(what):
    FILES[what](set()).rest()


@pytest.mark.parametrize("state", NODE_STATES)
def test_whatever_happens_to_a_node_in_any_state_breaks_nothing(state):
    of_nodes(set(), state)


@pytest.mark.parametrize("state", JOB_STATES)
def test_whatever_is_wished_of_a_job_in_any_state_breaks_nothing(state):
    of_jobs(set(), state)


def test_walks_break_nothing_and_trails_and_walks_take_every_row_of_every_table(walking):
    class Walk(CoreWalk):
        rows: ClassVar[set[RowTaken]] = set()

    run_state_machine_as_test(Walk, settings=walking)
    for state in NODE_STATES:
        of_nodes(Walk.rows, state)
    for state in JOB_STATES:
        of_jobs(Walk.rows, state)
    for what in FILES:
        FILES[what](Walk.rows).rest()
    rows = {(machine.name, row.source, row.trigger) for machine in MACHINES.values() for row in machine.rows}
    missing = sorted(rows - Walk.rows)
    assert not missing, f"{len(missing)} rows of {len(rows)} were never taken: " + "; ".join(map(" ".join, missing))
