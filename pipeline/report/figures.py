"""The charts of a report, as Vega-Lite specifications that fit the width of the page."""

from __future__ import annotations

import base64
import collections
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import altair as alt

from bulkembed.pipeline.report.corpus_map import CorpusMap, MapPoint
from bulkembed.pipeline.report.facts import Cost
from bulkembed.pipeline.report.sample import SampledRow, SampledText
from bulkembed.pipeline.run.status import Status
from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.media import media_line
from bulkembed.transforms.core.timeline import (
    WIDTHS_S,
    Moment,
    Timeline,
    merge_timelines,
    percentile_s,
)

Spec = dict[str, Any]

BLUE, GREEN, ORANGE, RED, GREY = "#2f6fdb", "#2a9d6f", "#e08e1b", "#d1495b", "#9aa3ad"
STATES = {
    "embedded": ("embedded", GREEN),
    "skipped": ("skipped", GREY),
    "failed": ("dead", RED),
    "remaining": ("left", ORANGE),
}
"""The states of rows: label, field of the row counts, and colour."""
PROBLEMS = {"rate-limited (429)": ORANGE, "failed": RED, "retried": BLUE}
QUANTILES = {"half": BLUE, "95 %": ORANGE}
LENGTHS = {"truncated": RED, "complete": BLUE, "not reported": GREY}
# Paul Tol's muted scheme, which colour-blind readers can tell apart.
PALETTE = (
    "#4477aa", "#cc6677", "#117733", "#ddaa33", "#882255", "#88ccee", "#44aa99", "#999933",
    "#aa4499",
)  # fmt: skip
HEIGHT = 190
MAP_HEIGHT = 540
MARGIN = 0.04
"""Part of the map's width that is left free on each side, for the names of clusters."""
LENGTH_STEP = math.sqrt(2)
"""Ratio of the lengths of one bar and the next."""
SHOWN_CHARS = 220
"""Characters of a text that a point of the map shows."""
FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
MINUTE_S = 60
MAX_POINTS = 1000
"""Maximum points of a chart over time; moments are merged if a run has more."""


@dataclasses.dataclass(frozen=True, slots=True)
class TimePoint:
    """One moment of a run as a chart shows it; times are in epoch milliseconds."""

    at_ms: int
    to_ms: int
    texts_per_min: float
    calls_per_min: float
    tokens_per_min: float
    median_s: float | None
    """Seconds within which half of the requests were answered; None if none was."""
    p95_s: float | None
    """Seconds within which 95 % of them were answered."""
    retried: int
    rate_limited: int
    failed: int


def points_of(timeline: Timeline) -> list[TimePoint]:
    """Return the points from the first moment to the last, including moments without requests.

    If moments are shorter than a minute, the rates are those of the minute that ends with the
    moment, as the service counts. Otherwise they are the mean of the moment.
    """
    moments = dict(timeline.moments())
    if not moments:
        return []
    first, last = min(moments), max(moments)
    width = next((w for w in WIDTHS_S if w * MAX_POINTS > last - first), WIDTHS_S[-1])
    if width > timeline.width_s:
        return points_of(merge_timelines([Timeline(width), timeline]))
    width = timeline.width_s
    times = range(first, last + width, width)
    return [
        _time_point(at, moments.get(at, Moment()), _minute(moments, at, width), width)
        for at in times
    ]


def _minute(moments: dict[int, Moment], at: int, width: int) -> Sequence[Moment]:
    """Return the moments of the minute that ends with the one at `at`."""
    starts = range(at - max(MINUTE_S, width) + width, at + width, width)
    return [moments[start] for start in starts if start in moments]


