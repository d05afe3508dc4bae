"""All that a process shares while it works on one run: the embedder, the dataset, the stop flag."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import gc
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from bulkembed.schemas.errors import InputError, OutputError, OutputTaken
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.live import Live, LiveCounts
from bulkembed.schemas.stop import Stop, StopReason
from bulkembed.transforms.calls.embedder import CLOSE_TO_S, Embedder
from bulkembed.transforms.calls.spending import Spending
from bulkembed.transforms.calls.stopping import StopFlag
from bulkembed.transforms.calls.threads import LoopThread, Pool
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.dataset import run_file, worker_notes
from bulkembed.transforms.dataset.account_file import AccountFile
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import KeptAnswers
from bulkembed.transforms.dataset.processes import is_gone
from bulkembed.transforms.units.dead_rows import DeadRowBudget
from bulkembed.transforms.units.unit_work import UnitWorker

BYTES_IN_FLIGHT = 192 * 1024 * 1024


class InFlight:
    """The bytes that work in progress holds in this process, with a bound.  Thread-safe.

    Work of one piece always fits where nothing else is under way.  First come, first served: a
    large piece is not overtaken by small ones.
    """

    def __init__(self, most: int = BYTES_IN_FLIGHT) -> None:
        self._most = most
        self._held = 0
        self._queue: collections.deque[object] = collections.deque()
        self._changed = threading.Condition()

    @property
    def held(self) -> int:
        """The bytes that are held now."""
        return self._held

    def queue(self) -> object:
        """Return a place in the queue; each must `leave` it once."""
        place = object()
        with self._changed:
            self._queue.append(place)
        return place

    def take(self, place: object, size: int, timeout_s: float) -> bool:
        """Hold some bytes once they fit and it is their turn; return False when time is over."""
        with self._changed:
            fits = self._changed.wait_for(lambda: self._may_go(place, size), timeout_s)
            if fits:
                self._held += size
            return fits

    def _may_go(self, place: object, size: int) -> bool:
        room = self._held == 0 or self._held + size <= self._most
        return self._queue[0] is place and room

    def leave(self, place: object) -> None:
        """Leave the queue."""
        with self._changed:
            self._queue.remove(place)
            self._changed.notify_all()

    def give_back(self, size: int) -> None:
        """Release some bytes."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()


class NoteWriter:
    """Writes notes without blocking the caller.

    A run is often ended on the event loop, and a store may take seconds to write: all calls in
    flight would stall meanwhile.

    Args:
        leave: writes one note; must not raise.
    """

    def __init__(self, leave: Callable[[Stop], None]) -> None:
        self._leave = leave
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "bulkembed-notes")

    def write(self, stop: Stop) -> None:
        """Write a note soon; after `close` nobody reads one any more."""
        with contextlib.suppress(RuntimeError):
            self._thread.submit(self._leave, stop)

    def flush(self) -> None:
        """Return once all notes are written; not to be called on an event loop."""
        with contextlib.suppress(RuntimeError):
            self._thread.submit(bool).result()

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._thread.shutdown(wait=True)


log = logging.getLogger("bulkembed")

Read = TypeVar("Read")

TIMELINE_EVERY_S = 30.0
"""How much of the timeline a kill can cost."""


