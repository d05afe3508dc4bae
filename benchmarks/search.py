"""Time and memory of `bulkembed search` over a million rows of 768 floats, by their encoding.

    python -m benchmarks.search [--small] [--rows N] [--dim N] [--only plain,float16]

The first scan starts with an empty page cache; of the later ones the median is printed. Time and
memory of the whole command include imports, the emulator and the embedding of the query.
Exits with 1 if later scans of plain parts of a million rows take 3 s or more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.children import cost_of
from benchmarks.speed import PYTHON
from bulkembed.pipeline.search.search import committed_parts, nearest
from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import CallSettings, JobConfig, OutputConfig, VectorEncoding, VectorType
from bulkembed.schemas.output_schema import part_metadata, vectors_schema
from bulkembed.schemas.units import Unit, UnitRecord
from bulkembed.transforms.dataset import run_file
from bulkembed.transforms.dataset.commit import UnitTables, commit_unit
from bulkembed.transforms.dataset.dataset import Dataset

UNIT_ROWS = 2500
MAX_S = 3.0
REPEAT = 3
KINDS = {
    "plain": (VectorType.FLOAT32, VectorEncoding.PLAIN),
    "float16": (VectorType.FLOAT16, VectorEncoding.PLAIN),
    "byte_stream_split": (VectorType.FLOAT32, VectorEncoding.BYTE_STREAM_SPLIT),
}


def write(folder: Path, kind: str, rows: int, dim: int) -> None:
    """Write a dataset of random vectors, as a run would."""
    numbers, encoding = KINDS[kind]
    job = JobConfig(
        run_id="bench",
        service=ServiceConfig(),
        embedding=EmbeddingConfig(service="emulator", model="gemini-embedding-001", dim=dim),
        calls=CallSettings(),
        columns=InputColumns(),
        row_schema=pa.schema([("id", pa.int64())]),
        output=OutputConfig(str(folder), numbers, encoding),
    )
    dataset = Dataset.open(str(folder))
    settings = {"patterns": ["bench.parquet"], "output": str(folder), "emulator": True}
    job = run_file.take(dataset, job, {**settings, "dim": dim})
    schema = vectors_schema(job.row_schema, dim, numbers, part_metadata(job.embedding, "", dim))
    random = np.random.default_rng(0)
    for first in range(0, rows, UNIT_ROWS):
        count = min(UNIT_ROWS, rows - first)
        matrix = random.standard_normal((count, dim), dtype=np.float32)
        matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
        flat = pa.array(matrix.reshape(-1)).cast(schema.field("vector").type.value_type)
        where = range(first, first + count)
        columns = [
            pa.array(where, pa.int64()),
            pa.FixedSizeListArray.from_arrays(flat, type=schema.field("vector").type),
            pa.array([random.bytes(16) for _ in where], pa.binary(16)),
            pa.array([False] * count),
            pa.array(["bench.parquet"] * count),
            pa.array(where, pa.int64()),
        ]
        record = UnitRecord(
            Unit("0" * 16, first, count), count, 0, 0, source_file="bench.parquet",
            run_number=job.run_number, embedding_digest=job.digest,
        )  # fmt: skip
        commit_unit(dataset, job.output, record, UnitTables(pa.table(columns, schema=schema), None))


def forget(folder: Path) -> None:
    """Drop the parts from the page cache."""
    for part in (folder / "vectors").iterdir():
        with part.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def scan(folder: Path, dim: int) -> tuple[float, float]:
    """Return wall and CPU seconds of one scan for ten rows, in this process."""
    dataset = Dataset.open(str(folder))
    query = np.full(dim, dim**-0.5, np.float32)
    wall, cpu = time.perf_counter(), time.process_time()
    hits = nearest(dataset, committed_parts(dataset), query, 10, unit_length=True)
    if len(hits) != 10:
        raise RuntimeError(f"{len(hits)} rows were found, not 10")
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="100,000 rows")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--only", default="", help="encodings, separated by commas")
    args = parser.parse_args()
    rows = args.rows or (100_000 if args.small else 1_000_000)
    table = Table(
        "vectors", "MB", "first scan, s", "later scans, s", "CPU s of these", "whole command, s",
        "peak MB",
        title=f"{rows:,} rows of {args.dim} dimensions, {os.cpu_count()} cores",
    )  # fmt: skip
    passed = True
    for kind in [kind for kind in KINDS if not args.only or kind in args.only.split(",")]:
        with tempfile.TemporaryDirectory(prefix="bench-search-") as folder:
            output = Path(folder) / "out"
            write(output, kind, rows, args.dim)
            size = sum(part.stat().st_size for part in (output / "vectors").iterdir())
            forget(output)
            first, _ = scan(output, args.dim)
            later = [scan(output, args.dim) for _ in range(REPEAT)]
            cost = cost_of([PYTHON, "-m", "bulkembed", "search", output, "a few words"])
        wall_s, cpu_s = (statistics.median(each) for each in zip(*later, strict=True))
        passed &= kind != "plain" or wall_s < MAX_S
        table.add_row(
            kind, f"{size / 1e6:,.0f}", f"{first:.2f}", f"{wall_s:.2f}", f"{cpu_s:.2f}",
            f"{cost.wall_s:.1f}", f"{cost.peak_mb:.0f}",
        )  # fmt: skip
        print(kind, first, later, cost, file=sys.stderr, flush=True)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    sys.exit(not passed and not args.small)


if __name__ == "__main__":
    main()
