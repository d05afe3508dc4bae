"""Scanning and reading input files, whatever their format is."""

from __future__ import annotations

import base64
import dataclasses
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.inputs import FoundFile, InputColumns, InputFile
from bulkembed.schemas.serialization import Count, from_plain, to_plain
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.formats import FORMATS, codec_of, format_of, module_of
from bulkembed.transforms.inputs.hive_keys import folders_read, hive_keys
from bulkembed.transforms.inputs.parquet_footers import read_tail
from bulkembed.transforms.inputs.rows import RowBatch, WantedColumns
from bulkembed.transforms.inputs.store_tags import is_tag, tag_of
from bulkembed.transforms.inputs.stored_bytes import (
    HashingReader,
    PeekableStream,
    changed,
    check_size,
    decompressed,
    opened,
    reading,
    seekable,
)

HEAD_BYTES = 1 << 16
"""How many of a file's first bytes decide what it holds."""
_ID_BATCH_ROWS = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class ScannedFile:
    """The identity, rows and types of a file, for the columns that it was scanned for.

    The digest, rows and offsets depend on the content alone. The types depend on the wanted
    columns too, so that a saved scan must be keyed by name, size, mtime and `InputColumns`.
    """

    found: FoundFile
    digest: str
    """See `InputFile.digest`."""
    rows: Count
    offsets: tuple[Count, ...]
    """See `InputFile.offsets`."""
    schema: pa.Schema
    """The id column, if any id was found, and the kept columns that the file has, by the names or
    paths that name them; no metadata. A column with only nulls has type null."""
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
    folders: tuple[str, ...] = ()
    """See `InputFile.folders`."""
    held_bytes: Count = 0
    """Parquet: the size of the pages of media that are in memory as a whole; 0 if none is large."""

    @property
    def input_file(self) -> InputFile:
        """The part that the plan needs."""
        return InputFile(
            self.found,
            self.digest,
            self.rows,
            self.offsets,
            self.reading,
            tuple(self.hive_keys.items()),
            self.folders,
        )

    def has(self, name: str) -> bool:
        """Return whether the file has a column, a kept field at that path, or a hive key."""
        return name in self.columns or name in self.schema.names or name in self.hive_keys

    @property
    def hive_keys(self) -> Mapping[str, str | None]:
        """The values of the keys of its folders that are not columns of the file."""
        found = hive_keys(self.found.path)
        if not found:
            return found
        return {name: value for name, value in found.items() if name not in self.columns}

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


class FormatModule(Protocol):
    """The code of an input format: a module with this function, and with one that scans."""

    def read(
        self,
        filesystem: pafs.FileSystem,
        file: InputFile,
        wanted: WantedColumns,
        ranges: Sequence[RowRange],
    ) -> Iterator[RowBatch]:
        """Yield one batch for each range; see `read_batches`."""


class StreamFormat(FormatModule, Protocol):
    """The code of a format whose files are scanned from start to end."""

    def scan(self, stream: PeekableStream, found: FoundFile, columns: InputColumns) -> ScannedFile:
        """Count the rows of a file, and find its columns and their types.

        Args:
            stream: the decompressed bytes, from the first one. They need not be read.
            found: the file, with its actual format and compression.
            columns: which columns are read.

        Raises:
            InputError: the content is not of this format, or is damaged.
            ConfigError: a column is missing, or has a type that cannot be used.
        """


class FooterFormat(FormatModule, Protocol):
    """The code of a format whose files have a footer, see `InputFormat.last_bytes`."""

    def scan_footer(
        self, stored: pa.NativeFile, found: FoundFile, columns: InputColumns, tail: bytes
    ) -> ScannedFile:
        """Return the number of rows, the columns and their types.

        Args:
            stored: the file.
            found: the file, with its actual format.
            columns: which columns are read.
            tail: the last bytes of the file, up to `TAIL_BYTES`, which need not be read again.

        Raises:
            InputError, ConfigError: as `StreamFormat.scan`.
            OSError, pa.ArrowException: the footer is damaged.
        """


def scan_file(
    filesystem: pafs.FileSystem, found: FoundFile, columns: InputColumns, known_digest: str = ""
) -> ScannedFile:
    """Read a file once, and return its identity, rows, columns and types.

    The content decides which format is read, not the name. Memory use does not grow with the size
    of the file. Lines that are not rows count as rows: they become dead letters later.

    On a store that gives a tag, only the footer of a file that has one is read.

    Args:
        filesystem: the file system that the file is on.
        found: the file.
        columns: which columns are read.
        known_digest: that of an earlier scan of a file with this name and size. If it was a hash
            of the bytes, as earlier versions made it for all files, this one is too.

    Raises:
        InputError: the file cannot be read, is truncated, is of no known format, has lines but no
            row, or changed since it was found.
        ConfigError: a column is missing, or has a type that cannot be used.
    """
    may_have_tag = not found.is_local and (not known_digest or is_tag(known_digest))
    scanned = None
    if may_have_tag:
        scanned = _scan_by_tag(filesystem, found, columns)
    if scanned is None:
        scanned = _scan_bytes(filesystem, found, columns)
    actual = scanned.found
    is_as_named = (actual.format, actual.compression) == (found.format, found.compression)
    how = [] if is_as_named else [actual.compression or actual.format]
    how += [scanned.reading] if scanned.reading else []
    return dataclasses.replace(
        scanned, reading="+".join(how), folders=folders_read(found, columns, scanned.columns)
    )


