"""End batch jobs: those that failed, and those that are no longer needed, with their files."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from bulkembed.pipeline.batch.collect import collected_before, read_cost
from bulkembed.pipeline.logs import log
from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.clients.batch_service import BatchService
from bulkembed.transforms.clients.remote_jobs import RemoteJob, RemoteState
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.dataset.batch_ledger import BatchLedger

CANCEL_WAIT_S, CANCEL_POLL_S = 30.0, 1.0
"""How long jobs that nobody needs may take to be cancelled, and how often they are looked at."""


@dataclasses.dataclass(frozen=True, slots=True)
class JobEnd:
    """Notes the end of jobs in the ledger, with their cost, and removes what they leave."""

    service: BatchService
    ledger: BatchLedger
    """The ledger of the dataset."""
    settings: BatchConfig
    """Whether files are kept, and intervals."""
    retry: RetryPolicy
    """How calls are repeated, and whether the run must end."""
    max_tokens: int
    """The most tokens of one text, by the model."""
    content_noun: str
    """What is sent for a row, in messages."""

    def token_bound(self, entry: BatchJob) -> int:
        """Return how many tokens a job can cost at most; 0 if nothing is known about its texts."""
        return entry.token_bound or entry.rows * self.max_tokens

    def unconfirmed(self, entry: BatchJob, found: RemoteJob | None) -> int:
        """Return how many tokens a job may have cost whose results are lost.

        Args:
            entry: the job in the ledger.
            found: the job at the service; None if it is gone.
        """
        bound = self.token_bound(entry)
        if found is None or not found.state.is_over:
            return bound
        if found.done is None:
            return 0 if found.state is RemoteState.FAILED else bound
        return min(bound, (found.done - (found.failed or 0)) * self.max_tokens)

    def abandon(self, entries: Sequence[BatchJob]) -> None:
        """Cancel jobs whose answers nobody needs any more, and delete what they have.

        Answers that the service has already are billed, so they count.

        Raises:
            CallError: the service cannot be asked.
        """
        created = [entry for entry in entries if entry.state is LedgerState.CREATED]
        for entry in created:
            log.warning("batch job %s is no longer needed. It is cancelled.", entry.display_name)
            self.service.cancel(entry.job)
        until = time.monotonic() + CANCEL_WAIT_S
        for entry in entries:
            if entry in created:
                entry = self._with_cost(entry, until)
                if self.retry.stopped():  # Its end was not waited for: the next run does that.
                    return
            entry = self.delete_remote(dataclasses.replace(entry, reason="no longer needed"))
            self.ledger.close(entry)

    def _with_cost(self, entry: BatchJob, until: float) -> BatchJob:
        """Return the entry of a cancelled job with what it cost, and its results.

        Args:
            entry: the job.
            until: how long to wait for its end, by the monotonic clock.
        """
        found = self.service.get(entry.job)
        while found and not found.state.is_over and time.monotonic() < until:
            if self.retry.stopped():
                break
            self.retry.sleep(min(CANCEL_POLL_S, self.settings.poll_max_s))
            found = self.service.get(entry.job)
        results = found.results if found and found.state.is_over else ()
        counts = read_cost(self.service, entry, found) if found and results else None
        unconfirmed = 0 if counts is not None else self.unconfirmed(entry, found)
        _log_unconfirmed(entry, unconfirmed)
        return dataclasses.replace(
            entry,
            results=results,
            counts=counts or CallCounts(),
            unconfirmed=unconfirmed,
            ended_at=time.time(),
        )

    def finish(self) -> None:
        """Close all jobs of a complete dataset, with what is left of them here and at the service.

        Raises:
            CallError: the service cannot be asked.
        """
        self.abandon(self.ledger.of_state(LedgerState.UPLOADED, LedgerState.CREATED))
        for entry in self.ledger.of_state(LedgerState.COLLECTED, LedgerState.FAILED):
            self.ledger.close(self.delete_remote(entry))

    def fail(self, entry: BatchJob, reason: str, found: RemoteJob | None) -> BatchJob:
        """Note that a job gives no answers: its texts go into another one.

        If the dataset has its answers already, they are kept.

        Args:
            entry: the job in the ledger.
            reason: why it gives none.
            found: the job at the service; None if it is gone.
        """
        kept = self.keep_answers(entry, reason)
        if kept is not None:
            return kept
        unconfirmed = self.unconfirmed(entry, found)
        failed = self.reject(dataclasses.replace(entry, unconfirmed=unconfirmed), reason)
        _log_unconfirmed(entry, unconfirmed)
        return failed

    def reject(self, entry: BatchJob, reason: str) -> BatchJob:
        """Note that a job could not be created, or gave no answers."""
        log.warning("batch job %s gave no answers: %s", entry.display_name, reason)
        failed = dataclasses.replace(
            entry, state=LedgerState.FAILED, reason=reason, ended_at=time.time(), missing=entry.rows
        )
        failed = self.delete_remote(failed)
        self.ledger.put(failed)
        return failed

    def lose(self, entry: BatchJob) -> None:
        """Close a job with a damaged entry, of which nobody has answers.

        It may have been created, and its answers may be committed.
        """
        unconfirmed, now = self.token_bound(entry), time.time()
        _log_unconfirmed(entry, unconfirmed)
        lost = dataclasses.replace(
            entry,
            reason="its entry in the ledger was damaged, and the service does not have it",
            file=self.service.file_named(entry.display_name),
            unconfirmed=unconfirmed,
            planned_at=now,
            ended_at=now,
        )
        self.ledger.close(self.delete_remote(lost))

    def keep_answers(self, entry: BatchJob, reason: str) -> BatchJob | None:
        """Note that the dataset has the answers of a job that the service lost, if it has any."""
        kept = collected_before(self.ledger, entry)
        if kept is None:
            return None
        log.warning(
            "batch job %s: the service has no answers any more (%s). Those that were collected "
            "before are kept, for %s.",
            entry.display_name, reason.rstrip("."), number_of(kept.counts.texts, self.content_noun),
        )  # fmt: skip
        at_most = min(self.token_bound(entry), kept.counts.texts * self.max_tokens)
        kept = dataclasses.replace(
            kept,
            file=entry.file or self.service.file_named(entry.display_name),
            unconfirmed=max(0, at_most - kept.counts.tokens),
        )
        _log_unconfirmed(kept, kept.unconfirmed)
        self.ledger.put(kept)
        return kept

    def delete_remote(self, entry: BatchJob) -> BatchJob:
        """Delete the files of a job, and the job, at the service, unless they are to be kept.

        Returns:
            The entry without the files.
        """
        files = [name for name in (entry.file, *entry.results) if name]
        if self.settings.keep_remote_files or not files:
            return entry
        for name in files:
            self.service.delete_file(name)
        if entry.job:
            self.service.delete_job(entry.job)
        return dataclasses.replace(entry, file="", results=())


def _log_unconfirmed(entry: BatchJob, tokens: int) -> None:
    if tokens or entry.is_damaged:
        log.warning(
            "batch job %s: what it cost is not known. It counts with %s.",
            entry.display_name,
            f"at most {number_of(tokens, 'token')} more" if tokens else "0",
        )


def why_no_results(job: RemoteJob) -> str:
    """Return why a job that is over has no results; empty if the service does not say."""
    return job.reason or _ENDS.get(job.state, "")


_ENDS = {
    RemoteState.FAILED: "the job failed",
    RemoteState.EXPIRED: "the job expired before it was done",
    RemoteState.CANCELLED: "the job was cancelled",
}
