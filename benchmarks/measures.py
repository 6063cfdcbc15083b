"""The measures: each one a figure of jobledger beside the limit of the same machine, taken in turn in one run."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from null_executor import NullExecutor

from jobledger import Engine, JobSpec, PoolInfo, PoolSpec, PreparationSpec, ReleaseSpec, SqliteStore, TaskSpec
from jobledger.core import owed, requests
from jobledger.core import reports as r
from jobledger.core.advance import advance
from jobledger.core.commands import BootNode
from jobledger.core.events import Event, ExecutionConfirmed
from jobledger.core.evolve import evolve
from jobledger.core.ids import SECOND, Duration, ExecutionId, JobId, Micros, NodeId, PoolId, TaskId
from jobledger.core.ports import NewEvent
from jobledger.core.specs import TaskDependencies
from jobledger.core.world import World
from jobledger.replay import replay
from jobledger.snapshots import SUFFIX

HERE = Path(__file__).parent


def job(count: int, command: str = "/bin/true", *, chained: bool = False) -> tuple[JobSpec, list[TaskSpec]]:
    """A job with preparation and release and so many tasks; `chained`, each depends on the one eight before it."""
    spec = JobSpec(
        id=JobId("bench"),
        pool_info=PoolInfo(pool_id=PoolId("bench")),
        job_preparation_task=PreparationSpec(command_line=command),
        job_release_task=ReleaseSpec(command_line=command),
        on_all_tasks_complete="terminatejob",
        uses_task_dependencies=chained,
    )
    waits = [TaskDependencies(task_ids=(_task_id(number - 8),)) if chained and number >= 8 else None for number in range(count)]
    return spec, [TaskSpec(id=_task_id(number), command_line=command, depends_on=waits[number]) for number in range(count)]


def _task_id(number: int) -> TaskId:
    return TaskId(f"task{number:06}")


# --- the core -------------------------------------------------------------------------------------------------


def simulate(count: int, nodes: int = 8, *, chained: bool = False) -> tuple[list[tuple[Event, Micros]], float]:
    """One job through the core alone; its events, and the seconds it took to decide and fold them."""
    world, log, now = World(), [], 0
    spec, tasks = job(count, chained=chained)
    waiting: list[Any] = [requests.CreatePool(spec=PoolSpec(id=PoolId("bench"), nodes=nodes)), requests.SubmitJob(spec=spec, tasks=tuple(tasks))]
    begin = time.perf_counter()
    while waiting:
        for stimulus in waiting:
            now += 1
            log += [(decided.event, Micros(now)) for decided in advance(world, stimulus, Micros(now))]
        waiting = [report for command in owed.take_fresh(world) for report in answers(command)]
    took = time.perf_counter() - begin
    assert world.jobs[JobId("bench")].state == "completed"
    return log, took


def answers(command: Any) -> Iterator[r.Report]:
    """What an executor reports for which every program exits with 0 at once."""
    if isinstance(command, BootNode):
        yield r.NodeReady(node=command.node, boot_id="b", incarnation=command.incarnation)
    else:
        yield r.ExecutionStarted(execution=command.launch.execution, pid=1)
        yield r.ExecutionExited(execution=command.launch.execution, exit_code=0)


def fold(log: list[tuple[Event, Micros]]) -> float:
    """Seconds to fold a log into a world."""
    world = World()
    begin = time.perf_counter()
    for event, at in log:
        evolve(world, event, at)
    return time.perf_counter() - begin


def bare_dispatch(log: list[tuple[Event, Micros]]) -> float:
    """The limit of folding in this language: look the event's type up in a dict and call a function that counts."""
    counts = dict.fromkeys({type(event) for event, _ in log}, 0)

    def count(event: Event, _at: Micros) -> None:
        counts[type(event)] += 1

    handlers = dict.fromkeys(counts, count)
    begin = time.perf_counter()
    for event, at in log:
        handlers[type(event)](event, at)
    return time.perf_counter() - begin


# --- the ledger -----------------------------------------------------------------------------------------------

BATCH = 100


def append_events(folder: Path, count: int) -> float:
    """Seconds to append `count` events in batches of 100, hash-chained and durable."""
    with fresh(folder) as place:
        store = SqliteStore.open(place / "ledger.db")
        lease = store.acquire_lease("bench", now=Micros(0), ttl=Duration(3600 * SECOND))
        begin = time.perf_counter()
        for first in range(0, count, BATCH):
            events = [
                NewEvent(
                    event=ExecutionConfirmed(
                        execution=ExecutionId(number), job=JobId("bench"), task=TaskId(f"task{number:06}"), node=NodeId("bench-1"), pid=number
                    ),
                    recorded_at=Micros(number),
                    causation=f"report:{number}",
                    correlation="job/bench",
                    actor="jobledger",
                )
                for number in range(first, first + BATCH)
            ]
            store.append(events, expected=first, lease=lease)
        took = time.perf_counter() - begin
        store.close()
        return took


