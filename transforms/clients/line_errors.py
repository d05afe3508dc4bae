"""Read the error of one line of a result file: what the service says, and what it is about."""

from __future__ import annotations

import dataclasses
import http
import re
from collections.abc import Mapping
from typing import Any

import orjson

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import CallRejected
from bulkembed.schemas.secrets import masked
from bulkembed.transforms.clients.classification import Reply, classify, dead_code
from bulkembed.transforms.clients.error_answers import MAX_CHARS

HTTP_STATUSES = {
    "CANCELLED": 499, "UNKNOWN": 500, "INVALID_ARGUMENT": 400, "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404, "ALREADY_EXISTS": 409, "PERMISSION_DENIED": 403, "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400, "ABORTED": 409, "OUT_OF_RANGE": 400, "UNIMPLEMENTED": 501,
    "INTERNAL": 500, "UNAVAILABLE": 503, "DATA_LOSS": 500, "UNAUTHENTICATED": 401,
}  # fmt: skip
"""The HTTP status of each google.rpc code, in the order of the codes, which begin with 1.

Source: google/rpc/code.proto, 2026-11.
"""
_RPC_CODES = tuple(HTTP_STATUSES)
_RPC_WORD = re.compile(rf"\b({'|'.join(_RPC_CODES)})\b")
_PHRASES = {one.phrase.lower(): one.value for one in http.HTTPStatus if one.value >= 400}
_BEGINNING = re.compile(
    rf"\W*(?:(?:error|http|status|code)\W+)*(?:([45]\d\d)|({'|'.join(_PHRASES)}))\b",
    re.IGNORECASE,
)
"""The number or the phrase of an HTTP status at the beginning of a text."""


@dataclasses.dataclass(frozen=True, slots=True)
class LineError:
    """Why a line of a result file has no usable vector."""

    code: str
    """The name of the rule in `clients.classification.RULES`, or of what else is wrong."""
    message: str
    """The service's own words, or ours about a line that cannot be used; one line."""
    http_status: int | None = None
    """The status that the service names or means; None if it names none."""
    about_row: bool = False
    """Whether the content is at fault. If not, it may pass when it is sent again."""

    @property
    def dead_code(self) -> DeadCode:
        """The dead-letter code of a content that is at fault."""
        return dead_code(self.code)


def line_error(found: object) -> LineError:
    """Return the error that a service gives a line.

    Args:
        found: a google.rpc.Status, or a text. A text may have the JSON of an error in it, as in
            `Bad Request: {"error": {"code": 400}}`.
    """
    error = _embedded(found) if isinstance(found, str) else found
    if isinstance(error, dict):
        text = str(error.get("message") or error.get("status") or found)
        details = error.get("details")
        words = f"{text} {orjson.dumps(details, default=str).decode()}" if details else text
        status, rpc = _codes(error)
    else:
        text = words = str(found)
        status, rpc = None, ""
    if status is None:
        status, rpc = _codes_in(text)
    message = masked(" ".join(text.split())[:MAX_CHARS])
    if status is None:
        return LineError("unknown", message)
    rule = classify(Reply(status, words, rpc))
    return LineError(rule.name, message, status, issubclass(rule.error, CallRejected))


def _embedded(text: str) -> dict[str, Any] | None:
    """Return the error whose JSON ends a text, if there is one."""
    try:
        found = orjson.loads(text[text.index("{") :])
    except ValueError:
        return None
    inner = found.get("error", found)
    return inner if isinstance(inner, dict) else None


def _codes(error: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return the HTTP status and the google.rpc code of a google.rpc.Status."""
    code, rpc = error.get("code"), str(error.get("status") or "")
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code[:4])
    if isinstance(code, bool):
        return None, ""
    if isinstance(code, int) and 1 <= code <= len(_RPC_CODES):
        rpc = _RPC_CODES[code - 1]
        return HTTP_STATUSES[rpc], rpc
    if isinstance(code, int) and 400 <= code < 600:
        return code, rpc
    name = code if isinstance(code, str) else rpc
    return HTTP_STATUSES.get(name), name if name in HTTP_STATUSES else ""


def _codes_in(text: str) -> tuple[int | None, str]:
    """Return the HTTP status and the google.rpc code that a text names."""
    word = _RPC_WORD.search(text)
    begin = _BEGINNING.match(text)
    rpc = word[1] if word else ""
    if begin is None:
        return HTTP_STATUSES.get(rpc), rpc
    number, phrase = begin.groups()
    return int(number) if number else _PHRASES[phrase.lower()], rpc
