"""Parquet columns with large values: read value by value, since pyarrow holds whole pages.

By default, pyarrow and arrow-rs write pages of 1,024 rows: 205 MB for images of 200 kB. pyarrow
reads a page as a whole, and while it decompresses one it needs up to three times as much memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.nested_columns import FoundColumn, take_column
from bulkembed.transforms.inputs.parquet_pages.page_bytes import CODECS
from bulkembed.transforms.inputs.parquet_pages.page_values import (
    Chunk,
    LeveledValue,
    first_page_bytes,
    read_values,
)

LARGE_PAGE_BYTES = 8 << 20
"""A column is large if a page can be: by default, writers put up to 1,024 rows in a page."""
HELD_PAGE_BYTES = 32 << 20
"""The size of a page from which on a run warns that it is read as a whole."""
_PAGE_ROWS = 1024
_ENCODINGS = {"PLAIN", "RLE", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}

_STORED_TYPES = {
    **{kind: kind for kind in (pa.binary(), pa.large_binary(), pa.binary_view())},
    pa.string(): pa.binary(),
    pa.large_string(): pa.large_binary(),
    pa.string_view(): pa.binary_view(),
}
"""The types that are read here, and those of their bytes: strings need not be UTF-8."""

PiecesOf = Callable[[Collection[FoundColumn]], Iterator[list[pa.RecordBatch]]]
"""Returns for each range the record batches with its rows of some columns, from pyarrow."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Leaf:
    """A column of Parquet that is read value by value."""

    type: pa.DataType
    chunks: tuple[Chunk, ...]
    max_level: int


@dataclasses.dataclass(frozen=True, slots=True)
class LargeColumn:
    """A column, or a struct with fields, of which some are read value by value."""

    column: FoundColumn
    leaves: Mapping[str, _Leaf]
    """By the names of a struct's fields; "" if the column is no struct."""
    is_nullable: bool

    @property
    def type(self) -> pa.DataType:
        """The type of the top column; of a field of a struct, a struct with it alone."""
        for name in reversed(self.column.path[1:]):
            return pa.struct([(name, self.column.type)])
        return self.column.type

    def pieces(
        self, file: pa.NativeFile, ranges: Sequence[RowRange], others: PiecesOf
    ) -> Iterator[list[pa.RecordBatch]]:
        """Yield for each range of rows a record batch with the top column.

        Args:
            file: the file.
            ranges: (first row, rows) each, ascending and without overlap.
            others: reads the fields of a struct that are not read here.

        Raises:
            OSError, pa.ArrowException, OutputError: see `page_values.read_values`.
        """
        arrays = self._structs if pat.is_struct(self.type) else self._values
        for array in arrays(file, ranges, others):
            yield [pa.RecordBatch.from_arrays([array], [self.column.path[0]])]

    def _values(
        self, file: pa.NativeFile, ranges: Sequence[RowRange], _: PiecesOf
    ) -> Iterator[pa.Array]:
        leaf = self.leaves[""]
        for values in read_values(file, leaf.chunks, leaf.max_level, ranges):
            yield _array(values, leaf.type)

    def _structs(
        self, file: pa.NativeFile, ranges: Sequence[RowRange], others: PiecesOf
    ) -> Iterator[pa.Array]:
        top, fields = self.column.path[0], list(self.type)
        rest = {
            field.name: FoundColumn((top, field.name), field.type, f"{top}.{field.name}")
            for field in fields
            if field.name not in self.leaves
        }
        names = list(self.leaves)
        leaves = [
            read_values(file, leaf.chunks, leaf.max_level, ranges) for leaf in self.leaves.values()
        ]
        pieces = others(list(rest.values())) if rest else itertools.repeat([], len(ranges))
        for batches, *values in zip(pieces, *leaves, strict=True):
            read = dict(zip(names, values, strict=True))
            arrays = [
                _array(read[field.name], field.type)
                if field.name in read
                else _one_array(take_column(batches, rest[field.name].path))
                for field in fields
            ]
            is_null = [level == 0 for level, _ in values[0]]
            mask = pa.array(is_null, pa.bool_()) if self.is_nullable else None
            yield pa.StructArray.from_arrays(arrays, fields=fields, mask=mask)


