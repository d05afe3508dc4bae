from __future__ import annotations

import dataclasses
import itertools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.units import CallCounts, Unit, UnitRecord, count_codes
from bulkembed.transforms.dataset.layout import is_part_name, part_name, part_stem, record_name
from bulkembed.transforms.dataset.records import (
    DatasetState,
    decode_record,
    encode_record,
    named_record,
)

COUNT = st.integers(0, 99_999)
NAME = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)


@st.composite
def records(draw: st.DrawFn) -> UnitRecord:
    embedded, dead, skipped = draw(COUNT), draw(COUNT), draw(COUNT)
    removed = draw(st.just(0) | COUNT)
    unit = Unit(
        draw(st.text("0123456789abcdef", min_size=16, max_size=16)),
        draw(st.integers(0, 10**12 - 1)),
        embedded + dead + skipped + removed,
    )
    part = st.sampled_from(["", "-g1", "-g12-n3", "-n7"]).map(
        lambda end: f"{part_stem(unit)}{end}.parquet"
    )
    return UnitRecord(
        unit, embedded, dead, skipped, draw(st.integers(0, 20)), draw(NAME), draw(NAME),
        count_codes(draw(st.lists(st.sampled_from(DeadCode), max_size=5))),
        CallCounts(*draw(st.tuples(*[COUNT] * 6))),
        tuple(draw(st.lists(part, max_size=2))),
        draw(st.none() | part), draw(COUNT),
        part_bytes=draw(st.none() | st.integers(0, 10**10)),
        removed=removed,
        **draw(st.just({}) | st.fixed_dictionaries(
            {"run_number": st.integers(0, 10**6), "embedding_digest": st.just("0123456789abcdef")}
        )),
    )  # fmt: skip


@given(records())
def test_a_record_is_read_back_from_its_json(record: UnitRecord) -> None:
    assert decode_record(encode_record(record), record_name(record)) == record


@given(records())
def test_the_name_of_a_record_has_its_rows_and_its_counts(record: UnitRecord) -> None:
    named = named_record(record_name(record))
    assert named == UnitRecord(
        record.unit, record.embedded, record.dead, record.skipped, record.generation,
        part_bytes=record.part_bytes, run_number=record.run_number,
        embedding_digest=record.embedding_digest, removed=record.removed,
    )  # fmt: skip


def test_names_sort_by_file_and_row() -> None:
    names = [record_name(UnitRecord(Unit("a" * 16, row, 5), 5, 0, 0)) for row in (0, 5, 10, 1000)]
    assert names == sorted(names)


@pytest.mark.parametrize(
    "name", ["", "x.json", ".tmp-1234-" + "a" * 16 + "-000000000000-00000001-e1-d0-s0-g0-b10.json",
             "A" * 16 + "-000000000000-00000001-e1-d0-s0-g0-b10.json", "checkpoint.parquet"],
)  # fmt: skip
def test_the_name_of_another_file_is_not_a_record(name: str) -> None:
    assert named_record(name) is None


def test_a_renamed_record_is_rejected() -> None:
    with pytest.raises(OutputError, match="Was the file renamed"):
        named_record("a" * 16 + "-000000000000-00000009-e1-d0-s0-g0-b10.json")


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"unit": 1}', b"\xff"])
def test_the_error_for_a_damaged_record_names_it_and_the_cure(data: bytes) -> None:
    with pytest.raises(OutputError, match=r"_run/units/name.json is damaged .*verify --repair OUT"):
        decode_record(data, "name.json")


OTHER_UNIT = "part-" + "b" * 16 + "-000000000000-00000005.parquet"


@pytest.mark.parametrize(
    "change",
    [
        {"embedded": 4, "dead": 1},
        {"embedded": 4},
        {"unit": {"file_key": "b" * 16, "first_row": 0, "rows": 5}},
        {"unit": {"file_key": 7, "first_row": 0, "rows": 5}},
        {"unit": {"file_key": "a" * 16, "first_row": "0", "rows": 5}},
        {"unit": []},
        {"generation": 1},
        {"generation": None},
        {"part_bytes": 11},
        {"part_bytes": "10"},
        {"vector_parts": ["../../x.parquet"]},
        {"vector_parts": ["../vectors/part-" + "a" * 16 + "-000000000000-00000005.parquet"]},
        {"vector_parts": [OTHER_UNIT]},
        {"vector_parts": [None]},
        {"vector_parts": 7},
        {"dead_part": "../../../etc/passwd"},
        {"dead_part": OTHER_UNIT},
        {"dead_part": 7},
        {"dead_part": ""},
        {"codes": []},
        {"codes": {"no such code": 1}},
        {"codes": {"refused": "1"}},
        {"counts": {"calls": None}},
        {"counts": {"calls": 1.5}},
        {"counts": {"calls": True}},
        {"counts": []},
        {"vectors": -1},
        {"seconds": "?"},
        {"source_file": None},
    ],
    ids=str,
)
def test_a_record_that_contradicts_its_name_or_names_other_files_is_rejected(
    change: dict[str, object],
) -> None:
    unit = Unit("a" * 16, 0, 5)
    record = UnitRecord(unit, 5, 0, 0, vector_parts=(f"{part_stem(unit)}.parquet",), part_bytes=10)
    content = {**json.loads(encode_record(record)), **change}
    with pytest.raises(OutputError, match=r"is damaged .*verify --repair OUT"):
        decode_record(json.dumps(content).encode(), record_name(record))


