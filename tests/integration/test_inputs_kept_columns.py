"""Columns that are carried over: types that go together, or do not."""

import datetime as dt
import re
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.inputs import put, read_all, read_lines, scan_all

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.inputs.column_types import in_microseconds
from bulkembed.transforms.inputs.columns import column_notes, merge_schemas
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.inputs.similar_files import similar_files

WHEN = dt.datetime(2024, 2, 29, 12, 30, 1)


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
        schema, (batch,) = read_all(tmp_path, columns)
        for name, values in kept.items():
            assert schema.field(name).type == values.type
            assert batch.kept.column(name).to_pylist() == values.to_pylist()
    assert batch.kept.column_names == ["text", *kept]


def test_a_star_keeps_the_columns_of_all_files(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", pa.array([1]), n=pa.array([1], pa.int32()))
    put(tmp_path, "b.parquet", pa.array([2]), m=pa.array(["x"]), n=pa.array([1.5]))
    (tmp_path / "c.jsonl").write_text('{"id": 3, "text": "t", "e": {}, "z": null, "l": []}\n')
    schema, batches = read_all(tmp_path, InputColumns(keep_columns=("*",)))
    assert schema.names == ["id", "text", "n", "m", "e", "z", "l"]
    assert schema.field("n").type == pa.float64()
    assert schema.field("z").type == pa.string()
    table = pa.concat_tables([batch.kept for batch in batches])
    assert table.column("n").to_pylist() == [1.0, 1.5, None]
    assert table.column("m").to_pylist() == [None, "x", None]
    pq.write_table(table, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column("l").to_pylist() == [None, None, []]


def test_lists_of_fixed_size_become_plain_lists_if_a_file_lacks_the_column(tmp_path: Path) -> None:
    fixed = pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))
    put(tmp_path, "a.parquet", pa.array([1]), v=fixed)
    columns = InputColumns(keep_columns=("*",))
    assert read_all(tmp_path, columns)[0].field("v").type == fixed.type
    put(tmp_path, "b.parquet", pa.array([2]))
    schema, batches = read_all(tmp_path, columns)
    assert schema.field("v").type == pa.list_(pa.float32())
    pq.write_table(pa.concat_tables([batch.kept for batch in batches]), tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column("v").to_pylist() == [[1.0, 2.0], None]


def test_the_error_for_incompatible_kept_columns_names_both_files(tmp_path: Path) -> None:
    columns = InputColumns(keep_columns=("x",))
    put(tmp_path, "a.parquet", pa.array([1]), x=pa.array([1]))
    put(tmp_path, "b.parquet", pa.array([1]), x=pa.array(["s"]))
    with pytest.raises(ConfigError, match=r"'x' is int64 in a\.parquet and string in b\.parquet"):
        read_all(tmp_path, columns)


def test_a_star_is_rejected_if_the_input_has_a_column_of_the_output(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", pa.array([1]), vector=pa.array([1]))
    with pytest.raises(ConfigError, match="'vector'"):
        read_all(tmp_path, InputColumns(keep_columns=("*",)))


def test_a_kept_column_of_some_jsonl_files_is_null_in_the_others(tmp_path: Path) -> None:
    columns = InputColumns(keep_columns=("x",))
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "t"}\n')
    (tmp_path / "b.jsonl").write_text('{"id": 1, "text": "t", "x": null}\n')
    assert read_all(tmp_path, columns)[0].field("x").type == pa.string()
    (tmp_path / "c.jsonl").write_text('{"id": 1, "text": "t", "x": 5}\n')
    schema, batches = read_all(tmp_path, columns)
    assert schema.field("x").type == pa.int64()
    assert [batch.kept.column("x").to_pylist() for batch in batches] == [[None], [None], [5]]
    with pytest.raises(ConfigError, match=r"no column 'y'.*'id', 'text', 'x'"):
        read_all(tmp_path, InputColumns(keep_columns=("y",)))


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        pytest.param(["1", "2.5", "null"], [1.0, 2.5, None], id="numbers-widen"),
        pytest.param(["5", str(2**64 - 1)], [5, 2**64 - 1], id="uint64"),
        pytest.param(["1", '"01"', "2"], ["1", "01", "2"], id="a-string-among-ints"),
        pytest.param(['"01"', "1", "2"], ["01", "1", "2"], id="ints-behind-a-string"),
        pytest.param(["1.5", "true"], ["1.5", "true"], id="a-bool-among-floats"),
        pytest.param(["1", "true", "null"], ["1", "true", None], id="a-bool-among-ints"),
        pytest.param(["[1.5]", "[true]"], ["[1.5]", "[true]"], id="a-bool-in-a-list"),
        pytest.param(["[1.5, true]", "[]"], ["[1.5, true]", "[]"], id="a-bool-beside-a-float"),
        pytest.param(
            ['{"a": 1}', "[]", '{"b": "ü"}'],
            ['{"a": 1}', "[]", '{"b": "ü"}'],
            id="a-list-among-objects",
        ),
        pytest.param(['{"a": 1}', '{"a": "x"}'], ['{"a": 1}', '{"a": "x"}'], id="in-objects"),
        pytest.param(['{"a": 1}', "7"], ['{"a": 1}', "7"], id="a-number-among-objects"),
        pytest.param(["5", str(2**64)], ["5", str(2**64)], id="2^64"),
        pytest.param(["-5", str(2**63)], ["-5", str(2**63)], id="uint64-and-negative"),
        pytest.param(['"x"', str(2**63)], ["x", str(2**63)], id="uint64-and-string"),
        pytest.param(
            ["0.5", str(2**53 + 1)], ["0.5", str(2**53 + 1)], id="an-integer-no-double-holds"
        ),
        pytest.param(
            [str(-(2**53) - 1), "0.5"], [str(-(2**53) - 1), "0.5"], id="a-double-behind-it"
        ),
        pytest.param(
            [f'{{"a": {2**64}}}', '{"a": 1}'], [f'{{"a": {2**64}}}', '{"a": 1}'], id="2^64-inside"
        ),
        pytest.param(['[{"a": "x"}]', '[{"b": null}]'], None, id="objects-in-lists"),
    ],
)
def test_no_value_of_a_kept_column_fails_a_row(
    tmp_path: Path, values: list[str], kept: list[Any] | None
) -> None:
    columns = InputColumns(keep_columns=("x",))
    lines = [f'{{"id": {n}, "text": "t", "x": {value}}}' for n, value in enumerate(values)]
    batch = read_lines(tmp_path, *lines, columns=columns)
    assert (batch.bad, batch.unkept) == ({}, frozenset())
    if kept is not None:
        assert batch.kept.column("x").to_pylist() == kept
    # In files of one row each as well, whatever their order.
    (tmp_path / "in.jsonl").unlink()
    for n, line in enumerate(lines):
        (tmp_path / f"{n}.jsonl").write_text(line + "\n")
    _, batches = read_all(tmp_path, columns)
    assert [(batch.bad, batch.unkept) for batch in batches] == [({}, frozenset())] * len(lines)
    if kept is not None and kept != [5, 2**64 - 1]:
        assert [batch.kept.column("x").to_pylist()[0] for batch in batches] == kept


