"""What precedes every method: its version, key, query and body; and its errors as answers."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from bulkembed.emulator.answer_forms import AnswerForm, encode, encode_error, requested_form
from bulkembed.emulator.api_errors import (
    ApiError,
    Page,
    bad_field,
    bad_key,
    too_large,
    unauthenticated,
    unregistered,
)
from bulkembed.emulator.calls import respond
from bulkembed.emulator.settings import EmulatorSettings, Fault
from bulkembed.emulator.wire import check_names

QUERY = frozenset({
    "key", "alt", "$alt", "fields", "prettyPrint", "$prettyPrint", "pageSize", "page_size",
    "pageToken", "page_token", "queryBase",
})  # fmt: skip
"""The query parameters that every method accepts."""
Handler = Callable[[Request], Awaitable[Response]]


class NoAnswer(Response):
    """Resets the connection, or lets the client wait until it gives up."""

    def __init__(self, fault: Fault, ended: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._fault, self._ended = fault, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait as long as the fault says, then reset the connection."""
        try:
            while self._fault is Fault.HANG and (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._ended()
        transport = scope["state"]["transport"]
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):  # The client may have closed it meanwhile.
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
        transport.abort()
        await asyncio.sleep(0.001)


class Gateway:
    """The checks and answers that all methods of one server share."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        self._error_words = dict(settings.error_words)

    def check_access(self, request: Request, more: frozenset[str] = frozenset()) -> None:
        """Check the version, the key and the query; `more` are further query parameters."""
        vertex = is_vertex(request)
        self._check_version(request.path_params["version"], vertex=vertex)
        self._check_key(request, vertex=vertex)
        check_names(request.query_params, (QUERY | more) - set(self._settings.unknown_parameters))
        self.form(request)

    def form(self, request: Request) -> AnswerForm:
        """Return the form of the answer that a request asks for."""
        unknown = self._settings.unknown_parameters
        query = {name: one for name, one in request.query_params.items() if name not in unknown}
        return requested_form(query, vertex=is_vertex(request), always_pretty=self._settings.pretty)

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

    async def read(self, request: Request, limit: int, status: int = 400) -> bytes:
        """Return the body; read a larger one to its end, so that the client gets the answer."""
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limit:
                chunks.append(chunk)
        if size > limit:
            raise too_large(limit, status)
        return b"".join(chunks)

    def json(self, request: Request, body: dict[str, object]) -> Response:
        """Return an answer of a method that gives no vectors: always JSON."""
        pretty = self.form(request) is not AnswerForm.COMPACT
        return respond(encode(body, pretty=pretty), request, self._settings)

    def guard(self, handler: Handler) -> Handler:
        """Return the handler with the errors that it raises as answers."""

        async def guarded(request: Request) -> Response:
            try:
                return await handler(request)
            except ApiError as error:
                return self.error(request, error)

        return guarded

    def error(self, request: Request, error: ApiError) -> Response:
        """Return the answer of an error."""
        words = self._error_words.get(error.kind)
        if words is not None:
            message = words.message.replace("{model}", request.path_params.get("model", ""))
            error = ApiError(words.status, message, error.details)
        if isinstance(error, Page):
            return respond(error.html(), request, self._settings, error.code, "text/html")
        try:
            form = self.form(request)
        except ApiError:
            form = AnswerForm.PRETTY
        content = encode_error(error, form)
        return respond(content, request, self._settings, error.code, form.media_type)


def is_vertex(request: Request) -> bool:
    """Return whether a request has a path of Vertex AI."""
    path = request.url.path
    return any(part in path for part in ("/publishers/", "/projects/", "/batchPredictionJobs"))


def parse(raw: bytes) -> object:
    """Return the JSON of a body; an empty one is an empty message."""
    try:
        return orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError as error:
        raise bad_field("", f"Invalid JSON payload received. {error}") from error
