"""Rows of an input file: their values, and batches of them as the rest of the job gets them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import itertools
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.core.field_paths import MISSING, NotAnObject, field_advice, value_at
from bulkembed.transforms.inputs.text_recipe import TextRecipe

if TYPE_CHECKING:
    from bulkembed.transforms.inputs.row_parts import RowPart


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowSources:
    """The file and the row that each row of a batch comes from."""

    files: pa.Array
    """Names relative to the pattern's root: strings."""
    rows: pa.Array
    """Numbers from 0: int64."""

    @classmethod
    def of(cls, file_name: str, first_row: int, rows: int) -> RowSources:
        """Return the sources of consecutive rows of one file."""
        numbers = pa.array(np.arange(first_row, first_row + rows))
        return cls(pa.repeat(pa.scalar(file_name, pa.string()), rows), numbers)

    def part(self, start: int, rows: int) -> RowSources:
        """Return the sources of some rows."""
        return RowSources(self.files.slice(start, rows), self.rows.slice(start, rows))

    def take(self, offsets: pa.Array) -> RowSources:
        """Return the sources of the rows at some offsets."""
        return RowSources(self.files.take(offsets), self.rows.take(offsets))


@dataclasses.dataclass(frozen=True, eq=False)
class RowBatch:
    """Consecutive rows of one file, in its order; each list and array has one entry per row."""

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
    """Offset in the batch -> why that row cannot be embedded; a null text is not among them."""
    unkept: frozenset[str] = frozenset()
    """Kept columns with values that cannot be written with the output's type: these are null."""
    sources: RowSources | None = None
    """Where the rows come from, if the file has rows of other files; else None."""
    parts: list[tuple[RowPart, ...]] | None = None
    """With media in `--content`: the texts and media of each row, none for a bad one; else None."""

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.texts)

    def part(self, start: int, end: int) -> RowBatch:
        """Return the rows from one offset to another; they share their memory with this batch."""
        return RowBatch(
            self.first_row + start,
            self.ids.slice(start, end - start),
            self.titles[start:end],
            self.texts[start:end],
            self.kept.slice(start, end - start),
            {row - start: why for row, why in self.bad.items() if start <= row < end},
            self.unkept,
            self.sources and self.sources.part(start, end - start),
            self.parts and self.parts[start:end],
        )

    def source(self, offset: int, file_name: str) -> tuple[str, int]:
        """Return the file and the row that a row comes from; `file_name` is the batch's own."""
        if self.sources is None:
            return file_name, self.first_row + offset
        return self.sources.files[offset].as_py(), self.sources.rows[offset].as_py()

    @classmethod
    def joined(cls, batches: Sequence[RowBatch], file_names: Sequence[str]) -> RowBatch:
        """Return the rows of several batches of texts, with their sources; one at least.

        Args:
            batches: with the same columns and types.
            file_names: the file of each batch.
        """
        sources = [
            one.sources or RowSources.of(name, one.first_row, one.rows)
            for one, name in zip(batches, file_names, strict=True)
        ]
        firsts = itertools.accumulate((one.rows for one in batches), initial=0)
        kept = kept_table([], pa.schema([]), sum(one.rows for one in batches))
        if batches[0].kept.num_columns:
            kept = pa.concat_tables([one.kept for one in batches])
            kept = kept.unify_dictionaries().combine_chunks()
        return cls(
            0,
            pa.concat_arrays([one.ids for one in batches]),
            [title for one in batches for title in one.titles],
            [text for one in batches for text in one.texts],
            kept,
            {
                first + offset: why
                for first, one in zip(firsts, batches, strict=False)
                for offset, why in one.bad.items()
            },
            frozenset().union(*(one.unkept for one in batches)),
            RowSources(
                pa.concat_arrays([one.files for one in sources]),
                pa.concat_arrays([one.rows for one in sources]),
            ),
        )

    def take(self, offsets: Sequence[int], file_name: str) -> RowBatch:
        """Return the rows at some offsets, ascending; `file_name` is the batch's own."""
        where = pa.array(offsets, pa.int64())
        sources = self.sources or RowSources.of(file_name, self.first_row, self.rows)
        bad = {place: self.bad[row] for place, row in enumerate(offsets) if row in self.bad}
        return RowBatch(
            self.first_row,
            self.ids.take(where),
            [self.titles[row] for row in offsets],
            [self.texts[row] for row in offsets],
            self.kept.take(where) if self.kept.num_columns else self.kept.slice(0, len(offsets)),
            bad,
            self.unkept,
            sources.take(where),
            self.parts and [self.parts[row] for row in offsets],
        )


@dataclasses.dataclass(frozen=True)
class WantedColumns:
    """The columns that are read of a row, and how they become its text, id and kept columns."""

    columns: InputColumns
    schema: pa.Schema
    """The output's `id` and kept columns, as `columns.merge_schemas` returns it."""
    hive_keys: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    """The values of the keys of its folders that are not columns of the file."""
    reads_texts: bool = True
    """Whether the texts and titles are read; if not, they are None."""

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
        return TextRecipe.of(self.columns) if self.reads_texts else TextRecipe(())

    @property
    def media_columns(self) -> tuple[str, ...]:
        """The columns of media that are read."""
        return self.columns.media_columns if self.reads_texts else ()


