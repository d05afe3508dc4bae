"""Columns with large values are read from Parquet as pyarrow reads them, page by page."""

import contextlib
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.nested_columns import FoundColumn, find_column, take_column
from bulkembed.transforms.inputs.parquet_pages.hybrid_integers import unpacked
from bulkembed.transforms.inputs.parquet_pages.large_columns import ColumnPages
from bulkembed.transforms.inputs.parquet_pages.page_bytes import READ_BYTES, ReadAhead, plain_bytes
from bulkembed.transforms.inputs.parquet_pages.page_headers import page_header

TYPES = [
    pa.binary(), pa.large_binary(), pa.binary_view(), pa.string(), pa.large_string(),
    pa.string_view(),
]  # fmt: skip
CODECS = ["none", "snappy", "gzip", "zstd", "brotli"]
NOISE = np.random.default_rng(7).bytes(300_000)

text_values = st.text("aä✓", max_size=12).map(str.encode)
sized_values = st.tuples(st.integers(0, 1000), st.integers(0, 150_000)).map(
    lambda place: NOISE[place[0] : place[0] + place[1]].hex().encode()
)
values = st.lists(st.none() | text_values | sized_values, max_size=60)


def column_of(kind: pa.DataType, found: list[bytes | None]) -> pa.Array:
    stored = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}.get(kind, kind)
    if pa.types.is_string_view(kind):
        stored = pa.binary_view()
    array = pa.array(found, stored)
    return array if stored == kind else array.view(kind)


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, str]:
    """Return a table with a number and a column of bytes, in a struct or not; and its name."""
    found, kind = draw(values), draw(st.sampled_from(TYPES))
    shape = draw(st.sampled_from(["flat", "required", "struct", "struct with others", "field"]))
    numbers = pa.array(range(len(found)), pa.int64())
    if shape == "required":
        column = column_of(kind, [one or b"" for one in found])
        schema = pa.schema([("n", pa.int64()), pa.field("v", kind, nullable=False)])
        return pa.table([numbers, column], schema), "v"
    column = column_of(kind, found)
    if shape == "flat":
        return pa.table({"n": numbers, "v": column}), "v"
    is_required = draw(st.booleans())
    fields = [pa.field("bytes", kind, nullable=not is_required)]
    arrays = [column_of(kind, [one or b"" for one in found]) if is_required else column]
    if shape != "struct":
        names = pa.array([f"{row}.jpg" if row % 3 else None for row in range(len(found))], "string")
        sizes = pa.array([[row] * (row % 3) for row in range(len(found))], pa.list_(pa.int64()))
        fields += [pa.field("path", pa.string()), pa.field("size", pa.list_(pa.int64()))]
        arrays += [names, sizes]
    nulls = draw(st.lists(st.booleans(), min_size=len(found), max_size=len(found)))
    struct = pa.StructArray.from_arrays(arrays, fields=fields, mask=pa.array(nulls, pa.bool_()))
    return pa.table({"n": numbers, "v": struct}), "v.bytes" if shape == "field" else "v"


@st.composite
def ranges_of(draw: st.DrawFn, rows: int) -> list[RowRange]:
    ends = sorted(draw(st.sets(st.integers(0, rows), max_size=6)) | {0, rows})
    found = [(begin, end - begin) for begin, end in itertools.pairwise(ends)]
    return [one for one in found if draw(st.booleans())]


def found_in(parquet: pq.ParquetFile, name: str) -> FoundColumn:
    found = find_column(parquet.schema_arrow, name)
    assert found is not None
    return found


def written(table: pa.Table, **options: Any) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def read_large(data: pa.Buffer, name: str, ranges: list[RowRange]) -> list[pa.ChunkedArray]:
    parquet = pq.ParquetFile(data)
    found = found_in(parquet, name)
    large = ColumnPages(parquet, page_bytes=-1).find(found)
    assert large is not None

    def others(columns: list[FoundColumn]) -> Any:
        table = parquet.read([column.parquet_path for column in columns])
        return (
            table.slice(first, rows).to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
            for first, rows in ranges
        )

    pieces = large.pieces(pa.BufferReader(data), ranges, others)
    return [take_column(batches, found.path) for batches in pieces]


