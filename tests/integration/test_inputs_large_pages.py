"""Rows with large media are read from Parquet without a whole page in memory."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.inputs import find_files

from bulkembed.schemas.content_parts import parse_part
from bulkembed.schemas.errors import ConfigError, InputError, OutputError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.columns import merge_schemas
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import ScannedFile, read_batches, scan_file
from bulkembed.transforms.inputs.parquet_pages import page_bytes
from bulkembed.transforms.inputs.rows import RowBatch

NOISE = np.random.default_rng(3).bytes(500_000)
ROWS = 64
MEDIA = [None if row % 9 == 4 else NOISE[row * 1000 : row * 1000 + 250_000] for row in range(ROWS)]
RANGES = [(0, 10), (10, 1), (30, 20), (60, 4)]


def columns_of(*content: str, keep: tuple[str, ...] = ()) -> InputColumns:
    return InputColumns(
        text_column=None, content=tuple(map(parse_part, content)), keep_columns=keep
    )


def write(folder: Path, column: pa.Array, **options: Any) -> Path:
    """Write pages of 64 rows, 16 MB in all."""
    path = folder / "in.parquet"
    titles = pa.array([f"title {row}" for row in range(len(column))])
    table = pa.table({"id": range(len(column)), "title": titles, "photo": column})
    pq.write_table(table, path, **options)
    return path


def scan(path: Path, columns: InputColumns) -> ScannedFile:
    (found,) = find_files([str(path)])
    return scan_file(open_found(found), found, columns)


def read(
    path: Path, columns: InputColumns, ranges: list[RowRange] = RANGES
) -> tuple[ScannedFile, list[RowBatch]]:
    scanned = scan(path, columns)
    schema = merge_schemas([scanned], columns)
    filesystem = open_found(scanned.found)
    return scanned, list(read_batches(filesystem, scanned.input_file, columns, schema, ranges))


def media_of(batch: RowBatch) -> list[Any]:
    """Return the bytes of the images of each row."""
    assert batch.parts is not None
    media = [[part.value for part in row if not isinstance(part, str)] for row in batch.parts]
    return [
        [value["bytes"] if isinstance(value, dict) else value for value in row] for row in media
    ]


def expected(first: int, rows: int) -> list[Any]:
    return [[] if value is None else [value] for value in MEDIA[first : first + rows]]


def structs() -> pa.Array:
    return pa.array([value and {"bytes": value, "path": "a.jpg"} for value in MEDIA])


@pytest.mark.parametrize("rows_of_groups", [64, 20])
@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
def test_wanted_ranges_of_images_are_read(tmp_path: Path, codec: str, rows_of_groups: int) -> None:
    path = write(tmp_path, pa.array(MEDIA), compression=codec, row_group_size=rows_of_groups)
    _, batches = read(path, columns_of("text:title", "image:photo"))
    assert [media_of(batch) for batch in batches] == [expected(*one) for one in RANGES]
    assert batches[1].parts is not None
    assert batches[1].parts[0][0] == "title 10"
    assert batches[1].ids.to_pylist() == [10]


@pytest.mark.parametrize("part", ["image:photo", "image:photo.bytes"])
def test_images_in_structs_are_read_and_kept(tmp_path: Path, part: str) -> None:
    path = write(tmp_path, structs())
    columns = columns_of(part, keep=("photo", "photo.path"))
    _, batches = read(path, columns)
    assert [media_of(batch) for batch in batches] == [expected(*one) for one in RANGES]
    kept = [batch.kept.to_pydict() for batch in batches]
    assert [one["photo"] for one in kept] == [
        structs().slice(first, rows).to_pylist() for first, rows in RANGES
    ]
    assert kept[0]["photo.path"] == [value and "a.jpg" for value in MEDIA[:10]]


def test_a_file_with_images_alone_is_read(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"photo": MEDIA}), path)
    columns = InputColumns(id_column=None, text_column=None, content=(parse_part("image:photo"),))
    _, batches = read(path, columns)
    assert [media_of(batch) for batch in batches] == [expected(*one) for one in RANGES]


def test_a_damaged_page_is_damage_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, pa.array(MEDIA))
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(2)
    data = bytearray(path.read_bytes())
    middle = chunk.data_page_offset // 2
    data[middle : middle + 70_000] = bytes(70_000)
    path.write_bytes(data)
    with pytest.raises(
        InputError, match=r"in\.parquet cannot be read: .*--skip-bad-files"
    ) as error:
        read(path, columns_of("image:photo"))
    assert error.value.damaged


def test_a_full_disk_is_not_damage_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, pa.array(MEDIA))
    monkeypatch.setattr(page_bytes.os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "")))
    with pytest.raises(OutputError, match="the disk is full"):
        read(path, columns_of("image:photo"))


PEAK = """
import sys
from pathlib import Path
import pyarrow as pa
sys.path.insert(0, "tests")
from support.inputs import scan_all
from bulkembed.schemas.content_parts import parse_part
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches

columns = InputColumns(text_column=None, content=(parse_part("image:photo"),))
(file,) = scan_all(Path(sys.argv[1]), columns)
schema, ranges = pa.schema([("id", pa.int64())]), [(row, 20) for row in range(0, file.rows, 20)]

def peak_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before, size = peak_kb(), 0
for batch in read_batches(open_found(file.found), file.input_file, columns, schema, ranges):
    size += sum(len(parts[0].value) for parts in batch.parts)
print(size, peak_kb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_a_page_of_100_mb_is_never_in_memory(tmp_path: Path) -> None:
    images = [NOISE[row * 100 : row * 100 + 100_000] for row in range(1000)]
    write(tmp_path, pa.array(images))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    size, peak_kb = map(int, done.stdout.split())
    assert size == sum(map(len, images))
    assert peak_kb < 60_000


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    arrays = [pa.array(range(ROWS)), pa.array(MEDIA), pa.array(MEDIA)]
    table = pa.Table.from_arrays(arrays, ["id", "photo", "photo"])
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(ConfigError, match="photo"):
        scan(tmp_path / "in.parquet", columns_of("image:photo"))
