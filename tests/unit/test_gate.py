"""In which order and how full calls are sent, on a clock that jumps from timer to timer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from support import jumping_loop
from support.call_world import Receiver, caller_on, embed_units
from support.jobs import a_job, prepared

from bulkembed.schemas.errors import CallError, CallRejected, OutputError, QuotaExceeded
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.call_queue import LINGER_S
from bulkembed.transforms.calls.caller import Caller
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.concurrency import START
from bulkembed.transforms.core.content import TextContent
from bulkembed.transforms.core.packing import CallLimits

STEP_S = 0.001
"""Long enough for all coroutines that are ready to run."""
TEXTS = 4
"""The maximum of a call."""


class Client:
    """Answers a call when the test says so."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.cancelled: list[list[str]] = []
        self._waiting: dict[int, asyncio.Future[CallError | None]] = {}

    async def embed(self, items: Sequence[TextContent]) -> Answer:
        texts = [item.text for item in items]
        self.calls.append(texts)
        number = len(self.calls) - 1
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            error = await self._waiting[number]
        except asyncio.CancelledError:
            self.cancelled.append(texts)
            raise
        if error is not None:
            raise error
        return Answer(np.ones((len(items), 2), np.float32), 10 * len(items))

    async def count_tokens(self, content: TextContent) -> int:
        raise AssertionError

    async def end(self, number: int, error: CallError | None = None) -> None:
        """Answer a call, and let everything run that is ready."""
        self._waiting.pop(number).set_result(error)
        await asyncio.sleep(STEP_S)

    async def end_all(self) -> None:
        while self._waiting:
            await self.end(next(iter(self._waiting)))

    @property
    def in_flight(self) -> list[list[str]]:
        return [self.calls[number] for number in self._waiting]


class Sent:
    """A caller, its client, and the tasks that embed."""

    def __init__(self, loop: jumping_loop.JumpingLoop, concurrency: int, **limits: int) -> None:
        self.loop = loop
        self.client = Client()
        self.caller, self.gate = caller_on(
            loop, self.client, QuotaLimits(**limits), concurrency=concurrency,  # type: ignore[arg-type]
            call_limits=CallLimits(texts=TEXTS),
        )  # fmt: skip
        self.receivers: dict[str, Receiver] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def embed(self, name: str, count: int, receiver: Receiver | None = None) -> None:
        """Hand in so many texts, called after the unit."""
        items = prepared([f"{name}{n}" for n in range(count)], a_job()).items
        self.receivers[name] = receiver or Receiver()
        work = self.caller.embed(items, self.receivers[name])
        self.tasks[name] = asyncio.create_task(work)
        await asyncio.sleep(STEP_S)

    async def proven(self) -> None:
        """Let one call pass, so that more than one may be in flight."""
        await self.embed("first", 1)
        await self.client.end(0)


def play(scenario: Callable[[Sent], Awaitable[None]], concurrency: int = 16, **limits: int) -> None:
    loop = jumping_loop.JumpingLoop()

    async def run() -> None:
        await scenario(Sent(loop, concurrency, **limits))
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    jumping_loop.run(run(), loop)


def test_the_first_call_is_sent_alone_and_the_others_wait_for_its_answer() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.embed("a", 12)
        await asyncio.sleep(60)
        assert sent.client.calls == [["a0", "a1", "a2", "a3"]]
        await sent.client.end(0)
        assert len(sent.client.in_flight) == 2

    play(scenario)


def test_units_share_calls_in_the_order_of_their_arrival() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.proven()
        await sent.embed("a", 4)
        await sent.embed("b", 2)
        await sent.embed("c", 1)
        await sent.embed("d", 5)
        assert sent.client.calls[1:] == [["a0", "a1", "a2", "a3"]]
        await sent.client.end_all()
        rest = [["b0", "b1", "c0", "d0"], ["d1", "d2", "d3", "d4"]]
        assert sent.client.calls[2:] == rest
        await asyncio.gather(*sent.tasks.values())
        texts = {name: one.texts for name, one in sent.receivers.items()}
        assert texts == {"first": 1, "a": 4, "b": 2, "c": 1, "d": 5}
        assert sum(one.calls for one in sent.receivers.values()) == len(sent.client.calls)
        assert sum(one.tokens for one in sent.receivers.values()) == 10 * 13

    play(scenario, concurrency=1)


def test_retries_are_sent_before_new_contents_and_stay_apart_from_them() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.proven()
        await sent.embed("a", 2)
        await sent.embed("b", 3)
        await sent.client.end(1, CallRejected("one is bad", code="refused"))
        await sent.client.end(2)
        await sent.client.end(3)
        assert sent.client.calls[1:] == [["a0", "a1"], ["a0"], ["a1"], ["b0", "b1", "b2"]]

    play(scenario, concurrency=1)


def test_a_call_that_became_too_large_is_sent_in_parts_before_new_contents() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.proven()
        await sent.embed("a", 4)
        await sent.embed("b", 4)
        sent.gate.limit_texts(3)
        limited = QuotaExceeded("429", quota_id="EmbedContentRequestsPerMinute", retry_delay_s=1)
        await sent.client.end(1, limited)
        await asyncio.sleep(2)
        for number in itertools.count(2):
            if not sent.client.in_flight:
                break
            await sent.client.end(number)
        assert sent.client.calls[2:] == [["a0", "a1", "a2"], ["a3"], ["b0", "b1", "b2"], ["b3"]]

    play(scenario, concurrency=1)


