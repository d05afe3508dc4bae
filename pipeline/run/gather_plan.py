"""How units get their known vectors: which row groups are read in place, and which are gathered.

Each row group of a source is read once, by one worker. A row group that only one slice wants is
read by that slice, and its rows wait in memory for their units. If several slices want it, or if
too many rows would have to wait, it is read before all units, and its rows are written to files
that are ordered by unit.
"""

from __future__ import annotations

import collections
import dataclasses
import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bulkembed.pipeline.run.plan import Plan
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.models import largest_dim
from bulkembed.schemas.units import FileUnits, GatherSlice, PlanSlice
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.gathered_rows import LABEL
from bulkembed.transforms.dataset.known_places import NO_PLACES, KnownPlaces, PlaceSource
from bulkembed.transforms.dataset.partitioned_rows import PartitionedRows, partitions_for
from bulkembed.transforms.dataset.wanted_rows import WANTED, UnitNumber, WantedPart, WantedRows

MAX_WAITING_BYTES = 128 << 20
"""How many bytes of rows that are read in place may wait for the units of a slice."""
MAX_LIST_ROWS = 1 << 20
"""The maximum rows of a list to gather, about; bounds the memory of a worker."""
_BLOCK_PLACES = 1 << 20
_GATHERED, _UNUSED = -1, -2
_KEYED = np.dtype([("order", "<u8"), ("slice", "<u4"), ("wanted", WANTED)])

