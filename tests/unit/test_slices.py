from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.jobs import a_file

from bulkembed.schemas.units import FileUnits, Unit, UnitRecord
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.units.slices import remaining_units

FILE = a_file(30)
RUN = st.tuples(st.integers(0, 29), st.integers(1, 9))


def due(file_units: FileUnits, *records: UnitRecord) -> FileUnits:
    state = DatasetState(records)
    return remaining_units(file_units, state, state.covered())


def rows_of(units: tuple[Unit, ...]) -> list[int]:
    return [row for unit in units for row in range(unit.first_row, unit.end_row)]


@given(st.lists(RUN, max_size=5), st.integers(1, 10))
def test_committed_rows_are_skipped_if_a_slice_is_handed_out_again(
    done: list[tuple[int, int]], unit_rows: int
) -> None:
    units = tuple(Unit(FILE.key, first, unit_rows) for first in range(0, 30 - unit_rows, unit_rows))
    records = [UnitRecord(Unit(FILE.key, first, rows), rows, 0, 0) for first, rows in done]
    left = due(FileUnits(FILE, units), *records).units
    committed = {row for record in records for row in rows_of((record.unit,))}
    assert rows_of(left) == [row for row in rows_of(units) if row not in committed]
    of_unit = [{row // unit_rows for row in rows_of((unit,))} for unit in left]
    assert all(len(numbers) == 1 for numbers in of_unit)


def test_a_retry_is_skipped_once_its_next_generation_is_committed() -> None:
    units = tuple(Unit(FILE.key, first, 2) for first in (0, 2, 4))
    retry_of = tuple(UnitRecord(unit, 1, 1, 0) for unit in units)
    again = [UnitRecord(units[0], 1, 1, 0), UnitRecord(units[2], 1, 1, 0, generation=1)]
    left = due(FileUnits(FILE, units, retry_of), *again)
    assert left.units == units[:2]
    assert left.retry_of == retry_of[:2]
