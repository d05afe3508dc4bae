"""What the form of answers costs: compressed or not, JSON or protobuf, on a fast and a slow line.

    python -m benchmarks.wire [--small] [--repeat 3]

CPU seconds are those of the job, without start-up, the emulator and the line.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
import tempfile
from pathlib import Path

import httpx2
from rich.console import Console
from rich.table import Table

from benchmarks.processes import emulator, server_of
from benchmarks.speed import LATENCY_MS, PYTHON, SERVERS, Bench, Client, Figures

DIM = 3072
SLOW_MBIT_PER_S = 100
SLOW_PART = 0.2
"""The share of the rows that is sent over the slow line."""
CALL_TEXTS = 100
MODEL = "gemini-embedding-001"
JOB = (PYTHON, "-m", "bulkembed", "run")
OFF = ("--compression", "off")
PROTO = ("--wire", "proto")
CLIENTS = (
    Client("JSON, compressed", JOB),
    Client("JSON", JOB, arguments=OFF),
    Client("indented JSON, compressed", JOB, server="indented"),
    Client("indented JSON", JOB, arguments=OFF, server="indented"),
    Client("protobuf", JOB, arguments=PROTO),
)


def row_bytes(url: str, client: Client) -> float:
    """Return the bytes of a row of an answer as it is sent."""
    is_proto = "proto" in client.arguments
    query = "alt=proto" if is_proto else "prettyPrint=false"
    one = {
        "model": f"models/{MODEL}",
        "content": {"parts": [{"text": "text"}]},
        "outputDimensionality": DIM,
    }
    encoding = "identity" if is_proto or "off" in client.arguments else "gzip"
    answer = httpx2.post(
        f"{url}/v1beta/models/{MODEL}:batchEmbedContents?{query}",
        json={"requests": [one] * CALL_TEXTS},
        headers={"x-goog-api-key": "k", "accept-encoding": encoding},
        timeout=60,
    )
    answer.raise_for_status()
    return int(answer.headers["content-length"]) / CALL_TEXTS


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="fewer rows")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, for the median")
    args = parser.parse_args()
    rows = 10_000 if args.small else 40_000
    with contextlib.ExitStack() as stack:
        bench = Bench(Path(stack.enter_context(tempfile.TemporaryDirectory())), rows)
        urls = {
            name: stack.enter_context(
                emulator("--canned", "--latency-ms", LATENCY_MS, *options)
            ).url
            for name, options in SERVERS.items()
        }
        slow = {
            name: stack.enter_context(server_of("slow_line", url, SLOW_MBIT_PER_S))
            for name, url in urls.items()
        }
        lines = {"loopback": urls, f"{SLOW_MBIT_PER_S} Mbit/s": slow}
        table = Table(
            "line", "answers", "bytes per row", "rows/s", "CPU s / 1,000 rows",
            title=f"{DIM} dimensions",
        )  # fmt: skip
        found: dict[tuple[str, str], list[Figures]] = {}
        for _ in range(args.repeat):
            for line, client in ((line, client) for line in lines for client in CLIENTS):
                part = 1.0 if line == "loopback" else SLOW_PART
                one = bench.figures(
                    dataclasses.replace(client, part=part), lines[line][client.server], DIM
                )
                found.setdefault((line, client.name), []).append(one)
                print(f"{line} {client.name:30} {one}", file=sys.stderr, flush=True)
        for (line, name), many in found.items():
            client = next(one for one in CLIENTS if one.name == name)
            table.add_row(
                line, name, f"{row_bytes(urls[client.server], client):,.0f}",
                f"{statistics.median(one.rows_per_s for one in many):,.0f}",
                f"{statistics.median(one.cpu_s for one in many):.3f}",
            )  # fmt: skip
        Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main()
