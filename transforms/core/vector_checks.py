"""Which vectors cannot be right: not finite, zero, or not of unit length."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
_SURELY_NOT_ZERO = 1e-30


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class VectorFaults:
    """Rows of a matrix that are at fault, ascending; a row is in one of the three at most."""

    not_finite: Rows
    """A number is NaN or infinite."""
    zero: Rows
    """All numbers are 0."""
    off_length: Rows
    """The length is not 1."""


def vector_faults(vectors: Floats, tolerance: float | None) -> VectorFaults:
    """Looks at every row of a matrix.

    Args:
        vectors: one a row, float32.
        tolerance: how far a length may be from 1; None where lengths are free.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors)
    if tolerance is None:
        good = (squares > _SURELY_NOT_ZERO) & np.isfinite(squares)
    else:
        good = np.abs(squares - 1) <= tolerance
    # Most rows are good, and float32 tells: only the others are looked at closely.
    rows = np.flatnonzero(~good)
    doubtful = vectors[rows].astype(np.float64)
    finite = np.isfinite(doubtful).all(axis=1)
    zero = finite & ~doubtful.any(axis=1)
    off = np.zeros(len(rows), dtype=bool)
    if tolerance is not None:
        lengths = np.sqrt(np.einsum("ij,ij->i", doubtful, doubtful))
        off = finite & ~zero & (np.abs(lengths - 1) > tolerance)
    return VectorFaults(rows[~finite], rows[zero], rows[off])
