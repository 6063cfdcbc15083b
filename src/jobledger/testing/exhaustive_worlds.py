"""The small worlds that are explored: those of `make verify`, and the smaller ones of `make test`.

Each looks at a few things that may get in each other's way; all of them at once would have too many states.
"""

from typing import Final

from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.core.ids import SECOND, UNLIMITED_RETENTION, Duration, JobId, NodeId, PoolId, TaskId

from .exhaustive_steps import ANY_NODE, ANY_TASK, Bounds, Wish

A: Final = JobId("a")
B: Final = JobId("b")
PREPARE: Final = s.PreparationSpec(command_line="prepare")
RELEASE: Final = s.ReleaseSpec(command_line="release")
BLOCKS: Final = s.ExitConditions(default=s.ExitOptions(job_action="none", dependency_action="block"))


def _pool(nodes: int, slots: int = 1, start_task: s.StartTaskSpec | None = None) -> s.PoolSpec:
    return s.PoolSpec(id=PoolId("p"), nodes=nodes, task_slots_per_node=slots, start_task=start_task)


def _job(
    job: JobId = A,
    *,
    retries: int = 0,
    retry_delay: Duration | None = None,
    limit: Duration | None = None,
    preparation: s.PreparationSpec | None = PREPARE,
    release: s.ReleaseSpec | None = RELEASE,
    finalizer: s.FinalizerSpec | None = None,
    priority: int = 0,
    uses_dependencies: bool = False,
) -> s.JobSpec:
    """A job that ends with its last task, and whose files are kept until it is deleted."""
    return s.JobSpec(
        id=job,
        pool_info=s.PoolInfo(pool_id=PoolId("p")),
        priority=priority,
        constraints=s.JobConstraints(
            max_wall_clock_time=limit, max_task_retry_count=retries, retry_delay=retry_delay, retention_time=UNLIMITED_RETENTION
        ),
        job_preparation_task=preparation,
        job_release_task=release if preparation is not None else None,
        job_finalizer_task=finalizer,
        on_all_tasks_complete="terminatejob",
        uses_task_dependencies=uses_dependencies,
        on_task_failure="performexitoptionsjobaction" if uses_dependencies else "noaction",
    )


def _tasks(*ids: str, limit: Duration | None = None) -> tuple[s.TaskSpec, ...]:
    constraints = None if limit is None else s.TaskConstraints(max_wall_clock_time=limit)
    return tuple(s.TaskSpec(id=TaskId(task), command_line="work", constraints=constraints) for task in ids)


def _after(task: str, *others: str, conditions: s.ExitConditions | None = None) -> s.TaskSpec:
    depends_on = s.TaskDependencies(task_ids=tuple(TaskId(other) for other in others)) if others else None
    return s.TaskSpec(id=TaskId(task), command_line="work", depends_on=depends_on, exit_conditions=conditions)


REBOOT: Final = q.RebootNode(node=ANY_NODE)
TERMINATE: Final = q.TerminateJob(job=A)
DELETE: Final = q.DeleteJob(job=A)

