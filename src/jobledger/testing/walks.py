"""Walks over the core with Hypothesis: specs, requests, faults and a model executor as rules of one state machine.

    class TestMyWalk(CoreWalk.TestCase): ...                   # or run_state_machine_as_test(CoreWalk, settings=...)

1. Rules have preconditions on the world as it is, and pick what they act on from it, so that a walk gets somewhere; beside
   them stand rules for requests in wrong states, for reports that are stale, repeated or nonsense, and for the engine's death.
2. After each step `Stage` judges; at the end of a walk everything is driven to rest.
3. Subclass `CoreWalk` and give it `rows` to learn which rows of which tables were taken.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from jobledger.core import limits
from jobledger.core import reports as r
from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.core.commands import RemoveFiles
from jobledger.core.decide import ClockAdvanced
from jobledger.core.ids import (
    ENGINE_HOST,
    SECOND,
    UNLIMITED_RETENTION,
    Duration,
    ExecutionId,
    JobId,
    Micros,
    NodeId,
    PoolId,
    Retention,
    TaskId,
)

from .model import Fault
from .stage import RowTaken, Stage

T = TypeVar("T")

POOLS = [PoolId("p"), PoolId("q")]
JOBS = [JobId("a"), JobId("b"), JobId("c")]
TASKS = [TaskId("t1"), TaskId("t2"), TaskId("t3"), TaskId("4"), TaskId("04")]
RETRIES = st.sampled_from([0, 1, 2, -1])
JOB_LIMITS = st.sampled_from([None, None, None, Duration(60 * SECOND)])
LIMITS = st.sampled_from([None, None, Duration(2 * SECOND), Duration(20 * SECOND)])
RETENTIONS = st.sampled_from([None, None, Retention(0), Retention(20 * SECOND), UNLIMITED_RETENTION])
EXIT_CODES = st.sampled_from([0, 0, 0, 1, 3])
ON_THEIR_WAY = ("creating", "starting", "waitingforstarttask", "starttaskfailed", "offline", "rebooting", "reimaging", "deallocating", "leavingpool")
GONE = ("deallocated", "unusable", "unknown", "preempted")
RARELY = st.sampled_from([False, False, False, True])
MOSTLY = st.sampled_from([True, True, True, True, True, False])
CALM = st.integers(0, 4)
"""Steps in which nothing disturbs."""
PICK = st.integers(min_value=0, max_value=11)
"""Which of the things that are there: taken modulo their number."""

FAULTS: st.SearchStrategy[Fault] = st.sampled_from(["unusable", "lost", "preempted", "wiped"])
DISABLE: st.SearchStrategy[s.DisableTasks] = st.sampled_from(["requeue", "terminate", "wait"])
JobWish = type[q.TerminateJob] | type[q.DeleteJob] | type[q.EnableJob] | None
"""None is to disable it."""
JOB_WISHES: st.SearchStrategy[JobWish] = st.sampled_from([q.TerminateJob, q.DeleteJob, q.EnableJob, None, None])
OPTIONS: st.SearchStrategy[s.NodeOption] = st.sampled_from(["requeue", "terminate", "taskcompletion", "taskcompletion"])
NodeWish = Callable[[NodeId, s.NodeOption], q.Request]
REBOOT: NodeWish = lambda node, option: q.RebootNode(node=node, option=option)  # noqa: E731 - a wish in a list of wishes
REIMAGE: NodeWish = lambda node, option: q.ReimageNode(node=node, option=option)  # noqa: E731 - the same
REMOVE: NodeWish = lambda node, option: q.RemoveNode(node=node, option=option)  # noqa: E731 - the same
DEALLOCATE: NodeWish = lambda node, option: q.DeallocateNode(node=node, option=option)  # noqa: E731 - the same
START: NodeWish = lambda node, _: q.StartNode(node=node)  # noqa: E731 - the same
DISABLE_SCHEDULING: NodeWish = lambda node, option: q.DisableScheduling(node=node, option=option)  # noqa: E731 - the same
ENABLE_SCHEDULING: NodeWish = lambda node, _: q.EnableScheduling(node=node)  # noqa: E731 - the same
NODE_WISHES: st.SearchStrategy[NodeWish] = st.sampled_from(
    [REBOOT, REIMAGE, REBOOT, REIMAGE, REMOVE, DEALLOCATE, START, DISABLE_SCHEDULING, ENABLE_SCHEDULING]
)

DELAYS = st.sampled_from([(0, None), (0, None), (2 * SECOND, None), (2 * SECOND, 3 * SECOND)])
"""Delays between retries, with the longest."""
SILENCES = st.sampled_from([None, None, Duration(5 * SECOND)])
RESOURCES = st.sampled_from([(), (s.ResourceFile(http_url="http://data/x", file_path="x"),)])
_CONTAINER = s.OutputFileContainer(container_url="/outputs")
OUTPUTS = st.sampled_from([(), (s.OutputFile(file_pattern="*", destination=s.OutputFileDestination(container=_CONTAINER)),)])
PACKAGES = st.sampled_from([(), (), (s.ApplicationPackageReference(application_id="app", version="1", url="http://data/app.zip"),)])


@st.composite
def constraints(draw: st.DrawFn, *, delays: bool) -> s.TaskConstraints:
    """Constraints of a task, or of a preparation, which is retried without delay."""
    delay, longest = draw(DELAYS) if delays else (0, None)
    return s.TaskConstraints(
        max_wall_clock_time=draw(LIMITS),
        max_task_retry_count=draw(RETRIES),
        retry_delay=Duration(delay) if delay else None,
        retry_delay_max=None if longest is None else Duration(longest),
        silent_timeout=draw(SILENCES),
        retention_time=draw(RETENTIONS),
    )


task_constraints = constraints(delays=True)
IDENTITIES = st.sampled_from([None, None, s.UserIdentity(username="ann"), s.UserIdentity(auto_user=s.AutoUserSpecification(elevation_level="admin"))])
start_tasks = st.builds(
    s.StartTaskSpec,
    command_line=st.just("start"),
    max_task_retry_count=st.sampled_from([0, 1]),
    wait_for_success=st.booleans(),
    user_identity=IDENTITIES,
)
preparations = st.builds(
    s.PreparationSpec,
    command_line=st.just("prepare"),
    constraints=constraints(delays=False),
    wait_for_success=st.sampled_from([True, True, False]),
    rerun_on_node_reboot_after_success=st.booleans(),
    user_identity=IDENTITIES,
    resource_files=RESOURCES,
)
releases = st.builds(
    s.ReleaseSpec,
    command_line=st.just("release"),
    max_wall_clock_time=st.sampled_from([Duration(2 * SECOND), Duration(900 * SECOND)]),
    release_scope=st.sampled_from(["taskRan", "taskRan", "prepared", "attempted"]),
    user_identity=IDENTITIES,
    output_files=OUTPUTS,
    retention_time=RETENTIONS,
)


finalizers = st.builds(
    s.FinalizerSpec,
    command_line=st.just("finalize"),
    max_wall_clock_time=st.sampled_from([Duration(2 * SECOND), Duration(900 * SECOND)]),
    node_id=st.sampled_from([None, None, NodeId("p-1"), NodeId("p-2"), NodeId("no-such-node")]),
    user_identity=IDENTITIES,
    resource_files=RESOURCES,
    output_files=OUTPUTS,
)


@st.composite
def pools(draw: st.DrawFn, ids: Sequence[PoolId]) -> s.PoolSpec:
    """A pool of one to three nodes."""
    return s.PoolSpec(
        id=draw(st.sampled_from(ids)),
        nodes=draw(st.integers(1, 3)),
        task_slots_per_node=draw(st.integers(1, 3)),
        task_scheduling_policy=s.TaskSchedulingPolicy(node_fill_type=draw(st.sampled_from(["spread", "pack"]))),
        start_task=None if draw(MOSTLY) else draw(start_tasks),
        resize_timeout=draw(st.sampled_from([limits.RESIZE_TIMEOUT_MIN, limits.RESIZE_TIMEOUT])),
        application_package_references=draw(PACKAGES),
    )


DEPENDENCIES = st.one_of(
    st.none(),
    st.none(),
    st.none(),
    st.builds(
        s.TaskDependencies,
        task_ids=st.lists(st.sampled_from(TASKS), max_size=2).map(tuple),
        task_id_ranges=st.sampled_from([(), (), (s.TaskIdRange(start=4, end=4),), (s.TaskIdRange(start=4, end=5),)]),
    ),
)


EXIT_OPTIONS = st.builds(
    s.ExitOptions,
    job_action=st.sampled_from([None, "none", "none", "disable", "terminate"]),
    dependency_action=st.sampled_from([None, None, "satisfy", "block"]),
)
EXIT_CONDITIONS = st.one_of(
    st.none(),
    st.none(),
    st.builds(
        s.ExitConditions,
        exit_codes=st.lists(
            st.builds(s.ExitCodeMapping, code=st.sampled_from([0, 1]), exit_options=EXIT_OPTIONS), max_size=2, unique_by=lambda one: one.code
        ).map(tuple),
        exit_code_ranges=st.lists(st.builds(s.ExitCodeRangeMapping, start=st.just(1), end=st.just(3), exit_options=EXIT_OPTIONS), max_size=1).map(
            tuple
        ),
        pre_processing_error=st.none() | EXIT_OPTIONS,
        default=st.none() | EXIT_OPTIONS,
        file_upload_error=st.none() | EXIT_OPTIONS,
    ),
)


def _allowed(job: s.JobSpec, tasks: tuple[s.TaskSpec, ...]) -> tuple[s.TaskSpec, ...]:
    """The tasks, without what the job does not use: refusing that is no walk's business."""
    if not job.uses_task_dependencies:
        tasks = tuple(evolve(task, depends_on=None) for task in tasks)
    if not job.uses_task_dependencies or job.on_task_failure == "noaction":
        tasks = tuple(evolve(task, exit_conditions=None) for task in tasks)
    return tasks


