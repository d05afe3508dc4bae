"""The Batch API of the Developer API over HTTP: create, get, list, cancel, delete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bulkembed.emulator import wire
from bulkembed.emulator.api_errors import ApiError, invalid
from bulkembed.emulator.batch_jobs import Job, Place, new_job_id
from bulkembed.emulator.batch_operations import operation
from bulkembed.emulator.batch_quota import check_quota, check_tier
from bulkembed.emulator.batch_settings import CallKind
from bulkembed.emulator.files import DiskBytes, StoredFile
from bulkembed.emulator.gateway import parse
from bulkembed.emulator.job_routes import JobRoutes
from bulkembed.emulator.targets import Target
from bulkembed.schemas.models import bare_name

METHOD = "asyncBatchEmbedContent"
_BATCH = frozenset({
    "model", "name", "displayName", "inputConfig", "output", "createTime", "endTime",
    "updateTime", "batchStats", "state", "priority", "webhookConfig",
})  # fmt: skip
_INPUT = frozenset({"fileName", "requests"})
_INLINE = frozenset({"request", "metadata"})


class BatchRoutes(JobRoutes):
    """The handlers of batch jobs."""

    list_field, largest_page = "operations", 1000

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
        """Handle `asyncBatchEmbedContent`. Two equal calls create two jobs."""
        self._gateway.check_access(request)
        path = request.path_params
        spec = self._catalog.get(path["model"], path["version"], METHOD, vertex=False)
        target = Target(spec, METHOD, vertex=False, settings=self._settings)
        check_tier(self._settings)
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
        return self.answer(request, job)

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

    async def list(self, request: Request) -> Response:
        """Handle `batches.list`: the newest first."""
        self._gateway.check_access(request)
        await self.settle()
        return self.page(request, self._jobs.listed(self.place(request)))

    async def delete(self, request: Request) -> Response:
        """Handle `batches.delete`. It does not cancel the job."""
        job = await self.find(request)
        job.deleted = True
        return self._gateway.json(request, {})

    def describe(self, job: Job, now: float) -> dict[str, Any]:
        """Return an operation."""
        return operation(self._jobs, job, now)

    def place(self, request: Request) -> Place:
        """Return the one place of all jobs."""
        return ()

    def missing(self, id: str) -> ApiError:
        """Return the error for a job that does not exist."""
        return ApiError(404, "Requested entity was not found.")

    def name(self, job: Job) -> str:
        """Return how an error names a job."""
        return f"Batch {job.id}"
