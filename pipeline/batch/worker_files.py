"""The files of batch jobs, written and uploaded by the workers of a cluster, several at a time."""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path

import numpy as np

from bulkembed.pipeline.batch.batch_workers import BatchWorkers
from bulkembed.pipeline.batch.file_makers import PreparedJob
from bulkembed.pipeline.batch.media_reader import FindKnown
from bulkembed.pipeline.batch.open_jobs import MAX_OPEN_JOBS, OpenJobs
from bulkembed.pipeline.batch.wanted_texts import WantedTexts, joined
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.units import SharedSlice
from bulkembed.transforms.batch.uploaded_files import FileFacts, FileTask, upload_job_file
from bulkembed.transforms.clients.batch_service import BatchService
from bulkembed.transforms.core.hashing import Keys, among
from bulkembed.transforms.dataset.batch_ledger import BatchLedger, JobTexts, digest_of, new_name


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class UploadedJob:
    """A job whose file is at the service; the ledger has its display name only."""

    entry: BatchJob
    texts: JobTexts
    ledger: BatchLedger

    @property
    def token_bound(self) -> int:
        """See `PreparedJob`."""
        return self.entry.token_bound

    def upload(self) -> BatchJob:
        """See `PreparedJob`."""
        self.ledger.add(self.entry, self.texts)
        return self.entry


@dataclasses.dataclass(slots=True)
class WorkerFileMaker:
    """Lets workers make as many files as can be submitted now; see `FileMaker`.

    Before workers begin, the ledger has the display name of each job. So the next run finds their
    files, whoever is killed.
    """

    workers: BatchWorkers
    service: BatchService
    ledger: BatchLedger
    jobs: OpenJobs
    folder: Path
    """On a local disk, for files that no worker has made."""
    _left: WantedTexts = dataclasses.field(default_factory=WantedTexts)
    _waiting: list[UploadedJob] = dataclasses.field(default_factory=list)

    def begin(self, texts: WantedTexts, is_known: FindKnown) -> None:
        """See `FileMaker`; files that are too large now are deleted."""
        room = self.jobs.room
        for job in list(self._waiting):
            if room is not None and job.entry.tokens > room and not self.jobs.open:
                self._delete(job)
        self._left = texts.without(self._waiting_keys())

    @property
    def is_left(self) -> bool:
        """See `FileMaker`."""
        return bool(self._waiting) or len(self._left) > 0

    def next_job(self) -> PreparedJob | None:
        """See `FileMaker`."""
        if not self._waiting and len(self._left):
            self._make_files()
        return self._waiting.pop(0) if self._waiting else None

    def put_back(self, job: PreparedJob) -> None:
        """See `FileMaker`."""
        assert isinstance(job, UploadedJob)
        self._waiting.insert(0, job)

    def close(self) -> None:
        """See `FileMaker`."""
        for job in list(self._waiting):
            self._delete(job)

    def _delete(self, job: UploadedJob) -> None:
        self.service.delete_file(job.entry.file)
        self.ledger.drop(job.entry)
        self._waiting.remove(job)

    def _waiting_keys(self) -> Keys:
        keys = [job.texts["key"] for job in self._waiting]
        return np.unique(np.concatenate([np.empty(0, np.uint64), *keys]))

    def _make_files(self) -> None:
        """Make files of the next texts; those that do not fit are left for the next ones."""
        room, settings = self.jobs.room, self.workers.work.settings
        count = self._files_for(room)
        if not count:
            return
        ends = [min(n * settings.job_rows, len(self._left)) for n in range(count + 1)]
        parts = [self._left.part(*between) for between in itertools.pairwise(ends)]
        rest = self._left.part(ends[-1], len(self._left))
        names = [self._plan(part) for part in parts]
        tasks = [
            FileTask(
                entry.display_name,
                SharedSlice(entry.display_name, part.files),
                None if room is None else room // count,
            )
            for entry, part in zip(names, parts, strict=True)
        ]
        done = self.workers.upload(tasks)
        left: list[WantedTexts] = []
        most = 0
        for entry, part, task in zip(names, parts, tasks, strict=True):
            outcome = done.get(task.name)
            if outcome is not None and outcome.facts is not None:
                facts, texts = outcome.facts, outcome.texts
            elif self.workers.stop.is_set():
                return  # The next run deletes what workers may have uploaded.
            else:
                facts, texts = self._upload_here(task)
            if facts.file:
                job = UploadedJob(_uploaded(entry, facts, texts), texts, self.ledger)
                self._waiting.append(job)
            else:
                self.ledger.drop(entry)
            if facts.next_tokens is not None:
                left.append(part.where(~among(part.keys, texts["key"])))
                most = max(most, facts.next_tokens)
        self._left = joined([*left, rest])
        if most and not self._waiting and not self.jobs.open:
            self.jobs.make_room(most)
            self._make_files()

    def _files_for(self, room: int | None) -> int:
        """Return how many files are needed, and can probably be submitted now; 0 for none.

        Args:
            room: how many tokens may still be enqueued; None for any number.
        """
        work = self.workers.work
        rows, spec = work.settings.job_rows, work.job.embedding.spec
        count = min(-(-len(self._left) // rows), max(1, MAX_OPEN_JOBS - len(self.jobs.open)))
        if room is None:
            return count
        if self.jobs.open and room < spec.max_tokens:
            return 0  # Maybe not even one text fits.
        tokens = self._tokens_per_text
        fitting = int(room / (tokens * rows)) if tokens and spec.known else 1
        return max(1, min(count, fitting, room // spec.max_tokens))

    @property
    def _tokens_per_text(self) -> float | None:
        """The mean of all jobs; None if there has been none."""
        rows = sum(entry.rows for entry in self.ledger.jobs if entry.tokens)
        return sum(entry.tokens for entry in self.ledger.jobs) / rows if rows else None

    def _plan(self, texts: WantedTexts) -> BatchJob:
        """Enter a job in the ledger whose file a worker may upload."""
        entry = BatchJob(
            display_name=new_name(),
            state=LedgerState.PLANNED,
            rows=len(texts),
            tokens=0,
            token_bound=0,
            file_bytes=0,
            contents="",
            embedding_digest=self.workers.work.job.digest,
            planned_at=time.time(),
        )
        self.ledger.put(entry)
        return entry

    def _upload_here(self, task: FileTask) -> tuple[FileFacts, JobTexts]:
        work, dataset = self.workers.work, self.ledger.dataset
        return upload_job_file(dataset, self.service, task, work.job, work.settings, self.folder)


def _uploaded(entry: BatchJob, facts: FileFacts, texts: JobTexts) -> BatchJob:
    return dataclasses.replace(
        entry,
        state=LedgerState.UPLOADED,
        rows=len(texts),
        tokens=facts.tokens,
        file_bytes=facts.size_bytes,
        token_bound=facts.token_bound,
        contents=digest_of(texts),
        file=facts.file,
        tried_at=None,
    )
