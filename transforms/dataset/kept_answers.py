"""Kept answers: vectors that are paid for but not committed, so that they are billed once.

`_run/spill/` has a file for each unit in progress, deleted once the unit is committed.
`_run/shared/` has the vectors of texts that several units share, deleted once the dataset is
complete.  Kept answers exist on local disks only.

A file is a sequence of blocks, one for each answered request: header, embedding digest (8 bytes),
text hashes, a byte for each text that says whether it was truncated, and the vectors as float32.
The header has a magic number, the number of texts, the dimensions and a CRC-32.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import Unit
from bulkembed.transforms.core.hashing import HASH_BYTES, Keys
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset.atomic_files import output_error
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.known_vectors import VectorBlock
from bulkembed.transforms.dataset.layout import KEPT, KEPT_SUFFIX, SHARED, kept_name

_HEADER = struct.Struct("<4sIII")
_MAGIC = b"BES2"
_UNSTAMPED_MAGIC = b"BES1"
"""Begins a block of an older version, which has no embedding digest."""
_DIGEST_BYTES = 8
NO_DIGEST = "0" * 2 * _DIGEST_BYTES
FLAGS: tuple[bool | None, ...] = (False, True, None)
"""The meanings of the byte for `truncated`."""
HASH_TYPE = np.dtype(f"S{HASH_BYTES}")
"""Text hashes in an array.  numpy drops trailing zeros, so compare only hashes of this type."""
_READ_ROWS = 256


class AnswerWriter:
    """A file of kept answers to append to, created with the first answer.

    Args:
        path: the file; None to keep nothing.
        digest: the embedding digest of the vectors, in hex.
    """

    def __init__(self, path: Path | None, digest: str = NO_DIGEST) -> None:
        self._path = path
        self._digest = bytes.fromhex(digest)
        self._file = -1

    def append(
        self, hashes: Sequence[bytes], vectors: Matrix, truncated: Sequence[bool | None]
    ) -> None:
        """Keep one answer: n hashes, vectors of shape (n, dim), n flags.

        Raises:
            OutputError: the disk is full, or the file cannot be written.
        """
        if self._path is None:
            return
        flags = bytes(FLAGS.index(flag) for flag in truncated)
        texts = b"".join((self._digest, *hashes, flags))
        numbers = np.ascontiguousarray(vectors).data.cast("B")
        # The same sums as those of zlib, several times as fast.
        checksum = isal_zlib.crc32(numbers, isal_zlib.crc32(texts))
        header = _HEADER.pack(_MAGIC, len(hashes), vectors.shape[1], checksum)
        try:
            if self._file < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            _write_all(self._file, header, texts, numbers)
        except OSError as error:
            raise output_error(str(self._path), error) from error

    def close(self, *, committed: bool = False) -> None:
        """Close the file; delete it if the whole unit is committed."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if committed and self._path is not None:
                self._path.unlink(missing_ok=True)


def _write_all(file: int, *pieces: bytes | memoryview) -> None:
    """Write a block; a full disk accepts part of it first, and raises at the next attempt."""
    remaining = [memoryview(piece) for piece in pieces]
    while remaining:
        written = os.writev(file, remaining)
        while remaining and written >= len(remaining[0]):
            written -= len(remaining.pop(0))
        if remaining:
            remaining[0] = remaining[0][written:]


def shared_writer(dataset: Dataset, job: JobConfig, name: str) -> AnswerWriter:
    """Return a file of a run for vectors that units share; on an object store it keeps nothing."""
    return _writer(dataset, job, SHARED, f"{job.run_id}-{name}{KEPT_SUFFIX}")


def unit_writer(dataset: Dataset, job: JobConfig, unit: Unit, generation: int = 0) -> AnswerWriter:
    """Return a file of a run for the answers of a unit; on an object store it keeps nothing."""
    return _writer(dataset, job, KEPT, kept_name(unit, generation, job.run_id))


def _writer(dataset: Dataset, job: JobConfig, folder: str, name: str) -> AnswerWriter:
    path = None if dataset.is_on_a_store else Path(dataset.path(folder, name))
    return AnswerWriter(path, job.digest)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """The texts of one block of a file, n of them."""

    hashes: npt.NDArray[np.bytes_]
    """Shape (n,), of HASH_TYPE."""
    offsets: npt.NDArray[np.uint64]
    """The offset in the file of each vector, in bytes; shape (n,)."""
    flags: npt.NDArray[np.uint8]
    """Indexes of FLAGS, shape (n,)."""
    dim: int


