"""Subscriptions: what was there, what comes, nothing twice, and an end when one is wished for."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from jobledger.core.ports import EventStore, Lease
from jobledger.eventstore import MemoryStore, SqliteStore
from jobledger.subscribe import follow, subscribe
from jobledger.testing.stores import BOUND_S, NOW, TTL, new_event

Open = Callable[[], EventStore]


@pytest.fixture(params=["memory", "sqlite"])
def open_it(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens one ledger, on SQLite each time as another process would."""
    with ExitStack() as opened:
        memory = opened.enter_context(closing(MemoryStore()))
        sqlite: Open = lambda: opened.enter_context(closing(SqliteStore.open(tmp_path / "ledger.db")))  # noqa: E731 - one of two
        yield (lambda: memory) if request.param == "memory" else sqlite


@pytest.fixture
def store(open_it: Open) -> EventStore:
    return open_it()


@pytest.fixture
def lease(store: EventStore) -> Lease:
    return store.acquire_lease("engine", now=NOW, ttl=TTL)


def append(store: EventStore, lease: Lease, size: int) -> None:
    expected = store.head().position
    store.append([new_event(number) for number in range(size)], expected=expected, lease=lease)


def test_a_subscriber_catches_up_and_stays(store: EventStore, lease: Lease, open_it: Open) -> None:
    async def scenario() -> list[int]:
        append(store, lease, 1100)
        seen = []
        async for one in subscribe(open_it(), after=2):
            seen.append(one.position)
            if one.position == 1100:
                append(store, lease, 3)
            if one.position == 1103:
                append(store, lease, 1)
            if one.position == 1104:
                break
        return seen

    assert asyncio.run(asyncio.wait_for(scenario(), BOUND_S)) == list(range(3, 1105))


def test_a_subscriber_is_woken_by_a_later_append(store: EventStore, lease: Lease, open_it: Open) -> None:
    async def scenario() -> int:
        coming = subscribe(open_it())
        first = asyncio.ensure_future(anext(coming))
        await asyncio.sleep(0)
        assert not first.done()
        append(store, lease, 1)
        position = (await first).position
        await coming.aclose()
        return position

    assert asyncio.run(asyncio.wait_for(scenario(), BOUND_S)) == 1


def test_a_subscriber_can_be_cancelled_while_it_waits(open_it: Open) -> None:
    async def scenario() -> None:
        waiting = asyncio.ensure_future(anext(subscribe(open_it(), poll_s=BOUND_S * 10)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(asyncio.wait_for(scenario(), BOUND_S))


def test_a_subscriber_that_catches_up_lets_others_have_a_turn(store: EventStore, lease: Lease, open_it: Open) -> None:
    append(store, lease, 3000)

    async def scenario() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        async for one in subscribe(open_it()):
            if one.position == 3000:
                break
        counting.cancel()
        return turns

    assert asyncio.run(asyncio.wait_for(scenario(), BOUND_S)) >= 5


def test_a_follower_sees_what_comes_until_it_is_stopped(store: EventStore, lease: Lease, open_it: Open) -> None:
    append(store, lease, 3)
    stop, caught_up = threading.Event(), threading.Event()

    def listen() -> list[int]:
        seen = []
        for one in follow(open_it(), after=1, stop=stop.is_set):
            seen.append(one.position)
            if one.position == 3:
                caught_up.set()
            if one.position == 1005:
                stop.set()
        return seen

    with ThreadPoolExecutor() as threads:
        listening = threads.submit(listen)
        assert caught_up.wait(BOUND_S)
        for size in (1, 1, 1002):
            append(store, lease, size)
        assert listening.result(BOUND_S) == list(range(2, 1006))


def test_a_follower_stops_while_nothing_comes(open_it: Open) -> None:
    asked = iter([False, False, True])
    assert list(follow(open_it(), stop=lambda: next(asked))) == []


def test_a_follower_that_is_stopped_in_the_middle_goes_no_further(store: EventStore, lease: Lease, open_it: Open) -> None:
    append(store, lease, 10)
    seen: list[int] = []
    for one in follow(open_it(), stop=lambda: len(seen) == 4):
        seen.append(one.position)
    assert seen == [1, 2, 3, 4]
