"""Keys of rows are equal exactly for equal values, however Arrow stores them."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkembed.transforms.dataset.row_keys import column_keys, id_keys

INTEGERS = st.integers(-(2**63), 2**63 - 1)
STRINGS = st.text(max_size=40)
DECIMALS = st.integers(-(10**30), 10**30).map(lambda n: decimal.Decimal(n).scaleb(-4))
TIMES = st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 1, 1))
SCALARS: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int64(), INTEGERS),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.int8(), st.integers(-128, 127)),
    (pa.float64(), st.floats()),
    (pa.float32(), st.floats(width=32)),
    (pa.bool_(), st.booleans()),
    (pa.string(), STRINGS),
    (pa.large_string(), STRINGS),
    (pa.string_view(), STRINGS),
    (pa.binary(), st.binary(max_size=30)),
    (pa.binary(5), st.binary(min_size=5, max_size=5)),
    (pa.decimal128(38, 4), DECIMALS),
    (pa.date32(), st.dates()),
    (pa.date64(), st.dates()),
    (pa.timestamp("us"), TIMES),
    (pa.time64("us"), st.times()),
    (pa.duration("us"), st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000))),
    (pa.dictionary(pa.int32(), pa.string()), STRINGS),
]


def nested(
    inner: st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]],
) -> st.SearchStrategy[tuple[pa.DataType, st.SearchStrategy[Any]]]:
    def lists(one: tuple[pa.DataType, st.SearchStrategy[Any]]) -> Any:
        kind, values = one
        items = values | st.none()
        return st.sampled_from(
            [
                (pa.list_(kind), st.lists(items, max_size=4)),
                (pa.large_list(kind), st.lists(items, max_size=4)),
                (pa.list_(kind, 2), st.lists(items, min_size=2, max_size=2)),
                (pa.list_view(kind), st.lists(items, max_size=4)),
                (
                    pa.struct({"a": kind, "b": pa.int32()}),
                    st.fixed_dictionaries({"a": items, "b": st.none() | st.integers(0, 3)}),
                ),
                (
                    pa.map_(pa.string(), kind),
                    st.lists(st.tuples(st.text(max_size=3), items), max_size=3),
                ),
            ]
        )

    return inner.flatmap(lists)


TYPES = st.recursive(st.sampled_from(SCALARS), nested, max_leaves=3)


@st.composite
def columns(draw: st.DrawFn) -> pa.ChunkedArray:
    """Draw a column with repeated values and nulls, in chunks that are slices."""
    kind, values = draw(TYPES)
    few = draw(st.lists(values | st.none(), min_size=1, max_size=4))
    drawn = draw(st.lists(st.sampled_from(few), max_size=12))
    array = made(drawn, kind)
    cuts = sorted(draw(st.lists(st.integers(0, len(array)), max_size=3)))
    chunks = [
        array.slice(low, high - low)
        for low, high in zip([0, *cuts], [*cuts, len(array)], strict=True)
    ]
    return pa.chunked_array(chunks, array.type)


def made(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Return an array; pyarrow makes none with dictionaries inside, so those are strings."""
    try:
        return pa.array(values, kind)
    except pa.ArrowNotImplementedError:
        return pa.array(values, plain(kind))


def plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, plain(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, plain(kind.item_type))
    if pa.types.is_nested(kind):
        return pa.list_(plain(kind.value_type))
    return kind


def identity(value: Any) -> Any:
    """Return what distinguishes a value from others: NaN is one value, and 0.0 is not -0.0."""
    if isinstance(value, float):
        return "float", "nan" if math.isnan(value) else (value, math.copysign(1, value))
    if isinstance(value, dict):
        return tuple((name, identity(item)) for name, item in sorted(value.items()))
    if isinstance(value, list | tuple):
        return tuple(identity(item) for item in value)
    return value


@given(columns())
def test_equal_values_of_a_column_have_equal_keys_and_others_do_not(
    column: pa.ChunkedArray,
) -> None:
    values = [identity(value) for value in column.to_pylist()]
    keys = column_keys(pa.table({"c": column}), ["c"]).tolist()
    ids = [tuple(pair) for pair in id_keys(column).tolist()]
    assert len(set(zip(values, keys, ids, strict=True))) == len(set(values))
    assert len(set(keys)) == len(set(ids)) == len(set(values))


@given(columns(), st.data())
def test_keys_do_not_depend_on_chunks_and_slices(
    column: pa.ChunkedArray, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(column)))
    whole = made(column.to_pylist(), column.type)
    expected = column_keys(pa.table({"c": whole}), ["c"])
    assert (column_keys(pa.table({"c": column}), ["c"]) == expected).all()
    part = pa.table({"c": column.slice(start)})
    assert (column_keys(part, ["c"]) == expected[start:]).all()
    batch = pa.record_batch({"c": whole.slice(start)})
    assert (column_keys(batch, ["c"]) == expected[start:]).all()


@given(st.lists(STRINGS | st.none()))
def test_a_string_has_one_key_in_every_type(values: list[str | None]) -> None:
    expected = id_keys(pa.array(values, pa.string()))
    for kind in (
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int64(), pa.large_string()),
    ):
        assert (id_keys(pa.array(values, pa.string()).cast(kind)) == expected).all()


@given(st.lists(st.integers(0, 127) | st.none()))
def test_an_integer_has_one_key_in_every_width(values: list[int | None]) -> None:
    expected = id_keys(pa.array(values, pa.int64()))
    for kind in (pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint64()):
        assert (id_keys(pa.array(values, kind)) == expected).all()


