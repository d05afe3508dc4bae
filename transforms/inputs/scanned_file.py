"""What one scan of an input file learnt, as plain data that can be saved."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pyarrow as pa

from bulkembed.schemas.inputs import FileFormat, FoundFile, InputFile


@dataclasses.dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file's identity, rows and types; valid for the columns it was scanned with.

    The digest, rows and offsets depend on the content alone; the types on the columns asked for,
    so whoever saves this keys it by name, size, mtime and `InputColumns`.
    """

    found: FoundFile
    digest: str
    """32 hex digits: BLAKE2b-16 of the stored (still compressed) bytes."""
    rows: int
    offsets: tuple[int, ...]
    """See `InputFile.offsets`."""
    schema: pa.Schema
    """The id column, where there is one and any id was seen, and the kept columns found here,
    by their names in the input; no metadata.  A column with nulls only has type null."""
    columns: tuple[str, ...]
    """All columns of the file; for JSONL, the keys of its rows, in order of first sight."""
    id_range: tuple[int, int] | None = None
    """The smallest and largest integer id (JSONL), or what the footer says (Parquet)."""
    id_rows: tuple[tuple[str, int], ...] = ()
    """JSONL: ("int", line) and ("string", line) of the first id of each kind, lines from 1."""
    unsigned: tuple[str, ...] = ()
    """JSONL: kept int64 columns without a negative number."""
    reading: str = ""
    """See `InputFile.reading`."""
    wide: tuple[str, ...] = ()
    """JSONL: kept int64 columns with integers that no double holds."""
    narrow: pa.Schema = dataclasses.field(default_factory=lambda: pa.schema([]))
    """JSONL: kept columns with values of several types, which `schema` has as strings; each with
    the type of the first values that go together."""

    @property
    def input_file(self) -> InputFile:
        """What the plan needs of it."""
        return InputFile(self.found, self.digest, self.rows, self.offsets, self.reading)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; `from_json` gives an equal object back."""
        return {
            "found": dataclasses.asdict(self.found),
            "digest": self.digest,
            "rows": self.rows,
            "offsets": list(self.offsets),
            "schema": _saved(self.schema),
            "columns": list(self.columns),
            "id_range": list(self.id_range) if self.id_range is not None else None,
            "id_rows": [list(pair) for pair in self.id_rows],
            "unsigned": list(self.unsigned),
            "reading": self.reading,
            "wide": list(self.wide),
            "narrow": _saved(self.narrow),
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> ScannedFile:
        """The object that `to_json` saved; a KeyError, TypeError or ValueError if it is not one."""
        found = dict(saved["found"])
        rows, offsets = saved["rows"], saved["offsets"]
        numbers = [rows, found["size_bytes"], *offsets]
        texts = [found["path"], found["name"], saved["digest"], *saved["columns"]]
        if any(type(number) is not int or number < 0 for number in numbers):
            raise ValueError("a size or a place in the file is no number")
        if any(not isinstance(text, str) for text in texts):
            raise ValueError("a name or the digest is no text")
        found["format"] = FileFormat(found["format"])
        id_range = saved["id_range"]
        return cls(
            found=FoundFile(**found),
            digest=saved["digest"],
            rows=rows,
            offsets=tuple(offsets),
            schema=_schema(saved["schema"]),
            columns=tuple(saved["columns"]),
            id_range=(id_range[0], id_range[1]) if id_range is not None else None,
            id_rows=tuple((kind, line) for kind, line in saved["id_rows"]),
            unsigned=tuple(saved["unsigned"]),
            reading=saved.get("reading", ""),
            # Earlier versions did not save these.
            wide=tuple(saved.get("wide", ())),
            narrow=_schema(saved["narrow"]) if "narrow" in saved else pa.schema([]),
        )


def _saved(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


def _schema(saved: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(saved)))
