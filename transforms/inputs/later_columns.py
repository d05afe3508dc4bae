"""Columns of a later input, in the types and the order that the dataset has, if they hold them.

Tonight's export may have no row, only nulls in a column, smaller numbers, or its columns in another
order. None of that contradicts the dataset.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.types as pat

from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.inputs.column_types import unify
from bulkembed.transforms.inputs.columns import kept_type
from bulkembed.transforms.inputs.input_files import ScannedFile
from bulkembed.transforms.inputs.similar_files import (
    may_be_negative,
    may_exceed_int64,
    similar_files,
)


def as_in_dataset(
    schema: pa.Schema, scanned: Sequence[ScannedFile], columns: InputColumns, pinned: pa.Schema
) -> pa.Schema:
    """Return the schema of an input with the dataset's types and order where these fit.

    Args:
        schema: `id` and the kept columns of the input, as `merge_schemas` returns them.
        scanned: its files.
        columns: which columns are wanted.
        pinned: the same columns of the dataset. A column that they do not hold stays as it is.
    """
    files = [group.first for group in similar_files(file for file in scanned if file.rows)]
    if not files:
        return pinned if columns.keeps_all else _selected(schema, pinned)
    inferred = all(file.has_inferred_types for file in files)
    types: dict[str, pa.DataType] = {}
    for name in pinned.names:
        kind = pinned.field(name).type
        if name not in schema.names:
            # A format without declared types leaves out what is null in every row.
            if columns.keeps_all and inferred:
                types[name] = kind
            continue
        if name == "id":
            fits = _holds_ids(kind, schema.field("id").type, files, columns.id_column)
        else:
            fits = _holds(kind, name, files, inferred=inferred)
        types[name] = kind if fits else schema.field(name).type
    return pa.schema(
        types | {name: schema.field(name).type for name in schema.names if name not in types}
    )


def _selected(schema: pa.Schema, pinned: pa.Schema) -> pa.Schema:
    """Return the columns of `schema` with the types and order of `pinned`."""
    known = [pinned.field(name) for name in pinned.names if name in schema.names]
    return pa.schema([*known, *(field for field in schema if field.name not in pinned.names)])


def _holds_ids(
    pinned: pa.DataType, kind: pa.DataType, files: Sequence[ScannedFile], id_column: str | None
) -> bool:
    """Return whether ids of a type fit into the type of the dataset's ids."""
    having = [file for file in files if id_column in file.schema.names]
    having = [file for file in having if not pat.is_null(file.schema.field(id_column).type)]
    if not having:
        return True
    if not (pat.is_integer(pinned) and pat.is_integer(kind)):
        return bool(pinned.equals(kind))
    if pat.is_unsigned_integer(pinned) != pat.is_unsigned_integer(kind):
        if pat.is_uint64(pinned):
            return not any(map(may_be_negative, having))
        return bool(pat.is_int64(pinned)) and not any(map(may_exceed_int64, having))
    return bool(pinned.bit_width >= kind.bit_width)


def _holds(pinned: pa.DataType, name: str, files: Sequence[ScannedFile], *, inferred: bool) -> bool:
    """Return whether the values of a kept column fit into a type of the dataset."""
    kind = kept_type(name, files)
    having = [file for file in files if name in file.schema.names]
    if pat.is_null(kind):
        return True
    if pat.is_string(pinned) and inferred:
        return True  # Other values are written as JSON, as for a column of several types.
    if pat.is_integer(pinned) and pat.is_integer(kind):
        if pat.is_uint64(pinned) and not pat.is_unsigned_integer(kind):
            return all(name in file.unsigned for file in having)
        if pat.is_unsigned_integer(kind) and not pat.is_unsigned_integer(pinned):
            return bool(pinned.bit_width > kind.bit_width)
    if pat.is_floating(pinned) and any(name in file.wide for file in having):
        return False
    both = unify(pinned, kind)
    return both is not None and bool(both.equals(pinned))
