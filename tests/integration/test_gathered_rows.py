"""Gathered rows come to their units, whatever their order, and damage is noticed."""

from __future__ import annotations

import dataclasses
import tempfile
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.jobs import a_job

from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.job import OutputConfig
from bulkembed.schemas.output_schema import TEXT_HASH_TYPE
from bulkembed.schemas.units import Unit, UnitRecord
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.dataset import gathered_rows
from bulkembed.transforms.dataset.commit import UnitTables, commit_unit
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.gathered_rows import LABEL, GatherWriter, gathered_files
from bulkembed.transforms.dataset.known_vectors import VectorBlock, distinct_keys
from bulkembed.transforms.dataset.layout import VECTORS
from bulkembed.transforms.dataset.wanted_rows import (
    WANTED,
    UnitNumber,
    WantedPart,
    WantedRows,
    read_blocks,
)
from bulkembed.transforms.units import slice_vectors
from bulkembed.transforms.units.slice_vectors import SliceVectors

DIM, UNIT_ROWS, KEY = 4, 5, "0" * 16
JOB = a_job(run_id="now")
LARGE_JOB = a_job(
    embedding=EmbeddingConfig(service="developer", model="gemini-embedding-001", dim=3072),
    run_id="now",
)


def commit(dataset: Dataset, first_row: int, numbers: list[int]) -> str:
    """Commit a unit; the vector of text n begins with n."""
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), DIM)
    flat = pa.array(np.repeat(np.array(numbers, np.float32), DIM))
    table = pa.table(
        {
            "text_hash": pa.array([hash_of(n) for n in numbers], TEXT_HASH_TYPE),
            "truncated": pa.array([flag_of(n) for n in numbers], pa.bool_()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, type=kind),
        }
    )
    record = UnitRecord(Unit(KEY, first_row, len(numbers)), len(numbers), 0, 0)
    tables = UnitTables(table, None)
    done = commit_unit(dataset, OutputConfig(uri=dataset.root), record, tables)
    return f"{VECTORS}/{done.vector_parts[0]}"


def hash_of(number: int) -> bytes:
    return text_hash(None, f"text {number}")


def flag_of(number: int) -> bool | None:
    return (False, True, None)[number % 3]


def read(blocks: Iterable[VectorBlock]) -> set[int]:
    """Return the numbers of the texts that were read; each must have its own vector and flag."""
    number_of = {hash_of(number): number for number in range(100)}
    found = set()
    for block in blocks:
        assert block.of_other_rows
        for name, vector, flag in zip(block.hashes, block.vectors, block.truncated, strict=True):
            number = number_of[name]
            assert vector.tolist() == [number] * DIM
            assert flag is flag_of(number)
            found.add(number)
    return found


@dataclasses.dataclass
class Case:
    """Parts of a dataset whose rows some units want."""

    output: Dataset
    wanted: WantedRows
    of_unit: dict[int, set[int]]


