# ruff: noqa: S101 - asserts are what a suite of tests is made of
"""The part of the stores' suite in which several write, read and wait at once.  `stores.EventStoreConformance` has it."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any, Final

import pytest

from jobledger.core.errors import AppendConflict, LeaseLost, StoreError
from jobledger.core.ids import Duration
from jobledger.core.ports import EventStore, Head, Lease, RecordedEvent

from .store_kit import BATCH, BOUND_S, NOW, StoreSuite, append, batch_of

_BATCHES: Final = 60
_ROUNDS: Final = 10
_WRITERS: Final = 4
_REIGNS: Final = 12
_TURNS: Final = 3


class StoreRaces(StoreSuite):
    """Inherit `stores.EventStoreConformance`."""

    def test_waiting_ends_at_once_where_there_is_more(self, store: EventStore, lease: Lease) -> None:
        append(store, lease, 2)
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
                append(store, lease, 1)
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
            tail = threads.submit(_tail, other, 2 * _BATCHES * BATCH)
            writers = [threads.submit(_compete, one, lease, name) for one, name in ((store, "a"), (other, "b"))]
            conflicts = [writer.result(BOUND_S) for writer in writers]
            seen, ends = tail.result(BOUND_S)
        assert [one.position for one in seen] == list(range(1, len(seen) + 1))
        assert list(store.read()) == seen
        batches = [seen[start : start + BATCH] for start in range(0, len(seen), BATCH)]
        assert all(len({one.actor for one in batch}) == 1 for batch in batches), conflicts
        assert sorted(batch[0].actor for batch in batches) == sorted(f"{name}-{number}" for name in "ab" for number in range(_BATCHES))
        assert all(end % BATCH == 0 for end in ends)

    def test_engines_that_take_the_lease_from_each_other_leave_whole_batches(self, store: EventStore, other: EventStore) -> None:
        with ThreadPoolExecutor() as threads:
            engines = [threads.submit(_take_turns, one, name) for one, name in ((store, "a"), (other, "b"))]
            written = [engine.result(BOUND_S) for engine in engines]
        seen = list(store.read())
        assert [one.position for one in seen] == list(range(1, sum(written) * BATCH + 1))
        assert all(len({one.actor for one in seen[start : start + BATCH]}) == 1 for start in range(0, len(seen), BATCH))

    def test_a_reader_follows_writers_that_take_over_from_each_other(self, store: EventStore) -> None:
        """Each writer is replaced in the middle of its work, again and again; the readers see what was acknowledged, all of it, in order, and no more."""
        done = threading.Event()
        with ExitStack() as opened, ThreadPoolExecutor(_WRITERS + 2) as threads:
            several = [opened.enter_context(closing(self.open_again(store))) for _ in range(_WRITERS + 2)]
            follow = [threads.submit(_follow, several[0], None, done), threads.submit(_follow, several[1], "job/j-1", done)]
            try:
                reigns = [threads.submit(_reign, one, f"w{number}") for number, one in enumerate(several[2:])]
                told = [reign.result(BOUND_S) for reign in reigns]
            finally:
                done.set()
            seen, of_stream = (one.result(BOUND_S) for one in follow)
            assert list(store.read()) == seen == of_stream
        assert [one.position for one in seen] == list(range(1, len(seen) + 1))
        acknowledged = {actor: head for acked, _ in told for actor, head in acked.items()}
        refused = [actor for _, actors in told for actor in actors]
        ends = {one.actor: Head(position=one.position, hash=one.hash) for one in seen}
        assert ends == acknowledged, refused
        assert not ends.keys() & set(refused)
        assert len(seen) == len(acknowledged) * BATCH
        epochs = [int(one.actor.partition("/")[0]) for one in seen]
        assert epochs == sorted(epochs), "somebody wrote after the lease was taken over"


def _compete(store: EventStore, lease: Lease, name: str) -> int:
    """Append `_BATCHES` batches against another writer; how often the other came first."""
    conflicts = 0
    for number in range(_BATCHES):
        while True:
            try:
                store.append(batch_of(f"{name}-{number}"), expected=store.head().position, lease=lease)
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
            store.append(batch_of(f"{name}-{number}"), expected=store.head().position, lease=lease)
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
        fresh = list(store.read(after=len(seen)))
        assert fresh, "it was said that there is more, and there was not"
        seen.extend(fresh)
        ends.append(len(seen))
    return seen, ends


def _reign(store: EventStore, name: str) -> tuple[dict[str, Head], list[str]]:
    """Take the lease from whoever has it and append until somebody else takes it: batches that were acknowledged, with the head told, and those refused."""
    acknowledged: dict[str, Head] = {}
    refused: list[str] = []
    for number in range(_REIGNS):
        lease = store.acquire_lease(name, now=NOW, ttl=Duration(0))
        for turn in range(_TURNS):
            actor = f"{lease.epoch}/{name}-{number}-{turn}"
            try:
                acknowledged[actor] = store.append(batch_of(actor), expected=store.head().position, lease=lease)
            except (LeaseLost, AppendConflict):
                refused.append(actor)
    return acknowledged, refused


def _follow(store: EventStore, stream: str | None, done: threading.Event) -> list[RecordedEvent]:
    """Every event as a reader that tails sees them, until nobody writes any more; with `stream`, which must be that of all of them, by reading that."""
    seen: list[RecordedEvent] = []
    while True:
        last = done.is_set()
        if store.wait(after=len(seen), timeout_s=0 if last else 0.02):
            seen.extend(store.read(after=len(seen), stream=stream))
        if last:
            return seen
