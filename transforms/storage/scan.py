"""One reading of an input file before anything is paid: identity, rows and types."""

from __future__ import annotations

import pyarrow.fs as pafs

from schemas.inputs import FileFormat, FoundFile, InputColumns
from transforms.storage.scanned_file import ScannedFile
from transforms.storage.stored_bytes import check_size


def scan_file(filesystem: pafs.FileSystem, found: FoundFile, columns: InputColumns) -> ScannedFile:
    """What one pass over the file tells; memory does not grow with the file.

    Parquet gives its footer, and its bytes are read for the digest alone; JSONL is decoded and
    parsed from end to end, so a damaged file is found here.  Lines that are no rows count as rows:
    they become dead letters later.

    Raises:
        InputError: the file cannot be read, is cut short, or changed since it was found.
        ConfigError: a column is not there, or has a type that cannot be used.
    """
    check_size(filesystem, found)
    if found.format is FileFormat.PARQUET:
        from transforms.storage.parquet_scan import scan_parquet as scan
    else:
        from transforms.storage.jsonl_scan import scan_jsonl as scan
    return scan(filesystem, found, columns)
