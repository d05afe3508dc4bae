"""Runs of rows of one input file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.inputs import FileFormat, FoundFile, InputColumns, InputFile
from bulkembed.transforms.inputs.file_content import HEAD_BYTES, codec_of, format_of
from bulkembed.transforms.inputs.jsonl import read_jsonl
from bulkembed.transforms.inputs.parquet import read_parquet
from bulkembed.transforms.inputs.rows import RowBatch, WantedColumns
from bulkembed.transforms.inputs.scanned_file import ScannedFile
from bulkembed.transforms.inputs.stored_bytes import (
    Ahead,
    HashingReader,
    changed,
    check_size,
    decoded,
    reading,
)


def scan_file(filesystem: pafs.FileSystem, found: FoundFile, columns: InputColumns) -> ScannedFile:
    """Return what one pass over the file tells; memory does not grow with the file.

    The content decides what the file is, not its name.  Parquet gives its footer, and its bytes are
    read for the digest alone; JSONL is decoded and parsed from end to end, so a damaged file is
    found here.  Lines that are no rows count as rows: they become dead letters later.

    Raises:
        InputError: the file cannot be read, is cut short, is neither Parquet nor JSONL, has lines
            but not one row, or changed since it was found.
        ConfigError: a column is not there, or has a type that cannot be used.
    """
    check_size(filesystem, found)
    with reading(found), filesystem.open_input_stream(found.path, compression=None) as raw:
        reader = HashingReader(raw)
        stored = Ahead(reader, HEAD_BYTES)
        codec = codec_of(stored.head)
        rows = Ahead(decoded(stored, codec), HEAD_BYTES)
        kind = format_of(found, rows.head, compression=codec, whole=rows.is_whole)
        held = dataclasses.replace(found, format=kind, compression=codec)
        scanned = _scan(filesystem, held, columns, rows)
        digest = reader.finish()
    if reader.bytes_read != found.size_bytes:
        raise changed(found, f"it has {reader.bytes_read:,} bytes")
    as_named = (kind, codec) == (found.format, found.compression)
    how = [] if as_named else [codec or str(kind)]
    how += [scanned.reading] if scanned.reading else []
    return dataclasses.replace(scanned, digest=digest, reading="+".join(how))


def _scan(
    filesystem: pafs.FileSystem, held: FoundFile, columns: InputColumns, rows: Ahead
) -> ScannedFile:
    if held.format is FileFormat.PARQUET:
        from bulkembed.transforms.inputs.parquet import scan_parquet

        return scan_parquet(filesystem, held, columns)
    from bulkembed.transforms.inputs.jsonl import scan_jsonl

    return scan_jsonl(rows, held, columns)


def read_batches(
    filesystem: pafs.FileSystem,
    file: InputFile,
    columns: InputColumns,
    schema: pa.Schema,
    runs: Sequence[tuple[int, int]],
) -> Iterator[RowBatch]:
    """One RowBatch for each (first row, rows) of `runs`, in their order.

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
    read = read_parquet if file.found.format is FileFormat.PARQUET else read_jsonl
    yield from read(filesystem, file, WantedColumns(columns, schema), runs)


def _check_runs(file: InputFile, runs: Sequence[tuple[int, int]]) -> None:
    end = 0
    for first_row, rows in runs:
        if first_row < end or rows < 0 or first_row + rows > file.rows:
            raise ValueError(
                f"run ({first_row}, {rows}) of {file.name}: runs ascend, do not overlap, and end "
                f"by row {file.rows}"
            )
        end = first_row + rows