@given(
    made=tables(),
    codec=st.sampled_from(CODECS),
    version=st.sampled_from(["1.0", "2.0"]),
    dictionary=st.booleans(),
    checksum=st.booleans(),
    page_rows=st.integers(1, 30),
    group_rows=st.integers(1, 60),
    picks=st.data(),
)
def test_values_are_those_that_pyarrow_reads(
    made: tuple[pa.Table, str],
    codec: str,
    version: Any,
    dictionary: bool,
    checksum: bool,
    page_rows: int,
    group_rows: int,
    picks: st.DataObject,
) -> None:
    table, name = made
    if "view" in str(table.schema):  # pyarrow cannot write parts of these.
        page_rows = group_rows = 1000
    data = written(
        table,
        compression=codec,
        data_page_version=version,
        use_dictionary=dictionary,
        dictionary_pagesize_limit=50_000,
        data_page_size=100_000,
        write_batch_size=page_rows,
        row_group_size=group_rows,
        write_page_checksum=checksum,
    )
    ranges = picks.draw(ranges_of(table.num_rows))
    parquet = pq.ParquetFile(data)
    whole = take_column([parquet.read()], found_in(parquet, name).path)
    read = read_large(data, name, ranges)
    assert len(read) == len(ranges)
    for (first, rows), column in zip(ranges, read, strict=True):
        assert column.type == whole.type
        assert column.to_pylist() == whole.slice(first, rows).to_pylist()


@given(
    pieces=st.lists(
        st.one_of(
            st.integers(0, 150_000).map(lambda size: NOISE[:size]),
            st.tuples(st.binary(min_size=1, max_size=9), st.integers(1, 9000)).map(
                lambda one: one[0] * one[1]
            ),
        ),
        max_size=5,
    )
)
@example(pieces=[NOISE[:65_536]])
@example(pieces=[NOISE[:100], bytes(65_436)])
@example(pieces=[NOISE * 16, bytes(READ_BYTES)])
def test_snappy_is_decompressed_in_pieces_of_64_kb(pieces: list[bytes]) -> None:
    plain = b"".join(pieces)
    stored = pa.Codec("snappy").compress(plain, asbytes=True)
    file = ReadAhead(pa.BufferReader(stored), len(stored))
    data = plain_bytes(file, 0, len(stored), "SNAPPY", len(plain))
    assert data.read(len(plain)) == plain
    data.finish()
    largest = max(
        map(len, plain_bytes(file, 0, len(stored), "SNAPPY", len(plain))._pieces), default=0
    )
    assert largest <= 65_536


def literal(data: bytes) -> bytes:
    return bytes([62 << 2]) + (len(data) - 1).to_bytes(3, "little") + data


@pytest.mark.parametrize(
    "elements",
    [
        literal(NOISE[:100_000]),
        literal(NOISE[:65_530]) + literal(NOISE[65_530:100_000]),
        # The second block copies from the first: the last 60 bytes, by tags with 2 bytes.
        literal(NOISE[:65_536]) + bytes([(60 - 1) << 2 | 2, 60, 0]) * 4 + literal(NOISE[:34_224]),
    ],
    ids=["one literal", "a literal across a border", "a copy across a border"],
)
def test_snappy_of_another_encoder_is_decompressed_as_a_whole(elements: bytes) -> None:
    stored = bytes([0xA0, 0x8D, 0x06]) + elements
    plain = pa.Codec("snappy").decompress(stored, 100_000, asbytes=True)
    data = plain_bytes(
        ReadAhead(pa.BufferReader(stored), len(stored)), 0, len(stored), "SNAPPY", 100_000
    )
    assert data.read(100_000) == plain
    data.finish()


