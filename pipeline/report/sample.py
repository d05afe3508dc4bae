"""A sample of the rows of a dataset, with their vectors and texts, in bounded memory and time."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.pipeline.run.scans import planned_files
from bulkembed.pipeline.verify.comparison import source_text
from bulkembed.schemas.content_parts import parse_part
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import ConfigError, InputError
from bulkembed.schemas.inputs import MEDIA_COLUMN, OUR_COLUMNS, InputColumns, InputFile
from bulkembed.schemas.units import UnitRecord
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.tokens import TokenEstimator
from bulkembed.transforms.core.vectors import Matrix
from bulkembed.transforms.dataset import part_files, run_file
from bulkembed.transforms.dataset.array_imports import import_pandas_first
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.records import RecordParts
from bulkembed.transforms.inputs.filesystems import names_a_host, open_found
from bulkembed.transforms.inputs.input_files import read_batches

MAX_ROWS = 1500
MAX_PARTS = 64
MAX_BYTES = 128 << 20
"""About how much of all parts together is read, but at least a block of each."""
BLOCK_BYTES = 1 << 20
"""About how much memory the vectors of one block take."""
MAP_DIMS = 768
"""Of a longer vector only the beginning counts: the models are trained so that it has most of the
meaning."""
READ_THREADS = 4
"""Parts to read at once; each holds a block in memory."""
MAX_PARTS_S = 3.0
"""After this time no further part is read, because a distant store may be slow, but at least
READ_THREADS. Half of it is for the footers of the parts."""
MAX_TEXTS_S = 2.0
"""After this time no further text is read: the input may be distant or large."""
MAX_TEXT_CHARS = 2000
"""Characters of a text to keep in memory."""
MAX_COMPRESSED_BYTES = 64 << 20
"""A compressed file is decoded from its beginning, so larger ones are skipped."""
SEED = 7
COLUMNS = ("id", "text_hash", "truncated", "source_file", "source_row")

Places = npt.NDArray[np.int64]


class Part(NamedTuple):
    """A part with vectors, and the keys of the input files of its rows."""

    name: str
    file_keys: dict[str, str]
    """By the file's name."""


