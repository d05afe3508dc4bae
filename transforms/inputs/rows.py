"""A run of rows as the engine gets it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pyarrow as pa

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.inputs.text_recipe import TextRecipe, text_columns


@dataclasses.dataclass(frozen=True, eq=False)
class RowBatch:
    """Consecutive rows of one file; everything has one entry a row, in the file's order."""

    first_row: int
    """The first row's number in the file, from 0."""
    ids: pa.Array
    """Of the output's id type; null where it is missing or bad."""
    titles: list[str | None]
    """None where the row has none, or is bad."""
    texts: list[str | None]
    """None where the text is null or missing, or the row is bad."""
    kept: pa.Table
    """The kept columns with the output's types; as many rows even without any column."""
    bad: dict[int, tuple[DeadCode, str]]
    """Offset in the run -> why that row cannot be embedded; a null text is not among them."""
    unkept: frozenset[str] = frozenset()
    """Kept columns with values that cannot be written with the output's type: these are null."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.texts)

    def part(self, start: int, end: int) -> RowBatch:
        """The rows from one offset to another; shares their memory."""
        return RowBatch(
            self.first_row + start,
            self.ids.slice(start, end - start),
            self.titles[start:end],
            self.texts[start:end],
            self.kept.slice(start, end - start),
            {row - start: why for row, why in self.bad.items() if start <= row < end},
            self.unkept,
        )


@dataclasses.dataclass(frozen=True)
class WantedColumns:
    """What is read of a row: the columns, and how they become text, id and kept columns."""

    columns: InputColumns
    schema: pa.Schema
    """The output's `id` and kept columns, as `columns.merge_schemas` gives it."""

    @property
    def id_type(self) -> pa.DataType:
        """The type of the output's ids."""
        return self.schema.field("id").type

    @property
    def kept(self) -> pa.Schema:
        """The kept columns alone."""
        return pa.schema([field for field in self.schema if field.name != "id"])

    @property
    def recipe(self) -> TextRecipe:
        """How a text is made."""
        return TextRecipe.of(self.columns)

    @property
    def sent(self) -> tuple[str, ...]:
        """The columns whose values are sent."""
        return text_columns(self.columns)


def kept_table(
    arrays: Sequence[pa.Array | pa.ChunkedArray], schema: pa.Schema, rows: int
) -> pa.Table:
    """A table of the kept columns that knows its rows even where it has no column."""
    if not len(schema):
        return pa.table({"": pa.nulls(rows)}).select([])
    return pa.Table.from_arrays(list(arrays), schema=schema)


def made_ids(name: str, first_row: int, rows: int) -> pa.Array:
    """Ids for a file that has none: `path#row`."""
    return pa.array([f"{name}#{row}" for row in range(first_row, first_row + rows)], pa.string())
