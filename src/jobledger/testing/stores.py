# ruff: noqa: S101 - asserts are what a suite of tests is made of
"""The conformance suite of stores: what an `EventStore` promises, as tests to inherit.

    class TestMyStore(EventStoreConformance):
        def open_store(self) -> EventStore:
            return MyStore(...)          # a new, empty ledger each time

        def open_again(self, store: EventStore) -> EventStore:
            return MyStore(...)          # the same ledger once more, as another process would

pytest then runs all of it against the new store: what is below, several at once (`store_races`) and what goes wrong (`store_faults`).
The latter asks for a ledger that another process can open (`opener`) and for a disk that gets full (`full_disk`); a store that cannot have
them says so in `not_applicable` (`applicability`).

Call `pytest.register_assert_rewrite("jobledger.testing.stores")` in `conftest.py` for failures that show the values.
"""

import hashlib
import json

import pytest
from attrs import evolve

from jobledger.core.errors import AppendConflict, LeaseLost, LedgerBusy, StoreError
from jobledger.core.events import NodeIdle, PoolCreated, TaskAdded
from jobledger.core.ids import SECOND, JobId, Micros, NodeId, PoolId, TaskId
from jobledger.core.ports import EventStore, Head, InboxReply, Lease, NewEvent, RecordedEvent
from jobledger.core.specs import EnvironmentSetting, PoolSpec, TaskSpec
from jobledger.eventstore.codec import default_codec

from .store_faults import StoreFaults
from .store_kit import BOUND_S, NOW, TTL, FullDisk, append, new_event, new_reply, new_request
from .store_races import StoreRaces

__all__ = ["BOUND_S", "NOW", "TTL", "EventStoreConformance", "FullDisk", "new_event", "new_reply", "new_request"]


class EventStoreConformance(StoreFaults, StoreRaces):
    """Subclass this, give it `open_store`, and where the ledger outlives the object, `open_again` and `opener`."""

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
            append(store, lease, size)
        assert [one.position for one in store.read()] == list(range(1, 1207))

    def test_an_append_of_nothing_moves_nothing(self, store: EventStore, lease: Lease) -> None:
        head = append(store, lease, 2)
        assert store.append([], expected=2, lease=lease) == head == store.head()

    @pytest.mark.parametrize(("after", "until"), [(0, None), (0, 5), (3, 7), (7, 3), (9, None), (10, None), (99, None), (0, 99), (4, 5), (0, 0)])
    def test_a_range_is_after_and_up_to(self, store: EventStore, lease: Lease, after: int, until: int | None) -> None:
        append(store, lease, 10)
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
        append(store, lease, 4)
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
        assert append(store, lease, 1).position == 1
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
        append(store, lease, 1500)
        store.put_request(new_request())
        other = self.open_again(store)
        assert (other.ledger_id, other.head(), other.current_lease()) == (store.ledger_id, store.head(), lease)
        assert list(other.read()) == list(store.read())
        assert list(other.pending_requests()) == [new_request()]
        other.close()

    # --- the chain ---

    def test_the_chain_can_be_verified_with_the_standard_library(self, store: EventStore, lease: Lease) -> None:
        append(store, lease, 3)
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
        head = append(store, lease, 3)
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
        assert append(store, again, 1).position == 1

    def test_an_engine_that_was_replaced_cannot_append(self, store: EventStore, other: EventStore, lease: Lease) -> None:
        append(store, lease, 1)
        taken = other.acquire_lease("engine-2", now=Micros(NOW + TTL), ttl=TTL)
        store.put_request(new_request())
        with pytest.raises(LeaseLost, match="engine-2"):
            store.append([new_event(9)], expected=1, lease=lease, replies=[new_reply()])
        assert store.head().position == 1
        assert store.reply_to("r-1") is None
        assert append(other, taken, 1).position == 2

    def test_a_lease_is_good_until_somebody_takes_it(self, store: EventStore, lease: Lease) -> None:
        """An append has no clock: nobody else can have written, so an end that has passed harms nothing."""
        assert append(store, lease, 1).position == 1

    def test_a_lease_is_renewed(self, store: EventStore, lease: Lease) -> None:
        renewed = store.renew_lease(lease, now=Micros(NOW + 5 * SECOND), ttl=TTL)
        assert renewed == Lease(owner="engine-1", epoch=lease.epoch, expires_at=Micros(NOW + 5 * SECOND + TTL))
        assert store.current_lease() == renewed
        assert append(store, lease, 1).position == 1
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


def _as_new(recorded: RecordedEvent) -> NewEvent:
    return NewEvent(
        event=recorded.event,
        recorded_at=recorded.recorded_at,
        causation=recorded.causation,
        correlation=recorded.correlation,
        actor=recorded.actor,
    )
