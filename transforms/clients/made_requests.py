"""Requests as the SDK makes and signs them, which are sent without it.

The SDK takes about as long to make a request and to look at the answer as httpx to send both.
"""

from __future__ import annotations

import contextvars
import dataclasses
import json
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any

import httpx2
import orjson

from bulkembed.transforms.clients.lean_answers import ALT, PROTO

_GZIP_AGENT = " (gzip)"
"""Some of Google's APIs compress only for clients whose name has this word.

Source: developers.google.com, "Performance tips".
"""
_PLAIN_JSON = {"content-type": "application/json"}
_MADE: contextvars.ContextVar[list[httpx2.Request]] = contextvars.ContextVar("made")
"""Gets the requests that the SDK makes in this task."""

Make = Callable[[], Awaitable[object]]
"""Has the SDK make one request."""


class UnsentRequests(httpx2.AsyncClient):
    """An HTTP client for the SDK that sends nothing, and returns empty answers."""

    async def send(self, request: httpx2.Request, **_: Any) -> httpx2.Response:
        """Keep a request for the task that has the SDK make it."""
        _MADE.get().append(request)
        return httpx2.Response(200, headers=_PLAIN_JSON, content=b"{}", request=request)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """What requests of one kind have in common."""

    method: str
    url: httpx2.URL
    headers: httpx2.Headers
    extensions: Mapping[str, Any]
    fields: Mapping[str, Any]
    """The fields that the SDK writes into the body."""

    def with_body(self, fields: Mapping[str, Any]) -> httpx2.Request:
        """Return a request with these fields instead of the SDK's, as far as they are given."""
        return httpx2.Request(
            self.method,
            self.url,
            headers=self.headers,
            content=_json({**self.fields, **fields}),
            extensions=self.extensions,
        )


class RequestMaker:
    """Makes the requests of one client.

    Args:
        is_signed_by_key: whether the credentials are a key, which does not expire. Requests of one
            kind differ in their bodies only then, so the SDK makes the first one of each kind.
        encodings: how answers may be compressed.
    """

    def __init__(self, *, is_signed_by_key: bool, encodings: str) -> None:
        self._reuses = is_signed_by_key
        self._encodings = encodings
        self._forms: dict[Hashable, _Form] = {}

    async def request(
        self,
        make: Make,
        parameters: Mapping[str, str],
        kind: Hashable = None,
        fields: Mapping[str, Any] | None = None,
    ) -> httpx2.Request:
        """Return a request that is ready to send.

        Args:
            make: has the SDK make a request of this kind.
            parameters: added to the query.
            kind: requests of the same kind differ in their fields only; None for a single one.
            fields: of the body, instead of the SDK's.
        """
        key = (kind, *parameters.items())
        form = self._forms.get(key)
        if form is None:
            form = await self._made(make, parameters)
            if self._reuses and kind is not None:
                self._forms[key] = form
        return form.with_body(fields or {})

    async def _made(self, make: Make, parameters: Mapping[str, str]) -> _Form:
        """Have the SDK make a request, and add what it does not know of."""
        made: list[httpx2.Request] = []
        token = _MADE.set(made)
        try:
            await make()
        finally:
            _MADE.reset(token)
        (request,) = made
        headers = request.headers.copy()
        del headers["content-length"]
        # Compressing protobuf saves 7 % of the bytes, and costs more than the rest of the call.
        is_proto = parameters.get(ALT) == PROTO[1]
        headers["accept-encoding"] = "identity" if is_proto else self._encodings
        if "gzip" in headers["accept-encoding"]:
            headers["user-agent"] += _GZIP_AGENT
        url = request.url.copy_merge_params(parameters) if parameters else request.url
        fields = orjson.loads(request.content)
        return _Form(request.method, url, headers, request.extensions, fields)


def _json(fields: Mapping[str, Any]) -> bytes:
    """Return JSON in UTF-8, never longer than with escapes, as `core.content.json_bytes` counts."""
    try:
        return orjson.dumps(fields)
    except TypeError:  # Half of a surrogate pair, which is no UTF-8.
        return json.dumps(fields).encode()