def _time_point(at: int, moment: Moment, minute: Sequence[Moment], width: int) -> TimePoint:
    scale = MINUTE_S / max(MINUTE_S, width)
    return TimePoint(
        at_ms=at * 1000,
        to_ms=(at + width) * 1000,
        texts_per_min=scale * sum(one.texts for one in minute),
        calls_per_min=scale * sum(one.calls for one in minute),
        tokens_per_min=scale * sum(one.tokens for one in minute),
        median_s=percentile_s(moment.latencies, 0.5) if moment.latencies else None,
        p95_s=percentile_s(moment.latencies, 0.95) if moment.latencies else None,
        retried=moment.retried,
        rate_limited=moment.rate_limited,
        failed=moment.failed,
    )


def rate_chart(
    points: Sequence[TimePoint], what: str, quota: int | None, noun: str = "text"
) -> Spec:
    """Chart the `texts`, `calls` or `tokens` embedded per minute, with a line for the quota.

    `noun` is what was sent for a row.
    """
    rows = [{"at": point.at_ms, what: getattr(point, f"{what}_per_min")} for point in points]
    counted = {"calls": "requests", "texts": f"{noun}s"}.get(what, what)
    title = f"{counted} per minute"
    y = alt.Y(f"{what}:Q", title=title, axis=alt.Axis(format="~s"))
    area = _inline(rows).mark_area(color=BLUE, opacity=0.25, line={"color": BLUE})
    tip = [_when(), alt.Tooltip(f"{what}:Q", format=",.0f", title=title)]
    layers: list[Any] = [area.encode(_time(), y, tooltip=tip)]
    if quota is not None:
        line = _inline([{"quota": quota}]).mark_rule(color=RED, strokeDash=[6, 4], size=2)
        layers.append(line.encode(y="quota:Q", tooltip=[alt.Tooltip("quota:Q", format=",")]))
    return _sized(alt.LayerChart(layer=layers))


def latency_chart(points: Sequence[TimePoint]) -> Spec:
    """Chart the seconds within which half of the requests, and 95 %, were answered."""
    rows = [
        {"at": point.at_ms, "calls": name, "seconds": seconds}
        for point in points
        if point.median_s is not None
        for name, seconds in (("half", point.median_s), ("95 %", point.p95_s))
    ]
    mark = _inline(rows).mark_line(point={"size": 14}, interpolate="monotone")
    return _sized(
        mark.encode(
            _time(),
            alt.Y("seconds:Q", title="seconds"),
            _colour("calls", QUANTILES),
            tooltip=[
                _when(),
                alt.Tooltip("calls:N", title="requests"),
                alt.Tooltip("seconds:Q", format=".3f"),
            ],
        )
    )


def problems_chart(points: Sequence[TimePoint]) -> Spec:
    """Chart the requests that were rate-limited, failed or retried, over time."""
    rows = [
        {"at": point.at_ms, "to": point.to_ms, "what": name, "calls": count}
        for point in points
        for name, count in zip(
            PROBLEMS, (point.rate_limited, point.failed, point.retried), strict=True
        )
        if count
    ]
    return _sized(
        _inline(rows)
        .mark_bar()
        .encode(
            _time(),
            alt.X2("to"),
            alt.Y("sum(calls):Q", title="requests", axis=alt.Axis(tickMinStep=1, format="d")),
            _colour("what", PROBLEMS),
            tooltip=[_when(), "what:N", alt.Tooltip("calls:Q", title="requests")],
        )
    )


def rows_chart(status: Status) -> Spec:
    """Chart how many rows are in each state, as one bar."""
    rows = [
        {"state": state, "rows": count, "order": at}
        for at, (state, (field, _)) in enumerate(STATES.items())
        if (count := getattr(status.rows, field))
    ]
    mark = _inline(rows).mark_bar(height=34)
    axis = alt.Axis(format="~s", tickCount=6)
    return _sized(
        mark.encode(
            alt.X("rows:Q", axis=axis, stack="zero", scale=alt.Scale(nice=False)),
            _colour("state", {state: colour for state, (_, colour) in STATES.items()}),
            order="order:Q",
            tooltip=["state:N", alt.Tooltip("rows:Q", format=",")],
        ),
        height=40,
    )