def test_numbers_of_64_bits_with_and_without_a_sign_differ() -> None:
    signed, unsigned = pa.array([-1], pa.int64()), pa.array([2**64 - 1], pa.uint64())
    assert (id_keys(signed) != id_keys(unsigned)).all()


@given(st.lists(st.floats(width=16)))
def test_a_float_has_one_key_in_every_width(values: list[float]) -> None:
    expected = column_keys(pa.table({"c": pa.array(values, pa.float64())}), ["c"])
    for kind in (pa.float16(), pa.float32()):
        table = pa.table({"c": pa.array(np.array(values, kind.to_pandas_dtype()), kind)})
        assert (column_keys(table, ["c"]) == expected).all()


@given(st.lists(st.integers(-(10**9), 10**9)))
def test_a_time_has_one_key_in_every_unit(seconds: list[int]) -> None:
    times = pa.array(seconds, pa.timestamp("s"))
    expected = column_keys(pa.table({"c": times}), ["c"])
    for unit in ("ms", "us", "ns"):
        table = pa.table({"c": times.cast(pa.timestamp(unit, "UTC"))})
        assert (column_keys(table, ["c"]) == expected).all()


def test_values_of_different_kinds_differ() -> None:
    arrays = [
        pa.array([0]),
        pa.array([0.0]),
        pa.array([False]),
        pa.array(["0"]),
        pa.array([b"0"]),
        pa.array([0], pa.date32()),
        pa.array([0], pa.timestamp("s")),
        pa.array([0], pa.duration("s")),
        pa.array([0], pa.time32("s")),
        pa.array([[0]]),
        pa.array([{"a": 0}]),
        pa.array([{"b": 0}]),
        pa.array([""]),
        pa.array([b""]),
        pa.array([[]], pa.list_(pa.int64())),
        pa.nulls(1),
    ]
    keys = {int(column_keys(pa.table({"c": array}), ["c"])[0]) for array in arrays}
    assert len(keys) == len(arrays)
    assert column_keys(pa.table({"c": pa.nulls(1)}), ["c"]) == column_keys(
        pa.table({"c": pa.array([None], pa.string())}), ["c"]
    )


def test_columns_that_swap_their_values_differ() -> None:
    table = pa.table({"a": [1, 2], "b": [2, 1]})
    first, second = column_keys(table, ["a", "b"]).tolist()
    assert first != second
    assert column_keys(table, ["b", "a"]).tolist() == [second, first]
    assert len(set(column_keys(table, []).tolist())) == 1


def test_the_order_of_a_structs_fields_does_not_matter() -> None:
    one = pa.array([{"a": 1, "b": "x"}], pa.struct({"a": pa.int64(), "b": pa.string()}))
    other = pa.array([{"a": 1, "b": "x"}], pa.struct({"b": pa.string(), "a": pa.int64()}))
    keys = [column_keys(pa.table({"c": array}), ["c"])[0] for array in (one, other)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("size", [7, 8, 9, 63, 64, 65, 1 << 19, (1 << 19) + 3])
def test_each_byte_of_a_long_text_counts(size: int) -> None:
    text = bytearray(b"a" * size)
    versions = [bytes(text)]
    for at in {0, size // 2, size - 1}:
        changed = text.copy()
        changed[at] ^= 1
        versions.append(bytes(changed))
    versions += [bytes(text) + b"\0", bytes(text[:-1])]
    assert len({tuple(pair) for pair in id_keys(pa.array(versions)).tolist()}) == len(versions)


def test_words_in_another_order_differ() -> None:
    ids = pa.array(["aaaaaaaabbbbbbbb", "bbbbbbbbaaaaaaaa", "aaaaaaaa", "bbbbbbbb"])
    assert len({tuple(pair) for pair in id_keys(ids).tolist()}) == 4


def test_as_many_keys_as_ids_are_in_each_half() -> None:
    numbers = pa.array(np.arange(200_000))
    for ids in (numbers, numbers.cast(pa.string())):
        keys = id_keys(ids)
        assert keys.shape == (200_000, 2)
        for half in (0, 1):
            assert len(np.unique(keys[:, half])) == 200_000
            # Keys are spread evenly by their first bits.
            counts = np.bincount((keys[:, half] >> np.uint64(56)).astype(np.int64), minlength=256)
            assert counts.min() > 600


def test_keys_never_change() -> None:
    # They are compared with keys that earlier versions wrote.
    assert id_keys(pa.array(["sku-1", None])).tolist() == KNOWN_STRINGS
    assert id_keys(pa.array([-7])).tolist() == KNOWN_INTEGERS


def test_another_process_makes_the_same_keys() -> None:
    program = (
        "import pyarrow as pa; from bulkembed.transforms.dataset.row_keys import id_keys; "
        "print(id_keys(pa.array(['sku-1', None])).tolist())"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert found.stdout.decode().strip() == str(KNOWN_STRINGS)


def test_a_union_cannot_be_compared() -> None:
    union = pa.UnionArray.from_dense(
        pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]
    )
    with pytest.raises(TypeError, match="dense_union"):
        column_keys(pa.table({"c": union}), ["c"])


KNOWN_STRINGS = [
    [15550611133547263884, 12424114247688113350],
    [8828415725962921934, 18230358356625208640],
]
KNOWN_INTEGERS = [[15231954731792256587, 14611654375820345518]]