def _entries(path: Path, digest: str, unstamped_run: str | None) -> Iterator[_Entries]:
    """Yield the blocks of a file that were made with some settings.

    Blocks of an older version have no digest.  Those of units count if such a version wrote to the
    dataset last.  Shared ones count only if its last run wrote them: that version let a run with
    other settings follow one that had left nothing but shared answers.

    Args:
        path: the file; it may be deleted meanwhile, when its unit is committed.
        digest: the embedding digest of the settings.
        unstamped_run: the last run of such a version; None if there was none.
    """
    takes_unstamped = unstamped_run is not None and (
        not _is_shared(path) or path.name.startswith(f"{unstamped_run}-")
    )
    with contextlib.suppress(FileNotFoundError):
        yield from _read_entries(path, digest, takes_unstamped=takes_unstamped)


def _read_entries(path: Path, digest: str, *, takes_unstamped: bool) -> Iterator[_Entries]:
    """Yield the blocks of a file up to the first that is incomplete or has another digest."""
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
            if not (stamp or (takes_unstamped and magic == _UNSTAMPED_MAGIC)):
                return
            if file.tell() + size > end:
                return  # Incomplete, or a damaged header that asks for too much.
            payload = file.read(size)
            if len(payload) < size or isal_zlib.crc32(payload) != checksum:
                return
            if stamp and payload[:stamp] != bytes.fromhex(digest):
                return
            flags = stamp + texts * HASH_BYTES
            vectors = start + _HEADER.size + flags + texts
            yield _Entries(
                np.frombuffer(payload[stamp:flags], HASH_TYPE),
                vectors + 4 * dim * np.arange(texts, dtype=np.uint64),
                np.frombuffer(payload[flags : flags + texts], np.uint8),
                dim,
            )


def _is_shared(path: Path) -> bool:
    return path.parent.name == SHARED.rpartition("/")[2]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Index:
    """The places of vectors in files, in the order of their keys.

    An index never changes, so threads can share it.
    """

    keys: Keys = dataclasses.field(default_factory=lambda: np.empty(0, np.uint64))
    """Shape (n,), ascending."""
    hashes: npt.NDArray[np.bytes_] = dataclasses.field(
        default_factory=lambda: np.empty(0, HASH_TYPE)
    )
    """Shape (n,), distinct."""
    offsets: npt.NDArray[np.uint64] = dataclasses.field(
        default_factory=lambda: np.empty(0, np.uint64)
    )
    files: npt.NDArray[np.uint16] = dataclasses.field(
        default_factory=lambda: np.empty(0, np.uint16)
    )
    flags: npt.NDArray[np.uint8] = dataclasses.field(default_factory=lambda: np.empty(0, np.uint8))
    paths: tuple[tuple[Path, int], ...] = ()
    """Each file, and the dimensions of its vectors."""

    def with_files(self, files: Iterable[tuple[Path, Iterable[_Entries]]]) -> _Index:
        """Return an index of more files; of equal texts the earlier one stays."""
        hashes, offsets, numbers, flags = [self.hashes], [self.offsets], [self.files], [self.flags]
        paths = list(self.paths)
        for path, found in files:
            blocks = list(found)
            if not blocks:
                continue
            number = len(paths)
            paths.append((path, blocks[0].dim))
            for block in blocks:
                hashes.append(block.hashes)
                offsets.append(block.offsets)
                numbers.append(np.full(len(block.hashes), number, np.uint16))
                flags.append(block.flags)
        if len(hashes) == 1:
            return self
        every = np.concatenate(hashes)
        _, first = np.unique(every, return_index=True)
        every_key = every.view(np.uint64)[::2]
        order = first[np.argsort(every_key[first], kind="stable")]
        return _Index(
            every_key[order],
            every[order],
            np.concatenate(offsets)[order],
            np.concatenate(numbers)[order],
            np.concatenate(flags)[order],
            tuple(paths),
        )

    def find(self, wanted: Keys) -> npt.NDArray[np.int64]:
        """Return the rows of the index that have a wanted key, in the order of the files."""
        start = np.searchsorted(self.keys, wanted, side="left")
        counts = np.searchsorted(self.keys, wanted, side="right") - start
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows: npt.NDArray[np.int64] = np.repeat(start, counts) + steps
        return rows[np.lexsort((self.offsets[rows], self.files[rows]))]


