"""Batch inference of Vertex AI over HTTP: create, get, list, cancel, delete."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bulkembed.emulator.api_errors import ApiError, invalid
from bulkembed.emulator.batch_calls import BatchCalls
from bulkembed.emulator.batch_jobs import Job, JobStore, Place
from bulkembed.emulator.batch_settings import CallKind, InputErrors
from bulkembed.emulator.buckets import Buckets
from bulkembed.emulator.calls import State
from bulkembed.emulator.catalog import Catalog
from bulkembed.emulator.files import FileStore
from bulkembed.emulator.gateway import Gateway, parse
from bulkembed.emulator.job_making import JobMaker
from bulkembed.emulator.job_routes import JobRoutes
from bulkembed.emulator.targets import Target
from bulkembed.emulator.vertex_batches import (
    EXPRESS,
    METHOD,
    VertexJobRequest,
    check_region,
    describe,
    read_job,
    wanted_name,
)

_LIST_QUERY = frozenset({"filter", "readMask", "orderBy"})


class VertexBatchRoutes(JobRoutes):
    """The handlers of batch prediction jobs."""

    list_field, largest_page = METHOD, 100

    def __init__(
        self,
        state: State,
        gateway: Gateway,
        calls: BatchCalls,
        catalog: Catalog,
        files: FileStore,
        jobs: JobStore,
        maker: JobMaker,
        buckets: Buckets,
    ) -> None:
        super().__init__(state, gateway, calls, catalog, files, jobs, maker)
        self._buckets = buckets

    def routes(self) -> list[Route]:
        """Return the routes, with and without a project."""
        create = self._calls.handler(CallKind.CREATE, self.create)
        jobs = self._calls.handler(CallKind.LIST, self.list)
        get = self._calls.handler(CallKind.GET, self.get)
        cancel = self._calls.handler(CallKind.CANCEL, self.cancel)
        delete = self._calls.handler(CallKind.DELETE, self.delete)
        routes = []
        for scope in ("/projects/{project}/locations/{location}", ""):
            base = "/{version}" + f"{scope}/{METHOD}"
            routes += [
                Route(base, create, methods=["POST"]),
                Route(base, jobs, methods=["GET"]),
                Route(base + "/{job}:cancel", cancel, methods=["POST"]),
                Route(base + "/{job}", get, methods=["GET"]),
                Route(base + "/{job}", delete, methods=["DELETE"]),
            ]
        return routes

    async def create(self, request: Request) -> Response:
        """Handle `batchPredictionJobs.create`. Two equal calls create two jobs."""
        self._gateway.check_access(request)
        raw = await self._gateway.read(request, self._settings.max_body_bytes)
        wanted = read_job(parse(raw))
        place = self.place(request)
        version = request.path_params["version"]
        spec = self._catalog.get(wanted.model, version, METHOD, vertex=True)
        if place != EXPRESS:
            check_region(spec.name, place[1])
        self._buckets.check(wanted.output_prefix)
        target = Target(spec, METHOD, vertex=True, settings=self._settings)
        lines = self._files.new_path()
        failure = await asyncio.to_thread(self._fetch, wanted, lines)
        facts = {} if failure is None else {"failure": failure}
        job = await self._maker.make(
            target, lines, str(secrets.randbits(62) | 1 << 62), self._admit,
            display_name=wanted.display_name, place=place, output_prefix=wanted.output_prefix,
            input={"instancesFormat": "jsonl", "gcsSource": {"uris": wanted.uris}}, **facts,
        )  # fmt: skip
        return self.answer(request, job)

    def _fetch(self, wanted: VertexJobRequest, lines: Path) -> ApiError | None:
        """Copy the input to a file; return why it cannot be used, and leave the file empty."""
        lines.touch()
        try:
            size = sum(self._buckets.size(uri) for uri in wanted.uris)
            limit = self._settings.batch.vertex_bytes
            if size > limit:
                raise invalid(f"The input has {size} bytes; at most {limit} are supported.")
            self._buckets.fetch(wanted.uris, lines)
        except ApiError as error:
            return error
        return None

    def _admit(self, job: Job) -> None:
        batch = self._settings.batch
        if job.rows > batch.vertex_rows:
            job.failure = invalid(
                f"The input has {job.rows} rows; at most {batch.vertex_rows} are supported."
            )
        if job.failure is not None and batch.vertex_input_errors is InputErrors.CREATE:
            raise job.failure

    async def list(self, request: Request) -> Response:
        """Handle `batchPredictionJobs.list`: the newest first, with a filter of display names."""
        self._gateway.check_access(request, _LIST_QUERY)
        await self.settle()
        name = wanted_name(request.query_params.get("filter"))
        jobs = self._jobs.listed(self.place(request))
        return self.page(request, (job for job in jobs if name in (None, job.display_name)))

    async def delete(self, request: Request) -> Response:
        """Handle `batchPredictionJobs.delete`, of jobs that are over."""
        job = await self.find(request)
        if job.state is None:
            raise ApiError(400, f"The job {job.name} is not over.", status="FAILED_PRECONDITION")
        job.deleted = True
        name = job.name.replace(METHOD, "operations")
        return self._gateway.json(request, {"name": name, "done": True, "response": {}})

    def describe(self, job: Job, now: float) -> dict[str, Any]:
        """Return a batch prediction job."""
        return describe(self._jobs, job, now)

    def place(self, request: Request) -> Place:
        """Return the project and the location of a request."""
        path = request.path_params
        return (path["project"], path["location"]) if "project" in path else EXPRESS

    def missing(self, id: str) -> ApiError:
        """Return the error for a job that does not exist."""
        return ApiError(404, f"The BatchPredictionJob {id} does not exist.")

    def name(self, job: Job) -> str:
        """Return how an error names a job."""
        return f"The job {job.name}"
