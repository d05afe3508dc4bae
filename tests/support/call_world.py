"""A caller on a clock that jumps, in front of an exact service."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable, Sequence

import numpy as np

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import CallError, QuotaExceeded
from bulkembed.schemas.prices import Budget
from bulkembed.schemas.quota import QuotaKind, QuotaLimits
from bulkembed.transforms.calls.caller import Caller
from bulkembed.transforms.calls.gate import Gate
from bulkembed.transforms.calls.shared_quota import LocalQuota
from bulkembed.transforms.calls.spending import AccountStore, Spending
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.clients.decoding import Answer
from bulkembed.transforms.core.concurrency import ConcurrencyLevel
from bulkembed.transforms.core.content import TextContent, json_bytes
from bulkembed.transforms.core.packing import CallLimits
from bulkembed.transforms.core.quota_mirror import QuotaMirror
from bulkembed.transforms.core.tokens import TokenEstimator, features
from support.jumping_loop import JumpingLoop
from support.quota_world import LATENCY_S, Service

_IDS = {
    QuotaKind.RPM: "EmbedContentRequestsPerMinute",
    QuotaKind.TPM: "EmbedContentInputTokensPerMinute",
    QuotaKind.RPD: "EmbedContentRequestsPerDay",
}


def text_of(words: int) -> TextContent:
    """Return a text of about so many tokens."""
    text = "word " * words
    made_of = features(text)
    tokens = TokenEstimator().estimate_call(made_of)
    return TextContent(0, b"", tokens, json_bytes(text), made_of, False, None, text)


@dataclasses.dataclass
class Client:
    """Counts each call on arrival, and answers after 200 ms.

    Args:
        service: what counts.
        loop: the clock.
        tokens_of: the true tokens of a text.
    """

    service: Service
    loop: JumpingLoop
    tokens_of: Callable[[TextContent], int] = lambda content: content.tokens
    calls: list[list[TextContent]] = dataclasses.field(default_factory=list)
    rate_limited: int = 0
    random: random.Random = dataclasses.field(default_factory=lambda: random.Random(1))

    async def embed(self, contents: Sequence[TextContent]) -> Answer:
        self.calls.append(list(contents))
        tokens = sum(map(self.tokens_of, contents))
        travel = self.random.uniform(0.1, 0.9) * LATENCY_S
        await asyncio.sleep(travel)
        kind = self.service.ask(self.loop.now, len(contents), tokens)
        await asyncio.sleep(LATENCY_S - travel)
        if kind is not None:
            self.rate_limited += 1
            raise QuotaExceeded("exhausted", quota_id=_IDS[kind], retry_delay_s=1.0)
        return Answer(np.ones((len(contents), 2), np.float32), tokens)

    async def count_tokens(self, content: TextContent) -> int:
        raise AssertionError

    @property
    def took_s(self) -> float:
        """Seconds from the first text that was counted to the last one."""
        counted = self.service.counted
        return counted[-1][0] - counted[0][0]


class KeepingReceiver:
    """Keeps the texts that have vectors, and the codes of those that failed."""

    def __init__(self) -> None:
        self.good: list[str] = []
        self.bad: dict[str, DeadCode] = {}

    def embedded(self, items: Sequence[TextContent], answer: Answer, attempts: int) -> None:
        self.good.extend(item.text for item in items)

    def dead(self, item: TextContent, code: DeadCode, error: CallError, attempts: int) -> None:
        self.bad[item.text] = code


class Receiver:
    """Counts what it gets."""

    def __init__(self) -> None:
        self.texts = self.dead_texts = self.calls = self.tokens = 0

    def embedded(self, contents: Sequence[TextContent], answer: Answer, attempts: int) -> None:
        assert len(contents) == len(answer.vectors)
        self.texts += len(contents)
        self.calls += attempts > 0
        self.tokens += answer.tokens or 0

    def dead(self, content: TextContent, code: DeadCode, error: CallError, attempts: int) -> None:
        self.dead_texts += 1


def caller_on(
    loop: JumpingLoop,
    client: Client,
    limits: QuotaLimits,
    *,
    concurrency: int = 16,
    call_limits: CallLimits | None = None,
    quota: LocalQuota | None = None,
    account: AccountStore | None = None,
    budget: Budget | None = None,
) -> tuple[Caller, Gate]:
    """Return a caller and its gate.

    Callers with one `quota` or `account` are like processes that share it.
    """
    stop = StopFlag(lambda _: loop.call_soon(caller.close))
    gate = Gate(
        quota or LocalQuota(QuotaMirror(limits)),
        ConcurrencyLevel(concurrency),
        call_limits or CallLimits(),
        clock=loop.time,
        random=lambda: 0.0,
    )
    caller = Caller(
        client, gate, TokenEstimator(), stop,
        spending=Spending(account, budget, stop, clock=loop.time),
        clock=loop.time, random=lambda: 0.0,
    )  # fmt: skip
    return caller, gate


async def embed_units(
    caller: Caller, units: Sequence[Sequence[TextContent]], at_once: int = 6
) -> list[Receiver]:
    """Embed units as a slice does: so many at a time, because memory is limited."""
    receivers = [Receiver() for _ in units]
    room = asyncio.Semaphore(at_once)

    async def embed(unit: Sequence[TextContent], receiver: Receiver) -> None:
        try:
            await caller.embed(unit, receiver)
        finally:
            room.release()

    async with asyncio.TaskGroup() as group:
        for unit, receiver in zip(units, receivers, strict=True):
            await room.acquire()
            group.create_task(embed(unit, receiver))
    return receivers
