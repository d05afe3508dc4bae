"""Batch jobs of the Developer API: its Files API, and its Batch API for embeddings."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from google.genai import types

from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.schemas.errors import CallError, CallRejected, JobRejected
from bulkembed.transforms.clients.file_download import FileDownload
from bulkembed.transforms.clients.file_upload import FileUpload
from bulkembed.transforms.clients.job_calls import JobCalls
from bulkembed.transforms.clients.remote_jobs import (
    MISSING_FILE,
    RemoteJob,
    read_operation,
)
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.clients.service_calls import accepting

CLOCK_MARGIN_S = 3600.0
"""How far the clock of this machine may be ahead of the service's."""
_FILE = re.compile(r"files/[\w.-]+", re.ASCII)
_ABOUT_A_FILE = (400, 403, 404)
"""The statuses of a creation whose file may be gone."""


class DeveloperBatches(JobCalls):
    """The batch jobs of a project; see `BatchService` and `JobCalls`.

    Source: ai.google.dev/gemini-api/docs/batch-api and google-genai 3.6, 2026-11.
    """

    name_form = re.compile(r"batches/[^/]+")
    list_field = "operations"
    read_job = staticmethod(read_operation)

    def __init__(
        self,
        service: ServiceConfig,
        embedding: EmbeddingConfig,
        key: str | None,
        retry: RetryPolicy,
    ) -> None:
        super().__init__(service, embedding, key, retry)
        self._version = service.api_version
        ignore_experimental_warning()

    def upload(self, path: Path, name: str) -> str:
        """See `BatchService`."""
        return FileUpload(self._calls, self._version, path, name, self._retry).run()

    def file_named(self, name: str) -> str:
        """See `BatchService`."""
        return f"files/{name}"

    def create(self, file: str, display_name: str) -> RemoteJob:
        """See `BatchService`."""
        config = types.CreateEmbeddingsBatchJobConfig(display_name=display_name)
        source = types.EmbeddingsBatchJobSource(file_name=file)
        batches = self._calls.sdk.batches
        try:
            found = self._calls.ask(
                lambda: batches.create_embeddings(model=self._model, src=source, config=config)
            )
        except (CallRejected, JobRejected) as error:
            # The rejection may not name the file, or be the same as that of an unknown model.
            if error.http_status in _ABOUT_A_FILE and self._is_gone(file):
                raise _missing(file, error) from None
            raise
        return self._read(found)

    def find(self, display_name: str, not_before: float) -> RemoteJob | None:
        """See `BatchService`."""
        times: list[float] = []
        for jobs in self._pages():
            for job in jobs:
                if job.display_name == display_name:
                    return job
            times += [job.created_at for job in jobs if job.created_at is not None]
            # The order of the list is not documented.
            is_newest_first = len(times) > 1 and times == sorted(times, reverse=True)
            if is_newest_first and times[0] > times[-1] < not_before - CLOCK_MARGIN_S:
                return None
        return None

    def download(self, job: RemoteJob, path: Path) -> None:
        """See `BatchService`."""
        if not job.results or not _FILE.fullmatch(job.results[0]):
            raise CallRejected(f"the batch job {job.name} names no results", code=MISSING_FILE)
        url = self._calls.url(f"{self._version}/{job.results[0]}:download?alt=media")
        with _naming_missing(job.results[0]):
            FileDownload(self._calls, url, path, self._retry).run()

    def delete_file(self, file: str) -> None:
        """See `BatchService`."""
        with self._leaving(file), accepting(MISSING_FILE), _naming_missing(file):
            self._ask(lambda: self._calls.sdk.files.delete(name=file))

    def _is_gone(self, file: str) -> bool:
        """Return whether the service does not have a file; False if it does not say so."""
        try:
            with _naming_missing(file):
                self._ask(lambda: self._calls.sdk.files.get(name=file))
        except CallError as error:
            return error.code == MISSING_FILE
        return False


def ignore_experimental_warning() -> None:
    """Keep google-genai from printing a warning about `batches.create_embeddings`.

    It cannot be caught: that would change the filters of other threads for a while.
    """
    warnings.filterwarnings("ignore", r"batches\.create_embeddings\(\) is experimental")


@contextlib.contextmanager
def _naming_missing(file: str) -> Iterator[None]:
    """Raise CallRejected with the code MISSING_FILE if the service says that a file is gone.

    It answers 403 for a file that does not exist, as for one of another project, or 404.
    """
    try:
        yield
    except CallError as error:
        is_named = file.removeprefix("files/") in error.service_message
        is_gone = error.code == "model_gone" or (error.http_status in (403, 404) and is_named)
        if not is_gone:
            raise
        raise _missing(file, error) from None


def _missing(file: str, error: CallError) -> CallRejected:
    words = error.service_message
    return CallRejected(
        f"the service does not have the file {file} any more: {words}",
        http_status=error.http_status, code=MISSING_FILE, service_message=words,
    )  # fmt: skip
