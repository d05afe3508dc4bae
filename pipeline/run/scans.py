"""The scan of the input: the files that can be read, saved so that later runs need not rescan."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import orjson

from bulkembed.pipeline.logs import log
from bulkembed.schemas.errors import InputError, OutputError
from bulkembed.schemas.inputs import FoundFile, InputColumns, InputFile
from bulkembed.transforms.dataset import atomic_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import PLAN
from bulkembed.transforms.inputs.discover import find_input
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import ScannedFile, scan_file
from bulkembed.transforms.inputs.store_tags import NO_TAG
from bulkembed.transforms.inputs.stored_bytes import FileStamp, stamp_of

SCANS_FILE = f"{PLAN}/files.jsonl"
SCAN_VERSION = 3
"""Version of the saved scans; files with a scan of another version are scanned again."""
SCAN_THREADS = 4
STORE_SCAN_THREADS = 16
"""The same if files are on a store, where a scan is mostly waiting for two answers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scans:
    """The input as it was found: files that can be read, and those that cannot."""

    files: tuple[ScannedFile, ...]
    unreadable: tuple[InputError, ...] = ()
    ignored: tuple[str, ...] = ()
    """See `discover.Listing.ignored`."""
    damaged: tuple[ScannedFile, ...] = ()
    """Files whose damage was found while their rows were read; no longer in `files`."""
    bad_names: frozenset[str] = frozenset()
    """The names of files that exist but cannot be read."""
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
        """The readable files, as the plan takes them."""
        return [file.input_file for file in self.files]

    @property
    def rows(self) -> int:
        """Rows of all readable files."""
        return sum(file.rows for file in self.files)


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
    flag: str = "--input",
) -> Scans:
    """Find the input files, and scan those that have changed since the last run.

    A file with the name, size and time of a saved scan is not read again, unless `trust_saved` is
    off. One with its name and size is identified in the same way, by its bytes or a store's tag.
    Messages name `flag` as the flag that has the patterns.

    Raises:
        ConfigError: no file matches, a column is missing, or the files are those of a table.
        InputError: a file cannot be read, and `skip_bad_files` is off.
    """
    listing = find_input(patterns, format, output, tables_as_files=tables_as_files, flag=flag)
    found = listing.files
    stamps = {file.path: stamp_of(file) for file in found}
    scanned_before = _saved_scans(dataset)
    digests = {_content_of(file.found): file.digest for _, file in scanned_before}
    saved = _trusted(scanned_before, columns) if trust_saved else {}

    unsaved = {one.name for one in found if not one.is_local and _content_of(one) not in digests}
    forgotten = _forgotten_keys(dataset, scanned_before, unsaved)

    def scan(file: FoundFile) -> ScannedFile | InputError:
        scanned = saved.get(_stamp(file)) or _scan(
            file, columns, digests.get(_content_of(file), "")
        )
        if file.name not in forgotten or _has_key(scanned, forgotten[file.name]):
            return scanned
        by_bytes = _scan(file, columns, NO_TAG)
        return by_bytes if _has_key(by_bytes, forgotten[file.name]) else scanned

    is_local = all(file.is_local for file in found)
    threads = SCAN_THREADS if is_local else STORE_SCAN_THREADS
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(scan, found))
    bad = {
        file.name: result
        for file, result in zip(found, results, strict=True)
        if isinstance(result, InputError)
    }
    unreadable = (*listing.unreadable, *bad.values())
    if unreadable and not skip_bad_files:
        raise unreadable[0]
    files = tuple(
        dataclasses.replace(result, found=_with_format(file, result.found))
        for file, result in zip(found, results, strict=True)
        if isinstance(result, ScannedFile)
    )
    return Scans(files, unreadable, listing.ignored, (), frozenset(bad), stamps)


