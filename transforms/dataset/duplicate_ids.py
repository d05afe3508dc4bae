"""Find ids that several rows have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MAX_IDS = 50_000_000
"""More ids than this are not compared, because each takes 8 bytes of memory."""


class DuplicateIds:
    """Collects ids in any order, from several threads; equal ids are found by a 64-bit key."""

    def __init__(self) -> None:
        self._keys: list[npt.NDArray[np.int64]] = []

    def add(self, ids: pa.Array | pa.ChunkedArray) -> None:
        """Add ids, integers or strings; nulls are ignored."""
        self._keys.append(id_keys(ids))

    def duplicates(self) -> npt.NDArray[np.int64]:
        """Return the key of each id that an earlier row has already: n - 1 times for n rows."""
        if not self._keys:
            return np.empty(0, np.int64)
        everything = np.concatenate(self._keys)
        everything.sort()
        repeated: npt.NDArray[np.int64] = everything[1:][everything[1:] == everything[:-1]]
        return repeated


def id_keys(ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return 64 bits for each id that is not null: the integer itself, or a string's hash.

    The keys of strings are valid in one process only, because Python's hashes differ between
    processes.
    """
    ids = ids.drop_null()
    if pa.types.is_integer(ids.type):
        # Not `hash`, which gives -1 and -2 the same number.
        numbers: npt.NDArray[np.int64] = ids.to_numpy().astype(np.int64)
        return numbers
    return np.fromiter(map(hash, ids.to_pylist()), np.int64, len(ids))
