from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.ranges import RowRange, cut, is_within, merged, subtract, take

RUNS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=8)
ROWS = st.integers(0, 60)


def rows_of(runs: list[RowRange]) -> list[int]:
    return [row for first, count in runs for row in range(first, first + count)]


@given(ROWS, RUNS)
def test_what_is_left_is_the_file_minus_what_is_covered(rows: int, covered: list[RowRange]) -> None:
    left = subtract(rows, covered)
    assert rows_of(left) == sorted(set(range(rows)) - set(rows_of(covered)))
    assert all(count > 0 for _, count in left)


@given(ROWS, RUNS)
def test_what_is_left_is_in_as_few_runs_as_can_be(rows: int, covered: list[RowRange]) -> None:
    left = subtract(rows, covered)
    for (first, count), (following, _) in itertools.pairwise(left):
        assert first + count < following


@given(ROWS, RUNS, st.integers(1, 20))
def test_cutting_keeps_every_row_in_order(
    rows: int, covered: list[RowRange], unit_rows: int
) -> None:
    left = subtract(rows, covered)
    pieces = list(cut(left, unit_rows))
    assert rows_of(pieces) == rows_of(left)
    assert all(0 < count <= unit_rows for _, count in pieces)


@given(ROWS, RUNS, st.integers(0, 70))
def test_taking_gives_the_first_rows(rows: int, covered: list[RowRange], limit: int) -> None:
    left = subtract(rows, covered)
    assert rows_of(list(take(left, limit))) == rows_of(left)[:limit]


@given(RUNS, ROWS, st.integers(1, 30))
def test_runs_are_merged_and_tell_what_is_within_them(
    runs: list[RowRange], first: int, rows: int
) -> None:
    joined = merged(runs)
    held = set(rows_of(runs))
    assert rows_of(joined) == sorted(held)
    assert all(sum(one) < other[0] for one, other in itertools.pairwise(joined))
    assert is_within(first, rows, joined) == (set(range(first, first + rows)) <= held)
