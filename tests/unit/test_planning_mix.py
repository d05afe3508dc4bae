"""Any mix of files that are done, begun, changed, gone and new comes out right."""

from __future__ import annotations

import dataclasses
import enum

from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_file

from bulkembed.pipeline.run.plan import Plan, make_plan, make_retry_plan
from bulkembed.schemas.inputs import InputFile
from bulkembed.schemas.units import Unit, UnitRecord
from bulkembed.transforms.dataset.records import DatasetState

Row = tuple[str, int]


class Fate(enum.Enum):
    DONE = enum.auto()
    BEGUN = enum.auto()
    CHANGED = enum.auto()
    GONE = enum.auto()
    NEW = enum.auto()


@dataclasses.dataclass(frozen=True)
class Mix:
    """The input as it is now, the records of earlier runs, and the rows that are to do."""

    files: list[InputFile]
    state: DatasetState
    due: list[Row]


def committed(file: InputFile, first: int, rows: int, dead: int) -> UnitRecord:
    return UnitRecord(Unit(file.key, first, rows), rows - dead, dead, 0)


@st.composite
def mixes(draw: st.DrawFn) -> Mix:
    files: list[InputFile] = []
    records: list[UnitRecord] = []
    due: list[Row] = []
    for number in range(draw(st.integers(0, 6))):
        fate, rows = draw(st.sampled_from(Fate)), draw(st.integers(1, 60))
        file = before = a_file(rows, f"{number}.x")
        if fate is Fate.CHANGED:
            file = dataclasses.replace(file, digest="e" * 32, rows=draw(st.integers(0, 60)))
        if fate is not Fate.GONE:
            files.append(file)
        at = 0
        while at < rows and fate is not Fate.NEW:
            size = min(rows - at, draw(st.integers(1, 25)))
            if fate is not Fate.BEGUN or draw(st.booleans()):
                records.append(committed(before, at, size, draw(st.integers(0, size))))
            at += size
        done = {
            row
            for record in records
            if record.unit.file_key == file.key
            for row in range(record.unit.first_row, record.unit.end_row)
        }
        if fate is not Fate.GONE:
            due += [(file.key, row) for row in range(file.rows) if row not in done]
    return Mix(files, DatasetState(tuple(draw(st.permutations(records)))), due)


def rows_of(plan: Plan) -> list[Row]:
    return [
        (unit.file_key, row)
        for work in plan.work
        for unit in work.units
        for row in range(unit.first_row, unit.end_row)
    ]


@given(mixes(), st.integers(1, 40))
def test_what_is_not_covered_is_planned_once_and_nothing_else(mix: Mix, unit_rows: int) -> None:
    plan = make_plan(mix.files, mix.state, unit_rows)
    assert rows_of(plan) == mix.due
    assert plan.rows == sum(file.rows for file in mix.files)


@given(mixes(), st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), max_size=5))
def test_runs_that_end_anywhere_leave_the_rest_to_the_next(
    mix: Mix, runs: list[tuple[int, int]]
) -> None:
    state, done = mix.state, []
    for unit_rows, limit in [*runs, (7, 10**6)]:
        plan = make_plan(mix.files, state, unit_rows, limit)
        done += rows_of(plan)
        new = [UnitRecord(u, u.rows, 0, 0) for work in plan.work for u in work.units]
        state = DatasetState((*state.records, *new))
    assert sorted(done) == sorted(mix.due)
    assert make_plan(mix.files, state, 3).work == ()


@given(mixes())
def test_a_retry_takes_the_units_with_dead_rows_of_files_that_are_there(mix: Mix) -> None:
    plan = make_retry_plan(mix.files, mix.state, None)
    current = {file.key for file in mix.files}
    wanted = [r for r in mix.state.records if r.dead and r.unit.file_key in current]
    taken = [record for work in plan.work for record in work.retry_of]
    assert sorted(taken, key=lambda r: r.unit) == sorted(wanted, key=lambda r: r.unit)
    assert all(work.units == tuple(r.unit for r in work.retry_of) for work in plan.work)
    assert plan.planned_rows == sum(record.dead for record in wanted)
    assert plan.remaining_rows == len(mix.due)
