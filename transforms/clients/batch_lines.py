"""Decode a line of a result file: the vector of a content, or the reason why it has none.

The Batch API and Vertex AI have several forms of a line, all of which are read. The vector is
taken out by simdjson; the other values become Python objects.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from bulkembed.schemas.errors import BadAnswer
from bulkembed.transforms.clients.decoding import (
    PLAIN_DECODE,
    Answer,
    counted_answer,
    load_object,
    plain_answer,
    whole,
)
from bulkembed.transforms.clients.line_errors import LineError, line_error
from bulkembed.transforms.clients.raw_vectors import take_vector
from bulkembed.transforms.core.hashing import HASH_BYTES
from bulkembed.transforms.core.vectors import Vector


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class BatchLine:
    """One line of a result file. It has either a vector or an error."""

    key: bytes | None
    """The hash of the content; None if the line names none."""
    vector: Vector | None = None
    """Shape (dim,): finite, and not only zeros. Its length is as the service gave it."""
    tokens: int | None = None
    """The service's count; None if it reports none."""
    truncated: bool | None = None
    """Whether the service cut the content; None if it does not say."""
    error: LineError | None = None


_NO_RESPONSE = LineError("response", "the line has neither a response nor an error")
_NO_KEY = LineError("key", "the line has no key that bulkembed gave")
_COUNT = re.compile(r"\d{1,9}", re.ASCII)
_KEY = re.compile(f"[0-9a-f]{{{2 * HASH_BYTES}}}")


def decode_line(line: bytes, dim: int | None) -> BatchLine:
    """Return what a line of a result file says; never raise, whatever the line is.

    Args:
        line: with or without its newline.
        dim: the dimensions that a vector must have; None for any.
    """
    taken = None if PLAIN_DECODE else take_vector(line, dim)
    if taken is None:
        return decode_line_plainly(line, dim)
    vectors, found = taken
    return _line(found, lambda response: counted_answer(vectors, response))


def decode_line_plainly(line: bytes, dim: int | None) -> BatchLine:
    """Decode a line of an unusual form with an ordinary JSON parser; see `decode_line`."""
    try:
        found = load_object(line)
    except BadAnswer as error:
        return BatchLine(None, error=_unusable(error))
    return _line(found, lambda response: plain_answer(response, 1, dim))


def _line(found: dict[str, Any], answer_of: Callable[[dict[str, Any]], Answer]) -> BatchLine:
    """Return the line that an object is.

    Args:
        found: the object. A vector that was taken out of it may be missing.
        answer_of: returns the vector of the `response`, and its counts.
    """
    key = _key(found)
    if found.get("error"):
        return BatchLine(key, error=line_error(found["error"]))
    response = found.get("response")
    if not isinstance(response, dict):
        return BatchLine(key, error=_status_error(found) or _NO_RESPONSE)
    try:
        answer = answer_of(response)
    except BadAnswer as error:
        return BatchLine(key, error=_status_error(found) or _unusable(error))
    if key is None:
        return BatchLine(None, error=_NO_KEY)
    truncated = None if answer.truncated is None else answer.truncated[0]
    return BatchLine(key, answer.vectors[0], _tokens(response, answer), truncated)


def _status_error(found: Mapping[str, Any]) -> LineError | None:
    """Return the error in the `status` of a line of Vertex AI; None if it has none."""
    return line_error(found["status"]) if found.get("status") else None


def _unusable(error: BadAnswer) -> LineError:
    return LineError(error.code, error.message)


def _key(found: Mapping[str, Any]) -> bytes | None:
    """Return the hash in the `key` of a line, or in that of its `metadata`."""
    key = found.get("key")
    if key is None and isinstance(found.get("metadata"), dict):
        key = found["metadata"].get("key")
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        return None
    return bytes.fromhex(key)


def _tokens(response: Mapping[str, Any], answer: Answer) -> int | None:
    """Return the count of a response, which may be a number or a string of digits."""
    count = response.get("tokenCount")
    if isinstance(count, str):
        return int(count) if _COUNT.fullmatch(count) else answer.tokens
    counted = whole(count)
    return answer.tokens if counted is None else counted
