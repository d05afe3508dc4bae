"""The bytes of an input file: hashing, decompressing, and whether they have changed."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import hashlib
import io
import os
import time
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.errors import OR_SKIP, InputError
from bulkembed.schemas.inputs import FoundFile, InputFile
from bulkembed.transforms.core.file_names import native_name
from bulkembed.transforms.inputs.filesystems import error_line, open_found
from bulkembed.transforms.inputs.store_tags import is_tag, tag_now

CHUNK_BYTES = 1 << 20
TAIL_BYTES = 64 << 10
"""How much of the end of a file is kept or read for its footer: most footers are smaller."""
SMALL_BYTES = 1 << 20
"""A file of at most this size is read as a whole and scanned in memory."""
_RECENT_NS = 2_000_000_000
"""A file written less than this before may change again without a new modification time."""
_RECENT_ON_STORES_NS = 10_000_000_000
"""The same for stores, which give whole seconds by their own clock."""


class Stream(Protocol):
    """A source of bytes; b"" at its end."""

    def read(self, nbytes: int, /) -> bytes:
        """Return up to `nbytes` bytes."""


class HashingReader(io.RawIOBase):
    """A stream that hashes and counts the bytes that are read from it."""

    def __init__(self, raw: pa.NativeFile) -> None:
        self._raw = raw
        self._hash = hashlib.blake2b(digest_size=16)
        self.bytes_read = 0
        self.tail = b""
        """The last bytes that were read, at most `TAIL_BYTES`."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, nbytes: int = -1) -> bytes:
        """Return the next bytes; b"" at the end."""
        data: bytes = self._raw.read(nbytes if nbytes >= 0 else None)
        self._hash.update(data)
        self.bytes_read += len(data)
        if data:
            self.tail = (self.tail + data if len(data) < TAIL_BYTES else data)[-TAIL_BYTES:]
        return data

    def finish(self) -> str:
        """Read the rest of the file, and return the digest of all of it: 32 hex digits."""
        while self.read(CHUNK_BYTES):
            pass
        return self._hash.hexdigest()


class PeekableStream(io.RawIOBase):
    """A stream whose first bytes can be inspected before they are read."""

    def __init__(self, stream: Stream, nbytes: int) -> None:
        self._stream = stream
        head = b""
        self.is_whole = False
        """Whether `head` is the whole stream."""
        while len(head) < nbytes and not self.is_whole:
            more = stream.read(nbytes - len(head))
            head += more
            self.is_whole = not more
        self.head = self._unread = head

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, nbytes: int = -1) -> bytes:
        """Return the next bytes; b"" at the end."""
        if self._unread:
            data = self._unread if nbytes < 0 else self._unread[:nbytes]
            self._unread = self._unread[len(data) :]
            return data
        return bytes(self._stream.read(nbytes))


class Bz2Reader:
    """Decompresses a bz2 file of any number of streams; raises OSError if one is truncated.

    Arrow's decoder accepts several streams, but fails if one of them is empty.
    """

    def __init__(self, raw: Stream) -> None:
        self._raw = raw
        self._decoder = bz2.BZ2Decompressor()
        self._begun = False

    def read(self, nbytes: int) -> bytes:
        """Return up to `nbytes` decompressed bytes; b"" at the end."""
        data = b""
        while not data:
            stored = self._next_stored()
            if stored is None:
                return b""
            data = self._decoder.decompress(stored, nbytes)
        return data

    def _next_stored(self) -> bytes | None:
        """Return the next input of the decoder; None at the end of the last stream."""
        if not self._decoder.eof and not self._decoder.needs_input:
            return b""
        stored: bytes = self._decoder.unused_data if self._decoder.eof else b""
        stored = stored or self._raw.read(CHUNK_BYTES)
        if self._decoder.eof:
            self._decoder, self._begun = bz2.BZ2Decompressor(), False
        if not stored and self._begun:
            raise OSError("the last bz2 stream has no end")
        self._begun = self._begun or bool(stored)
        return stored or None


def decompressed(raw: Stream, compression: str | None) -> Stream:
    """Return a stream of the decompressed bytes; `raw` gives them as they are stored.

    A file may have several gzip members, zstd frames or bz2 streams. Reading raises if the last
    one is truncated or followed by other bytes, which the readers of zstandard and Beam do not
    notice. A file of zero bytes is an empty stream.
    """
    if compression is None:
        return raw
    if compression == "bz2":
        return Bz2Reader(raw)
    if not isinstance(raw, pa.NativeFile):
        raw = pa.PythonFile(raw, mode="r")
    stream: Stream = pa.CompressedInputStream(raw, compression)
    return stream


