"""Runs of rows out of a JSONL file, read forward."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
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
from bulkembed.transforms.inputs.columns import INT64_TOP, UINT64_TOP, check_present
from bulkembed.transforms.inputs.file_content import refused, without_rows
from bulkembed.transforms.inputs.json_text import text_of
from bulkembed.transforms.inputs.jsonl_lines import (
    NotARow,
    describe,
    is_utf8,
    lines,
    may_be_rounded,
    objects,
    parse,
    parse_exactly,
    split,
)
from bulkembed.transforms.inputs.jsonl_lines import lines as read_lines
from bulkembed.transforms.inputs.jsonl_types import ColumnType, fitting
from bulkembed.transforms.inputs.rows import RowBatch, WantedColumns, kept_table, made_ids
from bulkembed.transforms.inputs.scanned_file import ScannedFile
from bulkembed.transforms.inputs.stored_bytes import Ahead, changed, decoded, reading

_BATCH_ROWS = 1000
_MOST_COLUMNS = 10_000


def scan_jsonl(stream: Ahead, found: FoundFile, columns: InputColumns) -> ScannedFile:
    """Return what one pass over the lines tells; see `scan.scan_file`.  The digest is the caller's.

    Raises:
        InputError: there are lines, and not one of them is a JSON object.
    """
    facts = _Facts(found.name, columns)
    offsets: list[int] = []
    rows, reading, last = 0, "", 0
    for number, begin, line in read_lines(stream):
        begins = [begin]
        if not facts.add(number, line):
            pieces = split(line)
            begins = [begin + start for start, _ in pieces]
            if len(pieces) > 1:
                for _, piece in pieces:
                    facts.add(number, piece)
        if len(begins) != 1 or number == last:
            reading = OBJECTS
        for at in begins:
            if rows % OFFSET_STRIDE_ROWS == 0:
                offsets.append(at)
            rows += 1
        last = number
    facts.finish()
    if rows and not facts.any_row:
        raise refused(found, without_rows(stream.head), found.compression)
    if facts.any_row:
        check_present(found.name, columns, facts.seen)
    return ScannedFile(
        found=found,
        digest="",
        rows=rows,
        offsets=tuple(offsets) if found.compression is None else (),
        schema=facts.schema(),
        columns=tuple(facts.seen),
        id_range=facts.ids.range,
        id_rows=tuple(facts.ids.first.items()),
        unsigned=facts.names(lambda kept: kept.could_be_unsigned),
        wide=facts.names(lambda kept: kept.is_wide),
        narrow=facts.narrow(),
        reading=reading,
    )


class _Ids:
    """The kinds and the range of the ids; what cannot be an id is left to the reading."""

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
        """None where no id was seen; with both kinds, the first one's."""
        if not self.first:
            return None
        if next(iter(self.first)) == "string" or self.range is None:
            return pa.string()
        return pa.uint64() if self.range[1] > INT64_TOP and self.range[0] >= 0 else pa.int64()


class _Facts:
    """What the rows have told so far."""

    def __init__(self, name: str, columns: InputColumns) -> None:
        self._name = name
        self._columns = columns
        self._batch: list[dict[str, Any]] = []
        self.seen: dict[str, None] = {}
        self.ids = _Ids()
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
        if not row.keys() <= self.seen.keys():
            self._see(row)
        if self._columns.id_column in row:
            name = self._columns.id_column
            self.ids.add(number, row[name], line, name)
        if self.types:
            self._keep(row, line)
        return True

    def _see(self, row: dict[str, Any]) -> None:
        self.seen.update(dict.fromkeys(row))
        if len(self.seen) > _MOST_COLUMNS:
            raise ConfigError(
                f"{self._name} has more than {_MOST_COLUMNS:,} different keys at the top of its "
                "rows; put what varies into one object"
            )
        if self._columns.keeps_all:
            for column in row.keys() - self.types.keys() - {self._columns.id_column}:
                self.types[column] = ColumnType()

    def _keep(self, row: dict[str, Any], line: bytes) -> None:
        kept = {name: row[name] for name in self.types if name in row}
        if any(map(may_be_rounded, kept.values())):
            exact = parse_exactly(line)
            kept = {name: exact[name] for name in kept}
        self._batch.append(kept)
        if len(self._batch) >= _BATCH_ROWS:
            self.finish()

    def finish(self) -> None:
        """Takes the rows that wait into the types."""
        for name, column in self.types.items():
            column.add([row[name] for row in self._batch if name in row])
        self._batch.clear()

    def schema(self) -> pa.Schema:
        """The id and the kept columns that were seen, in order of first sight."""
        fields = {name: self.types[name].type for name in self.seen if name in self.types}
        if self._columns.id_column is not None and self.ids.type is not None:
            fields = {self._columns.id_column: self.ids.type} | {
                name: kind for name, kind in fields.items() if name != self._columns.id_column
            }
        return pa.schema(list(fields.items()))

    def narrow(self) -> pa.Schema:
        mixed = [name for name in self.seen if name in self.types and self.types[name].is_mixed]
        return pa.schema([(name, self.types[name].narrow) for name in mixed])

    def names(self, has: Callable[[ColumnType], bool]) -> tuple[str, ...]:
        return tuple(sorted(name for name, kept in self.types.items() if has(kept)))


