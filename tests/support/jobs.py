"""Jobs, units and rows made by hand, for tests without files and network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.schemas.inputs import FoundFile, InputColumns, InputFile
from bulkembed.schemas.job import CallSettings, JobConfig, OutputConfig
from bulkembed.schemas.units import Unit
from bulkembed.transforms.core.content import TextContent
from bulkembed.transforms.core.hashing import text_hash
from bulkembed.transforms.core.tokens import TokenEstimator, features
from bulkembed.transforms.inputs.rows import RowBatch
from bulkembed.transforms.units.prepare import PreparedUnit, prepare

KEY = "0123456789abcdef"
SCHEMA = pa.schema([("id", pa.int64())])


def a_job(where: str = "out", **changes: Any) -> JobConfig:
    facts: dict[str, Any] = {
        "run_id": "run-1",
        "service": ServiceConfig(),
        "embedding": EmbeddingConfig(service="developer", model="gemini-embedding-001"),
        "calls": CallSettings(),
        "columns": InputColumns(),
        "row_schema": SCHEMA,
        "output": OutputConfig(uri=where),
        "version": "0.0.test",
    }
    return JobConfig(**{**facts, **changes})


def a_file(rows: int, name: str = "a.parquet", compression: str | None = None) -> InputFile:
    form = "jsonl" if compression else "parquet"
    found = FoundFile(f"/in/{name}", name, 1000, 1, form, compression)
    return InputFile(found, "d" * 32, rows)


def item(text: str, index: int = 0, title: str | None = None) -> TextContent:
    made_of, tokens = features(text), max(1, len(text) // 4)
    name = text_hash(title, text)
    return TextContent(index, name, tokens, len(text) + 2, made_of, False, title, text)


def a_run(
    texts: Sequence[str | None],
    titles: Sequence[str | None] | None = None,
    bad: dict[int, Any] | None = None,
    first_row: int = 0,
) -> RowBatch:
    ids = pa.array(range(first_row, first_row + len(texts)), pa.int64())
    kept = pa.table({"": pa.nulls(len(texts))}).select([])
    return RowBatch(
        first_row, ids, list(titles or [None] * len(texts)), list(texts), kept, bad or {}
    )


def prepared(
    texts: Sequence[str | None], job: JobConfig | None = None, **more: Any
) -> PreparedUnit:
    job = job or a_job()
    first_row = more.pop("first_row", 0)
    run = a_run(texts, first_row=first_row, **more)
    unit = Unit(KEY, first_row, len(texts))
    return prepare(run, unit, "a.parquet", job, TokenEstimator(2048))


def sent_texts(unit: PreparedUnit) -> list[TextContent]:
    """Return the contents of a unit of texts."""
    found = [item for item in unit.items if isinstance(item, TextContent)]
    assert len(found) == len(unit.items)
    return found
