"""Create batch jobs, each exactly once.

A job is entered in the ledger before the service is asked for it, and is looked up by its display
name before it is created a second time.
"""

from __future__ import annotations

import dataclasses
import time

from bulkembed.pipeline.batch.job_end import JobEnd
from bulkembed.schemas.errors import (
    BadAnswer,
    CallRejected,
    Intercepted,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.transforms.batch.job_files import JobFile
from bulkembed.transforms.clients.batch_service import BatchService
from bulkembed.transforms.clients.remote_jobs import RemoteJob
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.dataset.batch_ledger import BatchLedger, digest_of, new_name

RECENT_S = 600.0
"""How long a job is new: the request may have hung, and the clock of another host may be wrong."""
NO_ANSWER = (Unavailable, Intercepted, BadAnswer)
"""Errors after which a job may have been created all the same."""
LOOKUP_DELAYS_S = (0.0, 1.0, 2.0, 4.0, 8.0)
"""How long to wait before each look for a job whose creation got no answer. After that time, a
job that exists is in the list of the service."""


@dataclasses.dataclass(frozen=True, slots=True)
class JobCreation:
    """Uploads job files and creates jobs."""

    service: BatchService
    ledger: BatchLedger
    """The ledger of the dataset."""
    retry: RetryPolicy
    """How calls are repeated, and whether the run must end."""
    end: JobEnd
    """Ends jobs that the service rejects."""

    @property
    def pending(self) -> BatchJob | None:
        """The job whose file is uploaded, and that the service has not accepted yet."""
        return next(iter(self.ledger.of_state(LedgerState.UPLOADED)), None)

    def recover(self) -> None:
        """Find out which jobs exist that an earlier run may have created.

        Raises:
            CallError: the service cannot be asked.
        """
        for entry in self.ledger.of_state(LedgerState.PLANNED):
            # The job was not created, but its file may be there.
            self.service.delete_file(self.service.file_named(entry.display_name))
            self.ledger.drop(entry)
        for entry in self.ledger.of_state(LedgerState.UPLOADED):
            found = self._look_up(entry, is_new=_may_be_new(entry))
            if found is not None:
                self._adopt(entry, found)
            elif self.retry.stopped():  # It was not looked for long enough.
                return
            elif self.end.keep_answers(entry, "the job is not in its list") is None:
                self._drop(entry)

    def upload(self, file: JobFile, digest: str) -> BatchJob:
        """Enter a job in the ledger and upload its file, which is deleted then.

        Raises:
            CallError: the service does not take the file.
            OutputError: the ledger cannot be written.
        """
        entry = BatchJob(
            display_name=new_name(),
            state=LedgerState.PLANNED,
            rows=len(file.texts),
            tokens=file.tokens,
            file_bytes=file.size_bytes,
            token_bound=file.token_bound,
            contents=digest_of(file.texts),
            embedding_digest=digest,
            planned_at=time.time(),
            media=file.media,
            surcharge=file.surcharge,
        )
        self.ledger.add(entry, file.texts)
        name = self.service.upload(file.path, entry.display_name)
        entry = dataclasses.replace(entry, state=LedgerState.UPLOADED, file=name, tried_at=None)
        self.ledger.put(entry)
        file.path.unlink(missing_ok=True)
        return entry

    def create(self, entry: BatchJob) -> BatchJob:
        """Create a job exactly once, and return its entry.

        If there is no answer, the job is looked up by its display name.

        Raises:
            QuotaExceeded: the service takes no further job now.
            CallError: it takes none at all, or does not answer.
        """
        may_exist = False

        def attempt() -> BatchJob:
            nonlocal entry, may_exist
            entry = dataclasses.replace(entry, tried_at=time.time())
            self.ledger.put(entry)
            try:
                return self._adopt(entry, self.service.create(entry.file, entry.display_name))
            except (*NO_ANSWER, QuotaExceeded, CallRejected) as error:
                # A job that got no answer may exist, and may be what uses up the quota.
                may_exist = may_exist or isinstance(error, NO_ANSWER)
                found = self._look_up(entry, is_new=True) if may_exist else None
                if found is not None:
                    return self._adopt(entry, found)
                if isinstance(error, CallRejected):
                    return self.end.reject(entry, error.message)
                raise

        return self.retry.run(attempt, NO_ANSWER)

    def _look_up(self, entry: BatchJob, *, is_new: bool) -> RemoteJob | None:
        """Return the job with the display name of an entry; None if the service has none.

        A new job may not be in the service's list yet.
        """
        for delay in LOOKUP_DELAYS_S if is_new else LOOKUP_DELAYS_S[:1]:
            self.retry.sleep(delay)
            found = self.service.find(entry.display_name, entry.planned_at)
            if found is not None:
                return found
        return None

    def _drop(self, entry: BatchJob) -> None:
        """Forget a job that was not created; of a damaged entry, nobody knows whether it was."""
        if entry.is_damaged:
            self.end.lose(entry)
            return
        self.service.delete_file(entry.file or self.service.file_named(entry.display_name))
        self.ledger.drop(entry)

    def _adopt(self, entry: BatchJob, found: RemoteJob) -> BatchJob:
        created = found.created_at or time.time()
        entry = dataclasses.replace(
            entry,
            state=LedgerState.CREATED,
            file=entry.file or self.service.file_named(entry.display_name),
            token_bound=self.end.token_bound(entry),
            planned_at=entry.planned_at or created,
            job=found.name,
            created_at=created,
        )
        self.ledger.put(entry)
        return entry


def _may_be_new(entry: BatchJob) -> bool:
    """Return whether the list of the service may lack a job that an earlier run has asked for."""
    if not entry.tried_at:
        return entry.tried_at is not None and not entry.is_damaged
    return time.time() - entry.tried_at < RECENT_S
