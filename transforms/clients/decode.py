"""The vectors out of an answer's bytes without making one Python float.

simdjson parses the body, and hands each `values` over as a buffer of doubles.  Whatever is not of
the usual shape is left to the plain path, which decides what it is; so both give the same bits and
the same refusals.
"""

from __future__ import annotations

import array
import dataclasses
import os
import threading
from typing import Any

import numpy as np
import orjson

from bulkembed.schemas.errors import BadAnswer
from bulkembed.transforms.core.vectors import Matrix

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


simdjson: Any
try:
    import simdjson
except ImportError:  # Optional: the plain path needs no compiled parser.
    simdjson = None

_ours = threading.local()
"""The parser of each thread: a new one would ask for 10 MB of fresh pages for each answer."""

Slim = dict[str, Any]
"""An answer as Python values, its vectors left out."""


def take_vectors(body: bytes, texts: int, dim: int | None) -> tuple[Matrix, Slim] | None:
    """The vectors (texts, dim) of an answer, and the answer without them.

    None where the parser is missing, or the answer is not exactly `texts` embeddings of flat lists
    of `dim` numbers (of one length where `dim` is None): then nothing is said of it.
    """
    if simdjson is None:
        return None
    try:
        return _take(_parsed(body), body, texts, dim)
    except (ValueError, TypeError, KeyError, RuntimeError, UnicodeDecodeError):
        return None


def _parsed(body: bytes) -> Any:
    """The root of the body; it is good until this thread parses the next one."""
    try:
        return _ours.parser.parse(body)
    except (AttributeError, RuntimeError):
        # None yet, or something that it gave away is still held, for which it refuses to go on.
        _ours.parser = simdjson.Parser()
        return _ours.parser.parse(body)


def _take(root: Any, body: bytes, texts: int, dim: int | None) -> tuple[Matrix, Slim] | None:
    name = next((key for key in ("predictions", "embeddings") if key in _keys(root)), None)
    if name is None or not isinstance(root[name], simdjson.Array) or len(root[name]) != texts:
        return None
    slim: Slim = {key: _plain(root[key]) for key in _keys(root) if key != name}
    brackets = _brackets(slim) + 1
    vectors: Matrix | None = None
    items = []
    for at, item in enumerate(root[name]):
        holder, rest = _holder(item, name)
        listed = holder["values"]
        if not isinstance(listed, simdjson.Array) or len(listed) == 0:
            return None
        values = np.frombuffer(listed.as_buffer(of_type="d"), np.float64)
        if vectors is None:
            vectors = np.empty((texts, dim or len(values)), np.float32)
        if len(values) != vectors.shape[1]:
            return None
        with np.errstate(over="ignore"):
            vectors[at] = values
        items.append(rest)
        brackets += _brackets(rest) + 1
    # A list inside a vector comes out flat: it shows by its bracket, and is refused elsewhere.
    if vectors is None or body.count(b"[") != brackets:
        return None
    slim[name] = items
    return vectors, slim


def _holder(item: Any, name: str) -> tuple[Any, Slim]:
    """The object that has the `values` of an item, and the rest as the plain path sees it."""
    if name == "predictions":
        _keys(item)
        holder = item["embeddings"]
        rest = {key: _plain(holder[key]) for key in _keys(holder) if key != "values"}
        others = {key: _plain(item[key]) for key in _keys(item) if key != "embeddings"}
        return holder, {"embeddings": rest, **others}
    holder = item["embedding"] if "embedding" in _keys(item) else item
    rest = {key: _plain(holder[key]) for key in _keys(holder) if key != "values"}
    if holder is item:
        return holder, rest
    return holder, {
        "embedding": rest,
        **{key: _plain(item[key]) for key in _keys(item) if key != "embedding"},
    }


def _keys(found: Any) -> list[str]:
    """The keys of an object; ValueError where one stands twice, which readers take differently."""
    if not isinstance(found, simdjson.Object):
        raise TypeError("no object")
    keys = list(found.keys())
    if len(set(keys)) != len(keys):
        raise ValueError("a key stands twice")
    return keys


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        _keys(value)
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _brackets(value: Any) -> int:
    """How many `[` a value is written with, those inside its strings and keys as well."""
    if isinstance(value, str):
        return value.count("[")
    if isinstance(value, dict):
        return sum(_brackets(key) + _brackets(inner) for key, inner in value.items())
    if isinstance(value, list):
        return 1 + sum(_brackets(inner) for inner in value)
    return 0
