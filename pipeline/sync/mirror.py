"""The difference between the input and a synchronised dataset, found in bounded memory.

The keys of all rows are spread over partitions on disk by their ids, and one partition at a time is
compared.  Nothing is kept of an unchanged row.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkembed.pipeline.logs import log
from bulkembed.pipeline.sync.compared_rows import (
    LETTER_COLUMNS,
    Comparison,
    Rows,
    input_rows,
    letter_rows,
    vector_rows,
)
from bulkembed.pipeline.sync.spool import Spool
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.units import PartsRecord, UnitRecord
from bulkembed.transforms.core.ranges import split_ranges
from bulkembed.transforms.core.row_difference import (
    COMMITTED_ROW,
    INPUT_ROW,
    Places,
    RowDifference,
    difference,
)
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import READ_THREADS, Dataset
from bulkembed.transforms.dataset.partitioned_rows import PartitionedRows, partitions_for
from bulkembed.transforms.dataset.records import RecordParts
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch

FILE_BITS = 32
"""A place is the number of a file or part, and in its last 32 bits the number of a row in it."""
READ_ROWS = 4096
"""Rows in memory at a time, of a file or part."""
_ROW_MASK = (1 << FILE_BITS) - 1
_GENERATIONS = 1 << 16


@dataclasses.dataclass(frozen=True, slots=True)
class CommittedPart:
    """A part of a dataset, with the first row that it has among those of its record."""

    record: int
    """The position of its record among those of the state."""
    name: str
    is_letters: bool


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Mirror:
    """What is missing until a dataset equals the input."""

    files: tuple[InputFile, ...]
    records: tuple[PartsRecord, ...]
    parts: tuple[CommittedPart, ...]
    found: RowDifference

    def to_remove(self) -> Iterator[tuple[PartsRecord, dict[str, npt.NDArray[np.int64]]]]:
        """Yield the records with rows to remove, and the rows of each of their parts."""
        current = -1
        parts: dict[str, npt.NDArray[np.int64]] = {}
        for number, rows in by_file(self.found.remove):
            part = self.parts[number]
            if part.record != current and parts:
                yield self.records[current], parts
                parts = {}
            current = part.record
            parts[part.name] = rows
        if parts:
            yield self.records[current], parts


def by_file(places: Places) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield the number of each file, and the rows of it, of ascending places."""
    numbers = places >> FILE_BITS
    bounds = [*np.flatnonzero(np.diff(numbers, prepend=-1)), len(places)]
    for start, end in itertools.pairwise(bounds):
        yield int(numbers[start]), places[start:end] & _ROW_MASK


def compare(
    dataset: Dataset,
    compared: Comparison,
    files: Sequence[InputFile],
    records: Iterable[PartsRecord],
    scratch: Path,
    *,
    spool: Spool | None = None,
    retry_failed: bool = False,
) -> Mirror:
    """Compare all rows of the input with all committed rows.

    Args:
        dataset: the dataset.
        compared: how texts are sent, and the columns.
        files: the input, in order.
        records: the commit records that have parts of their own.
        scratch: an existing folder on a local disk.
        spool: gets copies of rows to send, so that they need not be read again.
        retry_failed: whether dead letters that are not blank are to be sent again.

    Raises:
        InputError: a file cannot be read, or has changed since it was scanned.
        OutputError: a part cannot be read, or the disk is full.
    """
    records = tuple(records)
    rows = max(sum(file.rows for file in files), sum(map(_rows, records)))
    partitions = partitions_for(rows, INPUT_ROW.itemsize + COMMITTED_ROW.itemsize)
    with (
        PartitionedRows(scratch, INPUT_ROW, partitions, key="id_high") as wanted,
        PartitionedRows(scratch, COMMITTED_ROW, partitions, key="id_high") as committed,
    ):

        def add(found: Rows) -> None:
            committed.add(found)
            if spool is not None:
                spool.add_committed(found)

        parts = _add_committed(dataset, records, compared, add, retry_failed=retry_failed)
        for number, file in enumerate(files):
            for batch, file_rows in _of_file(file, number, compared):
                wanted.add(file_rows)
                if spool is not None:
                    spool.add(batch, file.name, file_rows)
        found = RowDifference.joined(
            [difference(wanted.read(n), committed.read(n)) for n in range(partitions)]
        )
    return Mirror(tuple(files), records, parts, found)


def _of_file(file: InputFile, number: int, compared: Comparison) -> Iterator[tuple[RowBatch, Rows]]:
    ranges = list(split_ranges([(0, file.rows)] if file.rows else [], READ_ROWS))
    filesystem = open_found(file.found)
    batches = read_batches(filesystem, file, compared.read, compared.schema, ranges)
    warned: set[str] = set()
    for batch in batches:
        for name in sorted(batch.unkept - warned):
            warned.add(name)
            kind = compared.schema.field(name).type
            log.warning("column %r: values that cannot be written as %s are null", name, kind)
        yield batch, input_rows(batch, (number << FILE_BITS) + batch.first_row, compared)


def _rows(record: PartsRecord) -> int:
    units = (record,) if isinstance(record, UnitRecord) else record.members
    return sum(unit.unit.rows for unit in units)


def _add_committed(
    dataset: Dataset,
    records: Sequence[PartsRecord],
    compared: Comparison,
    add_rows: Callable[[Rows], None],
    *,
    retry_failed: bool,
) -> tuple[CommittedPart, ...]:
    """Add the keys of all committed rows, in several threads; return the parts by their numbers."""
    threads = READ_THREADS if dataset.is_on_a_store else min(READ_THREADS, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        named = list(pool.map(dataset.parts_of, records))
        parts = tuple(_parts(named))

        def add(number: int) -> None:
            part = parts[number]
            record = records[part.record]
            age = record.run_number * _GENERATIONS + min(record.generation, _GENERATIONS - 1)
            place = number << FILE_BITS
            for table in _tables(dataset, part, compared):
                if part.is_letters:
                    found = letter_rows(table, place, age, retried=retry_failed)
                else:
                    found = vector_rows(table, place, age, compared)
                add_rows(found)
                place += table.num_rows

        for _ in pool.map(add, range(len(parts))):
            pass
    return parts


def _parts(named: Sequence[RecordParts]) -> Iterator[CommittedPart]:
    for number, parts in enumerate(named):
        for name in parts.vectors:
            yield CommittedPart(number, name, is_letters=False)
        for name in parts.dead_letters:
            yield CommittedPart(number, name, is_letters=True)


def _tables(dataset: Dataset, part: CommittedPart, compared: Comparison) -> Iterator[pa.Table]:
    """Yield the compared columns of a part, with all passages of a row in one table."""
    columns = list(LETTER_COLUMNS) if part.is_letters else compared.vector_columns
    opened = part_files.open_part(dataset, part.name)
    blocks = part_files.read_blocks(opened, part.name, columns, READ_ROWS)
    if part.is_letters or not compared.embedding.rows_are_passages:
        for block in blocks:
            yield pa.Table.from_batches([block]).select(columns)
        return
    rest: list[pa.Table] = []
    for block in blocks:
        table = pa.concat_tables([*rest, pa.Table.from_batches([block]).select(columns)])
        starts = np.flatnonzero(table["passage"].to_numpy() == 0)
        last = int(starts[-1]) if len(starts) else 0
        if last:
            yield table.slice(0, last)
        rest = [table.slice(last)]
    yield from rest
