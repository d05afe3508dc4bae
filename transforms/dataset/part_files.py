"""Parquet parts of the output: how they are named and encoded."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.schemas.inputs import PASSAGE_COLUMNS
from bulkembed.schemas.job import VectorEncoding
from bulkembed.schemas.units import Unit, UnitRecord

VECTOR_PATH = "vector.list.element"
EMPTY_PART = "empty.parquet"
"""Stands in `vectors/` where there is not one vector, so that readers find the schema."""
_PART = re.compile(r"part-([0-9a-f]{16})-(\d{12})-(\d{8})(?:-g(\d+))?(?:-n(\d+))?\.parquet")
_PIECE_NUMBERS = 1 << 18
"""Numbers of vectors that Arrow encodes at a time: it makes 8 bytes of levels for each of them."""
_NO_DICTIONARY = frozenset(
    {"id", *PASSAGE_COLUMNS, "text_hash", "truncated", "source_row", VECTOR_PATH}
)


def part_name(record: UnitRecord) -> str:
    """Return the name of the parts that the commit of a record writes.

    It is made of what the record covers, so that a second try of one run overwrites the first, and
    of the run's number, so that a late writer of an earlier run overwrites nothing.
    """
    return (
        f"{part_stem(record.unit)}"
        f"{f'-g{record.generation}' if record.generation else ''}"
        f"{f'-n{record.run_number}' if record.run_number else ''}.parquet"
    )


def part_stem(unit: Unit) -> str:
    """Return what the names of all parts of a unit begin with."""
    return f"part-{unit.file_key}-{unit.first_row:012d}-{unit.rows:08d}"


def is_part_name(name: str) -> bool:
    """Whether a file's name is one that `part_name` gives."""
    return _PART.fullmatch(name) is not None


def unit_of_part(name: str) -> Unit:
    """Return the unit that a part's name says.

    Raises:
        ValueError: it is no part's name.
    """
    found = _matched(name)
    return Unit(found[1], int(found[2]), int(found[3]))


def place_of_part(name: str) -> tuple[int, int]:
    """Return the run number and the generation of a part, 0 where its name says none.

    Raises:
        ValueError: it is no part's name.
    """
    found = _matched(name.rpartition("/")[2])
    return int(found[5] or 0), int(found[4] or 0)


def _matched(name: str) -> re.Match[str]:
    found = _PART.fullmatch(name)
    if found is None:
        raise ValueError(f"{name!r} is no part's name")
    return found


def part_writer(
    table: pa.Table, encoding: VectorEncoding = VectorEncoding.PLAIN
) -> Callable[[pa.NativeFile], None]:
    """Return a function that writes one part to a stream, as one row group.

    All columns but the plain vectors are compressed by zstd, level 1: the numbers of a vector
    hardly compress, except with byte_stream_split, by some 15 %. Each page has a checksum.
    """
    table = _in_pieces(table)
    paths = _leaf_paths(table.schema)
    split = encoding is VectorEncoding.BYTE_STREAM_SPLIT
    plain_vector = VECTOR_PATH in paths and not split
    return functools.partial(
        pq.write_table,
        table,
        row_group_size=max(1, table.num_rows),
        compression={p: "none" if p == VECTOR_PATH and plain_vector else "zstd" for p in paths},
        compression_level={p: 1 for p in paths if not (p == VECTOR_PATH and plain_vector)},
        use_dictionary=[p for p in paths if p not in _NO_DICTIONARY],
        column_encoding={VECTOR_PATH: "BYTE_STREAM_SPLIT"}
        if split and VECTOR_PATH in paths
        else None,
        write_statistics=[p for p in paths if p != VECTOR_PATH],
        store_schema=True,
        write_page_checksum=True,
    )


def _in_pieces(table: pa.Table) -> pa.Table:
    """The same table, its vectors in pieces: nothing is copied, and the file has the same bytes."""
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
