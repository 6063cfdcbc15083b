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
from ..core.errors import EngineGone, LedgerBusy, RequestRefused
from ..core.ids import JobId
from ..core.world import Job, World
from ..ending import Interrupts, to_the_end
from ..engine import Engine
from ..eventstore import Durability
from ..guest import Guest
from ..jobfile import JobFile, JobFileError, load
from ..sealing import SecretStore
from ..views import status_document
from .common import ENDED_OTHERWISE, INTERRUPTED, actor, counted, json_option, ledger_option, print_json, root_option, spare_the_collector
from .dryrunning import DryRunOptions, dry_run_options, run_dry
from .progress import Progress, Quiet, watch
from .sameness import job_differs, pool_differs
from .summary import print_summary

_IDLE_LOOKS: Final = 10
"""Looks in a row, a tenth of a second apart, at which an engine has nothing to do before `--until-idle` believes it."""

_RETRY_S: Final = 0.1
"""How long to wait where an engine was there and is not."""

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
@dry_run_options
def run(
    file: str, ledger: Path, root: Path, durability: Durability, leave_active: bool, quiet: bool, as_json: bool, dry: DryRunOptions | None
) -> None:
    """Run a job file to the job's end, and tell what happened.

    FILE is YAML or JSON, `-` for standard input.  Makes the ledger and the pool if need be.  The same file again resumes a job that has
    not ended and reports one that has; the same job id with another specification is refused with the difference.  A job with
    `onAllTasksComplete: noaction` is ended when its tasks are complete, and one that cannot go on (preparation failed on every node, no
    node is left, or its tasks wait for ones that will not succeed, or require more slots than a node has) when nothing of it runs, so that
    its release runs.

    Ctrl-C ends the job in good order: its release runs.  A second Ctrl-C detaches: what runs goes on, and the same command resumes.

    Where an engine drives the ledger already, it is asked to run the job, and waited for; if it goes before the end, this takes over.

    With --executor dry-run nothing is run: the same engine decides on a virtual clock what would happen, and records it in a ledger of its own,
    `.jobledger/dry-run.db`, where the dry run before makes room.  Without a seed, scenario or recording everything goes well.

    \b
      jobledger run examples/job_prep_release.yaml
      jobledger run job.json --json | jq .job.state
      jobledger run job.yaml --executor dry-run --plan table
      jobledger run job.yaml --executor dry-run --seed 7 --scenario examples/scenarios/storm.yaml
    """
    spare_the_collector()
    if dry is not None:
        found = run_dry(file, dry, ledger, durability, leave_active=leave_active, quiet=quiet, as_json=as_json)
        sys.exit(_status(found.job, interrupted=False))
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
    spare_the_collector()
    sys.exit(asyncio.run(_drive(ledger, root, durability, until_idle=until_idle, quiet=quiet)))


# --- run ------------------------------------------------------------------------------------------------------


async def _run(
    job_file: JobFile, ledger: Path, root: Path, durability: Durability, *, leave_active: bool, quiet: bool, as_json: bool, resume: str
) -> int:
    progress: Progress | Quiet = Quiet() if quiet or as_json else Progress(job_file.job.id)
    # Signals are heeded before the ledger is taken: from then on it has to be let go in good order.
    async with _interrupts() as interrupts:
        while True:
            try:
                async with await _engine_or_guest(ledger, root, durability, progress) as engine:
                    if interrupts.count or interrupts.detach:
                        return INTERRUPTED
                    detached = await _see_through(engine, job_file, interrupts, progress, leave_active=leave_active)
                    _tell(engine, job_file.job.id, root, ledger, as_json=as_json)
                    if detached:
                        click.echo(f"jobledger: detached{_goes_on(engine)}.  Resume with: {resume}", err=True)
                    return _status(engine.world.jobs.get(job_file.job.id), interrupted=interrupts.count > 0)
            except EngineGone as gone:
                progress.say(f"{gone}: taking over")


async def _engine_or_guest(ledger: Path, root: Path, durability: Durability, progress: Progress | Quiet) -> Engine | Guest:
    """The engine of the ledger, or a guest of the one that drives it already.  Raises what opening them raises."""
    while True:
        try:
            return await Engine.open(ledger, root=root, durability=durability)
        except LedgerBusy:
            with suppress(EngineGone):  # In just this moment: then there is one to be opened.
                guest = await Guest.open(ledger)
                progress.say(f"an engine drives {ledger} already: it is asked, and waited for")
                return guest
        await asyncio.sleep(_RETRY_S)


async def _see_through(engine: Engine | Guest, job_file: JobFile, interrupts: Interrupts, progress: Progress | Quiet, *, leave_active: bool) -> bool:
    """Submit the job file and wait for the job's end; whether the user left before that."""
    job_id, before = job_file.job.id, engine.position
    with SecretStore.of(engine.store) as secrets:
        _refuse_other_specification(engine.world, secrets.sealed(job_file))
    if (known := engine.world.jobs.get(job_id)) is not None and known.state == "completed":
        progress.say(f"job {job_id} has ended already, so nothing is run")
    if job_file.pool is not None:
        await engine.create_pool(job_file.pool, actor=actor())
    await engine.submit(job_file.job, job_file.tasks, actor=actor())
    async with watch(engine, progress, after=before):

        def say(text: str) -> None:
            progress.catch_up(engine)
            progress.say(text)

        return await to_the_end(engine, job_id, interrupts, say, actor=actor(), leave_active=leave_active)


def _tell(engine: Engine | Guest, job_id: JobId, root: Path, ledger: Path, *, as_json: bool) -> None:
    job = engine.world.jobs.get(job_id)
    if as_json and job is not None:
        print_json(status_document(engine.world, job_id, engine.position))
    elif job is not None:
        its_root = Path(engine.world.engine_root) if isinstance(engine, Guest) else root  # Where the engine that ran it keeps files.
        print_summary(engine.world, job, root=its_root, ledger=ledger, explain=job.state != "completed")
    else:
        click.echo(f"jobledger: job {job_id} was deleted before its end", err=True)


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


def _goes_on(engine: Engine | Guest) -> str:
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


@asynccontextmanager
async def _interrupts() -> AsyncIterator[Interrupts]:
    interrupts, loop = Interrupts(), asyncio.get_running_loop()
    handlers: dict[signal.Signals, Callable[[], None]] = {signal.SIGINT: interrupts.on_interrupt, signal.SIGTERM: interrupts.on_terminate}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield interrupts
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
