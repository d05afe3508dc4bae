"""What refusals alone teach, in simulated time: harsh strangers, chance, no token counts."""

from __future__ import annotations

import random

import pytest
from test_quota_scenarios import (
    START,
    Job,
    Service,
    Stranger,
    World,
    one_token,
    texts_of_unknown_tokens,
)

from bulkembed.schemas.quota import QuotaKind, QuotaLimits
from bulkembed.transforms.core.quota import QuotaMirror


class Moody(Service):
    """Has no limit, and refuses two calls in a hundred."""

    def __init__(self, seed: int, share: float = 0.02) -> None:
        super().__init__()
        self._draw, self._share = random.Random(seed), share

    def ask(self, at: float, texts: int, tokens: int) -> QuotaKind | None:
        if self._draw.random() < self._share:
            return QuotaKind.RPM
        return super().ask(at, texts, tokens)

    def delay_s(self, at: float) -> float:
        return 1.0


class UntoldMirror(QuotaMirror):
    """Of a service that tells no token counts."""

    def settle(self, ticket: int, now: float, tokens: int | None = None) -> None:
        super().settle(ticket, now, None)


@pytest.mark.parametrize("seed", range(6))
def test_refusals_by_chance_do_not_bring_a_job_to_a_crawl(seed: int) -> None:
    world = World(Moody(seed), seed=seed)
    job = Job(world, QuotaMirror(QuotaLimits(rpm=3000)), one_token(15_000))
    job.pump()
    world.run(START + 600)
    assert job.answered == 15_000
    assert world.service.counted[-1][0] - START < 420


@pytest.mark.parametrize("head_start_s", [0.0, 45.0, 90.0])
@pytest.mark.parametrize("tells", [True, False])
def test_beside_a_stranger_who_insists_what_is_left_is_used(
    tells: bool, head_start_s: float
) -> None:
    world = World(Service(rpm=3000), tells=tells)
    Stranger(world, "insists", head_start_s)
    job = Job(world, QuotaMirror(QuotaLimits(rpm=3000)), one_token(60_000))
    job.pump()
    world.run(START + 600)
    assert job.answered >= 0.9 * 20_000
    assert job.refused < 0.02 * job.calls


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("bias", [0.75, 0.9])
def test_without_token_counts_refusals_teach_what_estimates_miss(bias: float, tells: bool) -> None:
    texts = [
        (actual, max(1, round(bias * estimate)))
        for actual, estimate in texts_of_unknown_tokens(1_200_000)
    ]
    world = World(Service(tpm=100_000), tells=tells)
    job = Job(world, UntoldMirror(QuotaLimits(tpm=100_000)), texts)
    job.pump()
    world.run(START + 600)
    assert sum(tokens for _, _, tokens in world.service.counted) >= 0.9 * 1_000_000
    assert job.refused < 0.03 * job.calls
