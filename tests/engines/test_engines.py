"""The command on real engines: Prism, Flink and Spark, whose workers install what is staged."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import read, run, summary
from support.engines import (
    BUSY_S,
    PATIENCE_S,
    Engine,
    files_with_the_key,
    is_over,
    workers_of,
)
from support.killing import ended, leftovers, same_rows, wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

from . import installed

pytestmark = [pytest.mark.runners, pytest.mark.timeout(600)]
KEY = "AIzaSy-a-key-that-must-not-be-found-0123"
ROWS = 1200
ARGS = ("--dim", 128, "--unit-rows", 100, "--concurrency", 4)
FAULTS = EmulatorSettings(
    api_key=KEY,
    script=("ok", "503", "ok", "reset", "ok", "504"),
    latency_ms=50,
)


@pytest.fixture(scope="module")
def docstrings(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first docstrings of the corpus; their ids make each text unlike the others."""
    file = tmp_path_factory.mktemp("docstrings") / "a.parquet"
    shards = map(pq.read_table, sorted(corpus.glob("*.parquet")))
    pq.write_table(pa.concat_tables(shards).slice(0, ROWS), file)
    return file


@pytest.fixture(scope="module")
def here(docstrings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same job in this process, without faults."""
    output = tmp_path_factory.mktemp("here") / "out"
    with EmulatorServer() as server:
        assert run(server.url, docstrings, output, *job_args()).code == 0
    return output


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)


def job_args(*more: object) -> tuple[object, ...]:
    return ("--text-template", "{id}: {text}", *ARGS, *more)


def where(server: EmulatorServer, source: Path, output: Path) -> tuple[object, ...]:
    return ("--input", source, "--output", output, "--base-url", server.url)


def test_an_engine_gives_the_rows_that_this_process_gives(
    engine: Engine, docstrings: Path, here: Path, tmp_path: Path
) -> None:
    began = time.monotonic()
    with EmulatorServer(FAULTS) as server:
        args = (*where(server, docstrings, tmp_path / "out"), *job_args("--log-level", "debug"))
        first = engine.run(*args, "--limit-rows", 700)
        assert first.code == 0, first.err
        assert len(read(tmp_path / "out")) <= 700
        paid = server.stats()["texts"]
        second = engine.run(*args)
        assert second.code == 0, second.err
        assert server.stats()["texts_paid_twice"] == 0
        assert server.stats()["texts"] > paid
        third = engine.run(*args)
        assert third.code == 0, third.err
        assert server.stats()["texts"] == len(read(here))
        assert {"503", "reset"} <= server.stats()["answers"].keys()
    same_rows(tmp_path / "out", here)
    assert summary(tmp_path / "out")["counts"]["texts"] + paid == len(read(here))
    said = "".join(one.out + one.err for one in (first, second, third))
    assert KEY not in said
    assert files_with_the_key(KEY, tmp_path, installed.HOME) == []
    print(f"{engine.name}: three runs in {time.monotonic() - began:.0f} s", flush=True)


def test_repeated_and_known_texts_are_paid_once(
    engine: Engine, docstrings: Path, tmp_path: Path
) -> None:
    table = pq.read_table(docstrings, columns=["id", "text"])
    ids, texts = table["id"].to_pylist(), table["text"].to_pylist()
    texts[ROWS // 2 :] = texts[: ROWS // 2]  # Each of them is in two units.
    source, output = tmp_path / "in/a.parquet", tmp_path / "out"
    source.parent.mkdir()
    pq.write_table(pa.table({"id": ids, "text": texts}), source)
    with EmulatorServer(EmulatorSettings(api_key=KEY)) as server:
        args = (*where(server, source, output), *ARGS)
        first = engine.run(*args)
        assert first.code == 0, first.err
        assert server.stats()["texts"] == len(set(texts))
        new = [f"new: {text}" if n % 50 == 0 else text for n, text in enumerate(texts)]
        order = [n * 7 % ROWS for n in range(ROWS)]
        rows = {"id": [ids[n] for n in order], "text": [new[n] for n in order]}
        pq.write_table(pa.table(rows), source)
        second = engine.run(*args)
        assert second.code == 0, second.err
        assert "to gather in _run/gather" in second.err
        assert server.stats()["texts"] == len({*texts, *new})
        assert server.stats()["texts_paid_twice"] == 0
    assert not list((output / "_run/gather").iterdir())
    with EmulatorServer(EmulatorSettings(api_key=KEY)) as server:
        assert run(server.url, source, tmp_path / "afresh", *ARGS).code == 0
    same_rows(output, tmp_path / "afresh")


def test_a_killed_worker_loses_nothing(
    engine: Engine, docstrings: Path, here: Path, tmp_path: Path
) -> None:
    settings = EmulatorSettings(latency_ms=400)
    with EmulatorServer(settings) as server:
        args = (*where(server, docstrings, tmp_path / "out"), *job_args())
        with engine.started(*args) as process:
            wait_for(lambda: server.stats()["texts"] > 0 or is_over(process), BUSY_S)
            workers = workers_of(process.pid)
            assert workers, ended(process).err
            os.kill(workers[0], signal.SIGKILL)
            stuck = not is_over(process, PATIENCE_S)
            if stuck:
                process.send_signal(signal.SIGTERM)
            codes = [ended(process).code]
        while codes[-1] == 75 and len(codes) < 3:
            codes.append(engine.run(*args).code)
        how = "stuck until SIGTERM" if stuck else "ended by itself"
        print(f"{engine.name}: a worker killed: {how}; exit codes {codes}", flush=True)
        assert codes[-1] == 0
        # What was in the air, and answers that the worker had not written down.
        assert server.stats()["texts_paid_twice"] <= 2 * 4 * 100
    same_rows(tmp_path / "out", here)
    assert leftovers(tmp_path / "out") == []
