"""A snapshot as a panel of a dozen lines, for a terminal."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.constrain import Constrain
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.progress.snapshot import Snapshot
from schemas.live import QuotaUse, Waiting
from schemas.quota import QuotaKind

WIDTH = 78
NAME_WIDTH = 10

_REASONS = {
    Waiting.OUTAGE: "the service, which fails; it is asked now and then",
    Waiting.REFUSED: "the service, which answered 429",
    Waiting.RPD: "the next day: the day's texts are used up",
    Waiting.TPM: "the minute's tokens, which are used up",
    Waiting.RPM: "the minute's texts, which are used up",
    Waiting.PACE: "its turn: calls are spread evenly",
    Waiting.PROBE: "an answer: few calls go at first, after a pause, near a limit",
    Waiting.SLOTS: "answers: as many calls are in the air as may be",
}
_METERS = {
    QuotaKind.RPM: "texts/min",
    QuotaKind.TPM: "tokens/min",
    QuotaKind.RPD: "texts/day",
}


def panel_of(snapshot: Snapshot) -> RenderableType:
    """The panel: a bar for each state of rows and each quota, and some lines; at most 78 wide."""
    bars, lines = (Table.grid(padding=(0, 1), expand=True) for _ in range(2))
    for table in (bars, lines):
        table.add_column(min_width=NAME_WIDTH, no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    bars.add_column(justify="right", no_wrap=True, overflow="ellipsis")
    for name, share, of, told, style in (*_states(snapshot), *_quotas(snapshot.quota)):
        bars.add_row(name, _bar(share, of, style), told)
    for name, said in _lines(snapshot):
        lines.add_row(name, Text(said))
    return Constrain(Group(bars, lines), WIDTH)


_Bar = tuple[str, int, int, str, str]
"""Name, part, whole, what is told of it, and the colour."""


def _states(snapshot: Snapshot) -> Iterator[_Bar]:
    rows = snapshot.rows
    for name, count, style in (
        ("done", snapshot.done, "green"),
        ("embedded", rows.embedded, "green"),
        ("ready", snapshot.ready, "cyan"),
        ("skipped", rows.skipped, "yellow"),
        ("dead", rows.dead, "red"),
        ("left", rows.left, "blue"),
    ):
        of = f" of {rows.rows_in:,}" if name == "done" else ""
        yield name, count, rows.rows_in, f"{count:,}{of} {_percent(count, rows.rows_in)}", style
    if snapshot.shared_all > snapshot.shared:
        told = f"{snapshot.shared:,} of {snapshot.shared_all:,} texts, ahead"
        yield "shared", snapshot.shared, snapshot.shared_all, told, "cyan"


def _quotas(quota: QuotaUse | None) -> Iterator[_Bar]:
    for kind, name in _METERS.items():
        limit = None if quota is None else quota.limits[kind]
        if quota is not None and limit is not None:
            used = quota.used[kind]
            yield name, min(used, limit), limit, f"{used:,} of {limit:,}", "magenta"


def _lines(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    in_air = "" if snapshot.in_air is None else f"; calls in the air: {snapshot.in_air:,}"
    rows, texts = snapshot.rows_per_s, snapshot.texts_per_s
    yield "speed", f"{rows:,.0f} rows a second, {texts:,.0f} texts a second{in_air}"
    yield "spent", _spent(snapshot)
    yield (
        "calls",
        f"{snapshot.sent:,}, {snapshot.retried:,} of them again; {snapshot.refused:,} 429s",
    )
    if snapshot.codes:
        codes = (f"{rows:,} {code}" for code, rows in snapshot.codes.items())
        yield "dead by", ", ".join(codes)
    yield "waits for", "-" if snapshot.waiting is None else _REASONS[snapshot.waiting]
    left = "-" if snapshot.left_s is None else f"about {_time(snapshot.left_s)}"
    yield "time", f"{_time(snapshot.elapsed_s)}; left: {left}"
    if snapshot.ending is not None:
        yield "ending", f"{snapshot.ending}: waits for calls in the air; once more ends at once"


def _spent(snapshot: Snapshot) -> str:
    said = _cost(snapshot.tokens, snapshot.usd)
    if snapshot.tokens_all is None:
        return said
    return f"{said}; about {_cost(snapshot.tokens_all, snapshot.usd_all)} in all"


def _cost(tokens: int, usd: float | None) -> str:
    return f"{tokens:,} tokens" + ("" if usd is None else f", {usd:,.4f} USD")


def _bar(part: int, whole: int, style: str) -> ProgressBar:
    return ProgressBar(
        total=max(1, whole), completed=part, complete_style=style, finished_style=style
    )


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:4.0%}" if whole else "  0%"


def _time(seconds: float) -> str:
    return str(dt.timedelta(seconds=round(seconds)))
