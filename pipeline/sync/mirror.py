"""The difference between the input and a synchronised dataset, found in bounded memory.

The keys of all rows are spread over partitions on disk by their ids, and one partition at a time is
compared. Nothing is kept of an unchanged row.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bulkembed.pipeline.sync.spool import Spool
from bulkembed.schemas.compared import CommittedPart
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.units import PartsRecord, UnitRecord
from bulkembed.transforms.core.row_difference import (
    COMMITTED_ROW,
    INPUT_ROW,
    RowDifference,
    difference,
)
from bulkembed.transforms.dataset.dataset import READ_THREADS, Dataset
from bulkembed.transforms.dataset.partitioned_rows import PartitionedRows, partitions_for
from bulkembed.transforms.dataset.records import RecordParts
from bulkembed.transforms.sync.compared_rows import Comparison, Rows
from bulkembed.transforms.sync.media_reading import media_reader
from bulkembed.transforms.sync.row_reading import (
    by_file,
    read_committed_rows,
    read_input_rows,
)

_GENERATIONS = 1 << 16


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
    rows = max(sum(file.rows for file in files), sum(map(rows_of, records)))
    partitions = partitions_for(rows, INPUT_ROW.itemsize + COMMITTED_ROW.itemsize)
    with (
        PartitionedRows(scratch, INPUT_ROW, partitions, key="id_high") as wanted,
        PartitionedRows(scratch, COMMITTED_ROW, partitions, key="id_high") as committed,
    ):

        def add(found: Rows) -> None:
            committed.add(found)
            if spool is not None:
                spool.add_committed(found)

        parts = committed_parts(dataset, records)
        _add_committed(dataset, parts, compared, add, retry_failed=retry_failed)
        with media_reader(compared) as media:
            for number, file in enumerate(files):
                rows_of_file = (0, file.rows)
                for batch, found in read_input_rows(file, number, rows_of_file, compared, media):
                    wanted.add(found)
                    if spool is not None:
                        spool.add(batch, file.name, found)
        between = RowDifference.joined(
            [difference(wanted.read(n), committed.read(n)) for n in range(partitions)]
        )
    return Mirror(tuple(files), records, parts, between)


def rows_of(record: PartsRecord) -> int:
    """Return the input rows of a unit or group."""
    units = (record,) if isinstance(record, UnitRecord) else record.members
    return sum(unit.unit.rows for unit in units)


def committed_parts(dataset: Dataset, records: Sequence[PartsRecord]) -> tuple[CommittedPart, ...]:
    """Return the parts of commit records in their order.

    Raises:
        OutputError: a record that has to be opened is missing or damaged.
    """
    sizes = dataset.part_sizes() if records and dataset.is_on_a_store else {}
    with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
        return tuple(_numbered(records, pool.map(dataset.parts_of, records), sizes))


def _numbered(
    records: Sequence[PartsRecord], named: Iterable[RecordParts], sizes: Mapping[str, int]
) -> Iterator[CommittedPart]:
    numbers = itertools.count()
    for position, (record, parts) in enumerate(zip(records, named, strict=True)):
        age = record.run_number * _GENERATIONS + min(record.generation, _GENERATIONS - 1)
        rows = rows_of(record)
        for name in parts.vectors:
            size = sizes.get(name)
            yield CommittedPart(next(numbers), position, name, False, age, rows, size)
        for name in parts.dead_letters:
            size = sizes.get(name)
            yield CommittedPart(next(numbers), position, name, True, age, rows, size)


def _add_committed(
    dataset: Dataset,
    parts: Sequence[CommittedPart],
    compared: Comparison,
    add_rows: Callable[[Rows], None],
    *,
    retry_failed: bool,
) -> None:
    """Add the keys of all committed rows, in several threads."""

    def add(part: CommittedPart) -> None:
        for rows in read_committed_rows(dataset, part, compared, retried=retry_failed):
            add_rows(rows)

    threads = READ_THREADS if dataset.is_on_a_store else min(READ_THREADS, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(add, parts):
            pass
