"""`run` and `engine`: the commands that drive a ledger themselves."""

import asyncio
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import click

from ..core.checks import Mistake
from ..core.errors import RequestRefused
from ..core.ids import JobId
from ..core.world import Job, World
from ..engine import Engine
from ..eventstore import Durability
from ..jobfile import JobFile, JobFileError, load
from ..sealing import SecretStore
from ..views import status_document
from .common import ENDED_OTHERWISE, INTERRUPTED, actor, counted, json_option, ledger_option, print_json, root_option
from .progress import Progress, Quiet, watch
from .sameness import job_differs, pool_differs
from .summary import print_summary

_IDLE_LOOKS: Final = 10
"""Looks in a row, a tenth of a second apart, at which an engine has nothing to do before `--until-idle` believes it."""

durability_option = click.option(
    "--durability",
    type=click.Choice(["full", "relaxed"]),
    default="full",
    show_default=True,
    help="full: a recorded event survives a power cut.  relaxed: faster, and the last events before a power cut may be lost.",
)


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@ledger_option
@root_option
@durability_option
@click.option("--leave-active", is_flag=True, help="Do not end a job that is complete or stuck but does not end by itself.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, only the summary.")
@json_option
def run(file: str, ledger: Path, root: Path, durability: Durability, leave_active: bool, quiet: bool, as_json: bool) -> None:
    """Run a job file to the job's end, and tell what happened.

    FILE is YAML or JSON, `-` for standard input.  Makes the ledger and the pool if need be.  The same file again resumes a job that has
    not ended and reports one that has; the same job id with another specification is refused with the difference.  A job with
    `onAllTasksComplete: noaction` is ended when its tasks are complete, and one that cannot go on (preparation failed on every node, no
    node is left, or its tasks wait for ones that will not succeed, or require more slots than a node has) when nothing of it runs, so that
    its release runs.

    Ctrl-C ends the job in good order: its release runs.  A second Ctrl-C detaches: what runs goes on, and the same command resumes.

    \b
      jobledger run examples/job_prep_release.yaml
      jobledger run job.json --json | jq .job.state
    """
    job_file = load(file)
    if durability == "relaxed":
        click.echo("jobledger: durability is relaxed: a power cut may lose the last events", err=True)
    status = asyncio.run(
        _run(job_file, ledger, root, durability, leave_active=leave_active, quiet=quiet, as_json=as_json, resume=_resume(file, ledger, root))
    )
    sys.exit(status)


@click.command()
@ledger_option
@root_option
@durability_option
@click.option("--until-idle", is_flag=True, help="End when nothing runs and nothing is left to place.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of what happens.")
def engine(ledger: Path, root: Path, durability: Durability, until_idle: bool, quiet: bool) -> None:
    """Drive a ledger: run its jobs and answer other commands.

    A job with `onAllTasksComplete: noaction`, the default, waits for more tasks until it is terminated.

    Ctrl-C or SIGTERM lets go in good order; what runs goes on, and the next engine adopts it.

    \b
      jobledger engine &
      jobledger submit job.yaml
    """
    sys.exit(asyncio.run(_drive(ledger, root, durability, until_idle=until_idle, quiet=quiet)))


# --- run ------------------------------------------------------------------------------------------------------


