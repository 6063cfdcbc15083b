"""Walks over the core with Hypothesis: specs, requests, faults and a model executor as rules of one state machine.

    class TestMyWalk(CoreWalk.TestCase): ...                   # or run_state_machine_as_test(CoreWalk, settings=...)

1. Rules have preconditions on the world as it is, and pick what they act on from it, so that a walk gets somewhere; beside
   them stand rules for requests in wrong states, for reports that are stale, repeated or nonsense, and for the engine's death.
2. After each step `Stage` judges; at the end of a walk everything is driven to rest.
3. Subclass `CoreWalk` and give it `rows` to learn which rows of which tables were taken.
"""

from typing import Any, ClassVar

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from jobledger.core import limits
from jobledger.core import reports as r
from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.core.commands import RemoveFiles
from jobledger.core.decide import ClockAdvanced
from jobledger.core.ids import ENGINE_HOST, SECOND, Duration, ExecutionId, JobId, Micros, NodeId, PoolId

from .model import Fault
from .stage import RowTaken, Stage
from .strategies import (
    DEALLOCATE,
    DISABLE,
    DISABLE_SCHEDULING,
    ENABLE_SCHEDULING,
    EXIT_CODES,
    FAULTS,
    JOB_WISHES,
    JOBS,
    MOSTLY,
    NODE_WISHES,
    OPTIONS,
    PICK,
    PLAIN,
    POOLS,
    RARELY,
    REBOOT,
    REIMAGE,
    REMOVE,
    START,
    TASKS,
    JobWish,
    NodeWish,
    allowed,
    jobs,
    patches,
    pick,
    pools,
    task_lists,
)

ON_THEIR_WAY = ("creating", "starting", "waitingforstarttask", "starttaskfailed", "offline", "rebooting", "reimaging", "deallocating", "leavingpool")
GONE = ("deallocated", "unusable", "unknown", "preempted")
CALM = st.integers(0, 4)
"""Steps in which nothing disturbs."""
FIRST = evolve(PLAIN, pools=POOLS[:1])
"""What a walk begins with is of one pool."""