Numbers = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GatherPlan:
    """Where each known vector is read."""

    slices: tuple[PlanSlice, ...]
    """All slices of the run; those with known vectors name their lists."""
    gathers: tuple[GatherSlice, ...] = ()
    places: KnownPlaces = NO_PLACES
    units: _UnitPlaces | None = None
    groups: _RowGroups | None = None
    targets: Numbers = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    """For each row group the slice that reads it, _GATHERED or _UNUSED."""
    list_of: Numbers = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    """For each row group that is gathered the number of its list."""
    vector_bytes: int = 0

    @property
    def rows(self) -> int:
        """The known vectors that units take."""
        return len(self.places)

    @property
    def gathered_rows(self) -> int:
        """The known vectors that are gathered before the units start."""
        return sum(gather.rows for gather in self.gathers)

    @property
    def gathered_bytes(self) -> int:
        """The bytes of the gathered files."""
        return self.gathered_rows * (self.vector_bytes + LABEL.itemsize)

    def write(self, dataset: Dataset, job: JobConfig, folder: Path) -> None:
        """Write the lists for the workers.

        Args:
            dataset: the output.
            job: the run.
            folder: on a local disk, for temporary files without names.

        Raises:
            OutputError: a list cannot be written.
        """
        if self.units is None or self.groups is None:
            return
        numbers = self.units.lists()
        written: set[int] = set()
        for number, rows in self._in_place(folder):
            written.add(number)
            wanted = self.groups.wanted_rows(rows, numbers[number])
            wanted.write(dataset, job.run_id, _slice_name(number))
        for number, plan_slice in enumerate(self.slices):
            if plan_slice.known is not None and number not in written:
                empty = WantedRows((), np.empty(0, WANTED), numbers[number])
                empty.write(dataset, job.run_id, _slice_name(number))
        for gather, rows in zip(self.gathers, self._gathered(), strict=True):
            self.groups.wanted_rows(rows, ()).write(dataset, job.run_id, gather.name)

    def _in_place(self, folder: Path) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield each slice that reads in place, and what it reads."""
        assert self.groups is not None
        count = max(1, len(self.slices))
        step = np.uint64((2**64 - 1) // count)
        partitions = partitions_for(self.rows - self.gathered_rows, _KEYED.itemsize)
        with PartitionedRows(folder, _KEYED, partitions, key="order") as rows:
            for wanted, groups in self.groups.blocks(self.places):
                slices = self.targets[groups]
                own = slices >= 0
                if own.any():
                    chosen = slices[own].astype(np.uint64)
                    rows.add_columns(order=chosen * step, slice=chosen, wanted=wanted[own])
            for partition in range(partitions):
                some: Any = rows.read(partition)
                for number in np.unique(some["slice"]).tolist():
                    yield number, some["wanted"][some["slice"] == number]

    def _gathered(self) -> Iterator[npt.NDArray[Any]]:
        """Yield what each list gathers."""
        assert self.groups is not None
        pending: list[npt.NDArray[Any]] = []
        current = 0
        for wanted, groups in self.groups.blocks(self.places):
            own = self.targets[groups] == _GATHERED
            rows, lists = wanted[own], self.list_of[groups[own]]
            for number in np.unique(lists).tolist():
                if number != current:
                    yield np.concatenate(pending)
                    pending, current = [], number
                pending.append(rows[lists == number])
        if pending:
            yield np.concatenate(pending)


def plan_gather(
    job: JobConfig, plan: Plan, slices: Sequence[PlanSlice], places: KnownPlaces, workers: int
) -> GatherPlan:
    """Decide where each known vector is read.

    Args:
        job: the run.
        plan: its units.
        slices: the same units, as they are handed out.
        places: the known vectors.
        workers: among how many workers gathering is divided.
    """
    if not len(places):
        return GatherPlan(tuple(slices))
    vector_bytes = 4 * (job.embedding.out_dim or largest_dim())
    units, groups = _UnitPlaces(plan.work, slices), _RowGroups(places.sources)
    uses = _uses(places, units, groups)
    targets = uses.targets(vector_bytes + LABEL.itemsize, len(slices))
    gathered = np.where(targets == _GATHERED, uses.rows, 0)
    per_list = min(MAX_LIST_ROWS, max(1, -(-int(gathered.sum()) // max(1, workers))))
    list_of = (np.cumsum(gathered) - gathered) // per_list
    numbers, list_of = np.unique(list_of[targets == _GATHERED], return_inverse=True)
    of_group = np.zeros(len(targets), np.int64)
    of_group[targets == _GATHERED] = list_of
    sizes = np.bincount(list_of, gathered[targets == _GATHERED], len(numbers)).astype(int)
    return GatherPlan(
        tuple(
            dataclasses.replace(one, known=_slice_name(n)) if n in uses.slices else one
            for n, one in enumerate(slices)
        ),
        tuple(GatherSlice(f"gather-{n:05d}", int(size)) for n, size in enumerate(sizes)),
        places, units, groups, targets, of_group, vector_bytes,
    )  # fmt: skip


def _slice_name(number: int) -> str:
    return f"slice-{number:05d}"


class _UnitPlaces:
    """In which slice each unit of the plan is, and at which position.

    Args:
        work: the units in the order of the plan, in which they are numbered.
        slices: the same units.
    """

    def __init__(self, work: Sequence[FileUnits], slices: Sequence[PlanSlice]) -> None:
        numbers: dict[tuple[str, int], int] = {}
        for file in work:
            for unit in file.units:
                numbers[unit.file_key, unit.first_row] = len(numbers)
        self.slice_of = np.full(len(numbers), -1)
        self.position_of = np.zeros(len(numbers), np.int64)
        self._lists: list[tuple[UnitNumber, ...]] = []
        for number, plan_slice in enumerate(slices):
            units = [unit for file in plan_slice.files for unit in file.units]
            found = [numbers[unit.file_key, unit.first_row] for unit in units]
            self.slice_of[found] = number
            self.position_of[found] = np.arange(len(found))
            self._lists.append(
                tuple(
                    UnitNumber(unit.file_key, unit.first_row, one)
                    for unit, one in zip(units, found, strict=True)
                )
            )

    def lists(self) -> list[tuple[UnitNumber, ...]]:
        """Return the numbers of the units of each slice."""
        return self._lists


class _RowGroups:
    """The row groups of all sources, numbered in the order of their rows."""

    def __init__(self, sources: Sequence[PlaceSource]) -> None:
        parts = [(one.dataset.uri, part) for one in sources for part in one.parts]
        self._parts = [
            WantedPart(uri, part.name, part.size_bytes, part.group_rows) for uri, part in parts
        ]
        counts = [len(one.parts) for one in sources]
        self._first_part = np.cumsum([0, *counts])[:-1]
        """The number of each source's first part over all sources."""
        ends = np.cumsum([part.rows for _, part in parts], dtype=np.int64)
        self._first_row = np.concatenate(([0], ends))[:-1]
        """The number of each part's first row over all sources."""
        sizes = [rows for _, part in parts for rows in part.group_rows]
        self._starts = np.cumsum([0, *sizes], dtype=np.int64)[:-1]
        """The number of each row group's first row."""

    def __len__(self) -> int:
        return len(self._starts)

    def blocks(self, places: KnownPlaces) -> Iterator[tuple[npt.NDArray[Any], Numbers]]:
        """Yield places as WANTED, with part numbers over all sources, and their row groups."""
        for start in range(0, len(places), _BLOCK_PLACES):
            some = places.places[start : start + _BLOCK_PLACES]
            wanted = np.empty(len(some), WANTED)
            wanted["unit"], wanted["row"] = some["unit"], some["row"]
            wanted["part"] = self._first_part[some["source"]] + some["part"]
            rows = self._first_row[wanted["part"]] + wanted["row"]
            yield wanted, np.searchsorted(self._starts, rows, side="right") - 1

    def wanted_rows(self, rows: npt.NDArray[Any], units: tuple[UnitNumber, ...]) -> WantedRows:
        """Return a list of its own parts only; `rows` have part numbers over all sources."""
        parts, numbers = np.unique(rows["part"], return_inverse=True)
        rows = rows.copy()
        rows["part"] = numbers
        return WantedRows(tuple(self._parts[part] for part in parts.tolist()), rows, units)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Uses:
    """Which units want each row group."""

    rows: Numbers
    """How many rows units take of each row group."""
    slices: frozenset[int]
    """The slices with known vectors."""
    first_slice: Numbers
    last_slice: Numbers
    first_position: Numbers
    last_position: Numbers

    def targets(self, row_bytes: int, slices: int) -> Numbers:
        """Return for each row group the slice that reads it in place, _GATHERED or _UNUSED."""
        targets = np.where(self.rows > 0, _GATHERED, _UNUSED)
        single = np.flatnonzero((self.rows > 0) & (self.first_slice == self.last_slice))
        by_slice: dict[int, list[int]] = collections.defaultdict(list)
        for group in single[np.argsort(self.first_position[single], kind="stable")].tolist():
            by_slice[int(self.first_slice[group])].append(group)
        for number, groups in by_slice.items():
            waiting: list[tuple[int, int]] = []  # The last position of a row group, and its bytes.
            total = 0
            for group in groups:
                while waiting and waiting[0][0] < self.first_position[group]:
                    total -= heapq.heappop(waiting)[1]
                size = int(self.rows[group]) * row_bytes
                if total + size <= MAX_WAITING_BYTES:
                    heapq.heappush(waiting, (int(self.last_position[group]), size))
                    total += size
                    targets[group] = number
        return targets


def _uses(places: KnownPlaces, units: _UnitPlaces, groups: _RowGroups) -> _Uses:
    count, most = len(groups), np.iinfo(np.int64).max
    rows = np.zeros(count, np.int64)
    first_slice, first_position = np.full(count, most), np.full(count, most)
    last_slice, last_position = np.full(count, -1), np.full(count, -1)
    slices: set[int] = set()
    for wanted, group in groups.blocks(places):
        slice_of = units.slice_of[wanted["unit"]]
        position = units.position_of[wanted["unit"]]
        rows += np.bincount(group, minlength=count)
        np.minimum.at(first_slice, group, slice_of)
        np.maximum.at(last_slice, group, slice_of)
        np.minimum.at(first_position, group, position)
        np.maximum.at(last_position, group, position)
        slices.update(np.unique(slice_of).tolist())
    return _Uses(rows, frozenset(slices), first_slice, last_slice, first_position, last_position)
