"""The cost of nights over a large catalogue: the first one, one with nothing to do, a changed one.

    python -m benchmarks.nightly [--small] [--rows N] [--dim N] [--changed PERCENT] [--ready]
        [--sync]

The rows are synthetic, and the emulator answers with ready-made bodies.  In the changed night all
files have other names and other sizes, all rows another order, and some of them another text.
With --sync the dataset mirrors its input by id; else the changed night has --prune.
Reads count what processes read from files, cached or not.  With --ready
the first night makes its vectors in the job, see `ready_vectors`.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.children import Cost, cost_of
from benchmarks.processes import Emulator, emulator
from benchmarks.speed import PYTHON

FILE_ROWS = 250_000
GROUP_ROWS = 50_000
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("shop", pa.string())])
Numbers = npt.NDArray[np.int64]


def texts(numbers: Numbers, edited: npt.NDArray[np.bool_]) -> pa.Array:
    """Return a text of about 50 characters for each number."""
    first = pa.array(numbers).cast(pa.string())
    second = pa.array(numbers * 7919 % 100_003).cast(pa.string())
    ends = pa.array(np.where(edited, ", now edited", ", as it was"))
    return pc.binary_join_element_wise("product", first, "of the range", second, ends, " ")


def chunks(order: Numbers, sizes: Sequence[int]) -> Iterator[Numbers]:
    """Yield consecutive pieces of these sizes."""
    yield from np.split(order, np.cumsum(sizes)[:-1])


def export(folder: Path, name: str, order: Numbers, edited: Numbers, sizes: Sequence[int]) -> None:
    """Replace the input by files with the rows in an order."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, ids in enumerate(chunks(order, sizes)):
        shops = pa.array(ids % 17).cast(pa.string())
        changed = np.isin(ids, edited, assume_unique=True)
        table = pa.table([pa.array(ids), texts(ids, changed), shops], schema=SCHEMA)
        path = folder / f"{name}-{number:05}.parquet"
        pq.write_table(table, path, row_group_size=GROUP_ROWS, compression="zstd")


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """What a night cost, and the texts that it sent."""

    name: str
    cost: Cost
    texts: int


@dataclasses.dataclass(frozen=True)
class Nights:
    """The nights of one dataset."""

    folder: Path
    server: Emulator
    dim: int
    flags: tuple[object, ...]

    def run(self, name: str, *flags: object, module: str = "bulkembed") -> Figures:
        """Start the job and measure it.

        Raises:
            RuntimeError: it failed.
        """
        before = self.server.stats()["texts"]
        cost = cost_of([
            PYTHON, "-m", module, "run", "--input", self.folder / "in",
            "--output", self.folder / "out", "--base-url", self.server.url, "--dim", self.dim,
            "--keep-columns", "shop", "--rpm", 0, "--tpm", 0, "--rpd", 0, "--log-level", "error",
            *self.flags, *flags,
        ])  # fmt: skip
        found = Figures(name, cost, self.server.stats()["texts"] - before)
        print(found, file=sys.stderr, flush=True)
        return found


def play(nights: Nights, rows: int, changed: int, *, ready: bool, sync: bool) -> Iterator[Figures]:
    """Yield the figures of each night."""
    source = nights.folder / "in"
    draw = np.random.default_rng(1)
    nobody: Numbers = np.empty(0, np.int64)
    whole, rest = divmod(rows, FILE_ROWS)
    sizes = [FILE_ROWS] * whole + ([rest] if rest else [])
    export(source, "first", np.arange(rows), nobody, sizes)
    if ready:
        yield nights.run("first night, vectors made in the job", module="benchmarks.ready_vectors")
    else:
        yield nights.run("first night")
    yield nights.run("nothing to do")
    order = draw.permutation(rows)
    edited = draw.choice(rows, changed, replace=False)
    export(source, "second", order, edited, [size + 7 for size in sizes[:-1]])
    name = f"{changed:,} rows edited, shuffled"
    yield nights.run(name, *(() if sync else ("--prune",)))
    yield nights.run("nothing to do")


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--small", action="store_true", help="300,000 rows")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--changed", type=float, default=1.0, help="percent of the rows")
    parser.add_argument("--ready", action="store_true", help="send nothing in the first night")
    parser.add_argument("--sync", action="store_true", help="mirror the input by id")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the datasets are made")
    args = parser.parse_args()
    rows = 300_000 if args.small else args.rows
    table = Table(
        "night", "texts sent", "wall s", "CPU s", "peak MB", "read MB", "written MB",
        title=f"{rows:,} rows of {args.dim} dimensions",
    )  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="bench-nightly-", dir=args.folder) as folder,
        emulator("--canned") as server,
    ):
        flags = ("--workers", args.workers, *(("--sync",) if args.sync else ()))
        nights = Nights(Path(folder), server, args.dim, flags)
        changed = round(rows * args.changed / 100)
        for found in play(nights, rows, changed, ready=args.ready, sync=args.sync):
            cost = found.cost
            table.add_row(
                found.name, f"{found.texts:,}", f"{cost.wall_s:,.1f}", f"{cost.cpu_s:,.1f}",
                f"{cost.peak_mb:,.0f}", f"{cost.read_mb:,.0f}", f"{cost.written_mb:,.0f}",
            )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    main()
