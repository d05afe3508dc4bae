"""One run of a Parquet file: its batches turned into ids, texts and kept columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pyarrow as pa

from schemas.deadletters import DeadCode
from transforms.storage.column_types import plain_type
from transforms.storage.row_run import RowRun, Wanted, kept_table, made_ids

Bad = dict[int, tuple[DeadCode, str]]


@dataclasses.dataclass(eq=False)
class ParquetRun:
    """The pieces of one run, and what was found wrong in them so far."""

    name: str
    wanted: Wanted
    first_row: int
    pieces: Sequence[pa.RecordBatch]
    bad: Bad = dataclasses.field(default_factory=dict)

    def rows(self) -> RowRun:
        """The run; the first fault of a row, in the order id, text, title, kept, is its code."""
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
        )

    @property
    def _count(self) -> int:
        return sum(piece.num_rows for piece in self.pieces)

    def _column(self, name: str) -> pa.ChunkedArray | None:
        if not self.pieces or self.pieces[0].schema.get_field_index(name) < 0:
            return None
        chunks = [piece.column(piece.schema.get_field_index(name)) for piece in self.pieces]
        return pa.chunked_array(chunks)

    def _note(self, offset: int, code: DeadCode, what: str) -> None:
        row = self.first_row + offset
        self.bad.setdefault(offset, (code, f"row {row} of {self.name}: {what}"))

    def _ids(self) -> pa.Array:
        name = self.wanted.columns.id_column
        if name is None:
            return made_ids(self.name, self.first_row, self._count)
        column = self._column(name)
        ids, unfit = _convert(column, self.wanted.id_type, self._count)
        for offset in unfit:
            what = f"the id in column {name!r} is no UTF-8, or no {self.wanted.id_type}"
            self._note(offset, DeadCode.BAD_ID, f"{what}; --id-type string takes every integer")
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
            return list(column.to_pylist())
        except UnicodeDecodeError:
            return [self._string(name, offset, value) for offset, value in enumerate(column)]

    def _string(self, name: str, offset: int, value: pa.Scalar) -> str | None:
        try:
            text: str | None = value.as_py()
        except UnicodeDecodeError as error:
            what = f"byte {error.start} of column {name!r} is no UTF-8"
            self._note(offset, DeadCode.BAD_TEXT, what)
            return None
        return text

    def _kept(self, field: pa.Field) -> pa.Array:
        column = self._column(field.name)
        values, unfit = _convert(column, field.type, self._count)
        for offset in unfit:
            what = f"column {field.name!r} is no UTF-8, or does not fit {field.type}"
            self._note(offset, DeadCode.BAD_COLUMN, what)
        return values


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
    except pa.ArrowInvalid:
        pass
    rows, unfit = [], []
    for offset in range(count):
        try:
            rows.append(_cast(column.slice(offset, 1), kind))
        except pa.ArrowInvalid:
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
        column = column if plain.equals(kind) else column.cast(kind)
    return column if pa.types.is_dictionary(kind) else column.combine_chunks()


def _chunked(values: pa.Array | pa.ChunkedArray) -> bool:
    return isinstance(values, pa.ChunkedArray)
