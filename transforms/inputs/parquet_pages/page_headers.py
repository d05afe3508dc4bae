"""Headers of Parquet pages: where each page of a column begins, and what it holds."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator
from typing import Any

_MAX_DEPTH = 16
"""Of structs in structs: those of a header have 3."""
_VARINT_BYTES = 10
_SIZES = ("stored_bytes", "plain_bytes", "values", "level_bytes", "repetition_bytes")


class PageKind(enum.IntEnum):
    """`PageType` in Parquet's format."""

    DATA = 0
    INDEX = 1
    DICTIONARY = 2
    DATA_V2 = 3


class Encoding(enum.IntEnum):
    """`Encoding` in Parquet's format: those that bytes are read from here."""

    PLAIN = 0
    PLAIN_DICTIONARY = 2
    RLE = 3
    RLE_DICTIONARY = 8


@dataclasses.dataclass(frozen=True, slots=True)
class PageHeader:
    """What the header of a page says."""

    kind: PageKind
    header_bytes: int
    stored_bytes: int
    """The size of the page after its header, as it is stored."""
    plain_bytes: int
    """The same, decompressed."""
    values: int
    """With nulls."""
    encoding: int
    level_encoding: int = Encoding.RLE
    level_bytes: int = 0
    """Version 2: the definition levels, which come first and are not compressed."""
    repetition_bytes: int = 0
    """Version 2: the repetition levels, which are before these."""
    is_compressed: bool = True
    """Version 2: whether the values are."""


def page_header(data: bytes) -> PageHeader | None:
    """Return the header at the beginning of some bytes; None if they end before the header does.

    Raises:
        OSError: it is no header of a page.
    """
    thrift = _Compact(data)
    try:
        fields = thrift.struct()
        kind = PageKind(fields[1])
        about = fields.get({PageKind.DATA_V2: 8, PageKind.DICTIONARY: 7}.get(kind, 5), {})
        header = PageHeader(kind, thrift.at, fields[3], fields[2], about.get(1, 0), about.get(2, 0))
        if kind is PageKind.DATA:
            header = dataclasses.replace(header, level_encoding=about[3])
        elif kind is PageKind.DATA_V2:
            header = dataclasses.replace(
                header,
                encoding=about[4],
                level_bytes=about[5],
                repetition_bytes=about[6],
                is_compressed=about.get(7, True),
            )
        sizes = [getattr(header, name) for name in _SIZES]
        if not all(isinstance(size, int) and size >= 0 for size in sizes):
            raise ValueError(f"sizes of {sizes}")
    except IndexError:
        return None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise OSError(f"the header of a page is damaged: {error!r}") from error
    return header


class _Compact:
    """Reads values in Thrift's compact protocol; IndexError where the bytes end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Return the fields of a struct by their numbers."""
        if depth > _MAX_DEPTH:
            raise ValueError("too many structs in structs")
        found, number = {}, 0
        while kind := self._data[self.at]:
            self.at += 1
            number = number + (kind >> 4) if kind >> 4 else self._integer()
            found[number] = self._value(kind & 15, depth)
        self.at += 1
        return found

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2:
                return kind == 1
            case 3:
                return self._bytes(1)[0]
            case 4 | 5 | 6:
                return self._integer()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._varint())
            case 9 | 10:
                return list(self._elements(depth))
            case 12:
                return self.struct(depth + 1)
        raise ValueError(f"a field of type {kind}")

    def _elements(self, depth: int) -> Iterator[Any]:
        head = self._bytes(1)[0]
        count = head >> 4 if head >> 4 < 15 else self._varint()
        for _ in range(count):
            # A boolean in a list is a byte of its own.
            kind = 3 if head & 15 in (1, 2) else head & 15
            yield self._value(kind, depth)

    def _bytes(self, size: int) -> bytes:
        if self.at + size > len(self._data):
            raise IndexError
        self.at += size
        return self._data[self.at - size : self.at]

    def _varint(self) -> int:
        value = 0
        for place in range(_VARINT_BYTES):
            byte = self._bytes(1)[0]
            value |= (byte & 127) << 7 * place
            if byte < 128:
                return value
        raise ValueError("an integer of more than 10 bytes")

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
