"""Rows of a fixed size on disk, in partitions by a key, so that each fits into memory.

Rows with equal keys are in the same partition, and the partitions are in the order of the keys.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bulkembed.transforms.dataset.unnamed_file import UnnamedFile

Rows = npt.NDArray[np.void]
"""A structured array, shape (rows,)."""
BUFFER_BYTES = 8 << 20
PARTITION_BYTES = 4 << 20
MAX_PARTITIONS = 1 << 12
_KEY_BITS = 64


def partitions_for(rows: int, row_bytes: int, partition_bytes: int = PARTITION_BYTES) -> int:
    """Return how many partitions hold rows of a size with about so many bytes in each."""
    wanted = -(-rows * row_bytes // partition_bytes)
    return min(MAX_PARTITIONS, 1 << max(0, wanted - 1).bit_length())


def partition_numbers(keys: npt.NDArray[np.uint64], partitions: int) -> npt.NDArray[np.uint16]:
    """Return the partition of each key, by its first bits.

    Args:
        keys: spread evenly, as hashes are.
        partitions: a power of two.
    """
    if partitions == 1:
        return np.zeros(len(keys), np.uint16)
    bits = partitions.bit_length() - 1
    numbers: npt.NDArray[np.uint16] = (keys >> np.uint64(_KEY_BITS - bits)).astype(np.uint16)
    return numbers


class PartitionedRows:
    """Rows in partitions by the first bits of their keys; add rows first, then read partitions.

    The rows are in memory until they exceed the buffer. Then they are in one unnamed file, which
    disappears with the process. Safe for threads.

    Args:
        folder: an existing folder on a local disk, for the file.
        dtype: the type of a row, with named fields.
        partitions: a power of two; see `partitions_for`.
        key: the field with the key, a uint64; or several, of which the first one counts. The keys
            must be spread evenly, as hashes are.
        buffer_bytes: rows in memory before they are written; adding takes about three times that.
    """

    def __init__(
        self,
        folder: Path,
        dtype: npt.DTypeLike,
        partitions: int,
        *,
        key: str = "key",
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        if partitions < 1 or partitions > MAX_PARTITIONS or partitions & (partitions - 1):
            raise ValueError(f"{partitions} is not a power of two up to {MAX_PARTITIONS}")
        self.dtype = np.dtype(dtype)
        self.partitions = partitions
        self._folder = folder
        self._key = key
        self._buffer_rows = max(1, buffer_bytes // self.dtype.itemsize)
        self._lock = threading.Lock()
        self._pending: list[Rows] = []
        self._pending_rows = 0
        self._is_sorted = False
        self._counts = np.zeros(partitions, np.int64)
        self._file: UnnamedFile | None = None
        self._runs: list[tuple[int, npt.NDArray[np.int64]]] = []
        """Where each sorted run begins in the file, and the rows of it before each partition."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._counts.sum())

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """The rows of each partition, shape (partitions,)."""
        return self._counts.copy()

    @property
    def disk_bytes(self) -> int:
        """The size of the file."""
        return 0 if self._file is None else self._file.size

    def add(self, rows: Rows) -> None:
        """Add rows; they are copied.

        Raises:
            OutputError: the disk is full.
        """
        with self._lock:
            for start in range(0, len(rows), self._buffer_rows):
                piece = rows[start : start + self._buffer_rows]
                self._pending.append(piece.astype(self.dtype, copy=True))
                self._pending_rows += len(piece)
                self._is_sorted = False
                self._counts += np.bincount(self._numbers(piece), minlength=self.partitions)
                if self._pending_rows >= self._buffer_rows:
                    self._write()

    def add_columns(self, **columns: npt.ArrayLike) -> None:
        """Add rows by their fields; a single number is the same for all rows."""
        length = max(np.shape(values)[0] for values in columns.values() if np.ndim(values))
        rows = np.empty(length, self.dtype)
        for name, values in columns.items():
            rows[name] = values
        self.add(rows)

    def read(self, partition: int) -> Rows:
        """Return the rows of a partition, in the order in which they were added.

        Raises:
            OutputError: the file cannot be read.
        """
        return np.concatenate([np.empty(0, self.dtype), *self.pieces(partition)])

    def pieces(self, partition: int) -> Iterator[Rows]:
        """Yield the rows of a partition in order, never more at a time than the buffer has.

        Raises:
            OutputError: the file cannot be read.
        """
        with self._lock:
            self._sort()
            runs, pending = list(self._runs), self._pending
        for begin, starts in runs:
            yield self._read(begin, int(starts[partition]), int(starts[partition + 1]))
        for rows in pending:
            low, high = np.searchsorted(self._numbers(rows), [partition, partition + 1])
            yield rows[low:high]

    def close(self) -> None:
        """Delete the rows."""
        self._pending.clear()
        self._runs.clear()
        self._file = None

    def _numbers(self, rows: Rows) -> npt.NDArray[np.uint16]:
        keys: Any = rows[self._key]
        if keys.ndim > 1:
            keys = keys[:, 0]
        return partition_numbers(keys, self.partitions)

    def _sort(self) -> None:
        """Make the rows in memory one array, ordered by partition."""
        if self._is_sorted or not self._pending:
            return
        rows = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        self._pending.clear()
        # A stable sort of 16 bits is a radix sort.
        self._pending.append(rows[np.argsort(self._numbers(rows), kind="stable")])
        self._is_sorted = True

    def _write(self) -> None:
        """Append the rows in memory to the file, as a run."""
        self._sort()
        rows = self._pending.pop()
        starts = np.searchsorted(self._numbers(rows), np.arange(self.partitions + 1))
        self._pending_rows = 0
        self._file = self._file or UnnamedFile(self._folder)
        self._runs.append((self._file.append(rows.view(np.uint8).data), starts))

    def _read(self, begin: int, low: int, high: int) -> Rows:
        rows = np.empty(high - low, self.dtype)
        assert self._file is not None  # It has a run.
        self._file.read_into(begin + low * self.dtype.itemsize, rows.view(np.uint8).data)
        return rows
