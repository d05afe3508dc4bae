"""Keep the bodies of good answers from the SDK: megabytes each, received a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import zlib
from collections.abc import Iterator
from typing import Any

import httpcore2
import httpx2
from isal import isal_zlib

from bulkembed.schemas.errors import BadAnswer

_GZIP_WINDOW = 31
"""Window bits that ask for a gzip header: 15, and 16 for the header."""


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
    try:
        return isal_zlib.decompress(body, _GZIP_WINDOW)
    except isal_zlib.error as error:  # type: ignore[misc]  # isal: typed as an attribute
        raise ValueError(error) from None


MAX_ERROR_BYTES = 64 * 1024
"""How much is read of an answer without vectors; a proxy's page may have any size."""

AT_ONCE = 4
"""How many bodies are received at a time; the others wait in the kernel.

With 16, all would be in memory half received, and each would be complete later.  A stalled body
blocks only its own place.
"""
_PLAIN_JSON = {"content-type": "application/json"}
_BODY: contextvars.ContextVar[list[bytes] | None] = contextvars.ContextVar("body", default=None)
"""Where the current call of this task wants the body of a good answer."""

READ_BYTES = 256 * 1024
"""How much is read at a time, as asyncio does.  httpcore would read pieces of 64 kB and copy the
rest each time, which is a fifth of the cost of a download."""


@contextlib.contextmanager
def kept_body() -> Iterator[list[bytes]]:
    """Give a list that gets the body of the good answer to the call inside the `with`, if any."""
    body: list[bytes] = []
    token = _BODY.set(body)
    try:
        yield body
    finally:
        _BODY.reset(token)


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
        self._places = asyncio.Semaphore(AT_ONCE)
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
        # The client's own `send` logs a line for each call.
        response = await self._transport_for_url(request.url).handle_async_request(request)
        response.request = request
        try:
            if response.status_code != 200:
                raise NoVectors(response.status_code, response.headers, await _beginning(response))
            raw = await self._body(response)
        finally:
            await response.aclose()
        kept.append(inflate(raw, response.headers.get("content-encoding", "")))
        return httpx2.Response(200, headers=_PLAIN_JSON, content=b"{}", request=request)

    async def _body(self, response: httpx2.Response) -> bytes:
        """Return the body as it was sent; it takes a place when it begins, not with its header."""
        chunks = response.aiter_raw()
        begun = await anext(chunks, b"")
        async with self._places:
            return b"".join([begun, *[chunk async for chunk in chunks]])


async def _beginning(response: httpx2.Response) -> bytes:
    """Return the first bytes of a body; none if it cannot be decompressed."""
    begun = b""
    with contextlib.suppress(httpx2.DecodingError):
        async for chunk in response.aiter_bytes():
            begun += chunk
            if len(begun) >= MAX_ERROR_BYTES:
                break
    return begun[:MAX_ERROR_BYTES]
