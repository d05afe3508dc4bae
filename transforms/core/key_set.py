"""A set of keys that grows, in 8 to 16 bytes for each of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bulkembed.transforms.core.hashing import Keys, among

_FEW = 4096


class KeySet:
    """Keys of contents, see `hashing.keys`.

    Most of them are in one array in ascending order; the last ones join it when there are many.
    """

    def __init__(self) -> None:
        self._ordered: Keys = np.empty(0, np.uint64)
        self._last: Keys = np.empty(0, np.uint64)

    def add(self, keys: Keys) -> None:
        """Add keys, in any order."""
        self._last = np.union1d(self._last, keys)
        if len(self._last) > max(_FEW, len(self._ordered) // 8):
            self._ordered = np.union1d(self._ordered, self._last)
            self._last = self._last[:0]

    def has(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Return which keys are in the set, shape (n,)."""
        return among(keys, self._ordered) | among(keys, self._last)
