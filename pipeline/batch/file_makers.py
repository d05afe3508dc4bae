"""The files of batch jobs, as the submission gets them: one after the other, in this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from bulkembed.pipeline.batch.media_reader import FindKnown, JobMediaReader
from bulkembed.pipeline.batch.open_jobs import OpenJobs
from bulkembed.pipeline.batch.wanted_texts import WantedTexts
from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import BatchJob
from bulkembed.transforms.batch.job_files import (
    Ahead,
    JobFile,
    job_contents,
    write_job_file,
)
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.units.shared_texts import DamagePolicy


class PreparedJob(Protocol):
    """A job whose file is written."""

    @property
    def token_bound(self) -> int:
        """What its texts can cost at most."""
        ...

    def upload(self) -> BatchJob:
        """Upload the file, if it is not at the service; return the job as the ledger has it.

        Raises:
            CallError: the service does not take the file.
            OutputError: the ledger cannot be written.
        """
        ...


class FileMaker(Protocol):
    """Writes texts to the files of jobs."""

    def begin(self, texts: WantedTexts, is_known: FindKnown) -> None:
        """Begin with texts; those of an earlier call that are in no file are forgotten.

        Args:
            texts: the texts, or rows with media.
            is_known: of contents of rows with media.
        """
        ...

    @property
    def is_left(self) -> bool:
        """Whether a text is to be put into a job.

        Raises:
            InputError: a file cannot be read, or has changed.
        """
        ...

    def next_job(self) -> PreparedJob | None:
        """Return the next job; None if no text is left, or there is no room for another job.

        Raises:
            ConfigError: a text is larger than the quota.
            CallError: the service does not take a file.
            InputError, OutputError: a file cannot be read, or a disk is full.
        """
        ...

    def put_back(self, job: PreparedJob) -> None:
        """Return a job that has to wait for money; it is the next one."""
        ...

    def close(self) -> None:
        """Delete the files of jobs that were not submitted.

        Raises:
            CallError: the service cannot be asked.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class LocalJob:
    """A job whose file is on the local disk."""

    file: JobFile
    jobs: OpenJobs
    digest: str
    save: Callable[[BatchJob], None]
    """Keeps what was learned by writing the file."""

    @property
    def token_bound(self) -> int:
        """See `PreparedJob`."""
        return self.file.token_bound

    def upload(self) -> BatchJob:
        """See `PreparedJob`."""
        entry = self.jobs.creation.upload(self.file, self.digest)
        self.save(entry)
        return entry


@dataclasses.dataclass(slots=True)
class LocalFileMaker:
    """Writes one file at a time, when it is needed; see `FileMaker`."""

    job: JobConfig
    settings: BatchConfig
    jobs: OpenJobs
    folder: Path
    """On a local disk, for the file."""
    on_damage: DamagePolicy
    media: JobMediaReader | None = None
    """Reads rows with media; None if rows are texts alone."""
    save: Callable[[BatchJob], None] = lambda entry: None
    """See `LocalJob`."""
    _contents: Ahead[Content] = dataclasses.field(default_factory=lambda: Ahead(iter(())))
    _waiting: PreparedJob | None = None

    def begin(self, texts: WantedTexts, is_known: FindKnown) -> None:
        """See `FileMaker`."""
        if self.media is not None:
            self._contents = self.media.begin(texts, is_known)
        else:
            self._contents = job_contents(texts.files, self.job, self.on_damage)
        self._waiting = None

    @property
    def is_left(self) -> bool:
        """See `FileMaker`."""
        return self._waiting is not None or self._contents.peek() is not None

    def next_job(self) -> PreparedJob | None:
        """See `FileMaker`."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            return waiting
        content = self._contents.peek()
        if content is not None and not self.jobs.open:
            self.jobs.make_room(content.tokens)
        path = self.folder / "batch-job.jsonl"
        file = write_job_file(path, self._contents, self.job, self.settings, self.jobs.room)
        return None if file is None else LocalJob(file, self.jobs, self.job.digest, self.save)

    def put_back(self, job: PreparedJob) -> None:
        """See `FileMaker`."""
        self._waiting = job

    def close(self) -> None:
        """See `FileMaker`: its files are in a temporary folder."""
