"""`bulkembed verify --repair`: set damaged files aside, so that the next run embeds them again.

Nothing is deleted: damaged files are moved to `_run/aside/`.  Whole parts stay, and a damaged or
lost commit record is rebuilt from them.
"""

from __future__ import annotations

import collections
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.fs as pafs

from pipeline.planning import SCANS_FILE, check_plan, planned_files
from pipeline.verify.expected import Expected
from pipeline.verify.folder_check import read_state
from pipeline.verify.rebuild import record_from_parts
from pipeline.verify.unit_check import UnitReport, check_unit
from pipeline.verify.verify import expected_of
from schemas.errors import OutputError
from schemas.stop import Stop
from schemas.units import CallCounts, Unit, UnitRecord
from transforms.core import ranges
from transforms.core.account import Account
from transforms.core.timeline import Timeline
from transforms.storage import output_lock, run_file, whole_files
from transforms.storage.dataset import (
    ACCOUNT,
    CLAIMS,
    DAMAGED,
    DEAD_LETTERS,
    LOCK,
    PLAN,
    REPORT,
    RUN_FILE,
    SHARED,
    SPILL,
    STOPS,
    SUCCESS,
    SUMMARIES,
    TIMELINE,
    UNITS,
    VECTORS,
    Dataset,
    State,
)
from transforms.storage.id_count import IdCount
from transforms.storage.lock_owner import LockOwner
from transforms.storage.part_files import is_part_name, place_of_part, unit_of_part
from transforms.storage.records import parse_name, record_name
from transforms.storage.store_errors import said

RUN = "_run"
ASIDE = f"{RUN}/aside"
"""Where damaged files go."""
_FOLDERS = (
    VECTORS, DEAD_LETTERS, RUN, UNITS, PLAN, SUMMARIES, STOPS, SPILL, SHARED, TIMELINE, CLAIMS,
    DAMAGED,
)  # fmt: skip
_FILES = (SUCCESS, REPORT, RUN_FILE, LOCK, ACCOUNT, run_file.COPY)


def repair(output: str) -> list[str]:
    """Set right what is damaged of the dataset at a path or URI, and return what was done.

    Raises:
        ConfigError: there is no dataset, or nobody knows with which settings it was made.
        OutputLocked: a run is at work on it.
        OutputError: the folder cannot be read or written.
    """
    dataset = Dataset.open(output)
    repairing = _Repair(dataset)
    # Before the lock: what stands in its place would be in the way.
    repairing.kinds()
    owner = LockOwner(f"repair-{secrets.token_hex(3)}", "bulkembed verify --repair")
    with output_lock.held(dataset, owner):
        repairing.pins()
        repairing.notes()
        repairing.plan()
        repairing.records()
        repairing.success()
    return repairing.done


