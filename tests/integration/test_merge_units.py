"""Merging committed units: few parts with the same rows, and one record for many units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.committed import DIGEST, commit, ids

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputError, OutputTaken
from bulkembed.schemas.job import RunStamp
from bulkembed.schemas.units import GroupRecord, Unit
from bulkembed.transforms.core.hashing import keys
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.committed_vectors import committed_index
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.merge import MergedUnits, merge_units
from bulkembed.transforms.dataset.replace import replace_rows, withdraw_units
from bulkembed.transforms.dataset.unit_rows import UnitRows

KEYS = ["a" * 16, "b" * 16, "c" * 16]
BLANK = DeadCode.BLANK_TEXT
NONE = np.empty(0, np.int64)


def run(number: int) -> RunStamp:
    return RunStamp(f"run-{number}", number, DIGEST)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three units in two files; the ids are 0 to 3, 4 (blank), 10 to 12, 13 (blank), 20 and 21."""
    dataset = Dataset.open(str(tmp_path / "out"))
    commit(dataset, 4, [BLANK], key=KEYS[0])
    commit(dataset, 3, [BLANK], key=KEYS[1], first_id=10)
    commit(dataset, 2, key=KEYS[1], first_row=4, first_id=16)
    return dataset


def merge(dataset: Dataset, number: int = 2) -> MergedUnits:
    made = merge_units(dataset, run(number), list(dataset.state().parts_records()))
    dataset.delete([*made.replaced_records, *made.replaced_parts])
    return made


def group_of(dataset: Dataset) -> GroupRecord:
    (group,) = Dataset.open(dataset.root).state().groups
    return group


def test_the_group_has_the_rows_and_counts_of_its_units(dataset: Dataset) -> None:
    before = dataset.read_records(dataset.state().records)
    merge(dataset)
    assert len(dataset.names("vectors")) == len(dataset.names("dead_letters")) == 1
    assert ids(dataset, "vectors") == [0, 1, 2, 3, 10, 11, 12, 20, 21]
    assert ids(dataset, "dead_letters") == [4, 13]
    after = Dataset.open(dataset.root).state()
    assert len(dataset.names("_run/units")) == len(after.groups) == 1
    for old, new in zip(before, after.records, strict=True):
        same = ("unit", "embedded", "dead", "skipped", "codes", "counts", "run_id", "vectors")
        for name in (*same, "source_file"):
            assert getattr(new, name) == getattr(old, name)
        assert new.run_number == 2
    assert dataset.leftovers(after) == []
    assert dataset.check_parts(after) == ([], [])


def test_until_the_old_files_are_deleted_they_are_leftovers(dataset: Dataset) -> None:
    made = merge_units(dataset, run(2), list(dataset.state().parts_records()))
    state = dataset.state()
    assert len(state.records) == 3
    assert {*dataset.leftovers(state)} == {*made.replaced_records, *made.replaced_parts}


def test_groups_and_single_units_are_merged_again(dataset: Dataset) -> None:
    merge(dataset)
    commit(dataset, 2, key=KEYS[2], first_id=30, run_number=3)
    merge(dataset, 4)
    assert sorted(ids(dataset, "vectors")) == [0, 1, 2, 3, 10, 11, 12, 20, 21, 30, 31]
    assert {one.run_id for one in group_of(dataset).members} == {"run-1", "run-3"}
    assert len(dataset.names("_run/units")) == 1


def test_each_unit_is_read_from_its_place(dataset: Dataset) -> None:
    merge(dataset)
    rows = UnitRows(dataset, ["id"])
    found = {
        record.unit: [
            one
            for span in (*rows.vectors(record), *rows.dead_letters(record))
            for one in rows.read(span)["id"].to_pylist()
        ]
        for record in dataset.state().records
    }
    assert found == {
        Unit(KEYS[0], 0, 5): [0, 1, 2, 3, 4],
        Unit(KEYS[1], 0, 4): [10, 11, 12, 13],
        Unit(KEYS[1], 4, 2): [20, 21],
    }


def test_rows_are_read_across_row_groups(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_files, "ROW_GROUP_BYTES", 1)
    commit(dataset, 5, key=KEYS[2], first_id=30)
    merge(dataset)
    (part,) = dataset.names("vectors")
    assert pq.ParquetFile(dataset.path("vectors", part)).num_row_groups == 4
    check_places(dataset)


