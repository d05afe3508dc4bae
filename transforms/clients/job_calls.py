"""The calls about batch jobs that both services share."""

from __future__ import annotations

import contextlib
import functools
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.genai import types

from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.schemas.errors import BadAnswer, CallRejected, JobRejected
from bulkembed.transforms.clients.remote_jobs import RemoteJob
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.clients.service_calls import ServiceCalls, accepting

PAGE_JOBS = 100
"""How many jobs a page of the list has."""
_ABOUT_DELETION = frozenset({"permission", "method", "bucket", "unexpected"})
"""The rules by which a deletion is rejected that do not concern other calls."""

log = logging.getLogger("bulkembed")


class JobCalls:
    """Gets, lists, cancels and deletes jobs, with retries. A subclass knows their form.

    Args:
        service: where to call, and how.
        embedding: names the model.
        key: the API key; None for application-default credentials.
        retry: how calls are repeated.

    Raises:
        ConfigError, JobRejected: the environment names a proxy or certificates that cannot be used.
    """

    name_form: re.Pattern[str]
    """The form of a job's name."""
    list_field: str
    """The field with the jobs of a page."""
    read_job: Callable[[Mapping[str, Any]], RemoteJob]
    """Returns the job in the service's description of it."""

    def __init__(
        self,
        service: ServiceConfig,
        embedding: EmbeddingConfig,
        key: str | None,
        retry: RetryPolicy,
    ) -> None:
        self._model, self._retry = embedding.model, retry
        self._calls = ServiceCalls(service, embedding, key)
        self._has_left = False
        """Whether the user knows that something was left to the service."""

    def get(self, name: str) -> RemoteJob | None:
        """See `BatchService`."""
        try:
            return self._retry.run(lambda: self._job(name))
        except JobRejected as error:
            if error.code != "model_gone":
                raise
            return None

    def cancel(self, name: str) -> None:
        """See `BatchService`."""
        try:
            with accepting("model_gone", "precondition"):
                self._ask(lambda: self._calls.sdk.batches.cancel(name=self._known(name)))
        except CallRejected:  # How a job that is over is rejected is not documented.
            job = self.get(name)
            if job is not None and not job.state.is_over:
                raise

    def delete_job(self, name: str) -> None:
        """See `BatchService`."""
        with self._leaving(name), accepting("model_gone", "precondition"):
            self._ask(lambda: self._calls.sdk.batches.delete(name=self._known(name)))

    def close(self) -> None:
        """See `BatchService`."""
        self._calls.close()

    @contextlib.contextmanager
    def _leaving(self, name: str) -> Iterator[None]:
        """Leave a file or job to the service if it does not let clients delete it.

        That costs nothing, and must not keep a run from its end. The Developer API rejects the
        deletion of results, because of the long id that it gave them itself.

        Source: googleapis/python-genai#1759, 2026-09.
        """
        try:
            yield
        except (CallRejected, JobRejected) as error:
            is_about_it = error.code in _ABOUT_DELETION and error.http_status != 401
            if not (isinstance(error, CallRejected) or is_about_it):
                raise
            is_known = self._has_left or "File ID" in error.service_message
            level = logging.DEBUG if is_known else logging.WARNING
            self._has_left |= level == logging.WARNING
            log.log(level, "%s stays at the service: %s", name, error.message)

    def _ask(self, call: Callable[[], object]) -> dict[str, Any]:
        """Return the JSON of the answer to a call of the SDK that may be repeated."""
        return self._retry.run(lambda: self._calls.ask(call))

    def _known(self, name: str) -> str:
        """Return the same name, if a job of this service can have it.

        Raises:
            JobRejected: it is that of a job of another service.
        """
        if not self.name_form.fullmatch(name):
            raise JobRejected(f"{name!r} is no batch job of this service", code="job")
        return name

    def _job(self, name: str) -> RemoteJob:
        return self._read(
            self._calls.ask(lambda: self._calls.sdk.batches.get(name=self._known(name)))
        )

    def _read(self, found: Mapping[str, Any]) -> RemoteJob:
        """Return a job that has a name by which it can be polled.

        Raises:
            BadAnswer: it has none.
        """
        job = type(self).read_job(found)
        if not self.name_form.fullmatch(job.name):
            raise BadAnswer("the answer about a batch job names no job", code="form")
        return job

    def _pages(self, words: str | None = None) -> Iterator[list[RemoteJob]]:
        """Yield the pages of the list of jobs.

        Args:
            words: a filter, which the Developer API does not have.

        Raises:
            BadAnswer: the list has another form, or does not end.
        """
        token: str | None = None
        seen: set[str] = set()
        while True:
            jobs, token = self._retry.run(functools.partial(self._page, words, token))
            yield jobs
            if token is None:
                return
            if token in seen:
                raise BadAnswer("the list of batch jobs repeats a page", code="form")
            seen.add(token)

    def _page(self, words: str | None, token: str | None) -> tuple[list[RemoteJob], str | None]:
        """Return the jobs of a page, and the token of the next one; None if it is the last.

        Raises:
            BadAnswer: the list has another form.
        """
        config = types.ListBatchJobsConfig(filter=words, page_size=PAGE_JOBS, page_token=token)
        found = self._calls.ask(lambda: self._calls.sdk.batches.list(config=config))
        listed, following = found.get(self.list_field, []), found.get("nextPageToken") or None
        is_list = isinstance(listed, list) and all(isinstance(one, dict) for one in listed)
        if not is_list or not isinstance(following, str | None):
            raise BadAnswer("the list of batch jobs has another form", code="form")
        return [type(self).read_job(one) for one in listed], following
