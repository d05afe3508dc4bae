"""How much of a quota is used, and what a call waits for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bulkembed.schemas.live import Waiting
from bulkembed.schemas.quota import Pace, QuotaKind, QuotaLimits
from bulkembed.transforms.core.quota_mirror import QuotaMirror

NOW = 1_795_000_000.0


def mirror(**limits: object) -> QuotaMirror:
    return QuotaMirror(QuotaLimits(**limits))  # type: ignore[arg-type]


def filled(**limits: object) -> QuotaMirror:
    """A mirror with one call of 100 texts answered and one of 50 in flight."""
    found = mirror(**limits)
    found.settle(found.take(NOW, 100, 4000), NOW + 0.1, 5000)
    found.take(NOW + 0.1, 50, 2000)
    return found


def paced(**limits: object) -> QuotaMirror:
    found = mirror(pace=Pace.SMOOTH, **limits)
    found.settle(found.take(NOW, 100, 4000), NOW + 0.1, 5000)
    return found


def paused(**limits: object) -> QuotaMirror:
    found = mirror(**limits)
    found.rate_limited(found.take(NOW, 10, 10), NOW + 0.1, delay_s=20.0)
    return found


def test_calls_in_flight_count_as_used() -> None:
    use = filled(rpm=1000, tpm=10_000).use(NOW + 0.2)
    assert use.used == {QuotaKind.RPM: 150, QuotaKind.TPM: 7000, QuotaKind.RPD: 150}
    assert use.limits == {QuotaKind.RPM: 1000, QuotaKind.TPM: 10_000, QuotaKind.RPD: None}


def test_after_a_minute_a_call_counts_for_the_day_only() -> None:
    found = mirror(rpm=1000, rpd=5000)
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
        pytest.param(lambda: paused(rpm=1000), Waiting.REFUSED, id="refused"),
    ],
)
def test_the_reason_for_a_wait_is_known(
    made: Callable[[], QuotaMirror], waits: Waiting | None
) -> None:
    found = made()
    assert found.wait_reason(NOW + 0.2, 100, 4000) is waits
    assert (found.wait_s(NOW + 0.2, 100, 4000) > 0) is (waits is not None)
