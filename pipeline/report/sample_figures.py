"""The charts that show a sample of the rows: the map of the corpus, and the texts' lengths."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from bulkembed.pipeline.report.corpus_map import CorpusMap, MapPoint
from bulkembed.pipeline.report.figures import BLUE, GREY, RED, Spec, colour, inline, sized
from bulkembed.pipeline.report.sample import SampledRow
from bulkembed.pipeline.report.sample_texts import SampledText

# Paul Tol's muted scheme: told apart by the colour-blind, too.
PALETTE = (
    "#4477aa", "#cc6677", "#117733", "#ddaa33", "#882255", "#88ccee", "#44aa99", "#999933",
    "#aa4499",
)  # fmt: skip
MAP_HEIGHT = 540
MARGIN = 0.04
"""Of the map's width, on each side, for the names of clusters at its edge."""
SHOWN_CHARS = 220
LINES = {"cut": RED, "whole": BLUE, "not told": GREY}
STEP = math.sqrt(2)
"""From one bar of lengths to the next."""


def corpus_map(drawn: CorpusMap) -> Spec:
    """The points of a map, coloured by cluster, each with its text; the names lie above them."""
    x = _axis(alt.X, "x", [point.x for point in drawn.points])
    y = _axis(alt.Y, "y", [point.y for point in drawn.points])
    scale = alt.Scale(domain=list(range(len(drawn.clusters))), range=list(PALETTE))
    points = inline(map(_point, drawn.points)).mark_circle(size=38, opacity=0.7)
    shade = alt.Color("cluster:N", scale=scale, legend=None)
    tips = [alt.Tooltip(f"{name}:N") for name in ("text", "id", "from")]
    names = [
        name.encode(x, y, alt.Text("name:N"), tooltip=alt.value(None)) for name in _names(drawn)
    ]
    chart = alt.LayerChart(layer=[points.encode(x, y, shade, tooltip=tips), *names])
    # Hundreds of points are quicker on a canvas.
    return {**sized(chart, MAP_HEIGHT), "usermeta": {"renderer": "canvas"}}


def _names(drawn: CorpusMap) -> Iterator[alt.Chart]:
    """The clusters' names, a word a line: a halo, and the letters above it."""
    rows = [
        {"x": cluster.x, "y": cluster.y, "name": list(cluster.words)}
        for cluster in drawn.clusters
        if cluster.words
    ]
    style: dict[str, Any] = {"fontSize": 13, "fontWeight": 600, "lineHeight": 15}
    yield inline(rows).mark_text(**style, stroke="white", strokeWidth=5, strokeJoin="round")
    yield inline(rows).mark_text(**style, fill="#1f2430")


def lengths(
    rows: Sequence[SampledRow], texts: Sequence[SampledText | None], most_tokens: int
) -> Spec:
    """How many of the sampled rows have how many tokens, and the most that the model takes."""
    counts: collections.Counter[tuple[int, str]] = collections.Counter()
    for row, text in zip(rows, texts, strict=True):
        if text is not None:
            counts[math.floor(math.log(text.tokens, STEP) + 1e-9), _fate(row)] += 1
    bars = [
        {"from": STEP**step, "to": STEP ** (step + 1), "rows": count, "text": fate}
        for (step, fate), count in sorted(counts.items())
    ]
    x = alt.X(
        "from:Q",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(format=",d", tickCount=8, labelOverlap=True),
        title="tokens of a text, about",
    )
    present = {fate: LINES[fate] for fate in LINES if any(bar["text"] == fate for bar in bars)}
    tips = [
        alt.Tooltip("from:Q", title="tokens from", format=",.0f"),
        alt.Tooltip("to:Q", title="below", format=",.0f"),
        "text:N",
        "rows:Q",
    ]
    mark = (
        inline(bars)
        .mark_bar(orient="vertical", binSpacing=1)
        .encode(
            x, alt.X2("to"), alt.Y("rows:Q", title="rows"), colour("text", present), tooltip=tips
        )
    )
    limit = inline([{"from": most_tokens}]).mark_rule(color=RED, strokeDash=[6, 4], size=2)
    tip = [alt.Tooltip("from:Q", title="the model takes", format=",")]
    return sized(alt.LayerChart(layer=[mark, limit.encode(x, tooltip=tip)]))


def _fate(row: SampledRow) -> str:
    return "not told" if row.truncated is None else "cut" if row.truncated else "whole"


def _point(point: MapPoint) -> dict[str, Any]:
    text = "(not found any more)" if point.text is None else " ".join(point.text.text.split())
    return {
        "x": round(point.x, 2),
        "y": round(point.y, 2),
        "cluster": point.cluster,
        "text": text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]} ...",
        "id": str(point.row.id),
        "from": f"{point.row.source_file}, row {point.row.source_row:,}",
    }


def _axis(kind: type[alt.X] | type[alt.Y], name: str, values: Sequence[float]) -> alt.X | alt.Y:
    low, high = min(values), max(values)
    room = MARGIN * (high - low)
    scale = alt.Scale(domain=[low - room, high + room], nice=False, zero=False)
    return kind(f"{name}:Q", scale=scale, axis=None)
