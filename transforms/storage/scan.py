"""One reading of an input file before anything is paid: identity, rows and types."""

from __future__ import annotations

import dataclasses

import pyarrow.fs as pafs

from schemas.inputs import FileFormat, FoundFile, InputColumns
from transforms.storage.content import HEAD_BYTES, codec_of, format_of
from transforms.storage.scanned_file import ScannedFile
from transforms.storage.stored_bytes import (
    Ahead,
    HashingReader,
    changed,
    check_size,
    decoded,
    reading,
)


def scan_file(filesystem: pafs.FileSystem, found: FoundFile, columns: InputColumns) -> ScannedFile:
    """Return what one pass over the file tells; memory does not grow with the file.

    The content decides what the file is, not its name.  Parquet gives its footer, and its bytes are
    read for the digest alone; JSONL is decoded and parsed from end to end, so a damaged file is
    found here.  Lines that are no rows count as rows: they become dead letters later.

    Raises:
        InputError: the file cannot be read, is cut short, is neither Parquet nor JSONL, has lines
            but not one row, or changed since it was found.
        ConfigError: a column is not there, or has a type that cannot be used.
    """
    check_size(filesystem, found)
    with reading(found), filesystem.open_input_stream(found.path, compression=None) as raw:
        reader = HashingReader(raw)
        stored = Ahead(reader, HEAD_BYTES)
        codec = codec_of(stored.head)
        rows = Ahead(decoded(stored, codec), HEAD_BYTES)
        kind = format_of(found, rows.head, compression=codec, whole=rows.is_whole)
        held = dataclasses.replace(found, format=kind, compression=codec)
        scanned = _scan(filesystem, held, columns, rows)
        digest = reader.finish()
    if reader.bytes_read != found.size_bytes:
        raise changed(found, f"it has {reader.bytes_read:,} bytes")
    as_named = (kind, codec) == (found.format, found.compression)
    how = [] if as_named else [codec or str(kind)]
    how += [scanned.reading] if scanned.reading else []
    return dataclasses.replace(scanned, digest=digest, reading="+".join(how))


def _scan(
    filesystem: pafs.FileSystem, held: FoundFile, columns: InputColumns, rows: Ahead
) -> ScannedFile:
    if held.format is FileFormat.PARQUET:
        from transforms.storage.parquet_scan import scan_parquet

        return scan_parquet(filesystem, held, columns)
    from transforms.storage.jsonl_scan import scan_jsonl

    return scan_jsonl(rows, held, columns)
