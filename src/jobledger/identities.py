"""User identities at the engine's door: what no executor can run as the user it is meant for is refused before anything is recorded.

1. What is refused here names the property, the reason and what would mend it.
2. What cannot be known here (a pool that is not there yet, an account that will be gone) is found at the launch.  An executor that
   does not speak of users is given nothing that is meant for one: it would run it as somebody else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import frozen

from .core import requests as q
from .core.commands import Command, RunCommand
from .core.errors import RequestRefused
from .core.failure import FailureInfo
from .core.ids import HOST_EXECUTOR, PoolId
from .core.ports import Executor, Identities
from .core.reports import ExecutionNotStarted
from .core.specs import FinalizerSpec, JobSpec, PreparationSpec, ReleaseSpec, StartTaskSpec, TaskSpec, UserIdentity
from .core.world import World


@frozen(kw_only=True)
class Wanted:
    """Every user that a request brings command lines for to one executor, with the path where it is asked for first."""

    executor: str
    users: Mapping[UserIdentity, str]


_CommandLine = StartTaskSpec | PreparationSpec | ReleaseSpec | FinalizerSpec | TaskSpec


def wanted(request: q.Request, world: World) -> Sequence[Wanted]:
    """What is to be asked of which executors; nothing where there are no users, or it is not known yet who will run them."""
    asked: list[tuple[str | None, Mapping[UserIdentity, str]]]
    match request:
        case q.CreatePool(spec=pool):
            asked = [(pool.executor, _users([("startTask", pool.start_task)]))]
        case q.SubmitJob(spec=job, tasks=tasks):
            asked = [(_executor(world, job.pool_info.pool_id), _users((*_of_job(job), *_of_tasks(tasks))))]
            asked.append((_executor_of_finalizer(world, job.job_finalizer_task), _users([("jobFinalizerTask", job.job_finalizer_task)])))
        case q.AddTasks(job=job_id, tasks=tasks) if job_id in world.jobs:
            asked = [(_executor(world, world.jobs[job_id].spec.pool_info.pool_id), _users(_of_tasks(tasks)))]
        case _:
            return []
    return [Wanted(executor=executor, users=users) for executor, users in asked if executor is not None and users]


async def refuse(wanted: Wanted, executor: Executor) -> None:
    """Raises RequestRefused with every user that the executor cannot run anything as."""
    reasons = []
    for user, path in wanted.users.items():
        reason = await executor.refusal(user) if isinstance(executor, Identities) else _unable(wanted.executor)
        if reason is not None:
            reasons.append(f"{path}: {reason}")
    if reasons:
        raise RequestRefused("InvalidPropertyValue", "; ".join(reasons))


def separated(name: str, executor: Executor, commands: Sequence[Command]) -> tuple[Sequence[Command], Sequence[ExecutionNotStarted]]:
    """The commands to give to the executor, and what is to be said of those it must not have."""
    if isinstance(executor, Identities):
        return commands, ()
    barred = [command for command in commands if isinstance(command, RunCommand) and command.launch.user is not None]
    if not barred:
        return commands, ()
    failure = FailureInfo(category="usererror", code="CommandLaunchFailed", message=f"It cannot run as the user it is meant for: {_unable(name)}")
    return (
        [command for command in commands if command not in barred],
        [ExecutionNotStarted(execution=command.launch.execution, failure=failure) for command in barred],
    )


def _unable(name: str) -> str:
    return f"executor '{name}' cannot run a command line as another user: leave the property out, or use a pool of another executor"


def _users(asked: Iterable[tuple[str, _CommandLine | None]]) -> Mapping[UserIdentity, str]:
    found: dict[UserIdentity, str] = {}
    for path, command_line in asked:
        if command_line is not None and command_line.user_identity is not None:
            found.setdefault(command_line.user_identity, f"{path}.userIdentity")
    return found


def _of_job(job: JobSpec) -> Iterator[tuple[str, _CommandLine | None]]:
    yield "jobPreparationTask", job.job_preparation_task
    yield "jobReleaseTask", job.job_release_task


def _of_tasks(tasks: Iterable[TaskSpec]) -> Iterator[tuple[str, _CommandLine | None]]:
    return ((f"tasks[{number}]", task) for number, task in enumerate(tasks))


def _executor_of_finalizer(world: World, finalizer: FinalizerSpec | None) -> str | None:
    chosen = finalizer.node_id if finalizer is not None else None
    if chosen is None:
        return HOST_EXECUTOR
    return world.pool_of(chosen).spec.executor if chosen in world.nodes else None


def _executor(world: World, pool: PoolId) -> str | None:
    return world.pools[pool].spec.executor if pool in world.pools else None
