"""Compare the cost of a thousand rows with bulkembed and with others, on one emulator.

    python -m benchmarks.speed [--small] [--repeat 3] [--only "job;sdk"] [--peers PYTHON]

Each client runs twice, over a few rows and over many. The difference is the cost of the rows,
without start-up. With --repeat the clients take turns, and the table has medians.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.children import ROOT, Cost, cost_of
from benchmarks.processes import emulator, server_of
from benchmarks.texts import Texts

TINY_ROWS = 100
UNIT_ROWS = 2_500
MAX_WORKERS = 2
"""The few rows make a unit for each of that many workers, so that all of them start up."""
LATENCY_MS = 50
MAX_PART = 4
"""A client has at most so many times the rows of `--rows`."""
SERVERS = {"google": (), "indented": ("--pretty",)}
"""The emulator as it is, and one that ignores `prettyPrint=false`."""
READY = "ready"
"""The first of them behind a server of ready-made answers, see `ready_server`."""
REACHES = (
    ("indented JSON, to compact JSON", "job, indented answers", "job, no compression", None),
    ("the job, to the SDK script", "job, 1 worker", "sdk script, nested lists", 0.20),
    ("protobuf, to JSON", "job, protobuf", "job, 1 worker", 0.50),
    ("protobuf, to JSON without compression", "job, protobuf", "job, no compression", 0.50),
    ("2 workers, to 1", "ready answers, 2 workers", "ready answers, 1 worker", 1.10),
)
"""Ratios of CPU seconds: their name, two clients, and the most that is wanted."""
SPEED_UP = ("2 workers, to 1", "ready answers, 2 workers", "ready answers, 1 worker", 1.5)
"""A ratio of rows per second, and the least that is wanted. It needs a quiet machine."""
PYTHON = sys.executable
TEXT_CHARS = 400
"""Maximum length of a text; the docstrings then have 143 characters on average."""


@dataclasses.dataclass(frozen=True, slots=True)
class Client:
    """A measured program: its command, and its rows as a ratio to those of the job."""

    name: str
    command: tuple[str, ...]
    part: float = 2.0
    arguments: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()
    server: str = "google"
    """One of SERVERS, or READY."""

    @property
    def is_job(self) -> bool:
        """Whether it is `bulkembed run`."""
        return self.command[-1] == "run"

    def line(self, url: str, source: Path, output: Path, dim: int, rows: int) -> list[object]:
        """Return the command to run."""
        if not self.is_job:
            return [*self.command, url, source, output, dim, rows, *self.arguments]
        return [
            *self.command, "--input", source, "--output", output, "--base-url", url, "--dim", dim,
            "--limit-rows", rows, "--unit-rows", min(UNIT_ROWS, rows // MAX_WORKERS),
            "--rpm", 0, "--tpm", 0, "--rpd", 0, "--log-level", "error", *self.arguments,
        ]  # fmt: skip


def clients(peers: str | None) -> list[Client]:
    """Return all clients."""
    job = (PYTHON, "-m", "bulkembed", "run")
    plain = ("--compression", "off")
    two = ("--workers", "2")
    found = [
        Client("job, 1 worker", job),
        Client("job, no compression", job, arguments=plain),
        Client("job, indented answers", job, arguments=plain, server="indented"),
        Client("job, protobuf", job, arguments=("--wire", "proto")),
        Client("job, 2 workers", job, arguments=two),
        Client("ready answers, 1 worker", job, 4.0, server=READY),
        Client("ready answers, 2 workers", job, 4.0, two, server=READY),
        Client("job, plain decode", job, environ=(("BULKEMBED_PLAIN_DECODE", "1"),)),
        Client("sdk script, nested lists", _script("sdk"), 0.3, ("nested",)),
        Client("sdk script, Content objects", _script("sdk"), 0.3, ("contents",)),
        Client("Beam RunInference, repaired", _script("beam"), 0.15),
        Client("bare sockets (what is served)", _script("wire"), 2.0),
    ]
    if peers is not None:
        llama = (peers, str(ROOT / "benchmarks" / "speed_llama.py"))
        found.insert(-1, Client("LlamaIndex, 16 async calls", llama, 0.3))
    return found


def _script(name: str) -> tuple[str, ...]:
    return PYTHON, "-m", f"benchmarks.speed_{name}"


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """The cost of the rows of one run."""

    rows_per_s: float
    cpu_s: float
    """For a thousand rows, without start-up."""
    peak_mb: float
    start_s: float


class Bench:
    """Runs clients over one input."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._folder = folder
        self._rows = rows
        self._numbers = itertools.count()
        self._source = Texts(folder).write_short("speed", MAX_PART * rows, TEXT_CHARS)

    def figures(self, client: Client, url: str, dim: int) -> Figures:
        """Run a client over a few rows, for its start-up, and over its share of the rows."""
        tiny = self._run(client, url, dim, TINY_ROWS)
        rows = int(self._rows * client.part) // TINY_ROWS * TINY_ROWS
        cost = self._run(client, url, dim, rows)
        more = (rows - TINY_ROWS) / 1000
        return Figures(
            1000 * more / max(0.01, cost.wall_s - tiny.wall_s),
            (cost.cpu_s - tiny.cpu_s) / more,
            cost.peak_mb,
            tiny.wall_s,
        )

    def _run(self, client: Client, url: str, dim: int, rows: int) -> Cost:
        output = self._folder / f"out-{next(self._numbers)}"
        environ = {"XDG_CACHE_HOME": str(self._folder / "cache"), **dict(client.environ)}
        try:
            return cost_of(client.line(url, self._source, output, dim, rows), environ)
        finally:
            remove(output)


