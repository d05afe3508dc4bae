"""Parts whose size is known: they read like any other part, and checksums are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from bulkembed.transforms.dataset.part_files import write_row_groups
from bulkembed.transforms.dataset.sized_part import SizedPart

DISK = pafs.LocalFileSystem()
ROWS, DIM = 3000, 8


@pytest.fixture
def table() -> pa.Table:
    numbers = np.arange(ROWS)
    vectors = np.arange(ROWS * DIM, dtype=np.float32)
    return pa.table(
        {
            "id": pa.array(numbers).cast(pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors), DIM),
            "text_hash": pa.array([n.to_bytes(16, "big") for n in range(ROWS)], pa.binary(16)),
            "a.b": pa.array(["x", None, "z"] * (ROWS // 3)).dictionary_encode(),
            "tags": pa.array([["one"], [], None] * (ROWS // 3)),
        }
    )


@pytest.fixture
def path(tmp_path: Path, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A part with three row groups."""
    monkeypatch.setattr("bulkembed.transforms.dataset.part_files.ROW_GROUP_BYTES", 1)
    path = tmp_path / "part.parquet"
    with pa.OSFile(str(path), "wb") as stream:
        write_row_groups(stream, table.to_batches(ROWS // 3), table.schema)
    return path


def opened(path: Path) -> SizedPart:
    return SizedPart(DISK, str(path), path.stat().st_size)


@pytest.mark.parametrize("columns", [None, ["text_hash", "id"], ["a.b"], ["tags", "vector"]])
def test_a_sized_part_has_the_rows_and_types_of_the_file(path: Path, columns: list[str]) -> None:
    part, plain = opened(path), pq.ParquetFile(path)
    assert part.schema_arrow.equals(plain.schema_arrow, check_metadata=True)
    assert part.num_row_groups == plain.num_row_groups == 3
    for group in range(3):
        found = part.read_row_group(group, columns)
        assert found.equals(plain.read_row_group(group, columns))
    blocks = list(part.iter_batches(400, columns=columns))
    assert max(block.num_rows for block in blocks) <= 400
    assert pa.Table.from_batches(blocks).equals(plain.read(columns))
    (block,) = part.iter_batches(ROWS, [1], columns)
    assert pa.Table.from_batches([block]).equals(plain.read_row_group(1, columns))


def test_a_sized_part_compares_the_checksums_of_pages(path: Path) -> None:
    with pa.OSFile(str(path), "wb") as stream:
        vectors = pa.array(np.zeros(1000, np.float32))
        pq.write_table(
            pa.table({"numbers": vectors}), stream,
            write_page_checksum=True, compression="none", use_dictionary=False,
        )  # fmt: skip
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        opened(path).read_row_group(0, ["numbers"])


def test_a_missing_part_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SizedPart(DISK, str(tmp_path / "part.parquet"), 100)