def check_places(dataset: Dataset) -> None:
    rows = UnitRows(dataset, ["id"])
    whole = [
        one
        for record in dataset.state().parts_records()
        for part in dataset.parts_of(record).vectors
        for one in pq.read_table(dataset.path(part))["id"].to_pylist()
    ]
    single = [
        one
        for record in dataset.state().records
        for span in rows.vectors(record)
        for one in rows.read(span)["id"].to_pylist()
    ]
    assert single == whole


def test_the_part_of_a_group_is_one_source_of_known_vectors(
    dataset: Dataset, tmp_path: Path
) -> None:
    merge(dataset)
    (name,) = dataset.names("vectors")
    hashes = pq.read_table(dataset.path("vectors", name))["text_hash"].to_pylist()
    index = committed_index(dataset, dataset.state().records, DIGEST, tmp_path)
    found = index.find(np.sort(keys(hashes)))
    assert [part.name for part in index.parts] == [f"vectors/{name}"]
    assert sorted(found.rows.tolist()) == list(range(9))


def test_rows_are_removed_from_a_group(dataset: Dataset) -> None:
    merge(dataset)
    after = replace_rows(dataset, run(3), group_of(dataset), np.array([0, 8, 4]), np.array([1]))
    assert after == group_of(dataset)
    assert ids(dataset, "vectors") == [1, 2, 3, 11, 12, 20]
    assert ids(dataset, "dead_letters") == [4]
    counts = [
        (one.embedded, one.skipped, one.removed, one.vectors)
        for one in Dataset.open(dataset.root).state().records
    ]
    assert counts == [(3, 1, 1, 3), (2, 0, 2, 2), (1, 0, 1, 1)]
    assert Dataset.open(dataset.root).leftovers(dataset.state()) == []
    assert dataset.check_parts(dataset.state()) == ([], [])


def test_a_unit_of_which_all_rows_are_removed_leaves_its_group(dataset: Dataset) -> None:
    merge(dataset)
    replace_rows(dataset, run(3), group_of(dataset), np.array([7, 8]), NONE)
    assert dataset.state().covered() == {KEYS[0]: [(0, 5)], KEYS[1]: [(0, 4)]}
    assert replace_rows(
        dataset, run(4), group_of(dataset), np.arange(7), np.array([0, 1])
    ) is None  # fmt: skip
    assert dataset.state().records == ()
    for folder in ("vectors", "dead_letters", "_run/units"):
        assert dataset.names(folder) == []


def test_units_of_a_group_are_withdrawn(dataset: Dataset) -> None:
    merge(dataset)
    commit(dataset, 2, key=KEYS[2], first_id=30, run_number=3)
    state = dataset.state()
    gone = [one for one in state.records if one.unit.file_key != KEYS[0]]
    withdraw_units(dataset, run(4), state, gone)
    assert ids(dataset, "vectors") == [0, 1, 2, 3]
    assert ids(dataset, "dead_letters") == [4]
    left = Dataset.open(dataset.root).state()
    assert left.covered() == {KEYS[0]: [(0, 5)]}
    assert dataset.leftovers(left) == []


def test_a_group_is_damaged_as_a_whole(dataset: Dataset) -> None:
    merge(dataset)
    (name,) = dataset.names("dead_letters")
    path = Path(dataset.path("dead_letters", name))
    path.write_bytes(path.read_bytes()[:-1])
    state = dataset.state()
    assert set(dataset.damaged_records(state)) == set(state.records)


def test_parts_that_lack_rows_are_not_merged(dataset: Dataset) -> None:
    part = dataset.path("vectors", dataset.names("vectors")[1])
    pq.write_table(pq.read_table(part).slice(1), part)
    with pytest.raises(OutputError, match=r"have 8 rows, but 9 were committed"):
        merge(dataset)
    assert dataset.state().groups == ()
    assert len(dataset.names("vectors")) == 3


def test_a_run_that_lost_the_dataset_merges_nothing(dataset: Dataset) -> None:
    def lost() -> None:
        raise OutputTaken("another run")

    before = dataset.state()
    with pytest.raises(OutputTaken):
        merge_units(dataset, run(2), list(before.parts_records()), lost)
    assert dataset.state().records == before.records


def test_a_group_that_another_run_has_seen_is_kept(dataset: Dataset) -> None:
    """The run loses the dataset after its record is written: the other may have read it."""
    calls = iter([None, OutputTaken("another run")])

    def lost_after_the_record() -> None:
        error = next(calls)
        if error is not None:
            raise error

    merge_units(dataset, run(2), list(dataset.state().parts_records()), lost_after_the_record)
    assert len(dataset.state().groups) == 1
    assert dataset.check_parts(dataset.state())[0] == []
