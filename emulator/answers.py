"""Answers as bytes: JSON, plain or pretty-printed over many lines, gzipped on request."""

from __future__ import annotations

import gzip
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from bulkembed.emulator.rules import Item, Target
from bulkembed.emulator.settings import EmulatorSettings, Fault
from bulkembed.emulator.word_vectors import Floats

_GZIP_FROM_BYTES = 500
NAN_MARK = b'"NaN"'
"""Stands for a NaN, which orjson does not write, until the answer is bytes."""


def encode(body: dict[str, Any], *, pretty: bool) -> bytes:
    """JSON; numpy rows are printed with the digits that give the same float32 again."""
    option = orjson.OPT_SERIALIZE_NUMPY | (orjson.OPT_INDENT_2 if pretty else 0)
    return orjson.dumps(body, option=option)


def respond(
    content: bytes,
    request: Request,
    settings: EmulatorSettings,
    code: int = 200,
    media_type: str = "application/json; charset=UTF-8",
) -> Response:
    """The HTTP answer, gzipped if the settings want it and the client takes it."""
    headers = {"vary": "Origin, X-Origin, Referer"}
    takes_gzip = "gzip" in request.headers.get("accept-encoding", "")
    if settings.gzip and takes_gzip and len(content) >= _GZIP_FROM_BYTES:
        content = gzip.compress(content, compresslevel=1, mtime=0)
        headers["content-encoding"] = "gzip"
    return Response(content, code, headers, media_type=media_type)


def embed_answer(
    target: Target,
    vectors: list[Floats],
    counts: list[int],
    cut: list[bool],
    fault: Fault | None,
    characters: int = 0,
) -> dict[str, Any]:
    """The JSON of an answered call, spoilt as the fault says."""
    rows: list[Any] = list(vectors)
    if fault is Fault.SHORT:
        rows = rows[:-1]
    elif fault is Fault.WRONG_DIM:
        rows = [row[:-1] for row in rows]
    elif fault is Fault.NULL:
        rows[-1] = [None] * len(rows[-1])
    elif fault is Fault.NAN:
        rows[-1] = [*map(float, rows[-1][:-1]), "NaN"]
    if target.method == "predict":
        return _predictions(rows, counts, cut, characters)
    body: dict[str, Any] = {}
    if target.method == "embedContent":
        body["embedding"] = {"values": rows[0]} if rows else None
        if target.vertex:
            body["truncated"] = cut[0]
    else:
        body["embeddings"] = [{"values": row} for row in rows]
    if target.settings.usage_metadata:
        body["usageMetadata"] = {"promptTokenCount": sum(counts)}
    return body


def _predictions(
    rows: list[Any], counts: list[int], cut: list[bool], characters: int
) -> dict[str, Any]:
    predictions = [
        {
            "embeddings": {
                "values": row,
                "statistics": {"token_count": count, "truncated": was_cut},
            }
        }
        for row, count, was_cut in zip(rows, counts, cut, strict=False)
    ]
    return {"predictions": predictions, "metadata": {"billableCharacterCount": characters}}


def paid_keys(target: Target, items: list[Item]) -> list[int]:
    """An 8-byte hash for each text with all that makes its vector."""
    name = target.spec.name
    return [hash((name, item.task, item.dim, item.sent)) for item in items]
