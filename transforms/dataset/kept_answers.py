"""Kept answers: vectors that are paid for but not committed, so that they are billed once.

`_run/spill/` has a file for each unit in progress, deleted once the unit is committed; only on
local disks. `_run/shared/` has the vectors of texts that several units share, deleted once the
dataset is complete.

On a local disk, answers are appended to a file one by one. An object store has no appending, so
about a thousand shared texts become one object when all of them are answered. A process downloads
each object once, to a file that has no name, and reads the vectors there.

A file is a sequence of blocks, one for each answered request: header, embedding digest (8 bytes),
text hashes, a byte for each text that says whether it was truncated, and the vectors as float32.
The header has a magic number, the number of texts, the dimensions and a CRC-32.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import io
import os
import secrets
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.units import Unit
from bulkembed.transforms.core.hashing import HASH_BYTES, Keys
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset.atomic_files import output_error, read_bytes
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.known_vectors import VectorBlock
from bulkembed.transforms.dataset.layout import KEPT, KEPT_SUFFIX, SHARED, kept_name
from bulkembed.transforms.dataset.unnamed_file import UnnamedFile

_HEADER = struct.Struct("<4sIII")
_MAGIC = b"BES2"
_UNSTAMPED_MAGIC = b"BES1"
"""Begins a block of an older version, which has no embedding digest."""
_DIGEST_BYTES = 8
NO_DIGEST = "0" * 2 * _DIGEST_BYTES
FLAGS: tuple[bool | None, ...] = (False, True, None)
"""The meanings of the byte for `truncated`."""
HASH_TYPE = np.dtype(f"S{HASH_BYTES}")
"""Text hashes in an array. numpy drops trailing zeros, so compare only hashes of this type."""
_READ_ROWS = 256
_DOWNLOADS = 4
"""How many objects are in memory at a time, each up to about 12 MB."""


class AnswerSink(Protocol):
    """Keeps the answers of some requests."""

    def append(
        self, hashes: Sequence[bytes], vectors: Matrix, truncated: Sequence[bool | None]
    ) -> None:
        """Keep one answer: n hashes, vectors of shape (n, dim), n flags."""

    def close(self) -> None:
        """Keep what is not kept yet, and end."""


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
        block = _block(self._digest, hashes, vectors, truncated)
        try:
            if self._file < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            _write_all(self._file, *block)
        except OSError as error:
            raise output_error(str(self._path), error) from error

    def close(self, *, committed: bool = False) -> None:
        """Close the file; delete it if all of its answers are committed."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            if committed and self._path is not None:
                self._path.unlink(missing_ok=True)


class AnswerObject:
    """An object of kept answers on a store: `close` writes it as a whole."""

    def __init__(self, dataset: Dataset, name: str, digest: str) -> None:
        self._dataset = dataset
        self._name = name
        self._digest = bytes.fromhex(digest)
        self._pieces: list[bytes | memoryview] = []

    def append(
        self, hashes: Sequence[bytes], vectors: Matrix, truncated: Sequence[bool | None]
    ) -> None:
        """Keep one answer in memory until `close`."""
        self._pieces += _block(self._digest, hashes, vectors, truncated)

    def close(self) -> None:
        """Write the object, if it has any answer.

        Raises:
            OutputError: the store does not keep it.
        """
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._dataset.write(self._name, b"".join(pieces))


def _block(
    digest: bytes, hashes: Sequence[bytes], vectors: Matrix, truncated: Sequence[bool | None]
) -> tuple[bytes, bytes, memoryview]:
    """Return the pieces of a block with one answer."""
    flags = bytes(FLAGS.index(flag) for flag in truncated)
    texts = b"".join((digest, *hashes, flags))
    numbers = np.ascontiguousarray(vectors).data.cast("B")
    # The same sums as those of zlib, several times as fast.
    checksum = isal_zlib.crc32(numbers, isal_zlib.crc32(texts))
    return _HEADER.pack(_MAGIC, len(hashes), vectors.shape[1], checksum), texts, numbers


def _write_all(file: int, *pieces: bytes | memoryview) -> None:
    """Write a block; a full disk accepts part of it first, and raises at the next attempt."""
    remaining = [memoryview(piece) for piece in pieces]
    while remaining:
        written = os.writev(file, remaining)
        while remaining and written >= len(remaining[0]):
            written -= len(remaining.pop(0))
        if remaining:
            remaining[0] = remaining[0][written:]


def shared_writer(dataset: Dataset, job: JobConfig, name: str) -> AnswerSink:
    """Return where a process keeps vectors that units share.

    Two attempts of the same work never write to one file.
    """
    name = f"{job.run_id}-{name}-{secrets.token_hex(4)}-v{job.digest}{KEPT_SUFFIX}"
    if dataset.is_on_a_store:
        return AnswerObject(dataset, f"{SHARED}/{name}", job.digest)
    return AnswerWriter(Path(dataset.path(SHARED, name)), job.digest)


