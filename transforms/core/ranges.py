"""Runs of rows: what is left of a file, and how it is cut into units."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence

Run = tuple[int, int]
"""First row, and number of rows (at least one)."""


def subtract(rows: int, covered: Iterable[Run]) -> list[Run]:
    """The runs of `range(rows)` that no covered run holds, in order.

    Covered runs may come in any order, overlap and reach past the end.
    """
    left: list[Run] = []
    reached = 0
    for first, count in sorted(covered):
        if reached >= rows:
            break
        if first > reached:
            left.append((reached, min(first, rows) - reached))
        reached = max(reached, first + count)
    if reached < rows:
        left.append((reached, rows - reached))
    return left


def common(run: Run, others: Iterable[Run]) -> Iterator[Run]:
    """The part of a run that each of the others holds, where it holds any."""
    first, rows = run
    for start, count in others:
        end = min(first + rows, start + count)
        if end > max(first, start):
            yield max(first, start), end - max(first, start)


def is_covered(first: int, rows: int, covered: Iterable[Run]) -> bool:
    """Whether every row of a run is held by the covered runs."""
    return all(start + count <= first for start, count in subtract(first + rows, covered))


def merged(runs: Iterable[Run]) -> list[Run]:
    """Return the same rows in as few runs as there can be, in order."""
    joined: list[Run] = []
    for first, count in sorted(runs):
        if joined and first <= sum(joined[-1]):
            start, held = joined[-1]
            joined[-1] = start, max(held, first + count - start)
        else:
            joined.append((first, count))
    return joined


def is_within(first: int, rows: int, runs: Sequence[Run]) -> bool:
    """Return whether one run of those that `merged` gave holds all rows."""
    at = bisect.bisect_right(runs, first, key=lambda run: run[0]) - 1
    return at >= 0 and first + rows <= sum(runs[at])


def cut(runs: Iterable[Run], unit_rows: int) -> Iterator[Run]:
    """The same rows in runs of at most `unit_rows`, in order."""
    for first, count in runs:
        for start in range(first, first + count, unit_rows):
            yield start, min(unit_rows, first + count - start)


def take(runs: Iterable[Run], limit: int) -> Iterator[Run]:
    """The first `limit` rows of the runs."""
    for first, count in runs:
        if limit <= 0:
            return
        yield first, min(count, limit)
        limit -= count
