"""The bytes of all work under way in a process are bounded together."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.calls.threads import LoopThread
from bulkembed.transforms.units.engine import InFlight
from bulkembed.transforms.units.slices import Flight

MOST = 100
SOON_S = 20.0


class Process:
    """What slices of one process share, as far as their flights use it."""

    def __init__(self) -> None:
        self.in_flight = InFlight(MOST)
        self.loop = LoopThread("test")
        self.stop = StopFlag()

    def look_for_notes(self) -> None:
        """There are none."""

    def leave_notes(self) -> None:
        """There is nobody to read them."""


@pytest.fixture
def process() -> Iterator[Any]:
    process = Process()
    yield process
    process.loop.close()


async def until(event: asyncio.Event) -> int:
    await event.wait()
    return 1


def start(flight: Flight[int], size: int, event: asyncio.Event) -> None:
    assert list(flight.make_room(size)) == []
    flight.start(until(event))


def test_two_slices_of_a_process_share_its_bytes(process: Any) -> None:
    first, second = Flight[int](process), Flight[int](process)
    done = asyncio.Event()
    start(first, 70, done)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        room = pool.submit(lambda: list(second.make_room(40)))
        with pytest.raises(concurrent.futures.TimeoutError):
            room.result(1.5)
        assert process.in_flight.held == 70
        process.loop.call_later(0, done.set)
        assert room.result(SOON_S) == []
        assert process.in_flight.held == 40
    second.start(until(done))
    assert list(second.land_all()) == [1]
    assert list(first.land_all()) == [1]
    assert process.in_flight.held == 0


def test_one_piece_always_fits_and_a_large_one_is_not_overtaken() -> None:
    in_flight = InFlight(MOST)
    places = [in_flight.queue() for _ in range(3)]
    assert in_flight.take(places[0], 5 * MOST, 0)
    in_flight.leave(places[0])
    in_flight.give_back(5 * MOST)
    assert in_flight.take(places[1], 60, 0)
    in_flight.leave(places[1])
    large, small = places[2], in_flight.queue()
    assert not in_flight.take(large, 50, 0)
    assert not in_flight.take(small, 10, 0)
    in_flight.leave(large)
    assert in_flight.take(small, 10, 0)


def test_a_slice_that_waits_for_room_ends_when_the_run_is_to_end(process: Any) -> None:
    first, second = Flight[int](process), Flight[int](process)
    done = asyncio.Event()
    start(first, MOST, done)
    waiting = threading.Event()

    def wait() -> list[int]:
        waiting.set()
        return list(second.make_room(1))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        room = pool.submit(wait)
        waiting.wait(SOON_S)
        process.stop.set(StopReason.SIGNAL, "SIGTERM")
        assert room.result(SOON_S) == []
    assert second.must_end()
    assert list(second.land_all()) == []
    process.loop.call_later(0, done.set)
    assert list(first.land_all()) == [1]
    assert process.in_flight.held == 0
