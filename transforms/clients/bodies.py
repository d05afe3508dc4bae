"""The bodies of good answers: megabytes each, kept from the SDK, and taken in a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import zlib
from collections.abc import Iterator
from typing import Any

import httpcore2
import httpx2

from bulkembed.schemas.errors import BadAnswer

isal_zlib: Any
try:
    from isal import isal_zlib
except ImportError:  # Optional: three times as fast as zlib, where it is installed.
    isal_zlib = None

_GZIP_WINDOW = 31
"""Window bits that ask for a gzip header: 15, and 16 for the header."""


def inflate(body: bytes, encoding: str) -> bytes:
    """The content of a body that was sent with a `content-encoding`.

    Raises:
        BadAnswer: the body is cut short, or not what the header says.
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
    if isal_zlib is None:
        return zlib.decompress(body, _GZIP_WINDOW)
    try:
        content: bytes = isal_zlib.decompress(body, _GZIP_WINDOW)
    except isal_zlib.error as error:
        raise ValueError(error) from None
    return content


MOST_ERROR_BYTES = 64 * 1024
"""What is read of an answer without vectors; a page that a proxy sends may be of any size."""

AT_ONCE = 4
"""Bodies that are taken in at a time.  16 side by side would all be in memory, half done, and each
would be there later; so the others wait in the kernel.  One that stalls keeps its place only."""
_PLAIN_JSON = {"content-type": "application/json"}
_BODY: contextvars.ContextVar[list[bytes] | None] = contextvars.ContextVar("body", default=None)
"""Where the call that is under way in this task wants the body of a good answer."""

READ_BYTES = 256 * 1024
"""What is read at a time, as asyncio does.  httpcore would take it in pieces of 64 kB, copying the
rest each time: a fifth of what the download costs."""


@contextlib.contextmanager
def kept_body() -> Iterator[list[bytes]]:
    """The body of the good answer, if one came, to the call that is made inside the `with`."""
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
    """An answer with another status than 200: what the SDK would make an error of its own of.

    `body` is its beginning, decompressed.
    """

    def __init__(self, status: int, headers: httpx2.Headers, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


class BodyKeeper(httpx2.AsyncClient):
    """An HTTP client that hands an empty body to whoever calls it inside `kept_body`.

    Nothing of httpx and httpcore is changed but what belongs to this client: the process may be
    somebody else's.
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
        # Not by the client's own `send`, which logs a line for each call.
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
        """The body as it was sent; it takes a place once it has begun, not with its header."""
        chunks = response.aiter_raw()
        begun = await anext(chunks, b"")
        async with self._places:
            return b"".join([begun, *[chunk async for chunk in chunks]])


async def _beginning(response: httpx2.Response) -> bytes:
    """The first bytes of a body; none where it cannot be decompressed."""
    begun = b""
    with contextlib.suppress(httpx2.DecodingError):
        async for chunk in response.aiter_bytes():
            begun += chunk
            if len(begun) >= MOST_ERROR_BYTES:
                break
    return begun[:MOST_ERROR_BYTES]
