"""Runs of rows out of a JSONL file, read forward."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.fs as pafs

from schemas.inputs import OFFSET_STRIDE_ROWS, InputFile
from transforms.storage.jsonl_lines import lines, objects
from transforms.storage.jsonl_run import JsonlRun
from transforms.storage.row_run import RowRun, Wanted
from transforms.storage.stored_bytes import changed, decoded, reading


def read_jsonl_runs(
    filesystem: pafs.FileSystem, file: InputFile, wanted: Wanted, runs: Sequence[tuple[int, int]]
) -> Iterator[RowRun]:
    """See `row_reader.read_runs`.  Plain files are entered near the run; others decoded once."""
    with reading(file.found), _open(filesystem, file) as stream:
        next_row, rest = 0, _rows(stream, file, 0)
        for first_row, count in runs:
            place = min(first_row // OFFSET_STRIDE_ROWS, len(file.offsets) - 1)
            if place * OFFSET_STRIDE_ROWS > next_row:
                stream.seek(file.offsets[place])
                next_row = place * OFFSET_STRIDE_ROWS
                rest = _rows(stream, file, file.offsets[place])
            ahead = itertools.islice(rest, first_row - next_row, first_row - next_row + count)
            held = list(ahead)
            if len(held) < count:
                raise changed(file.found, f"it has fewer than {first_row + count:,} rows")
            next_row = first_row + count
            yield JsonlRun(file.name, wanted, first_row).read(held)


@contextlib.contextmanager
def _open(filesystem: pafs.FileSystem, file: InputFile) -> Iterator[pa.NativeFile]:
    path, compression = file.found.path, file.found.compression
    if compression is None:
        with filesystem.open_input_file(path) as stored:
            yield stored
    else:
        with filesystem.open_input_stream(path, compression=None) as stored:
            yield decoded(stored, compression)


def _rows(stream: pa.NativeFile, file: InputFile, at_byte: int) -> Iterator[bytes]:
    rows = objects if file.has_lines_of_objects else lines
    return (row for _, _, row in rows(stream, at_byte))
