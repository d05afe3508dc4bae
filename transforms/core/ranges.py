"""Ranges of rows: which rows of a file remain, and how they are cut into units."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence

RowRange = tuple[int, int]
"""The first row's number, and the number of rows (at least one)."""


def remaining_ranges(rows: int, covered: Iterable[RowRange]) -> list[RowRange]:
    """Return the ranges of `range(rows)` that are not covered, in order.

    The covered ranges may come in any order, overlap, and reach past the end.
    """
    remaining: list[RowRange] = []
    reached = 0
    for first, count in sorted(covered):
        if reached >= rows:
            break
        if first > reached:
            remaining.append((reached, min(first, rows) - reached))
        reached = max(reached, first + count)
    if reached < rows:
        remaining.append((reached, rows - reached))
    return remaining


def intersections(rows: RowRange, others: Iterable[RowRange]) -> Iterator[RowRange]:
    """Yield the part of a range that each of the others covers, where it covers any."""
    first, count = rows
    for start, length in others:
        end = min(first + count, start + length)
        if end > max(first, start):
            yield max(first, start), end - max(first, start)


def is_covered(first: int, rows: int, covered: Iterable[RowRange]) -> bool:
    """Return whether the covered ranges hold every row of a range."""
    return all(start + count <= first for start, count in remaining_ranges(first + rows, covered))


def merge_ranges(ranges: Iterable[RowRange]) -> list[RowRange]:
    """Return the same rows in as few ranges as possible, in order."""
    joined: list[RowRange] = []
    for first, count in sorted(ranges):
        if joined and first <= sum(joined[-1]):
            start, length = joined[-1]
            joined[-1] = start, max(length, first + count - start)
        else:
            joined.append((first, count))
    return joined


def is_within(first: int, rows: int, ranges: Sequence[RowRange]) -> bool:
    """Return whether one of the ranges of `merge_ranges` holds all of the rows."""
    at = bisect.bisect_right(ranges, first, key=lambda rows: rows[0]) - 1
    return at >= 0 and first + rows <= sum(ranges[at])


def split_ranges(ranges: Iterable[RowRange], unit_rows: int) -> Iterator[RowRange]:
    """Yield the same rows in ranges of at most `unit_rows`, in order."""
    for first, count in ranges:
        for start in range(first, first + count, unit_rows):
            yield start, min(unit_rows, first + count - start)


def first_rows(ranges: Iterable[RowRange], limit: int) -> Iterator[RowRange]:
    """Yield the first `limit` rows of the ranges."""
    for first, count in ranges:
        if limit <= 0:
            return
        yield first, min(count, limit)
        limit -= count
