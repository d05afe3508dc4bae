"""Put texts that no job has into jobs, as far as money and the service allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from bulkembed.pipeline.batch.file_makers import FileMaker
from bulkembed.pipeline.batch.open_jobs import OpenJobs
from bulkembed.pipeline.batch.wanted_texts import PlanWindow
from bulkembed.pipeline.logs import log
from bulkembed.schemas.errors import QuotaExceeded
from bulkembed.schemas.ledger_entry import LedgerState
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.core.hashing import among


@dataclasses.dataclass(slots=True)
class Submission:
    """The submission of texts, one job at a time."""

    jobs: OpenJobs
    files: FileMaker
    can_afford: Callable[[int], str | None]
    """Returns why another job must not be paid for that costs at most so many tokens; else None."""
    cap: str | None = None
    """Why no further job can be paid for, if no job was open that may cost less than feared."""
    was_refused: bool = False
    """Whether the service took no further job since `begin`."""
    can_be_smaller: bool = False
    """Whether the job that it did not take has more than one text."""

    def begin(self, window: PlanWindow) -> None:
        """Begin to submit missing texts, except those of open jobs, and those tried too often.

        Texts of an earlier call that were not submitted are forgotten.
        """
        skip = np.union1d(self.jobs.texts_of_jobs(), self.jobs.exhausted_texts())
        self.files.begin(
            window.missing.without(skip), lambda keys: window.knows(keys) | among(keys, skip)
        )
        self.was_refused = False

    @property
    def is_due(self) -> bool:
        """Whether a text is to be put into a job, or a job to be created.

        Raises:
            InputError: a file cannot be read, or has changed.
        """
        return self.jobs.creation.pending is not None or self.files.is_left

    def submit_one(self) -> bool:
        """Submit one job; return False if it has to wait for others.

        Raises:
            CallError: the service does not take it at all.
            ConfigError: a text is larger than the quota.
            InputError, OutputError: a file cannot be read, or a disk is full.
        """
        entry = self.jobs.creation.pending
        if entry is None:
            job = self.files.next_job()
            if job is None:
                return False
            why_not = self.can_afford(job.token_bound)
            if why_not is not None:
                self.files.put_back(job)
                self.cap = None if self.jobs.open else why_not
                return False
            entry = job.upload()
        try:
            created = self.jobs.creation.create(entry)
        except QuotaExceeded as error:
            self.jobs.note_refusal(entry, error)
            self.was_refused, self.can_be_smaller = True, entry.rows > 1
            return False
        self.jobs.note_creation(created)
        if created.state is LedgerState.CREATED:
            contents = number_of(created.rows, self.jobs.content_noun)
            log.info(
                "batch job %s: %s, about %s tokens, %s",
                created.display_name, contents, f"{created.tokens:,}", created.job,
            )  # fmt: skip
        return True
