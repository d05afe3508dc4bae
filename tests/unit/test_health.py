"""When consecutive failures count as an outage, and when they end the run."""

from __future__ import annotations

import pytest

from bulkembed.schemas.errors import (
    BadAnswer,
    CallError,
    CallRejected,
    Intercepted,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.transforms.core.health import (
    MAX_BAD_PROBES,
    MAX_INTERCEPTED_PROBES,
    OUTAGE_AFTER,
    USELESS_AFTER,
    ServiceHealth,
)

NOW = 1_780_000_000.0


def fail(health: ServiceHealth, error: CallError, times: int, sent_at: float = NOW) -> None:
    for _ in range(times):
        health.failed(NOW, sent_at, error, 0.0)


@pytest.mark.parametrize(
    ("error", "after"),
    [
        pytest.param(Unavailable("503"), OUTAGE_AFTER, id="unavailable"),
        pytest.param(BadAnswer("short"), USELESS_AFTER, id="bad"),
        pytest.param(Intercepted("page"), USELESS_AFTER, id="page"),
    ],
)
def test_consecutive_failures_start_a_pause_and_one_probe(error: CallError, after: int) -> None:
    health = ServiceHealth()
    fail(health, error, after - 1)
    assert health.wait_s(NOW) == 0
    fail(health, error, 1)
    assert health.wait_s(NOW) > 0
    assert health.one_at_a_time
    health.succeeded(NOW)
    assert not health.one_at_a_time


def test_after_one_bad_answer_calls_are_sent_one_at_a_time_until_one_is_good() -> None:
    health = ServiceHealth()
    fail(health, BadAnswer("short"), 1)
    assert health.one_at_a_time
    assert health.wait_s(NOW) == 0
    health.succeeded(NOW)
    assert not health.one_at_a_time


@pytest.mark.parametrize("error", [QuotaExceeded("429"), CallRejected("400")])
def test_429s_and_rejected_requests_are_not_an_outage(error: CallError) -> None:
    health = ServiceHealth()
    fail(health, error, 100)
    assert not health.one_at_a_time
    assert health.wait_s(NOW) == 0


@pytest.mark.parametrize(
    ("error", "probes"),
    [(BadAnswer("short"), MAX_BAD_PROBES), (Intercepted("page"), MAX_INTERCEPTED_PROBES)],
    ids=["bad", "page"],
)
def test_only_failed_probes_end_the_run_and_a_good_answer_resets_them(
    error: CallError, probes: int
) -> None:
    health, now = ServiceHealth(), NOW
    fail(health, error, 50, sent_at=NOW - 1)
    assert not health.hopeless
    for _ in range(probes):
        assert not health.hopeless
        now += health.wait_s(now)
        health.failed(now, now, error, 0.0)
    assert health.hopeless
    assert now - NOW > 5
    health.succeeded(now)
    assert not health.hopeless


def test_an_outage_alone_never_ends_the_run() -> None:
    health, now = ServiceHealth(), NOW
    for _ in range(100):
        health.failed(now, now, Unavailable("503"), 0.0)
        now += health.wait_s(now)
    assert not health.hopeless
    assert health.wait_s(NOW) <= 5
