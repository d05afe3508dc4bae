"""When a call may be sent, how much of the quota is used, and what a call waits for."""

from __future__ import annotations

import datetime
import fractions
import math
import zoneinfo
from collections.abc import Callable

import pytest

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.live import Waiting
from bulkembed.schemas.quota import Pace, QuotaKind, QuotaLimits, RpmCounts, parse_share
from bulkembed.transforms.core.quota_mirror import QuotaMirror
from bulkembed.transforms.core.quota_state import next_pacific_midnight

NOW = 1_780_000_000.0


def mirror_of(**limits: object) -> QuotaMirror:
    return QuotaMirror(QuotaLimits(**limits))  # type: ignore[arg-type]


def test_a_call_counts_until_60_s_and_the_margin_after_its_answer() -> None:
    mirror = mirror_of(rpm=10)
    mirror.settle(mirror.take(NOW, 10, 1), NOW + 0.2)
    assert mirror.wait_s(NOW + 0.2, 10, 1) == pytest.approx(60.25, abs=1e-4)
    assert mirror.wait_s(NOW + 60.5, 10, 1) == 0


def test_settling_returns_what_the_estimate_was_too_high() -> None:
    mirror = mirror_of(tpm=1000)
    ticket = mirror.take(NOW, 1, 900)
    assert mirror.wait_s(NOW, 1, 200) > 0
    mirror.settle(ticket, NOW, 100)
    assert mirror.wait_s(NOW, 1, 200) == 0


def test_taking_a_call_that_must_wait_is_an_error() -> None:
    mirror = mirror_of(rpm=1)
    mirror.take(NOW, 1, 1)
    with pytest.raises(ValueError, match="must wait"):
        mirror.take(NOW, 1, 1)


def test_more_texts_than_a_window_allows_are_never_sent() -> None:
    assert mirror_of(rpm=5).wait_s(NOW, 6, 1) == math.inf


def test_a_text_with_more_tokens_than_the_limit_waits_for_an_empty_window() -> None:
    mirror = mirror_of(tpm=100)
    mirror.settle(mirror.take(NOW, 1, 10), NOW)
    assert mirror.wait_s(NOW, 1, 5000) == pytest.approx(60.25, abs=1e-4)
    assert mirror.wait_s(NOW + 61, 1, 5000) == 0


@pytest.mark.parametrize(
    ("limits", "texts", "tokens"),
    [
        pytest.param(QuotaLimits(), 100, None, id="no-limit"),
        pytest.param(QuotaLimits(rpm=3000, tpm=1_000_000), 100, 20_000, id="tier-1"),
        pytest.param(QuotaLimits(rpm=123), 61, None, id="two-full-calls"),
        pytest.param(QuotaLimits(rpm=7, tpm=10), 7, 1, id="tiny"),
        pytest.param(QuotaLimits(rpd=30), 30, None, id="day"),
        pytest.param(QuotaLimits(rpm=1, rpm_counts=RpmCounts.CALLS), 100, None, id="calls"),
        pytest.param(QuotaLimits(rpm=10, share=fractions.Fraction(1, 4)), 2, None, id="share"),
        pytest.param(QuotaLimits(rpm=3, share=fractions.Fraction(1, 4)), 1, None, id="share-of-1"),
        pytest.param(QuotaLimits(rpm=3000, pace=Pace.SMOOTH), 50, None, id="smooth"),
    ],
)
def test_a_call_never_needs_more_than_a_window_allows(
    limits: QuotaLimits, texts: int, tokens: int | None
) -> None:
    mirror = QuotaMirror(limits)
    assert (mirror.max_texts(NOW), mirror.max_tokens(NOW)) == (texts, tokens)
    assert mirror.wait_s(NOW, texts, tokens or 1) == 0


def test_the_smooth_pace_spreads_calls_evenly() -> None:
    mirror = mirror_of(rpm=60, pace=Pace.SMOOTH)
    at = NOW
    for _ in range(5):
        mirror.settle(mirror.take(at, 1, 1), at)
        at += mirror.wait_s(at, 1, 1)
    assert at - NOW == pytest.approx(4.0, abs=0.01)


def test_the_calls_of_a_crashed_process_expire() -> None:
    mirror = QuotaMirror(QuotaLimits(rpm=1), call_timeout_s=30)
    ticket = mirror.take(NOW, 1, 1)
    assert mirror.wait_s(NOW + 31, 1, 1) == pytest.approx(59.25, abs=1e-4)
    assert mirror.in_flight == 0
    mirror.settle(ticket, NOW + 32)
    assert mirror.wait_s(NOW + 90.3, 1, 1) == 0


