"""A query, the vector that fits the dataset's, and the rows nearest to it."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from pipeline.asking import ask
from pipeline.request import RunRequest
from pipeline.search.scan import committed_parts, nearest, rows_of
from schemas.embedding import EmbeddingConfig
from schemas.errors import CallRefused, ConfigError
from schemas.job import VectorType
from schemas.models import TaskType, query_task
from transforms.core.nearest import Floats
from transforms.core.unit_length import to_unit_length
from transforms.engine.row_texts import GivenUp, RowText
from transforms.storage.dataset import Dataset


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """The rows nearest to a query, nearest first."""

    query: str
    task_type: TaskType
    """That the query was embedded with."""
    rows: tuple[dict[str, Any], ...]
    """A row's columns without its vector; before them `score`, the cosine."""
    ask_seconds: float
    scan_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def search(
    pinned: dict[str, Any],
    dataset: Dataset,
    request: RunRequest,
    query: str,
    k: int,
    task_type: TaskType | None = None,
) -> Found:
    """The `k` rows with the highest cosines, exactly; only committed rows are looked at.

    Args:
        pinned: the content of the dataset's `run.json`.
        dataset: what is searched.
        request: the run that made it, for its service.
        query: the words to look for.
        k: how many rows.
        task_type: that of the query; None for the one that fits the dataset's.

    Raises:
        ConfigError: a blank query, another service, or no key.
        CallError: the service gives no vector.
        OutputError: a part cannot be read.
    """
    if not query.strip():
        raise ConfigError("the query is blank: say what to look for")
    corpus = EmbeddingConfig.from_facts(pinned["embedding"])
    task = task_type or query_task(corpus.task_type)
    started = time.perf_counter()
    vector = _vector_of(pinned, request, query, task, corpus)
    asked = time.perf_counter()
    # float16 has rounded the lengths.
    exact = corpus.normalize and pinned["layout"]["vector_type"] == VectorType.FLOAT32
    hits = nearest(dataset, committed_parts(dataset), vector, k, unit_length=exact)
    scanned = time.perf_counter()
    rows = tuple(
        {"score": hit.score, **row} for hit, row in zip(hits, rows_of(dataset, hits), strict=True)
    )
    return Found(query, task, rows, asked - started, scanned - asked)


def _vector_of(
    pinned: dict[str, Any],
    request: RunRequest,
    query: str,
    task: TaskType,
    corpus: EmbeddingConfig,
) -> Floats:
    """The query's vector, of length 1."""
    embedding = dataclasses.replace(corpus, task_type=task, has_titles=False)
    [fate] = ask(pinned, request, embedding, [RowText(None, query)]).rows
    if isinstance(fate, GivenUp):
        raise CallRefused(f"the query cannot be embedded: {fate.message}")
    vector: Floats = to_unit_length(fate[None, :])[0]
    return vector