def task_lists(least: int) -> st.SearchStrategy[tuple[s.TaskSpec, ...]]:
    """Up to four tasks with different ids."""
    task = st.builds(
        s.TaskSpec,
        id=st.sampled_from(TASKS),
        command_line=st.just("work"),
        constraints=st.none() | task_constraints,
        depends_on=DEPENDENCIES,
        exit_conditions=EXIT_CONDITIONS,
        user_identity=IDENTITIES,
        required_slots=st.sampled_from([1, 1, 1, 1, 2, 3, 4]),
        affinity_info=st.sampled_from([None, None, s.AffinityInfo(affinity_id="TVM:p-2"), s.AffinityInfo(affinity_id="p-3")]),
        resource_files=RESOURCES,
        output_files=OUTPUTS,
    )
    return st.lists(task, min_size=least, max_size=4, unique_by=lambda task: task.id).map(tuple)


job_constraints = st.builds(
    s.JobConstraints,
    max_wall_clock_time=JOB_LIMITS,
    max_task_retry_count=RETRIES,
    retry_delay=st.sampled_from([None, None, None, Duration(SECOND)]),
    retention_time=st.sampled_from([limits.RETENTION, limits.RETENTION, Retention(0), Retention(20 * SECOND)]),
)

PATCHES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.integers(0, 2),
        "max_parallel_tasks": st.sampled_from([-1, 1, 2]),
        "constraints": job_constraints,
        "on_all_tasks_complete": st.sampled_from(["noaction", "terminatejob"]),
        "metadata": st.sampled_from([(), (s.MetadataItem(name="run", value="2"),)]),
    },
)
"""Everything that may be changed of a job in any state in which it is not over."""


