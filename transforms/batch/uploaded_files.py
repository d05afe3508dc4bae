"""Write the file of a batch job from a list of texts, and upload it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import SharedSlice
from bulkembed.transforms.batch.job_files import job_contents, write_job_file
from bulkembed.transforms.clients.batch_service import BatchService
from bulkembed.transforms.dataset.batch_ledger import NO_TEXTS, JobTexts
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.picks_file import read_picks
from bulkembed.transforms.units.damaged_files import skip_damage


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FileTask:
    """A job file that a worker writes and uploads."""

    name: str
    """The display name of the job, and the name of the file at the service."""
    texts: SharedSlice
    """As many as a job may have; its limits of bytes and tokens may leave some for another job."""
    room: int | None
    """How many tokens it may have; None for any number."""


@dataclasses.dataclass(frozen=True, slots=True)
class FileFacts:
    """What a job file has."""

    file: str = ""
    """Its name at the service; empty if none was uploaded, because no text fits or is left."""
    tokens: int = 0
    """Estimated."""
    token_bound: int = 0
    """What its texts can cost at most."""
    size_bytes: int = 0
    next_tokens: int | None = None
    """The tokens of the first text that did not fit; None if none is left."""


def upload_job_file(
    dataset: Dataset,
    service: BatchService,
    task: FileTask,
    job: JobConfig,
    settings: BatchConfig,
    folder: Path,
) -> tuple[FileFacts, JobTexts]:
    """Write the file of a job, and upload it; the ledger is not written.

    It may be repeated: the same file under the same name is not sent again.

    Args:
        dataset: the dataset, which has the list of texts.
        service: gets the file.
        task: names the file and its texts.
        job: the run.
        settings: the limits of a job.
        folder: on a local disk, for the file.

    Returns:
        What the file has, and its texts.

    Raises:
        CallError: the service does not take the file.
        InputError: a file cannot be read, or has changed.
        OutputError: the list cannot be read, or the disk is full.
    """
    picks = read_picks(dataset, job.run_id, task.texts)
    contents = job_contents(picks, job, lambda file, rows: skip_damage(dataset, job, file, rows))
    path = folder / f"{task.name}.jsonl"
    try:
        written = write_job_file(path, contents, job, settings, task.room)
        following = contents.peek()
        next_tokens = None if following is None else following.tokens
        if written is None:
            return FileFacts(next_tokens=next_tokens), NO_TEXTS
        name = service.upload(path, task.name)
    finally:
        path.unlink(missing_ok=True)
    facts = FileFacts(name, written.tokens, written.token_bound, written.size_bytes, next_tokens)
    return facts, written.texts