class ColumnPages:
    """Finds the columns of one file that have large pages.

    Args:
        parquet: the file.
        page_bytes: the size from which on a page is large.
    """

    def __init__(self, parquet: pq.ParquetFile, page_bytes: int = LARGE_PAGE_BYTES) -> None:
        self._parquet, self._page_bytes = parquet, page_bytes
        self._places: dict[str, list[int]] = {}
        """Of the columns of Parquet, by their paths."""
        for place in range(parquet.metadata.num_columns):
            self._places.setdefault(parquet.schema.column(place).path, []).append(place)

    def find(self, column: FoundColumn) -> LargeColumn | None:
        """Return how a column, or a field of a struct, is read value by value.

        Returns None if its pages are smaller, or cannot be read here: those of columns in lists,
        and those with rare codecs and encodings.
        """
        top = self._parquet.schema_arrow.field(column.path[0])
        if not pat.is_struct(top.type):
            leaf = self._leaf(column.parquet_path, top.type)
            return None if leaf is None else LargeColumn(column, {"": leaf}, top.nullable)
        if len(column.path) > 2:
            return None
        kind = column.type if len(column.path) == 1 else pa.struct([(column.path[1], column.type)])
        found = {field.name: self._leaf(f"{top.name}.{field.name}", field.type) for field in kind}
        leaves = {name: leaf for name, leaf in found.items() if leaf is not None}
        is_clear = len(found) == kind.num_fields
        return LargeColumn(column, leaves, top.nullable) if leaves and is_clear else None

    def held_bytes(self, file: pa.NativeFile, column: FoundColumn) -> int:
        """Return the size of the first page that pyarrow holds as a whole; 0 if it is not large.

        The file has a row group.
        """
        if self.find(column) is not None:
            return 0
        largest = 0
        for path, places in self._places.items():
            chunk = self._parquet.metadata.row_group(0).column(places[0])
            is_part = f"{path}.".startswith(f"{column.parquet_path}.")
            if is_part and _is_large(chunk, self._page_bytes):
                with contextlib.suppress(OSError):
                    largest = max(largest, first_page_bytes(file, _chunk(chunk, 0, 0)))
        return largest if largest > self._page_bytes else 0

    def _leaf(self, path: str, kind: pa.DataType) -> _Leaf | None:
        places = self._places.get(path, [])
        # A column within a struct can have the same path as a flat one with a dot in its name.
        if len(places) != 1 or kind not in _STORED_TYPES:
            return None
        schema = self._parquet.schema.column(places[0])
        if schema.physical_type != "BYTE_ARRAY" or schema.max_repetition_level:
            return None
        metadata, level, row = self._parquet.metadata, schema.max_definition_level, 0
        chunks, is_large = [], False
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            chunk = group.column(places[0])
            if not _is_read_here(chunk, level):
                return None
            is_large = is_large or _is_large(chunk, self._page_bytes)
            chunks.append(_chunk(chunk, row, group.num_rows))
            row += group.num_rows
        return _Leaf(kind, tuple(chunks), level) if is_large else None


def _chunk(chunk: pq.ColumnChunkMetaData, first_row: int, rows: int) -> Chunk:
    begin = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        begin = min(begin, chunk.dictionary_page_offset)
    return Chunk(first_row, rows, begin, chunk.total_compressed_size, chunk.compression)


def _is_read_here(chunk: pq.ColumnChunkMetaData, max_level: int) -> bool:
    # Old writers list this encoding for the levels that a column does not have.
    encodings = _ENCODINGS if max_level else _ENCODINGS | {"BIT_PACKED"}
    return chunk.compression in CODECS and encodings.issuperset(chunk.encodings)


def _is_large(chunk: pq.ColumnChunkMetaData, page_bytes: int) -> bool:
    values = max(1, chunk.num_values)
    size: int = chunk.total_uncompressed_size * min(values, _PAGE_ROWS) // values
    return size > page_bytes


def _array(values: Sequence[LeveledValue], kind: pa.DataType) -> pa.Array:
    """Return the values with their type."""
    array = pa.array([value for _, value in values], _STORED_TYPES[kind])
    return array if array.type == kind else array.view(kind)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
