"""Strategies: pools, jobs, tasks, requests, reports and faults for Hypothesis, whichever machine, suite or test draws them.

    @given(pool=pools(), job=jobs(), tasks=task_lists())
    def test_mine(pool, job, tasks): ...

1. What is drawn is accepted by the rules where the world allows it; refusing nonsense is tested elsewhere.
2. `Words` says what specifications are made of: ids, command lines, the length of a second, and what an executor cannot do.
3. Values repeat often on purpose: few ids, few lengths of time, so that things meet.
4. `histories` has strategies for whole ledgers, legal and illegal ones.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from attrs import evolve, frozen
from hypothesis import strategies as st

from jobledger.core import limits
from jobledger.core import reports as r
from jobledger.core import requests as q
from jobledger.core import specs as s
from jobledger.core.ids import SECOND, UNLIMITED_RETENTION, Duration, ExecutionId, ExecutionKind, JobId, NodeId, PoolId, Retention, TaskId

from .model import Fault

T = TypeVar("T")

POOLS: Final = [PoolId("p"), PoolId("q")]
JOBS: Final = [JobId("a"), JobId("b"), JobId("c")]
TASKS: Final = [TaskId("t1"), TaskId("t2"), TaskId("t3"), TaskId("4"), TaskId("04")]


_COMMANDS: Final[dict[ExecutionKind, str]] = {
    "starttask": "start",
    "preparation": "prepare",
    "task": "work",
    "release": "release",
    "finalizer": "finalize",
}


@frozen(kw_only=True)
class Words:
    """What specifications are made of.

    `command` gives command lines for what is to be run.  `second` is the unit, in microseconds, of limits, delays and retentions: shorter for programs
    that really run, and `retries` are the numbers to choose from, -1 for without end.  `users`, `files` and `silences` say whether specifications ask for other users, for files and packages to be transferred,
    and for silent programs to be stopped.  `on_host` says whether finalizers may run on the engine's host, which the executor `local` does.
    """

    pools: Sequence[PoolId] = tuple(POOLS)
    jobs: Sequence[JobId] = tuple(JOBS)
    tasks: Sequence[TaskId] = tuple(TASKS)
    executor: str = "local"
    command: Callable[[ExecutionKind], st.SearchStrategy[str]] = lambda kind: st.just(_COMMANDS[kind])
    second: int = SECOND
    retries: Sequence[int] = (0, 1, 2, -1)
    users: bool = True
    files: bool = True
    silences: bool = True
    on_host: bool = True

    def lengths(self, *seconds: float | None) -> st.SearchStrategy[Duration | None]:
        """One of these lengths of time, None for none."""
        return st.sampled_from([None if one is None else Duration(round(one * self.second)) for one in seconds])

    def identities(self) -> st.SearchStrategy[s.UserIdentity | None]:
        """As whom something runs."""
        return _IDENTITIES if self.users else st.none()


PLAIN: Final = Words()

EXIT_CODES: Final = st.sampled_from([0, 0, 0, 1, 3])
RARELY: Final = st.sampled_from([False, False, False, True])
MOSTLY: Final = st.sampled_from([True, True, True, True, True, False])
PICK: Final = st.integers(min_value=0, max_value=11)
"""Which of the things that are there, for `pick`."""

FAULTS: Final[st.SearchStrategy[Fault]] = st.sampled_from(["unusable", "lost", "preempted", "wiped"])
DISABLE: Final[st.SearchStrategy[s.DisableTasks]] = st.sampled_from(["requeue", "terminate", "wait"])
OPTIONS: Final[st.SearchStrategy[s.NodeOption]] = st.sampled_from(["requeue", "terminate", "taskcompletion", "taskcompletion"])
JobWish = type[q.TerminateJob] | type[q.DeleteJob] | type[q.EnableJob] | None
"""None is to disable it."""
JOB_WISHES: Final[st.SearchStrategy[JobWish]] = st.sampled_from([q.TerminateJob, q.DeleteJob, q.EnableJob, None, None])
NodeWish = Callable[[NodeId, s.NodeOption], q.Request]
REBOOT: NodeWish = lambda node, option: q.RebootNode(node=node, option=option)  # noqa: E731 - a wish in a list of wishes
REIMAGE: NodeWish = lambda node, option: q.ReimageNode(node=node, option=option)  # noqa: E731 - the same
REMOVE: NodeWish = lambda node, option: q.RemoveNode(node=node, option=option)  # noqa: E731 - the same
DEALLOCATE: NodeWish = lambda node, option: q.DeallocateNode(node=node, option=option)  # noqa: E731 - the same
START: NodeWish = lambda node, _: q.StartNode(node=node)  # noqa: E731 - the same
DISABLE_SCHEDULING: NodeWish = lambda node, option: q.DisableScheduling(node=node, option=option)  # noqa: E731 - the same
ENABLE_SCHEDULING: NodeWish = lambda node, _: q.EnableScheduling(node=node)  # noqa: E731 - the same
NODE_WISHES: Final[st.SearchStrategy[NodeWish]] = st.sampled_from(
    [REBOOT, REIMAGE, REBOOT, REIMAGE, REMOVE, DEALLOCATE, START, DISABLE_SCHEDULING, ENABLE_SCHEDULING]
)

_IDENTITIES: Final = st.sampled_from(
    [None, None, s.UserIdentity(username="ann"), s.UserIdentity(auto_user=s.AutoUserSpecification(elevation_level="admin"))]
)
_DELAYS: Final = st.sampled_from([(0, None), (0, None), (2, None), (2, 3)])
"""Seconds between retries, with the longest."""
_RESOURCES: Final = st.sampled_from([(), (s.ResourceFile(http_url="http://data/x", file_path="x"),)])
_CONTAINER: Final = s.OutputFileContainer(container_url="/outputs")
_OUTPUTS: Final = st.sampled_from([(), (s.OutputFile(file_pattern="*", destination=s.OutputFileDestination(container=_CONTAINER)),)])
_PACKAGES: Final = st.sampled_from([(), (), (s.ApplicationPackageReference(application_id="app", version="1", url="http://data/app.zip"),)])


def pick(number: int, among: Sequence[T]) -> T:
    """One of them, whatever the number."""
    return among[number % len(among)]


def retentions(words: Words = PLAIN) -> st.SearchStrategy[Retention | None]:
    """How long files are kept."""
    return st.sampled_from([None, None, Retention(0), Retention(20 * words.second), UNLIMITED_RETENTION])


@st.composite
def constraints(draw: st.DrawFn, words: Words = PLAIN, *, delays: bool = True) -> s.TaskConstraints:
    """Constraints of a task, or without `delays` of a preparation, which is retried at once."""
    delay, longest = draw(_DELAYS) if delays else (0, None)
    return s.TaskConstraints(
        max_wall_clock_time=draw(words.lengths(None, None, 2, 20)),
        max_task_retry_count=draw(st.sampled_from(words.retries)),
        retry_delay=Duration(delay * words.second) if delay else None,
        retry_delay_max=None if longest is None else Duration(longest * words.second),
        silent_timeout=draw(words.lengths(None, None, 5)) if words.silences else None,
        retention_time=draw(retentions(words)),
    )


def start_tasks(words: Words = PLAIN) -> st.SearchStrategy[s.StartTaskSpec]:
    """A pool's start task."""
    return st.builds(
        s.StartTaskSpec,
        command_line=words.command("starttask"),
        max_task_retry_count=st.sampled_from([0, 1]),
        wait_for_success=st.booleans(),
        user_identity=words.identities(),
    )


