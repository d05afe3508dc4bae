"""The file format of vectors that are paid for and not yet committed.

A spill file is a sequence of blocks, one for each answered call, each appended by one write: a
header (magic, texts, dim, CRC-32 of what follows), the digest of the settings that made the
vectors, the texts' hashes, a byte each for `truncated`, and the vectors as float32.  A block that a
kill cut short fails its checksum and ends the file.  Blocks of an older version have no digest.
Local disks only: object stores cannot append.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from transforms.clients.decode import Matrix
from transforms.core.hashing import HASH_BYTES
from transforms.storage.whole_files import output_error

crc32: Any
try:
    from isal.isal_zlib import crc32
except ImportError:  # Optional: the same sums, several times as fast as zlib's.
    from zlib import crc32

_HEADER = struct.Struct("<4sIII")
_MAGIC = b"BES2"
_UNSTAMPED_MAGIC = b"BES1"
_DIGEST_BYTES = 8
NO_DIGEST = "0" * 2 * _DIGEST_BYTES
FLAGS: tuple[bool | None, ...] = (False, True, None)
"""What the byte for `truncated` says."""
HASH_TYPE = np.dtype(f"S{HASH_BYTES}")
"""Text hashes in an array.  numpy drops zeros at the end: of equal widths none are confused."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """The n texts of one block."""

    hashes: npt.NDArray[np.bytes_]
    """Shape (n,), of HASH_TYPE."""
    offsets: npt.NDArray[np.uint64]
    """Where in the file each vector begins, in bytes; shape (n,)."""
    flags: npt.NDArray[np.uint8]
    """Indexes of FLAGS, shape (n,)."""
    dim: int
    """Numbers of a vector."""


class SpillWriter:
    """A spill file to append to; made with the first answer.  Without a path nothing is kept.

    `digest` is that of the settings that make the vectors, in hex.
    """

    def __init__(self, path: Path | None, digest: str = NO_DIGEST) -> None:
        self._path = path
        self._digest = bytes.fromhex(digest)
        self._file = -1

    def append(
        self, hashes: Sequence[bytes], vectors: Matrix, truncated: Sequence[bool | None]
    ) -> None:
        """Keeps the answer to one call: n hashes, vectors of shape (n, dim), n flags.

        Raises:
            OutputError: the disk is full, or cannot be written.
        """
        if self._path is None:
            return
        flags = bytes(FLAGS.index(flag) for flag in truncated)
        names = b"".join((self._digest, *hashes, flags))
        numbers = np.ascontiguousarray(vectors).data.cast("B")
        checksum = crc32(numbers, crc32(names))
        header = _HEADER.pack(_MAGIC, len(hashes), vectors.shape[1], checksum)
        try:
            if self._file < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            _write_all(self._file, header, names, numbers)
        except OSError as error:
            raise output_error(str(self._path), error) from error

    def close(self, *, committed: bool = False) -> None:
        """Closes the file; removes it where the unit is committed whole."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if committed and self._path is not None:
                self._path.unlink(missing_ok=True)


def _write_all(file: int, *pieces: bytes | memoryview) -> None:
    """Writes a block; a full disk takes a part of it first, and raises at the next try."""
    left = [memoryview(piece) for piece in pieces]
    while left:
        done = os.writev(file, left)
        while left and done >= len(left[0]):
            done -= len(left.pop(0))
        if left:
            left[0] = left[0][done:]


def read_entries(path: Path, digest: str, *, unstamped: bool = False) -> Iterator[Entries]:
    """Yield the blocks of a spill file, up to the first one that is not whole or of other settings.

    Args:
        path: the file.
        digest: that of the settings that are wanted, in hex.
        unstamped: whether blocks without a digest are taken for those of these settings.
    """
    end = path.stat().st_size
    with path.open("rb") as file:
        while True:
            start = file.tell()
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return
            magic, texts, dim, checksum = _HEADER.unpack(header)
            stamp = _DIGEST_BYTES if magic == _MAGIC else 0
            size = stamp + texts * (HASH_BYTES + 1 + 4 * dim)
            if not (stamp or (unstamped and magic == _UNSTAMPED_MAGIC)):
                return
            if file.tell() + size > end:
                return  # Not whole, or a header that is damaged and asks for too much.
            payload = file.read(size)
            if len(payload) < size or crc32(payload) != checksum:
                return
            if stamp and payload[:stamp] != bytes.fromhex(digest):
                return
            flags = stamp + texts * HASH_BYTES
            vectors = start + _HEADER.size + flags + texts
            yield Entries(
                np.frombuffer(payload[stamp:flags], HASH_TYPE),
                vectors + 4 * dim * np.arange(texts, dtype=np.uint64),
                np.frombuffer(payload[flags : flags + texts], np.uint8),
                dim,
            )
