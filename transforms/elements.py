"""The elements of a pipeline: how the texts of each kind are read, and its vectors written."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.typehints import typehints
from apache_beam.typehints.native_type_compatibility import convert_to_beam_type
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.typehints import is_consistent_with

from bulkembed.schemas.dead_letters import DeadCode, DeadLetter
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.core.field_paths import MISSING, NotAnObject, readings, value_at
from bulkembed.transforms.core.vectors import Vector
from bulkembed.transforms.inputs.nested_columns import find_column, take_column
from bulkembed.transforms.inputs.row_parts import PartReader
from bulkembed.transforms.inputs.rows import BadValue, text_values, title_and_text
from bulkembed.transforms.inputs.text_recipe import TextRecipe
from bulkembed.transforms.units.distinct_contents import RowFailure
from bulkembed.transforms.units.row_texts import RowText

VECTOR_TYPE = Sequence[float]
"""The type of a row's vector: a list of Python floats."""
VECTOR_FIELDS = [typehints.List[number] for number in (float, np.float32, np.float64)]
"""Allowed types of a NamedTuple's own field: Beam's coders write each from Python floats."""
DictConstraint = typehints.DictHint.DictConstraint
Results = Sequence[Vector | RowFailure]
Filled = tuple[Any | None, list[DeadLetter]]
"""The element with its vectors, None if it has no good row, and its dead letters."""


