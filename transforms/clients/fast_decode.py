"""The vectors out of an answer's bytes without making one Python float.

simdjson parses the body, and hands each `values` over as a buffer of doubles.  Whatever is not of
the usual shape is left to the plain path, which decides what it is; so both give the same bits and
the same refusals.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

simdjson: Any
try:
    import simdjson
except ImportError:  # Optional: the plain path needs no compiled parser.
    simdjson = None

_ours = threading.local()
"""The parser of each thread: a new one would ask for 10 MB of fresh pages for each answer."""

Slim = dict[str, Any]
"""An answer as Python values, its vectors left out."""


def take_vectors(
    body: bytes, texts: int, dim: int | None
) -> tuple[npt.NDArray[np.float32], Slim] | None:
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


def _take(
    root: Any, body: bytes, texts: int, dim: int | None
) -> tuple[npt.NDArray[np.float32], Slim] | None:
    name = next((key for key in ("predictions", "embeddings") if key in _keys(root)), None)
    if name is None or not isinstance(root[name], simdjson.Array) or len(root[name]) != texts:
        return None
    slim: Slim = {key: _plain(root[key]) for key in _keys(root) if key != name}
    brackets = _brackets(slim) + 1
    vectors: npt.NDArray[np.float32] | None = None
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
