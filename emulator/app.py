"""The routes: the Developer API, Vertex, and the emulator's own `/stats`, `/reset`, `/clock`."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from bulkembed.emulator.api_errors import (
    ApiError,
    Page,
    bad_field,
    bad_key,
    invalid,
    unauthenticated,
    unregistered,
)
from bulkembed.emulator.calls import EMBED_METHODS, ConnectionFault, State, answer, encode, respond
from bulkembed.emulator.canned import CannedBodies
from bulkembed.emulator.catalog import Catalog
from bulkembed.emulator.rules import Target, read_count
from bulkembed.emulator.settings import Fault
from bulkembed.emulator.wire import check_names
from bulkembed.emulator.word_vectors import words

_QUERY = frozenset({
    "key", "alt", "$alt", "fields", "prettyPrint", "pageSize", "page_size", "pageToken",
    "page_token", "queryBase",
})  # fmt: skip
Handler = Callable[[Request], Awaitable[Response]]


class NoAnswer(Response):
    """Resets the connection, or lets the client wait until it gives up."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait as long as the fault says, then reset the connection."""
        while self._fault is Fault.HANG and (await receive())["type"] != "http.disconnect":
            pass
        transport = scope["state"]["transport"]
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):  # The client may have closed it meanwhile.
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
        transport.abort()
        await asyncio.sleep(0.001)


