from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.emulator.api_errors import ApiError
from bulkembed.emulator.quotas import WINDOW_S, Clock, Quotas, Window
from bulkembed.emulator.settings import EmulatorSettings, QuotaDetails

PACIFIC = zoneinfo.ZoneInfo("America/Los_Angeles")


class ManualTime:
    """A time that a test sets."""

    def __init__(self, at: float = 1_790_000_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


def quotas(time: ManualTime, **settings: Any) -> Quotas:
    return Quotas("gemini-embedding-001", EmulatorSettings(**settings), Clock(time))


def rejected(found: Quotas, texts: int, tokens: int = 1, **more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        found.admit(texts, tokens, **more)
    return caught.value


def of_type(answer: ApiError, kind: str) -> dict[str, Any]:
    return next(one for one in answer.details if one["@type"].endswith("." + kind))


@given(
    limit=st.integers(1, 300),
    steps=st.lists(
        st.tuples(st.integers(1, 200), st.floats(0, 40), st.booleans()), min_size=1, max_size=60
    ),
)
def test_no_sixty_seconds_have_more_than_the_limit(
    limit: int, steps: list[tuple[int, float, bool]]
) -> None:
    window, now, kept = Window(limit), 1_000.0, []
    for amount, pause, answered in steps:
        now += pause
        if window.wait_s(amount, now) == 0:
            entry = window.add(amount, now)
            if answered:
                kept.append((now, amount))
            else:
                window.take_back(entry)
    for start, _ in kept:
        assert sum(amount for at, amount in kept if start <= at < start + WINDOW_S) <= limit


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 40)), max_size=30),
    st.integers(1, 50),
)
def test_a_call_fits_after_the_wait_that_it_was_given(
    limit: int, before: list[tuple[int, int]], amount: int
) -> None:
    window, now = Window(limit), 1_000.0
    for spent, pause in before:
        now += pause
        if window.wait_s(spent, now) == 0:
            window.add(spent, now)
    wait_s = window.wait_s(amount, now)
    assert 0 <= wait_s <= WINDOW_S
    if amount <= limit:
        assert window.wait_s(amount, now + wait_s) == 0


def test_each_text_counts_as_a_request_and_the_window_slides() -> None:
    time = ManualTime()
    found = quotas(time, rpm=100)
    found.admit(60, 1)
    time.at += 30
    found.admit(40, 1)
    answer = rejected(found, 1)
    assert answer.code == 429
    assert of_type(answer, "RetryInfo")["retryDelay"] == "30.000000000s"
    time.at += 30
    found.admit(60, 1)
    rejected(found, 1)


def test_calls_can_be_counted_instead_of_texts() -> None:
    found = quotas(ManualTime(), rpm=2, rpm_counts_calls=True)
    found.admit(100, 1)
    found.admit(100, 1)
    rejected(found, 1)


def test_tokens_have_their_own_window() -> None:
    found = quotas(ManualTime(), tpm=1000)
    found.admit(1, 900)
    answer = rejected(found, 1, 101)
    (violation,) = of_type(answer, "QuotaFailure")["violations"]
    assert violation["quotaId"] == "EmbedContentInputTokensPerMinutePerProjectPerModel-PaidTier"
    assert violation["quotaValue"] == "1000"
    found.admit(1, 100)


def test_an_unanswered_call_returns_its_quota() -> None:
    found = quotas(ManualTime(), rpm=10, rpd=10)
    found.admit(10, 1).cancel()
    found.admit(10, 1)
    rejected(found, 1)


@pytest.mark.parametrize("month", [1, 7], ids=["winter", "summer"])
def test_the_day_ends_at_midnight_pacific_time(month: int) -> None:
    midnight = dt.datetime(2027, month, 10, tzinfo=PACIFIC).timestamp()
    time = ManualTime(midnight - 61)
    found = quotas(time, rpd=5, free_tier=True)
    found.admit(5, 1)
    time.at = midnight - 0.5
    answer = rejected(found, 1)
    (violation,) = of_type(answer, "QuotaFailure")["violations"]
    assert violation["quotaId"] == "EmbedContentRequestsPerDayPerProjectPerModel-FreeTier"
    assert float(of_type(answer, "RetryInfo")["retryDelay"].rstrip("s")) < 60
    time.at = midnight
    found.admit(5, 1)


def test_a_429_per_minute_names_the_quota_of_the_paid_tier() -> None:
    found = quotas(ManualTime(), rpm=3)
    answer = rejected(found, 4)
    kinds = {one["@type"].rsplit(".", 1)[-1] for one in answer.details}
    assert kinds == {"QuotaFailure", "RetryInfo", "Help"}
    (violation,) = of_type(answer, "QuotaFailure")["violations"]
    assert violation["quotaId"] == "EmbedContentPerMinutePerProjectPerUserPerModel-PaidTier"
    assert violation["quotaValue"] == "3"
    assert violation["quotaMetric"].startswith("generativelanguage.googleapis.com/embed_content")
    assert answer.body()["error"]["status"] == "RESOURCE_EXHAUSTED"


def test_no_access_reports_a_limit_of_zero() -> None:
    answer = rejected(quotas(ManualTime(), no_access=True), 1)
    assert of_type(answer, "QuotaFailure")["violations"][0]["quotaValue"] == "0"


def test_a_429_can_have_fewer_details() -> None:
    silent = quotas(ManualTime(), rpm=1, quota_details=QuotaDetails.NONE)
    assert "details" not in rejected(silent, 2).body()["error"]
    at_once = quotas(ManualTime(), rpm=1, quota_details=QuotaDetails.ZERO_DELAY)
    assert of_type(rejected(at_once, 2), "RetryInfo")["retryDelay"] == "0s"
    no_value = quotas(ManualTime(), rpm=1, quota_details=QuotaDetails.NO_VALUE)
    answer = rejected(no_value, 2)
    assert "quotaValue" not in of_type(answer, "QuotaFailure")["violations"][0]
    assert "limit: " not in answer.message


def test_vertex_reports_only_that_the_quota_is_exceeded() -> None:
    answer = rejected(quotas(ManualTime(), rpm=1), 2, vertex=True)
    assert answer.message.startswith("Quota exceeded for aiplatform.googleapis.com/")
    assert not answer.details
