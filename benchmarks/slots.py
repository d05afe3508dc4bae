"""How many of the 16 request slots are in use in the middle of a run.

    python -m benchmarks.slots [--small]

The emulator's requests take 300 ms ± 100 ms, and one in a hundred 2 s more. A slot is in use from
the arrival of the request at the emulator until it sends the response. Exits with 1 below 0.9.
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
    """Return the share of slots in use, by samples of the emulator and by requests and latency."""
    with emulator("--canned", *LATENCY) as server:
        cost_of([
            PYTHON, "-m", "bulkembed", "run", "--input", source, "--output", folder / f"out-{dim}",
            "--base-url", server.url, "--dim", dim, "--rpm", 0, "--tpm", 0, "--rpd", 0,
            "--log-level", "error",
        ])  # fmt: skip
        stats = server.stats()
        first, took = stats["first_counted_s"], stats["last_counted_s"] - stats["first_counted_s"]
        begin, end = (first + part * took for part in MIDDLE)
        samples = [one["in_flight"] for one in server.samples if begin <= one["at_s"] < end]
        since, until = int(MIDDLE[0] * took), int(MIDDLE[1] * took)
        calls = server.texts_between(since, until) / CALL_TEXTS
    return statistics.fmean(samples) / SLOTS, calls * CALL_S / ((until - since) * SLOTS)


def main() -> None:
    """Run the benchmark and print its result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="fewer rows")
    rows = 60_000 if parser.parse_args().small else 150_000
    passed = True
    with tempfile.TemporaryDirectory(prefix="bench-slots-") as name:
        folder = Path(name)
        source = Texts(folder).write_short("slots", rows, TEXT_CHARS)
        for dim in (768, 3072):
            sampled, counted = used(folder, source, dim)
            print(
                f"{dim} dimensions: {sampled:.2f} of the slots (requests x latency: {counted:.2f})"
            )
            # At 3,072 dimensions the cores that the emulator and the job share are the limit.
            passed &= dim != 768 or sampled >= 0.9
    sys.exit(not passed)


if __name__ == "__main__":
    main()
