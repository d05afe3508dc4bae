"""Compare batch mode with online requests: time, CPU and memory of a run over distinct texts.

    python -m benchmarks.batch [--small] [--rows 200000] [--dim 3072]

The emulator has prepared vectors, and its batch jobs are done at once: what is measured is the
work of bulkembed. All texts go into one job.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.children import Cost, cost_of
from benchmarks.processes import emulator
from benchmarks.speed import PYTHON, TEXT_CHARS, remove
from benchmarks.texts import Texts

ROWS, SMALL_ROWS = 200_000, 10_000
FEW_ROWS = 100
"""A run over so many rows shows what starting takes."""
MODES = {
    "online": (),
    "batch": ("--mode", "batch", "--batch-poll", "1s", "--batch-job-rows", "1000000"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """The cost of the rows of one mode, without start-up."""

    rows_per_s: float
    cpu_s: float
    """For a thousand rows."""
    peak_mb: float


def measure(folder: Path, source: Path, rows: int, dim: int, mode: str) -> Figures:
    """Run a mode over few rows and over all."""
    with emulator("--canned", "--batch-file-bytes", 8 << 30) as server:
        costs = [_run(folder, server.url, source, count, dim, mode) for count in (FEW_ROWS, rows)]
    few, all_rows = costs
    more = (rows - FEW_ROWS) / 1000
    return Figures(
        1000 * more / max(0.01, all_rows.wall_s - few.wall_s),
        (all_rows.cpu_s - few.cpu_s) / more,
        all_rows.peak_mb,
    )


def _run(folder: Path, url: str, source: Path, rows: int, dim: int, mode: str) -> Cost:
    output = folder / f"{mode}-{rows}"
    command = [
        PYTHON, "-m", "bulkembed", "run", "--input", source, "--output", output,
        "--base-url", url, "--dim", dim, "--limit-rows", rows, "--log-level", "error",
        *MODES[mode],
    ]  # fmt: skip
    try:
        return cost_of(command, {"XDG_CACHE_HOME": str(folder / "cache")})
    finally:
        remove(output)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--dim", type=int, default=3072)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    rows = SMALL_ROWS if given.small else given.rows
    table = Table(title=f"{rows:,} rows of {given.dim:,} dimensions, without start-up")
    for heading in ("mode", "rows/s", "CPU s / 1,000 rows", "peak MB"):
        table.add_column(heading, justify="left" if heading == "mode" else "right")
    with tempfile.TemporaryDirectory(prefix="bench-batch-") as name:
        folder = Path(name)
        source = Texts(folder).write_short("batch", rows, TEXT_CHARS)
        for mode in MODES:
            found = measure(folder, source, rows, given.dim, mode)
            cells = (f"{found.rows_per_s:,.0f}", f"{found.cpu_s:.3f}", f"{found.peak_mb:,.0f}")
            table.add_row(mode, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