async def _run(
    job_file: JobFile, ledger: Path, root: Path, durability: Durability, *, leave_active: bool, quiet: bool, as_json: bool, resume: str
) -> int:
    job_id = job_file.job.id
    # Signals are heeded before the ledger is taken: from then on it has to be let go in good order.
    async with _interrupts() as interrupts, await Engine.open(ledger, root=root, durability=durability) as engine:
        if interrupts.count or interrupts.detach:
            return INTERRUPTED
        with SecretStore.of(engine.store) as secrets:
            _refuse_other_specification(engine.world, secrets.sealed(job_file))
        before = engine.position
        progress: Progress | Quiet = Quiet() if quiet or as_json else Progress(job_id)
        if (known := engine.world.jobs.get(job_id)) is not None and known.state == "completed":
            progress.say(f"job {job_id} has ended already, so nothing is run")
        if job_file.pool is not None:
            await engine.create_pool(job_file.pool, actor=actor())
        await engine.submit(job_file.job, job_file.tasks, actor=actor())
        async with watch(engine, progress, after=before):
            detached = await _to_the_end(engine, job_id, interrupts, progress, leave_active=leave_active)
        job = engine.world.jobs.get(job_id)
        if as_json and job is not None:
            print_json(status_document(engine.world, job_id, engine.position))
        elif job is not None:
            print_summary(engine.world, job, root=root, ledger=ledger, explain=job.state != "completed")
        else:
            click.echo(f"jobledger: job {job_id} was deleted before its end", err=True)
        if detached:
            click.echo(f"jobledger: detached{_goes_on(engine)}.  Resume with: {resume}", err=True)
        return _status(job, interrupted=interrupts.count > 0)


async def _to_the_end(engine: Engine, job_id: JobId, interrupts: "_Interrupts", progress: Progress | Quiet, *, leave_active: bool) -> bool:
    """Wait until the job is over, ending it where it does not end by itself; whether the user left before that."""
    interrupts.wake = asyncio.Event()
    disabled = False
    while True:
        job = engine.world.jobs.get(job_id)
        if job is None or job.state == "completed":
            return False
        if interrupts.count > 1 or interrupts.detach:
            return True
        if not job.ending and (reason := _reason_to_end(engine.world, job, interrupted=interrupts.count > 0)) is not None:
            if leave_active and not interrupts.count:
                return True
            progress.catch_up(engine)
            progress.say(reason[1])
            with suppress(RequestRefused):  # Somebody else has ended or deleted it in this very moment: look again.
                await engine.terminate(job_id, reason[0], actor=actor())
            continue
        if job.state == "disabled" and not disabled:
            progress.catch_up(engine)
            progress.say(f"job {job_id} is disabled: `jobledger enable {job_id}` from another terminal lets it go on, Ctrl-C ends it")
        disabled = job.state == "disabled"
        await _first(engine, job_id, interrupts.wake, disabled=disabled)
        interrupts.wake.clear()


async def _first(engine: Engine, job_id: JobId, wake: asyncio.Event, *, disabled: bool) -> None:
    """Until the job is over, stuck or complete, comes to be disabled or is so no more, or the user wants something."""

    def changed(world: World) -> bool:
        job = world.jobs.get(job_id)  # Asked for anew each time: the engine may have rebuilt its world meanwhile.
        return (
            job is None
            or job.state == "completed"
            or (job.state == "disabled") != disabled
            or (not job.ending and _reason_to_end(world, job, interrupted=False) is not None)
        )

    waits = {asyncio.create_task(engine.until(changed)), asyncio.create_task(wake.wait())}
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in waits:
            task.cancel()


def _reason_to_end(world: World, job: Job, *, interrupted: bool) -> tuple[str, str] | None:
    """Why `run` should end a job that does not end by itself: the reason to record, and the words for the user."""
    if interrupted:
        return "UserTerminate", "interrupted: ending the job, its release runs (Ctrl-C again to detach)"
    if job.live or job.delayed or job.state != "active":
        return None
    if job.counts["completed"] == len(job.tasks):
        return "AllTasksComplete", "all tasks are complete: ending the job"
    if job.counts["active"] and not job.queue:
        return "DependenciesNotSatisfied", "the tasks that are left wait for tasks that will not succeed: ending the job"
    if job.blocked:
        return "PreparationFailed", "the job preparation task failed on every node: ending the job"
    if job.queue and (pool := world.pools.get(job.spec.pool_info.pool_id)) is not None and min(job.queue) > pool.spec.task_slots_per_node:
        return "TooFewSlots", "the tasks that are left require more slots than a node has: ending the job"
    if _no_node_left(world, job):
        return "NoUsableNode", "no node of the pool can be used: ending the job"
    return None


