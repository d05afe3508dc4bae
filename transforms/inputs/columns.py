"""One schema over all input files: the id, and the columns that are carried over."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.types as pat

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import OUR_COLUMNS, FileFormat, IdType, InputColumns
from bulkembed.transforms.inputs.scanned_file import ScannedFile
from bulkembed.transforms.inputs.text_recipe import text_columns

UINT64_TOP = 2**64 - 1
INT64_TOP = 2**63 - 1
ID_KINDS = {
    "int": "integers",
    "decimal": "decimals",
    "uuid": "UUIDs",
    "string": "strings",
}
"""What an id column may hold, as a message names it; all but integers become strings."""


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without a dictionary or a view: what its values are."""
    if pat.is_dictionary(kind):
        kind = kind.value_type
    if pat.is_string_view(kind):
        return pa.string()
    if pat.is_binary_view(kind):
        return pa.binary()
    return kind


def is_string(kind: pa.DataType) -> bool:
    """Whether the values are strings, or bytes that may be UTF-8.

    Many writers of Parquet leave the mark out that says which bytes are strings.
    """
    return is_bytes(kind) or bool(
        pat.is_string(plain_type(kind)) or pat.is_large_string(plain_type(kind))
    )


def is_bytes(kind: pa.DataType) -> bool:
    """Whether the values are bytes of any length."""
    kind = plain_type(kind)
    return bool(pat.is_binary(kind) or pat.is_large_binary(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can be a text or a title; nulls alone can."""
    return is_string(kind) or bool(pat.is_null(plain_type(kind)))


def is_uuid(kind: pa.DataType) -> bool:
    """Whether the values are UUIDs."""
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
    """One of ID_KINDS, or `null` for a column of nulls; None where it cannot be an id.

    Floating numbers stand for integers: a row whose id has a fraction is a dead letter.
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
    """Whether a decimal type has digits behind the point."""
    kind = plain_type(kind)
    return bool(pat.is_decimal(kind)) and kind.scale > 0


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
    """Return the type with parts replaced that Parquet or its readers do not support, at any depth.

    A type of nulls becomes string; a struct without fields (`{}` in every row), which Parquet
    cannot hold, an (always empty) map of strings.  Views, of which pyarrow cannot take single rows,
    become what they view.  Timestamps in nanoseconds become microseconds,
    since Spark reads no file that has them.
    """
    return _mapped(kind, lambda leaf: _in_microseconds(_holdable(leaf)))


def as_pinned(kind: pa.DataType, pinned: str) -> pa.DataType | None:
    """The type of that name under which earlier versions wrote a column; None if it is another.

    Args:
        kind: what is known of the column's values.
        pinned: the type that the column has in the dataset, as Arrow writes it.
    """
    for leaf in (_holdable, lambda leaf: _in_nanoseconds(_holdable(leaf))):
        older = _mapped(kind, leaf)
        if str(older) == pinned:
            return older
    return None


def in_microseconds(kind: pa.DataType) -> pa.DataType:
    """The type with timestamps in nanoseconds replaced by microseconds, and nothing else."""
    return _mapped(kind, _in_microseconds)


def has_nanoseconds(kind: pa.DataType) -> bool:
    """Whether the type has a timestamp in nanoseconds, at any depth."""
    return not in_microseconds(kind).equals(kind)


def in_lists(kind: pa.DataType) -> pa.DataType:
    """The type with lists of fixed size replaced by lists: pyarrow cannot read null ones."""
    return _mapped(kind, _plain_list)


def has_fixed_lists(kind: pa.DataType) -> bool:
    """Whether the type has a list of fixed size, at any depth."""
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


def _mapped(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """The type with `leaf` applied to each type in it, the inner ones first."""

    def inner(field: pa.Field) -> pa.Field:
        return field.with_type(_mapped(field.type, leaf))

    if pat.is_struct(kind):
        kind = pa.struct(_fields(kind, inner))
    elif pat.is_map(kind):
        made = pa.map_(inner(kind.key_field), inner(kind.item_field), kind.keys_sorted)
        kind = kind if made.equals(kind) else made  # A map has a name of its own, too.
    elif pat.is_fixed_size_list(kind):
        kind = pa.list_(inner(kind.value_field), kind.list_size)
    elif pat.is_large_list(kind):
        kind = pa.large_list(inner(kind.value_field))
    elif pat.is_list(kind):
        kind = pa.list_(inner(kind.value_field))
    return leaf(kind)


def _fields(kind: pa.DataType, inner: Callable[[pa.Field], pa.Field]) -> Iterable[pa.Field]:
    return [inner(kind.field(place)) for place in range(kind.num_fields)]


def check_present(name: str, columns: InputColumns, there: Collection[str]) -> None:
    """Raises ConfigError unless the id's, text's and title's columns are all in the file `name`."""
    asked = [(columns.id_column, "--id-column", " or --generate-ids")]
    text_flag = "--text-column" if columns.text_template is None else "--text-template"
    asked += [(field, text_flag, "") for field in columns.text_fields]
    asked += [(columns.title_column, "--title-column", "")]
    for column, flag, other in asked:
        if column is not None and column not in there:
            raise _missing(name, column, f"name one of these with {flag}{other}", there)


def check_kept(name: str, columns: InputColumns, there: Collection[str]) -> None:
    """Raises ConfigError unless the columns that are kept by name are all in the file `name`."""
    for column in () if columns.keeps_all else columns.keep_columns:
        if column not in there:
            raise _missing(name, column, "leave it out of --keep-columns", there)


def _missing(name: str, column: str, cure: str, there: Collection[str]) -> ConfigError:
    shown = list(there)[:40]
    more = f" and {len(there) - 40} more" if len(there) > 40 else ""
    return ConfigError(
        f"{name} has no column {column!r}; it has {', '.join(map(repr, shown)) or 'none'}{more}; "
        f"{cure}",
        file=name,
        column=column,
    )


def check_types(name: str, schema: pa.Schema, columns: InputColumns) -> None:
    """Raises ConfigError unless the id, text and title of a Parquet file have types that fit."""
    for column in text_columns(columns):
        kind = schema.field(column).type
        if not has_text_form(kind):
            raise ConfigError(
                f"{name}: column {column!r} is {kind}, which cannot be written as text; cast it, "
                "or name another column",
                file=name,
                column=column,
            )
        if not is_text(kind) and (columns.text_template is None or column == columns.title_column):
            raise ConfigError(
                f"{name}: column {column!r} is {kind}, a text or title has to be a string "
                "(string, binary that holds UTF-8, or a dictionary of them); cast it, name another "
                f"column, or write it into a text: --text-template '{{{column}}}'",
                file=name,
                column=column,
            )
    if columns.id_column is not None:
        _check_id(name, columns.id_column, schema.field(columns.id_column).type, columns.id_type)


def _check_id(name: str, column: str, kind: pa.DataType, id_type: IdType) -> None:
    if id_kind(kind) is None:
        raise ConfigError(
            f"{name}: column {column!r} is {kind}, an id has to be a number, a UUID or a string; "
            "cast it, name another --id-column, or use --generate-ids",
            file=name,
            column=column,
        )
    if has_fraction(kind) and id_type is IdType.AUTO:
        raise ConfigError(
            f"{name}: column {column!r} is {kind}, which has digits behind the point: "
            "--id-type string keeps them",
            file=name,
            column=column,
        )


def check_unique(name: str, used: Sequence[str], there: Sequence[str]) -> None:
    """Raises ConfigError if a Parquet file has two columns of a name that is used."""
    twice = [column for column in used if there.count(column) > 1]
    if twice:
        raise ConfigError(
            f"{name} has more than one column {twice[0]!r}; rename one of them",
            file=name,
            column=twice[0],
        )


_Kinds = list[tuple[ScannedFile, pa.DataType]]
"""The files that have a column, each with its type there."""


def merge_schemas(
    scanned: Sequence[ScannedFile],
    columns: InputColumns,
    pinned: Mapping[str, str] | None = None,
) -> pa.Schema:
    """The output's `id`, then the kept columns, in the order of the flag or of first sight.

    Every field may be null.  Ids are a string, or an integer: the type that all files have, else
    int64, and uint64 where a file needs it.  Kept columns keep their type; where files differ,
    the type that holds the values of all, or string where a JSONL file is among those that do not
    go together.  With no id anywhere (no rows) ids are strings.  Files
    without rows count only where they go together with the others.

    Args:
        scanned: the files.
        columns: which columns are wanted.
        pinned: the types of the kept columns in the dataset that the run goes on with, as Arrow
            writes them.  A type that an earlier version or an earlier run gave to these values
            stays.

    Raises:
        ConfigError: files that do not go together, a kept column that no file has, or one whose
            name is taken by the output's own columns.
    """
    with_rows = [file for file in scanned if file.rows]
    try:
        return _merge(scanned, columns, pinned or {})
    except ConfigError:
        if len(with_rows) in (0, len(scanned)):
            raise
    return _merge(with_rows, columns, pinned or {})


def _merge(
    scanned: Sequence[ScannedFile], columns: InputColumns, pinned: Mapping[str, str]
) -> pa.Schema:
    kept = _kept_names(scanned, columns)
    taken = [name for name in kept if name in OUR_COLUMNS]
    if taken:
        raise ConfigError(
            f"--keep-columns: the input's column {taken[0]!r} has the name of one of the output's "
            f"({', '.join(OUR_COLUMNS)}); rename it, or keep other columns by name"
        )
    types = {name: _output_type(name, scanned, pinned.get(name)) for name in kept}
    return pa.schema({"id": _id_type(scanned, columns), **types})


def notes(scanned: Sequence[ScannedFile], schema: pa.Schema) -> list[str]:
    """Sentences on kept columns that are not in every file, or have values of several types."""
    scanned = [file for file in scanned if file.rows]
    found = []
    for field in schema:
        if field.name == "id":
            continue
        lacking = [file.found.name for file in scanned if field.name not in file.columns]
        if lacking:
            more = f" and {len(lacking) - 1:,} more files" if len(lacking) > 1 else ""
            found.append(f"column {field.name!r} is not in {lacking[0]}{more}: it is null there")
        mixed = _mixed_files(field.name, scanned)
        if mixed:
            what = "strings" if pat.is_string(field.type) else f"{field.type}, as they were before"
            found.append(
                f"column {field.name!r} has values of several types in {' and '.join(mixed)}: they "
                f"are kept as {what}"
            )
    return found


def _mixed_files(name: str, scanned: Sequence[ScannedFile]) -> list[str]:
    """A file with values of several types, or two whose types do not go together."""
    alone = [file.found.name for file in scanned if name in file.narrow.names]
    if alone:
        return alone[:1]
    _, clash = _unified(name, _kinds(name, scanned))
    return [file.found.name for file in clash]


def _kept_names(scanned: Sequence[ScannedFile], columns: InputColumns) -> list[str]:
    there = dict.fromkeys(name for file in scanned for name in file.columns)
    if columns.keeps_all:
        return [name for name in there if name != columns.id_column]
    if there:
        where = scanned[0].found.name if len(scanned) == 1 else "the input"
        check_kept(where, columns, there)
    return list(dict.fromkeys(columns.keep_columns))


def _output_type(name: str, scanned: Sequence[ScannedFile], pinned: str | None) -> pa.DataType:
    merged = _kept_type(name, scanned)
    kind = writable(merged)
    if pinned is None or str(kind) == pinned:
        return kind
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
    fixed = [kind for _, kind in found if has_fixed_lists(kind)]
    if fixed and not (len(found) == len(scanned) and all(k.equals(fixed[0]) for _, k in found)):
        # pyarrow writes null rows of this type to Parquet, but cannot read them back.
        return [(file, in_lists(kind)) for file, kind in found]
    return found


def _kept_type(name: str, scanned: Sequence[ScannedFile]) -> pa.DataType:
    merged, clash = _unified(name, _kinds(name, scanned))
    with_rows = [file for file in scanned if file.rows]
    if clash and len(with_rows) < len(scanned):
        return _kept_type(name, with_rows)
    if not clash:
        return merged
    if any(file.found.format is FileFormat.JSONL for file in clash):
        return pa.string()
    first, second = (f"{file.schema.field(name).type} in {file.found.name}" for file in clash)
    raise ConfigError(
        f"column {name!r} is {first} and {second}; cast one of them, or leave it out of "
        "--keep-columns",
        column=name,
    )


def _unified(name: str, kinds: _Kinds) -> tuple[pa.DataType, tuple[ScannedFile, ...]]:
    """The type that holds the values of all files, and two files of which no type holds both."""
    signed = [
        file
        for file, kind in kinds
        if not (pat.is_uint64(kind) or pat.is_null(kind) or name in file.unsigned)
    ]
    unsigned = [file for file, kind in kinds if pat.is_uint64(kind)]
    if unsigned and not signed:
        return pa.uint64(), ()
    # What a scan of JSONL calls uint64 or wide has such integers; a Parquet type only may.
    huge = [file for file in unsigned if file.found.format is FileFormat.JSONL]
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
            f"{found[other]}; ids have to be of one type: --id-type string makes all of them "
            "strings",
            column=name,
        )
    if "int" not in found:
        return pa.string()
    return _int_type([file for file in having if kinds[file.found.name] == "int"], name)


def _file_kind(file: ScannedFile, name: str) -> str:
    if len(file.id_rows) > 1:
        lines = dict(file.id_rows)
        raise ConfigError(
            f"{file.found.name}: {name!r} is an integer in line {lines['int']} and a string in "
            f"line {lines['string']}; --id-type string makes all of them strings",
            file=file.found.name,
            column=name,
        )
    return id_kind(file.schema.field(name).type) or "string"


def _int_type(files: Sequence[ScannedFile], name: str) -> pa.DataType:
    kinds = [(file, _of_integers(file.schema.field(name).type)) for file in files]
    if all(kind.equals(kinds[0][1]) for _, kind in kinds):
        return kinds[0][1]
    wide = [file for file, kind in kinds if pat.is_uint64(kind) and _may_exceed_int64(file)]
    if not wide:
        return pa.int64()
    signed = [f for f, kind in kinds if pat.is_signed_integer(kind) and _may_be_negative(f)]
    if signed:
        raise ConfigError(
            f"column {name!r} is uint64 in {wide[0].found.name} and {signed[0].found.name} may "
            "have negative ids; no integer type holds both: use --id-type string",
            column=name,
        )
    return pa.uint64()


def _of_integers(kind: pa.DataType) -> pa.DataType:
    """The integer type for ids of a type; floating numbers stand for integers."""
    kind = plain_type(kind)
    return pa.int64() if pat.is_floating(kind) else kind


def _may_exceed_int64(file: ScannedFile) -> bool:
    return file.rows > 0 and (file.id_range is None or file.id_range[1] > INT64_TOP)


def _may_be_negative(file: ScannedFile) -> bool:
    return file.rows > 0 and (file.id_range is None or file.id_range[0] < 0)
