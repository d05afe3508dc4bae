"""The cost of each command over inputs of different sizes, and how fast it grows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.children import WITH_BYTECODE, Cost, cost_of
from benchmarks.speed import PYTHON, remove
from bulkembed.pipeline.run.early_units import early_rows

FILES = 200
DIM = 8
"""Tiny: the vectors are not what is measured."""
SAMPLE_ROWS = 10_000
START_ROWS = 10_000
"""So few that a command over them needs what it needs to start."""
NOISE_S = 2
"""CPU seconds that differ from run to run."""
MAX_MB = 600
MAX_POWER = 1.1
"""What is wanted of each command, and a little noise."""
FIRST = "run until its first request"
FIRST_OF_REST = "run until the first request after its early units"
"""Their vectors are made in the process, while it searches the texts of the rest."""


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """What a command cost over some rows, and the size of the input."""

    name: str
    rows: int
    input_mb: float
    cost: Cost

    def cells(self) -> list[str]:
        """Return the cells of its line in the table."""
        cost = self.cost
        each = cost.cpu_s / self.rows * 1e6
        numbers = [f"{cost.wall_s:.1f}", f"{cost.cpu_s:.1f}", f"{each:.2f}", f"{cost.peak_mb:.0f}"]
        return [self.name, f"{self.rows / 1e6:g}", *numbers]


def write_input(folder: Path, rows: int) -> float:
    """Write the files, of distinct texts of 30 bytes, and return their size in MB."""
    folder.mkdir(parents=True)
    for file in range(FILES):
        ids = np.arange(rows * file // FILES, rows * (file + 1) // FILES)
        numbers = pc.utf8_lpad(pa.array(ids).cast(pa.string()), 10, "0")
        texts = pc.binary_join_element_wise("a short text number ", numbers, "")
        path = folder / f"f{file:03d}.parquet"
        pq.write_table(pa.table({"id": ids, "text": texts}), path, compression="zstd")
    return sum(one.stat().st_size for one in folder.iterdir()) / 1e6


def measure(folder: Path, rows: int, *, whole: bool) -> Iterator[Measured]:
    """Yield the cost of each command over an input of some rows.

    Args:
        folder: where the input and the dataset are made; removed at the end.
        rows: of the input.
        whole: whether to make the dataset, and to measure the commands that need it.
    """
    source, output, unused = folder / "in", folder / "out", folder / "unused"
    size_mb = write_input(source, rows)
    command = [PYTHON, "-m", "bulkembed"]
    inputs = ["--input", source, "--dim", DIM, "--rpm", 0, "--tpm", 0, "--rpd", 0]
    quiet = ["--log-level", "error", "--no-report", "--api-key-file", _key(folder)]

    def cost(name: str, *arguments: object) -> Measured:
        return Measured(name, rows, size_mb, cost_of(arguments, WITH_BYTECODE))

    yield cost(
        f"estimate --sample {SAMPLE_ROWS}", *command, "estimate", *inputs, "--sample", SAMPLE_ROWS
    )
    run = ["run", *inputs, *quiet, "--output"]
    first = [PYTHON, "-m", "benchmarks.first_call"]
    yield cost(FIRST, *first, *run, unused)
    yield cost(f"{FIRST}, --dedupe unit", *first, *run, folder / "unused2", "--dedupe", "unit")
    yield cost(FIRST_OF_REST, *first, early_rows(rows, 0), *run, folder / "unused3")
    if whole:
        yield cost(
            "run, without HTTP and JSON", PYTHON, "-m", "benchmarks.ready_vectors", *run, output
        )
        yield cost("run again, nothing to do", *command, *run, output)
        yield cost("status", *command, "status", output)
        yield cost("verify", *command, "verify", output)
        yield cost("verify --against", *command, "verify", output, "--against", source)
    remove(folder)


def _key(folder: Path) -> Path:
    path = folder / "key"
    path.write_text("benchmark")
    path.chmod(0o600)
    return path


def reads(start: Measured, most: Measured) -> float:
    """Return the bytes that a command reads per byte of the input, beside those at its start.

    Its own temporary files and those of the dataset count too.
    """
    return (most.cost.read_mb - start.cost.read_mb) / (most.input_mb - start.input_mb)


def slope(start: Measured, measured: Sequence[Measured]) -> float | None:
    """Return the power of the rows with which the CPU seconds of a command grow.

    It is fitted over all sizes, without what the command needs for a few rows. None if there is
    one size, or if the rows hardly matter.

    Args:
        start: of the command over a few rows.
        measured: the command over inputs of different sizes.
    """
    rows = np.array([one.rows for one in measured], float)
    cpu_s = np.array([one.cost.cpu_s - start.cost.cpu_s for one in measured])
    if len(measured) < 2 or cpu_s.max() < NOISE_S:
        return None
    return float(np.polyfit(np.log(rows), np.log(np.maximum(cpu_s, NOISE_S / 10)), 1)[0])
