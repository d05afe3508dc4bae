"""Means, faults and nearest rows of vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bulkembed.transforms.core.vectors import best, cosines, mean_vector, vector_faults


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9000)), min_size=1, max_size=3000))
def test_the_mean_is_weighted_and_of_length_one(rows: list[tuple[int, int]]) -> None:
    vectors = np.eye(5, dtype=np.float32)
    places, weights = zip(*rows, strict=True)
    mean = mean_vector(vectors, places, weights)
    assert mean is not None
    expected = np.bincount(places, weights, minlength=5)
    assert mean == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
    assert mean.dtype == np.float32


def test_vectors_that_cancel_each_other_out_have_no_mean() -> None:
    vectors = np.array([[1, 0], [-1, 0]], np.float32)
    assert mean_vector(vectors, [0, 1], [7, 7]) is None
    assert mean_vector(vectors, [0, 1], [8, 7]) is not None


@pytest.mark.parametrize("tolerance", [1e-4, None])
@given(
    kinds=st.lists(st.sampled_from(["good", "nan", "inf", "zero", "long"]), max_size=20),
    dim=st.integers(1, 40),
)
def test_each_fault_is_found_in_its_row(
    kinds: list[str], dim: int, tolerance: float | None
) -> None:
    vectors = np.full((len(kinds), dim), dim**-0.5, np.float32)
    for row, kind in enumerate(kinds):
        last = {"nan": np.nan, "inf": -np.inf}.get(kind, vectors[row, -1])
        vectors[row, -1] = last
        vectors[row] *= {"zero": 0.0, "long": 1.001}.get(kind, 1.0)
    faults = vector_faults(vectors, tolerance)
    at = {kind: [row for row, one in enumerate(kinds) if one == kind] for kind in kinds}
    assert faults.not_finite.tolist() == sorted(at.get("nan", []) + at.get("inf", []))
    assert faults.zero.tolist() == at.get("zero", [])
    assert faults.off_length.tolist() == (at.get("long", []) if tolerance else [])


FLOATS = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 6), st.integers(1, 5)), elements=st.floats(width=32)
)


@given(FLOATS)
def test_a_row_has_at_most_one_fault_and_valid_rows_have_none(
    vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    faults = vector_faults(vectors, None)
    assert faults.not_finite.tolist() == np.flatnonzero(~np.isfinite(vectors).all(1)).tolist()
    assert faults.zero.tolist() == np.flatnonzero((vectors == 0).all(1)).tolist()
    strict = vector_faults(vectors, 1e-4)
    rows = [*strict.not_finite, *strict.zero, *strict.off_length]
    assert len(rows) == len(set(rows))


def test_a_length_just_within_the_tolerance_is_good() -> None:
    vectors = np.array([[1.00009], [0.99991], [1.00011], [0.99989]], np.float32)
    assert vector_faults(vectors, 1e-4).off_length.tolist() == [2, 3]


@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, -1.0, -np.inf]) | st.floats(-1, 1, width=32)),
    st.integers(1, 12),
)
def test_the_best_scores_are_the_first_of_the_sorted_scores(scores: list[float], k: int) -> None:
    wanted = sorted((-score, at) for at, score in enumerate(scores) if score > -np.inf)
    assert best(np.array(scores, np.float32), k).tolist() == [at for _, at in wanted[:k]]


@pytest.mark.parametrize("unit_length", [True, False])
def test_a_row_without_a_direction_has_no_cosine(unit_length: bool) -> None:
    vectors = np.array([[1, 0], [np.nan, 1], [np.inf, 0], [0, 1]], np.float32)
    found = cosines(vectors, np.array([1, 0], np.float32), unit_length=unit_length)
    assert found.tolist() == [1, -np.inf, -np.inf, 0]


def test_the_length_of_a_vector_does_not_change_its_cosine() -> None:
    vectors = np.array([[3, 4], [30, 40], [0, 0.1], [0, 0]], np.float32)
    found = cosines(vectors, np.array([0, 1], np.float32), unit_length=False)
    assert found.tolist() == pytest.approx([0.8, 0.8, 1, -np.inf])
