"""A file's bytes as they are stored, counted and hashed while something else reads them."""

from __future__ import annotations

import bz2
import contextlib
import hashlib
import io
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.errors import OR_SKIP, InputError
from bulkembed.schemas.inputs import FoundFile
from bulkembed.transforms.inputs.filesystems import error_line

CHUNK_BYTES = 1 << 20


class Stream(Protocol):
    """A source of bytes; b"" at its end."""

    def read(self, nbytes: int, /) -> bytes:
        """Up to `nbytes` bytes."""


class HashingReader(io.RawIOBase):
    """A stream that knows the digest and the number of the bytes that went through it."""

    def __init__(self, raw: pa.NativeFile) -> None:
        self._raw = raw
        self._hash = hashlib.blake2b(digest_size=16)
        self.bytes_read = 0

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, nbytes: int = -1) -> bytes:
        """The next bytes; b"" at the end."""
        data: bytes = self._raw.read(nbytes if nbytes >= 0 else None)
        self._hash.update(data)
        self.bytes_read += len(data)
        return data

    def finish(self) -> str:
        """The digest of the whole file, 32 hex digits; reads what is left of it."""
        while self.read(CHUNK_BYTES):
            pass
        return self._hash.hexdigest()


class Ahead(io.RawIOBase):
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
        self.head = self._left = head

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, nbytes: int = -1) -> bytes:
        """The next bytes; b"" at the end."""
        if self._left:
            given = self._left if nbytes < 0 else self._left[:nbytes]
            self._left = self._left[len(given) :]
            return given
        return bytes(self._stream.read(nbytes))


class Bz2Reader:
    """The decoded bytes of a bz2 file of any number of streams; raises where one is cut short.

    Arrow's decoder takes several streams, but fails on an empty one among them.
    """

    def __init__(self, raw: Stream) -> None:
        self._raw = raw
        self._decoder = bz2.BZ2Decompressor()
        self._begun = False

    def read(self, nbytes: int) -> bytes:
        """Up to `nbytes` decoded bytes; b"" at the end."""
        data = b""
        while not data:
            stored = self._next_stored()
            if stored is None:
                return b""
            data = self._decoder.decompress(stored, nbytes)
        return data

    def _next_stored(self) -> bytes | None:
        """What the decoder is to be given next; None at the end of the last stream."""
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


def decoded(raw: Stream, compression: str | None) -> Stream:
    """The stream's bytes with the compression taken off; `raw` gives them as they are stored.

    Several gzip members, zstd frames or bz2 streams are one after another; where the last one is
    cut short or something else follows, reading raises, which the readers of zstandard and Beam do
    not.  A file of no bytes at all has no rows.
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
    """Turns what goes wrong with a file's bytes into an InputError that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"{found.name} is no longer there; run the command again", path=found.path
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{found.name} cannot be read: {error_line(error).rstrip('.')}. It may be truncated, "
            f"damaged or encrypted. Replace it{OR_SKIP}",
            path=found.path,
            damaged=True,
        ) from error


def check_size(filesystem: pafs.FileSystem, found: FoundFile) -> None:
    """Raises InputError if the file has another size than when it was found."""
    with reading(found):
        size = filesystem.get_file_info(found.path).size
    if size is not None and size != found.size_bytes:
        raise changed(found, f"it has {size:,} bytes")
    if size is None:
        raise changed(found, "it is no longer there")


def changed(found: FoundFile, now: str) -> InputError:
    """The error for a file that is not what it was when the run was planned."""
    return InputError(
        f"{found.name} has changed since it was scanned: {now}, and had {found.size_bytes:,} bytes "
        "then; run the command again when nothing writes to it",
        path=found.path,
    )
