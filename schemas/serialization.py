"""Dataclasses to plain values and back, checked against their types.

Every record, note and file that a later run reads goes through these two functions. Keys that a
dataclass does not have are ignored, so that an older version reads what a newer one wrote. Fields
with a default may be missing, so that a newer version reads what an older one wrote.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
import orjson

T = TypeVar("T")
Count = Annotated[int, msgspec.Meta(ge=0)]
"""An integer that is not negative; `from_plain` checks it."""
_CHECKSUM = "checksum"
_prepared: set[type] = set()
_preparing = threading.Lock()
_WHERE = re.compile(r"(?s)(.*) - at `(.*)`")


def to_plain(value: Any, other: Callable[[Any], Any] | None = None) -> Any:
    """Return a dataclass as dicts, lists and scalars; an enum as its value, each key as a string.

    Args:
        value: a dataclass, or a container of such.
        other: converts a value of any other type.
    """
    return msgspec.to_builtins(value, str_keys=True, enc_hook=other)


def from_plain(
    content: object, kind: type[T], other: Callable[[type, Any], Any] | None = None
) -> T:
    """Return the dataclass of plain values.

    No value is converted to another scalar type: "1" is no integer, and neither is 1.5 or true.

    Args:
        content: what `to_plain` gave, or JSON that was read.
        kind: the dataclass.
        other: makes a value of a type that is neither a dataclass, nor a container, nor a scalar.

    Raises:
        ValueError: a field is missing or has another type; the message begins with its path.
    """
    if kind not in _prepared:
        _prepare(kind)
    try:
        return msgspec.convert(content, kind, str_keys=True, dec_hook=other)
    except msgspec.ValidationError as error:
        raise ValueError(_readable(str(error))) from None


def with_checksum(content: dict[str, Any]) -> dict[str, Any]:
    """Return plain values with a checksum of them, for `check_checksum`."""
    return {**content, _CHECKSUM: _checksum(content)}


def check_checksum(content: dict[str, Any]) -> None:
    """Check plain values that were read; those of earlier versions have no checksum.

    Raises:
        ValueError: the checksum is wrong.
    """
    others = {name: value for name, value in content.items() if name != _CHECKSUM}
    if content.get(_CHECKSUM, _checksum(others)) != _checksum(others):
        raise ValueError("the checksum is wrong")


def _checksum(content: dict[str, Any]) -> str:
    data = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _prepare(kind: type) -> None:
    """Let msgspec inspect a class before threads use it.

    It attaches what it finds to the class before all fields are known, and another thread that
    converts at that moment crashes the process.
    """
    with _preparing:
        msgspec.json.Decoder(kind)
        _prepared.add(kind)


def _readable(message: str) -> str:
    """Return an error of msgspec with the field in front: `unit.rows: expected int, got str`."""
    found = _WHERE.fullmatch(message)
    words = (found[1] if found else message).replace("`", "")
    where = found[2].removeprefix("$").removeprefix(".") if found else ""
    return f"{where}: {words[:1].lower()}{words[1:]}" if where else words
