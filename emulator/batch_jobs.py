"""Batch jobs of both APIs: their states over time, their limits, and what they bill."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import enum
import threading
from collections.abc import Callable
from typing import Any

from bulkembed.emulator.api_errors import ApiError
from bulkembed.emulator.batch_results import ResultPlan
from bulkembed.emulator.batch_rows import RowTable
from bulkembed.emulator.batch_settings import BatchSettings, JobOutcome, read_outcome
from bulkembed.emulator.files import StoredFile, new_id
from bulkembed.emulator.quotas import Clock
from bulkembed.emulator.targets import Target

_HANGING = (JobOutcome.HANG, JobOutcome.HANG_PENDING, JobOutcome.PAUSED)


class JobState(enum.StrEnum):
    """The state of a job, without the prefix."""

    QUEUED = "QUEUED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    PARTIALLY_SUCCEEDED = "PARTIALLY_SUCCEEDED"
    FAILED = "FAILED"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


Place = tuple[str, ...]
"""The project and the location of a job on Vertex AI; empty on the Developer API."""


@dataclasses.dataclass
class Job:
    """A batch job. `state` is its final state, or None as long as it is not over."""

    number: int
    """Jobs have growing numbers."""
    id: str
    target: Target
    display_name: str | None
    created: float
    seconds: float
    outcome: JobOutcome
    table: RowTable
    plan: ResultPlan
    input: dict[str, Any]
    """The job's `inputConfig`, for its description."""
    file: StoredFile | None = None
    """The Developer API: the file with the job's rows."""
    inline: bool = False
    place: Place = ()
    """Vertex AI: the project and the location."""
    output_prefix: str = ""
    failure: ApiError | None = None
    """Why the input fails the job."""
    cancel_at: float | None = None
    state: JobState | None = None
    ended: float = 0.0
    finished_rows: int = 0
    """The rows of the plan, from its start, that were processed before the job ended."""
    deleted: bool = False
    writing: concurrent.futures.Future[Any] | None = None
    """What writes the results: it gives the file or the lines."""
    ending: bool = False
    """It is over by the clock, and its results are being written."""
    output: Any = None
    """What `writing` gave, once the job is over."""

    @property
    def name(self) -> str:
        """The name of the resource."""
        if not self.place:
            return f"batches/{self.id}"
        project, location = (part or "express" for part in self.place)
        return f"projects/{project}/locations/{location}/batchPredictionJobs/{self.id}"

    @property
    def tokens(self) -> int:
        """The tokens that the job holds of the quota of enqueued tokens."""
        return sum(self.table.tokens)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.table)