def dead_letters_chart(codes: dict[str, int]) -> Spec:
    """Chart the rows without a vector by their reason, the most frequent first."""
    rows = [
        {"code": code, "rows": count, "state": "skipped" if DeadCode(code).is_skip else "failed"}
        for code, count in codes.items()
    ]
    return _sized(
        _inline(rows)
        .mark_bar()
        .encode(
            alt.X("rows:Q", axis=alt.Axis(tickMinStep=1, format="d")),
            alt.Y("code:N", sort="-x", title=None),
            _colour("state", {"skipped": GREY, "failed": RED}),
            tooltip=["code:N", alt.Tooltip("rows:Q", format=",")],
        ),
        height=28 * len(rows),
    )


def cost_chart(cost: Cost, noun: str = "text") -> Spec:
    """Chart the tokens with and without deduplication; tooltips have USD if the price is known.

    `noun` is what was sent for a row.
    """
    once = f"each {noun} once"
    rows = [
        {"way": way, "tokens": tokens, "USD": cost.usd(tokens)}
        for way, tokens in (
            (once, cost.tokens),
            ("each row", cost.tokens + cost.saved),
        )
    ]
    tips: list[Any] = [
        alt.Tooltip("way:N", title="sent"),
        alt.Tooltip("tokens:Q", format=","),
    ]
    if cost.price is not None:
        tips.append(alt.Tooltip("USD:Q", format=",.4f"))
    x = alt.X("tokens:Q", axis=alt.Axis(format="~s"))
    scale = alt.Scale(domain=[once, "each row"], range=[GREEN, GREY])
    shade = alt.Color("way:N", scale=scale, legend=None)
    mark = _inline(rows).mark_bar()
    return _sized(mark.encode(x, alt.Y("way:N", title=None, sort=None), shade, tooltip=tips), 80)


def map_chart(drawn: CorpusMap) -> Spec:
    """Chart the points of a map, coloured by cluster, with the clusters' names above them."""
    x = _map_axis(alt.X, "x", [point.x for point in drawn.points])
    y = _map_axis(alt.Y, "y", [point.y for point in drawn.points])
    scale = alt.Scale(domain=list(range(len(drawn.clusters))), range=list(PALETTE))
    points = _inline(map(_map_point, drawn.points)).mark_circle(size=38, opacity=0.7)
    shade = alt.Color("cluster:N", scale=scale, legend=None)
    shown = ["media", "image"] if drawn.has_media else []  # `image` is drawn, not written.
    if drawn.has_texts or not drawn.has_media:
        shown.insert(0, "text")
    tips = [alt.Tooltip(f"{name}:N") for name in (*shown, "id", "from")]
    names = [
        name.encode(x, y, alt.Text("name:N"), tooltip=alt.value(None)) for name in _names(drawn)
    ]
    chart = alt.LayerChart(layer=[points.encode(x, y, shade, tooltip=tips), *names])
    # A canvas draws hundreds of points faster than SVG.
    return {**_sized(chart, MAP_HEIGHT), "usermeta": {"renderer": "canvas"}}


def _names(drawn: CorpusMap) -> Iterator[alt.Chart]:
    """Yield the names of the clusters, one word per line: a halo, and the letters above it."""
    rows = [
        {"x": cluster.x, "y": cluster.y, "name": list(cluster.words)}
        for cluster in drawn.clusters
        if cluster.words
    ]
    style: dict[str, Any] = {"fontSize": 13, "fontWeight": 600, "lineHeight": 15}
    yield _inline(rows).mark_text(**style, stroke="white", strokeWidth=5, strokeJoin="round")
    yield _inline(rows).mark_text(**style, fill="#1f2430")


def _map_point(point: MapPoint) -> dict[str, Any]:
    missing = "(text not available)" if point.row.media is None else ""
    text = missing if point.text is None else " ".join(point.text.text.split())
    return {
        "x": round(point.x, 2),
        "y": round(point.y, 2),
        "cluster": point.cluster,
        "text": text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]} ...",
        "id": str(point.row.id),
        "from": f"{point.row.source_file}, row {point.row.source_row:,}",
        **({} if point.row.media is None else _media_of(point.row)),
    }


