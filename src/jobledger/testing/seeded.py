"""Specifications and requests by a seed alone, for tests that must do the same thing each time without Hypothesis."""

import random
from collections.abc import Callable
from typing import Final

from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.core.ids import SECOND, Duration, JobId, NodeId, PoolId, Retention, TaskId
from jobledger.core.world import World

from .stand_in import command_line

JOBS: Final = [JobId("a"), JobId("b")]
TASKS: Final = [TaskId("t1"), TaskId("t2"), TaskId("t3"), TaskId("t4")]
NEVER_S: Final = 10.0**6
"""What runs so long ends only when it is stopped."""
_TASK_WISHES: Final[list[Callable[..., q.Request]]] = [q.TerminateTask, q.DeleteTask, q.ReactivateTask]
_NODE_RETURNS: Final[list[Callable[..., q.Request]]] = [q.EnableScheduling, q.StartNode]
_NODE_WISHES: Final[list[Callable[..., q.Request]]] = [
    q.RebootNode,
    q.RebootNode,
    q.ReimageNode,
    q.ReimageNode,
    q.DisableScheduling,
    q.DeallocateNode,
    q.RemoveNode,
]


class SeededSpecs:
    """Chooses by `chance`; what is asked most often makes sense in the world as it is."""

    def __init__(self, chance: random.Random) -> None:
        self._chance: Final = chance

    def request(self, world: World) -> q.Request:
        """What somebody might ask now."""
        choose, jobs, nodes = self._chance.choice, list(world.jobs) or JOBS, list(world.nodes) or [NodeId("p-1")]
        what = self._chance.choices(
            ["submit", "add", "terminate", "delete", "disable", "enable", "task", "node", "pool", "patch"], [8, 4, 2, 2, 1, 2, 3, 4, 1, 1]
        )[0]
        job, node = choose(jobs), choose(nodes)
        match what:
            case "submit":
                return q.SubmitJob(spec=self.job(choose(JOBS)), tasks=self.tasks())
            case "add":
                return q.AddTasks(job=job, tasks=self.tasks() or (self._task(TASKS[0]),))
            case "terminate":
                return q.TerminateJob(job=job)
            case "delete":
                return q.DeleteJob(job=job)
            case "disable":
                return q.DisableJob(job=job, disable_tasks=choose(["requeue", "terminate", "wait"]))
            case "enable":
                return q.EnableJob(job=job)
            case "task":
                of_task = choose(_TASK_WISHES)
                return of_task(job=job, task=choose(TASKS))
            case "node":
                if self._chance.random() < 0.3:
                    back = choose(_NODE_RETURNS)
                    return back(node=node)
                wish = choose(_NODE_WISHES)
                return wish(node=node, option=choose(["requeue", "terminate", "taskcompletion"]))
            case "pool":
                return q.ResizePool(pool=PoolId("p"), target=choose([0, 1, 2, 3]))
            case _:
                return q.PatchJob(job=job, priority=choose([0, 1, 2]), max_parallel_tasks=choose([-1, 1]))

    def pool(self, name: PoolId) -> s.PoolSpec:
        """A pool of one to three nodes."""
        choose = self._chance.choice
        start = s.StartTaskSpec(command_line=self._line(), max_task_retry_count=1) if self._rarely() else None
        return s.PoolSpec(id=name, nodes=choose([1, 2, 3]), task_slots_per_node=choose([1, 2]), start_task=start)

    def job(self, name: JobId) -> s.JobSpec:
        """A job, most often with preparation and release."""
        choose, prepares = self._chance.choice, self._chance.random() < 0.8
        preparation = s.PreparationSpec(command_line=self._line(), wait_for_success=choose([True, True, False])) if prepares else None
        release = s.ReleaseSpec(command_line=self._line(), release_scope=choose(["taskRan", "taskRan", "prepared", "attempted"]))
        return s.JobSpec(
            id=name,
            pool_info=s.PoolInfo(pool_id=PoolId("p")),
            priority=choose([0, 1]),
            constraints=s.JobConstraints(max_task_retry_count=choose([0, 1, 2]), retention_time=choose([Retention(0), Retention(3600 * SECOND)])),
            job_preparation_task=preparation,
            job_release_task=release if prepares and not self._rarely() else None,
            on_all_tasks_complete=choose(["noaction", "terminatejob"]),
            uses_task_dependencies=True,
            job_finalizer_task=s.FinalizerSpec(command_line=self._line()) if self._rarely() else None,
        )

    def tasks(self) -> tuple[s.TaskSpec, ...]:
        """Up to four tasks."""
        return tuple(self._task(name) for name in TASKS if self._chance.random() < 0.6)

    def _task(self, name: TaskId) -> s.TaskSpec:
        choose = self._chance.choice
        limits = s.TaskConstraints(
            max_wall_clock_time=choose([None, Duration(20 * SECOND)]),
            max_task_retry_count=choose([0, 1]),
            retry_delay=choose([None, Duration(5 * SECOND)]),
            silent_timeout=choose([None, None, Duration(8 * SECOND)]),
        )
        after = s.TaskDependencies(task_ids=(choose(TASKS),)) if self._rarely() else None
        return s.TaskSpec(id=name, command_line=self._line(), constraints=choose([None, limits]), depends_on=after)

    def _line(self) -> str:
        return command_line(self._chance.choice([0, 0, 0, 1]), self._chance.choice([0, 0, 0.5, 2, 10, 40, NEVER_S]))

    def _rarely(self) -> bool:
        return self._chance.random() < 0.2
