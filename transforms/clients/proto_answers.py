"""Answers in protobuf, an experiment: vectors without digits, and errors as google.rpc.Status.

Sources: google/ai/generativelanguage/v1beta/generative_service.proto, google/rpc/status.proto and
error_details.proto. The number of `usage_metadata` is in none of them, so there are no counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bulkembed.schemas.errors import BadAnswer
from bulkembed.transforms.clients.classification import Reply
from bulkembed.transforms.clients.decoding import Answer, check_numbers
from bulkembed.transforms.clients.error_answers import MAX_CHARS, ErrorAnswer
from bulkembed.transforms.clients.raw_vectors import Body
from bulkembed.transforms.core.vectors import Matrix

_EMBEDDINGS = _VALUES = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
"""Of google.rpc.Code, by their numbers."""


def holds_proto(content_type: str, body: Body) -> bool:
    """Return whether a body is in protobuf: its Content-Type says so, and it is no JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    is_labelled = kind in ("application/x-protobuf", "application/protobuf")
    return is_labelled and not body.startswith((b"{", b"["))


def decode_proto(body: Body, texts: int, dim: int | None) -> Answer:
    """Return the vectors of a BatchEmbedContentsResponse, in the order of the contents.

    Raises:
        BadAnswer: not such a message, another count or length, or numbers that are not finite.
    """
    data = memoryview(body).toreadonly()
    vectors = None if dim is None else _regular(data, texts, dim)
    if vectors is not None:
        return Answer(check_numbers(vectors))
    found = 0
    for item in _messages(data, _EMBEDDINGS):
        values = _floats(item)
        if vectors is None:
            vectors = np.empty((texts, dim or len(values)), np.float32)
        if len(values) != vectors.shape[1] or not len(values):
            raise BadAnswer(
                f"the answer has a vector of {len(values)} dimensions instead of "
                f"{vectors.shape[1]}",
                code="dim",
            )
        if found < texts:
            vectors[found] = values
        found += 1
    if vectors is None or found != texts:
        raise BadAnswer(f"the answer has {found} embeddings for {texts} texts", code="count")
    return Answer(check_numbers(vectors))


def _regular(data: memoryview, texts: int, dim: int) -> Matrix | None:
    """Return the vectors of a message of the usual form in one step; None for another form.

    In that form the embeddings are at the beginning, and have nothing but their values.
    """
    values = bytes((_VALUES << 3 | _BYTES, *_as_varint(4 * dim)))
    head = bytes((_EMBEDDINGS << 3 | _BYTES, *_as_varint(len(values) + 4 * dim))) + values
    size = texts * (len(head) + 4 * dim)
    if len(data) < size:
        return None
    rows = np.frombuffer(data[:size], np.uint8).reshape(texts, -1)
    if (rows[:, : len(head)] != np.frombuffer(head, np.uint8)).any():
        return None
    if any(field == _EMBEDDINGS for field, _ in _fields(data[size:])):
        return None
    vectors: Matrix = rows[:, len(head) :].copy().view("<f4")
    return vectors


def _as_varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes((*found, value))


def read_status(status: int, body: bytes) -> ErrorAnswer:
    """Read an error as it would be in JSON; never raise, whatever the body is.

    Args:
        status: the HTTP status.
        body: a google.rpc.Status, or anything else.
    """
    data = memoryview(body)
    try:
        codes, text = _numbers(data, 1), _text(data, 2)
        details = [_detail(one) for one in _messages(data, 3)]
    except BadAnswer:
        return ErrorAnswer(Reply(status), "an error in protobuf that cannot be read")
    rpc = _CODES[codes[-1]] if codes and codes[-1] < len(_CODES) else ""
    message = " ".join(text.split())[:MAX_CHARS] or rpc
    words = f"{message} {json.dumps(details)}"
    return ErrorAnswer(Reply(status, words, rpc), message, details)


def _detail(data: memoryview) -> dict[str, Any]:
    """Return one of the details of a Status in the form of JSON; its kind alone if unknown."""
    kind = _text(data, 1)
    content = next(_messages(data, 2), memoryview(b""))
    read = _DETAILS.get(kind.rpartition("/")[2])
    return {"@type": kind, **(read(content) if read is not None else {})}


def _retry_info(data: memoryview) -> dict[str, Any]:
    for delay in _messages(data, 1):
        seconds, nanos = sum(_numbers(delay, 1)), sum(_numbers(delay, 2))
        return {"retryDelay": f"{seconds + nanos / 1e9:.9f}s"}
    return {}


def _quota_failure(data: memoryview) -> dict[str, Any]:
    return {"violations": [_violation(one) for one in _messages(data, 1)]}


def _violation(data: memoryview) -> dict[str, Any]:
    found = {"quotaMetric": _text(data, 4), "quotaId": _text(data, 5)}
    values = _numbers(data, 7)
    if values:  # A limit of 0 is left out, as protobuf does with zeros.
        found["quotaValue"] = str(values[-1])
    return {name: value for name, value in found.items() if value}


def _error_info(data: memoryview) -> dict[str, Any]:
    return {"reason": _text(data, 1), "domain": _text(data, 2)}


_DETAILS: dict[str, Callable[[memoryview], dict[str, Any]]] = {
    "google.rpc.RetryInfo": _retry_info,
    "google.rpc.QuotaFailure": _quota_failure,
    "google.rpc.ErrorInfo": _error_info,
}


def _floats(data: memoryview) -> Matrix:
    """Return the values of a ContentEmbedding, which may come in several pieces."""
    pieces = list(_messages(data, _VALUES))
    if any(len(one) % 4 for one in pieces):
        raise BadAnswer("the answer has a vector that is cut inside a number", code="proto")
    floats = [np.frombuffer(one, "<f4") for one in pieces]
    return floats[0] if len(floats) == 1 else np.concatenate([np.empty(0, "<f4"), *floats])


def _text(data: memoryview, wanted: int) -> str:
    return "".join(bytes(one).decode(errors="replace") for one in _messages(data, wanted))


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the values of a field that are messages or strings."""
    for field, value in _fields(data):
        if field == wanted and isinstance(value, memoryview):
            yield value


def _numbers(data: memoryview, wanted: int) -> list[int]:
    """Return the values of a field that are integers."""
    found = _fields(data)
    return [value for field, value in found if field == wanted and isinstance(value, int)]


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and the value of each field: an int, or the bytes of all other types.

    Raises:
        BadAnswer: the bytes are not a message.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            number, at = _varint(data, at)
            yield field, number
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if wire == _BYTES:
            size, at = _varint(data, at)
        if size is None or field == 0 or at + size > end:
            raise BadAnswer("the answer is not in protobuf, or is truncated", code="proto")
        yield field, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at
    raise BadAnswer("the answer is not in protobuf, or is truncated", code="proto")
