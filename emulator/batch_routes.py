"""The Batch API of the Developer API over HTTP: create, get, list, cancel, delete."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bulkembed.emulator import wire
from bulkembed.emulator.api_errors import ApiError, invalid
from bulkembed.emulator.batch_calls import BatchCalls
from bulkembed.emulator.batch_jobs import Job, JobStore, new_job_id
from bulkembed.emulator.batch_operations import operation
from bulkembed.emulator.batch_quota import check_quota
from bulkembed.emulator.batch_settings import CallKind
from bulkembed.emulator.calls import State
from bulkembed.emulator.catalog import Catalog
from bulkembed.emulator.files import DiskBytes, FileStore, StoredFile, page
from bulkembed.emulator.gateway import Gateway, parse
from bulkembed.emulator.job_making import JobMaker
from bulkembed.emulator.rules import Target
from bulkembed.schemas.models import bare_name

METHOD = "asyncBatchEmbedContent"
_BATCH = frozenset({
    "model", "name", "displayName", "inputConfig", "output", "createTime", "endTime",
    "updateTime", "batchStats", "state", "priority", "webhookConfig",
})  # fmt: skip
_INPUT = frozenset({"fileName", "requests"})
_INLINE = frozenset({"request", "metadata"})
_DEFAULT_PAGE, _LARGEST_PAGE = 50, 1000
_RESULTS_S = 5.0
"""How long an answer about a job waits for results that are late."""


class BatchRoutes:
    """The handlers of batch jobs."""

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

    def routes(self) -> list[Route]:
        """Return the routes."""
        handler = self._calls.handler
        create = handler(CallKind.CREATE, self.create)
        cancel = handler(CallKind.CANCEL, self.cancel)
        delete = handler(CallKind.DELETE, self.delete)
        return [
            Route("/{version}/models/{model}:" + METHOD, create, methods=["POST"]),
            Route("/{version}/batches", handler(CallKind.LIST, self.list)),
            Route("/{version}/batches/{job}:cancel", cancel, methods=["POST"]),
            Route("/{version}/batches/{job}", handler(CallKind.GET, self.get), methods=["GET"]),
            Route("/{version}/batches/{job}", delete, methods=["DELETE"]),
        ]

    async def create(self, request: Request) -> Response:
        """Handle `asyncBatchEmbedContent`.  Two equal calls create two jobs."""
        self._gateway.check_access(request)
        path = request.path_params
        spec = self._catalog.get(path["model"], path["version"], METHOD, vertex=False)
        target = Target(spec, METHOD, vertex=False, settings=self._settings)
        raw = await self._gateway.read(request, self._settings.batch.inline_bytes)
        message = wire.Message(parse(raw), "", frozenset({"batch"}))
        if "batch" not in message:
            raise invalid("* AsyncBatchEmbedContentRequest.batch: batch is required\n")
        batch = wire.Message(message.get("batch"), "batch", _BATCH)
        model = batch.text("model")
        if model and bare_name(model) != spec.name:
            raise invalid("* AsyncBatchEmbedContentRequest.batch.model: it must match the URL\n")
        where = batch.path("inputConfig")
        config = wire.Message(batch.get("inputConfig") or {}, where, _INPUT)
        lines, file = self._lines(config)
        job = await self._maker.make(
            target, lines, new_job_id(), lambda job: check_quota(self._settings, self._jobs, job),
            display_name=batch.text("displayName"), file=file, inline=file is None,
            input={"fileName": file.name} if file is not None else {"requests": {}},
        )  # fmt: skip
        return await self._answer(request, job)

    def _lines(self, config: wire.Message) -> tuple[Path, StoredFile | None]:
        """Return a copy of the job's lines, and their file unless they came inline."""
        if ("fileName" in config) == ("requests" in config):
            raise invalid("* EmbedContentBatch.input_config: give file_name or requests\n")
        path = self._files.new_path()
        if "fileName" in config:
            name = config.text("fileName") or ""
            file = self._files.get(name.removeprefix("files/"))
            if not name.startswith("files/") or not isinstance(file.content, DiskBytes):
                raise invalid(f"The file {name} cannot be the input of a batch.")
            os.link(file.content.path, path)
            return path, file
        where = config.path("requests")
        requests = wire.Message(config.get("requests"), where, frozenset({"requests"}))
        values = list(requests.items("requests"))
        if not values:
            raise invalid("* EmbedContentBatch.input_config.requests: it is empty\n")
        for value, place in values:
            wire.Message(value, place, _INLINE)
        path.write_bytes(b"".join(orjson.dumps(value) + b"\n" for value, _ in values))
        return path, None

    async def get(self, request: Request) -> Response:
        """Handle `batches.get`."""
        return await self._answer(request, await self._find(request))

    async def list(self, request: Request) -> Response:
        """Handle `batches.list`: the newest first."""
        self._gateway.check_access(request)
        await self._settle()
        query = request.query_params
        jobs, following = page(
            self._jobs.listed(()),
            query.get("pageSize") or query.get("page_size"),
            query.get("pageToken") or query.get("page_token"),
            _DEFAULT_PAGE, _LARGEST_PAGE,
        )  # fmt: skip
        now = self._state.clock.now()
        body: dict[str, object] = {}
        if jobs:
            body["operations"] = [operation(self._jobs, job, now) for job in jobs]
        if following:
            body["nextPageToken"] = following
        return self._gateway.json(request, body)

    async def cancel(self, request: Request) -> Response:
        """Handle `batches.cancel`."""
        job = await self._find(request)
        if job.state is not None:
            raise ApiError(400, f"Batch {job.id} is over.", status="FAILED_PRECONDITION")
        self._jobs.cancel(job)
        return self._gateway.json(request, {})

    async def delete(self, request: Request) -> Response:
        """Handle `batches.delete`.  It does not cancel the job."""
        job = await self._find(request)
        job.deleted = True
        return self._gateway.json(request, {})

    async def _find(self, request: Request) -> Job:
        self._gateway.check_access(request)
        await self._settle()
        job = self._jobs.find(request.path_params["job"], ())
        if job is None:
            raise ApiError(404, "Requested entity was not found.")
        return job

    async def _settle(self) -> None:
        await asyncio.to_thread(self._jobs.settle_for, _RESULTS_S)

    async def _answer(self, request: Request, job: Job) -> Response:
        body: dict[str, Any] = operation(self._jobs, job, self._state.clock.now())
        return self._gateway.json(request, body)
