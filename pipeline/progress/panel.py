"""The live progress panel at the bottom of a terminal, with the log scrolling above it."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import os
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from bulkembed.pipeline.progress.snapshot import Snapshot
from bulkembed.schemas.live import LiveJobs, Waiting
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.quota import QuotaKind

PANEL_EVERY_S = 0.5
WIDTH = 78
LABEL_WIDTH = 11

_SHOW_CURSOR = b"\x1b[?25h"
_READ_BYTES = 1 << 16
_REASONS = {
    Waiting.OUTAGE: "the service, which is failing; bulkembed probes it from time to time",
    Waiting.RATE_LIMITED: "the service, which answered 429 (rate limit)",
    Waiting.RPD: "the daily {noun} quota to reset",
    Waiting.TPM: "the per-minute token quota",
    Waiting.RPM: "the per-minute {noun} quota",
    Waiting.PACE: "its turn: requests are spread evenly",
    Waiting.PROBE: "a first response, before more requests are sent",
    Waiting.SLOTS: "responses: all request slots are in use",
    Waiting.BATCH: "the next look at the batch jobs",
}
_METERS = {
    QuotaKind.RPM: "{noun}s/min",
    QuotaKind.TPM: "tokens/min",
    QuotaKind.RPD: "{noun}s/day",
}
_Bar = tuple[str, int, int, str]
"""Label, part, whole and caption."""
_State = tuple[str, int, str, str, str]
"""Name, rows, colour, and the character of the bar in Unicode and in ASCII."""
REMAINING = "remaining"
SHORTEST_WAIT_S = 1.0
"""A shorter wait is not counted down."""


class Screen:
    """A display that redraws the panel in place.

    Whatever is written to standard error meanwhile (the log, worker processes, C libraries) goes
    through a pipe and is printed above the panel. Call `poll` often to print it.

    Args:
        stream: standard error, a terminal.
        every_s: seconds between drawings.
    """

    def __init__(self, stream: TextIO, every_s: float = PANEL_EVERY_S) -> None:
        self.every_s = every_s
        self._stream = stream
        self._region: _PanelRegion | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Draw the panel."""
        if self._region is None:
            self._region = _PanelRegion(self._stream)
        self._region.live.update(render_panel(snapshot), refresh=True)

    def poll(self) -> None:
        """Print what was written to standard error since the last call."""
        if self._region is not None:
            self._region.print_new()

    def close(self) -> None:
        """Remove the panel, and restore standard error and the cursor; may be called twice."""
        region, self._region = self._region, None
        if region is not None:
            region.close()


def supports_panel(stream: TextIO) -> bool:
    """Return whether a panel can be drawn on a stream: a terminal that can move its cursor."""
    return stream.isatty() and not Console(file=stream).is_dumb_terminal


class _PanelRegion:
    """The bottom of a terminal, with the stream redirected through a pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        stream.flush()
        self._terminal = os.dup(stream.fileno())
        file = os.fdopen(self._terminal, "w", encoding=stream.encoding, closefd=False)
        self._console = Console(file=file, highlight=False)
        self.live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._pipe, write_end = os.pipe()
        os.set_blocking(self._pipe, False)
        os.dup2(write_end, stream.fileno())
        os.close(write_end)
        self._incomplete_line = b""
        self.live.start()

    def print_new(self) -> None:
        """Print the lines that arrived through the pipe."""
        while data := self._read():
            *lines, self._incomplete_line = (self._incomplete_line + data).split(b"\n")
            for line in lines:
                self._print(line)

    def close(self) -> None:
        """Restore the terminal and the stream."""
        # A signal may interrupt a drawing. That drawing is lost; everything else is printed.
        with contextlib.suppress(Exception):
            self._stream.flush()
            self.print_new()
            if self._incomplete_line:
                self._print(self._incomplete_line)
            # Rich leaves lines of the panel behind if the terminal is lower than the panel.
            self.live.update(Text(""), refresh=True)
            self.live.stop()
        os.dup2(self._terminal, self._stream.fileno())
        with contextlib.suppress(OSError):
            os.write(self._terminal, _SHOW_CURSOR)
        os.close(self._pipe)
        os.close(self._terminal)

    def _read(self) -> bytes:
        try:
            return os.read(self._pipe, _READ_BYTES)
        except BlockingIOError:
            return b""

    def _print(self, line: bytes) -> None:
        self._console.print(line.decode(errors="replace").rstrip("\r"), markup=False)


def render_panel(snapshot: Snapshot) -> RenderableType:
    """Render a bar of all rows by state, a bar for each quota, and text; at most 78 columns."""
    rows, bars, lines = (Table.grid(padding=(0, 1), expand=True) for _ in range(3))
    for table in (rows, bars, lines):
        table.add_column(min_width=LABEL_WIDTH, no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    states = _states(snapshot)
    whole = snapshot.rows.rows_in
    rows.add_row("done", f"{snapshot.done:,} of {whole:,} rows, {_percent(snapshot.done, whole)}")
    rows.add_row("", StackedBar(states))
    rows.add_row("", _Legend(states))
    bars.add_column(justify="right", no_wrap=True, overflow="ellipsis")
    meters = (*_repeated(snapshot), *_quotas(snapshot), *_enqueued(snapshot.jobs))
    for label, part, whole, caption in meters:
        bars.add_row(label, _bar(part, whole), caption)
    for label, text in _lines(snapshot):
        lines.add_row(label, Text(text))
    return Constrain(Group(rows, bars, lines), WIDTH)


def _states(snapshot: Snapshot) -> list[_State]:
    rows = snapshot.rows
    return [
        ("embedded", rows.embedded, "green", "\u2588", "#"),
        ("failed", rows.dead, "red", "\u2573", "x"),
        ("skipped", rows.skipped, "yellow", "\u2592", "s"),
        ("uncommitted", snapshot.ready, "cyan", "\u2593", "+"),
        (REMAINING, rows.left, "bright_black", "\u2500", "-"),
    ]


class StackedBar:
    """A bar as wide as there is room, with a part for each state that has rows."""

    def __init__(self, states: Sequence[_State]) -> None:
        self._states = states

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts, each at least one character wide."""
        widths = bar_widths([rows for _, rows, *_ in self._states], options.max_width)
        for (_, _, colour, unicode, ascii_), width in zip(self._states, widths, strict=True):
            yield Segment((ascii_ if options.ascii_only else unicode) * width, Style(color=colour))


