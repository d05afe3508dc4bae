"""The bodies of good answers: megabytes each, kept from the SDK, and taken in a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import httpcore2
import httpx2

from transforms.clients.inflate import inflate

AT_ONCE = 4
"""Bodies that are taken in at a time.  16 side by side would all be in memory, half done, and each
would be there later; so the others wait in the kernel.  One that stalls keeps its place only."""
_PLAIN_JSON = {"content-type": "application/json"}
_BODY: contextvars.ContextVar[list[bytes] | None] = contextvars.ContextVar("body", default=None)
"""Where the call that is under way in this task wants the body of a good answer."""

# asyncio reads 256 kB at a time, which httpcore takes in pieces of 64 kB, copying the rest of it
# each time: a fifth of what the download costs.
httpcore2.AsyncHTTP11Connection.READ_NUM_BYTES = 256 * 1024


@contextlib.contextmanager
def kept_body() -> Iterator[list[bytes]]:
    """The body of the good answer, if one came, to the call that is made inside the `with`."""
    body: list[bytes] = []
    token = _BODY.set(body)
    try:
        yield body
    finally:
        _BODY.reset(token)


class BodyKeeper(httpx2.AsyncClient):
    """An HTTP client that hands an empty body to whoever calls it inside `kept_body`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._places = asyncio.Semaphore(AT_ONCE)

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """See httpx; an answer with another status than 200 is handed on as it is."""
        kept = _BODY.get()
        if kept is None:
            return await super().send(request, **options)
        response = await super().send(request, **{**options, "stream": True})
        try:
            if response.status_code != 200:
                await response.aread()
                return response
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