def test_a_kept_string_with_a_lone_surrogate_is_null(tmp_path: Path) -> None:
    columns = InputColumns(keep_columns=("x",))
    lines = [f'{{"id": {n}, "text": "t", "x": {x}}}' for n, x in enumerate(['"x"', '"\\ud800"'])]
    batch = read_lines(tmp_path, *lines, columns=columns)
    assert (batch.bad, batch.unkept) == ({}, {"x"})
    assert batch.kept.column("x").to_pylist() == ["x", None]


def test_notes_name_columns_of_several_types_and_missing_columns(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "t", "zip": 1}\n')
    (tmp_path / "b.jsonl").write_text('{"id": 1, "text": "t", "zip": "01"}\n')
    (tmp_path / "c.jsonl").write_text('{"id": 1, "text": "t", "zip": 1, "lang": "en"}\n')
    columns = InputColumns(keep_columns=("zip", "lang"))
    scanned = scan_all(tmp_path, columns)
    found_notes = column_notes(scanned, merge_schemas(scanned, columns))
    assert found_notes == [
        "column 'zip' has values of several types in a.jsonl and b.jsonl: kept as strings",
        "column 'lang' is missing in a.jsonl and 1 more file, where it is null",
    ]


@pytest.mark.parametrize("newer_first", [True, False])
def test_a_kept_column_that_older_parquet_files_lack_is_null_there(
    tmp_path: Path, newer_first: bool
) -> None:
    having, lacking = ("a", "b") if newer_first else ("b", "a")
    put(tmp_path, f"{having}.parquet", pa.array([1]), lang=pa.array(["de"]))
    put(tmp_path, f"{lacking}.parquet", pa.array([2, 3]))
    schema, batches = read_all(tmp_path, InputColumns(keep_columns=("lang",)))
    assert schema.field("lang").type == pa.string()
    found = [batch.kept.column("lang").to_pylist() for batch in batches]
    assert sorted(found, key=len) == [["de"], [None, None]]
    with pytest.raises(ConfigError, match="the input has no column 'land'"):
        read_all(tmp_path, InputColumns(keep_columns=("land",)))


