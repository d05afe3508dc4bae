"""The bytes of Parquet pages, decompressed piece by piece, so that no page is held as a whole."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import tempfile
import weakref
from collections.abc import Iterator

import pyarrow as pa

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.inputs.parquet_pages.snappy_blocks import NotInBlocks, decompressed_blocks
from bulkembed.transforms.inputs.stored_bytes import Stream

READ_BYTES = 4 << 20
"""How many stored bytes are read at a time."""
_PIECE_BYTES = 1 << 20
_STREAMED = {"GZIP": "gzip", "ZSTD": "zstd", "BROTLI": "brotli"}
CODECS = ("UNCOMPRESSED", "SNAPPY", *_STREAMED)
"""The codecs of which pages are read here, as Parquet names them."""


class ReadAhead:
    """Reads a part of a file forward, some MB at a time, since a read can be a request.

    Args:
        file: the file; other readers of it are not disturbed.
        end: the byte after the part.
    """

    def __init__(self, file: pa.NativeFile, end: int) -> None:
        self._file = file
        self.end = end
        self._at, self._data = 0, b""

    def read(self, at: int, nbytes: int, least: int = 1) -> bytes:
        """Return from `least` to `nbytes` bytes from a place on; fewer at the end of the part.

        Raises:
            OSError: the file cannot be read, or ends before the part does.
        """
        least = min(least, nbytes, self.end - at)
        if not self._at <= at <= self._at + len(self._data) - least:
            size = min(max(READ_BYTES, least), self.end - at)
            self._at, self._data = at, self._file.read_at(size, at)
            if len(self._data) < size:
                raise OSError(f"it ends at byte {at + len(self._data):,}, within a row group")
        return self._data[at - self._at : at - self._at + nbytes]


class PlainBytes:
    """The decompressed bytes of a page, read forward.

    Args:
        pieces: the bytes.
        size: how many they are.
    """

    def __init__(self, pieces: Iterator[bytes | memoryview], size: int) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")
        self.left = size
        """How many bytes are not read yet."""

    def read(self, nbytes: int) -> bytes:
        """Return the next bytes.

        Raises:
            OSError, pa.ArrowException: the page is damaged, or ends before.
        """
        if nbytes > self.left:
            raise OSError(f"a page ends {nbytes - self.left:,} bytes before the end of a value")
        self.left -= nbytes
        found = []
        while True:
            found.append(self._piece[:nbytes])
            self._piece = self._piece[nbytes:]
            nbytes -= len(found[-1])
            if not nbytes:
                return b"".join(found)
            piece = next(self._pieces, None)
            if piece is None:
                raise OSError(f"a page lacks {nbytes + self.left:,} of the bytes in its header")
            self._piece = memoryview(piece)

    def read_string(self) -> bytes:
        """Return the next bytes, as many as the four before them say."""
        return self.read(int.from_bytes(self.read(4), "little"))

    def finish(self) -> None:
        """Read the rest.

        Raises:
            OSError, pa.ArrowException: the page is damaged, or has another size than its header
                says.
        """
        while self.left:
            self.read(min(self.left, _PIECE_BYTES))
        if self._piece or any(self._pieces):
            raise OSError("a page has more bytes than its header says")


class _StoredPage(io.RawIOBase):
    """The bytes of a page as they are stored, read forward."""

    def __init__(self, file: ReadAhead, begin: int, size: int) -> None:
        self._file = file
        self._begin, self._end = begin, begin + size
        self._at = begin

    def readable(self) -> bool:
        return True

    def read(self, nbytes: int = READ_BYTES) -> bytes:
        """Return up to `nbytes` bytes; b"" at the end."""
        nbytes = min(nbytes, self._end - self._at)
        data = self._file.read(self._at, nbytes) if nbytes > 0 else b""
        self._at += len(data)
        return data

    def read_all(self) -> bytes:
        """Return all bytes, from the first one."""
        self._at = self._begin
        return b"".join(iter(self.read, b""))


def plain_bytes(file: ReadAhead, begin: int, stored: int, codec: str, size: int) -> PlainBytes:
    """Return the decompressed bytes of a page, or of a part of one.

    Args:
        file: the file, up to the end of the row group's column.
        begin: where the bytes are stored.
        stored: how many are stored.
        codec: one of `CODECS`.
        size: how many they are when they are decompressed.

    Raises:
        OSError: they do not end within the row group's column.
    """
    if not 0 <= stored <= file.end - begin or size < 0:
        raise OSError("a row group ends within a page")
    return PlainBytes(_pieces(_StoredPage(file, begin, stored), codec, size), size)


def _pieces(stored: _StoredPage, codec: str, size: int) -> Iterator[bytes | memoryview]:
    if not size:
        return
    if codec == "SNAPPY":
        yield from _snappy_pieces(stored, size)
        return
    stream: Stream = stored
    if codec in _STREAMED:
        stream = pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), _STREAMED[codec])
    while piece := stream.read(_PIECE_BYTES):
        yield piece


def _snappy_pieces(stored: _StoredPage, size: int) -> Iterator[bytes | memoryview]:
    """Yield the blocks; the page as a whole from the first that cannot be decompressed alone."""
    made = 0
    try:
        for block in decompressed_blocks(stored.read, size):
            yield block
            made += len(block)
    except NotInBlocks:
        page = pa.Codec("snappy").decompress(stored.read_all(), size)
        yield memoryview(page)[made:]


class ValueFile:
    """Byte strings that wait on a disk, in an unnamed temporary file.

    Raises:
        OutputError: the disk is full.
    """

    def __init__(self) -> None:
        with _disk(), tempfile.TemporaryFile(prefix="bulkembed-") as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._ends = [0]

    def append(self, value: bytes) -> None:
        """Write a value."""
        self._ends.append(self._ends[-1] + len(value))
        with _disk():
            while value:
                value = value[os.pwrite(self._descriptor, value, self._ends[-1] - len(value)) :]

    def read(self, number: int) -> bytes:
        """Return the value of that number, from 0."""
        begin, end = self._ends[number : number + 2]
        with _disk():
            return os.pread(self._descriptor, end - begin, begin)


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = "the disk is full. Free some space" if error.errno == errno.ENOSPC else str(error)
        raise OutputError(
            f"{tempfile.gettempdir()} cannot be written: {reason}. Committed units are kept. Rerun "
            "the command."
        ) from error
