"""Staged shards: files in `_run/staged/` with the rows of the input that are to be sent.

A shard is named by its content. So whoever stages the same rows again writes the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkembed.schemas.compared import InputSlice, StagedSlice
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.inputs import FoundFile, InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.serialization import from_plain, to_plain
from bulkembed.schemas.stop import RERUN
from bulkembed.transforms.core.file_names import readable_name
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.core.row_difference import Places
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import COMPARED, PART_SUFFIX, STAGED
from bulkembed.transforms.inputs import formats
from bulkembed.transforms.inputs.filesystems import locate, open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.staged_rows import staged_table, write_staged
from bulkembed.transforms.sync.row_reading import FILE_BITS
from bulkembed.transforms.units.media_units import media_root, windows
from bulkembed.transforms.units.source_hashes import with_files

SHARD_ROWS = 50_000
SHARD_BYTES = 32 << 20
"""The size of a shard in memory, if it has several batches."""
WINDOW_ROWS = 2500
"""Rows that are read together if one of them is wanted."""
_DIGEST_BYTES = 16


def staged_names(dataset: Dataset) -> set[str]:
    """Return the names of the shards in a dataset."""
    return {f"{STAGED}/{name}" for name in dataset.names(STAGED)}


def write_shards(dataset: Dataset, uri: str, tables: Iterable[pa.Table]) -> Iterator[InputFile]:
    """Write rows as shards, each once; yield the shards, of which at least one row each.

    Args:
        dataset: where they are written.
        uri: its path or URI.
        tables: the rows, see `staged_rows.staged_table`.

    Raises:
        OutputError: a shard cannot be written.
    """
    existing: set[str] | None = None
    pending: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        table_bytes: int = table.nbytes
        is_full = rows + table.num_rows > SHARD_ROWS or size + table_bytes > SHARD_BYTES
        if pending and is_full:
            existing = staged_names(dataset) if existing is None else existing
            yield _write(dataset, uri, pending, existing)
            pending.clear()
            rows = size = 0
        pending.append(table)
        # Counted here: a shard may have a table for each row, if few rows are to be sent.
        rows += table.num_rows
        size += table_bytes
    if pending:
        existing = staged_names(dataset) if existing is None else existing
        yield _write(dataset, uri, pending, existing)


def _write(dataset: Dataset, uri: str, tables: Sequence[pa.Table], existing: set[str]) -> InputFile:
    table = pa.concat_tables(tables)
    sink = pa.BufferOutputStream()
    write_staged(table, sink)
    data = sink.getvalue()
    digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
    name = f"{STAGED}/{digest}{PART_SUFFIX}"
    if name not in existing:
        dataset.write(name, data)
    path, location = dataset.path(name), locate(uri)
    found = FoundFile(
        path=readable_name(path) if location.is_local else path,
        name=name,
        size_bytes=data.size,
        mtime_ns=0,
        format=formats.STAGED,
        store=location.store,
    )
    return InputFile(found, digest, table.num_rows)


def tables_of(file: InputFile, rows: npt.NDArray[np.int64], job: JobConfig) -> Iterator[pa.Table]:
    """Yield ascending rows of an input file, as they are staged.

    Raises:
        InputError: the file cannot be read, or has changed since it was scanned.
    """
    ranges = list(_windows(rows, file.rows))
    if job.columns.content:
        ranges = windows(file, ranges)
    for batch in read_batches(open_found(file.found), file, job.columns, job.row_schema, ranges):
        low, high = np.searchsorted(rows, [batch.first_row, batch.first_row + batch.rows])
        wanted = batch.take((rows[low:high] - batch.first_row).tolist(), file.name)
        if wanted.parts is not None:
            wanted = with_files(wanted, file.name, media_root(job.media_root, file.found))
        yield staged_table(wanted, file.name)


def _windows(rows: npt.NDArray[np.int64], file_rows: int) -> Iterator[RowRange]:
    """Yield ranges with all of some ascending rows."""
    at = 0
    while at < len(rows):
        first = int(rows[at])
        end = min(first + WINDOW_ROWS, file_rows)
        at = int(np.searchsorted(rows, end))
        yield first, int(rows[at - 1]) + 1 - first


def stage_slice(
    dataset: Dataset,
    uri: str,
    input_slice: InputSlice,
    places: Places,
    job: JobConfig,
) -> StagedSlice:
    """Stage the rows of a slice that are to be sent.

    Args:
        dataset: where the shards are written.
        uri: its path or URI.
        input_slice: the slice.
        places: the places of the rows to send, ascending.
        job: which columns are read, and the output's.

    Raises:
        InputError: a file cannot be read, or has changed since it was scanned.
        OutputError: a shard cannot be written.
    """
    whole = []
    some: list[tuple[InputFile, npt.NDArray[np.int64]]] = []
    for position, piece in enumerate(input_slice.pieces):
        begin = (piece.number << FILE_BITS) + piece.first_row
        low, high = np.searchsorted(places, [begin, begin + piece.rows])
        rows = places[low:high] - (piece.number << FILE_BITS)
        if not len(rows):
            continue
        if are_ranges(rows, piece.remaining):
            whole.append(position)
        else:
            some.append((piece.file, rows))
    tables = (table for file, rows in some for table in tables_of(file, rows, job))
    return StagedSlice(tuple(write_shards(dataset, uri, tables)), tuple(whole))


def are_ranges(rows: npt.NDArray[np.int64], ranges: Sequence[RowRange]) -> bool:
    """Return whether ascending rows are those of some ranges."""
    if len(rows) != sum(count for _, count in ranges):
        return False
    bounds = np.array([(first, first + count) for first, count in ranges])
    found = np.searchsorted(rows, bounds)
    return bool((found[:, 1] - found[:, 0] == bounds[:, 1] - bounds[:, 0]).all())


def write_staged_slice(dataset: Dataset, run_id: str, number: int, staged: StagedSlice) -> None:
    """Note what was staged of a slice, for the launcher.

    Raises:
        OutputError: the note cannot be written.
    """
    dataset.write_json(_note(run_id, number), to_plain(staged))


def read_staged_slice(dataset: Dataset, run_id: str, number: int) -> StagedSlice:
    """Return what a worker has staged of a slice.

    Raises:
        OutputError: the note is missing or damaged.
    """
    name = _note(run_id, number)
    content = dataset.read_json(name)
    if content is None:
        raise OutputError(f"{dataset.path(name)} is missing. {RERUN}", missing=True)
    try:
        return from_plain(content, StagedSlice)
    except ValueError as error:
        raise dataset.damaged_file(name, str(error)) from None


def _note(run_id: str, number: int) -> str:
    return f"{COMPARED}/{run_id}-staged-{number:06}.json"