def test_only_the_time_that_is_spent_waiting_for_quota_counts_as_throttled() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.embed("a", 8)
        await asyncio.sleep(10)
        assert sent.caller.throttled_s == 0  # The call waits for the answer to the first one.
        await sent.client.end(0)
        await asyncio.sleep(61)
        assert len(sent.client.calls) == 2
        assert sent.caller.throttled_s == pytest.approx(60.25, abs=0.01)

    play(scenario, rpm=4)


def test_a_stop_ends_all_waiting() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.embed("a", 4)
        await sent.embed("b", 4)
        sent.caller._stop.set(StopReason.SIGNAL, "stop")
        await asyncio.sleep(STEP_S)
        assert sent.tasks["b"].done()
        await sent.embed("c", 1)
        assert sent.tasks["c"].done()
        await sent.client.end(0)
        await asyncio.gather(*sent.tasks.values())
        assert [one.texts for one in sent.receivers.values()] == [4, 0, 0]
        assert len(sent.client.calls) == 1

    play(scenario)


def test_the_rest_of_a_window_is_used_at_once_if_no_more_room_is_about_to_appear() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.proven()
        await sent.embed("a", 8)
        await sent.client.end_all()
        assert [len(call) for call in sent.client.calls] == [1, 4, 1]

    play(scenario, rpm=6)


def test_contents_that_do_not_fill_a_call_wait_for_others_that_are_on_their_way() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.proven()
        sent.caller.expect(1)
        await sent.embed("a", 2)
        await sent.embed("b", 3)
        assert sent.client.calls[1:] == [["a0", "a1", "b0", "b1"]]
        await asyncio.sleep(0.9 * LINGER_S)
        assert len(sent.client.calls) == 2
        await asyncio.sleep(0.2 * LINGER_S)
        assert sent.client.calls[2:] == [["b2"]]
        await sent.embed("c", 1)
        assert len(sent.client.calls) == 3
        sent.caller.expect(-1)
        await asyncio.sleep(STEP_S)
        assert sent.client.calls[3:] == [["c0"]]

    play(scenario)


def test_without_others_on_their_way_nothing_waits() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.proven()
        await sent.embed("a", 1)
        assert sent.client.calls[1:] == [["a0"]]

    play(scenario)


def test_a_unit_that_cannot_store_its_part_of_an_answer_fails_alone() -> None:
    class Full(Receiver):
        def embedded(self, contents: Sequence[TextContent], answer: Answer, attempts: int) -> None:
            raise OutputError("the disk is full")

    async def scenario(sent: Sent) -> None:
        await sent.proven()
        await sent.embed("a", 4)
        await sent.embed("b", 2, Full())
        await sent.embed("c", 2)
        await sent.client.end_all()
        found = await asyncio.gather(*sent.tasks.values(), return_exceptions=True)
        assert [type(one) for one in found] == [type(None)] * 2 + [OutputError, type(None)]
        assert sent.receivers["c"].texts == 2

    play(scenario, concurrency=1)


def test_a_cancelled_unit_ends_its_own_calls_and_leaves_shared_ones() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.proven()
        sent.caller.expect(1)
        await sent.embed("a", 6)
        await sent.embed("b", 6)
        assert [len(call) for call in sent.client.in_flight] == [4, 4, 4]
        sent.tasks["a"].cancel()
        await asyncio.sleep(STEP_S)
        assert sent.client.cancelled == [["a0", "a1", "a2", "a3"]]
        await sent.client.end(2)
        await sent.client.end(3)
        await sent.tasks["b"]
        assert sent.receivers["b"].texts == 6

    play(scenario)


def test_an_error_that_nobody_expects_ends_every_unit_of_its_call() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.proven()
        sent.caller.expect(1)
        await sent.embed("a", 2)
        await sent.embed("b", 6)
        await sent.client.end(1, KeyError("a defect"))  # type: ignore[arg-type]
        found = await asyncio.gather(*sent.tasks.values(), return_exceptions=True)
        assert [type(one) for one in found] == [type(None), KeyError, KeyError]

    play(scenario)


def test_many_small_units_make_full_calls() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.proven()
        items = prepared(["x"], a_job()).items
        work = asyncio.create_task(embed_units(sent.caller, [items] * 400, at_once=400))
        while not work.done():
            await sent.client.end_all()
            await asyncio.sleep(STEP_S)
        assert len(sent.client.calls) <= 1 + 400 / TEXTS + START + 1

    play(scenario)


def test_a_caller_needs_no_work_to_end() -> None:
    async def scenario(sent: Sent) -> None:
        caller: Caller = sent.caller
        await caller.embed([], Receiver())
        assert sent.client.calls == []

    play(scenario)


def test_after_an_error_nothing_more_of_the_unit_is_sent() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.proven()
        await sent.embed("a", 8)
        await sent.embed("b", 4)
        await sent.client.end(1, KeyError("a defect"))  # type: ignore[arg-type]
        await sent.client.end_all()
        assert sent.client.calls[1:] == [["a0", "a1", "a2", "a3"], ["b0", "b1", "b2", "b3"]]
        with pytest.raises(KeyError):
            await sent.tasks["a"]

    play(scenario, concurrency=1)


def test_a_unit_that_is_cancelled_before_its_call_begins_returns_the_slot() -> None:
    async def scenario(sent: Sent) -> None:
        await sent.proven()
        items = prepared(["x"], a_job()).items
        tasks = [asyncio.create_task(sent.caller.embed(items, Receiver())) for _ in range(9)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(STEP_S)
        assert len(sent.client.calls) == 1
        await sent.embed("a", 4)
        assert sent.client.calls[1:] == [["a0", "a1", "a2", "a3"]]

    play(scenario, concurrency=4)
