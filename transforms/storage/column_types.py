"""Which Arrow types a column may have, and how two of them become one."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pat

UINT64_TOP = 2**64 - 1
INT64_TOP = 2**63 - 1


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without a dictionary or a view: what its values are."""
    if pat.is_dictionary(kind):
        kind = kind.value_type
    if pat.is_string_view(kind):
        return pa.string()
    if pat.is_binary_view(kind):
        return pa.binary()
    return kind


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can be a text or a title; nulls alone can."""
    kind = plain_type(kind)
    return bool(pat.is_string(kind) or pat.is_large_string(kind) or pat.is_null(kind))


def is_id(kind: pa.DataType) -> bool:
    """Whether a column of this type can be an id."""
    return is_text(kind) or bool(pat.is_integer(plain_type(kind)))


def id_kind(kind: pa.DataType) -> str:
    """`int`, `string`, or `null` for a column of nulls."""
    kind = plain_type(kind)
    if pat.is_null(kind):
        return "null"
    return "int" if pat.is_integer(kind) else "string"


def unify(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of both; None if there is none.

    Equal types stay as they are; else dictionaries and views give way to their values, numbers
    widen, structs take the fields of both, and a column of nulls takes any type.
    """
    if first.equals(second):
        return first
    if pat.is_null(first) or pat.is_null(second):
        return second if pat.is_null(first) else first
    schemas = [pa.schema([("", plain_type(kind))]) for kind in (first, second)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return None


def writable(kind: pa.DataType) -> pa.DataType:
    """The type with what Parquet readers do not take replaced, at any depth.

    A type of nulls becomes string; a struct without fields (`{}` in every row), which Parquet
    cannot hold, an (always empty) map of strings.
    """
    if pat.is_null(kind):
        return pa.string()
    if pat.is_struct(kind):
        if kind.num_fields == 0:
            return pa.map_(pa.string(), pa.string())
        return pa.struct([_writable_field(kind.field(place)) for place in range(kind.num_fields)])
    if pat.is_list(kind):
        return pa.list_(_writable_field(kind.value_field))
    if pat.is_large_list(kind):
        return pa.large_list(_writable_field(kind.value_field))
    return kind


def _writable_field(field: pa.Field) -> pa.Field:
    return field.with_type(writable(field.type))
