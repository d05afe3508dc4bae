"""What text formats share: the ids of their rows, and batches of rows that are mappings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.inputs import IdType
from bulkembed.transforms.core.field_paths import MISSING, NotAnObject, field_advice, value_at
from bulkembed.transforms.inputs.column_types import INT64_TOP, UINT64_TOP
from bulkembed.transforms.inputs.hive_keys import fits
from bulkembed.transforms.inputs.inferred_types import fitting
from bulkembed.transforms.inputs.row_parts import PartReader, RowPart
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
    text_values,
    title_and_text,
)


class ScannedIds:
    """The kinds and the range of the ids; values that cannot be ids are found when reading."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        """The first row or line of each kind, for `ScannedFile.id_rows`."""
        self.range: tuple[int, int] | None = None
        """The smallest and the largest integer; None without any."""

    def add(self, number: int, value: Any) -> None:
        """Add the id of a row or line."""
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


class BatchBuilder:
    """Makes a batch of rows; a row is a mapping from the columns to their values.

    Args:
        file_name: the file, for messages and generated ids.
        wanted: the columns that are read.
        first_row: the number of the batch's first row.
    """

    def __init__(self, file_name: str, wanted: WantedColumns, first_row: int) -> None:
        self._file_name = file_name
        self._wanted = wanted
        self._first_row = first_row
        self._bad = BadRows(file_name, first_row)
        self._recipe = wanted.recipe
        self._kept_schema = wanted.kept
        self._media = wanted.media_columns
        self._part_reader = PartReader(wanted.columns.content) if self._media else None
        self._parts: list[tuple[RowPart, ...]] = []
        names = (
            wanted.columns.id_column,
            *self._recipe.columns,
            *self._media,
            *self._kept_schema.names,
        )
        self.used = {name for name in names if name is not None}
        """The columns whose values are used."""
        self._of_path = {n: wanted.hive_keys[n] for n in self.used if n in wanted.hive_keys}
        self._ids: list[int | str | None] = []
        self._titles: list[str | None] = []
        self._texts: list[str | None] = []
        self._kept: list[Mapping[str, Any]] = []

    def add(self, row: Mapping[str, Any], *, is_utf8: bool = False) -> None:
        """Add the next row; its first fault counts, in the order id, text.

        Args:
            row: its values; a missing key is a missing value.
            is_utf8: whether its strings are known to have no lone surrogates.
        """
        if self._kept_schema.names:
            self._kept.append(row)
        if self._of_path:
            row = {**self._of_path, **row}
        offset = len(self._texts)
        identity: int | str | None = None
        try:
            identity = None if offset in self._bad else id_of(row, self._wanted, is_utf8=is_utf8)
        except BadValue as error:
            self._bad.note(offset, error.code, str(error))
        title, text = None, None
        try:
            if self._part_reader is None:
                title, text = title_and_text(row, self._recipe, is_utf8=is_utf8)
            else:
                text = self._add_parts(row, self._part_reader, is_utf8=is_utf8)
        except BadValue as error:
            self._bad.note(offset, error.code, str(error))
        if len(self._parts) == offset:
            self._parts.append(())
        self._ids.append(identity)
        self._titles.append(title)
        self._texts.append(text)

    def _add_parts(
        self, row: Mapping[str, Any], reader: PartReader, *, is_utf8: bool
    ) -> str | None:
        """Add the parts of a row; return its text."""
        texts = text_values(row, self._recipe, is_utf8=is_utf8)
        found = {name: value_at(row, name) for name in self._media}
        media = {
            name: None if value is MISSING or isinstance(value, NotAnObject) else value
            for name, value in found.items()
        }
        self._parts.append(reader.parts(texts, media))
        return self._recipe.text(texts)

    def add_unreadable(self, code: DeadCode, what: str) -> None:
        """Add a row whose values cannot be read, and why."""
        self._bad.note(len(self._texts), code, what)
        self.add({}, is_utf8=True)

    def build(self) -> RowBatch:
        """Return the batch of the rows so far."""
        rows = len(self._texts)
        unkept: set[str] = set()
        kept = [self._kept_column(field, unkept) for field in self._kept_schema]
        return RowBatch(
            first_row=self._first_row,
            ids=self._id_array(rows),
            titles=self._titles,
            texts=self._texts,
            kept=kept_table(kept, self._kept_schema, rows),
            bad=self._bad.by_offset(),
            unkept=frozenset(unkept),
            parts=self._parts if self._part_reader is not None else None,
        )

    def _id_array(self, rows: int) -> pa.Array:
        if self._wanted.columns.id_column is None:
            return generated_ids(self._file_name, self._first_row, rows)
        return pa.array(self._ids, self._wanted.id_type)

    def _kept_column(self, field: pa.Field, unkept: set[str]) -> pa.Array:
        found = [value_at(row, field.name) for row in self._kept]
        values = [None if isinstance(value, NotAnObject) else value for value in found]
        is_lost = any(isinstance(value, NotAnObject) for value in found)
        if any(value is MISSING for value in values):
            of_path = self._of_path.get(field.name)
            default = _as_type(of_path, field.type)
            is_lost = is_lost or (of_path is not None and default is None)
            values = [default if value is MISSING else value for value in values]
        array, unfit = fitting(values, field.type)
        if unfit or is_lost:
            unkept.add(field.name)
        return array


def _as_type(text: str | None, kind: pa.DataType) -> Any:
    """Return the value of a hive key with the type of its column; None if it does not fit."""
    return pa.scalar(text, pa.string()).cast(kind).as_py() if fits([text], kind) else None


def id_of(
    row: Mapping[str, Any], wanted: WantedColumns, *, is_utf8: bool = False
) -> int | str | None:
    """Return the id of a row with the output's type; None if ids are generated.

    Args:
        row: the row's values by column.
        wanted: the id column, and the output's type.
        is_utf8: whether strings are known to have no lone surrogates.

    Raises:
        BadValue: there is no id, or the output cannot have it.
    """
    name = wanted.columns.id_column
    if name is None:
        return None
    value = value_at(row, name)
    if value is None or value is MISSING:
        what = "is null" if value is None else "is missing"
        raise BadValue(DeadCode.MISSING_ID, f"the id {name!r} {what}")
    if isinstance(value, NotAnObject):
        what = f"{value.name!r} is {describe(value.value)}, which has no field for the id {name!r}"
        raise BadValue(DeadCode.BAD_ID, what)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is float and wanted.columns.id_type is IdType.STRING:
        return text_of(value)
    if type(value) is int:
        return _int_id(name, value, wanted)
    if type(value) is not str:
        what = f"the id {name!r} is {describe(value)}, but an id must be an integer or a string"
        what += ". Use --id-type string to accept it." if type(value) is float else ""
        what += f".{field_advice(name, value)}" if isinstance(value, dict) else ""
        raise BadValue(DeadCode.BAD_ID, what)
    if not is_utf8 and has_lone_surrogate(value):
        raise BadValue(DeadCode.BAD_ID, f"the id {name!r} has a lone surrogate")
    if not pa.types.is_string(wanted.id_type):
        raise BadValue(DeadCode.BAD_ID, _other_kind(name, value, wanted))
    return value


def _int_id(name: str, value: int, wanted: WantedColumns) -> int | str:
    if wanted.columns.id_type is IdType.STRING:
        return str(value)
    kind = wanted.id_type
    if not pa.types.is_integer(kind):
        raise BadValue(DeadCode.BAD_ID, _other_kind(name, value, wanted))
    signed = pa.types.is_signed_integer(kind)
    low = -(2 ** (kind.bit_width - 1)) if signed else 0
    if not low <= value < low + 2**kind.bit_width:
        what = f"the id {name!r} is {describe(value)}, which does not fit in {kind}"
        raise BadValue(DeadCode.BAD_ID, f"{what}. Use --id-type string.")
    return value


def _other_kind(name: str, value: int | str, wanted: WantedColumns) -> str:
    return (
        f"the id {name!r} is {describe(value)}, but the others are {wanted.id_type}. "
        "Use --id-type string to accept both."
    )
