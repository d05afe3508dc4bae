"""What a process has done of a run: what is committed, and what is under way."""

from __future__ import annotations

import dataclasses
import threading
from typing import Protocol

from bulkembed.schemas.live import LiveCounts
from bulkembed.schemas.units import UnitRecord


class UnderWay(Protocol):
    """Work under way that can be looked at from any thread."""

    def live(self) -> LiveCounts:
        """What it has come to so far."""


class Tally:
    """Adds up the work of a process.  Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = LiveCounts()
        self._under_way: list[UnderWay] = []

    def begin(self, work: UnderWay) -> None:
        """Counts the work for as long as it is under way."""
        with self._lock:
            self._under_way.append(work)

    def end(self, work: UnderWay, committed: LiveCounts | None = None) -> None:
        """Counts what the work came to: its calls are paid for, whether it was committed or not."""
        with self._lock:
            self._under_way.remove(work)
            self._done += dataclasses.replace(work.live(), ready=0)
            if committed is not None:
                self._done += committed

    def counts(self) -> LiveCounts:
        """What was done so far."""
        with self._lock:
            return sum((work.live() for work in self._under_way), self._done)


def committed_rows(record: UnitRecord, redo: UnitRecord | None) -> LiveCounts:
    """What a commit changed; `redo` is the record that it replaced."""
    return LiveCounts(
        embedded=record.embedded - (redo.embedded if redo else 0),
        dead=record.dead,
        skipped=record.skipped - (redo.skipped if redo else 0),
        codes=tuple((str(code), rows) for code, rows in record.codes if not code.is_skip),
    )
