"""Types of ids and texts that are taken, and what is made of their values."""

import datetime as dt
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.inputs import read_all, read_lines

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import IdType, InputColumns
from bulkembed.transforms.inputs.rows import RowBatch

STRING = InputColumns(id_type=IdType.STRING)
UUIDS = [uuid.UUID(int=n) for n in (1, 2**127 + 5)]


def write(folder: Path, file: str, **columns: Any) -> None:
    columns.setdefault("text", ["t"] * len(next(iter(columns.values()))))
    pq.write_table(pa.table(columns), folder / file)


def read_ids(folder: Path, ids: pa.Array, columns: InputColumns) -> RowBatch:
    write(folder, "in.parquet", id=ids)
    schema, (batch,) = read_all(folder, columns)
    assert batch.ids.type == schema.field("id").type
    batch.ids.validate(full=True)
    return batch


@pytest.mark.parametrize(
    ("ids", "auto", "string"),
    [
        pytest.param(
            pa.array(UUIDS, pa.uuid()), [str(u) for u in UUIDS], [str(u) for u in UUIDS], id="uuid"
        ),
        pytest.param(
            pa.array([Decimal(1), Decimal(10**37)], pa.decimal128(38, 0)),
            ["1", str(10**37)],
            ["1", str(10**37)],
            id="decimal",
        ),
        pytest.param(
            pa.array([Decimal(-7), None], pa.decimal256(50, 0)),
            ["-7", None],
            ["-7", None],
            id="decimal256",
        ),
        pytest.param(
            pa.array([1.0, -3.0, 2.0**60]), [1, -3, 2**60], ["1", "-3", str(2**60)], id="double"
        ),
        pytest.param(
            pa.array([1.0, None, float("nan")]), [1, None, None], ["1", None, None], id="nan"
        ),
        pytest.param(pa.array([1.0, 2.0], pa.float32()), [1, 2], ["1", "2"], id="float"),
        pytest.param(pa.array([1.0, 2.0], pa.float16()), [1, 2], ["1", "2"], id="half"),
        pytest.param(pa.array([b"a", "é".encode()]), ["a", "é"], ["a", "é"], id="binary"),
        pytest.param(
            pa.array([b"a", None], pa.large_binary()), ["a", None], ["a", None], id="large-binary"
        ),
        pytest.param(
            pa.array([b"a", b"b"], pa.binary_view()), ["a", "b"], ["a", "b"], id="binary-view"
        ),
        pytest.param(
            pa.array([b"a", b"a"]).dictionary_encode(), ["a", "a"], ["a", "a"], id="dictionary"
        ),
        pytest.param(pa.array([5, 2**64 - 1], pa.uint64()), [5, 2**64 - 1], ["5", str(2**64 - 1)]),
    ],
)
def test_ids_of_many_types_are_integers_or_strings(
    tmp_path: Path, ids: pa.Array, auto: list[Any], string: list[Any]
) -> None:
    for columns, expected in ((InputColumns(), auto), (STRING, string)):
        batch = read_ids(tmp_path, ids, columns)
        assert batch.ids.to_pylist() == expected
        missing = {n: DeadCode.MISSING_ID for n, one in enumerate(expected) if one is None}
        assert {offset: code for offset, (code, _) in batch.bad.items()} == missing


@pytest.mark.parametrize(
    ("ids", "string"),
    [
        pytest.param(pa.array([1.0, 1.5]), ["1", "1.5"], id="fraction"),
        pytest.param(pa.array([1.0, 1e30]), ["1", str(int(1e30))], id="beyond-int64"),
        pytest.param(pa.array([1.0, float("-inf")]), ["1", None], id="infinity"),
    ],
)
def test_a_number_with_a_fraction_is_a_bad_id_unless_ids_are_strings(
    tmp_path: Path, ids: pa.Array, string: list[Any]
) -> None:
    batch = read_ids(tmp_path, ids, InputColumns())
    assert (batch.ids.to_pylist(), list(batch.bad)) == ([1, None], [1])
    assert batch.bad[1][0] is DeadCode.BAD_ID
    assert "--id-type string" in batch.bad[1][1]
    assert read_ids(tmp_path, ids, STRING).ids.to_pylist() == string


def test_decimals_with_digits_after_the_point_are_ids_only_as_strings(tmp_path: Path) -> None:
    ids = pa.array([Decimal("1.50"), Decimal("0.00")], pa.decimal128(10, 2))
    with pytest.raises(ConfigError, match=r"digits after the point.*--id-type string"):
        read_ids(tmp_path, ids, InputColumns())
    assert read_ids(tmp_path, ids, STRING).ids.to_pylist() == ["1.50", "0.00"]


