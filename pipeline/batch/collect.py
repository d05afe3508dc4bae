"""Collect the answers of a batch job that has ended."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bulkembed.pipeline.batch.batch_workers import BatchWorkers
from bulkembed.pipeline.logs import log
from bulkembed.schemas.errors import CallRejected
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.batch.collected import ResultFacts, collect_results
from bulkembed.transforms.batch.results import billed_counts, estimated_tokens
from bulkembed.transforms.batch.task_outcomes import TaskOutcome
from bulkembed.transforms.clients.batch_service import BatchService
from bulkembed.transforms.clients.remote_jobs import MISSING_FILE, RemoteJob
from bulkembed.transforms.core.hashing import among
from bulkembed.transforms.dataset.batch_answers import (
    answered_texts,
    answers_name,
    rejected_by,
)
from bulkembed.transforms.dataset.batch_ledger import NO_TEXTS, BatchLedger


class Collector:
    """Collects the answers of jobs that have ended, and enters them in the ledger.

    A kill at any moment costs another download: the entry of a job is written last.

    Args:
        ledger: the ledger of the dataset.
        service: has the results.
        job: the run.
        folder: on a local disk, for downloads.
        workers: those of a cluster, which download and decode the results; None: this process does.
    """

    def __init__(
        self,
        ledger: BatchLedger,
        service: BatchService,
        job: JobConfig,
        folder: Path,
        workers: BatchWorkers | None,
    ) -> None:
        self._ledger, self._service = ledger, service
        self._job, self._folder, self._workers = job, folder, workers

    def by_workers(
        self, ended: Sequence[tuple[BatchJob, RemoteJob]]
    ) -> dict[str, TaskOutcome[ResultFacts]]:
        """Let the workers collect jobs; return what they have done, by display name.

        Raises:
            OutputError: the dataset cannot be read or written.
        """
        return self._workers.collect(ended) if self._workers is not None else {}

    def collect(
        self, entry: BatchJob, remote: RemoteJob, outcome: TaskOutcome[ResultFacts] | None
    ) -> BatchJob:
        """Collect the answers of a job, if no worker has, and return its entry.

        Args:
            entry: the job in the ledger.
            remote: the job at the service.
            outcome: what a worker has done.

        Raises:
            CallError: the results cannot be downloaded.
            OutputError: a disk is full.
        """
        ledger = self._ledger
        if outcome is not None and outcome.facts is not None:
            facts, missing = outcome.facts, outcome.texts
        else:
            facts, missing = collect_results(
                ledger.dataset, self._service, entry, remote, self._job, self._folder
            )
        if len(missing):
            ledger.write_missing(entry, missing)
        done = dataclasses.replace(
            entry,
            state=LedgerState.COLLECTED,
            results=remote.results,
            run_number=self._job.run_number,
            ended_at=time.time(),
            reason=facts.reason,
            counts=facts.counts,
            failed=facts.failed,
            missing=len(missing),
            answers=facts.answers,
        )
        ledger.put(done)
        _log(done, facts, self._job.embedding.content_noun)
        return done


def collected_before(ledger: BatchLedger, entry: BatchJob) -> BatchJob | None:
    """Return the entry of a job whose answers are in the dataset already; None if none are.

    Its entry in the ledger does not say so: it is damaged, or the run that collected them was
    killed before it wrote the entry. What the job cost is estimated by its entry.

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


def _log(done: BatchJob, facts: ResultFacts, noun: str) -> None:
    log.info(
        "batch job %s: %s answered, %s",
        done.display_name, number_of(done.counts.texts, noun),
        number_of(done.counts.tokens, "token"),
    )  # fmt: skip
    for count, words in (
        (done.failed, "rejected by the service"),
        (done.missing, f"without an answer{f': {done.reason}' if done.reason else ''}"),
    ):
        if count:
            log.warning("batch job %s: %s %s", done.display_name, number_of(count, noun), words)
    for count, words in (
        (facts.foreign, f"with the key of no {noun} of the job"),
        (facts.repeated, "with the key of an earlier line"),
    ):
        if count:
            lines = number_of(count, "line")
            log.warning("batch job %s: ignored %s %s", done.display_name, lines, words)