def test_a_lower_limit_in_a_429_is_adopted_once_and_dropped_after_an_hour() -> None:
    mirror = mirror_of(rpm=3000)
    tickets = [mirror.take(NOW, 100, 1) for _ in range(2)]
    changes = [
        mirror.rate_limited(ticket, NOW + 1, kind=QuotaKind.RPM, quota_value=2000, delay_s=5)
        for ticket in tickets
    ]
    assert [(one.adopted, one.unexplained) for one in changes] == [(True, False), (False, False)]
    assert mirror.limit(NOW + 1, QuotaKind.RPM) == 2000
    for minute in range(62):
        mirror.wait_s(NOW + 60 * minute, 1, 1)
    assert mirror.limit(NOW + 3700, QuotaKind.RPM) == 3000


def test_all_calls_wait_for_the_delay_and_then_for_one_probe() -> None:
    mirror = mirror_of(rpm=3000)
    effect = mirror.rate_limited(mirror.take(NOW, 1, 1), NOW, delay_s=20, jitter=0.5)
    assert effect.wait_s == pytest.approx(20.5)
    assert mirror.wait_s(NOW + 20, 1, 1) == pytest.approx(0.5, abs=1e-4)
    probe = mirror.take(NOW + 21, 1, 1)
    assert 0 < mirror.wait_s(NOW + 21, 1, 1) < 1
    mirror.settle(probe, NOW + 21.2)
    assert mirror.wait_s(NOW + 21.2, 1, 1) == 0


def test_a_pause_outlives_a_shorter_one_but_not_a_clock_set_back() -> None:
    mirror = mirror_of()
    tickets = [mirror.take(NOW, 1, 1) for _ in range(2)]
    mirror.rate_limited(tickets[0], NOW, delay_s=30)
    mirror.rate_limited(tickets[1], NOW, delay_s=5)
    assert mirror.wait_s(NOW, 1, 1) == pytest.approx(30, abs=1e-4)
    assert mirror.wait_s(NOW - 9999, 1, 1) == pytest.approx(30, abs=1e-4)


def test_a_429_for_the_day_ends_it_until_midnight_in_california() -> None:
    mirror = mirror_of(rpm=3000)
    mirror.rate_limited(mirror.take(NOW, 1, 1), NOW, kind=QuotaKind.RPD, delay_s=4)
    assert mirror.day_spent(NOW)
    assert mirror.max_texts(NOW) == 0
    assert mirror.wait_s(NOW, 1, 1) == pytest.approx(mirror.day_resets_at(NOW) - NOW, abs=1e-4)
    assert not mirror.day_spent(mirror.day_resets_at(NOW))


def test_failed_calls_return_their_day_and_charged_ones_keep_their_minute() -> None:
    mirror = mirror_of(rpm=2, rpd=2)
    mirror.fail(mirror.take(NOW, 1, 1), NOW, charged=True)
    mirror.fail(mirror.take(NOW, 1, 1), NOW)
    assert mirror.max_texts(NOW) == 2
    assert mirror.wait_s(NOW, 1, 1) == 0
    assert mirror.wait_s(NOW, 2, 1) > 0


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        pytest.param("2026-03-08", 23, id="spring-forward"),
        pytest.param("2026-07-01", 24, id="plain"),
        pytest.param("2026-11-01", 25, id="fall-back"),
    ],
)
def test_a_pacific_day_has_its_own_length(day: str, hours: int) -> None:
    zone = zoneinfo.ZoneInfo("America/Los_Angeles")
    begin = datetime.datetime.fromisoformat(day).replace(tzinfo=zone).timestamp()
    assert next_pacific_midnight(begin - 1) == begin
    assert next_pacific_midnight(begin) == begin + hours * 3600


@pytest.mark.parametrize("damage", [b"", b"BEQ\x01", b"BEQ\x09" + bytes(400), bytes(3000)])
def test_bytes_that_are_not_a_state_start_over(damage: bytes) -> None:
    mirror = mirror_of(rpm=1)
    mirror.take(NOW, 1, 1)
    assert not mirror.load(damage)
    assert mirror.wait_s(NOW, 1, 1) == 0


def test_a_flipped_bit_is_detected_and_trailing_bytes_are_ignored() -> None:
    mirror = mirror_of(rpm=1)
    mirror.take(NOW, 1, 1)
    state = mirror.to_bytes()
    again = QuotaMirror(mirror.limits)
    assert again.load(state + b"older")
    assert again.wait_s(NOW, 1, 1) > 0
    assert not again.load(state[:-1] + bytes([state[-1] ^ 1]))


@pytest.mark.parametrize(
    ("quota_id", "kind"),
    [
        ("EmbedContentPerMinutePerProjectPerUserPerModel-PaidTier", QuotaKind.RPM),
        ("EmbedContentInputTokensPerMinutePerProjectPerModel-FreeTier", QuotaKind.TPM),
        ("EmbedContentRequestsPerDayPerProjectPerModel-FreeTier", QuotaKind.RPD),
        ("", None),
        (None, None),
    ],
)
def test_a_quota_id_names_its_limit(quota_id: str | None, kind: QuotaKind | None) -> None:
    assert QuotaKind.of_id(quota_id) is kind


