"""One vector for a text that was embedded in passages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
"""Of shape (dim,)."""
LEAST_LENGTH = 1e-3
"""Of a mean of unit vectors; below it they cancel each other out, and its direction is noise."""
NO_MEAN = "the vectors of its passages cancel each other out: their mean has no direction"
_BLOCK = 1024


def mean_vector(
    vectors: npt.NDArray[np.float32], places: Sequence[int], weights: Sequence[int]
) -> Vector | None:
    """The mean of some of the vectors (n, dim), each of length 1, back to length 1.

    Args:
        vectors: of which the mean is taken.
        places: those that count; one may count several times.
        weights: of each of them, above 0.

    Returns:
        The vector (dim,), or None where they cancel each other out.
    """
    total = np.zeros(vectors.shape[1])
    for first in range(0, len(places), _BLOCK):
        block = vectors[list(places[first : first + _BLOCK])].astype(np.float64)
        total += np.asarray(weights[first : first + _BLOCK], np.float64) @ block
    total /= sum(weights)
    length = float(np.sqrt(total @ total))
    if not length >= LEAST_LENGTH:
        return None
    unit: Vector = (total / length).astype(np.float32)
    return unit