class CoreWalk(RuleBasedStateMachine):
    """One walk.  `rows` gathers what all walks of a class took."""

    rows: ClassVar[set[RowTaken]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(self.rows)
        self.nodes_return = True

    # --- beginning and end ---------------------------------------------------------------------------------

    @initialize(pool=pools(FIRST), job=jobs(FIRST), first=task_lists(least=1), steps=st.integers(0, 4), nodes_return=st.booleans())
    def begin(self, pool: s.PoolSpec, job: s.JobSpec, first: tuple[s.TaskSpec, ...], steps: int, nodes_return: bool) -> None:
        """A pool, most often up, and a job that may have come some way."""
        self.nodes_return = nodes_return
        self.stage.start_engine()
        self.stage.take(q.CreatePool(spec=pool))
        self._calm(min(steps, 2))
        self.stage.take(q.SubmitJob(spec=job, tasks=allowed(job, first)))
        self._calm(steps - 2)

    def teardown(self) -> None:
        """Whatever happened, it comes to its end, unless something broke on the way: then that is the finding."""
        if self.stage.broken is None:
            self.stage.rest(nodes_return=self.nodes_return)

    # --- work ----------------------------------------------------------------------------------------------

    @precondition(lambda self: any(self.stage.executor.queues.values()))
    @rule(number=PICK, again=RARELY, fails=RARELY, obeys=st.booleans(), uploads=MOSTLY)
    def a_command_arrives(self, number: int, again: bool, fails: bool, obeys: bool, uploads: bool) -> None:
        node = pick(number, [node for node, queue in self.stage.executor.queues.items() if queue])
        self.stage.deliver(node, again=again, launches=not fails, obeys=obeys, uploads=uploads)

    @precondition(lambda self: any(self.stage.executor.queues.values()))
    @rule()
    def all_commands_arrive(self) -> None:
        self._deliver_all()

    @precondition(lambda self: self.stage.executor.running())
    @rule(number=PICK, exit_code=EXIT_CODES, uploads=MOSTLY)
    def a_program_ends(self, number: int, exit_code: int, uploads: bool) -> None:
        self.stage.end(pick(number, self.stage.executor.running()), exit_code, uploads=uploads)

    @precondition(lambda self: self._uploading())
    @rule(number=PICK, exit_code=EXIT_CODES)
    def outputs_cannot_be_uploaded(self, number: int, exit_code: int) -> None:
        self.stage.end(pick(number, self._uploading()), exit_code, uploads=False)
        self._report_all()

    @precondition(lambda self: self._running("preparation", "starttask"))
    @rule(number=PICK)
    def a_preparation_or_start_task_fails(self, number: int) -> None:
        self.stage.end(pick(number, self._running("preparation", "starttask")), 1)
        self._report_all()

    @precondition(lambda self: self._running("task"))
    @rule(number=PICK, exit_code=st.sampled_from([1, 3]), patient=st.booleans())
    def a_task_fails(self, number: int, exit_code: int, patient: bool) -> None:
        """And perhaps the time of its next try is waited for."""
        self.stage.end(pick(number, self._running("task")), exit_code)
        self._report_all()
        if patient:
            self.stage.wake()

    @precondition(lambda self: self.stage.executor.reports)
    @rule(number=PICK, again=RARELY)
    def a_report_arrives(self, number: int, again: bool) -> None:
        self.stage.report(number % len(self.stage.executor.reports), again=again)

    @precondition(lambda self: self.stage.executor.reports)
    @rule()
    def all_reports_arrive(self) -> None:
        self._report_all()

    @precondition(lambda self: self._nodes_that_remove())
    @rule(number=PICK, again=RARELY, fails=RARELY, calm=st.integers(0, 2))
    def files_are_removed(self, number: int, again: bool, fails: bool, calm: int) -> None:
        self.stage.deliver(pick(number, self._nodes_that_remove()), again=again, launches=not fails)
        self._calm(calm)

    @precondition(lambda self: any(isinstance(report, r.ExecutionStarted) for report in self.stage.executor.reports))
    @rule(number=PICK)
    def the_report_of_a_start_is_lost(self, number: int) -> None:
        reports = self.stage.executor.reports
        reports.remove(pick(number, [report for report in reports if isinstance(report, r.ExecutionStarted)]))

    @rule()
    def what_can_start_starts(self) -> None:
        self._deliver_all()
        self._report_all()

    @rule(steps=st.integers(1, 3), exit_code=EXIT_CODES)
    def everything_goes_on(self, steps: int, exit_code: int) -> None:
        self._calm(steps, exit_code)

    @precondition(lambda self: self.stage.executor.running())
    @rule(number=PICK, length=st.sampled_from([SECOND, 5 * SECOND, 60 * SECOND]))
    def a_program_is_silent(self, number: int, length: int) -> None:
        """It says so of any program, long enough or not; that time has passed since its start is for the clock to say."""
        execution = pick(number, self.stage.executor.running())
        self.stage.now = Micros(self.stage.now + length)
        self.stage.take(r.ExecutionSilent(execution=execution, silent_for=Duration(length)))

    @precondition(lambda self: self.stage.executor.running())
    @rule(number=PICK, times=st.sampled_from([1, 1, 10]))
    def programs_are_stopped_unasked(self, number: int, times: int) -> None:
        """An executor stops what it was not asked to stop, and perhaps whatever takes its place."""
        for _ in range(times):
            if running := self.stage.executor.running():
                self.stage.executor.end(pick(number, running), 143, stopped=True)
                self._report_all()
                self._deliver_all()
                self._report_all()

    # --- time and death ------------------------------------------------------------------------------------

    @rule(length=st.sampled_from([None, Duration(SECOND), Duration(10 * SECOND), Duration(100 * SECOND), limits.RESIZE_TIMEOUT_MIN]))
    def time_passes(self, length: Duration | None) -> None:
        if length is None:
            self.stage.wake()
        else:
            self.stage.now = Micros(self.stage.now + length)
            self.stage.take(ClockAdvanced())

    @rule()
    def the_engine_dies(self) -> None:
        self.stage.crash()

    @rule()
    def the_host_of_the_engine_is_rebooted(self) -> None:
        self.stage.restart_host()

    @precondition(lambda self: self._running("finalizer"))
    @rule(number=PICK, wish=st.sampled_from([REBOOT, REIMAGE, REMOVE, None]), option=OPTIONS, calm=CALM)
    def what_runs_a_finalizer_goes_down(self, number: int, wish: NodeWish | None, option: s.NodeOption, calm: int) -> None:
        node = self.stage.executor.programs[pick(number, self._running("finalizer"))].launch.node
        if node == ENGINE_HOST:
            self.stage.restart_host()
        elif wish is None:
            self.stage.executor.cut_power(node)
        else:
            self.stage.take(wish(node, option))
        self._calm(calm)

    # --- jobs and tasks ------------------------------------------------------------------------------------

    @rule(spec=jobs(), first=task_lists(), calm=CALM)
    def submit(self, spec: s.JobSpec, first: tuple[s.TaskSpec, ...], calm: int) -> None:
        self.stage.take(q.SubmitJob(spec=spec, tasks=allowed(spec, first)))
        self._calm(calm)

    @precondition(lambda self: self.stage.world.jobs)
    @rule(number=PICK, more=task_lists(least=1), calm=CALM)
    def add_tasks(self, number: int, more: tuple[s.TaskSpec, ...], calm: int) -> None:
        job = self.stage.world.jobs[pick(number, list(self.stage.world.jobs))]
        self.stage.take(q.AddTasks(job=job.id, tasks=allowed(job.spec, more)))
        self._calm(calm)

    @rule(wish=JOB_WISHES, number=PICK, what=DISABLE)
    def a_wish_about_a_job(self, wish: JobWish, number: int, what: s.DisableTasks) -> None:
        self._wish_of_job(wish, pick(number, [*self.stage.world.jobs, *self.stage.world.jobs, JobId("no-such-job")]), what)

    @precondition(lambda self: self.stage.world.jobs)
    @rule(number=PICK, change=patches(), pool=st.sampled_from([None, None, None, *POOLS]), calm=CALM)
    def patch(self, number: int, change: dict[str, Any], pool: PoolId | None, calm: int) -> None:
        info = None if pool is None else s.PoolInfo(pool_id=pool)
        self.stage.take(q.PatchJob(job=pick(number, list(self.stage.world.jobs)), pool_info=info, **change))
        self._calm(calm)

    @precondition(lambda self: self._jobs_in("disabling", "disabled", "enabling"))
    @rule(number=PICK, pool=st.sampled_from(POOLS), enable=st.booleans())
    def move_to_another_pool(self, number: int, pool: PoolId, enable: bool) -> None:
        job = pick(number, self._jobs_in("disabling", "disabled", "enabling"))
        self.stage.take(q.PatchJob(job=job, pool_info=s.PoolInfo(pool_id=pool)))
        if enable:
            self.stage.take(q.EnableJob(job=job))

    @precondition(lambda self: self._jobs_in("disabling", "disabled", "enabling", "terminating"))
    @rule(number=PICK, wish=st.sampled_from([q.EnableJob, q.EnableJob, q.TerminateJob, q.DeleteJob]))
    def a_wish_about_a_job_on_its_way(self, number: int, wish: JobWish) -> None:
        self._wish_of_job(wish, pick(number, self._jobs_in("disabling", "disabled", "enabling", "terminating")), "wait")

    @precondition(lambda self: self._blocked())
    @rule(wish=JOB_WISHES, what=DISABLE)
    def a_wish_about_a_blocked_job(self, wish: JobWish, what: s.DisableTasks) -> None:
        self._wish_of_job(wish, self._blocked()[0], what)

    @precondition(lambda self: any(job.tasks for job in self.stage.world.jobs.values()))
    @rule(number=PICK, wish=st.sampled_from([q.TerminateTask, q.DeleteTask, q.ReactivateTask, q.ReactivateTask]))
    def a_wish_about_a_task(self, number: int, wish: type[q.TerminateTask] | type[q.DeleteTask] | type[q.ReactivateTask]) -> None:
        job, task = pick(number, [(job.id, task) for job in self.stage.world.jobs.values() for task in job.tasks])
        self.stage.take(wish(job=job, task=task))

    # --- pools and nodes -----------------------------------------------------------------------------------

    @rule(spec=pools(), calm=CALM)
    def create_pool(self, spec: s.PoolSpec, calm: int) -> None:
        self.stage.take(q.CreatePool(spec=spec))
        self._calm(calm)

    @precondition(lambda self: self.stage.world.pools)
    @rule(number=PICK, nodes=st.sampled_from([0, 1, 2, 3, 3, -1, None]), option=OPTIONS)
    def resize_or_delete_a_pool(self, number: int, nodes: int | None, option: s.NodeOption) -> None:
        pool = pick(number, list(self.stage.world.pools))
        if nodes is None:
            self.stage.take(q.DeletePool(pool=pool))
        else:
            self.stage.take(q.ResizePool(pool=pool, target=nodes, option=option))

    @precondition(lambda self: any(pool.allocation != "steady" for pool in self.stage.world.pools.values()))
    @rule(number=PICK)
    def stop_resize(self, number: int) -> None:
        self.stage.take(q.StopResize(pool=pick(number, list(self.stage.world.pools))))

    @precondition(lambda self: self.stage.world.nodes)
    @rule(number=PICK, wish=NODE_WISHES, option=OPTIONS)
    def a_wish_about_a_node(self, number: int, wish: NodeWish, option: s.NodeOption) -> None:
        self.stage.take(wish(pick(number, list(self.stage.world.nodes)), option))

    @precondition(lambda self: self._nodes_in(*ON_THEIR_WAY, *GONE))
    @rule(number=PICK, wish=st.sampled_from([REMOVE, REBOOT, START, ENABLE_SCHEDULING]), option=OPTIONS)
    def a_wish_about_a_node_on_its_way(self, number: int, wish: NodeWish, option: s.NodeOption) -> None:
        self.stage.take(wish(pick(number, self._nodes_in(*ON_THEIR_WAY, *GONE)), option))

    @precondition(lambda self: self._nodes_in("running"))
    @rule(number=PICK, wish=st.sampled_from([REBOOT, REIMAGE, REMOVE, DEALLOCATE, DISABLE_SCHEDULING]), option=OPTIONS)
    def a_wish_about_a_busy_node(self, number: int, wish: NodeWish, option: s.NodeOption) -> None:
        self.stage.take(wish(pick(number, self._nodes_in("running")), option))

    @precondition(lambda self: self._draining())
    @rule(number=PICK, wish=NODE_WISHES, option=OPTIONS)
    def a_wish_about_a_draining_node(self, number: int, wish: NodeWish, option: s.NodeOption) -> None:
        self.stage.take(wish(pick(number, self._draining()), option))

    # --- faults --------------------------------------------------------------------------------------------

    @precondition(lambda self: self.stage.world.nodes)
    @rule(number=PICK, fault=FAULTS)
    def a_node_fails(self, number: int, fault: Fault) -> None:
        self.stage.take(self.stage.executor.fault(pick(number, list(self.stage.world.nodes)), fault))

    @precondition(lambda self: self._nodes_in(*ON_THEIR_WAY))
    @rule(number=PICK, fault=FAULTS)
    def a_node_fails_on_its_way(self, number: int, fault: Fault) -> None:
        self.stage.take(self.stage.executor.fault(pick(number, self._nodes_in(*ON_THEIR_WAY)), fault))

    @precondition(lambda self: self._nodes_in("unusable", "unknown", "preempted"))
    @rule(calm=CALM)
    def failed_nodes_come_back(self, calm: int) -> None:
        self.stage.bring_back()
        self._calm(calm)

    @precondition(lambda self: self._machines_up())
    @rule(number=PICK)
    def a_machine_loses_its_power(self, number: int) -> None:
        self.stage.executor.cut_power(pick(number, self._machines_up()))

    # --- stale and nonsense --------------------------------------------------------------------------------

    @rule(number=st.integers(0, 60), exit_code=EXIT_CODES, kind=st.sampled_from(["started", "exited", "notstarted", "lost"]))
    def a_report_of_no_live_execution(self, number: int, exit_code: int, kind: str) -> None:
        execution = ExecutionId(number)
        if execution in self.stage.world.executions:
            return
        said: dict[str, r.Report] = {
            "started": r.ExecutionStarted(execution=execution),
            "exited": r.ExecutionExited(execution=execution, exit_code=exit_code),
            "notstarted": r.ExecutionNotStarted(execution=execution),
            "lost": r.ExecutionLost(execution=execution, reason="nonsense"),
        }
        self._ignored(said[kind])

    @rule(number=PICK, off=st.sampled_from([-1, 1, 7]), fault=FAULTS)
    def a_report_of_another_removal_incarnation_or_node(self, number: int, off: int, fault: Fault) -> None:
        nodes = [(node.id, node.incarnation) for node in self.stage.world.nodes.values()]
        node, incarnation = pick(number, [*nodes, (NodeId("no-such-node"), 1)])
        self._ignored(r.NodeReady(node=node, boot_id="boot-of-yore", incarnation=incarnation + off))
        self._ignored(r.NodeRetired(node=node, incarnation=incarnation + off))
        self._ignored(r.NodeFaulted(node=NodeId("no-such-node"), fault=fault, reason="nonsense"))
        self._ignored(r.NodeReallocated(node=NodeId("no-such-node")))
        for job in JOBS:
            for task in (None, *TASKS):
                self._ignored(r.FilesRemoved(node=node, job=job, task=task, before=ExecutionId(0)))

    # --- helpers -------------------------------------------------------------------------------------------

    def _calm(self, steps: int, exit_code: int = 0) -> None:
        """Let everything go on undisturbed for some steps: what can start starts and what runs ends, in turns."""
        for step in range(steps):
            self._deliver_all()
            self._report_all()
            if step % 2:
                for execution in self.stage.executor.running():
                    self.stage.end(execution, exit_code)
                self._report_all()

    def _deliver_all(self) -> None:
        for node, queue in list(self.stage.executor.queues.items()):
            for _ in list(queue):
                self.stage.deliver(node)

    def _report_all(self) -> None:
        while self.stage.executor.reports:
            self.stage.report(0)

    def _wish_of_job(self, wish: JobWish, job: JobId, what: s.DisableTasks) -> None:
        self.stage.take(q.DisableJob(job=job, disable_tasks=what) if wish is None else wish(job=job))

    def _ignored(self, report: r.Report) -> None:
        if self.stage.take(report):
            raise AssertionError(f"{report} was not ignored")

    def _running(self, *kinds: str) -> list[ExecutionId]:
        executor = self.stage.executor
        return [execution for execution in executor.running() if executor.programs[execution].kind in kinds]

    def _uploading(self) -> list[ExecutionId]:
        executor = self.stage.executor
        return [execution for execution in executor.running() if executor.programs[execution].launch.output_files]

    def _jobs_in(self, *states: str) -> list[JobId]:
        return [job.id for job in self.stage.world.jobs.values() if job.state in states]

    def _blocked(self) -> list[JobId]:
        return [job.id for job in self.stage.world.jobs.values() if job.blocked]

    def _nodes_in(self, *states: str) -> list[NodeId]:
        return [node.id for node in self.stage.world.nodes.values() if node.state in states]

    def _draining(self) -> list[NodeId]:
        return [node.id for node in self.stage.world.nodes.values() if node.draining is not None]

    def _nodes_that_remove(self) -> list[NodeId]:
        return [node for node, queue in self.stage.executor.queues.items() if queue and isinstance(queue[0], RemoveFiles)]

    def _machines_up(self) -> list[NodeId]:
        return [node for node, machine in self.stage.executor.machines.items() if machine.up and machine.reachable and node != ENGINE_HOST]
