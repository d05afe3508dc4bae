from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.vectors import mean_vector


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
