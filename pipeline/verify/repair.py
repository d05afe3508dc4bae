"""`bulkembed verify --repair`: move damaged files aside, so that the next run replaces them.

Damaged files are not deleted but moved to `_run/aside/`. Intact parts stay, and a damaged or
missing commit record is rebuilt from them.
"""

from __future__ import annotations

import collections
import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.pipeline.run.scans import SCANS_FILE, check_plan
from bulkembed.pipeline.sync.sync_file import checked_goal
from bulkembed.pipeline.verify.folder_check import read_state, rows_left
from bulkembed.pipeline.verify.rebuild import group_from_parts, record_from_parts, unreadable_units
from bulkembed.pipeline.verify.unit_check import Expected, UnitReport, check_unit
from bulkembed.pipeline.verify.verify import expected_of
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.findings import Check
from bulkembed.schemas.job import RunStamp, VectorEncoding
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.serialization import from_plain
from bulkembed.schemas.stop import Stop
from bulkembed.schemas.units import CallCounts, GroupRecord, PartsRecord, Unit
from bulkembed.transforms.core.ranges import RowRange, intersections
from bulkembed.transforms.core.timeline import Timeline
from bulkembed.transforms.core.token_account import TokenAccount
from bulkembed.transforms.dataset import atomic_files, output_lock, run_file, spending_notes
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.duplicate_ids import DuplicateIds
from bulkembed.transforms.dataset.layout import (
    ACCOUNT,
    CHANGES,
    CLAIMS,
    DAMAGED,
    DEAD_LETTERS,
    IDS,
    INDEX,
    KEPT,
    LOCK,
    MANIFEST,
    PLAN,
    REPORT,
    RUN,
    RUN_FILE,
    SHARED,
    SPENDING,
    STOPS,
    SUCCESS,
    SUMMARIES,
    SYNC,
    TIMELINE,
    UNITS,
    VECTORS,
    age_of_part,
    is_group_name,
    is_group_part,
    is_part_name,
    is_unfinished,
    record_name,
    short_name,
    unit_of_part,
)
from bulkembed.transforms.dataset.manifest import check_manifest
from bulkembed.transforms.dataset.output_lock import LockOwner
from bulkembed.transforms.dataset.records import DatasetState, named_record
from bulkembed.transforms.dataset.replace import replace_rows
from bulkembed.transforms.dataset.worker_notes import DamagedFile
from bulkembed.transforms.inputs.filesystems import error_line

ASIDE = f"{RUN}/aside"
"""The folder for damaged files."""
_FOLDERS = (
    VECTORS, DEAD_LETTERS, RUN, UNITS, PLAN, SUMMARIES, STOPS, KEPT, SHARED, INDEX, TIMELINE,
    CLAIMS, DAMAGED, CHANGES, IDS, SPENDING,
)  # fmt: skip
_FILES = (SUCCESS, REPORT, RUN_FILE, LOCK, ACCOUNT, MANIFEST, run_file.COPY)


def repair(output: str) -> list[str]:
    """Repair the dataset at a path or URI, and return a line for each change.

    Raises:
        ConfigError: there is no dataset, or its settings are lost.
        OutputLocked: a run is writing it.
        OutputError: the folder cannot be read or written.
    """
    dataset = Dataset.open(output)
    repairing = _Repair(dataset)
    # Before the lock, because a folder in its place would prevent it.
    repairing.file_kinds()
    owner = LockOwner(f"repair-{secrets.token_hex(3)}", "bulkembed verify --repair")
    with output_lock.acquire(dataset, owner):
        repairing.settings()
        repairing.notes()
        repairing.plan()
        repairing.records()
        repairing.success()
    return repairing.done


