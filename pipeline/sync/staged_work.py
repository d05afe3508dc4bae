"""The work of a synchronisation: rows that are sent from staged shards, and files sent as they are.

A staged shard is named by its content.  So a run that is started again stages the same rows in the
same shards, and the units of these shards are the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.sync.mirror import FILE_BITS, Mirror, by_file
from bulkembed.pipeline.sync.spool import Spool
from bulkembed.schemas.inputs import FoundFile, InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import FileUnits, Unit
from bulkembed.transforms.core.file_names import readable_name
from bulkembed.transforms.core.ranges import RowRange, remaining_ranges, split_ranges
from bulkembed.transforms.core.row_difference import Places
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import PART_SUFFIX, STAGED
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.inputs import formats
from bulkembed.transforms.inputs.filesystems import locate, open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.inputs.staged_rows import staged_table, write_staged

SHARD_ROWS = 50_000
SHARD_BYTES = 32 << 20
"""The size of a shard in memory, if it has several batches."""
WINDOW_ROWS = 2500
"""Rows that are read together if one of them is wanted."""
_DIGEST_BYTES = 16


@dataclasses.dataclass(frozen=True, slots=True)
class SyncWork:
    """The plan of a synchronisation, and its shards."""

    plan: Plan
    shards: tuple[str, ...]
    """The names of the staged shards within the dataset."""


def make_work(
    dataset: Dataset,
    uri: str,
    job: JobConfig,
    mirror: Mirror,
    spool: Spool,
    state: DatasetState,
    unit_rows: int,
) -> SyncWork:
    """Plan the rows to send, and stage those that are not all remaining rows of their file.

    A file all of whose rows are to be sent is read as it is, except for rows that units of it
    cover already.

    Args:
        dataset: where the shards are written.
        uri: its path or URI.
        job: the columns of the output.
        mirror: the rows to send.
        spool: has copies of most of them.
        state: the committed units.
        unit_rows: maximum rows of a unit.

    Raises:
        InputError: a file cannot be read, or has changed since it was scanned.
        OutputError: a shard cannot be written.
    """
    covered = state.covered()
    whole: list[FileUnits] = []
    some = []
    for number, rows in by_file(mirror.found.send):
        file = mirror.files[number]
        remaining = remaining_ranges(file.rows, covered.get(file.key, ()))
        if _are(rows, remaining):
            whole.append(_units(file, remaining, unit_rows))
        else:
            some.append((number << FILE_BITS) + rows)
    wanted = np.concatenate([np.empty(0, np.int64), *some])
    staged = [
        # A unit of an earlier run may have the same rows of the same shard, which failed.
        dataclasses.replace(file, reading=job.run_id) if file.key in covered else file
        for file in _Stager(dataset, uri, job, mirror).stage(wanted, spool)
    ]
    work = whole + [_units(file, [(0, file.rows)], unit_rows) for file in staged]
    tally = mirror.found.tally
    plan = Plan(tuple(work), tally.unchanged + tally.to_send, tally.to_send)
    return SyncWork(plan, tuple(file.name for file in staged))


def delete_other_shards(dataset: Dataset, shards: Sequence[str] = ()) -> None:
    """Delete the shards of earlier runs, except for some."""
    names = (f"{STAGED}/{name}" for name in dataset.names(STAGED))
    dataset.delete([name for name in names if name not in shards])


def _are(rows: npt.NDArray[np.int64], ranges: Sequence[RowRange]) -> bool:
    """Return whether ascending rows are those of some ranges."""
    if len(rows) != sum(count for _, count in ranges):
        return False
    bounds = np.array([(first, first + count) for first, count in ranges])
    found = np.searchsorted(rows, bounds)
    return bool((found[:, 1] - found[:, 0] == bounds[:, 1] - bounds[:, 0]).all())


def _units(file: InputFile, ranges: Sequence[RowRange], unit_rows: int) -> FileUnits:
    return FileUnits(file, tuple(Unit(file.key, *rows) for rows in split_ranges(ranges, unit_rows)))


class _Stager:
    """Writes rows of input files as shards, each once."""

    def __init__(self, dataset: Dataset, uri: str, job: JobConfig, mirror: Mirror) -> None:
        self._dataset = dataset
        self._files = mirror.files
        self._job = job
        self._location = locate(uri)
        self._pending: list[pa.Table] = []

    def stage(self, places: Places, spool: Spool) -> Iterator[InputFile]:
        """Write the rows at ascending places of the input; yield the shards."""
        if not len(places):
            return
        existing = {f"{STAGED}/{name}" for name in self._dataset.names(STAGED)}
        for table in self._tables(places, spool):
            if self._is_full(table):
                yield self._write(existing)
            self._pending.append(table)
        if self._pending:
            yield self._write(existing)

    def _tables(self, places: Places, spool: Spool) -> Iterator[pa.Table]:
        is_missing = np.ones(len(places), bool)
        for found, table in spool.read(places):
            is_missing[np.searchsorted(places, found)] = False
            yield table
        for number, rows in by_file(places[is_missing]):
            file = self._files[number]
            for batch in self._read(file, rows):
                yield staged_table(batch, file.name)

    def _read(self, file: InputFile, rows: npt.NDArray[np.int64]) -> Iterator[RowBatch]:
        ranges = list(_windows(rows, file.rows))
        job, filesystem = self._job, open_found(file.found)
        for batch in read_batches(filesystem, file, job.columns, job.row_schema, ranges):
            low, high = np.searchsorted(rows, [batch.first_row, batch.first_row + batch.rows])
            yield batch.take((rows[low:high] - batch.first_row).tolist(), file.name)

    def _is_full(self, following: pa.Table) -> bool:
        rows = sum(table.num_rows for table in self._pending)
        size = sum(table.nbytes for table in self._pending)
        return bool(self._pending) and (
            rows + following.num_rows > SHARD_ROWS or size + following.nbytes > SHARD_BYTES
        )

    def _write(self, existing: set[str]) -> InputFile:
        table = pa.concat_tables(self._pending)
        self._pending.clear()
        sink = pa.BufferOutputStream()
        write_staged(table, sink)
        data = sink.getvalue()
        digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
        name = f"{STAGED}/{digest}{PART_SUFFIX}"
        if name not in existing:
            self._dataset.write(name, data)
        path = self._dataset.path(name)
        found = FoundFile(
            path=readable_name(path) if self._location.is_local else path,
            name=name,
            size_bytes=data.size,
            mtime_ns=0,
            format=formats.STAGED,
            store=self._location.store,
        )
        return InputFile(found, digest, table.num_rows)


def _windows(rows: npt.NDArray[np.int64], file_rows: int) -> Iterator[RowRange]:
    """Yield ranges with all of some ascending rows."""
    at = 0
    while at < len(rows):
        first = int(rows[at])
        end = min(first + WINDOW_ROWS, file_rows)
        at = int(np.searchsorted(rows, end))
        yield first, int(rows[at - 1]) + 1 - first