ARROW_TYPES = {
    "int8": (pa.array([1, None, -128], pa.int8()), None),
    "uint64": (pa.array([2**64 - 1, None], pa.uint64()), None),
    "float16": (pa.array([0.5, None, float("inf")], pa.float16()), None),
    "bool": (pa.array([True, None, False]), None),
    "decimal": (pa.array([Decimal("-1.50"), None], pa.decimal128(38, 2)), None),
    "decimal32": (pa.array([Decimal("1.5"), None], pa.decimal32(5, 1)), None),
    "decimal256": (pa.array([Decimal("1.50"), None], pa.decimal256(50, 2)), None),
    "date32": (pa.array([dt.date(9999, 12, 31), None, dt.date(1, 1, 1)]), None),
    "date64": (pa.array([dt.date(2024, 1, 31), None], pa.date64()), pa.date32()),
    "time32s": (pa.array([dt.time(23, 59, 59), None], pa.time32("s")), pa.time32("ms")),
    "time64ns": (pa.array([1, None], pa.time64("ns")), None),
    "timestamp-s": (pa.array([WHEN, None], pa.timestamp("s")), pa.timestamp("ms")),
    "timestamp-ms": (pa.array([WHEN, None], pa.timestamp("ms", "UTC")), None),
    "timestamp-us": (pa.array([WHEN, None], pa.timestamp("us", "Europe/Berlin")), None),
    "timestamp-ns": (pa.array([WHEN, None], pa.timestamp("ns")), pa.timestamp("us")),
    "timestamp-ns-utc": (pa.array([WHEN], pa.timestamp("ns", "UTC")), pa.timestamp("us", "UTC")),
    "duration": (pa.array([dt.timedelta(1), None], pa.duration("ns")), None),
    "binary": (pa.array([b"\xff\0", None]), None),
    "fixed-binary": (pa.array([b"ab", None], pa.binary(2)), None),
    "large-binary": (pa.array([b"\xff", None], pa.large_binary()), None),
    "string-view": (pa.array(["a", None], pa.string_view()), None),
    "uuid": (pa.array([uuid.UUID(int=1), None], pa.uuid()), None),
    "null": (pa.nulls(2), pa.string()),
    "list": (pa.array([[1, None], None, []], pa.list_(pa.int32())), None),
    "list-of-ns": (pa.array([[WHEN], None], pa.list_(pa.timestamp("ns"))), None),
    "large-list": (pa.array([["a", None], None], pa.large_list(pa.string())), None),
    "fixed-list": (pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)), None),
    "fixed-list-nulls": (
        pa.array([[1.0, 2.0], None, [3.0, None]], pa.list_(pa.float32(), 2)),
        pa.list_(pa.float32()),
    ),
    "fixed-list-in-struct": (
        pa.array([{"v": [1, 2]}, None, {"v": None}], pa.struct({"v": pa.list_(pa.int64(), 2)})),
        None,
    ),
    "tensor": (
        pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.float32(), [2]),
            pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
        ),
        pa.list_(pa.float32()),
    ),
    "struct": (
        pa.array(
            [{"a": [{"b": WHEN}], "c": None}, None],
            pa.struct({"a": pa.list_(pa.struct({"b": pa.timestamp("ns")})), "c": pa.null()}),
        ),
        None,
    ),
    "map": (pa.array([[("k", WHEN)], None, []], pa.map_(pa.string(), pa.timestamp("ns"))), None),
    "dictionary": (pa.array(["a", None, "a"]).dictionary_encode(), None),
}


