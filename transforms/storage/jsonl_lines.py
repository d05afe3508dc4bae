"""The rows of a JSONL stream: bytes to lines, a line to an object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

import orjson

CHUNK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_EXACT_FLOAT = 2.0**63


class Stream(Protocol):
    """What lines are read from: bytes in, b"" at the end."""

    def read(self, nbytes: int) -> bytes:
        """Up to `nbytes` bytes."""


class NotARow(ValueError):
    """A line that is no JSON object; the message says why."""


def lines(stream: Stream, at_byte: int = 0) -> Iterator[tuple[int, int, bytes]]:
    r"""The rows of a stream as (line number, byte where it begins, bytes), blank lines left out.

    Only `\n` ends a line; a `\r` before it stays, which JSON takes for white space.  Line numbers
    count from 1 where the stream begins, blank lines included.  `at_byte` is where in the file the
    stream begins; a byte order mark is passed over at byte 0 only.
    """
    number, begin = 0, at_byte
    held: list[bytes] = []
    for chunk in _chunks(stream):
        first, *others = chunk.split(b"\n")
        held.append(first)
        for line in others:
            whole = b"".join(held) if len(held) > 1 else held[0]
            held = [line]
            number += 1
            yield from _row(number, begin, whole)
            begin += len(whole) + 1
    yield from _row(number + 1, begin, b"".join(held))


def _chunks(stream: Stream) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _row(number: int, begin: int, line: bytes) -> tuple[tuple[int, int, bytes], ...]:
    if begin == 0 and line.startswith(_BOM):
        line, begin = line[len(_BOM) :], len(_BOM)
    return () if not line or line.isspace() else ((number, begin, line),)


def parse(line: bytes) -> tuple[dict[str, Any], bool]:
    """A row's object, and whether its strings are sure to be UTF-8 (no lone surrogates).

    orjson refuses lone surrogates, NaN and numbers beyond a double; those lines go through json.

    Raises:
        NotARow: the line is no JSON object, or no UTF-8.
    """
    try:
        row, sure = orjson.loads(line), True
    except orjson.JSONDecodeError:
        row, sure = parse_exactly(line), False
    if not isinstance(row, dict):
        raise NotARow(f"expected an object in braces, got {_kind(row)}")
    if not sure and not all(map(is_utf8, row)):
        raise NotARow("a column's name has a lone surrogate, which is no text")
    return row, sure


def parse_exactly(line: bytes) -> Any:
    """The line by the standard library's parser, which keeps integers of any size.

    Raises:
        NotARow: the line is no JSON, or no UTF-8.
    """
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise NotARow(f"byte {error.start} of the line is no UTF-8") from None
    except RecursionError:
        raise NotARow("the line is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise NotARow(f"no JSON: {error.msg} at character {error.pos} of the line") from None
    except ValueError as error:  # An integer of more than 4,300 digits.
        raise NotARow(f"no JSON that can be read: {error}") from None


def is_utf8(text: str) -> bool:
    """Whether the text can be written as UTF-8: it has no lone surrogate."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def may_be_rounded(value: Any) -> bool:
    """Whether a value may hold an integer that orjson turned into a float (from 2^64 up)."""
    if isinstance(value, float):
        return abs(value) >= _EXACT_FLOAT
    if isinstance(value, dict):
        return any(map(may_be_rounded, value.values()))
    return isinstance(value, list) and any(map(may_be_rounded, value))


def describe(value: Any) -> str:
    """A value as a message shows it: its kind, and its beginning."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"{_kind(value)} {shown.encode('utf-8', 'backslashreplace').decode('utf-8')}"


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    kinds |= {int: "an integer", float: "a number", type(None): "null"}
    return kinds.get(type(value), type(value).__name__)
