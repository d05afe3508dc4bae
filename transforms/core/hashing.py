"""Which texts occur in more than one unit, by the first eight bytes of their hashes.

Two texts whose hashes begin alike cost nothing: one of them is sent a little early.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

HASH_BYTES = 16


def text_hash(title: str | None, text: str) -> bytes:
    """16 bytes of BLAKE2b over title and text as sent, each behind its length.

    The lengths (8 bytes, little endian, of the UTF-8) keep ("ab", "c") and ("a", "bc") apart.
    Texts of equal hash get equal vectors under one embedding digest.
    """
    title_bytes = (title or "").encode()
    text_bytes = text.encode()
    digest = hashlib.blake2b(len(title_bytes).to_bytes(8, "little"), digest_size=HASH_BYTES)
    digest.update(title_bytes)
    digest.update(len(text_bytes).to_bytes(8, "little"))
    digest.update(text_bytes)
    return digest.digest()


Keys = npt.NDArray[np.uint64]
BYTES_A_TEXT = 40
"""A bound on what the search takes: its keys, a sorted copy of them, then texts of repeats only."""
_CHUNK_ROWS = 65_536


def keys(hashes: Sequence[bytes]) -> Keys:
    """The first eight bytes of each hash.  Shape (n,)."""
    joined: Keys = np.frombuffer(b"".join(hashes), np.uint64)[::2].copy()
    return joined


def shared_texts(every: Keys, units: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The places, ascending, of the first occurrence of each text of more than one unit.

    Args:
        every: the keys of all texts, (n,), in order; 0 for one that need not be looked at.
        units: each text's unit, (n,), ascending.
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
