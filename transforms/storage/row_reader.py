"""Runs of rows of one input file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.fs as pafs

from schemas.inputs import FileFormat, InputColumns, InputFile
from transforms.storage.jsonl_rows import read_jsonl_runs
from transforms.storage.parquet_rows import read_parquet_runs
from transforms.storage.row_run import RowRun, Wanted
from transforms.storage.stored_bytes import check_size


def read_runs(
    filesystem: pafs.FileSystem,
    file: InputFile,
    columns: InputColumns,
    schema: pa.Schema,
    runs: Sequence[tuple[int, int]],
) -> Iterator[RowRun]:
    """One RowRun for each (first row, rows) of `runs`, in their order.

    The runs are ascending and do not overlap.  The file is gone through once, forward: a
    compressed one is decoded once, a plain JSONL file entered near each run, and of a Parquet file
    only the columns and row groups that are needed are read.  One run is in memory at a time.
    `schema` is that of `columns.merge_schemas`.

    Raises:
        InputError: the file cannot be read, or is not what it was when it was scanned.
        ValueError: the runs are not ascending, overlap, or go beyond the file's rows.
    """
    _check_runs(file, runs)
    if not runs:
        return  # A file without rows need not have the columns.
    check_size(filesystem, file.found)
    read = read_parquet_runs if file.found.format is FileFormat.PARQUET else read_jsonl_runs
    yield from read(filesystem, file, Wanted(columns, schema), runs)


def _check_runs(file: InputFile, runs: Sequence[tuple[int, int]]) -> None:
    end = 0
    for first_row, rows in runs:
        if first_row < end or rows < 0 or first_row + rows > file.rows:
            raise ValueError(
                f"run ({first_row}, {rows}) of {file.name}: runs ascend, do not overlap, and end "
                f"by row {file.rows}"
            )
        end = first_row + rows
