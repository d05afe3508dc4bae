"""Embeds a query as the dataset was embedded, and finds the nearest rows exactly."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bulkembed.pipeline.run.request import RunRequest
from bulkembed.pipeline.run.service import embed_as_dataset
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.errors import CallRejected, ConfigError
from bulkembed.schemas.job import VectorType
from bulkembed.schemas.media import MediaKind, MediaTokens
from bulkembed.schemas.models import TaskType, query_task
from bulkembed.schemas.prices import price_of
from bulkembed.transforms.core.vectors import Vector, best, cosines, to_unit_length
from bulkembed.transforms.dataset import part_files
from bulkembed.transforms.dataset.array_imports import import_pandas_first
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.partitions import whole_schema
from bulkembed.transforms.inputs.row_parts import MediaValue
from bulkembed.transforms.media.media_refs import MediaRef
from bulkembed.transforms.units.distinct_contents import RowFailure
from bulkembed.transforms.units.row_texts import RowText

READ_THREADS = min(8, os.cpu_count() or 1)
"""Parts to read at once; each holds a block in memory."""


class Hit(NamedTuple):
    """A row of the result: its score and its place."""

    score: float
    part: str
    """The part's name within the dataset."""
    row: int
    """The row's number in the part."""


def committed_parts(dataset: Dataset) -> list[str]:
    """Return the parts with vectors that commit records name, in their order."""
    parts = dataset.distinct_parts(dataset.state())
    return [name for one in parts for name in one.vectors]


def nearest(
    dataset: Dataset, parts: Sequence[str], query: Vector, k: int, *, unit_length: bool
) -> list[Hit]:
    """Return the `k` rows with the highest cosines, the highest first, by exact comparison.

    Rows with equal scores keep the order of the parts.

    Args:
        dataset: the dataset of the parts.
        parts: names within the dataset.
        query: a vector of length 1.
        k: how many rows.
        unit_length: whether all vectors of the parts have length 1.

    Raises:
        OutputError: a part cannot be read.
    """

    def of_part(name: str) -> list[Hit]:
        found: list[Hit] = []
        first = 0
        part = part_files.open_part(dataset, name)
        for block in part_files.read_blocks(part, name, ["vector"]):
            scores = cosines(part_files.matrix_of(block), query, unit_length=unit_length)
            found += [Hit(float(scores[at]), name, first + int(at)) for at in best(scores, k)]
            first += block.num_rows
        return found

    found: list[Hit] = []
    with concurrent.futures.ThreadPoolExecutor(READ_THREADS) as pool:
        for more in pool.map(of_part, parts):
            # Sorting is stable, so that the order of parts decides between equal scores.
            found = sorted([*found, *more], key=lambda hit: -hit.score)[:k]
    return found


def rows_of(dataset: Dataset, hits: Sequence[Hit]) -> list[dict[str, Any]]:
    """Return the rows of the hits, in their order, without their vectors."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    in_order = sorted(hits, key=lambda hit: (hit.part, hit.row))
    for name, group in itertools.groupby(in_order, key=lambda hit: hit.part):
        wanted = np.array([hit.row for hit in group])
        for at, row in _rows_at(dataset, name, wanted):
            rows[name, at] = row
    return [rows[hit.part, hit.row] for hit in hits]


def _rows_at(dataset: Dataset, name: str, wanted: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    part = part_files.open_part(dataset, name)
    names = whole_schema(part.schema_arrow).names
    columns = [column for column in names if column != "vector"]
    first = 0
    for block in part_files.read_blocks(part, name, columns):
        here = wanted[(wanted >= first) & (wanted < first + block.num_rows)]
        yield from zip(
            here.tolist(), block.select(columns).take(here - first).to_pylist(), strict=True
        )
        first += block.num_rows


@dataclasses.dataclass(frozen=True, slots=True)
class QueryImage:
    """An image to search for, as it is sent."""

    name: str
    """The path or URI that it was read from."""
    data: bytes = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class SearchResult:
    """The rows nearest to a query, the nearest first."""

    query: str | None
    """The text; None if the query is an image."""
    image: str | None
    """The path or URI of the image; None if the query is a text."""
    task_type: TaskType | None
    """The task type of the text; None for an image, which has none."""
    rows: tuple[dict[str, Any], ...]
    """The columns of each row without its vector, after `score`, the cosine."""
    ask_seconds: float
    """Seconds to embed the query."""
    scan_seconds: float
    """Seconds to compare it with the vectors."""
    tokens: int
    """Of the query, as they count for its price."""
    usd: float | None
    """What the query cost; None if the price is not known."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)


