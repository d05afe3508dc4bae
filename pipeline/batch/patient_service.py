"""A batch service whose calls are repeated while the service is down for a moment."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bulkembed.pipeline.batch.run_stop import wait
from bulkembed.pipeline.logs import log
from bulkembed.transforms.clients.batch_service import BatchService
from bulkembed.transforms.clients.remote_jobs import RemoteJob
from bulkembed.transforms.core.backoff import retry_wait_s
from bulkembed.transforms.core.health import RETRYABLE

Result = TypeVar("Result")


class PatientService:
    """Repeats calls that failed for a reason that may pass, except for the creation of a job.

    Args:
        service: the service.
        retry_timeout_s: how long a call is repeated, from its first failure.
        stopped: whether the run must end.
    """

    def __init__(
        self, service: BatchService, retry_timeout_s: float, stopped: Callable[[], bool]
    ) -> None:
        self._service = service
        self._retry_timeout_s = retry_timeout_s
        self._stopped = stopped

    def upload(self, path: Path, name: str) -> str:
        """Upload a job file, see `BatchService.upload`."""
        return self._repeated(lambda: self._service.upload(path, name, lambda _: None))

    def create(self, file: str, display_name: str) -> RemoteJob:
        """Send a creation once, see `BatchService.create`."""
        return self._service.create(file, display_name)

    def file_named(self, name: str) -> str:
        """See `BatchService`."""
        return self._service.file_named(name)

    def find(self, display_name: str, not_before: float) -> RemoteJob | None:
        """See `BatchService`."""
        return self._repeated(lambda: self._service.find(display_name, not_before))

    def get(self, name: str) -> RemoteJob | None:
        """See `BatchService`."""
        return self._repeated(lambda: self._service.get(name))

    def cancel(self, name: str) -> None:
        """See `BatchService`."""
        self._repeated(lambda: self._service.cancel(name))

    def download(self, job: RemoteJob, path: Path) -> None:
        """See `BatchService`."""
        self._repeated(lambda: self._service.download(job, path))

    def delete_file(self, file: str) -> None:
        """See `BatchService`."""
        self._repeated(lambda: self._service.delete_file(file))

    def delete_job(self, name: str) -> None:
        """See `BatchService`."""
        self._repeated(lambda: self._service.delete_job(name))

    def _repeated(self, call: Callable[[], Result]) -> Result:
        """Return the result of a call that may be sent any number of times.

        Raises:
            CallError: it fails for good, for too long, or when the run must end.
        """
        started, failures = time.monotonic(), 0
        while True:
            try:
                return call()
            except RETRYABLE as error:
                if time.monotonic() - started >= self._retry_timeout_s or self._stopped():
                    raise
                failures += 1
                log.debug("batch jobs: %s. Trying again.", error.message)
                delay_s = error.retry_delay_s
                seconds = retry_wait_s(failures, random.random(), server_delay_s=delay_s)
                wait(seconds, self._stopped)
