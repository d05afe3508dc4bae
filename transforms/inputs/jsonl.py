"""JSONL files: scanning them, and reading their rows forward."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import (
    OBJECTS,
    OFFSET_STRIDE_ROWS,
    FoundFile,
    InputColumns,
    InputFile,
)
from bulkembed.transforms.core.field_paths import (
    MISSING,
    NotAnObject,
    field_names,
    is_path,
    value_at,
)
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.column_checks import check_present
from bulkembed.transforms.inputs.forward_rows import ForwardRows
from bulkembed.transforms.inputs.hive_keys import hive_keys
from bulkembed.transforms.inputs.inferred_types import ColumnType
from bulkembed.transforms.inputs.input_files import ScannedFile
from bulkembed.transforms.inputs.jsonl_lines import (
    NotARow,
    lines,
    may_be_rounded,
    objects,
    parse,
    parse_exactly,
    split,
)
from bulkembed.transforms.inputs.rows import (
    RowBatch,
    WantedColumns,
)
from bulkembed.transforms.inputs.stored_bytes import (
    PeekableStream,
    decompressed,
    reading,
)
from bulkembed.transforms.inputs.text_recipe import TextRecipe
from bulkembed.transforms.inputs.text_rows import BatchBuilder, ScannedIds
from bulkembed.transforms.inputs.unsupported_files import (
    json_not_in_lines,
    lines_without_objects,
    rejected,
)

_ROWS_TYPED_TOGETHER = 1000
_MAX_COLUMNS = 10_000
_Exactly = Callable[[], dict[str, Any]]


def scan(stream: PeekableStream, found: FoundFile, columns: InputColumns) -> ScannedFile:
    """Return the result of one pass over the lines; see `input_files.StreamFormat`."""
    unsupported = json_not_in_lines(stream.head, is_whole=stream.is_whole)
    if unsupported is not None:
        raise rejected(found, unsupported, found.compression)
    scanned = ScannedColumns(found.name, columns)
    offsets: list[int] = []
    rows, how, last = 0, "", 0
    for number, begin, line in lines(stream):
        begins = [begin]
        if not scanned.add(number, line):
            pieces = split(line)
            begins = [begin + start for start, _ in pieces]
            if len(pieces) > 1:
                for _, piece in pieces:
                    scanned.add(number, piece)
        if len(begins) != 1 or number == last:
            how = OBJECTS
        for at in begins:
            if rows % OFFSET_STRIDE_ROWS == 0:
                offsets.append(at)
            rows += 1
        last = number
    scanned.finish()
    if rows and not scanned.any_row:
        raise rejected(found, lines_without_objects(stream.head), found.compression)
    offsets = offsets if found.compression is None else []
    return scanned.scanned_file(found, rows, offsets, how)


class ScannedColumns:
    """The columns of the rows so far, which are objects, and the types of their values."""

    def __init__(self, file_name: str, columns: InputColumns) -> None:
        self._file_name = file_name
        self._columns = columns
        wanted = (
            columns.id_column,
            *TextRecipe.of(columns).columns,
            *columns.media_columns,
            *columns.keep_columns,
        )
        self._unseen = {name for name in wanted if name is not None and is_path(name)}
        self.paths: dict[str, None] = {}
        """The wanted paths to fields that a row has."""
        self.examples: list[str] = []
        """Paths to fields of the first row."""
        self._batch: list[dict[str, Any]] = []
        self.names: dict[str, None] = {}
        self.ids = ScannedIds()
        self.types: dict[str, ColumnType] = {}
        if not columns.keeps_all:
            self.types = {column: ColumnType() for column in columns.keep_columns}
        self.any_row = False

    def add(self, number: int, line: bytes) -> bool:
        """Add a row; return whether the line is one."""
        try:
            row, _ = parse(line)
        except NotARow:
            return False
        self.add_row(number, row, lambda: parse_exactly(line))
        return True

    def add_row(self, number: int, row: dict[str, Any], exactly: _Exactly) -> None:
        """Add a row with its line or place; `exactly` gives its values with all their digits."""
        if not self.any_row:
            self.any_row = True
            self.examples = list(field_names(row))
        if self._unseen:
            self._find_paths(row)
        if not row.keys() <= self.names.keys():
            self._add_names(row)
        name = self._columns.id_column
        if name is not None:
            value = value_at(row, name)
            if type(value) is float and may_be_rounded(value):
                value = value_at(exactly(), name)
            self.ids.add(number, value)
        if self.types:
            self._add_kept(row, exactly)

    def _find_paths(self, row: dict[str, Any]) -> None:
        for name in list(self._unseen):
            found = value_at(row, name)
            if found is not MISSING and not isinstance(found, NotAnObject):
                self._unseen.remove(name)
                self.paths[name] = None

    def _add_names(self, row: dict[str, Any]) -> None:
        self.names.update(dict.fromkeys(row))
        if len(self.names) > _MAX_COLUMNS:
            raise ConfigError(
                f"{self._file_name} has more than {_MAX_COLUMNS:,} different keys at the top level "
                "of its rows. Move keys that vary into a nested object."
            )
        if self._columns.keeps_all:
            for column in row.keys() - self.types.keys() - {self._columns.id_column}:
                self.types[column] = ColumnType()

    def _add_kept(self, row: dict[str, Any], exactly: _Exactly) -> None:
        kept = _values(row, self.types)
        if any(map(may_be_rounded, kept.values())):
            kept = _values(exactly(), kept)
        self._batch.append(kept)
        if len(self._batch) >= _ROWS_TYPED_TOGETHER:
            self.finish()

    def finish(self) -> None:
        """Add the values of the last rows to the types."""
        for name, column in self.types.items():
            column.add([row[name] for row in self._batch if name in row])
        self._batch.clear()

    def scanned_file(
        self, found: FoundFile, rows: int, offsets: Sequence[int], how: str = ""
    ) -> ScannedFile:
        """Return what was found, after checking that the file has the wanted columns."""
        if self.any_row:
            names = [*self.names, *self.paths, *hive_keys(found.path)]
            check_present(found.name, self._columns, names, self.examples)
        return ScannedFile(
            found=found,
            digest="",
            rows=rows,
            offsets=tuple(offsets),
            schema=self.schema(),
            columns=tuple(self.names),
            id_range=self.ids.range,
            id_rows=tuple(self.ids.first.items()),
            unsigned=self.names_where(lambda kept: kept.could_be_unsigned),
            wide=self.names_where(lambda kept: kept.is_wide),
            narrow=self.narrow_schema(),
            reading=how,
        )

    def schema(self) -> pa.Schema:
        """Return the types of the id and the kept columns, in the order of first sight."""
        fields = {name: self.types[name].type for name in self._seen()}
        if self._columns.id_column is not None and self.ids.type is not None:
            fields = {self._columns.id_column: self.ids.type} | {
                name: kind for name, kind in fields.items() if name != self._columns.id_column
            }
        return pa.schema(list(fields.items()))

    def narrow_schema(self) -> pa.Schema:
        """Return the narrow types of the columns that have values of several types."""
        mixed = [name for name in self._seen() if self.types[name].is_mixed]
        return pa.schema([(name, self.types[name].narrow) for name in mixed])

    def _seen(self) -> list[str]:
        """Return the kept columns and fields that a row has, in the order of first sight."""
        seen = dict.fromkeys([*self.names, *self.paths])
        return [name for name in seen if name in self.types]

    def names_where(self, has: Callable[[ColumnType], bool]) -> tuple[str, ...]:
        """Return the kept columns whose type has a property."""
        return tuple(sorted(name for name, kept in self.types.items() if has(kept)))


def _values(row: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the values of the columns and fields that a row has."""
    found = {name: value_at(row, name) for name in names}
    return {
        name: value
        for name, value in found.items()
        if value is not MISSING and not isinstance(value, NotAnObject)
    }