@contextlib.contextmanager
def reading(found: FoundFile) -> Iterator[None]:
    """Raise an InputError that names the file for any error of reading its bytes."""
    try:
        yield
    except FileNotFoundError as error:
        raise _deleted(found) from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{found.name} cannot be read: {error_line(error).rstrip('.')}. It may be truncated, "
            f"damaged or encrypted. Replace it{OR_SKIP}",
            path=found.path,
            damaged=True,
        ) from error


def opened(filesystem: pafs.FileSystem, found: FoundFile) -> pa.NativeFile:
    """Open a file to be read once; a small one is read now, as a whole.

    Raises:
        OSError, pa.ArrowException: it cannot be read.
    """
    raw = filesystem.open_input_stream(found.path, compression=None)
    if found.size_bytes > SMALL_BYTES:
        return raw
    with raw:
        # One byte more, because the file may have grown.
        return pa.BufferReader(raw.read(found.size_bytes + 1))


def seekable(
    raw: pa.NativeFile, filesystem: pafs.FileSystem, found: FoundFile
) -> contextlib.AbstractContextManager[pa.NativeFile]:
    """Return a file for reading at any place, which is the one that `opened` has read, if small."""
    is_whole = isinstance(raw, pa.BufferReader)
    file: contextlib.AbstractContextManager[pa.NativeFile] = (
        contextlib.nullcontext(raw) if is_whole else filesystem.open_input_file(found.path)
    )
    return file


def check_size(filesystem: pafs.FileSystem, found: FoundFile) -> None:
    """Raise InputError if the size of the file has changed since it was found."""
    with reading(found):
        size = filesystem.get_file_info(found.path).size
    if size is not None and size != found.size_bytes:
        raise changed(found, f"it has {size:,} bytes")
    if size is None:
        raise _deleted(found)


def _deleted(found: FoundFile) -> InputError:
    return InputError(
        f"{found.name} was deleted after it was found. Rerun the command.", path=found.path
    )


def changed(found: FoundFile, now: str) -> InputError:
    """Return the error for a file that has changed since the run was planned.

    Args:
        found: the file, as it was found.
        now: what has changed, as a clause.
    """
    return InputError(
        f"{found.name} has changed since it was scanned, when it had {found.size_bytes:,} bytes: "
        f"{now}. Rerun the command when nothing writes to the file.",
        path=found.path,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class FileStamp:
    """Size and times of a file at one moment; a file with other content has another stamp."""

    facts: tuple[int, ...]
    """Size and times; on a local disk also the inode, and the time of its last change, which no
    program can set."""
    is_recent: bool
    """Whether the file was written so recently that the facts alone prove nothing."""


def stamp_of(found: FoundFile) -> FileStamp | None:
    """Return the stamp of a file before it is scanned; None if it was deleted.

    On a store, that is what the listing said: asking again would cost a request per file.
    """
    if found.is_local:
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

    The content is read only if the stamp proves nothing, and the file has no tag of a store. A
    file that was deleted has not changed: the rows that were read from it are kept.
    """
    return not is_as_before(file, before) and _digest_now(file) not in (file.digest, None)


def _stamp_now(found: FoundFile) -> FileStamp | None:
    if found.is_local:
        return _local_stamp(found)
    try:
        info = open_found(found).get_file_info(found.path)
    except (OSError, pa.ArrowException):
        return None
    return _store_stamp(info.size or 0, info.mtime_ns or 0)


def _local_stamp(found: FoundFile) -> FileStamp | None:
    try:
        stat = os.stat(native_name(found.path))  # noqa: PTH116 - the name may not be UTF-8
    except (OSError, ValueError):
        return None
    facts = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
    return FileStamp(facts, _is_recent(max(facts[1], facts[2]), _RECENT_NS))


def _store_stamp(size_bytes: int, mtime_ns: int) -> FileStamp:
    return FileStamp((size_bytes, mtime_ns), _is_recent(mtime_ns, _RECENT_ON_STORES_NS))


def _is_recent(written_ns: int, recent_ns: int) -> bool:
    return written_ns >= time.time_ns() - recent_ns


def _digest_now(file: InputFile) -> str | None:
    found = file.found
    if is_tag(file.digest):
        return tag_now(found)
    try:
        with open_found(found).open_input_stream(found.path, compression=None) as raw:
            return HashingReader(raw).finish()
    except (OSError, pa.ArrowException):
        return None
