"""Input files read as a job reads them, without a job around them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.schemas.inputs import FoundFile, InputColumns
from bulkembed.transforms.inputs.columns import merge_schemas
from bulkembed.transforms.inputs.discover import find_input
from bulkembed.transforms.inputs.filesystems import open_found
from bulkembed.transforms.inputs.input_files import ScannedFile, read_batches, scan_file
from bulkembed.transforms.inputs.rows import RowBatch

PLAIN = InputColumns()


def find_files(
    patterns: Sequence[str], format: str | None = None, output: str | None = None
) -> list[FoundFile]:
    return list(find_input(patterns, format, output).files)


def scan_all(folder: Path, columns: InputColumns = PLAIN) -> list[ScannedFile]:
    return [scan_file(open_found(f), f, columns) for f in find_files([str(folder)])]


def read_all(folder: Path, columns: InputColumns = PLAIN) -> tuple[pa.Schema, list[RowBatch]]:
    scanned = scan_all(folder, columns)
    schema = merge_schemas(scanned, columns)
    batches = []
    for file in scanned:
        filesystem = open_found(file.found)
        batches += read_batches(filesystem, file.input_file, columns, schema, [(0, file.rows)])
    return schema, batches


def read_lines(
    folder: Path, *lines: bytes | str | dict[str, Any], columns: InputColumns = PLAIN
) -> RowBatch:
    raw = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    encoded = [line.encode() if isinstance(line, str) else line for line in raw]
    (folder / "in.jsonl").write_bytes(b"\n".join(encoded) + b"\n")
    _, (batch,) = read_all(folder, columns)
    return batch


def put(folder: Path, name: str, ids: pa.Array, **kept: pa.Array) -> None:
    pq.write_table(pa.table({"id": ids, "text": ["t"] * len(ids)} | kept), folder / name)
