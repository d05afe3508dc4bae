"""Put texts that no job has into jobs, as far as money and the service allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bulkembed.pipeline.batch.job_files import (
    Ahead,
    JobFile,
    check_room,
    contents_of,
    write_job_file,
)
from bulkembed.pipeline.batch.open_jobs import OpenJobs
from bulkembed.pipeline.batch.wanted_texts import WantedTexts
from bulkembed.pipeline.logs import log
from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.errors import QuotaExceeded
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.ledger_entry import LedgerState
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.core.content import Content
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.units.shared_texts import DamagePolicy


@dataclasses.dataclass(slots=True)
class Submission:
    """The submission of texts, one job at a time."""

    job: JobConfig
    settings: BatchConfig
    jobs: OpenJobs
    folder: Path
    """On a local disk, for job files."""
    on_damage: DamagePolicy
    can_afford: Callable[[int], str | None]
    """Returns why another job must not be paid for that costs at most so many tokens; else None."""
    cap: str | None = None
    """Why no further job can be paid for, if no job was open that may cost less than feared."""
    was_refused: bool = False
    """Whether the service took no further job since `begin`."""
    _contents: Ahead[Content] = dataclasses.field(default_factory=lambda: Ahead(iter(())))
    _file: JobFile | None = None
    """A job file that waits for money or room."""

    def begin(self, texts: WantedTexts) -> None:
        """Begin to submit texts; those of open jobs, and those tried too often, are left out.

        Texts of an earlier call that were not submitted are forgotten.
        """
        spec = self.job.embedding.spec
        estimator = TokenEstimator(spec.max_tokens if spec.known else None)
        skip = np.union1d(self.jobs.texts_of_jobs(), self.jobs.exhausted_texts())
        files = texts.without(skip).files
        self._contents = Ahead(contents_of(files, self.job, estimator, self.on_damage))
        self._file, self.was_refused = None, False

    @property
    def is_due(self) -> bool:
        """Whether a text is to be put into a job, or a job to be created.

        Raises:
            InputError: a file cannot be read, or has changed.
        """
        waits = self._file is not None or self.jobs.creation.pending is not None
        return waits or self._contents.peek() is not None

    def submit_one(self) -> bool:
        """Submit one job; return False if it has to wait for others.

        Raises:
            CallError: the service does not take it at all.
            ConfigError: a text is larger than the quota.
            InputError, OutputError: a file cannot be read, or a disk is full.
        """
        entry = self.jobs.creation.pending
        if entry is None:
            file = self._file or self._write_file()
            if file is None:
                return False
            why_not = self.can_afford(file.token_bound)
            if why_not is not None:
                self._file = file
                self.cap = None if self.jobs.open else why_not
                return False
            self._file = None
            entry = self.jobs.creation.upload(file, self.job.digest)
        try:
            created = self.jobs.creation.create(entry)
        except QuotaExceeded as error:
            self.jobs.note_refusal(entry, error)
            self.was_refused = True
            return False
        if created.state is LedgerState.CREATED:
            log.info(
                "batch job %s: %s, about %s tokens, %s",
                created.display_name, number_of(created.rows, "text"), f"{created.tokens:,}",
                created.job,
            )  # fmt: skip
        return True

    def _write_file(self) -> JobFile | None:
        room = self.jobs.room
        path = self.folder / "batch-job.jsonl"
        file = write_job_file(path, self._contents, self.job, self.settings, room)
        content = self._contents.peek()
        if file is None and content is not None and room is not None and not self.jobs.open:
            check_room(content, room)
        return file
