"""How often the bytes of an input file are read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.inputs import find_files

from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.inputs.columns import merge_schemas
from bulkembed.transforms.inputs.filesystems import LocalInput
from bulkembed.transforms.inputs.input_files import read_batches, scan_file

COLUMNS = InputColumns()
NOISE = np.random.default_rng(1)


class CountedFile(io.FileIO):
    """A file that counts how often each of its bytes is read."""

    def __init__(self, path: str, times: np.ndarray) -> None:
        super().__init__(path)
        self._times = times

    def read(self, size: int | None = -1) -> bytes:
        begin = self.tell()
        data = super().read(-1 if size is None else size) or b""
        self._times[begin : begin + len(data)] += 1
        return data


class CountedInput(LocalInput):
    """The local disk, of which one file is read."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.times = np.zeros(path.stat().st_size, np.int64)
        self.opened = 0

    def open_input_file(self, path: str) -> pa.NativeFile:
        self.opened += 1
        return pa.PythonFile(CountedFile(path, self.times), mode="r")

    def open_input_stream(self, path: str, compression: str | None = None) -> pa.NativeFile:
        assert compression is None
        return self.open_input_file(path)


def parquet(path: Path, rows: int, blob_bytes: int, columns: int = 0) -> Path:
    table = pa.table(
        {
            "id": range(rows),
            "text": [f"text {row}" for row in range(rows)],
            "blob": [NOISE.bytes(blob_bytes) for _ in range(rows)],
            **{f"column number {number}": [1] * rows for number in range(columns)},
        }
    )
    pq.write_table(table, path, compression="none", use_dictionary=False)
    return path


@pytest.mark.parametrize(
    ("rows", "blob_bytes"),
    [
        pytest.param(5, 10, id="small"),
        pytest.param(500, 1_000, id="in-memory"),
        pytest.param(5_000, 1_000, id="large"),
    ],
)
def test_a_scan_reads_each_byte_of_a_local_file_once(
    tmp_path: Path, rows: int, blob_bytes: int
) -> None:
    path = parquet(tmp_path / "a.parquet", rows, blob_bytes)
    filesystem = CountedInput(path)
    (found,) = find_files([str(path)])
    scanned = scan_file(filesystem, found, COLUMNS)
    assert scanned.rows == rows
    assert set(filesystem.times) == {1}


def test_only_a_large_footer_is_read_again(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", 10, 200_000, columns=500)
    filesystem = CountedInput(path)
    (found,) = find_files([str(path)])
    scanned = scan_file(filesystem, found, COLUMNS)
    assert len(scanned.columns) == 503
    footer_bytes = int.from_bytes(path.read_bytes()[-8:-4], "little")
    assert footer_bytes > 64 << 10
    assert int(np.count_nonzero(filesystem.times > 1)) < footer_bytes
    assert max(filesystem.times) == 2


def test_rows_of_a_small_file_are_read_at_once(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", 20, 100)
    (found,) = find_files([str(path)])
    filesystem = CountedInput(path)
    scanned = scan_file(filesystem, found, COLUMNS)
    schema = merge_schemas([scanned], COLUMNS)
    filesystem = CountedInput(path)
    ranges = [(0, 5), (7, 13)]
    batches = list(read_batches(filesystem, scanned.input_file, COLUMNS, schema, ranges))
    assert [text for batch in batches for text in batch.texts][4:6] == ["text 4", "text 7"]
    assert set(filesystem.times) == {1}
