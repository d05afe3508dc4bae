"""One run of a Parquet file: its batches turned into ids, texts and kept columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from schemas.deadletters import DeadCode
from transforms.storage.column_types import (
    has_nanoseconds,
    in_microseconds,
    is_bytes,
    is_string,
    is_text,
    plain_type,
)
from transforms.storage.json_text import text_of, texts_of
from transforms.storage.row_run import RowRun, Wanted, kept_table, made_ids

Bad = dict[int, tuple[DeadCode, str]]


@dataclasses.dataclass(eq=False)
class ParquetRun:
    """The pieces of one run, and what was found wrong in them so far."""

    name: str
    wanted: Wanted
    first_row: int
    pieces: Sequence[Sequence[pa.RecordBatch]]
    """Of each reader of the file: the batches that hold the run's rows, with some columns each."""
    bad: Bad = dataclasses.field(default_factory=dict)
    unkept: set[str] = dataclasses.field(default_factory=set)

    def rows(self) -> RowRun:
        """The run; the first fault of a row, in the order id, text, title, is its code."""
        ids = self._ids()
        values = {name: self._strings(name) for name in self.wanted.sent}
        count = len(ids)
        title = self.wanted.columns.title_column
        recipe = self.wanted.recipe
        kept = [self._kept(field) for field in self.wanted.kept]
        return RowRun(
            first_row=self.first_row,
            ids=ids,
            titles=list(values[title]) if title is not None else [None] * count,
            texts=recipe.texts([values[field] for field in recipe.fields]),
            kept=kept_table(kept, self.wanted.kept, count),
            bad=dict(sorted(self.bad.items())),
            unkept=frozenset(self.unkept),
        )

    @property
    def _count(self) -> int:
        return sum(piece.num_rows for piece in self.pieces[0])

    def _column(self, name: str) -> pa.ChunkedArray | None:
        for pieces in self.pieces:
            if pieces and pieces[0].schema.get_field_index(name) >= 0:
                at = pieces[0].schema.get_field_index(name)
                return pa.chunked_array([piece.column(at) for piece in pieces])
        return None

    def _note(self, offset: int, code: DeadCode, what: str) -> None:
        row = self.first_row + offset
        self.bad.setdefault(offset, (code, f"row {row} of {self.name}: {what}"))

    def _ids(self) -> pa.Array:
        name = self.wanted.columns.id_column
        if name is None:
            return made_ids(self.name, self.first_row, self._count)
        column = self._column(name)
        if column is not None:
            column = _as_ids(column, self.wanted.id_type)
        ids, unfit = _convert(column, self.wanted.id_type, self._count)
        for offset in unfit:
            what = f"the id in column {name!r} is not UTF-8, has a fraction, or is beyond int64"
            self._note(offset, DeadCode.BAD_ID, f"{what}; --id-type string takes every number")
        if ids.null_count > len(unfit):
            for offset, there in enumerate(ids.is_valid().to_pylist()):
                if not there:
                    self._note(offset, DeadCode.MISSING_ID, f"the id in column {name!r} is null")
        return ids

    def _strings(self, name: str) -> list[str | None]:
        column = self._column(name)
        if column is None:
            return []
        try:
            values = texts_of(column)
            return values if _are_strings(column.type) else list(map(text_of, values))
        except (ValueError, OverflowError):
            rows = range(len(column))
            return [self._string(name, row, column.slice(row, 1)) for row in rows]

    def _string(self, name: str, offset: int, value: pa.ChunkedArray) -> str | None:
        try:
            return text_of(texts_of(value)[0])
        except UnicodeDecodeError as error:
            what = f"byte {error.start} of column {name!r} is no UTF-8"
        except (ValueError, OverflowError) as error:
            what = f"column {name!r} cannot be written as text: {error}"
        self._note(offset, DeadCode.BAD_TEXT, what)
        return None

    def _kept(self, field: pa.Field) -> pa.Array:
        column = self._column(field.name)
        if column is not None and pa.types.is_string(field.type) and not is_text(column.type):
            # The column's type differs between files, so it is kept as text.
            texts = _as_texts(column)
            if texts.null_count > column.null_count:
                self.unkept.add(field.name)
            column = texts
        values, unfit = _convert(column, field.type, self._count)
        if unfit:
            self.unkept.add(field.name)
        return values


def _are_strings(kind: pa.DataType) -> bool:
    return is_string(kind) and not is_bytes(kind)


def _as_ids(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The column with NaN as null, and what has no cast to the ids' type as text."""
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float32()) if pa.types.is_float16(column.type) else column
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if not pa.types.is_string(kind) or is_text(column.type):
        return column
    return _as_texts(column, integral=True)


def _as_texts(column: pa.ChunkedArray, *, integral: bool = False) -> pa.ChunkedArray:
    """The column as strings, as JSON writes its values; null where a value has no such form.

    With `integral`, a floating number without a fraction is written as an integer.
    """

    def text(value: Any) -> str | None:
        is_integer = integral and isinstance(value, float) and value.is_integer()
        return text_of(int(value) if is_integer else value)

    def one(row: int) -> str | None:
        try:
            return text(texts_of(column.slice(row, 1))[0])
        except (ValueError, OverflowError, TypeError):
            return None

    try:
        found = list(map(text, texts_of(column)))
    except (ValueError, OverflowError, TypeError):
        found = list(map(one, range(len(column))))
    return pa.chunked_array([found], pa.string())


def _convert(
    column: pa.ChunkedArray | None, kind: pa.DataType, count: int
) -> tuple[pa.Array | pa.ChunkedArray, list[int]]:
    """The column with that type, and the offsets of values that do not fit, which are null.

    A column that the file does not have is null throughout.
    """
    if column is None:
        return pa.nulls(count, kind), []
    try:
        return _cast(column, kind), []
    except pa.ArrowException:
        pass
    rows, unfit = [], []
    for offset in range(count):
        try:
            rows.append(_cast(column.slice(offset, 1), kind))
        except pa.ArrowException:
            rows.append(pa.nulls(1, kind))
            unfit.append(offset)
    chunks = [chunk for row in rows for chunk in (row.chunks if _chunked(row) else [row])]
    return pa.concat_arrays(chunks), unfit


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    """One array, checked to the last byte of UTF-8: Parquet does not check what it holds."""
    column.validate(full=True)
    if not column.type.equals(kind):
        plain = plain_type(column.type)
        column = column if plain.equals(column.type) else column.cast(plain)
        if not has_nanoseconds(kind):
            # Digits beyond microseconds are cut off.
            column = column.cast(in_microseconds(plain), safe=False)
        column = column if column.type.equals(kind) else column.cast(kind)
    return column if pa.types.is_dictionary(kind) else column.combine_chunks()


def _chunked(values: pa.Array | pa.ChunkedArray) -> bool:
    return isinstance(values, pa.ChunkedArray)
