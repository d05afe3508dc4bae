"""One schema over all input files: the id, and the columns that are carried over."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.types as pat

from schemas.errors import ConfigError
from schemas.inputs import OUR_COLUMNS, IdType, InputColumns
from transforms.storage.column_checks import check_kept
from transforms.storage.column_types import INT64_TOP, id_kind, plain_type, unify, writable
from transforms.storage.scanned_file import ScannedFile


def merge_schemas(scanned: Sequence[ScannedFile], columns: InputColumns) -> pa.Schema:
    """The output's `id`, then the kept columns, in the order of the flag or of first sight.

    Every field may be null.  Ids are a string, or an integer: the type that all files have, else
    int64, and uint64 where a file needs it.  Kept columns keep their type; where files differ,
    the type that holds the values of all.  With no id anywhere (no rows) ids are strings.  Files
    without rows count only where they go together with the others.

    Raises:
        ConfigError: files that do not go together, a kept column that no file has, or one whose
            name is taken by the output's own columns.
    """
    with_rows = [file for file in scanned if file.rows]
    try:
        return _merge(scanned, columns)
    except ConfigError:
        if len(with_rows) in (0, len(scanned)):
            raise
    return _merge(with_rows, columns)


def _merge(scanned: Sequence[ScannedFile], columns: InputColumns) -> pa.Schema:
    kept = _kept_names(scanned, columns)
    taken = [name for name in kept if name in OUR_COLUMNS]
    if taken:
        raise ConfigError(
            f"--keep-columns: the input's column {taken[0]!r} has the name of one of the output's "
            f"({', '.join(OUR_COLUMNS)}); rename it, or keep other columns by name"
        )
    fields = [pa.field("id", _id_type(scanned, columns))]
    fields += [pa.field(name, writable(_kept_type(name, scanned))) for name in kept]
    return pa.schema(fields)


def _kept_names(scanned: Sequence[ScannedFile], columns: InputColumns) -> list[str]:
    there = dict.fromkeys(name for file in scanned for name in file.columns)
    if columns.keeps_all:
        return [name for name in there if name != columns.id_column]
    if there:
        where = scanned[0].found.name if len(scanned) == 1 else "the input"
        check_kept(where, columns, there)
    return list(dict.fromkeys(columns.keep_columns))


def _kept_type(name: str, scanned: Sequence[ScannedFile]) -> pa.DataType:
    having = [file for file in scanned if name in file.schema.names]
    if _all_unsigned(name, having):
        return pa.uint64()
    merged, source = pa.null(), None
    for file in having:
        kind = file.schema.field(name).type
        both = unify(merged, kind)
        if both is None:
            assert source is not None
            raise ConfigError(
                f"column {name!r} is {merged} in {source.found.name} and {kind} in "
                f"{file.found.name}; cast one of them, or leave it out of --keep-columns",
                column=name,
            )
        if source is None or not both.equals(merged):
            source = file
        merged = both
    if pat.is_fixed_size_list(merged) and len(having) < len(scanned):
        # pyarrow writes null rows of this type to Parquet, but cannot read them back.
        return pa.list_(merged.value_field)
    return merged


def _all_unsigned(name: str, having: Sequence[ScannedFile]) -> bool:
    """Whether a file needs uint64, and the others' integers all fit into it."""
    kinds = [(file, file.schema.field(name).type) for file in having]
    return any(pat.is_uint64(kind) for _, kind in kinds) and all(
        pat.is_uint64(kind) or pat.is_null(kind) or name in file.unsigned for file, kind in kinds
    )


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
    if len(found) > 1:
        raise ConfigError(
            f"column {name!r} has integers in {found['int']} and strings in {found['string']}; "
            "ids have to be of one type: --id-type string makes all of them strings",
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
    return id_kind(file.schema.field(name).type)


def _int_type(files: Sequence[ScannedFile], name: str) -> pa.DataType:
    kinds = [(file, plain_type(file.schema.field(name).type)) for file in files]
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


def _may_exceed_int64(file: ScannedFile) -> bool:
    return file.rows > 0 and (file.id_range is None or file.id_range[1] > INT64_TOP)


def _may_be_negative(file: ScannedFile) -> bool:
    return file.rows > 0 and (file.id_range is None or file.id_range[0] < 0)
