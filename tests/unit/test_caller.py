"""How a caller splits rejected calls, learns limits on texts and retries token counts."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from support import jumping_loop
from support.call_world import KeepingReceiver
from support.jobs import a_job, prepared

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import (
    CallError,
    CallRejected,
    Intercepted,
    JobRejected,
    OutputError,
    Unavailable,
)
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.schemas.stop import StopReason
from bulkembed.transforms.calls.caller import Caller
from bulkembed.transforms.calls.gate import Gate
from bulkembed.transforms.calls.long_texts import TokenCounter
from bulkembed.transforms.calls.retry import Retrier
from bulkembed.transforms.calls.shared_quota import LocalQuota
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.backoff import RetryWait
from bulkembed.transforms.core.concurrency import ConcurrencyLevel
from bulkembed.transforms.core.content import TextContent
from bulkembed.transforms.core.packing import CallLimits, body_size
from bulkembed.transforms.core.quota_mirror import QuotaMirror
from bulkembed.transforms.core.tokens import TokenEstimator

Reject = Callable[[Sequence[TextContent]], CallError | None]


class Client:
    """Answers each call with vectors, unless `reject` returns an error."""

    def __init__(self, reject: Reject, counts: list[int | CallError] | None = None) -> None:
        self._reject = reject
        self.counts = counts or []
        self.calls: list[list[str]] = []

    async def embed(self, items: Sequence[TextContent]) -> Answer:
        self.calls.append([item.text for item in items])
        error = self._reject(items)
        try:
            if error is not None:
                raise error
        finally:
            del error  # It would keep this frame, and the frame it.
        return Answer(np.ones((len(items), 2), np.float32), len(items))

    async def count_tokens(self, content: TextContent) -> int:
        count = self.counts.pop(0)
        if isinstance(count, CallError):
            raise count
        return count


def caller_of(
    client: Client,
    stop: StopFlag,
    texts: int = 4,
    deadline_s: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
) -> Caller:
    gate = Gate(
        LocalQuota(QuotaMirror(QuotaLimits())), ConcurrencyLevel(4), CallLimits(texts=texts)
    )
    return Caller(
        client, gate, TokenEstimator(), stop,
        deadline_s=deadline_s, clock=clock, random=lambda: 0.0,
    )  # fmt: skip


def counter_of(
    client: Client,
    stop: StopFlag,
    deadline_s: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
) -> TokenCounter:
    retrier = Retrier(stop, deadline_s, RetryWait(lambda: 0.0), clock)
    return TokenCounter(client, retrier, stop, deadline_s, clock)


@pytest.mark.parametrize("kind", [Unavailable, CallRejected, None])
def test_a_failed_call_keeps_its_receiver_no_longer_than_needed(
    kind: type[CallError] | None,
) -> None:
    """The receiver holds the vectors of a unit, which must not wait for garbage collection."""
    errors = [kind] if kind is not None else []
    client = Client(lambda _: errors.pop()("it failed") if errors else None)

    async def run() -> weakref.ref[KeepingReceiver]:
        receiver, items = KeepingReceiver(), prepared(["a", "b", "c"], a_job()).items
        await caller_of(client, StopFlag()).embed(items, receiver)
        assert len(receiver.good) == 3
        await asyncio.sleep(0)  # The task of the call ends after its result is handed out.
        return weakref.ref(receiver)

    gc.collect()
    gc.disable()
    try:
        receiver = asyncio.run(run())
        assert receiver() is None
    finally:
        gc.enable()


def embed(texts: list[str], reject: Reject) -> tuple[Client, KeepingReceiver, StopFlag]:
    client, receiver, stop = Client(reject), KeepingReceiver(), StopFlag()
    items = prepared(list(texts), a_job()).items
    asyncio.run(caller_of(client, stop).embed(items, receiver))
    return client, receiver, stop


def test_after_an_answer_an_error_about_settings_is_about_a_text() -> None:
    def reject(items: Sequence[TextContent]) -> CallError | None:
        if any("task_type" in item.text for item in items):
            return JobRejected("Content blocked: 'what is task_type'", code="task_type")
        return None

    texts = ["a", "b", "c", "d", "e", "what is task_type", "f"]
    _, receiver, stop = embed(texts, reject)
    assert stop.stop is None
    assert receiver.bad == {"what is task_type": DeadCode.REJECTED}
    assert sorted(receiver.good) == ["a", "b", "c", "d", "e", "f"]


def test_an_error_about_settings_at_the_first_call_ends_the_job() -> None:
    client, receiver, stop = embed(["a"], lambda _: JobRejected("bad task_type", code="task_type"))
    assert stop.stop is not None
    assert stop.stop.reason is StopReason.REJECTED
    assert (len(client.calls), receiver.good, receiver.bad) == (1, [], {})


def test_a_row_that_an_error_names_fails_only_if_it_is_rejected_alone() -> None:
    def reject(items: Sequence[TextContent]) -> CallError | None:
        if any(item.text == "bad" for item in items):
            return CallRejected("requests[0] repeats: 'contents[0]'", code="refused", index=0)
        return None

    _, receiver, _ = embed(["good", "x", "bad", "y"], reject)
    assert receiver.bad == {"bad": DeadCode.REJECTED}
    assert sorted(receiver.good) == ["good", "x", "y"]


def test_a_limit_on_texts_is_learned_even_if_the_error_does_not_name_it() -> None:
    def reject(items: Sequence[TextContent]) -> CallError | None:
        return CallRejected("too many instances", code="batch_size") if len(items) > 1 else None

    client, receiver = Client(reject), KeepingReceiver()
    caller = caller_of(client, StopFlag())
    items = prepared([f"t{n}" for n in range(12)], a_job()).items

    async def twice() -> int:
        await caller.embed(items[:4], receiver)
        before = len(client.calls)
        await caller.embed(items[4:], receiver)
        return before

    before = asyncio.run(twice())
    assert len(receiver.good) == 12
    assert not receiver.bad
    assert [len(call) for call in client.calls[:before]] == [4, 2, 1, 1, 1, 1]
    assert [len(call) for call in client.calls[before:]] == [1] * 8


@pytest.mark.parametrize("status", [400, 413])
def test_a_limit_on_the_size_of_a_body_is_learned(status: int) -> None:
    limit = body_size(prepared(["t0", "t1", "t2"], a_job()).items)

    def reject(items: Sequence[TextContent]) -> CallError | None:
        if body_size(items) <= limit:
            return None
        return CallRejected("too large", http_status=status, code="payload")

    client, receiver = Client(reject), KeepingReceiver()
    caller = caller_of(client, StopFlag())
    items = prepared([f"t{n}" for n in range(10)] + ["long " * 1000], a_job()).items

    async def twice() -> int:
        await caller.embed(items[:8], receiver)
        before = len(client.calls)
        await caller.embed(items[8:], receiver)
        return before

    before = asyncio.run(twice())
    assert sorted(receiver.good) == sorted(f"t{n}" for n in range(10))
    assert list(receiver.bad.values()) == [DeadCode.REJECTED]
    assert [len(call) for call in client.calls[:before]] == [4, 2, 2, 2, 2]
    assert [len(call) for call in client.calls[before:]] == [2, 1]


def test_a_count_is_retried_while_the_service_is_at_fault() -> None:
    client = Client(lambda _: None, [Unavailable("503", http_status=503), 7])
    stop = StopFlag()
    item = prepared(["a"], a_job()).items[0]
    assert asyncio.run(counter_of(client, stop).count(item)) == 7
    assert stop.stop is None


def test_a_page_instead_of_a_count_ends_the_run_after_some_tries() -> None:
    client = Client(lambda _: None, [Intercepted("a page instead of JSON")] * 50)
    loop, stop = jumping_loop.JumpingLoop(), StopFlag()
    counter = counter_of(client, stop, deadline_s=600.0, clock=loop.time)
    item = prepared(["a"], a_job()).items[0]
    assert jumping_loop.run(counter.count(item), loop) is None
    assert len(client.counts) == 45
    assert stop.stop is not None
    assert stop.stop.exit_code == 1


def test_a_service_that_does_not_count_is_asked_once() -> None:
    client = Client(lambda _: None, [JobRejected("no such method", http_status=404)])
    counter, item = counter_of(client, StopFlag()), prepared(["a"], a_job()).items[0]

    async def twice() -> list[int | None]:
        return [await counter.count(item), await counter.count(item)]

    assert asyncio.run(twice()) == [None, None]


def test_after_an_answer_that_cannot_be_stored_no_call_is_sent() -> None:
    class Full(KeepingReceiver):
        def embedded(self, items: Sequence[TextContent], answer: Answer, attempts: int) -> None:
            raise OutputError("the disk is full")

    client, stop = Client(lambda _: None), StopFlag()
    items = prepared(["a", "b", "c"], a_job()).items

    async def units() -> list[object]:
        caller = caller_of(client, stop, texts=1)
        work = [caller.embed([item], Full()) for item in items]
        return list(await asyncio.gather(*work, return_exceptions=True))

    asyncio.run(units())
    assert stop.stop is not None
    assert (stop.stop.reason, stop.stop.message) == (StopReason.BROKEN, "the disk is full")
    assert client.calls == [["a"]]
