"""How many of the 16 calls that may be in the air are there: the middle of a run is looked at.

    python -m benchmarks.slots [--small]

The emulator's calls take 300 ms, give or take 100, and one in a hundred 2 s more.  A slot is in use
from when the emulator has the request to when it lets the answer go.  Exit code 1 below 0.9.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.children import cost_of
from benchmarks.processes import emulator
from benchmarks.speed import PYTHON, TEXT_CHARS
from benchmarks.texts import Texts

SLOTS = 16
CALL_S = 0.32
CALL_TEXTS = 100
MIDDLE = (0.2, 0.8)
LATENCY = ("--latency-ms", 300, "--jitter-ms", 100, "--slow-share", 0.01, "--slow-ms", 2000)


def used(folder: Path, source: Path, dim: int) -> tuple[float, float]:
    """The share of slots in use, as looks at the emulator find it; and by calls and latency."""
    with emulator("--canned", *LATENCY) as server:
        cost_of([
            PYTHON, "-m", "bulkembed", "run", "--input", source, "--output", folder / f"out-{dim}",
            "--base-url", server.url, "--dim", dim, "--rpm", 0, "--tpm", 0, "--rpd", 0,
            "--log-level", "error",
        ])  # fmt: skip
        stats = server.stats()
        first, took = stats["first_counted_s"], stats["last_counted_s"] - stats["first_counted_s"]
        begin, end = (first + part * took for part in MIDDLE)
        looks = [one["in_flight"] for one in server.looks if begin <= one["at_s"] < end]
        since, until = int(MIDDLE[0] * took), int(MIDDLE[1] * took)
        calls = server.texts_between(since, until) / CALL_TEXTS
    return statistics.fmean(looks) / SLOTS, calls * CALL_S / ((until - since) * SLOTS)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="fewer rows")
    rows = 60_000 if parser.parse_args().small else 150_000
    held = True
    with tempfile.TemporaryDirectory(prefix="bench-slots-") as name:
        folder = Path(name)
        source = Texts(folder).write_short("slots", rows, TEXT_CHARS)
        for dim in (768, 3072):
            seen, counted = used(folder, source, dim)
            print(f"{dim} dims: {seen:.2f} of the slots in use (calls x latency: {counted:.2f})")
            # At 3,072 dims the emulator, the job and whatever else share the machine's cores.
            held &= dim != 768 or seen >= 0.9
    sys.exit(not held)


if __name__ == "__main__":
    main()
