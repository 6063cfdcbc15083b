# ruff: noqa: S101 - asserts are what a suite of tests is made of
"""The part of the stores' suite in which things go wrong: writers that die, a lease that is stolen, a disk that is full.

`stores.EventStoreConformance` has it.  Each fault is made sure of: a writer that did not die, or a disk that was never full, makes the
test fail.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from jobledger.core.errors import AppendConflict, LeaseLost, StoreError
from jobledger.core.ids import Micros
from jobledger.core.ports import EventStore, Head, Lease, NewEvent

from . import torn
from .forks import Forks
from .store_kit import BATCH, BOUND_S, NOW, TTL, StoreSuite, append, batch_of, new_event, new_reply, new_request

_STEP_BYTES: Final = 40_000
"""More than a writer adds to the files before its append, or the limit would never overtake them; less than the append itself, so as to hit it often."""
_DEATHS_MIN: Final = 3
_LIMITS_MAX: Final = 200
_BATCH_FILLING: Final = 50
_BATCHES_FILLING_MAX: Final = 2_000


class StoreFaults(StoreSuite):
    """Inherit `stores.EventStoreConformance`."""

    theft_s: float = 0.1
    """How long an append is held up for a thief to come in between; it is waited for in full where the store lets nobody in."""

    # --- writers that die ---

    @pytest.fixture(scope="class")
    @classmethod
    def forks(cls) -> Iterator[Forks]:
        """Where writers come from."""
        with Forks() as forks:
            yield forks

    def test_a_batch_whose_writer_is_killed_is_whole_or_not_there(self, store: EventStore, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        """SIGKILL while the store takes the events, or the replies, from what it was given."""
        opener = self.need("opener", self.opener(store))
        for point in torn.DYING:
            assert not self._torn(store, opener, request.getfixturevalue("forks"), point, tmp_path / "told")
        self._check_usable(store)

    def test_a_batch_that_is_torn_in_writing_is_whole_or_not_there(self, store: EventStore, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        """The system kills the writer as one of its files grows past a limit, which is raised little by little until the append comes through."""
        opener = self.need("opener", self.opener(store))
        deaths = 0
        for limit in range(0, _LIMITS_MAX * _STEP_BYTES, _STEP_BYTES):
            if self._torn(store, opener, request.getfixturevalue("forks"), f"bytes {limit}", tmp_path / "told"):
                break
            deaths += 1
        else:
            pytest.fail(f"no append came through with {_LIMITS_MAX * _STEP_BYTES} bytes")
        assert deaths >= _DEATHS_MIN, "the writer was not killed in its work"
        self._check_usable(store)

    def _torn(self, store: EventStore, opener: Callable[[], EventStore], forks: Forks, point: str, told: Path) -> bool:
        """Have a writer die at `point`, and hold its batch to be whole or not there, for those who have the ledger open and who open it; True if it survived."""
        before = list(store.read())
        request = f"after {len(before)}"
        if not store.pending_requests():
            store.put_request(new_request(request))
        survived = torn.append(forks, opener, store, point, request, told=told)
        with closing(self.open_again(store)) as again:
            after = list(again.read())
            assert after == list(store.read())
            assert after[: len(before)] == before
            assert len(after) - len(before) in (0, torn.BATCH_TORN)
            recorded = len(after) > len(before)
            assert recorded or not survived
            assert again.head() == store.head()
            assert store.head().position == len(after)
            assert not after or store.head().hash == after[-1].hash
            assert (again.reply_to(request) is not None) == recorded
            assert (request in [one.id for one in again.pending_requests()]) != recorded
        return survived

    def _check_usable(self, store: EventStore) -> None:
        """The next engine takes over and goes on where the log ends."""
        lease = store.acquire_lease("engine-2", now=Micros(NOW + 2 * TTL), ttl=TTL)
        position = store.head().position
        assert append(store, lease, 3).position == position + 3
        assert [one.position for one in store.read()] == list(range(1, position + 4))

    # --- a lease that is stolen ---

    def test_a_lease_stolen_between_two_appends_ends_the_first_writer(self, store: EventStore, other: EventStore, lease: Lease) -> None:
        append(store, lease, 1)
        stolen = other.acquire_lease("thief", now=Micros(NOW + TTL), ttl=TTL)
        for expected in (1, 2):
            with pytest.raises(LeaseLost):
                store.append(batch_of("robbed"), expected=expected, lease=lease)
            append(other, stolen, 1)
        with pytest.raises(LeaseLost):
            store.append([], expected=3, lease=lease)
        assert [one.actor for one in store.read()] == ["jobledger"] * 3

    def test_a_lease_stolen_in_the_midst_of_an_append(self, store: EventStore, other: EventStore, lease: Lease) -> None:
        """Either the append was first, and the thief found its events there; or it was late, and nothing of it is recorded."""
        store.put_request(new_request())
        with ThreadPoolExecutor(1) as threads:
            theft = _Theft(other, batch_of("robbed"), self.theft_s)
            thief = threads.submit(theft.steal)
            try:
                told: Head | None = store.append(theft, expected=0, lease=lease, replies=[new_reply()])
            except LeaseLost:
                told = None
            finally:
                theft.begin.set()
            stolen, found = thief.result(BOUND_S)
        assert theft.tried, "the append looked at no event"
        assert found == (0 if told is None else BATCH)
        assert len(list(store.read())) == found
        assert (store.reply_to("r-1") is not None) == (told is not None)
        with pytest.raises(LeaseLost):
            store.append(batch_of("robbed"), expected=found, lease=lease)
        assert append(other, stolen, 1).position == found + 1

    # --- a disk that is full ---

    def test_a_full_disk_records_nothing_and_is_no_end(self) -> None:
        """The append that has no room fails, also when it is tried again; reading goes on; with room it works, after a look at what is there."""
        disk = self.need("full_disk", self.full_disk())
        with closing(disk.store) as store:
            lease = store.acquire_lease("engine-1", now=NOW, ttl=TTL)
            store.put_request(new_request())
            batches, refused = _fill(store, lease)
            position = len(batches) * _BATCH_FILLING
            with pytest.raises(StoreError):
                store.append(refused, expected=position, lease=lease, replies=[new_reply()])
            assert store.head().position == position
            assert [one.actor for one in store.read()] == [new.actor for batch in batches for new in batch]
            assert store.reply_to("r-1") is None
            disk.free()
            with closing(self._in_use(store, refused, position, lease)) as again:
                assert list(again.pending_requests()) == [new_request()]
                again.append([], expected=again.head().position, lease=lease, replies=[new_reply()])
                assert again.head().position == position + _BATCH_FILLING
                assert [one.position for one in again.read()] == list(range(1, position + _BATCH_FILLING + 1))
                assert again.reply_to("r-1") == new_reply()

    def _in_use(self, store: EventStore, batch: Sequence[NewEvent], position: int, lease: Lease) -> EventStore:
        """Append `batch` now that there is room: by the store as it is, or, where it has given up, by one that is opened anew and read first."""
        try:
            store.append(batch, expected=position, lease=lease)
        except (AppendConflict, LeaseLost):
            raise
        except StoreError:
            again = self.open_again(store)
            assert again is not store, "it refuses to append though there is room"
            if again.head().position == position:
                again.append(batch, expected=position, lease=lease)
            return again
        return store


class _Theft(Sequence[NewEvent]):
    """Events that have the lease stolen while they are looked at."""

    def __init__(self, store: EventStore, events: Sequence[NewEvent], theft_s: float) -> None:
        self._store = store
        self._theft_s = theft_s
        self._events = events
        self.begin = threading.Event()
        self.tried = False
        self._done = threading.Event()

    def steal(self) -> tuple[Lease, int]:
        """The lease, as soon as the events are looked at, and the position found then."""
        self.begin.wait(BOUND_S)
        lease = self._store.acquire_lease("thief", now=Micros(NOW + TTL), ttl=TTL)
        position = self._store.head().position
        self._done.set()
        return lease, position

    def __iter__(self) -> Iterator[NewEvent]:
        self.tried = True
        self.begin.set()
        self._done.wait(self._theft_s)
        return iter(self._events)

    def __getitem__(self, index: int) -> NewEvent:  # type: ignore[override]  # no store needs slices
        return list(self)[index]

    def __len__(self) -> int:
        return len(self._events)


def _fill(store: EventStore, lease: Lease) -> tuple[list[Sequence[NewEvent]], Sequence[NewEvent]]:
    """Append until the disk is full: what was recorded, and the batch that was not."""
    recorded: list[Sequence[NewEvent]] = []
    for number in range(_BATCHES_FILLING_MAX):
        batch = [new_event(one, actor=f"{number}", size=1_000) for one in range(_BATCH_FILLING)]
        try:
            store.append(batch, expected=len(recorded) * _BATCH_FILLING, lease=lease)
        except (AppendConflict, LeaseLost):
            raise  # a full disk is nobody else's doing
        except StoreError:
            return recorded, batch
        recorded.append(batch)
    pytest.fail("the disk never got full")
