"""Runs of rows out of a Parquet file, in bounded memory whatever its row groups are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from schemas.inputs import InputFile
from transforms.storage.column_types import has_fixed_lists
from transforms.storage.parquet_files import open_parquet
from transforms.storage.parquet_run import ParquetRun
from transforms.storage.row_run import RowRun, Wanted
from transforms.storage.stored_bytes import changed, reading

_BATCH_ROWS = (64, 4096)


def read_parquet_runs(
    filesystem: pafs.FileSystem, file: InputFile, wanted: Wanted, runs: Sequence[tuple[int, int]]
) -> Iterator[RowRun]:
    """See `row_reader.read_runs`.  Row groups that no run touches are not read."""
    with reading(file.found), filesystem.open_input_file(file.found.path) as stored:
        parquet = open_parquet(stored)
        if parquet.metadata.num_rows != file.rows:
            now = f"it has {parquet.metadata.num_rows:,} rows instead of {file.rows:,}"
            raise changed(file.found, now)
        names = _names(parquet.schema_arrow, file, wanted)
        lists = [name for name in names if _as_list(name, parquet.schema_arrow, wanted)]
        readers = [_batches(parquet, [name for name in names if name not in lists], runs)]
        if lists:
            readers.append(_batches(open_parquet(stored, arrow_types=False), lists, runs))
        pieces_of_readers = zip(*(_cut(batches, runs) for batches in readers), strict=True)
        for (first_row, _), pieces in zip(runs, pieces_of_readers, strict=True):
            yield ParquetRun(file.name, wanted, first_row, pieces).rows()


def _names(schema: pa.Schema, file: InputFile, wanted: Wanted) -> list[str]:
    ids = [wanted.columns.id_column] if wanted.columns.id_column is not None else []
    needed = [*ids, *wanted.sent]
    gone = [name for name in needed if schema.get_field_index(name) < 0]
    if gone:
        raise changed(file.found, f"it has no column {gone[0]!r} any more")
    kept = [name for name in wanted.kept.names if schema.get_field_index(name) >= 0]
    return list(dict.fromkeys(needed + kept))


def _as_list(name: str, schema: pa.Schema, wanted: Wanted) -> bool:
    """Whether a column has lists of fixed size that are kept as lists, since some may be null."""
    if name not in wanted.kept.names or not has_fixed_lists(schema.field(name).type):
        return False
    return not has_fixed_lists(wanted.kept.field(name).type)


def _batches(
    parquet: pq.ParquetFile, names: list[str], runs: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(first row, batch) of the row groups that hold rows of the runs, up to the last such row.

    A name with dots also selects what lies at that path in a struct; it is read for nothing.
    """
    low, high = _BATCH_ROWS
    batch_rows = min(max([low, *(rows for _, rows in runs)]), high)
    begin = 0
    for group in range(parquet.metadata.num_row_groups):
        end = begin + parquet.metadata.row_group(group).num_rows
        last = _last_needed(runs, begin, end)
        row = begin
        if last > begin:
            for batch in parquet.iter_batches(
                batch_rows, row_groups=[group], columns=names, use_threads=False
            ):
                yield row, batch
                row += batch.num_rows
                if row >= last:
                    break
        begin = end


def _last_needed(runs: Sequence[tuple[int, int]], begin: int, end: int) -> int:
    """The row after the last one in [begin, end) that a run wants; `begin` if none does."""
    ends = (min(first + rows, end) for first, rows in runs if first < end and first + rows > begin)
    return max(ends, default=begin)


def _cut(
    batches: Iterator[tuple[int, pa.RecordBatch]], runs: Sequence[tuple[int, int]]
) -> Iterator[list[pa.RecordBatch]]:
    """The slices of batches that make up each run."""
    begin, batch = 0, None
    for first_row, rows in runs:
        pieces, row = [], first_row
        while row < first_row + rows:
            while batch is None or begin + batch.num_rows <= row:
                following = next(batches, None)
                if following is None:
                    raise OSError(f"its row groups end before row {row}")
                begin, batch = following
            piece = batch.slice(row - begin, first_row + rows - row)
            pieces.append(piece)
            row += piece.num_rows
        yield pieces
