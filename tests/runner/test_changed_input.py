"""Input files that somebody rewrites during a run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import asked_alone, bulkembed, matrix, read, run

from bulkembed.emulator.server import EmulatorServer

pytestmark = pytest.mark.faults

ROWS = 12
_hooks: list[Callable[[str, tuple[Any, ...]], None]] = []
sys.addaudithook(lambda event, args: [hook(event, args) for hook in _hooks] and None)


@contextlib.contextmanager
def just_before(part: str, change: Callable[[], None], times: int = 1) -> Iterator[list[int]]:
    """Change something just before a file with such a name gets its final name."""
    done: list[int] = []

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "os.rename" and part in str(args[1]) and len(done) < times:
            done.append(len(done))
            change()

    _hooks.append(hook)
    try:
        yield done
    finally:
        _hooks.remove(hook)


def write(path: Path, word: str) -> None:
    """The same size whatever the word is, if it has three letters; written in place."""
    first = 100 if path.stem == "b" else 0
    rows = [{"id": first + n, "text": f"the {word} {n}"} for n in range(ROWS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink)
        data = sink.getvalue().to_pybytes()
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with path.open("r+b" if path.exists() else "wb") as stream:
        stream.write(data)


def rewrite(path: Path, word: str) -> None:
    """Another content of the same size, and with the same time of modification."""
    stat = path.stat()
    write(path, word)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)


@pytest.mark.parametrize(
    ("name", "moment", "dedupe"),
    [
        pytest.param("a.jsonl", "_run/run.json", "run", id="between-scan-and-reading"),
        pytest.param("a.jsonl", "_run/units/", "off", id="after-the-first-commit"),
        pytest.param("a.parquet", "_run/units/", "run", id="parquet"),
    ],
)
def test_a_file_that_is_rewritten_during_the_run_is_embedded_as_it_is_in_the_end(
    server: EmulatorServer, tmp_path: Path, name: str, moment: str, dedupe: str
) -> None:
    path, output = tmp_path / "in" / name, tmp_path / "out"
    write(path, "dog")
    write(path.with_name("b.jsonl"), "owl")
    args = ("--dim", 128, "--unit-rows", 5, "--dedupe", dedupe)
    with just_before(moment, lambda: rewrite(path, "cat")) as done:
        ended = run(server.url, path.parent, output, *args)
    assert done
    assert ended.code == 0, ended.err
    assert f"files changed while they were read. Embedding them again: {name}" in ended.err
    assert (output / "_SUCCESS").exists()
    table = read(output)
    assert table["id"].to_pylist() == [*range(ROWS), *range(100, 100 + ROWS)]
    texts = [f"the {word} {n}" for word in ("cat", "owl") for n in range(ROWS)]
    for text, vector in zip(texts, matrix(table), strict=True):
        alone = asked_alone(server.url, text, outputDimensionality=128)
        assert vector @ alone / np.linalg.norm(alone) > 0.9999, text
    assert bulkembed("verify", output, "--against", path.parent).code == 0
    calls = server.stats()["calls"]
    assert run(server.url, path.parent, output, *args).code == 0
    assert server.stats()["calls"] == calls


def test_a_file_that_is_rewritten_all_the_time_never_ends_with_success(
    server: EmulatorServer, tmp_path: Path
) -> None:
    path, output = tmp_path / "in/a.jsonl", tmp_path / "out"
    write(path, "dog")
    words = iter(f"c{n:02}" for n in range(99))
    with just_before("_run/units/", lambda: rewrite(path, next(words)), times=99):
        ended = run(server.url, path, output, "--dim", 128)
    assert ended.code == 75, ended.err
    assert "changed while it was read. Rerun the same command" in ended.out
    assert not (output / "_SUCCESS").exists()
    assert run(server.url, path, output, "--dim", 128).code == 0
    assert bulkembed("verify", output, "--against", path).code == 0


def test_a_touch_during_the_run_changes_nothing(server: EmulatorServer, tmp_path: Path) -> None:
    path, output = tmp_path / "in/a.jsonl", tmp_path / "out"
    write(path, "dog")
    with just_before("_run/units/", path.touch) as done:
        ended = run(server.url, path, output, "--dim", 128)
    assert done
    assert ended.code == 0
    assert "rewritten" not in ended.err
    assert server.stats()["texts"] == ROWS


def test_a_file_that_is_rewritten_in_a_run_that_is_stopped_is_scanned_again(
    server: EmulatorServer, tmp_path: Path
) -> None:
    path, output = tmp_path / "in/a.jsonl", tmp_path / "out"
    write(path, "dog")

    def stop() -> None:
        rewrite(path, "cat")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.5)  # The main thread looks every 50 ms.

    args = ("--dim", 128, "--unit-rows", 1, "--concurrency", 1)
    with just_before("_run/units/", stop) as done:
        first = run(server.url, path, output, *args)
    assert done
    ended = run(server.url, path, output, *args)
    assert ended.code == 0, (first.err, ended.err)
    assert bulkembed("verify", output, "--against", path).code == 0
