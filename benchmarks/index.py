"""The cost of the index of text hashes, and of the search for texts that repeat, at any size.

    python -m benchmarks.index [--small]

Writes parts with the hashes of 10 million texts, and builds their index, opens it again after one
part was replaced, looks texts up, and searches one unit with one changed row. Then searches 50
million texts, of which a fifth is in the index and a tenth occurs twice, as `--dedupe run` does
before it sends anything. Nothing is sent. Each measurement is a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from bulkembed.pipeline.run.plan import make_plan
from bulkembed.pipeline.run.scans import scan_inputs
from bulkembed.pipeline.run.text_search import search_texts
from bulkembed.schemas.embedding import EmbeddingConfig, ServiceConfig
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.job import CallSettings, JobConfig, OutputConfig
from bulkembed.schemas.output_schema import TEXT_HASH_TYPE
from bulkembed.transforms.core.content import sent_hash
from bulkembed.transforms.core.hashing import keys
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.hash_index import HashIndex
from bulkembed.transforms.dataset.part_files import part_writer
from bulkembed.transforms.dataset.records import DatasetState
from bulkembed.transforms.inputs.columns import merge_schemas

PART_ROWS = 2_500
FILE_ROWS = 500_000
REPEATED = 0.1
KNOWN = 0.2
EMBEDDING = EmbeddingConfig(service="emulator", model="gemini-embedding-001")
SAMPLE_EVERY_S = 0.2


def hashes_of(numbers: np.ndarray) -> list[bytes]:
    """Return the hashes of texts by their numbers."""
    return [sent_hash(EMBEDDING, None, f"text number {n}") for n in numbers.tolist()]


def write_parts(folder: Path, rows: int) -> None:
    """Write parts with the hashes of the texts 0 to `rows`."""
    (folder / "vectors").mkdir(parents=True)
    for start in range(0, rows, PART_ROWS):
        write_part(folder, start // PART_ROWS, np.arange(start, start + PART_ROWS))


def write_part(folder: Path, number: int, texts: np.ndarray) -> None:
    """Write one part."""
    table = pa.table({"text_hash": pa.array(hashes_of(texts), TEXT_HASH_TYPE), "id": texts})
    with pa.OSFile(str(folder / f"vectors/part-{number:06d}.parquet"), "wb") as file:
        part_writer(table)(file)


def write_inputs(folder: Path, rows: int, known: int) -> None:
    """Write texts in Parquet files, in a random order; the first `known` numbers are known."""
    folder.mkdir()
    draw = np.random.default_rng(1)
    distinct = int(rows * (1 - REPEATED))
    numbers = np.concatenate([np.arange(distinct), draw.integers(0, distinct, rows - distinct)])
    draw.shuffle(numbers)
    # So that KNOWN of the texts are known, whatever the number of rows.
    shift = max(0, known - int(distinct * KNOWN))
    for start in range(0, rows, FILE_ROWS):
        some = pa.array(numbers[start : start + FILE_ROWS] + shift).cast(pa.string())
        texts = pc.binary_join_element_wise("text number", some, " ")
        ids = np.arange(start, start + len(texts))
        path = folder / f"{start // FILE_ROWS:04d}.parquet"
        pq.write_table(pa.table({"id": ids, "text": texts}), path, use_dictionary=False)


def write_changed_unit(folder: Path, known: int) -> None:
    """Write a file of one unit in which one text has changed; the first `known` texts are known."""
    folder.mkdir()
    numbers = np.random.default_rng(3).choice(known, PART_ROWS, replace=False)
    numbers[PART_ROWS // 2] = known + PART_ROWS
    texts = [f"text number {number}" for number in numbers.tolist()]
    table = pa.table({"id": np.arange(PART_ROWS), "text": texts})
    pq.write_table(table, folder / "changed.parquet")


def make_job(output: Path, columns: InputColumns, schema: pa.Schema) -> JobConfig:
    """Return a run over the inputs."""
    return JobConfig(
        run_id="bench",
        service=ServiceConfig(),
        calls=CallSettings(),
        embedding=EMBEDDING,
        columns=columns,
        row_schema=schema,
        output=OutputConfig(uri=str(output)),
    )


def open_index(folder: Path) -> HashIndex:
    """Open the index of the parts in a folder, as a run does that has its lock."""
    sizes = {f"vectors/{path.name}": path.stat().st_size for path in (folder / "vectors").iterdir()}
    dataset = Dataset.open(str(folder))
    return HashIndex(dataset, sizes, EMBEDDING.digest, folder, keep=True)


def measure_open(folder: Path) -> dict[str, float]:
    """Open the index, and count its entries."""
    started = time.perf_counter()
    index = open_index(folder)
    return {"s": time.perf_counter() - started, "rows": index.entries}


def measure_find(folder: Path, wanted: int) -> dict[str, float]:
    """Look up texts, of which half are known."""
    index = open_index(folder)
    rows = index.entries
    draw = np.random.default_rng(2)
    known = keys(hashes_of(draw.integers(0, rows, max(1, wanted // 2))))
    others = draw.integers(0, 2**64, wanted // 2, np.uint64)
    some = np.unique(np.concatenate([known, others]))
    started = time.perf_counter()
    found = index.find(some)
    return {"s": time.perf_counter() - started, "rows": len(some), "found": len(found.wanted)}


def measure_search(folder: Path, inputs: Path) -> dict[str, float]:
    """Search the texts of the inputs, by the index."""
    dataset = Dataset.open(str(folder))
    columns = InputColumns()
    scans = scan_inputs(dataset, [str(inputs)], columns)
    job = make_job(folder, columns, merge_schemas(scans.files, columns))
    plan = make_plan(scans.inputs, DatasetState(), PART_ROWS)
    with unnamed_bytes(folder) as disk:
        started = time.perf_counter()
        found = search_texts(job, plan, [open_index(folder)], folder)
        seconds = time.perf_counter() - started
    facts = {"shared": len(found.rows), "known": found.known_texts, "disk": max(disk)}
    return {"s": seconds, "rows": plan.rows, **facts}


@contextlib.contextmanager
def unnamed_bytes(folder: Path) -> Iterator[list[int]]:
    """Collect how many bytes this process has in files without names in a folder."""
    done, sizes = threading.Event(), [0]

    def sample() -> None:
        while not done.wait(SAMPLE_EVERY_S):
            total = 0
            for link in Path("/proc/self/fd").iterdir():
                with contextlib.suppress(OSError):
                    target = str(link.readlink())
                    if target.startswith(str(folder)) and target.endswith(" (deleted)"):
                        total += link.stat().st_size
            sizes.append(total)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield sizes
    finally:
        done.set()
        thread.join()


def apart(*args: object) -> dict[str, float]:
    """Measure in a process of its own; return also its CPU seconds and peak memory."""
    command = [sys.executable, "-m", "benchmarks.index", "--apart", *map(str, args)]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    found: dict[str, float] = json.loads(printed)
    return found


def run_apart(args: list[str]) -> dict[str, Any]:
    """Run one measurement in this process."""
    kind, folder = args[0], Path(args[1])
    if kind == "open":
        found = measure_open(folder)
    elif kind == "find":
        found = measure_find(folder, int(args[2]))
    else:
        found = measure_search(folder, Path(args[2]))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {**found, "cpu": used.ru_utime + used.ru_stime, "mb": peak_mb()}


def peak_mb() -> float:
    """Return the peak memory of this process; `ru_maxrss` may be that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="a twentieth of the rows")
    parser.add_argument("--apart", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.apart:
        print(json.dumps(run_apart(args.apart)))
        return
    scale = 20 if args.small else 1
    rows, texts = 10_000_000 // scale, 50_000_000 // scale
    table = Table("what", "rows", "s", "rows/s", "CPU s", "peak MB", "notes")

    def add(what: str, found: dict[str, float], notes: str = "") -> None:
        rate = f"{found['rows'] / found['s']:,.0f}"
        seconds, cpu = f"{found['s']:.2f}", f"{found['cpu']:.1f}"
        table.add_row(what, f"{found['rows']:,}", seconds, rate, cpu, f"{found['mb']:.0f}", notes)

    with tempfile.TemporaryDirectory(prefix="bench-index-") as name:
        folder, inputs = Path(name) / "out", Path(name) / "in"
        write_parts(folder, rows)
        built = apart("open", folder)
        size = sum(path.stat().st_size for path in (folder / "_run/index").iterdir())
        add(f"build, {rows // PART_ROWS:,} parts", built, f"{size / 1e6:.0f} MB on disk")
        write_part(folder, 0, np.arange(1, PART_ROWS + 1))
        add("open again, one part replaced", apart("open", folder))
        for wanted in (1, rows // 10):
            found = apart("find", folder, wanted)
            add(f"look up {wanted:,}", found, f"{found['found']:,} found")
        write_changed_unit(Path(name) / "changed", rows)
        found = apart("search", folder, Path(name) / "changed")
        add("search one unit", found, f"{PART_ROWS - found['known']:,} text unknown")
        write_inputs(inputs, texts, rows)
        found = apart("search", folder, inputs)
        notes = (
            f"{found['shared']:,} repeated, {found['known']:,} known, {found['disk'] / 1e6:.0f} MB "
            "of temporary files"
        )
        add("search", found, notes)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
