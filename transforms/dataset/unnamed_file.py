"""Temporary files without a name, which vanish with the process, even after kill -9."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from pathlib import Path

from bulkembed.transforms.dataset.atomic_files import output_error


class UnnamedFile:
    """A file on a local disk to append to and read from; deleted with this object.

    Safe for threads.

    Args:
        folder: where; None for the system's temporary directory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        with tempfile.TemporaryFile(dir=folder) as file:
            self.descriptor = os.dup(file.fileno())
        self._folder = folder
        self._lock = threading.Lock()
        self._end = 0
        weakref.finalize(self, os.close, self.descriptor)

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
            raise output_error(str(self._folder or tempfile.gettempdir()), error) from error
