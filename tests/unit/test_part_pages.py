"""Parts have small pages where kept values are large, so that any reader needs little memory."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulkembed.transforms.dataset.part_files import part_writer, write_row_groups
from bulkembed.transforms.inputs.parquet_pages.page_values import Chunk, first_page_bytes

ROWS = 100
NOISE = np.random.default_rng(5).bytes(400_000)


def part(value_bytes: int) -> pa.Table:
    """Return rows with vectors and kept images, of which every other one is null."""
    values = [None if row % 2 else NOISE[row : row + value_bytes] for row in range(ROWS)]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(ROWS * 768, np.float32)), 768)
    photo = pa.array([{"bytes": value, "path": "a.jpg"} for value in values])
    return pa.table({"id": range(ROWS), "photo": photo, "vector": vectors})


def written(table: pa.Table, *, in_groups: bool) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    if in_groups:
        blocks = table.to_batches(max_chunksize=20)
        write_row_groups(sink, blocks, table.schema, group_bytes=table.nbytes // 3)
    else:
        part_writer(table)(sink)
    return sink.getvalue()


def largest_page(data: pa.Buffer, column: str) -> int:
    metadata = pq.ParquetFile(data).metadata
    sizes = []
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        (chunk,) = (
            one
            for one in map(group.column, range(group.num_columns))
            if one.path_in_schema == column
        )
        begin = chunk.dictionary_page_offset or chunk.data_page_offset
        place = Chunk(0, 0, begin, chunk.total_compressed_size, chunk.compression)
        sizes.append(first_page_bytes(pa.BufferReader(data), place))
    return max(sizes)


@pytest.mark.parametrize("in_groups", [False, True])
def test_pages_of_large_values_have_few_rows(in_groups: bool) -> None:
    table = part(200_000)
    data = written(table, in_groups=in_groups)
    assert pq.read_table(data) == table
    assert largest_page(data, "photo.bytes") < 3_000_000
    assert largest_page(data, "vector.list.element") > 60_000


def test_pages_of_small_values_are_as_large_as_before() -> None:
    data = written(part(4000), in_groups=False)
    assert largest_page(data, "photo.bytes") == ROWS // 2 * 4004


def test_a_part_without_rows_has_no_row_group() -> None:
    sink = pa.BufferOutputStream()
    write_row_groups(sink, [], pa.schema([("id", pa.int64())]))
    assert pq.ParquetFile(sink.getvalue()).metadata.num_row_groups == 0
