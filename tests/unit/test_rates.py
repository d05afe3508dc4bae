"""A timeline as points to draw."""

from __future__ import annotations

import pytest

from bulkembed.pipeline.report.figures import MAX_POINTS, points_of
from bulkembed.transforms.core.timeline import Timeline

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
    assert points[60].half_s is None


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
    timeline.at(START).refused += 2
    timeline.at(START).failed += 3
    timeline.at(START).retried += 4
    [point] = points_of(timeline)
    assert point.half_s == pytest.approx(0.1, rel=0.05)
    assert point.most_s == pytest.approx(0.1, rel=0.05)
    assert (point.refused, point.failed, point.retried) == (2, 3, 4)
