"""Partitions: vectors in folders by the values of one column, as in `vectors/lang=de/`.

The column is not in the files: readers take it from the names of the folders, and some of them
reject a column that is in both. The footer of a part has the exact value with its type.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import functools
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.inputs import InputColumns
from bulkembed.transforms.inputs.hive_keys import NULL

MAX_OF_UNIT = 250
"""Maximum partitions with rows of one unit: each gets a file from it."""
MAX_PARTITIONS = 5000
"""Maximum partitions that one process writes."""
MAX_NAME_BYTES = 255
"""What file systems allow for the name of a folder."""
KEY = b"bulkembed.partition"
"""In the footer of a part: its column with its Arrow type, and the value, as JSON."""
_ESCAPED = frozenset("\"#%'*/:=?\\{}[]^\x7f") | {chr(code) for code in range(32)}
"""What Spark escapes. It reads other characters only if they are not escaped."""
_TYPES = "strings, integers, booleans or dates"


def check_column(name: str, columns: InputColumns, row_schema: pa.Schema) -> None:
    """Raise ConfigError unless the output can be partitioned by a column.

    Args:
        name: the column.
        columns: how the input is read.
        row_schema: the id and the kept columns of the output.
    """
    flag = f"--partition-by {name!r}"
    kept = [one for one in row_schema.names if one != "id"]
    if name not in kept:
        found = f"The kept columns are {', '.join(kept)}" if kept else "No column is kept"
        raise ConfigError(f"{flag} is no kept column. {found}. Name it in --keep-columns as well.")
    if name == columns.text_column:
        raise ConfigError(f"{flag} is the column of the texts. Choose one with few values.")
    if name[0] in "_." or not _ESCAPED.isdisjoint(name):
        raise ConfigError(
            f"{flag}: readers skip folders whose names begin with _ or a dot, and do not find a "
            "column with special characters. Rename the column in the input."
        )
    kind = row_schema.field(name).type
    if not _is_allowed(kind):
        raise ConfigError(
            f"{flag} has values of type {kind}, but partitions must be {_TYPES}. Choose another "
            "column."
        )


def _is_allowed(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(
        is_text
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_date32(kind)
    )


def folder_of(column: str, value: object) -> str:
    """Return the name of the folder of a value, such as `lang=de`.

    Special characters are percent-encoded, and null is `__HIVE_DEFAULT_PARTITION__`.
    """
    if value is None:
        return f"{column}={NULL}"
    if isinstance(value, bool):
        text = str(value).lower()
    else:
        text = value.isoformat() if isinstance(value, dt.date) else str(value)
    escaped = "".join(f"%{ord(one):02X}" if one in _ESCAPED else one for one in text)
    if escaped.endswith("."):  # Azure drops it.
        escaped = f"{escaped[:-1]}%2E"
    if escaped == NULL:  # Then it has at least another folder; pyarrow reads null from it.
        escaped = f"%5F{escaped[1:]}"
    return f"{column}={escaped}"


def folders_of(column: str, values: pa.ChunkedArray) -> set[str]:
    """Return the names of the folders of some values."""
    return {folder_of(column, value) for value in values.unique().to_pylist()}


def too_many(column: str, folders: Collection[str], where: str) -> str | None:
    """Return what is wrong with the partitions of one unit; None if nothing is.

    Args:
        column: the column.
        folders: the names of their folders.
        where: the rows of the unit, for people.
    """
    if len(folders) > MAX_OF_UNIT:
        return (
            f"{where} have {len(folders):,} values of {column!r}, but --partition-by allows "
            f"{MAX_OF_UNIT:,} within one unit: each value makes a file. Choose a column with "
            "fewer values, or sort the input by it"
        )
    longest = max(folders, key=lambda one: len(one.encode()), default="")
    if len(longest.encode()) > MAX_NAME_BYTES:
        return (
            f"{where} have the value {longest[:40]!r}... in --partition-by {column!r}, but the "
            f"name of its folder may have {MAX_NAME_BYTES} bytes at most. Choose another column"
        )
    return None


def split(table: pa.Table, column: str | None) -> Iterator[tuple[str, pa.Table]]:
    """Yield the folder and the rows of each partition, without the column, ordered by folder.

    The rows of a partition keep their order. Without a column there is one part with an empty
    folder.
    """
    if column is None:
        yield "", table
        return
    field = table.schema.field(column)
    is_dictionary = pa.types.is_dictionary(field.type)
    plain = table.column(column).cast(field.type.value_type if is_dictionary else field.type)
    values = pa.concat_arrays(plain.chunks).dictionary_encode(null_encoding="encode")
    numbers = values.indices.to_numpy()
    order = np.argsort(numbers, kind="stable")
    ends = np.searchsorted(numbers[order], np.arange(1, len(values.dictionary)))
    found = zip(values.dictionary, np.split(order, ends), strict=True)
    rest = table.drop_columns([column])
    for value, rows in sorted(found, key=lambda one: folder_of(column, one[0].as_py())):
        part = rest if len(rows) == table.num_rows else rest.take(pa.array(rows))
        metadata = {**(table.schema.metadata or {}), KEY: _encoded(field, value.as_py())}
        yield folder_of(column, value.as_py()), part.replace_schema_metadata(metadata)


def _encoded(field: pa.Field, value: object) -> bytes:
    arrow = pa.schema([field.remove_metadata()]).serialize().to_pybytes()
    # orjson writes a date in its ISO form.
    return orjson.dumps({"arrow": base64.b64encode(arrow).decode(), "value": value})


@dataclasses.dataclass(frozen=True, slots=True)
class Partition:
    """The partition of a part: the column that is not in the file, and its value."""

    field: pa.Field
    value: str | int | bool | dt.date | None

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return folder_of(self.field.name, self.value)

    def column(self, rows: int) -> pa.Array:
        """Return the column of some rows."""
        kind = self.field.type
        if not pa.types.is_dictionary(kind):
            return pa.repeat(pa.scalar(self.value, kind), rows)
        numbers = pa.repeat(pa.scalar(None if self.value is None else 0, kind.index_type), rows)
        values = [] if self.value is None else [self.value]
        dictionary = pa.array(values, kind.value_type)
        return pa.DictionaryArray.from_arrays(numbers, dictionary, ordered=kind.ordered)


def partition_in(schema: pa.Schema) -> Partition | None:
    """Return the partition of a part, by its footer; None without one."""
    data = (schema.metadata or {}).get(KEY)
    return None if data is None else _decoded(data)


@functools.lru_cache(maxsize=1 << 10)
def _decoded(data: bytes) -> Partition:
    found: dict[str, Any] = orjson.loads(data)
    (field,) = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(found["arrow"])))
    value = found["value"]
    if value is not None and pa.types.is_date32(field.type):
        value = dt.date.fromisoformat(value)
    return Partition(field, value)


def whole_schema(schema: pa.Schema) -> pa.Schema:
    """Return the columns of a part with that of its partition, which comes after the kept ones."""
    found = partition_in(schema)
    if found is None:
        return schema
    return schema.insert(max(0, schema.get_field_index("text_hash")), found.field)
