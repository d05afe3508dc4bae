"""What a report with its map takes beside a run, by the rows and the dimensions of the dataset.

    python -m benchmarks.report [--small]

The datasets are synthetic, in parts of 2,500 rows, and have no input: reading texts takes at most
2 s more. A process of its own makes the library of the charts before the sample is read. CPU
seconds and memory are those beyond a process that has imported what a run has.

Exits with 1 if a report takes more than 200 MB or 5 CPU seconds; with --small never.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.children import WITH_BYTECODE
from benchmarks.search import write
from bulkembed.pipeline.report.usage import Usage

SIZES = ((100_000, 3072), (1_000_000, 16), (10_000_000, 16))
SMALL_SIZES = ((10_000, 3072), (100_000, 16))
MAX_MB = 200
MAX_CPU_S = 5.0


def library_mb() -> float:
    """Return the peak memory of the process that makes the library of the charts."""
    from bulkembed.pipeline.report.page import MAKE_LIBRARY

    code = f"{MAKE_LIBRARY}\nsys.stderr.write(open('/proc/self/status').read())"
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak = next(line for line in done.stderr.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024 / 1e6


def measure(output: str) -> dict[str, float]:
    """Write the report of a dataset in this process, and return what it took."""
    import apache_beam  # noqa: F401 - a run has it

    from bulkembed.pipeline.run import run  # noqa: F401

    def cpu_s() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    usage, before = Usage(), cpu_s()
    from bulkembed.pipeline.report.page import write_report

    write_report(output, texts=True)
    seconds, cpu, memory = usage.seconds, cpu_s() - before, (usage.memory_bytes or 0) / 1e6
    return {"wall_s": seconds, "cpu_s": cpu, "own_mb": memory, "child_mb": library_mb()}


def measured(output: Path) -> dict[str, float]:
    """Return what `measure` returns in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.report", "--measure", str(output)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **WITH_BYTECODE}
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured_dataset(rows: int, dim: int) -> tuple[dict[str, float], int]:
    """Return what the report of a new dataset took, and the parts of the dataset."""
    with tempfile.TemporaryDirectory(prefix="bench-report-") as folder:
        output = Path(folder) / "out"
        write(output, "plain", rows, dim)
        return measured(output), len(list((output / "vectors").iterdir()))


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--measure", default="")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure)))
        return
    table = Table(
        "rows", "dimensions", "parts", "s", "CPU s", "MB", "MB of the charts' process, earlier",
        title=f"bulkembed report, {os.cpu_count()} cores",
    )  # fmt: skip
    passed = True
    measured_dataset(10_000, 16)  # So that all modules are compiled.
    for rows, dim in SMALL_SIZES if args.small else SIZES:
        found, parts = measured_dataset(rows, dim)
        most_mb = max(found["own_mb"], found["child_mb"])
        passed &= most_mb <= MAX_MB and found["cpu_s"] <= MAX_CPU_S
        table.add_row(
            f"{rows:,}", f"{dim:,}", f"{parts:,}", f"{found['wall_s']:.1f}",
            f"{found['cpu_s']:.1f}", f"{found['own_mb']:.0f}", f"{found['child_mb']:.0f}",
        )  # fmt: skip
        print(rows, dim, found, file=sys.stderr, flush=True)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    sys.exit(not passed and not args.small)


if __name__ == "__main__":
    main()
