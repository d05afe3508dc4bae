"""`bulkembed batches`: the batch jobs of a dataset, by its ledger, and their cancellation."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from bulkembed.pipeline.batch.open_jobs import OpenJobs
from bulkembed.pipeline.run.life_cost import pinned_noun, pinned_price
from bulkembed.pipeline.run.request import RunRequest
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.prices import Price
from bulkembed.transforms.clients.batch_service import open_batch_service
from bulkembed.transforms.clients.keys import find_key
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.dataset import output_lock, run_file
from bulkembed.transforms.dataset.batch_ledger import BatchLedger
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.output_lock import LockOwner


@dataclasses.dataclass(frozen=True, slots=True)
class ListedJob:
    """A batch job as it is shown."""

    name: str
    """Its display name at the service."""
    state: LedgerState
    age_s: float
    """Since it was planned, until it ended or until now."""
    texts: int
    tokens: int
    """As the service counted them; estimated for an open job. Tokens of media count as the tokens
    of text that cost the same."""
    unconfirmed_tokens: int
    """How many of `tokens` may not have been billed, because the answers are lost."""
    usd: float | None
    """What its answers cost, or may cost; None if the price is not known."""
    job: str
    """Its name at the service; empty if it was not created."""
    reason: str

    @classmethod
    def of(cls, entry: BatchJob, price: Price | None, now: float) -> ListedJob:
        """Return the line of an entry of the ledger."""
        has_ended = entry.ended_at is not None
        tokens = entry.paid_tokens if has_ended else entry.billed_tokens
        return cls(
            name=entry.display_name,
            state=entry.state,
            age_s=(entry.ended_at or now) - entry.planned_at,
            texts=entry.rows,
            tokens=tokens,
            unconfirmed_tokens=entry.unconfirmed,
            usd=None if price is None else price.batch_usd(tokens),
            job=entry.job,
            reason=entry.reason,
        )


def noun_of(output: str) -> str:
    """Return what the jobs of a dataset embed for a row, in messages.

    Raises:
        ConfigError: there is no dataset.
    """
    return pinned_noun(run_file.read(Dataset.open(output)))


def list_jobs(output: str) -> list[ListedJob]:
    """Return the batch jobs of the dataset at a path or URI, in the order of their planning.

    Raises:
        ConfigError: there is no dataset.
        OutputError: the ledger cannot be read.
    """
    dataset = Dataset.open(output)
    price, now = pinned_price(run_file.read(dataset)), time.time()
    return [ListedJob.of(entry, price, now) for entry in BatchLedger(dataset).jobs]


def cancel_jobs(output: str, request: RunRequest) -> int:
    """Cancel the open batch jobs of a dataset, and return how many there were.

    Answers that the service has already are collected by the next run.

    Args:
        output: the dataset.
        request: the run that made it, for its service.

    Raises:
        ConfigError: there is no dataset, or no key.
        OutputLocked: a run is writing it.
        CallError: the service cannot be asked.
    """
    dataset = Dataset.open(output)
    key, _ = find_key(request.service)
    run_id = run_file.new_run_id("batches-")
    with output_lock.acquire(dataset, LockOwner(run_id, "bulkembed batches")):
        retry = RetryPolicy(request.calls.retry_timeout_s)
        service = open_batch_service(
            request.service, request.embedding, key, request.batch.bucket, retry
        )
        try:
            ledger = BatchLedger(dataset)
            jobs = OpenJobs(service, ledger, request.batch, retry, request.embedding)
            jobs.recover(run_file.read(dataset)["embedding_digest"])
            jobs.cancel()
            return len(jobs.open)
        finally:
            service.close()


def as_json(jobs: list[ListedJob]) -> list[dict[str, Any]]:
    """Return plain values."""
    return [dataclasses.asdict(job) for job in jobs]
