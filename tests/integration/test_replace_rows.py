"""Removing rows of a committed unit: copies without them, committed as the next generation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.committed import DIGEST, KEY, commit, ids

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputError, OutputTaken
from bulkembed.schemas.job import OutputConfig, RunStamp
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.dataset.commit import UnitTables, commit_unit
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.replace import replace_rows

RUN = RunStamp("run-2", 2, DIGEST)
NONE: list[int] = []


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.open(str(tmp_path / "out"))


def replace(
    dataset: Dataset, record: UnitRecord, vectors: list[int], dead: list[int] = NONE
) -> UnitRecord | None:
    return replace_rows(dataset, RUN, record, np.array(vectors, np.int64), np.array(dead, np.int64))


def test_the_copy_lacks_the_removed_rows_and_the_record_counts_them(dataset: Dataset) -> None:
    before = commit(dataset, 6, [DeadCode.REJECTED, DeadCode.BLANK_TEXT, DeadCode.REJECTED])
    after = replace(dataset, before, [4, 0], [0])
    assert after is not None
    assert ids(dataset, "vectors") == [1, 2, 3, 5]
    assert ids(dataset, "dead_letters") == [7, 8]
    assert (after.embedded, after.dead, after.skipped, after.removed) == (4, 1, 1, 3)
    assert dict(after.codes) == {DeadCode.BLANK_TEXT: 1, DeadCode.REJECTED: 1}
    assert (after.run_id, after.run_number, after.generation) == ("run-2", 2, 1)
    (found,) = dataset.state().records
    assert dataset.read_record(found) == after
    assert dataset.state().covered() == {KEY: [(0, 9)]}
    assert dataset.damaged_records(dataset.state()) == []
    assert dataset.leftovers(dataset.state()) == []


def test_the_copy_is_written_as_the_part_was(dataset: Dataset) -> None:
    before = commit(dataset, 6)
    old = pq.read_table(dataset.path("vectors", before.vector_parts[0]))
    after = replace(dataset, before, [2])
    assert after is not None
    new = pq.read_table(dataset.path("vectors", after.vector_parts[0]))
    assert new.equals(old.filter(pa.array([True, True, False, True, True, True])))
    assert new.schema.equals(old.schema)
    (column,) = {
        pq.ParquetFile(dataset.path("vectors", after.vector_parts[0]))
        .metadata.row_group(0).column(1).compression
    }  # fmt: skip
    assert column == "UNCOMPRESSED"


def test_a_part_of_which_no_row_is_removed_stays(dataset: Dataset) -> None:
    before = commit(dataset, 3, [DeadCode.REJECTED, DeadCode.REJECTED])
    after = replace(dataset, before, [], [1])
    assert after is not None
    assert after.vector_parts == before.vector_parts
    assert ids(dataset, "vectors") == [0, 1, 2]
    assert dataset.damaged_records(dataset.state()) == []
    without_dead = replace(dataset, after, [], [0])
    assert without_dead is not None
    assert without_dead.dead_part is None
    assert dataset.names("dead_letters") == []


def test_rows_are_removed_from_all_vector_parts_of_a_retried_unit(dataset: Dataset) -> None:
    first = commit(dataset, 3, [DeadCode.REJECTED, DeadCode.REJECTED])
    retried = dataclasses.replace(
        first, embedded=5, dead=0, codes=(), generation=1, vectors=5, dead_part=None
    )
    rows = pq.read_table(dataset.path("vectors", first.vector_parts[0])).slice(0, 2)
    tables = UnitTables(rows.set_column(0, "id", pa.array([3, 4])), None)
    output = OutputConfig(uri=dataset.root)
    whole = commit_unit(dataset, output, retried, tables, replaces=first)
    assert len(whole.vector_parts) == 2
    after = replace(dataset, whole, [1, 3])
    assert after is not None
    assert ids(dataset, "vectors") == [0, 2, 4]
    assert (after.embedded, after.removed, after.generation) == (3, 2, 2)


def test_removing_all_passages_of_a_row_removes_one_row(dataset: Dataset) -> None:
    before = commit(dataset, 3, passages=4)
    after = replace(dataset, before, [4, 5, 6, 7])
    assert after is not None
    assert (after.embedded, after.removed, after.vectors) == (2, 1, 8)
    assert ids(dataset, "vectors") == [0] * 4 + [2] * 4


def test_a_unit_without_rows_is_withdrawn(dataset: Dataset) -> None:
    before = commit(dataset, 2, [DeadCode.REJECTED])
    assert replace(dataset, before, [0, 1], [0]) is None
    assert dataset.state().records == ()
    assert ids(dataset, "vectors") == ids(dataset, "dead_letters") == []


def test_without_rows_to_remove_nothing_is_written(dataset: Dataset) -> None:
    before = commit(dataset, 2)
    assert replace(dataset, before, []) == before
    assert dataset.state().records[0].generation == 0


@pytest.mark.parametrize("rows", [[2], [-1], [1, 1]], ids=str)
def test_rows_that_the_parts_do_not_have_are_rejected(dataset: Dataset, rows: list[int]) -> None:
    before = commit(dataset, 2)
    with pytest.raises(ValueError, match="not distinct rows"):
        replace(dataset, before, rows)
    assert ids(dataset, "vectors") == [0, 1]


def test_a_damaged_part_is_not_copied(dataset: Dataset) -> None:
    before = commit(dataset, 2)
    path = Path(dataset.path("vectors", before.vector_parts[0]))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(OutputError, match="cannot be read"):
        replace(dataset, before, [0])
    assert dataset.read_record(dataset.state().records[0]) == before


def test_a_run_that_lost_the_dataset_replaces_nothing(dataset: Dataset) -> None:
    before = commit(dataset, 2)
    (stored,) = dataset.names("_run/units")

    def lost() -> None:
        raise OutputTaken("another run")

    for rows in ([0], [0, 1]):
        with pytest.raises(OutputTaken):
            replace_rows(
                dataset, RUN, before, np.array(rows), np.array([], np.int64), check_ownership=lost
            )
        assert dataset.names("_run/units") == [stored]
        assert ids(dataset, "vectors") == [0, 1]
