"""What the mirror learns from 429s alone, in simulated time.

The causes are other users of the quota, chance, and answers without token counts.
"""

from __future__ import annotations

import random

import pytest
from test_quota_scenarios import (
    START,
    Job,
    OtherUser,
    Service,
    World,
    one_token,
    texts_of_unknown_tokens,
)

from bulkembed.schemas.quota import QuotaKind, QuotaLimits
from bulkembed.transforms.core.quota_mirror import QuotaMirror


class RandomService(Service):
    """A service without a limit that rejects two calls in a hundred at random."""

    def __init__(self, seed: int, share: float = 0.02) -> None:
        super().__init__()
        self._draw, self._share = random.Random(seed), share

    def ask(self, at: float, texts: int, tokens: int) -> QuotaKind | None:
        if self._draw.random() < self._share:
            return QuotaKind.RPM
        return super().ask(at, texts, tokens)

    def delay_s(self, at: float) -> float:
        return 1.0


class MirrorWithoutCounts(QuotaMirror):
    """The mirror of a service whose answers have no token counts."""

    def settle(self, ticket: int, now: float, tokens: int | None = None) -> None:
        super().settle(ticket, now, None)


@pytest.mark.parametrize("seed", range(6))
def test_random_429s_do_not_slow_a_job_down_much(seed: int) -> None:
    world = World(RandomService(seed), seed=seed)
    job = Job(world, QuotaMirror(QuotaLimits(rpm=3000)), one_token(15_000))
    job.pump()
    world.run(START + 600)
    assert job.answered == 15_000
    assert world.service.counted[-1][0] - START < 420


@pytest.mark.parametrize("head_start_s", [0.0, 45.0, 90.0])
@pytest.mark.parametrize("details", [True, False])
def test_beside_a_user_who_retries_at_once_the_rest_of_the_quota_is_used(
    details: bool, head_start_s: float
) -> None:
    world = World(Service(rpm=3000), details=details)
    OtherUser(world, "retries", head_start_s)
    job = Job(world, QuotaMirror(QuotaLimits(rpm=3000)), one_token(60_000))
    job.pump()
    world.run(START + 600)
    assert job.answered >= 0.9 * 20_000
    assert job.rate_limited < 0.02 * job.calls


@pytest.mark.parametrize("details", [True, False])
@pytest.mark.parametrize("bias", [0.75, 0.9])
def test_without_token_counts_429s_correct_estimates_that_are_too_low(
    bias: float, details: bool
) -> None:
    texts = [
        (actual, max(1, round(bias * estimate)))
        for actual, estimate in texts_of_unknown_tokens(1_200_000)
    ]
    world = World(Service(tpm=100_000), details=details)
    job = Job(world, MirrorWithoutCounts(QuotaLimits(tpm=100_000)), texts)
    job.pump()
    world.run(START + 600)
    assert sum(tokens for _, _, tokens in world.service.counted) >= 0.9 * 1_000_000
    assert job.rate_limited < 0.03 * job.calls
