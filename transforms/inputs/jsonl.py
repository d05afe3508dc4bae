"""JSONL files: scanning them, and reading their rows forward."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import (
    OBJECTS,
    OFFSET_STRIDE_ROWS,
    FoundFile,
    IdType,
    InputColumns,
    InputFile,
)
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.columns import INT64_TOP, UINT64_TOP, check_present
from bulkembed.transforms.inputs.inferred_types import ColumnType, fitting
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
    BadRows,
    BadValue,
    RowBatch,
    WantedColumns,
    describe,
    generated_ids,
    has_lone_surrogate,
    kept_table,
    text_of,
    title_and_text,
)
from bulkembed.transforms.inputs.stored_bytes import (
    PeekableStream,
    changed,
    decompressed,
    reading,
)
from bulkembed.transforms.inputs.unsupported_files import (
    json_not_in_lines,
    lines_without_objects,
    rejected,
)

_ROWS_TYPED_TOGETHER = 1000
_MAX_COLUMNS = 10_000


def scan(
    stream: PeekableStream, filesystem: pafs.FileSystem, found: FoundFile, columns: InputColumns
) -> ScannedFile:
    """Return the result of one pass over the lines; see `input_files.FormatModule`."""
    unsupported = json_not_in_lines(stream.head, is_whole=stream.is_whole)
    if unsupported is not None:
        raise rejected(found, unsupported, found.compression)
    scanned = _ScannedColumns(found.name, columns)
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
    if scanned.any_row:
        check_present(found.name, columns, scanned.names)
    return ScannedFile(
        found=found,
        digest="",
        rows=rows,
        offsets=tuple(offsets) if found.compression is None else (),
        schema=scanned.schema(),
        columns=tuple(scanned.names),
        id_range=scanned.ids.range,
        id_rows=tuple(scanned.ids.first.items()),
        unsigned=scanned.names_where(lambda kept: kept.could_be_unsigned),
        wide=scanned.names_where(lambda kept: kept.is_wide),
        narrow=scanned.narrow_schema(),
        reading=how,
    )


class _ScannedIds:
    """The kinds and the range of the ids; values that cannot be ids are found when reading."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        self.range: tuple[int, int] | None = None

    def add(self, number: int, value: Any, line: bytes, name: str) -> None:
        if type(value) is float and may_be_rounded(value):
            value = parse_exactly(line)[name]
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and -INT64_TOP - 1 <= value <= UINT64_TOP:
            low, high = self.range or (value, value)
            self.range = (min(low, value), max(high, value))
            self.first.setdefault("int", number)
        elif type(value) is str:
            self.first.setdefault("string", number)

    @property
    def type(self) -> pa.DataType | None:
        """The type of the ids, of the first one if there are two kinds; None without any."""
        if not self.first:
            return None
        if next(iter(self.first)) == "string" or self.range is None:
            return pa.string()
        return pa.uint64() if self.range[1] > INT64_TOP and self.range[0] >= 0 else pa.int64()