def _scan_by_tag(
    filesystem: pafs.FileSystem, found: FoundFile, columns: InputColumns
) -> ScannedFile | None:
    """Scan the footer of a file on a store; None if it has no footer, or the store gives no tag."""
    known = FORMATS[found.format]
    if not known.last_bytes or not found.size_bytes:
        return None
    with reading(found), filesystem.open_input_file(found.path) as stored:
        size, tag = stored.size(), tag_of(stored.metadata())
        if size != found.size_bytes:
            raise changed(found, f"it has {size:,} bytes")
        tail = read_tail(stored) if tag is not None else b""
        if tag is None or not tail.endswith(known.last_bytes):
            return None
        code = cast("FooterFormat", _code_of(known.name))
        scanned = code.scan_footer(stored, found, columns, tail)
    return dataclasses.replace(scanned, digest=tag)


def _scan_bytes(
    filesystem: pafs.FileSystem, found: FoundFile, columns: InputColumns
) -> ScannedFile:
    """Read a whole file once, and scan it; its digest is the hash of its bytes."""
    check_size(filesystem, found)
    with reading(found), opened(filesystem, found) as raw:
        reader = HashingReader(raw)
        stored = PeekableStream(reader, HEAD_BYTES)
        codec = codec_of(stored.head)
        stream = PeekableStream(decompressed(stored, codec), HEAD_BYTES)
        known = format_of(found, stream.head, compression=codec)
        actual = dataclasses.replace(found, format=known.name, compression=codec)
        code = _code_of(known.name)
        scanned = None
        if not known.last_bytes:
            scanned = cast("StreamFormat", code).scan(stream, actual, columns)
        digest = reader.finish()
        if reader.bytes_read != found.size_bytes:
            raise changed(found, f"it has {reader.bytes_read:,} bytes")
        if scanned is None:
            with seekable(raw, filesystem, found) as file:
                footer_format = cast("FooterFormat", code)
                scanned = footer_format.scan_footer(file, actual, columns, reader.tail)
    return dataclasses.replace(scanned, digest=digest)


def read_batches(
    filesystem: pafs.FileSystem,
    file: InputFile,
    columns: InputColumns,
    schema: pa.Schema,
    ranges: Sequence[RowRange],
) -> Iterator[RowBatch]:
    """Yield the rows of each range as one batch, in order.

    The ranges are ascending and do not overlap. The file is read once, forward: a compressed file
    is decompressed once, a plain JSONL file is entered near each range, and of a Parquet file only
    the needed columns and row groups are read. One batch is in memory at a time.

    Args:
        filesystem: the file system that `file` is on.
        file: the file, as it was scanned.
        columns: which columns are read, and how.
        schema: the output's id and kept columns, as `columns.merge_schemas` returns it.
        ranges: (first row, rows) each.

    Raises:
        InputError: the file cannot be read, or has changed since it was scanned.
        ValueError: the ranges are not ascending, overlap, or go beyond the file's rows.
    """
    _check_ranges(file, ranges)
    if not ranges:
        return  # A file without rows need not have the columns.
    check_size(filesystem, file.found)
    code = _code_of(file.found.format)
    wanted = WantedColumns(columns, schema, dict(file.hive_keys))
    yield from code.read(filesystem, file, wanted, ranges)


def read_ids(
    filesystem: pafs.FileSystem, file: InputFile, columns: InputColumns, schema: pa.Schema
) -> Iterator[pa.Array]:
    """Yield the ids of all rows of a file, in order; null where a row has none.

    Of a Parquet file only the id column is read. For the arguments and errors see `read_batches`.
    """
    ids, keys = pa.schema([schema.field("id")]), dict(file.hive_keys)
    only_ids = WantedColumns(columns, ids, keys, reads_texts=False)
    starts = range(0, file.rows, _ID_BATCH_ROWS)
    ranges = [(first, min(_ID_BATCH_ROWS, file.rows - first)) for first in starts]
    if ranges:
        check_size(filesystem, file.found)
        code = _code_of(file.found.format)
        yield from (batch.ids for batch in code.read(filesystem, file, only_ids, ranges))


def _code_of(format_name: str) -> FormatModule:
    return cast("FormatModule", importlib.import_module(module_of(format_name)))


def _check_ranges(file: InputFile, ranges: Sequence[RowRange]) -> None:
    end = 0
    for first_row, rows in ranges:
        if first_row < end or rows < 0 or first_row + rows > file.rows:
            raise ValueError(
                f"range ({first_row}, {rows}) of {file.name}: ranges must ascend, not overlap, "
                f"and end by row {file.rows}"
            )
        end = first_row + rows


def _saved(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode("ascii")


def _loaded(kind: type, saved: Any) -> Any:
    if kind is not pa.Schema or not isinstance(saved, str):
        raise ValueError(f"expected {kind.__name__}, got {type(saved).__name__}")
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(saved)))
