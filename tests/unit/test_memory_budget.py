"""The memory of all tasks of a process is bounded together."""

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
from bulkembed.transforms.units.memory_budget import MemoryBudget
from bulkembed.transforms.units.slices import SliceTasks

MAX = 100
SOON_S = 20.0


class Process:
    """The parts of an engine that the tasks of slices use."""

    def __init__(self) -> None:
        self.memory = MemoryBudget(MAX)
        self.loop = LoopThread("test")
        self.stop = StopFlag()

    def check_notes(self) -> None:
        """There are none."""

    def flush_notes(self) -> None:
        """Nobody reads them."""


@pytest.fixture
def process() -> Iterator[Any]:
    process = Process()
    yield process
    process.loop.close()


async def until(event: asyncio.Event) -> int:
    await event.wait()
    return 1


async def set_event(event: asyncio.Event) -> None:
    event.set()


def start(tasks: SliceTasks[int], size: int, event: asyncio.Event) -> None:
    assert list(tasks.wait_for_memory(size)) == []
    tasks.start(until(event))


def test_two_slices_of_a_process_share_its_memory(process: Any) -> None:
    first, second = SliceTasks[int](process), SliceTasks[int](process)
    done = asyncio.Event()
    start(first, 70, done)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        room = pool.submit(lambda: list(second.wait_for_memory(40)))
        with pytest.raises(concurrent.futures.TimeoutError):
            room.result(1.5)
        assert process.memory.reserved == 70
        process.loop.call_later(0, done.set)
        assert room.result(SOON_S) == []
        assert process.memory.reserved == 40
    second.start(until(done))
    assert list(second.finish()) == [1]
    assert list(first.finish()) == [1]
    assert process.memory.reserved == 0


def test_a_single_task_always_fits_and_a_large_one_is_not_overtaken() -> None:
    memory = MemoryBudget(MAX)
    places = [memory.enter_queue() for _ in range(3)]
    assert memory.reserve(places[0], 5 * MAX, 0)
    memory.leave_queue(places[0])
    memory.release(5 * MAX)
    assert memory.reserve(places[1], 60, 0)
    memory.leave_queue(places[1])
    large, small = places[2], memory.enter_queue()
    assert not memory.reserve(large, 50, 0)
    assert not memory.reserve(small, 10, 0)
    memory.leave_queue(large)
    assert memory.reserve(small, 10, 0)


def test_a_slice_that_waits_for_memory_ends_when_the_run_must_stop(process: Any) -> None:
    first, second = SliceTasks[int](process), SliceTasks[int](process)
    done = asyncio.Event()
    start(first, MAX, done)
    waiting = threading.Event()

    def wait() -> list[int]:
        waiting.set()
        return list(second.wait_for_memory(1))

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        room = pool.submit(wait)
        waiting.wait(SOON_S)
        process.stop.set(StopReason.SIGNAL, "SIGTERM")
        assert room.result(SOON_S) == []
    assert second.must_stop()
    assert list(second.finish()) == []
    process.loop.call_later(0, done.set)
    assert list(first.finish()) == [1]
    assert process.memory.reserved == 0


def test_what_waits_for_later_tasks_leaves_less_room_but_never_stops_all(process: Any) -> None:
    first, second = SliceTasks[int](process), SliceTasks[int](process)
    done = asyncio.Event()
    first.hold(90)
    start(second, 50, done)  # Nothing else runs.
    process.loop.run(set_event(done))
    assert list(second.finish()) == [1]
    start(second, 5, done := asyncio.Event())
    place = process.memory.enter_queue()
    assert not process.memory.reserve(place, 10, 0.0)
    first.hold(80)
    assert process.memory.reserve(place, 10, 0.0)
    process.memory.release(10)
    process.memory.leave_queue(place)
    process.loop.run(set_event(done))
    assert [*first.finish(), *second.finish()] == [1]
    assert process.memory.held == 0


def test_results_are_handed_out_as_tasks_end_even_if_memory_is_never_short(process: Any) -> None:
    tasks = SliceTasks[int](process)
    event, results = asyncio.Event(), 0
    event.set()
    for _ in range(20):
        results += sum(tasks.wait_for_memory(1))
        tasks.start(until(event))
        concurrent.futures.wait(tasks.running, SOON_S)
        assert len(tasks.running) == 1  # Those that have ended are not kept until the slice ends.
    assert results == 19
    assert sum(tasks.finish()) == 1
