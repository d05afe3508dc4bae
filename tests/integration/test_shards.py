"""Staged shards of a synchronisation: rows of many batches, in files of a limited size."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.sync import shards

NAMES = ("id", "title", "text", "code", "message", "source_file", "source_row")


def row(number: int) -> pa.Table:
    """A table of one row, as a batch with one changed row gives."""
    return pa.table({name: [f"{name} {number}"] for name in NAMES})


def test_rows_of_many_batches_are_staged_in_order_in_shards_of_a_limited_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 40)
    tables = [row(number) for number in range(100)]
    found = list(shards.write_shards(Dataset.open(str(tmp_path)), str(tmp_path), tables))
    assert [file.rows for file in found] == [40, 40, 20]
    read = pa.concat_tables([pq.read_table(tmp_path / file.name) for file in found])
    assert read.equals(pa.concat_tables(tables))


def test_staging_a_row_of_each_batch_takes_no_longer_for_each_with_more_of_them(
    tmp_path: Path,
) -> None:
    tables = [row(number) for number in range(2000)]
    started = time.process_time()
    (file,) = shards.write_shards(Dataset.open(str(tmp_path)), str(tmp_path), tables)
    assert file.rows == 2000
    # Counting all pending rows for each of them took 20 s.
    assert time.process_time() - started < 2
