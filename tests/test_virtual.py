"""Virtual time: `src/jobledger/virtual.py`."""

import asyncio
import os
import time

import pytest

from jobledger.virtual import NothingLeft, VirtualLoop, run_virtually

WEEK_S = 7 * 24 * 3_600


def test_waiting_takes_no_time():
    async def sleep():
        await asyncio.sleep(WEEK_S)
        return asyncio.get_running_loop().microseconds

    began = time.monotonic()
    assert WEEK_S * 1_000_000 <= run_virtually(sleep()) <= WEEK_S * 1_000_000 + 10
    assert time.monotonic() - began < 5


def test_time_stands_still_while_something_is_ready():
    async def work():
        for _ in range(100):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run_virtually(work()) == 0


def test_timers_fire_in_their_order_and_at_their_time():
    async def fire():
        loop, fired = asyncio.get_running_loop(), []
        for number in (3, 1, 2, 1_000_000):
            loop.call_later(number / 1_000_000, lambda number=number: fired.append((number, loop.microseconds)))
        await asyncio.sleep(2)
        return fired

    assert run_virtually(fire()) == [(1, 1), (2, 2), (3, 3), (1_000_000, 1_000_000)]


@pytest.mark.parametrize("delay", [0.1, 1 / 3, 86_399.999_999, 1e-9])
def test_time_moves_on_however_small_the_rest(delay):
    async def sleep():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(12_345.678_901)
        began = loop.time()
        await asyncio.sleep(delay)
        return loop.time() - began

    assert delay <= run_virtually(sleep()) + 1e-6
    assert run_virtually(sleep()) <= delay + 3e-6


def test_a_timeout_comes_in_its_time():
    async def wait():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time()

    assert run_virtually(wait()) == 60


def test_waiting_for_what_can_never_happen_is_an_error():
    async def wait():
        await asyncio.Event().wait()

    with pytest.raises(NothingLeft, match="nothing is left"):
        run_virtually(wait())


def test_what_comes_from_outside_is_waited_for_where_nothing_else_can_happen():
    async def listen():
        read, write = os.pipe()
        try:
            heard = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().add_reader(read, lambda: heard.set_result(os.read(read, 1)))
            os.write(write, b"x")
            return await heard
        finally:
            asyncio.get_running_loop().remove_reader(read)
            os.close(read)
            os.close(write)

    assert run_virtually(listen()) == b"x"


def test_a_loop_begins_at_zero():
    loop = VirtualLoop()
    try:
        assert (loop.microseconds, loop.time()) == (0, 0)
    finally:
        loop.close()
