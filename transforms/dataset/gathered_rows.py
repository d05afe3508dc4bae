"""Gathered rows: known vectors that a run has collected from its sources, ordered by unit.

A file in `_run/gather/` has the rows that one worker has read, up to about 64 MB. It begins with
a header: magic number, dimensions, units, rows and a CRC-32. Then follow the numbers of the units
(4 bytes each), the end of the rows of each (8 bytes each), the labels of all rows (see LABEL), and
their vectors as float32. So a unit reads its rows by two small reads of each file.
"""

from __future__ import annotations

import dataclasses
import functools
import secrets
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs
from isal import isal_zlib

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.job import JobConfig
from bulkembed.schemas.stop import RERUN
from bulkembed.transforms.core.hashing import HASH_BYTES
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import GATHER
from bulkembed.transforms.dataset.unnamed_file import UnnamedFile
from bulkembed.transforms.inputs.filesystems import error_line

LABEL = np.dtype([("hash", f"S{HASH_BYTES}"), ("flag", "u1"), ("sum", "<u4")])
"""What belongs to a vector: the text hash, an index of `kept_answers.FLAGS` (plus UNCOMMITTED), and
the CRC-32 of these two and the vector."""
UNCOMMITTED = 4
"""Added to the flag of a vector that a batch job paid for, and that no run has committed."""
SUFFIX = ".rows"
FILE_BYTES = 64 << 20
_HEADER = struct.Struct("<8sIIQI")
_MAGIC = b"BEGATHR1"
_HEAD_BYTES = 1 << 16
"""What is read first of a file, in the hope that it has the units."""
_WRITE_ROWS = 256
_SPOOL_BYTES = 8 << 20

Labels = npt.NDArray[Any]
"""Shape (n,), type LABEL."""


