"""One unit: its commit record, its parts, and whether each of its rows is in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from pipeline.verify.expected import Expected
from pipeline.verify.part_check import PartReport, Rows, check_part
from schemas.errors import OutputError
from schemas.findings import Check, Finding
from schemas.units import UnitRecord
from transforms.storage.dataset import DEAD_LETTERS, UNITS, VECTORS, Dataset
from transforms.storage.id_count import IdCount
from transforms.storage.records import record_name


@dataclasses.dataclass(frozen=True, slots=True)
class UnitReport:
    """What was found of one unit."""

    findings: list[Finding]
    record: UnitRecord | None = None
    """The record with all that its file says; None where that is damaged."""
    vectors: int = 0
    """Rows in its vector parts, as far as these can be read."""
    dead_letters: int = 0


def check_unit(dataset: Dataset, expected: Expected, named: UnitRecord, ids: IdCount) -> UnitReport:
    """Holds a unit's parts against its record, and every row of it to one place.

    Args:
        dataset: where the unit is.
        expected: what parts must look like.
        named: the record, as far as its name tells.
        ids: takes the ids of all rows.
    """
    where = f"{UNITS}/{record_name(named)}"
    try:
        record = dataset.whole_record(named)
    except OutputError as error:
        return UnitReport([Finding(Check.RECORD, where, error.message)])
    vectors = [
        check_part(dataset, f"{VECTORS}/{part}", expected.vectors, record, ids)
        for part in record.vector_parts
    ]
    dead = [
        check_part(dataset, f"{DEAD_LETTERS}/{part}", expected.dead_letters, record, ids)
        for part in (record.dead_part,)
        if part is not None
    ]
    found = [finding for part in (*vectors, *dead) for finding in part.findings]
    found += _wrong_counts(where, record, vectors, dead)
    found += _wrong_rows(where, record, [*vectors, *dead])
    found += [] if found else _wrong_size(dataset, where, record)
    return UnitReport(found, record, _row_count(vectors), _row_count(dead))


def _row_count(parts: Sequence[PartReport]) -> int:
    return sum(part.count for part in parts if part.rows is not None)


def _wrong_counts(
    where: str, record: UnitRecord, vectors: Sequence[PartReport], dead: Sequence[PartReport]
) -> list[Finding]:
    found = []
    lost = record.dead + record.skipped
    for what, parts, said in (("vectors", vectors, record.vectors), ("dead letters", dead, lost)):
        there = _row_count(parts)
        if there != said and all(part.rows is not None for part in parts):
            message = f"{said:,} {what} by the record, {there:,} in its parts"
            found.append(Finding(Check.COUNT, where, message))
    codes = {str(code): rows for code, rows in record.codes}
    if dead and dead[0].rows is not None and len(dead[0].rows) == lost and dead[0].codes != codes:
        message = f"dead letters are {codes} by the record, {dict(dead[0].codes)} in its part"
        found.append(Finding(Check.COUNT, where, message))
    return found


def _wrong_size(dataset: Dataset, where: str, record: UnitRecord) -> list[Finding]:
    """Parts of another size than was committed: a run embeds their rows again."""
    if record.part_bytes is None:
        return []
    held = dataset.size_of(dataset.sized_parts(record, dataset.parts_of(record)))
    if held == record.part_bytes:
        return []
    message = f"its parts have {held:,} bytes, and {record.part_bytes:,} were committed"
    return [Finding(Check.COUNT, where, message)]


def _wrong_rows(where: str, record: UnitRecord, parts: Sequence[PartReport]) -> list[Finding]:
    """Rows of the unit that are twice there, or nowhere; what else is there, its part tells."""
    rows = [part.rows for part in parts if part.rows is not None]
    if len(rows) < len(parts):
        return []
    unit = record.unit
    offsets: Rows = np.concatenate([np.empty(0, np.int64), *rows]) - unit.first_row
    times = np.bincount(offsets[(offsets >= 0) & (offsets < unit.rows)], minlength=unit.rows)
    found = []
    for wrong, how in ((times == 0, "are nowhere"), (times > 1, "are there more than once")):
        at = np.flatnonzero(wrong)
        if len(at):
            row = unit.first_row + int(at[0])
            message = f"{len(at):,} rows of {record.source_file} {how}, first row {row}"
            found.append(Finding(Check.ROWS, where, message))
    return found
