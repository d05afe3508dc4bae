"""The live panel at the foot of a terminal, with the log running above it."""

from __future__ import annotations

import contextlib
import os
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pipeline.progress.panel import panel_of
from pipeline.progress.snapshot import Snapshot

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
        self._foot.live.update(panel_of(snapshot), refresh=True)

    def between(self) -> None:
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


def takes_a_panel(stream: TextIO) -> bool:
    """Whether a panel can be drawn there: a terminal that can move its cursor."""
    return stream.isatty() and not Console(file=stream).is_dumb_terminal
