"""Download the results of a batch job, and write its answers into the dataset."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import BatchJob
from bulkembed.schemas.output_schema import part_metadata
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.batch.results import ResultReader
from bulkembed.transforms.clients.batch_service import BatchService
from bulkembed.transforms.clients.remote_jobs import RemoteJob
from bulkembed.transforms.dataset.batch_answers import write_answers, write_rejected
from bulkembed.transforms.dataset.batch_ledger import NO_TEXTS, JobTexts, read_job_texts
from bulkembed.transforms.dataset.dataset import Dataset


@dataclasses.dataclass(frozen=True, slots=True)
class ResultFacts:
    """What the results of a job had."""

    counts: CallCounts = dataclasses.field(default_factory=CallCounts)
    """What the job cost."""
    failed: int = 0
    """Texts that the service rejected."""
    reason: str = ""
    """Why texts got no answer, in the service's words; empty if all did."""
    answers: str = ""
    """The file with the vectors, within the dataset; empty if there are none."""
    foreign: int = 0
    """Lines with the key of no text of the job."""
    repeated: int = 0
    """Lines with a key that an earlier line had."""


def collect_results(
    dataset: Dataset,
    service: BatchService,
    entry: BatchJob,
    remote: RemoteJob,
    job: JobConfig,
    folder: Path,
) -> tuple[ResultFacts, JobTexts]:
    """Download the results of a job, and write its answers; the ledger is not written.

    It may be repeated: the files that it writes are named after the job.

    Args:
        dataset: the dataset.
        service: has the results.
        entry: the job in the ledger.
        remote: the job at the service.
        job: the run.
        folder: on a local disk, for the download.

    Returns:
        What was found, and the texts without an answer.

    Raises:
        CallError: the results cannot be downloaded.
        OutputError: a disk is full.
    """
    path = folder / f"{entry.display_name}.results"
    try:
        service.download(remote, path)
        reader = ResultReader(path, entry, read_job_texts(dataset, entry), job.embedding)
        metadata = part_metadata(job.embedding, job.version, job.embedding.out_dim)
        answers = write_answers(dataset, entry, reader.blocks(), metadata)
    finally:
        path.unlink(missing_ok=True)
    if reader.rejected:
        write_rejected(dataset, entry, reader.rejected)
    facts = ResultFacts(
        reader.counts,
        len(reader.rejected),
        _reason(remote, reader),
        answers,
        reader.foreign,
        reader.repeated,
    )
    missing = reader.missing
    return facts, NO_TEXTS if missing is None else missing


def _reason(remote: RemoteJob, reader: ResultReader) -> str:
    """Return why texts got no answer, in the service's words; empty if all did."""
    if reader.errors:
        return max(reader.errors, key=lambda words: reader.errors[words])
    return remote.reason