class BadRows:
    """The rows of a batch that cannot be embedded; the first reason that is noted counts.

    Args:
        file_name: the file, for messages.
        first_row: the number of the batch's first row.
    """

    def __init__(self, file_name: str, first_row: int) -> None:
        self._file_name = file_name
        self._first_row = first_row
        self._reasons: dict[int, tuple[DeadCode, str]] = {}

    def __contains__(self, offset: int) -> bool:
        return offset in self._reasons

    def note(self, offset: int, code: DeadCode, what: str) -> None:
        """Note why the row at an offset of the batch cannot be embedded."""
        row = self._first_row + offset
        self._reasons.setdefault(offset, (code, f"row {row} of {self._file_name}: {what}"))

    def by_offset(self) -> dict[int, tuple[DeadCode, str]]:
        """Return the reasons, in the order of the rows."""
        return dict(sorted(self._reasons.items()))


class BadValue(ValueError):
    """A value that makes its row a dead letter, with the code."""

    def __init__(self, code: DeadCode, what: str) -> None:
        super().__init__(what)
        self.code = code


def kept_table(
    arrays: Sequence[pa.Array | pa.ChunkedArray], schema: pa.Schema, rows: int
) -> pa.Table:
    """Return a table of the kept columns that has its rows even without any column."""
    if not len(schema):
        return pa.table({"": pa.nulls(rows)}).select([])
    return pa.Table.from_arrays(list(arrays), schema=schema)


def generated_ids(name: str, first_row: int, rows: int) -> pa.Array:
    """Return the ids of `--generate-ids`: `name#row`."""
    return pa.array([f"{name}#{row}" for row in range(first_row, first_row + rows)], pa.string())


def title_and_text(
    row: Mapping[str, Any], recipe: TextRecipe, *, is_utf8: bool = False
) -> tuple[str | None, str | None]:
    """Return the title and the text of a row as they are sent; None where there is none.

    Args:
        row: the row's values by column.
        recipe: the columns that make both.
        is_utf8: whether strings are known to have no lone surrogates.

    Raises:
        BadValue: a value is not a string, or cannot be sent as UTF-8.
    """
    values = text_values(row, recipe, is_utf8=is_utf8)
    title = values[recipe.title] if recipe.title is not None else None
    return title, recipe.text(values)


def text_values(
    row: Mapping[str, Any], recipe: TextRecipe, *, is_utf8: bool = False
) -> dict[str, str | None]:
    """Return the values of the columns of a recipe; see `title_and_text`."""
    values: dict[str, str | None] = {}
    for name in recipe.columns:
        value = value_at(row, name)
        value = None if value is MISSING else value
        if recipe.is_template_field(name):
            value = _as_text(value)
        values[name] = checked_text(name, value, is_utf8=is_utf8)
    return values


def _as_text(value: Any) -> Any:
    """Return a value as text, or as it is where it has none."""
    try:
        return text_of(value)
    except (TypeError, UnicodeDecodeError):
        return value


def checked_text(name: str, value: Any, *, is_utf8: bool = False) -> str | None:
    """Return a text or title as it is sent.

    Args:
        name: the column, for messages.
        value: what the column holds.
        is_utf8: whether a string is known to have no lone surrogates.

    Raises:
        BadValue: it is not a string, or cannot be sent as UTF-8.
    """
    if value is None:
        return None
    if isinstance(value, NotAnObject):
        what = f"{value.name!r} is {describe(value.value)}, which has no field for {name!r}"
        raise BadValue(DeadCode.BAD_TEXT, what)
    if not isinstance(value, str):
        what = f"{name!r} is {describe(value)}, but a text or title must be a string"
        what += f".{field_advice(name, value)}" if isinstance(value, dict) else ""
        raise BadValue(DeadCode.BAD_TEXT, what)
    if not is_utf8 and has_lone_surrogate(value):
        what = f"{name!r} has a lone surrogate, which cannot be sent as UTF-8"
        raise BadValue(DeadCode.BAD_TEXT, what)
    return value


def has_lone_surrogate(text: str) -> bool:
    """Return whether a string cannot be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def describe(value: Any) -> str:
    """Return the kind and the beginning of a value, for a message."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return f"{kind_of_value(value)} {shown.encode('utf-8', 'backslashreplace').decode('utf-8')}"


def kind_of_value(value: Any) -> str:
    """Return what JSON calls a value: an object, a list, a string."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    kinds |= {int: "an integer", float: "a number", type(None): "null"}
    return kinds.get(type(value), type(value).__name__)


def text_of(value: Any) -> str | None:
    """Return a value as text, as a template writes it; None for null, NaN and infinity.

    A string is itself, bytes are read as UTF-8, dates and times follow ISO 8601, and lists and
    objects are JSON.

    Raises:
        UnicodeDecodeError: bytes that are not UTF-8.
        TypeError: there is no text for a value of this type.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, dict | list | tuple):
        return _json(value)
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"a value of the type {type(value).__name__} cannot be written as text")


def _json(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        pairs = (f"{_quoted(str(name))}: {_json(item)}" for name, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_json, value))}]"
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "null"
    if isinstance(value, bool | int | float | decimal.Decimal):
        return _scalar(value)
    return _quoted(value if isinstance(value, str) else _scalar(value))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
