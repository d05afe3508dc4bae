"""Column types, checks of a file's columns, and one schema for the columns of all files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.types as pat

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import IdType, InputColumns
from bulkembed.schemas.messages import did_you_mean, number_of
from bulkembed.transforms.core.field_paths import field_advice
from bulkembed.transforms.inputs.hive_keys import fits, hive_keys, type_of_values
from bulkembed.transforms.inputs.input_files import ScannedFile
from bulkembed.transforms.inputs.similar_files import (
    may_be_negative,
    may_exceed_int64,
    similar_files,
)
from bulkembed.transforms.inputs.text_recipe import TextRecipe

_OF_HIVE_KEYS = {str(kind): kind for kind in (pa.int64(), pa.date32(), pa.string())}
"""The types of hive keys, by their names."""
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


def check_present(
    name: str, columns: InputColumns, found: Collection[str], fields: Sequence[str] = ()
) -> None:
    """Raise ConfigError unless a file has the columns of the id, text and title.

    Args:
        name: the file, for messages.
        columns: which columns are wanted.
        found: the names of its columns, and the wanted paths to fields that it has.
        fields: paths to fields in its columns, for messages.
    """
    wanted = [(columns.id_column, "--id-column", ", or use --generate-ids")]
    text_flag = "--text-column" if columns.text_template is None else "--text-template"
    text_flag = "--content" if columns.content else text_flag
    wanted += [(field, text_flag, "") for field in columns.text_fields]
    wanted += [(columns.title_column, "--title-column", "")]
    wanted += [(column, "--content", "") for column in columns.media_columns]
    for column, flag, other in wanted:
        if column is not None and column not in found:
            known = dict.fromkeys([*found, *fields])
            raise _missing(name, column, f"Choose one with {flag}{other}.", known)


def check_kept(name: str, columns: InputColumns, found: Collection[str]) -> None:
    """Raise ConfigError unless the file `name` has the columns that are kept by name."""
    for column in () if columns.keeps_all else columns.keep_columns:
        if column not in found:
            raise _missing(name, column, "Remove it from --keep-columns.", found)


def _missing(name: str, column: str, cure: str, found: Collection[str]) -> ConfigError:
    near = f"{did_you_mean(column, found)} ".lstrip()
    shown = ", ".join(map(repr, list(found)[:40])) or "none"
    more = f" and {len(found) - 40} more" if len(found) > 40 else ""
    return ConfigError(
        f"{name} has no column {column!r}. {near}It has {shown}{more}. {cure}",
    )


def check_types(name: str, types: Mapping[str, pa.DataType], columns: InputColumns) -> None:
    """Raise ConfigError unless the id, text and title of a file have types that can be used."""
    for column in TextRecipe.of(columns).columns:
        kind = types[column]
        if not has_text_form(kind):
            raise ConfigError(
                f"{name}: column {column!r} is {kind}, which cannot be written as text. Cast it, "
                "or choose another column.",
            )
        of_template = columns.text_template is not None or bool(columns.content)
        if not is_text(kind) and (not of_template or column == columns.title_column):
            raise ConfigError(
                f"{name}: column {column!r} is {kind}, but a text or title must be a string "
                "(string, binary with UTF-8, or a dictionary of them). Cast it, choose another "
                f"column, or write it into the text with --text-template '{{{column}}}'."
                + field_advice(column, _field_names(kind)),
            )
    for column in columns.media_columns:
        if not holds_media(types[column]):
            raise ConfigError(
                f"{name}: column {column!r} is {types[column]}, which holds no media. Allowed are "
                "bytes, strings (paths, URIs, data: URIs, base64), structs with the fields bytes "
                "and path, and lists of these. Choose another column in --content."
            )
    if columns.id_column is not None:
        _check_id(name, columns.id_column, types[columns.id_column], columns.id_type)


def _check_id(name: str, column: str, kind: pa.DataType, id_type: IdType) -> None:
    if id_kind(kind) is None:
        raise ConfigError(
            f"{name}: column {column!r} is {kind}, but an id must be a number, a UUID or a string. "
            "Cast it, choose another --id-column, or use --generate-ids."
            + field_advice(column, _field_names(kind)),
        )
    if has_fraction(kind) and id_type is IdType.AUTO:
        raise ConfigError(
            f"{name}: column {column!r} is {kind}, which has digits after the point. Use "
            "--id-type string to keep them.",
        )


def _field_names(kind: pa.DataType) -> list[str]:
    return [field.name for field in kind] if pat.is_struct(kind) else []


def check_unique(name: str, used: Sequence[str], found: Sequence[str]) -> None:
    """Raise ConfigError if a file has two columns of a name that is used."""
    twice = [column for column in used if found.count(column) > 1]
    if twice:
        raise ConfigError(
            f"{name} has more than one column {twice[0]!r}. Rename one of them.",
        )


_Kinds = list[tuple[ScannedFile, pa.DataType]]
"""The files that have a column, each with its type there."""


def merge_schemas(
    scanned: Sequence[ScannedFile],
    columns: InputColumns,
    pinned: Mapping[str, str] | None = None,
) -> pa.Schema:
    """Return the output's `id`, then the kept columns, in the order of the flag or of first sight.

    Every field may be null. Ids are strings or integers: of the type that all files have, else
    int64, or uint64 if a file needs it. Without any id, because no file has rows, they are
    strings.

    Kept columns keep their type. Where files differ, they get the type that holds the values of
    all, or string if there is none and one of the types was inferred from values. Files without
    rows count only if their types agree with the others.

    Args:
        scanned: the files.
        columns: which columns are wanted.
        pinned: the types of the kept columns in the dataset that the run resumes, as Arrow writes
            them. A type that an earlier version or run gave to these values stays.

    Raises:
        ConfigError: the types of files do not agree, no file has a kept column, or a kept column
            has the name of one of the output's own columns.
    """
    where = scanned[0].found.name if len(scanned) == 1 else "the input"
    scanned = [group.first for group in similar_files(scanned)]
    with_rows = [file for file in scanned if file.rows]
    try:
        return _merge(scanned, columns, pinned, where)
    except ConfigError:
        if len(with_rows) in (0, len(scanned)):
            raise
    return _merge(with_rows, columns, pinned, where)


def _merge(
    scanned: Sequence[ScannedFile],
    columns: InputColumns,
    pinned: Mapping[str, str] | None,
    where: str,
) -> pa.Schema:
    kept = _kept_names(scanned, columns, pinned, where)
    taken = [name for name in kept if name in columns.own_names]
    if taken:
        raise ConfigError(
            f"--keep-columns: the input's column {taken[0]!r} has the name of one of the output's "
            f"own columns ({', '.join(columns.own_names)}). Rename it, or list the columns to "
            "keep."
        )
    pinned = pinned or {}
    types = {name: _output_type(name, scanned, pinned.get(name)) for name in kept}
    return pa.schema({"id": _id_type(scanned, columns), **types})


def column_notes(scanned: Sequence[ScannedFile], schema: pa.Schema) -> list[str]:
    """Return notes on kept columns that are missing in a file, or have values of several types."""
    groups = similar_files(file for file in scanned if file.rows)
    firsts = [group.first for group in groups]
    found = []
    for field in schema:
        if field.name == "id":
            continue
        without = (group for group in groups if not group.first.has(field.name))
        lacking = [name for group in without for name in group.names]
        if lacking:
            others = len(lacking) - 1
            more = f" and {number_of(others, 'more file')}" if others else ""
            where = f"{lacking[0]}{more}"
            found.append(f"column {field.name!r} is missing in {where}, where it is null")
        mixed = _mixed_files(field.name, firsts)
        if mixed:
            what = "strings" if pat.is_string(field.type) else f"{field.type}, as in earlier runs"
            where = " and ".join(mixed)
            found.append(
                f"column {field.name!r} has values of several types in {where}: kept as {what}"
            )
    return found


def _mixed_files(name: str, scanned: Sequence[ScannedFile]) -> list[str]:
    """Return a file with values of several types, or two whose types do not agree."""
    alone = [file.found.name for file in scanned if name in file.narrow.names]
    if alone:
        return alone[:1]
    _, clash = _unified(name, _kinds(name, scanned))
    return [file.found.name for file in clash]


def _kept_names(
    scanned: Sequence[ScannedFile],
    columns: InputColumns,
    pinned: Mapping[str, str] | None,
    where: str,
) -> list[str]:
    found = dict.fromkeys(name for file in scanned for name in file.columns)
    if columns.keeps_all:
        # Versions that did not read hive keys have made datasets without them.
        below_root = (
            name
            for file in scanned
            for name in hive_keys(file.found.name)
            if name not in columns.own_names and (pinned is None or name in pinned)
        )
        found |= dict.fromkeys(below_root)
        return [name for name in found if name != columns.id_column]
    if found:
        paths = (name for file in scanned for name in (*file.schema.names, *file.hive_keys))
        found |= dict.fromkeys(paths)
        if all(file.has_inferred_types for file in scanned):
            found |= dict.fromkeys(pinned or ())  # They may be null in every row.
        check_kept(where, columns, found)
    return list(dict.fromkeys(columns.keep_columns))


def _output_type(name: str, scanned: Sequence[ScannedFile], pinned: str | None) -> pa.DataType:
    merged = kept_type(name, scanned)
    kind = writable(merged)
    if pinned is None or str(kind) == pinned:
        return kind
    if pinned in _OF_HIVE_KEYS and all(name not in file.schema.names for file in scanned):
        return _OF_HIVE_KEYS[pinned]
    narrow, clash = _unified(name, _kinds(name, scanned, narrow=True))
    older = [as_pinned(merged, pinned), None if clash else as_pinned(narrow, pinned)]
    return next((known for known in older if known is not None), kind)


def _kinds(name: str, scanned: Sequence[ScannedFile], *, narrow: bool = False) -> _Kinds:
    kinds = [
        (file, (file.narrow if narrow and name in file.narrow.names else file.schema).field(name))
        for file in scanned
        if name in file.schema.names
    ]
    found = [(file, field.type) for file, field in kinds]
    of_path = [file for file in scanned if name in file.hive_keys]
    if of_path:
        values = {file.hive_keys[name] for file in of_path}
        found.append((of_path[0], _type_of_key(name, values, found)))
    fixed = [kind for _, kind in found if has_fixed_lists(kind)]
    if fixed and not (len(found) == len(scanned) and all(k.equals(fixed[0]) for _, k in found)):
        # pyarrow writes null rows of this type to Parquet, but cannot read them.
        return [(file, in_lists(kind)) for file, kind in found]
    return found


def _type_of_key(name: str, values: Collection[str | None], columns: _Kinds) -> pa.DataType:
    """Return the type of a hive key; null if columns of other files can hold its values."""
    merged, clash = _unified(name, columns)
    if columns and not clash and not pat.is_null(merged) and fits(values, plain_type(merged)):
        return pa.null()
    return type_of_values(values) if pat.is_null(merged) else pa.string()


def kept_type(name: str, scanned: Sequence[ScannedFile]) -> pa.DataType:
    """Return the type that holds a kept column of all files; null if no file has a value.

    Raises:
        ConfigError: no type does, and none of them was inferred from values.
    """
    merged, clash = _unified(name, _kinds(name, scanned))
    with_rows = [file for file in scanned if file.rows]
    if clash and len(with_rows) < len(scanned):
        return kept_type(name, with_rows)
    if not clash:
        return merged
    if any(file.has_inferred_types or name not in file.schema.names for file in clash):
        return pa.string()
    first, second = (f"{file.schema.field(name).type} in {file.found.name}" for file in clash)
    raise ConfigError(
        f"column {name!r} is {first} and {second}. Cast one of them, or remove it from "
        "--keep-columns.",
    )


def _unified(name: str, kinds: _Kinds) -> tuple[pa.DataType, tuple[ScannedFile, ...]]:
    """Return the type that holds the values of all files, and two files that no type holds."""
    signed = [
        file
        for file, kind in kinds
        if not (pat.is_uint64(kind) or pat.is_null(kind) or name in file.unsigned)
    ]
    unsigned = [file for file, kind in kinds if pat.is_uint64(kind)]
    if unsigned and not signed:
        return pa.uint64(), ()
    # If types are inferred, uint64 and wide columns do have such integers; else they may.
    huge = [file for file in unsigned if file.has_inferred_types]
    wide = [file for file, _ in kinds if name in file.wide]
    doubles = [file for file, kind in kinds if pat.is_floating(kind)]
    for exact, others in ((huge, signed), (wide, doubles)):
        if exact and others:
            return pa.null(), (exact[0], others[0])
    merged, source = pa.null(), None
    for file, kind in kinds:
        both = unify(merged, kind)
        if both is None:
            assert source is not None
            return merged, (source, file)
        if source is None or not both.equals(merged):
            source = file
        merged = both
    return merged, ()


def _id_type(scanned: Sequence[ScannedFile], columns: InputColumns) -> pa.DataType:
    name = columns.id_column
    if name is None or columns.id_type is IdType.STRING:
        return pa.string()
    having = [file for file in scanned if name in file.schema.names]
    kinds = {file.found.name: _file_kind(file, name) for file in having}
    found: dict[str, str] = {}
    for file_name, kind in kinds.items():
        if kind != "null":
            found.setdefault(kind, file_name)
    if "int" in found and len(found) > 1:
        other = next(kind for kind in found if kind != "int")
        raise ConfigError(
            f"column {name!r} has integers in {found['int']} and {ID_KINDS[other]} in "
            f"{found[other]}, but ids must have one type. Use --id-type string to make all of them "
            "strings.",
        )
    if "int" not in found:
        return pa.string()
    return _int_type([file for file in having if kinds[file.found.name] == "int"], name)


def _file_kind(file: ScannedFile, name: str) -> str:
    if len(file.id_rows) > 1:
        lines = dict(file.id_rows)
        raise ConfigError(
            f"{file.found.name}: {name!r} is an integer in line {lines['int']} and a string in "
            f"line {lines['string']}. Use --id-type string to make all ids strings.",
        )
    return id_kind(file.schema.field(name).type) or "string"


def _int_type(files: Sequence[ScannedFile], name: str) -> pa.DataType:
    kinds = [(file, _of_integers(file.schema.field(name).type)) for file in files]
    if all(kind.equals(kinds[0][1]) for _, kind in kinds):
        return kinds[0][1]
    wide = [file for file, kind in kinds if pat.is_uint64(kind) and may_exceed_int64(file)]
    if not wide:
        return pa.int64()
    signed = [f for f, kind in kinds if pat.is_signed_integer(kind) and may_be_negative(f)]
    if signed:
        raise ConfigError(
            f"column {name!r} is uint64 in {wide[0].found.name}, and {signed[0].found.name} may "
            "have negative ids. No integer type holds both. Use --id-type string.",
        )
    return pa.uint64()


def _of_integers(kind: pa.DataType) -> pa.DataType:
    """Return the integer type for ids of a type; floating-point ids are read as integers."""
    kind = plain_type(kind)
    return pa.int64() if pat.is_floating(kind) else kind