def preparations(words: Words = PLAIN) -> st.SearchStrategy[s.PreparationSpec]:
    """A job's preparation task."""
    return st.builds(
        s.PreparationSpec,
        command_line=words.command("preparation"),
        constraints=constraints(words, delays=False),
        wait_for_success=st.sampled_from([True, True, False]),
        rerun_on_node_reboot_after_success=st.booleans(),
        user_identity=words.identities(),
        resource_files=_RESOURCES if words.files else st.just(()),
    )


def releases(words: Words = PLAIN) -> st.SearchStrategy[s.ReleaseSpec]:
    """A job's release task."""
    return st.builds(
        s.ReleaseSpec,
        command_line=words.command("release"),
        max_wall_clock_time=st.sampled_from([Duration(2 * words.second), Duration(900 * words.second)]),
        release_scope=st.sampled_from(["taskRan", "taskRan", "prepared", "attempted"]),
        user_identity=words.identities(),
        output_files=_OUTPUTS if words.files else st.just(()),
        retention_time=retentions(words),
    )


def finalizers(words: Words = PLAIN) -> st.SearchStrategy[s.FinalizerSpec]:
    """A job's finalizer, on the engine's host or on a node that may not be there."""
    nodes = [NodeId("p-1"), NodeId("p-2"), NodeId("no-such-node")]
    return st.builds(
        s.FinalizerSpec,
        command_line=words.command("finalizer"),
        max_wall_clock_time=st.sampled_from([Duration(2 * words.second), Duration(900 * words.second)]),
        node_id=st.sampled_from([None, None, *nodes] if words.on_host else nodes),
        user_identity=words.identities(),
        resource_files=_RESOURCES if words.files else st.just(()),
        output_files=_OUTPUTS if words.files else st.just(()),
    )


