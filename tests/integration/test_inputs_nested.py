"""Fields of nested columns, by path: in JSONL and Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.inputs import read_all, read_lines, scan_all

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns

ROWS: list[dict[str, Any]] = [
    {"_id": {"$oid": "a"}, "doc": {"title": "T", "body": "one", "n": 1, "tags": ["x"]}, "x.y": 1},
    {"_id": {"$oid": "b"}, "doc": {"title": None, "body": "two", "n": None, "tags": None}},
    {"_id": {"$oid": "c"}, "doc": None, "x.y": None},
]
NESTED = InputColumns(
    id_column="_id.$oid",
    text_column="doc.body",
    title_column="doc.title",
    keep_columns=("doc.n", "doc.tags", "x.y"),
)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
def test_fields_are_read_by_path(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, ROWS)
    schema, (batch,) = read_all(tmp_path, NESTED)
    assert batch.ids.to_pylist() == ["a", "b", "c"]
    assert batch.texts == ["one", "two", None]
    assert batch.titles == ["T", None, None]
    assert schema.names == ["id", "doc.n", "doc.tags", "x.y"]
    assert batch.kept.to_pydict() == {
        "doc.n": [1, None, None],
        "doc.tags": [["x"], None, None],
        "x.y": [1, None, None],
    }
    assert not batch.bad
    assert not batch.unkept


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
def test_a_literal_name_wins_over_a_path(tmp_path: Path, name: str) -> None:
    rows = [{"id": 1, "doc": {"body": "nested"}, "doc.body": "literal"}]
    write(tmp_path / name, rows)
    columns = InputColumns(text_column="doc.body", keep_columns=("doc", "doc.body"))
    _, (batch,) = read_all(tmp_path, columns)
    assert batch.texts == ["literal"]
    assert batch.kept.to_pylist() == [{"doc": {"body": "nested"}, "doc.body": "literal"}]
    quoted = InputColumns(text_column=None, text_template='{"doc"."body"}')
    assert read_all(tmp_path, quoted)[1][0].texts == ["nested"]


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
def test_quotes_name_fields_that_have_dots(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [{"id": 1, "m": {"a.b": {"c": "deep"}, "a": {"b.c": "other"}}}])
    for path, text in (('m."a.b".c', "deep"), ('m.a."b.c"', "other")):
        assert read_all(tmp_path, InputColumns(text_column=path))[1][0].texts == [text]


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
def test_a_template_writes_fields_as_json_does(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [{"id": 1, "a": {"b": "x", "n": 7, "l": [1, "y"][:1]}}])
    columns = InputColumns(text_column=None, text_template="{a.b} {a.n} {a.l}")
    assert read_all(tmp_path, columns)[1][0].texts == ["x 7 [1]"]


def test_the_keys_of_a_map_are_fields(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.struct([("v", pa.string())]))
    attributes = pa.array([[("brand.x", {"v": "B"}), ("c", {"v": "C"})], [], None], kind)
    table = pa.table({"id": [1, 2, 3], "attributes": attributes})
    pq.write_table(table, tmp_path / "in.parquet")
    columns = InputColumns(text_column='attributes."brand.x".v', keep_columns=("attributes.c",))
    _, (batch,) = read_all(tmp_path, columns)
    assert batch.texts == ["B", None, None]
    assert batch.kept.column("attributes.c").to_pylist() == [{"v": "C"}, None, None]


def test_only_the_named_field_is_read_of_a_struct(tmp_path: Path) -> None:
    rows = [{"id": n, "doc": {"body": f"text {n}", "html": "<p>" * 50_000}} for n in range(4)]
    path = tmp_path / "in.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, use_dictionary=False, compression="none")
    data = bytearray(path.read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(0)
    html = next(c for c in map(group.column, range(3)) if c.path_in_schema == "doc.html")
    at = html.data_page_offset
    data[at : at + 400] = b"\xff" * 400  # Reading it would fail.
    path.write_bytes(bytes(data))
    _, (batch,) = read_all(tmp_path, InputColumns(text_column="doc.body"))
    assert batch.texts == [f"text {n}" for n in range(4)]


def test_a_struct_and_its_lists_of_fixed_size_are_kept_beside_a_field_of_it(tmp_path: Path) -> None:
    fixed = pa.list_(pa.float32(), 2)
    kind = pa.struct([("body", pa.string()), ("v", fixed)])
    doc = pa.array([{"body": "x", "v": [1.0, 2.0]}, None], kind)
    pq.write_table(pa.table({"id": [1, 2], "doc": doc}), tmp_path / "in.parquet")
    columns = InputColumns(text_column="doc.body", keep_columns=("doc", "doc.v"))
    _, (batch,) = read_all(tmp_path, columns)
    assert batch.texts == ["x", None]
    assert batch.kept.column("doc").to_pylist() == doc.to_pylist()
    assert batch.kept.column("doc.v").to_pylist() == [[1.0, 2.0], None]


def test_integer_ids_in_a_struct_keep_their_type_and_large_ones_their_value(tmp_path: Path) -> None:
    kind = pa.struct([("n", pa.uint64())])
    ids = pa.array([{"n": 2**64 - 1}], kind)
    pq.write_table(pa.table({"k": ids, "text": ["t"]}), tmp_path / "in.parquet")
    columns = InputColumns(id_column="k.n")
    schema, (batch,) = read_all(tmp_path, columns)
    assert (schema.field("id").type, batch.ids.to_pylist()) == (pa.uint64(), [2**64 - 1])
    assert scan_all(tmp_path, columns)[0].id_range == (2**64 - 1, 2**64 - 1)
    (tmp_path / "in.parquet").unlink()
    line = '{"k": {"n": 18446744073709551615}, "text": "t"}'
    assert read_lines(tmp_path, line, columns=columns).ids.to_pylist() == [2**64 - 1]


def test_rows_without_the_object_are_dead_letters_that_say_so(tmp_path: Path) -> None:
    columns = InputColumns("_id.$oid", "doc.body", keep_columns=("doc.n",))
    good = {"_id": {"$oid": "a"}, "doc": {"body": "one", "n": 1}}
    lines = [good, {**good, "_id": "b"}, {**good, "_id": {}}, {**good, "doc": "text"}]
    batch = read_lines(tmp_path, *lines, columns=columns)
    assert {row: code for row, (code, _) in batch.bad.items()} == {
        1: DeadCode.BAD_ID,
        2: DeadCode.MISSING_ID,
        3: DeadCode.BAD_TEXT,
    }
    assert "'_id' is a string 'b', which has no field for the id '_id.$oid'" in batch.bad[1][1]
    assert "'doc' is a string 'text', which has no field for 'doc.body'" in batch.bad[3][1]
    assert batch.kept.column("doc.n").to_pylist() == [1, 1, 1, None]
    whole = read_lines(tmp_path, good, columns=InputColumns("_id", "doc"))
    assert whole.bad[0][1].endswith("Name a field of it: '_id.$oid'.")
    whole = read_lines(tmp_path, {"id": 1, "text": {"a.b": "x"}})
    assert whole.bad[0][1].endswith("""Name a field of it: 'text."a.b"'.""")
    assert batch.unkept == {"doc.n"}


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet"])
def test_a_path_that_no_row_has_is_an_error_that_names_the_paths(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, [{"id": 1, "doc": {"body": "x", "b": 1}, "l": [{"x": 1}]}])
    with pytest.raises(ConfigError, match=r"no column 'doc\.bodi'\. Did you mean doc\.body\?"):
        scan_all(tmp_path, InputColumns(text_column="doc.bodi"))
    with pytest.raises(ConfigError, match=r"no column 'text'.*'doc\.body'"):
        scan_all(tmp_path, InputColumns())
    with pytest.raises(ConfigError, match=r"no column 'l\.x'"):
        scan_all(tmp_path, InputColumns(text_column="l.x"))
    with pytest.raises(ConfigError, match=r"no column 'doc\.z'.*--keep-columns"):
        read_all(tmp_path, InputColumns(text_column="doc.body", keep_columns=("doc.z",)))


def test_a_struct_is_no_text_and_a_number_in_one_is_none_either(tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", [{"id": 1, "doc": {"n": 1, "m": {"x": "y"}}}])
    for columns in (InputColumns(text_column="doc"), InputColumns("doc", "doc.m.x")):
        with pytest.raises(ConfigError, match=r"Name a field of it: 'doc\.n'\."):
            scan_all(tmp_path, columns)
    with pytest.raises(ConfigError, match=r"column 'doc\.n' is int64.*--text-template"):
        scan_all(tmp_path, InputColumns(text_column="doc.n"))


def test_files_with_and_without_a_nested_column_have_one_schema(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [{"id": 1, "text": "x", "doc": {"n": 1}}])
    write(tmp_path / "b.parquet", [{"id": 2, "text": "x"}])
    write(tmp_path / "c.jsonl", [{"id": 3, "text": "x", "doc": {"n": 2.5}}])
    schema, batches = read_all(tmp_path, InputColumns(keep_columns=("doc.n",)))
    assert schema.field("doc.n").type == pa.float64()
    kept = [batch.kept.column("doc.n").to_pylist() for batch in batches]
    assert kept == [[1.0], [None], [2.5]]
