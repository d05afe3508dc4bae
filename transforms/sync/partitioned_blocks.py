"""Keys of rows as blocks of bytes, each with rows of one partition, and the difference of these."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from bulkembed.transforms.core.row_difference import (
    COMMITTED_ROW,
    INPUT_ROW,
    RowDifference,
    RowTally,
    difference,
)
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import COMPARED
from bulkembed.transforms.dataset.partitioned_rows import partition_numbers
from bulkembed.transforms.sync.array_files import read_arrays, write_arrays
from bulkembed.transforms.sync.compared_rows import Rows

BLOCK_ROWS = 1 << 17
"""Rows that are in memory before they are divided into blocks."""

Block = tuple[int, bytes]
"""A partition, and rows of it."""


def blocks_of(
    found: Iterable[Rows], partitions: int, block_rows: int = BLOCK_ROWS
) -> Iterator[Block]:
    """Yield rows in blocks by the partition of their ids.

    Args:
        found: rows of dtype INPUT_ROW or COMMITTED_ROW.
        partitions: a power of two.
        block_rows: about how many rows are in memory.
    """
    pending: list[Rows] = []
    for rows in found:
        pending.append(rows)
        if sum(map(len, pending)) >= block_rows:
            yield from _divided(np.concatenate(pending), partitions)
            pending.clear()
    if pending:
        yield from _divided(np.concatenate(pending), partitions)


def _divided(rows: Rows, partitions: int) -> Iterator[Block]:
    numbers = partition_numbers(rows["id_high"], partitions)
    order = np.argsort(numbers, kind="stable")
    rows, numbers = rows[order], numbers[order]
    starts = np.searchsorted(numbers, np.arange(partitions + 1))
    for partition in np.flatnonzero(np.diff(starts)):
        yield int(partition), rows[starts[partition] : starts[partition + 1]].tobytes()


def block_difference(wanted: Iterable[bytes], committed: Iterable[bytes]) -> RowDifference:
    """Compare all rows of one partition; the order of the blocks does not matter."""
    rows = _joined(committed, COMMITTED_ROW)
    # Of equal rows of one commit, the last one of the dataset stays.
    return difference(_joined(wanted, INPUT_ROW), rows[np.argsort(rows["place"])])


def _joined(blocks: Iterable[bytes], dtype: np.dtype[np.void]) -> Rows:
    return np.frombuffer(b"".join(blocks), dtype)


def write_difference(dataset: Dataset, run_id: str, partition: int, found: RowDifference) -> None:
    """Write the difference of a partition for the launcher.

    Raises:
        OutputError: it cannot be written.
    """
    write_arrays(
        dataset,
        _name(run_id, partition),
        send=found.send,
        send_why=found.send_why,
        remove=found.remove,
        repeated=found.repeated,
        repeated_by=found.repeated_by,
        tally=np.array(dataclasses.astuple(found.tally), np.int64),
    )


def read_difference(dataset: Dataset, name: str) -> RowDifference:
    """Return what `write_difference` has written to a file.

    Raises:
        OutputError: the file is missing or damaged.
    """
    arrays = read_arrays(dataset, name)
    return RowDifference(
        arrays["send"],
        arrays["send_why"],
        arrays["remove"],
        arrays["repeated"],
        arrays["repeated_by"],
        RowTally(*map(int, arrays["tally"])),
    )


def _name(run_id: str, partition: int) -> str:
    return f"{COMPARED}/{difference_prefix(run_id)}{partition:04}.npz"


def difference_prefix(run_id: str) -> str:
    """Return how the names of a run's differences begin."""
    return f"{run_id}-difference-"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class SlicePlaces:
    """Which slice of the input has a place."""

    begins: npt.NDArray[np.int64]
    """The first place of each piece, ascending."""
    slices: npt.NDArray[np.int64]
    """The slice of each piece."""

    def divided(self, places: npt.NDArray[np.int64]) -> Iterator[tuple[int, bytes]]:
        """Yield each slice that has some of the places, ascending, and these as bytes."""
        numbers = self.slices[np.searchsorted(self.begins, places, side="right") - 1]
        bounds = [*np.flatnonzero(np.diff(numbers, prepend=-1)), len(places)]
        for start, end in itertools.pairwise(bounds):
            yield int(numbers[start]), places[start:end].tobytes()


def joined_places(blocks: Iterable[bytes]) -> npt.NDArray[np.int64]:
    """Return all places of some blocks, ascending."""
    return np.sort(np.frombuffer(b"".join(blocks), np.int64))
