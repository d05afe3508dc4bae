"""Hive keys of input folders as columns, of JSONL and Parquet files."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.inputs import find_files, read_all, scan_all

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.inputs.columns import column_notes, merge_schemas
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import ScannedFile, scan_file

NULL = "__HIVE_DEFAULT_PARTITION__"
ALL = InputColumns(keep_columns=("*",))


def write(path: Path, *rows: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(list(rows)), path)


def scan(pattern: str, columns: InputColumns) -> ScannedFile:
    (found,) = find_files([pattern])
    return scan_file(open_found(found), found, columns)


def kept(folder: Path, columns: InputColumns) -> dict[str, list[Any]]:
    _, batches = read_all(folder, columns)
    tables = [batch.kept for batch in batches]
    found: dict[str, list[Any]] = pa.concat_tables(tables).to_pydict()
    return found


@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_the_keys_of_folders_are_columns_with_types(tmp_path: Path, end: str) -> None:
    row = {"id": 1, "text": "t"}
    write(tmp_path / f"dt=2024-01-31/n=7/lang=de/zip=01234/a.{end}", row)
    write(tmp_path / f"dt={NULL}/n={NULL}/lang={NULL}/zip=1/b.{end}", row)
    write(tmp_path / f"c.{end}", row)
    for columns in (InputColumns(keep_columns=("dt", "n", "lang", "zip")), ALL):
        values = kept(tmp_path, columns)
        values.pop("text", None)
        assert values == {
            "dt": [None, dt.date(2024, 1, 31), None],
            "n": [None, 7, None],
            "lang": [None, "de", None],
            "zip": [None, "01234", "1"],
        }


@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_keys_are_texts_titles_ids_and_fields_of_templates(tmp_path: Path, end: str) -> None:
    write(tmp_path / f"lang=d%20e/n=07/a.{end}", {"text": "t"})
    columns = InputColumns("n", None, "{lang}: {text}", "lang")
    _, (batch,) = read_all(tmp_path, columns)
    assert batch.texts == ["d e: t"]
    assert batch.titles == ["d e"]
    assert batch.ids.to_pylist() == ["07"]


@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_a_column_of_the_file_wins_over_a_key(tmp_path: Path, end: str) -> None:
    rows = [{"id": 1, "text": "t", "lang": "of the file"}, {"id": 2, "text": "t", "lang": None}]
    if end == "jsonl":
        del rows[1]["lang"]
    write(tmp_path / f"lang=de/a.{end}", *rows)
    write(tmp_path / f"lang=en/b.{end}", {"id": 3, "text": "t"})
    for columns in (InputColumns(keep_columns=("lang",)), ALL):
        assert kept(tmp_path, columns)["lang"] == ["of the file", None, "en"]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        pytest.param(pa.array([1], pa.int32()), [1, 2], id="integers-of-the-column"),
        pytest.param(pa.array([1.5]), [1.5, 2.0], id="floats-of-the-column"),
        pytest.param(pa.array(["x"]), ["x", "2"], id="strings-of-the-column"),
        pytest.param(pa.array([True]), ["true", "2"], id="neither-so-strings"),
        pytest.param(pa.nulls(1), [None, 2], id="no-value-in-the-column"),
    ],
)
def test_a_key_takes_the_type_of_other_files_columns(
    tmp_path: Path, column: pa.Array, values: list[Any]
) -> None:
    write(tmp_path / "k=2/b.parquet", {"id": 2, "text": "t"})
    table = pa.table({"id": [1], "text": ["t"], "k": column})
    pq.write_table(table, tmp_path / "a.parquet")
    columns = InputColumns(keep_columns=("k",))
    schema = merge_schemas(scan_all(tmp_path, columns), columns)
    if not isinstance(values[1], str) and not pa.types.is_null(column.type):
        assert schema.field("k").type == column.type
    if pa.types.is_boolean(column.type):
        assert schema.field("k").type == pa.string()
    assert kept(tmp_path, columns)["k"] == values


def test_a_star_keeps_keys_below_the_pattern_and_a_name_finds_those_above(tmp_path: Path) -> None:
    write(tmp_path / "run=3/lang=de/a.jsonl", {"id": 1, "text": "t"})
    assert kept(tmp_path / "run=3", ALL) == {"text": ["t"], "lang": ["de"]}
    assert kept(tmp_path / "run=3/lang=de", ALL) == {"text": ["t"]}
    columns = InputColumns(keep_columns=("run", "lang"))
    for folder in (tmp_path, tmp_path / "run=3", tmp_path / "run=3/lang=de"):
        assert kept(folder, columns) == {"run": [3], "lang": ["de"]}


def test_keys_with_names_of_the_output_are_not_kept_by_a_star(tmp_path: Path) -> None:
    write(tmp_path / "vector=1/id=5/a.jsonl", {"id": 1, "text": "t"})
    assert kept(tmp_path, ALL) == {"text": ["t"]}


def test_a_dataset_made_without_keys_stays_without_them(tmp_path: Path) -> None:
    write(tmp_path / "lang=de/a.jsonl", {"id": 1, "text": "t"})
    scanned = scan_all(tmp_path, ALL)
    assert merge_schemas(scanned, ALL, {"text": "string"}).names == ["id", "text"]
    assert merge_schemas(scanned, ALL, {}).names == ["id", "text"]
    pinned = {"text": "string", "lang": "string"}
    assert merge_schemas(scanned, ALL, pinned).names == ["id", "text", "lang"]


@pytest.mark.parametrize(
    ("pinned", "values"),
    [
        pytest.param("string", ["7", "8"], id="string"),
        pytest.param("int64", [7, 8], id="int64"),
        pytest.param("date32[day]", [None, None], id="no-dates"),
    ],
)
def test_a_key_keeps_the_type_that_the_dataset_has(
    tmp_path: Path, pinned: str, values: list[Any]
) -> None:
    write(tmp_path / "k=7/a.jsonl", {"id": 1, "text": "t"})
    write(tmp_path / "k=8/b.parquet", {"id": 2, "text": "t"})
    columns = InputColumns(keep_columns=("k",))
    schema = merge_schemas(scan_all(tmp_path, columns), columns, {"k": pinned})
    assert str(schema.field("k").type) == pinned
    from bulkembed.transforms.inputs.input_files import read_batches

    batches = [
        batch
        for file in scan_all(tmp_path, columns)
        for batch in read_batches(
            open_found(file.found), file.input_file, columns, schema, [(0, file.rows)]
        )
    ]
    assert [value for b in batches for value in b.kept.column("k").to_pylist()] == values
    assert all(batch.unkept == ({"k"} if values[0] is None else set()) for batch in batches)


def test_a_file_keeps_its_key_unless_a_folder_above_the_root_is_read(tmp_path: Path) -> None:
    write(tmp_path / "dt=1/lang=de/a.jsonl", {"id": 1, "text": "t"})
    write(tmp_path / "dt=2/lang=de/a.jsonl", {"id": 1, "text": "t"})
    first, second = f"{tmp_path}/dt=1", f"{tmp_path}/dt=2"
    plain = scan(first, InputColumns()).input_file.key
    for columns in (ALL, InputColumns(keep_columns=("lang",))):
        assert scan(first, columns).input_file.key == plain
        assert scan(second, columns).input_file.key == plain
    columns = InputColumns(keep_columns=("dt",))
    assert scan(first, columns).input_file.key != scan(second, columns).input_file.key
    write(tmp_path / "dt=1/lang=de/a.jsonl", {"id": 1, "text": "t", "dt": 5})
    other = scan(first, columns).input_file
    assert (other.folders, other.hive_keys) == ((), (("lang", "de"),))


def test_a_saved_scan_has_the_folders(tmp_path: Path) -> None:
    write(tmp_path / "dt=1/a.jsonl", {"id": 1, "text": "t"})
    scanned = scan(f"{tmp_path}/dt=1", InputColumns(keep_columns=("dt",)))
    assert scanned.folders == ("dt=1",)
    again = ScannedFile.from_json(scanned.to_json())
    assert again.input_file == scanned.input_file


def test_a_missing_column_names_the_keys_and_notes_do_not(tmp_path: Path) -> None:
    write(tmp_path / "lang=de/a.jsonl", {"id": 1, "text": "t"})
    with pytest.raises(ConfigError, match=r"no column 'land'\. Did you mean lang\?"):
        scan_all(tmp_path, InputColumns(title_column="land"))
    with pytest.raises(ConfigError, match=r"no column 'land'\. Did you mean lang\?"):
        read_all(tmp_path, InputColumns(keep_columns=("land",)))
    columns = InputColumns(keep_columns=("lang",))
    scanned = scan_all(tmp_path, columns)
    assert column_notes(scanned, merge_schemas(scanned, columns)) == []