class JobStore:
    """The jobs of one server. States follow the clock; they are computed when somebody looks.

    `write` makes the results of a job's first `count` rows, in a thread of its own; `publish` makes
    them the output of a job that is over. `bill` gets a job that is over and the rows to bill.
    """

    def __init__(
        self,
        settings: BatchSettings,
        clock: Clock,
        write: Callable[[Job, int], Any],
        publish: Callable[[Job, Any], Any],
        bill: Callable[[Job, list[int]], None],
    ) -> None:
        self._settings, self._clock = settings, clock
        self._write, self._publish, self._bill = write, publish, bill
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "emulator-results")
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget all jobs."""
        with self.lock:
            self._jobs: dict[str, Job] = {}
            self._count = 0
            self._steps = iter(self._settings.outcomes)
            self.enqueued_by_others = 0

    def next_number(self) -> int:
        """Return the number of a new job."""
        with self.lock:
            self._count += 1
            return self._count

    def add(self, job: Job) -> None:
        """Add a job."""
        with self.lock:
            self._jobs[job.id] = job

    def next_outcome(self, drawn: float) -> tuple[JobOutcome, float]:
        """Return the outcome of a new job and its seconds; `drawn` is from 0 to 1."""
        step = next(self._steps, None)
        if step is not None:
            return read_outcome(step, self._settings.seconds)
        for outcome, share in self._settings.outcome_shares:
            if drawn < share:
                return outcome, self._settings.seconds
            drawn -= share
        return JobOutcome.SUCCEEDED, self._settings.seconds

    def all_jobs(self) -> list[Job]:
        """Return all jobs, also deleted ones."""
        with self.lock:
            self.settle()
            return list(self._jobs.values())

    def visible(self, place: Place) -> list[Job]:
        """Return the jobs of a project and location; `()` for the Developer API."""
        return [
            job
            for job in self.all_jobs()
            if job.place == place and not job.deleted and not self._has_vanished(job)
        ]

    def listed(self, place: Place) -> list[Job]:
        """Return the visible jobs that the list has already."""
        latest = self._clock.now() - self._settings.list_lag_s
        return [job for job in self.visible(place) if job.created <= latest]

    def find(self, id: str, place: Place) -> Job | None:
        """Return a job; None if there is none."""
        return next((job for job in self.visible(place) if job.id == id), None)

    def open_jobs(self, place: Place) -> list[Job]:
        """Return the jobs that are not over, also deleted ones."""
        return [job for job in self.all_jobs() if job.state is None and job.place == place]

    def enqueued_tokens(self) -> int:
        """Return the tokens of all jobs that are not over."""
        return self.enqueued_by_others + sum(job.tokens for job in self.open_jobs(()))

    def shown_state(self, job: Job) -> JobState:
        """Return the state of a job now."""
        if job.state is not None:
            return job.state
        if job.cancel_at is not None and job.place:
            return JobState.CANCELLING
        now = self._clock.now()
        pending_s = job.seconds * self._settings.pending_share
        if job.place and now < job.created + pending_s / 2:
            return JobState.QUEUED
        if job.outcome is JobOutcome.HANG_PENDING or now < job.created + pending_s:
            return JobState.PENDING
        return JobState.PAUSED if job.outcome is JobOutcome.PAUSED else JobState.RUNNING

    def started(self, job: Job) -> float:
        """Return when a job began to run."""
        return job.created + job.seconds * self._settings.pending_share

    def progress(self, job: Job, now: float) -> int:
        """Return the rows that are processed."""
        if job.state is not None:
            return job.finished_rows
        if self._hangs(job):
            return 0
        start = self.started(job)
        length = job.created + job.seconds - start
        done = (now - start) / length if length > 0 else float(now >= start)
        return int(job.rows * min(1.0, max(0.0, done)))

    def cancel(self, job: Job) -> None:
        """Begin to cancel a job that is not over."""
        with self.lock:
            if job.cancel_at is None:
                job.cancel_at = self._clock.now() + self._settings.cancel_seconds
            self.settle()

    def change(self, job: Job, step: str) -> None:
        """Let an open job end otherwise, some seconds from now: `failed@5`."""
        with self.lock:
            job.outcome, seconds = read_outcome(step, self._settings.seconds)
            job.seconds = self._clock.now() - job.created + seconds
            self.settle()

    def settle_for(self, timeout_s: float) -> None:
        """Settle, and wait for the results of jobs that are over by the clock."""
        self.settle()
        with self.lock:
            writing = [job.writing for job in self._jobs.values() if job.ending and job.writing]
        if writing:
            concurrent.futures.wait(writing, timeout_s)
            self.settle()

    def settle(self) -> None:
        """Bring all jobs to the state that they have now."""
        with self.lock:
            for job in self._jobs.values():
                if job.state is None:
                    self._settle(job)

    def close(self) -> None:
        """Forget all jobs, and stop writing results."""
        self.reset()
        self._writer.shutdown(wait=False, cancel_futures=True)

    def _settle(self, job: Job) -> None:
        now = self._clock.now()
        due, final = self._end(job)
        if job.cancel_at is not None and job.cancel_at <= min(now, due):
            self._finish(job, JobState.CANCELLED, job.cancel_at)
        elif now >= due:
            self._finish(job, final, due)
        elif self._may_write_early(job, final):
            self._begin_to_write(job, job.rows)

    def _may_write_early(self, job: Job, final: JobState) -> bool:
        """Return whether the results can be written while the job runs: then a cancel costs them.

        Vertex AI returns the finished rows of a cancelled job, and so writes at the end.
        """
        running = self.shown_state(job) is JobState.RUNNING
        return running and final is JobState.SUCCEEDED and not job.place

    def _end(self, job: Job) -> tuple[float, JobState]:
        """Return when a job ends and how, unless it is cancelled."""
        settings = self._settings
        expiry = job.created + (settings.vertex_expire_s if job.place else settings.expire_s)
        due = job.created + job.seconds
        start = self.started(job)
        if self._settings.needs_input and job.file is not None and job.file.expires < start:
            job.failure = ApiError(404, f"The input file {job.file.name} is not found.")
            return start, JobState.FAILED
        if self._hangs(job) or due > expiry:
            return expiry, JobState.EXPIRED
        if job.failure is not None or job.outcome is JobOutcome.FAILED:
            return due, JobState.FAILED
        ends = {JobOutcome.CANCELLED: JobState.CANCELLED, JobOutcome.EXPIRED: JobState.EXPIRED}
        return due, ends.get(job.outcome, JobState.SUCCEEDED)

    def _finish(self, job: Job, state: JobState, at: float) -> None:
        """End a job once its results are written."""
        count = self._finished_rows(job, state, at)
        has_output = state is JobState.SUCCEEDED or (count > 0 and bool(job.place))
        if job.outcome is JobOutcome.VANISH:
            has_output = False
        results = None
        if has_output:
            writing = self._begin_to_write(job, count)
            job.ending = not writing.done()
            if job.ending:
                return
            error = writing.exception()
            if error is not None:
                job.failure = ApiError(500, f"The results could not be written: {error}")
                job.state, job.ended = JobState.FAILED, at
                return
            results = writing.result()
        partial = bool(job.place) and self._settings.vertex_partial_state
        if partial and state is JobState.SUCCEEDED and job.plan.failed(count):
            state = JobState.PARTIALLY_SUCCEEDED
        job.finished_rows, job.state, job.ended = count, state, at
        if has_output:
            job.output = self._publish(job, results)
        bills = has_output or (state is JobState.CANCELLED and self._settings.bill_cancelled)
        if bills:
            self._bill(job, job.plan.answered(count))

    def _finished_rows(self, job: Job, state: JobState, at: float) -> int:
        if state is JobState.SUCCEEDED:
            return job.rows
        if state is JobState.FAILED:
            return 0
        if job.outcome in (JobOutcome.CANCELLED, JobOutcome.EXPIRED):
            return job.rows // 2
        return self.progress(job, at)

    def _begin_to_write(self, job: Job, count: int) -> concurrent.futures.Future[Any]:
        if job.writing is None:
            job.writing = self._writer.submit(self._write, job, count)
        return job.writing

    def _hangs(self, job: Job) -> bool:
        return job.outcome in _HANGING

    def _has_vanished(self, job: Job) -> bool:
        return job.outcome is JobOutcome.VANISH and job.state is not None


def new_job_id() -> str:
    """Return the id of a job of the Developer API."""
    return new_id(36)
