"""A Parquet file's identity, rows and types."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pyarrow.types as pat

from schemas.errors import OR_SKIP, InputError
from schemas.inputs import FoundFile, InputColumns
from transforms.storage.column_checks import check_present, check_types, check_unique
from transforms.storage.column_types import has_fixed_lists, in_lists, plain_type
from transforms.storage.parquet_files import open_parquet
from transforms.storage.scanned_file import ScannedFile
from transforms.storage.stored_bytes import reading


def scan_parquet(
    filesystem: pafs.FileSystem, found: FoundFile, columns: InputColumns
) -> ScannedFile:
    """Return what the footer says; see `scan.scan_file`.  The digest is the caller's."""
    if not found.size_bytes:
        raise InputError(
            f"{found.name} is empty, so it is not a Parquet file; remove it{OR_SKIP}",
            path=found.path,
        )
    with reading(found), filesystem.open_input_file(found.path) as file:
        footer = open_parquet(file)
        schema, metadata = footer.schema_arrow, footer.metadata
    used = _used(schema, found, columns, has_rows=metadata.num_rows > 0)
    return ScannedFile(
        found=found,
        digest="",
        rows=metadata.num_rows,
        offsets=(),
        schema=pa.schema([(name, _type(schema.field(name), metadata)) for name in used]),
        columns=tuple(schema.names),
        id_range=_id_range(metadata, schema, columns.id_column),
    )


def _used(
    schema: pa.Schema, found: FoundFile, columns: InputColumns, *, has_rows: bool
) -> list[str]:
    """Return the id's and the kept columns' names, once they are known to be usable.

    A file without rows is not held to anything: what writes it often knows no types.
    """
    kept = schema.names if columns.keeps_all else list(columns.keep_columns)
    ids = [columns.id_column] if columns.id_column is not None else []
    used = [name for name in dict.fromkeys(ids + kept) if name in schema.names]
    if not has_rows:
        return [name for name in used if schema.names.count(name) == 1]
    check_present(found.name, columns, schema.names)
    check_unique(found.name, [*used, *columns.text_fields], schema.names)
    check_types(found.name, schema, columns)
    return used


def _type(field: pa.Field, metadata: pq.FileMetaData) -> pa.DataType:
    """A column's type; lists of fixed size are lists where one may be null."""
    if not has_fixed_lists(field.type) or not _may_have_nulls(field.name, metadata):
        return field.type
    return in_lists(field.type)


def _may_have_nulls(column: str, metadata: pq.FileMetaData) -> bool:
    """Whether a nested column has nulls at any depth, by the row groups' statistics."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            if not chunk.path_in_schema.startswith(f"{column}."):
                continue
            statistics = chunk.statistics if chunk.is_stats_set else None
            if statistics is None or not statistics.has_null_count or statistics.null_count:
                return True
    return False


def _id_range(
    metadata: pq.FileMetaData, schema: pa.Schema, column: str | None
) -> tuple[int, int] | None:
    """The smallest and largest integer id by the row groups' statistics, if all have them."""
    if (
        column is None
        or not metadata.num_rows
        or not pat.is_integer(plain_type(schema.field(column).type))
    ):
        return None
    ranges = []
    for group in range(metadata.num_row_groups):
        statistics = _statistics(metadata.row_group(group), column)
        if statistics is None or not statistics.has_min_max:
            return None
        ranges.append((statistics.min, statistics.max))
    return (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None


def _statistics(group: pq.RowGroupMetaData, column: str) -> pq.Statistics | None:
    for place in range(group.num_columns):
        chunk = group.column(place)
        # A column within a struct can have the same path as a flat one with a dot in its name.
        if chunk.path_in_schema == column:
            return chunk.statistics if chunk.is_stats_set else None
    return None