def make_case(folder: str, data: st.DataObject) -> Case:
    output = Dataset.open(folder)
    parts, numbers = [], iter(range(100))
    rows_of: list[list[int]] = []
    for at in range(data.draw(st.integers(1, 4), "parts")):
        rows = [next(numbers) for _ in range(data.draw(st.integers(1, 6), "rows"))]
        name = commit(output, 1000 * at, rows)
        parts.append(WantedPart(folder, name, 0, (len(rows),)))
        rows_of.append(rows)
    every = [(at, row) for at, rows in enumerate(rows_of) for row in range(len(rows))]
    pair = st.tuples(st.integers(0, 3), st.sampled_from(every))
    wanted = data.draw(st.lists(pair, unique=True, min_size=1), "wanted")
    ordered = sorted((part, row, unit) for unit, (part, row) in wanted)
    sorted_rows = np.array([(unit, part, row) for part, row, unit in ordered], WANTED)
    units = tuple(UnitNumber(KEY, UNIT_ROWS * n, n) for n in range(4))
    of_unit: dict[int, set[int]] = {n: set() for n in range(4)}
    for unit, (part, row) in wanted:
        of_unit[unit].add(rows_of[part][row])
    return Case(output, WantedRows(tuple(parts), sorted_rows, units), of_unit)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_each_unit_gets_its_vectors(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        case = make_case(folder, data)
        gather = data.draw(st.booleans(), "gather")
        patch.setattr(gathered_rows, "FILE_BYTES", data.draw(st.sampled_from([1, 100, 10**6])))
        own = case.wanted
        if gather:
            writer = GatherWriter(case.output, JOB, "gather-0")
            for group in case.wanted.groups():
                for block in read_blocks(group):
                    writer.add(block.units, block.labels, block.vectors)
            writer.flush()
            own = WantedRows((), np.empty(0, WANTED), case.wanted.units)
        own.write(case.output, "now", "slice-0")
        vectors = SliceVectors(case.output, JOB, "slice-0")
        if data.draw(st.booleans(), "as on a store"):
            patch.setattr(slice_vectors, "SPOOL_BYTES", data.draw(st.sampled_from([1, 10**6])))
            vectors._on_a_store = True  # Files are downloaded from wherever they are.
        some = data.draw(st.sets(st.integers(0, 99)), "not looked for")
        for number in range(4):
            if data.draw(st.booleans(), "committed meanwhile"):
                continue
            for first in (0, 2):  # A unit may be split.
                unit = vectors.of(Unit(KEY, UNIT_ROWS * number + first, 2))
                looked_for = case.of_unit[number] - some
                keys = distinct_keys([hash_of(n) for n in looked_for])
                assert read(unit.read(keys)) == looked_for


def large_part(output: Dataset, sizes: Iterable[int]) -> WantedPart:
    """Return a part with rows of 3,072 dimensions, in row groups of these sizes."""
    sizes = tuple(sizes)
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), 3072)
    schema = pa.schema([("text_hash", TEXT_HASH_TYPE), ("truncated", pa.bool_()), ("vector", kind)])
    path = Path(output.root, "large.parquet")
    path.parent.mkdir(exist_ok=True)
    first = 0
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for rows in sizes:
            numbers = np.repeat(np.arange(first, first + rows, dtype=np.float32), 3072)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers), type=kind)
            hashes = pa.array([hash_of(n) for n in range(first, first + rows)], TEXT_HASH_TYPE)
            columns = [hashes, pa.nulls(rows, pa.bool_()), vectors]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=rows)
            first += rows
    return WantedPart(output.uri, "large.parquet", path.stat().st_size, sizes)


