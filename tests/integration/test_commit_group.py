"""Committing several units as a group: the same parts and places as those of merged units."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.committed import DIGEST, ids

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputTaken
from bulkembed.schemas.job import OutputConfig, RunStamp
from bulkembed.schemas.units import Unit, UnitRecord
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.commit import UnitTables, commit_group
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.groups import from_footer
from bulkembed.transforms.dataset.replace import withdraw_replaced
from bulkembed.transforms.dataset.unit_rows import UnitRows

KIND = pa.list_(pa.field("element", pa.float32(), nullable=False), 2)
LANGS = ["de", "en", "fr"]


@dataclasses.dataclass(frozen=True)
class Small:
    """A unit whose rows with vectors have ids and languages, and that has blank rows."""

    record: UnitRecord
    ids: list[int]
    langs: list[str]


def small(number: int, langs: Sequence[str], blank: int = 0, run_number: int = 1) -> Small:
    rows = len(langs)
    record = UnitRecord(
        Unit(f"{number:016x}", 0, rows + blank), rows, 0, blank,
        source_file=f"f{number}", run_id=f"run-{run_number}",
        codes=((DeadCode.BLANK_TEXT, blank),) if blank else (),
        vectors=rows, run_number=run_number, embedding_digest=DIGEST,
    )  # fmt: skip
    return Small(record, list(range(100 * number, 100 * number + rows)), list(langs))


def tables(units: Sequence[Small]) -> UnitTables:
    found = [one for unit in units for one in unit.ids]
    flat = pa.array(np.repeat(np.array(found, "float32"), 2))
    names = [unit.record.source_file for unit in units for _ in unit.ids]
    vectors = pa.table(
        {
            "id": pa.array(found, pa.int64()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, type=KIND),
            "lang": pa.array([one for unit in units for one in unit.langs], pa.string()),
            "source_file": pa.array(names, pa.string()),
        }
    )
    blank = [unit.record.source_file for unit in units for _ in range(unit.record.skipped)]
    codes = ["blank_text"] * len(blank)
    dead = pa.table({"id": range(-len(blank), 0), "source_file": blank, "code": codes})
    return UnitTables(vectors if found else None, dead if blank else None)


def commit(dataset: Dataset, *units: Small, by: str | None = None) -> tuple[UnitRecord, ...]:
    output = OutputConfig(uri=dataset.root, partition_by=by)
    return commit_group(dataset, output, [unit.record for unit in units], tables(units))


UNITS = st.lists(
    st.tuples(st.lists(st.sampled_from(LANGS), max_size=4), st.integers(0, 2)).filter(
        lambda unit: unit[0] or unit[1]
    ),
    min_size=2,
    max_size=5,
)


@pytest.mark.parametrize("by", [None, "lang"])
@given(found=UNITS)
def test_each_unit_has_its_rows_at_its_place(
    tmp_path_factory: pytest.TempPathFactory, by: str | None, found: list[tuple[list[str], int]]
) -> None:
    dataset = Dataset.open(str(tmp_path_factory.mktemp("out")))
    units = [small(number, *one) for number, one in enumerate(found, start=1)]
    members = commit(dataset, *units, by=by)
    state = Dataset.open(dataset.root).state()
    assert list(members) == list(state.records) == list(state.groups[0].members)
    assert len(dataset.names("_run/units")) == 1
    assert dataset.leftovers(state) == []
    assert dataset.check_parts(state) == ([], [])
    rows = UnitRows(dataset, ["id", "lang", "source_file"])
    for unit, record in zip(units, members, strict=True):
        read = [rows.read(span) for span in rows.vectors(record)]
        pairs = [pair for one in read for pair in zip(*map(list, columns(one)), strict=True)]
        assert sorted(pairs) == sorted(zip(unit.ids, unit.langs, strict=True))
        letters = [rows.read(span) for span in rows.dead_letters(record)]
        names = [name for one in letters for name in one["source_file"].to_pylist()]
        assert names == [record.source_file] * record.skipped
    for name in dataset.parts_of(state.groups[0]).all:
        footer = part_files.open_part(dataset, name).schema_arrow.metadata
        rebuilt = from_footer(footer)
        assert rebuilt is not None
        assert [one.unit for one in rebuilt.members] == [one.unit for one in members]


def columns(table: pa.Table) -> tuple[list[int], list[str]]:
    return table["id"].to_pylist(), table["lang"].to_pylist()


def test_a_group_of_a_run_that_lost_the_dataset_is_deleted(tmp_path: Path) -> None:
    dataset = Dataset.open(str(tmp_path / "out"))
    units = [small(1, ["de"]), small(2, ["en"], 1)]

    def taken() -> None:
        raise OutputTaken("another run")

    output = OutputConfig(uri=dataset.root)
    with pytest.raises(OutputTaken):
        commit_group(dataset, output, [one.record for one in units], tables(units), taken)
    assert dataset.names("_run/units") == []
    assert Dataset.open(dataset.root).state().records == ()


def test_units_that_two_groups_have_leave_one_of_them(tmp_path: Path) -> None:
    dataset = Dataset.open(str(tmp_path / "out"))
    one, two, three, four = (small(n, ["de", "en"]) for n in range(1, 5))
    commit(dataset, one, two, three)
    commit(dataset, three, four)
    assert len(ids(dataset, "vectors")) == 10
    state = dataset.state()
    assert len(state.records) == 4
    assert withdraw_replaced(dataset, RunStamp("run-1", 1, DIGEST), state)
    state = dataset.state()
    dataset.delete(dataset.leftovers(state))
    assert list(state.replaced_units()) == []
    expected = [*one.ids, *two.ids, *three.ids, *four.ids]
    assert sorted(ids(dataset, "vectors")) == expected
    assert dataset.check_parts(state) == ([], [])
    assert not withdraw_replaced(dataset, RunStamp("run-1", 1, DIGEST), state)
