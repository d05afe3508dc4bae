"""What the two services do alike with batch jobs over HTTP: get, list and cancel them."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from bulkembed.emulator.api_errors import ApiError
from bulkembed.emulator.batch_calls import BatchCalls
from bulkembed.emulator.batch_jobs import Job, JobStore, Place
from bulkembed.emulator.calls import State
from bulkembed.emulator.catalog import Catalog
from bulkembed.emulator.files import FileStore, page
from bulkembed.emulator.gateway import Gateway
from bulkembed.emulator.job_making import JobMaker

DEFAULT_PAGE = 50
_RESULTS_S = 5.0
"""How long an answer about a job waits for results that are late."""


class JobRoutes(abc.ABC):
    """Handlers of batch jobs; a subclass knows their form.

    Args:
        state: the state of the emulator.
        gateway: checks and answers calls.
        calls: applies faults to handlers, and counts their answers.
        catalog: the models.
        files: the files that jobs read and write.
        jobs: the jobs.
        maker: makes jobs of files.
    """

    list_field: str
    """The field with the jobs of a page."""
    largest_page: int

    def __init__(
        self,
        state: State,
        gateway: Gateway,
        calls: BatchCalls,
        catalog: Catalog,
        files: FileStore,
        jobs: JobStore,
        maker: JobMaker,
    ) -> None:
        self._state, self._settings = state, state.settings
        self._gateway, self._calls, self._catalog = gateway, calls, catalog
        self._files, self._jobs, self._maker = files, jobs, maker

    @abc.abstractmethod
    def describe(self, job: Job, now: float) -> dict[str, Any]:
        """Return a job as the service describes it."""

    @abc.abstractmethod
    def place(self, request: Request) -> Place:
        """Return where the jobs of a request are."""

    @abc.abstractmethod
    def missing(self, id: str) -> ApiError:
        """Return the error for a job that does not exist."""

    @abc.abstractmethod
    def name(self, job: Job) -> str:
        """Return how an error names a job."""

    async def get(self, request: Request) -> Response:
        """Handle a get."""
        return self.answer(request, await self.find(request))

    async def cancel(self, request: Request) -> Response:
        """Handle a cancel."""
        job = await self.find(request)
        if job.state is not None:
            raise ApiError(400, f"{self.name(job)} is over.", status="FAILED_PRECONDITION")
        self._jobs.cancel(job)
        return self._gateway.json(request, {})

    async def find(self, request: Request) -> Job:
        """Return the job of a request."""
        self._gateway.check_access(request)
        await self.settle()
        id = request.path_params["job"]
        job = self._jobs.find(id, self.place(request))
        if job is None:
            raise self.missing(id)
        return job

    async def settle(self) -> None:
        """Wait for results that are due."""
        await asyncio.to_thread(self._jobs.settle_for, _RESULTS_S)

    def page(self, request: Request, jobs: Iterable[Job]) -> Response:
        """Return the page of jobs that a request asks for."""
        query = request.query_params
        shown, following = page(
            list(jobs),
            query.get("pageSize") or query.get("page_size"),
            query.get("pageToken") or query.get("page_token"),
            DEFAULT_PAGE, self.largest_page,
        )  # fmt: skip
        now = self._state.clock.now()
        body: dict[str, object] = {}
        if shown:
            body[self.list_field] = [self.describe(job, now) for job in shown]
        if following:
            body["nextPageToken"] = following
        return self._gateway.json(request, body)

    def answer(self, request: Request, job: Job) -> Response:
        """Return the answer that describes a job."""
        return self._gateway.json(request, self.describe(job, self._state.clock.now()))
