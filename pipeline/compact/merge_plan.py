"""Which parts to merge: consecutive small ones, up to a size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

TARGET_BYTES = 256_000_000
"""The default size of a merged part."""
MAX_UNITS = 20_000
"""Maximum units of a group, so that its record stays small."""
MERGED_AT_ONCE_BYTES = 16_000_000
"""A larger part is merged only with parts that have as many bytes together."""


def is_small(size: int, target: int) -> bool:
    """Return whether a part of a size may be merged."""
    return size < target / 2


def plan_merges(
    sizes: Sequence[int], units: Sequence[int], target: int = TARGET_BYTES
) -> list[list[int]]:
    """Return the numbers of the parts to merge, ascending, in a list for each merged part.

    Parts of at least half of the target stay.  The others are merged with those that follow, as
    long as they have at most `target` bytes together.  If the last of these lists is small, a part
    that is larger than all others of it together stays, so that a dataset that grows by a little
    every night does not write all of its last part each time.  The result of a merge is never
    merged again as long as nothing changes.

    Args:
        sizes: the bytes of each part, in the order that their rows should have.
        units: the number of units of each part.
        target: the maximum bytes of a merged part.
    """
    lists = list(_consecutive(sizes, units, target))
    if lists and is_small(sum(sizes[at] for at in lists[-1]), target):
        lists[-1] = _without_dominant(lists[-1], sizes)
    return [merged for merged in lists if len(merged) > 1]


def _consecutive(sizes: Sequence[int], units: Sequence[int], target: int) -> Iterator[list[int]]:
    current: list[int] = []
    size = count = 0
    for at, (more, of_units) in enumerate(zip(sizes, units, strict=True)):
        if not is_small(more, target):
            continue
        if current and (size + more > target or count + of_units > MAX_UNITS):
            yield current
            current, size, count = [], 0, 0
        current.append(at)
        size += more
        count += of_units
    if current:
        yield current


def _without_dominant(merged: list[int], sizes: Sequence[int]) -> list[int]:
    """Return the parts without each large one that has more bytes than all smaller ones."""
    kept = sorted(merged, key=lambda at: sizes[at])
    total = sum(sizes[at] for at in kept)
    while kept and sizes[kept[-1]] >= max(MERGED_AT_ONCE_BYTES, total - sizes[kept[-1]] + 1):
        total -= sizes[kept.pop()]
    return sorted(kept)
