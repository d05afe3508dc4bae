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
BYTES_A_ROW = 40
"""A bound on what the search takes: its keys, a sorted copy of them, then rows of repeats only."""
_CHUNK_ROWS = 65_536


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
    candidates = np.flatnonzero(among(every, _repeated(every)))
    if not len(candidates):
        return candidates
    order = candidates[np.argsort(every[candidates], kind="stable")]
    ordered = every[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    last = np.concatenate((first[1:], [len(order)])) - 1
    spread = units[order[first]] != units[order[last]]
    return np.sort(order[first[spread]])


def among(every: Keys, some: Keys) -> npt.NDArray[np.bool_]:
    """Which keys, (n,), are among some others, which ascend and are distinct."""
    found = np.zeros(len(every), bool)
    if len(some):
        for start in range(0, len(every), _CHUNK_ROWS):
            chunk = every[start : start + _CHUNK_ROWS]
            at = np.minimum(np.searchsorted(some, chunk), len(some) - 1)
            found[start : start + _CHUNK_ROWS] = some[at] == chunk
    return found


def _repeated(every: Keys) -> Keys:
    """The keys that occur more than once, ascending and distinct; 0 is none."""
    ordered = np.sort(every)
    again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    repeated: Keys = again[again != 0]
    return repeated
