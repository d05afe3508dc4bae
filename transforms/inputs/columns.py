"""One schema for the columns of all files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa
import pyarrow.types as pat

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import IdType, InputColumns
from bulkembed.schemas.messages import number_of
from bulkembed.transforms.inputs.column_checks import check_kept
from bulkembed.transforms.inputs.column_types import (
    ID_KINDS,
    as_pinned,
    has_fixed_lists,
    id_kind,
    in_lists,
    plain_type,
    unify,
    writable,
)
from bulkembed.transforms.inputs.hive_keys import fits, hive_keys, type_of_values
from bulkembed.transforms.inputs.input_files import ScannedFile
from bulkembed.transforms.inputs.similar_files import (
    may_be_negative,
    may_exceed_int64,
    similar_files,
)

_OF_HIVE_KEYS = {str(kind): kind for kind in (pa.int64(), pa.date32(), pa.string())}
"""The types of hive keys, by their names."""

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
