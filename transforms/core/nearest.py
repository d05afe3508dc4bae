"""The rows of a matrix that are nearest to a query, by cosine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def cosines(vectors: Floats, query: Floats, *, unit_length: bool) -> Floats:
    """The cosine of each row with the query; -inf for a row that has none (NaN, or all zeros).

    Args:
        vectors: one a row.
        query: of length 1.
        unit_length: whether all rows are of length 1, so that a dot product is the cosine.
    """
    # Not `@`: BLAS would start threads of its own, beside those that read the blocks.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        scores = np.einsum("ij,j->i", vectors, query)
        if not unit_length:
            scores = scores / np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.where(np.isfinite(scores), scores, np.float32(-np.inf))


def best(scores: Floats, k: int) -> npt.NDArray[np.intp]:
    """Where the `k` highest scores are, highest first; of equal ones the first. -inf is left out.

    Fewer than `k` where there are no more.
    """
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= least)
    else:
        places = np.arange(len(scores))
    places = places[scores[places] > -np.inf]
    order = np.argsort(-scores[places], kind="stable")
    return places[order][:k]
