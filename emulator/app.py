"""The routes: the Developer API, Vertex, and the emulator's own `/stats`, `/reset`, `/clock`."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bulkembed.emulator.answer_forms import encode
from bulkembed.emulator.api_errors import ApiError, Page, invalid, too_large
from bulkembed.emulator.batch_server import BatchServer
from bulkembed.emulator.calls import EMBED_METHODS, ConnectionFault, State, answer, respond
from bulkembed.emulator.canned import CannedBodies
from bulkembed.emulator.catalog import Catalog
from bulkembed.emulator.contents import names_media
from bulkembed.emulator.gateway import Gateway, Handler, NoAnswer, is_vertex, parse
from bulkembed.emulator.media_contents import count_tokens
from bulkembed.emulator.media_rules import VertexBatch
from bulkembed.emulator.rules import read_count
from bulkembed.emulator.targets import Target


class Emulator:
    """The handlers of one server."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._settings = state.settings
        self._gateway = Gateway(state.settings)
        today = dt.datetime.fromtimestamp(state.clock.now(), dt.UTC).date()
        self._catalog = Catalog(state.settings, today)
        self.batch = BatchServer(state, self._gateway, self._catalog)
        self._canned = CannedBodies(state) if state.settings.canned else None

    def app(self) -> Starlette:
        """Return the ASGI application."""
        call = self._gateway.guard(self.call)
        routes = [
            Route("/stats", self.stats),
            Route("/reset", self.reset, methods=["POST"]),
            Route("/clock", self._gateway.guard(self.clock), methods=["GET", "POST"]),
            *self.batch.routes(),
            Route("/{version}/models", self._gateway.guard(self.list_models)),
            Route("/{version}/models/{model}:{method}", call, methods=["POST"]),
            Route("/{version}/models/{model}", self._gateway.guard(self.get_model)),
        ]
        for scope in ("", "/projects/{project}/locations/{location}"):
            base = "/{version}" + scope + "/publishers/google/models"
            routes += [
                Route(base, self._gateway.guard(self.list_models)),
                Route(base + "/{model}:{method}", call, methods=["POST"]),
                Route(base + "/{model}", self._gateway.guard(self.get_model)),
            ]
        not_found = self._gateway.guard(self.not_found)
        return Starlette(
            routes=routes,
            exception_handlers={
                404: _handled(not_found),
                405: _handled(not_found),
                ClientDisconnect: _client_gone,
            },
        )

    async def call(self, request: Request) -> Response:
        """Handle a POST to a model's method."""
        method = request.path_params["method"]
        if method not in EMBED_METHODS:
            return await self.other_method(request)
        self._state.stats.begin()
        outcome: str | None = "aborted"
        try:
            response = await self._embed(request)
            outcome = str(response.status_code)
            return response
        except ApiError as error:
            outcome = f"page-{error.code}" if isinstance(error, Page) else str(error.code)
            raise
        except ConnectionFault as error:
            outcome, fault = None, error.fault  # A hanging call is in flight until it is closed.
            return NoAnswer(fault, lambda: self._state.stats.end(str(fault)))
        finally:
            if outcome is not None:
                self._state.stats.end(outcome)

    async def _embed(self, request: Request) -> Response:
        target = self._target(request)
        raw = await self._read(request, target)
        if target.vertex and target.method == "batchEmbedContents":
            self._check_vertex_batch(target)
        if self._canned is not None:
            return await self._canned.answer(target, raw, request)
        project = request.path_params.get("project", "")
        content = await answer(self._state, target, project, parse(raw))
        return respond(content, request, self._settings, media_type=target.form.media_type)

    async def other_method(self, request: Request) -> Response:
        """Handle `countTokens`; the catalogue rejects any other method."""
        target = self._target(request)
        raw = await self._read(request, target)
        contents = await asyncio.to_thread(read_count, target, parse(raw))
        tokens = await asyncio.to_thread(lambda: sum(map(count_tokens, contents)))
        body: dict[str, object] = {"totalTokens": tokens}
        if target.vertex:
            texts = [part for content in contents for part in content if isinstance(part, str)]
            body["totalBillableCharacters"] = sum(len("".join(text.split())) for text in texts)
        return self._gateway.json(request, body)

    async def _read(self, request: Request, target: Target) -> bytes:
        """Return the body of a request; one with media may be larger."""
        status = self._settings.media.body_status
        raw = await self._gateway.read(request, target.max_media_body_bytes, status)
        if len(raw) > target.max_body_bytes and not names_media(raw):
            raise too_large(target.max_body_bytes, status)
        return raw

    def _check_vertex_batch(self, target: Target) -> None:
        choice = self._settings.vertex_batch
        if choice is VertexBatch.PAGE:
            raise Page(404)
        if choice is VertexBatch.MISSING:
            raise ApiError(404, f"Method {target.method} is not found.")

    async def list_models(self, request: Request) -> Response:
        """Handle `models.list`."""
        self._gateway.check_access(request)
        query = request.query_params
        size = query.get("pageSize") or query.get("page_size")
        token = query.get("pageToken") or query.get("page_token")
        vertex = is_vertex(request)
        return self._gateway.json(request, self._catalog.page(size, token, vertex=vertex))

    async def get_model(self, request: Request) -> Response:
        """Handle `models.get`."""
        self._gateway.check_access(request)
        model, version = request.path_params["model"], request.path_params["version"]
        vertex = is_vertex(request)
        spec = self._catalog.get(model, version, "getModel", vertex=vertex)
        return self._gateway.json(request, self._catalog.describe(spec, vertex=vertex))

    async def stats(self, request: Request) -> Response:
        """Return the counts."""
        counts = await asyncio.to_thread(self.counts)
        return Response(encode(counts, pretty=True), media_type="application/json")

    def counts(self) -> dict[str, Any]:
        """Return the content of `/stats`."""
        batch = self.batch.as_json()
        return self._state.stats.as_json() | {"batch": batch}

    async def reset(self, request: Request) -> Response:
        """Reset counts, quota windows, faults and outages."""
        self._state.reset()
        self.batch.reset()
        return await self.stats(request)

    async def clock(self, request: Request) -> Response:
        """Return the clock; POST {"offset_s": seconds} sets it."""
        clock = self._state.clock
        if request.method == "POST":
            body = parse(await self._gateway.read(request, self._settings.max_body_bytes))
            offset_s = body.get("offset_s") if isinstance(body, dict) else None
            if isinstance(offset_s, bool) or not isinstance(offset_s, int | float):
                raise invalid('POST /clock needs {"offset_s": SECONDS}')
            clock.offset_s = float(offset_s)
        return self._gateway.json(request, {"offset_s": clock.offset_s, "now_s": clock.now()})

    async def not_found(self, request: Request) -> Response:
        """Answer 404 for a path that the service does not have."""
        raise ApiError(404, f"The requested URL {request.url.path} was not found on this server.")

    def _target(self, request: Request) -> Target:
        self._gateway.check_access(request)
        vertex, path = is_vertex(request), request.path_params
        spec = self._catalog.find(path["model"], path["version"], path["method"], vertex=vertex)
        form = self._gateway.form(request)
        return Target(spec, path["method"], vertex, self._settings, self.batch.uris, form)


def _handled(handler: Handler) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, _: Exception) -> Response:
        return await handler(request)

    return handle


async def _client_gone(_: Request, __: Exception) -> Response:
    """Answer a client that closed the connection during its call; nobody reads it."""
    return Response(status_code=499)
