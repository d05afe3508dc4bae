"""The batch jobs of a dataset that are open: their texts, how many more fit, and their end."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Iterator

import numpy as np

from bulkembed.pipeline.batch.job_creation import JobCreation
from bulkembed.pipeline.batch.job_end import JobEnd, why_no_results
from bulkembed.pipeline.estimate.result import duration
from bulkembed.pipeline.logs import log
from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import QuotaExceeded
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.batch.job_files import check_room
from bulkembed.transforms.batch.run_stop import STEP_S
from bulkembed.transforms.clients.batch_service import BatchService
from bulkembed.transforms.clients.remote_jobs import RemoteJob
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.core.hashing import Keys
from bulkembed.transforms.dataset.batch_ledger import BatchLedger

MAX_OPEN_JOBS = 100
"""Source: ai.google.dev/gemini-api/docs/rate-limits (batch), 2026-11."""
FIRST_POLL_S = 2.0
POLL_GROWTH = 1.5
LOG_EVERY_S = 300.0


class OpenJobs:
    """The jobs that the service has, or may have.

    Args:
        service: the service.
        ledger: the ledger of the dataset.
        settings: limits and intervals.
        retry: how calls are repeated, and whether the run must end.
        embedding: what the texts of jobs are, and how many tokens each can cost.

    Attributes:
        creation: creates jobs.
        end: ends them.
        looks_at: when `wait` looks at the jobs again, in epoch seconds; None outside of it.
    """

    def __init__(
        self,
        service: BatchService,
        ledger: BatchLedger,
        settings: BatchConfig,
        retry: RetryPolicy,
        embedding: EmbeddingConfig,
    ) -> None:
        self._service = service
        self._ledger = ledger
        self._settings = settings
        self._retry = retry
        self.content_noun = embedding.content_noun
        self.end = JobEnd(
            service, ledger, settings, retry, embedding.max_billed_tokens, embedding.content_noun
        )
        self.creation = JobCreation(service, ledger, retry, self.end)
        self._poll_s = FIRST_POLL_S
        self._polled: tuple[str, ...] = ()
        """The names of the open jobs that are looked at ever more seldom."""
        self._ended: list[tuple[BatchJob, RemoteJob]] = []
        self._refused = self._was_refused = False
        self._log_at = float("-inf")
        self._job_tokens: int | None = None
        """The maximum tokens of a job, learned from refusals of the only job."""
        self.looks_at: float | None = None
        self._damaged: frozenset[str] = frozenset()
        """The display names of open jobs whose texts or costs the ledger has lost."""

    @property
    def open(self) -> tuple[BatchJob, ...]:
        """The jobs whose answers may still come."""
        return self._ledger.of_state(LedgerState.CREATED)

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
        limits = [one for one in (self._limit_room, self._job_tokens) if one is not None]
        return min(limits, default=None)

    @property
    def _limit_room(self) -> int | None:
        """How many tokens `--enqueued-tokens` leaves; None for any number."""
        limit = self._settings.enqueued_tokens
        if limit is None:
            return None
        # As the service counts tokens, by the jobs that it has answered.
        return max(0, int(limit / self._token_ratio) - sum(entry.tokens for entry in self.open))

    def make_room(self, tokens: int) -> None:
        """Make room for a job of one text, which no refusal forbids; no job is open.

        Args:
            tokens: of the text.

        Raises:
            ConfigError: `--enqueued-tokens` leaves no room for it.
        """
        if self._limit_room is not None:
            check_room(tokens, self._limit_room)
        if self._job_tokens is not None:
            self._job_tokens = max(self._job_tokens, tokens)

    @property
    def enqueued_tokens(self) -> int:
        """The tokens of open jobs, about as the service counts them."""
        return round(self._token_ratio * sum(entry.tokens for entry in self.open))

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
        self.creation.recover()
        if self._retry.stopped():  # It may not know all jobs.
            return
        self.end.abandon(
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

    def note_refusal(self, entry: BatchJob, error: QuotaExceeded) -> None:
        """Note that the service takes no further job now.

        If this dataset has open jobs, it waits for them. If not, the job may be larger than the
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
            if self._settings.detach:  # The run is to leave soon.
                self._poll_s = FIRST_POLL_S
            self._retry.sleep(self._next_delay())

    def note_creation(self, entry: BatchJob) -> None:
        """Note that the service has taken a job: the next one may be larger again."""
        if self._job_tokens is not None:
            self._job_tokens = max(self._job_tokens, 2 * entry.tokens)

    # Wait.

    def cancel(self) -> None:
        """Cancel all jobs, and those that were never created."""
        self.end.abandon(self._ledger.of_state(LedgerState.UPLOADED))
        for entry in self.open:
            self._service.cancel(entry.job)
        self._poll_s = FIRST_POLL_S

    def leave(self) -> None:
        """Wait for no open job any more: what they answer is lost, and may be billed.

        Raises:
            CallError: the service cannot be asked.
        """
        for entry in self.open:
            self.end.fail(entry, "it was cancelled, and did not end", None)

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
            self.looks_at = time.time() + delay
            self._retry.sleep(delay)
            self.looks_at = None
            if self._retry.stopped():
                break
            before = len(self.open)
            self._poll()
            if self._ended or len(self.open) < before:
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
            number_of(sum(entry.rows for entry in self.open), self.content_noun),
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
            if found is not None and not found.state.is_over:
                continue
            self._refused = False
            if found is None:
                self.end.fail(entry, "the job vanished at the service", None)
            elif found.results:
                self._ended.append((entry, found))
            else:
                reason = why_no_results(found) or "the job ended without results"
                self.end.fail(entry, reason, found)

    def _next_delay(self) -> float:
        names = tuple(entry.display_name for entry in self.open)
        if names != self._polled:
            self._polled, self._poll_s = names, FIRST_POLL_S
        seconds = min(self._poll_s, self._settings.poll_max_s)
        self._poll_s = seconds * POLL_GROWTH
        return seconds * random.uniform(0.8, 1.2)


def _joined(found: Iterable[Keys | None]) -> Keys:
    """Return the keys of several jobs; None for those of a job whose list is lost."""
    return np.concatenate([np.empty(0, np.uint64), *(keys for keys in found if keys is not None)])
