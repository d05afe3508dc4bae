"""Take vectors out of JSON without making Python floats.

simdjson parses the bytes and gives each `values` as a buffer of doubles. Only usual shapes are
taken; the caller leaves all others to an ordinary parser.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import simdjson

from bulkembed.transforms.core.vectors import Matrix

_thread = threading.local()
"""The parser of each thread: a new one for each answer would allocate 10 MB."""

Body = bytes | bytearray
"""What is decoded; a bytearray is used for other bodies afterwards."""

Slim = dict[str, Any]
"""An answer as Python values, without its vectors."""

_HOLDERS = ("predictions", "embeddings", "embedding")
"""The keys that may hold the vectors of an answer; the first one that is there does."""
_UNUSUAL = (ValueError, TypeError, KeyError, StopIteration, RuntimeError)
"""What an answer that is not taken raises here."""


def take_vectors(body: Body, texts: int, dim: int | None) -> tuple[Matrix, Slim] | None:
    """Return the vectors (texts, dim) of an answer, and the answer without them.

    Returns None unless the answer is exactly `texts` embeddings, each a flat list of `dim` numbers;
    if `dim` is None, of one length.
    """
    try:
        with np.errstate(over="ignore"):
            vectors, slim = _take(_parsed(body), texts, dim)
    except _UNUSUAL:
        return None
    return (vectors, slim) if _is_flat(body, slim, texts) else None


def take_vector(line: Body, dim: int | None) -> tuple[Matrix, Slim] | None:
    """Return the vector (1, dim) in the `response` of a line, and the line without it.

    Returns None unless the response is exactly one embedding, see `take_vectors`.
    """
    try:
        root = _parsed(line)
        slim: Slim = {key: _plain(root[key]) for key in _keys(root) if key != "response"}
        with np.errstate(over="ignore"):
            vectors, slim["response"] = _take(root["response"], 1, dim)
    except _UNUSUAL:
        return None
    return (vectors, slim) if _is_flat(line, slim, 1) else None


def _is_flat(body: Body, slim: Slim, vectors: int) -> bool:
    """Return whether no vector that was taken out of a body has a list inside.

    simdjson flattens such a list. Its bracket shows it. An escaped bracket in a string would
    confuse the count.
    """
    if b"\\" in body and b"\\u005" in body:
        return False
    expected = _brackets(slim) + vectors
    return _count(body, b"[", expected + 1) == expected


def _count(body: Body, char: bytes, enough: int) -> int:
    """Return how often a character is in a body, at most `enough`.

    If it is rare, `find` is twenty times as fast as `count`, which compares one byte at a time.
    """
    found, at = 0, body.find(char)
    while at >= 0 and found < enough:
        found, at = found + 1, body.find(char, at + 1)
    return found


def _parsed(body: Body) -> Any:
    """Return the root of the body; it is valid until this thread parses the next one."""
    try:
        return _thread.parser.parse(body)
    except (AttributeError, RuntimeError):
        # This thread has no parser yet, or an object that the parser returned is still in use.
        _thread.parser = simdjson.Parser()
        return _thread.parser.parse(body)


def _take(root: Any, texts: int, dim: int | None) -> tuple[Matrix, Slim]:
    """Return the vectors of an answer, and the answer without them; raise one of _UNUSUAL."""
    keys = _keys(root)
    name = next(key for key in _HOLDERS if key in keys)
    slim: Slim = {key: _plain(root[key]) for key in keys if key != name}
    is_single = name == "embedding"
    if not is_single and not isinstance(root[name], simdjson.Array):
        raise TypeError("not a list")
    items = [root[name]] if is_single else root[name]
    if len(items) != texts:
        raise ValueError("another count")
    vectors: Matrix | None = None
    rests = []
    for at, item in enumerate(items):
        holder, rest = _holder(item, name)
        listed = holder["values"]
        if not isinstance(listed, simdjson.Array) or len(listed) == 0:
            raise TypeError("no values")
        values = np.frombuffer(listed.as_buffer(of_type="d"), np.float64)
        if vectors is None:
            vectors = np.empty((texts, dim or len(values)), np.float32)
        if len(values) != vectors.shape[1]:
            raise ValueError("another length")
        vectors[at] = values
        rests.append(rest)
    if vectors is None:
        raise ValueError("no vectors")
    return vectors, {**slim, name: rests[0] if is_single else rests}


def _holder(item: Any, name: str) -> tuple[Any, Slim]:
    """Return the object with the `values` of an item, and the rest as the plain path sees it."""
    if name == "predictions":
        _keys(item)
        holder = item["embeddings"]
        if "embedding" in _keys(holder):
            raise ValueError("the plain path looks for the values one level deeper")
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
    """Return the keys of an object; raise ValueError if one occurs twice: parsers disagree then."""
    if not isinstance(found, simdjson.Object):
        raise TypeError("not an object")
    keys = list(found.keys())
    if len(set(keys)) != len(keys):
        raise ValueError("a key occurs twice")
    return keys


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        _keys(value)
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _brackets(value: Any) -> int:
    """Return how many `[` the JSON of a value has, also inside strings and keys."""
    if isinstance(value, str):
        return value.count("[")
    if isinstance(value, dict):
        return sum(_brackets(key) + _brackets(inner) for key, inner in value.items())
    if isinstance(value, list):
        return 1 + sum(_brackets(inner) for inner in value)
    return 0
