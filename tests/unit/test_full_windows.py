"""Every window of the quota is used to its end, by the caller as it is, on a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from support import jumping_loop
from support.call_world import Client, Receiver, caller_on, embed_units, text_of
from support.quota_world import Service

from bulkembed.schemas.live import Waiting
from bulkembed.schemas.quota import QuotaKind, QuotaLimits
from bulkembed.transforms.calls.shared_quota import LocalQuota
from bulkembed.transforms.core.content import TextContent
from bulkembed.transforms.core.part_calls import PART_WAIT_S
from bulkembed.transforms.core.quota_mirror import QuotaMirror

WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""An example takes a second, and shrinking one would take minutes."""
SHORT = text_of(8)


def play(
    units: Sequence[Sequence[TextContent]],
    limits: QuotaLimits,
    at_once: int = 6,
    look_s: float = 0.0,
) -> tuple[Client, list[Receiver], list[float]]:
    """Embed units.

    Also return the used part of the fuller limit, where it is free for more than PART_WAIT_S while
    the next call waits for the window to move and nothing is in flight.
    """
    loop = jumping_loop.JumpingLoop()
    service = Service(limits.rpm or 1e18, limits.tpm or 1e18, limits.rpd or 1e18)
    used: list[float] = []
    client = Client(service, loop)
    caller, gate = caller_on(loop, client, limits)

    async def watch() -> None:
        sent, last = 0, 1.0
        while True:
            await asyncio.sleep(max(look_s, 1.1 * PART_WAIT_S))
            live, before, sent = gate.live(), sent, len(client.calls)
            waits = live.waiting in (Waiting.RPM, Waiting.TPM) and not live.in_flight
            if sent > before or not waits or (live.wait_s or 0.0) <= PART_WAIT_S:
                last = 1.0
                continue
            limits, counted = live.quota.limits, live.quota.used
            now = max(counted[kind] / (limits[kind] or math.inf) for kind in QuotaKind)
            used.append(max(now, last))
            last = now

    async def run() -> list[Receiver]:
        watching = asyncio.create_task(watch())
        try:
            return await embed_units(caller, units, at_once)
        finally:
            watching.cancel()

    return client, jumping_loop.run(run(), loop), used


def ideal_s(texts: int, rpm: int) -> int:
    """Return the ideal time by the texts alone."""
    return 60 * (math.ceil(texts / rpm) - 1)


def test_units_that_do_not_fill_requests_take_no_longer_than_their_texts_need() -> None:
    units = [[SHORT] * texts for texts in (2258, 2220, 2291, 2198)]
    client, receivers, used = play(units, QuotaLimits(rpm=3000))
    assert sum(one.texts for one in receivers) == 8967
    assert len(used) > 50
    assert set(used) == {1.0}
    assert client.rate_limited == 0
    assert client.took_s <= 1.02 * 120
    assert len(client.calls) <= 8967 / 100 + 10


@settings(max_examples=30, deadline=None, phases=WITHOUT_SHRINKING)
@given(
    st.integers(50, 1500),
    st.lists(st.integers(1, 400), min_size=3, max_size=15),
    st.integers(2, 8),
)
@example(rpm=300, sizes=[900], at_once=2)
@example(rpm=100, sizes=[58, 20, 91, 31, 100], at_once=2)
def test_a_run_takes_the_ideal_time_for_its_texts_and_at_most_2_percent_more(
    rpm: int, sizes: list[int], at_once: int
) -> None:
    client, receivers, _ = play([[SHORT] * size for size in sizes], QuotaLimits(rpm=rpm), at_once)
    assert [one.texts for one in receivers] == sizes
    assert client.rate_limited == 0
    assert client.took_s <= 1.02 * ideal_s(sum(sizes), rpm) + 3.0


def test_a_day_of_windows_takes_the_ideal_time_and_less_than_1_percent_more() -> None:
    source, rpm, sizes = random.Random(1), 24, list[int]()
    while sum(sizes) < 1440 * rpm:
        sizes.append(source.choice([1, 3, 11, 19, 24, 24, 37]))
    client, _, used = play([[SHORT] * size for size in sizes], QuotaLimits(rpm=rpm), look_s=20)
    assert client.rate_limited == 0
    assert set(used) == {1.0}
    assert client.took_s <= 1.01 * ideal_s(sum(sizes), rpm)
    assert len(client.calls) <= 2 * 1440


def test_two_processes_that_share_a_quota_fill_its_windows_together() -> None:
    loop, limits = jumping_loop.JumpingLoop(), QuotaLimits(rpm=1000)
    client, quota = Client(Service(1000), loop), LocalQuota(QuotaMirror(limits))
    callers = [caller_on(loop, client, limits, quota=quota)[0] for _ in range(2)]

    async def both() -> list[list[Receiver]]:
        units = [[SHORT] * size for size in (258, 220, 291, 198, 531)]
        return await asyncio.gather(*(embed_units(caller, units) for caller in callers))

    receivers = jumping_loop.run(both(), loop)
    assert sum(one.texts for own in receivers for one in own) == 2996
    assert client.rate_limited == 0
    assert client.took_s <= 1.02 * 120


def test_the_end_of_a_days_quota_is_used() -> None:
    units = [[SHORT] * size for size in (58, 91, 20, 100, 77)]
    client, receivers, _ = play(units, QuotaLimits(rpm=1000, rpd=333))
    assert sum(one.texts for one in receivers) == 333
    assert client.rate_limited == 0


@pytest.mark.parametrize("every_s", [0.02, 0.3])
def test_room_that_appears_bit_by_bit_makes_no_shower_of_tiny_calls(every_s: float) -> None:
    loop = jumping_loop.JumpingLoop()
    rpm = 1200
    client = Client(Service(rpm), loop)
    caller, _ = caller_on(loop, client, QuotaLimits(rpm=rpm))

    async def trickle() -> int:
        """Fill a minute with tiny calls, so that they leave the window one by one."""
        count = round(60 / every_s)
        tiny = []
        for _ in range(count):
            tiny.append(asyncio.create_task(caller.embed([SHORT] * (rpm // count), Receiver())))
            await asyncio.sleep(every_s)
        before = len(client.calls)
        await embed_units(caller, [[SHORT] * (10 * rpm)])
        await asyncio.gather(*tiny)
        return before

    before = jumping_loop.run(trickle(), loop)
    assert client.rate_limited == 0
    sent = client.service.counted[before:]
    minutes = itertools.groupby(sent, lambda call: int((call[0] - sent[0][0]) // 60))
    per_minute = [sum(1 for _ in calls) for _, calls in minutes]
    assert max(per_minute) <= 60 + rpm / 100
