"""Where the vectors are that units of a run want: part and row in a source, as one file on disk.

The launcher finds them by the indexes of the sources (`hash_index`), and the vectors are read in
the order of the places, so that each row group of a source is read once.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bulkembed.transforms.dataset.atomic_files import output_error
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.partitioned_rows import PartitionedRows, partitions_for

PLACE = np.dtype(
    [("key", "<u8"), ("unit", "<u4"), ("source", "<u4"), ("part", "<u4"), ("row", "<u4")]
)
"""A text that a unit wants, and a row that has its vector.

key: of the text's hash, `hashing.keys`; the row's whole `text_hash` decides. unit: its number in
the plan, counted over the units of all files in their order. source: its number in `KnownPlaces`.
part: its number in the source. row: its number in the part.
"""
_ORDERED = np.dtype([("order", "<u8"), ("place", PLACE)])


@dataclasses.dataclass(frozen=True, slots=True)
class SourcePart:
    """A part with vectors that are already paid for."""

    name: str
    """Within its dataset, as `vectors/part-....parquet`."""
    size_bytes: int
    group_rows: tuple[int, ...]
    """Rows of each of its row groups."""

    @property
    def rows(self) -> int:
        """Rows of the part."""
        return sum(self.group_rows)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PlaceSource:
    """A dataset with vectors that are already paid for."""

    dataset: Dataset
    parts: tuple[SourcePart, ...]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class KnownPlaces:
    """The places of the known vectors that the units of a plan want.

    There is one place for each text of each unit that any source has, however often the unit wants
    the text. Several units may want the same row.
    """

    sources: tuple[PlaceSource, ...]
    places: npt.NDArray[Any]
    """Shape (n,), type PLACE, ordered by source, part, row and unit; a file mapped to memory."""

    def __len__(self) -> int:
        return len(self.places)


NO_PLACES = KnownPlaces((), np.empty(0, PLACE))


def write_places(
    folder: Path, sources: Sequence[PlaceSource], places: Iterable[npt.NDArray[Any]], at_most: int
) -> KnownPlaces:
    """Write places in order to a file without a name, and return them mapped from it.

    The disk space is free again once nothing refers to the result, or the process has ended.

    Args:
        folder: an existing folder on a local disk, for the file.
        sources: of the places.
        places: arrays of the type PLACE, in any order.
        at_most: a bound of the number of places, which decides how much memory sorting takes.

    Raises:
        OutputError: the disk is full.
    """
    starts = _first_rows(sources)
    step = np.uint64((2**64 - 1) // max(1, int(starts[-1][-1])))
    partitions = partitions_for(at_most, _ORDERED.itemsize)
    with PartitionedRows(folder, _ORDERED, partitions, key="order") as rows:
        for some in places:
            order = np.empty(len(some), np.uint64)
            for number, first in enumerate(starts[:-1]):
                own = some["source"] == number
                order[own] = first[some["part"][own]] + some["row"][own]
            rows.add_columns(order=order * step, place=some)
        if not len(rows):
            return KnownPlaces(tuple(sources), np.empty(0, PLACE))
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                for block in _in_order(rows):
                    block.tofile(file)
                file.flush()
                return KnownPlaces(tuple(sources), np.memmap(file, PLACE, "r"))
        except OSError as error:
            raise output_error(str(folder), error) from error


def _first_rows(sources: Sequence[PlaceSource]) -> list[npt.NDArray[np.uint64]]:
    """Return the number of each part's first row over all sources; then the number of all rows."""
    starts, begin = [], 0
    for source in sources:
        ends = begin + np.cumsum([part.rows for part in source.parts], dtype=np.uint64)
        starts.append(np.concatenate([np.array([begin], np.uint64), ends])[:-1])
        begin = int(ends[-1]) if len(ends) else begin
    return [*starts, np.array([begin], np.uint64)]


def _in_order(rows: PartitionedRows) -> Iterator[npt.NDArray[Any]]:
    for number in range(rows.partitions):
        some: npt.NDArray[Any] = rows.read(number)
        yield some["place"][np.lexsort((some["place"]["unit"], some["order"]))]