def test_bytes_that_are_not_utf8_are_a_bad_id(tmp_path: Path) -> None:
    batch = read_ids(tmp_path, pa.array([b"a", b"\xff", b"c"]), InputColumns())
    assert batch.ids.to_pylist() == ["a", None, "c"]
    assert [code for code, _ in batch.bad.values()] == [DeadCode.BAD_ID]


@pytest.mark.parametrize(
    ("ids", "auto", "string"),
    [
        pytest.param(["1.0", "2"], [1, 2], ["1", "2"], id="integral"),
        pytest.param(["1", "2.0", "-0.0"], [1, 2, 0], ["1", "2", "0"], id="integral-later"),
        pytest.param(["1", "1.5"], [1, None], ["1", "1.5"], id="fraction"),
        pytest.param(["1", "1e3"], [1, 1000], ["1", "1000"], id="exponent"),
    ],
)
def test_jsonl_numbers_are_ids_if_they_are_integers(
    tmp_path: Path, ids: list[str], auto: list[Any], string: list[Any]
) -> None:
    lines = [f'{{"id": {one}, "text": "t"}}' for one in ids]
    batch = read_lines(tmp_path, *lines)
    assert batch.ids.equals(pa.array(auto, pa.int64()))
    assert [code for code, _ in batch.bad.values()] == [DeadCode.BAD_ID] * auto.count(None)
    assert all("Use --id-type string to accept it" in why for _, why in batch.bad.values())
    assert read_lines(tmp_path, *lines, columns=STRING).ids.to_pylist() == string


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        pytest.param(pa.array([1]), pa.array([2.0]), None, id="int-and-double"),
        pytest.param(pa.array([1], pa.uint8()), pa.array([2.0]), None, id="uint8-and-double"),
        pytest.param(pa.array(["a"]), pa.array(UUIDS[:1], pa.uuid()), None, id="string-and-uuid"),
        pytest.param(pa.array(["a"]), pa.array([b"b"]), None, id="string-and-binary"),
        pytest.param(
            pa.array([1]),
            pa.array([Decimal(2)], pa.decimal128(38, 0)),
            "integers in a.parquet and decimals in b.parquet",
            id="int-and-decimal",
        ),
        pytest.param(
            pa.array(UUIDS[:1], pa.uuid()),
            pa.array([1.0]),
            "integers in b.parquet and UUIDs in a.parquet",
            id="uuid-and-double",
        ),
    ],
)
def test_shards_with_two_id_types_agree_or_the_error_names_the_cure(
    tmp_path: Path, one: pa.Array, two: pa.Array, words: str | None
) -> None:
    write(tmp_path, "a.parquet", id=one)
    write(tmp_path, "b.parquet", id=two)
    if words is None:
        schema, batches = read_all(tmp_path)
        assert schema.field("id").type in (pa.int64(), pa.string())
        assert all(batch.bad == {} and batch.ids.null_count == 0 for batch in batches)
    else:
        with pytest.raises(ConfigError) as caught:
            read_all(tmp_path)
        assert words in caught.value.message
        assert "--id-type string" in caught.value.message
    _, batches = read_all(tmp_path, STRING)
    assert all(batch.bad == {} and batch.ids.null_count == 0 for batch in batches)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), "dictionary"])
def test_bytes_not_marked_as_utf8_are_read_as_text(tmp_path: Path, kind: Any) -> None:
    values = pa.array(["ü".encode(), None, b"\xffa", b"b"])
    values = values.dictionary_encode() if kind == "dictionary" else values.cast(kind)
    columns = InputColumns(title_column="title", keep_columns=("text",))
    write(tmp_path, "a.parquet", id=range(4), text=values, title=values)
    _, (batch,) = read_all(tmp_path, columns)
    assert batch.texts == batch.titles == ["ü", None, None, "b"]
    assert {offset: code for offset, (code, _) in batch.bad.items()} == {2: DeadCode.BAD_TEXT}
    assert "byte 0 of column 'text' is not UTF-8" in batch.bad[2][1]
    # A kept column stays as it is.
    assert batch.kept.column("text").to_pylist() == values.to_pylist()
    template = InputColumns(text_column=None, text_template="<{text}>")
    assert read_all(tmp_path, template)[1][0].texts == ["<ü>", None, None, "<b>"]


