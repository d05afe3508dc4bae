"""The plan of a run: the units of the input that are not committed yet, and their slices."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.units import FileUnits, PlanSlice, Unit, UnitRecord
from bulkembed.transforms.core.ranges import first_rows, remaining_ranges, split_ranges
from bulkembed.transforms.dataset.records import DatasetState

MAX_UNITS_PER_SLICE = 40
SLICES_PER_WORKER = 4
"""More than one, so that a worker that finishes early, or dies, leaves work for others."""
PIECES_PER_WORKER = 8
"""Taken from all over the input, so that no worker gets all of its long texts."""
DEFAULT_WORKERS = 4
"""Assumed if the runner's flags do not say how many there are."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What this run sets out to do."""

    work: tuple[FileUnits, ...]
    rows: int
    """Rows of the input."""
    remaining_rows: int
    """Rows that no commit record covers."""
    unit_rows: int | None = None
    """Maximum rows of a unit; None for the committed units of a retry."""

    @property
    def planned_rows(self) -> int:
        """Rows of this run: the remaining rows, as far as the row limit allows, or the retried."""
        retried = sum(record.dead for file in self.work for record in file.retry_of)
        return retried or sum(unit.rows for file in self.work for unit in file.units)

    @property
    def size_bytes(self) -> int:
        """The bytes of the planned rows in the input; each file counts by the share of its rows."""
        return sum(
            file.file.found.size_bytes * file.rows // file.file.rows
            for file in self.work
            if file.file.rows
        )

    @property
    def units(self) -> int:
        """Units of this run."""
        return sum(len(file.units) for file in self.work)

    def divided(self, rows: int) -> tuple[Plan, Plan]:
        """Return plans of the first units, of so many rows or a little more, and of the others."""
        first: list[FileUnits] = []
        rest: list[FileUnits] = []
        for file in self.work:
            count = 0
            while rows > 0 and count < len(file.units):
                rows -= file.units[count].rows
                count += 1
            if count:
                first.append(file.part(0, count))
            if count < len(file.units):
                rest.append(file.part(count, len(file.units)))
        return self._with(first), self._with(rest)

    def without_file(self, path: str) -> Plan:
        """Return the plan without a file."""
        return self._with(file for file in self.work if file.file.found.path != path)

    def _with(self, work: Iterable[FileUnits]) -> Plan:
        return dataclasses.replace(self, work=tuple(work))


def make_plan(
    files: Sequence[InputFile], state: DatasetState, unit_rows: int, limit_rows: int | None = None
) -> Plan:
    """Plan the rows of the files that are not committed, in units.

    Args:
        files: the input, in order.
        state: of the dataset, by its commit records.
        unit_rows: maximum rows of a unit; may differ between runs.
        limit_rows: maximum rows of this run.
    """
    covered = state.covered()
    work: list[FileUnits] = []
    total = 0
    room = math.inf if limit_rows is None else limit_rows
    for file in files:
        remaining = remaining_ranges(file.rows, covered.get(file.key, ()))
        total += sum(count for _, count in remaining)
        if limit_rows is not None:
            remaining = list(first_rows(remaining, int(room)))
            room -= sum(count for _, count in remaining)
        units = tuple(
            Unit(file.key, first, count) for first, count in split_ranges(remaining, unit_rows)
        )
        if units:
            work.append(FileUnits(file, units))
    return Plan(tuple(work), sum(file.rows for file in files), total, unit_rows)


def make_retry_plan(
    files: Sequence[InputFile], state: DatasetState, limit_rows: int | None
) -> Plan:
    """Plan the units with failed rows; only these rows are sent, but whole units are written.

    Args:
        files: the input, in order.
        state: of the dataset, by its commit records.
        limit_rows: maximum rows to retry; the last unit may exceed it.
    """
    by_key: dict[str, list[UnitRecord]] = collections.defaultdict(list)
    for record in state.records:
        if record.dead:
            by_key[record.unit.file_key].append(record)
    work = []
    room = math.inf if limit_rows is None else limit_rows
    for file in files:
        retry_of = []
        for record in by_key[file.key]:
            if room > 0:
                retry_of.append(record)
                room -= record.dead
        if retry_of:
            work.append(FileUnits(file, tuple(r.unit for r in retry_of), tuple(retry_of)))
    return Plan(tuple(work), sum(file.rows for file in files), remaining_rows(files, state))


def remaining_rows(files: Sequence[InputFile], state: DatasetState) -> int:
    """Return how many rows of the files no commit record covers."""
    covered = state.covered()
    return sum(
        count
        for file in files
        for _, count in remaining_ranges(file.rows, covered.get(file.key, ()))
    )


def local_slices(plan: Plan, workers: int) -> Iterator[PlanSlice]:
    """Yield the plan's units in one slice per worker of this machine, in ascending order of rows.

    The slices have about equally many rows. Within a slice, requests flow across the borders of
    units. A file that can only be read from its beginning is in one slice.
    """
    rows = sum(file.rows for file in plan.work)
    max_units = math.ceil(rows / _largest_unit(plan) / (workers * PIECES_PER_WORKER))
    pieces = list(_pieces(plan, max_units))
    shares: list[list[int]] = [[] for _ in range(workers)]
    taken = [0] * workers
    for number in sorted(range(len(pieces)), key=lambda n: pieces[n].rows, reverse=True):
        fewest = taken.index(min(taken))
        shares[fewest].append(number)
        taken[fewest] += pieces[number].rows
    for share in filter(None, shares):
        yield PlanSlice(tuple(_joined(pieces[number] for number in sorted(share))))


def cluster_slices(plan: Plan, workers: int | None) -> Iterator[PlanSlice]:
    """Yield the plan's units in slices that a runner can spread over its workers, in order.

    There are several slices per worker, so that others can take over what a dead worker leaves;
    `workers` is None if their number is not known. A file that can only be read from its beginning
    is in one slice. Small files count by their rows, so that many of them form groups.
    """
    wanted = SLICES_PER_WORKER * (workers or DEFAULT_WORKERS)
    largest = _largest_unit(plan)
    share = sum(file.rows for file in plan.work) // wanted
    max_rows = max(largest, min(MAX_UNITS_PER_SLICE * (plan.unit_rows or largest), share))
    current: list[FileUnits] = []
    rows = 0
    for piece in _pieces(plan, max_rows // largest):
        if current and rows + piece.rows > max_rows:
            yield PlanSlice(tuple(current))
            current, rows = [], 0
        current.append(piece)
        rows += piece.rows
    if current:
        yield PlanSlice(tuple(current))


def _largest_unit(plan: Plan) -> int:
    """Return the rows of the largest unit."""
    return max((unit.rows for file in plan.work for unit in file.units), default=1)


def _pieces(plan: Plan, max_units: int) -> Iterator[FileUnits]:
    for file_units in plan.work:
        if not file_units.file.can_seek:
            yield file_units
            continue
        for start in range(0, len(file_units.units), max_units):
            yield file_units.part(start, start + max_units)


def _joined(pieces: Iterable[FileUnits]) -> Iterator[FileUnits]:
    """Join the pieces of each file, so that it is read once."""
    for _, group in itertools.groupby(pieces, key=lambda piece: piece.file.found.path):
        same = list(group)
        units = itertools.chain.from_iterable(piece.units for piece in same)
        retry_of = itertools.chain.from_iterable(piece.retry_of for piece in same)
        yield FileUnits(same[0].file, tuple(units), tuple(retry_of))
