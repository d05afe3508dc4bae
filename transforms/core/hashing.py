"""Hashes of texts, and their keys, by which texts are searched.

A search compares the first eight bytes of the hashes. If two different texts agree in these, one
of them is sent earlier than necessary, or again, and nothing else happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.ma  # np.unique imports it, which fails if two threads do it at once.
import numpy.typing as npt

HASH_BYTES = 16
_CHUNK_ROWS = 65_536
_NO_TITLE = bytes(8)
"""The length of an empty title."""

Keys = npt.NDArray[np.uint64]
"""The first eight bytes of hashes, shape (n,)."""


def text_hash(title: str | None, text: str) -> bytes:
    """Return 16 bytes of BLAKE2b over title and text as sent, each after its length.

    The lengths (8 bytes, little endian, of the UTF-8) distinguish ("ab", "c") from ("a", "bc").
    Texts with equal hashes get equal vectors under one embedding digest.
    """
    text_bytes = text.encode()
    length = len(text_bytes).to_bytes(8, "little")
    if title:
        title_bytes = title.encode()
        before = b"".join((len(title_bytes).to_bytes(8, "little"), title_bytes, length))
    else:
        before = _NO_TITLE + length
    # One call: searches hash millions of short texts.
    return hashlib.blake2b(before + text_bytes, digest_size=HASH_BYTES).digest()


def keys(hashes: Sequence[bytes]) -> Keys:
    """Return the first eight bytes of each hash. Shape (n,)."""
    joined: Keys = np.frombuffer(b"".join(hashes), np.uint64)[::2].copy()
    return joined


def among(every: npt.NDArray[np.integer], some: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Return which numbers, (n,), are among `some`, which are ascending and distinct."""
    found = np.zeros(len(every), bool)
    if len(some):
        for start in range(0, len(every), _CHUNK_ROWS):
            chunk = every[start : start + _CHUNK_ROWS]
            at = np.minimum(np.searchsorted(some, chunk), len(some) - 1)
            found[start : start + _CHUNK_ROWS] = some[at] == chunk
    return found
