"""A plan is divided between units, and loses none."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_file

from bulkembed.pipeline.run.early_units import early_rows
from bulkembed.pipeline.run.plan import Plan, make_plan
from bulkembed.schemas.units import Unit
from bulkembed.transforms.dataset.records import DatasetState


def units_of(plan: Plan) -> list[tuple[str, Unit]]:
    return [(file.file.found.path, unit) for file in plan.work for unit in file.units]


@given(
    files=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    unit_rows=st.integers(1, 12),
    rows=st.integers(1, 200),
)
def test_the_first_units_have_so_many_rows_and_the_others_follow(
    files: list[int], unit_rows: int, rows: int
) -> None:
    inputs = [a_file(count, f"{number}.parquet") for number, count in enumerate(files)]
    plan = make_plan(inputs, DatasetState(), unit_rows)
    first, rest = plan.divided(rows)
    assert units_of(first) + units_of(rest) == units_of(plan)
    *before, last = [unit.rows for _, unit in units_of(first)]
    assert sum(before) < rows
    assert sum(before) + last >= rows or not rest.work
    assert (first.rows, first.unit_rows) == (plan.rows, unit_rows)


def test_a_plan_without_a_file_has_the_units_of_the_others() -> None:
    plan = make_plan([a_file(5, "a.parquet"), a_file(3, "b.parquet")], DatasetState(), 2)
    left = plan.without_file("/in/a.parquet")
    assert units_of(left) == list(itertools.islice(units_of(plan), 3, None))


@pytest.mark.parametrize(
    ("rows", "size_bytes", "early"),
    [
        pytest.param(10**6, 1 << 30, 0, id="small"),
        pytest.param(10**6 + 1, 10**7, 100_000, id="a-little-more-rows"),
        pytest.param(25 * 10**6, 10**8, 500_000, id="many-rows"),
        pytest.param(10**9, 10**8, 1_000_000, id="very-many-rows"),
        pytest.param(50 * 10**6, 100 << 30, 125_000, id="long-texts"),
        pytest.param(1000, 4 << 30, 62, id="few-texts-of-megabytes"),
        pytest.param(1, 4 << 30, 1, id="one-row"),
    ],
)
def test_early_rows_are_few_enough_to_be_searched_in_seconds(
    rows: int, size_bytes: int, early: int
) -> None:
    assert early_rows(rows, size_bytes) == early


def test_rows_of_a_plan_count_by_their_share_of_a_file() -> None:
    plan = make_plan([a_file(10, "a.parquet"), a_file(5, "b.parquet")], DatasetState(), 2)
    first, rest = plan.divided(6)
    assert (plan.size_bytes, first.size_bytes, rest.size_bytes) == (2000, 600, 1400)
