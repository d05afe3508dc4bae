"""The cost of nights over a large catalogue: the first one, one with nothing to do, a changed one.

    python -m benchmarks.nightly [--small] [--rows N] [--dim N] [--changed PERCENT] [--ready]
        [--sync] [--store] [--unit-rows N]

The rows are synthetic, and the emulator answers with ready-made bodies. In the changed night all
files have other names and other sizes, all rows another order, and some of them another text.
With --sync the dataset mirrors its input by id; else the changed night has --prune.
Reads count what processes read from files, cached or not. With --ready
the first night makes its vectors in the job, see `ready_vectors`. With --store the dataset is on
an object store, whose requests are counted; the input stays on the disk.
"""

from __future__ import annotations

import argparse
import contextlib
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
from benchmarks.counted_store import BUCKET, CountedStore, Requests, counted_store
from benchmarks.processes import Emulator, emulator
from benchmarks.speed import PYTHON

FILE_ROWS = 250_000
GROUP_ROWS = 50_000
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("shop", pa.string())])
KINDS = ("GET", "HEAD", "PUT", "LIST", "DELETE")
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
    requests: Requests | None
    """To the store, if there is one."""


@dataclasses.dataclass(frozen=True)
class Nights:
    """The nights of one dataset."""

    folder: Path
    server: Emulator
    dim: int
    flags: tuple[object, ...]
    store: CountedStore | None = None

    @property
    def output(self) -> str:
        """The dataset."""
        return str(self.folder / "out") if self.store is None else f"s3://{BUCKET}/out"

    def run(self, name: str, *flags: object, module: str = "bulkembed") -> Figures:
        """Start the job and measure it.

        Raises:
            RuntimeError: it failed.
        """
        before = self.server.stats()["texts"]
        cost = cost_of([
            PYTHON, "-m", module, "run", "--input", self.folder / "in",
            "--output", self.output, "--base-url", self.server.url, "--dim", self.dim,
            "--keep-columns", "shop", "--rpm", 0, "--tpm", 0, "--rpd", 0, "--log-level", "error",
            *self.flags, *flags,
        ], None if self.store is None else self.store.environ)  # fmt: skip
        requests = None if self.store is None else self.store.take()
        found = Figures(name, cost, self.server.stats()["texts"] - before, requests)
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


def tables(found: Sequence[Figures], title: str) -> Iterator[Table]:
    """Yield the costs of the nights, and their requests if there were any."""
    table = Table(
        "night", "texts sent", "wall s", "CPU s", "peak MB", "read MB", "written MB", title=title
    )
    for one in found:
        cost = one.cost
        table.add_row(
            one.name, f"{one.texts:,}", f"{cost.wall_s:,.1f}", f"{cost.cpu_s:,.1f}",
            f"{cost.peak_mb:,.0f}", f"{cost.read_mb:,.0f}", f"{cost.written_mb:,.0f}",
        )  # fmt: skip
    yield table
    if found[0].requests is None:
        return
    requests = Table(
        "night", *KINDS, "read MB", "of parts", "reads of a part's vectors",
        title="requests to the store",
    )  # fmt: skip
    for one in found:
        assert one.requests is not None
        counts = [f"{one.requests.kinds.get(kind, 0):,}" for kind in KINDS]
        sizes = (one.requests.read_bytes / 1e6, one.requests.part_bytes / 1e6)
        most = f"at most {one.requests.vector_reads}"
        requests.add_row(one.name, *counts, *(f"{size:,.1f}" for size in sizes), most)
    yield requests


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--small", action="store_true", help="300,000 rows")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--changed", type=float, default=1.0, help="percent of the rows")
    parser.add_argument("--ready", action="store_true", help="send nothing in the first night")
    parser.add_argument("--sync", action="store_true", help="mirror the input by id")
    parser.add_argument("--store", action="store_true", help="count requests to an object store")
    parser.add_argument("--unit-rows", type=int, default=2500)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the datasets are made")
    args = parser.parse_args()
    rows = 300_000 if args.small else args.rows
    with (
        tempfile.TemporaryDirectory(prefix="bench-nightly-", dir=args.folder) as folder,
        emulator("--canned") as server,
        contextlib.ExitStack() as stack,
    ):
        store = stack.enter_context(counted_store()) if args.store else None
        flags = ("--workers", args.workers, "--unit-rows", args.unit_rows)
        flags += ("--sync",) if args.sync else ()
        nights = Nights(Path(folder), server, args.dim, flags, store)
        changed = round(rows * args.changed / 100)
        found = list(play(nights, rows, changed, ready=args.ready, sync=args.sync))
    console = Console(width=None if sys.stdout.isatty() else 130)
    for table in tables(found, f"{rows:,} rows of {args.dim} dimensions"):
        console.print(table)


if __name__ == "__main__":
    main()
