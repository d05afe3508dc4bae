"""The body of a good answer, from bytes to a float32 matrix."""

from __future__ import annotations

import array
import dataclasses
import os
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from schemas.errors import BadAnswer
from transforms.clients.fast_decode import take_vectors

Matrix = npt.NDArray[np.float32]
PLAIN_DECODE = os.environ.get("BULKEMBED_PLAIN_DECODE", "") not in ("", "0")
"""Whether the ordinary JSON parser is to do it all: to compare, or to set a doubt at rest."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the service said to one call of n texts.

    `vectors` has shape (n, dim).  `tokens` is the call's count, `text_tokens` and `truncated` are
    for each text; None where the service is silent.
    """

    vectors: Matrix
    tokens: int | None = None
    text_tokens: tuple[int, ...] | None = None
    truncated: tuple[bool | None, ...] | None = None


def decode_answer(body: bytes, texts: int, dim: int | None) -> Answer:
    """The vectors of an answer, in the order of the texts, after checking that all are there.

    Takes what batchEmbedContents, embedContent and Vertex's predict answer.

    Raises:
        BadAnswer: no JSON, another count or length, or a number that is missing or not finite.
    """
    taken = None if PLAIN_DECODE else take_vectors(body, texts, dim)
    if taken is not None:
        vectors, answer = taken
        return Answer(check_numbers(vectors), *_counts(answer, _items(answer)))
    return decode_plainly(body, texts, dim)


def decode_count(body: bytes) -> int:
    """The count of a countTokens answer.

    Raises:
        BadAnswer: no JSON, or no count.
    """
    count = _whole(_load(body).get("totalTokens"))
    if count is None:
        raise BadAnswer("the answer to countTokens has no count", code="count")
    return count


def decode_plainly(body: bytes, texts: int, dim: int | None) -> Answer:
    """The same by an ordinary JSON parser: for answers of another shape, and where it is missing.

    Raises:
        BadAnswer: as `decode_answer`, whose verdicts it gives.
    """
    answer = _load(body)
    items = _items(answer)
    if len(items) != texts:
        raise BadAnswer(f"the answer has {len(items)} embeddings for {texts} texts", code="count")
    vectors = _matrix([_values(item) for item in items], dim)
    return Answer(vectors, *_counts(answer, items))


def _load(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # Bare NaN is no JSON, but Python's reader takes it: say which of the two it is.
        raise BadAnswer(f"the answer is no JSON: {error}", code="json") from None
    if not isinstance(answer, dict):
        raise BadAnswer("the answer is no JSON object", code="json")
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
                f"the answer has a vector of {len(row)} numbers, {dim or width} were asked for",
                code="dim",
            )
    vectors = np.empty((len(rows), width), np.float32)
    try:
        with np.errstate(over="ignore"):
            for at, row in enumerate(rows):
                # Not np.array, which takes "1.5" and null for numbers; this is faster as well.
                vectors[at] = array.array("d", row)
    except (TypeError, OverflowError):
        raise BadAnswer("the answer has values that are no numbers", code="values") from None
    return check_numbers(vectors)


def check_numbers(vectors: Matrix) -> Matrix:
    """The same matrix, once every number is finite and no vector is zero.

    Raises:
        BadAnswer: otherwise.
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
    tokens = _whole(usage.get("promptTokenCount")) if isinstance(usage, dict) else None
    found = [item.get("statistics") for item in items if isinstance(item, dict)]
    stats = [stat for stat in found if isinstance(stat, dict)]
    if len(stats) != len(items):
        truncated = answer.get("truncated")
        return tokens, None, (truncated,) if isinstance(truncated, bool) else None
    counted = [_whole(stat.get("token_count", stat.get("tokenCount"))) for stat in stats]
    text_tokens = tuple(n for n in counted if n is not None)
    flags = tuple(bool(stat["truncated"]) if "truncated" in stat else None for stat in stats)
    if len(text_tokens) != len(items):
        return tokens, None, flags
    return (sum(text_tokens) if tokens is None else tokens), text_tokens, flags


def _whole(number: object) -> int | None:
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    return int(number)
