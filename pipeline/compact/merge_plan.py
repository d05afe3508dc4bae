"""Which parts to merge: consecutive small ones, up to a size."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

TARGET_BYTES = 256_000_000
"""The default size of a merged part."""
MAX_UNITS = 20_000
"""Maximum units of a group, so that its record stays small."""
MERGED_AT_ONCE_BYTES = 16_000_000
"""A larger part is merged only with parts that have as many bytes together."""


Sizes: TypeAlias = Mapping[str, int]
"""The bytes of the parts of a record by partition."""


def is_small(sizes: Sizes, target: int) -> bool:
    """Return whether the parts of a record may be merged: those of its largest partition decide."""
    return _largest(sizes) < target / 2


def _largest(sizes: Sizes) -> int:
    return max(sizes.values(), default=0)


def plan_merges(
    sizes: Sequence[Sizes], units: Sequence[int], target: int = TARGET_BYTES
) -> list[list[int]]:
    """Return the numbers of the parts to merge, ascending, in a list for each merged part.

    In a partitioned dataset each number means the parts of one record, which are merged partition
    by partition. The target is that of the largest partition.

    Parts of at least half of the target stay. The others are merged with those that follow, as
    long as they have at most `target` bytes together. If the last of these lists is small, a part
    that is larger than all others of it together stays, so that a dataset that grows by a little
    every night does not write all of its last part each time. The result of a merge is never
    merged again as long as nothing changes.

    Args:
        sizes: the bytes of each part, in the order that their rows should have.
        units: the number of units of each part; in partitions a unit counts once in each.
        target: the maximum bytes of a merged part.
    """
    lists = list(_consecutive(sizes, units, target))
    if lists and is_small(_sum(sizes[at] for at in lists[-1]), target):
        lists[-1] = _without_dominant(lists[-1], sizes)
    return [merged for merged in lists if len(merged) > 1]


def _sum(sizes: Iterable[Sizes]) -> collections.Counter[str]:
    total: collections.Counter[str] = collections.Counter()
    for one in sizes:
        total.update(one)
    return total


def _consecutive(sizes: Sequence[Sizes], units: Sequence[int], target: int) -> Iterator[list[int]]:
    current: list[int] = []
    size: collections.Counter[str] = collections.Counter()
    count = 0
    for at, (more, of_units) in enumerate(zip(sizes, units, strict=True)):
        if not is_small(more, target):
            continue
        too_large = any(size[folder] + bytes_ > target for folder, bytes_ in more.items())
        if current and (too_large or count + of_units > MAX_UNITS):
            yield current
            current, size, count = [], collections.Counter(), 0
        current.append(at)
        size.update(more)
        count += of_units
    if current:
        yield current


def _without_dominant(merged: list[int], sizes: Sequence[Sizes]) -> list[int]:
    """Return the parts without each large one that has more bytes than all smaller ones."""
    totals = {at: sum(sizes[at].values()) for at in merged}
    kept = sorted(merged, key=totals.__getitem__)
    total = sum(totals.values())
    while kept and totals[kept[-1]] >= max(MERGED_AT_ONCE_BYTES, total - totals[kept[-1]] + 1):
        total -= totals[kept.pop()]
    return sorted(kept)
