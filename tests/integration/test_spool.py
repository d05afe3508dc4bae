"""Rows that a dataset does not have are put aside while the input is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from support.inputs import read_all

from bulkembed.pipeline.sync.spool import Spool
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.core.row_difference import COMMITTED_ROW, Kind
from bulkembed.transforms.sync.compared_rows import Comparison, input_rows

COLUMNS = InputColumns(keep_columns=("price",))
EMBEDDING = EmbeddingConfig(service="developer", model="gemini-embedding-001")


def test_only_new_and_changed_rows_are_put_aside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    lines = [f'{{"id": {n}, "text": "text {n}", "price": {n}}}' for n in range(100)]
    lines += ['{"id": 100, "text": " ", "price": 1}']
    (tmp_path / "in/a.jsonl").write_text("\n".join(lines))
    schema, [batch] = read_all(tmp_path / "in", COLUMNS)
    rows = input_rows(batch, 1000, Comparison(EMBEDDING, COLUMNS, schema))
    committed = np.zeros(len(rows), COMMITTED_ROW)
    for name in ("id_high", "id_low", "content", "columns", "has_id"):
        committed[name] = rows[name]
    committed["kind"][100] = Kind.BLANK
    committed["content"][7] += 1
    committed["columns"][8] += 1
    committed["id_low"][9] += 1
    with Spool(tmp_path, len(rows)) as spool:
        spool.add_committed(committed)
        spool.add(batch, "a.jsonl", rows)
        [(places, table)] = spool.read(np.array([1003, 1007, 1009]))
        assert places.tolist() == [1007, 1009]
        assert table["id"].to_pylist() == [7, 9]
        assert table["text"].to_pylist() == ["text 7", "text 9"]
        assert table["source_row"].to_pylist() == [7, 9]
        assert table["kept.price"].type == pa.int64()
        assert list(spool.read(np.array([], np.int64))) == []
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_nothing_is_put_aside_for_an_empty_dataset(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text('{"id": 1, "text": "a", "price": 1}\n')
    schema, [batch] = read_all(tmp_path / "in", COLUMNS)
    rows = input_rows(batch, 0, Comparison(EMBEDDING, COLUMNS, schema))
    with Spool(tmp_path, 0) as spool:
        spool.add(batch, "a.jsonl", rows)
        assert list(spool.read(rows["place"])) == []
