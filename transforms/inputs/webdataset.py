"""WebDataset shards: tar files in which adjacent files with the same stem are a row.

`000001.jpg`, `000001.txt` and `000001.json` are one row. Its columns are `__key__` (`000001`), an
ending each (`jpg` has bytes, `txt` a string), and the fields of the JSON object.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pyarrow.fs as pafs

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.inputs import OFFSET_STRIDE_ROWS, FoundFile, InputColumns, InputFile
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.forward_rows import ForwardRows
from bulkembed.transforms.inputs.input_files import ScannedFile
from bulkembed.transforms.inputs.jsonl import ScannedColumns
from bulkembed.transforms.inputs.jsonl_lines import NotARow, may_be_rounded, parse, parse_exactly
from bulkembed.transforms.inputs.rows import BadValue, RowBatch, WantedColumns, has_lone_surrogate
from bulkembed.transforms.inputs.stored_bytes import (
    PeekableStream,
    decompressed,
    reading,
)
from bulkembed.transforms.inputs.tar_members import TarReader
from bulkembed.transforms.inputs.text_recipe import TextRecipe
from bulkembed.transforms.inputs.text_rows import BatchBuilder
from bulkembed.transforms.inputs.unsupported_files import Unsupported, rejected

KEY = "__key__"
_JSON = "json"
_TEXTS = frozenset(("txt", "text", "transcript", "cls", "class", "count", "index", "id"))
"""Endings of texts; those of `webdataset.autodecode`. Others are bytes."""
_DATA_FILES = frozenset(("jsonl", "ndjson", "parquet", "csv", "tsv"))
_NAME = re.compile(r"(?:\./)*((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
_BUFFER_BYTES = {True: 1 << 16, False: 1 << 20}
"""Of a local file, and of one on a store: larger members that are not wanted are skipped."""


@dataclasses.dataclass(slots=True)
class _TarRow:
    key: str
    at: int
    """The byte of the archive where it begins."""
    members: dict[str, bytes | None] = dataclasses.field(default_factory=dict)
    """Its files by their endings; None for those that are not read."""


def scan(stream: PeekableStream, found: FoundFile, columns: InputColumns) -> ScannedFile:
    """Return the result of one pass over the members; see `input_files.StreamFormat`."""
    scanned = ScannedColumns(found.name, columns)
    texts = _TEXTS | set(TextRecipe.of(columns).columns)
    offsets: list[int] = []
    endings: set[str] = set()
    rows = 0
    for row in _rows(TarReader(stream), lambda _, ending: ending == _JSON):
        if rows % OFFSET_STRIDE_ROWS == 0:
            offsets.append(row.at)
        rows += 1
        endings.update(row.members)
        values, exact = _scanned_values(row, texts)
        scanned.add_row(rows, values, functools.partial(dict, exact))
    scanned.finish()
    packed = sorted(endings & _DATA_FILES)
    if packed:
        cure = "Unpack it, and name the files in it"
        unsupported = Unsupported(f"a tar archive of .{packed[0]} files, not of rows", cure)
        raise rejected(found, unsupported, found.compression)
    return scanned.scanned_file(found, rows, offsets if found.compression is None else ())


def _scanned_values(row: _TarRow, texts: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of a row, and the same with all digits; of members only the types count."""
    members = {name: "" if name in texts else b"" for name in row.members if name != _JSON}
    values = {KEY: row.key, **members}
    try:
        data = row.members.get(_JSON) or b""
        fields, _ = parse(data)
        exact = parse_exactly(data) if may_be_rounded(fields) else fields
    except NotARow:
        return values, values
    return fields | values, exact | values


def read(
    filesystem: pafs.FileSystem,
    file: InputFile,
    wanted: WantedColumns,
    ranges: Sequence[RowRange],
) -> Iterator[RowBatch]:
    """Yield one batch for each range; see `input_files.read_batches`.

    Only wanted members of wanted rows are read. A plain file is entered near each range; a
    compressed one is decompressed once.
    """
    current = range(0)
    used = BatchBuilder(file.name, wanted, 0).used
    reads = (used | {_JSON}) if used - {KEY} else used

    def wants(number: int, ending: str) -> bool:
        return number in current and ending in reads

    with reading(file.found), _open(filesystem, file) as (stream, seek):

        def rows_from(number: int, at_byte: int) -> Iterator[_TarRow]:
            if seek is not None and at_byte:
                seek(at_byte)
            return _rows(TarReader(stream, at=at_byte, seek=seek), wants, number)

        rows = ForwardRows(file, rows_from, can_seek=seek is not None)
        for first_row, count in ranges:
            current = range(first_row, first_row + count)
            batch = BatchBuilder(file.name, wanted, first_row)
            for row in rows.read(first_row, count):
                _add_row(batch, row, wanted.recipe.columns)
            yield batch.build()


@contextlib.contextmanager
def _open(
    filesystem: pafs.FileSystem, file: InputFile
) -> Iterator[tuple[Any, Callable[[int], object] | None]]:
    """Give the archive as a stream, and what moves in it, if anything does."""
    path, compression = file.found.path, file.found.compression
    if compression is None:
        stored = filesystem.open_input_file(path)
        with io.BufferedReader(stored, _BUFFER_BYTES[file.found.is_local]) as stream:
            yield stream, stream.seek
    else:
        with filesystem.open_input_stream(path, compression=None) as stored:
            yield decompressed(stored, compression), None


def _rows(
    tar: TarReader, wants: Callable[[int, str], bool], first_row: int = 0
) -> Iterator[_TarRow]:
    """Yield the rows of an archive; `wants` decides by row and ending whether a member is read."""
    row: _TarRow | None = None
    number = first_row
    for member in tar:
        match = _NAME.fullmatch(member.name)
        if match is None or (match[1].startswith("__") and match[1].endswith("__")):
            continue
        key, ending = match[1], match[2].lower()
        if row is None or row.key != key or ending in row.members:
            if row is not None:
                yield row
                number += 1
            row = _TarRow(key, member.at)
        row.members[ending] = tar.data() if wants(number, ending) else None
    if row is not None:
        yield row


def _add_row(batch: BatchBuilder, row: _TarRow, texts: Collection[str]) -> None:
    values: dict[str, Any] = {KEY: row.key}
    is_utf8 = not has_lone_surrogate(row.key)
    try:
        for ending, data in row.members.items():
            if ending in batch.used and data is not None:
                values[ending] = _value(row, ending, data, texts)
        data = row.members.get(_JSON)
        if data is not None and not batch.used <= values.keys():
            fields, no_surrogates = _fields(row, data, batch.used)
            values = fields | values
            is_utf8 = is_utf8 and no_surrogates
    except BadValue as error:
        batch.add_unreadable(error.code, str(error))
    else:
        batch.add(values, is_utf8=is_utf8)


def _value(row: _TarRow, ending: str, data: bytes, texts: Collection[str]) -> str | bytes:
    if ending not in _TEXTS and ending not in texts:
        return data
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        what = f"byte {error.start} of '{row.key}.{ending}' is not UTF-8"
        raise BadValue(DeadCode.BAD_TEXT, what) from None


def _fields(row: _TarRow, data: bytes, used: Collection[str]) -> tuple[dict[str, Any], bool]:
    try:
        fields, is_utf8 = parse(data)
        if may_be_rounded(fields):
            fields = parse_exactly(data)  # Integers from 2^64 on as they were written.
    except NotARow as error:
        raise BadValue(DeadCode.BAD_JSON, f"'{row.key}.{_JSON}': {error}") from None
    return fields, is_utf8
