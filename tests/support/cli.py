"""The command line, called in this process or in one of its own, and a look at what it wrote."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from bulkembed.pipeline.cli.main import main

Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line of standard error: the sentence for people."""
        return self.err.strip().splitlines()[-1] if self.err.strip() else ""


def bulkembed(*args: object) -> Ended:
    """`bulkembed ...` in this process."""
    return called(lambda: main([str(arg) for arg in args]))


def called(command: Callable[[], None]) -> Ended:
    """A command's function in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def run(url: str | None, source: object, output: object, *args: object) -> Ended:
    """`bulkembed run` against a server of the tests, or with `--emulator` where there is none."""
    where = ("--base-url", url) if url else ("--emulator",)
    return bulkembed("run", "--input", source, "--output", output, *where, *args)


def process(*command: str, cwd: Path | None = None, timeout_s: float = 60, **environ: str) -> Ended:
    """A command in a process of its own."""
    env = {**os.environ, **environ}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=env, timeout=timeout_s
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def python(*args: str, cwd: Path | None = None, **environ: str) -> Ended:
    """Python's own command line in a process of its own."""
    return process(sys.executable, *args, cwd=cwd, **environ)


def write_rows(path: Path, texts: Iterable[str | None], **columns: list[Any]) -> Path:
    """A Parquet file with `id` 0, 1, ..., `text` and more columns."""
    texts = list(texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": range(len(texts)), "text": pa.array(texts, pa.string()), **columns})
    pq.write_table(table, path)
    return path


def parts(output: Path, folder: str) -> list[Path]:
    """The part files, sorted; those with vectors may be in folders of partitions."""
    return sorted((output / folder).rglob("*.parquet")) if (output / folder).exists() else []


def read(output: Path, folder: str = "vectors") -> pa.Table:
    """All rows of a folder, in the order of their source; the values of partitions are strings."""
    tables = []
    for file in parts(output, folder):
        table = pq.read_table(file, partitioning=None)
        key, is_partition, value = file.parent.name.partition("=")
        if is_partition:
            values = pa.repeat(urllib.parse.unquote(value), table.num_rows)
            table = table.append_column(key, values)
        tables.append(table)
    table = pa.concat_tables(tables)
    return table.sort_by([("source_file", "ascending"), ("source_row", "ascending")])


def matrix(table: pa.Table) -> Floats:
    """The vectors as one matrix."""
    column = table.column("vector").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float32).reshape(len(column), -1 if len(column) else 0)


def dead_codes(output: Path) -> dict[int, str]:
    """The code of each dead letter by its source row."""
    if not parts(output, "dead_letters"):
        return {}
    table = read(output, "dead_letters")
    return dict(zip(table["source_row"].to_pylist(), table["code"].to_pylist(), strict=True))


def asked_alone(url: str, text: str, model: str = "gemini-embedding-001", **fields: Any) -> Floats:
    """What a server gives for one text alone, asked without anything of ours."""
    fields.setdefault("taskType", "RETRIEVAL_DOCUMENT")
    fields = {name: value for name, value in fields.items() if value is not None}
    response = httpx2.post(
        f"{url}/v1beta/models/{model}:embedContent",
        json={"content": {"parts": [{"text": text}]}, **fields},
        headers={"x-goog-api-key": "x"},
        timeout=60,
    )
    return np.array(response.raise_for_status().json()["embedding"]["values"], np.float32)


def summary(output: Path) -> dict[str, Any]:
    """The last run's summary."""
    newest = max((output / "_run/summaries").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    found: dict[str, Any] = orjson.loads(newest.read_bytes())
    return found


def snapshot(output: Path, *, without: str = "") -> dict[str, bytes]:
    """Every file and its bytes, but for one."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and str(path.relative_to(output)) != without
    }