WORLDS: Final = (
    Bounds(
        name="preparation-and-release",
        about="two tasks of a job with preparation and release; a preparation may fail, the engine dies once, the node is rebooted once",
        pool=_pool(1),
        jobs=((_job(), _tasks("t1", "t2")),),
        exit_codes={"preparation": (0, 1), "release": (0, 1)},
        crashes=1,
        wishes=(Wish(request=REBOOT),),
    ),
    Bounds(
        name="two-nodes-and-a-crash",
        about="a job with preparation and release on two nodes; a preparation may fail, and the engine dies once",
        pool=_pool(2),
        jobs=((_job(), _tasks("t1", "t2")),),
        exit_codes={"preparation": (0, 1)},
        crashes=1,
    ),
    Bounds(
        name="two-nodes-and-a-reboot",
        about="a job with preparation and release on two nodes, of which one is rebooted",
        pool=_pool(2),
        jobs=((_job(), _tasks("t1", "t2")),),
        wishes=(Wish(request=REBOOT),),
    ),
    Bounds(
        name="crash-and-reboot",
        about="a job with preparation and release on two nodes; the engine dies once, and a node is rebooted once",
        pool=_pool(2),
        jobs=((_job(), _tasks("t1", "t2")),),
        crashes=1,
        wishes=(Wish(request=REBOOT),),
    ),
    Bounds(
        name="three-tasks",
        about="three tasks on two nodes, each of which may fail and is retried once",
        pool=_pool(2),
        jobs=((_job(retries=1, preparation=None), _tasks("t1", "t2", "t3")),),
        exit_codes={"task": (0, 1)},
    ),
    Bounds(
        name="two-jobs",
        about="two jobs of two priorities share a node; the engine dies once, the node is rebooted once, and one job may be terminated",
        pool=_pool(1),
        jobs=((_job(), _tasks("t1")), (_job(B, priority=1), _tasks("u1"))),
        crashes=1,
        wishes=(Wish(request=REBOOT), Wish(request=TERMINATE)),
    ),
    Bounds(
        name="faults",
        about="a node is lost, wiped, preempted or unusable, and comes back or not; the engine dies once, and the job may be terminated",
        pool=_pool(1),
        jobs=((_job(), _tasks("t1")),),
        crashes=1,
        faults=1,
        fault_kinds=("lost", "wiped", "preempted", "unusable"),
        wishes=(Wish(request=TERMINATE),),
    ),
    Bounds(
        name="two-faults",
        about="a node is lost or wiped twice, and comes back or not",
        pool=_pool(1),
        jobs=((_job(), _tasks("t1")),),
        faults=2,
        fault_kinds=("lost", "wiped"),
    ),
    Bounds(
        name="power-cuts",
        about="a machine goes down by itself twice and comes up from another boot; the engine dies once, and the job may be terminated",
        pool=_pool(1),
        jobs=((_job(), _tasks("t1")),),
        crashes=1,
        power_cuts=2,
        wishes=(Wish(request=TERMINATE),),
    ),
    Bounds(
        name="two-nodes-one-lost",
        about="one of two nodes is lost, and comes back or not; the job may be deleted",
        pool=_pool(2),
        jobs=((_job(), _tasks("t1", "t2")),),
        faults=1,
        wishes=(Wish(request=DELETE),),
    ),
    Bounds(
        name="dependencies",
        about="a task waits for two others, whose failures block it or end the job; one retry each; the engine dies once, and a task may be reactivated",
        pool=_pool(1),
        jobs=(
            (
                _job(retries=1, preparation=None, uses_dependencies=True),
                (_after("t1", conditions=BLOCKS), _after("t2"), _after("t3", "t1", "t2")),
            ),
        ),
        exit_codes={"task": (0, 1)},
        crashes=1,
        wishes=(Wish(request=q.ReactivateTask(job=A, task=ANY_TASK)),),
    ),
    Bounds(
        name="finalizer-on-the-host",
        about="a job ends with its finalizer on the engine's host, which is rebooted once; the engine dies once, and the job may be terminated and deleted",
        pool=_pool(1),
        jobs=((_job(finalizer=s.FinalizerSpec(command_line="finalize")), _tasks("t1")),),
        exit_codes={"finalizer": (0, 1)},
        crashes=1,
        host_reboots=1,
        wishes=(Wish(request=TERMINATE), Wish(request=DELETE)),
    ),
    Bounds(
        name="finalizer-on-a-node",
        about="a job ends with its finalizer on a node, which is lost or rebooted; the engine dies once, and the job may be deleted",
        pool=_pool(1),
        jobs=((_job(finalizer=s.FinalizerSpec(command_line="finalize", node_id=NodeId("p-1"))), _tasks("t1")),),
        crashes=1,
        faults=1,
        wishes=(Wish(request=q.RebootNode(node=NodeId("p-1"))), Wish(request=DELETE)),
    ),
    Bounds(
        name="drains",
        about="a node drains for a reboot and for its removal, and is closed to tasks and opened again, each once; the engine dies once",
        pool=_pool(1),
        jobs=((_job(), _tasks("t1", "t2")),),
        crashes=1,
        wishes=(
            Wish(request=q.RebootNode(node=ANY_NODE, option="taskcompletion")),
            Wish(request=q.RemoveNode(node=ANY_NODE, option="taskcompletion")),
            Wish(request=q.DisableScheduling(node=ANY_NODE, option="terminate")),
            Wish(request=q.EnableScheduling(node=ANY_NODE)),
        ),
    ),
    Bounds(
        name="reimage-and-deallocate",
        about="a node is reimaged, which ends its tasks, deallocated and started again, each once; the engine dies once",
        pool=_pool(1),
        jobs=((_job(), _tasks("t1", "t2")),),
        crashes=1,
        wishes=(
            Wish(request=q.ReimageNode(node=ANY_NODE, option="terminate")),
            Wish(request=q.DeallocateNode(node=ANY_NODE)),
            Wish(request=q.StartNode(node=ANY_NODE)),
        ),
    ),
    Bounds(
        name="start-task",
        about="a node boots, with a start task that may fail and is retried once, while a job waits; it is rebooted twice, and the engine dies once",
        pool=_pool(1, start_task=s.StartTaskSpec(command_line="start", max_task_retry_count=1)),
        jobs=((_job(), _tasks("t1")),),
        exit_codes={"starttask": (0, 1)},
        booted=False,
        crashes=1,
        wishes=(Wish(request=REBOOT, times=2),),
    ),
    Bounds(
        name="disable-and-enable",
        about="a job is disabled in each way and enabled once, while the engine dies once",
        pool=_pool(1),
        jobs=((_job(), _tasks("t1")),),
        crashes=1,
        wishes=(
            Wish(request=q.DisableJob(job=A, disable_tasks="requeue")),
            Wish(request=q.DisableJob(job=A, disable_tasks="terminate")),
            Wish(request=q.DisableJob(job=A, disable_tasks="wait")),
            Wish(request=q.EnableJob(job=A)),
        ),
    ),
    Bounds(
        name="wishes-about-tasks",
        about="two tasks, one at a time, are terminated, deleted and reactivated while they wait, run or are over; the engine dies once",
        pool=_pool(1),
        jobs=((_job(preparation=None), _tasks("t1", "t2")),),
        exit_codes={"task": (0, 1)},
        crashes=1,
        wishes=(
            Wish(request=q.TerminateTask(job=A, task=ANY_TASK)),
            Wish(request=q.DeleteTask(job=A, task=ANY_TASK)),
            Wish(request=q.ReactivateTask(job=A, task=ANY_TASK)),
        ),
    ),
    Bounds(
        name="limits",
        about="a task, a retry's delay, a release and the job reach their limits in time, or end before; the engine dies once",
        pool=_pool(1),
        jobs=((_job(retries=1, retry_delay=Duration(SECOND), limit=Duration(600 * SECOND)), _tasks("t1", "t2", limit=Duration(60 * SECOND))),),
        exit_codes={"task": (0, 1)},
        crashes=1,
        clock=True,
    ),
    Bounds(
        name="late-and-twice",
        about="a command or report arrives twice, or long after what it is about is over, and a program cannot be launched; the node is rebooted once",
        pool=_pool(1),
        jobs=((_job(retries=1), _tasks("t1")),),
        exit_codes={"task": (0, 1)},
        repeats=1,
        lingering=1,
        failed_launches=1,
        wishes=(Wish(request=REBOOT), Wish(request=TERMINATE)),
    ),
)
"""What `make verify` explores."""

SMALL_WORLDS: Final = (
    Bounds(
        name="small",
        about="one job with preparation and release on one node; a task may fail and is retried once, the engine dies once, the node is rebooted once",
        pool=_pool(1),
        jobs=((_job(retries=1), _tasks("t1")),),
        exit_codes={"task": (0, 1)},
        crashes=1,
        wishes=(Wish(request=REBOOT),),
    ),
    Bounds(
        name="small-two-nodes",
        about="two tasks on two nodes, with preparation and release",
        pool=_pool(2),
        jobs=((_job(), _tasks("t1", "t2")),),
    ),
    Bounds(
        name="small-faults",
        about="a node is lost or wiped, and the job is deleted",
        pool=_pool(1),
        jobs=((_job(), _tasks("t1")),),
        faults=1,
        fault_kinds=("lost", "wiped"),
        wishes=(Wish(request=DELETE),),
    ),
)
"""What `make test` explores."""
