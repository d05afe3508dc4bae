"""Ids that more than one row has, and where they stand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.fs as pafs

from bulkembed.pipeline.run.plan import planned_files
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.findings import Check, Finding
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core import ranges
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.duplicate_ids import DuplicateIds, id_keys
from bulkembed.transforms.dataset.layout import (
    DEAD_LETTERS,
    EMPTY_PART,
    SUCCESS,
    UNITS,
    VECTORS,
    age_of_part,
    is_part_name,
    is_unfinished,
    record_name,
)
from bulkembed.transforms.dataset.records import DatasetState, RecordParts, named_record
from bulkembed.transforms.inputs.filesystems import error_line

NO_RECORD = "no commit record; delete it"
HEALS = (
    "run the same command again, which pays for nothing twice, or `bulkembed verify --repair OUT`"
)
"""The cure for what a run left that does not count: a run deletes it, a repair sets it aside."""
READERS_TAKE_IT = "no commit record names it, but readers of the folder take it; delete it"


def read_state(dataset: Dataset) -> tuple[DatasetState, list[Finding]]:
    """Return the state that the names of the commit records say, and those that say nothing."""
    records, found = [], []
    for name in dataset.names(UNITS):
        try:
            record = named_record(name)
        except OutputError as error:
            found.append(Finding(Check.RECORD, f"{UNITS}/{name}", error.message))
            continue
        if record is not None:
            records.append(record)
    return dataset.state_of(records), found


def unfinished(dataset: Dataset, state: DatasetState) -> list[Finding]:
    """Rows of the last plan that no record covers; `_SUCCESS` where it should not be, or not."""
    covered = state.covered()
    found = []
    for key, file in planned_files(dataset).items():
        left = sum(rows for _, rows in ranges.subtract(file.rows, covered.get(key, ())))
        if left:
            message = f"{left:,} of {file.rows:,} rows are not done; run the same command again"
            found.append(Finding(Check.UNFINISHED, file.name, message))
    if SUCCESS not in dataset.names(""):
        message = "not there: the last run was not complete; run the same command again"
        found.append(Finding(Check.UNFINISHED, SUCCESS, message))
    elif found:
        message = "there, though not all rows are done: commit records are lost"
        found.append(Finding(Check.UNFINISHED, SUCCESS, message))
    return found


def strangers(dataset: Dataset, state: DatasetState, named: Iterable[str]) -> list[Finding]:
    """Files that do not belong where they are.

    Args:
        dataset: whose folder it is.
        state: the records that hold.
        named: the parts that they name, as names within the dataset.
    """
    known = {*named, *(f"{UNITS}/{record_name(record)}" for record in state.records)}
    if not any(record.embedded for record in state.records):
        known.add(f"{VECTORS}/{EMPTY_PART}")
    found = []
    for name in _all_files(dataset):
        if is_unfinished(PurePosixPath(name).name):
            message = "a file that was never finished; the next run with something to do deletes it"
            found.append(Finding(Check.STRANGER, name, message))
        elif name not in known and name.startswith((f"{VECTORS}/", f"{DEAD_LETTERS}/")):
            found.append(Finding(Check.STRANGER, name, _why_no_part(name)))
        elif name not in known and name.startswith(f"{UNITS}/"):
            found.append(Finding(Check.STRANGER, name, _why_no_record(name, state)))
    return found


def _why_no_part(name: str) -> str:
    """Say why a file beside the parts that count is none of them."""
    if not is_part_name(PurePosixPath(name).name):
        return READERS_TAKE_IT
    number, _ = age_of_part(name)
    return (
        f"part of run number {number}: no commit record that counts names it, but readers of the "
        f"folder take its rows; {HEALS}"
    )


def _why_no_record(name: str, state: DatasetState) -> str:
    """Say why a file among the commit records does not count."""
    record = None
    with contextlib.suppress(OutputError):
        record = named_record(PurePosixPath(name).name)
    if record is None:
        return NO_RECORD
    rivals = sorted({rival.run_number for rival in state.overlapping(record.unit)})
    why = "its rows were overwritten, or are of other settings"
    if rivals:
        why = f"records of run number {', '.join(map(str, rivals))} cover its rows"
    return f"commit record of run number {record.run_number} that does not count: {why}; {HEALS}"


def _all_files(dataset: Dataset) -> Sequence[str]:
    """Every file below the dataset's folder, as names within it, sorted."""
    selector = pafs.FileSelector(dataset.root, recursive=True)
    try:
        infos = dataset.filesystem.get_file_info(selector)
    except OSError as error:
        raise OutputError(f"{dataset.root}: cannot be listed: {error_line(error)}") from error
    root = dataset.root.rstrip("/") + "/"
    return sorted(i.path.removeprefix(root) for i in infos if i.type == pafs.FileType.File)


Names = npt.NDArray[np.int64]
COLUMNS = ("id", "source_file", "source_row")
SHOWN = 10
"""Repeated ids that are named; the others are counted."""


def repeated_ids(
    dataset: Dataset, records: Sequence[UnitRecord], ids: DuplicateIds
) -> Iterable[Finding]:
    """A finding for each of the first few ids that several rows have, and one for the rest.

    Args:
        dataset: whose parts are read again, if an id is repeated.
        records: of its units, whole.
        ids: of all their rows.
    """
    repeated = ids.duplicates()
    if not len(repeated):
        return
    shown = np.unique(repeated)[:SHOWN]
    places: dict[object, list[str]] = {}
    for record in records:
        for name in RecordParts.of(record).all:
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
        part = part_files.open_part(dataset, name)
        if not set(COLUMNS) <= set(part.schema_arrow.names):
            return
        columns = part_files.with_passages(part, COLUMNS)
        for block in map(part_files.once_a_row, part_files.read_blocks(part, name, columns)):
            filled = block.filter(block.column("id").is_valid())
            yield from filled.take(
                np.flatnonzero(np.isin(id_keys(filled.column("id")), names))
            ).to_pylist()


def _listed(places: Sequence[str]) -> str:
    return ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
