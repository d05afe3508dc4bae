"""The input: the wanted columns, and the files as they are found and scanned."""

from __future__ import annotations

import dataclasses
import enum
import hashlib

from bulkembed.schemas.content_parts import ContentPart, template_fields
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.serialization import Count

OUR_COLUMNS = ("id", "vector", "text_hash", "truncated", "source_file", "source_row")
"""The output's own columns; no kept column may have one of these names.

`output_schema.vectors_schema` has their types, and a test compares the two.
"""

PROVENANCE_COLUMNS = ("run_id", "embedded_at")
"""More own columns with `--provenance`."""

MEDIA_COLUMN = "media"
"""One more own column, if a row has media."""

SOURCE_HASH = "source_hash"
"""One more, if a row has media and the dataset mirrors its input."""

PASSAGE_COLUMNS = ("passage", "start", "end")
"""More own columns, if the rows of the output are passages."""

DEAD_LETTER_COLUMNS = ("code", "message", "http_status", "attempts", "text")
"""More own columns of the dead letters."""

KEEP_ALL = "*"


class IdType(enum.StrEnum):
    """Values of `--id-type`: the type found in the input, or strings."""

    AUTO = "auto"
    STRING = "string"


@dataclasses.dataclass(frozen=True, slots=True)
class InputColumns:
    """The columns of the input that are read, and how.

    Exactly one of `text_column`, `text_template` and `content` is set. `id_column` is None if ids
    are generated (`path#row`). `keep_columns` is a tuple of names, or `("*",)` for all but the id.
    """

    id_column: str | None = "id"
    text_column: str | None = "text"
    text_template: str | None = None
    title_column: str | None = None
    keep_columns: tuple[str, ...] = ()
    id_type: IdType = IdType.AUTO
    # Not a part of the representation, which says what a saved scan was made for.
    id_name: str = dataclasses.field(default="id", repr=False)
    """The name of the id's column in the output."""
    content: tuple[ContentPart, ...] = dataclasses.field(default=(), repr=False)
    """The parts of a row, if one of them is media."""

    def __post_init__(self) -> None:
        reserved = (
            *OUR_COLUMNS[1:],
            *PROVENANCE_COLUMNS,
            *((MEDIA_COLUMN, SOURCE_HASH) if self.content else ()),
            *PASSAGE_COLUMNS,
            *DEAD_LETTER_COLUMNS,
        )
        if not self.id_name.strip() or self.id_name in reserved:
            raise ConfigError(
                f"--id-name {self.id_name!r}: the output has its own columns "
                f"{', '.join(reserved)}. Choose another name."
            )
        texts = (self.text_column, self.text_template, self.content or None)
        if sum(one is not None for one in texts) != 1:
            if self.content:
                raise ConfigError("use --content, --text-column or --text-template, not several")
            raise ConfigError("use either --text-column or --text-template, not both")
        if self.content and self.title_column is not None:
            raise ConfigError(
                "--title-column cannot be combined with --content, which sends no titles. Write "
                "the title into a text of --content, as in '{title}. {body}'."
            )
        if self.text_template is not None and not self.text_fields:
            raise ConfigError(
                f"--text-template {self.text_template!r} names no column. Write columns in braces, "
                "as in '{title}\\n\\n{body}'."
            )
        taken = sorted(set(self.keep_columns) & set(self.own_names))
        if taken:
            raise ConfigError(
                f"--keep-columns {', '.join(taken)}: the output has its own columns "
                f"{', '.join(self.own_names)}. Rename the columns of the input."
            )

    @property
    def own_names(self) -> tuple[str, ...]:
        """The names that no kept column may have.

        `id` is one of them even if the id has another name: it always means the id.
        """
        media = (MEDIA_COLUMN, SOURCE_HASH) if self.content else ()
        return tuple(dict.fromkeys((self.id_name, *OUR_COLUMNS, *media)))

    @property
    def keeps_all(self) -> bool:
        """Whether all columns but the id are kept."""
        return self.keep_columns == (KEEP_ALL,)

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The columns that the text is made of, in the order of their first use."""
        if self.text_column is not None:
            return (self.text_column,)
        if self.text_template is not None:
            return template_fields("--text-template", self.text_template)
        texts = [part.fields for part in self.content if part.kind is None]
        return tuple(dict.fromkeys(name for fields in texts for name in fields))

    @property
    def media_columns(self) -> tuple[str, ...]:
        """The columns with media, in the order of their first use."""
        named = (part.source for part in self.content if part.kind is not None)
        return tuple(dict.fromkeys(named))


@dataclasses.dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that a pattern matched, as its file system lists it; it was not read yet.

    `name` is the path relative to the pattern's root, with `/`. It stays the same if the data is
    copied or mounted elsewhere. `path` is what pyarrow.fs opens, on the file system that `store`
    names.
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
    """A scanned file: its identity, the number of its rows, and where they begin.

    `digest` is the BLAKE2b hash of the stored bytes, 32 hex digits, or the tag of a store, see
    `store_tags`. Files with other content have other digests. `offsets[i]` is the byte at which
    row `i * OFFSET_STRIDE_ROWS` begins; it is empty if the format has no use for it.
    """

    found: FoundFile
    digest: str
    rows: int
    offsets: tuple[int, ...] = ()
    reading: str = ""
    """How the file is read, if its name does not say so: its format or compression, and `OBJECTS`
    if a JSONL line is not always one row, with + between them."""
    hive_keys: tuple[tuple[str, str | None], ...] = ()
    """The keys in the names of its folders that are not columns of the file, with their values."""
    folders: tuple[str, ...] = ()
    """`key=value` of folders above the pattern's root whose keys are read as columns."""

    @property
    def name(self) -> str:
        """The path relative to the pattern's root."""
        return self.found.name

    @property
    def key(self) -> str:
        """16 hex digits of name, size and content; files with equal keys have the same rows."""
        facts = f"{self.name}\0{self.found.size_bytes}\0{self.digest}"
        # If a file is read in another way, its rows have other numbers.
        facts += f"\0{self.reading}" if self.reading else ""
        facts += "".join(f"\0{folder}" for folder in self.folders)
        return hashlib.blake2b(facts.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()

    @property
    def has_lines_of_objects(self) -> bool:
        """Whether a JSONL line may have several objects, each of which is a row."""
        return OBJECTS in self.reading.split("+")

    @property
    def can_seek(self) -> bool:
        """Whether a row can be read without decompressing all rows before it."""
        return self.found.compression is None


OBJECTS = "objects"
"""The `reading` of a JSONL file with several objects in a line."""

OFFSET_STRIDE_ROWS = 1000
"""Rows between two saved byte offsets of a plain JSONL file."""
