"""Byte strings of a Parquet column, read value by value, whatever the size of its pages is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import pyarrow as pa

from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.parquet_pages.hybrid_integers import unpacked
from bulkembed.transforms.inputs.parquet_pages.page_bytes import (
    PlainBytes,
    ReadAhead,
    ValueFile,
    plain_bytes,
)
from bulkembed.transforms.inputs.parquet_pages.page_headers import (
    Encoding,
    PageHeader,
    PageKind,
    page_header,
)

_HEADER_BYTES, _MAX_HEADER_BYTES = 1 << 10, 1 << 24
"""Statistics in a header can have a whole value."""


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Where a column is in one row group."""

    first_row: int
    rows: int
    begin: int
    """The byte at which its first page begins."""
    size: int
    """In bytes, with the headers of its pages."""
    codec: str
    """One of `page_bytes.CODECS`."""


LeveledValue: TypeAlias = tuple[int, bytes | None]
"""The definition level of a row, and its value; None where a null is at that level."""


def read_values(
    file: pa.NativeFile, chunks: Sequence[Chunk], max_level: int, ranges: Sequence[RowRange]
) -> Iterator[list[LeveledValue]]:
    """Yield the values of each range of rows; pages without a wanted row are not read.

    Args:
        file: the file; other readers of it are not disturbed.
        chunks: those of a column of bytes without lists, in order.
        max_level: the definition level of a value that is not null.
        ranges: (first row, rows) each, ascending and without overlap.

    Raises:
        OSError, pa.ArrowException: a page is damaged.
        OutputError: the disk of the temporary directory is full.
    """
    pages = (page for chunk in chunks for page in _pages(file, chunk, max_level))
    values: Iterator[LeveledValue] = iter(())
    row = end = 0
    for first_row, count in ranges:
        found: list[LeveledValue] = []
        while len(found) < count:
            wanted = first_row + len(found)
            while wanted >= end:
                page = next(pages, None)
                if page is None:
                    raise OSError(f"its row groups end before row {wanted}")
                values, row = page.values(), page.first_row
                end = row + page.header.values
            for _ in range(wanted - row):
                next(values)
            row = min(end, first_row + count)
            found += (next(values) for _ in range(row - wanted))
        yield found


def first_page_bytes(file: pa.NativeFile, chunk: Chunk) -> int:
    """Return the decompressed size of the first page of values; with its dictionary's, the larger.

    Raises:
        OSError: the page is damaged.
    """
    ahead = ReadAhead(file, chunk.begin + chunk.size)
    at, sizes = chunk.begin, []
    while True:
        header = _header(ahead, at)
        sizes.append(header.plain_bytes)
        if header.kind in (PageKind.DATA, PageKind.DATA_V2):
            return max(sizes)
        at += header.header_bytes + header.stored_bytes


def _pages(file: pa.NativeFile, chunk: Chunk, max_level: int) -> Iterator[_Page]:
    ahead = ReadAhead(file, chunk.begin + chunk.size)
    at, row, dictionary = chunk.begin, chunk.first_row, None
    end_row = chunk.first_row + chunk.rows
    while row < end_row:
        header = _header(ahead, at)
        at += header.header_bytes
        if header.kind is PageKind.DICTIONARY:
            data = plain_bytes(ahead, at, header.stored_bytes, chunk.codec, header.plain_bytes)
            dictionary = _Dictionary(data, header.values)
        elif header.kind is not PageKind.INDEX:
            if header.values > end_row - row:
                raise OSError(f"a row group of {chunk.rows:,} rows has pages of more rows")
            yield _Page(ahead, at, header, chunk.codec, row, max_level, dictionary)
            row += header.values
        at += header.stored_bytes


def _header(ahead: ReadAhead, at: int) -> PageHeader:
    size = _HEADER_BYTES
    while at < ahead.end:
        data = ahead.read(at, size, least=size)
        header = page_header(data)
        if header is not None:
            return header
        if len(data) < size or size >= _MAX_HEADER_BYTES:
            break
        size *= 16
    raise OSError("a row group ends within the header of a page")


@dataclasses.dataclass(frozen=True, slots=True)
class _Page:
    """A page with rows."""

    file: ReadAhead
    begin: int
    header: PageHeader
    codec: str
    first_row: int
    max_level: int
    dictionary: _Dictionary | None

    def values(self) -> Iterator[LeveledValue]:
        """Yield the level and the value of each row."""
        header = self.header
        if header.repetition_bytes:
            raise OSError("a page of a column without lists has repetition levels")
        first = header.level_bytes
        data = plain_bytes(
            self.file,
            self.begin + first,
            header.stored_bytes - first,
            self.codec if header.is_compressed else "UNCOMPRESSED",
            header.plain_bytes - first,
        )
        runs = b""
        if header.kind is PageKind.DATA_V2:
            runs = plain_bytes(self.file, self.begin, first, "UNCOMPRESSED", first).read(first)
        elif self.max_level:
            if header.level_encoding != Encoding.RLE:
                raise OSError(f"a page has levels with encoding {header.level_encoding}")
            runs = data.read_string()
        levels = unpacked(runs, self.max_level.bit_length(), header.values).tolist()
        strings = self._strings(data, levels.count(self.max_level))
        for level in levels:
            yield level, next(strings) if level == self.max_level else None
        data.finish()

    def _strings(self, data: PlainBytes, count: int) -> Iterator[bytes]:
        """Yield the values that are not null."""
        if self.header.encoding == Encoding.PLAIN:
            for _ in range(count):
                yield data.read_string()
            return
        is_number = self.header.encoding in (Encoding.PLAIN_DICTIONARY, Encoding.RLE_DICTIONARY)
        if self.dictionary is None or not is_number:
            raise OSError(f"a page has values with encoding {self.header.encoding}")
        width = data.read(1)[0] if count else 0
        for number in unpacked(data.read(data.left), width, count).tolist():
            yield self.dictionary.value(number)


class _Dictionary:
    """The values of a dictionary page, which is read when the first of them is needed."""

    def __init__(self, data: PlainBytes, count: int) -> None:
        self._data = data
        self._count = count
        self._values: ValueFile | None = None

    def value(self, number: int) -> bytes:
        """Return the value of that number, from 0."""
        if self._values is None:
            self._values = ValueFile()
            for _ in range(self._count):
                self._values.append(self._data.read_string())
            self._data.finish()
        if number >= self._count:
            raise OSError(f"a page has value {number} of a dictionary of {self._count}")
        return self._values.read(number)
