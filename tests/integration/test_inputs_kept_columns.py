"""Columns that are carried over: types that go together, or do not."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.inputs import put, read_all, read_lines

from schemas.deadletters import DeadCode
from schemas.errors import ConfigError
from schemas.inputs import InputColumns


def test_kept_columns_keep_type_and_value(tmp_path: Path) -> None:
    kept = {
        "when": pa.array([0, None], pa.timestamp("us", "UTC")),
        "cat": pa.array(["x", None]).dictionary_encode(),
        "n": pa.array([1, 2], pa.uint8()),
        "s": pa.array([{"a": [1]}, None]),
        "d.o t": pa.array(["ü", None], pa.large_string()),
        "d": pa.array([{"o t": 1}, {"o t": 2}]),
    }
    put(tmp_path, "a.parquet", pa.array([1, 2]), **kept)
    for columns in (InputColumns(keep_columns=tuple(kept)), InputColumns(keep_columns=("*",))):
        schema, (run,) = read_all(tmp_path, columns)
        for name, values in kept.items():
            assert schema.field(name).type == values.type
            assert run.kept.column(name).to_pylist() == values.to_pylist()
    assert run.kept.column_names == ["text", *kept]


def test_a_star_keeps_the_union_with_nulls(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", pa.array([1]), n=pa.array([1], pa.int32()))
    put(tmp_path, "b.parquet", pa.array([2]), m=pa.array(["x"]), n=pa.array([1.5]))
    (tmp_path / "c.jsonl").write_text('{"id": 3, "text": "t", "e": {}, "z": null, "l": []}\n')
    schema, runs = read_all(tmp_path, InputColumns(keep_columns=("*",)))
    assert schema.names == ["id", "text", "n", "m", "e", "z", "l"]
    assert schema.field("n").type == pa.float64()
    assert schema.field("z").type == pa.string()
    table = pa.concat_tables([run.kept for run in runs])
    assert table.column("n").to_pylist() == [1.0, 1.5, None]
    assert table.column("m").to_pylist() == [None, "x", None]
    pq.write_table(table, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column("l").to_pylist() == [None, None, []]


def test_lists_of_fixed_size_that_a_file_lacks_become_plain_lists(tmp_path: Path) -> None:
    fixed = pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))
    put(tmp_path, "a.parquet", pa.array([1]), v=fixed)
    columns = InputColumns(keep_columns=("*",))
    assert read_all(tmp_path, columns)[0].field("v").type == fixed.type
    put(tmp_path, "b.parquet", pa.array([2]))
    schema, runs = read_all(tmp_path, columns)
    assert schema.field("v").type == pa.list_(pa.float32())
    pq.write_table(pa.concat_tables([run.kept for run in runs]), tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column("v").to_pylist() == [[1.0, 2.0], None]


def test_kept_columns_that_do_not_go_together_name_both_files(tmp_path: Path) -> None:
    columns = InputColumns(keep_columns=("x",))
    put(tmp_path, "a.parquet", pa.array([1]), x=pa.array([1]))
    put(tmp_path, "b.parquet", pa.array([1]), x=pa.array(["s"]))
    with pytest.raises(ConfigError, match=r"'x' is int64 in a\.parquet and string in b\.parquet"):
        read_all(tmp_path, columns)


def test_a_star_that_meets_a_column_of_ours_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", pa.array([1]), vector=pa.array([1]))
    with pytest.raises(ConfigError, match="'vector'"):
        read_all(tmp_path, InputColumns(keep_columns=("*",)))


def test_a_kept_column_in_some_jsonl_files_only_is_null_in_the_others(tmp_path: Path) -> None:
    columns = InputColumns(keep_columns=("x",))
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "t"}\n')
    (tmp_path / "b.jsonl").write_text('{"id": 1, "text": "t", "x": null}\n')
    assert read_all(tmp_path, columns)[0].field("x").type == pa.string()
    (tmp_path / "c.jsonl").write_text('{"id": 1, "text": "t", "x": 5}\n')
    schema, runs = read_all(tmp_path, columns)
    assert schema.field("x").type == pa.int64()
    assert [run.kept.column("x").to_pylist() for run in runs] == [[None], [None], [5]]
    with pytest.raises(ConfigError, match=r"no column 'y'.*'id', 'text', 'x'"):
        read_all(tmp_path, InputColumns(keep_columns=("y",)))


@pytest.mark.parametrize(
    ("values", "kind", "bad"),
    [
        pytest.param(["1", "2.5", "null"], pa.float64(), [], id="numbers-widen"),
        pytest.param(["1", '"x"', "2"], pa.int64(), [1], id="a-string-among-ints"),
        pytest.param(["1.5", "true"], pa.float64(), [1], id="a-bool-among-floats"),
        pytest.param(['{"a": 1}', "[]", '{"b": "x"}'], None, [1], id="a-list-among-objects"),
        pytest.param(["5", str(2**64 - 1)], pa.uint64(), [], id="uint64"),
        pytest.param(["5", str(2**64)], pa.int64(), [1], id="2^64"),
        pytest.param([f'{{"a": {2**64}}}', '{"a": 1}'], None, [0], id="2^64-inside"),
        pytest.param(['"x"', '"\\ud800"'], pa.string(), [1], id="lone-surrogate"),
        pytest.param(['[{"a": "x"}]', '[{"b": null}]'], None, [], id="objects-in-lists"),
    ],
)
def test_a_kept_value_that_does_not_fit_costs_its_row(
    tmp_path: Path, values: list[str], kind: pa.DataType | None, bad: list[int]
) -> None:
    columns = InputColumns(keep_columns=("x",))
    lines = [f'{{"id": {n}, "text": "t", "x": {value}}}' for n, value in enumerate(values)]
    run = read_lines(tmp_path, *lines, columns=columns)
    assert {offset: code for offset, (code, _) in run.bad.items()} == dict.fromkeys(
        bad, DeadCode.BAD_COLUMN
    )
    column = run.kept.column("x")
    assert kind is None or column.type == kind
    for offset, value in enumerate(values):
        if offset not in bad and kind is not None:
            assert column[offset].as_py() == json.loads(value)
    assert all(not column[offset].is_valid for offset in bad)


def test_without_kept_columns_the_table_still_knows_its_rows(tmp_path: Path) -> None:
    assert read_lines(tmp_path, {"id": 1, "text": "a"}, "x").kept.num_rows == 2