@pytest.mark.parametrize("name", ARROW_TYPES)
@pytest.mark.parametrize("row_group_size", [1, 1000])
def test_a_kept_column_of_every_arrow_type_keeps_its_values(
    tmp_path: Path, name: str, row_group_size: int
) -> None:
    values, kind = ARROW_TYPES[name]
    place = tmp_path / "in"
    place.mkdir()
    table = pa.table({"id": range(len(values)), "text": ["t"] * len(values), "x": values})
    pq.write_table(table, place / "a.parquet", row_group_size=row_group_size)
    schema, (batch,) = read_all(place, InputColumns(keep_columns=("x",)))
    assert (batch.bad, batch.unkept) == ({}, frozenset())
    if kind is not None:
        assert schema.field("x").type.equals(kind)
    assert "ns" not in re.findall(r"timestamp\[(\w+)", str(schema.field("x").type))
    # As it is written, and read again.
    pq.write_table(batch.kept, tmp_path / "out.parquet")
    again = pq.read_table(tmp_path / "out.parquet").column("x")
    assert plain(again) == plain(values)
    assert schema.field("x").type.equals(again.type), (schema.field("x").type, again.type)


@pytest.mark.parametrize("name", ARROW_TYPES)
def test_rows_of_two_files_are_joined_with_kept_columns_of_every_arrow_type(
    tmp_path: Path, name: str
) -> None:
    values, _ = ARROW_TYPES[name]
    place = tmp_path / "in"
    place.mkdir()
    half = len(values) // 2
    for file, some in (("a", values[:half]), ("b", values[half:])):
        table = pa.table({"id": range(len(some)), "text": ["t"] * len(some), "x": some})
        pq.write_table(table, place / f"{file}.parquet")
    schema, batches = read_all(place, InputColumns(keep_columns=("x",)))
    joined = RowBatch.joined(list(batches), ["a.parquet", "b.parquet"])
    assert joined.rows == joined.kept.num_rows == len(values)
    where = pa.array(range(len(values))[::-1], pa.int64())
    taken = pa.table([joined.kept.column("x").take(where)], schema=schema.remove(0))
    pq.write_table(taken, tmp_path / "out.parquet")
    again = pq.read_table(tmp_path / "out.parquet").column("x")
    assert plain(again) == plain(values)[::-1]


def plain(values: Any) -> list[Any]:
    """As Python has them, of microseconds."""
    if isinstance(values.type, pa.FixedShapeTensorType):
        values = values.storage
    if "[ns" in str(values.type) and "timestamp" in str(values.type):
        values = values.cast(in_microseconds(values.type))
    found: list[Any] = values.to_pylist()
    return found


