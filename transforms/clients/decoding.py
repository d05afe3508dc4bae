"""Decode the bytes of an answer into vectors, without making Python floats.

An answer of an unusual shape is left to the plain path, which decides what it is. So both paths
give the same bits and raise the same errors.
"""

from __future__ import annotations

import array
import dataclasses
import os
from typing import Any

import numpy as np
import orjson

from bulkembed.schemas.errors import BadAnswer
from bulkembed.schemas.media import NO_MEDIA, MediaKind, MediaTokens
from bulkembed.transforms.clients.raw_vectors import Body, take_vectors
from bulkembed.transforms.core.vectors import Matrix

PLAIN_DECODE = os.environ.get("BULKEMBED_PLAIN_DECODE", "") not in ("", "0")
"""Whether the ordinary JSON parser decodes all answers, to compare the two paths."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The answer to one call of n contents; None for what the service does not report."""

    vectors: Matrix
    """Shape (n, dim)."""
    tokens: int | None = None
    """The count for the whole call."""
    text_tokens: tuple[int, ...] | None = None
    """The count for each content."""
    truncated: tuple[bool | None, ...] | None = None
    """Whether the service cut each content."""
    media: MediaTokens | None = None
    """How many of the tokens are of media; None if the answer does not say it."""


def decode_answer(body: Body, texts: int, dim: int | None) -> Answer:
    """Return the vectors of an answer, checked, in the order of the contents.

    Accepts the answers of batchEmbedContents, embedContent and Vertex's predict.

    Raises:
        BadAnswer: not JSON, another count or length, or a number that is missing or not finite.
    """
    taken = None if PLAIN_DECODE else take_vectors(body, texts, dim)
    if taken is not None:
        return counted_answer(*taken)
    return decode_plainly(body, texts, dim)


def decode_count(body: Body) -> int:
    """Return the count of a countTokens answer.

    Raises:
        BadAnswer: not JSON, or no count.
    """
    count = whole(load_object(body).get("totalTokens"))
    if count is None:
        raise BadAnswer("the answer to countTokens has no count", code="count")
    return count


def decode_plainly(body: Body, texts: int, dim: int | None) -> Answer:
    """Decode an answer of an unusual shape with an ordinary JSON parser.

    Raises:
        BadAnswer: as `decode_answer`.
    """
    return plain_answer(load_object(body), texts, dim)


def plain_answer(answer: dict[str, Any], texts: int, dim: int | None) -> Answer:
    """Return the vectors of an answer that an ordinary JSON parser has read.

    Raises:
        BadAnswer: as `decode_answer`.
    """
    items = _items(answer)
    if len(items) != texts:
        raise BadAnswer(f"the answer has {len(items)} embeddings for {texts} texts", code="count")
    return counted_answer(_matrix([_values(item) for item in items], dim), answer)


def counted_answer(vectors: Matrix, answer: dict[str, Any]) -> Answer:
    """Return an answer with its vectors and its counts.

    Args:
        vectors: one per content.
        answer: what holds the counts; its vectors are ignored.

    Raises:
        BadAnswer: a number is not finite, or a vector has only zeros.
    """
    return Answer(check_numbers(vectors), *_counts(answer, _items(answer)), _media_tokens(answer))


def load_object(body: Body) -> dict[str, Any]:
    """Return the JSON object that bytes are.

    Raises:
        BadAnswer: they are not a JSON object.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadAnswer(f"the answer is not JSON: {error}", code="json") from None
    if not isinstance(answer, dict):
        raise BadAnswer("the answer is not a JSON object", code="json")
    return answer


def _items(answer: dict[str, Any]) -> list[Any]:
    if isinstance(answer.get("predictions"), list):
        return [
            item.get("embeddings") if isinstance(item, dict) else None
            for item in answer["predictions"]
        ]
    if isinstance(answer.get("embeddings"), list):
        return list(answer["embeddings"])
    return [answer["embedding"]] if isinstance(answer.get("embedding"), dict) else []


def _values(item: Any) -> list[float]:
    # Vertex's batchEmbedContents wraps each embedding once more.
    if isinstance(item, dict) and isinstance(item.get("embedding"), dict):
        item = item["embedding"]
    values = item.get("values") if isinstance(item, dict) else None
    if not isinstance(values, list) or not values:
        raise BadAnswer("the answer has an embedding without values", code="values")
    return values


def _matrix(rows: list[list[float]], dim: int | None) -> Matrix:
    width = len(rows[0])
    for row in rows:
        if len(row) != (dim or width):
            raise BadAnswer(
                f"the answer has a vector of {len(row)} dimensions instead of {dim or width}",
                code="dim",
            )
    vectors = np.empty((len(rows), width), np.float32)
    try:
        with np.errstate(over="ignore"):
            for at, row in enumerate(rows):
                # np.array would convert "1.5" and null to numbers, and is slower.
                vectors[at] = array.array("d", row)
    except (TypeError, OverflowError):
        raise BadAnswer("the answer has values that are not numbers", code="values") from None
    return vectors


def check_numbers(vectors: Matrix) -> Matrix:
    """Return the same matrix after a check that all numbers are finite and no vector is zero.

    Raises:
        BadAnswer: a number is not finite, or a vector has only zeros.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors)
    if np.isfinite(squares).all() and (squares > 0).all():
        return vectors
    if not np.isfinite(vectors).all():
        raise BadAnswer("the answer has numbers that are not finite", code="not_finite")
    if not vectors.any(axis=1).all():
        raise BadAnswer("the answer has a vector of zeros", code="zeros")
    return vectors


def _counts(
    answer: dict[str, Any], items: list[Any]
) -> tuple[int | None, tuple[int, ...] | None, tuple[bool | None, ...] | None]:
    usage = answer.get("usageMetadata")
    tokens = whole(usage.get("promptTokenCount")) if isinstance(usage, dict) else None
    found = [item.get("statistics") for item in items if isinstance(item, dict)]
    stats = [stat for stat in found if isinstance(stat, dict)]
    if len(stats) != len(items):
        truncated = answer.get("truncated")
        return tokens, None, (truncated,) if isinstance(truncated, bool) else None
    counted = [whole(stat.get("token_count", stat.get("tokenCount"))) for stat in stats]
    text_tokens = tuple(n for n in counted if n is not None)
    flags = tuple(bool(stat["truncated"]) if "truncated" in stat else None for stat in stats)
    if len(text_tokens) != len(items):
        return tokens, None, flags
    return (sum(text_tokens) if tokens is None else tokens), text_tokens, flags


_MODALITIES = {
    "IMAGE": MediaKind.IMAGE,
    "AUDIO": MediaKind.AUDIO,
    "VIDEO": MediaKind.VIDEO,
    "DOCUMENT": MediaKind.PDF,
}


def _media_tokens(answer: dict[str, Any]) -> MediaTokens | None:
    """Return the counts by modality; None if the answer has none.

    The service writes `promptTokenDetails`, and Google's SDK reads `promptTokensDetails`.
    """
    usage = answer.get("usageMetadata")
    if not isinstance(usage, dict):
        return None
    details = usage.get("promptTokenDetails", usage.get("promptTokensDetails"))
    if not isinstance(details, list):
        return None
    found = NO_MEDIA
    for one in details:
        kind = _MODALITIES.get(str(one.get("modality"))) if isinstance(one, dict) else None
        tokens = whole(one.get("tokenCount")) if kind is not None else None
        if kind is not None and tokens is not None:
            found += MediaTokens.of(kind, tokens)
    return found


def whole(number: object) -> int | None:
    """Return a number without its fraction, or None for anything else."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return int(number)
