"""The live panel at the foot of a terminal, with the log running above it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bulkembed.pipeline.progress.snapshot import Snapshot
from bulkembed.schemas.live import QuotaUse, Waiting
from bulkembed.schemas.quota import QuotaKind

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


def render_panel(snapshot: Snapshot) -> RenderableType:
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
    if snapshot.shared_total > snapshot.shared:
        told = f"{snapshot.shared:,} of {snapshot.shared_total:,} texts, ahead"
        yield "shared", snapshot.shared, snapshot.shared_total, told, "cyan"


def _quotas(quota: QuotaUse | None) -> Iterator[_Bar]:
    for kind, name in _METERS.items():
        limit = None if quota is None else quota.limits[kind]
        if quota is not None and limit is not None:
            used = quota.used[kind]
            yield name, min(used, limit), limit, f"{used:,} of {limit:,}", "magenta"


def _lines(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    in_flight = "" if snapshot.in_flight is None else f"; calls in the air: {snapshot.in_flight:,}"
    rows, texts = snapshot.rows_per_s, snapshot.texts_per_s
    yield "speed", f"{rows:,.0f} rows a second, {texts:,.0f} texts a second{in_flight}"
    yield "spent", _spent(snapshot)
    yield (
        "calls",
        f"{snapshot.sent:,}, {snapshot.retried:,} of them again; {snapshot.refused:,} 429s",
    )
    if snapshot.codes:
        codes = (f"{rows:,} {code}" for code, rows in snapshot.codes.items())
        yield "dead by", ", ".join(codes)
    yield "waits for", "-" if snapshot.waiting is None else _REASONS[snapshot.waiting]
    left = "-" if snapshot.eta_s is None else f"about {_time(snapshot.eta_s)}"
    yield "time", f"{_time(snapshot.elapsed_s)}; left: {left}"
    if snapshot.ending is not None:
        yield "ending", f"{snapshot.ending}: waits for calls in the air; once more ends at once"


def _spent(snapshot: Snapshot) -> str:
    said = _cost(snapshot.tokens, snapshot.usd)
    if snapshot.tokens_total is None:
        return said
    return f"{said}; about {_cost(snapshot.tokens_total, snapshot.usd_total)} in all"


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


PANEL_EVERY_S = 0.5
_SHOW_CURSOR = b"\x1b[?25h"
_MOST_BYTES = 1 << 16


class Screen:
    """Shows snapshots as a panel that is drawn anew in its place.

    What anybody writes to standard error meanwhile (the log, worker processes, libraries in C) goes
    through a pipe and is printed above the panel.  Whoever shows must call `between` often.

    Args:
        stream: standard error, a terminal.
        every_s: how often the panel is to be drawn.
    """

    def __init__(self, stream: TextIO, every_s: float = PANEL_EVERY_S) -> None:
        self.every_s = every_s
        self._stream = stream
        self._foot: _Foot | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Draws the panel."""
        if self._foot is None:
            self._foot = _Foot(self._stream)
        self._foot.live.update(render_panel(snapshot), refresh=True)

    def poll(self) -> None:
        """Prints what was written to standard error since the last time."""
        if self._foot is not None:
            self._foot.print_new()

    def close(self) -> None:
        """Removes the panel, and gives standard error and the cursor back; may be called twice."""
        foot, self._foot = self._foot, None
        if foot is not None:
            foot.close()


class _Foot:
    """The foot of a terminal, taken from a stream that goes through a pipe meanwhile."""

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
        self._unfinished = b""
        self.live.start()

    def print_new(self) -> None:
        """Prints the lines that came through the pipe."""
        while data := self._read():
            *lines, self._unfinished = (self._unfinished + data).split(b"\n")
            for line in lines:
                self._print(line)

    def close(self) -> None:
        """Gives all of it back."""
        # By a signal in the middle of a drawing; what is drawn then is lost, the rest is not.
        with contextlib.suppress(Exception):
            self._stream.flush()
            self.print_new()
            if self._unfinished:
                self._print(self._unfinished)
            # Else the last drawing is not cut where the terminal is lower than the panel.
            self.live.update(Text(""), refresh=True)
            self.live.stop()
        os.dup2(self._terminal, self._stream.fileno())
        with contextlib.suppress(OSError):
            os.write(self._terminal, _SHOW_CURSOR)
        os.close(self._pipe)
        os.close(self._terminal)

    def _read(self) -> bytes:
        try:
            return os.read(self._pipe, _MOST_BYTES)
        except BlockingIOError:
            return b""

    def _print(self, line: bytes) -> None:
        self._console.print(line.decode(errors="replace").rstrip("\r"), markup=False)


def supports_panel(stream: TextIO) -> bool:
    """Whether a panel can be drawn there: a terminal that can move its cursor."""
    return stream.isatty() and not Console(file=stream).is_dumb_terminal