class Emulator:
    """The handlers of one server."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._settings = state.settings
        today = dt.datetime.fromtimestamp(state.clock.now(), dt.UTC).date()
        self._catalog = Catalog(state.settings, today)
        self._canned = CannedBodies(state) if state.settings.canned else None

    def app(self) -> Starlette:
        """Return the ASGI application."""
        call = self._guard(self.call)
        routes = [
            Route("/stats", self.stats),
            Route("/reset", self.reset, methods=["POST"]),
            Route("/clock", self._guard(self.clock), methods=["GET", "POST"]),
            Route("/{version}/models", self._guard(self.list_models)),
            Route("/{version}/models/{model}:{method}", call, methods=["POST"]),
            Route("/{version}/models/{model}", self._guard(self.get_model)),
        ]
        for scope in ("", "/projects/{project}/locations/{location}"):
            base = "/{version}" + scope + "/publishers/google/models"
            routes += [
                Route(base, self._guard(self.list_models)),
                Route(base + "/{model}:{method}", call, methods=["POST"]),
                Route(base + "/{model}", self._guard(self.get_model)),
            ]
        not_found = self._guard(self.not_found)
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
        outcome = "aborted"
        try:
            response = await self._embed(request)
            outcome = str(response.status_code)
            return response
        except ApiError as error:
            outcome = f"page-{error.code}" if isinstance(error, Page) else str(error.code)
            raise
        except ConnectionFault as fault:
            outcome = str(fault.fault)
            return NoAnswer(fault.fault)
        finally:
            self._state.stats.end(outcome)

    async def _embed(self, request: Request) -> Response:
        target = self._target(request)
        raw = await self._read(request, target.max_body_bytes)
        if self._canned is not None:
            return await self._canned.answer(target, raw, request)
        project = request.path_params.get("project", "")
        content = await answer(self._state, target, project, _parse(raw))
        return respond(content, request, self._settings)

    async def other_method(self, request: Request) -> Response:
        """Handle `countTokens`; the catalogue rejects any other method."""
        target = self._target(request)
        texts = read_count(target, _parse(await self._read(request, target.max_body_bytes)))
        tokens = await asyncio.to_thread(words().count, texts)
        body: dict[str, object] = {"totalTokens": tokens}
        if target.vertex:
            body["totalBillableCharacters"] = sum(len("".join(text.split())) for text in texts)
        return self._json(request, body)

    async def list_models(self, request: Request) -> Response:
        """Handle `models.list`."""
        self._check_access(request)
        query = request.query_params
        size = query.get("pageSize") or query.get("page_size")
        token = query.get("pageToken") or query.get("page_token")
        vertex = _is_vertex(request)
        return self._json(request, self._catalog.page(size, token, vertex=vertex))

    async def get_model(self, request: Request) -> Response:
        """Handle `models.get`."""
        self._check_access(request)
        model, version = request.path_params["model"], request.path_params["version"]
        vertex = _is_vertex(request)
        spec = self._catalog.get(model, version, "getModel", vertex=vertex)
        return self._json(request, self._catalog.describe(spec, vertex=vertex))

    async def stats(self, request: Request) -> Response:
        """Return the counts."""
        return Response(
            encode(self._state.stats.as_json(), pretty=True), media_type="application/json"
        )

    async def reset(self, request: Request) -> Response:
        """Reset counts, quota windows, faults and outages."""
        self._state.reset()
        return await self.stats(request)

    async def clock(self, request: Request) -> Response:
        """Return the clock; POST {"offset_s": seconds} sets it."""
        clock = self._state.clock
        if request.method == "POST":
            body = _parse(await self._read(request, self._settings.max_body_bytes))
            offset_s = body.get("offset_s") if isinstance(body, dict) else None
            if isinstance(offset_s, bool) or not isinstance(offset_s, int | float):
                raise invalid('POST /clock needs {"offset_s": SECONDS}')
            clock.offset_s = float(offset_s)
        return self._json(request, {"offset_s": clock.offset_s, "now_s": clock.now()})

    async def not_found(self, request: Request) -> Response:
        """Answer 404 for a path that the service does not have."""
        raise ApiError(404, f"The requested URL {request.url.path} was not found on this server.")

    def _target(self, request: Request) -> Target:
        self._check_access(request)
        vertex, path = _is_vertex(request), request.path_params
        spec = self._catalog.find(path["model"], path["version"], path["method"], vertex=vertex)
        return Target(spec, path["method"], vertex, self._settings)

    def _check_access(self, request: Request) -> None:
        vertex = _is_vertex(request)
        self._check_version(request.path_params["version"], vertex=vertex)
        self._check_key(request, vertex=vertex)
        check_names(request.query_params, _QUERY)

    def _check_version(self, version: str, *, vertex: bool) -> None:
        if version not in (("v1", "v1beta", "v1beta1") if vertex else ("v1", "v1beta")):
            raise ApiError(404, f"The requested URL /{version} was not found on this server.")

    def _check_key(self, request: Request, *, vertex: bool) -> None:
        key = request.headers.get("x-goog-api-key") or request.query_params.get("key")
        if not key and request.headers.get("authorization", "").startswith("Bearer "):
            return
        if not key:
            raise unauthenticated() if vertex else unregistered()
        valid = self._settings.api_key
        if valid is not None and not secrets.compare_digest(key.encode(), valid.encode()):
            raise bad_key(f"{'aiplatform' if vertex else 'generativelanguage'}.googleapis.com")

    async def _read(self, request: Request, limit: int) -> bytes:
        """Return the body; read a larger one to its end, so that the client gets the answer."""
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limit:
                chunks.append(chunk)
        if size > limit:
            raise invalid(f"Request payload size exceeds the limit: {limit} bytes.")
        return b"".join(chunks)

    def _json(self, request: Request, body: dict[str, object]) -> Response:
        return respond(encode(body, pretty=True), request, self._settings)

    def _guard(self, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except Page as page:
                html = page.html()
                return respond(html, request, self._settings, page.code, "text/html")
            except ApiError as error:
                content = encode(error.body(), pretty=True)
                return respond(content, request, self._settings, error.code)

        return guarded


def _handled(handler: Handler) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def handle(request: Request, _: Exception) -> Response:
        return await handler(request)

    return handle


async def _client_gone(_: Request, __: Exception) -> Response:
    """Answer a client that closed the connection during its call; nobody reads it."""
    return Response(status_code=499)


def _is_vertex(request: Request) -> bool:
    return "/publishers/" in request.url.path


def _parse(raw: bytes) -> object:
    try:
        return orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError as error:
        raise bad_field("", f"Invalid JSON payload received. {error}") from error
