"""Peak memory of one process at 3,072 dimensions, for several input formats of two sizes.

    python -m benchmarks.memory [--small] [--only parquet,jsonl] [--rows 100000,1000000]

Exits with 1 if a run needs 500 MB or more, or the larger input 10 % more than the smaller one.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.children import Cost, cost_of
from benchmarks.processes import emulator
from benchmarks.speed import PYTHON, remove

DIM = 3072
MAX_MB = 500
MAX_GROWTH = 1.1
FORMS = {"parquet": ".parquet", "groups": ".parquet", "jsonl": ".jsonl", "gzip": ".jsonl.gz"}
"""`parquet` has one row group with all rows, `groups` has many row groups."""
GROUP_ROWS = 1000


def _lines(rows: int) -> Iterator[bytes]:
    for row in range(rows):
        yield orjson.dumps({"id": row, "text": f"text number {row}"}) + b"\n"


def write(path: Path, form: str, rows: int) -> None:
    """Write an input of short texts."""
    if FORMS[form] == ".parquet":
        texts = pa.array([f"text number {row}" for row in range(rows)])
        table = pa.table({"id": pa.array(range(rows)), "text": texts})
        pq.write_table(table, path, row_group_size=GROUP_ROWS if form == "groups" else rows)
        return
    opened: Any = functools.partial(gzip.open, compresslevel=1) if form == "gzip" else open
    with opened(path, "wb") as file:
        file.writelines(_lines(rows))


def peak(folder: Path, url: str, form: str, rows: int) -> Cost:
    """Return the cost of a run over such an input."""
    source, output = folder / f"in-{rows}{FORMS[form]}", folder / "out"
    write(source, form, rows)
    try:
        return cost_of([
            PYTHON, "-m", "bulkembed", "run", "--input", source, "--output", output,
            "--base-url", url, "--dim", DIM, "--rpm", 0, "--tpm", 0, "--rpd", 0,
            "--log-level", "error", "--no-report",
        ])  # fmt: skip
    finally:
        remove(output)
        source.unlink()


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="Parquet only, and fewer rows")
    parser.add_argument("--only", default="", help="formats, separated by commas")
    parser.add_argument("--rows", default="", help="two numbers of rows, separated by a comma")
    args = parser.parse_args()
    sizes = [int(rows) for rows in (args.rows or "100000,1000000").split(",")]
    if args.small and not args.rows:
        sizes = [30_000, 120_000]
    forms = [form for form in FORMS if not args.only or form in args.only.split(",")]
    table = Table(
        "input", "rows", "peak MB", "ratio to the first", "rows/s", title=f"{DIM} dimensions"
    )
    passed = True
    with (
        tempfile.TemporaryDirectory(prefix="bench-memory-") as folder,
        emulator("--canned", "--latency-ms", 10) as server,
    ):
        for form in forms[:1] if args.small else forms:
            first = 0.0
            for rows in sizes:
                cost = peak(Path(folder), server.url, form, rows)
                first = first or cost.peak_mb
                grown = cost.peak_mb / first
                passed &= cost.peak_mb < MAX_MB and grown <= MAX_GROWTH
                table.add_row(
                    form, f"{rows:,}", f"{cost.peak_mb:.0f}", f"{grown:.2f}",
                    f"{rows / cost.wall_s:,.0f}",
                )  # fmt: skip
                print(form, rows, cost, file=sys.stderr, flush=True)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