@dataclasses.dataclass(frozen=True, slots=True)
class SampledRow:
    """A row of the dataset without its vector."""

    file_key: str
    id: object
    source_file: str
    source_row: int
    text_hash: bytes
    truncated: bool | None
    """None if the service does not report it."""
    kept_text: str | None
    """The text, if it is a column of the dataset."""
    passage: int | None = None
    start: int | None = None
    end: int | None = None
    """Number of a passage, and its first and last character in the text."""
    media: list[dict[str, Any]] | None = None
    """The output's column of that name, if the dataset has media."""
    thumbnail: bytes | None = dataclasses.field(default=None, repr=False)
    """Its first image as a small JPEG, if it could be read."""
    part: str = ""
    """The part that has the row, and the row's number in it."""
    part_row: int = 0


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Rows of a dataset and the first MAP_DIMS numbers of their vectors, in the same order."""

    rows: tuple[SampledRow, ...]
    vectors: Matrix
    rows_of: int
    """Rows of the whole dataset that have a vector."""
    parts: int
    """Parts that were read."""
    parts_of: int


def draw_sample(
    dataset: Dataset,
    records: Sequence[UnitRecord],
    text_column: str | None,
    *,
    media: bool = False,
) -> Sample:
    """Return random rows of a dataset, the same rows each time.

    At most MAX_PARTS parts are read, and only the first blocks of a large part, so that the time
    and memory do not grow with the dataset.

    Args:
        dataset: the dataset.
        records: all of its commit records, read from their files.
        text_column: the column that holds the texts, if it may be among the kept columns.
        media: whether to read the column that names the media of a row.

    Raises:
        OutputError: a part cannot be read.
    """
    import_pandas_first()
    chance = np.random.default_rng(SEED)
    file_keys: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for record in records:
        for name in RecordParts.of(record).vectors:
            file_keys[name][record.source_file] = record.unit.file_key
    parts = [Part(*item) for item in file_keys.items()]
    # In random order, so that the parts that are read in time are spread over the dataset.
    places = chance.permutation(len(parts))[:MAX_PARTS]
    blocks = max(1, MAX_BYTES // BLOCK_BYTES // max(1, len(places)))
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
        chosen = [parts[at] for at in places]
        reachable = pool.map(
            lambda part, until: _reachable(dataset, part, blocks, until),
            chosen, _deadlines(started + MAX_PARTS_S / 2),
        )  # fmt: skip
        wanted = _wanted(list(reachable), chance)
        found = pool.map(
            lambda part, rows, until: _read(dataset, part, rows, text_column, until, media=media),
            chosen, wanted, _deadlines(started + MAX_PARTS_S),
        )  # fmt: skip
        pieces = [piece for piece in found if piece is not None]
    vectors = [vectors for _, vectors in pieces]
    return Sample(
        rows=tuple(itertools.chain.from_iterable(rows for rows, _ in pieces)),
        vectors=np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32),
        rows_of=sum(record.vectors for record in records),
        parts=len(pieces),
        parts_of=len(parts),
    )


def _deadlines(until: float) -> Iterator[float]:
    """Yield until when each part may be opened: the first ones at any time."""
    yield from itertools.repeat(math.inf, READ_THREADS)
    yield from itertools.repeat(until)


def _reachable(dataset: Dataset, part: Part, blocks: int, until: float) -> int:
    """Return how many rows the first blocks of a part have; 0 if the time is over.

    The part is closed to save memory.
    """
    if time.monotonic() > until:
        return 0
    opened = part_files.open_part(dataset, part.name)
    rows: int = opened.metadata.num_rows
    return min(rows, blocks * part_files.block_rows(opened.schema_arrow, BLOCK_BYTES))


def _wanted(reachable: Sequence[int], chance: np.random.Generator) -> list[Places]:
    """Return the places of the rows to read in each part."""
    ends = np.cumsum(reachable, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    drawn = np.sort(chance.choice(total, min(MAX_ROWS, total), replace=False))
    return [
        drawn[(drawn >= end - rows) & (drawn < end)] - (end - rows)
        for rows, end in zip(reachable, ends, strict=True)
    ]


def _read(
    dataset: Dataset,
    part: Part,
    places: Places,
    text_column: str | None,
    until: float,
    *,
    media: bool,
) -> tuple[list[SampledRow], Matrix] | None:
    """Return rows of a part by their places; None if there are none or the time is over."""
    if not len(places) or time.monotonic() > until:
        return None
    rows: list[SampledRow] = []
    vectors = []
    opened = part_files.open_part(dataset, part.name)
    ours = text_column in OUR_COLUMNS  # An id can be the text; then it is read from the input.
    kept = text_column if not ours and text_column in opened.schema_arrow.names else None
    more = [*([kept] if kept else []), *([MEDIA_COLUMN] if media else [])]
    columns = part_files.with_passage_columns(opened, [*COLUMNS, *more])
    wanted, size = ["vector", *columns], part_files.block_rows(opened.schema_arrow, BLOCK_BYTES)
    for first, here, block in blocks_with(part.name, opened, places, wanted, size):
        vectors.append(part_files.matrix_of(block)[here, :MAP_DIMS])
        chosen = block.select(columns).take(pa.array(here)).to_pylist()
        rows += [
            dataclasses.replace(
                _row(part.file_keys, facts, kept), part=part.name, part_row=first + at
            )
            for facts, at in zip(chosen, here.tolist(), strict=True)
        ]
    return rows, np.concatenate(vectors)


def blocks_with(
    name: str,
    opened: pq.ParquetFile,
    places: Places,
    columns: Sequence[str],
    rows: int | None = None,
) -> Iterator[tuple[int, Places, pa.RecordBatch]]:
    """Yield the blocks up to the last place: the first row of each, the places in it, the block.

    Args:
        name: the part.
        opened: its file.
        places: rows of the part, ascending; in a block they count from its first row.
        columns: the columns of the blocks.
        rows: of a block; None for about 4 MB of vectors.
    """
    first = 0
    for block in part_files.read_blocks(opened, name, columns, rows):
        yield first, places[(places >= first) & (places < first + block.num_rows)] - first, block
        first += block.num_rows
        if first > places[-1]:
            return


def _row(file_keys: dict[str, str], facts: dict[str, Any], kept: str | None) -> SampledRow:
    text = facts.pop(kept) if kept else None
    (first, *others) = file_keys.values()
    file_key = file_keys.get(facts["source_file"], "") if others else first
    return SampledRow(file_key, **facts, kept_text=None if text is None else str(text))


@dataclasses.dataclass(frozen=True, slots=True)
class SampledText:
    """The beginning of a row's text, and the length of the whole text."""

    text: str
    tokens: int
    """Estimated from the characters."""


