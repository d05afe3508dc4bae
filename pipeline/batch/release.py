"""Delete the answers of batch jobs whose rows are committed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from bulkembed.pipeline.batch.open_jobs import OpenJobs
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import LedgerState
from bulkembed.transforms.core.hashing import among
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
        if len(index.find(wanted).wanted) == len(wanted):
            released = jobs.end.delete_remote(entry)
            ledger.put(dataclasses.replace(released, answers=""))
            dataset.delete([entry.answers])
