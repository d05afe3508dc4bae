"""The files in the folder of a dataset: records, unfinished rows, foreign files, duplicate ids."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.fs as pafs

from bulkembed.pipeline.run.scans import planned_files
from bulkembed.pipeline.sync.sync_file import synced_rows
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.findings import Check, Finding
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.ranges import remaining_ranges
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.atomic_files import REPAIR
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.duplicate_ids import DuplicateIds, Keys, id_keys
from bulkembed.transforms.dataset.layout import (
    CLAIMS,
    DEAD_LETTERS,
    EMPTY_PART,
    MANIFEST,
    SUCCESS,
    SYNC,
    UNITS,
    VECTORS,
    age_of_part,
    is_group_name,
    is_part_name,
    is_unfinished,
    part_name,
    part_of_group,
    record_name,
    run_number_in,
    short_name,
)
from bulkembed.transforms.dataset.manifest import read_manifest
from bulkembed.transforms.dataset.records import DatasetState, RecordParts, named_record
from bulkembed.transforms.inputs.filesystems import error_line

ID_COLUMNS = ("id", "source_file", "source_row")
SHOWN_IDS = 10
"""Number of duplicate ids that are named; the others are only counted."""
NOT_A_RECORD = "not a commit record. Delete it."
RERUN_OR_REPAIR = (
    "Rerun the same command, which bills nothing twice, or use `bulkembed verify --repair OUT`."
)
"""The cure for a file of a run that does not count: a run deletes it, a repair moves it aside."""
REPAIR_MANIFEST = (
    "Run `bulkembed verify --repair OUT` to move it aside. The next run that changes the dataset "
    "writes another one."
)
FOREIGN_PART = "no commit record names it, but readers of the folder read it. Delete it."


def read_state(dataset: Dataset) -> tuple[DatasetState, list[Finding]]:
    """Return the state by the names of the commit records, and findings about invalid names."""
    records, groups, found = [], [], []
    for name in dataset.names(UNITS):
        try:
            record = named_record(name)
        except OutputError as error:
            found.append(Finding(Check.RECORD, f"{UNITS}/{name}", error.message))
            continue
        if record is not None:
            records.append(record)
        elif is_group_name(name):
            try:
                groups += dataset.read_groups([name])
            except OutputError as error:
                found.append(Finding(Check.RECORD, f"{UNITS}/{name}", error.message))
    state = dataset.state_of(records, groups)
    return state, [*found, *_incomplete_groups(state)]


def _incomplete_groups(state: DatasetState) -> Iterator[Finding]:
    """Yield a finding for each group with units that do not count."""
    for group, units in state.replaced_units():
        message = (
            f"other records cover the rows of {number_of(len(units), 'unit')} of this group, but "
            f"readers of the folder read the rows of both. {REPAIR}"
        )
        yield Finding(Check.RECORD, f"{UNITS}/{record_name(group)}", message)


def rows_left(
    dataset: Dataset, state: DatasetState, *, synced: bool
) -> Iterator[tuple[str, int, int]]:
    """Yield what has rows of the last plan without a record: its name, these rows, and all rows."""
    if synced:
        complete = SUCCESS in dataset.names("")
        rows = synced_rows(dataset, state.records, complete=complete)
        if rows.left:
            yield SYNC, rows.left, rows.rows_in
        return
    covered = state.covered()
    for key, file in planned_files(dataset).items():
        left = sum(rows for _, rows in remaining_ranges(file.rows, covered.get(key, ())))
        if left:
            yield file.name, left, file.rows


def unfinished(dataset: Dataset, state: DatasetState, *, synced: bool) -> list[Finding]:
    """Return findings about rows of the last plan without a record, and about `_SUCCESS`."""
    found = []
    for name, left, rows in rows_left(dataset, state, synced=synced):
        message = f"{left:,} of {number_of(rows, 'row')} remaining. Rerun the same command to "
        found.append(Finding(Check.UNFINISHED, name, f"{message}resume."))
    if SUCCESS not in dataset.names(""):
        message = "missing: the last run is not complete. Rerun the same command to resume."
        found.append(Finding(Check.UNFINISHED, SUCCESS, message))
    elif found:
        message = (
            "present, but rows are remaining: commit records are missing. "
            "Run `bulkembed verify --repair OUT`, then rerun the same command."
        )
        found.append(Finding(Check.UNFINISHED, SUCCESS, message))
    return found


def manifest_problems(dataset: Dataset, named: Iterable[str] | None) -> list[Finding]:
    """Return findings about the manifest.

    Args:
        dataset: the dataset.
        named: the parts that commit records name; None if records are missing, which is found by
            another check.
    """
    try:
        manifest = read_manifest(dataset)
    except OutputError as error:
        return [Finding(Check.MANIFEST, MANIFEST, f"{error.message} {REPAIR_MANIFEST}")]
    if manifest is None or named is None or SUCCESS not in dataset.names(""):
        return []
    unnamed = sorted({part.name for part in manifest.parts} - set(named))
    if not unnamed:
        return []
    what = f"{number_of(len(unnamed), 'part')} of it, such as {unnamed[0]}, are in no commit record"
    return [Finding(Check.MANIFEST, MANIFEST, f"{what}. {RERUN_OR_REPAIR}")]


def foreign_files(
    dataset: Dataset, state: DatasetState, named: Iterable[str], damaged: Iterable[str]
) -> list[Finding]:
    """Return findings about files that no commit record names.

    Args:
        dataset: the dataset.
        state: the records that count.
        named: the parts that they name, as names within the dataset.
        damaged: the names of damaged records; those of groups name their parts as well.
    """
    known = {
        *named,
        *dataset.protected_parts(),
        *(f"{UNITS}/{record_name(record)}" for record in state.parts_records()),
    }
    parts_of_damaged = set()
    for name in damaged:
        part = part_of_group(short_name(name)) or _part_of_partitioned(short_name(name))
        if part is not None:
            known.add(name)
            parts_of_damaged.add(part)
    if not any(record.embedded for record in state.records):
        known.add(f"{VECTORS}/{EMPTY_PART}")
    found = []
    for name in _all_files(dataset):
        if name.startswith(f"{CLAIMS}/"):
            continue  # Runs that begin and end write them, also those that are rejected.
        if is_unfinished(name):
            message = "unfinished file. The next run that embeds rows deletes it."
            found.append(Finding(Check.FOREIGN, name, message))
        elif name in known or short_name(name) in parts_of_damaged:
            continue
        elif name.startswith((f"{VECTORS}/", f"{DEAD_LETTERS}/")):
            found.append(Finding(Check.FOREIGN, name, _why_no_part(name)))
        elif name.startswith(f"{UNITS}/"):
            found.append(Finding(Check.FOREIGN, name, _why_no_record(name, state)))
    return found


def _part_of_partitioned(name: str) -> str | None:
    """Return the name of the parts that the commit of a partitioned unit wrote; else None."""
    with contextlib.suppress(OutputError):
        record = named_record(name)
        return part_name(record) if record is not None and record.is_partitioned else None
    return None


def _why_no_part(name: str) -> str:
    """Return why a file in a folder of parts does not count, and the cure."""
    if not is_part_name(name.partition("/")[2]):
        return FOREIGN_PART
    number, _ = age_of_part(name)
    return (
        f"part of run number {number}: no commit record that counts names it, but readers of the "
        f"folder read its rows. {RERUN_OR_REPAIR}"
    )


def _why_no_record(name: str, state: DatasetState) -> str:
    """Return why a file among the commit records does not count, and the cure."""
    record = None
    short = short_name(name)
    if is_group_name(short):
        number = run_number_in(short)
        return (
            f"record of a group of run number {number} that does not count: newer records cover "
            f"its rows. {RERUN_OR_REPAIR}"
        )
    with contextlib.suppress(OutputError):
        record = named_record(short)
    if record is None:
        return NOT_A_RECORD
    rivals = sorted({rival.run_number for rival in state.overlapping(record.unit)})
    why = "its rows were overwritten, or have other settings"
    if rivals:
        why = f"records of run number {', '.join(map(str, rivals))} cover its rows"
    problem = f"commit record of run number {record.run_number} that does not count: {why}."
    return f"{problem} {RERUN_OR_REPAIR}"


def _all_files(dataset: Dataset) -> Sequence[str]:
    """Return every file below the dataset's folder, as names within it, sorted."""
    selector = pafs.FileSelector(dataset.root, recursive=True)
    try:
        infos = dataset.filesystem.get_file_info(selector)
    except OSError as error:
        raise OutputError(f"{dataset.root}: cannot be listed: {error_line(error)}") from error
    root = dataset.root.rstrip("/") + "/"
    return sorted(i.path.removeprefix(root) for i in infos if i.type == pafs.FileType.File)


