"""Vectors that are paid for and not yet committed, so that nobody pays for them twice.

`_run/spill/` has a file for each unit of a run that is under way; it goes with the unit's commit.
`_run/shared/` has the vectors of texts that several units share; its files go when the dataset is
complete.  Each says of which settings its vectors are; see spill_file for the format.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import Unit
from bulkembed.transforms.core.hashing import HASH_BYTES
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset.dataset import SHARED, SPILL, Dataset
from bulkembed.transforms.dataset.records import SPILL_SUFFIX, spill_name
from bulkembed.transforms.dataset.whole_files import output_error

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


Places = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class VectorIndex:
    """Where the vectors of texts are.  A place is a row of the index, ascending by hash.

    An index never changes, so that threads can share it: a place means the same in all of them.
    """

    names: npt.NDArray[np.bytes_] = dataclasses.field(
        default_factory=lambda: np.empty(0, HASH_TYPE)
    )
    offsets: npt.NDArray[np.uint64] = dataclasses.field(
        default_factory=lambda: np.empty(0, np.uint64)
    )
    files: npt.NDArray[np.uint16] = dataclasses.field(
        default_factory=lambda: np.empty(0, np.uint16)
    )
    flags: npt.NDArray[np.uint8] = dataclasses.field(default_factory=lambda: np.empty(0, np.uint8))
    paths: tuple[tuple[Path, int], ...] = ()
    """Each file, and the dim of its vectors."""

    def __len__(self) -> int:
        return len(self.names)

    def with_files(self, files: Iterable[tuple[Path, Iterable[Entries]]]) -> VectorIndex:
        """Return an index of more files; a text that is there already keeps its place."""
        names, offsets, numbers, flags = (
            [self.names],
            [self.offsets],
            [self.files],
            [self.flags],
        )
        paths = list(self.paths)
        for path, found in files:
            blocks = list(found)
            if not blocks:
                continue
            number = len(paths)
            paths.append((path, blocks[0].dim))
            for block in blocks:
                names.append(block.hashes)
                offsets.append(block.offsets)
                numbers.append(np.full(len(block.hashes), number, np.uint16))
                flags.append(block.flags)
        if len(names) == 1:
            return self
        every, first = np.unique(np.concatenate(names), return_index=True)
        return VectorIndex(
            every,
            np.concatenate(offsets)[first],
            np.concatenate(numbers)[first],
            np.concatenate(flags)[first],
            tuple(paths),
        )

    def find(self, hashes: Sequence[bytes]) -> Places:
        """The places of texts, -1 where there is none; one a hash, in their order."""
        if not len(self) or not hashes:
            return np.full(len(hashes), -1, np.int64)
        wanted = np.frombuffer(b"".join(hashes), HASH_TYPE)
        at = np.searchsorted(self.names, wanted)
        at[at == len(self)] = 0
        places: Places = np.where(self.names[at] == wanted, at, -1)
        return places

    def vector(self, place: int) -> tuple[Matrix, bool | None] | None:
        """The vector (dim,) at a place and its flag; None where it cannot be read any more."""
        path, dim = self.paths[self.files[place]]
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(int(self.offsets[place]))
                data = file.read(4 * dim)
        except FileNotFoundError:
            return None
        if len(data) < 4 * dim:
            return None
        return np.frombuffer(data, np.float32), FLAGS[self.flags[place]]

    def path(self, place: int) -> Path:
        """The file that holds the vector."""
        path: Path = self.paths[self.files[place]][0]
        return path


class Spill:
    """The vectors that are there already of texts that are still to be committed; one a process.

    Of the units' files those of earlier runs, of the shared ones all that were there at the last
    look.  Safe for threads.
    """

    def __init__(self, dataset: Dataset, job: JobConfig) -> None:
        self._dataset = dataset
        self._job = job
        self._lock = threading.Lock()
        self._known: set[Path] = set()
        self._index = VectorIndex()
        self._add(path for path in _files(dataset, SPILL) if job.run_id not in path.name)
        self.look_for_shared()

    def __len__(self) -> int:
        return len(self._index)

    def look_for_shared(self) -> None:
        """Take in the shared files that came since the last look."""
        self._add(_files(self._dataset, SHARED))

    def _add(self, paths: Iterator[Path]) -> None:
        with self._lock:
            new = [path for path in paths if path not in self._known]
            self._known.update(new)
            job = self._job
            self._index = self._index.with_files(
                (path, entries(path, job.digest, job.unstamped_run)) for path in new
            )

    def find(self, hashes: Sequence[bytes]) -> Iterator[tuple[int, Matrix, bool | None, bool]]:
        """Yield the texts that have a vector.

        Each as its number in `hashes`, the vector (dim,), its flag, and whether it is shared.
        """
        index = self._index  # Another thread may replace it meanwhile.
        for number, place in enumerate(index.find(hashes).tolist()):
            found = index.vector(place) if place >= 0 else None
            if found is not None:
                yield number, *found, index.path(place).parent.name == _SHARED_FOLDER

    def writer(self, unit: Unit, generation: int = 0) -> SpillWriter:
        """Return the file for the answers of a unit of this run."""
        job = self._job
        return _writer(self._dataset, job, SPILL, spill_name(unit, generation, job.run_id))


def shared_writer(dataset: Dataset, job: JobConfig, name: str) -> SpillWriter:
    """Return a file of a run for vectors that units share; it keeps nothing on an object store."""
    return _writer(dataset, job, SHARED, f"{job.run_id}-{name}{SPILL_SUFFIX}")


def _writer(dataset: Dataset, job: JobConfig, folder: str, name: str) -> SpillWriter:
    path = None if dataset.is_on_a_store else Path(dataset.path(folder, name))
    return SpillWriter(path, job.digest)


def holds_answers(dataset: Dataset, digest: str, unstamped_run: str | None) -> bool:
    """Return whether any answer that was made with some settings is kept; see `entries`."""
    return any(
        any(True for _ in entries(path, digest, unstamped_run))
        for folder in (SPILL, SHARED)
        for path in _files(dataset, folder)
    )


def of_other_settings(dataset: Dataset, job: JobConfig) -> list[str]:
    """Return the names of kept files that have no answer made with a job's settings."""
    return [
        f"{folder}/{path.name}"
        for folder in (SPILL, SHARED)
        for path in _files(dataset, folder)
        if not any(True for _ in entries(path, job.digest, job.unstamped_run))
    ]


def entries(path: Path, digest: str, unstamped_run: str | None) -> Iterator[Entries]:
    """Yield the blocks of a kept file that were made with the settings of a digest.

    Those of an older version do not say it.  Shared ones count only if they are of the run that
    pinned the settings last: that version let a run with other settings follow one that had left
    nothing but shared answers.  As long as it had answers of a unit, it did not.

    Args:
        path: the file.
        digest: of the settings.
        unstamped_run: the last run of that version; None: none has written to this dataset.
    """
    unstamped = unstamped_run is not None and (
        path.parent.name != _SHARED_FOLDER or path.name.startswith(f"{unstamped_run}-")
    )
    with contextlib.suppress(FileNotFoundError):  # Its unit was committed meanwhile.
        yield from read_entries(path, digest, unstamped=unstamped)


_SHARED_FOLDER = SHARED.rpartition("/")[2]


def _files(dataset: Dataset, folder: str) -> Iterator[Path]:
    """Yield the kept files of a folder, sorted; none on an object store."""
    path = Path(dataset.path(folder))
    if not dataset.is_on_a_store and path.is_dir():
        found = (one for one in path.iterdir() if one.suffix == SPILL_SUFFIX)
        yield from sorted(one for one in found if one.is_file())
