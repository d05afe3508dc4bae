"""Ids that more than one row has, and where they stand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import OutputError
from schemas.findings import Check, Finding
from schemas.units import UnitRecord
from transforms.storage import part_reader
from transforms.storage.dataset import DEAD_LETTERS, VECTORS, Dataset
from transforms.storage.id_count import IdCount, names_of

Names = npt.NDArray[np.int64]
COLUMNS = ("id", "source_file", "source_row")
SHOWN = 10
"""Repeated ids that are named; the others are counted."""


def part_names(record: UnitRecord) -> list[str]:
    """The parts that a whole record names, as names within the dataset."""
    dead = [f"{DEAD_LETTERS}/{record.dead_part}"] if record.dead_part else []
    return [f"{VECTORS}/{part}" for part in record.vector_parts] + dead


def repeated_ids(
    dataset: Dataset, records: Sequence[UnitRecord], ids: IdCount
) -> Iterable[Finding]:
    """A finding for each of the first few ids that several rows have, and one for the rest.

    Args:
        dataset: whose parts are read again, if an id is repeated.
        records: of its units, whole.
        ids: of all their rows.
    """
    repeated = ids.repeated()
    if not len(repeated):
        return
    shown = np.unique(repeated)[:SHOWN]
    places: dict[object, list[str]] = {}
    for record in records:
        for name in part_names(record):
            for row in _rows_having(dataset, name, shown):
                place = f"row {row['source_row']} of {row['source_file']}"
                places.setdefault(row["id"], []).append(place)
    for one, rows in places.items():
        yield Finding(Check.ID, f"id {one!r}", f"{len(rows):,} rows have it: {_listed(rows)}")
    others = len(np.unique(repeated)) - len(shown)
    if others:
        yield Finding(Check.ID, "other ids", f"{others:,} more are there more than once")


def _rows_having(dataset: Dataset, name: str, names: Names) -> Iterator[dict[str, Any]]:
    """The rows of a part whose id has one of the names; none where it cannot be read."""
    with contextlib.suppress(OutputError):
        part = part_reader.open_part(dataset, name)
        if not set(COLUMNS) <= set(part.schema_arrow.names):
            return
        columns = part_reader.with_passages(part, COLUMNS)
        for block in map(part_reader.once_a_row, part_reader.read_blocks(part, name, columns)):
            filled = block.filter(block.column("id").is_valid())
            yield from filled.take(
                np.flatnonzero(np.isin(names_of(filled.column("id")), names))
            ).to_pylist()


def _listed(places: Sequence[str]) -> str:
    return ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