def search(
    pinned: dict[str, Any],
    dataset: Dataset,
    request: RunRequest,
    query: str | QueryImage,
    k: int,
    task_type: TaskType | None = None,
) -> SearchResult:
    """Return the `k` committed rows with the highest cosines, by exact comparison.

    Args:
        pinned: the content of the dataset's `run.json`.
        dataset: the dataset to search.
        request: the run that made it, for its service.
        query: the text or the image to search for.
        k: how many rows.
        task_type: the task type of a text; None for the one that fits the dataset.

    Raises:
        ConfigError: a blank query, another service, or no key.
        CallError: the service returns no vector.
        OutputError: a part cannot be read.
    """
    import_pandas_first()
    if isinstance(query, str) and not query.strip():
        raise ConfigError("the query is blank. Give the text to search for.")
    corpus = EmbeddingConfig.from_facts(pinned["embedding"])
    task = task_type or query_task(corpus.task_type)
    started = time.perf_counter()
    vector, tokens = _vector_of(pinned, request, query, task, corpus)
    embedded = time.perf_counter()
    # float16 rounds the lengths.
    exact = corpus.normalize and pinned["layout"]["vector_type"] == VectorType.FLOAT32
    hits = nearest(dataset, committed_parts(dataset), vector, k, unit_length=exact)
    scanned = time.perf_counter()
    rows = tuple(
        {"score": hit.score, **row} for hit, row in zip(hits, rows_of(dataset, hits), strict=True)
    )
    is_text = isinstance(query, str)
    return SearchResult(
        query=query if isinstance(query, str) else None,
        image=None if isinstance(query, str) else query.name,
        task_type=task if is_text else None,
        rows=rows,
        ask_seconds=embedded - started,
        scan_seconds=scanned - embedded,
        tokens=tokens,
        usd=_usd(pinned, corpus, tokens, is_text=is_text),
    )


def _usd(
    pinned: dict[str, Any], corpus: EmbeddingConfig, tokens: int, *, is_text: bool
) -> float | None:
    price = price_of(corpus.service, corpus.model, pinned["settings"].get("usd_per_mtok"))
    if price is None:
        return None
    media = MediaTokens(image=0 if is_text else tokens)
    return price.usd(tokens + corpus.spec.media_factors.surcharge(media))


def _vector_of(
    pinned: dict[str, Any],
    request: RunRequest,
    query: str | QueryImage,
    task: TaskType,
    corpus: EmbeddingConfig,
) -> tuple[Vector, int]:
    """Return the vector of the query, with length 1, and the tokens that were sent."""
    embedding = dataclasses.replace(corpus, task_type=task, has_titles=False)
    if isinstance(query, str):
        found = embed_as_dataset(pinned, request, embedding, [RowText(None, query)])
    else:
        row = RowText(None, None, parts=(MediaValue(MediaKind.IMAGE, "--image", query.data),))
        found = embed_as_dataset(pinned, request, embedding, [row], _bytes_of)
    [result] = found.rows
    if isinstance(result, RowFailure):
        raise CallRejected(f"the query cannot be embedded: {result.message}")
    vector: Vector = to_unit_length(result[None, :])[0]
    return vector, found.tokens


def _bytes_of(refs: Iterable[MediaRef]) -> Iterator[bytes]:
    """Yield the bytes of references that have them."""
    return (ref.data or b"" for ref in refs)