def remove(output: Path) -> None:
    """Delete what a run wrote: a folder, a file, or Beam's shards with that prefix."""
    for found in output.parent.glob(f"{output.name}*"):
        inside = sorted(found.rglob("*"), reverse=True) if found.is_dir() else []
        for one in [*inside, found]:
            one.rmdir() if one.is_dir() else one.unlink()


def measure(bench: Bench, chosen: Sequence[Client], dim: int, repeat: int) -> dict[str, Figures]:
    """Return the median figures of each client; the clients take turns."""
    measured: dict[str, list[Figures]] = {client.name: [] for client in chosen}
    with contextlib.ExitStack() as stack:
        urls = {
            name: stack.enter_context(
                emulator("--canned", "--latency-ms", LATENCY_MS, *SERVERS[name])
            ).url
            for name in sorted({"google", *(client.server for client in chosen)} - {READY})
        }
        urls[READY] = stack.enter_context(server_of("ready_server", urls["google"], LATENCY_MS))
        for _ in range(repeat):
            for client in chosen:
                found = bench.figures(client, urls[client.server], dim)
                measured[client.name].append(found)
                print(f"{dim} {client.name:30} {found}", file=sys.stderr, flush=True)
    return {
        name: Figures(*map(statistics.median, zip(*map(dataclasses.astuple, many), strict=True)))
        for name, many in measured.items()
    }


def show(title: str, found: dict[str, Figures]) -> None:
    """Print one table, which compares all clients with the SDK script."""
    table = Table(
        "client", "rows/s", "CPU s / 1,000 rows", "ratio to SDK script", "peak MB", "start-up s",
        title=title,
    )  # fmt: skip
    base = found.get("sdk script, nested lists")
    for name, one in found.items():
        share = f"{one.cpu_s / base.cpu_s:.2f}" if base else ""
        table.add_row(
            name, f"{one.rows_per_s:,.0f}", f"{one.cpu_s:.3f}", share, f"{one.peak_mb:,.0f}",
            f"{one.start_s:.1f}",
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def show_reaches(found: dict[str, Figures]) -> None:
    """Print the ratios that have targets."""
    table = Table("CPU seconds per row", "ratio", "target", title="3,072 dimensions")
    for name, one, other, target in REACHES:
        if one in found and other in found:
            ratio = found[one].cpu_s / found[other].cpu_s
            table.add_row(name, f"{ratio:.2f}", "" if target is None else f"at most {target:.2f}")
    name, one, other, least = SPEED_UP
    if one in found and other in found:
        ratio = found[one].rows_per_s / found[other].rows_per_s
        table.add_row(f"{name}, rows per second", f"{ratio:.2f}", f"at least {least:.2f}")
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--small", action="store_true", help="3,072 dimensions only, and fewer rows"
    )
    parser.add_argument("--rows", type=int, help="rows of the job; others get a share of them")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, for the median")
    parser.add_argument("--only", default="", help="prefixes of client names, separated by ;")
    parser.add_argument("--peers", help="Python of an environment with LlamaIndex")
    args = parser.parse_args()
    names = tuple(filter(None, args.only.split(";")))
    chosen = [one for one in clients(args.peers) if not names or one.name.startswith(names)]
    with tempfile.TemporaryDirectory(prefix="bench-speed-") as folder:
        for dim in (3072,) if args.small else (3072, 768):
            bench = Bench(Path(folder), args.rows or (8_000 if args.small else 20_000))
            found = measure(bench, chosen, dim, args.repeat)
            show(f"{dim} dimensions, {LATENCY_MS} ms per request", found)
            if dim == 3072:
                show_reaches(found)


if __name__ == "__main__":
    main()