class KeptAnswers:
    """The kept answers of a dataset as a source of known vectors, one in each process.

    It has the answers of units that earlier runs left, and the shared vectors that existed at the
    last `refresh`.  Safe for threads.
    """

    def __init__(self, dataset: Dataset, job: JobConfig) -> None:
        self._dataset = dataset
        self._job = job
        self._lock = threading.Lock()
        self._known: set[Path] = set()
        self._index = _Index()
        self._add(path for path in _files(dataset, KEPT) if job.run_id not in path.name)
        self.refresh()

    def __len__(self) -> int:
        return len(self._index.keys)

    def refresh(self) -> None:
        """Add the shared files that were written since the last call."""
        self._add(_files(self._dataset, SHARED))

    def _add(self, paths: Iterator[Path]) -> None:
        with self._lock:
            new = [path for path in paths if path not in self._known]
            self._known.update(new)
            job = self._job
            self._index = self._index.with_files(
                (path, _entries(path, job.digest, job.unstamped_run)) for path in new
            )

    def find(self, wanted: Keys) -> KeptMatches:
        """Return the wanted texts that have a kept answer."""
        index = self._index  # Another thread may replace it meanwhile.
        return KeptMatches(index, index.find(wanted))


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class KeptMatches:
    """Kept answers of wanted texts; each file is opened once, and read from its beginning on."""

    index: _Index
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def keys(self) -> Keys:
        """The keys of the answers, ascending and distinct."""
        return np.unique(self.index.keys[self.rows])

    def hashes(self) -> Iterator[bytes]:
        """Yield the text hash of each answer."""
        yield from _hashes_of(self.index, self.rows)

    def read(self) -> Iterator[VectorBlock]:
        """Yield the vectors, file by file; those of files that are deleted meanwhile are missing.

        A unit's file is deleted once the unit is committed.
        """
        files = self.index.files[self.rows]
        for number in np.unique(files):
            with contextlib.suppress(FileNotFoundError):
                yield from _read_file(self.index, int(number), self.rows[files == number])


def _read_file(index: _Index, number: int, rows: npt.NDArray[np.int64]) -> Iterator[VectorBlock]:
    path, dim = index.paths[number]
    with path.open("rb", buffering=0) as file:
        for begin in range(0, len(rows), _READ_ROWS):
            block = rows[begin : begin + _READ_ROWS]
            vectors = np.empty((len(block), dim), np.float32)
            complete = np.ones(len(block), bool)
            for place, offset in enumerate(index.offsets[block].tolist()):
                file.seek(offset)
                complete[place] = file.readinto(vectors[place].data.cast("B")) == 4 * dim
            found = block[complete]
            flags = [FLAGS[flag] for flag in index.flags[found].tolist()]
            hashes = _hashes_of(index, found)
            yield VectorBlock(hashes, vectors[complete], flags, of_other_rows=_is_shared(path))


def _hashes_of(index: _Index, rows: npt.NDArray[np.int64]) -> list[bytes]:
    joined = index.hashes[rows].tobytes()  # Not `tolist`, which would drop trailing zeros.
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]


def holds_answers(dataset: Dataset, digest: str, unstamped_run: str | None) -> bool:
    """Return whether any answer that was made with some settings is kept; see `_entries`."""
    return any(
        any(True for _ in _entries(path, digest, unstamped_run))
        for folder in (KEPT, SHARED)
        for path in _files(dataset, folder)
    )


def files_of_other_settings(dataset: Dataset, job: JobConfig) -> list[str]:
    """Return the names of the files that have no answer made with the settings of a job."""
    return [
        f"{folder}/{path.name}"
        for folder in (KEPT, SHARED)
        for path in _files(dataset, folder)
        if not any(True for _ in _entries(path, job.digest, job.unstamped_run))
    ]


def _files(dataset: Dataset, folder: str) -> Iterator[Path]:
    """Yield the files of kept answers in a folder, sorted; none on an object store."""
    path = Path(dataset.path(folder))
    if not dataset.is_on_a_store and path.is_dir():
        found = (one for one in path.iterdir() if one.suffix == KEPT_SUFFIX)
        yield from sorted(one for one in found if one.is_file())
