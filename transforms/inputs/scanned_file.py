"""The result of scanning an input file, as plain data that can be saved."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pyarrow as pa

from bulkembed.schemas.inputs import FoundFile, InputFile
from bulkembed.schemas.serialization import Count, from_plain, to_plain
from bulkembed.transforms.inputs.formats import FORMATS


@dataclasses.dataclass(frozen=True, slots=True)
class ScannedFile:
    """The identity, rows and types of a file, for the columns that it was scanned for.

    The digest, rows and offsets depend on the content alone.  The types depend on the wanted
    columns too, so that a saved scan must be keyed by name, size, mtime and `InputColumns`.
    """

    found: FoundFile
    digest: str
    """32 hex digits: BLAKE2b-16 of the stored (still compressed) bytes."""
    rows: Count
    offsets: tuple[Count, ...]
    """See `InputFile.offsets`."""
    schema: pa.Schema
    """The id column, if any id was found, and the kept columns that the file has, by their names in
    the input; no metadata.  A column with only nulls has type null."""
    columns: tuple[str, ...]
    """All columns of the file, in order; for JSONL the keys of its rows."""
    id_range: tuple[int, int] | None = None
    """The smallest and largest integer id; of Parquet what the footer says."""
    id_rows: tuple[tuple[str, int], ...] = ()
    """Inferred types: ("int", line) and ("string", line) of the first id of each kind, from 1."""
    unsigned: tuple[str, ...] = ()
    """Inferred types: kept int64 columns without a negative number."""
    reading: str = ""
    """See `InputFile.reading`."""
    wide: tuple[str, ...] = ()
    """Inferred types: kept int64 columns with integers that are not exact as doubles."""
    narrow: pa.Schema = dataclasses.field(default_factory=lambda: pa.schema([]))
    """Inferred types: kept columns with values of several types, which `schema` has as strings;
    each with the type that holds its first values."""

    @property
    def input_file(self) -> InputFile:
        """The part that the plan needs."""
        return InputFile(self.found, self.digest, self.rows, self.offsets, self.reading)

    @property
    def has_inferred_types(self) -> bool:
        """Whether the types are those of the values, since the format does not declare any."""
        return not FORMATS[self.found.format].has_types

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file, from which `from_json` makes an equal object."""
        plain: dict[str, Any] = to_plain(self, _saved)
        return plain

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> ScannedFile:
        """Return the object that `to_json` saved, here or in an earlier version.

        Raises:
            ValueError: it is not such an object.
        """
        scanned = from_plain(saved, cls, _loaded)
        if scanned.found.format not in FORMATS:
            raise ValueError(f"unknown format {scanned.found.format!r}")
        return scanned


def _saved(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


def _loaded(kind: type, saved: Any) -> Any:
    if kind is not pa.Schema or not isinstance(saved, str):
        raise ValueError(f"expected {kind.__name__}, got {type(saved).__name__}")
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(saved)))
