"""Rebuilds a commit record from the parts that it named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.verify.expected import Expected
from pipeline.verify.part_check import PartReport, check_part
from schemas.deadletters import DeadCode
from schemas.errors import OutputError
from schemas.units import Unit, UnitRecord
from transforms.storage import part_reader
from transforms.storage.dataset import DEAD_LETTERS, VECTORS, Dataset
from transforms.storage.id_count import IdCount
from transforms.storage.part_files import place_of_part


def record_from_parts(
    dataset: Dataset, expected: Expected, unit: Unit, parts: Sequence[str]
) -> UnitRecord | None:
    """Return the record of a unit, made from its parts; None unless all are there and whole.

    What the calls came to is lost with the record.

    Args:
        dataset: whose parts they are.
        expected: what parts must look like.
        unit: the rows that the parts' names say.
        parts: names within the dataset, of all generations.
    """
    vectors = sorted((p for p in parts if p.startswith(f"{VECTORS}/")), key=place_of_part)
    dead = sorted((p for p in parts if p.startswith(f"{DEAD_LETTERS}/")), key=place_of_part)
    run_number, generation = max(map(place_of_part, parts))
    for some in (vectors, [p for p in vectors if place_of_part(p) == (run_number, generation)]):
        named = UnitRecord(
            unit, unit.rows, 0, 0, generation,
            source_file=_source_file(dataset, parts),
            run_number=run_number,
            embedding_digest=expected.digest if run_number else "",
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
    ids = IdCount()
    with_vectors = [check_part(dataset, name, expected.vectors, named, ids) for name in vectors]
    without = [check_part(dataset, name, expected.dead_letters, named, ids) for name in dead]
    reports = [*with_vectors, *without]
    if any(report.findings or report.rows is None for report in reports):
        return None
    if not _each_once(named.unit, reports):
        return None
    codes = {DeadCode(code): rows for report in without for code, rows in report.codes.items()}
    skipped = sum(rows for code, rows in codes.items() if code.is_skip)
    lost = sum(codes.values())
    return UnitRecord(
        named.unit, named.unit.rows - lost, lost - skipped, skipped, named.generation,
        source_file=named.source_file,
        codes=tuple(sorted(codes.items())),
        vector_parts=tuple(name.rpartition("/")[2] for name in vectors),
        dead_part=dead[0].rpartition("/")[2] if dead else None,
        vectors=sum(report.count for report in with_vectors),
        part_bytes=dataset.size_of(dataset.sized_parts(named, [*vectors, *dead])),
        run_number=named.run_number,
        embedding_digest=named.embedding_digest,
    )  # fmt: skip


def _each_once(unit: Unit, reports: Sequence[PartReport]) -> bool:
    """Whether the parts have each row of the unit, and none twice."""
    rows = [report.rows for report in reports if report.rows is not None]
    found = np.sort(np.concatenate([np.empty(0, np.int64), *rows]))
    return np.array_equal(found, np.arange(unit.first_row, unit.end_row))


def _source_file(dataset: Dataset, parts: Sequence[str]) -> str:
    for name in parts:
        try:
            part = part_reader.open_part(dataset, name)
            for block in part_reader.read_blocks(part, name, ["source_file"]):
                if block.num_rows:
                    return str(block.column("source_file")[0].as_py())
        except OutputError:
            continue
    return ""
