"""What is written by plain pyarrow and json is read back, whatever the format and the ranges."""

import bz2
import dataclasses
import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.inputs import find_files

from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.inputs.columns import merge_schemas
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import ScannedFile, read_batches, scan_file
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.inputs.stored_bytes import HashingReader


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    return sink.getvalue().to_pybytes()


CODECS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstd}


def write(folder: Path, suffix: str, rows: list[dict[str, Any]], group_rows: int = 7) -> Path:
    path = folder / f"in{suffix}"
    if suffix == ".parquet":
        schema = pa.schema(
            [
                ("uid", pa.int64()),
                ("my text", pa.string()),
                ("tïtle.x", pa.string()),
                ("size", pa.int64()),
            ]
        )
        pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=group_rows)
    else:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes(CODECS[suffix.removeprefix(".jsonl")](lines.encode()))
    return path


COLUMNS = InputColumns(
    id_column="uid", text_column="my text", title_column="tïtle.x", keep_columns=("size", "my text")
)
texts = st.none() | st.text(max_size=30)
row = st.fixed_dictionaries(
    {
        "uid": st.integers(-(2**63), 2**63 - 1),
        "my text": texts,
        "tïtle.x": texts,
        "size": st.none() | st.integers(-(2**63), 2**63 - 1),
    }
)


@st.composite
def ranges_of(draw: st.DrawFn, rows: int) -> list[tuple[int, int]]:
    cuts = sorted(draw(st.sets(st.integers(0, rows), max_size=8)))
    pairs = list(itertools.pairwise(cuts))
    return [(a, b - a) for a, b in pairs if draw(st.booleans())]


def scan(path: Path, columns: InputColumns = COLUMNS) -> ScannedFile:
    (found,) = find_files([str(path)])
    return scan_file(open_found(found), found, columns)


def read(
    scanned: ScannedFile, ranges: list[tuple[int, int]], columns: InputColumns = COLUMNS
) -> list[RowBatch]:
    schema = merge_schemas([scanned], columns)
    filesystem = open_found(scanned.found)
    return list(read_batches(filesystem, scanned.input_file, columns, schema, ranges))


@pytest.mark.parametrize("suffix", [".parquet", *(f".jsonl{codec}" for codec in CODECS)])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_random_ranges_of_random_rows_are_read_unchanged(
    tmp_path: Path, suffix: str, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(row, min_size=1, max_size=40))
    scanned = scan(write(tmp_path, suffix, rows))
    assert scanned.rows == len(rows)
    assert ScannedFile.from_json(json.loads(json.dumps(scanned.to_json()))) == scanned
    ranges = data.draw(ranges_of(len(rows)))
    got = read(scanned, ranges)
    assert [(batch.first_row, batch.rows) for batch in got] == ranges
    for batch in got:
        expected = rows[batch.first_row : batch.first_row + batch.rows]
        assert batch.bad == {}
        assert batch.ids.type == pa.int64()
        assert batch.ids.to_pylist() == [r["uid"] for r in expected]
        assert batch.texts == [r["my text"] for r in expected]
        assert batch.titles == [r["tïtle.x"] for r in expected]
        assert batch.kept.num_rows == len(expected)
        assert batch.kept.column("size").to_pylist() == [r["size"] for r in expected]
        assert batch.kept.column("my text").to_pylist() == [r["my text"] for r in expected]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_ranges_far_into_a_long_file_are_found(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"uid": n, "my text": f"t{n}é" * (n % 5), "tïtle.x": None, "size": n} for n in range(12_345)
    ]
    scanned = scan(write(tmp_path, suffix, rows, group_rows=5000))
    ranges = [(10, 5), (999, 3), (4990, 20), (9000, 1), (9001, 2), (12_000, 345)]
    for batch in read(scanned, ranges):
        expected = range(batch.first_row, batch.first_row + batch.rows)
        assert batch.ids.to_pylist() == list(expected)
        assert batch.texts == [rows[n]["my text"] for n in expected]
    assert len(scanned.offsets) == (13 if suffix == ".jsonl" else 0)


@dataclasses.dataclass
class Counted:
    """A local file system that counts the bytes of each file it opens."""

    opened: list[HashingReader] = dataclasses.field(default_factory=list)

    def get_file_info(self, path: str) -> pafs.FileInfo:
        return pafs.LocalFileSystem().get_file_info(path)

    def open_input_stream(self, path: str, compression: None) -> pa.NativeFile:
        stream = pafs.LocalFileSystem().open_input_stream(path, compression=compression)
        self.opened.append(HashingReader(stream))
        return pa.PythonFile(self.opened[-1], mode="r")


@pytest.mark.parametrize("codec", [".gz", ".bz2", ".zst"])
def test_a_compressed_file_is_decompressed_once_whatever_the_ranges(
    tmp_path: Path, codec: str
) -> None:
    rows = [{"id": n, "text": f"text {n}"} for n in range(5_000)]
    columns = InputColumns()
    scanned = scan(write(tmp_path, f".jsonl{codec}", rows), columns)
    schema = merge_schemas([scanned], columns)
    filesystem = Counted()
    ranges = [(first, 100) for first in range(0, 5_000, 100)]
    got = list(read_batches(filesystem, scanned.input_file, columns, schema, ranges))
    assert [batch.texts[0] for batch in got] == [f"text {first}" for first, _ in ranges]
    assert [one.bytes_read for one in filesystem.opened] == [scanned.found.size_bytes]


def test_a_row_group_of_a_million_rows_is_read_in_bounded_memory(tmp_path: Path) -> None:
    count, step = 1_000_000, 2_500
    path = tmp_path / "big.parquet"
    ids = pa.array(range(count), pa.int64())
    table = pa.table({"id": ids, "text": ids.cast(pa.string())})
    pq.write_table(table, path, row_group_size=count, compression="none", use_dictionary=False)
    whole = table.nbytes
    del table, ids
    columns = InputColumns()
    scanned = scan(path, columns)
    schema = merge_schemas([scanned], columns)
    before, peak, seen = pa.total_allocated_bytes(), 0, 0
    ranges = [(first, step) for first in range(0, count, step)]
    filesystem = open_found(scanned.found)
    for batch in read_batches(filesystem, scanned.input_file, columns, schema, ranges):
        peak = max(peak, pa.total_allocated_bytes() - before)
        assert batch.texts[0] == str(seen)
        seen += batch.rows
    assert seen == count
    assert whole > 16 << 20
    assert peak < 8 << 20
