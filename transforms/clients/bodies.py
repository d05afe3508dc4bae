"""An HTTP client that receives the large bodies of good answers.

A body has megabytes, so only a few are received at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import Any

import httpx2
from isal import isal_zlib

from bulkembed.schemas.errors import BadAnswer
from bulkembed.transforms.clients.body_buffers import BodyBuffers, put
from bulkembed.transforms.clients.body_places import BodyPlace
from bulkembed.transforms.clients.network import WideBackend, replace_backend

MAX_ERROR_BYTES = 64 * 1024
"""How much is read of an answer without vectors; a proxy's page may have any size."""

BODIES_AT_ONCE = 4
"""How many bodies are received at a time; the others wait in the kernel.

With 16, all would be in memory half received, and each would be complete later.
"""
MAX_EXPECTED_BYTES = 64 << 20
"""How much memory is taken because a header says that so many bytes will come."""
_GZIP_WINDOW = 31
"""Window bits that require a gzip header: 15, and 16 for the header."""
_GZIP_MAGIC = b"\x1f\x8b"
"""The first bytes of a gzip file; neither JSON nor protobuf begins like this."""


@dataclasses.dataclass(slots=True)
class KeptBody:
    """The body of a good answer; empty before it is there."""

    content: bytearray = dataclasses.field(default_factory=bytearray)
    """Decompressed."""
    content_type: str = ""
    buffers: BodyBuffers | None = None
    """Where the content comes from."""

    def release(self) -> None:
        """Let the memory of the content be used for other bodies."""
        if self.buffers is not None:
            self.buffers.give_back(self.content)


class Inflater:
    """Decompresses a body that arrives in pieces.

    The first bytes decide whether it is gzip: some proxies decompress a body and leave the header
    as it was, or remove only the header. The body was paid for all the same.

    Args:
        encoding: the `content-encoding` of the answer.
    """

    def __init__(self, encoding: str) -> None:
        encoding = encoding.strip().lower()
        self.encoding = {"identity": "", "x-gzip": "gzip"}.get(encoding, encoding)
        self._begin: bytes | None = b""
        self._gzip: Any = None
        self._packed: list[bytes] = []

    def take(self, piece: bytes) -> bytes:
        """Return what can be decompressed after a piece has arrived.

        Raises:
            BadAnswer: the body does not have the encoding that the header names.
        """
        if self._begin is not None:
            self._begin += piece
            if len(self._begin) < len(_GZIP_MAGIC):
                return b""
            piece, self._begin = self._begin, None
            self._note_begin(piece)
        if self._gzip is not None:
            return self._unzipped(piece)
        if self.encoding:
            self._packed.append(piece)
            return b""
        return piece

    def rest(self) -> bytes:
        """Return the rest, after the last piece.

        Raises:
            BadAnswer: the body is truncated, or does not have the encoding that the header names.
        """
        if self._begin:
            return self._begin
        if self._gzip is not None and not self._gzip.eof:
            raise _bad_encoding("it is truncated")
        if not self._packed:
            return b""
        try:
            headers, packed = {"content-encoding": self.encoding}, b"".join(self._packed)
            return httpx2.Response(200, headers=headers, content=packed).content
        except httpx2.DecodingError as error:
            raise _bad_encoding(error) from None

    def _note_begin(self, begin: bytes) -> None:
        is_gzip = begin.startswith(_GZIP_MAGIC)
        if self.encoding in ("", "gzip"):
            self.encoding = "gzip" if is_gzip else ""
            # isal is three times as fast as zlib, and gzip is half of the cost of an answer.
            self._gzip = isal_zlib.decompressobj(_GZIP_WINDOW) if is_gzip else None

    def _unzipped(self, piece: bytes) -> bytes:
        """Return a piece, decompressed; several gzip files may follow one another (RFC 1952)."""
        found = b""
        try:
            while piece:
                if self._gzip.eof:
                    if not _GZIP_MAGIC.startswith(piece[:2]):
                        break
                    self._gzip = isal_zlib.decompressobj(_GZIP_WINDOW)
                found += self._gzip.decompress(piece)
                piece = self._gzip.unused_data
        except isal_zlib.error as error:  # type: ignore[misc]  # isal: typed as an attribute
            raise _bad_encoding(error) from None
        return found


def _bad_encoding(reason: object) -> BadAnswer:
    return BadAnswer(f"the answer cannot be decompressed: {reason}", code="encoding")


class NoVectors(Exception):
    """An answer with another status than 200; `body` is its beginning, decompressed."""

    def __init__(self, status: int, headers: httpx2.Headers, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


class BodyKeeper(httpx2.AsyncClient):
    """An HTTP client that makes no copies of a body, and receives a few bodies at a time.

    It changes nothing of httpx and httpcore outside itself: other code of the process may use them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._places = asyncio.Semaphore(BODIES_AT_ONCE)
        self._buffers = BodyBuffers()
        for transport in (self._transport, *self._mounts.values()):
            if isinstance(transport, httpx2.AsyncHTTPTransport):
                replace_backend(transport, lambda _: WideBackend())

    async def receive(self, request: httpx2.Request, kept: KeptBody) -> None:
        """Send a request, and receive its good answer.

        Raises:
            NoVectors: the answer has another status than 200.
        """
        # The client's own `send` logs a line for each call.
        response = await self._transport_for_url(request.url).handle_async_request(request)
        response.request = request
        try:
            if response.status_code != 200:
                raise NoVectors(response.status_code, response.headers, await _beginning(response))
            kept.content_type = response.headers.get("content-type", "")
            await self._receive(response, kept)
        finally:
            await response.aclose()

    async def _receive(self, response: httpx2.Response, kept: KeptBody) -> None:
        """Receive the body, decompressed. It takes a place after its first bytes."""
        pieces = response.aiter_raw()
        first = await anext(pieces, b"")
        inflater = Inflater(response.headers.get("content-encoding", ""))
        length = min(int(response.headers.get("content-length", 0)), MAX_EXPECTED_BYTES)
        async with BodyPlace(self._places) as place:
            kept.buffers, kept.content = self._buffers, self._buffers.take()
            end = put(kept.content, 0, inflater.take(first))
            expected = 0 if inflater.encoding else length
            async for piece in pieces:
                await place.arrived()
                end = put(kept.content, end, inflater.take(piece), expected)
        end = put(kept.content, end, inflater.rest())
        del kept.content[end:]


async def _beginning(response: httpx2.Response) -> bytes:
    """Return the first bytes of a body; none if it cannot be decompressed."""
    beginning = b""
    with contextlib.suppress(httpx2.DecodingError):
        async for chunk in response.aiter_bytes():
            beginning += chunk
            if len(beginning) >= MAX_ERROR_BYTES:
                break
    return beginning[:MAX_ERROR_BYTES]
