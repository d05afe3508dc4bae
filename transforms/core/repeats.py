"""Find the texts that occur several times, by their keys."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from bulkembed.transforms.core.hashing import Keys


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Repeats:
    """Places of texts, n of them, grouped by text; there are t texts."""

    keys: Keys
    """The key of each text, ascending and distinct; (t,)."""
    first: npt.NDArray[np.int64]
    """Where the first place of each text is in `places`; (t,)."""
    last: npt.NDArray[np.int64]
    """Where its last place is; (t,)."""
    places: npt.NDArray[np.uint64]
    """The places, ascending for each text; (n,)."""
    text: npt.NDArray[np.int64]
    """The number of the text of each place, ascending; (n,)."""


def find_repeats(keys: Keys, places: npt.NDArray[np.uint64]) -> Repeats:
    """Group places by the keys of their texts.

    Args:
        keys: of texts, (n,), in any order.
        places: where the texts are, (n,), ascending.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(order))[: len(first)] - 1
    return Repeats(ordered[first], first, last, places[order], np.cumsum(is_first) - 1)


def first_and_last(keys: Keys) -> npt.NDArray[np.int64]:
    """Return the first and the last place of each key, ascending."""
    _, first = np.unique(keys, return_index=True)
    if len(first) == len(keys):
        return np.arange(len(keys))
    _, last = np.unique(keys[::-1], return_index=True)
    return np.union1d(first, len(keys) - 1 - last)
