"""The engine of a process: the embedder, the dataset and the stop flag of one run."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from bulkembed.schemas.errors import InputError, OutputError, OutputTaken
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import Dedupe, JobConfig
from bulkembed.schemas.live import Live, LiveCounts
from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.schemas.units import Unit
from bulkembed.transforms.calls.embedder import TIMEOUT_MARGIN_S, Embedder
from bulkembed.transforms.calls.spending import Spending
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.calls.threads import LoopThread, Pool
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset import partitions, run_file, spending_notes, worker_notes
from bulkembed.transforms.dataset.account_file import AccountFile
from bulkembed.transforms.dataset.batch_answers import read_rejected
from bulkembed.transforms.dataset.committed_source import CommittedSource
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import KeptAnswers
from bulkembed.transforms.dataset.processes import is_gone
from bulkembed.transforms.media.fetching import MediaFetcher
from bulkembed.transforms.units.allocators import return_large_buffers, use_system_pool
from bulkembed.transforms.units.damaged_files import skip_damage
from bulkembed.transforms.units.media_rows import FetchAhead
from bulkembed.transforms.units.memory_budget import MemoryBudget
from bulkembed.transforms.units.note_writer import NoteWriter
from bulkembed.transforms.units.source_hashes import FileVersions
from bulkembed.transforms.units.tally import FailureLimit
from bulkembed.transforms.units.unit_work import UnitWorker

MAX_MEMORY_BYTES = 192 << 20
COMMIT_MEMORY_BYTES = 96 << 20
"""If nothing is sent: units that do not wait for answers need only keep the processors busy."""
TIMELINE_EVERY_S = 30.0
"""How much of the timeline a kill can lose."""

YOUNG_COLLECTIONS = 1000
"""Collections of younger objects before one of all objects; Python's default is 10. A collection
of all objects looks at each text in memory, of which there are some 100,000 if vectors are short,
and takes half a second. Units and their calls, also failed ones, are freed without it."""

Read = TypeVar("Read")

log = logging.getLogger("bulkembed")


class Engine:
    """One run inside one process; see `engine_for`."""

    def __init__(self, job: JobConfig) -> None:
        self.job = job
        self.dataset = Dataset.open(job.output.uri)
        self.memory = MemoryBudget(MAX_MEMORY_BYTES if job.sends_online else COMMIT_MEMORY_BYTES)
        """The memory for the tasks of this process, over all slices."""
        self.stop = StopFlag(self._on_stop)
        self._notes = NoteWriter(self._write_stop)
        self._process = secrets.token_hex(4)
        note = spending_notes.note_name(job, self._process)
        self._spending = Spending(
            None if job.account is None else AccountFile(Path(job.account)),
            job.budget,
            self.stop,
            call_s=job.service.timeout_s + TIMEOUT_MARGIN_S,
            write_note=functools.partial(spending_notes.write_note, self.dataset, note)
            if spending_notes.keeps_notes(self.dataset, job)
            else None,
        )
        name = f"bulkembed-{job.run_id}"
        self._embedder = Embedder(job.embedder, self.stop, name, self._spending)
        looks_up = job.embedding.media is not None and job.dedupe is Dedupe.RUN
        self._committed = CommittedSource(self.dataset, job) if looks_up else None
        self.worker = UnitWorker(
            job,
            self._embedder,
            self.dataset,
            self.stop,
            KeptAnswers(self.dataset, job),
            FailureLimit(job.max_dead_rows, self.stop),
            rejected=read_rejected(self.dataset) if job.batch else {},
            committed=self._committed,
        )
        has_media = job.embedding.media is not None
        self._fetcher = None
        if has_media:
            by_uri = job.embedding.sends_uris
            self._fetcher = MediaFetcher(job.fetch, self.must_stop, by_uri=by_uri)
        self._timeline_saved = time.monotonic()
        self._partitions: set[str] = set()

    @property
    def estimator(self) -> TokenEstimator:
        """The estimator of tokens, which learns from the counts of the service."""
        return self._embedder.estimator

    @property
    def fetch(self) -> FetchAhead | None:
        """Reads the media of rows; None if rows are texts alone."""
        return None if self._fetcher is None else self._fetcher.fetch_ahead

    @property
    def versions(self) -> FileVersions | None:
        """Looks at the files of media; None if rows are not compared by them."""
        return self._fetcher.versions if self._fetcher is not None and self.job.sync else None

    @property
    def loop(self) -> LoopThread:
        """The background event loop."""
        return self._embedder.loop

    def expecting_texts(self) -> contextlib.AbstractContextManager[None]:
        """Say that units are being read whose texts may share requests with those that wait."""
        return self._embedder.expecting()

    def skip_damage(self, file: InputFile, rows: Iterator[Read]) -> Iterator[Read]:
        """Yield what is read from a file; see `damaged_files.skip_damage`."""
        return skip_damage(self.dataset, self.job, file, rows)

    def check_partitions(self, unit: Unit, file: str, kept: pa.Table) -> None:
        """Check that a unit has few enough partitions, and all units of the process together.

        Args:
            unit: the unit.
            file: the name of its file.
            kept: the kept columns of its rows.

        Raises:
            InputError: there are too many values.
        """
        column = self.job.output.partition_by
        if column is None:
            return
        folders = partitions.folders_of(column, kept.column(column))
        where = f"{file}: rows {unit.first_row:,} to {unit.end_row - 1:,}"
        problem = partitions.too_many(column, folders, where)
        self._partitions |= folders
        if problem is None and len(self._partitions) > partitions.MAX_PARTITIONS:
            problem = (
                f"the column {column!r} has more than {partitions.MAX_PARTITIONS:,} values, which "
                "--partition-by does not allow. Choose a column with fewer values"
            )
        if problem is not None:
            raise InputError(
                f"{problem}. To keep what is paid, use --reuse with another --output.", path=file
            )

    def take_counts(self) -> dict[str, int]:
        """Return what the process has done since the last call, by the names of counters."""
        if time.monotonic() >= self._timeline_saved + TIMELINE_EVERY_S:
            self._save_timeline()
        return self._embedder.take_counts()

    def counts(self) -> LiveCounts:
        """Return what the process has done so far; from any thread, also after `close`."""
        return self.worker.tally.counts() + self._embedder.sent()

    def live(self) -> Live:
        """Return requests in flight, quota use and the reason to wait; from any thread."""
        return self._embedder.live()

    def check_notes(self) -> None:
        """Stop the run if a note of another process says so, or if another run took over."""
        # If a store fails for a moment, the next check is a second later.
        with contextlib.suppress(OSError, OutputError):
            self._check_ownership()
            for stop in worker_notes.read_stops(self.dataset, self.job.run_id):
                self.stop.set_from(stop)
        if self.job.launcher is not None and is_gone(self.job.launcher):
            self.stop.set(StopReason.SIGNAL, "the launcher has ended, so its workers stop cleanly")

    def must_stop(self) -> bool:
        """Return whether the run must end, for this process or by a note of another."""
        self.check_notes()
        return self.stop.is_set()

    def flush_notes(self) -> None:
        """Return once the notes for the other workers are written."""
        self._notes.flush()

    def note_spending(self) -> None:
        """Note what was paid, at the end of a slice; must not be called on an event loop."""
        self.loop.run(self._spending.note_pause())

    def close(self) -> None:
        """End the loop and close the connections."""
        _counts.end(self)
        self.note_spending()
        if self._fetcher is not None:
            self._fetcher.close()
        if self._committed is not None:
            self._committed.close()
        self._embedder.close()
        self._notes.close()
        self._save_timeline()

    def _check_ownership(self) -> None:
        try:
            run_file.check_ownership(self.dataset, self.job)
        except OutputTaken as error:
            self.stop.set(StopReason.TAKEN_OVER, error.message)

    def _save_timeline(self) -> None:
        """Write what the process did over time, for the report; a failure is only logged."""
        self._timeline_saved = time.monotonic()
        timeline = self._embedder.timeline
        if not timeline.moments():
            return
        job = self.job
        try:
            worker_notes.write_timeline(
                self.dataset, job.run_id, self._process, timeline, job.calls.limits
            )
        except (OSError, OutputError) as error:
            log.warning("the timeline of this process is not saved: %s", error)

    def _on_stop(self, stop: Stop) -> None:
        """End all waiting, give requests in flight their time, and tell the other workers."""
        self._embedder.end_calls(stop.at + self.job.calls.shutdown_timeout_s - time.time())
        if stop.reason is StopReason.TAKEN_OVER:
            return  # The folder belongs to another run; each worker sees that for itself.
        self._notes.write(stop)

    def _write_stop(self, stop: Stop) -> None:
        try:
            worker_notes.write_stop(self.dataset, self.job.run_id, stop)
        except (OSError, OutputError):
            log.error("%s", stop.message)  # Nobody can read the note: the disk may be full.


class _RunCounts:
    """What the engines of this process have done, also closed ones. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: list[Engine] = []
        self._closed: dict[str, LiveCounts] = {}

    def begin(self, engine: Engine) -> None:
        with self._lock:
            self._open.append(engine)

    def end(self, engine: Engine) -> None:
        with self._lock:
            if engine in self._open:
                self._open.remove(engine)
                run_id = engine.job.run_id
                self._closed[run_id] = self._closed.get(run_id, LiveCounts()) + engine.counts()

    def of(self, run_id: str | None) -> LiveCounts:
        with self._lock:
            done = [counts for key, counts in self._closed.items() if run_id in (None, key)]
            done += [one.counts() for one in self._open if run_id in (None, one.job.run_id)]
        return sum(done, LiveCounts())

    def forget(self, run_id: str) -> None:
        with self._lock:
            self._closed.pop(run_id, None)


_counts = _RunCounts()
_engines: Pool[Engine] = Pool()


def engine_for(job: JobConfig) -> Engine:
    """Return the one engine of this process for a run; each caller must `release` it once.

    Raises:
        ConfigError: there is no key.
    """
    return _engines.acquire(job.run_id, lambda: _new_engine(job))


def _new_engine(job: JobConfig) -> Engine:
    engine = Engine(job)
    _counts.begin(engine)
    # What Beam and the SDK have imported stays until the end, so garbage collection can skip it.
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], YOUNG_COLLECTIONS)
    use_system_pool()
    if job.embedding.media is not None or job.batch:
        return_large_buffers()
    return engine


def release(engine: Engine) -> None:
    """Release an engine; the last release closes it."""
    _engines.release(engine)


def running_engines() -> list[Engine]:
    """Return the engines of this process, for signals and progress."""
    return _engines.in_use()


def run_counts(run_id: str | None) -> LiveCounts:
    """Return what engines of this process have done, also closed ones; None for all runs."""
    return _counts.of(run_id)


def forget_counts(run_id: str) -> None:
    """Forget what closed engines of a run have done."""
    _counts.forget(run_id)
