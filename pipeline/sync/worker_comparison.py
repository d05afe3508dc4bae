"""The comparison of a synchronisation as stages of Beam: what workers do, and what they find."""

from __future__ import annotations

import concurrent.futures
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bulkembed.pipeline.sync.mirror import Mirror, committed_parts, rows_of
from bulkembed.schemas.compared import (
    CommittedPart,
    InputPiece,
    InputSlice,
    PartSlice,
    StagedSlice,
)
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.transforms.core.ranges import (
    RowRange,
    intersections,
    remaining_ranges,
    split_ranges,
)
from bulkembed.transforms.core.row_difference import COMMITTED_ROW, INPUT_ROW, RowDifference
from bulkembed.transforms.dataset.dataset import READ_THREADS, Dataset
from bulkembed.transforms.dataset.layout import COMPARED
from bulkembed.transforms.dataset.partitioned_rows import partitions_for
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.sync.compare_settings import CompareSettings
from bulkembed.transforms.sync.compared_rows import Comparison
from bulkembed.transforms.sync.partitioned_blocks import (
    SlicePlaces,
    difference_prefix,
    read_difference,
)
from bulkembed.transforms.sync.row_reading import FILE_BITS
from bulkembed.transforms.sync.shards import read_staged_slice

if TYPE_CHECKING:
    import apache_beam as beam

SLICE_ROWS = 250_000
"""Rows that a worker reads and stages together."""
PARTITION_BYTES = 16 << 20
"""Rows that a worker compares together: larger than in one process, because each partition is a key
of the runner's shuffle."""

S = TypeVar("S")
T = TypeVar("T")


class WorkerComparison:
    """The comparison of all rows of the input with all committed rows, by workers.

    Args:
        dataset: the dataset.
        job: the run.
        compared: what is compared.
        files: the input, in order.
        state: the committed units.
        retry_failed: whether dead letters that are not blank are to be sent again.
        slice_rows: rows that a worker reads together.
        partition_bytes: about how large the keys are that are compared together.

    Raises:
        OutputError: a commit record cannot be read.
    """

    def __init__(
        self,
        dataset: Dataset,
        job: JobConfig,
        compared: Comparison,
        files: Sequence[InputFile],
        state: DatasetState,
        *,
        retry_failed: bool = False,
        slice_rows: int = SLICE_ROWS,
        partition_bytes: int = PARTITION_BYTES,
    ) -> None:
        self._dataset = dataset
        self._files = tuple(files)
        self._records = tuple(state.parts_records())
        self._parts = committed_parts(dataset, self._records)
        self._rows = sum(file.rows for file in files)
        self._slices = list(input_slices(files, state.covered(), slice_rows))
        self._part_slices = list(part_slices(self._parts, slice_rows))
        rows = max(self._rows, sum(map(rows_of, self._records)))
        row_bytes = INPUT_ROW.itemsize + COMMITTED_ROW.itemsize
        self._settings = CompareSettings(
            job,
            compared,
            partitions_for(rows, row_bytes, partition_bytes),
            _slice_places(self._slices),
            retry_failed,
        )

    def build(self, pipeline: beam.Pipeline) -> None:
        """Add the stages to a pipeline."""
        import apache_beam as beam

        from bulkembed.transforms.compare_rows import CompareRows

        slices = pipeline | "Slices" >> beam.Create(self._slices, reshuffle=False)
        _ = slices | "CompareRows" >> CompareRows(self._settings, self._part_slices)

    def mirror(self) -> Mirror:
        """Return the difference that the workers have found.

        Raises:
            OutputError: it cannot be read, or is not complete.
        """
        dataset, run_id = self._dataset, self._settings.job.run_id
        prefix = difference_prefix(run_id)
        names = [f"{COMPARED}/{one}" for one in dataset.names(COMPARED) if one.startswith(prefix)]
        read = functools.partial(read_difference, dataset)
        found = RowDifference.joined(list(_in_threads(read, names)))
        if found.tally.input_rows != self._rows:
            raise OutputError(
                f"the workers have compared {found.tally.input_rows:,} of {self._rows:,} input rows"
            )
        return Mirror(self._files, self._records, self._parts, found)

    def staged(self, mirror: Mirror) -> list[tuple[InputSlice, StagedSlice]]:
        """Return the slices with rows to send, in their order, and what was staged of each.

        Raises:
            OutputError: it cannot be read.
        """
        divided = self._settings.places.divided(mirror.found.send)
        numbers = [number for number, _ in divided]
        read = functools.partial(read_staged_slice, self._dataset, self._settings.job.run_id)
        slices = [self._slices[number] for number in numbers]
        return list(zip(slices, _in_threads(read, numbers), strict=True))


def input_slices(
    files: Sequence[InputFile],
    covered: Mapping[str, Sequence[RowRange]],
    slice_rows: int = SLICE_ROWS,
) -> Iterator[InputSlice]:
    """Yield the rows of all files in their order, cut into slices.

    A file that can only be read from its first row on is in one slice.

    Args:
        files: the input.
        covered: the committed rows of each file, by its key.
        slice_rows: about how many rows a slice has.
    """
    pieces = _pieces(files, covered, slice_rows)
    for number, some in enumerate(gathered(pieces, lambda piece: piece.rows, slice_rows)):
        yield InputSlice(number, tuple(some))


def _pieces(
    files: Sequence[InputFile], covered: Mapping[str, Sequence[RowRange]], slice_rows: int
) -> Iterator[InputPiece]:
    for number, file in enumerate(files):
        remaining = remaining_ranges(file.rows, covered.get(file.key, ()))
        whole = [(0, file.rows)] if file.rows else []
        for rows in split_ranges(whole, slice_rows if file.can_seek else max(1, file.rows)):
            yield InputPiece(file, number, *rows, tuple(intersections(rows, remaining)))


def part_slices(parts: Iterable[CommittedPart], slice_rows: int) -> Iterator[PartSlice]:
    """Yield the parts of a dataset in slices of about so many rows."""
    for found in gathered(parts, lambda one: one.rows, slice_rows):
        yield PartSlice(tuple(found))


def gathered(items: Iterable[T], size_of: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Yield consecutive items in lists of at most a size, or of one item."""
    pending: list[T] = []
    size = 0
    for item in items:
        if pending and size + size_of(item) > most:
            yield pending
            pending, size = [], 0
        pending.append(item)
        size += size_of(item)
    if pending:
        yield pending


def _slice_places(slices: Iterable[InputSlice]) -> SlicePlaces:
    pieces = [(one.number, piece) for one in slices for piece in one.pieces]
    return SlicePlaces(
        np.array([(piece.number << FILE_BITS) + piece.first_row for _, piece in pieces], np.int64),
        np.array([number for number, _ in pieces], np.int64),
    )


def _in_threads(function: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
    with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
        yield from pool.map(function, items)
