"""What a caller does while the service fails, or gives useless answers.

The clock jumps from timer to timer, so that an outage of minutes takes no time.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from support import jumping_loop
from support.call_world import KeepingReceiver
from support.jobs import a_job, prepared

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import (
    BadAnswer,
    CallError,
    CallRejected,
    Intercepted,
    JobRejected,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.schemas.prices import Budget
from bulkembed.schemas.quota import QuotaKind, QuotaLimits
from bulkembed.schemas.stop import ExitCode, StopReason
from bulkembed.transforms.calls.caller import Caller
from bulkembed.transforms.calls.failed_calls import MAX_BAD_TRIES
from bulkembed.transforms.calls.gate import Gate
from bulkembed.transforms.calls.shared_quota import LocalQuota
from bulkembed.transforms.calls.spending import Spending
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.clients.classification import Reply, classify
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.concurrency import ConcurrencyLevel
from bulkembed.transforms.core.content import TextContent
from bulkembed.transforms.core.packing import CallLimits
from bulkembed.transforms.core.quota_mirror import QuotaMirror
from bulkembed.transforms.core.token_account import max_billed_tokens
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset.account_file import AccountFile

TEXTS = 100
LATENCY_S = 0.2
SHORT = BadAnswer("the answer has 99 embeddings for 100 texts", code="count")
TOO_MANY = QuotaExceeded("Resource has been exhausted", code="quota")
PAGE = Intercepted("the service answered 403: a page", code="page", http_status=403)
BUSY = Unavailable("the service answered 503: overloaded", code="service", http_status=503)

Fails = Callable[["Service", Sequence[TextContent]], CallError | None]


class Service:
    """Answers after a while, or fails as `fails` says; counts what was paid for."""

    def __init__(self, fails: Fails, loop: jumping_loop.JumpingLoop) -> None:
        self._fails = fails
        self._loop = loop
        self.began = loop.now
        self.sent: list[tuple[float, int]] = []
        self.passed = 0
        self.paid_in_vain = 0
        self.in_flight = self.max_in_flight = 0
        self.mirror: QuotaMirror | None = None
        self.max_tickets = 0

    @property
    def calls(self) -> int:
        return len(self.sent)

    @property
    def now(self) -> float:
        return self._loop.now - self.began

    async def embed(self, items: Sequence[TextContent]) -> Answer:
        self.sent.append((self.now, len(items)))
        error = self._fails(self, items)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        await asyncio.sleep(LATENCY_S)
        if self.mirror is not None:
            self.max_tickets = max(self.max_tickets, self.mirror.in_flight)
        self.in_flight -= 1
        if error is not None:
            self.paid_in_vain += len(items) if isinstance(error, BadAnswer) else 0
            raise copy.copy(error)
        self.passed += len(items)
        return Answer(np.ones((len(items), 2), np.float32), len(items))

    async def count_tokens(self, content: TextContent) -> int:
        raise AssertionError


@dataclasses.dataclass
class Ended:
    service: Service
    receiver: KeepingReceiver
    stop: StopFlag

    @property
    def code(self) -> ExitCode:
        return self.stop.stop.exit_code if self.stop.stop else ExitCode.COMPLETE

    @property
    def message(self) -> str:
        return self.stop.stop.message if self.stop.stop else ""


@functools.cache
def items_of(texts: int) -> Sequence[TextContent]:
    return prepared([f"t{n}" for n in range(texts)], a_job()).items


def embed(
    texts: int,
    fails: Fails,
    *,
    deadline_s: float = 600.0,
    concurrency: int = 16,
    per_call: int = TEXTS,
    mirror: QuotaMirror | None = None,
    account: Path | None = None,
    budget_calls: float = 0.0,
) -> Ended:
    """Embed texts `t0`, `t1`, ... to the end, or to that of the run."""
    loop = jumping_loop.JumpingLoop()
    stop, receiver, service = (
        StopFlag(lambda _: loop.call_soon(caller.close)),
        KeepingReceiver(),
        Service(fails, loop),
    )
    service.mirror = mirror
    items = items_of(texts)
    spending = None
    if account is not None:
        budget = Budget(max_billed_tokens(items[:per_call]) * budget_calls, 1_000_000)
        spending = Spending(AccountFile(account), budget, stop, clock=loop.time)
    gate = Gate(
        LocalQuota(mirror or QuotaMirror(QuotaLimits())),
        ConcurrencyLevel(concurrency),
        CallLimits(texts=per_call),
        clock=loop.time,
        random=lambda: 0.0,
    )
    caller = Caller(
        service, gate, TokenEstimator(), stop,
        deadline_s=deadline_s, spending=spending, clock=loop.time, random=lambda: 0.0,
    )  # fmt: skip
    jumping_loop.run(caller.embed(items, receiver), loop)
    return Ended(service, receiver, stop)


@pytest.mark.parametrize("concurrency", [1, 4, 16])
@pytest.mark.parametrize("code", ["count", "dim", "not_finite", "json"])
def test_useless_answers_cost_at_most_two_thousand_texts(code: str, concurrency: int) -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        return BadAnswer("useless", code=code) if service.passed >= 3000 else None

    ended = embed(10_000, fails, concurrency=concurrency)
    assert ended.service.paid_in_vain <= 2000
    assert ended.service.passed < 3000 + concurrency * TEXTS
    assert (ended.stop.stop and ended.stop.stop.reason, ended.code) == (StopReason.USELESS, 1)
    assert "useless" in ended.message
    assert not ended.receiver.bad


def test_useless_answers_for_some_seconds_lose_no_row() -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        return SHORT if 0.5 <= service.now < 10 else None

    ended = embed(10_000, fails)
    assert (ended.code, len(ended.receiver.good)) == (0, 10_000)
    assert 0 < ended.service.paid_in_vain <= 2000


@pytest.mark.parametrize("texts", [5000, TEXTS])
def test_a_text_with_bad_answers_is_found_at_once(texts: int) -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        return SHORT if any(item.text == "t77" for item in items) else None

    ended = embed(texts, fails)
    assert ended.code == 0
    assert ended.receiver.bad == {"t77": DeadCode.SERVICE_ERROR}
    assert len(ended.receiver.good) == texts - 1
    assert ended.service.paid_in_vain <= MAX_BAD_TRIES * (TEXTS + 1)


@pytest.mark.parametrize("error", [BUSY, PAGE, SHORT])
@pytest.mark.parametrize("texts", [50, TEXTS])
def test_a_text_that_always_fails_is_found_when_no_other_call_is_left(
    texts: int, error: CallError
) -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        return error if any(item.text == "t7" for item in items) else None

    ended = embed(texts, fails)
    assert ended.code == 0
    assert ended.receiver.bad == {"t7": DeadCode.SERVICE_ERROR}
    assert len(ended.receiver.good) == texts - 1
    assert ended.service.now < 620


def test_a_proxys_pages_end_the_run_soon_also_if_few_texts_are_left() -> None:
    ended = embed(50, lambda *_: PAGE)
    assert ended.code == 1
    assert not ended.receiver.bad
    assert not ended.receiver.good
    assert ended.service.now < 40


@pytest.mark.parametrize("texts", [1, 50, 150])
def test_an_outage_ends_the_run_at_the_deadline_also_if_few_texts_are_left(texts: int) -> None:
    ended = embed(texts, lambda *_: BUSY)
    assert ended.code == 75
    assert not ended.receiver.bad
    assert not ended.receiver.good
    assert 590 < ended.service.now < 620
    assert "600 s" in ended.message


def test_some_bad_answers_delay_a_run_only_briefly() -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        return SHORT if service.calls % 20 == 19 else None

    ended = embed(10_000, fails)
    assert (ended.code, len(ended.receiver.good)) == (0, 10_000)
    assert ended.service.now < 8


@pytest.mark.parametrize("delay_s", [None, 0.0, 1.0, 45.0])
@pytest.mark.parametrize("passes_first", [0, 500])
@pytest.mark.parametrize("deadline_s", [5.0, 600.0])
def test_429s_without_end_stop_the_run_after_one_deadline(
    delay_s: float | None, passes_first: int, deadline_s: float
) -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        full = service.passed >= passes_first
        return QuotaExceeded("exhausted", code="quota", retry_delay_s=delay_s) if full else None

    ended = embed(5_000, fails, deadline_s=deadline_s)
    assert (ended.stop.stop and ended.stop.stop.reason, ended.code) == (StopReason.UNAVAILABLE, 75)
    assert f"for {deadline_s:g} s" in ended.message
    assert ended.service.now < deadline_s + 5


def test_429s_are_not_an_outage_if_a_call_passes_now_and_then() -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        return None if service.calls % 3 == 0 else TOO_MANY

    ended = embed(3_000, fails, deadline_s=20)
    assert (ended.code, len(ended.receiver.good)) == (0, 3_000)
    assert ended.service.now > 30


def test_after_a_429_a_call_waits_for_the_pause_only() -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        return TOO_MANY if service.calls <= 8 else None

    ended = embed(TEXTS, fails)
    at = [when for when, _ in ended.service.sent]
    waits = [later - earlier - LATENCY_S for earlier, later in itertools.pairwise(at)]
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60], abs=0.1)


def test_a_call_that_waits_for_the_account_uses_no_quota(tmp_path: Path) -> None:
    mirror = QuotaMirror(QuotaLimits(rpm=60_000))
    # Each call reserves several times its cost, so that the others have to wait for it.
    account = tmp_path / "account.json"
    ended = embed(1_000, lambda *_: None, mirror=mirror, account=account, budget_calls=3.5)
    assert (ended.code, len(ended.receiver.good)) == (0, 1_000)
    assert 1 < ended.service.max_in_flight <= 3
    assert ended.service.max_tickets <= 3
    assert mirror.use(ended.service.began + ended.service.now).used[QuotaKind.RPM] == 1_000


def test_a_long_outage_ends_the_run_with_75_and_a_short_one_does_not() -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        return BUSY if 0.5 <= service.now < 60 else None

    short, long = (embed(10_000, fails, deadline_s=deadline_s) for deadline_s in (70, 20))
    assert (short.code, len(short.receiver.good)) == (0, 10_000)
    assert (long.code, long.receiver.bad) == (75, {})
    assert "the service failed for 20 s" in long.message
    assert long.service.now < 20 + 6


@pytest.mark.parametrize("passes_first", [0, 3000])
def test_a_page_instead_of_json_ends_the_run_with_1_after_several_tries(passes_first: int) -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        return PAGE if service.passed >= passes_first else None

    ended = embed(10_000, fails)
    assert (ended.stop.stop and ended.stop.stop.reason, ended.code) == (StopReason.REJECTED, 1)
    assert ended.message == PAGE.message
    assert 5 <= ended.service.calls - ended.service.passed / TEXTS <= 20
    assert ended.service.now < 30


def test_a_proxys_page_for_a_moment_loses_no_row() -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        return PAGE if 0.5 <= service.now < 3 else None

    ended = embed(10_000, fails)
    assert (ended.code, len(ended.receiver.good)) == (0, 10_000)
    assert ended.service.now > 3


def test_a_text_that_a_proxy_blocks_is_a_dead_letter() -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        return PAGE if any(item.text == "t77" for item in items) else None

    ended = embed(10_000, fails, per_call=20)
    assert ended.code == 0
    assert ended.receiver.bad == {"t77": DeadCode.SERVICE_ERROR}
    assert len(ended.receiver.good) == 9_999


def test_a_text_that_looks_like_a_limit_does_not_make_calls_smaller() -> None:
    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        if any(item.text == "t777" for item in items):
            return CallRejected("blocked: 'at most 5 texts'", code="batch_size", max_texts=5)
        return None

    ended = embed(3_000, fails, concurrency=1)
    assert ended.receiver.bad == {"t777": DeadCode.REJECTED}
    assert max(size for _, size in ended.service.sent[-10:]) == TEXTS


@pytest.mark.parametrize("passes_first", [0, 300], ids=["first call", "in the middle"])
@pytest.mark.parametrize("status", [*range(300, 600)])
def test_every_status_is_retried_or_ends_the_run_or_fails_the_row(
    status: int, passes_first: int
) -> None:
    row = classify(Reply(status, "words"))

    def fails(service: Service, items: Sequence[TextContent]) -> CallError | None:
        failing = service.passed >= passes_first and failed[0] < 2
        failed[0] += failing
        return row.error("words", code=row.name, http_status=status) if failing else None

    failed = [0]
    ended = embed(600, fails, concurrency=1)
    if row.error is JobRejected:
        assert (ended.code, failed, ended.receiver.bad) == (1, [1], {})
    elif row.error is CallRejected:
        assert (ended.code, len(ended.receiver.good)) == (0, 600)
    else:
        assert (ended.code, ended.receiver.bad, len(ended.receiver.good)) == (0, {}, 600)
        assert {size for _, size in ended.service.sent} == {TEXTS}
