"""Temporary files without a name, which vanish with the process, even after kill -9."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bulkembed.transforms.dataset.atomic_files import output_error

_ZERO_BYTES = 1 << 20


class UnnamedFile:
    """A file on a local disk to append to and read from; deleted with this object.

    Safe for threads.

    Args:
        folder: where; None for the system's temporary directory.

    Raises:
        OutputError: it cannot be created.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                self.descriptor = os.dup(file.fileno())
        except OSError as error:
            raise output_error(str(self._folder), error) from error
        self._lock = threading.Lock()
        self._end = 0
        weakref.finalize(self, os.close, self.descriptor)

    @property
    def size(self) -> int:
        """How many bytes are in it or reserved."""
        return self._end

    def append(self, data: bytes | memoryview) -> int:
        """Write bytes at the end; return where they begin.

        Raises:
            OutputError: the disk is full.
        """
        start = self.reserve(len(data))
        self.write(start, data)
        return start

    def reserve(self, size: int) -> int:
        """Set bytes at the end aside for `write`; return where they begin."""
        with self._lock:
            start = self._end
            self._end += size
            return start

    def write(self, start: int, data: bytes | memoryview) -> None:
        """Write bytes to a place.

        Raises:
            OutputError: the disk is full.
        """
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(self.descriptor, rest, start)
                start += written
                rest = rest[written:]
        except OSError as error:
            raise output_error(str(self._folder), error) from error

    def read(self, start: int, size: int) -> bytearray:
        """Return the bytes from a place on.

        Raises:
            OutputError: the file cannot be read.
        """
        data = bytearray(size)
        self.read_into(start, memoryview(data))
        return data

    def read_into(self, start: int, data: memoryview) -> None:
        """Fill a buffer with the bytes from a place on.

        Raises:
            OutputError: the file cannot be read.
        """
        try:
            while data:
                count = os.preadv(self.descriptor, [data], start)
                if not count:
                    raise EOFError(f"a file in {self._folder} is shorter than what was written")
                start += count
                data = data[count:]
        except OSError as error:
            raise output_error(str(self._folder), error) from error


def zeros_on_disk(folder: Path, size: int) -> npt.NDArray[np.uint8]:
    """Return an array of zero bytes that need not fit into memory, in an unnamed file.

    Args:
        folder: an existing folder on a local disk.
        size: the length of the array.

    Raises:
        OutputError: the disk is full.
    """
    if not size:
        return np.zeros(0, np.uint8)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # A file with holes would kill the process if the disk is full once they are written to.
            for start in range(0, size, _ZERO_BYTES):
                file.write(bytes(min(_ZERO_BYTES, size - start)))
            file.flush()
            return np.memmap(file, np.uint8, "r+", shape=(size,))
    except OSError as error:
        raise output_error(str(folder), error) from error
