"""The progress of a run: its goal, and where and how its numbers are found and shown."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

from bulkembed.pipeline.logs import is_json, log
from bulkembed.pipeline.progress.panel import PANEL_EVERY_S, Screen, supports_panel
from bulkembed.pipeline.progress.snapshot import Goal, Rates, Snapshot, take_snapshot
from bulkembed.pipeline.progress.sources import CommitRecords, Source, WorkerProcesses
from bulkembed.pipeline.progress.worker_files import LocalEngines
from bulkembed.pipeline.run.plan import Plan, Scans
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.run.settle import dataset_rows
from bulkembed.pipeline.run.sharing import Sharing
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.prices import price_of
from bulkembed.schemas.quota import QuotaKind, RpmCounts
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import DatasetState

Fact = int | float | str | None


def progress_facts(snapshot: Snapshot) -> dict[str, Fact]:
    """All numbers by name, units last; None for what is not known, and for a limit there is not.

    The names are always the same ones but for `dead_CODE`: there is one for each code that occurs.
    """
    rows = snapshot.rows
    facts: dict[str, Fact] = {
        "done": snapshot.done,
        "rows": rows.rows_in,
        "embedded": rows.embedded,
        "skipped": rows.skipped,
        "dead": rows.dead,
        "ready": snapshot.ready,
        "left": rows.left,
        "shared": snapshot.shared,
        "shared_all": snapshot.shared_total,
        "rows_per_s": round(snapshot.rows_per_s, 1),
        "texts_per_s": round(snapshot.texts_per_s, 1),
        "in_air": snapshot.in_flight,
    }
    for kind in QuotaKind:
        quota = snapshot.quota
        facts[f"{kind}_used"] = None if quota is None else quota.used[kind]
        facts[f"{kind}_limit"] = None if quota is None else quota.limits[kind]
    facts |= {
        "texts": snapshot.texts,
        "tokens": snapshot.tokens,
        "tokens_all": snapshot.tokens_total,
        "usd": _rounded(snapshot.usd, 6),
        "usd_all": _rounded(snapshot.usd_total, 6),
        "waiting": None if snapshot.waiting is None else str(snapshot.waiting),
        "elapsed_s": round(snapshot.elapsed_s, 1),
        "left_s": _rounded(snapshot.eta_s, 1),
        "calls": snapshot.sent,
        "retried": snapshot.retried,
        "refused": snapshot.refused,
        "ending": snapshot.ending,
    }
    return facts | {f"dead_{code}": rows for code, rows in snapshot.codes.items()}


def progress_message(snapshot: Snapshot) -> str:
    """The message of a progress event, whose facts stand beside it."""
    return f"{snapshot.done:,} of {snapshot.rows.rows_in:,} rows are done"


def progress_line(snapshot: Snapshot) -> str:
    """One line for people and grep: `progress done=8000 rows=11459 ...`, without what is None."""
    facts = progress_facts(snapshot).items()
    return " ".join(["progress", *(f"{name}={_word(v)}" for name, v in facts if v is not None)])


def _word(value: float | str) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


LINE_EVERY_S = 30.0
EVERY_VARIABLE = "BULKEMBED_PROGRESS_S"


class Display(Protocol):
    """How snapshots are shown."""

    every_s: float

    def show(self, snapshot: Snapshot) -> None:
        """Shows one."""

    def poll(self) -> None:
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
        said = progress_message(snapshot) if self._as_json else progress_line(snapshot)
        log.info("%s", said, extra={"event": ("progress", progress_facts(snapshot))})

    def poll(self) -> None:
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
        show: Display,
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
                self._show.poll()
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
        return take_snapshot(self._goal, self._source.read(), elapsed_s, self._rates, self.ending)


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


def make_goal(
    request: RunRequest,
    job: JobConfig,
    scans: Scans,
    plan: Plan,
    before: DatasetState,
    sharing: Sharing,
) -> Goal:
    """What a run set out to do; rows that are tried again count as left, not as dead."""
    rows = dataset_rows(scans, before)
    dead = rows.dead - sum(record.dead for file in plan.work for record in file.redo)
    due = plan.planned_rows
    total = rows.embedded + dead + rows.skipped + due
    counts_texts = job.calls.limits.rpm_counts is RpmCounts.TEXTS
    return Goal(
        rows=dataclasses.replace(rows, rows_in=total, dead=dead, left=due),
        before=before,
        shared=sum(file.texts for file in sharing.picks),
        price=price_of(job.embedding.service, job.embedding.model, request.usd_per_mtok),
        texts_per_request=1 if counts_texts else job.embedder.call_texts,
    )


def make_progress(
    goal: Goal, job: JobConfig, folder: Path, *, local: bool, processes: int
) -> Progress:
    """The progress of a run that begins now.

    Args:
        goal: what it set out to do.
        job: what the workers are told.
        folder: where worker processes of this machine leave their numbers.
        local: the work is done on this machine, by Beam's own engine.
        processes: by how many.

    Raises:
        ConfigError: BULKEMBED_PROGRESS_S holds no number above 0.
    """
    source: Source
    if not local:
        source = CommitRecords(Dataset.open(job.output.uri), goal.before)
    elif processes > 1:
        source = WorkerProcesses(folder)
    else:
        source = LocalEngines()
    return Progress(goal, source, make_display(sys.stderr, alone=local and processes == 1))


def make_display(stream: TextIO, *, alone: bool = True) -> Display:
    """A panel on a terminal, where people look on; else lines in the log.

    Where other processes may write to the terminal as well (not `alone`), a panel would be torn.
    A log of warnings only says nothing of progress, and one of `debug` is too much for a panel.

    Raises:
        ConfigError: BULKEMBED_PROGRESS_S holds no number above 0.
    """
    if alone and supports_panel(stream) and not is_json() and log.level == logging.INFO:
        return Screen(stream, every_s(PANEL_EVERY_S))
    return Lines(every_s(LINE_EVERY_S), as_json=is_json())
