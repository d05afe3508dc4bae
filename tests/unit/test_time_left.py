"""The time that a run still takes under a limit per minute."""

from __future__ import annotations

import collections
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.pipeline.progress.time_left import (
    SPAN_S,
    ActiveSpeed,
    WorkAmount,
    time_left_s,
    window_s,
)
from bulkembed.schemas.live import QuotaUse
from bulkembed.schemas.quota import QuotaLimits
from bulkembed.transforms.core.quota_mirror import QuotaMirror

AT_ONCE = math.inf


def sent_one_by_one(amount: int, limit: int, sent_at: list[float], per_s: float) -> float:
    """Send one text after the other under a sliding window; return the time of the last."""
    window, now = collections.deque(sent_at), 0.0
    for _ in range(amount):
        if len(window) >= limit:
            now = max(now, window[len(window) - limit] + SPAN_S)
        now += 1 / per_s
        window.append(now)
    return now


@given(
    st.integers(1, 200),
    st.integers(1, 30),
    st.lists(st.integers(-60, 0).map(float), max_size=30).map(sorted),
)
def test_the_time_is_that_of_sending_one_by_one(
    amount: int, limit: int, sent_at: list[float]
) -> None:
    sent_at = sent_at[-limit:]
    leaving = [(at + SPAN_S, 1) for at in sent_at]
    found = window_s(amount, limit, len(sent_at), leaving, AT_ONCE)
    assert found == pytest.approx(sent_one_by_one(amount, limit, sent_at, 1e12), abs=1e-3)


def test_a_full_window_counts_down_to_the_moment_it_is_free_again() -> None:
    """A run of 4,200 texts at 3,000 per minute, which sends 750 per second: 62 s in all."""
    for second in (5, 12, 30, 59):
        leaving = [(at + SPAN_S - second, 750) for at in (1.0, 2.0, 3.0, 4.0)]
        left_s = window_s(1200, 3000, 3000, leaving, 750.0)
        assert second + left_s == pytest.approx(62.85, abs=0.1)


def test_what_is_sent_now_takes_its_time_before_the_window_is_full() -> None:
    assert window_s(100, 3000, 0, [], 50.0) == pytest.approx(2.0)
    assert window_s(4500, 3000, 0, [], 50.0) == pytest.approx(90.0, abs=0.5)


def test_a_limit_that_was_lowered_below_its_use_is_waited_for() -> None:
    assert window_s(1, 10, 25, [(5.0, 10), (20.0, 10), (40.0, 5)], AT_ONCE) == 20.0


def test_the_slowest_of_rows_texts_and_tokens_counts() -> None:
    quota = QuotaUse.of(rpm=(0, 100), tpm=(1000, 1000), rpd=(0, None))
    speed = ActiveSpeed(rows=10.0, requests=10.0, tokens=1000.0)
    assert time_left_s(WorkAmount(rows=300, requests=10), speed, quota) == 30.0
    assert time_left_s(WorkAmount(300, 150, 0), speed, quota) == pytest.approx(SPAN_S + 5.0)
    assert time_left_s(WorkAmount(300, 10, 1500), speed, quota) == pytest.approx(2 * SPAN_S + 0.5)


def test_requests_that_are_spread_evenly_take_their_share_of_the_minute() -> None:
    use = QuotaUse.of(rpm=(0, 100), tpm=(0, None), rpd=(0, None))
    smooth = QuotaUse(use.used, use.limits, is_smooth=True)
    speed = ActiveSpeed.of(WorkAmount(10, 10, 10), 1.0)
    assert time_left_s(WorkAmount(50, 50, 50), speed, smooth) == pytest.approx(30.0)


def test_the_mirror_reports_when_its_window_is_free_again() -> None:
    mirror = QuotaMirror(QuotaLimits(rpm=300, tpm=None, rpd=None))
    for second in range(3):
        ticket = mirror.take(1000.0 + second, 100, 500)
        mirror.settle(ticket, 1000.5 + second, 400)
    use = mirror.use(1010.0)
    assert use.leaving == ((51.0, 100, 400), (52.0, 100, 400), (53.0, 100, 400))
    assert mirror.wait_s(1010.0, 150, 500) == pytest.approx(51.75, abs=0.1)
    mirror.take(1063.0, 50, 70)
    assert mirror.use(1063.0).leaving[-1] == (SPAN_S, 50, 70)
