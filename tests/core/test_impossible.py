"""What cannot happen says what it is about: every event of a released ledger, folded into a world where no row of its machine's table allows it."""

import shutil
from pathlib import Path

import pytest

from jobledger.core import events as e
from jobledger.core.errors import ImpossibleEvent
from jobledger.core.events import STORED, stream_of
from jobledger.core.evolve import evolve
from jobledger.core.machines import MACHINES
from jobledger.core.world import World
from jobledger.eventstore import SqliteStore

LEDGER = Path(__file__).parent.parent / "golden" / "v0.2.0.db"

# Where each machine's state is in the world, and how an event's entity is called.
ENTITIES = {
    "pool": (lambda world, event: world.pools.get(event.pool), "state", "{0.pool}"),
    "allocation": (lambda world, event: world.pools.get(event.pool), "allocation", "{0.pool}"),
    "node": (lambda world, event: world.nodes.get(event.node), "state", "{0.node}"),
    "scheduling": (lambda world, event: world.nodes.get(event.node), "scheduling", "{0.node}"),
    "start-task": (lambda world, event: world.nodes[event.node].start_task, "state", "{0.node}"),
    "job": (lambda world, event: world.jobs.get(event.job), "state", "{0.job}"),
    "task": (lambda world, event: world.jobs[event.job].tasks.get(event.task), "state", "{0.task} of job {0.job}"),
    "preparation": (lambda world, event: world.jobs[event.job].preparations.get(event.node), "state", "of job {0.job} on {0.node}"),
    "release": (lambda world, event: world.jobs[event.job].releases.get(event.node), "state", "of job {0.job} on {0.node}"),
    "finalizer": (lambda world, event: world.jobs[event.job].finalizer, "state", "of job {0.job}"),
    "execution": (lambda world, event: world.executions.get(event.execution), "state", "{0.execution}"),
    "files": (lambda world, event: world.nodes[event.node].folders[event.job].get(event.task), "state", "of {0.task} of job {0.job} on {0.node}"),
}
# Where the event is another machine's too, which refuses it first; and an execution comes into being with a number of its own.
OTHERS = {("allocation", e.PoolCreated), ("scheduling", e.NodeAdded), ("execution", e.ExecutionRequested)} | {
    ("files", event) for event in (e.ExecutionRequested, e.ExecutionEnded, e.ExecutionNeverRan, e.ExecutionUnresolved)
}
MOVES = [(name, event) for name in ENTITIES for event in dict.fromkeys(row.event for row in MACHINES[name].rows) if (name, event) not in OTHERS]


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    copy = tmp_path_factory.mktemp("golden") / "ledger.db"
    shutil.copy(LEDGER, copy)
    store = SqliteStore.open(copy, read_only=True)
    yield [(recorded.event, recorded.recorded_at) for recorded in store.read()]
    store.close()


def just_before(history, machine, event):
    """The world before the first event of its type, or after it where that is what brings the entity into being; and the event."""
    find = ENTITIES[machine][0]
    world = World()
    for happened, at in history:
        if type(happened) is event and find(world, happened) is not None:
            return world, happened, at
        evolve(world, happened, at)
        if type(happened) is event and find(world, happened) is not None:
            return world, happened, at
    raise AssertionError(f"the ledger has no {event.__name__}")


@pytest.mark.parametrize(("machine", "event"), MOVES, ids=lambda part: part if isinstance(part, str) else part.__name__)
def test_a_move_that_no_table_has_names_the_machine_the_entity_the_state_and_the_event(history, machine, event):
    world, happened, at = just_before(history, machine, event)
    find, attribute, name = ENTITIES[machine]
    setattr(find(world, happened), attribute, "nowhere")
    with pytest.raises(ImpossibleEvent) as impossible:
        evolve(world, happened, at)
    entity = f"{machine} {name.format(happened)}"
    assert str(impossible.value) == f"{entity} is nowhere: {STORED[event][0]} cannot happen to it"
    assert (impossible.value.entity, impossible.value.stream) == (entity, stream_of(happened))


def test_files_of_a_job_that_are_gone_already(history):
    world = World()
    happened, at = next((event, at) for event, at in history if type(event) is e.JobFilesRemoved or evolve(world, event, at))
    del world.nodes[happened.node].removals[happened.job, None]
    with pytest.raises(ImpossibleEvent) as impossible:
        evolve(world, happened, at)
    entity = f"job-files of job {happened.job} on {happened.node}"
    assert str(impossible.value) == f"{entity} is absent: job-files.removed cannot happen to it"


@pytest.mark.parametrize(
    ("event", "missing", "stream"),
    [
        (e.JobTerminating(job="j", reason=""), "job.terminating cannot happen: there is no j", "job/j"),
        (e.TaskAdded(job="j", task="t", spec=None), "task.added cannot happen: there is no j", "job/j"),
        (e.NodeIdle(node="p-1"), "node.idle cannot happen: there is no p-1", "node/p-1"),
        (e.PoolSteady(pool="p"), "pool.steady cannot happen: there is no p", "pool/p"),
        (e.ExecutionConfirmed(execution=7, job=None, task="starttask", node="p-1", pid=1), "execution 7 is not live", "node/p-1"),
    ],
    ids=lambda part: type(part).__name__ if not isinstance(part, str) else part,
)
def test_what_happens_to_nothing_says_what_there_is_not(event, missing, stream):
    with pytest.raises(ImpossibleEvent) as impossible:
        evolve(World(), event, 0)
    assert str(impossible.value) == missing
    assert impossible.value.stream == stream
