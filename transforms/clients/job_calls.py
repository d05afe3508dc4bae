"""The calls about batch jobs that both services share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from google.genai import types

from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.schemas.errors import BadAnswer, JobRejected
from bulkembed.transforms.clients.remote_jobs import RemoteJob
from bulkembed.transforms.clients.service_calls import ServiceCalls, accepting

PAGE_JOBS = 100
"""How many jobs a page of the list has."""


class JobCalls:
    """Gets, lists, cancels and deletes jobs.  A subclass knows their form.

    Args:
        service: where to call, and how.
        embedding: names the model.
        key: the API key; None for application-default credentials.

    Raises:
        ConfigError, JobRejected: the environment names a proxy or certificates that cannot be used.
    """

    name_form: re.Pattern[str]
    """The form of a job's name."""
    list_field: str
    """The field with the jobs of a page."""
    read_job: Callable[[Mapping[str, Any]], RemoteJob]
    """Returns the job in the service's description of it."""

    def __init__(self, service: ServiceConfig, embedding: EmbeddingConfig, key: str | None) -> None:
        self._model = embedding.model
        self._calls = ServiceCalls(service, embedding, key)

    def get(self, name: str) -> RemoteJob | None:
        """See `BatchService`."""
        found = None
        with accepting("model_gone"):
            found = self._calls.ask(lambda: self._calls.sdk.batches.get(name=self._known(name)))
        return None if found is None else self._read(found)

    def cancel(self, name: str) -> None:
        """See `BatchService`."""
        with accepting("model_gone", "precondition"):
            self._calls.ask(lambda: self._calls.sdk.batches.cancel(name=self._known(name)))

    def delete_job(self, name: str) -> None:
        """See `BatchService`."""
        with accepting("model_gone", "precondition"):
            self._calls.ask(lambda: self._calls.sdk.batches.delete(name=self._known(name)))

    def close(self) -> None:
        """See `BatchService`."""
        self._calls.close()

    def _known(self, name: str) -> str:
        """Return the same name, if a job of this service can have it.

        Raises:
            JobRejected: it is that of a job of another service.
        """
        if not self.name_form.fullmatch(name):
            raise JobRejected(f"{name!r} is no batch job of this service", code="job")
        return name

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
            found = self._page(words, token)
            listed = found.get(self.list_field, [])
            if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
                raise BadAnswer("the list of batch jobs has another form", code="form")
            yield [type(self).read_job(one) for one in listed]
            token = found.get("nextPageToken")
            if not token:
                return
            if not isinstance(token, str) or token in seen:
                raise BadAnswer("the list of batch jobs repeats a page", code="form")
            seen.add(token)

    def _page(self, words: str | None, token: str | None) -> dict[str, Any]:
        config = types.ListBatchJobsConfig(filter=words, page_size=PAGE_JOBS, page_token=token)
        return self._calls.ask(lambda: self._calls.sdk.batches.list(config=config))
