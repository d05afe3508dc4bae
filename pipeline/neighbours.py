"""Three rows and their nearest neighbours: a look at whether the vectors mean something."""

from __future__ import annotations

import textwrap

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from rich.console import Console

from transforms.storage.dataset import VECTORS, Dataset

SAMPLE_ROWS = 20_000
"""Rows that are looked at: exact, and in memory."""
SHOWN = 3
NEIGHBOURS = 3


def show_neighbours(dataset: Dataset, text_column: str | None, console: Console) -> None:
    """Prints a few rows, and for each the rows nearest to it by cosine.

    Of equal texts only the first row is looked at: a copy is no news.
    """
    table = _sample(dataset, text_column)
    if table.num_rows <= NEIGHBOURS:
        return
    dim = table.schema.field("vector").type.list_size
    flat = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(-1, dim).astype(np.float32)
    names = [
        _name(row, text_column) for row in table.drop_columns(["vector", "text_hash"]).to_pylist()
    ]
    _, first = np.unique(table.column("text_hash").to_pylist(), return_index=True)
    distinct = np.sort(first)
    picked = np.unique(np.linspace(0, len(distinct) - 1, SHOWN + 2).astype(int)[1:-1])
    for row in distinct[picked]:
        scores = vectors @ vectors[row]
        order = [other for other in distinct[np.argsort(-scores[distinct])] if other != row]
        console.print(f"\n{names[row]}", style="bold", markup=False)
        for other in order[:NEIGHBOURS]:
            console.print(f"  {scores[other]:.3f}  {names[other]}", markup=False)


def _sample(dataset: Dataset, text_column: str | None) -> pa.Table:
    parts = [dataset.path(VECTORS, name) for name in dataset.names(VECTORS)]
    source = pads.dataset(parts, filesystem=dataset.filesystem, format="parquet")
    wanted = [
        "id",
        "vector",
        "text_hash",
        *([text_column] if text_column in source.schema.names else []),
    ]
    return source.head(SAMPLE_ROWS, columns=wanted)


def _name(row: dict[str, object], text_column: str | None) -> str:
    text = " ".join(str(row.get(text_column) or "").split()) if text_column else ""
    return f"{row['id']}: {textwrap.shorten(text, 90)}" if text else str(row["id"])