Bad = dict[int, tuple[DeadCode, str]]


class BadValue(ValueError):
    """A value that makes its row a dead letter, with the code."""

    def __init__(self, code: DeadCode, what: str) -> None:
        super().__init__(what)
        self.code = code


@dataclasses.dataclass(eq=False)
class JsonlBatch:
    """The rows of one run, taken in one by one."""

    name: str
    wanted: WantedColumns
    first_row: int
    bad: Bad = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._recipe = self.wanted.recipe
        self._sent = self.wanted.sent
        self._kept_schema = self.wanted.kept
        self._ids: list[int | str | None] = []
        self._titles: list[str | None] = []
        self._texts: list[str | None] = []
        self._kept: list[dict[str, Any]] = []
        self._unkept: set[str] = set()

    def read(self, lines: Sequence[bytes]) -> RowBatch:
        """The run; the first fault of a row, in the order JSON, id, text, is its code."""
        for offset, line in enumerate(lines):
            self._add(offset, line)
        kept = [self._column(field) for field in self._kept_schema]
        return RowBatch(
            first_row=self.first_row,
            ids=self._id_array(len(lines)),
            titles=self._titles,
            texts=self._texts,
            kept=kept_table(kept, self._kept_schema, len(lines)),
            bad=dict(sorted(self.bad.items())),
            unkept=frozenset(self._unkept),
        )

    def _note(self, offset: int, code: DeadCode, what: str) -> None:
        row = self.first_row + offset
        self.bad.setdefault(offset, (code, f"row {row} of {self.name}: {what}"))

    def _add(self, offset: int, line: bytes) -> None:
        try:
            row, sure = parse(line)
        except NotARow as error:
            self._note(offset, DeadCode.BAD_JSON, str(error))
            row, sure = {}, True
        else:
            row = self._exact(row, line)
        values: dict[str, str | None] = {}
        identity: int | str | None = None
        try:
            identity = None if offset in self.bad else self._id(row, sure)
        except BadValue as error:
            self._note(offset, error.code, str(error))
        try:
            values = {name: self._text(row, name, sure) for name in self._sent}
        except BadValue as error:
            self._note(offset, error.code, str(error))
        title = self.wanted.columns.title_column
        self._ids.append(identity)
        self._texts.append(self._recipe.text(values))
        self._titles.append(values.get(title) if title is not None else None)
        if self._kept_schema.names:
            self._kept.append(row)

    def _exact(self, row: dict[str, Any], line: bytes) -> dict[str, Any]:
        """The row with integers from 2^64 up as they were written, where they count."""
        used = [self.wanted.columns.id_column, *self._sent, *self._kept_schema.names]
        if any(may_be_rounded(row.get(name)) for name in used if name is not None):
            return dict(parse_exactly(line))
        return row

    def _id(self, row: dict[str, Any], sure: bool) -> int | str | None:
        name = self.wanted.columns.id_column
        if name is None:
            return None
        value = row.get(name)
        if value is None:
            what = "is null" if name in row else "is not there"
            raise BadValue(DeadCode.MISSING_ID, f"the id {name!r} {what}")
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is float and self.wanted.columns.id_type is IdType.STRING:
            return text_of(value)
        if type(value) is int:
            return self._int_id(name, value)
        if type(value) is not str:
            what = f"the id {name!r} is {describe(value)}; an id is an integer or a string"
            what += "; --id-type string takes it" if type(value) is float else ""
            raise BadValue(DeadCode.BAD_ID, what)
        if not sure and not is_utf8(value):
            raise BadValue(DeadCode.BAD_ID, f"the id {name!r} has a lone surrogate")
        if not pa.types.is_string(self.wanted.id_type):
            raise BadValue(DeadCode.BAD_ID, self._other_kind(name, value))
        return value

    def _int_id(self, name: str, value: int) -> int | str:
        if self.wanted.columns.id_type is IdType.STRING:
            return str(value)
        kind = self.wanted.id_type
        if not pa.types.is_integer(kind):
            raise BadValue(DeadCode.BAD_ID, self._other_kind(name, value))
        signed = pa.types.is_signed_integer(kind)
        low = -(2 ** (kind.bit_width - 1)) if signed else 0
        if not low <= value < low + 2**kind.bit_width:
            what = f"the id {name!r} is {describe(value)}, beyond {kind}; use --id-type string"
            raise BadValue(DeadCode.BAD_ID, what)
        return value

    def _other_kind(self, name: str, value: int | str) -> str:
        return (
            f"the id {name!r} is {describe(value)}, the others are {self.wanted.id_type}; "
            "--id-type string takes both"
        )

    def _id_array(self, rows: int) -> pa.Array:
        if self.wanted.columns.id_column is None:
            return made_ids(self.name, self.first_row, rows)
        return pa.array(self._ids, self.wanted.id_type)

    def _column(self, field: pa.Field) -> pa.Array:
        values = [row.get(field.name) for row in self._kept]
        array, unfit = fitting(values, field.type)
        if unfit:
            self._unkept.add(field.name)
        return array

    def _text(self, row: dict[str, Any], name: str, sure: bool) -> str | None:
        value = row.get(name)
        if self._recipe.pieces and name in self._recipe.fields:
            value = text_of(value)
        if value is None:
            return None
        if type(value) is not str:
            what = f"{name!r} is {describe(value)}; a text or title is a string"
            raise BadValue(DeadCode.BAD_TEXT, what)
        if not sure and not is_utf8(value):
            what = f"{name!r} has a lone surrogate, which cannot be sent as UTF-8"
            raise BadValue(DeadCode.BAD_TEXT, what)
        return value


