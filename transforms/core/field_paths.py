"""Names of columns that may be paths to fields in nested columns, such as `attributes.brand`.

A name may be read in several ways, since names in the data may have dots. The first way that the
data has counts: first the whole name as a literal name, then longer literal names before shorter
ones. In a path with double quotes, as in `meta."a.b".c`, only dots outside the quotes count.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

MISSING: Final = object()
"""What `value_at` returns if a row has no such field."""
_MAX_JOINED = 6
"""Up to this many pieces, each dot may be part of a name or separate two."""
_PIECE = re.compile(r'"([^"]+)"|([^".]+)')


@dataclasses.dataclass(frozen=True, slots=True)
class NotAnObject:
    """What `value_at` returns if a value on the path has no fields, such as a string."""

    name: str
    """The name of that value: the last one on the path so far."""
    value: object


@functools.lru_cache(maxsize=4096)
def readings(name: str) -> tuple[tuple[str, ...], ...]:
    """Return the ways to read a name, in order: each has the names from the column to the field."""
    pieces = list(_pieces(name))
    if len(pieces) < 2 and '"' not in name:
        return ((name,),)
    if '"' in name or len(pieces) > _MAX_JOINED:
        return tuple(dict.fromkeys(((name,), *([tuple(pieces)] if pieces else []))))
    dots = len(pieces) - 1
    joined = itertools.product((True, False), repeat=dots)
    return tuple(tuple(_joined(pieces, flags)) for flags in joined)


def is_path(name: str) -> bool:
    """Return whether a name can be a path, and not only the name of a column."""
    return len(readings(name)) > 1


def value_at(row: Mapping[str, Any], name: str) -> Any:
    """Return the value of a column or field of a row.

    Returns:
        The value; None if a value on the path is null; `MISSING` if there is no such field; a
        `NotAnObject` if a value on the path is neither an object nor null.
    """
    if name in row:
        return row[name]
    result: Any = MISSING
    for path in readings(name)[1:]:
        found = _walk(row, path)
        if found is not MISSING and not isinstance(found, NotAnObject):
            return found
        result = found if result is MISSING else result
    return result


def field_names(row: Mapping[str, Any], depth: int = 3) -> Iterator[str]:
    """Yield the paths to the fields in a row's columns, for messages."""
    yield from (path_text(path) for path in _paths(row, depth) if len(path) > 1)


def _paths(row: Mapping[str, Any], depth: int) -> Iterator[tuple[str, ...]]:
    for name, value in row.items():
        yield (name,)
        if depth > 1 and isinstance(value, Mapping):
            yield from ((name, *path) for path in _paths(value, depth - 1))


def field_advice(name: str, fields: Iterable[str]) -> str:
    """Return a sentence that names a field of a column; "" if it has none."""
    first = next(iter(fields), None)
    return "" if first is None else f" Name a field of it: {path_text((name, first))!r}."


def path_text(names: Iterable[str]) -> str:
    """Return a path as it is typed, with quotes around names that have dots."""
    return ".".join(map(_quoted, names))


def split_names(typed: str) -> list[str]:
    """Return the names in a list that is separated by commas; a comma in quotes separates none."""
    names = re.findall(r'(?:"[^"]*"|[^,])+', typed)
    return [name for name in map(str.strip, names) if name]


def _quoted(name: str) -> str:
    return f'"{name}"' if "." in name else name


def _pieces(name: str) -> Iterator[str]:
    """Yield the names in a path; nothing if it is not a valid path."""
    found, at = [], 0
    while match := _PIECE.match(name, at):
        found.append(match[1] or match[2])
        at = match.end()
        if at == len(name):
            yield from found
            return
        if name[at] != ".":
            return
        at += 1


def _joined(pieces: list[str], flags: Iterable[bool]) -> Iterator[str]:
    current = pieces[0]
    for piece, is_joined in zip(pieces[1:], flags, strict=True):
        if is_joined:
            current = f"{current}.{piece}"
        else:
            yield current
            current = piece
    yield current


def _walk(row: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = row
    for place, name in enumerate(path):
        fields = _fields(value)
        if fields is None:
            return None if value is None else NotAnObject(path[place - 1], value)
        if name not in fields:
            return MISSING
        value = fields[name]
    return value


def _fields(value: Any) -> Mapping[str, Any] | None:
    """Return the fields of an object, a beam.Row or a NamedTuple; None for any other value."""
    if isinstance(value, Mapping):
        return value
    as_dict = getattr(value, "_asdict", None)
    return as_dict() if as_dict is not None else None
