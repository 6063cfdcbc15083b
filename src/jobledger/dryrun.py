"""Dry runs: a job through the real engine, with a virtual clock and an executor that only pretends.

    with dry_run(jobfile.load("job.yaml"), seed=7) as found:
        print(found.took, found.job.state)

1. The same job, seed, scenario, recordings and start make the same ledger, byte for byte, wherever and whenever.
2. No process is started, no file but the ledger is written, and no secret is read or kept: a placeholder stands for each.
3. A dry run always ends: when the job is over, or when nothing is left that could happen.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Final, Self, TypeVar

from attrs import Factory, define, evolve, frozen

from .core.checks import Mistake
from .core.errors import LedgerBusy, RequestRefused
from .core.events import PoolCreated
from .core.ids import HOST_EXECUTOR, SECOND, Duration, Micros
from .core.ports import EventStore, Executor
from .core.secrecy import SEALED_PREFIX, with_settings
from .core.world import Job, World
from .ending import Interrupts, to_the_end
from .engine import Engine
from .eventstore import Durability, MemoryStore, SqliteStore, open_store
from .executors.dry_run import DryRunExecutor
from .executors.fortune import ALL_IS_WELL, ORDINARY_TROUBLE, Fortune, Recordings, Scenario, Source
from .jobfile import JobFile, JobFileError
from .opening import is_dry_run
from .owner import certainly_dead, new_name
from .plugins import executor_names
from .sealing import SUFFIX
from .surroundings import Surroundings
from .virtual import VirtualLoop

DEFAULT_START: Final = Micros(946_684_800 * SECOND)
"""When a dry run begins unless it is told otherwise: 2000-01-01T00:00:00Z, which nobody takes for a time at which something really ran."""

ACTOR: Final = "dry-run"
"""Who asks in a dry run: the same on every machine."""

WITHHELD: Final = SEALED_PREFIX + "0" * 64
"""What stands for the value of a secret: it has the form of a digest, so that it is stored as it is, and is that of nothing."""

T = TypeVar("T")


@frozen(kw_only=True)
class Assumptions:
    """What a dry run is made from.  `seed` is for all that is drawn.

    Without a scenario everything goes well, unless there is a seed and no recordings: then there is some trouble, as there ordinarily is.
    `recorded_name` is for the mark in the ledger: which run was recorded.
    """

    seed: int | None = None
    scenario: Scenario | None = None
    recordings: Recordings | None = None
    recorded_name: str = ""
    start: Micros = DEFAULT_START

    @property
    def mark(self) -> str:
        """What the ledger says of itself."""
        told = [] if self.seed is None else [f"seed {self.seed}"]
        if self.scenario is not None:
            told.append(f"scenario {_digest(repr(self.scenario))}")
        if self.recordings is not None:
            told.append(f"recorded {self.recorded_name}".rstrip())
        return ", ".join(told) or "everything goes well"

    def fortune(self) -> Fortune:
        """Who says what becomes of everything."""
        usual = ALL_IS_WELL if self.seed is None or self.recordings is not None else ORDINARY_TROUBLE
        return Fortune(seed=self.seed or 0, scenario=self.scenario or usual, recordings=self.recordings or Recordings())


@define(kw_only=True)
class DryRun:
    """What came of a dry run.  Use as a context manager, or close it: it holds the ledger open for reading."""

    store: EventStore
    """The ledger, to read."""
    world: World
    """The world at the end."""
    job: Job | None
    """The job as it was at the end; None where it was deleted."""
    took: Duration
    """Virtual time from the beginning to the end."""
    left: bool
    """Whether it ended before the job did: nothing could happen any more."""
    told: Counter[Source] = Factory(Counter)
    """How many durations came from where."""

    def close(self) -> None:
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def dry_run(
    job_file: JobFile,
    assumptions: Assumptions | None = None,
    *,
    ledger: str | PathLike[str] = "memory:",
    replace: bool = False,
    durability: Durability = "relaxed",
    leave_active: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> DryRun:
    """Run a job file to the job's end without running anything; what comes back is what became of it.

    `ledger` is a path or `memory:`; with `replace` an earlier dry run at that path makes room, and without it is continued.  `say` is told why
    a job that does not end by itself is ended, as `jobledger run` would do; with `leave_active` it is left as it is.

    Not to be called inside a running event loop: use a thread there, or `Engine.open` with `DryRunExecutor` and surroundings of your own.
    Raises `RequestRefused` (the ledger is one of real work; the job is there with another specification), `JobFileError`, `LedgerBusy`, `StoreError`.
    """
    made_from = assumptions or Assumptions()
    job_file = withheld(job_file)
    store = _open(ledger, ledger_id_of(job_file, made_from), replace=replace, durability=durability)
    try:
        fortune = made_from.fortune()
        around, executors = surroundings_of(store, made_from), _executors(store, job_file, fortune)
    except BaseException:
        store.close()
        raise
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        world, left, took = runner.run(_drive(store, around, executors, job_file, leave_active=leave_active, say=say))
    found = store if isinstance(store, _Readable) else SqliteStore.open(ledger, create=False)
    return DryRun(store=found, world=world, job=world.jobs.get(job_file.job.id), took=took, left=left, told=fortune.told)


def withheld(record: T) -> T:
    """The record with a placeholder for the value of each secret."""
    return with_settings(record, lambda setting: evolve(setting, value=WITHHELD) if setting.secret else setting)


def ledger_id_of(job_file: JobFile, assumptions: Assumptions) -> str:
    """The id of a dry run's ledger: the same for the same job made from the same assumptions."""
    digest = sha256(f"{assumptions.mark}\0{assumptions.start}\0".encode())
    for spec in (job_file.pool, job_file.job, *job_file.tasks):
        digest.update(repr(spec).encode(errors="surrogatepass"))
    return digest.hexdigest()[:8]


