"""Vectors that are already paid for are found and read, each once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.jobs import KEY, a_job

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.job import OutputConfig
from bulkembed.schemas.output_schema import TEXT_HASH_TYPE
from bulkembed.schemas.units import Unit, UnitRecord
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.dataset.commit import UnitTables, commit_unit
from bulkembed.transforms.dataset.committed_vectors import committed_index, read_known
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import KeptAnswers, shared_writer
from bulkembed.transforms.dataset.known_places import (
    PLACE,
    KnownPlaces,
    PlaceSource,
    write_places,
)
from bulkembed.transforms.dataset.known_vectors import VectorBlock, distinct_keys, known_hashes
from bulkembed.transforms.dataset.part_files import open_part, read_blocks

DIM = 4
DIGEST = "0123456789abcdef"


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.open(str(tmp_path / "out"))


def hashes_of(texts: Sequence[str]) -> list[bytes]:
    return [text_hash(None, text) for text in texts]


def commit(dataset: Dataset, first_row: int, texts: Sequence[str], value: float) -> UnitRecord:
    """Commit a unit whose vectors all have one value."""
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), DIM)
    flat = pa.array([value] * len(texts) * DIM, pa.float32())
    table = pa.table(
        {
            "text_hash": pa.array(hashes_of(texts), TEXT_HASH_TYPE),
            "truncated": pa.array([None] * len(texts), pa.bool_()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, type=kind),
        }
    )
    record = UnitRecord(Unit(KEY, first_row, len(texts)), len(texts), 0, 0)
    return commit_unit(dataset, OutputConfig(uri=dataset.root), record, UnitTables(table, None))


def keep(dataset: Dataset, texts: Sequence[str], value: float) -> KeptAnswers:
    job = a_job(run_id="now")
    kept = shared_writer(dataset, job, "a")
    kept.append(
        hashes_of(texts), np.full((len(texts), DIM), value, np.float32), [None] * len(texts)
    )
    kept.close()
    answers = KeptAnswers(dataset, job)
    answers.refresh()
    return answers


def find(dataset: Dataset, records: Sequence[UnitRecord], texts: Sequence[str]) -> KnownPlaces:
    """Return the places of texts that one unit wants."""
    scratch = Path(dataset.root).parent
    index = committed_index(dataset, records, DIGEST, scratch, keep=True)
    wanted = distinct_keys(hashes_of(texts))
    found = index.find(wanted)
    places = np.zeros(len(found.wanted), PLACE)
    places["key"], places["part"], places["row"] = wanted[found.wanted], found.parts, found.rows
    return write_places(scratch, [PlaceSource(dataset, index.parts)], [places], len(places))


def read(blocks: Iterable[VectorBlock]) -> dict[bytes, float]:
    """Return the first number of each vector by its hash."""
    found: dict[bytes, float] = {}
    for block in blocks:
        assert block.vectors.shape == (len(block.hashes), DIM)
        new = dict(zip(block.hashes, block.vectors[:, 0].tolist(), strict=True))
        assert not new.keys() & found.keys()
        found |= new
    return found


def test_committed_texts_are_found_once_with_their_vectors(dataset: Dataset) -> None:
    records = [commit(dataset, 0, ["a", "b", "a"], 1), commit(dataset, 3, ["b", "c", "d"], 2)]
    a, b, c = hashes_of(["a", "b", "c"])
    assert read(read_known(find(dataset, records, ["a", "b", "c", "x"]))) == {a: 1, b: 1, c: 2}


def test_a_damaged_part_has_no_vectors(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    records = [commit(dataset, 0, ["a"], 1), commit(dataset, 1, ["b"], 2)]
    Path(dataset.path("vectors", records[0].vector_parts[0])).write_bytes(b"damaged")
    assert read(read_known(find(dataset, records, ["a", "b"]))) == {hashes_of(["b"])[0]: 2}
    assert "cannot be read" in caplog.text


def test_a_part_that_is_missing_has_no_vectors(dataset: Dataset) -> None:
    records = [commit(dataset, 0, ["a"], 1), commit(dataset, 1, ["b"], 2)]
    Path(dataset.path("vectors", records[0].vector_parts[0])).unlink()
    assert read(read_known(find(dataset, records, ["a", "b"]))) == {hashes_of(["b"])[0]: 2}


def test_a_part_that_is_deleted_before_it_is_read_is_left_out(dataset: Dataset) -> None:
    record = commit(dataset, 0, ["a"], 1)
    known = find(dataset, [record], ["a"])
    dataset.withdraw([record])
    assert read(read_known(known)) == {}


def test_only_row_groups_with_wanted_rows_are_read(dataset: Dataset) -> None:
    record = commit(dataset, 0, ["a", "b", "c", "d", "e"], 1)
    path = Path(dataset.path("vectors", record.vector_parts[0]))
    table = pq.read_table(path)
    pq.write_table(table, path, row_group_size=2, compression="none", use_dictionary=False)
    known = find(dataset, [record], ["c", "e"])
    assert known.sources[0].parts[0].group_rows == (2, 2, 1)
    group = pq.ParquetFile(path).metadata.row_group(0)
    column = group.column(group.num_columns - 1)
    data = bytearray(path.read_bytes())
    for at in range(column.data_page_offset, column.data_page_offset + 40):
        data[at] = 0xFF  # The first group cannot be read any more.
    path.write_bytes(data)
    with pytest.raises(OutputError):
        list(read_blocks(open_part(dataset, "vectors/" + path.name), path.name))
    assert sorted(read(read_known(known))) == sorted(hashes_of(["c", "e"]))


def test_kept_answers_are_found(dataset: Dataset) -> None:
    kept = keep(dataset, ["b", "c"], 7)
    wanted = distinct_keys(hashes_of(["a", "b", "c", "x"]))
    b, c = hashes_of(["b", "c"])
    assert read(kept.read(wanted)) == {b: 7, c: 7}
    assert known_hashes(kept, hashes_of(["a", "b"])) == {b}
    assert not len(kept.find(wanted[:0]))