def bar_widths(parts: Sequence[int], width: int) -> list[int]:
    """Divide a width among parts; each part above 0 gets at least one character if they fit."""
    whole = sum(parts)
    if not whole or width < len(parts):
        return [0] * len(parts)
    exact = [width * part / whole for part in parts]
    widths = [max(int(size), int(size > 0)) for size in exact]
    while (missing := width - sum(widths)) != 0:
        step = 1 if missing > 0 else -1
        # The part whose width is furthest from its size changes, but none disappears.
        may_change = [at for at, cells in enumerate(widths) if cells + step > 0 and parts[at]]
        at = max(may_change, key=lambda one: step * (exact[one] - widths[one]))
        widths[at] += step
    return widths


class _Legend:
    """The rows of each state, with its character and colour; what remains is in the line above."""

    def __init__(self, states: Sequence[_State]) -> None:
        self._states = [one for one in states if one[1] and one[0] != REMAINING]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts = [
            Text(f"{ascii_ if options.ascii_only else unicode} {rows:,} {name}", style=colour)
            for name, rows, colour, unicode, ascii_ in self._states
        ]
        yield Text("  ").join(parts)


def _repeated(snapshot: Snapshot) -> Iterator[_Bar]:
    if snapshot.shared_total > snapshot.shared:
        noun = f"{snapshot.content_noun}s"
        caption = f"{snapshot.shared:,} of {snapshot.shared_total:,} {noun}, up front"
        yield "repeated", snapshot.shared, snapshot.shared_total, caption


def _quotas(snapshot: Snapshot) -> Iterator[_Bar]:
    quota = snapshot.quota
    for kind, label in _METERS.items():
        limit = None if quota is None else quota.limits[kind]
        if quota is not None and limit is not None:
            used = quota.used[kind]
            yield (
                label.format(noun=snapshot.content_noun),
                min(used, limit),
                limit,
                f"{used:,} of {limit:,}",
            )


def _enqueued(jobs: LiveJobs | None) -> Iterator[_Bar]:
    if jobs is not None and jobs.tokens_limit is not None:
        used, limit = jobs.tokens, jobs.tokens_limit
        yield "enqueued", min(used, limit), limit, f"{used:,} of {limit:,} tokens"


def _lines(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    in_flight = ""
    if snapshot.in_flight is not None:
        in_flight = f"; {number_of(snapshot.in_flight, 'request')} in flight"
    rows, texts = snapshot.rows_per_s, snapshot.texts_per_s
    yield "speed", f"{rows:,.0f} rows/s, {texts:,.0f} {snapshot.content_noun}s/s{in_flight}"
    yield "cost", _cost_line(snapshot)
    if snapshot.jobs is not None:
        yield "batch jobs", _jobs_line(snapshot.jobs, snapshot.content_noun)
    if snapshot.jobs is None or snapshot.sent:
        yield (
            "requests",
            f"{snapshot.sent:,} sent, {snapshot.retried:,} retried, "
            f"{snapshot.rate_limited:,} rate-limited (429)",
        )
    if snapshot.codes:
        codes = (f"{rows:,} {code}" for code, rows in snapshot.codes.items())
        yield "failures", ", ".join(codes)
    yield "waiting for", _waiting(snapshot)
    left = "" if snapshot.left_s is None else f", about {_time(snapshot.left_s)} left"
    yield "elapsed", f"{_time(snapshot.elapsed_s)}{left}"
    if snapshot.ending is not None:
        what = "waiting for requests in flight; another signal exits at once"
        yield "stopping", f"{snapshot.ending}: {what}"


def _jobs_line(jobs: LiveJobs, noun: str) -> str:
    ended = f"{jobs.ended:,} ended"
    if not jobs.open:
        return f"0 open, {ended}"
    texts, age = number_of(jobs.texts, noun), _time(jobs.oldest_s or 0.0)
    return f"{jobs.open:,} open with {texts}, up to {age} old; {ended}"


def _waiting(snapshot: Snapshot) -> str:
    if snapshot.waiting is None:
        return "-"
    reason = _REASONS[snapshot.waiting].format(noun=snapshot.content_noun)
    seconds = snapshot.wait_s or 0.0
    if seconds < SHORTEST_WAIT_S:
        return reason
    return f"{reason}, for another {_time(math.ceil(seconds))}"


def _cost_line(snapshot: Snapshot) -> str:
    tokens, usd = f"{snapshot.tokens:,}", f"{snapshot.usd or 0:,.4f}"
    if snapshot.tokens_total is not None:
        tokens += f" of about {snapshot.tokens_total:,}"
        usd += f" of {snapshot.usd_total or 0:,.4f}"
    return f"{tokens} tokens" + ("" if snapshot.usd is None else f", {usd} USD")


def _bar(part: int, whole: int) -> ProgressBar:
    return ProgressBar(
        total=max(1, whole), completed=part, complete_style="magenta", finished_style="magenta"
    )


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "0%"


def _time(seconds: float) -> str:
    return str(dt.timedelta(seconds=round(seconds)))
