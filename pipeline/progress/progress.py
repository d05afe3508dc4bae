"""The progress of a run: its goal, the source of its numbers, and how they are displayed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, Self, TextIO

from bulkembed.pipeline.logs import is_json, log
from bulkembed.pipeline.progress.job_watch import JobWatch, WatchedSource
from bulkembed.pipeline.progress.panel import PANEL_EVERY_S, Screen, supports_panel
from bulkembed.pipeline.progress.snapshot import Goal, Rates, Snapshot, take_snapshot
from bulkembed.pipeline.progress.sources import (
    CommitRecords,
    LocalEngines,
    Source,
    WorkerProcesses,
)
from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.run.sharing import Sharing
from bulkembed.pipeline.run.summary import RowCounts
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.live import LiveJobs
from bulkembed.schemas.quota import QuotaKind, RpmCounts
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import DatasetState

LINE_EVERY_S = 30.0
EVERY_VARIABLE = "BULKEMBED_PROGRESS_S"

Fact = int | float | str | None
_JOB_FACTS = (
    "batch_open", "batch_texts", "batch_tokens", "batch_tokens_limit", "batch_oldest_s",
    "batch_ended",
)  # fmt: skip


class Display(Protocol):
    """Shows snapshots."""

    every_s: float
    """Seconds between two snapshots."""

    def show(self, snapshot: Snapshot) -> None:
        """Show one snapshot."""

    def poll(self) -> None:
        """Do what has to be done about twenty times a second."""

    def close(self) -> None:
        """Restore the stream; may be called twice."""


class Progress:
    """Takes a snapshot at each interval and displays it; a failure here never fails the run.

    Args:
        goal: what the run set out to do.
        source: where the numbers come from.
        display: where they are shown.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        goal: Goal,
        source: Source,
        display: Display,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._goal = goal
        self._source = source
        self._display = display
        self._clock = clock
        self._rates = Rates()
        self._started = clock()
        self._last_shown = self._started
        self._failed = False
        self._is_drawing = False
        self._after_drawing: Callable[[], object] | None = None
        self.ending: str | None = None
        """Why the run is about to end."""

    def tick(self) -> None:
        """Show a snapshot if the interval is over; cheap otherwise."""
        if self._failed:
            return
        try:
            with self._drawing():
                self._display.poll()
            now = self._clock()
            if now - self._last_shown >= self._display.every_s:
                self._last_shown = now
                snapshot = self._snapshot(now)
                with self._drawing():
                    self._display.show(snapshot)
        except Exception as error:
            self._failed = True
            self.close()
            log.warning("progress display failed: %r. The run continues without it.", error)

    def when_drawn(self, action: Callable[[], object]) -> None:
        """Call an action now, or at the end of a drawing in progress.

        For signal handlers, which may interrupt a drawing: a panel that is half drawn cannot be
        removed.
        """
        if self._is_drawing:
            self._after_drawing = action
        else:
            action()

    def close(self) -> None:
        """Close the display and the source."""
        with self._drawing():
            self._display.close()
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
        elapsed_s = now - self._started
        return take_snapshot(self._goal, self._source.read(), elapsed_s, self._rates, self.ending)


