"""Vectors brought to unit length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

TOLERANCE = 1e-5


def to_unit_length(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The vectors (n, dim), each of length 1: the same array where all are so already."""
    squares = np.einsum("ij,ij->i", vectors, vectors)
    if np.abs(squares - 1).max() <= TOLERANCE:
        return vectors  # Half the tolerance of the length: float32 is exact enough to tell.
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if np.abs(norms - 1).max() <= TOLERANCE:
        return vectors
    scaled: npt.NDArray[np.float32] = (vectors / norms[:, None]).astype(np.float32)
    return scaled
