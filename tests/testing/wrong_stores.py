"""Stores that break one promise each, and suites over them that have to fail: `test_suites_can_fail.py` runs this file in a pytest of its own.

`TestRight` passes; each other says in `caught_by` which tests fail for it, and no other may.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import evolve

from jobledger.core.errors import AppendConflict, LeaseLost, StoreError
from jobledger.core.ids import Micros
from jobledger.core.ports import EventStore, Head, InboxReply, Lease, NewEvent, RecordedEvent
from jobledger.eventstore import MemoryStore, SqliteStore
from jobledger.testing.store_faults import StoreFaults
from jobledger.testing.stores import EventStoreConformance, FullDisk

RACES = (
    "test_a_lease_stolen_in_the_midst_of_an_append",
    "test_a_reader_follows_writers_that_take_over_from_each_other",
    "test_a_reader_that_tails_sees_every_event_once_and_in_order",
    "test_engines_that_take_the_lease_from_each_other_leave_whole_batches",
)
"""Tests that find something where the threads meet in a certain way, or not."""


class TestRight(EventStoreConformance):
    """Passes: what fails below fails for what is wrong there."""

    kind: type[MemoryStore] = MemoryStore
    not_applicable: ClassVar = {"opener": "it ends with its process", "full_disk": "it has no disk"}
    caught_by: tuple[str, ...] = ()

    def open_store(self) -> EventStore:
        return self.kind()


class IgnoresTheHead(MemoryStore):
    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        with self._changed:
            return super().append(events, expected=self.head().position, lease=lease, replies=replies)


class TestIgnoresTheHead(TestRight):
    kind = IgnoresTheHead
    caught_by = (
        "test_a_writer_with_another_head_in_mind_is_refused",
        "test_a_reply_is_recorded_with_its_events_or_not_at_all",
    )


class IgnoresTheLease(MemoryStore):
    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        with self._changed:
            return super().append(events, expected=expected, lease=self._lease or lease, replies=replies)


class TestIgnoresTheLease(TestRight):
    kind = IgnoresTheLease
    caught_by = (
        "test_the_same_owner_takes_its_lease_again_with_a_new_epoch",
        "test_an_engine_that_was_replaced_cannot_append",
        "test_a_lease_stolen_between_two_appends_ends_the_first_writer",
        "test_a_lease_stolen_in_the_midst_of_an_append",
    )
    at_times = RACES


class LooksAtTheLeaseTooEarly(MemoryStore):
    """Between its look at the lease and the append there is time for a thief."""

    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        super().append([], expected=expected, lease=lease)
        taken = list(events)
        with self._changed:
            return super().append(taken, expected=expected, lease=self._lease or lease, replies=replies)


class TestLooksAtTheLeaseTooEarly(TestRight):
    kind = LooksAtTheLeaseTooEarly
    theft_s = 20  # it takes as long as the thief, on a busy machine too
    caught_by = ("test_a_lease_stolen_in_the_midst_of_an_append",)
    at_times = RACES


class RecordsWhatItRefuses(MemoryStore):
    """The events are there although their replies were refused."""

    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        super().append(events, expected=expected, lease=lease)
        return super().append([], expected=expected + len(events), lease=lease, replies=replies)


class TestRecordsWhatItRefuses(TestRight):
    kind = RecordsWhatItRefuses
    caught_by = ("test_what_was_decided_for_a_withdrawn_request_is_not_recorded",)
    at_times = RACES


class LosesReplies(MemoryStore):
    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        return super().append(events, expected=expected, lease=lease)


class TestLosesReplies(TestRight):
    kind = LosesReplies
    caught_by = (
        "test_a_request_waits_until_it_is_answered",
        "test_a_refusal_is_a_reply_without_an_event",
        "test_a_request_can_be_withdrawn_until_it_is_answered",
        "test_what_was_decided_for_a_withdrawn_request_is_not_recorded",
        "test_a_lease_stolen_in_the_midst_of_an_append",
    )


class SkipsInReading(MemoryStore):
    """A reader that begins in the midst misses an event now and then."""

    def read(self, *, after: int = 0, until: int | None = None, stream: str | None = None) -> Iterator[RecordedEvent]:
        return super().read(after=after + (after % 7 == 3), until=until, stream=stream)


class TestSkipsInReading(TestRight):
    kind = SkipsInReading
    caught_by = ("test_a_range_is_after_and_up_to",)
    at_times = RACES


class ReadsAhead(MemoryStore):
    """A reader is told of the last event of a batch, and then of it again: what it was told to begin after."""

    def read(self, *, after: int = 0, until: int | None = None, stream: str | None = None) -> Iterator[RecordedEvent]:
        return super().read(after=after - 1, until=until, stream=stream)


class TestReadsAhead(TestRight):
    kind = ReadsAhead
    caught_by = (
        "test_a_range_is_after_and_up_to",
        "test_a_stream_is_read_alone",
        "test_a_cause_in_the_same_batch_gets_its_position",
    )
    at_times = RACES


class RecordsHalves(MemoryStore):
    """Two steps for what has to be one."""

    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        events = list(events)
        half = len(events) // 2
        if half:
            super().append(events[:half], expected=expected, lease=lease)
        return super().append(events[half:], expected=expected + half, lease=lease, replies=replies)


class TestRecordsHalves(TestRight):
    kind = RecordsHalves
    caught_by = (
        "test_a_cause_in_the_same_batch_gets_its_position",
        "test_text_that_is_not_unicode_is_refused",
        "test_a_plain_secret_is_refused",
    )
    at_times = RACES


class GivesLeasesAway(MemoryStore):
    """Whoever asks gets the lease, held or not."""

    def acquire_lease(self, owner: str, *, now: Micros, ttl: int) -> Lease:
        with self._changed:
            if self._lease is not None:
                self._lease = evolve(self._lease, expires_at=Micros(0))
            return super().acquire_lease(owner, now=now, ttl=ttl)


class TestGivesLeasesAway(TestRight):
    kind = GivesLeasesAway
    caught_by = (
        "test_a_lease_that_is_held_is_refused_to_others",
        "test_a_lease_is_renewed",
    )


class CountsEpochsAnew(MemoryStore):
    def release_lease(self, lease: Lease) -> None:
        super().release_lease(lease)
        self._epoch = 0


class TestCountsEpochsAnew(TestRight):
    kind = CountsEpochsAnew
    caught_by = ("test_a_lease_given_up_is_free_and_its_epoch_is_spent",)


class WakesForNothing(MemoryStore):
    def wait(self, *, after: int, timeout_s: float) -> bool:
        super().wait(after=after, timeout_s=timeout_s)
        return True


class TestWakesForNothing(TestRight):
    kind = WakesForNothing
    caught_by = ("test_waiting_ends_at_once_where_there_is_more",)


class TestExcusesItself(TestRight):
    """Gives no disk, and does not say why; and excuses what no test asks for."""

    not_applicable: ClassVar = {"opener": "it ends with its process", "conflicts": "never seen one"}
    caught_by = (
        "test_a_full_disk_records_nothing_and_is_no_end",
        "test_what_is_not_applicable_is_known_by_name",
    )


# --- on disk, what goes wrong only ---


class OnDisk(StoreFaults):
    on_disk: type[SqliteStore] = SqliteStore
    not_applicable: ClassVar = {"full_disk": "tried with others"}

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "ledger.db"

    def open_store(self) -> EventStore:
        return self.on_disk.open(self.path)

    def open_again(self, store: EventStore) -> EventStore:
        return self.on_disk.open(self.path)

    def opener(self, store: EventStore) -> Callable[[], EventStore] | None:
        return partial(self.on_disk.open, self.path)


class OnFullDisk(OnDisk):
    not_applicable: ClassVar = {"opener": "tried with others"}

    def opener(self, store: EventStore) -> None:
        return None

    def full_disk(self) -> FullDisk:
        store = self.on_disk.open(self.path)
        assert store._writer is not None
        store._writer.execute("PRAGMA max_page_count = 64").fetchone()
        return FullDisk(store=store, free=partial(store._writer.execute, "PRAGMA max_page_count = 10000"))


class CommitsRepliesApart(SqliteStore):
    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        super().append(events, expected=expected, lease=lease)
        return super().append([], expected=expected + len(events), lease=lease, replies=replies)


class TestCommitsRepliesApart(OnDisk):
    on_disk = CommitsRepliesApart
    caught_by = ("test_a_batch_whose_writer_is_killed_is_whole_or_not_there",)
    at_times = ("test_a_batch_that_is_torn_in_writing_is_whole_or_not_there", *RACES)


class CommitsHalves(SqliteStore):
    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        events = list(events)
        half = len(events) // 2
        if half:
            super().append(events[:half], expected=expected, lease=lease)
        return super().append(events[half:], expected=expected + half, lease=lease, replies=replies)


class TestCommitsHalves(OnDisk):
    on_disk = CommitsHalves
    at_times = RACES
    caught_by = (
        "test_a_batch_whose_writer_is_killed_is_whole_or_not_there",
        "test_a_batch_that_is_torn_in_writing_is_whole_or_not_there",
    )


class TestCommitsHalvesOnAFullDisk(OnFullDisk):
    on_disk = CommitsHalves
    at_times = RACES
    caught_by = ("test_a_full_disk_records_nothing_and_is_no_end",)


class GivesUpOnAFullDisk(SqliteStore):
    """Appends no more once an append has failed, though there is room, however often it is opened."""

    refuses: ClassVar[set[Path]] = set()

    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        if self.path in self.refuses:
            raise StoreError("the disk was full once")
        try:
            return super().append(events, expected=expected, lease=lease, replies=replies)
        except (AppendConflict, LeaseLost):
            raise
        except StoreError:
            self.refuses.add(self.path)
            raise


class TestGivesUpOnAFullDisk(OnFullDisk):
    on_disk = GivesUpOnAFullDisk
    caught_by = ("test_a_full_disk_records_nothing_and_is_no_end",)


class TakesAFullDiskForDone(SqliteStore):
    """What has no room is dropped without a word."""

    def append(self, events: Sequence[NewEvent], *, expected: int, lease: Lease, replies: Sequence[InboxReply] = ()) -> Head:
        try:
            return super().append(events, expected=expected, lease=lease, replies=replies)
        except (AppendConflict, LeaseLost):
            raise
        except StoreError:
            return self.head()


class TestTakesAFullDiskForDone(OnFullDisk):
    on_disk = TakesAFullDiskForDone
    caught_by = ("test_a_full_disk_records_nothing_and_is_no_end",)


class TestWritesElsewhere(OnDisk):
    """What its writers are killed over is not the ledger at hand."""

    caught_by = ("test_a_batch_whose_writer_is_killed_is_whole_or_not_there", "test_a_batch_that_is_torn_in_writing_is_whole_or_not_there")

    def opener(self, store: EventStore) -> Callable[[], EventStore]:
        return partial(self.on_disk.open, self.path.with_name("another.db"))
