"""A JSONL file's identity, rows, offsets and types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from schemas.errors import ConfigError
from schemas.inputs import OBJECTS, OFFSET_STRIDE_ROWS, FoundFile, InputColumns
from transforms.storage.column_checks import check_present
from transforms.storage.column_types import INT64_TOP, UINT64_TOP
from transforms.storage.content import refused, without_rows
from transforms.storage.jsonl_lines import NotARow, may_be_rounded, parse, parse_exactly, split
from transforms.storage.jsonl_lines import lines as read_lines
from transforms.storage.jsonl_types import ColumnType
from transforms.storage.scanned_file import ScannedFile
from transforms.storage.stored_bytes import Ahead

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
