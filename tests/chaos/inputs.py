"""The input of a history as files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from chaos.history import Row, Rows

SCHEMA = pa.schema([("id", pa.int64()), ("title", pa.string()), ("text", pa.string())])


def write_input(path: Path, rows: Rows) -> None:
    """One file, whole, in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        values = [{"id": r.id, "title": r.title, "text": r.text} for r in rows]
        # Small row groups, so that units begin and end within some and at others' borders.
        pq.write_table(pa.Table.from_pylist(values, SCHEMA), path, row_group_size=25)
        return
    data = "".join(f"{json.dumps(_line(row))}\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _line(row: Row) -> dict[str, Any]:
    values = {"id": row.id, "title": row.title, "text": row.text}
    return {name: value for name, value in values.items() if name != "id" or value is not None}
