"""The types of columns: what a text, an id or media may be, and the types that are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.types as pat

UINT64_TOP = 2**64 - 1
INT64_TOP = 2**63 - 1
ID_KINDS = {
    "int": "integers",
    "decimal": "decimals",
    "uuid": "UUIDs",
    "string": "strings",
}
"""Kinds of ids, and their names in messages; all but integers become strings."""


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, without a dictionary or a view."""
    if pat.is_dictionary(kind):
        kind = kind.value_type
    if pat.is_string_view(kind):
        return pa.string()
    if pat.is_binary_view(kind):
        return pa.binary()
    return kind


def is_string(kind: pa.DataType) -> bool:
    """Return whether the values are strings, or bytes that may be UTF-8.

    Many writers of Parquet do not mark which bytes are strings.
    """
    return is_bytes(kind) or bool(
        pat.is_string(plain_type(kind)) or pat.is_large_string(plain_type(kind))
    )


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether the values are bytes of any length."""
    kind = plain_type(kind)
    return bool(pat.is_binary(kind) or pat.is_large_binary(kind))


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type can be a text or a title; all nulls can."""
    return is_string(kind) or bool(pat.is_null(plain_type(kind)))


def holds_media(kind: pa.DataType) -> bool:
    """Return whether a column of this type can have media: bytes, places of files, or both."""
    kind = plain_type(kind)
    if pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind):
        return holds_media(kind.value_type)
    if pat.is_struct(kind):
        names = {kind.field(place).name for place in range(kind.num_fields)}
        return bool(names & {"bytes", "path"})
    return is_text(kind)


def is_uuid(kind: pa.DataType) -> bool:
    """Return whether the values are UUIDs."""
    return isinstance(kind, pa.UuidType)


def has_text_form(kind: pa.DataType) -> bool:
    """Return whether a template can write values of this type."""
    kind = plain_type(kind)
    if pat.is_struct(kind):
        return all(has_text_form(kind.field(place).type) for place in range(kind.num_fields))
    if pat.is_map(kind):
        return has_text_form(kind.key_type) and has_text_form(kind.item_type)
    if pat.is_nested(kind):
        return hasattr(kind, "value_type") and has_text_form(kind.value_type)
    of_time = pat.is_temporal(kind) and not (pat.is_duration(kind) or pat.is_interval(kind))
    number = pat.is_integer(kind) or pat.is_floating(kind) or pat.is_decimal(kind)
    return is_text(kind) or is_uuid(kind) or bool(of_time or number or pat.is_boolean(kind))


def id_kind(kind: pa.DataType) -> str | None:
    """Return one of ID_KINDS, or `null` for a column of nulls; None if it cannot be an id.

    Floating-point numbers are read as integers: a row whose id has a fraction is a dead letter.
    """
    kind = plain_type(kind)
    if pat.is_null(kind):
        return "null"
    if pat.is_integer(kind) or pat.is_floating(kind):
        return "int"
    if pat.is_decimal(kind):
        return "decimal"
    if is_uuid(kind):
        return "uuid"
    return "string" if is_string(kind) else None


def has_fraction(kind: pa.DataType) -> bool:
    """Return whether a decimal type has digits after the point."""
    kind = plain_type(kind)
    return bool(pat.is_decimal(kind)) and kind.scale > 0


def unify(first: pa.DataType, second: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both; None if there is none.

    Equal types stay as they are. Otherwise dictionaries and views become the types of their
    values, numbers widen, structs get the fields of both, and nulls take any type.
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
    """Return the type with parts replaced that Parquet or its readers do not support, at any depth.

    A type of nulls becomes string. A struct without fields (`{}` in every row) becomes an always
    empty map of strings, since Parquet cannot hold it. Views become the types that they view,
    since pyarrow cannot take single rows of them. Timestamps in nanoseconds become microseconds,
    since Spark cannot read files that have them.
    """
    return _mapped(kind, lambda leaf: _in_microseconds(_holdable(leaf)))


def as_pinned(kind: pa.DataType, pinned: str) -> pa.DataType | None:
    """Return the type that earlier versions gave a column, if its name is `pinned`; else None.

    Args:
        kind: the type of the column's values.
        pinned: the type that the column has in the dataset, as Arrow writes it.
    """
    for leaf in (_holdable, lambda leaf: _in_nanoseconds(_holdable(leaf))):
        older = _mapped(kind, leaf)
        if str(older) == pinned:
            return older
    return None


def in_microseconds(kind: pa.DataType) -> pa.DataType:
    """Return the type with timestamps in nanoseconds replaced by microseconds."""
    return _mapped(kind, _in_microseconds)


def has_nanoseconds(kind: pa.DataType) -> bool:
    """Return whether the type has a timestamp in nanoseconds, at any depth."""
    return not in_microseconds(kind).equals(kind)


def in_lists(kind: pa.DataType) -> pa.DataType:
    """Return the type with lists of fixed size replaced by lists: pyarrow cannot read null ones."""
    return _mapped(kind, _plain_list)


def with_items(kind: pa.DataType) -> pa.DataType:
    """Return the type with values of lists named `item`; Parquet files name them `element`."""
    return _mapped(kind, _list_of_items)


def has_fixed_lists(kind: pa.DataType) -> bool:
    """Return whether the type has a list of fixed size, at any depth."""
    return not in_lists(kind).equals(kind)


def _holdable(kind: pa.DataType) -> pa.DataType:
    if pat.is_null(kind):
        return pa.string()
    if pat.is_struct(kind) and kind.num_fields == 0:
        return pa.map_(pa.string(), pa.string())
    if pat.is_string_view(kind) or pat.is_binary_view(kind):
        return plain_type(kind)
    return kind


def _in_microseconds(kind: pa.DataType) -> pa.DataType:
    nanoseconds = pat.is_timestamp(kind) and kind.unit == "ns"
    return pa.timestamp("us", kind.tz) if nanoseconds else kind


def _in_nanoseconds(kind: pa.DataType) -> pa.DataType:
    microseconds = pat.is_timestamp(kind) and kind.unit == "us"
    return pa.timestamp("ns", kind.tz) if microseconds else kind


def _plain_list(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType) and pat.is_fixed_size_list(kind.storage_type):
        kind = kind.storage_type
    return pa.list_(kind.value_field) if pat.is_fixed_size_list(kind) else kind


def _list_of_items(kind: pa.DataType) -> pa.DataType:
    if pat.is_large_list(kind):
        return pa.large_list(kind.value_field.with_name("item"))
    if pat.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_name("item"), kind.list_size)
    return pa.list_(kind.value_field.with_name("item")) if pat.is_list(kind) else kind


def _mapped(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Return the type with `leaf` applied to each type in it, the inner ones first."""

    def inner(field: pa.Field) -> pa.Field:
        return field.with_type(_mapped(field.type, leaf))

    if pat.is_struct(kind):
        kind = pa.struct(_fields(kind, inner))
    elif pat.is_map(kind):
        made = pa.map_(inner(kind.key_field), inner(kind.item_field), kind.keys_sorted)
        kind = kind if made.equals(kind) else made  # Keep a map's own field names.
    elif pat.is_fixed_size_list(kind):
        kind = pa.list_(inner(kind.value_field), kind.list_size)
    elif pat.is_large_list(kind):
        kind = pa.large_list(inner(kind.value_field))
    elif pat.is_list(kind):
        kind = pa.list_(inner(kind.value_field))
    return leaf(kind)


def _fields(kind: pa.DataType, inner: Callable[[pa.Field], pa.Field]) -> Iterable[pa.Field]:
    return [inner(kind.field(place)) for place in range(kind.num_fields)]