@st.composite
def jobs(draw: st.DrawFn, pool_ids: Sequence[PoolId]) -> s.JobSpec:
    """A job, most often with preparation and release."""
    preparation = draw(preparations) if draw(MOSTLY) else None
    return s.JobSpec(
        id=draw(st.sampled_from(JOBS)),
        pool_info=s.PoolInfo(pool_id=draw(st.sampled_from(pool_ids))),
        priority=draw(st.integers(0, 2)),
        max_parallel_tasks=draw(st.sampled_from([-1, -1, 1, 2])),
        constraints=draw(job_constraints),
        job_preparation_task=preparation,
        job_release_task=draw(releases) if preparation is not None and draw(MOSTLY) else None,
        on_all_tasks_complete=draw(st.sampled_from(["noaction", "terminatejob"])),
        uses_task_dependencies=draw(MOSTLY),
        on_task_failure="performexitoptionsjobaction" if draw(RARELY) else "noaction",
        job_finalizer_task=draw(st.none() | finalizers),
    )


class CoreWalk(RuleBasedStateMachine):
    """One walk.  `rows` gathers what all walks of a class took."""

    rows: ClassVar[set[RowTaken]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(self.rows)
        self.nodes_return = True

    # --- beginning and end ---------------------------------------------------------------------------------

    @initialize(pool=pools(POOLS[:1]), job=jobs(POOLS[:1]), first=task_lists(1), steps=st.integers(0, 4), nodes_return=st.booleans())
    def begin(self, pool: s.PoolSpec, job: s.JobSpec, first: tuple[s.TaskSpec, ...], steps: int, nodes_return: bool) -> None:
        """A pool, most often up, and a job that may have come some way."""
        self.nodes_return = nodes_return
        self.stage.start_engine()
        self.stage.take(q.CreatePool(spec=pool))
        self._calm(min(steps, 2))
        self.stage.take(q.SubmitJob(spec=job, tasks=_allowed(job, first)))
        self._calm(steps - 2)

    def teardown(self) -> None:
        """Whatever happened, it comes to its end, unless something broke on the way: then that is the finding."""
        if self.stage.broken is None:
            self.stage.rest(nodes_return=self.nodes_return)

    # --- work ----------------------------------------------------------------------------------------------

    @precondition(lambda self: any(self.stage.executor.queues.values()))
    @rule(pick=PICK, again=RARELY, fails=RARELY, obeys=st.booleans(), uploads=MOSTLY)
    def a_command_arrives(self, pick: int, again: bool, fails: bool, obeys: bool, uploads: bool) -> None:
        node = _pick(pick, [node for node, queue in self.stage.executor.queues.items() if queue])
        self.stage.deliver(node, again=again, launches=not fails, obeys=obeys, uploads=uploads)

    @precondition(lambda self: any(self.stage.executor.queues.values()))
    @rule()
    def all_commands_arrive(self) -> None:
        self._deliver_all()

    @precondition(lambda self: self.stage.executor.running())
    @rule(pick=PICK, exit_code=EXIT_CODES, uploads=MOSTLY)
    def a_program_ends(self, pick: int, exit_code: int, uploads: bool) -> None:
        self.stage.end(_pick(pick, self.stage.executor.running()), exit_code, uploads=uploads)

    @precondition(lambda self: self._uploading())
    @rule(pick=PICK, exit_code=EXIT_CODES)
    def outputs_cannot_be_uploaded(self, pick: int, exit_code: int) -> None:
        self.stage.end(_pick(pick, self._uploading()), exit_code, uploads=False)
        self._report_all()

    @precondition(lambda self: self._running("preparation", "starttask"))
    @rule(pick=PICK)
    def a_preparation_or_start_task_fails(self, pick: int) -> None:
        self.stage.end(_pick(pick, self._running("preparation", "starttask")), 1)
        self._report_all()

    @precondition(lambda self: self._running("task"))
    @rule(pick=PICK, exit_code=st.sampled_from([1, 3]), patient=st.booleans())
    def a_task_fails(self, pick: int, exit_code: int, patient: bool) -> None:
        """And perhaps the time of its next try is waited for."""
        self.stage.end(_pick(pick, self._running("task")), exit_code)
        self._report_all()
        if patient:
            self.stage.wake()

    @precondition(lambda self: self.stage.executor.reports)
    @rule(pick=PICK, again=RARELY)
    def a_report_arrives(self, pick: int, again: bool) -> None:
        self.stage.report(pick % len(self.stage.executor.reports), again=again)

    @precondition(lambda self: self.stage.executor.reports)
    @rule()
    def all_reports_arrive(self) -> None:
        self._report_all()

    @precondition(lambda self: self._nodes_that_remove())
    @rule(pick=PICK, again=RARELY, fails=RARELY, calm=st.integers(0, 2))
    def files_are_removed(self, pick: int, again: bool, fails: bool, calm: int) -> None:
        self.stage.deliver(_pick(pick, self._nodes_that_remove()), again=again, launches=not fails)
        self._calm(calm)

    @precondition(lambda self: any(isinstance(report, r.ExecutionStarted) for report in self.stage.executor.reports))
    @rule(pick=PICK)
    def the_report_of_a_start_is_lost(self, pick: int) -> None:
        reports = self.stage.executor.reports
        reports.remove(_pick(pick, [report for report in reports if isinstance(report, r.ExecutionStarted)]))

    @rule()
    def what_can_start_starts(self) -> None:
        self._deliver_all()
        self._report_all()

    @rule(steps=st.integers(1, 3), exit_code=EXIT_CODES)
    def everything_goes_on(self, steps: int, exit_code: int) -> None:
        self._calm(steps, exit_code)

    @precondition(lambda self: self.stage.executor.running())
    @rule(pick=PICK, length=st.sampled_from([SECOND, 5 * SECOND, 60 * SECOND]))
    def a_program_is_silent(self, pick: int, length: int) -> None:
        """It says so of any program, long enough or not; that time has passed since its start is for the clock to say."""
        execution = _pick(pick, self.stage.executor.running())
        self.stage.now = Micros(self.stage.now + length)
        self.stage.take(r.ExecutionSilent(execution=execution, silent_for=Duration(length)))

    @precondition(lambda self: self.stage.executor.running())
    @rule(pick=PICK, times=st.sampled_from([1, 1, 10]))
    def programs_are_stopped_unasked(self, pick: int, times: int) -> None:
        """An executor stops what it was not asked to stop, and perhaps whatever takes its place."""
        for _ in range(times):
            if running := self.stage.executor.running():
                self.stage.executor.end(_pick(pick, running), 143, stopped=True)
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
    @rule(pick=PICK, wish=st.sampled_from([REBOOT, REIMAGE, REMOVE, None]), option=OPTIONS, calm=CALM)
    def what_runs_a_finalizer_goes_down(self, pick: int, wish: NodeWish | None, option: s.NodeOption, calm: int) -> None:
        node = self.stage.executor.programs[_pick(pick, self._running("finalizer"))].launch.node
        if node == ENGINE_HOST:
            self.stage.restart_host()
        elif wish is None:
            self.stage.executor.cut_power(node)
        else:
            self.stage.take(wish(node, option))
        self._calm(calm)

    # --- jobs and tasks ------------------------------------------------------------------------------------

    @rule(spec=jobs(POOLS), first=task_lists(0), calm=CALM)
    def submit(self, spec: s.JobSpec, first: tuple[s.TaskSpec, ...], calm: int) -> None:
        self.stage.take(q.SubmitJob(spec=spec, tasks=_allowed(spec, first)))
        self._calm(calm)

    @precondition(lambda self: self.stage.world.jobs)
    @rule(pick=PICK, more=task_lists(1), calm=CALM)
    def add_tasks(self, pick: int, more: tuple[s.TaskSpec, ...], calm: int) -> None:
        job = self.stage.world.jobs[_pick(pick, list(self.stage.world.jobs))]
        self.stage.take(q.AddTasks(job=job.id, tasks=_allowed(job.spec, more)))
        self._calm(calm)

    @rule(wish=JOB_WISHES, pick=PICK, what=DISABLE)
    def a_wish_about_a_job(self, wish: JobWish, pick: int, what: s.DisableTasks) -> None:
        self._wish_of_job(wish, _pick(pick, [*self.stage.world.jobs, *self.stage.world.jobs, JobId("no-such-job")]), what)

    @precondition(lambda self: self.stage.world.jobs)
    @rule(pick=PICK, change=PATCHES, pool=st.sampled_from([None, None, None, *POOLS]), calm=CALM)
    def patch(self, pick: int, change: dict[str, Any], pool: PoolId | None, calm: int) -> None:
        info = None if pool is None else s.PoolInfo(pool_id=pool)
        self.stage.take(q.PatchJob(job=_pick(pick, list(self.stage.world.jobs)), pool_info=info, **change))
        self._calm(calm)

    @precondition(lambda self: self._jobs_in("disabling", "disabled", "enabling"))
    @rule(pick=PICK, pool=st.sampled_from(POOLS), enable=st.booleans())
    def move_to_another_pool(self, pick: int, pool: PoolId, enable: bool) -> None:
        job = _pick(pick, self._jobs_in("disabling", "disabled", "enabling"))
        self.stage.take(q.PatchJob(job=job, pool_info=s.PoolInfo(pool_id=pool)))
        if enable:
            self.stage.take(q.EnableJob(job=job))

    @precondition(lambda self: self._jobs_in("disabling", "disabled", "enabling", "terminating"))
    @rule(pick=PICK, wish=st.sampled_from([q.EnableJob, q.EnableJob, q.TerminateJob, q.DeleteJob]))
    def a_wish_about_a_job_on_its_way(self, pick: int, wish: JobWish) -> None:
        self._wish_of_job(wish, _pick(pick, self._jobs_in("disabling", "disabled", "enabling", "terminating")), "wait")

    @precondition(lambda self: self._blocked())
    @rule(wish=JOB_WISHES, what=DISABLE)
    def a_wish_about_a_blocked_job(self, wish: JobWish, what: s.DisableTasks) -> None:
        self._wish_of_job(wish, self._blocked()[0], what)

    @precondition(lambda self: any(job.tasks for job in self.stage.world.jobs.values()))
    @rule(pick=PICK, wish=st.sampled_from([q.TerminateTask, q.DeleteTask, q.ReactivateTask, q.ReactivateTask]))
    def a_wish_about_a_task(self, pick: int, wish: type[q.TerminateTask] | type[q.DeleteTask] | type[q.ReactivateTask]) -> None:
        job, task = _pick(pick, [(job.id, task) for job in self.stage.world.jobs.values() for task in job.tasks])
        self.stage.take(wish(job=job, task=task))

    # --- pools and nodes -----------------------------------------------------------------------------------

    @rule(spec=pools(POOLS), calm=CALM)
    def create_pool(self, spec: s.PoolSpec, calm: int) -> None:
        self.stage.take(q.CreatePool(spec=spec))
        self._calm(calm)

    @precondition(lambda self: self.stage.world.pools)
    @rule(pick=PICK, nodes=st.sampled_from([0, 1, 2, 3, 3, -1, None]), option=OPTIONS)
    def resize_or_delete_a_pool(self, pick: int, nodes: int | None, option: s.NodeOption) -> None:
        pool = _pick(pick, list(self.stage.world.pools))
        if nodes is None:
            self.stage.take(q.DeletePool(pool=pool))
        else:
            self.stage.take(q.ResizePool(pool=pool, target=nodes, option=option))

    @precondition(lambda self: any(pool.allocation != "steady" for pool in self.stage.world.pools.values()))
    @rule(pick=PICK)
    def stop_resize(self, pick: int) -> None:
        self.stage.take(q.StopResize(pool=_pick(pick, list(self.stage.world.pools))))

    @precondition(lambda self: self.stage.world.nodes)
    @rule(pick=PICK, wish=NODE_WISHES, option=OPTIONS)
    def a_wish_about_a_node(self, pick: int, wish: NodeWish, option: s.NodeOption) -> None:
        self.stage.take(wish(_pick(pick, list(self.stage.world.nodes)), option))

    @precondition(lambda self: self._nodes_in(*ON_THEIR_WAY, *GONE))
    @rule(pick=PICK, wish=st.sampled_from([REMOVE, REBOOT, START, ENABLE_SCHEDULING]), option=OPTIONS)
    def a_wish_about_a_node_on_its_way(self, pick: int, wish: NodeWish, option: s.NodeOption) -> None:
        self.stage.take(wish(_pick(pick, self._nodes_in(*ON_THEIR_WAY, *GONE)), option))

    @precondition(lambda self: self._nodes_in("running"))
    @rule(pick=PICK, wish=st.sampled_from([REBOOT, REIMAGE, REMOVE, DEALLOCATE, DISABLE_SCHEDULING]), option=OPTIONS)
    def a_wish_about_a_busy_node(self, pick: int, wish: NodeWish, option: s.NodeOption) -> None:
        self.stage.take(wish(_pick(pick, self._nodes_in("running")), option))

    @precondition(lambda self: self._draining())
    @rule(pick=PICK, wish=NODE_WISHES, option=OPTIONS)
    def a_wish_about_a_draining_node(self, pick: int, wish: NodeWish, option: s.NodeOption) -> None:
        self.stage.take(wish(_pick(pick, self._draining()), option))

    # --- faults --------------------------------------------------------------------------------------------

    @precondition(lambda self: self.stage.world.nodes)
    @rule(pick=PICK, fault=FAULTS)
    def a_node_fails(self, pick: int, fault: Fault) -> None:
        self.stage.take(self.stage.executor.fault(_pick(pick, list(self.stage.world.nodes)), fault))

    @precondition(lambda self: self._nodes_in(*ON_THEIR_WAY))
    @rule(pick=PICK, fault=FAULTS)
    def a_node_fails_on_its_way(self, pick: int, fault: Fault) -> None:
        self.stage.take(self.stage.executor.fault(_pick(pick, self._nodes_in(*ON_THEIR_WAY)), fault))

    @precondition(lambda self: self._nodes_in("unusable", "unknown", "preempted"))
    @rule(calm=CALM)
    def failed_nodes_come_back(self, calm: int) -> None:
        self.stage.bring_back()
        self._calm(calm)

    @precondition(lambda self: self._machines_up())
    @rule(pick=PICK)
    def a_machine_loses_its_power(self, pick: int) -> None:
        self.stage.executor.cut_power(_pick(pick, self._machines_up()))

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

    @rule(pick=PICK, off=st.sampled_from([-1, 1, 7]), fault=FAULTS)
    def a_report_of_another_removal_incarnation_or_node(self, pick: int, off: int, fault: Fault) -> None:
        nodes = [(node.id, node.incarnation) for node in self.stage.world.nodes.values()]
        node, incarnation = _pick(pick, [*nodes, (NodeId("no-such-node"), 1)])
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


def _pick(pick: int, among: Sequence[T]) -> T:
    return among[pick % len(among)]
