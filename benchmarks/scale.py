"""Large inputs of many files: how long a job takes until its first request and in all.

    python -m benchmarks.scale [--small]

Prints a table with a line for each command.  The emulator runs in a process of its own, on the same
cores.  Exits with 1 if a job makes more requests or parts than its limit.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.children import Cost, cost_of
from benchmarks.processes import emulator
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


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="a fifth of the files")
    files = FILES // 5 if parser.parse_args().small else FILES
    cases = []
    for rows in (5, 500):
        texts = files * rows
        cases.append(SmallFiles(files, rows, texts // MAX_TEXTS * 3 // 2, max(8, texts // 500)))
    table = Table(
        "input", "first s", "seconds", "CPU s", "peak MB", "requests", "texts each", "parts",
        "records", title=f"{DIM} dimensions",
    )  # fmt: skip
    passed = True
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        for number, one in enumerate(cases):
            for line in small_files(Path(folder) / str(number), one):
                table.add_row(*line.cells())
                print(*line.cells(), sep="  ", file=sys.stderr, flush=True)
                passed &= line.calls is None or line.calls <= one.max_calls
                passed &= line.parts is None or line.parts <= one.max_parts
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
