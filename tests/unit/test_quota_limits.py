from __future__ import annotations

from fractions import Fraction

import pytest

from bulkembed.schemas.quota import Pace, QuotaKind, QuotaLimits, RpmCounts
from bulkembed.transforms.core.quota_limits import DAY_S, quota_time
from bulkembed.transforms.core.quota_mirror import QuotaMirror


@pytest.mark.parametrize(
    ("limits", "slowest", "seconds"),
    [
        pytest.param(QuotaLimits(), None, 0.0, id="no-limit"),
        pytest.param(QuotaLimits(rpm=9_000), None, 0.0, id="one-window"),
        pytest.param(QuotaLimits(rpm=3_000), QuotaKind.RPM, 120.5, id="texts"),
        pytest.param(
            QuotaLimits(rpm=45, rpm_counts=RpmCounts.CALLS), QuotaKind.RPM, 60.25, id="calls"
        ),
        pytest.param(QuotaLimits(rpm=3_000, tpm=90_000), QuotaKind.TPM, 542.25, id="tokens"),
        pytest.param(QuotaLimits(rpm=3_000, rpd=4_000), QuotaKind.RPD, 2 * DAY_S, id="days"),
        pytest.param(
            QuotaLimits(rpm=3_000, share=Fraction(1, 3)), QuotaKind.RPM, 482.0, id="share"
        ),
        pytest.param(QuotaLimits(rpm=3_000, pace=Pace.SMOOTH), QuotaKind.RPM, 180.0, id="smooth"),
    ],
)
def test_the_limit_that_takes_longest_decides(
    limits: QuotaLimits, slowest: QuotaKind | None, seconds: float
) -> None:
    time = quota_time(limits, texts=9_000, calls=90, tokens=900_000)
    assert (time.slowest, time.seconds) == (slowest, seconds)


@pytest.mark.parametrize(
    "limits",
    [
        QuotaLimits(rpm=3_000),
        QuotaLimits(rpm=700, tpm=1_000_000),
        QuotaLimits(rpm=100_000, tpm=100_000),
        QuotaLimits(rpm=900, pace=Pace.SMOOTH),
        QuotaLimits(rpm=7, rpm_counts=RpmCounts.CALLS),
    ],
    ids=str,
)
def test_the_mirror_makes_a_run_wait_for_that_long(limits: QuotaLimits) -> None:
    """Calls have 100 texts of 20 tokens and are answered at once, on a simulated clock."""
    mirror, now, sent = QuotaMirror(limits), 1_800_000_000.0, 0
    begun, total = now, 9_000
    calls = 0
    while sent < total:
        texts = min(mirror.max_texts(now), total - sent)
        while (wait := mirror.wait_s(now, texts, 20 * texts)) > 0:
            now += wait
        mirror.settle(mirror.take(now, texts, 20 * texts), now, 20 * texts)
        sent += texts
        calls += 1
    expected = quota_time(limits, total, calls, 20 * total).seconds
    assert now - begun == pytest.approx(expected, rel=0.05)
