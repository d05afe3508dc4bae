"""What a process did over time, without losses, and as points to draw."""

from __future__ import annotations

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.pipeline.report.figures import MAX_POINTS, points_of
from bulkembed.transforms.core.timeline import (
    MAX_MOMENTS,
    WIDTHS_S,
    Timeline,
    latency_step,
    merge_timelines,
    percentile_s,
)

EPOCH = 1_795_000_000
CALLS = st.lists(
    st.tuples(st.integers(0, 40_000_000), st.integers(1, 100), st.floats(0, 600)), max_size=60
)


def timeline_of(calls: list[tuple[int, int, float]]) -> Timeline:
    timeline = Timeline()
    for at, texts, seconds in calls:
        timeline.at(EPOCH + at).add_answer(texts, 2 * texts, seconds)
    return timeline


def totals(timeline: Timeline) -> tuple[int, int, int, int]:
    moments = [moment for _, moment in timeline.moments()]
    return (
        sum(moment.calls for moment in moments),
        sum(moment.texts for moment in moments),
        sum(moment.tokens for moment in moments),
        sum(sum(moment.latencies.values()) for moment in moments),
    )


@given(CALLS, CALLS)
def test_merging_the_timelines_of_processes_loses_nothing(
    one: list[tuple[int, int, float]], other: list[tuple[int, int, float]]
) -> None:
    merged = merge_timelines([timeline_of(one), timeline_of(other)])
    texts = sum(call[1] for call in [*one, *other])
    assert totals(merged) == (len(one) + len(other), texts, 2 * texts, len(one) + len(other))


@given(CALLS)
def test_a_timeline_is_read_as_it_was_written(calls: list[tuple[int, int, float]]) -> None:
    timeline = timeline_of(calls)
    again = Timeline.from_json(orjson.loads(orjson.dumps(timeline.to_json())))
    assert again.width_s == timeline.width_s
    assert again.moments() == timeline.moments()


@pytest.mark.parametrize("every_s", [1, 50, 7_000])
def test_a_long_run_has_longer_moments_and_not_more(every_s: int) -> None:
    calls = [(every_s * n, 1, 0.2) for n in range(3 * MAX_MOMENTS)]
    timeline = timeline_of(calls)
    assert MAX_MOMENTS / 10 < len(timeline.moments()) <= MAX_MOMENTS
    assert totals(timeline)[0] == len(calls)
    assert len(orjson.dumps(timeline.to_json())) < 70_000


def test_each_width_divides_the_next_one() -> None:
    assert all(wide % narrow == 0 for narrow, wide in itertools.pairwise(WIDTHS_S))
    assert all(60 % width == 0 for width in WIDTHS_S if width <= 60)


@given(st.lists(st.floats(0.001, 600), min_size=1), st.floats(0, 1))
def test_a_percentile_is_within_one_step_of_the_exact_one(
    seconds: list[float], part: float
) -> None:
    latencies: dict[int, int] = {}
    for one in seconds:
        latencies[latency_step(one)] = latencies.get(latency_step(one), 0) + 1
    found = percentile_s(latencies, part)
    real = next(one for at, one in enumerate(sorted(seconds), 1) if at >= part * len(seconds))
    assert found == pytest.approx(real, rel=0.05)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"width_s": 7, "moments": []},
        {"width_s": 1, "moments": [{"calls": 1}]},
        {"width_s": 1, "moments": [{"at": 1, "calls": "1"}]},
        {"width_s": 1, "moments": [{"at": 1, "latencies": {"x": 1}}]},
    ],
)
def test_other_content_is_not_a_timeline(content: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Timeline.from_json(content)


START = 1_795_000_020


def test_a_point_has_the_rate_of_the_minute_before_it() -> None:
    timeline = Timeline()
    for at in range(150):
        timeline.at(START + at).add_answer(10, 30, 0.5)
    points = points_of(timeline)
    assert [point.texts_per_min for point in points[:3]] == [10, 20, 30]
    assert {point.texts_per_min for point in points[59:]} == {600}
    assert points[-1].tokens_per_min == 1800
    assert points[-1].calls_per_min == 60


def test_moments_without_requests_are_points_too() -> None:
    timeline = Timeline()
    timeline.at(START).add_answer(50, 100, 0.1)
    timeline.at(START + 90).add_answer(50, 100, 0.1)
    points = points_of(timeline)
    assert len(points) == 91
    assert points[59].texts_per_min == 50
    assert points[60].texts_per_min == 0
    assert points[60].median_s is None


@pytest.mark.parametrize("width_s", [360, 8_640])
def test_long_moments_have_the_mean_of_their_minutes(width_s: int) -> None:
    timeline = Timeline(width_s)
    timeline.at(START).add_answer(width_s, 2 * width_s, 0.1)
    [point] = points_of(timeline)
    assert point.texts_per_min == pytest.approx(60)
    assert point.to_ms - point.at_ms == 1000 * width_s


def test_a_long_run_has_a_limited_number_of_points() -> None:
    timeline = Timeline()
    for at in range(300):
        timeline.at(START + 600 * at).add_answer(10, 20, 0.1)
    points = points_of(timeline)
    assert 100 < len(points) <= MAX_POINTS + 1
    assert max(point.texts_per_min for point in points) <= 10


def test_a_run_without_requests_has_no_points() -> None:
    assert points_of(Timeline()) == []


def test_latency_and_problems_belong_to_their_moment() -> None:
    timeline = Timeline()
    for seconds in (*[0.1] * 19, 5.0):
        timeline.at(START).add_answer(1, 1, seconds)
    timeline.at(START).rate_limited += 2
    timeline.at(START).failed += 3
    timeline.at(START).retried += 4
    [point] = points_of(timeline)
    assert point.median_s == pytest.approx(0.1, rel=0.05)
    assert point.p95_s == pytest.approx(0.1, rel=0.05)
    assert (point.rate_limited, point.failed, point.retried) == (2, 3, 4)


def test_files_have_the_name_for_429s_that_earlier_versions_read() -> None:
    timeline = Timeline()
    timeline.at(START).add_error(rate_limited=True)
    content = timeline.to_json()
    assert content["moments"][0]["refused"] == 1
    assert "rate_limited" not in content["moments"][0]
    [(_, moment)] = Timeline.from_json(content).moments()
    assert moment.rate_limited == 1