@st.composite
def pools(draw: st.DrawFn, words: Words = PLAIN) -> s.PoolSpec:
    """A pool of one to three nodes."""
    return s.PoolSpec(
        id=draw(st.sampled_from(words.pools)),
        executor=words.executor,
        nodes=draw(st.integers(1, 3)),
        task_slots_per_node=draw(st.integers(1, 3)),
        task_scheduling_policy=s.TaskSchedulingPolicy(node_fill_type=draw(st.sampled_from(["spread", "pack"]))),
        start_task=None if draw(MOSTLY) else draw(start_tasks(words)),
        resize_timeout=draw(st.sampled_from([limits.RESIZE_TIMEOUT_MIN, limits.RESIZE_TIMEOUT])),
        application_package_references=draw(_PACKAGES) if words.files else (),
    )


def dependencies(words: Words = PLAIN) -> st.SearchStrategy[s.TaskDependencies | None]:
    """What a task waits for, most often nothing."""
    named = st.builds(
        s.TaskDependencies,
        task_ids=st.lists(st.sampled_from(words.tasks), max_size=2).map(tuple),
        task_id_ranges=st.sampled_from([(), (), (s.TaskIdRange(start=4, end=4),), (s.TaskIdRange(start=4, end=5),)]),
    )
    return st.one_of(st.none(), st.none(), st.none(), named)


_EXIT_OPTIONS: Final = st.builds(
    s.ExitOptions,
    job_action=st.sampled_from([None, "none", "none", "disable", "terminate"]),
    dependency_action=st.sampled_from([None, None, "satisfy", "block"]),
)
EXIT_CONDITIONS: Final = st.one_of(
    st.none(),
    st.none(),
    st.builds(
        s.ExitConditions,
        exit_codes=st.lists(
            st.builds(s.ExitCodeMapping, code=st.sampled_from([0, 1]), exit_options=_EXIT_OPTIONS), max_size=2, unique_by=lambda one: one.code
        ).map(tuple),
        exit_code_ranges=st.lists(st.builds(s.ExitCodeRangeMapping, start=st.just(1), end=st.just(3), exit_options=_EXIT_OPTIONS), max_size=1).map(
            tuple
        ),
        pre_processing_error=st.none() | _EXIT_OPTIONS,
        default=st.none() | _EXIT_OPTIONS,
        file_upload_error=st.none() | _EXIT_OPTIONS,
    ),
)


def allowed(job: s.JobSpec, tasks: tuple[s.TaskSpec, ...]) -> tuple[s.TaskSpec, ...]:
    """The tasks, without what the job does not use: refusing that is no walk's business."""
    if not job.uses_task_dependencies:
        tasks = tuple(evolve(task, depends_on=None) for task in tasks)
    if not job.uses_task_dependencies or job.on_task_failure == "noaction":
        tasks = tuple(evolve(task, exit_conditions=None) for task in tasks)
    return tasks


def task_lists(words: Words = PLAIN, *, least: int = 0) -> st.SearchStrategy[tuple[s.TaskSpec, ...]]:
    """Up to four tasks with different ids.  `allowed` takes from them what their job does not use."""
    task = st.builds(
        s.TaskSpec,
        id=st.sampled_from(words.tasks),
        command_line=words.command("task"),
        constraints=st.none() | constraints(words),
        depends_on=dependencies(words),
        exit_conditions=EXIT_CONDITIONS,
        user_identity=words.identities(),
        required_slots=st.sampled_from([1, 1, 1, 1, 2, 3, 4]),
        affinity_info=st.sampled_from([None, None, s.AffinityInfo(affinity_id="TVM:p-2"), s.AffinityInfo(affinity_id="p-3")]),
        resource_files=_RESOURCES if words.files else st.just(()),
        output_files=_OUTPUTS if words.files else st.just(()),
    )
    return st.lists(task, min_size=least, max_size=4, unique_by=lambda task: task.id).map(tuple)


def job_constraints(words: Words = PLAIN) -> st.SearchStrategy[s.JobConstraints]:
    """Constraints of a job."""
    return st.builds(
        s.JobConstraints,
        max_wall_clock_time=words.lengths(None, None, None, 60),
        max_task_retry_count=st.sampled_from(words.retries),
        retry_delay=words.lengths(None, None, None, 1),
        retention_time=st.sampled_from([limits.RETENTION, limits.RETENTION, Retention(0), Retention(20 * words.second)]),
    )


def patches(words: Words = PLAIN) -> st.SearchStrategy[dict[str, Any]]:
    """Everything that may be changed of a job in any state in which it is not over: arguments of `PatchJob`."""
    return st.fixed_dictionaries(
        {},
        optional={
            "priority": st.integers(0, 2),
            "max_parallel_tasks": st.sampled_from([-1, 1, 2]),
            "constraints": job_constraints(words),
            "on_all_tasks_complete": st.sampled_from(["noaction", "terminatejob"]),
            "metadata": st.sampled_from([(), (s.MetadataItem(name="run", value="2"),)]),
        },
    )


