"""The charts of a report, as Vega-Lite specifications that fit the width they are given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt

from bulkembed.pipeline.report.facts import Cost
from bulkembed.pipeline.report.timeline_points import Point
from bulkembed.pipeline.run.status import Status
from bulkembed.schemas.dead_letters import DeadCode

Spec = dict[str, Any]
Rows = Sequence[dict[str, Any]]

BLUE, GREEN, ORANGE, RED, GREY = "#2f6fdb", "#2a9d6f", "#e08e1b", "#d1495b", "#9aa3ad"
FATES = {"embedded": GREEN, "skipped": GREY, "dead": RED, "left": ORANGE}
TROUBLES = {"refused (429)": ORANGE, "failed": RED, "sent again": BLUE}
QUANTILES = {"half": BLUE, "95 %": ORANGE}
HEIGHT = 190
FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"


def rate(points: Sequence[Point], what: str, quota: int | None) -> Spec:
    """What was answered in a minute, `texts`, `calls` or `tokens`, against the quota's line."""
    rows = [{"at": point.at_ms, what: getattr(point, f"{what}_per_min")} for point in points]
    y = alt.Y(f"{what}:Q", title=f"{what} a minute", axis=alt.Axis(format="~s"))
    area = inline(rows).mark_area(color=BLUE, opacity=0.25, line={"color": BLUE})
    tip = [_when(), alt.Tooltip(f"{what}:Q", format=",.0f")]
    layers: list[Any] = [area.encode(_time(), y, tooltip=tip)]
    if quota is not None:
        line = inline([{"quota": quota}]).mark_rule(color=RED, strokeDash=[6, 4], size=2)
        layers.append(line.encode(y="quota:Q", tooltip=[alt.Tooltip("quota:Q", format=",")]))
    return sized(alt.LayerChart(layer=layers))


def latency(points: Sequence[Point]) -> Spec:
    """The seconds within which half of the calls, and 95 % of them, were answered."""
    rows = [
        {"at": point.at_ms, "calls": name, "seconds": seconds}
        for point in points
        if point.half_s is not None
        for name, seconds in (("half", point.half_s), ("95 %", point.most_s))
    ]
    mark = inline(rows).mark_line(point={"size": 14}, interpolate="monotone")
    return sized(
        mark.encode(
            _time(),
            alt.Y("seconds:Q", title="seconds"),
            colour("calls", QUANTILES),
            tooltip=[_when(), "calls:N", alt.Tooltip("seconds:Q", format=".3f")],
        )
    )


def troubles(points: Sequence[Point]) -> Spec:
    """Calls that were refused, failed, or sent again, over time."""
    rows = [
        {"at": point.at_ms, "to": point.to_ms, "what": name, "calls": count}
        for point in points
        for name, count in zip(TROUBLES, (point.refused, point.failed, point.retried), strict=True)
        if count
    ]
    return sized(
        inline(rows)
        .mark_bar()
        .encode(
            _time(),
            alt.X2("to"),
            alt.Y("sum(calls):Q", title="calls", axis=alt.Axis(tickMinStep=1, format="d")),
            colour("what", TROUBLES),
            tooltip=[_when(), "what:N", "calls:Q"],
        )
    )


def fates(status: Status) -> Spec:
    """Where the rows are: one bar."""
    rows = [
        {"fate": fate, "rows": count, "order": at}
        for at, fate in enumerate(FATES)
        if (count := getattr(status.rows, fate))
    ]
    mark = inline(rows).mark_bar(height=34)
    return sized(
        mark.encode(
            alt.X(
                "rows:Q",
                axis=alt.Axis(format="~s", tickCount=6),
                stack="zero",
                scale=alt.Scale(nice=False),
            ),
            colour("fate", FATES),
            order="order:Q",
            tooltip=["fate:N", alt.Tooltip("rows:Q", format=",")],
        ),
        height=40,
    )


def dead_codes(codes: dict[str, int]) -> Spec:
    """Dead letters by their reason, the most frequent first."""
    rows = [
        {"code": code, "rows": count, "fate": "skipped" if DeadCode(code).is_skip else "dead"}
        for code, count in codes.items()
    ]
    return sized(
        inline(rows)
        .mark_bar()
        .encode(
            alt.X("rows:Q", axis=alt.Axis(tickMinStep=1, format="d")),
            alt.Y("code:N", sort="-x", title=None),
            colour("fate", {"skipped": GREY, "dead": RED}),
            tooltip=["code:N", alt.Tooltip("rows:Q", format=",")],
        ),
        height=28 * len(rows),
    )


def cost(paid: Cost) -> Spec:
    """Tokens with and without sending each text once; in USD where the price is known."""
    rows = [
        {"way": way, "tokens": tokens, "USD": paid.usd(tokens)}
        for way, tokens in (
            ("each text once", paid.tokens),
            ("each row", paid.tokens + paid.spared),
        )
    ]
    tips: list[Any] = ["way:N", alt.Tooltip("tokens:Q", format=",")]
    if paid.price is not None:
        tips.append(alt.Tooltip("USD:Q", format=",.4f"))
    x = alt.X("tokens:Q", axis=alt.Axis(format="~s"))
    scale = alt.Scale(domain=["each text once", "each row"], range=[GREEN, GREY])
    shade = alt.Color("way:N", scale=scale, legend=None)
    mark = inline(rows).mark_bar()
    return sized(mark.encode(x, alt.Y("way:N", title=None, sort=None), shade, tooltip=tips), 80)


def inline(rows: Iterable[dict[str, Any]]) -> alt.Chart:
    """A chart of rows that stand in its specification."""
    return alt.Chart(alt.InlineData(list(rows)))


def _time() -> alt.X:
    axis = alt.Axis(format="%H:%M:%S", tickCount=5, labelOverlap=True)
    return alt.X("at:T", title=None, scale=alt.Scale(type="utc", nice=False), axis=axis)


def _when() -> alt.Tooltip:
    return alt.Tooltip("at:T", title="UTC", format="%Y-%m-%d %H:%M:%S")


def colour(field: str, colours: dict[str, str]) -> alt.Color:
    """A colour for each value of a field, and a legend above the chart."""
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", title=None, scale=scale, legend=alt.Legend(orient="top"))


def sized(chart: alt.Chart | alt.LayerChart, height: int = HEIGHT) -> Spec:
    """The chart as plain values, as wide as its place on the page."""
    fitted = chart.properties(width="container", height=height)
    styled = (
        fitted.configure(font=FONT, autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
        .configure_view(stroke=None)
        .configure_axis(grid=True, gridColor="#eceff2", domainColor="#c6ccd2", labelColor="#57606a")
    )
    spec: Spec = styled.to_dict()
    return spec
