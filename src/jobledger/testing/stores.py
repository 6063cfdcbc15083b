# ruff: noqa: S101 - asserts are what a suite of tests is made of
"""The conformance suite of stores: what an `EventStore` promises, as tests to inherit.

    class TestMyStore(EventStoreConformance):
        def open_store(self) -> EventStore:
            return MyStore(...)          # a new, empty ledger each time

        def open_again(self, store: EventStore) -> EventStore:
            return MyStore(...)          # the same ledger once more, as another process would

pytest then runs all of it against the new store.  Call `pytest.register_assert_rewrite("jobledger.testing.stores")` in
`conftest.py` for failures that show the values.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from attrs import evolve

from jobledger.core.errors import AppendConflict, LeaseLost, LedgerBusy, StoreError
from jobledger.core.events import NodeIdle, PoolCreated, TaskAdded, TaskRequeued
from jobledger.core.ids import SECOND, Duration, JobId, Micros, NodeId, PoolId, TaskId
from jobledger.core.ports import EventStore, Head, InboxReply, InboxRequest, Lease, NewEvent, RecordedEvent
from jobledger.core.specs import EnvironmentSetting, PoolSpec, TaskSpec
from jobledger.eventstore.codec import default_codec

NOW: Final = Micros(1_763_908_415_123_456)
TTL: Final = Duration(10 * SECOND)
BOUND_S: Final = 60
"""What no test should ever need; a store that hangs fails instead of hanging the suite."""


def new_event(number: int = 0, *, job: str = "j-1", causation: str = "clock", actor: str = "jobledger") -> NewEvent:
    """An event to append; `number` tells it from others."""
    event = TaskRequeued(job=JobId(job), task=TaskId(f"t-{number}"), cause="the node was lost")
    return NewEvent(event=event, recorded_at=Micros(NOW + number), causation=causation, correlation=f"job/{job}", actor=actor)


def new_request(name: str = "r-1") -> InboxRequest:
    return InboxRequest(id=name, kind="delete-job/1", data={"job": "j-1", "list": [1, None]}, actor="ann", reason="done", submitted_at=NOW)


def new_reply(name: str = "r-1", *, position: int = 0) -> InboxReply:
    return InboxReply(request=name, accepted=False, code="JobNotFound", message="there is no job j-1", position=position, answered_at=NOW)


class EventStoreConformance:
    """Subclass this, give it `open_store`, and where the ledger outlives the object, `open_again`."""

    def open_store(self) -> EventStore:
        """A new, empty ledger."""
        raise NotImplementedError  # The hook that every subclass gives.

    def open_again(self, store: EventStore) -> EventStore:
        """The ledger of `store` once more, as another process would open it; `store` itself for one that lives in memory."""
        return store

    @pytest.fixture
    def store(self) -> Iterator[EventStore]:
        store = self.open_store()
        yield store
        store.close()

    @pytest.fixture
    def other(self, store: EventStore) -> Iterator[EventStore]:
        other = self.open_again(store)
        yield other
        other.close()

    @pytest.fixture
    def lease(self, store: EventStore) -> Lease:
        return store.acquire_lease("engine-1", now=NOW, ttl=TTL)

    # --- appending and reading ---

    def test_a_new_ledger_is_empty(self, store: EventStore) -> None:
        assert store.head().position == 0
        assert list(store.read()) == []
        assert store.current_lease() is None
        assert list(store.pending_requests()) == []

    def test_a_ledger_has_an_id_of_its_own(self, store: EventStore) -> None:
        another = self.open_store()
        assert len(store.ledger_id) == 8
        assert int(store.ledger_id, 16) >= 0
        assert store.ledger_id != another.ledger_id
        assert store.head().hash != another.head().hash
        another.close()

    def test_what_was_appended_is_read_back(self, store: EventStore, lease: Lease) -> None:
        events = [
            NewEvent(
                event=PoolCreated(pool=PoolId("p"), spec=PoolSpec(id=PoolId("p"))),
                recorded_at=NOW,
                causation="request:r-1",
                correlation="pool/p",
                actor="änn",
            ),
            NewEvent(
                event=TaskAdded(job=JobId("j"), task=TaskId("t"), spec=TaskSpec(id=TaskId("t"), command_line='echo "ü\x00\n"')),
                recorded_at=Micros(NOW + 1),
                causation="engine",
                correlation="job/j",
                actor="jobledger",
            ),
        ]
        head = store.append(events, expected=0, lease=lease)
        recorded = list(store.read())
        assert [_as_new(one) for one in recorded] == events
        assert [one.position for one in recorded] == [1, 2]
        assert [one.stream for one in recorded] == ["pool/p", "job/j"]
        assert head == store.head() == Head(position=2, hash=recorded[-1].hash)

    def test_positions_have_no_gaps(self, store: EventStore, lease: Lease) -> None:
        for size in (1, 3, 1200, 2):
            _append(store, lease, size)
        assert [one.position for one in store.read()] == list(range(1, 1207))

    def test_an_append_of_nothing_moves_nothing(self, store: EventStore, lease: Lease) -> None:
        head = _append(store, lease, 2)
        assert store.append([], expected=2, lease=lease) == head == store.head()

    @pytest.mark.parametrize(("after", "until"), [(0, None), (0, 5), (3, 7), (7, 3), (9, None), (10, None), (99, None), (0, 99), (4, 5), (0, 0)])
    def test_a_range_is_after_and_up_to(self, store: EventStore, lease: Lease, after: int, until: int | None) -> None:
        _append(store, lease, 10)
        last = 10 if until is None else min(until, 10)
        assert [one.position for one in store.read(after=after, until=until)] == list(range(after + 1, last + 1))

    def test_a_stream_is_read_alone(self, store: EventStore, lease: Lease) -> None:
        idle = NewEvent(event=NodeIdle(node=NodeId("n-1")), recorded_at=NOW, causation="clock", correlation="node/n-1", actor="jobledger")
        store.append([new_event(1, job="a"), new_event(2, job="b"), idle, new_event(3, job="a")], expected=0, lease=lease)
        assert [one.position for one in store.read(stream="job/a")] == [1, 4]
        assert [one.position for one in store.read(stream="job/a", after=1)] == [4]
        assert [one.position for one in store.read(stream="job/a", until=3)] == [1]
        assert [one.position for one in store.read(stream="node/n-1")] == [3]
        assert list(store.read(stream="job/none")) == []

    def test_a_long_stream_is_read_whole(self, store: EventStore, lease: Lease) -> None:
        store.append([new_event(number, job="ab"[number % 2]) for number in range(2500)], expected=0, lease=lease)
        assert [one.position for one in store.read(stream="job/b")] == list(range(2, 2501, 2))

    def test_a_cause_in_the_same_batch_gets_its_position(self, store: EventStore, lease: Lease) -> None:
        _append(store, lease, 4)
        batch = [new_event(0, causation="request:r-1"), new_event(1, causation="event:+0"), new_event(2, causation="event:+1"), new_event(3)]
        store.append(batch, expected=4, lease=lease)
        assert [one.causation for one in store.read(after=4)] == ["request:r-1", "event:5", "event:6", "clock"]

    @pytest.mark.parametrize("causation", ["event:+0", "event:+1", "event:+", "event:+-1", "event:+x"])
    def test_a_cause_must_come_before_its_effect(self, store: EventStore, lease: Lease, causation: str) -> None:
        with pytest.raises(StoreError, match="names no earlier event"):
            store.append([new_event(causation=causation)], expected=0, lease=lease)
        assert store.head().position == 0

    @pytest.mark.parametrize("event", [new_event(actor="\udcff"), new_event(job="\udcff")], ids=["envelope", "event"])
    def test_text_that_is_not_unicode_is_refused(self, store: EventStore, lease: Lease, event: NewEvent) -> None:
        with pytest.raises(StoreError, match="not Unicode"):
            store.append([new_event(), event], expected=0, lease=lease)
        assert store.head().position == 0
        assert _append(store, lease, 1).position == 1
        assert [one.stream for one in store.read()] == ["job/j-1"]

    def test_a_plain_secret_is_refused(self, store: EventStore, lease: Lease) -> None:
        settings = (EnvironmentSetting(name="TOKEN", value="hunter2", secret=True),)
        spec = TaskSpec(id=TaskId("t"), command_line="true", environment_settings=settings)
        added = NewEvent(
            event=TaskAdded(job=JobId("j"), task=TaskId("t"), spec=spec), recorded_at=NOW, causation="clock", correlation="job/j", actor="ann"
        )
        with pytest.raises(StoreError, match="not sealed"):
            store.append([new_event(), added], expected=0, lease=lease)
        task = {"id": "t", "command_line": "true", "environment_settings": [{"name": "TOKEN", "value": "hunter2", "secret": True}]}
        with pytest.raises(StoreError, match="not sealed"):
            store.put_request(evolve(new_request(), data={"job": "j", "tasks": [task]}))
        assert store.head().position == 0
        assert list(store.pending_requests()) == []

    def test_the_ledger_opened_again_says_the_same(self, store: EventStore, lease: Lease) -> None:
        _append(store, lease, 1500)
        store.put_request(new_request())
        other = self.open_again(store)
        assert (other.ledger_id, other.head(), other.current_lease()) == (store.ledger_id, store.head(), lease)
        assert list(other.read()) == list(store.read())
        assert list(other.pending_requests()) == [new_request()]
        other.close()

    # --- the chain ---

    def test_the_chain_can_be_verified_with_the_standard_library(self, store: EventStore, lease: Lease) -> None:
        _append(store, lease, 3)
        store.append([new_event(7, job="öß", actor='"\\\x07\x7f\u2028')], expected=3, lease=lease)
        before = hashlib.sha256(f"jobledger ledger {store.ledger_id}".encode()).digest()
        for one in store.read():
            type_, version, data = default_codec().encode(one.event)
            array = [one.position, one.stream, type_, version, one.recorded_at, one.causation, one.correlation, one.actor, data]
            text = json.dumps(array, ensure_ascii=False, separators=(",", ":"))
            before = hashlib.sha256(before + text.encode()).digest()
            assert one.hash == before
        assert store.head().hash == before

    # --- who may append ---

    def test_a_writer_with_another_head_in_mind_is_refused(self, store: EventStore, lease: Lease) -> None:
        head = _append(store, lease, 3)
        for expected in (0, 2, 4):
            with pytest.raises(AppendConflict):
                store.append([new_event(9)], expected=expected, lease=lease)
        assert store.head() == head
        assert len(list(store.read())) == 3

    def test_a_lease_that_is_held_is_refused_to_others(self, store: EventStore, lease: Lease) -> None:
        with pytest.raises(LedgerBusy, match="engine-1"):
            store.acquire_lease("engine-2", now=Micros(NOW + TTL - 1), ttl=TTL)
        assert store.current_lease() == lease

    def test_a_lease_that_expired_can_be_taken_over(self, store: EventStore, lease: Lease) -> None:
        later = Micros(NOW + TTL)
        taken = store.acquire_lease("engine-2", now=later, ttl=TTL)
        assert taken == Lease(owner="engine-2", epoch=lease.epoch + 1, expires_at=Micros(later + TTL))
        assert store.current_lease() == taken

    def test_the_same_owner_takes_its_lease_again_with_a_new_epoch(self, store: EventStore, lease: Lease) -> None:
        again = store.acquire_lease("engine-1", now=NOW, ttl=TTL)
        assert again.epoch == lease.epoch + 1
        with pytest.raises(LeaseLost):
            store.append([new_event()], expected=0, lease=lease)
        assert _append(store, again, 1).position == 1

    def test_an_engine_that_was_replaced_cannot_append(self, store: EventStore, other: EventStore, lease: Lease) -> None:
        _append(store, lease, 1)
        taken = other.acquire_lease("engine-2", now=Micros(NOW + TTL), ttl=TTL)
        store.put_request(new_request())
        with pytest.raises(LeaseLost, match="engine-2"):
            store.append([new_event(9)], expected=1, lease=lease, replies=[new_reply()])
        assert store.head().position == 1
        assert store.reply_to("r-1") is None
        assert _append(other, taken, 1).position == 2

    def test_a_lease_is_good_until_somebody_takes_it(self, store: EventStore, lease: Lease) -> None:
        """An append has no clock: nobody else can have written, so an end that has passed harms nothing."""
        assert _append(store, lease, 1).position == 1

    def test_a_lease_is_renewed(self, store: EventStore, lease: Lease) -> None:
        renewed = store.renew_lease(lease, now=Micros(NOW + 5 * SECOND), ttl=TTL)
        assert renewed == Lease(owner="engine-1", epoch=lease.epoch, expires_at=Micros(NOW + 5 * SECOND + TTL))
        assert store.current_lease() == renewed
        assert _append(store, lease, 1).position == 1
        with pytest.raises(LedgerBusy):
            store.acquire_lease("engine-2", now=Micros(NOW + TTL), ttl=TTL)

    def test_a_lease_that_was_taken_over_is_not_renewed(self, store: EventStore, lease: Lease) -> None:
        taken = store.acquire_lease("engine-2", now=Micros(NOW + TTL), ttl=TTL)
        with pytest.raises(LeaseLost):
            store.renew_lease(lease, now=Micros(NOW + TTL), ttl=TTL)
        assert store.current_lease() == taken

    def test_a_lease_given_up_is_free_and_its_epoch_is_spent(self, store: EventStore, lease: Lease) -> None:
        store.release_lease(lease)
        assert store.current_lease() is None
        with pytest.raises(LeaseLost, match="nobody holds it"):
            store.append([new_event()], expected=0, lease=lease)
        with pytest.raises(LeaseLost):
            store.renew_lease(lease, now=NOW, ttl=TTL)
        assert store.acquire_lease("engine-2", now=NOW, ttl=TTL).epoch == lease.epoch + 1

    def test_a_lease_that_was_taken_over_is_not_given_up(self, store: EventStore, lease: Lease) -> None:
        taken = store.acquire_lease("engine-2", now=Micros(NOW + TTL), ttl=TTL)
        store.release_lease(lease)
        assert store.current_lease() == taken

    # --- the inbox ---

    def test_a_request_waits_until_it_is_answered(self, store: EventStore, other: EventStore, lease: Lease) -> None:
        other.put_request(new_request("r-2"))
        other.put_request(new_request("r-1"))
        assert list(store.pending_requests()) == [new_request("r-2"), new_request("r-1")]
        store.append([new_event()], expected=0, lease=lease, replies=[new_reply("r-2", position=1)])
        assert list(store.pending_requests()) == [new_request("r-1")]
        assert other.reply_to("r-2") == new_reply("r-2", position=1)
        assert other.reply_to("r-1") is None
        assert other.reply_to("r-none") is None

    def test_a_refusal_is_a_reply_without_an_event(self, store: EventStore, lease: Lease) -> None:
        store.put_request(new_request())
        store.append([], expected=0, lease=lease, replies=[new_reply()])
        assert store.reply_to("r-1") == new_reply()
        assert store.head().position == 0

    def test_a_reply_is_recorded_with_its_events_or_not_at_all(self, store: EventStore, lease: Lease) -> None:
        store.put_request(new_request())
        with pytest.raises(AppendConflict):
            store.append([new_event()], expected=5, lease=lease, replies=[new_reply()])
        assert store.reply_to("r-1") is None
        assert list(store.pending_requests()) == [new_request()]

    def test_an_id_is_used_once(self, store: EventStore, lease: Lease) -> None:
        store.put_request(new_request())
        with pytest.raises(StoreError, match="already in the inbox"):
            store.put_request(new_request())
        store.append([], expected=0, lease=lease, replies=[new_reply()])
        with pytest.raises(StoreError, match="already in the inbox"):
            store.put_request(new_request())

    def test_a_request_can_be_withdrawn_until_it_is_answered(self, store: EventStore, lease: Lease) -> None:
        store.put_request(new_request("r-1"))
        store.put_request(new_request("r-2"))
        store.append([], expected=0, lease=lease, replies=[new_reply("r-2")])
        assert store.withdraw_request("r-1")
        assert not store.withdraw_request("r-1")
        assert not store.withdraw_request("r-2")
        assert list(store.pending_requests()) == []
        assert store.reply_to("r-2") == new_reply("r-2")

    @pytest.mark.parametrize("replies", [[new_reply("r-none")], [new_reply(), new_reply()]], ids=["withdrawn", "twice"])
    def test_what_was_decided_for_a_withdrawn_request_is_not_recorded(self, store: EventStore, lease: Lease, replies: list[InboxReply]) -> None:
        store.put_request(new_request())
        with pytest.raises(AppendConflict, match="withdrawn or answered"):
            store.append([new_event()], expected=0, lease=lease, replies=replies)
        assert store.head().position == 0
        assert list(store.read()) == []
        assert list(store.pending_requests()) == [new_request()]

    # --- waiting, and several at once ---

    def test_waiting_ends_at_once_where_there_is_more(self, store: EventStore, lease: Lease) -> None:
        _append(store, lease, 2)
        assert store.wait(after=1, timeout_s=BOUND_S)
        assert not store.wait(after=2, timeout_s=0)
        assert not store.wait(after=2, timeout_s=0.01)

    def test_waiting_ends_when_another_appends(self, store: EventStore, other: EventStore, lease: Lease) -> None:
        """Several rounds, so that the waiting has begun in some of them when the append comes."""
        ready = threading.Barrier(3)
        with ThreadPoolExecutor() as threads:
            waiting = [threads.submit(_wait_again_and_again, one, ready) for one in (store, other)]
            for _ in range(_ROUNDS):
                ready.wait(BOUND_S)
                _append(store, lease, 1)
            assert [one.result(BOUND_S) for one in waiting] == [_ROUNDS, _ROUNDS]

    def test_a_closed_store_says_so(self, lease: Lease) -> None:
        closed = self.open_store()
        closed.close()
        closed.close()
        calls: list[Callable[[], Any]] = [
            closed.head,
            closed.pending_requests,
            lambda: closed.append([], expected=0, lease=lease),
            lambda: list(closed.read()),
            lambda: closed.wait(after=0, timeout_s=BOUND_S),
        ]
        for call in calls:
            with pytest.raises(StoreError, match="closed"):
                call()

    def test_a_reader_that_tails_sees_every_event_once_and_in_order(self, store: EventStore, other: EventStore, lease: Lease) -> None:
        """Two writers compete for the head and one reader follows: no event is skipped, repeated or seen before its batch is whole."""
        with ThreadPoolExecutor() as threads:
            tail = threads.submit(_tail, other, 2 * _BATCHES * _BATCH)
            writers = [threads.submit(_compete, one, lease, name) for one, name in ((store, "a"), (other, "b"))]
            conflicts = [writer.result(BOUND_S) for writer in writers]
            seen, ends = tail.result(BOUND_S)
        assert [one.position for one in seen] == list(range(1, len(seen) + 1))
        assert list(store.read()) == seen
        batches = [seen[start : start + _BATCH] for start in range(0, len(seen), _BATCH)]
        assert all(len({one.actor for one in batch}) == 1 for batch in batches), conflicts
        assert sorted(batch[0].actor for batch in batches) == sorted(f"{name}-{number}" for name in "ab" for number in range(_BATCHES))
        assert all(end % _BATCH == 0 for end in ends)

    def test_engines_that_take_the_lease_from_each_other_leave_whole_batches(self, store: EventStore, other: EventStore) -> None:
        with ThreadPoolExecutor() as threads:
            engines = [threads.submit(_take_turns, one, name) for one, name in ((store, "a"), (other, "b"))]
            written = [engine.result(BOUND_S) for engine in engines]
        seen = list(store.read())
        assert [one.position for one in seen] == list(range(1, sum(written) * _BATCH + 1))
        assert all(len({one.actor for one in seen[start : start + _BATCH]}) == 1 for start in range(0, len(seen), _BATCH))


_BATCH: Final = 5
_BATCHES: Final = 60
_ROUNDS: Final = 10


def _append(store: EventStore, lease: Lease, size: int) -> Head:
    expected = store.head().position
    return store.append([new_event(number) for number in range(size)], expected=expected, lease=lease)


def _batch(actor: str) -> Sequence[NewEvent]:
    return [new_event(number, actor=actor) for number in range(_BATCH)]


def _compete(store: EventStore, lease: Lease, name: str) -> int:
    """Append `_BATCHES` batches against another writer; how often the other came first."""
    conflicts = 0
    for number in range(_BATCHES):
        while True:
            try:
                store.append(_batch(f"{name}-{number}"), expected=store.head().position, lease=lease)
                break
            except AppendConflict:
                conflicts += 1
    return conflicts


def _wait_again_and_again(store: EventStore, ready: threading.Barrier) -> int:
    """How often waiting ended with an event, long before its time was over."""
    woken = 0
    for number in range(_ROUNDS):
        ready.wait(BOUND_S)
        woken += store.wait(after=number, timeout_s=BOUND_S)
    return woken


def _take_turns(store: EventStore, name: str) -> int:
    """Take the lease, append, lose it, again; how many batches were recorded."""
    written = 0
    for number in range(_BATCHES):
        lease = store.acquire_lease(name, now=NOW, ttl=Duration(0))
        try:
            store.append(_batch(f"{name}-{number}"), expected=store.head().position, lease=lease)
            written += 1
        except (LeaseLost, AppendConflict):
            pass
    return written


def _tail(store: EventStore, until: int) -> tuple[list[RecordedEvent], list[int]]:
    """Every event up to position `until` as a reader that tails sees them, and where each of its reads ended."""
    seen: list[RecordedEvent] = []
    ends: list[int] = []
    while len(seen) < until:
        assert store.wait(after=len(seen), timeout_s=BOUND_S)
        seen.extend(store.read(after=len(seen)))
        ends.append(len(seen))
    return seen, ends


def _as_new(recorded: RecordedEvent) -> NewEvent:
    return NewEvent(
        event=recorded.event,
        recorded_at=recorded.recorded_at,
        causation=recorded.causation,
        correlation=recorded.correlation,
        actor=recorded.actor,
    )
