"""Records of groups: their names, their content, and which of their units count."""

from __future__ import annotations

import collections
import dataclasses
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.units import CallCounts, GroupRecord, Unit, UnitRecord, count_codes
from bulkembed.transforms.dataset.groups import (
    decode_group,
    encode_group,
    from_footer,
    group_key,
    to_footer,
    with_members,
)
from bulkembed.transforms.dataset.layout import (
    age_of_part,
    is_group_name,
    is_group_part,
    is_part_name,
    part_name,
    part_of_group,
    record_name,
    run_number_in,
)
from bulkembed.transforms.dataset.records import DatasetState, RecordParts, named_record

DIGEST = "0123456789abcdef"
KEYS = ["a" * 16, "b" * 16, "c" * 16]
COUNT = st.integers(0, 9_999)


@st.composite
def members(draw: st.DrawFn) -> list[UnitRecord]:
    made = []
    for key in KEYS[: draw(st.integers(1, 3))]:
        first = 0
        for _ in range(draw(st.integers(1, 4))):
            embedded, dead, skipped, removed = (draw(COUNT) for _ in range(4))
            rows = embedded + dead + skipped + removed
            made.append(
                UnitRecord(
                    Unit(key, first, rows), embedded, dead, skipped, draw(st.integers(0, 3)),
                    f"{key}.parquet", draw(st.sampled_from(["run-1", "run-2"])),
                    count_codes(draw(st.lists(st.sampled_from(DeadCode), max_size=5))),
                    CallCounts(*draw(st.tuples(*[COUNT] * 6))),
                    vectors=embedded * draw(st.integers(1, 3)), removed=removed,
                    seconds=draw(st.integers(0, 5000)) / 1000,
                )
            )  # fmt: skip
            first += rows + draw(st.integers(1, 9))
    return made


def partitioned(record: UnitRecord, folders: list[str]) -> UnitRecord:
    """The same unit with its vectors spread over parts in these folders, as after a retry."""
    rows = {f"{folder}/part-{at}": 0 for at, folder in enumerate(folders)}
    for at, part in enumerate(rows):
        rows[part] = record.vectors * (at + 1) // len(rows) - record.vectors * at // len(rows)
    some = {part: count for part, count in rows.items() if count}
    return dataclasses.replace(record, is_partitioned=True).in_parts(some)


@st.composite
def groups(draw: st.DrawFn) -> GroupRecord:
    units = draw(members())
    if draw(st.booleans()):
        folders = st.lists(st.sampled_from(["k=a", "k=b", "k="]), min_size=1, max_size=4)
        units = [partitioned(one, draw(folders)) for one in units]
    bare = GroupRecord(
        group_key((one.unit for one in units), 3), (), draw(st.integers(0, 5)), "run-3",
        draw(st.integers(1, 99)), DIGEST, draw(COUNT),
    )  # fmt: skip
    return with_members(bare, units)


@given(groups())
def test_a_group_is_read_back_from_its_json_and_from_the_footer_of_its_parts(
    group: GroupRecord,
) -> None:
    assert decode_group(encode_group(group), record_name(group)) == group
    assert from_footer(to_footer(group)) == group


@given(groups())
def test_the_names_of_a_group_are_recognized(group: GroupRecord) -> None:
    name, part = record_name(group), part_name(group)
    assert is_group_name(name)
    assert named_record(name) is None
    assert run_number_in(name) == group.run_number
    assert part_of_group(name) == part
    assert is_part_name(part)
    assert is_group_part(part)
    assert age_of_part(f"vectors/{part}") == group.age
    assert {record_name(member) for member in group.members} == {name}


@given(groups())
def test_the_rows_of_the_units_follow_each_other_in_the_parts(group: GroupRecord) -> None:
    dead = 0
    ends: collections.Counter[str] = collections.Counter()
    for member in group.members:
        assert member.place is not None
        for name, first, rows in member.spans():
            assert first == ends[name]
            ends[name] += rows
        assert sum(rows for _, _, rows in member.spans()) == member.vectors
        assert member.place.first_dead == dead
        dead += member.dead + member.skipped
    parts = RecordParts.of(group)
    assert parts.vectors == tuple(sorted(f"vectors/{name}" for name in ends))
    assert len(parts.dead_letters) == (dead > 0)
    for member in group.members:
        assert set(RecordParts.of(member).all) <= set(parts.all)