@st.composite
def jobs(draw: st.DrawFn, words: Words = PLAIN) -> s.JobSpec:
    """A job, most often with preparation and release."""
    preparation = draw(preparations(words)) if draw(MOSTLY) else None
    return s.JobSpec(
        id=draw(st.sampled_from(words.jobs)),
        pool_info=s.PoolInfo(pool_id=draw(st.sampled_from(words.pools))),
        priority=draw(st.integers(0, 2)),
        max_parallel_tasks=draw(st.sampled_from([-1, -1, 1, 2])),
        constraints=draw(job_constraints(words)),
        job_preparation_task=preparation,
        job_release_task=draw(releases(words)) if preparation is not None and draw(MOSTLY) else None,
        on_all_tasks_complete=draw(st.sampled_from(["noaction", "terminatejob"])),
        uses_task_dependencies=draw(MOSTLY),
        on_task_failure="performexitoptionsjobaction" if draw(RARELY) else "noaction",
        job_finalizer_task=draw(st.none() | finalizers(words)),
    )


@st.composite
def submissions(draw: st.DrawFn, words: Words = PLAIN, *, least: int = 0) -> q.SubmitJob:
    """A job with its first tasks."""
    spec = draw(jobs(words))
    return q.SubmitJob(spec=spec, tasks=allowed(spec, draw(task_lists(words, least=least))))


def requests(words: Words = PLAIN) -> st.SearchStrategy[q.Request]:
    """Any request, about things that may be there or not."""
    job = st.sampled_from(words.jobs)
    of_task = {"job": job, "task": st.sampled_from(words.tasks)}
    pool = st.sampled_from(words.pools)
    node = st.sampled_from([NodeId(f"{one}-{number}") for one in words.pools for number in (1, 2, 3)])
    return st.one_of(
        st.builds(q.CreatePool, spec=pools(words)),
        st.builds(q.ResizePool, pool=pool, target=st.integers(0, 3), option=OPTIONS),
        st.builds(q.StopResize, pool=pool),
        st.builds(q.DeletePool, pool=pool),
        submissions(words),
        st.builds(q.AddTasks, job=job, tasks=task_lists(words, least=1)),
        st.builds(q.TerminateJob, job=job),
        st.builds(q.DeleteJob, job=job),
        st.builds(q.DisableJob, job=job, disable_tasks=DISABLE),
        st.builds(q.EnableJob, job=job),
        st.builds(lambda of, change: q.PatchJob(job=of, **change), job, patches(words)),
        st.builds(q.TerminateTask, **of_task),
        st.builds(q.DeleteTask, **of_task),
        st.builds(q.ReactivateTask, **of_task),
        st.builds(lambda wish, of, option: wish(of, option), NODE_WISHES, node, OPTIONS),
    )


def reports(words: Words = PLAIN, *, executions: int = 20) -> st.SearchStrategy[r.Report]:
    """Any report, most of them stale or about what never was; executions are numbered up to `executions`."""
    execution = st.integers(1, executions).map(ExecutionId)
    node = st.sampled_from([NodeId(f"{one}-{number}") for one in words.pools for number in (1, 2, 3)])
    incarnation = st.integers(1, 3)
    reason = st.just("drawn")
    return st.one_of(
        st.builds(r.ExecutionStarted, execution=execution),
        st.builds(r.ExecutionExited, execution=execution, exit_code=EXIT_CODES, stopped=st.booleans()),
        st.builds(r.ExecutionNotStarted, execution=execution),
        st.builds(r.ExecutionLost, execution=execution, reason=reason),
        st.builds(r.ExecutionSilent, execution=execution, silent_for=st.just(Duration(5 * words.second))),
        st.builds(r.NodeReady, node=node, boot_id=st.sampled_from(["boot-1", "boot-2"]), incarnation=st.none() | incarnation),
        st.builds(r.NodeRetired, node=node, incarnation=incarnation),
        faults(words),
        st.builds(r.NodeReallocated, node=node),
        st.builds(r.FilesRemoved, node=node, job=st.sampled_from(words.jobs), task=st.none() | st.sampled_from(words.tasks), before=execution),
    )


def faults(words: Words = PLAIN) -> st.SearchStrategy[r.NodeFaulted]:
    """A node that fails, by what is reported of it."""
    node = st.sampled_from([NodeId(f"{one}-{number}") for one in words.pools for number in (1, 2, 3)])
    return st.builds(r.NodeFaulted, node=node, fault=FAULTS, reason=st.just("drawn"))
