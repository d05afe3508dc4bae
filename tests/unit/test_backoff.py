from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.schemas.errors import Unavailable
from bulkembed.transforms.core.backoff import (
    PauseState,
    RetryWait,
    equal_jitter_s,
    grow_s,
    retry_wait_s,
)

NOW = 1_780_000_000.0
part = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10_000), part, st.floats(0.01, 5), st.floats(5, 100))
def test_waits_grow_and_are_capped(attempt: int, random: float, first: float, cap: float) -> None:
    wait = retry_wait_s(attempt, random, first_s=first, cap_s=cap)
    assert first / 2 <= wait <= cap
    assert wait <= retry_wait_s(attempt + 1, random, first_s=first, cap_s=cap)


@given(st.integers(1, 50), part, st.floats(0.01, 1000))
def test_a_wait_is_never_shorter_than_the_servers_delay(
    attempt: int, random: float, delay: float
) -> None:
    assert retry_wait_s(attempt, random, server_delay_s=delay) >= delay


@given(part, st.floats(0, 100))
def test_jitter_stays_within_its_base(random: float, base: float) -> None:
    assert base / 2 <= equal_jitter_s(base, random) <= base
    assert grow_s(3, 1.0, base) <= base


def test_the_delay_of_an_error_is_used() -> None:
    wait = RetryWait(lambda: 0.5)
    assert wait.seconds(1, Unavailable("busy", retry_delay_s=40)) == pytest.approx(40.5)
    assert wait.seconds(1, Unavailable("busy")) < 1


def test_the_floor_grows_while_probes_fail_and_is_reset_by_a_success() -> None:
    pause, at, lengths = PauseState(), NOW, []
    for _ in range(8):
        sent_at = at
        lengths.append(pause.failed(at, sent_at, 0.0, 0.0))
        at += lengths[-1]
    assert lengths == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])
    pause.succeeded(at)
    assert pause.failed(at, at, None, 0.0) == pytest.approx(1)


def test_failures_of_calls_in_flight_do_not_raise_the_floor() -> None:
    pause = PauseState()
    for tick in range(16):
        pause.failed(NOW + 0.01 * tick, NOW - 1, None, 0.0)
    assert pause.floor_s == 1.0


def test_a_late_success_does_not_end_the_probing() -> None:
    pause = PauseState()
    pause.failed(NOW, NOW - 1, None, 0.0)
    pause.succeeded(NOW - 1)
    assert pause.probing
