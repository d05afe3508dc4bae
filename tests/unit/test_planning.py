from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_file

from bulkembed.pipeline.run.plan import (
    PIECES_PER_WORKER,
    Plan,
    cluster_slices,
    local_slices,
    make_plan,
)
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.units import PlanSlice, Unit, UnitRecord
from bulkembed.transforms.dataset.records import DatasetState

ROWS = st.integers(0, 90)
COVERED = st.lists(st.tuples(st.integers(0, 90), st.integers(1, 40)), max_size=4)
COMPRESSION = st.sampled_from([None, "gzip"])
UNIT_ROWS = st.integers(1, 50)
LIMIT = st.none() | st.integers(1, 150)
Row = tuple[str, int]


@st.composite
def inputs(draw: st.DrawFn) -> tuple[list[InputFile], DatasetState]:
    files, records = [], []
    for number in range(draw(st.integers(0, 4))):
        file = a_file(draw(ROWS), f"{number}.x", draw(COMPRESSION))
        files.append(file)
        for first, count in draw(COVERED):
            records.append(UnitRecord(Unit(file.key, first, count), count, 0, 0))
    return files, DatasetState(tuple(records))


def rows_of_units(plan: Plan) -> list[Row]:
    return [
        (unit.file_key, row)
        for work in plan.work
        for unit in work.units
        for row in range(unit.first_row, unit.end_row)
    ]


def rows_of_slices(found: list[PlanSlice]) -> list[Row]:
    return [
        (unit.file_key, row)
        for one in found
        for work in one.files
        for unit in work.units
        for row in range(unit.first_row, unit.end_row)
    ]


def cut_for(plan: Plan, workers: int | None) -> Iterator[PlanSlice]:
    return local_slices(plan, workers) if workers else cluster_slices(plan, None)


def left_of(files: list[InputFile], state: DatasetState) -> list[Row]:
    done = {
        (record.unit.file_key, row)
        for record in state.records
        for row in range(record.unit.first_row, record.unit.end_row)
    }
    every = [(file.key, row) for file in files for row in range(file.rows)]
    return [row for row in every if row not in done]


@given(inputs(), UNIT_ROWS)
def test_each_row_that_is_left_is_planned_once_and_in_order(
    found: tuple[list[InputFile], DatasetState], unit_rows: int
) -> None:
    files, state = found
    plan = make_plan(files, state, unit_rows)
    left = left_of(files, state)
    assert rows_of_units(plan) == left
    assert plan.planned_rows == plan.remaining_rows == len(left)
    assert plan.rows == sum(file.rows for file in files)
    assert all(0 < unit.rows <= unit_rows for work in plan.work for unit in work.units)


@given(inputs(), UNIT_ROWS, st.integers(1, 150))
def test_a_limit_takes_the_first_rows_that_are_left(
    found: tuple[list[InputFile], DatasetState], unit_rows: int, limit: int
) -> None:
    files, state = found
    plan = make_plan(files, state, unit_rows, limit)
    left = left_of(files, state)
    assert rows_of_units(plan) == left[:limit]
    assert plan.remaining_rows == len(left)
    assert plan.planned_rows == min(limit, len(left))


@given(inputs(), UNIT_ROWS, LIMIT, UNIT_ROWS)
def test_runs_of_any_sizes_one_after_the_other_do_each_row_once(
    found: tuple[list[InputFile], DatasetState], unit_rows: int, limit: int | None, other: int
) -> None:
    files, state = found
    first = make_plan(files, state, unit_rows, limit)
    done = [UnitRecord(u, u.rows, 0, 0) for work in first.work for u in work.units]
    after = DatasetState(state.records + tuple(done))
    second = make_plan(files, after, other)
    assert sorted(rows_of_units(first) + rows_of_units(second)) == sorted(left_of(files, state))


