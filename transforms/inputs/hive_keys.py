"""Hive keys: columns whose values are in the names of folders, as in `lang=de/part-0.parquet`."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import re
import urllib.parse
from collections.abc import Collection, Mapping

import pyarrow as pa

from bulkembed.schemas.inputs import FoundFile, InputColumns
from bulkembed.transforms.inputs.text_recipe import TextRecipe

NULL = "__HIVE_DEFAULT_PARTITION__"
"""What Hive, Spark and DuckDB write for null."""
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
INT64 = range(-(2**63), 2**63)


def hive_keys(path: str) -> Mapping[str, str | None]:
    """Return the values in the names of a file's folders, by key, in order.

    Names are percent-decoded. If a key occurs twice, the folder nearest to the file counts.
    """
    folders = path.rpartition("/")[0]
    return _keys_of(folders) if "=" in folders else {}


@functools.lru_cache(maxsize=1 << 14)
def _keys_of(folders: str) -> Mapping[str, str | None]:
    found: dict[str, str | None] = {}
    for folder in folders.split("/"):
        key, equals, value = folder.partition("=")
        if key and equals:
            name = urllib.parse.unquote(key)
            found.pop(name, None)
            found[name] = None if value == NULL else urllib.parse.unquote(value)
    return found


def folders_read(found: FoundFile, columns: InputColumns, has: Collection[str]) -> tuple[str, ...]:
    """Return the keys and values that are read of folders above the pattern's root.

    They are part of the file's identity, since its name does not have them.

    Args:
        found: the file.
        columns: which columns are wanted.
        has: the columns of the file, which win over the keys of its folders.
    """
    read = (*TextRecipe.of(columns).columns, *columns.media_columns)
    names = (columns.id_column, *read, *columns.keep_columns)
    below = hive_keys(found.name)
    return tuple(
        f"{name}={NULL if value is None else value}"
        for name, value in hive_keys(found.path).items()
        if name in names and name not in below and name not in has
    )


def type_of_values(values: Collection[str | None]) -> pa.DataType:
    """Return the type of a key that has these values: int64, date32, string, or null.

    A number with a leading zero or a plus sign is not an integer, so that every value is written
    as it is in the name.
    """
    texts = [value for value in values if value is not None]
    if not texts:
        return pa.null()
    if all(_INTEGER.fullmatch(text) and int(text) in INT64 for text in texts):
        return pa.int64()
    return pa.date32() if all(map(_is_date, texts)) else pa.string()


def fits(values: Collection[str | None], kind: pa.DataType) -> bool:
    """Return whether a column of this type can hold all values."""
    with contextlib.suppress(pa.ArrowException, NotImplementedError):
        pa.array(list(values), pa.string()).cast(kind)
        return True
    return False


def _is_date(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return _DATE.fullmatch(text) is not None and bool(dt.date.fromisoformat(text))
    return False
