"""Whether an input file is still the one that was scanned."""

from __future__ import annotations

import dataclasses
import os
import time

import pyarrow as pa

from schemas.inputs import FoundFile, InputFile
from transforms.storage.filesystems import open_found
from transforms.storage.stored_bytes import HashingReader

_RECENT_NS = 2_000_000_000
"""A file that was written so shortly before may be written again without another time."""
_RECENT_ON_STORES_NS = 60_000_000_000
"""Stores tell seconds, and by their own clock."""


@dataclasses.dataclass(frozen=True, slots=True)
class FileStamp:
    """What the file system says of a file at one moment; another content has another stamp."""

    facts: tuple[int, ...]
    """Size and times; on a disk also the inode, and the time of its last change, which no program
    can set back."""
    is_recent: bool
    """Whether the file was written so shortly before that the facts alone prove nothing."""


def stamp_of(found: FoundFile) -> FileStamp | None:
    """Return the stamp of a file as it is now; None where it is gone or is no file."""
    try:
        if found.store:
            info = open_found(found).get_file_info(found.path)
            facts: tuple[int, ...] = (info.size or 0, info.mtime_ns or 0)
            return FileStamp(facts, _is_recent(facts[1], _RECENT_ON_STORES_NS))
        stat = os.stat(found.path)  # noqa: PTH116 - a path of the file system's own
    except (OSError, pa.ArrowException, ValueError):
        return None
    newest = max(stat.st_mtime_ns, stat.st_ctime_ns)
    facts = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return FileStamp(facts, _is_recent(newest, _RECENT_NS))


def has_changed(file: InputFile, before: FileStamp | None) -> bool:
    """Return whether the content is not the one that was scanned.

    The content is read only where its stamp is another one than `before`, which was taken before
    the scan, or where that was too early to tell.
    """
    now = stamp_of(file.found)
    if (
        now is not None
        and before is not None
        and not before.is_recent
        and now.facts == before.facts
    ):
        return False
    # What was deleted since is not what another content would be: its rows were read.
    return now is not None and _digest(file.found) not in (file.digest, None)


def _is_recent(written_ns: int, recent_ns: int) -> bool:
    return written_ns >= time.time_ns() - recent_ns


def _digest(found: FoundFile) -> str | None:
    try:
        with open_found(found).open_input_stream(found.path, compression=None) as raw:
            return HashingReader(raw).finish()
    except (OSError, pa.ArrowException):
        return None
