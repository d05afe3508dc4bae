"""The batch jobs of a dataset that the service has: create, find, poll and delete them.

A job is entered in the ledger before the service is asked for it, and is looked up by its display
name before it is created a second time.
"""

from __future__ import annotations

import dataclasses
import logging
import random
import time
from collections.abc import Iterable, Iterator

import numpy as np

from bulkembed.pipeline.batch.collect import collected_before
from bulkembed.pipeline.batch.job_files import JobFile
from bulkembed.pipeline.batch.job_removal import JobRemoval
from bulkembed.pipeline.batch.run_stop import STEP_S
from bulkembed.pipeline.estimate.result import duration
from bulkembed.pipeline.logs import log
from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.errors import (
    BadAnswer,
    CallRejected,
    Intercepted,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.clients.batch_service import BatchService
from bulkembed.transforms.clients.remote_jobs import RemoteJob, RemoteState
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.core.hashing import Keys
from bulkembed.transforms.dataset.batch_ledger import BatchLedger, digest_of, new_name

MAX_OPEN_JOBS = 100
"""Source: ai.google.dev/gemini-api/docs/rate-limits (batch), 2026-11."""
FIRST_POLL_S = 2.0
POLL_GROWTH = 1.5
LOG_EVERY_S = 300.0
NO_ANSWER = (Unavailable, Intercepted, BadAnswer)
"""Errors after which a job may have been created all the same."""
LOOKUP_DELAYS_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""How long to wait before each look for a job whose creation got no answer."""


class OpenJobs:
    """The jobs that the service has, or may have.

    Args:
        service: the service.
        ledger: the ledger of the dataset.
        settings: limits and intervals.
        retry: how calls are repeated, and whether the run must end.

    Attributes:
        removal: removes jobs.
    """

    def __init__(
        self,
        service: BatchService,
        ledger: BatchLedger,
        settings: BatchConfig,
        retry: RetryPolicy,
    ) -> None:
        self._service = service
        self._ledger = ledger
        self._settings = settings
        self._retry = retry
        self.removal = JobRemoval(service, ledger, settings, retry)
        self._poll_s = min(FIRST_POLL_S, settings.poll_max_s)
        self._ended: list[tuple[BatchJob, RemoteJob]] = []
        self._refused = self._was_refused = False
        self._log_at = float("-inf")
        self._job_tokens: int | None = None
        """The maximum tokens of a job, learned from refusals of the only job."""
        self._damaged: frozenset[str] = frozenset()
        """The display names of open jobs whose texts or costs the ledger has lost."""

    @property
    def open(self) -> tuple[BatchJob, ...]:
        """The jobs whose answers may still come."""
        return self._ledger.of_state(LedgerState.CREATED)

    @property
    def pending(self) -> BatchJob | None:
        """The job whose file is uploaded, and that the service has not accepted yet."""
        return next(iter(self._ledger.of_state(LedgerState.UPLOADED)), None)

    @property
    def is_full(self) -> bool:
        """Whether the service, or a limit, takes no further job until one has ended."""
        return self._refused or len(self.open) >= MAX_OPEN_JOBS

    @property
    def is_damaged(self) -> bool:
        """Whether the ledger has lost the texts or the costs of an open job.

        Another job might pay for the same texts, or exceed a limit.
        """
        return any(entry.display_name in self._damaged for entry in self.open)

    @property
    def room(self) -> int | None:
        """How many tokens may still be enqueued; None for any number."""
        limit = self._settings.enqueued_tokens
        if limit is None:
            return self._job_tokens
        # As the service counts tokens, by the jobs that it has answered.
        room = max(0, int(limit / self._token_ratio) - sum(entry.tokens for entry in self.open))
        return room if self._job_tokens is None else min(room, self._job_tokens)

    @property
    def _token_ratio(self) -> float:
        """How many tokens the service counts for an estimated one."""
        answered = [entry for entry in self._ledger.jobs if entry.counts.texts == entry.rows > 0]
        estimated = sum(entry.tokens for entry in answered)
        return sum(e.counts.tokens for e in answered) / estimated if estimated else 1.0

    @property
    def texts_ahead(self) -> int:
        """The texts that are in open jobs, or collected and not committed."""
        held = [entry for entry in self._ledger.of_state(LedgerState.COLLECTED) if entry.answers]
        return sum(entry.rows for entry in self.open) + sum(entry.counts.texts for entry in held)

    @property
    def unanswered(self) -> int:
        """The texts that jobs which have ended did not answer; one counts for each of its jobs."""
        ended = self._ledger.of_state(LedgerState.COLLECTED, LedgerState.FAILED)
        return sum(entry.missing for entry in ended)

    def texts_of_jobs(self) -> Keys:
        """Return the keys of the texts that are in open jobs, ascending and distinct."""
        entries = self._ledger.of_state(LedgerState.UPLOADED, LedgerState.CREATED)
        return np.unique(_joined(map(self._ledger.text_keys, entries)))

    def exhausted_texts(self) -> Keys:
        """Return the keys of the texts that too many jobs have not answered."""
        entries = self._ledger.of_state(LedgerState.COLLECTED, LedgerState.FAILED)
        found = _joined(map(self._ledger.unanswered_keys, entries))
        distinct, counts = np.unique(found, return_counts=True)
        exhausted: Keys = distinct[counts >= self._settings.attempts]
        return exhausted

    def reasons(self) -> list[str]:
        """Return why jobs gave no or not all answers, in the order of their planning."""
        ended = self._ledger.of_state(LedgerState.COLLECTED, LedgerState.FAILED)
        return [entry.reason for entry in ended if entry.reason]

    # Submit.

    def recover(self, digest: str) -> None:
        """Find out which jobs exist that an earlier run may have created.

        Jobs for vectors of other settings are cancelled: their dataset was overwritten.

        Args:
            digest: the embedding digest of the dataset.

        Raises:
            CallError: the service cannot be asked.
        """
        for entry in self._ledger.of_state(LedgerState.PLANNED):
            # The job was not created, but its file may be there.
            self._service.delete_file(self._service.file_named(entry.display_name))
            self._ledger.drop(entry)
        for entry in self._ledger.of_state(LedgerState.UPLOADED):
            found = self._look_up(entry)
            if found is not None:
                self._adopt(entry, found)
            elif self._retry.stopped():  # It was not looked for long enough.
                return
            elif not self._keep_answers(entry, "the job is not in its list"):
                self._service.delete_file(
                    entry.file or self._service.file_named(entry.display_name)
                )
                self._ledger.drop(entry)
        self.removal.abandon(
            [
                entry
                for entry in self._ledger.jobs
                if entry.embedding_digest not in ("", digest)
                and entry.state is not LedgerState.CLOSED
            ]
        )
        self._damaged = frozenset(
            entry.display_name
            for entry in self.open
            if not entry.token_bound or self._ledger.text_keys(entry) is None
        )

    def upload(self, file: JobFile, digest: str) -> BatchJob:
        """Enter a job in the ledger and upload its file, which is deleted then.

        Raises:
            CallError: the service does not take the file.
            OutputError: the ledger cannot be written.
        """
        entry = BatchJob(
            display_name=new_name(),
            state=LedgerState.PLANNED,
            rows=len(file.texts),
            tokens=file.tokens,
            file_bytes=file.size_bytes,
            token_bound=file.token_bound,
            contents=digest_of(file.texts),
            embedding_digest=digest,
            planned_at=time.time(),
        )
        self._ledger.add(entry, file.texts)
        name = self._service.upload(file.path, entry.display_name)
        entry = dataclasses.replace(entry, state=LedgerState.UPLOADED, file=name)
        self._ledger.put(entry)
        file.path.unlink(missing_ok=True)
        return entry

    def create(self, entry: BatchJob) -> BatchJob:
        """Create a job exactly once, and return its entry.

        If there is no answer, the job is looked up by its display name.

        Raises:
            QuotaExceeded: the service takes no further job now.
            CallError: it takes none at all, or does not answer.
        """
        may_exist = False

        def attempt() -> BatchJob:
            nonlocal may_exist
            try:
                return self._adopt(entry, self._service.create(entry.file, entry.display_name))
            except (*NO_ANSWER, QuotaExceeded, CallRejected) as error:
                # A job that got no answer may exist, and may be what uses up the quota.
                may_exist = may_exist or isinstance(error, NO_ANSWER)
                found = self._look_up(entry) if may_exist else None
                if found is not None:
                    return self._adopt(entry, found)
                if isinstance(error, CallRejected):
                    return self.fail(entry, error.message)
                raise

        return self._retry.run(attempt, NO_ANSWER)

    def note_refusal(self, entry: BatchJob, error: QuotaExceeded) -> None:
        """Note that the service takes no further job now.

        If this dataset has open jobs, it waits for them.  If not, the job may be larger than the
        quota: its texts go into smaller ones.
        """
        log.log(
            logging.DEBUG if self._was_refused else logging.INFO,
            "the service takes no further batch job now (%s). %s",
            error.message.rstrip("."),
            f"Waiting for {number_of(len(self.open), 'open job')}."
            if self.open
            else "Trying again with smaller jobs: the job may be larger than the quota, or other "
            "jobs of the project use it.",
        )
        self._was_refused = True
        self._refused = bool(self.open)
        if not self.open:
            self._service.delete_file(entry.file)
            self._ledger.drop(entry)
            self._job_tokens = max(1, entry.tokens // 2)
            self._retry.sleep(self._next_delay())

    def _look_up(self, entry: BatchJob) -> RemoteJob | None:
        """Return the job with the display name of an entry; None if the service has none.

        A new job may not be in the service's list yet.  When it was planned says nothing about
        that: the upload of its file may have taken long.  A damaged entry is of an older job.
        """
        for delay in LOOKUP_DELAYS_S if entry.planned_at else LOOKUP_DELAYS_S[:1]:
            self._retry.sleep(min(delay, self._settings.poll_max_s))
            found = self._service.find(entry.display_name, entry.planned_at)
            if found is not None:
                return found
        return None

    def _adopt(self, entry: BatchJob, found: RemoteJob) -> BatchJob:
        self._refused = False
        self._poll_s = min(FIRST_POLL_S, self._settings.poll_max_s)
        created = found.created_at or time.time()
        entry = dataclasses.replace(
            entry,
            state=LedgerState.CREATED,
            file=entry.file or self._service.file_named(entry.display_name),
            planned_at=entry.planned_at or created,
            job=found.name,
            created_at=created,
        )
        self._ledger.put(entry)
        return entry

    # Wait.

    def cancel(self) -> None:
        """Cancel all jobs, and those that were never created."""
        self.removal.abandon(self._ledger.of_state(LedgerState.UPLOADED))
        for entry in self.open:
            self._service.cancel(entry.job)

    def wait(self, until: float) -> bool:
        """Wait until a job has ended, the run must end, or it is late.

        Args:
            until: when it is late, in epoch seconds; a job is looked at once even then.

        Returns:
            Whether a job has ended.
        """
        while not self._retry.stopped():
            delay = min(self._next_delay(), max(STEP_S, until - time.time()))
            self._log_wait(delay)
            self._retry.sleep(delay)
            if self._retry.stopped():
                break
            before = len(self.open)
            self._poll()
            if self._ended or len(self.open) < before:
                self._poll_s = min(FIRST_POLL_S, self._settings.poll_max_s)
                return True
            if time.time() >= until:
                break
        return False

    def _log_wait(self, delay_s: float) -> None:
        """Log what is waited for, at most every few minutes: a run may wait for a day."""
        now = time.monotonic()
        if not self.open or now < self._log_at:
            return
        self._log_at = now + LOG_EVERY_S
        age_s = time.time() - min(entry.created_at or entry.planned_at for entry in self.open)
        log.info(
            "waiting for %s with %s, the oldest for %s; next look in %s",
            number_of(len(self.open), "batch job"),
            number_of(sum(entry.rows for entry in self.open), "text"),
            duration(max(0.0, age_s)), duration(delay_s),
        )  # fmt: skip

    def take_ended(self) -> Iterator[tuple[BatchJob, RemoteJob]]:
        """Yield the jobs that have ended with results, each once."""
        if not self._ended:
            self._poll()
        while self._ended:
            yield self._ended.pop(0)

    def _poll(self) -> None:
        """Look at each open job once."""
        for entry in self.open:
            if self._retry.stopped():
                return
            found = self._service.get(entry.job)
            if found is None:
                self.fail(entry, "the job vanished at the service")
            elif found.state.is_over:
                self._refused = False
                if found.results:
                    self._ended.append((entry, found))
                else:
                    self.fail(entry, why_no_results(found) or "the job ended without results")

    def fail(self, entry: BatchJob, reason: str) -> BatchJob:
        """Note that a job gives no answers: its texts go into another one.

        If the dataset has its answers already, they are kept.
        """
        kept = self._keep_answers(entry, reason)
        if kept is not None:
            return kept
        log.warning("batch job %s gave no answers: %s", entry.display_name, reason)
        self._refused = False
        failed = dataclasses.replace(
            entry, state=LedgerState.FAILED, reason=reason, ended_at=time.time(), missing=entry.rows
        )
        failed = self.removal.delete_remote(failed)
        self._ledger.put(failed)
        return failed

    def _keep_answers(self, entry: BatchJob, reason: str) -> BatchJob | None:
        """Note that the dataset has the answers of a job that the service lost, if it has any."""
        kept = collected_before(self._ledger, entry)
        if kept is None:
            return None
        log.warning(
            "batch job %s: the service has no answers any more (%s). Those that were collected "
            "before are kept, for %s. Their cost is %s.",
            entry.display_name, reason.rstrip("."), number_of(kept.counts.texts, "text"),
            "estimated" if entry.tokens else "not known, and counts as 0",
        )  # fmt: skip
        self._refused = False
        file = entry.file or self._service.file_named(entry.display_name)
        kept = dataclasses.replace(kept, file=file)
        self._ledger.put(kept)
        return kept

    def _next_delay(self) -> float:
        delay = self._poll_s * random.uniform(0.8, 1.2)
        self._poll_s = min(self._poll_s * POLL_GROWTH, self._settings.poll_max_s)
        return delay


def _joined(found: Iterable[Keys | None]) -> Keys:
    """Return the keys of several jobs; None for those of a job whose list is lost."""
    return np.concatenate([np.empty(0, np.uint64), *(keys for keys in found if keys is not None)])


def why_no_results(job: RemoteJob) -> str:
    """Return why a job that is over has no results; empty if the service does not say."""
    return job.reason or _ENDS.get(job.state, "")


_ENDS = {
    RemoteState.FAILED: "the job failed",
    RemoteState.EXPIRED: "the job expired before it was done",
    RemoteState.CANCELLED: "the job was cancelled",
}
