"""The output folder of a run: its files, and which rows are committed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import logging
import mmap
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.stop import RERUN
from bulkembed.schemas.units import GroupRecord, PartsRecord, Unit, UnitRecord
from bulkembed.transforms.core.ranges import RowRange, is_covered
from bulkembed.transforms.dataset import atomic_files
from bulkembed.transforms.dataset.groups import decode_group, encode_group
from bulkembed.transforms.dataset.layout import (
    ACCOUNT,
    CHANGES,
    COMPARED,
    DAMAGED,
    DEAD_LETTERS,
    EMPTY_PART,
    GATHER,
    IDS,
    INDEX,
    KEPT,
    KEPT_SUFFIX,
    MANIFEST,
    OLD_REPORT,
    PLAN,
    REPORT,
    REPORT_MARK,
    RUN_FILE,
    SHARED,
    SPENDING,
    STOPS,
    SUCCESS,
    SUMMARIES,
    TIMELINE,
    UNITS,
    VECTORS,
    is_group_name,
    is_part_name,
    is_unfinished,
    parse_kept_name,
    part_name,
    record_name,
    run_number_in,
    short_name,
)
from bulkembed.transforms.dataset.manifest import Manifest, read_manifest, write_manifest
from bulkembed.transforms.dataset.records import (
    DatasetState,
    RecordParts,
    decode_record,
    encode_record,
    named_record,
)
from bulkembed.transforms.inputs.filesystems import is_on_local_disk, open_filesystem

log = logging.getLogger("bulkembed")

READ_THREADS = 8
_WRITTEN_BY_RUNS = (
    VECTORS, DEAD_LETTERS, PLAN, SUMMARIES, STOPS, SHARED, GATHER, TIMELINE, CHANGES, IDS, SPENDING,
    COMPARED,
)  # fmt: skip
"""Folders in which a killed run can leave unfinished files."""


class Dataset:
    """The files of one output folder, on any file system that pyarrow.fs opens."""

    def __init__(self, filesystem: pafs.FileSystem, root: str, uri: str = "") -> None:
        self.filesystem = filesystem
        self.uri = uri
        """Where it was opened; empty if it was made from a file system."""
        self.root = root.rstrip("/") or "/"
        self._groups: dict[str, GroupRecord] = {}
        """The records of groups by name, which never change."""
        self._opened_parts: dict[str, RecordParts] = {}
        """The parts of units whose records were opened for that, by the names of the records."""
        self._manifest: Manifest | None = None
        self._has_read_manifest = False

    @classmethod
    def open(cls, uri: str) -> Dataset:
        """Return the dataset at a path or URI; nothing is read or created yet."""
        return cls(*open_filesystem(uri), uri)

    @property
    def is_on_a_store(self) -> bool:
        """Whether the dataset is on an object store, where requests take time and are billed."""
        return not is_on_local_disk(self.filesystem)

    def path(self, *parts: str) -> str:
        """Return the path of a file of the dataset, in the form that the file system expects."""
        return "/".join((self.root, *parts))

    def names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder, sorted; for VECTORS see `part_sizes`."""
        if folder == VECTORS:
            return list(self._files_below(folder))
        return atomic_files.list_names(self.filesystem, self.path(folder))

    def _files_below(self, folder: str) -> dict[str, pafs.FileInfo]:
        return atomic_files.list_below(self.filesystem, self.path(folder))

    def write(self, name: str, content: atomic_files.FileContent) -> int:
        """Write one file atomically; return its size in bytes."""
        return atomic_files.write_atomically(self.filesystem, self.path(name), content)

    def write_large(self, name: str, content: Callable[[pa.NativeFile], None]) -> int:
        """Write one file that may not fit in memory, atomically; return its size in bytes.

        For an object store it is first written to the temporary directory.
        """
        if not self.is_on_a_store:
            return self.write(name, content)
        with tempfile.TemporaryFile(prefix="bulkembed-") as file:
            content(pa.PythonFile(file, "w"))
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return self.write(name, pa.py_buffer(mapped))

    def write_record(
        self, record: PartsRecord, check: atomic_files.OwnershipCheck | None = None
    ) -> None:
        """Write a commit record; `state` ignores a record without content.

        Args:
            record: the record.
            check: called right before the record gets its name; raises to prevent that.
        """
        atomic_files.write_atomically(
            self.filesystem,
            self.path(UNITS, record_name(record)),
            encode_group(record) if isinstance(record, GroupRecord) else encode_record(record),
            ignored_if_empty=True,
            check=check,
        )

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write one JSON file, indented for people."""
        self.write(name, orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return the content of a JSON file; None if there is no such file.

        Raises:
            OutputError: it is not a JSON object (`damaged` is set), or cannot be read.
        """
        data = atomic_files.read_bytes(self.filesystem, self.path(name))
        if data is None:
            return None
        try:
            content = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise self.damaged_file(name, str(error)) from None
        if not isinstance(content, dict):
            raise self.damaged_file(name, "not a JSON object")
        return content

    def damaged_file(self, name: str, reason: str) -> OutputError:
        """Return the error for a file whose content is not what bulkembed writes."""
        return OutputError(
            f"{self.path(name)} is damaged: {reason}. {atomic_files.REPAIR}", damaged=True
        )

    def delete(self, names: Iterable[str]) -> None:
        """Delete files of the dataset."""
        atomic_files.delete_files(self.filesystem, [self.path(name) for name in names])

    def size_of(self, names: Iterable[str]) -> int:
        """Return the bytes of some files; 0 for one that is missing."""
        paths = [self.path(name) for name in names]
        infos = self.filesystem.get_file_info(paths) if paths else []
        return sum(info.size or 0 for info in infos)

    # Commit records.

    def state(self) -> DatasetState:
        """Return which rows are committed.

        That takes one listing, and the records of groups are read. No other record is opened, but
        a record without content does not count.
        """
        files = atomic_files.list_files(self.filesystem, self.path(UNITS))
        sizes = {file.base_name: file.size for file in files}
        names = sorted(sizes)
        written = [name for name in names if sizes[name]]
        state = self.state_of(
            (record for name in written if (record := named_record(name))),
            self.read_groups(filter(is_group_name, written)),
        )
        counted = {record_name(record) for record in state.records}
        ours = (name for name in names if _is_record_name(name) or is_unfinished(name))
        return dataclasses.replace(state, stale=tuple(name for name in ours if name not in counted))

    def state_of(
        self, found: Iterable[UnitRecord], groups: Iterable[GroupRecord] = ()
    ) -> DatasetState:
        """Return the state that records describe, by the settings pinned in `run.json`."""
        pinned = self.read_json(RUN_FILE) or {}
        digest, first = pinned.get("embedding_digest", ""), pinned.get("first_run_number", 0)
        return DatasetState.of(found, digest, first, groups)

    def read_groups(self, names: Iterable[str]) -> list[GroupRecord]:
        """Return the records of groups, each read once. One that is deleted meanwhile is omitted.

        Raises:
            OutputError: a record is damaged.
        """
        wanted = list(names)
        missing = [name for name in wanted if name not in self._groups]
        if missing:
            with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
                for name, group in zip(missing, pool.map(self._read_group, missing), strict=True):
                    if group is not None:
                        self._groups[name] = group
        return [self._groups[name] for name in wanted if name in self._groups]

    def _read_group(self, name: str) -> GroupRecord | None:
        data = atomic_files.read_bytes(self.filesystem, self.path(UNITS, name))
        return None if data is None else decode_group(data, name)

    def last_run_number(self) -> int:
        """Return the largest run number in the names of records, whether they count or not."""
        return max(map(run_number_in, self.names(UNITS)), default=0)

    def read_record(self, record: UnitRecord) -> UnitRecord:
        """Return a record with the details that only its file has; the units of groups have them.

        Raises:
            OutputError: the file is missing or damaged.
        """
        if record.place is not None:
            return record
        name = record_name(record)
        data = atomic_files.read_bytes(self.filesystem, self.path(UNITS, name))
        if data is None:
            raise OutputError(f"{self.path(UNITS, name)} is missing. {RERUN}")
        return decode_record(data, name)

    def read_records(self, records: Sequence[UnitRecord]) -> list[UnitRecord]:
        """Return records with the details that only their files have, in their order."""
        with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
            return list(pool.map(self.read_record, records))

    def withdraw(self, records: Iterable[PartsRecord]) -> None:
        """Delete records with their parts: first the record, so that none names a missing part.

        Parts that the manifest names stay until the run is complete. For units of groups see
        `replace.withdraw_units`.
        """
        for record in records:
            parts = self.parts_of(record)
            self.delete([f"{UNITS}/{record_name(record)}"])
            self.delete_parts(parts.all)

    # The last complete state.

    def manifest(self) -> Manifest | None:
        """Return the manifest; None if it is missing, or damaged, which is logged.

        It is read once: only a run that holds the dataset changes it.
        """
        if not self._has_read_manifest:
            try:
                self._manifest = read_manifest(self)
            except OutputError as error:
                if not error.damaged:
                    raise
                log.warning("%s Changes before this run cannot be listed.", error.message)
            self._has_read_manifest = True
        return self._manifest

    def replace_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest atomically."""
        write_manifest(self, manifest)
        self._manifest, self._has_read_manifest = manifest, True

    def protected_parts(self) -> frozenset[str]:
        """Return the parts that stay for readers, although no record may name them any more."""
        manifest = self.manifest()
        return frozenset() if manifest is None else manifest.protected

    def delete_parts(self, names: Iterable[str]) -> None:
        """Delete parts, but not those that readers of the last complete state may be reading."""
        protected = self.protected_parts()
        self.delete(name for name in names if name not in protected)

    # Parts.

    def parts_of(self, record: PartsRecord) -> RecordParts:
        """Return the parts that a record names.

        Only records of partitioned units, of retries and of units with removed rows need to be
        opened, each once.

        The parts of a unit of a group have rows of other units as well.
        """
        if isinstance(record, GroupRecord) or record.place is not None:
            return RecordParts.of(record)
        if not record.is_partitioned and not record.generation:
            return RecordParts.by_name(record)
        name = record_name(record)
        if name not in self._opened_parts:
            self._opened_parts[name] = RecordParts.of(self.read_record(record))
        return self._opened_parts[name]

    def distinct_parts(self, state: DatasetState) -> list[RecordParts]:
        """Return the parts of each unit outside of a group, and of each group."""
        return self.parts_of_each(list(state.parts_records()))

    def parts_of_each(self, records: Sequence[PartsRecord]) -> list[RecordParts]:
        """Return the parts of records, in their order. Several records are opened at a time."""
        with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
            return list(pool.map(self.parts_of, records))

    def sized_parts(self, record: PartsRecord, parts: Iterable[str]) -> list[str]:
        """Return the parts whose bytes the name of a record includes.

        These are all its parts. A version without run numbers counted only the parts that a retry
        of dead letters wrote itself.
        """
        if record.run_number or not record.generation:
            return list(parts)
        return [part for part in parts if short_name(part) == part_name(record)]

    def damaged_records(self, state: DatasetState) -> list[UnitRecord]:
        """Return the records with parts that are missing or do not have their committed size."""
        return self.check_parts(state)[0]

    def check_parts(self, state: DatasetState) -> tuple[list[UnitRecord], list[str]]:
        """Return the records with damaged parts, and the parts that no record names.

        That takes one listing of each folder; see `sized_parts` for the sizes that are not known.
        """
        sizes = self.part_sizes()
        damaged: list[UnitRecord] = []
        named: set[str] = set()
        records = list(state.parts_records())
        for record, parts in zip(records, self.parts_of_each(records), strict=True):
            found_bytes = sum(sizes.get(part, 0) for part in self.sized_parts(record, parts.all))
            has_other_size = record.part_bytes is not None and found_bytes != record.part_bytes
            if has_other_size or not all(map(sizes.get, parts.all)):
                damaged += state.units_of(record)
            named.update(parts.all)
        unnamed = (part for part in sizes if _must_be_named(*part.split("/", 1)))
        named |= self.protected_parts()
        return damaged, sorted(part for part in unnamed if part not in named)

    def part_sizes(self, *folders: str) -> dict[str, int]:
        """Return the bytes of the files in the folders of parts, by their names in the dataset.

        Parts with vectors may be in folders of partitions.

        Args:
            folders: VECTORS or DEAD_LETTERS; both if none is given.
        """
        return {
            f"{folder}/{name}": file.size or 0
            for folder in folders or (VECTORS, DEAD_LETTERS)
            for name, file in self._files_below(folder).items()
        }

    # Files that a run leaves behind.

    def delete_all(self) -> None:
        """Delete the dataset, but no other files that may be in its folder.

        `run.json` stays, so that workers of earlier runs see that another run has taken over.
        """
        self.move_old_report()
        self.delete([SUCCESS, REPORT, MANIFEST])
        self._manifest, self._has_read_manifest = None, True
        for folder in (UNITS, *_WRITTEN_BY_RUNS, DAMAGED, KEPT, INDEX):
            names = self.names(folder)
            self.delete(f"{folder}/{name}" for name in names if _is_ours(folder, name))
        self._remove_empty_partitions()
        self.delete([ACCOUNT])

    def _remove_empty_partitions(self) -> None:
        """Remove empty folders below VECTORS; a store has no folders."""
        if self.is_on_a_store:
            return
        for folder in Path(self.path(VECTORS)).glob("*=*"):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def move_old_report(self) -> None:
        """Move the report that an earlier version left in the root, where it makes readers fail.

        A newer report is not overwritten, and a page that bulkembed did not write stays.
        """
        path = self.path(OLD_REPORT)
        if not atomic_files.is_file(self.filesystem, path):
            return
        page = atomic_files.read_bytes(self.filesystem, path)
        if page is None or REPORT_MARK not in page:
            return
        if not atomic_files.is_file(self.filesystem, self.path(REPORT)):
            self.write(REPORT, page)
        self.delete([OLD_REPORT])

    def kept_files(self) -> list[str]:
        """Return all files of kept answers, which a complete dataset does not need."""
        return [
            f"{folder}/{name}"
            for folder in (KEPT, SHARED)
            for name in self.names(folder)
            if name.endswith(KEPT_SUFFIX)
        ]

    def gathered_files(self) -> list[str]:
        """Return the files of known vectors that runs have gathered; none outlives its run."""
        return [f"{GATHER}/{name}" for name in self.names(GATHER)]

    def committed_kept_files(self, state: DatasetState) -> list[str]:
        """Return the files of kept answers whose rows are all committed."""
        covered = state.covered()
        newest = {record.unit: record.generation for record in state.records}
        return [
            f"{KEPT}/{name}" for name in self.names(KEPT) if _is_committed(name, covered, newest)
        ]

    def leftovers(self, state: DatasetState) -> list[str]:
        """Return the files that killed runs and retries left behind.

        These are unfinished files, parts that neither a record nor the manifest names, records that
        a later generation replaced, kept answers whose rows are committed, and change feeds and
        indexes of ids that the manifest does not name.
        """
        named = {part for parts in self.distinct_parts(state) for part in parts.all}
        named |= self.protected_parts()
        manifest = self.manifest()
        noted = {run.feed for run in manifest.changes} if manifest is not None else set()
        noted |= {manifest.ids} if manifest is not None else set()
        found = [*self.committed_kept_files(state), *(f"{UNITS}/{name}" for name in state.stale)]
        for folder in ("", "_run", *_WRITTEN_BY_RUNS):
            for name in self.names(folder) if folder else self._root_names():
                full = f"{folder}/{name}" if folder else name
                is_feed = folder in (CHANGES, IDS) and full not in noted
                is_part = _must_be_named(folder, name) and full not in named
                if is_unfinished(name) or is_feed or is_part:
                    found.append(full)
        return found

    def _root_names(self) -> list[str]:
        return atomic_files.list_names(self.filesystem, self.root)


def _is_record_name(name: str) -> bool:
    return is_group_name(name) or named_record(name) is not None


def _must_be_named(folder: str, name: str) -> bool:
    """Return whether a file belongs to the dataset only if a record names it."""
    return folder in (VECTORS, DEAD_LETTERS) and is_part_name(name)


def _is_ours(folder: str, name: str) -> bool:
    """Return whether a run wrote a file; the folders in `_run` have no other files."""
    if folder not in (VECTORS, DEAD_LETTERS):
        return True
    return is_part_name(name) or name == EMPTY_PART or is_unfinished(name)


def _is_committed(name: str, covered: dict[str, list[RowRange]], newest: dict[Unit, int]) -> bool:
    """Return whether the rows of a file of kept answers are all committed.

    Retried rows are committed by a record of their own generation: the record before it covers
    them as well, as dead letters.
    """
    found = parse_kept_name(name)
    if found is None:
        return False
    unit, generation = found
    if generation:
        return newest.get(unit, 0) >= generation
    return is_covered(unit.first_row, unit.rows, covered.get(unit.file_key, ()))