class Lines:
    """A display of log lines: `key=value` pairs, or an event with the facts for --log-json."""

    def __init__(self, every_s: float = LINE_EVERY_S, *, as_json: bool = False) -> None:
        self.every_s = every_s
        self._as_json = as_json

    def show(self, snapshot: Snapshot) -> None:
        """Log one line."""
        text = progress_message(snapshot) if self._as_json else progress_line(snapshot)
        log.info("%s", text, extra={"event": ("progress", progress_facts(snapshot))})

    def poll(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def progress_facts(snapshot: Snapshot) -> dict[str, Fact]:
    """Return all numbers by name; None for an unknown value and for a limit that is not set.

    The names are always the same, except `dead_CODE`: one for each code that has occurred.
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
        "wait_s": _rounded(snapshot.wait_s, 1),
        "elapsed_s": round(snapshot.elapsed_s, 1),
        "left_s": _rounded(snapshot.left_s, 1),
        "calls": snapshot.sent,
        "retried": snapshot.retried,
        "refused": snapshot.rate_limited,
        "ending": snapshot.ending,
    }
    facts |= _job_facts(snapshot.jobs)
    return facts | {f"dead_{code}": rows for code, rows in snapshot.codes.items()}


def _job_facts(jobs: LiveJobs | None) -> dict[str, Fact]:
    if jobs is None:
        return dict.fromkeys(_JOB_FACTS)
    oldest_s = _rounded(jobs.oldest_s, 1)
    values = jobs.open, jobs.texts, jobs.tokens, jobs.tokens_limit, oldest_s, jobs.ended
    return dict(zip(_JOB_FACTS, values, strict=True))


def progress_message(snapshot: Snapshot) -> str:
    """Return the message of a progress event, which carries the facts separately."""
    return f"{snapshot.done:,} of {snapshot.rows.rows_in:,} rows done"


def progress_line(snapshot: Snapshot) -> str:
    """Return a line for people and grep, such as `progress done=8000 rows=11459 ...`.

    Values that are None are left out.
    """
    facts = progress_facts(snapshot).items()
    return " ".join(["progress", *(f"{name}={_word(v)}" for name, v in facts if v is not None)])


def _word(value: float | str) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def make_progress(
    goal: Goal,
    job: JobConfig,
    folder: Path,
    *,
    local: bool,
    processes: int,
    jobs: JobWatch | None = None,
) -> Progress:
    """Return the progress of a run that starts now.

    Args:
        goal: what the run set out to do.
        job: the configuration of the workers.
        folder: where worker processes of this machine leave their numbers.
        local: whether Beam's local engine does the work.
        processes: its number of worker processes.
        jobs: the batch jobs of the run; None if it has no batch mode.

    Raises:
        ConfigError: BULKEMBED_PROGRESS_S is not a number above 0.
    """
    source: Source
    if not local:
        source = CommitRecords(Dataset.open(job.output.uri), goal.before)
    elif processes > 1:
        source = WorkerProcesses(folder)
    else:
        source = LocalEngines(job.run_id)
    if jobs is not None:
        source = WatchedSource(source, jobs)
    goal.processes = processes
    return Progress(goal, source, make_display(sys.stderr, alone=local and processes == 1))


def make_goal(
    request: RunRequest,
    job: JobConfig,
    rows: RowCounts,
    plan: Plan,
    before: DatasetState,
    sharing: Sharing,
) -> Goal:
    """Return what a run sets out to do; failed rows that are retried count as remaining.

    Args:
        request: has the price of a token.
        job: the configuration of the workers.
        rows: the state of the input's rows.
        plan: the rows of the run.
        before: the committed units.
        sharing: the texts that are sent up front.
    """
    dead = rows.dead - sum(record.dead for file in plan.work for record in file.retry_of)
    planned = plan.planned_rows
    total = rows.embedded + dead + rows.skipped + planned
    counts_texts = job.calls.limits.rpm_counts is RpmCounts.TEXTS
    return Goal(
        rows=dataclasses.replace(rows, rows_in=total, dead=dead, left=planned),
        before=before,
        shared=sum(file.texts for file in sharing.picks),
        price=request.price(),
        factors=job.embedding.spec.media_factors,
        texts_per_request=1 if counts_texts else job.embedder.call_texts,
        content_noun=job.embedding.content_noun,
    )


def make_display(stream: TextIO, *, alone: bool = True) -> Display:
    """Return a panel if the stream is a terminal that people watch, otherwise log lines.

    Other processes that write to the terminal (not `alone`) would tear a panel, and so would the
    many lines of `--log-level debug`. With `--log-level warning` the log lines are not shown.

    Raises:
        ConfigError: BULKEMBED_PROGRESS_S is not a number above 0.
    """
    if alone and supports_panel(stream) and not is_json() and log.level == logging.INFO:
        return Screen(stream, interval_s(PANEL_EVERY_S))
    return Lines(interval_s(LINE_EVERY_S), as_json=is_json())


def interval_s(default: float) -> float:
    """Return the seconds between two snapshots: BULKEMBED_PROGRESS_S if set, else the default.

    Raises:
        ConfigError: the variable is not a number above 0.
    """
    value = os.environ.get(EVERY_VARIABLE, "").strip()
    try:
        seconds = float(value or default)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ConfigError(
            f"{EVERY_VARIABLE} is {value!r}, which is not a number of seconds above 0. "
            f"Set it to a number such as {default:g}, or unset it."
        )
    return seconds
