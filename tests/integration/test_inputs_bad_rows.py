"""Rows that cannot be embedded, and types that go together or do not."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.inputs import put, read_all, read_lines, scan_all

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import IdType, InputColumns
from bulkembed.transforms.inputs.columns import merge_schemas


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        pytest.param('{"id": 1, "text": "a"', DeadCode.BAD_JSON, "invalid JSON", id="broken"),
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
        pytest.param('{"text": "a"}', DeadCode.MISSING_ID, "is missing", id="no-id"),
        pytest.param('{"id": null, "text": "a"}', DeadCode.MISSING_ID, "null", id="null-id"),
        pytest.param('{"id": true, "text": "a"}', DeadCode.BAD_ID, "boolean True", id="bool-id"),
        pytest.param('{"id": 1.5, "text": "a"}', DeadCode.BAD_ID, "1.5", id="float-id"),
        pytest.param('{"id": [1], "text": "a"}', DeadCode.BAD_ID, "a list [1]", id="list-id"),
        pytest.param(
            '{"id": 18446744073709551616, "text": "a"}',
            DeadCode.BAD_ID,
            "18446744073709551616, which does not fit in int64. Use --id-type string",
            id="id-of-2^64",
        ),
        pytest.param('{"id": 1, "text": 5}', DeadCode.BAD_TEXT, "integer 5", id="text-int"),
        pytest.param('{"id": 1, "text": ["a"]}', DeadCode.BAD_TEXT, "a list", id="text-list"),
        pytest.param(
            '{"id": 1, "text": "a\\ud83d"}', DeadCode.BAD_TEXT, "surrogate", id="text-surrogate"
        ),
    ],
)
def test_a_bad_line_fails_only_its_row(
    tmp_path: Path, line: str | bytes, code: DeadCode, words: str
) -> None:
    good = {"id": 7, "text": "good"}
    batch = read_lines(tmp_path, good, line, good)
    assert list(batch.bad) == [1]
    assert batch.bad[1][0] is code
    assert words in batch.bad[1][1]
    assert batch.bad[1][1].startswith("row 1 of in.jsonl: ")
    batch.bad[1][1].encode()
    assert batch.texts[0] == batch.texts[2] == "good"
    assert batch.ids.to_pylist()[::2] == [7, 7]


def test_a_null_or_missing_text_is_none_and_not_bad(tmp_path: Path) -> None:
    batch = read_lines(tmp_path, {"id": 1, "text": None}, {"id": 2}, {"id": 3, "text": ""})
    assert batch.texts == [None, None, ""]
    assert batch.bad == {}


def test_a_title_with_a_lone_surrogate_is_bad(tmp_path: Path) -> None:
    columns = InputColumns(title_column="t")
    rows = ['{"id": 1, "text": "a", "t": "\\udc00"}', {"id": 2, "text": "b", "t": "fine"}]
    batch = read_lines(tmp_path, *rows, columns=columns)
    assert batch.bad[0][0] is DeadCode.BAD_TEXT
    assert batch.titles == [None, "fine"]


def test_a_template_treats_null_fields_as_empty(tmp_path: Path) -> None:
    columns = InputColumns(text_column=None, text_template="{{{a.b}}}\n{c d}!{a.b}")
    rows = [{"id": 1, "a.b": "x", "c d": "{y}"}, {"id": 2, "c d": "z"}, {"id": 3, "c d": None}]
    batch = read_lines(tmp_path, *rows, columns=columns)
    assert batch.texts == ["{x}\n{y}!x", "{}\nz!", None]
    assert batch.bad == {}
    (tmp_path / "in.jsonl").unlink()
    pq.write_table(
        pa.Table.from_pylist(
            rows, pa.schema([("id", pa.int64()), ("a.b", pa.string()), ("c d", pa.string())])
        ),
        tmp_path / "in.parquet",
    )
    assert read_all(tmp_path, columns)[1][0].texts == batch.texts


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        pytest.param([1, -(2**63), 2**63 - 1], pa.int64(), id="int64"),
        pytest.param([0, 2**63, 2**64 - 1], pa.uint64(), id="uint64"),
        pytest.param(["a", "", "1", "é\0"], pa.string(), id="string"),
    ],
)
def test_ids_keep_their_type_and_value(tmp_path: Path, ids: list[Any], kind: pa.DataType) -> None:
    batch = read_lines(tmp_path, *({"id": value, "text": "a"} for value in ids))
    assert batch.ids.equals(pa.array(ids, kind))
    text = InputColumns(id_type=IdType.STRING)
    batch = read_lines(tmp_path, *({"id": value, "text": "a"} for value in ids), columns=text)
    assert batch.ids.to_pylist() == [str(value) for value in ids]


def test_ids_of_any_size_and_kind_can_be_strings(tmp_path: Path) -> None:
    columns = InputColumns(id_type=IdType.STRING)
    rows = [{"id": 2**70, "text": "a"}, {"id": "x", "text": "b"}, '{"id": "\\ud800", "text": "c"}']
    batch = read_lines(tmp_path, *rows, columns=columns)
    assert batch.ids.to_pylist() == [str(2**70), "x", None]
    assert batch.bad[2][0] is DeadCode.BAD_ID


def test_generated_ids_have_path_and_row(tmp_path: Path) -> None:
    columns = InputColumns(id_column=None)
    batch = read_lines(tmp_path, {"text": "a"}, "broken", {"text": "b"}, columns=columns)
    assert batch.ids.to_pylist() == ["in.jsonl#0", "in.jsonl#1", "in.jsonl#2"]
    assert list(batch.bad) == [1]


def test_the_last_of_several_equal_keys_counts(tmp_path: Path) -> None:
    assert read_lines(tmp_path, '{"id": 1, "text": "a", "text": "b"}').texts == ["b"]


def test_a_column_in_no_row_of_a_jsonl_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": 1, "body": "a"}\nbroken\n')
    with pytest.raises(ConfigError, match=r"in\.jsonl has no column 'text'.*It has 'id', 'body'"):
        scan_all(tmp_path)


def test_the_error_for_mixed_ids_in_one_file_names_the_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"integer in line 1 and a string in line 3.*--id-type"):
        read_lines(tmp_path, {"id": 1, "text": "a"}, "", {"id": "x", "text": "b"})


def test_the_error_for_integer_and_string_ids_names_both_files(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", pa.array([1]))
    put(tmp_path, "b.parquet", pa.array(["x"]))
    with pytest.raises(ConfigError, match=r"a\.parquet.*b\.parquet.*--id-type string"):
        read_all(tmp_path)
    _, batches = read_all(tmp_path, InputColumns(id_type=IdType.STRING))
    assert [batch.ids.to_pylist() for batch in batches] == [["1"], ["x"]]


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
def test_id_types_of_several_files_become_one(
    tmp_path: Path, one: pa.DataType, two: pa.DataType, merged: pa.DataType
) -> None:
    for name, kind in (("a.parquet", one), ("b.parquet", two)):
        plain = ["1", None] if "string" in str(kind) else [1, None]
        put(tmp_path, name, pa.array(plain).cast(kind))
    schema, batches = read_all(tmp_path)
    assert schema.field("id").type == merged
    assert all(batch.ids.type == merged for batch in batches)
    assert all(
        [str(value) for value in batch.ids.to_pylist()] == ["1", "None"] for batch in batches
    )
    assert all(batch.bad[1][0] is DeadCode.MISSING_ID for batch in batches)


def test_ids_too_large_for_int64_become_uint64(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", pa.array([2**64 - 1], pa.uint64()))
    put(tmp_path, "b.parquet", pa.array([1]))
    assert read_all(tmp_path)[0].field("id").type == pa.uint64()
    put(tmp_path, "b.parquet", pa.array([-1]))
    with pytest.raises(ConfigError, match=r"a\.parquet, and b\.parquet.*--id-type string"):
        read_all(tmp_path)


@pytest.mark.parametrize(
    "empty",
    [
        pytest.param({"id": pa.float64(), "text": pa.string()}, id="id-float"),
        pytest.param({"id": pa.null(), "text": pa.null(), "x": pa.null()}, id="nulls"),
        pytest.param({"id": pa.string(), "text": pa.string(), "x": pa.bool_()}, id="other-types"),
        pytest.param({"id": pa.int64(), "text": pa.list_(pa.int8()), "x": pa.int64()}, id="text"),
        pytest.param({"__index_level_0__": pa.int64()}, id="no-such-columns"),
        pytest.param({}, id="no-columns"),
    ],
)
@pytest.mark.parametrize("name", ["a.parquet", "z.parquet"])
def test_the_types_of_a_file_without_rows_are_not_checked(
    tmp_path: Path, name: str, empty: dict[str, pa.DataType]
) -> None:
    put(tmp_path, "m.parquet", pa.array([1, 2]), x=pa.array([1.5, 2.5]))
    pq.write_table(pa.schema(list(empty.items())).empty_table(), tmp_path / name)
    columns = InputColumns(keep_columns=("x",))
    schema = merge_schemas(scan_all(tmp_path, columns), columns)
    assert schema == pa.schema([("id", pa.int64()), ("x", pa.float64())])


def test_files_without_rows_and_types_do_not_stop_the_job(tmp_path: Path) -> None:
    pq.write_table(pa.schema([("id", pa.bool_())]).empty_table(), tmp_path / "a.parquet")
    assert merge_schemas(scan_all(tmp_path), InputColumns()) == pa.schema([("id", pa.string())])
