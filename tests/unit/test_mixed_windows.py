"""Windows are used to 99 % whatever the units, lengths and limits, and the order stays fair."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from support import jumping_loop
from support.call_world import Client, Receiver, caller_on, embed_units, text_of
from support.jobs import a_job, prepared
from support.quota_world import Service

from bulkembed.schemas.embedding import EmbeddingConfig, LongText
from bulkembed.schemas.live import Waiting
from bulkembed.schemas.quota import QuotaKind, QuotaLimits
from bulkembed.transforms.calls.caller import Caller
from bulkembed.transforms.calls.gate import Gate
from bulkembed.transforms.calls.shared_quota import LocalQuota
from bulkembed.transforms.core.content import TextContent
from bulkembed.transforms.core.part_calls import PART_WAIT_S
from bulkembed.transforms.core.quota_mirror import QuotaMirror

WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""An example takes a second, and shrinking one would take minutes."""
WORDS = (1, 5, 12, 40, 150, 600, 1500)
LOOK_S = 1.1 * PART_WAIT_S
SOON_S = 5.0
"""Room that is kept free for a long text which is sent so soon does not count as unused."""


def mixed_unit(source: random.Random, *, cut: bool) -> Sequence[TextContent]:
    """Return what is sent for rows of which some are blank, repeated or long."""
    rows: list[str | None] = []
    for _ in range(source.choice([1, 5, 40, 150, 300])):
        is_special = source.random() < 0.3
        text = f"{source.random()} " + "word " * source.choice(WORDS)
        rows.append(source.choice([None, "", " ", *rows]) if is_special else text)
    long_text = LongText.PASSAGES if cut else LongText.TRUNCATE
    embedding = EmbeddingConfig("developer", "gemini-embedding-001", long_text=long_text)
    return prepared(rows, a_job(embedding=embedding)).items


class Handing:
    """A caller; knows what it was given, which may not be sent yet."""

    def __init__(self, caller: Caller, gate: Gate) -> None:
        self.caller, self.gate = caller, gate
        self.given: list[TextContent] = []

    async def embed(self, contents: Sequence[TextContent], receiver: Receiver) -> None:
        self.given += contents
        await self.caller.embed(contents, receiver)


@dataclasses.dataclass(frozen=True)
class Look:
    """A moment at which all that is left waits for the window to move."""

    used: float
    """The part of the fuller limit."""
    free: tuple[float, float]
    """Texts and tokens."""
    shortest: int
    """The tokens of the shortest text that waits."""

    @property
    def is_full(self) -> bool:
        """Whether 99 % are used, or no text that waits has room, with what is reserved for it."""
        return self.used >= 0.99 or self.free[0] < 1 or self.free[1] < 3 * self.shortest


def look(processes: Sequence[Handing], client: Client) -> Look | None:
    """Return how full the window is; None unless all wait for it for some time."""
    lives = [one.gate.live() for one in processes]
    waiting = [one for one in lives if one.waiting is not None]
    if not waiting or any(one.in_flight for one in lives):
        return None
    for one in waiting:
        if one.waiting not in (Waiting.RPM, Waiting.TPM) or (one.wait_s or 0.0) <= SOON_S:
            return None
    limits, counted = waiting[0].quota.limits, waiting[0].quota.used
    sent = {id(content) for call in client.calls for content in call}
    left = [one.tokens for each in processes for one in each.given if id(one) not in sent]
    kinds = QuotaKind.RPM, QuotaKind.TPM
    free = tuple((limits[kind] or math.inf) - counted[kind] for kind in kinds)
    used = max(counted[kind] / (limits[kind] or math.inf) for kind in kinds)
    return Look(used, (free[0], free[1]), min(left))


