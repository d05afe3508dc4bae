"""Ids that are there more than once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MOST_IDS = 50_000_000
"""Ids beyond this number are not compared: each takes 8 bytes of memory."""


class IdCount:
    """Takes ids in any order, from several threads; equal ids are found by a 64-bit name."""

    def __init__(self) -> None:
        self._names: list[npt.NDArray[np.int64]] = []

    def add(self, ids: pa.Array | pa.ChunkedArray) -> None:
        """Takes ids: integers or strings; nulls are none."""
        self._names.append(names_of(ids))

    def repeated(self) -> npt.NDArray[np.int64]:
        """The name of each id that an earlier one had already: n - 1 times where n have it."""
        if not self._names:
            return np.empty(0, np.int64)
        everything = np.concatenate(self._names)
        everything.sort()
        repeated: npt.NDArray[np.int64] = everything[1:][everything[1:] == everything[:-1]]
        return repeated


def names_of(ids: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """64 bits for each id that is not null: the integer itself, or a string's hash.

    Good in one process only: Python's hashes differ from one to the next.
    """
    ids = ids.drop_null()
    if pa.types.is_integer(ids.type):
        # Not `hash`, which gives -1 and -2 the same number.
        numbers: npt.NDArray[np.int64] = ids.to_numpy().astype(np.int64)
        return numbers
    return np.fromiter(map(hash, ids.to_pylist()), np.int64, len(ids))
