from __future__ import annotations

from schemas.inputs import FileFormat, FoundFile, InputFile
from schemas.units import FileUnits, Unit, UnitRecord

FILE = InputFile(FoundFile("/a.parquet", "a.parquet", 1, 1, FileFormat.PARQUET), "d", 6)
UNITS = tuple(Unit("k", first, 2) for first in (0, 2, 4))


def test_units_that_are_committed_are_left_out_when_a_slice_comes_again() -> None:
    assert FileUnits(FILE, UNITS).without({(UNITS[1], 0)}).units == (UNITS[0], UNITS[2])


def test_a_retry_is_left_out_once_its_next_generation_is_committed() -> None:
    redo = tuple(UnitRecord(unit, 1, 1, 0) for unit in UNITS)
    left = FileUnits(FILE, UNITS, redo).without({(UNITS[0], 0), (UNITS[2], 1)})
    assert left.units == UNITS[:2]
    assert left.redo == redo[:2]
