"""Answered calls of unfinished units, kept so that nobody pays for them twice after a kill.

A spill file belongs to one unit of one run and goes with the unit's commit.  It is a row of
blocks, one an answered call, each appended by one write: a header (magic, texts, dim, CRC-32 of
what follows), the texts' hashes, a byte each for `truncated`, and the vectors as float32.  A block
that a kill cut short fails its checksum and ends the file.  Local disks only: object stores cannot
append.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs

from schemas.units import Unit
from transforms.clients.decode import Matrix
from transforms.core.hashing import HASH_BYTES
from transforms.storage.dataset import SPILL, Dataset
from transforms.storage.records import spill_name
from transforms.storage.whole_files import output_error

crc32: Any
try:
    from isal.isal_zlib import crc32
except ImportError:  # Optional: the same sums, several times as fast as zlib's.
    from zlib import crc32

_HEADER = struct.Struct("<4sIII")
_MAGIC = b"BES1"
_FLAGS: tuple[bool | None, ...] = (False, True, None)


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """Where the vector of a text stands."""

    path: Path
    offset: int
    dim: int
    truncated: bool | None


class SpillWriter:
    """The spill file of one unit; made with the first answer."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
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
        flags = bytes(_FLAGS.index(flag) for flag in truncated)
        names = b"".join((*hashes, flags))
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

    def close(self, *, committed: bool) -> None:
        """Closes the file; removes it where the unit is committed whole."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if committed and self._path is not None:
                self._path.unlink(missing_ok=True)


class Spill:
    """What earlier runs left of unfinished units, looked up by text hash; one a process."""

    def __init__(self, dataset: Dataset, run_id: str) -> None:
        local = isinstance(dataset.filesystem, pafs.LocalFileSystem)
        self._folder = Path(dataset.path(SPILL)) if local else None
        self._run_id = run_id
        self._places: dict[bytes, _Place] = {}
        for path in self._old_files():
            self._places.update(_places(path))

    def __len__(self) -> int:
        return len(self._places)

    def find(self, text_hash: bytes) -> tuple[Matrix, bool | None] | None:
        """The vector (dim,) of a text that was paid for, and its flag; None where there is none."""
        place = self._places.get(text_hash)
        if place is None:
            return None
        with place.path.open("rb") as file:
            file.seek(place.offset)
            vector = np.frombuffer(file.read(4 * place.dim), np.float32)
        return (vector, place.truncated) if len(vector) == place.dim else None

    def writer(self, unit: Unit, generation: int = 0) -> SpillWriter:
        """The file for the answers of a unit of this run."""
        if self._folder is None:
            return SpillWriter(None)
        return SpillWriter(self._folder / spill_name(unit, generation, self._run_id))

    def _old_files(self) -> list[Path]:
        if self._folder is None or not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if self._run_id not in path.name)


def _write_all(file: int, *pieces: bytes | memoryview) -> None:
    """Writes a block; a full disk takes a part of it first, and raises at the next try."""
    left = [memoryview(piece) for piece in pieces]
    while left:
        done = os.writev(file, left)
        while left and done >= len(left[0]):
            done -= len(left.pop(0))
        if left:
            left[0] = left[0][done:]


def _places(path: Path) -> Iterator[tuple[bytes, _Place]]:
    """The texts of a spill file, up to the first block that is not whole."""
    end = path.stat().st_size
    with path.open("rb") as file:
        while True:
            start = file.tell()
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return
            magic, texts, dim, checksum = _HEADER.unpack(header)
            size = texts * (HASH_BYTES + 1 + 4 * dim)
            if magic != _MAGIC or file.tell() + size > end:
                return  # Not whole, or a header that is damaged and asks for too much.
            payload = file.read(size)
            if len(payload) < size or crc32(payload) != checksum:
                return
            vectors = start + _HEADER.size + texts * (HASH_BYTES + 1)
            for at in range(texts):
                name = payload[at * HASH_BYTES : (at + 1) * HASH_BYTES]
                flag = _FLAGS[payload[texts * HASH_BYTES + at]]
                yield name, _Place(path, vectors + 4 * dim * at, dim, flag)
