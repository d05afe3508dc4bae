"""Whether an input file is still the one that was scanned."""

from __future__ import annotations

import dataclasses
import os
import time

import pyarrow as pa

from bulkembed.schemas.inputs import FoundFile, InputFile
from bulkembed.transforms.core.file_names import native_name
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.stored_bytes import HashingReader

_RECENT_NS = 2_000_000_000
"""A file written less than this before may change again without a new modification time."""
_RECENT_ON_STORES_NS = 10_000_000_000
"""The same for stores, which give whole seconds by their own clock."""


@dataclasses.dataclass(frozen=True, slots=True)
class FileStamp:
    """What the file system says about a file at one moment; other content has another stamp."""

    facts: tuple[int, ...]
    """Size and times; on a disk also the inode, and the time of its last change, which no program
    can set back."""
    is_recent: bool
    """Whether the file was written so shortly before that the facts alone prove nothing."""


def stamp_of(found: FoundFile) -> FileStamp | None:
    """Return the stamp of a file when its scan begins; None where it is gone.

    On a store that is what the listing said: another look would be a request for each file.
    """
    if not found.store:
        return _local_stamp(found)
    return _store_stamp(found.size_bytes, found.mtime_ns)


def is_as_before(file: InputFile, before: FileStamp | None) -> bool:
    """Return whether the stamp of a file proves that its content is the one that was scanned."""
    if before is None or before.is_recent:
        return False
    now = _stamp_now(file.found)
    return now is not None and now.facts == before.facts


def has_changed(file: InputFile, before: FileStamp | None) -> bool:
    """Return whether the content is not the one that was scanned.

    The content is read only where the stamp does not prove anything.  A file that was deleted since
    has not changed: the rows that were read of it are kept.
    """
    return not is_as_before(file, before) and _digest(file.found) not in (file.digest, None)


def _stamp_now(found: FoundFile) -> FileStamp | None:
    if not found.store:
        return _local_stamp(found)
    try:
        info = open_found(found).get_file_info(found.path)
    except (OSError, pa.ArrowException):
        return None
    return _store_stamp(info.size or 0, info.mtime_ns or 0)


def _local_stamp(found: FoundFile) -> FileStamp | None:
    try:
        stat = os.stat(native_name(found.path))  # noqa: PTH116 - the name may be no UTF-8
    except (OSError, ValueError):
        return None
    facts = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return FileStamp(facts, _is_recent(max(facts[1], facts[2]), _RECENT_NS))


def _store_stamp(size_bytes: int, mtime_ns: int) -> FileStamp:
    return FileStamp((size_bytes, mtime_ns), _is_recent(mtime_ns, _RECENT_ON_STORES_NS))


def _is_recent(written_ns: int, recent_ns: int) -> bool:
    return written_ns >= time.time_ns() - recent_ns


def _digest(found: FoundFile) -> str | None:
    try:
        with open_found(found).open_input_stream(found.path, compression=None) as raw:
            return HashingReader(raw).finish()
    except (OSError, pa.ArrowException):
        return None