def unit_writer(dataset: Dataset, job: JobConfig, unit: Unit, generation: int = 0) -> AnswerWriter:
    """Return a file of a run for the answers of a unit; on an object store it keeps nothing."""
    name = kept_name(unit, generation, job.run_id)
    path = None if dataset.is_on_a_store else Path(dataset.path(KEPT, name))
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

    Blocks of an older version have no digest. Those of units count if such a version wrote to the
    dataset last. Shared ones count only if its last run wrote them: that version let a run with
    other settings follow one that had left nothing but shared answers.

    Args:
        path: the file; it may be deleted meanwhile, when its unit is committed.
        digest: the embedding digest of the settings.
        unstamped_run: the last run of such a version; None if there was none.
    """
    takes_unstamped = unstamped_run is not None and (
        not _is_shared(path) or path.name.startswith(f"{unstamped_run}-")
    )
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        yield from _read_entries(file, end, digest, takes_unstamped=takes_unstamped)


def _read_entries(
    file: IO[bytes], end: int, digest: str, *, takes_unstamped: bool
) -> Iterator[_Entries]:
    """Yield the blocks of a file up to the first that is incomplete or has another digest."""
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


@dataclasses.dataclass(frozen=True, slots=True)
class _AnswerFile:
    """A file with the vectors of an index."""

    path: Path | None
    """None for the file of downloads."""
    dim: int
    is_shared: bool
    downloads: UnnamedFile | None = None

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        """Yield a file descriptor to read from."""
        if self.downloads is not None:
            yield self.downloads.descriptor
            return
        assert self.path is not None
        file = os.open(self.path, os.O_RDONLY)
        try:
            yield file
        finally:
            os.close(file)


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
    files: npt.NDArray[np.uint32] = dataclasses.field(
        default_factory=lambda: np.empty(0, np.uint32)
    )
    flags: npt.NDArray[np.uint8] = dataclasses.field(default_factory=lambda: np.empty(0, np.uint8))
    sources: tuple[_AnswerFile, ...] = ()

    def with_files(self, files: Iterable[tuple[_AnswerFile, Iterable[_Entries]]]) -> _Index:
        """Return an index of more files; of equal texts the earlier one stays."""
        hashes, offsets, numbers, flags = [self.hashes], [self.offsets], [self.files], [self.flags]
        sources = list(self.sources)
        for source, found in files:
            number = len(sources)
            for block in found:
                if number == len(sources):
                    sources.append(dataclasses.replace(source, dim=block.dim))
                hashes.append(block.hashes)
                offsets.append(block.offsets)
                numbers.append(np.full(len(block.hashes), number, np.uint32))
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
            tuple(sources),
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
    last `refresh`. Safe for threads.
    """

    def __init__(self, dataset: Dataset, job: JobConfig) -> None:
        self._dataset = dataset
        self._job = job
        self._lock = threading.Lock()
        self._known: dict[str, int] = {}
        """The size of each file when it was read."""
        self._downloads: UnnamedFile | None = None
        self._index = _Index()
        with self._lock:
            self._add_local(path for path in _files(dataset, KEPT) if job.run_id not in path.name)

    def __len__(self) -> int:
        return len(self._index.keys)

    @property
    def keys(self) -> Keys:
        """The keys of the texts with a kept answer, ascending."""
        return self._index.keys

    def refresh(self) -> None:
        """Add the shared vectors that were kept since the last call.

        Raises:
            OutputError: the store cannot be read, or the temporary directory is full.
        """
        with self._lock:
            if self._dataset.is_on_a_store:
                self._add_objects()
            else:
                self._add_local(_files(self._dataset, SHARED))

    def _add_local(self, paths: Iterator[Path]) -> None:
        new = []
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                size = path.stat().st_size
                if size != self._known.get(path.name):  # Another task may be appending to it.
                    self._known[path.name] = size
                    new.append(path)
        digest, unstamped_run = self._job.digest, self._job.unstamped_run
        self._index = self._index.with_files(
            (_AnswerFile(path, 0, _is_shared(path)), _entries(path, digest, unstamped_run))
            for path in new
        )

    def _add_objects(self) -> None:
        names = [n for n in shared_objects(self._dataset, self._job) if n not in self._known]
        if not names:
            return
        dataset, digest = self._dataset, self._job.digest
        downloads = self._downloads = self._downloads or UnnamedFile()
        blocks: list[_Entries] = []
        with concurrent.futures.ThreadPoolExecutor(_DOWNLOADS) as pool:
            for start in range(0, len(names), _DOWNLOADS):
                some = [dataset.path(name) for name in names[start : start + _DOWNLOADS]]
                for data in pool.map(lambda path: read_bytes(dataset.filesystem, path), some):
                    blocks += _append(data or b"", downloads, digest)
        self._known.update(dict.fromkeys(names, 0))
        # All blocks of a run have vectors of one length.
        self._index = self._index.with_files([(_AnswerFile(None, 0, True, downloads), blocks)])

    def find(self, wanted: Keys) -> KeptMatches:
        """Return the wanted texts that have a kept answer."""
        index = self._index  # Another thread may replace it meanwhile.
        return KeptMatches(index, index.find(wanted))

    def read(self, wanted: Keys) -> Iterator[VectorBlock]:
        """Yield the vectors of wanted texts; see `KnownVectors`."""
        return self.find(wanted).read()