def _no_node_left(world: World, job: Job) -> bool:
    pool = world.pools.get(job.spec.pool_info.pool_id)
    if pool is None or pool.allocation != "steady":
        return False
    return all(world.nodes[node].state in {"starttaskfailed", "unusable", "unknown"} for node in pool.nodes)


def _refuse_other_specification(world: World, job_file: JobFile) -> None:
    """Before anything is recorded.  Raises `JobFileError` (no such pool) and `RequestRefused` with the difference."""
    pool_id = job_file.job.pool_info.pool_id
    pool = world.pools.get(pool_id)
    if pool is None and job_file.pool is None:
        raise JobFileError("the job file", [Mistake(path="job.poolInfo.poolId", text=f"the ledger has no pool '{pool_id}'; add a `pool:` section")])
    if pool is not None and (told := pool_differs(pool.spec, job_file)) is not None:
        raise RequestRefused("PoolExists", told)
    job = world.jobs.get(job_file.job.id)
    if job is not None:
        known = [task.spec for task in job.tasks.values()]
        if (told := job_differs(job.submitted, known, job_file, f"is {job.state} and was submitted")) is not None:
            raise RequestRefused("JobExists", told)


def _goes_on(engine: Engine) -> str:
    return f"; what runs goes on ({counted(len(engine.world.executions), 'program')})" if engine.world.executions else ""


def _status(job: Job | None, *, interrupted: bool) -> int:
    if interrupted:
        return INTERRUPTED
    if job is not None and job.state == "completed" and job.succeeded == len(job.tasks):
        return 0
    return ENDED_OTHERWISE


def _resume(file: str, ledger: Path, root: Path) -> str:
    words = ["jobledger", "run", file, "--ledger", str(ledger), "--root", str(root)]
    return shlex.join(words) + (" < the same job file" if file == "-" else "")


# --- engine ---------------------------------------------------------------------------------------------------


async def _drive(ledger: Path, root: Path, durability: Durability, *, until_idle: bool, quiet: bool) -> int:
    async with _interrupts() as interrupts, await Engine.open(ledger, root=root, durability=durability) as engine:
        interrupts.wake = asyncio.Event()
        progress: Progress | Quiet = Quiet() if quiet else Progress(None)
        progress.say(f"driving {ledger}")
        async with watch(engine, progress, after=engine.position):
            idle = 0
            while not interrupts.count and not interrupts.detach and idle < _IDLE_LOOKS:
                try:
                    async with asyncio.timeout(0.1):
                        await engine.until(lambda _: interrupts.count > 0 or interrupts.detach)
                except TimeoutError:
                    pass
                idle = idle + 1 if until_idle and engine.idle else 0
        progress.say(f"letting go{_goes_on(engine)}")
    return INTERRUPTED if interrupts.count else 0


# --- interrupts -----------------------------------------------------------------------------------------------


class _Interrupts:
    """How often the user pressed Ctrl-C, and whether a service manager asked us to go (SIGTERM)."""

    def __init__(self) -> None:
        self.count = 0
        self.detach = False
        self.wake: asyncio.Event | None = None

    def on_interrupt(self) -> None:
        self.count += 1
        self._wake()

    def on_terminate(self) -> None:
        self.detach = True
        self._wake()

    def _wake(self) -> None:
        if self.wake is not None:
            self.wake.set()


@asynccontextmanager
async def _interrupts() -> AsyncIterator[_Interrupts]:
    interrupts, loop = _Interrupts(), asyncio.get_running_loop()
    handlers: dict[signal.Signals, Callable[[], None]] = {signal.SIGINT: interrupts.on_interrupt, signal.SIGTERM: interrupts.on_terminate}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield interrupts
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
