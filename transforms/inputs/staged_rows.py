"""Staged rows: rows of several input files, saved as they were read, to be embedded together.

A staged shard is a Parquet file with one row for each row of the input: its id, title, text or
parts, and kept columns with the output's types, why it cannot be embedded, and the file and row it
comes from. It is read as an input file of the format STAGED, and gives the same batches as the
input itself.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.media import MediaKind
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.filesystems import Location
from bulkembed.transforms.inputs.row_parts import MediaValue, RowPart
from bulkembed.transforms.inputs.rows import RowBatch, RowSources, WantedColumns, kept_table
from bulkembed.transforms.inputs.stored_bytes import reading

GROUP_ROWS = 2500
"""Rows of a row group: usually those of a unit."""
_OURS = ("id", "title", "text", "code", "message", "source_file", "source_row")
_PARTS = pa.field(
    "parts",
    pa.list_(
        pa.struct(
            [
                ("kind", pa.string()),
                ("text", pa.large_string()),
                ("data", pa.large_binary()),
                ("place", pa.string()),
                ("store", pa.string()),
                ("folder", pa.string()),
            ]
        )
    ),
)
"""The parts of a row with media. A text has only a `text`; media has `data`, or a path or URI as
its `text` and the store and folder of relative paths."""
_KEPT = "kept."
"""Begins the name of a kept column, so that it can have any name."""


def staged_table(batch: RowBatch, file_name: str) -> pa.Table:
    """Return the rows of a batch as they are staged.

    Args:
        batch: rows of one file, or staged rows; with media, as `source_hashes.with_files` returns
            them.
        file_name: the file, if the batch does not say where its rows come from.
    """
    codes: list[str | None] = [None] * batch.rows
    messages: list[str | None] = [None] * batch.rows
    for offset, (code, message) in batch.bad.items():
        codes[offset], messages[offset] = str(code), message
    sources = batch.sources or RowSources.of(file_name, batch.first_row, batch.rows)
    columns = {
        "id": batch.ids,
        "title": pa.array(batch.titles, pa.string()),
        "text": pa.array(batch.texts, pa.large_string()),
        "code": pa.array(codes, pa.string()),
        "message": pa.array(messages, pa.string()),
        "source_file": sources.files,
        "source_row": sources.rows,
        **({} if batch.parts is None else {_PARTS.name: _parts_column(batch.parts)}),
        **{f"{_KEPT}{name}": batch.kept.column(name) for name in batch.kept.column_names},
    }
    return pa.table(columns)


def _parts_column(rows: Sequence[Sequence[RowPart]]) -> pa.Array:
    return pa.array([[_staged(part) for part in row] for row in rows], _PARTS.type)


def _staged(part: RowPart) -> dict[str, str | bytes | None]:
    if isinstance(part, str):
        return {"text": part}
    store, folder = part.base or (None, None)
    value = "data" if isinstance(part.value, bytes) else "text"
    return {
        "kind": part.kind, value: part.value, "place": part.place, "store": store, "folder": folder,
    }  # fmt: skip


def _part(staged: dict[str, Any]) -> RowPart:
    if staged["kind"] is None:
        return str(staged["text"])
    value = staged["text"] if staged["data"] is None else staged["data"]
    base = None if staged["folder"] is None else Location(staged["store"], staged["folder"])
    return MediaValue(MediaKind(staged["kind"]), "", value, staged["place"], base)


def write_staged(table: pa.Table, sink: pa.NativeFile) -> None:
    """Write the rows of `staged_table` as a shard."""
    pq.write_table(table, sink, row_group_size=GROUP_ROWS, compression="zstd", compression_level=1)


def read(
    filesystem: pafs.FileSystem,
    file: InputFile,
    wanted: WantedColumns,
    ranges: Sequence[RowRange],
) -> Iterator[RowBatch]:
    """Yield one batch for each range; see `input_files.read_batches`."""
    with reading(file.found), filesystem.open_input_file(file.found.path) as stored:
        parquet = pq.ParquetFile(stored, pre_buffer=False, page_checksum_verification=True)
        with_ids = wanted.columns.id_column is not None
        kept = [f"{_KEPT}{name}" for name in wanted.kept.names]
        names = [name for name in _OURS if with_ids or name != "id"]
        if wanted.columns.content and wanted.reads_texts:
            names.append(_PARTS.name)
        for (first_row, _), table in zip(
            ranges, _tables(parquet, [*names, *kept], ranges), strict=True
        ):
            yield _batch(table, wanted, first_row, with_ids=with_ids)


def _tables(
    parquet: pq.ParquetFile, columns: list[str], ranges: Sequence[RowRange]
) -> Iterator[pa.Table]:
    """Yield the rows of each range; one row group is in memory at a time."""
    metadata = parquet.metadata
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    starts = [0, *itertools.accumulate(sizes)]
    current, group = -1, pa.table({})
    for first_row, rows in ranges:
        pieces, row = [], first_row
        while row < first_row + rows:
            number = bisect.bisect_right(starts, row) - 1
            if number != current:
                group = parquet.read_row_group(number, columns=columns, use_threads=False)
                current = number
            piece = group.slice(row - starts[number], first_row + rows - row)
            pieces.append(piece)
            row += piece.num_rows
        yield pa.concat_tables(pieces)


def _batch(table: pa.Table, wanted: WantedColumns, first_row: int, *, with_ids: bool) -> RowBatch:
    table = table.combine_chunks()
    bad = {
        offset: (DeadCode(code), message)
        for offset, (code, message) in enumerate(
            zip(table["code"].to_pylist(), table["message"].to_pylist(), strict=True)
        )
        if code is not None
    }
    # A dictionary is read with other indices than it was written with.
    kept = [table[f"{_KEPT}{field.name}"].cast(field.type) for field in wanted.kept]
    return RowBatch(
        first_row=first_row,
        ids=_one_array(table["id"]) if with_ids else pa.nulls(table.num_rows, wanted.id_type),
        titles=table["title"].to_pylist(),
        texts=table["text"].to_pylist(),
        kept=kept_table(kept, wanted.kept, table.num_rows),
        bad=bad,
        sources=RowSources(_one_array(table["source_file"]), _one_array(table["source_row"])),
        parts=_parts(table) if _PARTS.name in table.column_names else None,
    )


def _parts(table: pa.Table) -> list[tuple[RowPart, ...]]:
    return [tuple(map(_part, row)) for row in table[_PARTS.name].to_pylist()]


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