@pytest.mark.parametrize("text", ["1/4", "0.25", " 1/4 "])
def test_a_share_is_a_part_of_one(text: str) -> None:
    assert parse_share(text) == fractions.Fraction(1, 4)


@pytest.mark.parametrize("text", ["0", "5/4", "1/0", "x", "", "-1/4", "2"])
def test_an_invalid_share_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="quota-share"):
        parse_share(text)


def test_one_unexplained_429_only_pauses_and_a_second_one_lowers_the_limit() -> None:
    mirror = mirror_of(rpm=3000)
    at = NOW
    for _ in range(20):
        mirror.settle(mirror.take(at, 100, 1), at)
    first = mirror.rate_limited(mirror.take(at, 100, 1), at, delay_s=1)
    assert first.unexplained
    assert not first.pace_changed
    assert mirror.limit(at, QuotaKind.RPM) == 3000
    at += 1 + mirror.wait_s(at, 100, 1)
    repeated = mirror.rate_limited(mirror.take(at, 100, 1), at, delay_s=1)
    assert repeated.pace_changed
    assert mirror.limit(at, QuotaKind.RPM) == 2100
    assert mirror.pace is Pace.SMOOTH
    assert mirror.max_texts(at) == 35


def test_429s_far_apart_never_lower_the_limit() -> None:
    mirror = mirror_of(rpm=6000)
    at = NOW
    for number in range(300):
        at += 1.5 + mirror.wait_s(at, 100, 1)
        ticket = mirror.take(at, 100, 1)
        if number % 40 == 39:
            assert mirror.rate_limited(ticket, at + 0.1, delay_s=1).unexplained
        else:
            mirror.settle(ticket, at + 0.1)
    assert mirror.limit(at, QuotaKind.RPM) == 6000
    assert mirror.pace is Pace.WINDOW


def test_the_smooth_pace_keeps_calls_of_twenty_texts() -> None:
    most = [mirror_of(rpm=rpm, pace=Pace.SMOOTH).max_texts(NOW) for rpm in (5, 100, 600, 6000)]
    assert most == [5, 20, 20, 100]


def filled(**limits: object) -> QuotaMirror:
    """A mirror with one call of 100 texts answered and one of 50 in flight."""
    found = mirror_of(**limits)
    found.settle(found.take(NOW, 100, 4000), NOW + 0.1, 5000)
    found.take(NOW + 0.1, 50, 2000)
    return found


def paced(**limits: object) -> QuotaMirror:
    found = mirror_of(pace=Pace.SMOOTH, **limits)
    found.settle(found.take(NOW, 100, 4000), NOW + 0.1, 5000)
    return found


def paused(**limits: object) -> QuotaMirror:
    found = mirror_of(**limits)
    found.rate_limited(found.take(NOW, 10, 10), NOW + 0.1, delay_s=20.0)
    return found


def test_calls_in_flight_count_as_used() -> None:
    use = filled(rpm=1000, tpm=10_000).use(NOW + 0.2)
    assert use.used == {QuotaKind.RPM: 150, QuotaKind.TPM: 7000, QuotaKind.RPD: 150}
    assert use.limits == {QuotaKind.RPM: 1000, QuotaKind.TPM: 10_000, QuotaKind.RPD: None}


def test_after_a_minute_a_call_counts_for_the_day_only() -> None:
    found = mirror_of(rpm=1000, rpd=5000)
    found.settle(found.take(NOW, 100, 4000), NOW + 0.1)
    used = found.use(NOW + 61).used
    assert (used[QuotaKind.RPM], used[QuotaKind.RPD]) == (0, 100)


@pytest.mark.parametrize(
    ("made", "waits"),
    [
        pytest.param(lambda: filled(rpm=10_000, tpm=100_000), None, id="nothing"),
        pytest.param(lambda: filled(rpm=200), Waiting.RPM, id="texts-of-the-minute"),
        pytest.param(lambda: filled(tpm=8000), Waiting.TPM, id="tokens-of-the-minute"),
        pytest.param(lambda: filled(rpd=200), Waiting.RPD, id="texts-of-the-day"),
        pytest.param(lambda: paced(rpm=300), Waiting.PACE, id="even-pace"),
        pytest.param(lambda: paused(rpm=1000), Waiting.RATE_LIMITED, id="rate-limited"),
    ],
)
def test_the_reason_for_a_wait_is_known(
    made: Callable[[], QuotaMirror], waits: Waiting | None
) -> None:
    found = made()
    assert found.wait_reason(NOW + 0.2, 100, 4000) is waits
    assert (found.wait_s(NOW + 0.2, 100, 4000) > 0) is (waits is not None)
