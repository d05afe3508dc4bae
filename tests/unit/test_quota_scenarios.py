"""The quota mirror in simulated time: an exact service, 200 ms per call, 16 calls in flight."""

from __future__ import annotations

import random

import pytest
from support.quota_world import START, Job, Service, World, one_token

from bulkembed.schemas.quota import Pace, QuotaLimits
from bulkembed.transforms.core.quota_mirror import QuotaMirror


def test_9000_texts_at_3000_per_minute_take_123_s_without_a_429() -> None:
    world = World(Service(rpm=3000))
    job = Job(world, QuotaMirror(QuotaLimits(rpm=3000, tpm=1_000_000)), one_token(9000))
    job.pump()
    world.run()
    counted = world.service.counted
    assert job.answered == 9000
    assert job.rate_limited == 0
    assert counted[-1][0] - counted[0][0] <= 122.5


def texts_of_unknown_tokens(total: int, seed: int = 3) -> list[tuple[int, int]]:
    """Return lengths like those of docstrings, with estimates that are 15 % off, plus 5 %."""
    source = random.Random(seed)
    texts = []
    while total > 0:
        actual = max(3, min(2000, int(source.lognormvariate(3.6, 1.0))))
        estimate = actual * source.gauss(1.0, 0.15) * 1.05
        texts.append((actual, max(1, round(estimate))))
        total -= actual
    return texts


def test_97_percent_of_a_token_limit_is_used() -> None:
    world = World(Service(tpm=100_000))
    job = Job(world, QuotaMirror(QuotaLimits(tpm=100_000)), texts_of_unknown_tokens(620_000))
    job.pump()
    world.run(START + 300)
    used = sum(tokens for _, _, tokens in world.service.counted)
    assert used >= 0.97 * 500_000
    assert job.rate_limited <= 1


def test_a_lower_limit_of_the_service_is_adopted_and_95_percent_of_it_is_used() -> None:
    world = World(Service(rpm=2000))
    job = Job(world, QuotaMirror(QuotaLimits(rpm=3000)), one_token(20_000))
    job.pump()
    world.run(START + 60)
    first = job.rate_limited
    world.run(START + 360)
    used = sum(texts for at, texts, _ in world.service.counted if at > START + 60)
    assert first <= 16
    assert job.rate_limited == first
    assert used >= 0.95 * 2000 * 5
    assert job.mirror.pace is Pace.WINDOW


def test_two_jobs_with_one_state_use_97_percent_without_a_429() -> None:
    world = World(Service(rpm=3000))
    mirror = QuotaMirror(QuotaLimits(rpm=3000))
    jobs = [Job(world, mirror, one_token(20_000)) for _ in range(2)]
    for job in jobs:
        job.pump()
    world.run(START + 180)
    used = sum(texts for _, texts, _ in world.service.counted)
    assert used >= 0.97 * 9000
    assert sum(job.rate_limited for job in jobs) == 0
    assert all(job.answered > 0.2 * used for job in jobs)


class OtherUser:
    """Sends 1,000 texts per minute in even calls of 50, from `head_start_s` before the job on."""

    def __init__(self, world: World, manner: str, head_start_s: float) -> None:
        self.world, self.manner = world, manner
        for tick in range(int((600 + head_start_s) / 3)):
            world.at(START - head_start_s + 3 * tick, self.call)
        world.run(START - 0.001)
        world.now = START

    def call(self) -> None:
        service, now = self.world.service, self.world.now
        if self.manner == "served-first":
            service.take(now, 50, 50)
        elif service.ask(now, 50, 50) and self.manner == "retries":
            self.world.at(now + 0.7, self.call)


@pytest.mark.parametrize("head_start_s", [0.0, 1.0, 90.0])
@pytest.mark.parametrize(
    ("manner", "details"),
    [
        pytest.param("served-first", True, id="served-first"),
        pytest.param("served-first", False, id="served-first-no-details"),
        pytest.param("retries", True, id="retries"),
        pytest.param("stops", True, id="stops"),
        pytest.param("stops", False, id="stops-no-details"),
    ],
)
def test_beside_another_user_the_rest_of_the_quota_is_used(
    manner: str, details: bool, head_start_s: float
) -> None:
    world = World(Service(rpm=3000), details=details)
    OtherUser(world, manner, head_start_s)
    job = Job(world, QuotaMirror(QuotaLimits(rpm=3000)), one_token(60_000))
    job.pump()
    world.run(START + 600)
    assert job.answered >= 0.9 * 20_000
    assert job.rate_limited < 0.02 * job.calls
    assert job.mirror.pace is Pace.SMOOTH


def test_a_spent_day_ends_the_run_and_the_next_day_resumes_it() -> None:
    world = World(Service(rpd=5000))
    mirror = QuotaMirror(QuotaLimits(rpd=5000))
    left, answered = 11_000, []
    for _ in range(3):
        restored = QuotaMirror(mirror.limits)
        assert restored.load(mirror.to_bytes())
        job = Job(world, restored, one_token(left))
        job.pump()
        world.run()
        answered.append(job.answered)
        left -= job.answered
        mirror = job.mirror
        assert job.rate_limited == 0
        world.now = mirror.day_resets_at(world.now)
    assert answered == [5000, 5000, 1000]


def test_the_free_tier_sends_its_thousand_texts_every_day() -> None:
    world = World(Service(rpm=100, tpm=30_000, rpd=1000))
    mirror = QuotaMirror(QuotaLimits(rpm=100, tpm=30_000, rpd=1000))
    for day in range(3):
        job = Job(world, mirror, one_token(5000))
        job.pump()
        world.run()
        assert (day, job.answered, job.rate_limited) == (day, 1000, 0)
        world.now = mirror.day_resets_at(world.now)