class _Repair:
    """The steps of a repair."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._stamp = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(2)}"
        self.done: list[str] = []

    def file_kinds(self) -> None:
        """Move folders in place of files aside, and files in place of folders."""
        if self._dataset.is_on_a_store:
            return
        if not self._is_there(self._dataset.root, pafs.FileType.Directory):
            return
        for folder in _FOLDERS:
            if self._is_there(self._dataset.path(folder), pafs.FileType.File):
                self._set_aside(folder, "a file in place of a folder")
        for name in _FILES:
            if self._is_there(self._dataset.path(name), pafs.FileType.Directory):
                self._set_aside(name, "a folder in place of a file")
        for folder in _FOLDERS:
            for name in self._folders_in(folder):
                full = f"{folder}/{name}"
                ours = folder != RUN and (
                    folder not in (VECTORS, DEAD_LETTERS) or is_part_name(name)
                )
                if ours:
                    self._set_aside(full, "a folder in place of a file")

    def settings(self) -> None:
        """Restore `run.json` from its copy if it is missing or damaged."""
        is_there = self._is_there(self._dataset.path(RUN_FILE), pafs.FileType.File)
        copy = run_file.read_copy(self._dataset)
        try:
            if is_there or copy is None:
                run_file.read(self._dataset)
                return
        except OutputError as error:
            if copy is None:
                raise run_file.lost_settings_error(self._dataset) from error
            self._set_aside(RUN_FILE, error.message)
        self._dataset.write(RUN_FILE, copy)
        self.done.append(f"{RUN_FILE}: restored from {run_file.COPY}")

    def notes(self) -> None:
        """Move unreadable notes, summaries and timelines of earlier runs aside."""
        self._unless(ACCOUNT, TokenAccount.from_bytes)
        self._unless(MANIFEST, check_manifest)
        for folder, check in (
            (SHARED, lambda data: from_plain(_object(data), CallCounts)),
            (SUMMARIES, _object),
            (DAMAGED, lambda data: from_plain(_object(data), DamagedFile)),
            (TIMELINE, lambda data: Timeline.from_json(_object(data))),
            (STOPS, lambda data: from_plain(_object(data), Stop)),
            (SPENDING, lambda data: spending_notes.check_note(_object(data))),
        ):
            for name in self._dataset.names(folder):
                if name.endswith(".json"):
                    self._unless(f"{folder}/{name}", check)

    def plan(self) -> None:
        """Move a damaged plan aside; the next run scans its input again."""
        self._unless(SCANS_FILE, check_plan)
        self._unless(SYNC, lambda data: checked_goal(_object(data)))

    def records(self) -> None:
        """Move damaged records and parts aside, and rebuild the records of intact parts."""
        dataset = self._dataset
        for name in dataset.names(UNITS):
            if not is_unfinished(name) and not _is_record(name):
                self._set_aside(f"{UNITS}/{name}", "not the name of a commit record")
        for name in filter(is_group_name, dataset.names(UNITS)):
            try:
                dataset.read_groups([name])
            except OutputError as error:
                self._set_aside(f"{UNITS}/{name}", error.message)
        state, _ = read_state(dataset)
        pinned = run_file.read(dataset)
        expected = expected_of(dataset, pinned, state)
        for record in state.parts_records():
            report = check_unit(dataset, expected, record, DuplicateIds())
            if report.findings:
                self._damaged(expected, record, report)
        self._orphans(expected, pinned.get("first_run_number", 0))
        for group, units in dataset.state().replaced_units():
            # The next run publishes its new parts, and deletes the old ones.
            dataset.delete([SUCCESS])
            self._without(group, units)
            covered = number_of(len(units), "unit")
            where = f"{UNITS}/{record_name(group)}"
            self.done.append(f"{where}: written again without {covered} that other records cover")
        for name in dataset.state().stale:
            if not is_unfinished(name):
                self._set_aside(f"{UNITS}/{name}", "a commit record that does not count")

    def success(self) -> None:
        """Delete `_SUCCESS` if rows of the plan must be embedded again."""
        dataset = self._dataset
        synced = run_file.is_synced(run_file.read(dataset))
        left = sum(rows for _, rows, _ in rows_left(dataset, dataset.state(), synced=synced))
        if left and SUCCESS in self._dataset.names(""):
            self._dataset.delete([SUCCESS])
            self.done.append(
                f"{SUCCESS}: deleted, because {number_of(left, 'row')} must be embedded again"
            )

    def _damaged(self, expected: Expected, record: PartsRecord, report: UnitReport) -> None:
        where = f"{UNITS}/{record_name(record)}"
        for finding in report.findings:
            if atomic_files.NO_PERMISSION in finding.message:  # It may be intact.
                path = self._dataset.path(finding.where)
                raise OutputError(f"{path}: {atomic_files.NO_PERMISSION}. Nothing was moved.")
        if isinstance(record, GroupRecord) and all(
            finding.check is Check.UNREADABLE for finding in report.findings
        ):
            self._keep_readable_units(expected, record)
        self._set_aside(where, report.findings[0].message)
        if report.record is not None:  # Its parts are damaged; otherwise _orphans checks them.
            for finding in report.findings:
                if finding.where != where and self._is_there(
                    self._dataset.path(finding.where), pafs.FileType.File
                ):
                    self._set_aside(finding.where, finding.message)

    def _keep_readable_units(self, expected: Expected, group: GroupRecord) -> None:
        """Write a group again without the units in row groups that cannot be read."""
        dataset = self._dataset
        units = unreadable_units(dataset, group)
        if units is None or len(units) == len(group.members):
            return
        made = self._without(group, units, keeps_old=True)
        if made is None or check_unit(dataset, expected, made, DuplicateIds()).findings:
            return  # It is moved aside as well.
        kept = number_of(len(group.members) - len(units), "unit")
        self.done.append(f"{UNITS}/{record_name(made)}: written with {kept} that can be read")

    def _without(
        self, group: GroupRecord, units: Collection[Unit], *, keeps_old: bool = False
    ) -> PartsRecord | None:
        """Write a group again without some of its units."""
        encoding = VectorEncoding(run_file.read(self._dataset)["layout"]["vector_encoding"])
        run = RunStamp(group.run_id, group.run_number, group.embedding_digest, encoding)
        none = np.empty(0, np.int64)
        return replace_rows(
            self._dataset, run, group, none, none, drop_units=units, keeps_old=keeps_old
        )

    def _orphans(self, expected: Expected, first_run_number: int) -> None:
        """Rebuild the records of parts that have none, or move these parts aside.

        Parts of runs before `first_run_number` do not count: their rows were overwritten.
        """
        dataset = self._dataset
        self._orphans_of_groups(expected, first_run_number)
        state = dataset.state()
        for unit, parts in sorted(self._unnamed(state).items()):
            record = None
            counts = max(map(age_of_part, parts))[0] >= first_run_number
            if counts and not list(
                intersections((unit.first_row, unit.rows), _covered(state, unit))
            ):
                record = record_from_parts(dataset, expected, unit, parts)
            if record is not None:
                dataset.write_record(record)
                self.done.append(f"{UNITS}/{record_name(record)}: rebuilt from its parts")
                state = dataset.state()
                parts = [part for part in parts if part not in set(dataset.parts_of(record).all)]
            for part in parts:
                if part not in dataset.protected_parts():
                    self._set_aside(part, "no commit record names it")

    def _orphans_of_groups(self, expected: Expected, first_run_number: int) -> None:
        """Rebuild the records of merged parts that have none, the newest first, or move them."""
        dataset = self._dataset
        state = dataset.state()
        by_name: dict[str, list[str]] = collections.defaultdict(list)
        for part in self._unnamed_parts(state):
            if is_group_part(short_name(part)):
                by_name[short_name(part)].append(part)
        for parts in sorted(by_name.values(), key=lambda some: age_of_part(some[0]), reverse=True):
            group = None
            if age_of_part(parts[0])[0] >= first_run_number:
                group = group_from_parts(dataset, expected, state, parts)
            if group is not None:
                dataset.write_record(group)
                self.done.append(f"{UNITS}/{record_name(group)}: rebuilt from its parts")
                state = dataset.state()
            else:
                for part in parts:
                    if part not in dataset.protected_parts():
                        self._set_aside(part, "no commit record names it")

    def _unnamed(self, state: DatasetState) -> dict[Unit, list[str]]:
        found: dict[Unit, list[str]] = collections.defaultdict(list)
        for part in self._unnamed_parts(state):
            name = short_name(part)
            if not is_group_part(name):
                found[unit_of_part(name)].append(part)
        return found

    def _unnamed_parts(self, state: DatasetState) -> list[str]:
        named = {part for one in self._dataset.distinct_parts(state) for part in one.all}
        manifest = self._dataset.manifest()
        named |= set(manifest.superseded) if manifest is not None else set()
        return [
            f"{folder}/{name}"
            for folder in (VECTORS, DEAD_LETTERS)
            for name in self._dataset.names(folder)
            if is_part_name(name) and f"{folder}/{name}" not in named
        ]

    def _unless(self, name: str, check: Callable[[bytes], object]) -> None:
        """Move a file aside unless it passes a check."""
        data = atomic_files.read_bytes(self._dataset.filesystem, self._dataset.path(name))
        if data is None:
            return
        try:
            check(data)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            self._set_aside(name, f"damaged: {error!r}")

    def _set_aside(self, name: str, why: str) -> None:
        dataset = self._dataset
        # A file in place of the folder `_run` cannot be moved into it.
        to = f"_aside-{self._stamp}" if name == RUN else f"{ASIDE}/{self._stamp}-{_flat(name)}"
        try:
            if name != RUN:
                dataset.filesystem.create_dir(dataset.path(ASIDE), recursive=True)
            dataset.filesystem.move(dataset.path(name), dataset.path(to))
        except (OSError, pa.ArrowException) as error:
            raise OutputError(
                f"{dataset.path(name)} cannot be moved: {error_line(error)}"
            ) from error
        self.done.append(f"{name}: moved to {to} ({why})")

    def _is_there(self, path: str, kind: pafs.FileType) -> bool:
        with contextlib.suppress(OSError):
            return bool(self._dataset.filesystem.get_file_info(path).type == kind)
        return False

    def _folders_in(self, folder: str) -> Iterator[str]:
        path = self._dataset.path(folder)
        if self._is_there(path, pafs.FileType.Directory):
            infos = self._dataset.filesystem.get_file_info(pafs.FileSelector(path))
            yield from (i.base_name for i in infos if i.type == pafs.FileType.Directory)


def _flat(name: str) -> str:
    return name.replace("/", "~")


def _is_record(name: str) -> bool:
    try:
        return is_group_name(name) or named_record(name) is not None
    except OutputError:
        return False


def _covered(state: DatasetState, unit: Unit) -> Sequence[RowRange]:
    return state.covered().get(unit.file_key, ())


def _object(data: bytes) -> dict[str, Any]:
    content = orjson.loads(data)
    if not isinstance(content, dict):
        raise TypeError("not a JSON object")
    return content