def wanted_by(part: WantedPart, unit_rows: int, units: int) -> WantedRows:
    """Return the list of units of one size that want consecutive rows of a part."""
    rows: Any = np.array([(n // unit_rows, 0, n) for n in range(unit_rows * units)], WANTED)
    return WantedRows((part,), rows, tuple(UnitNumber(KEY, unit_rows * n, n) for n in range(units)))


def test_a_row_group_of_one_unit_is_read_by_the_unit_block_by_block(tmp_path: Path) -> None:
    output = Dataset.open(str(tmp_path))
    wanted_by(large_part(output, [1000]), 1000, 1).write(output, "now", "slice-0")
    vectors = SliceVectors(output, LARGE_JOB, "slice-0")
    unit = Unit(KEY, 0, 1000)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        known = vectors.of(unit)
        assert vectors.memory_of(unit) == vectors.waiting_bytes == 0
        found = peak = 0
        for block in known.read(distinct_keys([hash_of(n) for n in range(1000)])):
            found += len(block.hashes)
            peak = max(peak, pa.total_allocated_bytes() - before)
        peak += tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == 1000
    assert peak < 4 * 3072 * 1000 / 2


def test_only_rows_of_row_groups_that_several_units_want_wait_in_memory(tmp_path: Path) -> None:
    output = Dataset.open(str(tmp_path))
    wanted_by(large_part(output, [10, 10, 10]), 15, 2).write(output, "now", "slice-0")
    vectors = SliceVectors(output, LARGE_JOB, "slice-0")
    units = [Unit(KEY, 0, 15), Unit(KEY, 15, 15)]
    row = 4 * 3072 + LABEL.itemsize
    assert [vectors.memory_of(unit) for unit in units] == [5 * row, 5 * row]
    for unit, waiting in zip(units, (5 * row, 0), strict=True):
        every = distinct_keys([hash_of(n) for n in range(30)])
        blocks = list(vectors.of(unit).read(every))
        names = {name for block in blocks for name in block.hashes}
        assert names == {hash_of(n) for n in range(unit.first_row, unit.end_row)}
        assert vectors.waiting_bytes == waiting


def test_gathered_rows_are_in_memory_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathered_rows, "FILE_BYTES", 8 << 20)
    output = Dataset.open(str(tmp_path))
    block = np.ones((100, 1024), np.float32)
    labels = np.zeros(100, LABEL)
    tracemalloc.start()
    try:
        writer = GatherWriter(output, JOB, "gather-0")
        for number in range(50):
            writer.add(np.full(100, 50 - number, np.uint32), labels, block)
        writer.flush()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(len(file.units) for file in gathered_files(output, "now")) >= 50
    assert peak < 1.5 * gathered_rows.FILE_BYTES


def gathered(output: Dataset) -> Path:
    """Write a file with the rows of a unit that wants all of a part."""
    name = commit(output, 0, list(range(6)))
    rows: Any = np.array([(0, 0, row) for row in range(6)], WANTED)
    wanted = WantedRows((WantedPart(output.uri, name, 0, (6,)),), rows)
    writer = GatherWriter(output, JOB, "gather-0")
    for group in wanted.groups():
        for block in read_blocks(group):
            writer.add(block.units, block.labels, block.vectors)
    writer.flush()
    WantedRows((), np.empty(0, WANTED), (UnitNumber(KEY, 0, 0),)).write(output, "now", "slice-0")
    (path,) = (Path(output.root) / "_run/gather").glob("*.rows")
    return path


def test_a_flipped_bit_never_gives_a_wrong_vector(tmp_path: Path) -> None:
    output = Dataset.open(str(tmp_path))
    path = gathered(output)
    content = path.read_bytes()
    wanted = distinct_keys([hash_of(n) for n in range(6)])
    rng = np.random.default_rng(1)
    for bit in rng.permutation(8 * len(content))[:300].tolist():
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            again = Dataset.open(str(tmp_path))
            found = read(SliceVectors(again, JOB, "slice-0").of(Unit(KEY, 0, 6)).read(wanted))
        except OutputError:
            continue
        assert len(found) >= 5


def test_a_file_that_is_too_short_is_an_error(tmp_path: Path) -> None:
    output = Dataset.open(str(tmp_path))
    path = gathered(output)
    path.write_bytes(path.read_bytes()[:-10])
    wanted = distinct_keys([hash_of(n) for n in range(6)])
    with pytest.raises(OutputError, match="it is too short"):
        read(SliceVectors(output, JOB, "slice-0").of(Unit(KEY, 0, 6)).read(wanted))


def test_files_of_other_runs_are_not_read(tmp_path: Path) -> None:
    output = Dataset.open(str(tmp_path))
    gathered(output)
    assert len(list(gathered_files(output, "now"))) == 1
    assert list(gathered_files(output, "later")) == []


def test_a_part_that_cannot_be_read_gives_no_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = Dataset.open(str(tmp_path))
    name = commit(output, 0, [1, 2])
    rows: Any = np.array([(0, 0, 0)], WANTED)
    (group,) = WantedRows((WantedPart(output.uri, name, 0, (2,)),), rows).groups()
    assert len(list(read_blocks(group))) == 1
    (other,) = WantedRows((WantedPart(output.uri, name, 0, (1, 1)),), rows).groups()
    assert list(read_blocks(other)) == []
    (tmp_path / name).write_bytes(b"damaged")
    assert list(read_blocks(group)) == []
    assert "is not the part that it was" in caplog.text
    assert "The texts are sent again" in caplog.text


def test_a_damaged_list_is_an_error(tmp_path: Path) -> None:
    output = Dataset.open(str(tmp_path))
    WantedRows((), np.empty(0, WANTED), (UnitNumber(KEY, 0, 0),)).write(output, "now", "a")
    (path,) = (tmp_path / "_run/gather").iterdir()
    content = path.read_bytes()
    for damaged in (b"", content[:-1], content[:40] + b"x" + content[41:]):
        path.write_bytes(damaged)
        with pytest.raises(OutputError, match="damaged"):
            WantedRows.read(output, "now", "a")
