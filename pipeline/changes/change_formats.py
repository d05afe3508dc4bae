"""Changes as Parquet, JSON lines or CSV."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.schemas.change_format import ChangeFormat
from bulkembed.transforms.dataset.part_files import write_list


def write_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema, stream: BinaryIO) -> None:
    """Write changes to a stream as one Parquet file."""
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        write_list(writer, batches)


def text_chunks(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, kind: ChangeFormat
) -> Iterator[str]:
    """Yield changes as JSON lines or CSV, some rows at a time.

    Hashes and other bytes are hexadecimal, and times are in ISO 8601. In CSV, a list is JSON, as
    pgvector reads it, and null is an empty field.
    """
    if kind is ChangeFormat.CSV:
        yield _csv([schema.names])
    for batch in batches:
        rows = zip(*map(_values, batch.columns), strict=True)
        if kind is ChangeFormat.CSV:
            yield _csv([_cell(value) for value in row] for row in rows)
        else:
            named = (dict(zip(schema.names, row, strict=True)) for row in rows)
            yield "".join(_json(row) + "\n" for row in named)


def _values(column: pa.Array) -> list[Any]:
    """Return the values of a column; vectors are arrays, whose numbers are written short."""
    kind = column.type
    if not pa.types.is_list(kind) or not pa.types.is_floating(kind.value_type):
        return list(column.to_pylist())
    numbers = column.values.to_numpy(zero_copy_only=False)
    ends = column.offsets.to_numpy()
    filled = column.is_valid().to_pylist()
    return [
        np.ascontiguousarray(numbers[ends[row] : ends[row + 1]]) if filled[row] else None
        for row in range(len(column))
    ]


def _json(value: object) -> str:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict | np.ndarray):
        return _json(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if value is None or isinstance(value, str | int | float) else _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value)


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
