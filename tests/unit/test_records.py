from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.deadletters import DeadCode
from schemas.errors import OutputError
from schemas.units import CallCounts, Unit, UnitRecord, count_codes
from transforms.storage.part_files import part_name
from transforms.storage.records import decode_record, encode_record, parse_name, record_name

COUNT = st.integers(0, 99_999)
NAME = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)


@st.composite
def records(draw: st.DrawFn) -> UnitRecord:
    embedded, dead, skipped = draw(COUNT), draw(COUNT), draw(COUNT)
    unit = Unit(
        draw(st.text("0123456789abcdef", min_size=16, max_size=16)),
        draw(st.integers(0, 10**12 - 1)),
        embedded + dead + skipped,
    )
    return UnitRecord(
        unit, embedded, dead, skipped, draw(st.integers(0, 20)), draw(NAME), draw(NAME),
        count_codes(draw(st.lists(st.sampled_from(DeadCode), max_size=5))),
        CallCounts(*draw(st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT))),
        tuple(draw(st.lists(NAME, max_size=2))),
        draw(st.none() | NAME), draw(COUNT),
        part_bytes=draw(st.none() | st.integers(0, 10**10)),
    )  # fmt: skip


@given(records())
def test_a_record_comes_back_from_its_file_whole(record: UnitRecord) -> None:
    assert decode_record(encode_record(record), record_name(record)) == record


@given(records())
def test_a_records_name_alone_tells_what_it_covers_and_the_counts(record: UnitRecord) -> None:
    told = parse_name(record_name(record))
    assert told == UnitRecord(
        record.unit, record.embedded, record.dead, record.skipped, record.generation,
        part_bytes=record.part_bytes,
    )  # fmt: skip


def test_names_sort_by_file_and_row() -> None:
    names = [record_name(UnitRecord(Unit("a" * 16, row, 5), 5, 0, 0)) for row in (0, 5, 10, 1000)]
    assert names == sorted(names)


@pytest.mark.parametrize(
    "name", ["", "x.json", ".tmp-1234-" + "a" * 16 + "-000000000000-00000001-e1-d0-s0-g0-b10.json",
             "A" * 16 + "-000000000000-00000001-e1-d0-s0-g0-b10.json", "checkpoint.parquet"],
)  # fmt: skip
def test_another_files_name_is_no_record(name: str) -> None:
    assert parse_name(name) is None


def test_a_record_that_was_renamed_is_not_believed() -> None:
    with pytest.raises(OutputError, match="was the file renamed"):
        parse_name("a" * 16 + "-000000000000-00000009-e1-d0-s0-g0-b10.json")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"unit": 1}', b"\xff"])
def test_a_damaged_record_is_named_with_its_cure(data: bytes) -> None:
    with pytest.raises(OutputError, match=r"_run/units/name.json is damaged .*delete it"):
        decode_record(data, "name.json")


def test_rows_of_a_record_have_to_add_up() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        UnitRecord(Unit("a" * 16, 0, 5), 3, 1, 0)


def test_a_second_try_of_a_unit_overwrites_its_part_and_a_new_generation_does_not() -> None:
    unit = Unit("a" * 16, 0, 5)
    assert part_name(unit, 0) == part_name(dataclasses.replace(unit), 0)
    assert part_name(unit, 0) != part_name(unit, 1)


def test_counts_add_up() -> None:
    assert CallCounts(1, 2, 3, 4, 5) + CallCounts(10, 20, 30, 40, 50) == CallCounts(
        11, 22, 33, 44, 55
    )


def test_a_record_from_before_sizes_were_kept_is_still_one() -> None:
    name = "a" * 16 + "-000000000000-00000001-e1-d0-s0-g0.json"
    told = parse_name(name)
    assert told is not None
    assert told.part_bytes is None
    assert record_name(told) == name
