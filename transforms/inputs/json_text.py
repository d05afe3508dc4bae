"""Values as JSON writes them: what a template puts into a text, and columns of mixed types."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import uuid
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from bulkembed.transforms.inputs.columns import in_microseconds, plain_type


def text_of(value: Any) -> str | None:
    """Return a value as a text; None for null, NaN and infinity.

    A string is itself, bytes are read as UTF-8, dates and times follow ISO 8601, and lists and
    objects are JSON.

    Raises:
        UnicodeDecodeError: bytes are no UTF-8.
        TypeError: there is no text for a value of this type.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, dict | list | tuple):
        return _json(value)
    return _scalar(value)


def texts_of(column: pa.ChunkedArray) -> list[Any]:
    """Return the values of a column for `text_of`: in microseconds, 32-bit floats kept short.

    Raises:
        UnicodeDecodeError: a string is no UTF-8.
        ValueError, OverflowError: a date is beyond the years 1 to 9999.
    """
    plain = in_microseconds(plain_type(column.type))
    if not plain.equals(column.type):
        column = column.cast(plain, safe=False)
    values: list[Any] = column.to_pylist(maps_as_pydicts="lossy")
    short = np.float32 if pat.is_float32(plain) else np.float16
    if pat.is_float32(plain) or pat.is_float16(plain):
        # The shortest decimal that is the same float: 0.1, not 0.10000000149011612.
        return [None if value is None else float(str(short(value))) for value in values]
    return values


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"a value of the type {type(value).__name__} cannot be written as text")


def _json(value: Any) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        pairs = (f"{_quoted(str(name))}: {_json(item)}" for name, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_json, value))}]"
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "null"
    if isinstance(value, bool | int | float | decimal.Decimal):
        return _scalar(value)
    return _quoted(value if isinstance(value, str) else _scalar(value))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
