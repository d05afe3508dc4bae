"""A sample of a dataset's rows, drawn evenly, in bounded memory and time whatever its size."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.schemas.inputs import OUR_COLUMNS
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import RecordParts

MOST_ROWS = 1500
MOST_PARTS = 64
MOST_BLOCKS = 128
"""Read of all parts together: some 512 MB of vectors."""
READ_THREADS = 2
"""Parts read at once; each holds a block in memory."""
MOST_SECONDS = 10.0
"""After which no further part is begun: a distant store may be slow."""
SEED = 7
COLUMNS = ("id", "text_hash", "truncated", "source_file", "source_row")

Places = npt.NDArray[np.int64]


class Part(NamedTuple):
    """A part of vectors, and the key of the input file that its rows came from."""

    name: str
    file_key: str


@dataclasses.dataclass(frozen=True, slots=True)
class SampledRow:
    """A row of the dataset without its vector."""

    file_key: str
    id: object
    source_file: str
    source_row: int
    text_hash: bytes
    truncated: bool | None
    """None where the service does not say."""
    kept_text: str | None
    """The text, where it is a column of the dataset."""
    passage: int | None = None
    start: int | None = None
    end: int | None = None
    """Of a passage, its number and the characters that it is."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows of a dataset, and their vectors, in one order."""

    rows: tuple[SampledRow, ...]
    vectors: Matrix
    rows_of: int
    """Rows of the dataset that have a vector."""
    parts: int
    """Parts that the rows are from."""
    parts_of: int


def draw_sample(dataset: Dataset, records: Sequence[UnitRecord], text_column: str | None) -> Sample:
    """Rows of the dataset, the same ones each time; each is as likely as any other.

    Of a dataset with more than MOST_PARTS parts, some are taken, and of a large part its first
    blocks: what is read does not grow with the dataset.

    Args:
        dataset: whose rows they are.
        records: all of its commit records, whole.
        text_column: the column that holds the texts, if it may be among those kept.

    Raises:
        OutputError: a part cannot be read.
    """
    chance = np.random.default_rng(SEED)
    parts = [
        Part(name, record.unit.file_key)
        for record in records
        for name in RecordParts.of(record).vectors
    ]
    # In any order, so that those that were read in time are spread over the dataset.
    places = chance.permutation(len(parts))[:MOST_PARTS]
    blocks = max(1, MOST_BLOCKS // max(1, len(places)))
    until = time.monotonic() + MOST_SECONDS
    with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
        chosen = [parts[at] for at in places]
        reachable = pool.map(lambda part: _reachable(dataset, part, blocks), chosen)
        wanted = _wanted(list(reachable), chance)
        found = pool.map(
            lambda part, rows: _read(dataset, part, rows, text_column, until), chosen, wanted
        )
        pieces = [piece for piece in found if piece is not None]
    vectors = [vectors for _, vectors in pieces]
    return Sample(
        rows=tuple(itertools.chain.from_iterable(rows for rows, _ in pieces)),
        vectors=np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32),
        rows_of=sum(record.vectors for record in records),
        parts=len(pieces),
        parts_of=len(parts),
    )


def _reachable(dataset: Dataset, part: Part, blocks: int) -> int:
    """The rows of a part's first blocks; the part is not kept open, for that takes memory."""
    opened = part_files.open_part(dataset, part.name)
    rows: int = opened.metadata.num_rows
    return min(rows, blocks * part_files.block_rows(opened.schema_arrow))


def _wanted(reachable: Sequence[int], chance: np.random.Generator) -> list[Places]:
    """The places of the rows to take, for each part."""
    ends = np.cumsum(reachable, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    drawn = np.sort(chance.choice(total, min(MOST_ROWS, total), replace=False))
    return [
        drawn[(drawn >= end - rows) & (drawn < end)] - (end - rows)
        for rows, end in zip(reachable, ends, strict=True)
    ]


def _read(
    dataset: Dataset, part: Part, places: Places, text_column: str | None, until: float
) -> tuple[list[SampledRow], Matrix] | None:
    """Rows of a part by their places; None where there are none, or it is too late."""
    if not len(places) or time.monotonic() > until:
        return None
    rows: list[SampledRow] = []
    vectors = []
    opened = part_files.open_part(dataset, part.name)
    ours = text_column in OUR_COLUMNS  # An id may be the text: then the input has it.
    kept = text_column if not ours and text_column in opened.schema_arrow.names else None
    columns = part_files.with_passages(opened, [*COLUMNS, *([kept] if kept else [])])
    for here, block in _blocks(part.name, opened, places, columns):
        vectors.append(part_files.matrix_of(block)[here])
        chosen = block.drop_columns(["vector"]).take(pa.array(here)).to_pylist()
        rows += [_row(part.file_key, facts, kept) for facts in chosen]
    return rows, np.concatenate(vectors)


def _blocks(
    name: str, opened: pq.ParquetFile, places: Places, columns: Sequence[str]
) -> Iterator[tuple[Places, pa.RecordBatch]]:
    """The blocks up to the last place, each with the places in it."""
    first = 0
    for block in part_files.read_blocks(opened, name, ["vector", *columns]):
        yield places[(places >= first) & (places < first + block.num_rows)] - first, block
        first += block.num_rows
        if first > places[-1]:
            return


def _row(file_key: str, facts: dict[str, Any], kept: str | None) -> SampledRow:
    text = facts.pop(kept) if kept else None
    return SampledRow(file_key, **facts, kept_text=None if text is None else str(text))
