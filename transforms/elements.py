"""What the elements of a pipeline may be: how each gives its texts, and how it takes vectors."""

from __future__ import annotations

import copy
import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.ml.transforms.base import EmbeddingTypeAdapter
from apache_beam.typehints import typehints
from apache_beam.typehints.native_type_compatibility import convert_to_beam_type
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.typehints import is_consistent_with

from bulkembed.schemas.dead_letters import DeadCode, DeadLetter
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.core.vectors import Vector
from bulkembed.transforms.inputs.json_text import text_of
from bulkembed.transforms.inputs.jsonl_lines import describe, is_utf8
from bulkembed.transforms.inputs.text_recipe import TextRecipe, text_columns
from bulkembed.transforms.units.row_texts import GivenUp, RowText

VECTOR_TYPE = Sequence[float]
"""The type of a row's vector: a list of Python floats."""
VECTOR_FIELDS = [typehints.List[number] for number in (float, np.float32, np.float64)]
"""What a NamedTuple's own field may hold: Beam's coders write each of them from Python floats."""
DictConstraint = typehints.DictHint.DictConstraint
Fates = Sequence[Vector | GivenUp]
Settled = tuple[Any | None, list[DeadLetter]]
"""The element with its vectors, None where nothing of it is left, and what was given up on."""


class Form(Protocol):
    """Reads texts from an element, and writes their vectors into a copy of it."""

    def texts(self, element: Any) -> list[RowText]:
        """The element's texts, in a fixed order."""

    def settle(self, element: Any, fates: Fates) -> Settled:
        """The element with the fates of its texts, which come in that order."""

    def output_type(self, input_type: Any) -> Any:
        """The type of what comes out; ConfigError where the input's type lacks a field."""


@dataclasses.dataclass(frozen=True, slots=True)
class RowForm:
    """beam.Rows, NamedTuples and dicts, each one row; Arrow batches and tables, each many.

    The vector is a list of Python floats in a row, and a fixed-size list of float32 in Arrow.
    """

    columns: InputColumns
    vector_column: str = "vector"

    def texts(self, element: Any) -> list[RowText]:
        """One text of a row, one for each row of an Arrow batch or table."""
        if isinstance(element, pa.RecordBatch | pa.Table):
            return self._arrow_texts(element)
        values = _as_dict(element)
        return [self._text(values) if values is not None else _no_row(element)]

    def settle(self, element: Any, fates: Fates) -> Settled:
        """A copy with the vector; an Arrow batch or table keeps its good rows."""
        if isinstance(element, pa.RecordBatch | pa.Table):
            return self._settle_arrow(element, fates)
        (fate,) = fates
        if isinstance(fate, GivenUp):
            return None, [_letter(element, fate)]
        return self._with_vector(element, fate.tolist()), []

    def output_type(self, input_type: Any) -> Any:
        """Return the type of the rows with the vector's field, or the input's where it has none.

        Raises:
            ConfigError: the rows have no field for the text, or one for the vector that cannot
                hold a list of floats.
        """
        fields = _fields(input_type)
        if fields is None:
            # Beam knows {"text": "a"} for a dict of strings, which it is no longer.
            return dict[str, Any] if _is_dict(input_type) else input_type
        for name in text_columns(self.columns):
            if name not in fields:
                raise ConfigError(f"the rows have no field {name!r}; they have {_names(fields)}")
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
                f"{declared}, but a vector is a list of floats: declare it as Sequence[float], "
                "or give another name as vector_column"
            )

    def _text(self, values: Mapping[str, Any]) -> RowText:
        found: dict[str, Any] = {}
        for name in text_columns(self.columns):
            if name not in values:
                what = f"the row has no field {name!r}; it has {_names(values)}"
                return RowText(None, None, (DeadCode.BAD_TEXT, what))
            found[name] = self._written(name, values[name])
            bad = _why_bad(name, found[name])
            if bad is not None:
                return RowText(None, None, (DeadCode.BAD_TEXT, bad))
        title = self.columns.title_column
        text = TextRecipe.of(self.columns).text(found)
        return RowText(found[title] if title is not None else None, text)

    def _written(self, name: str, value: Any) -> Any:
        """A field as a template writes it; as it is where it is no template's, or has no text."""
        if self.columns.text_template is None or name not in self.columns.text_fields:
            return value
        try:
            return text_of(value)
        except (TypeError, UnicodeDecodeError):
            return value

    def _arrow_texts(self, table: pa.RecordBatch | pa.Table) -> list[RowText]:
        asked = text_columns(self.columns)
        values = {name: _values(table.column(name)) for name in asked if name in table.schema.names}
        if len(values) < len(asked):
            values = {name: _values(table.column(name)) for name in table.schema.names}
        return [
            self._text({name: column[row] for name, column in values.items()})
            for row in range(table.num_rows)
        ]

    def _settle_arrow(self, table: pa.RecordBatch | pa.Table, fates: Fates) -> Settled:
        good = [row for row, fate in enumerate(fates) if not isinstance(fate, GivenUp)]
        letters = [
            _letter(table.take(pa.array([row])), fate)
            for row, fate in enumerate(fates)
            if isinstance(fate, GivenUp)
        ]
        if not good:
            return None, letters
        kept = table if len(good) == table.num_rows else table.take(pa.array(good))
        vectors = [fate for fate in fates if not isinstance(fate, GivenUp)]
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


