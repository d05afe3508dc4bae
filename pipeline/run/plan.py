"""The launcher's plan: what is there, what is done, and what is left in units and slices."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from bulkembed.schemas.errors import InputError, OutputError
from bulkembed.schemas.inputs import FoundFile, InputColumns, InputFile
from bulkembed.schemas.units import FileUnits, PlanSlice, Unit, UnitRecord
from bulkembed.transforms.core.ranges import first_rows, remaining_ranges, split_ranges
from bulkembed.transforms.dataset import atomic_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import PLAN
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.inputs.discover import find_input
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import ScannedFile, scan_file
from bulkembed.transforms.inputs.stored_bytes import FileStamp, stamp_of

log = logging.getLogger("bulkembed")

SCANS_FILE = f"{PLAN}/files.jsonl"
SCAN_VERSION = 3
"""Version of what a scan records; files with scans of another version are scanned again."""
SCAN_THREADS = 4
MAX_UNITS_PER_SLICE = 40
SLICES_PER_WORKER = 4
"""So that a worker that is done early, or lost, leaves work that others can take."""
PIECES_PER_WORKER = 8
"""Taken from all over the input, so that no worker gets all of its long texts."""
DEFAULT_WORKERS = 4
"""Where the engine's flags do not say how many there are."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scans:
    """The input as it was found: files that can be read, and those that cannot."""

    files: tuple[ScannedFile, ...]
    unreadable: tuple[InputError, ...] = ()
    ignored: tuple[str, ...] = ()
    """See `discover.Listing.ignored`."""
    damaged: tuple[ScannedFile, ...] = ()
    """Files that were found damaged while their rows were read; not among `files` any more."""
    bad_names: frozenset[str] = frozenset()
    """The names of files that are there but cannot be read."""
    stamps: Mapping[str, FileStamp | None] = dataclasses.field(default_factory=dict)
    """The stamp of each file before its scan, by path."""

    def without(self, path: str, error: InputError) -> Scans:
        """Return the input without a file that turned out to be damaged."""
        bad = tuple(file for file in self.files if file.found.path == path)
        return dataclasses.replace(
            self,
            files=tuple(file for file in self.files if file not in bad),
            unreadable=(*self.unreadable, error),
            damaged=(*self.damaged, *bad),
            bad_names=self.bad_names | {file.found.name for file in bad},
        )

    @property
    def inputs(self) -> list[InputFile]:
        """The files as the plan takes them."""
        return [file.input_file for file in self.files]

    @property
    def rows(self) -> int:
        """Rows of all files that can be read."""
        return sum(file.rows for file in self.files)


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What this run sets out to do, and what the input comes to."""

    work: tuple[FileUnits, ...]
    rows: int
    """Rows of the input."""
    remaining_rows: int
    """Rows that no commit record covers."""

    @property
    def planned_rows(self) -> int:
        """Rows of this run: what is left, or the part of it that a limit allows."""
        retried = sum(record.dead for file in self.work for record in file.retry_of)
        return retried or sum(unit.rows for file in self.work for unit in file.units)

    @property
    def units(self) -> int:
        """Units of this run."""
        return sum(len(file.units) for file in self.work)


def scan_inputs(
    dataset: Dataset,
    patterns: Sequence[str],
    columns: InputColumns,
    *,
    format: str | None = None,
    skip_bad_files: bool = False,
    output: str | None = None,
    trust_saved: bool = True,
    tables_as_files: bool = False,
) -> Scans:
    """Finds the input files and scans those that changed since the last run.

    A file of the same name, size and mtime is not read again; its digest was saved.  With
    `trust_saved` off each file is.

    Raises:
        ConfigError: nothing matched, a column is not there, or the files are those of a table.
        InputError: a file cannot be read, and bad files are not to be skipped.
    """
    listing = find_input(patterns, format, output, tables_as_files=tables_as_files)
    found = listing.files
    stamps = {file.path: stamp_of(file) for file in found}
    saved = _saved_scans(dataset, columns) if trust_saved else {}
    with concurrent.futures.ThreadPoolExecutor(SCAN_THREADS) as pool:
        results = list(pool.map(lambda f: saved.get(_stamp(f)) or _scan(f, columns), found))
    bad = {
        file.name: result
        for file, result in zip(found, results, strict=True)
        if isinstance(result, InputError)
    }
    unreadable = (*listing.unreadable, *bad.values())
    if unreadable and not skip_bad_files:
        raise unreadable[0]
    files = tuple(
        dataclasses.replace(result, found=_as_read(file, result.found))
        for file, result in zip(found, results, strict=True)
        if isinstance(result, ScannedFile)
    )
    return Scans(files, unreadable, listing.ignored, (), frozenset(bad), stamps)


def make_plan(
    files: Sequence[InputFile], state: DatasetState, unit_rows: int, limit_rows: int | None = None
) -> Plan:
    """What is left of the files, cut into units: each file minus what is covered.

    Args:
        files: the input, in order.
        state: what the commit records say.
        unit_rows: the most rows of a unit; may differ from run to run.
        limit_rows: the most rows of this run.
    """
    covered = state.covered()
    work: list[FileUnits] = []
    remaining_rows = 0
    room = math.inf if limit_rows is None else limit_rows
    for file in files:
        left = remaining_ranges(file.rows, covered.get(file.key, ()))
        rows = sum(count for _, count in left)
        remaining_rows += rows
        if limit_rows is not None:
            left = list(first_rows(left, int(room)))
            room -= sum(count for _, count in left)
        units = tuple(
            Unit(file.key, first, count) for first, count in split_ranges(left, unit_rows)
        )
        if units:
            work.append(FileUnits(file, units))
    return Plan(tuple(work), sum(file.rows for file in files), remaining_rows)


def remaining_rows(files: Sequence[InputFile], state: DatasetState) -> int:
    """Rows of the files that no commit record covers."""
    covered = state.covered()
    return sum(
        count
        for file in files
        for _, count in remaining_ranges(file.rows, covered.get(file.key, ()))
    )


def make_retry_plan(
    files: Sequence[InputFile], state: DatasetState, limit_rows: int | None
) -> Plan:
    """The units that gave up on rows: only those rows are done again, in whole units.

    Args:
        files: the input, in order.
        state: what the commit records say.
        limit_rows: the most rows to try; the last unit may go beyond it.
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


