"""An HTTP client for threads that keeps answers as they are, so that the SDK does not parse them.

The SDK leaves out parts of some answers, such as the error of a batch job.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import httpx2

from bulkembed.schemas.errors import BadAnswer
from bulkembed.transforms.clients.bodies import Inflater

_EMPTY_JSON = {"content-type": "application/json"}
ChangeRequest: TypeAlias = Callable[[httpx2.Request], httpx2.Request]
"""Returns the request to send in place of the SDK's."""


@dataclasses.dataclass(frozen=True, slots=True)
class WholeAnswer:
    """An answer as the service sent it, decompressed."""

    status: int
    headers: httpx2.Headers
    body: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept:
    answers: list[WholeAnswer]
    change: ChangeRequest | None


_KEPT: contextvars.ContextVar[_Kept | None] = contextvars.ContextVar("kept", default=None)
"""Gets the answer to the call that this thread makes."""


@contextlib.contextmanager
def kept_answer(change: ChangeRequest | None = None) -> Iterator[list[WholeAnswer]]:
    """Yield a list, which gets the answer to the call inside the `with`, whatever its status."""
    kept: list[WholeAnswer] = []
    token = _KEPT.set(_Kept(kept, change))
    try:
        yield kept
    finally:
        _KEPT.reset(token)


class AnswerKeeper(httpx2.Client):
    """An HTTP client that returns empty answers to callers inside `kept_answer`."""

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """See httpx."""
        kept = _KEPT.get()
        if kept is None:
            return super().send(request, **options)
        if kept.change is not None:
            request = kept.change(request)
        with self.opened(request) as response:
            answer = WholeAnswer(response.status_code, response.headers, _body(response))
            kept.answers.append(answer)
        return httpx2.Response(200, headers=_EMPTY_JSON, content=b"{}", request=request)

    @contextlib.contextmanager
    def opened(self, request: httpx2.Request) -> Iterator[httpx2.Response]:
        """Send a request, and yield the answer before its body is read; follow no redirect."""
        # The client's own `send` logs a line with the URL for each call.
        response = self._transport_for_url(request.url).handle_request(request)
        response.request = request
        try:
            yield response
        finally:
            response.close()


def _body(response: httpx2.Response) -> bytes:
    """Return the body, decompressed as its first bytes require; see `Inflater`."""
    inflater = Inflater(response.headers.get("content-encoding", ""))
    try:
        return b"".join([*map(inflater.take, response.iter_raw()), inflater.rest()])
    except BadAnswer as error:
        raise httpx2.DecodingError(error.message) from None
