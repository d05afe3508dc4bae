"""Parts, the Parquet files of a dataset: written in row groups, read block by block.

The part of a unit is one row group; copied and merged parts have row groups of a limited size.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.inputs import PASSAGE_COLUMNS
from bulkembed.schemas.job import VectorEncoding
from bulkembed.schemas.output_schema import ID_KEY, PASSAGES, REMOVED_KEY, ROWS_KEY
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset import partitions
from bulkembed.transforms.dataset.atomic_files import NO_PERMISSION, REPAIR
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.layout import DEAD_LETTERS
from bulkembed.transforms.dataset.sized_part import SizedPart
from bulkembed.transforms.inputs.filesystems import error_line

_Rows = TypeVar("_Rows", pa.RecordBatch, pa.Table)

OpenPart: TypeAlias = pq.ParquetFile | SizedPart
"""A part whose footer is read."""

VECTOR_PATH = "vector.list.element"
BLOCK_BYTES = 4 << 20
"""About how much memory the vectors of one block take."""
ROW_GROUP_BYTES = 64 << 20
"""The maximum size of a row group of a copied or merged part, in memory, if it has several rows."""
LIST_GROUP_BYTES = 4 << 20
"""The same of a list of changes. The writer keeps some kB for each row group until its end."""
BUFFER_BYTES = 1 << 20
ROW_BYTES = 4096
"""The assumed size of a row without a vector."""
LARGE_ROW_BYTES = 8192
"""A kept value of this size or more, on average, makes pages smaller: readers hold whole pages."""
_PAGE_ROWS, _PAGE_BYTES = 1024, 1 << 20
_PIECE_NUMBERS = 1 << 18
"""Numbers of vectors that Arrow encodes at a time; it makes 8 bytes of levels for each of them."""
_NO_DICTIONARY = frozenset(
    {"id", *PASSAGE_COLUMNS, "text_hash", "truncated", "source_row", VECTOR_PATH}
)


def part_writer(
    table: pa.Table, encoding: VectorEncoding = VectorEncoding.PLAIN
) -> Callable[[pa.NativeFile], None]:
    """Return a function that writes one part to a stream, as one row group.

    All columns except plain vectors are compressed by zstd, level 1. The numbers of a vector
    hardly compress; with byte_stream_split they compress by about 15 %. Each page has a checksum.
    """
    return functools.partial(
        pq.write_table,
        _in_pieces(table),
        row_group_size=max(1, table.num_rows),
        **_writing_options(table, encoding),
    )


def _writing_options(table: pa.Table, encoding: VectorEncoding) -> dict[str, Any]:
    schema = table.schema
    paths = _leaf_paths(schema)
    split = encoding is VectorEncoding.BYTE_STREAM_SPLIT
    plain_vector = VECTOR_PATH in paths and not split
    return {
        "compression": {p: "none" if p == VECTOR_PATH and plain_vector else "zstd" for p in paths},
        "compression_level": {p: 1 for p in paths if not (p == VECTOR_PATH and plain_vector)},
        "use_dictionary": [p for p in paths if p not in {id_name(schema), *_NO_DICTIONARY}],
        "column_encoding": {VECTOR_PATH: "BYTE_STREAM_SPLIT"}
        if split and VECTOR_PATH in paths
        else None,
        "write_statistics": [p for p in paths if p != VECTOR_PATH],
        "store_schema": True,
        "write_page_checksum": True,
        "write_batch_size": _page_rows(table),
    }


def _page_rows(table: pa.Table) -> int:
    """Return how many rows Arrow encodes at a time, which is the least that a page has."""
    columns = (table.column(name) for name in table.column_names if name != "vector")
    largest = max((column.nbytes for column in columns), default=0)
    row_bytes = largest // max(1, table.num_rows)
    return _PAGE_ROWS if row_bytes < LARGE_ROW_BYTES else max(1, _PAGE_BYTES // row_bytes)


def write_row_groups(
    stream: pa.NativeFile,
    blocks: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    encoding: VectorEncoding = VectorEncoding.PLAIN,
    group_bytes: int | None = None,
) -> None:
    """Write one part of many rows, in row groups of about `group_bytes`, else ROW_GROUP_BYTES.

    Columns are encoded as `part_writer` does it, with pages for values as large as those of the
    first row group. One row group is in memory at a time.
    """
    groups = _row_groups(blocks, group_bytes or ROW_GROUP_BYTES)
    tables = (_in_pieces(pa.Table.from_batches(group).cast(schema)) for group in groups)
    table = next(tables, schema.empty_table())
    with pq.ParquetWriter(stream, schema, **_writing_options(table, encoding)) as writer:
        while table.num_rows:
            writer.write_table(table, row_group_size=table.num_rows)
            table = next(tables, schema.empty_table())


def write_list(writer: pq.ParquetWriter, blocks: Iterable[pa.RecordBatch]) -> None:
    """Write any number of rows in groups of about LIST_GROUP_BYTES, one in memory at a time."""
    for group in _row_groups(blocks, LIST_GROUP_BYTES):
        writer.write_table(pa.Table.from_batches(group))


def _row_groups(
    blocks: Iterable[pa.RecordBatch], group_bytes: int
) -> Iterator[list[pa.RecordBatch]]:
    batches: list[pa.RecordBatch] = []
    size = 0
    for block in blocks:
        if batches and size + block.nbytes > group_bytes:
            yield batches
            batches, size = [], 0
        if block.num_rows:
            batches.append(block)
            size += block.nbytes
    if batches:
        yield batches


def _in_pieces(table: pa.Table) -> pa.Table:
    """Return the same table with its vectors in chunks, which changes no byte of the file."""
    place = table.schema.get_field_index("vector")
    if place < 0:
        return table
    field = table.schema.field(place)
    rows = max(1, _PIECE_NUMBERS // field.type.list_size)
    whole = table.column(place)
    pieces = [whole.slice(at, rows).chunks for at in range(0, len(whole), rows)]
    vectors = pa.chunked_array(list(itertools.chain.from_iterable(pieces)), field.type)
    return table.set_column(place, field, vectors)


@functools.lru_cache(maxsize=8)
def _leaf_paths(schema: pa.Schema) -> tuple[str, ...]:
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    parquet_schema = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return tuple(parquet_schema.column(i).path for i in range(len(parquet_schema)))


def open_part(dataset: Dataset, name: str, *, whole_groups: bool = False) -> pq.ParquetFile:
    """Open a part by its name within the dataset, and read its footer.

    Reading a page verifies its checksum; parts of earlier versions have none.

    Args:
        dataset: the dataset.
        name: the name of the part.
        whole_groups: read the wanted columns of all wanted row groups by few requests, instead of
            pieces of 1 MiB.

    Raises:
        OutputError: the part is missing (`missing` is set), or cannot be read; see `reason`.
    """
    with _readable(name):
        return pq.ParquetFile(
            dataset.path(name),
            filesystem=dataset.filesystem,
            buffer_size=0 if whole_groups else BUFFER_BYTES,
            pre_buffer=whole_groups,
            page_checksum_verification=True,
        )


def open_sized_part(dataset: Dataset, name: str, size_bytes: int | None) -> OpenPart:
    """Open a part to read a few columns, or one row group, by few requests to a store.

    Args:
        dataset: the dataset.
        name: the name of the part.
        size_bytes: its size, as far as it is known from a listing.

    Raises:
        OutputError: as `open_part`.
    """
    if not dataset.is_on_a_store:
        return open_part(dataset, name)
    # Google's file system asks for the size in any case, each time that a fragment is read.
    if size_bytes is not None and dataset.filesystem.type_name != "gcs":
        # If that fails, `open_part` says what is wrong.
        with contextlib.suppress(OSError, pa.ArrowException):
            return SizedPart(dataset.filesystem, dataset.path(name), size_bytes)
    return open_part(dataset, name, whole_groups=True)


def read_columns(dataset: Dataset, name: str, columns: Sequence[str]) -> pa.Table:
    """Return columns of all rows of a part; `id` means that of the ids, whatever its name is.

    Raises:
        OutputError: as `open_part`; or the part does not have the columns.
    """
    part = open_part(dataset, name)
    _check_columns(part, name, columns)
    with _readable(name):
        table = part.read(_stored_names(part.schema_arrow, columns), use_threads=False)
        return _as_wanted(table, part.schema_arrow, columns)


def read_row_group(part: OpenPart, name: str, number: int, columns: Sequence[str]) -> pa.Table:
    """Return columns of one row group of a part; for `id` see `read_blocks`.

    Raises:
        OutputError: the part is truncated or damaged.
    """
    stored = _stored_names(part.schema_arrow, columns)
    with _readable(name):
        table = part.read_row_group(number, stored, use_threads=False)
    return _as_wanted(table, part.schema_arrow, columns)


def read_rows(
    part: OpenPart, name: str, rows: npt.NDArray[np.integer], columns: Sequence[str]
) -> Iterator[pa.Table]:
    """Yield columns of some ascending rows of a part; a row group without any is not read.

    For `id` see `read_blocks`.

    Raises:
        OutputError: the part is truncated or damaged.
    """
    begin = 0
    for number, size in enumerate(rows_of_groups(part)):
        low, high = np.searchsorted(rows, [begin, begin + size])
        if low < high:
            table = read_row_group(part, name, number, columns)
            yield table.take(pa.array(rows[low:high] - begin))
        begin += size


def failed_offsets(dataset: Dataset, record: UnitRecord) -> frozenset[int]:
    """Return the offsets in its unit of the rows that a record has as dead letters.

    Raises:
        OutputError: the dead letters cannot be read.
    """
    if record.dead_part is None:
        return frozenset()
    rows = read_columns(dataset, f"{DEAD_LETTERS}/{record.dead_part}", ["source_row"])
    return frozenset(row - record.unit.first_row for row in rows["source_row"].to_pylist())


def read_blocks(
    part: OpenPart,
    name: str,
    columns: Sequence[str] | None = None,
    rows: int | None = None,
    row_groups: Sequence[int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a part in order, in blocks of about 4 MB of vectors, or of some rows.

    In `columns`, `id` means the column of the ids, which is then named so in the blocks. The
    column of the partition can be among them. Without `columns` all that are in the file are read.
    Of `row_groups`, only these are read.

    Raises:
        OutputError: the part is truncated or damaged.
    """
    stored = None if columns is None else _stored_names(part.schema_arrow, columns)
    with _readable(name):
        for block in part.iter_batches(
            rows or block_rows(part.schema_arrow),
            row_groups=row_groups,
            columns=stored,
            use_threads=False,
        ):
            yield block if columns is None else _as_wanted(block, part.schema_arrow, columns)