class _Repair:
    """One repair, step by step."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._stamp = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(2)}"
        self.done: list[str] = []

    def kinds(self) -> None:
        """Set aside folders in place of files, and files in place of folders."""
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

    def pins(self) -> None:
        """Bring `run.json` back from its copy, if it is lost or damaged."""
        is_there = self._is_there(self._dataset.path(RUN_FILE), pafs.FileType.File)
        copy = run_file.read_copy(self._dataset)
        try:
            if is_there or copy is None:
                run_file.read(self._dataset)
                return
        except OutputError as error:
            if copy is None:
                raise run_file.lost(self._dataset) from error
            self._set_aside(RUN_FILE, error.message)
        self._dataset.write(RUN_FILE, copy)
        self.done.append(f"{RUN_FILE}: written again from {run_file.COPY}")

    def notes(self) -> None:
        """Set aside what cannot be read of the small files that runs leave."""
        self._unless(ACCOUNT, Account.from_bytes)
        for folder, check in (
            (SHARED, lambda data: sum((CallCounts(**_object(data)),), CallCounts())),
            (SUMMARIES, _object),
            (DAMAGED, _object),
            (TIMELINE, lambda data: Timeline.from_json(_object(data))),
            (STOPS, lambda data: Stop.from_facts(_object(data))),
        ):
            for name in self._dataset.names(folder):
                if name.endswith(".json"):
                    self._unless(f"{folder}/{name}", check)

    def plan(self) -> None:
        """Set aside a plan that is damaged: the next run scans its input again."""
        self._unless(SCANS_FILE, check_plan)

    def records(self) -> None:
        """Set aside damaged records and parts; write records again whose parts are whole."""
        dataset = self._dataset
        for name in dataset.names(UNITS):
            if not name.startswith(whole_files.TEMP_PREFIX) and not _is_record(name):
                self._set_aside(f"{UNITS}/{name}", "its name is not that of a commit record")
        state, _ = read_state(dataset)
        pinned = run_file.read(dataset)
        expected = expected_of(dataset, pinned, state)
        for record in state.records:
            report = check_unit(dataset, expected, record, IdCount())
            if report.findings:
                self._damaged(expected, record, report)
        self._orphans(expected, pinned.get("first_run_number", 0))
        for name in dataset.state().stale:
            if not name.startswith(whole_files.TEMP_PREFIX):
                self._set_aside(f"{UNITS}/{name}", "a commit record that does not count")

    def success(self) -> None:
        """Take `_SUCCESS` away where rows of the plan are to be done again."""
        covered = self._dataset.state().covered()
        left = sum(
            rows
            for key, file in planned_files(self._dataset).items()
            for _, rows in ranges.subtract(file.rows, covered.get(key, ()))
        )
        if left and SUCCESS in self._dataset.names(""):
            self._dataset.delete([SUCCESS])
            self.done.append(f"{SUCCESS}: deleted, because {left:,} rows have to be embedded again")

    def _damaged(self, expected: Expected, record: UnitRecord, report: UnitReport) -> None:
        where = f"{UNITS}/{record_name(record)}"
        for finding in report.findings:
            if whole_files.NO_PERMISSION in finding.message:  # It may well be whole.
                path = self._dataset.path(finding.where)
                raise OutputError(f"{path}: {whole_files.NO_PERMISSION}; nothing was moved")
        self._set_aside(where, report.findings[0].message)
        if report.record is not None:  # Its parts are damaged: else they are looked at as orphans.
            for finding in report.findings:
                if finding.where != where and self._is_there(
                    self._dataset.path(finding.where), pafs.FileType.File
                ):
                    self._set_aside(finding.where, finding.message)

    def _orphans(self, expected: Expected, first_run_number: int) -> None:
        """Write the records of parts that have none, or set these parts aside.

        Parts of runs before `first_run_number` do not count: their rows were overwritten.
        """
        dataset = self._dataset
        state = dataset.state()
        for unit, parts in sorted(self._unnamed(state).items()):
            record = None
            counts = max(map(place_of_part, parts))[0] >= first_run_number
            if counts and not list(
                ranges.common((unit.first_row, unit.rows), _covered(state, unit))
            ):
                record = record_from_parts(dataset, expected, unit, parts)
            if record is not None:
                dataset.write_record(record)
                self.done.append(f"{UNITS}/{record_name(record)}: written again from its parts")
                state = dataset.state()
                parts = [part for part in parts if part not in set(dataset.parts_of(record))]
            for part in parts:
                self._set_aside(part, "no commit record names it")

    def _unnamed(self, state: State) -> dict[Unit, list[str]]:
        named = {part for record in state.records for part in self._dataset.parts_of(record)}
        found: dict[Unit, list[str]] = collections.defaultdict(list)
        for folder in (VECTORS, DEAD_LETTERS):
            for name in self._dataset.names(folder):
                if is_part_name(name) and f"{folder}/{name}" not in named:
                    found[unit_of_part(name)].append(f"{folder}/{name}")
        return found

    def _unless(self, name: str, check: Callable[[bytes], object]) -> None:
        """Set a file aside unless it passes a check."""
        data = whole_files.read_bytes(self._dataset.filesystem, self._dataset.path(name))
        if data is None:
            return
        try:
            check(data)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            self._set_aside(name, f"damaged: {error!r}")

    def _set_aside(self, name: str, why: str) -> None:
        dataset = self._dataset
        # What is in the place of `_run` cannot go into it.
        to = f"_aside-{self._stamp}" if name == RUN else f"{ASIDE}/{self._stamp}-{_flat(name)}"
        try:
            if name != RUN:
                dataset.filesystem.create_dir(dataset.path(ASIDE), recursive=True)
            dataset.filesystem.move(dataset.path(name), dataset.path(to))
        except (OSError, pa.ArrowException) as error:
            raise OutputError(f"{dataset.path(name)} cannot be moved: {said(error)}") from error
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
        return parse_name(name) is not None
    except OutputError:
        return False


def _covered(state: State, unit: Unit) -> Sequence[ranges.Run]:
    return state.covered().get(unit.file_key, ())


def _object(data: bytes) -> dict[str, Any]:
    content = orjson.loads(data)
    if not isinstance(content, dict):
        raise TypeError("no JSON object")
    return content
