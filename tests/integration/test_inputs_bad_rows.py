"""Rows that cannot be embedded, and types that go together or do not."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.deadletters import DeadCode
from schemas.errors import ConfigError
from schemas.inputs import IdType, InputColumns
from transforms.storage.columns import merge_schemas
from transforms.storage.discover import find_files
from transforms.storage.filesystems import open_found
from transforms.storage.row_reader import read_runs
from transforms.storage.row_run import RowRun
from transforms.storage.scan import scan_file
from transforms.storage.scanned_file import ScannedFile

PLAIN = InputColumns()


def scan_all(folder: Path, columns: InputColumns = PLAIN) -> list[ScannedFile]:
    return [scan_file(open_found(f), f, columns) for f in find_files([str(folder)])]


def read_all(folder: Path, columns: InputColumns = PLAIN) -> tuple[pa.Schema, list[RowRun]]:
    scanned = scan_all(folder, columns)
    schema = merge_schemas(scanned, columns)
    runs = []
    for file in scanned:
        filesystem = open_found(file.found)
        runs += read_runs(filesystem, file.input_file, columns, schema, [(0, file.rows)])
    return schema, runs


def read_lines(
    folder: Path, *lines: bytes | str | dict[str, Any], columns: InputColumns = PLAIN
) -> RowRun:
    raw = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    encoded = [line.encode() if isinstance(line, str) else line for line in raw]
    (folder / "in.jsonl").write_bytes(b"\n".join(encoded) + b"\n")
    _, (run,) = read_all(folder, columns)
    return run


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        pytest.param('{"id": 1, "text": "a"', DeadCode.BAD_JSON, "no JSON", id="broken"),
        pytest.param("[1]", DeadCode.BAD_JSON, "got a list", id="list"),
        pytest.param('"x"', DeadCode.BAD_JSON, "got a string", id="string"),
        pytest.param("null", DeadCode.BAD_JSON, "got null", id="null"),
        pytest.param(b'{"id": 1, "text": "\xff"}', DeadCode.BAD_JSON, "UTF-8", id="no-utf8"),
        pytest.param(
            b'{"id": 1, "text": "\xed\xa0\x80"}', DeadCode.BAD_JSON, "UTF-8", id="raw-surrogate"
        ),
        pytest.param("[" * 100_000, DeadCode.BAD_JSON, "deep", id="nested-too-deeply"),
        pytest.param('{"\\ud800": 1}', DeadCode.BAD_JSON, "surrogate", id="surrogate-in-a-name"),
        pytest.param(
            '{"id": ' + "9" * 5000 + ', "text": "a"}', DeadCode.BAD_JSON, "4300", id="huge-integer"
        ),
        pytest.param('{"text": "a"}', DeadCode.MISSING_ID, "not there", id="no-id"),
        pytest.param('{"id": null, "text": "a"}', DeadCode.MISSING_ID, "null", id="null-id"),
        pytest.param('{"id": true, "text": "a"}', DeadCode.BAD_ID, "boolean True", id="bool-id"),
        pytest.param('{"id": 1.5, "text": "a"}', DeadCode.BAD_ID, "1.5", id="float-id"),
        pytest.param('{"id": [1], "text": "a"}', DeadCode.BAD_ID, "a list [1]", id="list-id"),
        pytest.param(
            '{"id": 18446744073709551616, "text": "a"}',
            DeadCode.BAD_ID,
            "18446744073709551616, beyond int64; use --id-type string",
            id="id-of-2^64",
        ),
        pytest.param('{"id": 1, "text": 5}', DeadCode.BAD_TEXT, "integer 5", id="text-int"),
        pytest.param('{"id": 1, "text": ["a"]}', DeadCode.BAD_TEXT, "a list", id="text-list"),
        pytest.param(
            '{"id": 1, "text": "a\\ud83d"}', DeadCode.BAD_TEXT, "surrogate", id="text-surrogate"
        ),
    ],
)
def test_a_bad_line_costs_its_own_row(
    tmp_path: Path, line: str | bytes, code: DeadCode, words: str
) -> None:
    good = {"id": 7, "text": "good"}
    run = read_lines(tmp_path, good, line, good)
    assert list(run.bad) == [1]
    assert run.bad[1][0] is code
    assert words in run.bad[1][1]
    assert run.bad[1][1].startswith("row 1 of in.jsonl: ")
    run.bad[1][1].encode()
    assert run.texts[0] == run.texts[2] == "good"
    assert run.ids.to_pylist()[::2] == [7, 7]


def test_a_null_or_missing_text_is_none_and_not_bad(tmp_path: Path) -> None:
    run = read_lines(tmp_path, {"id": 1, "text": None}, {"id": 2}, {"id": 3, "text": ""})
    assert run.texts == [None, None, ""]
    assert run.bad == {}


def test_a_title_with_a_lone_surrogate_is_bad(tmp_path: Path) -> None:
    columns = InputColumns(title_column="t")
    rows = ['{"id": 1, "text": "a", "t": "\\udc00"}', {"id": 2, "text": "b", "t": "fine"}]
    run = read_lines(tmp_path, *rows, columns=columns)
    assert run.bad[0][0] is DeadCode.BAD_TEXT
    assert run.titles == [None, "fine"]


def test_a_template_counts_null_fields_as_empty(tmp_path: Path) -> None:
    columns = InputColumns(text_column=None, text_template="{{{a.b}}}\n{c d}!{a.b}")
    rows = [{"id": 1, "a.b": "x", "c d": "{y}"}, {"id": 2, "c d": "z"}, {"id": 3, "c d": None}]
    run = read_lines(tmp_path, *rows, columns=columns)
    assert run.texts == ["{x}\n{y}!x", "{}\nz!", None]
    assert run.bad == {}
    (tmp_path / "in.jsonl").unlink()
    pq.write_table(
        pa.Table.from_pylist(
            rows, pa.schema([("id", pa.int64()), ("a.b", pa.string()), ("c d", pa.string())])
        ),
        tmp_path / "in.parquet",
    )
    assert read_all(tmp_path, columns)[1][0].texts == run.texts


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        pytest.param([1, -(2**63), 2**63 - 1], pa.int64(), id="int64"),
        pytest.param([0, 2**63, 2**64 - 1], pa.uint64(), id="uint64"),
        pytest.param(["a", "", "1", "é\0"], pa.string(), id="string"),
    ],
)
def test_ids_keep_their_type_and_value(tmp_path: Path, ids: list[Any], kind: pa.DataType) -> None:
    run = read_lines(tmp_path, *({"id": value, "text": "a"} for value in ids))
    assert run.ids.equals(pa.array(ids, kind))
    text = InputColumns(id_type=IdType.STRING)
    run = read_lines(tmp_path, *({"id": value, "text": "a"} for value in ids), columns=text)
    assert run.ids.to_pylist() == [str(value) for value in ids]


def test_as_strings_ids_of_any_size_and_kind_are_fine(tmp_path: Path) -> None:
    columns = InputColumns(id_type=IdType.STRING)
    rows = [{"id": 2**70, "text": "a"}, {"id": "x", "text": "b"}, '{"id": "\\ud800", "text": "c"}']
    run = read_lines(tmp_path, *rows, columns=columns)
    assert run.ids.to_pylist() == [str(2**70), "x", None]
    assert run.bad[2][0] is DeadCode.BAD_ID


def test_ids_are_made_of_path_and_row(tmp_path: Path) -> None:
    columns = InputColumns(id_column=None)
    run = read_lines(tmp_path, {"text": "a"}, "broken", {"text": "b"}, columns=columns)
    assert run.ids.to_pylist() == ["in.jsonl#0", "in.jsonl#1", "in.jsonl#2"]
    assert list(run.bad) == [1]


def test_of_equal_keys_the_last_counts(tmp_path: Path) -> None:
    assert read_lines(tmp_path, '{"id": 1, "text": "a", "text": "b"}').texts == ["b"]


def test_a_column_in_no_row_of_a_jsonl_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": 1, "body": "a"}\nbroken\n')
    with pytest.raises(ConfigError, match=r"in\.jsonl has no column 'text'; it has 'id', 'body'"):
        scan_all(tmp_path)
    (tmp_path / "in.jsonl").write_text("broken\n")
    assert scan_all(tmp_path)[0].rows == 1


def test_mixed_ids_in_one_file_are_named_by_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"integer in line 1 and a string in line 3.*--id-type"):
        read_lines(tmp_path, {"id": 1, "text": "a"}, "", {"id": "x", "text": "b"})


def put(folder: Path, name: str, ids: pa.Array, **kept: pa.Array) -> None:
    pq.write_table(pa.table({"id": ids, "text": ["t"] * len(ids)} | kept), folder / name)


def test_ints_here_and_strings_there_name_both_files(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", pa.array([1]))
    put(tmp_path, "b.parquet", pa.array(["x"]))
    with pytest.raises(ConfigError, match=r"a\.parquet.*b\.parquet.*--id-type string"):
        read_all(tmp_path)
    _, runs = read_all(tmp_path, InputColumns(id_type=IdType.STRING))
    assert [run.ids.to_pylist() for run in runs] == [["1"], ["x"]]


@pytest.mark.parametrize(
    ("one", "two", "merged"),
    [
        pytest.param(pa.int32(), pa.int32(), pa.int32(), id="same"),
        pytest.param(pa.int8(), pa.int32(), pa.int64(), id="widths"),
        pytest.param(pa.uint64(), pa.int64(), pa.int64(), id="small-uint64"),
        pytest.param(pa.large_string(), pa.string(), pa.string(), id="large"),
        pytest.param(
            pa.dictionary(pa.int32(), pa.string()), pa.string_view(), pa.string(), id="dictionary"
        ),
    ],
)
def test_id_types_become_one(
    tmp_path: Path, one: pa.DataType, two: pa.DataType, merged: pa.DataType
) -> None:
    for name, kind in (("a.parquet", one), ("b.parquet", two)):
        plain = ["1", None] if "string" in str(kind) else [1, None]
        put(tmp_path, name, pa.array(plain).cast(kind))
    schema, runs = read_all(tmp_path)
    assert schema.field("id").type == merged
    assert all(run.ids.type == merged for run in runs)
    assert all([str(value) for value in run.ids.to_pylist()] == ["1", "None"] for run in runs)
    assert all(run.bad[1][0] is DeadCode.MISSING_ID for run in runs)


def test_ids_too_large_for_int64_want_uint64(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", pa.array([2**64 - 1], pa.uint64()))
    put(tmp_path, "b.parquet", pa.array([1]))
    assert read_all(tmp_path)[0].field("id").type == pa.uint64()
    put(tmp_path, "b.parquet", pa.array([-1]))
    with pytest.raises(ConfigError, match=r"a\.parquet and b\.parquet.*--id-type string"):
        read_all(tmp_path)


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