def append_rows(folder: Path, count: int) -> float:
    """The limit of appending: rows of the same size by `executemany`, the same pragmas, no hashes and no checks."""
    with fresh(folder) as place:
        db = sqlite3.connect(place / "rows.db", isolation_level=None)
        db.execute("PRAGMA page_size = 8192")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(
            "CREATE TABLE rows (id INTEGER PRIMARY KEY, stream INTEGER, type TEXT, data TEXT, at INTEGER, cause TEXT, actor TEXT, hash BLOB) STRICT"
        )
        data, digest = '{"execution":123456,"job":"bench","task":"task000000","node":"bench-1","pid":1234567}', b"0" * 32
        begin = time.perf_counter()
        for first in range(0, count, BATCH):
            rows = [
                (number + 1, 1, "execution.confirmed", data, number, "report:123456", "jobledger", digest) for number in range(first, first + BATCH)
            ]
            db.execute("BEGIN IMMEDIATE")
            db.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            db.execute("COMMIT")
        took = time.perf_counter() - begin
        db.close()
        return took


def replay_ledger(path: Path) -> tuple[int, float]:
    """Events in a ledger, and the seconds to read, check, decode and fold them."""
    store = SqliteStore.open(path, read_only=True)
    begin = time.perf_counter()
    replay(store)
    took = time.perf_counter() - begin
    count = store.head().position
    store.close()
    return count, took


def read_rows(path: Path) -> float:
    """The limit of replaying: fetch the same rows and do nothing with them."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    begin = time.perf_counter()
    for _ in db.execute("SELECT * FROM events ORDER BY position"):
        pass
    took = time.perf_counter() - begin
    db.close()
    return took


# --- the engine -----------------------------------------------------------------------------------------------


def engine_alone(folder: Path, count: int) -> tuple[float, float]:
    """Wall and CPU seconds of the engine for a job, durable, with an executor that does nothing."""
    with fresh(folder) as place:
        cpu = time.process_time()
        wall = asyncio.run(_drive(place, count, slots=4, executor="null"))
        return wall, time.process_time() - cpu


def end_to_end(folder: Path, count: int, in_flight: int) -> float:
    """Seconds for a job of `/bin/true` as real processes: durable, with preparation, release and output files, two nodes."""
    with fresh(folder) as place:
        return asyncio.run(_drive(place, count, slots=in_flight // 2, executor="local"))


async def _drive(place: Path, count: int, *, slots: int, executor: str) -> float:
    executors = {"null": NullExecutor()} if executor == "null" else None
    async with await Engine.open(place / "ledger.db", root=place / "nodes", executors=executors) as engine:
        await engine.create_pool(PoolSpec(id=PoolId("bench"), executor=executor, nodes=2, task_slots_per_node=slots))
        spec, tasks = job(count)
        begin = time.perf_counter()
        await engine.submit(spec, tasks)
        await engine.wait(spec.id, timeout_s=600)
        took = time.perf_counter() - begin
        assert engine.world.jobs[spec.id].succeeded == count
        return took


def spawn_limit(folder: Path, program: Path, count: int, in_flight: int) -> float:
    """The limit of starting processes: the C loop."""
    with fresh(folder) as place:
        done = subprocess.run([program, str(count), str(in_flight), place, "/bin/true"], check=True, capture_output=True, text=True)
        return float(done.stdout)


def build_spawn_limit(folder: Path) -> Path | None:
    """The C loop, compiled; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    program = folder / "spawn_limit"
    subprocess.run([compiler, "-O2", "-o", program, HERE / "spawn_limit.c"], check=True)
    return program


@contextmanager
def fresh(folder: Path) -> Iterator[Path]:
    """A folder of its own for one measurement.  It is left for the end: removing many files slows the next measurement down."""
    place = folder / f"{time.monotonic_ns()}"
    place.mkdir()
    yield place


def ledger_of(folder: Path, count: int) -> Path:
    """A ledger of a job of `count` tasks, for replaying."""
    place = folder / f"ledger-{count}"
    place.mkdir()
    asyncio.run(_drive(place, count, slots=4, executor="null"))
    (place / f"ledger.db{SUFFIX}").unlink(missing_ok=True)  # It would spare the replay that is to be measured.
    return place / "ledger.db"


Measure = Callable[[], float]


def progress(text: str) -> None:
    """What is being measured now."""
    print(f"  {text}", file=sys.stderr, flush=True)
