"""Jobs over files with media."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from support.cli import Ended, run

MODEL = ("--model", "gemini-embedding-2", "--dim", 128)
PHOTO = ("--content", "image:photo")


def embed(url: str | None, source: object, output: Path, *args: object) -> Ended:
    """`bulkembed run` with a model that takes media."""
    return run(url, source, output, *MODEL, *args)


def write(path: Path, **columns: Any) -> Path:
    """A Parquet file of some columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def write_photos(path: Path, photos: Sequence[Any] | pa.Array, **columns: Any) -> Path:
    """A Parquet file with `id` 0, 1, ..., `photo` and more columns."""
    return write(path, id=range(len(photos)), photo=photos, **columns)


def on_vertex(folder: Path) -> tuple[object, ...]:
    """The flags for Vertex AI, with a key in a file of the folder."""
    (folder / "key").write_text("the-key")
    return ("--vertexai", "--api-key-file", folder / "key")
