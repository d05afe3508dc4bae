from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.pipeline.estimate.sampling import (
    MIN_UNITS,
    draw,
    parse_sample,
    total_of,
    units_to_read,
)
from bulkembed.pipeline.run.plan import Plan
from bulkembed.pipeline.run.row_amount import RowAmount
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import FoundFile, InputFile
from bulkembed.schemas.units import FileUnits, Unit


def a_plan(*units: int) -> Plan:
    """Files with so many units of 100 rows each."""
    work = []
    for number, count in enumerate(units):
        found = FoundFile(f"{number}", f"{number}", 1, 1, "parquet")
        file = InputFile(found, "00", 100 * count)
        work.append(FileUnits(file, tuple(Unit(file.key, 100 * n, 100) for n in range(count))))
    rows = 100 * sum(units)
    return Plan(tuple(work), rows, rows)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        pytest.param(None, None, id="everything"),
        pytest.param("5000", RowAmount(rows=5000), id="rows"),
        pytest.param("2.5%", RowAmount(percent=2.5), id="part"),
    ],
)
def test_a_sample_is_a_number_of_rows_or_a_percentage(
    text: str | None, size: RowAmount | None
) -> None:
    assert parse_sample(text) == size


@pytest.mark.parametrize("text", ["0", "101%"])
def test_other_sample_sizes_are_rejected(text: str) -> None:
    with pytest.raises(ConfigError, match="invalid --sample"):
        parse_sample(text)


@pytest.mark.parametrize(
    ("size", "units"),
    [
        (RowAmount(percent=50.0), 20),
        (RowAmount(rows=1501), 16),
        (RowAmount(rows=1), MIN_UNITS),
        (RowAmount(rows=9_999_999), 40),
    ],
)
def test_the_size_of_a_sample_in_units(size: RowAmount, units: int) -> None:
    assert units_to_read(size, a_plan(10, 30)) == units
    assert units_to_read(size, a_plan(3)) == 3


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.data())
def test_a_sample_has_each_unit_once_in_the_order_of_the_plan(
    files: list[int], data: st.DataObject
) -> None:
    plan = a_plan(*files)
    units = data.draw(st.integers(1, plan.units))
    drawn = draw(plan, units)
    assert drawn == draw(plan, units)
    names = [file.file.name for file in drawn]
    assert names == sorted(set(names))
    assert sum(len(file.units) for file in drawn) == units
    for file in drawn:
        (whole,) = (one for one in plan.work if one.file.name == file.file.name)
        assert [unit for unit in whole.units if unit in file.units] == list(file.units)


def test_a_sample_of_all_units_is_exact() -> None:
    assert total_of([5, 7, 1], [10, 10, 2], 3, 22) == (13, 0.0)


def test_nineteen_of_twenty_intervals_contain_the_true_total() -> None:
    """Units as they are: unlike one another, the last one small."""
    chance = random.Random(1)
    rows = [*[100] * 199, 13]
    values = [count * chance.lognormvariate(3, 0.4) for count in rows]
    hits = 0
    for _ in range(400):
        chosen = chance.sample(range(200), 20)
        total, off = total_of(
            [values[n] for n in chosen], [rows[n] for n in chosen], 200, sum(rows)
        )
        hits += abs(total - sum(values)) <= off
    assert 370 <= hits < 400