def read(
    filesystem: pafs.FileSystem,
    file: InputFile,
    wanted: WantedColumns,
    ranges: Sequence[RowRange],
) -> Iterator[RowBatch]:
    """Yield one batch for each range; see `input_files.read_batches`.

    A plain file is entered near each range; a compressed one is decompressed once.
    """
    with reading(file.found), _open(filesystem, file) as stream:

        def rows_from(_: int, at_byte: int) -> Iterator[bytes]:
            if at_byte:
                stream.seek(at_byte)
            return _rows(stream, file, at_byte)

        rows = ForwardRows(file, rows_from, can_seek=file.found.compression is None)
        for first_row, count in ranges:
            batch = BatchBuilder(file.name, wanted, first_row)
            for row in rows.read(first_row, count):
                _add_row(batch, row)
            yield batch.build()


@contextlib.contextmanager
def _open(filesystem: pafs.FileSystem, file: InputFile) -> Iterator[pa.NativeFile]:
    path, compression = file.found.path, file.found.compression
    if compression is None:
        with filesystem.open_input_file(path) as stored:
            yield stored
    else:
        with filesystem.open_input_stream(path, compression=None) as stored:
            yield decompressed(stored, compression)


def _rows(stream: pa.NativeFile, file: InputFile, at_byte: int) -> Iterator[bytes]:
    rows = objects if file.has_lines_of_objects else lines
    return (row for _, _, row in rows(stream, at_byte))


def _add_row(batch: BatchBuilder, line: bytes) -> None:
    try:
        row, is_utf8 = parse(line)
        if any(may_be_rounded(value_at(row, name)) for name in batch.used):
            row = parse_exactly(line)  # Integers from 2^64 on as they were written.
    except NotARow as error:
        batch.add_unreadable(DeadCode.BAD_JSON, str(error))
    else:
        batch.add(row, is_utf8=is_utf8)
