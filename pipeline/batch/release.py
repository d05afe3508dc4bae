"""The answers of batch jobs that rows have: delete them once committed, and count the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bulkembed.pipeline.batch.open_jobs import OpenJobs
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.transforms.core.hashing import Keys, among
from bulkembed.transforms.dataset.batch_answers import rejected_keys
from bulkembed.transforms.dataset.batch_ledger import BatchLedger
from bulkembed.transforms.dataset.committed_vectors import committed_index


def release_committed(jobs: OpenJobs, ledger: BatchLedger, job: JobConfig, folder: Path) -> None:
    """Delete the answers whose rows are all committed, and their files at the service.

    Args:
        jobs: the jobs at the service.
        ledger: the ledger of the dataset.
        job: the run.
        folder: on a local disk.

    Raises:
        CallError: the service cannot be asked.
        OutputError: the dataset cannot be read or written.
    """
    for entry, uncommitted in _uncommitted(ledger, job, folder):
        if not len(uncommitted):
            released = jobs.end.delete_remote(entry)
            ledger.put(dataclasses.replace(released, answers=""))
            ledger.dataset.delete([entry.answers])


def unused_answers(ledger: BatchLedger, job: JobConfig, folder: Path) -> int:
    """Return how many answers no row of a complete dataset has.

    Args:
        ledger: the ledger of the dataset.
        job: the run.
        folder: on a local disk.

    Raises:
        OutputError: the dataset cannot be read.
    """
    return sum(len(keys) for _, keys in _uncommitted(ledger, job, folder))


def _uncommitted(
    ledger: BatchLedger, job: JobConfig, folder: Path
) -> Iterator[tuple[BatchJob, Keys]]:
    """Yield each job whose answers are kept, and the keys of the texts that no row has yet."""
    held = [entry for entry in ledger.of_state(LedgerState.COLLECTED) if entry.answers]
    if not held:
        return
    dataset = ledger.dataset
    rejected = rejected_keys(dataset)
    index = committed_index(dataset, dataset.state().records, job.digest, folder, keep=True)
    for entry in held:
        texts, missing = ledger.text_keys(entry), ledger.unanswered_keys(entry)
        if texts is None or missing is None:
            continue
        answered = np.setdiff1d(texts, missing, assume_unique=True)
        wanted = answered[~among(answered, rejected)]
        yield entry, np.delete(wanted, index.find(wanted).wanted)