@given(inputs(), UNIT_ROWS, LIMIT, st.none() | st.integers(1, 9))
def test_slices_hold_every_unit_once_and_those_of_a_file_ascend(
    found: tuple[list[InputFile], DatasetState],
    unit_rows: int,
    limit: int | None,
    workers: int | None,
) -> None:
    plan = make_plan(*found, unit_rows, limit)
    cut = list(cut_for(plan, workers))
    assert sorted(rows_of_slices(cut)) == sorted(rows_of_units(plan))
    assert sum(one.rows for one in cut) == plan.planned_rows
    assert all(one.files and all(work.units for work in one.files) for one in cut)
    assert workers is None or len(cut) <= workers
    for one in cut:
        keys = [work.file.key for work in one.files]
        assert workers is None or len(keys) == len(set(keys))
        assert all(sorted(work.units) == list(work.units) for work in one.files)


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=9), st.integers(2, 9))
def test_workers_get_the_same_number_of_rows_but_for_a_piece(
    sizes: list[int], workers: int
) -> None:
    plan = make_plan([a_file(rows, str(n)) for n, rows in enumerate(sizes)], DatasetState(), 10)
    rows = [one.rows for one in local_slices(plan, workers)]
    rows += [0] * (workers - len(rows))
    piece = 10 * math.ceil(plan.units / (workers * PIECES_PER_WORKER))
    assert max(rows) - min(rows) <= piece


def test_each_worker_gets_rows_from_all_over_a_file() -> None:
    one, two = local_slices(make_plan([a_file(3200)], DatasetState(), 10), 2)
    for half in (one, two):
        assert {unit.first_row // 400 for unit in half.files[0].units} == set(range(8))


@given(inputs(), UNIT_ROWS, st.none() | st.integers(1, 9))
def test_a_file_that_is_read_from_its_beginning_is_in_one_slice(
    found: tuple[list[InputFile], DatasetState], unit_rows: int, workers: int | None
) -> None:
    cut = list(cut_for(make_plan(*found, unit_rows), workers))
    for file in found[0]:
        if not file.can_seek:
            holding = [one for one in cut if any(work.file.key == file.key for work in one.files)]
            assert len(holding) <= 1


def test_a_file_that_changed_is_another_file() -> None:
    file = a_file(10)
    changed = dataclasses.replace(file, digest="e" * 32)
    moved = dataclasses.replace(
        file, found=dataclasses.replace(file.found, path="/elsewhere/a.parquet", mtime_ns=99)
    )
    state = DatasetState((UnitRecord(Unit(file.key, 0, 10), 10, 0, 0),))
    assert make_plan([changed], state, 5).planned_rows == 10
    assert make_plan([moved], state, 5).planned_rows == 0


def test_a_known_number_of_workers_gets_as_many_slices() -> None:
    plan = make_plan([a_file(1000, "a"), a_file(1000, "b")], DatasetState(), 10)
    assert len(list(local_slices(plan, 1))) == 1
    assert len(list(local_slices(plan, 4))) == 4


@pytest.mark.parametrize(
    ("units", "workers", "most"),
    [
        pytest.param(3, 8, 1, id="fewer-units-than-workers"),
        pytest.param(320, 8, 10, id="four-slices-a-worker"),
        pytest.param(320, None, 20, id="four-workers-where-nobody-says"),
        pytest.param(9000, 2, 40, id="no-slice-takes-hours"),
    ],
)
def test_an_engine_gets_slices_by_its_workers(units: int, workers: int | None, most: int) -> None:
    plan = make_plan([a_file(units)], DatasetState(), 1)
    sizes = [one.rows for one in cluster_slices(plan, workers)]
    assert max(sizes) == most
    assert sum(sizes) == units


def test_small_files_count_by_their_rows() -> None:
    small = [a_file(5, f"small-{n}") for n in range(2000)]
    files = [a_file(100_000, "large"), *small]
    plan = make_plan(files, DatasetState(), 2500)
    sizes = [one.rows for one in local_slices(plan, 2)]
    assert sizes == [55_000, 55_000]
    sizes = [one.rows for one in cluster_slices(make_plan(small, DatasetState(), 2500), 4)]
    assert max(sizes) <= 640
    assert len(sizes) <= 20
