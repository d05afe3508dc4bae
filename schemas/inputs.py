"""What the input is: the columns asked for, and the files as they were found."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import string

from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.serialization import Count

OUR_COLUMNS = ("id", "vector", "text_hash", "truncated", "source_file", "source_row")
"""Columns of the output that are ours; a kept column may not take one of these names."""

PASSAGE_COLUMNS = ("passage", "start", "end")
"""Ours as well where the rows of the output are passages."""

KEEP_ALL = "*"


class IdType(enum.StrEnum):
    """What `--id-type` allows: the type found in the input, or everything as text."""

    AUTO = "auto"
    STRING = "string"


@dataclasses.dataclass(frozen=True, slots=True)
class InputColumns:
    """Which columns of the input are read, and how.

    Exactly one of `text_column` and `text_template` is set.  `id_column` is None where ids are
    made (`path#row`).  `keep_columns` is a tuple of names, or `("*",)` for all but the id.
    """

    id_column: str | None = "id"
    text_column: str | None = "text"
    text_template: str | None = None
    title_column: str | None = None
    keep_columns: tuple[str, ...] = ()
    id_type: IdType = IdType.AUTO

    def __post_init__(self) -> None:
        if (self.text_column is None) == (self.text_template is None):
            raise ConfigError("give either --text-column or --text-template, not both")
        if self.text_template is not None and not self.text_fields:
            raise ConfigError(
                f"--text-template {self.text_template!r} names no column; "
                "write columns in braces: '{title}\\n\\n{body}'"
            )
        taken = sorted(set(self.keep_columns) & set(OUR_COLUMNS))
        if taken:
            raise ConfigError(
                f"--keep-columns {', '.join(taken)}: the output has columns of these names already "
                f"({', '.join(OUR_COLUMNS)}); rename them in the input"
            )

    @property
    def keeps_all(self) -> bool:
        """Whether every column but the id is carried over."""
        return self.keep_columns == (KEEP_ALL,)

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The columns that make the text, in order of first use."""
        if self.text_column is not None:
            return (self.text_column,)
        try:
            parsed = list(string.Formatter().parse(self.text_template or ""))
        except ValueError as error:
            raise ConfigError(
                f"--text-template {self.text_template!r}: {error}; write '{{{{' for a brace"
            ) from None
        names = []
        for _, name, spec, conversion in parsed:
            if name is None:
                continue
            if not name or spec or conversion:
                raise ConfigError(
                    f"--text-template {self.text_template!r}: a field is a column's name in "
                    "braces, without a format; write '{{' for a brace"
                )
            names.append(name)
        return tuple(dict.fromkeys(names))


@dataclasses.dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that a pattern matched: where it is and what the store says of it, nothing read yet.

    `name` is the path relative to the pattern's root, with `/`, and stays the same when the data
    is copied or mounted elsewhere.  `path` is what pyarrow.fs opens, on the file system that
    `store` names.
    """

    path: str
    name: str
    size_bytes: Count
    mtime_ns: int
    format: str
    """The name of an input format; see `transforms/inputs/formats.py`."""
    compression: str | None = None
    """`gzip`, `bz2` or `zstd` if the whole file is compressed; else None."""
    store: str = ""
    """The URI that opens the file system (`s3://bucket/`); empty for local files."""

    @property
    def is_local(self) -> bool:
        """Whether the file is on a local disk, and not on an object store."""
        return not self.store


@dataclasses.dataclass(frozen=True, slots=True)
class InputFile:
    """A file that was scanned: its identity, its rows and where they begin.

    `digest` is 32 hex digits of the content's BLAKE2b.  `offsets[i]` is the byte at which row
    `i * OFFSET_STRIDE_ROWS` begins; plain JSONL only, empty elsewhere.
    """

    found: FoundFile
    digest: str
    rows: int
    offsets: tuple[int, ...] = ()
    reading: str = ""
    """How rows are told apart, where it is not as the file's name says or a JSONL line is not
    always one row: its format or compression, `OBJECTS`, or both with + between them."""

    @property
    def name(self) -> str:
        """The path relative to the pattern's root."""
        return self.found.name

    @property
    def key(self) -> str:
        """16 hex digits over name, size and content: equal exactly when nobody need pay again."""
        facts = f"{self.name}\0{self.found.size_bytes}\0{self.digest}"
        # A file that is read in another way has other rows under the same numbers.
        facts += f"\0{self.reading}" if self.reading else ""
        return hashlib.blake2b(facts.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()

    @property
    def has_lines_of_objects(self) -> bool:
        """Whether a JSONL line may hold several objects, each of which is a row."""
        return OBJECTS in self.reading.split("+")

    @property
    def can_seek(self) -> bool:
        """Whether a row can be reached without decoding all rows before it."""
        return self.found.compression is None


OBJECTS = "objects"
"""The reading of a JSONL file with several objects in a line."""

OFFSET_STRIDE_ROWS = 1000
"""Rows between two saved byte offsets of a plain JSONL file."""
