"""Committed parts and kept answers are sources of known vectors behind one interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.jobs import KEY, a_job

from bulkembed.schemas.job import OutputConfig
from bulkembed.schemas.output_schema import TEXT_HASH_TYPE
from bulkembed.schemas.units import Unit, UnitRecord
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.dataset.commit import UnitTables, commit_unit
from bulkembed.transforms.dataset.committed_vectors import CommittedVectors
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import KeptAnswers, shared_writer
from bulkembed.transforms.dataset.known_vectors import (
    Matches,
    distinct_keys,
    find_in,
    known_hashes,
)

DIM = 4


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


def read(matches: Sequence[Matches]) -> dict[bytes, float]:
    """Return the first number of each vector by its hash."""
    found = {}
    for block in (block for one in matches for block in one.read()):
        assert block.vectors.shape == (len(block.hashes), DIM)
        found |= dict(zip(block.hashes, block.vectors[:, 0].tolist(), strict=True))
    return found


def test_committed_texts_are_found_once_with_their_vectors(dataset: Dataset) -> None:
    records = [commit(dataset, 0, ["a", "b", "a"], 1), commit(dataset, 3, ["b", "c", "d"], 2)]
    source = CommittedVectors(dataset, records)
    matches = source.find(distinct_keys(hashes_of(["a", "b", "c", "x"])))
    a, b, c = hashes_of(["a", "b", "c"])
    assert len(matches) == 3
    assert sorted(matches.hashes()) == sorted([a, b, c])
    assert matches.keys.tolist() == distinct_keys([a, b, c]).tolist()
    assert read([matches]) == {a: 1, b: 1, c: 2}
    assert known_hashes(source, hashes_of(["d", "x"])) == set(hashes_of(["d"]))


def test_a_damaged_part_has_no_matches(dataset: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    records = [commit(dataset, 0, ["a"], 1), commit(dataset, 1, ["b"], 2)]
    Path(dataset.path("vectors", records[0].vector_parts[0])).write_bytes(b"damaged")
    a, b = hashes_of(["a", "b"])
    assert read([CommittedVectors(dataset, records).find(distinct_keys([a, b]))]) == {b: 2}
    assert "cannot be read" in caplog.text


def test_a_part_that_is_deleted_before_it_is_read_is_left_out(dataset: Dataset) -> None:
    record = commit(dataset, 0, ["a"], 1)
    matches = CommittedVectors(dataset, [record]).find(distinct_keys(hashes_of(["a"])))
    dataset.withdraw([record])
    assert read([matches]) == {}
    assert list(matches.hashes()) == []


def test_the_first_source_that_has_a_text_gives_its_vector(dataset: Dataset) -> None:
    kept = keep(dataset, ["b", "c"], 7)
    committed = CommittedVectors(dataset, [commit(dataset, 0, ["a", "b"], 1)])
    wanted = distinct_keys(hashes_of(["a", "b", "c", "x"]))
    a, b, c = hashes_of(["a", "b", "c"])
    assert read(find_in([committed, kept], wanted)) == {a: 1, b: 1, c: 7}
    assert read(find_in([kept, committed], wanted)) == {a: 1, b: 7, c: 7}
    assert find_in([kept], distinct_keys([a])) == []
    assert find_in([kept, committed], wanted[:0]) == []
