"""Arithmetic on vectors: unit length, means, faults, cosines and the nearest rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
"""Of shape (dim,), or one number for each row of a matrix."""
Matrix = npt.NDArray[np.float32]
"""Of shape (n, dim): one vector per row."""
TOLERANCE = 1e-5


def to_unit_length(vectors: Matrix) -> Matrix:
    """Return the vectors (n, dim) scaled to length 1; the same array if all have that length."""
    squares = np.einsum("ij,ij->i", vectors, vectors)
    # A square within the tolerance is a length within half of it, so float32 is exact enough.
    if np.abs(squares - 1).max() <= TOLERANCE:
        return vectors
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if np.abs(norms - 1).max() <= TOLERANCE:
        return vectors
    scaled: Matrix = (vectors / norms[:, None]).astype(np.float32)
    return scaled


MIN_LENGTH = 1e-3
"""Minimum length of a mean of unit vectors; below it, the direction of the mean is noise."""
NO_MEAN = "the vectors of the passages cancel each other out, so their mean has no direction"
_BLOCK = 1024


def mean_vector(vectors: Matrix, places: Sequence[int], weights: Sequence[int]) -> Vector | None:
    """Return the weighted mean of some vectors, scaled to length 1.

    Args:
        vectors: of shape (n, dim), each of length 1.
        places: the rows that count; one may count several times.
        weights: of each of them, above 0.

    Returns:
        The vector (dim,), or None if the vectors cancel each other out.
    """
    total = np.zeros(vectors.shape[1])
    for first in range(0, len(places), _BLOCK):
        block = vectors[list(places[first : first + _BLOCK])].astype(np.float64)
        total += np.asarray(weights[first : first + _BLOCK], np.float64) @ block
    total /= sum(weights)
    length = float(np.sqrt(total @ total))
    if not length >= MIN_LENGTH:
        return None
    unit: Vector = (total / length).astype(np.float32)
    return unit


Rows = npt.NDArray[np.intp]
_SURELY_NOT_ZERO = 1e-30


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class VectorFaults:
    """Faulty rows of a matrix, ascending; a row is in at most one of the three."""

    not_finite: Rows
    """A number is NaN or infinite."""
    zero: Rows
    """All numbers are 0."""
    off_length: Rows
    """The length is not 1."""


def vector_faults(vectors: Matrix, tolerance: float | None) -> VectorFaults:
    """Check every row of a matrix.

    Args:
        vectors: one per row, float32.
        tolerance: how far a length may be from 1; None for any length.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", vectors, vectors)
    if tolerance is None:
        good = (squares > _SURELY_NOT_ZERO) & np.isfinite(squares)
    else:
        good = np.abs(squares - 1) <= tolerance
    # For most rows float32 is enough. Only the others are checked in float64.
    rows = np.flatnonzero(~good)
    doubtful = vectors[rows].astype(np.float64)
    finite = np.isfinite(doubtful).all(axis=1)
    zero = finite & ~doubtful.any(axis=1)
    off = np.zeros(len(rows), dtype=bool)
    if tolerance is not None:
        lengths = np.sqrt(np.einsum("ij,ij->i", doubtful, doubtful))
        off = finite & ~zero & (np.abs(lengths - 1) > tolerance)
    return VectorFaults(rows[~finite], rows[zero], rows[off])


def cosines(vectors: Matrix, query: Vector, *, unit_length: bool) -> Vector:
    """Return the cosine of each row with the query; -inf for rows with NaN or only zeros.

    Args:
        vectors: one per row.
        query: of length 1.
        unit_length: whether all rows are of length 1, so that a dot product is the cosine.
    """
    # Not `@`: BLAS would start its own threads in addition to those that read the blocks.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        scores = np.einsum("ij,j->i", vectors, query)
        if not unit_length:
            scores = scores / np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.where(np.isfinite(scores), scores, np.float32(-np.inf))


def best(scores: Vector, k: int) -> npt.NDArray[np.intp]:
    """Return the places of the `k` highest scores, highest first, then by place; without -inf.

    The result has fewer than `k` places if there are no more scores.
    """
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= least)
    else:
        places = np.arange(len(scores))
    places = places[scores[places] > -np.inf]
    order = np.argsort(-scores[places], kind="stable")
    return places[order][:k]
