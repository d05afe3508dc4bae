"""Invalid vectors are found, whatever the other rows are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bulkembed.transforms.core.vectors import vector_faults


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