def _append(data: bytes, downloads: UnnamedFile, digest: str) -> list[_Entries]:
    """Append an object to a file; return its blocks with their places in the file."""
    blocks = list(_read_entries(io.BytesIO(data), len(data), digest, takes_unstamped=False))
    start = np.uint64(downloads.append(data) if blocks else 0)
    return [dataclasses.replace(block, offsets=block.offsets + start) for block in blocks]


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
    source = index.sources[number]
    dim = source.dim
    with source.open() as file:
        for begin in range(0, len(rows), _READ_ROWS):
            block = rows[begin : begin + _READ_ROWS]
            vectors = np.empty((len(block), dim), np.float32)
            complete = np.ones(len(block), bool)
            for place, offset in enumerate(index.offsets[block].tolist()):
                into = [vectors[place].data.cast("B")]
                complete[place] = os.preadv(file, into, offset) == 4 * dim
            found = block[complete]
            flags = [FLAGS[flag] for flag in index.flags[found].tolist()]
            hashes = _hashes_of(index, found)
            yield VectorBlock(hashes, vectors[complete], flags, of_other_rows=source.is_shared)


def _hashes_of(index: _Index, rows: npt.NDArray[np.int64]) -> list[bytes]:
    joined = index.hashes[rows].tobytes()  # Not `tolist`, which would drop trailing zeros.
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]


def holds_answers(dataset: Dataset, digest: str, unstamped_run: str | None) -> bool:
    """Return whether any answer that was made with some settings is kept; see `_entries`."""
    if dataset.is_on_a_store:
        return any(_has_digest(name, digest) for name in _shared_names(dataset))
    return any(
        any(True for _ in _entries(path, digest, unstamped_run))
        for folder in (KEPT, SHARED)
        for path in _files(dataset, folder)
    )


def files_of_other_settings(dataset: Dataset, job: JobConfig) -> list[str]:
    """Return the names of the files that have no answer made with the settings of a job."""
    if dataset.is_on_a_store:
        names = _shared_names(dataset)
        return [f"{SHARED}/{name}" for name in names if not _has_digest(name, job.digest)]
    return [
        f"{folder}/{path.name}"
        for folder in (KEPT, SHARED)
        for path in _files(dataset, folder)
        if not any(True for _ in _entries(path, job.digest, job.unstamped_run))
    ]


def shared_objects(dataset: Dataset, job: JobConfig) -> list[str]:
    """Return the names of the objects on a store that were made with the settings of a job."""
    names = _shared_names(dataset)
    return [f"{SHARED}/{name}" for name in names if _has_digest(name, job.digest)]


def _has_digest(name: str, digest: str) -> bool:
    return name.endswith(f"-v{digest}{KEPT_SUFFIX}")


def _shared_names(dataset: Dataset) -> list[str]:
    return [name for name in dataset.names(SHARED) if name.endswith(KEPT_SUFFIX)]


def count_kept(dataset: Dataset) -> int:
    """Return how many texts have kept answers on a local disk; reads headers only."""
    return sum(
        sum(_block_texts(path)) for folder in (KEPT, SHARED) for path in _files(dataset, folder)
    )


def _block_texts(path: Path) -> Iterator[int]:
    """Yield the number of texts of each whole block of a file, which may be deleted meanwhile."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while len(header := file.read(_HEADER.size)) == _HEADER.size:
            magic, texts, dim, _ = _HEADER.unpack(header)
            if magic not in (_MAGIC, _UNSTAMPED_MAGIC):
                return
            stamp = _DIGEST_BYTES if magic == _MAGIC else 0
            at += _HEADER.size + stamp + texts * (HASH_BYTES + 1 + 4 * dim)
            if at > end:
                return
            yield texts
            file.seek(at)


def _files(dataset: Dataset, folder: str) -> Iterator[Path]:
    """Yield the files of kept answers in a folder, sorted; none on an object store."""
    path = Path(dataset.path(folder))
    if not dataset.is_on_a_store and path.is_dir():
        found = (one for one in path.iterdir() if one.suffix == KEPT_SUFFIX)
        yield from sorted(one for one in found if one.is_file())