def _forgotten_keys(
    dataset: Dataset,
    saved: Sequence[tuple[tuple[int, str], ScannedFile]],
    unsaved: Collection[str],
) -> dict[str, set[str]]:
    """Return the keys of committed files without a saved scan, by name, as far as they are wanted.

    The last run had another input, or skipped them. Earlier versions made keys of the bytes, so
    such a file must be read to know it.

    Args:
        dataset: the output.
        saved: its saved scans.
        unsaved: the names of wanted files.
    """
    keys: dict[str, set[str]] = collections.defaultdict(set)
    if not (saved and unsaved):
        return keys
    with contextlib.suppress(OutputError):  # The run reports it when it reads the state again.
        known = {file.input_file.key for _, file in saved}
        records = {one.unit.file_key: one for one in dataset.state().records}
        others = [record for key, record in records.items() if key not in known]
        for record in dataset.read_records(others):
            if record.source_file in unsaved:
                keys[record.source_file].add(record.unit.file_key)
    return keys


def _scan(found: FoundFile, columns: InputColumns, known_digest: str) -> ScannedFile | InputError:
    try:
        return scan_file(open_found(found), found, columns, known_digest)
    except InputError as error:
        return error


def _has_key(scanned: ScannedFile | InputError, keys: Collection[str]) -> bool:
    return isinstance(scanned, ScannedFile) and scanned.input_file.key in keys


def _content_of(found: FoundFile) -> tuple[str, int]:
    """Return what of the name and content of a file is known without reading it."""
    return found.name, found.size_bytes


def _stamp(found: FoundFile) -> tuple[object, ...]:
    return (found.path, found.name, found.size_bytes, found.mtime_ns)


def _with_format(found: FoundFile, scanned: FoundFile) -> FoundFile:
    """Return the file as it is now, with the format of its content."""
    return dataclasses.replace(found, format=scanned.format, compression=scanned.compression)


def unreadable_input_error(scans: Scans) -> InputError | None:
    """Return the error if no file of the input can be read, which --skip-bad-files cannot skip."""
    if scans.files or not scans.unreadable:
        return None
    first = scans.unreadable[0]
    what = f"none of the {len(scans.unreadable):,} input files can be read. The first error"
    return InputError(f"{what}: {first.without_advice}", path=first.path, damaged=first.damaged)


def save_scans(
    dataset: Dataset, scans: Scans, columns: InputColumns, outdated: Collection[str] = ()
) -> None:
    """Save the scans for this run's records and for the next run.

    The next run rescans files whose keys are in `outdated`, whatever their size and time are.
    """

    def version(file: ScannedFile) -> int:
        return 0 if file.input_file.key in outdated else SCAN_VERSION

    wanted = _scanned_for(columns)
    lines = [
        _encode_scan({"version": version(file), "scanned_for": wanted, **file.to_json()})
        for file in scans.files
    ]
    dataset.write(SCANS_FILE, b"".join(lines))


def planned_files(dataset: Dataset) -> dict[str, InputFile]:
    """Return the files of the last plan by their keys; damaged lines are left out.

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


def _scanned_for(columns: InputColumns) -> str:
    """Return what a saved scan was made for; texts alone have the words of earlier versions."""
    parts = f" {columns.content}" if columns.content else ""
    return f"{columns}{parts}"


def _saved_scans(dataset: Dataset) -> list[tuple[tuple[int, str], ScannedFile]]:
    # Only a shortcut: a file whose line cannot be read is scanned again.
    try:
        return list(_read_scans(dataset))
    except OutputError as error:
        log.warning("%s. Scanning all input files again.", error.message.rstrip("."))
        return []


def _trusted(
    saved: Sequence[tuple[tuple[int, str], ScannedFile]], columns: InputColumns
) -> dict[tuple[object, ...], ScannedFile]:
    """Return the scans that this version made for the same columns."""
    current = (SCAN_VERSION, _scanned_for(columns))
    return {_stamp(file.found): file for scanned_by, file in saved if scanned_by == current}


def _read_scans(dataset: Dataset) -> Iterator[tuple[tuple[int, str], ScannedFile]]:
    """Yield the saved scans, each with its version and the columns that it was made for."""
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
    """Return a line's content; ValueError if damaged. Earlier versions wrote no checksum."""
    content: dict[str, Any] = orjson.loads(line)
    checksum = content.pop("checksum", None)
    if checksum != _checksum(content) and (checksum is not None or "version" in content):
        raise ValueError("the line is damaged")
    return content


def _checksum(content: dict[str, Any]) -> str:
    data = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(data, digest_size=8).hexdigest()
