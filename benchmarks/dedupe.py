"""The cost of finding texts that occur in more than one unit.

    python -m benchmarks.dedupe [--small]

Measures the search that `--dedupe run` makes before it sends anything, over short texts of which
11 % are duplicates, in Parquet and JSONL with a column of 200 bytes that is not read. Nothing is
sent. Then measures the index of kept answers, in which units look up their texts.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from bulkembed.pipeline.run.plan import make_plan
from bulkembed.pipeline.run.scans import scan_inputs
from bulkembed.pipeline.run.sharing import find_sharing
from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import CallSettings, JobConfig, OutputConfig
from bulkembed.transforms.core.hashing import HASH_BYTES
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.kept_answers import KeptAnswers, shared_writer
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.inputs.columns import merge_schemas

REPEATED = 0.11
TIMES = 3
INDEX_TEXTS = 100_000


def inputs(folder: Path, rows: int) -> list[Path]:
    """Write the same rows as Parquet and as JSONL."""
    draw = random.Random(1)
    words = [f"word{n}" for n in range(5000)]
    first = int(rows * (1 - REPEATED))
    texts = [f"{n} " + " ".join(draw.choices(words, k=draw.randint(5, 30))) for n in range(first)]
    texts += draw.choices(texts, k=rows - first)
    draw.shuffle(texts)
    more = "x" * 200
    pq.write_table(
        pa.table({"id": range(rows), "text": texts, "more": [more] * rows}), folder / "a.parquet"
    )
    with (folder / "a.jsonl").open("w") as file:
        for n, text in enumerate(texts):
            file.write(json.dumps({"id": n, "text": text, "more": more}) + "\n")
    return [folder / "a.parquet", folder / "a.jsonl"]


def search(path: Path, output: Path) -> tuple[Callable[[], int], int]:
    """Return the search over one file, which counts the texts to send first, and the rows."""
    dataset = Dataset.open(str(output))
    columns = InputColumns()
    scans = scan_inputs(dataset, [str(path)], columns)
    job = make_job(output, columns, merge_schemas(scans.files, columns))
    plan = make_plan(scans.inputs, DatasetState(), 2500)
    found = functools.partial(find_sharing, dataset, job, plan, DatasetState(), output, keep=False)
    return lambda: found().texts, plan.rows


def make_job(output: Path, columns: InputColumns, schema: pa.Schema) -> JobConfig:
    """Return a run over one file."""
    return JobConfig(
        run_id="bench",
        service=ServiceConfig(),
        calls=CallSettings(),
        embedding=EmbeddingConfig(service="emulator", model="gemini-embedding-001"),
        columns=columns,
        row_schema=schema,
        output=OutputConfig(uri=str(output)),
    )


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Return wall and CPU seconds, as medians of several runs."""
    took = []
    for _ in range(TIMES):
        clock, cpu = time.perf_counter(), time.process_time()
        work()
        took.append((time.perf_counter() - clock, time.process_time() - cpu))
    return statistics.median(t for t, _ in took), statistics.median(t for _, t in took)


def peak_bytes(work: Callable[[], Any]) -> int:
    """Return the peak memory of the work, as Python and numpy count it."""
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def index_bytes(folder: Path) -> float:
    """Return the bytes of memory that a text takes in the index of kept answers."""
    job = make_job(folder / "index", InputColumns(), pa.schema([]))
    dataset = Dataset.open(job.output.uri)
    writer = shared_writer(dataset, job, "a")
    joined = np.random.default_rng(1).bytes(HASH_BYTES * INDEX_TEXTS)
    for start in range(0, INDEX_TEXTS, 100):
        places = range(HASH_BYTES * start, HASH_BYTES * (start + 100), HASH_BYTES)
        hashes = [joined[place : place + HASH_BYTES] for place in places]
        writer.append(hashes, np.ones((100, 4), np.float32), [False] * 100)
    writer.close()
    tracemalloc.start()
    answers = KeptAnswers(dataset, job)
    answers.refresh()
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return allocated / len(answers)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="fewer rows")
    rows = 100_000 if parser.parse_args().small else 1_000_000
    table = Table("input", "rows", "sent first", "rows/s", "rows/CPU s", "peak bytes per row")
    with tempfile.TemporaryDirectory(prefix="bench-dedupe-") as name:
        folder = Path(name)
        for path in inputs(folder, rows):
            work, found = search(path, folder / "out")
            clock, cpu = timed(work)
            table.add_row(
                path.suffix[1:],
                f"{found:,}",
                f"{work():,}",
                f"{found / clock:,.0f}",
                f"{found / cpu:,.0f}",
                f"{peak_bytes(work) / found:.0f}",
            )
        per_text = index_bytes(folder)
    Console().print(table)
    print(f"the index of kept answers takes {per_text:.0f} bytes per text")


if __name__ == "__main__":
    main()
