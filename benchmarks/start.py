"""How long the command takes without rows: help, status, and jobs with nothing to do.

    python -m benchmarks.start [--repeat 5]

Prints the medians of wall and CPU seconds (user and system). On a busy machine only the latter are
meaningful. Exits with 1 if a command took longer than its limit.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.children import cost_of
from benchmarks.processes import emulator
from benchmarks.speed import PYTHON, remove
from benchmarks.texts import Texts

UNITS = 400
UNIT_ROWS = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A command, and its limit in seconds; None for no limit."""

    name: str
    words: tuple[object, ...]
    max_s: float | None = None
    removed: Path | None = None
    """An output that is removed before each run."""


def cases(folder: Path, url: str) -> list[Case]:
    """Return all cases; runs the finished job once."""
    texts = Texts(folder)
    done, fresh = folder / "done", folder / "fresh"

    def job(rows: int, output: Path) -> tuple[object, ...]:
        source = texts.write_short(f"rows-{rows}", rows, 100)
        return (
            "run", "--input", source, "--output", output, "--base-url", url, "--dim", 768,
            "--unit-rows", UNIT_ROWS, "--log-level", "error",
        )  # fmt: skip

    finished = job(UNITS * UNIT_ROWS, done)
    cost_of([PYTHON, "-m", "bulkembed", *finished])
    return [
        Case("--help", ("--help",), 0.4),
        Case("run --help", ("run", "--help")),
        Case("models", ("models",), 0.4),
        Case(f"status, {UNITS} units", ("status", done), 0.4),
        Case("run, no rows", job(0, fresh), 4.0, fresh),
        Case("run, one row", job(1, fresh), None, fresh),
        Case("run, one row, 2 workers", (*job(1, fresh), "--workers", 2), None, fresh),
        Case(f"run, {UNITS} finished units", finished, 6.0),
    ]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeat", type=int, default=5, help="runs of each, for the median")
    repeat = parser.parse_args().repeat
    table = Table("bulkembed", "seconds", "CPU s", "limit s", title=f"median of {repeat}")
    passed = True
    with (
        tempfile.TemporaryDirectory(prefix="bench-start-") as folder,
        emulator("--canned") as server,
    ):
        for case in cases(Path(folder), server.url):
            costs = []
            for _ in range(repeat):
                if case.removed is not None:
                    remove(case.removed)
                costs.append(cost_of([PYTHON, "-m", "bulkembed", *case.words]))
            wall_s = statistics.median(cost.wall_s for cost in costs)
            cpu_s = statistics.median(cost.cpu_s for cost in costs)
            passed &= case.max_s is None or wall_s <= case.max_s
            limit = "" if case.max_s is None else f"{case.max_s:g}"
            table.add_row(case.name, f"{wall_s:.2f}", f"{cpu_s:.2f}", limit)
            print(f"{case.name:28} {wall_s:.2f} s, CPU {cpu_s:.2f} s", file=sys.stderr, flush=True)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    sys.exit(not passed)


if __name__ == "__main__":
    main()
