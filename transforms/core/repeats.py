"""Which texts occur in more than one unit, by the first eight bytes of their hashes.

Two texts whose hashes begin alike cost nothing: one of them is sent a little early.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transforms.core.hashing import HASH_BYTES

Keys = npt.NDArray[np.uint64]
NO_TEXT = bytes(HASH_BYTES)
"""In the place of a hash, for a row that is not sent."""
BYTES_A_ROW = 36
"""What the search takes at its peak: keys, their order, the sorted keys, and units."""


def keys(hashes: Sequence[bytes]) -> Keys:
    """The first eight bytes of each hash; 0 for NO_TEXT.  Shape (n,)."""
    joined: Keys = np.frombuffer(b"".join(hashes), np.uint64)[::2].copy()
    return joined


def shared_rows(every: Keys, units: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The rows, ascending, that hold the first occurrence of a text of more than one unit.

    Args:
        every: the keys of all rows, (n,), in order; 0 for a row without a text.
        units: each row's unit, (n,), ascending.
    """
    if not len(every):
        return np.empty(0, np.int64)
    order = np.argsort(every, kind="stable")
    ordered = every[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    last = np.concatenate((first[1:], [len(every)])) - 1
    spread = (units[order[first]] != units[order[last]]) & (ordered[first] != 0)
    return np.sort(order[first[spread]])