class Form(Protocol):
    """Reads the texts of an element, and writes their vectors into a copy of it."""

    def texts(self, element: Any) -> list[RowText]:
        """Return the element's texts, in a fixed order."""

    def fill(self, element: Any, results: Results) -> Filled:
        """Return a copy of the element with the results of its texts, in their order."""

    def output_type(self, input_type: Any) -> Any:
        """Return the type of the filled elements.

        Raises:
            ConfigError: the type of the input lacks a field.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class RowForm:
    """beam.Rows, NamedTuples and dicts, each one row; Arrow batches and tables, each several rows.

    The vector is a list of Python floats in a row, and a fixed-size list of float32 in Arrow.
    """

    columns: InputColumns
    vector_column: str = "vector"

    def texts(self, element: Any) -> list[RowText]:
        """Return one text for a row, and one for each row of an Arrow batch or table."""
        if isinstance(element, pa.RecordBatch | pa.Table):
            return self._arrow_texts(element)
        values = _as_dict(element)
        return [self._text(values) if values is not None else _no_row(element)]

    def fill(self, element: Any, results: Results) -> Filled:
        """Return a copy with the vector; of an Arrow batch or table, its good rows."""
        if isinstance(element, pa.RecordBatch | pa.Table):
            return self._fill_arrow(element, results)
        (result,) = results
        if isinstance(result, RowFailure):
            return None, [letter_of(element, result)]
        return self._with_vector(element, result.tolist()), []

    def output_type(self, input_type: Any) -> Any:
        """Return the type of the rows with the vector's field; without a schema, the input's type.

        Raises:
            ConfigError: the rows have no field for the text, or one for the vector that cannot
                hold a list of floats.
        """
        fields = _fields(input_type)
        if fields is None:
            # Beam infers a dict of strings from {"text": "a"}, which gets a list of floats here.
            return dict[str, Any] if _is_dict(input_type) else input_type
        for name in self._names:
            if not any(path[0] in fields for path in readings(name)):
                raise ConfigError(f"the rows have no field {name!r}. They have {_names(fields)}.")
        if self.vector_column in fields and not isinstance(input_type, RowTypeConstraint):
            # The element stays a NamedTuple of the user's own type.
            self._check_vector_field(input_type, fields[self.vector_column])
            return input_type
        fields[self.vector_column] = VECTOR_TYPE
        return RowTypeConstraint.from_fields(list(fields.items()))

    def _check_vector_field(self, row_type: Any, field_type: Any) -> None:
        declared = convert_to_beam_type(field_type)
        if not any(is_consistent_with(vector, declared) for vector in VECTOR_FIELDS):
            raise ConfigError(
                f"the field {self.vector_column!r} of {row_type.__name__} has the type "
                f"{declared}, but a vector is a list of floats. Declare it as Sequence[float], "
                "or choose another vector_column."
            )

    @property
    def _recipe(self) -> TextRecipe:
        return TextRecipe.of(self.columns)

    @property
    def _names(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (*self._recipe.columns, *self.columns.media_columns)

    def _text(self, values: Mapping[str, Any]) -> RowText:
        for name in self._names:
            if value_at(values, name) is MISSING:
                what = f"the row has no field {name!r}. It has {_names(values)}."
                return RowText(None, None, (DeadCode.BAD_TEXT, what))
        try:
            if self.columns.content:
                return self._parts(values)
            return RowText(*title_and_text(values, self._recipe))
        except BadValue as error:
            return RowText(None, None, (error.code, str(error)))

    def _parts(self, values: Mapping[str, Any]) -> RowText:
        texts = text_values(values, self._recipe)
        found = {name: value_at(values, name) for name in self.columns.media_columns}
        media = {n: None if isinstance(v, NotAnObject) else v for n, v in found.items()}
        parts = PartReader(self.columns.content).parts(texts, media)
        return RowText(None, self._recipe.text(texts), None, parts)

    def _arrow_texts(self, table: pa.RecordBatch | pa.Table) -> list[RowText]:
        found = {name: find_column(table.schema, name) for name in self._names}
        if None in found.values():  # A message lists the columns.
            values = {name: _values(table.column(name)) for name in table.schema.names}
        else:
            values = {
                name: _values(take_column([table], column.path))
                for name, column in found.items()
                if column is not None
            }
        return [
            self._text({name: column[row] for name, column in values.items()})
            for row in range(table.num_rows)
        ]

    def _fill_arrow(self, table: pa.RecordBatch | pa.Table, results: Results) -> Filled:
        good = [row for row, result in enumerate(results) if not isinstance(result, RowFailure)]
        letters = [
            letter_of(table.take(pa.array([row])), result)
            for row, result in enumerate(results)
            if isinstance(result, RowFailure)
        ]
        if not good:
            return None, letters
        kept = table if len(good) == table.num_rows else table.take(pa.array(good))
        vectors = [result for result in results if not isinstance(result, RowFailure)]
        return self._with_column(kept, vectors), letters

    def _with_column(self, table: pa.RecordBatch | pa.Table, vectors: list[Vector]) -> Any:
        flat = pa.concat_arrays([pa.array(vector, pa.float32()) for vector in vectors])
        column = pa.FixedSizeListArray.from_arrays(flat, len(vectors[0]))
        at = table.schema.get_field_index(self.vector_column)
        if at < 0:
            return table.append_column(self.vector_column, column)
        return table.set_column(at, self.vector_column, column)

    def _with_vector(self, element: Any, vector: list[float]) -> Any:
        if isinstance(element, dict):
            return {**element, self.vector_column: vector}
        if isinstance(element, beam.Row) or self.vector_column not in element._fields:
            return beam.Row(**{**element._asdict(), self.vector_column: vector})
        return element._replace(**{self.vector_column: vector})


def rows_of(element: Any) -> int:
    """Return the number of rows of an element."""
    return element.num_rows if isinstance(element, pa.RecordBatch | pa.Table) else 1


def _fields(kind: Any) -> dict[str, Any] | None:
    """Return the fields of a type with a schema, and their types; None for any other type."""
    if isinstance(kind, RowTypeConstraint):
        return dict(kind._fields)
    if RowTypeConstraint.from_user_type(kind) is None:
        return None
    # Beam does not evaluate annotations that are strings, and has no coder for them.
    return typing.get_type_hints(kind)


def _is_dict(kind: Any) -> bool:
    return dict in (kind, typing.get_origin(kind)) or isinstance(kind, DictConstraint)


def _as_dict(element: Any) -> Mapping[str, Any] | None:
    if isinstance(element, dict):
        return element
    as_dict: Callable[[], dict[str, Any]] | None = getattr(element, "_asdict", None)
    return as_dict() if as_dict is not None else None


def _no_row(element: Any) -> RowText:
    what = (
        f"{type(element).__name__} is not a row. Elements must be beam.Rows, NamedTuples, dicts, "
        "or RecordBatches or Tables of Arrow."
    )
    return RowText(None, None, (DeadCode.BAD_TEXT, what))


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return a column's values; bytes for strings that are not UTF-8, which Arrow allows."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()


def letter_of(element: Any, why: RowFailure) -> DeadLetter:
    """Return the dead letter of an element."""
    return DeadLetter(element, str(why.code), why.message, why.http_status, why.attempts)


def _names(fields: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, fields)) or "none"
