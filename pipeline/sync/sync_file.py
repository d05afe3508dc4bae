"""`_run/sync.json`: what the last synchronisation that changed the dataset set out to do."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.summary import RowCounts, count_rows
from bulkembed.pipeline.sync.mirror import Mirror
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.serialization import (
    Count,
    check_checksum,
    from_plain,
    to_plain,
    with_checksum,
)
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.ranges import is_within, merge_ranges
from bulkembed.transforms.core.row_difference import RowTally
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import SYNC
from bulkembed.transforms.dataset.records import DatasetState


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedRows:
    """Consecutive rows of a file that are to be sent."""

    file_key: str
    first_row: Count
    rows: Count


@dataclasses.dataclass(frozen=True, slots=True)
class SyncGoal:
    """What a synchronisation found, and the rows that it sends."""

    run_id: str
    tally: RowTally
    planned: tuple[PlannedRows, ...]
    files_digest: str = ""
    """Of the input files, see `digest_of_files`."""
    records_digest: str = ""
    """Of the commit records of the complete dataset, see `digest_of_records`; empty before."""

    @property
    def rows_in(self) -> int:
        """Rows of the input; of those with one id only the last."""
        return self.tally.unchanged + self.tally.to_send

    def lost_rows(self, records: Sequence[UnitRecord]) -> int:
        """Return how many rows of the input are in no record of a complete dataset."""
        found = sum(record.embedded + record.dead + record.skipped for record in records)
        return max(0, self.rows_in - found)

    def rows(self, records: Sequence[UnitRecord]) -> RowCounts:
        """Return the state of the input's rows, by the commit records of the dataset.

        Old rows that are still to be removed do not count.
        """
        ranges = collections.defaultdict(list)
        for planned in self.planned:
            ranges[planned.file_key].append((planned.first_row, planned.rows))
        new = [
            record
            for record in records
            if is_within(
                record.unit.first_row, record.unit.rows, ranges.get(record.unit.file_key, ())
            )
        ]
        sent = count_rows(new, self.tally.to_send)
        tally = self.tally
        return RowCounts(
            self.rows_in,
            tally.embedded + sent.embedded,
            tally.dead + sent.dead,
            tally.skipped + sent.skipped,
            sent.left,
        )


def goal_of(job: JobConfig, mirror: Mirror, plan: Plan) -> SyncGoal:
    """Return the goal of a run."""
    planned = tuple(
        PlannedRows(file.file.key, *rows)
        for file in plan.work
        for rows in merge_ranges((unit.first_row, unit.rows) for unit in file.units)
    )
    return SyncGoal(job.run_id, mirror.found.tally, planned, digest_of_files(mirror.files))


def digest_of_files(files: Iterable[InputFile]) -> str:
    """Return a digest of files, equal for the same rows in the same order."""
    return _digest(file.key for file in files)


def digest_of_records(state: DatasetState) -> str:
    """Return a digest of the units of a dataset, which a compaction does not change."""
    return _digest(
        f"{one.unit.file_key} {one.unit.first_row} {one.unit.rows} "
        f"{one.embedded} {one.dead} {one.skipped} {one.removed}"
        for one in sorted(state.records, key=lambda record: record.unit)
    )


def _digest(names: Iterable[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        digest.update(f"{name}\n".encode())
    return digest.hexdigest()


def synced_rows(dataset: Dataset, records: Sequence[UnitRecord], *, complete: bool) -> RowCounts:
    """Return the state of the rows of the last input, of a synchronised dataset.

    Args:
        dataset: the dataset.
        records: all its commit records.
        complete: whether it has a `_SUCCESS`.
    """
    goal = read_goal(dataset)
    if goal is not None and not complete:
        return goal.rows(records)
    lost = goal.lost_rows(records) if goal is not None else 0
    total = sum(record.unit.rows for record in records)
    return count_rows(records, total + lost, lost)


def write_goal(dataset: Dataset, goal: SyncGoal) -> None:
    """Write the goal of a run that has taken the dataset."""
    dataset.write_json(SYNC, with_checksum(to_plain(goal)))


def read_goal(dataset: Dataset) -> SyncGoal | None:
    """Return the goal of the last synchronisation; None if the dataset is not synchronised.

    Raises:
        OutputError: the file is damaged.
    """
    content = dataset.read_json(SYNC)
    if content is None:
        return None
    try:
        return checked_goal(content)
    except ValueError as error:
        raise dataset.damaged_file(SYNC, str(error)) from None


def checked_goal(content: dict[str, Any]) -> SyncGoal:
    """Return the goal in the content of its file.

    Raises:
        ValueError: it is damaged.
    """
    check_checksum(content)
    return from_plain(content, SyncGoal)