@pytest.mark.parametrize("name", ["generation", "codes", "counts", "vector_parts", "dead_part"])
def test_a_record_without_a_field_that_every_version_writes_is_rejected(name: str) -> None:
    record = UnitRecord(Unit("a" * 16, 0, 5), 5, 0, 0)
    content = json.loads(encode_record(record))
    del content[name]
    with pytest.raises(OutputError, match=r"is damaged .*verify --repair OUT"):
        decode_record(json.dumps(content).encode(), record_name(record))


def test_fields_of_a_later_version_are_ignored() -> None:
    record = UnitRecord(Unit("a" * 16, 0, 5), 5, 0, 0)
    content = json.loads(encode_record(record))
    content |= {"later": {"x": 1}, "counts": {**content["counts"], "later": "y"}}
    assert decode_record(json.dumps(content).encode(), record_name(record)) == record


def test_the_rows_of_a_record_must_add_up() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        UnitRecord(Unit("a" * 16, 0, 5), 3, 1, 0)


def test_a_second_attempt_overwrites_its_part_but_another_run_or_generation_does_not() -> None:
    record = UnitRecord(Unit("a" * 16, 0, 5), 5, 0, 0, run_number=7)
    again = dataclasses.replace(record, embedded=4, dead=1)
    names = {
        part_name(one)
        for one in (
            record,
            dataclasses.replace(record, generation=1),
            dataclasses.replace(record, run_number=8),
            dataclasses.replace(record, run_number=0),
        )
    }
    assert part_name(again) == part_name(record)
    assert len(names) == 4
    assert all(is_part_name(name) for name in names)


def test_counts_add_up() -> None:
    assert CallCounts(1, 2, 3, 4, 5) + CallCounts(10, 20, 30, 40, 50) == CallCounts(
        11, 22, 33, 44, 55
    )


def test_a_record_of_a_version_without_sizes_can_be_read() -> None:
    name = "a" * 16 + "-000000000000-00000001-e1-d0-s0-g0.json"
    record = named_record(name)
    assert record is not None
    assert record.part_bytes is None
    assert record_name(record) == name


DIGESTS = ("a" * 16, "b" * 16)


def a_record(
    first: int, rows: int, run_number: int = 0, generation: int = 0, digest: str = DIGESTS[0]
) -> UnitRecord:
    unit = Unit("a" * 16, first, rows)
    return UnitRecord(unit, rows, 0, 0, generation, run_number=run_number, embedding_digest=digest)


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        pytest.param([a_record(0, 5), a_record(5, 5)], [0, 1], id="side-by-side"),
        pytest.param([a_record(0, 5, 2), a_record(0, 5, 1)], [0], id="late-commit-of-an-old-run"),
        pytest.param([a_record(0, 5, 2), a_record(0, 3, 1)], [0], id="late-prefix"),
        pytest.param([a_record(0, 3, 2), a_record(0, 5, 1)], [0], id="late-unit-around-a-prefix"),
        pytest.param([a_record(5, 5, 2), a_record(0, 7, 1)], [0], id="late-overlap"),
        pytest.param([a_record(0, 5, 2), a_record(0, 5, 1, 3)], [0], id="run-before-generation"),
        pytest.param([a_record(0, 5, 2, 1), a_record(0, 5, 2)], [0], id="retry"),
        pytest.param([a_record(0, 5), a_record(0, 3)], [0], id="doubled-by-an-older-version"),
        pytest.param([a_record(0, 5, 3), a_record(3, 5, 2), a_record(6, 5, 1)], [0, 2], id="chain"),
        pytest.param([a_record(0, 5, 9, digest=DIGESTS[1])], [], id="another-digest"),
        pytest.param([a_record(0, 5, digest="")], [0], id="older-version"),
    ],
)
def test_of_overlapping_records_those_of_the_newer_run_count_in_any_order(
    found: list[UnitRecord], counts: list[int]
) -> None:
    wanted = sorted((found[at] for at in counts), key=lambda record: record.unit)
    for order in itertools.permutations(found):
        assert DatasetState.of(order, DIGESTS[0]).records == tuple(wanted)


def test_records_of_runs_before_an_overwrite_do_not_count() -> None:
    old, new = a_record(0, 5, 3), a_record(5, 5, 4)
    assert DatasetState.of([a_record(10, 5, 0, digest=""), old, new], DIGESTS[0], 4).records == (
        new,
    )


@given(
    st.lists(
        st.builds(
            a_record, st.integers(0, 40), st.integers(1, 12), st.integers(0, 3), st.integers(0, 2)
        ),
        max_size=12,
    ),
    st.randoms(),
)
def test_no_row_is_covered_twice_and_each_ignored_record_overlaps_a_newer_one(
    found: list[UnitRecord], chance: random.Random
) -> None:
    def rows(record: UnitRecord) -> set[int]:
        return set(range(record.unit.first_row, record.unit.end_row))

    kept = DatasetState.of(found).records
    covered = [row for record in kept for row in sorted(rows(record))]
    assert covered == sorted(set(covered))
    for record in set(found) - set(kept):
        rivals = [other for other in kept if rows(other) & rows(record)]
        assert any(
            (other.run_number, other.generation, other.unit.rows)
            >= (record.run_number, record.generation, record.unit.rows)
            for other in rivals
        )
    shuffled = chance.sample(found, len(found))
    assert DatasetState.of(shuffled).records == kept
