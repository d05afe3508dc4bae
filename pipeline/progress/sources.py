"""Where progress numbers come from: this process, worker processes here, or commit records."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import orjson

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.live import Live, LiveCounts
from bulkembed.schemas.serialization import from_plain, to_plain
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.units.engine import forget_counts, run_counts, running_engines
from bulkembed.transforms.units.tally import committed_rows

WRITE_EVERY_S = 1.0
LIST_EVERY_S = 1.0
MAX_LISTING_SHARE = 0.02
"""The share of the time that listings may take if they are slow."""
_SUFFIX = ".live"
_writing = threading.Lock()


class Source(Protocol):
    """Knows what all processes of a run have done, and what they are doing."""

    def read(self) -> Live:
        """Return the newest numbers; never waits."""

    def close(self) -> None:
        """Stop what was started for it."""


class LocalEngines:
    """The engines of a run in this process; closed ones still count.

    In batch mode, a run has an engine for a moment whenever units are committed.

    Args:
        run_id: the run; None for all runs of the process.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self._run_id = run_id

    def read(self) -> Live:
        """Return what all engines have done, and what the running ones are doing."""
        of_run = self._run_id
        running = [one for one in running_engines() if of_run in (None, one.job.run_id)]
        done = run_counts(of_run)
        return sum((engine.live() for engine in running), Live(counts=done, in_flight=0))

    def close(self) -> None:
        """Forget the counts of the run."""
        if self._run_id is not None:
            forget_counts(self._run_id)


class WorkerProcesses:
    """The worker processes of this machine, by the files that they write once a second.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Live:
        """Return the sum over all processes."""
        return sum(_read_files(self._folder), Live(in_flight=0))

    def close(self) -> None:
        """Do nothing."""


def start_writing(folder: Path) -> None:
    """Write this process's numbers once a second, in a thread that ends with the process.

    Call `write_numbers` at the end.
    """
    thread = threading.Thread(target=_keep_writing, args=(folder,), name="progress", daemon=True)
    thread.start()


def _keep_writing(folder: Path) -> None:
    never = threading.Event()
    while not never.wait(WRITE_EVERY_S):
        write_numbers(folder)


def write_numbers(folder: Path) -> None:
    """Write this process's numbers as they are now; those of an earlier moment never follow."""
    path = folder / f"{os.getpid()}{_SUFFIX}"
    new = path.with_suffix(".new")
    # A full disk, or a folder that was deleted with its run, must not fail the rows.
    with _writing, contextlib.suppress(OSError):
        new.write_bytes(orjson.dumps(to_plain(LocalEngines().read())))
        new.replace(path)


def _read_files(folder: Path) -> Iterator[Live]:
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        with contextlib.suppress(OSError):
            yield from_plain(orjson.loads(path.read_bytes()), Live)


class CommitRecords:
    """Workers anywhere, by the records that they commit, which a thread lists.

    Args:
        dataset: where they commit.
        before: what was committed when the run started.
    """

    def __init__(self, dataset: Dataset, before: DatasetState) -> None:
        self._dataset = dataset
        self._known = set(before.records)
        self._old = {record.unit: record for record in before.records}
        self._counts = LiveCounts()
        self._closed = threading.Event()
        threading.Thread(target=self._keep_listing, name="records", daemon=True).start()

    def read(self) -> Live:
        """Return what is committed; requests in flight are not known."""
        return Live(counts=self._counts)

    def close(self) -> None:
        """Stop the listing."""
        self._closed.set()

    def _keep_listing(self) -> None:
        pause_s = LIST_EVERY_S
        while not self._closed.wait(pause_s):
            started = time.monotonic()
            # A store that fails for a moment is listed again after the pause.
            with contextlib.suppress(OSError, OutputError):
                self._add_new()
            pause_s = max(LIST_EVERY_S, (time.monotonic() - started) / MAX_LISTING_SHARE)

    def _add_new(self) -> None:
        for record in self._dataset.state().records:
            if record not in self._known:
                self._counts += self._counts_of(self._dataset.read_record(record))
                self._known.add(record)

    def _counts_of(self, record: UnitRecord) -> LiveCounts:
        calls = record.counts
        sent = LiveCounts(
            texts=calls.texts,
            tokens=calls.tokens,
            image_tokens=calls.image_tokens,
            audio_tokens=calls.audio_tokens,
            video_tokens=calls.video_tokens,
            sent=calls.calls + calls.retried,
            retried=calls.retried,
        )
        return sent + committed_rows(record, self._old.get(record.unit))