@dataclasses.dataclass(frozen=True, slots=True)
class AdapterForm:
    """Whatever one of Beam's type adapters can read; given up on as a whole."""

    adapter: EmbeddingTypeAdapter

    def texts(self, element: Any) -> list[RowText]:
        """As many as the adapter finds; where it raises, one that says so."""
        try:
            found = self.adapter.input_fn([element])
        except (TypeError, ValueError, RuntimeError) as error:
            return [RowText(None, None, (DeadCode.BAD_TEXT, str(error)))]
        return [_adapted(text) for text in found]

    def settle(self, element: Any, fates: Fates) -> Settled:
        """The adapter's output; the vectors are lists of floats."""
        for fate in fates:
            if isinstance(fate, GivenUp):
                return None, [_letter(element, fate)]
        vectors = [fate.tolist() for fate in fates if not isinstance(fate, GivenUp)]
        # Beam's adapters write into what they are given, which is not theirs to change.
        (out,) = self.adapter.output_fn([copy.copy(element)], vectors)
        return out, []

    def output_type(self, input_type: Any) -> Any:
        """Nothing is known of it."""
        return Any


def rows_of(element: Any) -> int:
    """How many rows an element counts for."""
    return element.num_rows if isinstance(element, pa.RecordBatch | pa.Table) else 1


def _fields(kind: Any) -> dict[str, Any] | None:
    """The fields of a type with a schema, and their types; None for any other."""
    if isinstance(kind, RowTypeConstraint):
        return dict(kind._fields)
    if RowTypeConstraint.from_user_type(kind) is None:
        return None
    # Beam leaves annotations that are strings as they are, and knows no coder for them.
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
        f"{type(element).__name__} is no row: give beam.Rows, NamedTuples, dicts, or Arrow's "
        "RecordBatches or Tables"
    )
    return RowText(None, None, (DeadCode.BAD_TEXT, what))


def _adapted(text: Any) -> RowText:
    bad = _why_bad("the text", text)
    return RowText(None, None, (DeadCode.BAD_TEXT, bad)) if bad else RowText(None, text)


def _why_bad(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        return f"{name!r} is {describe(value)}; a text or title is a string"
    if not is_utf8(value):
        return f"{name!r} has a lone surrogate, which cannot be sent as UTF-8"
    return None


def _values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """A column's values; bytes for a string that is no UTF-8, which Arrow does not check."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_value(scalar) for scalar in column]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()


def _letter(element: Any, why: GivenUp) -> DeadLetter:
    return DeadLetter(element, str(why.code), why.message, why.http_status, why.attempts)


def _names(fields: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, fields)) or "none"