def local_slices(plan: Plan, workers: int) -> Iterator[PlanSlice]:
    """The plan's units in a slice for each worker of this machine; those of a file ascend.

    Each unit is in one of them, and all are of about as many rows: a slice keeps the calls flowing
    over all borders of units.  The units of a file that can only be read from its beginning stay in
    one slice.
    """
    most = max(1, math.ceil(plan.units / (workers * PIECES_PER_WORKER)))
    pieces = list(_pieces(plan, most))
    hands: list[list[int]] = [[] for _ in range(workers)]
    rows = [0] * workers
    for number in sorted(range(len(pieces)), key=lambda n: pieces[n].rows, reverse=True):
        fewest = rows.index(min(rows))
        hands[fewest].append(number)
        rows[fewest] += pieces[number].rows
    for hand in filter(None, hands):
        yield PlanSlice(tuple(_joined(pieces[number] for number in sorted(hand))))


def cluster_slices(plan: Plan, workers: int | None) -> Iterator[PlanSlice]:
    """The plan's units in slices that an engine can spread over its workers, in order.

    Several for each worker, so that what a lost one leaves is shared by the others; `workers` None
    where their number is not known.  A file that cannot be read from its middle is in one slice.
    """
    wanted = SLICES_PER_WORKER * (workers or DEFAULT_WORKERS)
    most = max(1, min(MAX_UNITS_PER_SLICE, plan.units // wanted))
    current: list[FileUnits] = []
    size = 0
    for piece in _pieces(plan, most):
        if current and size + len(piece.units) > most:
            yield PlanSlice(tuple(current))
            current, size = [], 0
        current.append(piece)
        size += len(piece.units)
    if current:
        yield PlanSlice(tuple(current))


def _joined(pieces: Iterable[FileUnits]) -> Iterator[FileUnits]:
    """Pieces of one file as one, so that the file is gone through once."""
    for _, group in itertools.groupby(pieces, key=lambda piece: piece.file.found.path):
        same = list(group)
        units = itertools.chain.from_iterable(piece.units for piece in same)
        retry_of = itertools.chain.from_iterable(piece.retry_of for piece in same)
        yield FileUnits(same[0].file, tuple(units), tuple(retry_of))


def _pieces(plan: Plan, most: int) -> Iterator[FileUnits]:
    for file_units in plan.work:
        if not file_units.file.can_seek:
            yield file_units
            continue
        for start in range(0, len(file_units.units), most):
            yield file_units.part(start, start + most)


def save_scans(
    dataset: Dataset, scans: Scans, columns: InputColumns, outdated: Collection[str] = ()
) -> None:
    """Save what the scans found, for this run's records and for the next run's planning.

    Files whose keys are in `outdated` are scanned again by the next run, whatever their size and
    time say.
    """

    def version(file: ScannedFile) -> int:
        return 0 if file.input_file.key in outdated else SCAN_VERSION

    lines = [
        _encode_scan({"version": version(file), "scanned_for": repr(columns), **file.to_json()})
        for file in scans.files
    ]
    dataset.write(SCANS_FILE, b"".join(lines))


def planned_files(dataset: Dataset) -> dict[str, InputFile]:
    """Return the files of the last plan by their keys, as far as their lines are whole.

    Raises:
        OutputError: the plan cannot be read.
    """
    scanned = [file.input_file for _, file in _read_scans(dataset)]
    return {file.key: file for file in scanned}


def check_plan(data: bytes) -> None:
    """Raise an error, such as a ValueError, if a line of a saved plan is damaged."""
    for line in data.splitlines():
        content = _decode_scan(line)
        content.pop("version", 1), content.pop("scanned_for")
        ScannedFile.from_json(content)


def _saved_scans(dataset: Dataset, columns: InputColumns) -> dict[tuple[object, ...], ScannedFile]:
    current = (SCAN_VERSION, repr(columns))
    # A shortcut only: a file whose line cannot be read is scanned again.
    try:
        saved = list(_read_scans(dataset))
    except OutputError as error:
        log.warning("%s; all input files are scanned again", error.message)
        return {}
    return {_stamp(file.found): file for scanned_by, file in saved if scanned_by == current}


def _read_scans(dataset: Dataset) -> Iterator[tuple[tuple[int, str], ScannedFile]]:
    """The saved scans, each with its version and the columns that it was made for."""
    data = atomic_files.read_bytes(dataset.filesystem, dataset.path(SCANS_FILE)) or b""
    for line in data.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, OSError):
            content = _decode_scan(line)
            scanned_by = (content.pop("version", 1), content.pop("scanned_for"))
            yield scanned_by, ScannedFile.from_json(content)


def _encode_scan(content: dict[str, Any]) -> bytes:
    """Return a line of JSON with a checksum of the rest of it."""
    return orjson.dumps(
        {**content, "checksum": _checksum(content)}, option=orjson.OPT_APPEND_NEWLINE
    )


def _decode_scan(line: bytes) -> dict[str, Any]:
    """Return a line's content; ValueError if damaged.  Earlier versions wrote no checksum."""
    content: dict[str, Any] = orjson.loads(line)
    checksum = content.pop("checksum", None)
    if checksum != _checksum(content) and (checksum is not None or "version" in content):
        raise ValueError("the line is damaged")
    return content


def _checksum(content: dict[str, Any]) -> str:
    data = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _stamp(found: FoundFile) -> tuple[object, ...]:
    return (found.path, found.name, found.size_bytes, found.mtime_ns)


def _as_read(found: FoundFile, scanned: FoundFile) -> FoundFile:
    """Return the file as it is now, with the format of its content."""
    return dataclasses.replace(found, format=scanned.format, compression=scanned.compression)


def unreadable_input_error(scans: Scans) -> InputError | None:
    """Return the error for an input of which --skip-bad-files would leave nothing."""
    if scans.files or not scans.unreadable:
        return None
    first = scans.unreadable[0]
    what = f"none of the {len(scans.unreadable):,} files of the input can be read; the first one"
    return InputError(f"{what}: {first.without_advice}", path=first.path, damaged=first.damaged)


def _scan(found: FoundFile, columns: InputColumns) -> ScannedFile | InputError:
    try:
        return scan_file(open_found(found), found, columns)
    except InputError as error:
        return error
