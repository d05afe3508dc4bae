"""Counts of a process: what it has done of a run, and how many rows have failed."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Protocol

from bulkembed.schemas.live import LiveCounts
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.stop import StopReason
from bulkembed.schemas.units import UnitRecord

if TYPE_CHECKING:
    from bulkembed.transforms.calls.stopping import StopFlag


class Work(Protocol):
    """Work in progress, whose counts any thread can read."""

    def live(self) -> LiveCounts:
        """Return the counts so far."""


class Tally:
    """Adds up the work of a process. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = LiveCounts()
        self._in_progress: list[Work] = []

    def begin(self, work: Work) -> None:
        """Count work while it is in progress."""
        with self._lock:
            self._in_progress.append(work)

    def end(self, work: Work, *committed: LiveCounts) -> None:
        """Count the result of work: its requests are paid for, committed or not."""
        with self._lock:
            self._in_progress.remove(work)
            self._done += dataclasses.replace(work.live(), ready=0)
            self._done = sum(committed, self._done)

    def counts(self) -> LiveCounts:
        """Return the counts so far."""
        with self._lock:
            return sum((work.live() for work in self._in_progress), self._done)


def committed_rows(record: UnitRecord, retry_of: UnitRecord | None) -> LiveCounts:
    """Return what a commit changed; `retry_of` is the record that it replaced."""
    return LiveCounts(
        embedded=record.embedded - (retry_of.embedded if retry_of else 0),
        dead=record.dead,
        skipped=record.skipped - (retry_of.skipped if retry_of else 0),
        codes=tuple((str(code), rows) for code, rows in record.codes if not code.is_skip),
    )


class FailureLimit:
    """Stops the run as soon as it is certain that too many rows fail.

    Args:
        max_rows: how many rows of this process may fail; None for any number.
        stop: set when more have failed.
    """

    def __init__(self, max_rows: int | None, stop: StopFlag) -> None:
        self._max_rows = max_rows
        self._stop = stop
        self._lock = threading.Lock()
        self._failed = 0

    def stop(self, message: str) -> None:
        """Stop the run because of one row, as the settings demand."""
        self._stop.set(StopReason.BROKEN, message)

    def add(self, rows: int, reason: str) -> None:
        """Count rows that failed for one reason; callers leave out blank rows."""
        with self._lock:
            self._failed += rows
            failed = self._failed
        if self._max_rows is not None and rows and failed > self._max_rows:
            self._stop.set(StopReason.DEAD_LETTERS, too_many_failed(failed, self._max_rows, reason))


def too_many_failed(failed: int, max_rows: int, last_reason: str | None = None) -> str:
    """Return the message for a run in which too many rows failed."""
    return (
        f"{number_of(failed, 'row')} failed, above the limit of {max_rows:,} (--max-dead-letters)"
        + (f". The last reason: {last_reason.rstrip('.')}" if last_reason else "")
        + ". See dead_letters/. Correct the input, or remove the cause and rerun with "
        "--retry-failed, or raise the limit."
    )