def test_96_bit_timestamps_keep_their_dates(tmp_path: Path) -> None:
    when = [dt.datetime(9999, 12, 31), dt.datetime(1, 1, 1), WHEN, None]
    table = pa.table(
        {
            "id": range(4),
            "text": ["t"] * 4,
            "x": pa.array(when, pa.timestamp("us")),
            "in": pa.array([[one] for one in when], pa.list_(pa.timestamp("us"))),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    schema, (batch,) = read_all(tmp_path, InputColumns(keep_columns=("x", "in")))
    assert schema.field("x").type == pa.timestamp("us")
    assert batch.kept.column("x").to_pylist() == when
    assert batch.kept.column("in").to_pylist() == [[one] for one in when]


def test_timestamps_are_truncated_to_microseconds(tmp_path: Path) -> None:
    put(tmp_path, "a.parquet", pa.array([1]), x=pa.array([1_999], pa.timestamp("ns", "UTC")))
    schema, (batch,) = read_all(tmp_path, InputColumns(keep_columns=("x",)))
    assert schema.field("x").type == pa.timestamp("us", "UTC")
    assert batch.kept.column("x").cast(pa.int64()).to_pylist() == [1]


@pytest.mark.parametrize(
    ("values", "pinned", "unkept"),
    [
        pytest.param(pa.array([WHEN], pa.timestamp("ns")), "timestamp[ns]", (), id="nanoseconds"),
        pytest.param(pa.array([[WHEN]], pa.list_(pa.timestamp("ns", "UTC"))), None, (), id="list"),
    ],
)
def test_a_type_that_an_earlier_version_pinned_is_kept(
    tmp_path: Path, values: pa.Array, pinned: str | None, unkept: tuple[str, ...]
) -> None:
    put(tmp_path, "a.parquet", pa.array([1]), x=values)
    columns = InputColumns(keep_columns=("x",))
    scanned = scan_all(tmp_path, columns)
    older = {"x": pinned or str(scanned[0].schema.field("x").type)}
    schema = merge_schemas(scanned, columns, older)
    assert str(schema.field("x").type) == older["x"]
    (batch,) = read_batches(
        open_found(scanned[0].found), scanned[0].input_file, columns, schema, [(0, 1)]
    )
    assert batch.kept.column("x").cast(values.type).to_pylist() == values.to_pylist()
    assert batch.unkept == frozenset(unkept)
    other = merge_schemas(scanned, columns, {"x": "int32"})
    assert str(other.field("x").type) != "int32"


def test_a_pinned_nanosecond_type_keeps_96_bit_timestamps_in_its_range(tmp_path: Path) -> None:
    when = [dt.datetime(9999, 12, 31), WHEN]
    table = pa.table({"id": [1, 2], "text": ["t"] * 2, "x": pa.array(when, pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    columns = InputColumns(keep_columns=("x",))
    (file,) = scan_all(tmp_path, columns)
    schema = merge_schemas([file], columns, {"x": "timestamp[ns]"})
    (batch,) = read_batches(open_found(file.found), file.input_file, columns, schema, [(0, 2)])
    assert [value.as_py() for value in batch.kept.column("x")] == [None, WHEN]
    assert batch.unkept == {"x"}


def test_a_pinned_type_is_kept_if_later_values_have_several_types(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"id": 1, "text": "t", "x": 5}\n{"id": 2, "text": "t", "x": "05"}\n'
    )
    columns = InputColumns(keep_columns=("x",))
    (file,) = scan_all(tmp_path, columns)
    assert merge_schemas([file], columns).field("x").type == pa.string()
    schema = merge_schemas([file], columns, {"x": "int64"})
    assert schema.field("x").type == pa.int64()
    assert "kept as int64, as in earlier runs" in column_notes([file], schema)[0]
    (batch,) = read_batches(open_found(file.found), file.input_file, columns, schema, [(0, 2)])
    assert (batch.kept.column("x").to_pylist(), batch.bad, batch.unkept) == ([5, None], {}, {"x"})


def test_the_kept_table_has_its_rows_even_without_columns(tmp_path: Path) -> None:
    assert read_lines(tmp_path, {"id": 1, "text": "a"}, "x").kept.num_rows == 2


def test_a_column_with_other_types_in_parquet_and_jsonl_is_kept_as_strings(tmp_path: Path) -> None:
    columns = InputColumns(keep_columns=("x", "y"))
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "t", "x": "a", "y": "b"}\n')
    span, when = pa.array([dt.timedelta(1)]), pa.array([WHEN], pa.timestamp("ns"))
    put(tmp_path, "b.parquet", pa.array([2]), x=when, y=span)
    schema, batches = read_all(tmp_path, columns)
    assert schema.field("x").type == schema.field("y").type == pa.string()
    assert [batch.kept.to_pylist() for batch in batches] == [
        [{"x": "a", "y": "b"}],
        [{"x": "2024-02-29T12:30:01", "y": None}],
    ]
    assert [batch.unkept for batch in batches] == [frozenset(), {"y"}]


def test_files_that_are_alike_count_each_in_a_note_and_once_for_the_types(tmp_path: Path) -> None:
    for name in "abc":
        put(tmp_path, f"{name}.parquet", pa.array([1]), x=pa.array([1.5]))
    for name in "de":
        put(tmp_path, f"{name}.parquet", pa.array([1]))
    put(tmp_path, "f.parquet", pa.array([1]), x=pa.array([1], pa.int32()))
    scanned = scan_all(tmp_path, InputColumns(keep_columns=("x",)))
    groups = [(group.first.found.name, group.names) for group in similar_files(scanned)]
    assert groups == [
        ("a.parquet", ["a.parquet", "b.parquet", "c.parquet"]),
        ("d.parquet", ["d.parquet", "e.parquet"]),
        ("f.parquet", ["f.parquet"]),
    ]
    schema = merge_schemas(scanned, InputColumns(keep_columns=("x",)))
    assert schema.field("x").type == pa.float64()
    assert column_notes(scanned, schema) == [
        "column 'x' is missing in d.parquet and 1 more file, where it is null"
    ]