@settings(max_examples=10, deadline=None, phases=WITHOUT_SHRINKING)
@given(
    seed=st.integers(0, 10**6),
    rpm=st.integers(60, 1500),
    tpm=st.integers(20_000, 400_000),
    rpd=st.none() | st.integers(100, 3000),
    processes=st.integers(1, 3),
    tokens_share=st.floats(0.7, 1.1),
    cut=st.booleans(),
)
@example(  # Room for a short text comes from an answer to another process.
    seed=2025, rpm=224, tpm=21237, rpd=1853, processes=3, cut=False,
    tokens_share=0.7784957888267328,
)  # fmt: skip
def test_99_percent_of_every_full_window_is_used(
    seed: int,
    rpm: int,
    tpm: int,
    rpd: int | None,
    processes: int,
    tokens_share: float,
    cut: bool,
) -> None:
    source, loop = random.Random(seed), jumping_loop.JumpingLoop()
    limits = QuotaLimits(rpm=rpm, tpm=tpm, rpd=rpd)
    client = Client(
        Service(rpm, tpm, rpd or 1e18), loop, lambda one: max(1, round(tokens_share * one.tokens))
    )
    quota = LocalQuota(QuotaMirror(limits))
    each = [Handing(*caller_on(loop, client, limits, quota=quota)) for _ in range(processes)]
    units = [[mixed_unit(source, cut=cut) for _ in range(source.randint(2, 8))] for _ in each]
    looks: list[Look] = []

    async def watch() -> None:
        sent, before = 0, None
        while True:
            await asyncio.sleep(LOOK_S)
            found = look(each, client) if len(client.calls) == sent else None
            if found is not None and before is not None:
                looks.append(found)
            sent, before = len(client.calls), found

    async def run() -> list[list[Receiver]]:
        watching = asyncio.create_task(watch())
        try:
            return await asyncio.gather(
                *(embed_units(one, own) for one, own in zip(each, units, strict=True))
            )
        finally:
            watching.cancel()

    receivers = jumping_loop.run(run(), loop)
    texts = [len(unit) for own in units for unit in own]
    sent = [id(content) for call in client.calls for content in call]
    assert client.rate_limited <= 16, "estimates may be too low once"
    assert client.rate_limited or len(set(sent)) == len(sent), "no text is sent twice"
    if rpd is None or sum(texts) <= rpd:
        assert [one.texts for own in receivers for one in own] == texts
    else:
        assert sum(one.texts for own in receivers for one in own) == rpd
    assert [one for one in looks if not one.is_full] == []


def sent_after_s(every_s: float, shorter: int) -> float:
    """Return when a long text is sent, with so many shorter ones behind it.

    A minute's tokens were used bit by bit before, so that room appears bit by bit: each bit is
    enough for some of the shorter texts, but not for the long one.
    """
    loop, tpm = jumping_loop.JumpingLoop(), 6_000
    client, short, long = Client(Service(tpm=tpm), loop), text_of(40), text_of(1500)
    caller, _ = caller_on(loop, client, QuotaLimits(tpm=tpm))

    async def run() -> float:
        tasks = []
        for _ in range(round(60 / every_s)):
            count = max(1, int(tpm * every_s / 60 / short.tokens))
            tasks.append(asyncio.create_task(caller.embed([short] * count, Receiver())))
            await asyncio.sleep(every_s)
        came = loop.now
        tasks.append(asyncio.create_task(caller.embed([long, *[short] * shorter], Receiver())))
        while not any(long in call for call in client.calls):
            await asyncio.sleep(0.01)
        sent = loop.now
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return sent - came

    return jumping_loop.run(run(), loop)


@pytest.mark.parametrize("every_s", [0.5, 1.0, 2.0])
def test_shorter_texts_make_a_long_one_wait_a_second_longer_at_most(every_s: float) -> None:
    alone = sent_after_s(every_s, 0)
    assert alone > 5
    assert sent_after_s(every_s, 3000) <= alone + PART_WAIT_S + every_s


def test_a_part_is_sent_when_there_is_room_for_its_first_text() -> None:
    """Room for the first text appears 28 s before room for the second one."""
    loop, tpm, text = jumping_loop.JumpingLoop(), 6_000, text_of(40)
    client = Client(Service(tpm=tpm), loop)
    caller, _ = caller_on(loop, client, QuotaLimits(tpm=tpm))

    async def run() -> None:
        began = loop.now
        await caller.embed([text] * 1, Receiver())
        await asyncio.sleep(began + 28 - loop.now)
        await caller.embed([text] * (tpm // text.tokens - 1), Receiver())
        await caller.embed([text] * 2, Receiver())

    jumping_loop.run(run(), loop)
    assert [texts for _, texts, _ in client.service.counted[-2:]] == [1, 1]
    assert client.service.counted[-2][0] - client.service.counted[0][0] <= 60 + 2


def test_a_text_with_more_tokens_than_estimated_gets_few_429s() -> None:
    """Its estimate fits the rest of the window, and its tokens do not, for a minute."""
    loop, tpm, short, long = jumping_loop.JumpingLoop(), 10_000, text_of(40), text_of(600)
    client = Client(Service(tpm=tpm), loop, lambda one: one.tokens * (6 if one is long else 5) // 5)
    caller, _ = caller_on(loop, client, QuotaLimits(tpm=tpm))
    receivers = [Receiver() for _ in range(2)]

    async def run() -> None:
        await caller.embed([short] * 210, receivers[0])  # 760 tokens are left.
        await caller.embed([long], receivers[1])

    jumping_loop.run(run(), loop)
    assert [one.texts for one in receivers] == [210, 1]
    assert client.rate_limited == 1
    assert client.took_s <= 62