IN_TEMPLATES = {
    "int": (pa.array([1999, -1]), ["1999", "-1"]),
    "uint64": (pa.array([2**64 - 1, 0], pa.uint64()), [str(2**64 - 1), "0"]),
    "double": (pa.array([1.5, 2.0]), ["1.5", "2.0"]),
    "float32": (pa.array([0.1, 1e20], pa.float32()), ["0.1", "1e+20"]),
    "float16": (pa.array([0.1, 2.0], pa.float16()), ["0.1", "2.0"]),
    "not-finite": (pa.array([float("nan"), float("inf")]), [None, None]),
    "bool": (pa.array([True, False]), ["true", "false"]),
    "decimal": (pa.array([Decimal("1.50"), Decimal("1E-7")], pa.decimal128(20, 10)), None),
    "date": (pa.array([dt.date(2024, 1, 31), None]), ["2024-01-31", None]),
    "time": (pa.array([dt.time(1, 2, 3), None]), ["01:02:03", None]),
    "timestamp": (
        pa.array([dt.datetime(2024, 1, 31, 1), None], pa.timestamp("ns")),
        ["2024-01-31T01:00:00", None],
    ),
    "timestamp-utc": (
        pa.array([dt.datetime(2024, 1, 31, 1), None], pa.timestamp("ms", "UTC")),
        ["2024-01-31T01:00:00+00:00", None],
    ),
    "uuid": (pa.array(UUIDS, pa.uuid()), [str(u) for u in UUIDS]),
    "list": (pa.array([["a", "ü", None], []]), ['["a", "ü", null]', "[]"]),
    "struct": (
        pa.array([{"a": [1.5], "b": dt.date(2024, 1, 31), "c": True}, None]),
        ['{"a": [1.5], "b": "2024-01-31", "c": true}', None],
    ),
    "map": (pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())), ['{"k": 1}', "{}"]),
    "null": (pa.nulls(2), [None, None]),
}


@pytest.mark.parametrize("name", IN_TEMPLATES)
def test_a_template_writes_values_of_parquet_as_json_does(tmp_path: Path, name: str) -> None:
    values, expected = IN_TEMPLATES[name]
    expected = ["1.5000000000", "0.0000001000"] if expected is None else expected
    write(tmp_path, "a.parquet", id=range(2), name=["a", "b"], year=values)
    columns = InputColumns(text_column=None, text_template="{name} ({year})")
    _, (batch,) = read_all(tmp_path, columns)
    assert batch.texts == [f"{a} ({b or ''})" for a, b in zip("ab", expected, strict=True)]
    assert batch.bad == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1999", "1999"),
        ("1.50", "1.5"),
        ("2.0", "2.0"),
        ("true", "true"),
        ("null", ""),
        (str(2**64), str(2**64)),
        ('"x"', "x"),
        ('["ü", 1, null, false]', '["ü", 1, null, false]'),
        ('{"a": {"b": "\\""}}', '{"a": {"b": "\\""}}'),
    ],
)
def test_a_template_writes_values_of_jsonl_as_json_does(
    tmp_path: Path, value: str, text: str
) -> None:
    columns = InputColumns(text_column=None, text_template="{name} ({year})")
    batch = read_lines(tmp_path, f'{{"id": 1, "name": "a", "year": {value}}}', columns=columns)
    assert (batch.texts, batch.bad) == ([f"a ({text})"], {})


def test_a_template_makes_the_same_text_from_jsonl_and_parquet(tmp_path: Path) -> None:
    row = {"id": 1, "n": 1999, "x": 0.1, "f": 3.0, "b": True, "l": [1, 2], "s": "ä"}
    columns = InputColumns(text_column=None, text_template="{n}|{x}|{f}|{b}|{l}|{s}")
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "b.parquet")
    _, batches = read_all(tmp_path, columns)
    assert batches[0].texts == batches[1].texts == ["1999|0.1|3.0|true|[1, 2]|ä"]


def test_a_number_alone_is_not_a_text_and_the_cure_is_a_template(tmp_path: Path) -> None:
    write(tmp_path, "a.parquet", id=[1], text=[1999])
    with pytest.raises(ConfigError, match=r"--text-template '\{text\}'"):
        read_all(tmp_path)
    duration = pa.array([dt.timedelta(1)])
    write(tmp_path, "a.parquet", id=[1], text=duration)
    with pytest.raises(ConfigError, match=r"duration.*cannot be written as text"):
        read_all(tmp_path, InputColumns(text_column=None, text_template="{text}"))


def test_a_date_beyond_pythons_range_fails_only_its_row(tmp_path: Path) -> None:
    far = pa.array([0, 10**18, None], pa.timestamp("us"))
    write(tmp_path, "a.parquet", id=range(3), when=far, name=["a"] * 3)
    columns = InputColumns(text_column=None, text_template="{name} {when}")
    _, (batch,) = read_all(tmp_path, columns)
    assert batch.texts[::2] == ["a 1970-01-01T00:00:00", "a "]
    assert {offset: code for offset, (code, _) in batch.bad.items()} == {1: DeadCode.BAD_TEXT}
