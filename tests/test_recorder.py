"""The recorder by itself: what it knows about each event, and that nothing is told before it is recorded."""

import pytest

from jobledger import MemoryStore, RequestRefused, StoreError
from jobledger.core import events as e
from jobledger.core import reports as r
from jobledger.core import requests as q
from jobledger.core.ports import InboxRequest
from jobledger.core.specs import PoolSpec
from jobledger.core.world import World
from jobledger.keeper import SecretKeeper
from jobledger.recorder import Arrival, Recorder, of_report, subject_of
from jobledger.replay import replay


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def recorder(store):
    lease = store.acquire_lease("test", now=0, ttl=10)
    world = World()
    return Recorder(store, world, lease, store.head(), SecretKeeper.of(store, world))


def create(pool="p", **more):
    return Arrival(stimulus=q.CreatePool(spec=PoolSpec(id=pool, nodes=2)), causation="request:1", correlation=f"pool/{pool}", **more)


def terminate(**more):
    return Arrival(stimulus=q.TerminateJob(job="none"), causation="request:2", correlation="job/none", **more)


def test_nothing_is_told_or_recorded_before_commit(recorder, store):
    told = []
    recorder.take(create(answer=told.append), 5)
    recorder.take(terminate(answer=told.append), 5)
    assert recorder.pending
    assert (told, store.head().position) == ([], 0)
    recorder.commit()
    assert not recorder.pending
    assert told[0] == store.head() == recorder.head
    assert isinstance(told[1], RequestRefused)


def test_the_whole_chain_of_a_batch_points_to_its_request(recorder, store):
    recorder.note(e.EngineStarted(version="1", host="h", pid=1, epoch=1), 4)
    recorder.take(create(actor="ann"), 5)
    recorder.commit()
    recorded = list(store.read())
    created, *rest = recorded[1:]
    assert (created.causation, created.actor, created.correlation) == ("request:1", "ann", "pool/p")
    assert len(rest) >= 2
    for one in rest:
        if one.causation != "request:1":
            assert int(one.causation.removeprefix("event:")) in range(created.position, one.position)
            assert one.actor == "jobledger"
        assert one.correlation == "pool/p"


def test_what_it_notes_is_part_of_the_world_as_a_replay_has_it(recorder, store):
    recorder.note(e.EngineStarted(version="1", host="h", pid=1, epoch=1), 4)
    recorder.take(create(), 5)
    recorder.commit()
    assert recorder.world == replay(store)[0]
    assert recorder.world.engine_running


def test_a_commit_that_fails_tells_nobody(recorder, store):
    told = []
    recorder.take(create(answer=told.append), 5)
    store.acquire_lease("another", now=100, ttl=10)
    with pytest.raises(StoreError):
        recorder.commit()
    assert (told, store.head().position, recorder.pending) == ([], 0, False)


def test_requests_from_the_inbox_are_answered_in_the_same_step(recorder, store):
    letters = [InboxRequest(id=f"l{number}", kind="k/1", data={}, actor="ann", reason=None, submitted_at=0) for number in range(3)]
    for letter in letters:
        store.put_request(letter)
    recorder.take(create(letter=letters[0]), 5)
    recorder.take(terminate(letter=letters[1]), 5)
    recorder.refuse(letters[2], RequestRefused("InvalidInput", "cannot be read"), 6)
    assert recorder.commit() == {"l0", "l1", "l2"}
    replies = [store.reply_to(letter.id) for letter in letters]
    assert [(reply.accepted, reply.code, reply.position) for reply in replies] == [
        (True, None, store.head().position),
        (False, "JobNotFound", store.head().position),
        (False, "InvalidInput", store.head().position),
    ]
    assert replies[2].message == "cannot be read"


def test_a_commit_of_nothing_does_nothing(recorder, store):
    store.close()
    assert recorder.commit() == set()


@pytest.mark.parametrize(
    ("request_", "subject"),
    [
        (q.TerminateJob(job="j"), "job/j"),
        (q.TerminateTask(job="j", task="t"), "job/j"),
        (q.CreatePool(spec=PoolSpec(id="p")), "pool/p"),
        (q.ResizePool(pool="p", target=3), "pool/p"),
        (q.RebootNode(node="p-1"), "node/p-1"),
    ],
)
def test_a_request_is_about(request_, subject):
    assert subject_of(request_) == subject


def test_a_report_is_about_its_node_or_of_nobody():
    arrival = of_report(r.NodeReady(node="p-1", boot_id="b"), World())
    assert (arrival.causation, arrival.correlation, arrival.actor) == ("report:p-1", "node/p-1", "jobledger")
    arrival = of_report(r.ExecutionLost(execution=7, reason="?"), World())
    assert (arrival.causation, arrival.correlation) == ("report:7", "engine")