@pytest.mark.parametrize(
    "change",
    [
        {"embedded": [4]},
        {"embedded": [5, 5]},
        {"rows": [-5]},
        {"file": [1]},
        {"run": [-1]},
        {"files": []},
        {"part_bytes": 1},
        {"key": "b" * 16},
        {"codes": {"0": {"no such code": 1}}},
        {"first_row": "0"},
        {"calls": None},
        {"vectors": [], "rows": [], "file": [], "run": []},
        {name: [0, 0] for name in ("file", "run", "first_row", "skipped", "removed", "seconds",
                                   "dead", "calls", "retried", "texts", "tokens", "repeated",
                                   "reused")}
        | {name: [5, 5] for name in ("rows", "embedded", "vectors")},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_record_is_rejected_and_named(change: dict[str, object]) -> None:
    unit = UnitRecord(Unit("a" * 16, 0, 5), 5, 0, 0, source_file="a", run_id="r", vectors=5)
    group = with_members(GroupRecord("c" * 16, (), 0, "r", 7, DIGEST), [unit])
    content = {**json.loads(encode_group(group)), **change}
    with pytest.raises(OutputError, match=r"_run/units/group-.* is damaged .*verify --repair OUT"):
        decode_group(json.dumps(content).encode(), record_name(group))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff"])
def test_a_file_without_a_record_is_rejected(data: bytes) -> None:
    with pytest.raises(OutputError, match="is damaged"):
        decode_group(data, "name.json")


def unit(first: int, rows: int, run_number: int, key: str = KEYS[0]) -> UnitRecord:
    return UnitRecord(
        Unit(key, first, rows), rows, 0, 0, vectors=rows, run_number=run_number,
        embedding_digest=DIGEST,
    )  # fmt: skip


def group(key: str, units: list[UnitRecord], run_number: int, generation: int = 0) -> GroupRecord:
    return with_members(GroupRecord(key * 16, (), generation, "r", run_number, DIGEST), units)


def counted(state: DatasetState) -> list[tuple[int, int]]:
    return [(one.unit.first_row, one.run_number) for one in state.records]


SINGLE = [unit(0, 5, 1), unit(5, 5, 1), unit(10, 5, 1)]
BOTH = group("a", SINGLE[:2], 2)


def test_a_group_wins_over_the_units_that_it_replaces() -> None:
    state = DatasetState.of(SINGLE, DIGEST, groups=[BOTH])
    assert counted(state) == [(0, 2), (5, 2), (10, 1)]
    assert [*state.parts_records()] == [SINGLE[2], BOTH]
    assert state.covered() == {KEYS[0]: [(0, 5), (5, 5), (10, 5)]}
    assert state.units_of(BOTH) == list(BOTH.members)


def test_a_late_record_of_an_older_run_does_not_bring_a_unit_of_a_group_back() -> None:
    late = [unit(0, 5, 1), unit(3, 4, 1), unit(0, 10, 1)]
    state = DatasetState.of(late, DIGEST, groups=[BOTH])
    assert counted(state) == [(0, 2), (5, 2)]


def test_a_unit_that_was_removed_from_a_group_does_not_come_back_with_its_old_record() -> None:
    shrunk = group("a", SINGLE[:1], 2, generation=1)
    for order in ([BOTH, shrunk], [shrunk, BOTH]):
        state = DatasetState.of([], DIGEST, groups=order)
        assert counted(state) == [(0, 2)]
        assert state.groups == (shrunk,)


def test_a_group_of_groups_replaces_them() -> None:
    whole = group("b", [*BOTH.members, SINGLE[2]], 3)
    state = DatasetState.of(SINGLE, DIGEST, groups=[whole, BOTH])
    assert counted(state) == [(0, 3), (5, 3), (10, 3)]
    assert state.groups == (whole,)


def test_groups_of_overwritten_runs_and_of_other_settings_do_not_count() -> None:
    assert DatasetState.of([], DIGEST, 3, [BOTH]) == DatasetState()
    assert DatasetState.of([], "f" * 16, 0, [BOTH]) == DatasetState()
    other = dataclasses.replace(BOTH, run_number=9, embedding_digest="f" * 16)
    assert counted(DatasetState.of(SINGLE, DIGEST, 0, [BOTH, other])) == [(0, 2), (5, 2), (10, 1)]


def test_removing_a_group_from_the_state_removes_its_record_once() -> None:
    state = DatasetState.of(SINGLE, DIGEST, groups=[BOTH]).without(frozenset(BOTH.members))
    assert counted(state) == [(10, 1)]
    assert state.groups == ()
    assert state.stale == (record_name(BOTH),)


@given(st.integers(0, 2**32))
def test_the_state_does_not_depend_on_the_order_of_records(seed: int) -> None:
    chance = random.Random(seed)
    units = [
        unit(chance.randrange(0, 40, 5), 5 * chance.randint(1, 3), chance.randint(1, 4))
        for _ in range(chance.randint(0, 8))
    ]
    found = [
        group(
            chance.choice("abc"),
            [unit(first, 5, 1) for first in sorted(chance.sample(range(0, 60, 5), 3))],
            chance.randint(1, 4),
            chance.randint(0, 2),
        )
        for _ in range(chance.randint(0, 4))
    ]
    found = list({(one.key, one.age): one for one in found}.values())
    expected = DatasetState.of(units, DIGEST, groups=found)
    chance.shuffle(units)
    chance.shuffle(found)
    assert DatasetState.of(units, DIGEST, groups=found) == expected
    rows = [row for one in expected.records for row in range(one.unit.first_row, one.unit.end_row)]
    assert len(rows) == len(set(rows))