def duplicate_ids(
    dataset: Dataset, records: Sequence[UnitRecord], ids: DuplicateIds
) -> Iterable[Finding]:
    """Yield a finding for each of the first few duplicate ids, and one for the rest.

    Args:
        dataset: the dataset. Its parts are read again if there is a duplicate id.
        records: the records of its units, as their files have them.
        ids: the ids of all rows.
    """
    repeated = ids.duplicates()
    if not len(repeated):
        return
    shown = repeated[:SHOWN_IDS]
    places: dict[object, list[str]] = {}
    for name in dict.fromkeys(name for one in records for name in RecordParts.of(one).all):
        for row in _rows_having(dataset, name, shown):
            place = f"row {row['source_row']} of {row['source_file']}"
            places.setdefault(row["id"], []).append(place)
    for one, rows in places.items():
        yield Finding(
            Check.ID, f"id {one!r}", f"used by {number_of(len(rows), 'row')}: {_listed(rows)}"
        )
    others = len(repeated) - len(shown)
    if others:
        yield Finding(Check.ID, "other ids", f"{number_of(others, 'more id')} used by several rows")


def _rows_having(dataset: Dataset, name: str, keys: Keys) -> Iterator[dict[str, Any]]:
    """Yield the rows of a part whose id has one of the keys; none if it cannot be read."""
    with contextlib.suppress(OutputError):
        part = part_files.open_part(dataset, name)
        if not part_files.has_columns(part.schema_arrow, ID_COLUMNS):
            return
        columns = part_files.with_passage_columns(part, ID_COLUMNS)
        for block in map(part_files.one_per_input_row, part_files.read_blocks(part, name, columns)):
            filled = block.filter(block.column("id").is_valid())
            yield from filled.take(
                np.flatnonzero(np.isin(id_keys(filled.column("id")), keys))
            ).to_pylist()


def _listed(places: Sequence[str]) -> str:
    return ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