def texts_of(
    dataset: Dataset, pinned: dict[str, Any], rows: Sequence[SampledRow]
) -> list[SampledText | None]:
    """Return the text of each row, from a kept column or the input; None if it is not available.

    A text of the input counts only if it has the hash of the text that was embedded.

    Args:
        dataset: the dataset of the rows.
        pinned: the content of its `run.json`.
        rows: the rows, in any order.
    """
    found: dict[int, str] = {
        at: row.kept_text for at, row in enumerate(rows) if row.kept_text is not None
    }
    if len(found) < len(rows) and not pinned["layout"].get("media"):
        missing = [at for at in range(len(rows)) if at not in found]
        read = _input_texts(dataset, pinned, [rows[at] for at in missing])
        found.update((missing[at], text) for at, text in read)
    estimator = TokenEstimator(EmbeddingConfig.from_facts(pinned["embedding"]).spec.max_tokens)
    return [_sampled(found[at], estimator) if at in found else None for at in range(len(rows))]


def input_columns(pinned: dict[str, Any]) -> InputColumns:
    """Return the columns of which a text was made, without id and kept columns."""
    layout = pinned["layout"]
    if layout.get("media"):
        content = tuple(map(parse_part, layout["text"]))
        return InputColumns(id_column=None, text_column=None, content=content)
    is_template = run_file.template_of(pinned) is not None
    return InputColumns(
        id_column=None,
        text_column=None if is_template else layout["text"],
        text_template=layout["text"] if is_template else None,
        title_column=layout["title_column"],
    )


def _sampled(text: str, estimator: TokenEstimator) -> SampledText:
    return SampledText(text[:MAX_TEXT_CHARS], estimator.estimate(text))


def _input_texts(
    dataset: Dataset, pinned: dict[str, Any], rows: Sequence[SampledRow]
) -> Iterator[tuple[int, str]]:
    """Yield the index of a row and its text, for as many rows as the time allows."""
    until = time.monotonic() + MAX_TEXTS_S
    embedding, columns = EmbeddingConfig.from_facts(pinned["embedding"]), input_columns(pinned)
    files = planned_files(dataset)
    by_file: dict[str, list[int]] = collections.defaultdict(list)
    for at, row in enumerate(rows):
        by_file[row.file_key].append(at)
    for key, places in by_file.items():
        file = files.get(key)
        if file is None or not is_quick(file) or names_a_host(file.found.store):
            continue  # No credentials are sent to a host that only the dataset names.
        places.sort(key=lambda at: rows[at].source_row)
        try:
            for at, text in _file_texts(file, columns, embedding, rows, places):
                if text is not None:
                    yield at, text
                if time.monotonic() > until:
                    return
        except (ConfigError, InputError):
            continue  # The file was deleted or changed.


def is_quick(file: InputFile) -> bool:
    """Return whether rows of a file can be read without reading much before them."""
    return file.can_seek or file.found.size_bytes <= MAX_COMPRESSED_BYTES


def _file_texts(
    file: InputFile,
    columns: InputColumns,
    embedding: EmbeddingConfig,
    rows: Sequence[SampledRow],
    places: Sequence[int],
) -> Iterator[tuple[int, str | None]]:
    """Yield the texts of one file's rows; None for a text that has changed."""
    schema = pa.schema([("id", pa.string())])
    by_row: dict[int, list[int]] = collections.defaultdict(list)  # Passages share a row.
    for at in places:
        by_row[rows[at].source_row].append(at)
    spans = [(source_row, 1) for source_row in by_row]
    batches = read_batches(open_found(file.found), file, columns, schema, spans)
    for batch, same_row in zip(batches, by_row.values(), strict=True):
        for at in same_row:
            title, text, *_ = source_text(batch, dataclasses.asdict(rows[at]))
            same = text is not None and sent_hash(embedding, title, text) == rows[at].text_hash
            yield at, text if same else None
