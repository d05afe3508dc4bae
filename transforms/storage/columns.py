"""One schema over all input files: the id, and the columns that are carried over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.types as pat

from schemas.errors import ConfigError
from schemas.inputs import OUR_COLUMNS, FileFormat, IdType, InputColumns
from transforms.storage.column_checks import check_kept
from transforms.storage.column_types import (
    ID_KINDS,
    INT64_TOP,
    as_pinned,
    has_fixed_lists,
    id_kind,
    in_lists,
    plain_type,
    unify,
    writable,
)
from transforms.storage.scanned_file import ScannedFile

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
