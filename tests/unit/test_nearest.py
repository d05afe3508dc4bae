"""The nearest rows are those that a full sort gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.vectors import best, cosines


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
