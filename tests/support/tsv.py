"""A made-up input format: tab-separated lines, with the names of the columns in the first one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.fs as pafs

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.inputs import FoundFile, InputColumns, InputFile
from bulkembed.transforms.core.ranges import RowRange
from bulkembed.transforms.inputs.columns import check_present
from bulkembed.transforms.inputs.formats import InputFormat
from bulkembed.transforms.inputs.input_files import ScannedFile
from bulkembed.transforms.inputs.rows import (
    BadRows,
    RowBatch,
    WantedColumns,
    kept_table,
    title_and_text,
)
from bulkembed.transforms.inputs.stored_bytes import PeekableStream, Stream, decompressed, reading

TSV = InputFormat(name="tsv", title="TSV", module=__name__, endings=("tsv",))


def scan(
    stream: PeekableStream, filesystem: pafs.FileSystem, found: FoundFile, columns: InputColumns
) -> ScannedFile:
    names, *rows = list(_lines(stream))
    check_present(found.name, columns, names)
    used = [columns.id_column, *(names if columns.keeps_all else columns.keep_columns)]
    schema = pa.schema([(name, pa.string()) for name in dict.fromkeys(used) if name in names])
    return ScannedFile(found, "", len(rows), (), schema, tuple(names))


def read(
    filesystem: pafs.FileSystem, file: InputFile, wanted: WantedColumns, ranges: Sequence[RowRange]
) -> Iterator[RowBatch]:
    path, compression = file.found.path, file.found.compression
    with reading(file.found), filesystem.open_input_stream(path, compression=None) as stored:
        lines = _lines(decompressed(stored, compression))
        names, next_row = next(lines), 0
        for first_row, count in ranges:
            skipped = first_row - next_row
            rows = [
                dict(zip(names, line, strict=True))
                for line in itertools.islice(lines, skipped, skipped + count)
            ]
            next_row = first_row + count
            texts = [title_and_text(row, wanted.recipe) for row in rows]
            bad = BadRows(file.name, first_row)
            for offset, row in enumerate(rows):
                if not row["id"]:
                    bad.note(offset, DeadCode.MISSING_ID, "the id is empty")
            yield RowBatch(
                first_row=first_row,
                ids=pa.array([row["id"] for row in rows], wanted.id_type),
                titles=[title for title, _ in texts],
                texts=[text for _, text in texts],
                kept=kept_table(
                    [pa.array([row[name] for row in rows]) for name in wanted.kept.names],
                    wanted.kept,
                    len(rows),
                ),
                bad=bad.by_offset(),
            )


def _lines(stream: Stream) -> Iterator[list[str]]:
    content = b""
    while chunk := stream.read(1 << 16):
        content += chunk
    return (line.split("\t") for line in content.decode().splitlines())
