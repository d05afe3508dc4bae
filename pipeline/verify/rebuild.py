"""Commit records rebuilt from the parts that they named."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from bulkembed.pipeline.verify.unit_check import Expected, PartReport, check_part, check_unit
from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.units import GroupRecord, PartSpan, Unit, UnitRecord
from bulkembed.transforms.core.ranges import intersections
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.duplicate_ids import DuplicateIds
from bulkembed.transforms.dataset.groups import from_footer, with_members
from bulkembed.transforms.dataset.layout import DEAD_LETTERS, VECTORS, age_of_part, partition_of
from bulkembed.transforms.dataset.records import DatasetState, RecordParts


def record_from_parts(
    dataset: Dataset, expected: Expected, unit: Unit, parts: Sequence[str]
) -> UnitRecord | None:
    """Return the record of a unit, rebuilt from its parts; None if a part is missing or damaged.

    The counts of requests and tokens cannot be rebuilt.

    Args:
        dataset: the dataset of the parts.
        expected: the expected parts.
        unit: the rows that the parts' names state.
        parts: names within the dataset, of all generations.
    """
    vectors = sorted((p for p in parts if p.startswith(f"{VECTORS}/")), key=age_of_part)
    dead = sorted((p for p in parts if p.startswith(f"{DEAD_LETTERS}/")), key=age_of_part)
    run_number, generation = max(map(age_of_part, parts))
    newest = [part for part in vectors if age_of_part(part) == (run_number, generation)]
    of_partitions = {partition_of(part): part for part in vectors}
    for some in (vectors, newest, list(of_partitions.values())):
        named = UnitRecord(
            unit, unit.rows, 0, 0, generation,
            source_file=_source_file(dataset, parts),
            run_number=run_number,
            embedding_digest=expected.digest if run_number else "",
            is_partitioned=expected.vectors.partition_by is not None,
        )  # fmt: skip
        record = _record(dataset, expected, named, some, dead[-1:])
        if record is not None:
            return record
    return None


def _record(
    dataset: Dataset,
    expected: Expected,
    named: UnitRecord,
    vectors: Sequence[str],
    dead: Sequence[str],
) -> UnitRecord | None:
    ids = DuplicateIds()
    with_vectors = [check_part(dataset, name, expected.vectors, named, ids) for name in vectors]
    without = [check_part(dataset, name, expected.dead_letters, named, ids) for name in dead]
    reports = [*with_vectors, *without]
    if any(report.findings or report.rows is None for report in reports):
        return None
    removed = max(report.removed for report in reports)
    if not _each_once(named.unit, reports, removed, expected):
        return None
    codes = {DeadCode(code): rows for report in without for code, rows in report.codes.items()}
    skipped = sum(rows for code, rows in codes.items() if code.is_skip)
    lost = sum(codes.values())
    return UnitRecord(
        named.unit, named.unit.rows - lost - removed, lost - skipped, skipped, named.generation,
        source_file=named.source_file,
        codes=tuple(sorted(codes.items())),
        vector_parts=tuple(name.removeprefix(f"{VECTORS}/") for name in vectors),
        dead_part=dead[0].removeprefix(f"{DEAD_LETTERS}/") if dead else None,
        is_partitioned=named.is_partitioned,
        part_rows=tuple(one.count for one in with_vectors) if named.is_partitioned else (),
        vectors=sum(report.count for report in with_vectors),
        part_bytes=dataset.size_of(dataset.sized_parts(named, [*vectors, *dead])),
        run_number=named.run_number,
        embedding_digest=named.embedding_digest,
        removed=removed,
    )  # fmt: skip


def _each_once(unit: Unit, reports: Sequence[PartReport], removed: int, expected: Expected) -> bool:
    """Return whether the parts have each row of the unit once, except for removed ones.

    In a synchronised dataset rows of a unit can have equal numbers, so they are only counted.
    """
    rows = [report.rows for report in reports if report.rows is not None]
    found = np.concatenate([np.empty(0, np.int64), *rows])
    distinct = np.unique(found)  # `check_part` has found that all are rows of the unit.
    count = len(found) if expected.vectors.names_sources else len(distinct)
    return count == len(found) == unit.rows - removed


def _source_file(dataset: Dataset, parts: Sequence[str]) -> str:
    for name in parts:
        try:
            part = part_files.open_part(dataset, name)
            for block in part_files.read_blocks(part, name, ["source_file"]):
                if block.num_rows:
                    return str(block.column("source_file")[0].as_py())
        except OutputError:
            continue
    return ""


def group_from_parts(
    dataset: Dataset, expected: Expected, state: DatasetState, parts: Sequence[str]
) -> GroupRecord | None:
    """Return the record of a group, rebuilt from the footer of a part.

    None if a part is missing or damaged, or if rows of the group are committed otherwise.

    Args:
        dataset: the dataset of the parts.
        expected: the expected parts.
        state: the records that count.
        parts: names within the dataset, all of one group.
    """
    try:
        metadata = part_files.open_part(dataset, parts[0]).schema_arrow.metadata or {}
    except OutputError:
        return None
    found = from_footer(metadata)
    if found is None or found.key in {other.key for other in state.groups}:
        return None
    covered = state.covered()
    for member in found.members:
        rows = member.unit.first_row, member.unit.rows
        if list(intersections(rows, covered.get(member.unit.file_key, ()))):
            return None
    sized = dataclasses.replace(found, part_bytes=dataset.size_of(parts))
    group = with_members(sized, found.members)
    if set(RecordParts.of(group).all) != set(parts):
        return None
    return None if check_unit(dataset, expected, group, DuplicateIds()).findings else group


def unreadable_units(dataset: Dataset, group: GroupRecord) -> frozenset[Unit] | None:
    """Return the units with rows in row groups that cannot be read; None if a part is lost."""
    found: set[Unit] = set()
    parts = RecordParts.of(group)
    for name in parts.all:
        try:
            part = part_files.open_part(dataset, name)
        except OutputError:
            return None
        first = 0
        for number in range(part.num_row_groups):
            end = first + part.metadata.row_group(number).num_rows
            try:
                table = part_files.read_row_group(part, name, number, part.schema_arrow.names)
                table.validate(full=True)
            except (OutputError, pa.ArrowInvalid):
                found.update(_units_between(group, name, first, end))
            first = end
    return frozenset(found)


def _units_between(group: GroupRecord, name: str, first: int, end: int) -> Iterator[Unit]:
    """Yield the units with rows between two rows of a part of their group."""
    for member in group.members:
        assert member.place is not None  # It is of a group.
        spans = [span for span in member.spans() if f"{VECTORS}/{span.name}" == name]
        if name == f"{DEAD_LETTERS}/{member.dead_part}":
            lost = member.dead + member.skipped
            spans = [PartSpan(name, member.place.first_dead, lost)]
        if any(begin < end and first < begin + rows for _, begin, rows in spans):
            yield member.unit