class _ScannedColumns:
    """The columns of the rows so far, and their types."""

    def __init__(self, file_name: str, columns: InputColumns) -> None:
        self._file_name = file_name
        self._columns = columns
        self._batch: list[dict[str, Any]] = []
        self.names: dict[str, None] = {}
        self.ids = _ScannedIds()
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
        self.any_row = True
        if not row.keys() <= self.names.keys():
            self._add_names(row)
        if self._columns.id_column in row:
            name = self._columns.id_column
            self.ids.add(number, row[name], line, name)
        if self.types:
            self._add_kept(row, line)
        return True

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

    def _add_kept(self, row: dict[str, Any], line: bytes) -> None:
        kept = {name: row[name] for name in self.types if name in row}
        if any(map(may_be_rounded, kept.values())):
            exact = parse_exactly(line)
            kept = {name: exact[name] for name in kept}
        self._batch.append(kept)
        if len(self._batch) >= _ROWS_TYPED_TOGETHER:
            self.finish()

    def finish(self) -> None:
        """Add the values of the last rows to the types."""
        for name, column in self.types.items():
            column.add([row[name] for row in self._batch if name in row])
        self._batch.clear()

    def schema(self) -> pa.Schema:
        """Return the types of the id and the kept columns, in the order of first sight."""
        fields = {name: self.types[name].type for name in self.names if name in self.types}
        if self._columns.id_column is not None and self.ids.type is not None:
            fields = {self._columns.id_column: self.ids.type} | {
                name: kind for name, kind in fields.items() if name != self._columns.id_column
            }
        return pa.schema(list(fields.items()))

    def narrow_schema(self) -> pa.Schema:
        """Return the narrow types of the columns that have values of several types."""
        mixed = [name for name in self.names if name in self.types and self.types[name].is_mixed]
        return pa.schema([(name, self.types[name].narrow) for name in mixed])

    def names_where(self, has: Callable[[ColumnType], bool]) -> tuple[str, ...]:
        """Return the kept columns whose type has a property."""
        return tuple(sorted(name for name, kept in self.types.items() if has(kept)))


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
        next_row, following = 0, _rows(stream, file, 0)
        for first_row, count in ranges:
            place = min(first_row // OFFSET_STRIDE_ROWS, len(file.offsets) - 1)
            if place * OFFSET_STRIDE_ROWS > next_row:
                stream.seek(file.offsets[place])
                next_row = place * OFFSET_STRIDE_ROWS
                following = _rows(stream, file, file.offsets[place])
            skipped = first_row - next_row
            rows = list(itertools.islice(following, skipped, skipped + count))
            if len(rows) < count:
                raise changed(file.found, f"it has fewer than {first_row + count:,} rows")
            next_row = first_row + count
            yield _BatchReader(file.name, wanted, first_row).read(rows)


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


class _BatchReader:
    """Parses the rows of one batch."""

    def __init__(self, file_name: str, wanted: WantedColumns, first_row: int) -> None:
        self._file_name = file_name
        self._wanted = wanted
        self._first_row = first_row
        self._bad = BadRows(file_name, first_row)
        self._recipe = wanted.recipe
        self._kept_schema = wanted.kept
        self._used = {wanted.columns.id_column, *self._recipe.columns, *self._kept_schema.names}
        self._used.discard(None)
        self._ids: list[int | str | None] = []
        self._titles: list[str | None] = []
        self._texts: list[str | None] = []
        self._kept: list[Mapping[str, Any]] = []
        self._unkept: set[str] = set()

    def read(self, rows: Sequence[bytes]) -> RowBatch:
        """Return the batch; the first fault of a row counts, in the order JSON, id, text."""
        for offset, row in enumerate(rows):
            self._add(offset, row)
        kept = [self._kept_column(field) for field in self._kept_schema]
        return RowBatch(
            first_row=self._first_row,
            ids=self._id_array(len(rows)),
            titles=self._titles,
            texts=self._texts,
            kept=kept_table(kept, self._kept_schema, len(rows)),
            bad=self._bad.by_offset(),
            unkept=frozenset(self._unkept),
        )

    def _add(self, offset: int, line: bytes) -> None:
        row: Mapping[str, Any] = {}
        is_utf8 = True
        try:
            row, is_utf8 = self._parse(line)
        except NotARow as error:
            self._bad.note(offset, DeadCode.BAD_JSON, str(error))
        identity: int | str | None = None
        try:
            identity = None if offset in self._bad else self._id(row, is_utf8)
        except BadValue as error:
            self._bad.note(offset, error.code, str(error))
        title, text = None, None
        try:
            title, text = title_and_text(row, self._recipe, is_utf8=is_utf8)
        except BadValue as error:
            self._bad.note(offset, error.code, str(error))
        self._ids.append(identity)
        self._titles.append(title)
        self._texts.append(text)
        if self._kept_schema.names:
            self._kept.append(row)

    def _parse(self, line: bytes) -> tuple[Mapping[str, Any], bool]:
        """Return a row, with integers from 2^64 up as they were written where they are used."""
        row, is_utf8 = parse(line)
        if any(may_be_rounded(row.get(name)) for name in self._used):
            return parse_exactly(line), is_utf8
        return row, is_utf8

    def _id(self, row: Mapping[str, Any], is_utf8: bool) -> int | str | None:
        name = self._wanted.columns.id_column
        if name is None:
            return None
        value = row.get(name)
        if value is None:
            what = "is null" if name in row else "is missing"
            raise BadValue(DeadCode.MISSING_ID, f"the id {name!r} {what}")
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is float and self._wanted.columns.id_type is IdType.STRING:
            return text_of(value)
        if type(value) is int:
            return self._int_id(name, value)
        if type(value) is not str:
            what = f"the id {name!r} is {describe(value)}, but an id must be an integer or a string"
            what += ". Use --id-type string to accept it." if type(value) is float else ""
            raise BadValue(DeadCode.BAD_ID, what)
        if not is_utf8 and has_lone_surrogate(value):
            raise BadValue(DeadCode.BAD_ID, f"the id {name!r} has a lone surrogate")
        if not pa.types.is_string(self._wanted.id_type):
            raise BadValue(DeadCode.BAD_ID, self._other_kind(name, value))
        return value

    def _int_id(self, name: str, value: int) -> int | str:
        if self._wanted.columns.id_type is IdType.STRING:
            return str(value)
        kind = self._wanted.id_type
        if not pa.types.is_integer(kind):
            raise BadValue(DeadCode.BAD_ID, self._other_kind(name, value))
        signed = pa.types.is_signed_integer(kind)
        low = -(2 ** (kind.bit_width - 1)) if signed else 0
        if not low <= value < low + 2**kind.bit_width:
            what = f"the id {name!r} is {describe(value)}, which does not fit in {kind}"
            raise BadValue(DeadCode.BAD_ID, f"{what}. Use --id-type string.")
        return value

    def _other_kind(self, name: str, value: int | str) -> str:
        return (
            f"the id {name!r} is {describe(value)}, but the others are {self._wanted.id_type}. "
            "Use --id-type string to accept both."
        )

    def _id_array(self, rows: int) -> pa.Array:
        if self._wanted.columns.id_column is None:
            return generated_ids(self._file_name, self._first_row, rows)
        return pa.array(self._ids, self._wanted.id_type)

    def _kept_column(self, field: pa.Field) -> pa.Array:
        values = [row.get(field.name) for row in self._kept]
        array, unfit = fitting(values, field.type)
        if unfit:
            self._unkept.add(field.name)
        return array