def _media_of(row: SampledRow) -> dict[str, str]:
    return {"media": media_line(row.media or ()), "image": data_uri(row.thumbnail)}


def data_uri(jpeg: bytes | None) -> str:
    """Return an image as a page holds it; "" for None."""
    if jpeg is None:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _map_axis(kind: type[alt.X] | type[alt.Y], name: str, values: Sequence[float]) -> alt.X | alt.Y:
    low, high = min(values), max(values)
    room = MARGIN * (high - low)
    scale = alt.Scale(domain=[low - room, high + room], nice=False, zero=False)
    return kind(f"{name}:Q", scale=scale, axis=None)


def lengths_chart(
    rows: Sequence[SampledRow], texts: Sequence[SampledText | None], max_tokens: int
) -> Spec:
    """Chart the lengths of the sampled texts in tokens, with a line for the model's maximum."""
    counts: collections.Counter[tuple[int, str]] = collections.Counter()
    for row, text in zip(rows, texts, strict=True):
        if text is not None:
            counts[math.floor(math.log(text.tokens, LENGTH_STEP) + 1e-9), _length_state(row)] += 1
    bars = [
        {"from": LENGTH_STEP**step, "to": LENGTH_STEP ** (step + 1), "rows": count, "text": state}
        for (step, state), count in sorted(counts.items())
    ]
    x = alt.X(
        "from:Q",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(format=",d", tickCount=8, labelOverlap=True),
        title="tokens of a text (estimated)",
    )
    present = {state: LENGTHS[state] for state in LENGTHS if any(b["text"] == state for b in bars)}
    tips = [
        alt.Tooltip("from:Q", title="tokens from", format=",.0f"),
        alt.Tooltip("to:Q", title="below", format=",.0f"),
        "text:N",
        "rows:Q",
    ]
    mark = (
        _inline(bars)
        .mark_bar(orient="vertical", binSpacing=1)
        .encode(
            x, alt.X2("to"), alt.Y("rows:Q", title="rows"), _colour("text", present), tooltip=tips
        )
    )
    limit = _inline([{"from": max_tokens}]).mark_rule(color=RED, strokeDash=[6, 4], size=2)
    tip = [alt.Tooltip("from:Q", title="maximum of the model", format=",")]
    return _sized(alt.LayerChart(layer=[mark, limit.encode(x, tooltip=tip)]))


def _length_state(row: SampledRow) -> str:
    if row.truncated is None:
        return "not reported"
    return "truncated" if row.truncated else "complete"


def _inline(rows: Iterable[dict[str, Any]]) -> alt.Chart:
    """Return a chart whose rows are part of its specification."""
    return alt.Chart(alt.InlineData(list(rows)))


def _time() -> alt.X:
    axis = alt.Axis(format="%H:%M:%S", tickCount=5, labelOverlap=True)
    return alt.X("at:T", title=None, scale=alt.Scale(type="utc", nice=False), axis=axis)


def _when() -> alt.Tooltip:
    return alt.Tooltip("at:T", title="UTC", format="%Y-%m-%d %H:%M:%S")


def _colour(field: str, colours: dict[str, str]) -> alt.Color:
    """Return a colour for each value of a field, with a legend above the chart."""
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", title=None, scale=scale, legend=alt.Legend(orient="top"))


def _sized(chart: alt.Chart | alt.LayerChart, height: int = HEIGHT) -> Spec:
    """Return the chart as plain values, as wide as its place on the page."""
    fitted = chart.properties(width="container", height=height)
    styled = (
        fitted.configure(font=FONT, autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
        .configure_view(stroke=None)
        .configure_axis(grid=True, gridColor="#eceff2", domainColor="#c6ccd2", labelColor="#57606a")
    )
    spec: Spec = styled.to_dict(validate=False)
    return spec
