"""From the bytes of a JSONL file to lines, and from a line to its objects."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

import orjson

from bulkembed.transforms.inputs.rows import has_lone_surrogate, kind_of_value
from bulkembed.transforms.inputs.stored_bytes import CHUNK_BYTES, Stream

LONG_LINE_BYTES = 16 << 20
"""A line that is longer than this is cut after its last complete object."""
_EXACT_FLOAT = 2.0**63
_BETWEEN = " \t\r\n\ufeff\x1e"
"""Characters that may surround an object: white space, byte order marks that `cat` leaves in the
middle of a file, and the record separator of JSON text sequences (RFC 7464)."""
_DECODER = json.JSONDecoder()


class NotARow(ValueError):
    """A line that is not a JSON object; the message says why."""


def lines(stream: Stream, at_byte: int = 0) -> Iterator[tuple[int, int, bytes]]:
    r"""Yield the lines of a stream as (line number, byte where it begins, bytes); no blank ones.

    Only `\n` ends a line. A `\r` before it remains, which JSON treats as white space. Line
    numbers count from 1 at the beginning of the stream, and include blank lines. A byte order mark
    is skipped at byte 0 only. Where objects have no line breaks between them, several are yielded
    as one line, so that memory use does not grow with the file.

    Args:
        stream: the bytes, decompressed.
        at_byte: where in the file the stream begins.
    """
    number, begin = 0, at_byte
    pieces: list[bytes] = []
    pieces_bytes, long = 0, LONG_LINE_BYTES
    for chunk in _chunks(stream):
        first, *others = chunk.split(b"\n")
        pieces.append(first)
        pieces_bytes += len(first)
        for line in others:
            whole = b"".join(pieces) if len(pieces) > 1 else pieces[0]
            pieces, pieces_bytes, long = [line], len(line), LONG_LINE_BYTES
            number += 1
            yield from _row(number, begin, whole)
            begin += len(whole) + 1
        if pieces_bytes >= long:
            whole = b"".join(pieces)
            cut = _last_piece(whole)
            yield from _row(number + 1, begin, whole[:cut])
            begin += cut
            pieces, pieces_bytes = [whole[cut:]], len(whole) - cut
            long = max(LONG_LINE_BYTES, 2 * pieces_bytes)
    yield from _row(number + 1, begin, b"".join(pieces))


def objects(stream: Stream, at_byte: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Yield the rows of a stream whose lines may have several objects; see `lines` and `split`."""
    for number, begin, line in lines(stream, at_byte):
        if _is_one(line):
            yield number, begin, line
        else:
            yield from ((number, begin + start, piece) for start, piece in split(line))


def split(line: bytes) -> list[tuple[int, bytes]]:
    r"""Return the rows of a line that is not one object, each with the byte where it begins.

    Objects are decoded one after the other. Anything that is not an object, or that is followed by
    something other than an object, is one row up to the next `\r` or the end of the line. No row
    depends on the rows before it, so that reading can begin in the middle of a line.
    """
    text = line.decode("utf-8", "surrogateescape")
    found, at, at_byte = [], 0, 0
    while (start := _skip(text, at, _BETWEEN)) < len(text):
        end = _end_of_row(text, start)
        at_byte += _bytes(text, at, start)
        size = _bytes(text, start, end)
        found.append((at_byte, line[at_byte : at_byte + size]))
        at, at_byte = end, at_byte + size
    return found


def _end_of_row(text: str, start: int) -> int:
    """Return the end of the row that begins at `start`."""
    broken = text.find("\r", start)
    broken = len(text) if broken < 0 else broken
    try:
        _, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return broken
    follows = _skip(text, end, _BETWEEN.replace("\r", ""))
    if follows == len(text) or text[follows] in "\r{":
        return end
    after = text.find("\r", end)
    return len(text) if after < 0 else after


def _skip(text: str, at: int, chars: str) -> int:
    while at < len(text) and text[at] in chars:
        at += 1
    return at


def _bytes(text: str, start: int, end: int) -> int:
    if text.isascii():
        return end - start
    return len(text[start:end].encode("utf-8", "surrogateescape"))


def _last_piece(line: bytes) -> int:
    """Return where the last row of an unfinished line begins; 0 if an earlier row may continue."""
    pieces = split(line)
    sure = len(pieces) > 1 and all(_is_one(piece) for _, piece in pieces[:-1])
    return pieces[-1][0] if sure else 0


def _is_one(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _chunks(stream: Stream) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _row(number: int, begin: int, line: bytes) -> tuple[tuple[int, int, bytes], ...]:
    if begin == 0 and line.startswith(codecs.BOM_UTF8):
        line, begin = line.removeprefix(codecs.BOM_UTF8), len(codecs.BOM_UTF8)
    return () if not line or line.isspace() else ((number, begin, line),)


def parse(line: bytes) -> tuple[dict[str, Any], bool]:
    """Return a row's object, and whether its strings are known to have no lone surrogates.

    orjson rejects lone surrogates, NaN, numbers beyond a double and byte order marks. Such lines
    are parsed by the standard library.

    Raises:
        NotARow: the line is not a JSON object, or not UTF-8.
    """
    try:
        row, is_utf8 = orjson.loads(line), True
    except orjson.JSONDecodeError:
        row, is_utf8 = parse_exactly(line), False
    if not isinstance(row, dict):
        raise NotARow(f"expected an object in braces, got {kind_of_value(row)}")
    if not is_utf8 and any(map(has_lone_surrogate, row)):
        raise NotARow("a column's name has a lone surrogate, which is not valid UTF-8")
    return row, is_utf8


def parse_exactly(line: bytes) -> Any:
    """Parse a line by the standard library, which keeps integers of any size.

    Raises:
        NotARow: the line is not JSON, or not UTF-8.
    """
    try:
        return json.loads(line.decode("utf-8").strip(_BETWEEN))
    except UnicodeDecodeError as error:
        raise NotARow(f"byte {error.start} of the line is not UTF-8") from None
    except RecursionError:
        raise NotARow("the line is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise NotARow(f"invalid JSON: {error.msg} at character {error.pos} of the line") from None
    except ValueError as error:  # An integer of more than 4,300 digits.
        raise NotARow(f"unreadable JSON: {error}") from None


def may_be_rounded(value: Any) -> bool:
    """Return whether a value may hold an integer that orjson made a float (from 2^64 up)."""
    if isinstance(value, float):
        return abs(value) >= _EXACT_FLOAT
    if isinstance(value, dict):
        return any(map(may_be_rounded, value.values()))
    return isinstance(value, list) and any(map(may_be_rounded, value))