@given(
    codec=st.sampled_from(CODECS),
    version=st.sampled_from(["1.0", "2.0"]),
    place=st.floats(0, 1),
    byte=st.integers(0, 255),
    cut=st.booleans(),
)
def test_a_damaged_page_is_an_error_or_other_values(
    codec: str, version: Any, place: float, byte: int, cut: bool
) -> None:
    images = [NOISE[row * 100 : row * 100 + 40 * row] for row in range(30)]
    data = written(
        pa.table({"v": pa.array([*images, *images, None])}),
        compression=codec, data_page_version=version, write_batch_size=20,
        dictionary_pagesize_limit=1000,
    )  # fmt: skip
    chunk = pq.ParquetFile(data).metadata.row_group(0).column(0)
    damaged = bytearray(data)
    damaged[4 + int(place * (chunk.total_compressed_size - 1))] = byte
    with contextlib.suppress(OSError, pa.ArrowException):
        read_large(pa.py_buffer(bytes(damaged)), "v", [(0, 61)])


@given(
    runs=st.lists(st.tuples(st.booleans(), st.integers(1, 20), st.integers(0, 1 << 20))),
    width=st.integers(1, 32),
)
def test_runs_and_packed_bits_are_unpacked(runs: list[tuple[bool, int, int]], width: int) -> None:
    data, expected = b"", []
    for is_packed, count, seed in runs:
        if is_packed:
            some = [(seed * (place + 3)) % (1 << width) for place in range(8)]
            packed = sum(value << width * place for place, value in enumerate(some))
            data += bytes([3]) + packed.to_bytes(width, "little")
        else:
            some = [seed % (1 << width)] * count
            data += bytes([count << 1]) + some[0].to_bytes((width + 7) // 8, "little")
        expected += some
    assert unpacked(data, width, len(expected)).tolist() == expected
    with pytest.raises(OSError, match="fewer"):
        unpacked(data, width, len(expected) + 1)


def test_a_header_is_read_up_to_its_end() -> None:
    data = written(pa.table({"v": [b"x" * 500] * 3}), write_page_checksum=True)
    begin = pq.ParquetFile(data).metadata.row_group(0).column(0).dictionary_page_offset
    stored = data.to_pybytes()[begin:]
    header = page_header(stored)
    assert header is not None
    assert header.values == 1
    assert header.plain_bytes == 504
    assert [page_header(stored[:size]) for size in range(header.header_bytes)] == [
        None
    ] * header.header_bytes
    with pytest.raises(OSError, match="damaged"):
        page_header(b"\x1c" * 100)


@pytest.mark.parametrize(
    ("table", "options"),
    [
        (pa.table({"v": pa.array([[b"x" * 900], None] * 10)}), {}),
        (pa.table({"v": [b"x" * 900] * 10}), {"compression": "lz4", "use_dictionary": False}),
        (
            pa.table({"v": [b"x" * 900] * 10}),
            {"use_dictionary": False, "column_encoding": {"v": "DELTA_LENGTH_BYTE_ARRAY"}},
        ),
        (pa.table({"v": [{"w": {"bytes": b"x" * 900}}] * 10}), {}),
    ],
    ids=["lists", "codec", "encoding", "structs in structs"],
)
def test_columns_that_pyarrow_has_to_read_have_pages_of_a_known_size(
    table: pa.Table, options: dict[str, Any]
) -> None:
    data = written(table, **options)
    parquet = pq.ParquetFile(data)
    found = found_in(parquet, "v")
    pages = ColumnPages(parquet, page_bytes=200)
    assert pages.find(found) is None
    assert pages.held_bytes(pa.BufferReader(data), found) > 200
    assert ColumnPages(parquet).held_bytes(pa.BufferReader(data), found) == 0


def test_small_values_are_left_to_pyarrow() -> None:
    parquet = pq.ParquetFile(written(pa.table({"v": [b"x" * 900] * 2000})))
    assert ColumnPages(parquet).find(found_in(parquet, "v")) is None