class GatherWriter:
    """Collects rows of any units, and writes a file whenever enough are in memory.

    Args:
        dataset: where the files are written.
        job: the run.
        name: the name of the work; unique in the run.
    """

    def __init__(self, dataset: Dataset, job: JobConfig, name: str) -> None:
        self._dataset = dataset
        # A second attempt at the same work writes files of its own: then rows are there twice.
        self._stem = f"{GATHER}/{job.run_id}-{name}-{secrets.token_hex(4)}"
        self._files = 0
        self._rows = 0
        self._units = np.empty(0, np.uint32)
        self._labels: Labels = np.empty(0, LABEL)
        self._vectors: Matrix = np.empty((0, 0), np.float32)

    def add(self, units: npt.NDArray[np.uint32], labels: Labels, vectors: Matrix) -> None:
        """Add n rows; the sums of the labels are set here.

        Raises:
            OutputError: a file cannot be written.
        """
        labels["sum"] = sums_of(labels, vectors)
        if not len(self._units):
            self._allocate(vectors.shape[1])
        while len(units):
            count = min(len(units), len(self._units) - self._rows)
            own = slice(self._rows, self._rows + count)
            self._units[own], self._labels[own] = units[:count], labels[:count]
            self._vectors[own] = vectors[:count]
            units, labels, vectors = units[count:], labels[count:], vectors[count:]
            self._rows += count
            if self._rows == len(self._units):
                self.flush()

    def _allocate(self, dim: int) -> None:
        """Allocate the rows of a file, once; the system gives memory to those that are used."""
        rows = max(1, FILE_BYTES // (4 * dim + LABEL.itemsize))
        self._units, self._labels = np.empty(rows, np.uint32), np.empty(rows, LABEL)
        self._vectors = np.empty((rows, dim), np.float32)

    def flush(self) -> None:
        """Write what is in memory.

        Raises:
            OutputError: the file cannot be written.
        """
        if not self._rows:
            return
        units, labels = self._units[: self._rows], self._labels[: self._rows]
        vectors, self._rows = self._vectors, 0
        order = np.argsort(units, kind="stable")
        name = f"{self._stem}-{self._files:06d}{SUFFIX}"
        self._files += 1

        def write(stream: pa.NativeFile) -> None:
            numbers, counts = np.unique(units, return_counts=True)
            table = numbers.tobytes() + np.cumsum(counts, dtype=np.uint64).tobytes()
            facts = len(vectors[0]), len(numbers), len(units)
            stream.write(_HEADER.pack(_MAGIC, *facts, _checksum(facts, table)) + table)
            stream.write(labels[order].tobytes())
            for start in range(0, len(order), _WRITE_ROWS):
                stream.write(vectors[order[start : start + _WRITE_ROWS]].tobytes())

        self._dataset.write(name, write)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class GatheredFile:
    """A file of gathered rows, of which only the list of units is in memory."""

    filesystem: pafs.FileSystem
    path: str
    dim: int
    units: npt.NDArray[np.uint32]
    """Their numbers in the plan, ascending, shape (u,)."""
    ends: npt.NDArray[np.int64]
    """The end of the rows of each unit, shape (u,)."""

    @classmethod
    def open(cls, dataset: Dataset, name: str) -> GatheredFile:
        """Read which units a file has.

        Raises:
            OutputError: the file is missing or damaged.
        """
        path = dataset.path(GATHER, name)
        try:
            with dataset.filesystem.open_input_file(path) as file:
                data = file.read_at(_HEAD_BYTES, 0)
                magic, dim, units, rows, checksum = _HEADER.unpack_from(data)
                size = _HEADER.size + 12 * units
                if len(data) < size <= file.size():
                    data += file.read_at(size - len(data), len(data))
        except (OSError, pa.ArrowException, struct.error) as error:
            raise _unreadable(path, error_line(error)) from error
        table = data[_HEADER.size : size]
        if magic != _MAGIC or _checksum((dim, units, rows), table) != checksum:
            raise _unreadable(path, "its header is damaged")
        numbers = np.frombuffer(table, np.uint32, units)
        ends = np.frombuffer(table, np.uint64, units, 4 * units).astype(np.int64)
        return cls(dataset.filesystem, path, dim, numbers, ends)

    def rows_of(self, first: int, last: int) -> range:
        """Return which rows belong to the units from one number to another, both included."""
        low, high = np.searchsorted(self.units, [first, last + 1])
        begin = int(self.ends[low - 1]) if low else 0
        return range(begin, int(self.ends[high - 1]) if high else 0)

    @property
    def reader(self) -> RowReader:
        """Reads rows where they are."""
        labels_at = _HEADER.size + 12 * len(self.units)
        rows = int(self.ends[-1]) if len(self.ends) else 0
        return RowReader(self._read, self.dim, 0, labels_at, labels_at + LABEL.itemsize * rows)

    def spool(self, rows: range, file: UnnamedFile) -> RowReader:
        """Copy some rows to a file on this machine; return what reads them there.

        Raises:
            OutputError: the rows cannot be read, or the disk is full.
        """
        reader = self.reader
        labels_at = file.append(reader.labels(rows).tobytes())
        place = vectors_at = file.reserve(4 * self.dim * len(rows))
        step = max(1, _SPOOL_BYTES // (4 * self.dim))
        for start in range(rows.start, rows.stop, step):
            data = reader.vectors(range(start, min(start + step, rows.stop))).tobytes()
            file.write(place, data)
            place += len(data)
        return RowReader(file.read, self.dim, rows.start, labels_at, vectors_at)

    def _read(self, start: int, size: int) -> bytes:
        try:
            with self.filesystem.open_input_file(self.path) as file:
                data: bytes = file.read_at(size, start)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(self.path, error_line(error)) from error
        if len(data) != size:
            raise _unreadable(self.path, "it is too short")
        return data


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class RowReader:
    """Reads consecutive rows of a gathered file, there or from a copy on this machine."""

    read: Callable[[int, int], bytes | bytearray]
    """Returns bytes, by where they begin and how many they are."""
    dim: int
    """The dimensions of the vectors."""
    first_row: int
    labels_at: int
    """Where the labels begin."""
    vectors_at: int
    """Where the vectors begin."""

    def labels(self, rows: range) -> Labels:
        """Return the labels of some rows.

        Raises:
            OutputError: they cannot be read.
        """
        start = self.labels_at + LABEL.itemsize * (rows.start - self.first_row)
        return np.frombuffer(self.read(start, LABEL.itemsize * len(rows)), LABEL)

    def vectors(self, rows: range) -> Matrix:
        """Return the vectors of some rows, shape (n, dim).

        Raises:
            OutputError: they cannot be read.
        """
        start = self.vectors_at + 4 * self.dim * (rows.start - self.first_row)
        data = self.read(start, 4 * self.dim * len(rows))
        return np.frombuffer(data, np.float32).reshape(-1, self.dim)


def gathered_files(dataset: Dataset, run_id: str) -> Iterator[GatheredFile]:
    """Yield the files of a run.

    Raises:
        OutputError: a file is missing or damaged.
    """
    for name in dataset.names(GATHER):
        if name.startswith(f"{run_id}-") and name.endswith(SUFFIX):
            yield _opened(dataset, name)


@functools.lru_cache(maxsize=1 << 14)
def _opened(dataset: Dataset, name: str) -> GatheredFile:
    """Open a file once in a process, whose slices all need it."""
    return GatheredFile.open(dataset, name)


def _checksum(facts: tuple[int, int, int], table: bytes) -> int:
    return isal_zlib.crc32(table, isal_zlib.crc32(struct.pack("<QQQ", *facts)))


def sums_of(labels: Labels, vectors: Matrix) -> npt.NDArray[np.uint32]:
    """Return the checksums that undamaged labels have, shape (n,)."""
    names = np.empty((len(labels), HASH_BYTES + 1), np.uint8)
    names[:, :HASH_BYTES] = hashes_of(labels).view(np.uint8).reshape(-1, HASH_BYTES)
    names[:, HASH_BYTES] = labels["flag"]
    crc32 = isal_zlib.crc32
    pairs = zip(names, np.ascontiguousarray(vectors), strict=True)
    return np.fromiter((crc32(v, crc32(n)) for n, v in pairs), np.uint32, len(labels))


def hashes_of(labels: Labels) -> npt.NDArray[np.bytes_]:
    """Return the text hashes of labels, shape (n,)."""
    return np.ascontiguousarray(labels["hash"])


def _unreadable(path: str, reason: str) -> OutputError:
    return OutputError(f"{path} cannot be read: {reason}. {RERUN}")
