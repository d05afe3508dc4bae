"""The nearest rows of a dataset: every vector is compared, block by block."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from transforms.core.nearest import Floats, best, cosines
from transforms.storage import part_reader
from transforms.storage.dataset import VECTORS, Dataset

READ_THREADS = min(8, os.cpu_count() or 1)
"""Parts read at once; each holds a block in memory."""


class Hit(NamedTuple):
    """A row that is near: its score, and where it is."""

    score: float
    part: str
    """The part's name within the dataset."""
    row: int
    """The row's number in the part."""


def committed_parts(dataset: Dataset) -> list[str]:
    """The parts of vectors that commit records name, in their order."""
    return [
        name
        for record in dataset.state().records
        for name in dataset.parts_of(record)
        if name.startswith(f"{VECTORS}/")
    ]


def nearest(
    dataset: Dataset, parts: Sequence[str], query: Floats, k: int, *, unit_length: bool
) -> list[Hit]:
    """The `k` rows of the parts with the highest cosines, highest first, exactly.

    Of equal scores the row that stands first is taken.

    Args:
        dataset: whose parts they are.
        parts: names within the dataset.
        query: of length 1.
        k: how many.
        unit_length: whether all vectors of the parts are of length 1.

    Raises:
        OutputError: a part cannot be read.
    """

    def of_part(name: str) -> list[Hit]:
        found: list[Hit] = []
        first = 0
        part = part_reader.open_part(dataset, name)
        for block in part_reader.read_blocks(part, name, ["vector"]):
            scores = cosines(part_reader.matrix_of(block), query, unit_length=unit_length)
            found += [Hit(float(scores[at]), name, first + int(at)) for at in best(scores, k)]
            first += block.num_rows
        return found

    found: list[Hit] = []
    with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
        for more in pool.map(of_part, parts):
            # Sorting is stable, so that the order of parts decides between equal scores.
            found = sorted([*found, *more], key=lambda hit: -hit.score)[:k]
    return found


def rows_of(dataset: Dataset, hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """The rows of the hits, in their order, without their vectors."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    in_order = sorted(hits, key=lambda hit: (hit.part, hit.row))
    for name, group in itertools.groupby(in_order, key=lambda hit: hit.part):
        wanted = np.array([hit.row for hit in group])
        for at, row in _rows_at(dataset, name, wanted):
            rows[name, at] = row
    return [rows[hit.part, hit.row] for hit in hits]


def _rows_at(dataset: Dataset, name: str, wanted: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    part = part_reader.open_part(dataset, name)
    columns = [column for column in part.schema_arrow.names if column != "vector"]
    first = 0
    for block in part_reader.read_blocks(part, name, columns):
        here = wanted[(wanted >= first) & (wanted < first + block.num_rows)]
        yield from zip(here.tolist(), block.take(here - first).to_pylist(), strict=True)
        first += block.num_rows
