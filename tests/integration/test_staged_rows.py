"""Staged rows are read as they were read from the input."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from support.inputs import read_all

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.inputs import FoundFile, InputColumns, InputFile
from bulkembed.transforms.inputs.formats import STAGED
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.inputs.staged_rows import GROUP_ROWS, staged_table, write_staged

COLUMNS = InputColumns(title_column="title", keep_columns=("lang", "a.b", "text", "tags"))
LINES = """\
{"id": "a", "text": "one", "title": "t", "lang": "de", "a.b": 1, "tags": ["x", null]}
not json
{"id": null, "text": "two", "lang": "en", "a.b": 2, "tags": []}
{"id": "c", "text": 3, "a.b": null, "tags": null}
{"id": "d", "text": " ", "title": "", "lang": null, "a.b": 5, "tags": ["y"]}
{"id": "e", "text": null}
"""


def staged(path: Path, batches: list[RowBatch], schema: pa.Schema) -> tuple[InputFile, pa.Schema]:
    table = pa.concat_tables([staged_table(batch, "a.jsonl") for batch in batches])
    with pa.OSFile(str(path), "wb") as sink:
        write_staged(table, sink)
    found = FoundFile(str(path), path.name, path.stat().st_size, 0, STAGED)
    return InputFile(found, "0" * 32, table.num_rows), schema


def read(file: InputFile, schema: pa.Schema, *ranges: tuple[int, int]) -> list[RowBatch]:
    return list(read_batches(pafs.LocalFileSystem(), file, COLUMNS, schema, ranges))


@pytest.fixture
def rows(tmp_path: Path) -> tuple[pa.Schema, RowBatch]:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jsonl").write_text(LINES)
    schema, [batch] = read_all(tmp_path / "in", COLUMNS)
    return schema, batch


def test_rows_are_as_they_were_read(tmp_path: Path, rows: tuple[pa.Schema, RowBatch]) -> None:
    schema, batch = rows
    [found] = read(*staged(tmp_path / "s", [batch], schema), (0, 6))
    assert found.ids.equals(batch.ids)
    assert found.titles == batch.titles
    assert found.texts == batch.texts
    assert found.kept.equals(batch.kept)
    assert found.bad == batch.bad
    assert found.bad[1][0] is DeadCode.BAD_JSON
    assert [found.source(row, "") for row in range(6)] == [("a.jsonl", row) for row in range(6)]


def test_some_rows_keep_their_places(tmp_path: Path, rows: tuple[pa.Schema, RowBatch]) -> None:
    schema, batch = rows
    picked = batch.take([1, 3, 4], "b.jsonl")
    file, _ = staged(tmp_path / "s", [picked, batch.take([0], "a.jsonl")], schema)
    first, second = read(file, schema, (0, 2), (2, 2))
    assert first.bad == {0: batch.bad[1], 1: batch.bad[3]}
    assert first.source(1, "") == ("b.jsonl", 3)
    assert second.first_row == 2
    assert second.texts == [" ", "one"]
    assert [second.source(row, "") for row in range(2)] == [("b.jsonl", 4), ("a.jsonl", 0)]
    assert second.part(1, 2).source(0, "") == ("a.jsonl", 0)
    assert second.kept.to_pylist() == [batch.kept.to_pylist()[row] for row in (4, 0)]


def test_rows_are_read_across_row_groups(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    count = 2 * GROUP_ROWS + 7
    ids = list(range(count))
    table = pa.table({"id": ids, "text": [f"text {n}" for n in ids]})
    pq.write_table(table, tmp_path / "in/a.parquet")
    schema, batches = read_all(tmp_path / "in", InputColumns())
    file, _ = staged(tmp_path / "s", batches, schema)
    places = [(5, 10), (GROUP_ROWS - 1, 2), (GROUP_ROWS + 1, GROUP_ROWS + 6)]
    found = list(read_batches(pafs.LocalFileSystem(), file, InputColumns(), schema, places))
    assert [batch.ids.to_pylist() for batch in found] == [
        ids[first : first + rows] for first, rows in places
    ]


def test_texts_can_be_read_alone(tmp_path: Path, rows: tuple[pa.Schema, RowBatch]) -> None:
    from bulkembed.transforms.units.shared_texts import text_only

    schema, batch = rows
    file, _ = staged(tmp_path / "s", [batch], schema)
    columns, only = text_only(COLUMNS)
    [found] = read_batches(pafs.LocalFileSystem(), file, columns, only, [(0, 6)])
    assert found.texts == batch.texts
    assert found.titles == batch.titles
    assert found.bad.keys() == batch.bad.keys()
    assert found.kept.num_columns == 0
    assert found.rows == 6
