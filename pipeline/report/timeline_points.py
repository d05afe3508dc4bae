"""A timeline as points to draw: what was sent within a minute, how long answers took."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from bulkembed.transforms.core.timeline import (
    WIDTHS_S,
    Moment,
    Timeline,
    merge_timelines,
    percentile_s,
)

MINUTE_S = 60
MOST_POINTS = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One moment of a run, ready to be drawn; times are in epoch milliseconds."""

    at_ms: int
    to_ms: int
    texts_per_min: float
    calls_per_min: float
    tokens_per_min: float
    half_s: float | None
    """Within which half of the calls were answered; None where none was."""
    most_s: float | None
    """Within which 95 % of them were."""
    retried: int
    refused: int
    failed: int


def points_of(timeline: Timeline) -> list[Point]:
    """The points from the first moment to the last, quiet ones with them.

    Where moments are shorter than a minute, the rates are what was sent in the minute up to the
    end of a moment, as the service counts; else they are the moment's mean.
    """
    moments = dict(timeline.moments())
    if not moments:
        return []
    first, last = min(moments), max(moments)
    width = next((w for w in WIDTHS_S if w * MOST_POINTS > last - first), WIDTHS_S[-1])
    if width > timeline.width_s:
        return points_of(merge_timelines([Timeline(width), timeline]))
    width = timeline.width_s
    times = range(first, last + width, width)
    return [
        _point(at, moments.get(at, Moment()), _minute(moments, at, width), width) for at in times
    ]


def _minute(moments: dict[int, Moment], at: int, width: int) -> Sequence[Moment]:
    """The moments of the minute that ends with the one at `at`."""
    starts = range(at - max(MINUTE_S, width) + width, at + width, width)
    return [moments[start] for start in starts if start in moments]


def _point(at: int, moment: Moment, minute: Sequence[Moment], width: int) -> Point:
    scale = MINUTE_S / max(MINUTE_S, width)
    return Point(
        at_ms=at * 1000,
        to_ms=(at + width) * 1000,
        texts_per_min=scale * sum(one.texts for one in minute),
        calls_per_min=scale * sum(one.calls for one in minute),
        tokens_per_min=scale * sum(one.tokens for one in minute),
        half_s=percentile_s(moment.latencies, 0.5) if moment.latencies else None,
        most_s=percentile_s(moment.latencies, 0.95) if moment.latencies else None,
        retried=moment.retried,
        refused=moment.refused,
        failed=moment.failed,
    )
