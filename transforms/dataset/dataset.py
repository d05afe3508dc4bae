"""The output folder: where everything stands, and what is done."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
from collections.abc import Iterable, Sequence, Set
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.units import Unit, UnitRecord
from bulkembed.transforms.core.ranges import RowRange, is_covered
from bulkembed.transforms.dataset import whole_files
from bulkembed.transforms.dataset.part_files import EMPTY_PART, is_part_name, part_name
from bulkembed.transforms.dataset.records import (
    SPILL_SUFFIX,
    decode_record,
    encode_record,
    parse_name,
    parse_spill_name,
    record_name,
    run_number_in,
    without_overlaps,
)
from bulkembed.transforms.inputs.filesystems import error_line, open_filesystem

VECTORS = "vectors"
DEAD_LETTERS = "dead_letters"
UNITS = "_run/units"
PLAN = "_run/plan"
SUMMARIES = "_run/summaries"
STOPS = "_run/stops"
DAMAGED = "_run/damaged"
SPILL = "_run/spill"
SHARED = "_run/shared"
TIMELINE = "_run/timeline"
RUN_FILE = "_run/run.json"
LOCK = "_run/lock.json"
CLAIMS = "_run/claims"
ACCOUNT = "_run/account.json"
SUCCESS = "_SUCCESS"
REPORT = "_run/report.html"
"""Below `_run`, because readers of Parquet fail at a page in the folder that they are given."""
OLD_REPORT = "report.html"
"""Where the page was written before it was moved below `_run`."""
REPORT_MARK = b" - bulkembed report</title>"
_OF_RUNS = (VECTORS, DEAD_LETTERS, PLAN, SUMMARIES, STOPS, SHARED, TIMELINE)
"""Folders in which a kill can leave files that were never finished."""
READ_THREADS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """What the commit records say: each row is covered by one record at most."""

    records: tuple[UnitRecord, ...] = ()
    """In the order of files and rows."""
    stale: tuple[str, ...] = ()
    """Other names among the records: records that do not count, and unfinished files."""
    unnamed: tuple[str, ...] = ()
    """Parts that no record names, where they were looked for: readers would take them for rows."""

    @classmethod
    def of(cls, found: Iterable[UnitRecord], digest: str = "", first_run_number: int = 0) -> State:
        """Return the state that records say, in whatever order they were written.

        Args:
            found: the records.
            digest: that of the dataset's vectors: records of another one do not count.  Empty for
                any; so is that of records of an older version, which have none in their names.
            first_run_number: records of earlier runs do not count: their rows were overwritten.
        """
        ours = (
            record
            for record in found
            if record.run_number >= first_run_number
            and (not digest or record.embedding_digest in ("", digest))
        )
        return cls(tuple(without_overlaps(ours)))

    def without(self, gone: Set[UnitRecord]) -> State:
        """The state if some records were not there; their names are stale."""
        return dataclasses.replace(
            self,
            records=tuple(record for record in self.records if record not in gone),
            stale=(*self.stale, *(record_name(record) for record in gone)),
        )

    def overlapping(self, unit: Unit) -> list[UnitRecord]:
        """The records that count and cover a row of a unit."""
        return [
            record
            for record in self.records
            if record.unit.file_key == unit.file_key
            and record.unit.first_row < unit.end_row
            and unit.first_row < record.unit.end_row
        ]

    def covered(self) -> dict[str, list[RowRange]]:
        """The rows that are done, by file key."""
        runs: dict[str, list[RowRange]] = collections.defaultdict(list)
        for record in self.records:
            runs[record.unit.file_key].append((record.unit.first_row, record.unit.rows))
        return runs


class Dataset:
    """The files of one output folder, on any file system that pyarrow.fs opens."""

    def __init__(self, filesystem: pafs.FileSystem, root: str) -> None:
        self.filesystem = filesystem
        self.root = root.rstrip("/") or "/"

    @classmethod
    def open(cls, uri: str) -> Dataset:
        """The dataset at a path or URI; nothing is read or made yet."""
        return cls(*open_filesystem(uri))

    @property
    def is_on_a_store(self) -> bool:
        """Whether it is no local disk: then every request takes its time, and is paid for."""
        return not isinstance(self.filesystem, pafs.LocalFileSystem)

    def path(self, *parts: str) -> str:
        """The path of a file of the dataset, as the file system takes it."""
        return "/".join((self.root, *parts))

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, sorted."""
        return whole_files.list_names(self.filesystem, self.path(folder))

    def write(self, name: str, content: whole_files.Content) -> int:
        """Writes one file, whole; gives its bytes."""
        return whole_files.write_whole(self.filesystem, self.path(name), content)

    def write_record(
        self, record: UnitRecord, last_look: whole_files.LastLook | None = None
    ) -> None:
        """Write a commit record; `state` takes one without content for none.

        Args:
            record: the record, whole.
            last_look: raises what is to keep the record from being there; called right before.
        """
        whole_files.write_whole(
            self.filesystem,
            self.path(UNITS, record_name(record)),
            encode_record(record),
            empty_is_none=True,
            last_look=last_look,
        )

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Writes one file of JSON, indented for people."""
        self.write(name, orjson.dumps(content, option=orjson.OPT_INDENT_2))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """The content of a file of JSON; None where there is none.

        Raises:
            OutputError: it is no JSON object (fact `damaged`), or may not be read.
        """
        data = whole_files.read_bytes(self.filesystem, self.path(name))
        if data is None:
            return None
        try:
            content = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise self.damaged_file(name, str(error)) from None
        if not isinstance(content, dict):
            raise self.damaged_file(name, "no JSON object")
        return content

    def damaged_file(self, name: str, reason: str) -> OutputError:
        """Return the error for a file of the dataset whose content is not what bulkembed wrote."""
        return OutputError(
            f"{self.path(name)} is damaged: {reason}; {whole_files.REPAIR}", damaged=True
        )

    def delete(self, names: Iterable[str]) -> None:
        """Deletes files of the dataset."""
        whole_files.delete_files(self.filesystem, [self.path(name) for name in names])

    def state(self) -> State:
        """Return what is done, by one listing; no record is opened, but each must have content."""
        files = whole_files.list_files(self.filesystem, self.path(UNITS))
        sizes = {file.base_name: file.size for file in files}
        names = sorted(sizes)
        state = self.state_of(r for name in names if sizes[name] and (r := parse_name(name)))
        held = {record_name(record) for record in state.records}
        ours = (name for name in names if parse_name(name) or _is_unfinished(name))
        return dataclasses.replace(state, stale=tuple(name for name in ours if name not in held))

    def state_of(self, found: Iterable[UnitRecord]) -> State:
        """Return what records of this dataset say, by the settings pinned in `run.json`."""
        pinned = self.read_json(RUN_FILE) or {}
        digest, first = pinned.get("embedding_digest", ""), pinned.get("first_run_number", 0)
        return State.of(found, digest, first)

    def whole_record(self, record: UnitRecord) -> UnitRecord:
        """The same record with all that its file says."""
        name = record_name(record)
        data = whole_files.read_bytes(self.filesystem, self.path(UNITS, name))
        if data is None:
            raise OutputError(f"{self.path(UNITS, name)} is gone; run the same command again")
        return decode_record(data, name)

    def whole_records(self, records: Sequence[UnitRecord]) -> list[UnitRecord]:
        """The same records with all that their files say, in their order."""
        with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
            return list(pool.map(self.whole_record, records))

    def redo_offsets(self, record: UnitRecord) -> frozenset[int]:
        """The offsets in its unit of the rows that a record gave up on, blank ones as well."""
        if record.dead_part is None:
            return frozenset()
        path = self.path(DEAD_LETTERS, record.dead_part)
        try:
            rows = pq.read_table(
                path,
                columns=["source_row"],
                filesystem=self.filesystem,
                page_checksum_verification=True,
            )
        except (OSError, pa.ArrowException) as error:
            reason = f"cannot be read: {error_line(error)}; {whole_files.REPAIR}"
            raise OutputError(f"{path}: {reason}") from error
        return frozenset(row - record.unit.first_row for row in rows["source_row"].to_pylist())

    def parts_of(self, record: UnitRecord) -> list[str]:
        """The part files that a record names, as names within the dataset.

        Records of the first generation need not be opened: their parts follow from their counts.
        """
        if record.generation:
            record = self.whole_record(record)
            dead = [f"{DEAD_LETTERS}/{record.dead_part}"] if record.dead_part else []
            return [f"{VECTORS}/{name}" for name in record.vector_parts] + dead
        name = part_name(record)
        parts = [f"{VECTORS}/{name}"] if record.embedded else []
        return parts + ([f"{DEAD_LETTERS}/{name}"] if record.dead + record.skipped else [])

    def sized_parts(self, record: UnitRecord, parts: Sequence[str]) -> list[str]:
        """Return the parts whose bytes the name of a record tells.

        Those are all parts that it names; only the ones that it wrote itself where a version
        without run numbers tried dead letters again.
        """
        if record.run_number or not record.generation:
            return list(parts)
        return [part for part in parts if part.endswith(f"/{part_name(record)}")]

    def size_of(self, names: Iterable[str]) -> int:
        """Return the bytes of some files; 0 for one that is not there."""
        paths = [self.path(name) for name in names]
        infos = self.filesystem.get_file_info(paths) if paths else []
        return sum(info.size or 0 for info in infos)

    def damaged(self, state: State) -> list[UnitRecord]:
        """Return the records whose files are not there in the size that was committed."""
        return self.look_at_parts(state)[0]

    def look_at_parts(self, state: State) -> tuple[list[UnitRecord], list[str]]:
        """Return the records with files of another size than was committed, and unnamed parts.

        One listing of each folder tells it; see `sized_parts` for what is not known.
        """
        sizes = {
            f"{folder}/{file.base_name}": file.size or 0
            for folder in (VECTORS, DEAD_LETTERS)
            for file in whole_files.list_files(self.filesystem, self.path(folder))
        }
        damaged, named = [], set()
        for record in state.records:
            parts = self.parts_of(record)
            held = sum(sizes.get(part, 0) for part in self.sized_parts(record, parts))
            is_other = record.part_bytes is not None and held != record.part_bytes
            if is_other or not all(map(sizes.get, parts)):
                damaged.append(record)
            named.update(parts)
        unnamed = (part for part in sizes if _must_be_named(*part.split("/")))
        return damaged, sorted(part for part in unnamed if part not in named)

    def forget(self, records: Iterable[UnitRecord]) -> None:
        """Takes units back: their records first, so that nothing names a part that is gone."""
        for record in records:
            parts = self.parts_of(record)
            self.delete([f"{UNITS}/{record_name(record)}"])
            self.delete(parts)

    def last_run_number(self) -> int:
        """Return the largest run number in the names of records, whether they count or not."""
        return max(map(run_number_in, self.names(UNITS)), default=0)

    def wipe(self) -> None:
        """Delete the dataset, and nothing else that may be in its folder.

        `run.json` stays: it says that another run has taken over, so that workers of earlier runs
        end.
        """
        self.move_old_report()
        self.delete([SUCCESS, REPORT])
        for folder in (UNITS, *_OF_RUNS, DAMAGED, SPILL):
            names = self.names(folder)
            self.delete(f"{folder}/{name}" for name in names if _is_ours(folder, name))
        self.delete([ACCOUNT])

    def move_old_report(self) -> None:
        """Move the page that an earlier version left in the root, where it stops readers.

        A newer page is not overwritten, and a file that somebody else put there stays.
        """
        path = self.path(OLD_REPORT)
        if not whole_files.is_file(self.filesystem, path):
            return
        page = whole_files.read_bytes(self.filesystem, path)
        if page is None or REPORT_MARK not in page:
            return
        if not whole_files.is_file(self.filesystem, self.path(REPORT)):
            self.write(REPORT, page)
        self.delete([OLD_REPORT])

    def all_spill(self) -> list[str]:
        """All spill files: of no use once a run is complete, whatever they were for."""
        return [
            f"{folder}/{name}"
            for folder in (SPILL, SHARED)
            for name in self.names(folder)
            if name.endswith(SPILL_SUFFIX)
        ]

    def spent_spill(self, state: State) -> list[str]:
        """Spill files whose rows are all committed."""
        covered = state.covered()
        newest = {record.unit: record.generation for record in state.records}
        return [f"{SPILL}/{name}" for name in self.names(SPILL) if _is_spent(name, covered, newest)]

    def strangers(self, state: State) -> list[str]:
        """Parts that no record names and files that were never finished: what a kill leaves.

        So are records that a later generation replaced.
        """
        named = {part for record in state.records for part in self.parts_of(record)}
        left = [*self.spent_spill(state), *(f"{UNITS}/{name}" for name in state.stale)]
        for folder in ("", "_run", *_OF_RUNS):
            for name in self.names(folder) if folder else self._root_names():
                full = f"{folder}/{name}" if folder else name
                if _is_unfinished(name) or (_must_be_named(folder, name) and full not in named):
                    left.append(full)
        return left

    def _root_names(self) -> list[str]:
        return whole_files.list_names(self.filesystem, self.root)


def _is_unfinished(name: str) -> bool:
    return name.startswith(whole_files.TEMP_PREFIX)


def _must_be_named(folder: str, name: str) -> bool:
    """Whether a file is there only if a record names it."""
    return folder in (VECTORS, DEAD_LETTERS) and is_part_name(name)


def _is_ours(folder: str, name: str) -> bool:
    """Whether a file was written by a run; in `_run` no other ones are."""
    if folder not in (VECTORS, DEAD_LETTERS):
        return True
    return is_part_name(name) or name == EMPTY_PART or _is_unfinished(name)


def _is_spent(name: str, covered: dict[str, list[RowRange]], newest: dict[Unit, int]) -> bool:
    """Whether a spill file's rows are all committed.

    Those that are tried again are when a record of their generation is there: the one before it
    covers them as well, and gave up on them.
    """
    found = parse_spill_name(name)
    if found is None:
        return False
    unit, generation = found
    if generation:
        return newest.get(unit, 0) >= generation
    return is_covered(unit.first_row, unit.rows, covered.get(unit.file_key, ()))
