"""The form of an answer: indented as Google's are by default, compact, or protobuf."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from bulkembed.emulator.api_errors import ApiError
from bulkembed.emulator.wire import wrong_value

JSON = "application/json; charset=UTF-8"
PROTOBUF = "application/x-protobuf"
_TRUE, _FALSE = frozenset({"", "true", "1"}), frozenset({"false", "0"})
_ALTS = frozenset({"json", "proto", "media"})
_USAGE_FIELD = 99
"""No published proto has the number of `usage_metadata`; clients have to skip this one."""


class AnswerForm(enum.StrEnum):
    """How an answer is written."""

    PRETTY = "pretty"
    """JSON with one number per line."""
    COMPACT = "compact"
    """JSON without white space."""
    PROTO = "proto"

    @property
    def media_type(self) -> str:
        """The Content-Type of the answer."""
        return PROTOBUF if self is AnswerForm.PROTO else JSON


def requested_form(query: Mapping[str, str], *, vertex: bool, always_pretty: bool) -> AnswerForm:
    """Return the form that the system parameters of a request ask for.

    Source: docs.cloud.google.com/apis/docs/system-parameters. Vertex AI answers in JSON here.

    Raises:
        ApiError: a value is unknown.
    """
    alt = query.get("alt", query.get("$alt", "json"))
    if alt.partition(";")[0] not in _ALTS:  # Google's clients send "json;enum-encoding=int".
        raise wrong_value("alt", "TYPE_STRING", alt)
    pretty = query.get("prettyPrint", query.get("$prettyPrint", "true")).lower()
    if pretty not in _TRUE | _FALSE:
        raise wrong_value("pretty_print", "TYPE_BOOL", pretty)
    if alt == "proto" and not vertex:
        return AnswerForm.PROTO
    return AnswerForm.PRETTY if pretty in _TRUE or always_pretty else AnswerForm.COMPACT


def encode(body: dict[str, Any], *, pretty: bool) -> bytes:
    """Return JSON; numbers have enough digits to restore the same float32."""
    option = orjson.OPT_SERIALIZE_NUMPY | (orjson.OPT_INDENT_2 if pretty else 0)
    return orjson.dumps(body, option=option)


def encode_vectors(body: dict[str, Any], form: AnswerForm) -> bytes:
    """Return an answer with vectors in a form.

    In protobuf it is a BatchEmbedContentsResponse or an EmbedContentResponse, which have the same
    bytes for one embedding.
    """
    if form is not AnswerForm.PROTO:
        return encode(body, pretty=form is AnswerForm.PRETTY)
    embeddings = body["embeddings"] if "embeddings" in body else [body["embedding"]]
    found = [_field(1, _content_embedding(one["values"])) for one in embeddings if one is not None]
    if "usageMetadata" in body:
        found.append(_field(_USAGE_FIELD, orjson.dumps(body["usageMetadata"])))
    return b"".join(found)


def encode_error(error: ApiError, form: AnswerForm) -> bytes:
    """Return an error in a form; in protobuf it is a google.rpc.Status."""
    if form is not AnswerForm.PROTO:
        return encode(error.body(), pretty=form is AnswerForm.PRETTY)
    from google.protobuf.json_format import ParseDict
    from google.rpc import code_pb2, error_details_pb2, status_pb2

    assert error_details_pb2.DESCRIPTOR  # Importing it makes the details known to ParseDict.
    known = code_pb2.Code.keys()
    code = code_pb2.Code.Value(error.status if error.status in known else "UNKNOWN")
    status = {"code": code, "message": error.message, "details": error.details}
    content: bytes = ParseDict(status, status_pb2.Status()).SerializeToString()
    return content


def _content_embedding(values: Any) -> bytes:
    """Return a ContentEmbedding; without values if they are null."""
    if any(one is None for one in values):
        return b""
    numbers = values if isinstance(values, np.ndarray) else [float(one) for one in values]
    return _field(1, np.asarray(numbers, "<f4").tobytes())


def _field(number: int, value: bytes) -> bytes:
    """Return a field whose value has a length."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])
