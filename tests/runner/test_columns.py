"""Ids, texts and kept columns of many types through whole runs."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from support.cli import bulkembed, dead_codes, parts, read, run, write_rows

from bulkembed.emulator.server import EmulatorServer

WHEN = dt.datetime(2024, 2, 29, 12, 30, 1, 5)


def test_kept_columns_of_many_types_are_written_read_and_verified(tmp_path: Path) -> None:
    fixed = pa.list_(pa.float32(), 2)
    columns = {
        "ns": pa.array([WHEN, None], pa.timestamp("ns", "UTC")),
        "ms": pa.array([WHEN.replace(microsecond=0), None], pa.timestamp("ms")),
        "decimal": pa.array([Decimal("1.50"), None], pa.decimal128(38, 2)),
        "date": pa.array([dt.date(9999, 12, 31), None]),
        "time": pa.array([dt.time(1, 2, 3), None]),
        "duration": pa.array([dt.timedelta(1), None]),
        "binary": pa.array([b"\xff", None]),
        "uuid": pa.array([uuid.UUID(int=1), None], pa.uuid()),
        "null": pa.nulls(2),
        "fixed": pa.array([[1.0, 2.0], None], fixed),
        "list": pa.array([[1, None], None]),
        "struct": pa.array([{"a": {"b": [WHEN]}}, None]),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        "dictionary": pa.array(["a", None]).dictionary_encode(),
        "view": pa.array(["a", None], pa.string_view()),
    }
    source = write_rows(tmp_path / "in.parquet", ["a dog", "a cat"], **columns)
    output = tmp_path / "out"
    ended = run(None, source, output, "--keep-columns", "*", "--dim", 128)
    assert ended.code == 0, ended.err
    assert "null" not in ended.err
    table = read(output)
    for name, values in columns.items():
        assert table[name].to_pylist() == values.to_pylist(), name
    schema = pq.ParquetFile(parts(output, "vectors")[0]).schema
    units = [str(schema.column(at).logical_type) for at in range(len(schema))]
    assert not [unit for unit in units if "nanoseconds" in unit]
    assert any("isAdjustedToUTC=true, timeUnit=microseconds" in unit for unit in units)
    verified = bulkembed("verify", output, "--against", source)
    assert verified.code == 0, verified.out


def test_nested_values_of_jsonl_are_kept_and_verified(tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out"
    rows = [
        {"id": 1, "text": "a dog", "tags": ["a", None], "meta": {"n": 1, "l": [[1.5]]}, "e": {}},
        {"id": 2, "text": "a cat", "tags": None, "meta": {"m": "x"}, "e": {}, "z": None},
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = run(None, source, output, "--keep-columns", "*", "--dim", 128)
    assert ended.code == 0, ended.err
    assert read(output)["tags"].to_pylist() == [["a", None], None]
    verified = bulkembed("verify", output, "--against", source)
    assert verified.code == 0, verified.out


def test_a_kept_column_of_several_types_costs_no_row_and_is_told_of_once(tmp_path: Path) -> None:
    source, output = tmp_path / "in.jsonl", tmp_path / "out"
    zips = [12345 + n if n % 20 else f"0{1234 + n}" for n in range(40)]
    rows = [{"id": n, "text": f"text {n}", "zip": zips[n]} for n in range(40)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ended = run(None, source, output, "--keep-columns", "zip", "--dim", 128, "--unit-rows", 5)
    assert ended.code == 0, ended.err
    assert read(output)["zip"].to_pylist() == [str(one) for one in zips]
    assert ended.err.count("column 'zip'") == 1
    assert "kept as strings" in ended.err
    assert bulkembed("verify", output, "--against", source).code == 0


def test_a_dataset_goes_on_with_its_pinned_type_when_later_values_are_of_several(
    tmp_path: Path,
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"id": 1, "text": "a", "zip": 5}\n')
    assert run(None, folder, output, "--keep-columns", "zip", "--dim", 128).code == 0
    lines = [{"id": n, "text": f"text {n}", "zip": "05" if n % 2 else n} for n in range(10)]
    (folder / "b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = run(None, folder, output, "--keep-columns", "zip", "--dim", 128, "--unit-rows", 2)
    assert ended.code == 0, ended.err
    assert read(output)["zip"].to_pylist() == [5, *(None if n % 2 else n for n in range(10))]
    assert ended.err.count("values that cannot be written as int64 are null") == 1
    assert dead_codes(output) == {}


def test_kept_columns_that_older_shards_lack_are_null_there(tmp_path: Path) -> None:
    write_rows(tmp_path / "in/a.parquet", ["a dog"], lang=["de"])
    write_rows(tmp_path / "in/b.parquet", ["a cat", "shares fell"])
    ended = run(None, tmp_path / "in", tmp_path / "out", "--keep-columns", "lang", "--dim", 128)
    assert ended.code == 0, ended.err
    assert read(tmp_path / "out")["lang"].to_pylist() == ["de", None, None]
    assert "column 'lang' is missing in b.parquet, where it is null" in ended.err


def test_ids_that_are_uuids_and_texts_without_a_mark_are_embedded_and_verified(
    tmp_path: Path, server: EmulatorServer
) -> None:
    ids = [uuid.UUID(int=n) for n in range(3)]
    texts = pa.array([b"a dog", b"\xff", "ein Zoo für alle".encode()])
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": pa.array(ids, pa.uuid()), "text": texts}), source)
    ended = run(server.url, source, tmp_path / "out", "--dim", 128)
    assert ended.code == 0, ended.err
    assert read(tmp_path / "out")["id"].to_pylist() == [str(ids[0]), str(ids[2])]
    assert dead_codes(tmp_path / "out") == {1: "bad_text"}
    assert bulkembed("verify", tmp_path / "out", "--against", source).code == 0
