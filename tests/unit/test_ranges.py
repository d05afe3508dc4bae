from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.core.ranges import (
    RowRange,
    first_rows,
    is_within,
    merge_ranges,
    remaining_ranges,
    split_ranges,
)

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=8)
ROWS = st.integers(0, 60)


def rows_of(ranges: list[RowRange]) -> list[int]:
    return [row for first, count in ranges for row in range(first, first + count)]


@given(ROWS, RANGES)
def test_the_remaining_rows_are_the_file_minus_the_covered_rows(
    rows: int, covered: list[RowRange]
) -> None:
    remaining = remaining_ranges(rows, covered)
    assert rows_of(remaining) == sorted(set(range(rows)) - set(rows_of(covered)))
    assert all(count > 0 for _, count in remaining)


@given(ROWS, RANGES)
def test_the_remaining_rows_are_in_as_few_ranges_as_possible(
    rows: int, covered: list[RowRange]
) -> None:
    remaining = remaining_ranges(rows, covered)
    for (first, count), (following, _) in itertools.pairwise(remaining):
        assert first + count < following


@given(ROWS, RANGES, st.integers(1, 20))
def test_splitting_keeps_every_row_in_order(
    rows: int, covered: list[RowRange], unit_rows: int
) -> None:
    remaining = remaining_ranges(rows, covered)
    pieces = list(split_ranges(remaining, unit_rows))
    assert rows_of(pieces) == rows_of(remaining)
    assert all(0 < count <= unit_rows for _, count in pieces)


@given(ROWS, RANGES, st.integers(0, 70))
def test_the_first_rows_are_a_prefix(rows: int, covered: list[RowRange], limit: int) -> None:
    remaining = remaining_ranges(rows, covered)
    assert rows_of(list(first_rows(remaining, limit))) == rows_of(remaining)[:limit]


@given(RANGES, ROWS, st.integers(1, 30))
def test_ranges_are_merged_and_contain_the_same_rows(
    ranges: list[RowRange], first: int, rows: int
) -> None:
    joined = merge_ranges(ranges)
    expected = set(rows_of(ranges))
    assert rows_of(joined) == sorted(expected)
    assert all(sum(one) < other[0] for one, other in itertools.pairwise(joined))
    assert is_within(first, rows, joined) == (set(range(first, first + rows)) <= expected)
