"""The keys of all ids of a state, sorted on disk: which ids are repeated, and which are in it.

Each input row that has a vector is in it once. It is updated by the rows of parts that come and
go, so a run need not read the ids of the others.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkembed.schemas.errors import OutputError
from bulkembed.transforms.dataset.atomic_files import output_error
from bulkembed.transforms.dataset.dataset import Dataset

IdKeys64 = npt.NDArray[np.uint64]
_DIGEST_BYTES = 16
_CHUNK_BYTES = 8 << 20


class IdIndex:
    """Keys of ids, ascending, repeated as often as the id is."""

    def __init__(self, keys: IdKeys64) -> None:
        self.keys = keys

    @classmethod
    def empty(cls) -> IdIndex:
        """Return the index of a dataset without rows."""
        return cls(np.empty(0, np.uint64))

    @classmethod
    def open(cls, dataset: Dataset, name: str, folder: Path) -> IdIndex | None:
        """Return the index in a file of the dataset; None if it is missing or damaged.

        It is copied to an unnamed file in a folder on a local disk, and mapped into memory.
        """
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        try:
            with (
                dataset.filesystem.open_input_file(dataset.path(name)) as stream,
                tempfile.TemporaryFile(dir=folder) as file,
            ):
                left = stream.size() - _DIGEST_BYTES
                count = left // 8
                while left > 0:
                    chunk = stream.read(min(left, _CHUNK_BYTES))
                    if not chunk:
                        return None
                    digest.update(chunk)
                    file.write(chunk)
                    left -= len(chunk)
                file.flush()
                if left or count * 8 != stream.size() - _DIGEST_BYTES:
                    return None
                if stream.read(_DIGEST_BYTES) != digest.digest():
                    return None
                if not count:
                    return cls.empty()
                return cls(np.memmap(file, np.uint64, "r", shape=(count,)))
        except (OSError, pa.ArrowException):
            return None

    def between(self, low: int, high: int) -> IdKeys64:
        """Return the keys from one number up to another."""
        begin = int(np.searchsorted(self.keys, np.uint64(low))) if low else 0
        end = int(np.searchsorted(self.keys, np.uint64(high))) if high < 1 << 64 else None
        return np.asarray(self.keys[begin:end])


class IdIndexWriter:
    """Writes an index to a local file, in the order of the keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repeated = 0
        """How many keys are equal to the one before."""
        self._digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        path.write_bytes(b"")

    def add(self, keys: IdKeys64) -> None:
        """Append keys, ascending; equal keys must come in one call.

        Raises:
            OutputError: the disk is full.
        """
        self.repeated += int(np.count_nonzero(keys[1:] == keys[:-1]))
        self._append(np.ascontiguousarray(keys).view(np.uint8).tobytes())

    def _append(self, data: bytes) -> None:
        self._digest.update(data)
        try:
            with self.path.open("ab") as file:
                file.write(data)
        except OSError as error:
            raise output_error(str(self.path), error) from error

    def count_of(self, keys: IdKeys64) -> int:
        """Return how many of some distinct keys are in the index."""
        if not len(keys) or not self.path.stat().st_size:
            return 0
        known = np.memmap(self.path, np.uint64, "r")
        places = np.searchsorted(known, keys)
        inside = places < len(known)
        return int(np.count_nonzero(known[places[inside]] == keys[inside]))

    def store(self, dataset: Dataset, name: str) -> None:
        """Write the index to a file of the dataset.

        Raises:
            OutputError: it cannot be written.
        """

        def copy(stream: pa.NativeFile) -> None:
            with self.path.open("rb") as file:
                shutil.copyfileobj(file, stream, _CHUNK_BYTES)
            stream.write(self._digest.digest())

        dataset.write_large(name, copy)


class InconsistentIndexError(OutputError):
    """An index lacks an id of a part that it should have."""


def without(keys: IdKeys64, removed: IdKeys64) -> IdKeys64:
    """Return ascending keys less others, each as often as it is there.

    Raises:
        InconsistentIndexError: a key to remove is not there.
    """
    if not len(removed):
        return keys
    removed = np.sort(removed)
    begins = np.searchsorted(removed, removed)
    places = np.searchsorted(keys, removed) + np.arange(len(removed)) - begins
    if places[-1] >= len(keys) or not np.array_equal(keys[places], removed):
        raise InconsistentIndexError("the index of ids does not fit the parts")
    return np.delete(keys, places)
