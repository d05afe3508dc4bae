"""Columns of Arrow tables by name or by path: fields of structs, and keys of maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from bulkembed.transforms.core.field_paths import path_text, readings


@dataclasses.dataclass(frozen=True, slots=True)
class FoundColumn:
    """A column or a field in one, as a schema has it."""

    path: tuple[str, ...]
    """The column, then the fields in it."""
    type: pa.DataType
    parquet_path: str
    """What Parquet calls it; up to the map, if the path has the key of one."""


def find_column(schema: pa.Schema, name: str) -> FoundColumn | None:
    """Return the column or field that a name means in a schema; None if there is none.

    A map has every key. The first of several columns with the same name counts.
    """
    for path in readings(name):
        if path[0] in schema.names:
            found = _descend(schema.field(schema.names.index(path[0])).type, path)
            if found is not None:
                return found
    return None


def _descend(kind: pa.DataType, path: tuple[str, ...]) -> FoundColumn | None:
    parquet_path, in_map = path[0], False
    for name in path[1:]:
        if _has_keys(kind):
            kind, in_map = kind.item_type, True
            continue
        at = kind.get_field_index(name) if pat.is_struct(kind) else -1
        if at < 0:
            return None
        kind = kind.field(at).type
        parquet_path = parquet_path if in_map else f"{parquet_path}.{name}"
    return FoundColumn(path, kind, parquet_path)


def take_column(
    batches: Sequence[pa.RecordBatch | pa.Table], path: Sequence[str]
) -> pa.ChunkedArray:
    """Return the values at a path; null where a struct on the path is null or a map lacks the key.

    Args:
        batches: at least one, with equal schemas.
        path: as `FoundColumn.path`.
    """
    at = batches[0].schema.names.index(path[0])
    pieces = [batch.column(at) for batch in batches]
    chunks = [chunk for piece in pieces for chunk in getattr(piece, "chunks", [piece])]
    column = pa.chunked_array(chunks, batches[0].schema.field(at).type)
    for name in path[1:]:
        if _has_keys(column.type):
            column = pc.map_lookup(column, pa.scalar(name, column.type.key_type), "last")
        else:
            column = pc.struct_field(column, column.type.get_field_index(name))
    return column


def struct_fields(schema: pa.Schema, depth: int = 3) -> list[str]:
    """Return the paths to the fields in structs, for messages."""
    return [path_text(path) for path in _paths(schema, depth) if len(path) > 1]


def _paths(fields: Sequence[pa.Field], depth: int) -> Iterator[tuple[str, ...]]:
    for field in fields:
        yield (field.name,)
        if depth > 1 and pat.is_struct(field.type):
            inner = [field.type.field(place) for place in range(field.type.num_fields)]
            yield from ((field.name, *path) for path in _paths(inner, depth - 1))


def _has_keys(kind: pa.DataType) -> bool:
    """Return whether a path can name the keys of a map."""
    return bool(pat.is_map(kind)) and bool(
        pat.is_string(kind.key_type) or pat.is_large_string(kind.key_type)
    )
