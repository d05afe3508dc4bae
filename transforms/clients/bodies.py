"""An HTTP client that keeps the bodies of good answers, so that the SDK does not parse them.

A body has megabytes, so only a few are received at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import httpcore2
import httpx2
from isal import isal_zlib

from bulkembed.schemas.errors import BadAnswer

MAX_ERROR_BYTES = 64 * 1024
"""How much is read of an answer without vectors; a proxy's page may have any size."""

BODIES_AT_ONCE = 4
"""How many bodies are received at a time; the others wait in the kernel.

With 16, all would be in memory half received, and each would be complete later.  A stalled body
blocks only its own place.
"""
_GZIP_WINDOW = 31
"""Window bits that require a gzip header: 15, and 16 for the header."""
_PLAIN_JSON = {"content-type": "application/json"}
_BODY: contextvars.ContextVar[KeptBody | None] = contextvars.ContextVar("body", default=None)
"""Gets the body of the good answer to the call that this task makes."""

READ_BYTES = 256 * 1024
"""How much is read at a time, as asyncio does.  httpcore would read pieces of 64 kB and copy the
rest each time, which is a fifth of the cost of a download."""


@dataclasses.dataclass(slots=True)
class KeptBody:
    """The body of the good answer to one call; empty before it is there."""

    parameters: Mapping[str, str]
    """Added to the query of the call."""
    content: bytes = b""
    """Decompressed."""


@contextlib.contextmanager
def kept_body(parameters: Mapping[str, str] | None = None) -> Iterator[KeptBody]:
    """Yield what gets the body if the call inside the `with` has a good answer.

    Args:
        parameters: added to the query of the call.
    """
    body = KeptBody(parameters or {})
    token = _BODY.set(body)
    try:
        yield body
    finally:
        _BODY.reset(token)


def inflate(body: bytes, encoding: str) -> bytes:
    """Return the content of a body that was sent with a `content-encoding`.

    Raises:
        BadAnswer: the body is truncated, or does not have the encoding that the header names.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    try:
        if encoding == "gzip":
            return _gunzip(body)
        return httpx2.Response(200, headers={"content-encoding": encoding}, content=body).content
    except (zlib.error, ValueError, EOFError, httpx2.DecodingError) as error:
        raise BadAnswer(f"the answer cannot be decompressed: {error}", code="encoding") from None


def _gunzip(body: bytes) -> bytes:
    # isal is three times as fast as zlib, and gzip is half of the cost of a compressed answer.
    try:
        return isal_zlib.decompress(body, _GZIP_WINDOW)
    except isal_zlib.error as error:  # type: ignore[misc]  # isal: typed as an attribute
        raise ValueError(error) from None


class _WideStream(httpcore2.AsyncNetworkStream):
    """A connection that is read READ_BYTES at a time."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._stream.read(max(max_bytes, READ_BYTES), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return _WideStream(await self._stream.start_tls(*args, **options))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _WideBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections that are read READ_BYTES at a time."""

    def __init__(self, backend: httpcore2.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return _WideStream(await self._backend.connect_tcp(*args, **options))

    async def connect_unix_socket(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return _WideStream(await self._backend.connect_unix_socket(*args, **options))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class NoVectors(Exception):
    """An answer with another status than 200; `body` is its beginning, decompressed."""

    def __init__(self, status: int, headers: httpx2.Headers, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


class BodyKeeper(httpx2.AsyncClient):
    """An HTTP client that returns empty bodies to callers inside `kept_body`.

    It changes nothing of httpx and httpcore outside itself: other code of the process may use them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._places = asyncio.Semaphore(BODIES_AT_ONCE)
        for transport in (self._transport, *self._mounts.values()):
            if isinstance(transport, httpx2.AsyncHTTPTransport):
                pool: Any = transport._pool
                pool._network_backend = _WideBackend(pool._network_backend)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """See httpx.

        Raises:
            NoVectors: inside `kept_body`, for an answer with another status than 200.
        """
        kept = _BODY.get()
        if kept is None:
            return await super().send(request, **options)
        if kept.parameters:
            request.url = request.url.copy_merge_params(kept.parameters)
        # The client's own `send` logs a line for each call.
        response = await self._transport_for_url(request.url).handle_async_request(request)
        response.request = request
        try:
            if response.status_code != 200:
                raise NoVectors(response.status_code, response.headers, await _beginning(response))
            raw = await self._body(response)
        finally:
            await response.aclose()
        kept.content = inflate(raw, response.headers.get("content-encoding", ""))
        return httpx2.Response(200, headers=_PLAIN_JSON, content=b"{}", request=request)

    async def _body(self, response: httpx2.Response) -> bytes:
        """Return the body as it was sent.  It takes a place after its first bytes."""
        chunks = response.aiter_raw()
        first = await anext(chunks, b"")
        async with self._places:
            return b"".join([first, *[chunk async for chunk in chunks]])


async def _beginning(response: httpx2.Response) -> bytes:
    """Return the first bytes of a body; none if it cannot be decompressed."""
    beginning = b""
    with contextlib.suppress(httpx2.DecodingError):
        async for chunk in response.aiter_bytes():
            beginning += chunk
            if len(beginning) >= MAX_ERROR_BYTES:
                break
    return beginning[:MAX_ERROR_BYTES]
