"""Where the numbers come from if not from this process: its workers, or the commit records."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Protocol

from bulkembed.pipeline.progress import worker_files
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.live import Live, LiveCounts
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.units.tally import committed_rows

LIST_EVERY_S = 1.0
MAX_LISTING_SHARE = 0.02
"""The part of the time that listings may take where they are slow."""


class Source(Protocol):
    """Tells what all processes of a run have done, and are at."""

    def read(self) -> Live:
        """The newest numbers; never waits."""

    def close(self) -> None:
        """Ends what was started for it."""


class WorkerProcesses:
    """What the worker processes of this machine leave in the run's folder, a second old at most."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Live:
        """All of them together."""
        return sum(worker_files.read(self._folder), Live(in_flight=0))

    def close(self) -> None:
        """There is nothing to end."""


class CommitRecords:
    """What workers anywhere have committed, by listing the records in a thread of its own.

    Args:
        dataset: where they commit.
        before: what was committed when the run began.
    """

    def __init__(self, dataset: Dataset, before: DatasetState) -> None:
        self._dataset = dataset
        self._known = set(before.records)
        self._old = {record.unit: record for record in before.records}
        self._counts = LiveCounts()
        self._closed = threading.Event()
        threading.Thread(target=self._keep_looking, name="records", daemon=True).start()

    def read(self) -> Live:
        """What is committed; nobody here knows of calls."""
        return Live(counts=self._counts)

    def close(self) -> None:
        """Ends the listing."""
        self._closed.set()

    def _keep_looking(self) -> None:
        pause_s = LIST_EVERY_S
        while not self._closed.wait(pause_s):
            began = time.monotonic()
            # A store that fails for a moment is asked again.
            with contextlib.suppress(OSError, OutputError):
                self._take_new()
            pause_s = max(LIST_EVERY_S, (time.monotonic() - began) / MAX_LISTING_SHARE)

    def _take_new(self) -> None:
        for record in self._dataset.state().records:
            if record not in self._known:
                self._counts += self._worth(self._dataset.read_record(record))
                self._known.add(record)

    def _worth(self, record: UnitRecord) -> LiveCounts:
        calls = record.counts
        sent = LiveCounts(
            texts=calls.texts,
            tokens=calls.tokens,
            sent=calls.calls + calls.retried,
            retried=calls.retried,
        )
        return sent + committed_rows(record, self._old.get(record.unit))
