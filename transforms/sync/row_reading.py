"""Reading rows of the input and committed rows as the keys by which they are compared."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bulkembed.schemas.compared import CommittedPart
from bulkembed.schemas.inputs import InputFile
from bulkembed.transforms.core.ranges import RowRange, split_ranges
from bulkembed.transforms.core.row_difference import Places
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import read_batches
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.sync.compared_rows import (
    LETTER_COLUMNS,
    Comparison,
    Rows,
    input_rows,
    letter_rows,
    vector_rows,
)
from bulkembed.transforms.sync.media_reading import MediaReader
from bulkembed.transforms.units.media_units import windows

FILE_BITS = 32
"""A place is the number of a file or part, and in its last 32 bits the number of a row in it."""
READ_ROWS = 4096
"""Rows in memory at a time, of a file or part."""
READ_MEDIA_ROWS = 256
"""The same of a part whose kept columns may be media."""
_ROW_MASK = (1 << FILE_BITS) - 1

log = logging.getLogger("bulkembed")


def by_file(places: Places) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield the number of each file, and the rows of it, of ascending places."""
    numbers = places >> FILE_BITS
    bounds = [*np.flatnonzero(np.diff(numbers, prepend=-1)), len(places)]
    for start, end in itertools.pairwise(bounds):
        yield int(numbers[start]), places[start:end] & _ROW_MASK


def read_input_rows(
    file: InputFile,
    number: int,
    rows: RowRange,
    compared: Comparison,
    media: MediaReader | None = None,
) -> Iterator[tuple[RowBatch, Rows]]:
    """Yield consecutive rows of the input, and their keys, of dtype INPUT_ROW.

    Args:
        file: their file.
        number: its number.
        rows: the range of the rows.
        compared: what is compared.
        media: reads what identifies rows with media; None if rows are texts alone.

    Raises:
        InputError: the file cannot be read, or has changed since it was scanned.
    """
    wanted = [rows] if rows[1] else []
    ranges = [*split_ranges(wanted, READ_ROWS)] if media is None else windows(file, wanted)
    batches = read_batches(open_found(file.found), file, compared.read, compared.schema, ranges)
    warned: set[str] = set()
    for batch in batches:
        for name in sorted(batch.unkept - warned):
            warned.add(name)
            kind = compared.schema.field(name).type
            log.warning("column %r: values that cannot be written as %s are null", name, kind)
        hashes = None
        if media is not None:
            batch, hashes = media.read(batch, file)
        first_place = (number << FILE_BITS) + batch.first_row
        yield batch, input_rows(batch, first_place, compared, hashes)


def read_committed_rows(
    dataset: Dataset, part: CommittedPart, compared: Comparison, *, retried: bool
) -> Iterator[Rows]:
    """Yield the keys of the rows of a part, of dtype COMMITTED_ROW.

    Args:
        dataset: the dataset.
        part: one of its parts.
        compared: what is compared.
        retried: whether dead letters that are not blank are to be sent again.

    Raises:
        OutputError: the part cannot be read.
    """
    place = part.number << FILE_BITS
    for table in _tables(dataset, part, compared):
        if part.is_letters:
            yield letter_rows(table, place, part.age, retried=retried)
        else:
            yield vector_rows(table, place, part.age, compared)
        place += table.num_rows


def _tables(dataset: Dataset, part: CommittedPart, compared: Comparison) -> Iterator[pa.Table]:
    """Yield the compared columns of a part, with all passages of a row in one table."""
    columns = list(LETTER_COLUMNS) if part.is_letters else compared.vector_columns
    opened = part_files.open_sized_part(dataset, part.name, part.size_bytes)
    rows = READ_ROWS if compared.embedding.media is None else READ_MEDIA_ROWS
    blocks = part_files.read_blocks(opened, part.name, columns, rows)
    if part.is_letters or not compared.embedding.rows_are_passages:
        for block in blocks:
            yield pa.Table.from_batches([block]).select(columns)
        return
    rest: list[pa.Table] = []
    for block in blocks:
        table = pa.concat_tables([*rest, pa.Table.from_batches([block]).select(columns)])
        starts = np.flatnonzero(table["passage"].to_numpy() == 0)
        last = int(starts[-1]) if len(starts) else 0
        if last:
            yield table.slice(0, last)
        rest = [table.slice(last)]
    yield from rest
