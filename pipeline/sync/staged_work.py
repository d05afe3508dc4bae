"""The work of a synchronisation: rows that are sent from staged shards, and files sent as they are.

A run that is started again stages the same rows in the same shards, and the units of these shards
are the same.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.sync.mirror import Mirror
from bulkembed.pipeline.sync.spool import Spool
from bulkembed.schemas.compared import InputSlice, StagedSlice
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import FileUnits, Unit
from bulkembed.transforms.core.ranges import (
    RowRange,
    merge_ranges,
    remaining_ranges,
    split_ranges,
)
from bulkembed.transforms.core.row_difference import Places, RowTally
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.sync.row_reading import FILE_BITS, by_file
from bulkembed.transforms.sync.shards import (
    are_ranges,
    staged_names,
    tables_of,
    write_shards,
)


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
        if are_ranges(rows, remaining):
            whole.append(_units(file, remaining, unit_rows))
        else:
            some.append((number << FILE_BITS) + rows)
    wanted = np.concatenate([np.empty(0, np.int64), *some])
    staged = write_shards(dataset, uri, _tables(job, mirror.files, wanted, spool))
    return _planned(job, mirror.found.tally, whole, staged, covered, unit_rows)


def _planned(
    job: JobConfig,
    tally: RowTally,
    whole: Sequence[FileUnits],
    staged: Iterable[InputFile],
    covered: Mapping[str, Sequence[RowRange]],
    unit_rows: int,
) -> SyncWork:
    shards = [
        # A unit of an earlier run may have the same rows of the same shard, which failed.
        dataclasses.replace(file, reading=job.run_id) if file.key in covered else file
        for file in staged
    ]
    work = [*whole, *(_units(file, [(0, file.rows)], unit_rows) for file in shards)]
    plan = Plan(tuple(work), tally.unchanged + tally.to_send, tally.to_send, unit_rows)
    return SyncWork(plan, tuple(file.name for file in shards))


def work_of_slices(
    job: JobConfig,
    mirror: Mirror,
    slices: Iterable[tuple[InputSlice, StagedSlice]],
    state: DatasetState,
    unit_rows: int,
) -> SyncWork:
    """Plan the rows to send that workers have staged.

    Args:
        job: the run.
        mirror: the rows to send.
        slices: the slices with rows to send, and what was staged of each, in their order.
        state: the committed units.
        unit_rows: maximum rows of a unit.
    """
    ranges: dict[int, list[RowRange]] = collections.defaultdict(list)
    shards: list[InputFile] = []
    for one, staged in slices:
        shards += staged.shards
        for position in staged.whole:
            ranges[one.pieces[position].number] += one.pieces[position].remaining
    whole = [
        _units(mirror.files[number], merge_ranges(found), unit_rows)
        for number, found in sorted(ranges.items())
    ]
    covered = state.covered()
    return _planned(job, mirror.found.tally, whole, shards, covered, unit_rows)


def delete_other_shards(dataset: Dataset, shards: Collection[str] = ()) -> None:
    """Delete the shards of earlier runs, except for some."""
    dataset.delete(name for name in staged_names(dataset) if name not in shards)


def _units(file: InputFile, ranges: Sequence[RowRange], unit_rows: int) -> FileUnits:
    return FileUnits(file, tuple(Unit(file.key, *rows) for rows in split_ranges(ranges, unit_rows)))


def _tables(
    job: JobConfig, files: Sequence[InputFile], places: Places, spool: Spool
) -> Iterator[pa.Table]:
    """Yield the rows at ascending places of the input, as they are staged."""
    is_missing = np.ones(len(places), bool)
    for found, table in spool.read(places):
        is_missing[np.searchsorted(places, found)] = False
        yield table
    for number, rows in by_file(places[is_missing]):
        yield from tables_of(files[number], rows, job)
