"""The known vectors of the units of a slice: read in place, or from gathered files."""

from __future__ import annotations

import bisect
import collections
import concurrent.futures
from collections.abc import Iterator, Sequence

import numpy as np

from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.models import largest_dim
from bulkembed.schemas.units import Unit
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.gathered_rows import (
    LABEL,
    GatheredFile,
    Labels,
    RowReader,
    gathered_files,
)
from bulkembed.transforms.dataset.unnamed_file import UnnamedFile
from bulkembed.transforms.dataset.wanted_rows import WantedGroup, WantedRows, read_blocks
from bulkembed.transforms.units.unit_vectors import GatheredRange, UnitVectors

SPOOL_BYTES = 64 << 20
"""About how much of the gathered files of a store is downloaded at a time, for the next units."""
_DOWNLOADS = 4


class SliceVectors:
    """The known vectors of a slice, for its units in the order of the slice.

    A row group that a single unit wants is read by that unit. One that several units want is read
    when the first of them comes, and its rows wait in memory; the plan bounds how many can wait.

    Args:
        dataset: the output.
        job: the run.
        name: the list of what the slice reads in place, with the numbers of its units.

    Raises:
        OutputError: the list or a gathered file cannot be read.
    """

    def __init__(self, dataset: Dataset, job: JobConfig, name: str) -> None:
        wanted = WantedRows.read(dataset, job.run_id, name)
        self._on_a_store = dataset.is_on_a_store
        self._files = list(gathered_files(dataset, job.run_id))
        self._numbers = [unit.number for unit in wanted.units]
        self._positions = {number: at for at, number in enumerate(self._numbers)}
        self._starts: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)
        for at, unit in enumerate(wanted.units):
            bisect.insort(self._starts[unit.file_key], (unit.first_row, at))
        due = [(*self._positions_of(group), group) for group in wanted.groups()]
        self._due = collections.deque(sorted(due, key=lambda one: one[0]))
        # A unit may be split into several, which look for their vectors one after the other.
        self._may_be_split = job.embedding.long_text.cuts or job.embedding.media is not None
        self._row_bytes = 4 * (job.embedding.out_dim or largest_dim()) + LABEL.itemsize
        self._rows_in_memory = self._count_rows_in_memory()
        self._own: dict[int, list[WantedGroup]] = collections.defaultdict(list)
        """By the number of a unit, the row groups that only this unit wants."""
        self._waiting: dict[int, list[tuple[Labels, Matrix]]] = collections.defaultdict(list)
        self._at = -1
        """The position of the last unit that came."""
        self._spool_end = 0
        self._spooled: list[tuple[GatheredFile, RowReader]] = []

    def of_all(self, units: Sequence[Unit]) -> UnitVectors:
        """Return the known vectors of several units, in the order of the slice; see `of`."""
        found = [self.of(unit) for unit in units]
        return UnitVectors(
            [one for vectors in found for one in vectors.in_memory],
            [one for vectors in found for one in vectors.groups],
            [one for vectors in found for one in vectors.gathered],
        )

    def of(self, unit: Unit) -> UnitVectors:
        """Return the known vectors of a unit of the slice, or of a part of one.

        Raises:
            OutputError: a gathered file cannot be read.
        """
        at = self._position(unit)
        if at is None:
            return UnitVectors([], [], [])
        self._read_until(at)
        number = self._numbers[at]
        return UnitVectors(
            list(self._waiting.get(number, ())),
            list(self._own.get(number, ())),
            list(self._gathered(at)),
        )

    def memory_of(self, unit: Unit) -> int:
        """Return the bytes of the rows that a unit takes from memory."""
        at = self._position(unit)
        return 0 if at is None else self._rows_in_memory[self._numbers[at]] * self._row_bytes

    @property
    def waiting_bytes(self) -> int:
        """The bytes of the rows that wait in memory for units after the last one."""
        return sum(
            labels.nbytes + vectors.nbytes
            for number, found in self._waiting.items()
            if self._positions[number] > self._at
            for labels, vectors in found
        )

    def _count_rows_in_memory(self) -> collections.Counter[int]:
        """Return for the number of each unit how many of its rows will wait in memory."""
        rows: collections.Counter[int] = collections.Counter()
        for first, last, group in self._due:
            if not self._is_read_by_unit(first, last):
                numbers, counts = np.unique(group.units, return_counts=True)
                rows.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        return rows

    def _is_read_by_unit(self, first: int, last: int) -> bool:
        """Return whether a row group is not read before, by the positions of its units."""
        return first == last and not self._may_be_split

    def _positions_of(self, group: WantedGroup) -> tuple[int, int]:
        """Return the positions of the first and the last unit that want rows of a row group."""
        found = [self._positions[number] for number in np.unique(group.units).tolist()]
        return min(found), max(found)

    def _position(self, unit: Unit) -> int | None:
        """Return the position in the slice of the unit of the plan that a unit is part of."""
        starts = self._starts.get(unit.file_key, [])
        found = bisect.bisect_right(starts, unit.first_row, key=lambda start: start[0])
        return starts[found - 1][1] if found else None

    def _read_until(self, at: int) -> None:
        """Read the row groups that several units need; forget the rows of the units before it."""
        for passed in (self._waiting, self._own):
            for number in [n for n in passed if self._positions[n] < at]:
                del passed[number]
        self._at = at
        while self._due and self._due[0][0] <= at:
            first, last, group = self._due.popleft()
            if last < at:
                continue
            if self._is_read_by_unit(first, last):
                self._own[self._numbers[at]].append(group)
                continue
            for block in read_blocks(group):
                for number in np.unique(block.units).tolist():
                    if self._positions[number] >= at:
                        own = block.units == number  # A copy, which keeps no other rows in memory.
                        self._waiting[number].append((block.labels[own], block.vectors[own]))

    def _gathered(self, at: int) -> Iterator[GatheredRange]:
        number = self._numbers[at]
        if self._on_a_store and at >= self._spool_end:
            self._spool(at)
        readers = self._spooled if self._on_a_store else [(f, f.reader) for f in self._files]
        for file, reader in readers:
            rows = file.rows_of(number, number)
            if rows:
                yield GatheredRange(reader, rows)

    def _spool(self, at: int) -> None:
        """Download the rows of the next units, so that few requests have the rows of many."""
        size, end = 0, at
        while end < len(self._numbers) and self._numbers[end] == self._numbers[at] + end - at:
            number = self._numbers[end]
            size += sum(len(f.rows_of(number, number)) * (4 * f.dim) for f in self._files)
            if size > SPOOL_BYTES and end > at:
                break
            end += 1
        spool = UnnamedFile()
        wanted = [(f, f.rows_of(self._numbers[at], self._numbers[end - 1])) for f in self._files]
        wanted = [(file, rows) for file, rows in wanted if rows]
        with concurrent.futures.ThreadPoolExecutor(_DOWNLOADS) as pool:
            spooled = pool.map(lambda pair: pair[0].spool(pair[1], spool), wanted)
            self._spooled = [
                (file, reader) for (file, _), reader in zip(wanted, spooled, strict=True)
            ]
        self._spool_end = end
