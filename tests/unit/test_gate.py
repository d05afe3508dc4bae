"""The order of calls at the gate, on a clock that jumps from timer to timer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from support import jumping_loop
from support.jobs import a_job, prepared

from bulkembed.schemas.quota import QuotaLimits
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.gate import Gate, TooLarge
from bulkembed.transforms.calls.shared_quota import LocalQuota
from bulkembed.transforms.calls.stopping import StopFlag, Stopping
from bulkembed.transforms.core.concurrency import ConcurrencyLevel
from bulkembed.transforms.core.content import TextContent
from bulkembed.transforms.core.packing import CallLimits
from bulkembed.transforms.core.quota_mirror import QuotaMirror

LOOP_S = 0.001
"""Long enough for all coroutines that are ready to run."""
LATENCY_S = 0.2


def gate_of(
    loop: jumping_loop.JumpingLoop,
    stop: StopFlag | None = None,
    concurrency: int = 16,
    **limits: int,
) -> Gate:
    return Gate(
        LocalQuota(QuotaMirror(QuotaLimits(**limits))),  # type: ignore[arg-type]
        ConcurrencyLevel(concurrency),
        CallLimits(texts=4),
        stop or StopFlag(),
        clock=loop.time,
        random=lambda: 0.0,
    )


def items_of(count: int) -> Sequence[TextContent]:
    return prepared([f"t{n}" for n in range(count)], a_job()).items


def play(scenario: Callable[[jumping_loop.JumpingLoop], Awaitable[None]]) -> None:
    loop = jumping_loop.JumpingLoop()

    async def run() -> None:
        await scenario(loop)

    jumping_loop.run(run(), loop)


async def answered(gate: Gate) -> None:
    """Let one call pass, so that the gate sends more than one at a time."""
    gate.succeed(await gate.enter(items_of(1), 1), 1, 1)


def test_the_first_call_is_sent_alone_and_the_others_wait_for_its_answer() -> None:
    async def scenario(loop: jumping_loop.JumpingLoop) -> None:
        gate = gate_of(loop)
        first = await gate.enter(items_of(1), 1)
        others = [asyncio.create_task(gate.enter(items_of(1), 1)) for _ in range(3)]
        await asyncio.sleep(60)
        assert not any(task.done() for task in others)
        gate.succeed(first, 1, 1)
        await asyncio.sleep(LOOP_S)
        assert all(task.done() for task in others)

    play(scenario)


def test_retries_are_sent_before_new_calls_and_each_in_the_order_of_arrival() -> None:
    async def scenario(loop: jumping_loop.JumpingLoop) -> None:
        gate, order = gate_of(loop, concurrency=1), list[str]()
        await answered(gate)
        in_flight = await gate.enter(items_of(1), 1)

        async def call(name: str, is_retry: bool) -> None:
            slot = await gate.enter(items_of(1), 1, is_retry=is_retry)
            order.append(name)
            gate.succeed(slot, 1, 1)

        queued = [("new 1", False), ("retry 1", True), ("new 2", False), ("retry 2", True)]
        tasks = [asyncio.create_task(call(name, is_retry)) for name, is_retry in queued]
        await asyncio.sleep(LOOP_S)
        gate.succeed(in_flight, 1, 1)
        await asyncio.gather(*tasks)
        assert order == ["retry 1", "retry 2", "new 1", "new 2"]

    play(scenario)


def test_the_parts_of_a_call_that_became_too_large_keep_its_place() -> None:
    async def scenario(loop: jumping_loop.JumpingLoop) -> None:
        gate, order = gate_of(loop, concurrency=1), list[str]()
        await answered(gate)
        in_flight = await gate.enter(items_of(1), 1)
        large = items_of(4)

        async def part(at: int) -> None:
            slot = await gate.enter(large[at : at + 2], 2)
            order.append(f"part {at}")
            await asyncio.sleep(LATENCY_S)
            gate.succeed(slot, 2, 2)

        async def repack() -> None:
            with pytest.raises(TooLarge):
                await gate.enter(large, 4)
            await asyncio.gather(part(0), part(2))

        async def later() -> None:
            slot = await gate.enter(items_of(1), 1)
            order.append("later")
            gate.succeed(slot, 1, 1)

        tasks = [asyncio.create_task(repack()), asyncio.create_task(later())]
        await asyncio.sleep(LOOP_S)
        gate.limit_texts(2)
        gate.succeed(in_flight, 1, 1)
        await asyncio.gather(*tasks)
        assert order == ["part 0", "part 2", "later"]

    play(scenario)


def test_only_the_time_that_is_spent_waiting_for_quota_counts_as_throttled() -> None:
    async def scenario(loop: jumping_loop.JumpingLoop) -> None:
        gate = gate_of(loop, rpm=4)
        slot = await gate.enter(items_of(4), 4)
        waiting = asyncio.create_task(gate.enter(items_of(4), 4))
        await asyncio.sleep(10)
        assert gate.throttled_s == 0  # The call waits for the answer to the first one.
        gate.succeed(slot, 4, 4)
        await waiting
        assert gate.throttled_s == pytest.approx(60.25, abs=0.01)

    play(scenario)


def test_a_stop_ends_all_waiting() -> None:
    async def scenario(loop: jumping_loop.JumpingLoop) -> None:
        stop = StopFlag(lambda _: gate.close())
        gate = gate_of(loop, stop)
        await gate.enter(items_of(1), 1)
        waiting = asyncio.create_task(gate.enter(items_of(1), 1))
        await asyncio.sleep(LOOP_S)
        stop.set(StopReason.SIGNAL, "stop")
        with pytest.raises(Stopping):
            await waiting
        with pytest.raises(Stopping):
            await gate.enter(items_of(1), 1)

    play(scenario)