def surroundings_of(store: EventStore, made_from: Assumptions) -> Surroundings:
    """The surroundings of a dry run's engine, of which nothing is this machine's: the running loop's time, which goes on where the ledger's ends.

    For an engine of one's own on a `virtual` loop: `Engine.open(store, executors={...}, surroundings=surroundings_of(store, made_from))`.
    """
    position = store.head().position
    last = next((recorded.recorded_at for recorded in store.read(after=position - 1)), Micros(0)) if position else Micros(0)
    begin = max(made_from.start, last)
    names = _names(position)
    return Surroundings(
        clock=lambda: begin + _virtual_now(),
        host=ACTOR,
        pid=0,
        boot_id="",
        owner=new_name(),  # This one is nowhere in a ledger that was let go of, and tells others who drives it meanwhile.
        lease_ttl=None,
        inbox_poll_s=None,
        new_identity=lambda: next(names),
        dry_run=made_from.mark,
    )


# --- the ledger -----------------------------------------------------------------------------------------------


class _Readable(MemoryStore):
    """A ledger in memory that its engine does not close: it is read afterwards."""

    def close(self) -> None:
        """Nothing to let go of."""


def _open(ledger: str | PathLike[str], ledger_id: str, *, replace: bool, durability: Durability) -> EventStore:
    if ledger == "memory:":
        return _Readable(ledger_id=ledger_id)
    path = Path(ledger)
    if path.exists():
        _look_at(path, replace=replace)
    return open_store(path, durability=durability, ledger_id=ledger_id)


def _look_at(path: Path, *, replace: bool) -> None:
    """Refuse a ledger of real work, and `replace` another.  Raises `RequestRefused`, `LedgerBusy`, `StoreError`."""
    store = SqliteStore.open(path, create=False)
    try:
        is_empty = store.head().position == 0 and not store.pending_requests()
        if not is_empty and not is_dry_run(store):
            text = f"ledger: {path} is one of real work, and no dry run may be recorded there; name another one"
            raise RequestRefused("InvalidPropertyValue", text)
        lease = store.current_lease()
        if lease is not None and not certainly_dead(lease):
            raise LedgerBusy(f"another dry run is under way in {path}; wait for it, or name another ledger")
    finally:
        store.close()
    if replace:
        for name in (path, *(Path(f"{path}{end}") for end in ("-wal", "-shm", SUFFIX))):
            name.unlink(missing_ok=True)


# --- the run --------------------------------------------------------------------------------------------------


def _names(position: int) -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"{position}-{number}"


def _virtual_now() -> int:
    loop = asyncio.get_running_loop()
    return round(loop.time() * SECOND)


def _executors(store: EventStore, job_file: JobFile, fortune: Fortune) -> dict[str, Executor]:
    """One that pretends under every name that a pool may have given, and for what runs on the engine's host."""
    names = {*executor_names(), HOST_EXECUTOR}
    if job_file.pool is not None:
        names.add(job_file.pool.executor)
    names |= {recorded.event.spec.executor for recorded in store.read() if isinstance(recorded.event, PoolCreated)}
    return {name: DryRunExecutor(fortune) for name in sorted(names)}


async def _drive(
    store: EventStore, around: Surroundings, executors: dict[str, Executor], job_file: JobFile, *, leave_active: bool, say: Callable[[str], None]
) -> tuple[World, bool, Duration]:
    """The world at the end, whether it was left before the job's end, and how long it took."""
    job_id, pool_id = job_file.job.id, job_file.job.pool_info.pool_id
    loop, interrupts = asyncio.get_running_loop(), Interrupts()
    if isinstance(loop, VirtualLoop):
        loop.when_nothing_left = interrupts.on_terminate
    async with await Engine.open(store, executors=executors, surroundings=around) as engine:
        if job_file.pool is None and pool_id not in engine.world.pools:
            text = f"a dry run knows no pool '{pool_id}'; add a `pool:` section"
            raise JobFileError("the job file", [Mistake(path="job.poolInfo.poolId", text=text)])
        if job_file.pool is not None:
            await engine.create_pool(job_file.pool, actor=ACTOR)
        await engine.submit(job_file.job, job_file.tasks, actor=ACTOR)
        left = await to_the_end(engine, job_id, interrupts, say, actor=ACTOR, leave_active=leave_active, alone=True)
        return engine.world, left, Duration(_virtual_now())


def _digest(text: str) -> str:
    return sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