def read_row_groups(part: OpenPart, name: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield columns of each row group of a part, in order; for `id` see `read_blocks`.

    Raises:
        OutputError: the part is truncated or damaged, or does not have the columns.
    """
    _check_columns(part, name, columns)
    for number in range(part.num_row_groups):
        yield read_row_group(part, name, number, columns)


def _check_columns(part: pq.ParquetFile, name: str, columns: Sequence[str]) -> None:
    missing = [column for column in columns if not has_columns(part.schema_arrow, [column])]
    if missing:
        reason = f"has no column {missing[0]!r}"
        raise OutputError(f"{name} {reason}. {REPAIR}", reason=reason)


def rows_of_groups(part: OpenPart) -> tuple[int, ...]:
    """Return the number of rows of each row group of a part."""
    footer = part.metadata
    return tuple(footer.row_group(number).num_rows for number in range(footer.num_row_groups))


def check_row_groups(part: OpenPart, name: str, group_rows: tuple[int, ...]) -> None:
    """Raise OutputError unless the row groups of a part have these numbers of rows."""
    if rows_of_groups(part) != group_rows:
        raise OutputError(f"{name} is not the part that it was. {REPAIR}")


def block_rows(schema: pa.Schema, block_bytes: int = BLOCK_BYTES) -> int:
    """Return the number of rows in a block whose vectors take about so much memory."""
    at = schema.get_field_index("vector")
    has_vectors = at >= 0 and pa.types.is_fixed_size_list(schema.field(at).type)
    numbers = schema.field(at).type.list_size if has_vectors else 0
    return max(64, block_bytes // max(4 * numbers, ROW_BYTES))


def id_name(schema: pa.Schema) -> str:
    """Return the name of the id's column, by the footer of a part."""
    return str((schema.metadata or {}).get(ID_KEY.encode(), b"id").decode())


def ids_of(block: pa.RecordBatch | pa.Table) -> Any:
    """Return the ids of rows that were read with all of their columns."""
    return block.column(id_name(block.schema))


def has_columns(schema: pa.Schema, columns: Sequence[str]) -> bool:
    """Return whether a part has columns, in the file or as its partition.

    `id` means that of the ids, whatever its name is.
    """
    return set(_stored_names(schema, columns)) <= set(schema.names)


def _stored_names(schema: pa.Schema, columns: Sequence[str]) -> list[str]:
    """Return the columns of the file that hold the wanted ones."""
    partition = partitions.partition_in(schema)
    in_folder = partition.field.name if partition is not None else None
    return [id_name(schema) if name == "id" else name for name in columns if name != in_folder]


def _as_wanted(block: _Rows, schema: pa.Schema, columns: Sequence[str]) -> _Rows:
    """Return rows with the column of their partition, if it is wanted, and with the id as `id`."""
    partition = partitions.partition_in(schema)
    if partition is not None and partition.field.name in columns:
        block = block.append_column(partition.field, partition.column(block.num_rows))
    stored = id_name(schema)
    if stored == "id" or "id" not in columns:
        return block
    names = ["id" if name == stored else name for name in block.schema.names]
    renamed: _Rows = block.rename_columns(names)
    return renamed


def one_per_input_row(block: pa.RecordBatch) -> pa.RecordBatch:
    """Return one row for each row of the input: its first passage, if it has passages."""
    if not holds_passages(block.schema):
        return block
    return block.filter(pc.equal(block.column("passage"), 0))


def with_passage_columns(part: OpenPart, columns: Sequence[str]) -> list[str]:
    """Return the columns, and PASSAGE_COLUMNS if the rows of the part are passages."""
    return [*columns, *(PASSAGE_COLUMNS if holds_passages(part.schema_arrow) else ())]


def holds_passages(schema: pa.Schema) -> bool:
    """Return whether rows are passages, by the footer: a kept column may have any name."""
    metadata = schema.metadata or {}
    return metadata.get(ROWS_KEY.encode()) == PASSAGES.encode()


def removed_rows(schema: pa.Schema) -> int:
    """Return how many rows of a part's unit had been removed when it was written."""
    number = (schema.metadata or {}).get(REMOVED_KEY.encode(), b"0")
    return int(number) if number.isdigit() else 0


def matrix_of(block: pa.RecordBatch | pa.Table) -> Matrix:
    """Return the column `vector` as a float32 matrix; it shares the block's memory if it can."""
    column = block.column("vector")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors: Matrix = flat.reshape(-1, column.type.list_size).astype("float32", copy=False)
    return vectors


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        message = f"{name} is missing. {REPAIR}"
        raise OutputError(message, reason="is missing", missing=True) from error
    except PermissionError as error:
        raise OutputError(f"{name}: {NO_PERMISSION}.", reason=NO_PERMISSION) from error
    except (OSError, pa.ArrowException) as error:
        reason = f"cannot be read: {error_line(error)}"
        raise OutputError(f"{name} {reason}. {REPAIR}", reason=reason) from error
