"""The known vectors of the units of a slice: read in place, or from gathered files."""

from __future__ import annotations

import bisect
import collections
import concurrent.futures
import dataclasses
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import Unit
from bulkembed.transforms.core.hashing import HASH_BYTES, Keys, among
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.gathered_rows import (
    UNCOMMITTED,
    GatheredFile,
    Labels,
    RowReader,
    gathered_files,
    hashes_of,
    sums_of,
)
from bulkembed.transforms.dataset.kept_answers import FLAGS
from bulkembed.transforms.dataset.known_vectors import VectorBlock
from bulkembed.transforms.dataset.unnamed_file import UnnamedFile
from bulkembed.transforms.dataset.wanted_rows import WantedGroup, WantedRows, read_blocks

SPOOL_BYTES = 64 << 20
"""About how much of the gathered files of a store is downloaded at a time, for the next units."""
_DOWNLOADS = 4
_BLOCK_ROWS = 256
_GAP_ROWS = 4
"""Rows between two wanted ones that are read as well, because that takes less time."""

log = logging.getLogger("bulkembed")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowRange:
    """Consecutive rows of a gathered file."""

    reader: RowReader
    rows: range


class SliceVectors:
    """The known vectors of a slice, for its units in the order of the slice.

    Each row group that is read in place is read when its first unit comes.  Its rows wait in
    memory for their units; the plan bounds how many can wait.

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
        self._waiting: dict[int, list[tuple[Labels, Matrix]]] = collections.defaultdict(list)
        self._spool_end = 0
        self._spooled: list[tuple[GatheredFile, RowReader]] = []

    def of(self, unit: Unit) -> UnitVectors:
        """Return the known vectors of a unit of the slice, or of a part of one.

        Raises:
            OutputError: a gathered file cannot be read.
        """
        at = self._position(unit)
        if at is None:
            return UnitVectors([], [])
        self._read_until(at)
        number = self._numbers[at]
        return UnitVectors(list(self._waiting.get(number, ())), list(self._gathered(at)))

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
        """Read the row groups that a unit needs; forget the rows of the units before it."""
        for number in [n for n in self._waiting if self._positions[n] < at]:
            del self._waiting[number]
        while self._due and self._due[0][0] <= at:
            _, last, group = self._due.popleft()
            for block in read_blocks(group) if last >= at else ():
                for number in np.unique(block.units).tolist():
                    if self._positions[number] >= at:
                        own = block.units == number
                        self._waiting[number].append((block.labels[own], block.vectors[own]))

    def _gathered(self, at: int) -> Iterator[RowRange]:
        number = self._numbers[at]
        if self._on_a_store and at >= self._spool_end:
            self._spool(at)
        readers = self._spooled if self._on_a_store else [(f, f.reader) for f in self._files]
        for file, reader in readers:
            rows = file.rows_of(number, number)
            if rows:
                yield RowRange(reader, rows)

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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class UnitVectors:
    """The known vectors of a unit, as a source of known vectors."""

    in_memory: Sequence[tuple[Labels, Matrix]]
    gathered: Sequence[RowRange]

    def find(self, wanted: Keys) -> UnitMatches:
        """Return the wanted texts that the unit has; see `KnownVectors`."""
        found = [(labels, _hits(labels, wanted), vectors) for labels, vectors in self.in_memory]
        later = [
            (labels := part.reader.labels(part.rows), _hits(labels, wanted), part)
            for part in self.gathered
        ]
        return UnitMatches(found, later)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class UnitMatches:
    """The texts of a unit that are known; gathered vectors are read by `read` only."""

    ready: Sequence[tuple[Labels, npt.NDArray[np.int64], Matrix]]
    later: Sequence[tuple[Labels, npt.NDArray[np.int64], RowRange]]

    def __len__(self) -> int:
        return sum(len(hits) for _, hits, _ in (*self.ready, *self.later))

    @property
    def keys(self) -> Keys:
        """The keys of the texts, ascending and distinct."""
        keys = [_keys(labels[hits]) for labels, hits, _ in (*self.ready, *self.later)]
        return np.unique(np.concatenate([np.empty(0, np.uint64), *keys]))

    def hashes(self) -> Iterator[bytes]:
        """Yield the hash of each text."""
        for labels, hits, _ in (*self.ready, *self.later):
            yield from _hashes(labels[hits])

    def read(self) -> Iterator[VectorBlock]:
        """Yield the vectors, those in memory first."""
        for labels, hits, vectors in self.ready:
            for start in range(0, len(hits), _BLOCK_ROWS):
                rows = hits[start : start + _BLOCK_ROWS]
                yield from _blocks(labels[rows], vectors[rows])
        for labels, hits, part in self.later:
            for span in _spans(hits):
                first = part.rows.start
                vectors = part.reader.vectors(range(first + span.start, first + span.stop))
                own = hits[np.searchsorted(hits, span.start) : np.searchsorted(hits, span.stop)]
                some, found = labels[own], vectors[own - span.start]
                intact = some["sum"] == sums_of(some, found)
                if not intact.all():
                    log.warning("gathered vectors are damaged, so their texts are sent again")
                yield from _blocks(some[intact], found[intact])


def _blocks(labels: Labels, vectors: Matrix) -> Iterator[VectorBlock]:
    """Yield the vectors that runs have committed, then those of batch jobs."""
    is_new = labels["flag"] >= UNCOMMITTED
    for committed, own in ((True, ~is_new), (False, is_new)):
        if own.any():
            some = labels[own]
            flags = [FLAGS[flag % UNCOMMITTED] for flag in some["flag"].tolist()]
            yield VectorBlock(_hashes(some), vectors[own], flags, committed=committed)


def _hits(labels: Labels, wanted: Keys) -> npt.NDArray[np.int64]:
    return np.flatnonzero(among(_keys(labels), wanted))


def _keys(labels: Labels) -> Keys:
    return hashes_of(labels).view(np.uint64)[::2]


def _hashes(labels: Labels) -> list[bytes]:
    joined = hashes_of(labels).tobytes()
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]


def _spans(rows: npt.NDArray[np.int64]) -> Iterator[range]:
    """Yield ranges of rows to read at once that have all of the rows, which are ascending."""
    start = end = -1
    for row in rows.tolist():
        if start >= 0 and (row > end + _GAP_ROWS or row >= start + _BLOCK_ROWS):
            yield range(start, end)
            start = -1
        start, end = (row if start < 0 else start), row + 1
    if start >= 0:
        yield range(start, end)