def read_jsonl(
    filesystem: pafs.FileSystem,
    file: InputFile,
    wanted: WantedColumns,
    runs: Sequence[tuple[int, int]],
) -> Iterator[RowBatch]:
    """See `row_reader.read_batches`.  Plain files are entered near the run; others decoded once."""
    with reading(file.found), _open(filesystem, file) as stream:
        next_row, rest = 0, _rows(stream, file, 0)
        for first_row, count in runs:
            place = min(first_row // OFFSET_STRIDE_ROWS, len(file.offsets) - 1)
            if place * OFFSET_STRIDE_ROWS > next_row:
                stream.seek(file.offsets[place])
                next_row = place * OFFSET_STRIDE_ROWS
                rest = _rows(stream, file, file.offsets[place])
            ahead = itertools.islice(rest, first_row - next_row, first_row - next_row + count)
            held = list(ahead)
            if len(held) < count:
                raise changed(file.found, f"it has fewer than {first_row + count:,} rows")
            next_row = first_row + count
            yield JsonlBatch(file.name, wanted, first_row).read(held)


@contextlib.contextmanager
def _open(filesystem: pafs.FileSystem, file: InputFile) -> Iterator[pa.NativeFile]:
    path, compression = file.found.path, file.found.compression
    if compression is None:
        with filesystem.open_input_file(path) as stored:
            yield stored
    else:
        with filesystem.open_input_stream(path, compression=None) as stored:
            yield decoded(stored, compression)


def _rows(stream: pa.NativeFile, file: InputFile, at_byte: int) -> Iterator[bytes]:
    rows = objects if file.has_lines_of_objects else lines
    return (row for _, _, row in rows(stream, at_byte))
