"""The output folder: commits, records that count, and what a killed run leaves."""

from __future__ import annotations

import dataclasses
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputError, OutputTaken
from bulkembed.schemas.job import OutputConfig, VectorEncoding
from bulkembed.schemas.units import Unit, UnitRecord
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.commit import UnitTables, commit_unit
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import record_name
from bulkembed.transforms.dataset.part_files import part_writer

KEY = "0123456789abcdef"
DIM = 4


def record(first: int, embedded: int, dead: int = 0, generation: int = 0) -> UnitRecord:
    codes = ((DeadCode.REJECTED, dead),) if dead else ()
    unit = Unit(KEY, first, embedded + dead)
    return UnitRecord(unit, embedded, dead, 0, generation, "a.parquet", "run-1", codes)


def tables(embedded: int, dead: int = 0) -> UnitTables:
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), DIM)
    flat = pa.array([float(n) for n in range(embedded * DIM)], pa.float32())
    vectors = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return UnitTables(
        pa.table({"id": pa.array(range(embedded)), "vector": vectors}) if embedded else None,
        pa.table({"id": pa.array(range(dead))}) if dead else None,
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.open(str(tmp_path / "out"))


def commit(dataset: Dataset, embedded: int, dead: int = 0, first: int = 0) -> UnitRecord:
    output = OutputConfig(uri=dataset.root)
    return commit_unit(dataset, output, record(first, embedded, dead), tables(embedded, dead))


def test_a_commit_writes_parts_and_then_the_record_that_names_them(dataset: Dataset) -> None:
    whole = commit(dataset, 3, 2)
    root = Path(dataset.root)
    (part,) = (root / "vectors").iterdir()
    (dead,) = (root / "dead_letters").iterdir()
    assert whole.vector_parts == (part.name,)
    assert whole.dead_part == dead.name
    assert pq.read_table(part).equals(tables(3).vectors)
    (found,) = dataset.state().records
    assert (found.embedded, found.dead, found.unit) == (3, 2, whole.unit)
    assert dataset.read_record(found) == whole
    assert dataset.parts_of(found).all == (f"vectors/{part.name}", f"dead_letters/{dead.name}")
    assert dataset.leftovers(dataset.state()) == []


def test_a_unit_without_vectors_or_dead_letters_has_no_such_part(dataset: Dataset) -> None:
    commit(dataset, 2)
    commit(dataset, 0, 1, first=10)
    assert len(dataset.names("vectors")) == len(dataset.names("dead_letters")) == 1
    assert dataset.state().covered() == {KEY: [(0, 2), (10, 1)]}


def test_reading_an_unwritten_dataset_finds_nothing_and_creates_nothing(dataset: Dataset) -> None:
    assert dataset.state().records == ()
    assert dataset.read_json("_run/run.json") is None
    assert dataset.leftovers(dataset.state()) == []
    assert not Path(dataset.root).exists()


def test_unnamed_parts_and_unfinished_files_are_leftovers(dataset: Dataset) -> None:
    commit(dataset, 3)
    root = Path(dataset.root)
    for name in (
        "vectors/part-ffffffffffffffff-000000000000-00000001.parquet", "vectors/.tmp-1-x",
        "_run/units/.tmp-2-x", "_run/.tmp-3-run.json", ".tmp-4-_SUCCESS", "vectors/notes.txt",
    ):  # fmt: skip
        (root / name).write_bytes(b"x")
    left = dataset.leftovers(dataset.state())
    assert sorted(left) == [
        ".tmp-4-_SUCCESS", "_run/.tmp-3-run.json", "_run/units/.tmp-2-x", "vectors/.tmp-1-x",
        "vectors/part-ffffffffffffffff-000000000000-00000001.parquet",
    ]  # fmt: skip
    dataset.delete(left)
    assert dataset.leftovers(dataset.state()) == []
    assert len(dataset.state().records) == 1


def test_units_are_damaged_if_their_parts_have_another_size_than_committed(
    dataset: Dataset,
) -> None:
    first, second = commit(dataset, 3, 1), commit(dataset, 2, 0, first=10)
    commit(dataset, 0, 2, first=20)
    assert dataset.damaged_records(dataset.state()) == []
    for folder, size in (("dead_letters", 1), ("vectors", 0)):
        path = Path(dataset.path(folder, first.vector_parts[0]))
        whole = path.read_bytes()
        path.write_bytes(whole[:size])
        (damaged,) = dataset.damaged_records(dataset.state())
        assert damaged.unit == first.unit
        path.write_bytes(whole)
    Path(dataset.path("vectors", second.vector_parts[0])).unlink()
    (damaged,) = dataset.damaged_records(dataset.state())
    assert damaged.unit == second.unit
    left = dataset.state().without({damaged})
    assert record_name(damaged) in left.stale
    assert second.unit not in [record.unit for record in left.records]


def test_a_record_without_content_does_not_count(dataset: Dataset) -> None:
    whole = commit(dataset, 3)
    Path(dataset.path("_run/units", record_name(whole))).write_bytes(b"")
    assert dataset.state().records == ()
    assert f"_run/units/{record_name(whole)}" in dataset.leftovers(dataset.state())


def test_a_withdrawn_unit_is_deleted_with_its_parts(dataset: Dataset) -> None:
    commit(dataset, 3, 1)
    commit(dataset, 2, 0, first=10)
    dataset.withdraw([found for found in dataset.state().records if found.unit.first_row == 0])
    assert dataset.state().covered() == {KEY: [(10, 2)]}
    assert len(dataset.names("vectors")) == 1
    assert dataset.names("dead_letters") == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null"])
def test_the_error_for_a_damaged_file_names_it(dataset: Dataset, content: bytes) -> None:
    dataset.write("_run/run.json", content)
    with pytest.raises(OutputError, match=r"_run/run\.json is damaged"):
        dataset.read_json("_run/run.json")


def test_a_second_commit_of_a_unit_overwrites_the_first(dataset: Dataset) -> None:
    commit(dataset, 3)
    commit(dataset, 3)
    assert len(dataset.state().records) == len(dataset.names("vectors")) == 1


def test_a_unit_keeps_its_vectors_if_a_newer_run_retries_its_dead_letters_before_it_is_withdrawn(
    dataset: Dataset,
) -> None:
    output = OutputConfig(uri=dataset.root)
    first = dataclasses.replace(record(0, 3, 2), run_number=1, embedding_digest="0" * 16)

    def retry() -> None:
        """Commit as another run does, right after the first record is written."""
        if not dataset.state().records:
            return
        old = dataset.read_record(dataset.state().records[0])
        new = dataclasses.replace(
            old, embedded=5, dead=0, generation=1, codes=(), vectors=5, run_number=2
        )
        commit_unit(dataset, output, new, tables(2), old)
        raise OutputTaken("another run has taken over this dataset")

    with pytest.raises(OutputTaken):
        commit_unit(dataset, output, first, tables(3, 2), check_ownership=retry)
    (left,) = dataset.state().records
    assert left.run_number == 2
    assert len(dataset.names("vectors")) == 2
    assert dataset.damaged_records(dataset.state()) == []
    assert dataset.leftovers(dataset.state()) == []


def test_a_committed_unit_stays_if_its_run_commits_it_again_after_a_takeover(
    dataset: Dataset,
) -> None:
    once = dataclasses.replace(record(0, 3), run_number=1, embedding_digest="0" * 16)
    output = OutputConfig(uri=dataset.root)

    def taken() -> None:
        raise OutputTaken("another run has taken over this dataset")

    whole = commit_unit(dataset, output, once, tables(3))
    assert commit_unit(dataset, output, once, tables(3), check_ownership=taken) == whole
    assert dataset.damaged_records(dataset.state()) == []
    assert len(dataset.state().records) == 1


@pytest.mark.parametrize("encoding", VectorEncoding)
def test_parts_are_read_back_by_plain_pyarrow(dataset: Dataset, encoding: VectorEncoding) -> None:
    output = OutputConfig(uri=dataset.root, vector_encoding=encoding)
    commit_unit(dataset, output, record(0, 5), tables(5))
    (name,) = dataset.names("vectors")
    file = pq.ParquetFile(dataset.path("vectors", name))
    assert file.read().equals(tables(5).vectors)
    assert file.metadata.num_row_groups == 1
    column = file.metadata.row_group(0).column(1)
    split = encoding is VectorEncoding.BYTE_STREAM_SPLIT
    assert ("BYTE_STREAM_SPLIT" in column.encodings) is split
    assert column.compression == ("ZSTD" if split else "UNCOMPRESSED")


def test_a_part_without_checksums_can_be_read(dataset: Dataset) -> None:
    rows = tables(5).vectors
    Path(dataset.root).mkdir()
    pq.write_table(rows, dataset.path("part"))
    part = part_files.open_part(dataset, "part")
    assert pa.Table.from_batches(part_files.read_blocks(part, "part")).equals(rows)


def test_a_part_is_encoded_in_less_memory_than_its_vectors_take(dataset: Dataset) -> None:
    rows, dim = 2_000, 3_072
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), dim)
    flat = pa.array(np.arange(rows * dim, dtype=np.float32))
    vectors = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    table = pa.table({"id": pa.array(range(rows)), "vector": vectors})
    usual = pa.default_memory_pool()
    watched = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(watched)
    try:
        dataset.write("part", part_writer(table))
    finally:
        pa.set_memory_pool(usual)
    assert pq.read_table(dataset.path("part")).equals(table)
    assert 0 < watched.max_memory() < vectors.nbytes / 2


def test_the_state_takes_less_than_a_kilobyte_per_unit(dataset: Dataset) -> None:
    units = 2_000
    folder = Path(dataset.path("_run/units"))
    folder.mkdir(parents=True)
    for number in range(units):
        (folder / record_name(record(2_500 * number, 2_500))).write_bytes(b"{}")
    tracemalloc.start()
    try:
        state = dataset.state()
        covered = state.covered()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(state.records) == len(covered[KEY]) == units
    assert peak / units < 1000


def test_a_column_that_a_part_lacks_is_an_error(tmp_path: Path) -> None:
    dataset = Dataset.open(str(tmp_path))
    dataset.write("vectors/a.parquet", part_writer(pa.table({"id": [1]})))
    with pytest.raises(OutputError, match="has no column 'source_row'"):
        part_files.read_columns(dataset, "vectors/a.parquet", ["id", "source_row"])
