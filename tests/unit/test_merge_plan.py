"""Which parts a compaction merges."""

from __future__ import annotations

import collections
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.pipeline.compact.merge_plan import MAX_UNITS, MERGED_AT_ONCE_BYTES, plan_merges

MB = 10**6
TARGET = 100 * MB
SIZES = st.lists(st.integers(1, 130) | st.integers(1, 5), max_size=40).map(
    lambda sizes: [size * MB for size in sizes]
)


def of_one_folder(sizes: Iterable[int]) -> list[dict[str, int]]:
    return [{"": size} for size in sizes]


def merged(sizes: list[int], target: int = TARGET) -> list[int]:
    """The sizes after a merge, each merged part in the place of its first."""
    plan = plan_merges(of_one_folder(sizes), [1] * len(sizes), target)
    gone = {at for one in plan for at in one[1:]}
    of_first = {one[0]: sum(sizes[at] for at in one) for one in plan}
    return [of_first.get(at, size) for at, size in enumerate(sizes) if at not in gone]


@pytest.mark.parametrize(
    ("sizes", "plan"),
    [
        pytest.param([], [], id="none"),
        pytest.param([1], [], id="one"),
        pytest.param([1, 1, 1], [[0, 1, 2]], id="small"),
        pytest.param([50, 60, 100, 500], [], id="large"),
        pytest.param([1, 70, 1], [[0, 2]], id="large-between"),
        pytest.param([40, 40, 40, 40, 40], [[0, 1], [2, 3]], id="up-to-the-target"),
        pytest.param([45, 1, 1], [[1, 2]], id="not-a-large-one-for-a-little"),
        pytest.param([45, 1, 1, 44], [[0, 1, 2, 3]], id="enough-others"),
        pytest.param([10, 1], [[0, 1]], id="too-small-to-matter"),
    ],
)
def test_small_parts_are_merged(sizes: list[int], plan: list[list[int]]) -> None:
    assert plan_merges(of_one_folder(size * MB for size in sizes), [1] * len(sizes), TARGET) == plan


@given(SIZES)
def test_a_merged_part_has_several_consecutive_small_parts_within_the_target(
    sizes: list[int],
) -> None:
    plan = plan_merges(of_one_folder(sizes), [1] * len(sizes), TARGET)
    numbers = [at for one in plan for at in one]
    assert numbers == sorted(set(numbers))
    for one in plan:
        assert len(one) > 1
        assert sum(sizes[at] for at in one) <= TARGET
        assert all(sizes[at] < TARGET / 2 for at in one)


@given(SIZES)
def test_nothing_is_merged_twice(sizes: list[int]) -> None:
    once = merged(sizes)
    assert merged(once) == once


@given(SIZES)
def test_few_small_parts_remain(sizes: list[int]) -> None:
    """Those that remain halve each time, down to the size that is always merged."""
    small = sorted(size for size in merged(sizes) if size < TARGET / 2)
    large_enough = [size for size in small if size >= MERGED_AT_ONCE_BYTES]
    assert len(small) - len(large_enough) <= 1
    for at, size in enumerate(large_enough):
        assert size > sum(large_enough[:at])


PARTITIONED = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 60 * MB), min_size=1), max_size=30
)


@given(PARTITIONED)
def test_in_each_partition_a_merged_part_is_within_the_target(sizes: list[dict[str, int]]) -> None:
    for one in plan_merges(sizes, [1] * len(sizes), TARGET):
        total: collections.Counter[str] = collections.Counter()
        for at in one:
            assert max(sizes[at].values()) < TARGET / 2
            total.update(sizes[at])
        assert max(total.values()) <= TARGET


def test_a_group_has_a_limited_number_of_units() -> None:
    units = [MAX_UNITS // 2] * 5
    assert plan_merges(of_one_folder([1] * 5), units, TARGET) == [[0, 1], [2, 3]]
