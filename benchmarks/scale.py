"""Large inputs: many small files, and many rows in 200 files.

    python -m benchmarks.scale [--small] [--only files|rows] [--millions 1,5,25,50] [--whole 50]

Prints two tables with a line for each command, and how its CPU time grows with the rows. The
emulator of the small files runs in a process of its own, on the same cores; see `scale_rows` for
the rows. Exits with 1 if a job makes more requests or parts than its limit, or if a command over
many rows needs 600 MB or CPU time that grows faster than the rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks import scale_rows
from benchmarks.children import Cost, cost_of
from benchmarks.processes import emulator
from benchmarks.scale_rows import START_ROWS
from benchmarks.speed import PYTHON, remove

DIM = 768
FILES = 2000
MAX_TEXTS = 100
"""What one request may have."""


@dataclasses.dataclass(frozen=True, slots=True)
class SmallFiles:
    """An input of equally small Parquet files, and what its job may make."""

    files: int
    rows: int
    """Rows of each file."""
    max_calls: int
    max_parts: int

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.files:,} files of {self.rows} rows"

    def write(self, folder: Path) -> Path:
        """Write the files, whose texts are all distinct."""
        folder.mkdir(parents=True)
        for file in range(self.files):
            ids = range(file * self.rows, (file + 1) * self.rows)
            texts = [f"text number {n} of an input that has many small files" for n in ids]
            pq.write_table(pa.table({"id": ids, "text": texts}), folder / f"f{file:06d}.parquet")
        return folder


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """A command, what it cost, and what it made."""

    name: str
    cost: Cost
    first_s: float | None = None
    """From its start to the first answer."""
    calls: int | None = None
    texts: int = 0
    parts: int | None = None
    records: int | None = None

    def cells(self) -> list[str]:
        """Return the cells of its line in the table."""
        each = "" if not self.calls else f"{self.texts / self.calls:.1f}"
        counts = (self.calls, self.parts, self.records)
        calls, parts, records = ("" if one is None else f"{one:,}" for one in counts)
        first = "" if self.first_s is None else f"{self.first_s:.1f}"
        cost = self.cost
        times = (first, f"{cost.wall_s:.1f}", f"{cost.cpu_s:.1f}", f"{cost.peak_mb:.0f}")
        return [self.name, *times, calls, each, parts, records]


def small_files(folder: Path, one: SmallFiles) -> list[Line]:
    """Measure a job over small files, the same job again with nothing to do, and `status`."""
    source, output = one.write(folder / "in"), folder / "out"
    with emulator("--canned") as server:
        command = [
            PYTHON, "-m", "bulkembed", "run", "--input", source, "--output", output, "--base-url",
            server.url, "--dim", DIM, "--rpm", 0, "--tpm", 0, "--rpd", 0, "--log-level", "error",
            "--no-report",
        ]  # fmt: skip
        started_s = time.time()
        cost = cost_of(command)
        stats = server.stats()
        again = cost_of(command)
    parts = sum(1 for kind in ("vectors", "dead_letters") for _ in (output / kind).rglob("*.par*"))
    records = sum(1 for _ in (output / "_run/units").iterdir())
    status = cost_of([PYTHON, "-m", "bulkembed", "status", output])
    remove(folder)
    return [
        Line(
            one.name,
            cost,
            stats["first_counted_s"] - started_s,
            stats["calls"],
            stats["texts"],
            parts,
            records,
        ),
        Line("  again, nothing to do", again),
        Line("  status", status),
    ]


def measure_files(folder: Path, files: int) -> bool:
    """Print the table of small files, and return whether all limits are kept."""
    cases = []
    for rows in (5, 500):
        texts = files * rows
        cases.append(SmallFiles(files, rows, texts // MAX_TEXTS * 3 // 2, max(8, texts // 500)))
    table = Table(
        "input", "first s", "seconds", "CPU s", "peak MB", "requests", "texts each", "parts",
        "records", title=f"{DIM} dimensions",
    )  # fmt: skip
    passed = True
    for number, one in enumerate(cases):
        for line in small_files(folder / str(number), one):
            table.add_row(*line.cells())
            print(*line.cells(), sep="  ", file=sys.stderr, flush=True)
            passed &= line.calls is None or line.calls <= one.max_calls
            passed &= line.parts is None or line.parts <= one.max_parts
    _print(table)
    return passed


def measure_rows(folder: Path, sizes: Sequence[int], whole: int) -> bool:
    """Print the table of rows, and how CPU time grows; return whether all limits are kept.

    Args:
        folder: an existing folder.
        sizes: rows of each input.
        whole: the most rows of which a dataset is made.
    """
    few = scale_rows.measure(folder / "few", START_ROWS, whole=True)
    starts = {one.name: one for one in few}
    found: dict[str, list[scale_rows.Measured]] = {name: [] for name in starts}
    for rows in sizes:
        for one in scale_rows.measure(folder / str(rows), rows, whole=rows <= whole):
            found[one.name].append(one)
            print(*one.cells(), sep="  ", file=sys.stderr, flush=True)
    table = Table(
        "command", "million rows", "seconds", "CPU s", "CPU s per million", "peak MB",
        title=f"{scale_rows.FILES} files",
    )  # fmt: skip
    growth = Table("command", "CPU s to start", "power of the rows", "MB read per MB")
    passed = True
    for name, lines in found.items():
        for line in lines:
            table.add_row(*line.cells())
            passed &= line.cost.peak_mb < scale_rows.MAX_MB
        power = scale_rows.slope(starts[name], lines)
        passed &= power is None or power <= scale_rows.MAX_POWER
        read = f"{scale_rows.reads(starts[name], lines[-1]):.1f}" if lines else ""
        start_s = f"{starts[name].cost.cpu_s:.1f}"
        growth.add_row(name, start_s, "" if power is None else f"{power:.2f}", read)
    _print(table)
    _print(growth)
    return passed


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="a fifth of the files, few rows")
    parser.add_argument("--only", choices=("files", "rows"), help="measure one of the two")
    parser.add_argument("--millions", default="1,5,25,50", help="of rows, separated by commas")
    parser.add_argument("--whole", type=float, default=50, help="most millions in a dataset")
    args = parser.parse_args()
    millions = "0.1,0.3" if args.small else args.millions
    sizes = [round(float(one) * 1e6) for one in millions.split(",")]
    passed = True
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        if args.only != "rows":
            passed = measure_files(Path(folder), FILES // 5 if args.small else FILES)
        if args.only != "files":
            passed &= measure_rows(Path(folder), sizes, round(args.whole * 1e6))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
