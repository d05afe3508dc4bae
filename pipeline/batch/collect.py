"""Collect the answers of a batch job that has ended."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np

from bulkembed.pipeline.batch.results import ResultReader, billed_counts, estimated_tokens
from bulkembed.pipeline.logs import log
from bulkembed.schemas.errors import CallRejected
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.output_schema import part_metadata
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.clients.batch_service import BatchService
from bulkembed.transforms.clients.remote_jobs import MISSING_FILE, RemoteJob
from bulkembed.transforms.core.hashing import among
from bulkembed.transforms.dataset.batch_answers import (
    answered_texts,
    answers_name,
    rejected_by,
    write_answers,
    write_rejected,
)
from bulkembed.transforms.dataset.batch_ledger import NO_TEXTS, BatchLedger
from bulkembed.transforms.dataset.dataset import Dataset


def collect(
    dataset: Dataset,
    ledger: BatchLedger,
    service: BatchService,
    entry: BatchJob,
    remote: RemoteJob,
    job: JobConfig,
    folder: Path,
) -> BatchJob:
    """Download the results of a job, write its answers, and return its entry.

    A kill at any moment costs another download: the entry is written last.

    Args:
        dataset: the dataset.
        ledger: its ledger.
        service: has the results.
        entry: the job in the ledger.
        remote: the job at the service.
        job: the run.
        folder: on a local disk, for the download.

    Raises:
        CallError: the results cannot be downloaded.
        OutputError: a disk is full.
    """
    path = folder / "batch-results.jsonl"
    path.unlink(missing_ok=True)
    service.download(remote, path)
    texts = ledger.texts(entry)
    reader = ResultReader(path, entry, texts, job.embedding)
    metadata = part_metadata(job.embedding, job.version, job.embedding.out_dim)
    answers = write_answers(dataset, entry, reader.blocks(), metadata)
    path.unlink()
    if reader.rejected:
        write_rejected(dataset, entry, reader.rejected)
    missing = reader.missing
    if missing is not None and len(missing):
        ledger.write_missing(entry, missing)
    done = dataclasses.replace(
        entry,
        state=LedgerState.COLLECTED,
        results=remote.results,
        run_number=job.run_number,
        ended_at=time.time(),
        reason=_reason(remote, reader),
        counts=reader.counts,
        failed=len(reader.rejected),
        missing=0 if missing is None else len(missing),
        answers=answers,
    )
    ledger.put(done)
    _log(done, reader)
    return done


def collected_before(ledger: BatchLedger, entry: BatchJob) -> BatchJob | None:
    """Return the entry of a job whose answers are in the dataset already; None if none are.

    Its entry in the ledger does not say so: it is damaged, or the run that collected them was
    killed before it wrote the entry.  What the job cost is estimated by its entry.

    Raises:
        OutputError: the answers cannot be read, or the ledger cannot be written.
    """
    answered = answered_texts(ledger.dataset, entry)
    if answered is None:
        return None
    texts, rejected = ledger.texts(entry), rejected_by(ledger.dataset, entry)
    missing = NO_TEXTS
    if texts is not None:
        missing = texts[~among(texts["key"], np.union1d(answered, rejected))]
    if len(missing):
        ledger.write_missing(entry, missing)
    count, now = len(answered), time.time()
    tokens = estimated_tokens(entry, count)
    return dataclasses.replace(
        entry,
        state=LedgerState.COLLECTED,
        planned_at=entry.planned_at or now,
        ended_at=now,
        counts=CallCounts(texts=count, tokens=tokens, repeated=-count),
        failed=len(rejected),
        missing=len(missing),
        answers=answers_name(entry),
    )


def read_cost(service: BatchService, entry: BatchJob, remote: RemoteJob) -> CallCounts | None:
    """Return what a job cost whose vectors nobody needs; None if the service has no results of it.

    Raises:
        CallError: the results cannot be downloaded.
        OutputError: the disk is full.
    """
    with tempfile.TemporaryDirectory(prefix="bulkembed-") as folder:
        path = Path(folder) / "batch-results.jsonl"
        try:
            service.download(remote, path)
        except CallRejected as error:
            if error.code != MISSING_FILE:
                raise
            return None
        return billed_counts(path, entry)


def _reason(remote: RemoteJob, reader: ResultReader) -> str:
    """Return why texts got no answer, in the service's words; empty if all did."""
    if reader.errors:
        return max(reader.errors, key=lambda words: reader.errors[words])
    return remote.reason


def _log(done: BatchJob, reader: ResultReader) -> None:
    log.info(
        "batch job %s: %s answered, %s",
        done.display_name, number_of(done.counts.texts, "text"),
        number_of(done.counts.tokens, "token"),
    )  # fmt: skip
    for count, words in (
        (done.failed, "rejected by the service"),
        (done.missing, f"without an answer{f': {done.reason}' if done.reason else ''}"),
    ):
        if count:
            log.warning("batch job %s: %s %s", done.display_name, number_of(count, "text"), words)
    for count, words in (
        (reader.foreign, "with the key of no text of the job"),
        (reader.repeated, "with the key of an earlier line"),
    ):
        if count:
            lines = number_of(count, "line")
            log.warning("batch job %s: ignored %s %s", done.display_name, lines, words)
