"""Parts of the output read back, block by block, in bounded memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.inputs import PASSAGE_COLUMNS
from bulkembed.schemas.tables import PASSAGES, ROWS_KEY
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.whole_files import NO_PERMISSION, REPAIR
from bulkembed.transforms.inputs.filesystems import error_line

BLOCK_BYTES = 4 << 20
"""About what the vectors of one block take."""
BUFFER_BYTES = 1 << 20
ROW_BYTES = 4096
"""What a row is taken to have where there is no vector."""


def open_part(dataset: Dataset, name: str) -> pq.ParquetFile:
    """Open a part by its name within the dataset, and read its footer.

    Reading a page compares it with its checksum; parts of earlier versions have none.

    Raises:
        OutputError: it is not there (fact `gone`), or no Parquet file; fact `reason` says it.
    """
    with _readable(name):
        return pq.ParquetFile(
            dataset.path(name),
            filesystem=dataset.filesystem,
            buffer_size=BUFFER_BYTES,
            page_checksum_verification=True,
        )


def read_blocks(
    part: pq.ParquetFile, name: str, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of a part in their order, in blocks of some 4 MB of vectors.

    Raises:
        OutputError: the part is cut short or damaged.
    """
    with _readable(name):
        yield from part.iter_batches(
            block_rows(part.schema_arrow), columns=columns, use_threads=False
        )


def once_a_row(block: pa.RecordBatch) -> pa.RecordBatch:
    """A block with one row for each row of the input: the first of its passages, if it has any."""
    if not holds_passages(block.schema):
        return block
    return block.filter(pc.equal(block.column("passage"), 0))


def with_passages(part: pq.ParquetFile, columns: Sequence[str]) -> list[str]:
    """The columns, and those of PASSAGE_COLUMNS where the rows are passages."""
    return [*columns, *(PASSAGE_COLUMNS if holds_passages(part.schema_arrow) else ())]


def holds_passages(schema: pa.Schema) -> bool:
    """Whether rows are passages, by the footer: a column that was kept may have any name."""
    metadata = schema.metadata or {}
    return metadata.get(ROWS_KEY.encode()) == PASSAGES.encode()


def block_rows(schema: pa.Schema) -> int:
    """How many rows a block has."""
    at = schema.get_field_index("vector")
    listed = at >= 0 and pa.types.is_fixed_size_list(schema.field(at).type)
    numbers = schema.field(at).type.list_size if listed else 0
    return max(64, BLOCK_BYTES // max(4 * numbers, ROW_BYTES))


def matrix_of(block: pa.RecordBatch | pa.Table) -> npt.NDArray[np.float32]:
    """The column `vector` as rows x dim, float32; shares the block's memory where it can."""
    column = block.column("vector")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors: npt.NDArray[np.float32] = flat.reshape(-1, column.type.list_size).astype(
        np.float32, copy=False
    )
    return vectors


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        message = f"{name}: is not there; {REPAIR}"
        raise OutputError(message, reason="is not there", gone=True) from error
    except PermissionError as error:
        raise OutputError(f"{name}: {NO_PERMISSION}", reason=NO_PERMISSION) from error
    except (OSError, pa.ArrowException) as error:
        reason = f"cannot be read: {error_line(error)}"
        raise OutputError(f"{name}: {reason}; {REPAIR}", reason=reason) from error
