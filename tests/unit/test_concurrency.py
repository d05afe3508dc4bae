from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.concurrency import ConcurrencyLevel


def rounds(level: ConcurrencyLevel, count: int, latency_s: float = 0.2) -> list[int]:
    seen = [level.level()]
    for turn in range(count):
        calls = level.level()
        for _ in range(calls):
            level.succeeded(turn * latency_s, (turn + 1) * latency_s, calls)
        seen.append(level.level())
    return seen


def test_one_round_trip_reaches_sixteen_calls() -> None:
    assert rounds(ConcurrencyLevel(16), 3) == [8, 16, 16, 16]


def test_a_bad_round_trip_halves_the_level_once_and_then_it_grows_by_one() -> None:
    level = ConcurrencyLevel(64)
    rounds(level, 4)
    assert [level.failed(10.0, 10.2 + tick / 100) for tick in range(9)] == [True] + [False] * 8
    assert level.level() == 32
    for _ in range(33):
        level.succeeded(10.3, 10.5, 32)
    assert level.level() == 33


def test_an_idle_level_does_not_grow() -> None:
    level = ConcurrencyLevel(64)
    for _ in range(100):
        level.succeeded(0.0, 0.2, 1)
    assert level.level() == 8


def test_the_ceiling_is_limit_times_latency() -> None:
    level = ConcurrencyLevel(256)
    rounds(level, 6, latency_s=2.0)
    assert level.ceiling(20.0) == 80
    assert level.level(20.0) == 80
    assert level.ceiling(0.5) == 16


@given(st.integers(1, 64), st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=200))
def test_the_level_stays_between_one_and_the_maximum(
    maximum: int, answers: list[tuple[bool, float]]
) -> None:
    level, now = ConcurrencyLevel(maximum), 0.0
    for good, took in answers:
        now += took
        if good:
            level.succeeded(now - took, now, level.level())
        else:
            level.failed(now - took, now)
        assert 1 <= level.level() <= maximum
