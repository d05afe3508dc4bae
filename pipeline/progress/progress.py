"""Shows what a run is at, driven by the thread that watches the run."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Protocol, Self

from pipeline.logs import log
from pipeline.progress.line import facts_of, line_of, sentence_of
from pipeline.progress.rates import Rates
from pipeline.progress.snapshot import Goal, Snapshot, take_snapshot
from pipeline.progress.sources import Source
from schemas.errors import ConfigError

LINE_EVERY_S = 30.0
EVERY_VARIABLE = "BULKEMBED_PROGRESS_S"


class Show(Protocol):
    """How snapshots are shown."""

    every_s: float

    def show(self, snapshot: Snapshot) -> None:
        """Shows one."""

    def between(self) -> None:
        """Called some twenty times a second."""

    def close(self) -> None:
        """Leaves nothing behind; may be called twice."""


class Lines:
    """A line in the log now and then: key=value, or an event with the facts for --log-json."""

    def __init__(self, every_s: float = LINE_EVERY_S, *, as_json: bool = False) -> None:
        self.every_s = every_s
        self._as_json = as_json

    def show(self, snapshot: Snapshot) -> None:
        """Logs the line."""
        said = sentence_of(snapshot) if self._as_json else line_of(snapshot)
        log.info("%s", said, extra={"event": ("progress", facts_of(snapshot))})

    def between(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class Progress:
    """Takes a snapshot when one is due, and shows it.  Never an error: it is not the work.

    Args:
        goal: what the run set out to do.
        source: where the numbers come from.
        show: how they are shown.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        goal: Goal,
        source: Source,
        show: Show,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._goal = goal
        self._source = source
        self._show = show
        self._clock = clock
        self._rates = Rates()
        self._began = clock()
        self._shown = self._began
        self._broken = False
        self._is_drawing = False
        self._after_drawing: Callable[[], object] | None = None
        self.ending: str | None = None
        """Why the run is about to end."""

    def tick(self) -> None:
        """Shows what is due; cheap where nothing is."""
        if self._broken:
            return
        try:
            with self._drawing():
                self._show.between()
            now = self._clock()
            if now - self._shown >= self._show.every_s:
                self._shown = now
                snapshot = self._snapshot(now)
                with self._drawing():
                    self._show.show(snapshot)
        except Exception as error:
            self._broken = True
            self.close()
            log.warning("progress is not shown any more: %r; the run goes on", error)

    def when_drawn(self, action: Callable[[], object]) -> None:
        """Call an action now, or at the end of the drawing that is under way.

        For signal handlers, which may interrupt a drawing: a panel that is half drawn cannot be
        removed.
        """
        if self._is_drawing:
            self._after_drawing = action
        else:
            action()

    def close(self) -> None:
        """Leaves the screen as it was."""
        with self._drawing():
            self._show.close()
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        self._is_drawing = True
        try:
            yield
        finally:
            self._is_drawing = False
            action, self._after_drawing = self._after_drawing, None
            if action is not None:
                action()

    def _snapshot(self, now: float) -> Snapshot:
        elapsed_s = now - self._began
        return take_snapshot(self._goal, self._source.look(), elapsed_s, self._rates, self.ending)


def every_s(default: float) -> float:
    """How often progress is shown: as BULKEMBED_PROGRESS_S says, else the default.

    Raises:
        ConfigError: the variable holds no number above 0.
    """
    told = os.environ.get(EVERY_VARIABLE, "").strip()
    try:
        seconds = float(told or default)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ConfigError(f"{EVERY_VARIABLE}={told}: give seconds above 0, or leave it out")
    return seconds