class Engine:
    """The running job inside one process; see `engine_for`."""

    def __init__(self, job: JobConfig) -> None:
        self.job = job
        self.dataset = Dataset.open(job.output.uri)
        self.in_flight = InFlight()
        """The bytes that the work of this process holds, over all slices."""
        self.stop = StopFlag(self._on_stop)
        self._notes = NoteWriter(self._leave_note)
        spending = Spending(
            None if job.account is None else AccountFile(Path(job.account)),
            job.budget,
            self.stop,
            call_s=job.service.timeout_s + CLOSE_TO_S,
        )
        self._embedder = Embedder(job.embedder, self.stop, f"bulkembed-{job.run_id}", spending)
        self.worker = UnitWorker(
            job,
            self._embedder,
            self.dataset,
            self.stop,
            KeptAnswers(self.dataset, job),
            DeadRowBudget(job.max_dead_rows, self.stop),
        )
        self._process = secrets.token_hex(4)
        self._timeline_saved = time.monotonic()

    @property
    def estimator(self) -> TokenEstimator:
        """What guesses tokens, and learns from the service's counts."""
        return self._embedder.estimator

    @property
    def loop(self) -> LoopThread:
        """The background event loop."""
        return self._embedder.loop

    def readable(self, file: InputFile, rows: Iterator[Read]) -> Iterator[Read]:
        """Yield what is read of a file; end early, with a note, where the file is damaged.

        Raises:
            InputError: the file is damaged, and the run is not to pass such files over.
        """
        try:
            yield from rows
        except InputError as error:
            if not (self.job.skip_bad_files and error.damaged):
                raise
            log.warning("skipped by --skip-bad-files: %s", error.without_advice)
            worker_notes.write_damaged_file(self.dataset, self.job.run_id, file, error)

    def take_counts(self) -> dict[str, int]:
        """What the process did since the last time of asking, by the names of the counters."""
        if time.monotonic() >= self._timeline_saved + TIMELINE_EVERY_S:
            self._save_timeline()
        return self._embedder.take_counts()

    def done(self) -> LiveCounts:
        """What was done so far; from any thread, and once it is closed as well."""
        return self.worker.tally.counts() + self._embedder.sent()

    def at(self) -> Live:
        """What it is at: calls in the air, the quota, the reason to wait; from any thread."""
        return self._embedder.live()

    def look_for_notes(self) -> None:
        """Take over the reason to end that another process, or the launcher, has left.

        The work also ends if another run has taken over the dataset.
        """
        # A store that fails for a moment is asked again a second later.
        with contextlib.suppress(OSError, OutputError):
            self._check_ownership()
            for stop in worker_notes.read_stops(self.dataset, self.job.run_id):
                self.stop.set_from(stop)
        if self.job.launcher is not None and is_gone(self.job.launcher):
            self.stop.set(StopReason.SIGNAL, "the launcher is gone; its workers end in good order")

    def leave_notes(self) -> None:
        """Return once the notes to the other workers are written."""
        self._notes.flush()

    def _check_ownership(self) -> None:
        try:
            run_file.check_ownership(self.dataset, self.job)
        except OutputTaken as error:
            self.stop.set(StopReason.TAKEN_OVER, error.message)

    def close(self) -> None:
        """Ends the loop and closes the connections."""
        self._embedder.close()
        self._notes.close()
        self._save_timeline()

    def _save_timeline(self) -> None:
        """Writes down what the process did over time, for the report: no run fails for that."""
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
            log.warning("the timeline of this process is not kept: %s", error)

    def _on_stop(self, stop: Stop) -> None:
        """Tells the other workers; ends all waiting, and gives calls in the air their time."""
        self._embedder.end_calls(stop.at + self.job.calls.shutdown_timeout_s - time.time())
        if stop.reason is StopReason.TAKEN_OVER:
            return  # The folder is another run's; each worker sees that for itself.
        self._notes.write(stop)

    def _leave_note(self, stop: Stop) -> None:
        try:
            worker_notes.write_stop(self.dataset, self.job.run_id, stop)
        except (OSError, OutputError):
            log.error("%s", stop.message)  # Nobody will read it there: the disk may be full.


_engines: Pool[Engine] = Pool()


def engine_for(job: JobConfig) -> Engine:
    """The one engine of this process for a run; each caller must `release` it once.

    Raises:
        ConfigError: there is no key.
    """
    return _engines.acquire(job.run_id, lambda: _new_engine(job))


def _new_engine(job: JobConfig) -> Engine:
    engine = Engine(job)
    # What Beam and the SDK have imported lives to the end: no collection needs to walk it.
    gc.freeze()
    return engine


def release(engine: Engine) -> None:
    """Gives an engine back; the last one to do so closes it."""
    _engines.release(engine)


def running_engines() -> list[Engine]:
    """The engines of this process: for signals and progress."""
    return _engines.in_use()
