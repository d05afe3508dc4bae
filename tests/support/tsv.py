"""A made-up input format: tab-separated lines, with the names of the columns in the first one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.inputs import FoundFile, InputColumns, InputFile
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.column_checks import check_present
from bulkembed.transforms.inputs.formats import InputFormat
from bulkembed.transforms.inputs.input_files import ScannedFile
from bulkembed.transforms.inputs.rows import RowBatch, WantedColumns
from bulkembed.transforms.inputs.stored_bytes import PeekableStream, Stream, decompressed, reading
from bulkembed.transforms.inputs.text_rows import BatchBuilder, ScannedIds

TSV = InputFormat(name="tsv", title="TSV", module=__name__, endings=("tsv",))


def scan(stream: PeekableStream, found: FoundFile, columns: InputColumns) -> ScannedFile:
    names, *rows = list(_lines(stream))
    check_present(found.name, columns, names)
    ids = ScannedIds()
    for number, row in enumerate(_row(names, values) for values in rows):
        ids.add(number, row.get(columns.id_column))
    kept = names if columns.keeps_all else columns.keep_columns
    fields = {name: pa.string() for name in kept if name != columns.id_column}
    if columns.id_column is not None and ids.type is not None:
        fields = {columns.id_column: ids.type, **fields}
    return ScannedFile(
        found=found,
        digest="",
        rows=len(rows),
        offsets=(),
        schema=pa.schema(list(fields.items())),
        columns=tuple(names),
        id_range=ids.range,
        id_rows=tuple(ids.first.items()),
    )


def read(
    filesystem: pafs.FileSystem, file: InputFile, wanted: WantedColumns, ranges: Sequence[RowRange]
) -> Iterator[RowBatch]:
    path, compression = file.found.path, file.found.compression
    with reading(file.found), filesystem.open_input_stream(path, compression=None) as stored:
        lines = _lines(decompressed(stored, compression))
        names, next_row = next(lines), 0
        for first_row, count in ranges:
            skipped = first_row - next_row
            batch = BatchBuilder(file.name, wanted, first_row)
            for values in itertools.islice(lines, skipped, skipped + count):
                batch.add(_row(names, values), is_utf8=True)
            next_row = first_row + count
            yield batch.build()


def _row(names: list[str], values: list[str]) -> dict[str, str | None]:
    """Return a row; an empty value is null."""
    return {name: value or None for name, value in zip(names, values, strict=True)}


def _lines(stream: Stream) -> Iterator[list[str]]:
    content = b""
    while chunk := stream.read(1 << 16):
        content += chunk
    return (line.split("\t") for line in content.decode().splitlines())
