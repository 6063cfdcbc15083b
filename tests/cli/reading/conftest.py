"""What tests of the reading commands share: ledgers with a history that the rules made, without an engine."""

import threading
from pathlib import Path

import pytest

from jobledger.core.ids import Duration, Micros
from jobledger.core.ports import NewEvent
from jobledger.core.requests import CreatePool, SubmitJob
from jobledger.core.specs import JobSpec, PoolInfo, PoolSpec, PreparationSpec, ReleaseSpec, TaskSpec
from jobledger.eventstore import SqliteStore
from jobledger.testing.scenario import Scenario

BEGIN = Micros(1_795_444_415_000_000)
BOUND_S = 30.0


@pytest.fixture
def append(folder):
    """Writes events, given as (event, time), to the end of a ledger, the default one unless told otherwise."""

    def call(entries, ledger=Path(".jobledger/ledger.db")):
        (folder / ledger).parent.mkdir(parents=True, exist_ok=True)
        store = SqliteStore.open(folder / ledger, durability="relaxed")
        try:
            lease = store.acquire_lease("test", now=BEGIN, ttl=Duration(1))
            new = [NewEvent(event=event, recorded_at=at, causation="engine", correlation="engine", actor="jobledger") for event, at in entries]
            store.append(new, expected=store.head().position, lease=lease)
            store.release_lease(lease)
        finally:
            store.close()

    return call


@pytest.fixture
def scenario():
    """Makes a scenario with the pool `p`, and the job `sample` with the tasks named, whose programs do as the script says."""

    def call(*tasks, script=None, nodes=1, run=True, **more):
        s = Scenario(script)
        s.now = BEGIN
        s.finish(CreatePool(spec=PoolSpec(id="p", nodes=nodes)))
        job = JobSpec(
            id="sample",
            pool_info=PoolInfo(pool_id="p"),
            job_preparation_task=PreparationSpec(command_line="prepare"),
            job_release_task=ReleaseSpec(command_line="release"),
            **{"on_all_tasks_complete": "terminatejob", **more},
        )
        s.when(SubmitJob(spec=job, tasks=tuple(TaskSpec(id=task, command_line="work") if isinstance(task, str) else task for task in tasks)))
        if run:
            s.run()
        return s

    return call


@pytest.fixture
def record(append):
    """Writes all that happened in a scenario to a new ledger, and gives the world after it."""

    def call(scenario, ledger=Path(".jobledger/ledger.db")):
        append(scenario.log, ledger)
        return scenario.world

    return call


@pytest.fixture
def row():
    """The cells of the line of a table that begins with a cell; columns are two spaces or more apart."""

    def call(text, first):
        found = [line for line in text.splitlines() if line.split("  ")[0] == first]
        assert len(found) == 1, text
        return [cell.strip() for cell in found[0].split("  ") if cell.strip()]

    return call


@pytest.fixture
def soon():
    """What a process answers, or its end where it keeps us waiting."""

    def call(process, what):
        timer = threading.Timer(BOUND_S, process.kill)
        timer.start()
        try:
            return what()
        finally:
            timer.cancel()

    return call
