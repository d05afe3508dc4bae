"""Windows of a plan: all units in order, as few windows as fit."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_file

from bulkembed.pipeline.batch.wanted_texts import windows
from bulkembed.pipeline.run.plan import Plan
from bulkembed.schemas.units import FileUnits, Unit


def plan_of(files: list[list[int]]) -> Plan:
    work = []
    for number, sizes in enumerate(files):
        file = a_file(sum(sizes), f"{number}.jsonl")
        starts = [sum(sizes[:n]) for n in range(len(sizes))]
        units = tuple(Unit(file.key, start, n) for start, n in zip(starts, sizes, strict=True))
        work.append(FileUnits(file, units))
    return Plan(tuple(work), sum(map(sum, files)), sum(map(sum, files)))


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), max_size=5), st.integers(1, 25)
)
def test_windows_have_all_units_in_order_and_are_full(files: list[list[int]], rows: int) -> None:
    plan = plan_of(files)
    found = list(windows(plan, rows))
    units = [unit for window in found for file in window.work for unit in file.units]
    assert units == [unit for file in plan.work for unit in file.units]
    sizes = [[unit.rows for file in window.work for unit in file.units] for window in found]
    assert all(sum(size) <= rows or len(size) == 1 for size in sizes)
    for size, following in itertools.pairwise(sizes):
        assert sum(size) + following[0] > rows
