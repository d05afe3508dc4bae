"""A filter of keys: which keys are certainly not among some others, in little memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bulkembed.transforms.core.hashing import Keys

BITS_PER_KEY = 64
_LEAST_BITS, _MOST_BITS = 1 << 16, 1 << 30


class KeyFilter:
    """A Bloom filter with two hashes; at most 128 MB.

    Of keys that were not added, it takes about 0.1 % for added ones; 3 % with 100 million keys.

    Args:
        keys: how many keys will be added.
    """

    def __init__(self, keys: int) -> None:
        wanted = max(_LEAST_BITS, min(_MOST_BITS, keys * BITS_PER_KEY))
        self._mask = np.uint64((1 << (wanted - 1).bit_length()) - 1)
        self._bytes = np.zeros(int(self._mask + np.uint64(1)) // 8, np.uint8)

    def add(self, keys: Keys) -> None:
        """Add keys, which must be spread evenly, as hashes are."""
        for places in self._places(keys):
            ordered = np.sort(places)
            at = ordered >> np.uint64(3)
            bits = np.uint8(1) << (ordered & np.uint64(7)).astype(np.uint8)
            starts = np.flatnonzero(np.concatenate(([True], at[1:] != at[:-1])))
            if len(at):
                self._bytes[at[starts]] |= np.bitwise_or.reduceat(bits, starts)

    def may_have(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Return for each key whether it may have been added; False means that it was not."""
        found = np.ones(len(keys), bool)
        for places in self._places(keys):
            bits = (places & np.uint64(7)).astype(np.uint8)
            found &= (self._bytes[places >> np.uint64(3)] >> bits) & np.uint8(1) > 0
        return found

    def _places(self, keys: Keys) -> tuple[Keys, Keys]:
        return keys & self._mask, (keys >> np.uint64(32)) & self._mask
