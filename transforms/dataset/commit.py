"""Commit a unit or a group of units: write its parts, then the record that makes them count."""

from __future__ import annotations

import concurrent.futures
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from bulkembed.schemas.errors import OutputTaken
from bulkembed.schemas.job import OutputConfig
from bulkembed.schemas.units import GroupRecord, PartsRecord, UnitRecord
from bulkembed.transforms.dataset import partitions
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.groups import group_key, to_footer, with_members
from bulkembed.transforms.dataset.layout import (
    DEAD_LETTERS,
    UNITS,
    VECTORS,
    in_partition,
    part_name,
    record_name,
    short_name,
)
from bulkembed.transforms.dataset.part_files import part_writer
from bulkembed.transforms.dataset.records import RecordParts

WRITE_THREADS = 4
"""Parts of one unit that are written to a store at once."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class UnitTables:
    """The rows of a unit with vectors, and its dead letters; None if there are none."""

    vectors: pa.Table | None
    dead_letters: pa.Table | None


def commit_unit(
    dataset: Dataset,
    output: OutputConfig,
    record: UnitRecord,
    tables: UnitTables,
    replaces: UnitRecord | None = None,
    check_ownership: Callable[[], None] | None = None,
) -> UnitRecord:
    """Write the vectors, the dead letters, and then the record that makes both count.

    The record of an earlier generation, and its dead letters, are deleted last.

    Args:
        dataset: the dataset.
        output: how its vectors are written.
        record: the record without the names of its parts.
        tables: the rows of the unit.
        replaces: the record that a retry of dead letters replaces.
        check_ownership: raises OutputTaken if another run has taken over the dataset; called right
            before the record gets its name, and right after.

    Returns:
        The record, with the names of its parts.

    Raises:
        OutputError: a file cannot be written, and the unit is not committed.
        OutputTaken: another run has taken over the dataset, and this unit does not count; its
            files are deleted.
    """
    name = part_name(record)
    written: dict[str, int] = {}
    dead_part = None
    part_bytes = dataset.size_of(f"{VECTORS}/{part}" for part in record.vector_parts)
    if tables.vectors is not None and tables.vectors.num_rows:
        parts = partitions.split(tables.vectors, output.partition_by)
        for part, rows, size in _write_parts(dataset, output, name, parts):
            written[part] = rows
            part_bytes += size
    if tables.dead_letters is not None and tables.dead_letters.num_rows:
        part_bytes += dataset.write(f"{DEAD_LETTERS}/{name}", part_writer(tables.dead_letters))
        dead_part = name
    is_partitioned = output.partition_by is not None
    committed = dataclasses.replace(
        record,
        vector_parts=(*record.vector_parts, *written),
        is_partitioned=is_partitioned,
        part_rows=(*record.part_rows, *written.values()) if is_partitioned else (),
        dead_part=dead_part,
        part_bytes=part_bytes,
    )
    write_committed(dataset, committed, check_ownership)
    if replaces is not None:
        dead_letters = RecordParts.of(replaces).dead_letters
        dataset.delete([f"{UNITS}/{record_name(replaces)}", *dead_letters])
    return committed


def commit_group(
    dataset: Dataset,
    output: OutputConfig,
    records: Sequence[UnitRecord],
    tables: UnitTables,
    check_ownership: Callable[[], None] | None = None,
) -> tuple[UnitRecord, ...]:
    """Write the rows of several units as one part of each kind, and one record for all of them.

    In a partitioned dataset there is a part for each partition.

    Args:
        dataset: the dataset.
        output: how its vectors are written.
        records: the records of the units without the names of their parts, all of one run; two at
            least. None has failed rows, because those are retried unit by unit.
        tables: the rows of the units, in the order of the records.
        check_ownership: as in `commit_unit`.

    Returns:
        The records, each with its place in the parts.

    Raises:
        OutputError, OutputTaken: see `commit_unit`.
    """
    first = records[0]
    wanted = GroupRecord(
        group_key((record.unit for record in records), first.run_number),
        (),
        run_id=first.run_id,
        run_number=first.run_number,
        embedding_digest=first.embedding_digest,
    )
    vectors, members = tables.vectors, list(records)
    parts = [] if vectors is None else [("", vectors)]
    if output.partition_by is not None:
        members = [dataclasses.replace(record, is_partitioned=True) for record in records]
        if vectors is not None:
            parts, members = _partitioned(vectors, members, output.partition_by)
    footer = to_footer(with_members(wanted, members))
    name = part_name(wanted)
    stamped = [(folder, _with(table, footer)) for folder, table in parts]
    part_bytes = sum(size for _, _, size in _write_parts(dataset, output, name, stamped))
    if tables.dead_letters is not None:
        dead_letters = _with(tables.dead_letters, footer)
        part_bytes += dataset.write(f"{DEAD_LETTERS}/{name}", part_writer(dead_letters))
    group = with_members(dataclasses.replace(wanted, part_bytes=part_bytes), members)
    write_committed(dataset, group, check_ownership)
    return group.members


def _partitioned(
    table: pa.Table, records: Sequence[UnitRecord], column: str
) -> tuple[list[tuple[str, pa.Table]], list[UnitRecord]]:
    """Return the rows of each partition, and the records with how many of them each unit has."""
    numbers = np.repeat(np.arange(len(records)), [record.vectors for record in records])
    last = table.num_columns - 1
    parts: list[tuple[str, pa.Table]] = []
    rows_of: list[dict[str, int]] = [{} for _ in records]
    numbered = table.append_column("", pa.array(numbers))
    for folder, rows in partitions.split(numbered, column):
        counts = np.bincount(rows.column(last).to_numpy(), minlength=len(records))
        for unit in np.flatnonzero(counts).tolist():
            rows_of[unit][in_partition(folder, "")] = int(counts[unit])
        parts.append((folder, rows.remove_column(last)))
    pairs = zip(records, rows_of, strict=True)
    return parts, [record.in_parts(rows) for record, rows in pairs]


def _with(table: pa.Table, footer: dict[bytes, bytes]) -> pa.Table:
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **footer})


def _write_parts(
    dataset: Dataset, output: OutputConfig, name: str, parts: Iterable[tuple[str, pa.Table]]
) -> Iterator[tuple[str, int, int]]:
    """Write a part for each partition; yield its name, its rows and its bytes."""

    def write(part: tuple[str, pa.Table]) -> tuple[str, int, int]:
        folder, table = part
        full = in_partition(folder, name)
        size = dataset.write(f"{VECTORS}/{full}", part_writer(table, output.vector_encoding))
        return full, table.num_rows, size

    if not dataset.is_on_a_store or output.partition_by is None:
        yield from map(write, parts)
        return
    with concurrent.futures.ThreadPoolExecutor(WRITE_THREADS) as pool:
        yield from pool.map(write, parts)


def write_committed(
    dataset: Dataset, committed: PartsRecord, check_ownership: Callable[[], None] | None = None
) -> None:
    """Write a record whose parts are written; see `commit_unit` for errors."""
    try:
        dataset.write_record(committed, check_ownership)
        if check_ownership is not None:
            check_ownership()
    except OutputTaken:
        if not _counts_or_is_deleted(dataset, committed):
            raise


def _counts_or_is_deleted(dataset: Dataset, record: PartsRecord) -> bool:
    """Return whether a record counts although another run owns the dataset; else delete it.

    If it counts, the other run may have read it already and skip its rows. If records of the
    other run cover its rows, or overwrote them, it must go, because readers of the folder would
    read its parts.
    """
    name = record_name(record)
    state = dataset.state()
    units = [record] if isinstance(record, UnitRecord) else record.members
    rivals = {rival for one in units for rival in state.overlapping(one.unit)}
    if name in map(record_name, rivals):
        return True
    # A retry of the dead letters of this record names its vectors as well.
    named = {part for other in rivals for part in dataset.parts_of(other).all}
    own = [one for one in RecordParts.of(record).all if short_name(one) == part_name(record)]
    dataset.delete([f"{UNITS}/{name}", *(part for part in own if part not in named)])
    return False
