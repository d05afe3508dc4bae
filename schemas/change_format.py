"""The formats of `bulkembed changes`."""

from __future__ import annotations

import enum


class ChangeFormat(enum.StrEnum):
    """How changes are written."""

    TABLE = "table"
    """For people; the first rows only."""
    PARQUET = "parquet"
    JSONL = "jsonl"
    CSV = "csv"
