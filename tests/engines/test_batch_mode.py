"""Batch mode on a real engine, whose workers write job files, collect answers and commit units."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import run, summary, write_rows
from support.docstring_jobs import SERVICES, docstring_jobs
from support.engines import (
    BUSY_S,
    PATIENCE_S,
    TIMEOUT_S,
    Engine,
    files_with_the_key,
    is_over,
    workers_of,
)
from support.killing import ended, leftovers, same_rows, wait_for

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

from . import installed

pytestmark = [
    pytest.mark.runners,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("engine", ["prism"], indirect=True),
]
KEY = "AIzaSy-a-key-that-must-not-be-found-0123"
DISTINCT = 70
TEXTS = [f"text {n % DISTINCT}" for n in range(100)]
ARGS = ("--dim", 128, "--unit-rows", 25)
BATCH = (*ARGS, "--mode", "batch", "--batch-poll", "0.1s", "--batch-job-rows", 30)


def test_a_batch_run_on_an_engine_gives_the_rows_of_an_online_run_in_this_process(
    engine: Engine, tmp_path: Path
) -> None:
    source, out = write_rows(tmp_path / "in/a.parquet", TEXTS), tmp_path / "out"
    with EmulatorServer() as server:
        assert run(server.url, source, tmp_path / "here", *ARGS).code == 0
    # The second job fails twice, so that the last texts are sent online by the workers.
    batch = BatchSettings(seconds=0.5, outcomes=("succeeded", "failed", "succeeded", "failed"))
    with EmulatorServer(EmulatorSettings(batch=batch)) as server:
        where = ("--input", source, "--output", out, "--base-url", server.url)
        ended = engine.run(*where, *BATCH, "--batch-attempts", 2)
        assert ended.code == 0, ended.err
        assert "They are sent online" in ended.err
        stats = server.stats()
        assert stats["texts"] == stats["distinct_texts"] == DISTINCT
        assert (stats["batch"]["jobs_left"], stats["batch"]["files_left"]) == (0, 0)
    assert summary(out)["batch"]["texts"] == 40
    same_rows(out, tmp_path / "here")
    assert leftovers(out) == []


@contextlib.contextmanager
def watched(process: subprocess.Popen[str]) -> Iterator[set[int]]:
    """The workers that a command has had, complete at the end of the block."""
    seen: set[int] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            seen.update(workers_of(process.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_workers_write_the_files_of_jobs_and_collect_their_answers(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    source, out = write_rows(tmp_path / "in/a.parquet", TEXTS), tmp_path / "out"
    settings = EmulatorSettings(api_key=KEY, batch=BatchSettings(seconds=0.5))
    with EmulatorServer(settings) as server:
        where = ("--input", source, "--output", out, "--base-url", server.url)
        with (
            engine.started(*where, *BATCH, "--log-level", "debug") as process,
            watched(process) as workers,
        ):
            done = ended(process, TIMEOUT_S)
        assert done.code == 0, done.err
        stats = server.stats()
        assert stats["texts"] == stats["distinct_texts"] == DISTINCT
        assert stats["batch"]["jobs_created"] == 3
        assert (stats["batch"]["jobs_left"], stats["batch"]["files_left"]) == (0, 0)
    for work in ("its file was written", "its answers were collected"):
        found = re.findall(rf"batch job (\S+): {work} by process (\d+) on", done.err)
        assert len({name for name, _ in found}) == len(found) == 3, done.err
        assert {int(pid) for _, pid in found} <= workers
    assert "This machine does" not in done.err
    assert KEY not in done.out + done.err
    assert files_with_the_key(KEY, tmp_path, installed.HOME) == []
    assert list((out / "_run/gather").iterdir()) == leftovers(out) == []


@pytest.mark.parametrize("kind", ["upload", "download"])
def test_a_worker_killed_while_it_transfers_a_file_pays_for_nothing_twice(
    engine: Engine, tmp_path: Path, kind: str
) -> None:
    source, out = write_rows(tmp_path / "in/a.parquet", TEXTS), tmp_path / "out"
    batch = BatchSettings(seconds=0.2, call_script=(f"{kind}:hang",))
    with EmulatorServer(EmulatorSettings(batch=batch)) as server:
        where = ("--input", source, "--output", out, "--base-url", server.url, *BATCH)
        with engine.started(*where) as process:
            calls = lambda: server.stats()["batch"]["calls"].get(kind, {})  # noqa: E731
            wait_for(lambda: "hang" in calls() or is_over(process), BUSY_S)
            workers = workers_of(process.pid)
            assert workers, ended(process).err
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            if not is_over(process, PATIENCE_S):
                process.send_signal(signal.SIGTERM)
            ends = [ended(process, TIMEOUT_S)]
        print(f"{engine.name}: killed in an {kind}: {ends[0].code}: {ends[0].err}", flush=True)
        while ends[-1].code == 75 and len(ends) < 4:
            ends.append(engine.run(*where))
        assert ends[-1].code == 0, ends[-1].err
        stats = server.stats()
        assert stats["texts"] == stats["distinct_texts"] == DISTINCT
        assert not stats["batch"]["display_names_twice"]
        assert (stats["batch"]["jobs_left"], stats["batch"]["files_left"]) == (0, 0)
    assert leftovers(out) == []


@pytest.mark.parametrize("service", SERVICES)
def test_docstrings_get_the_vectors_of_online_requests_on_an_engine(
    engine: Engine, service: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with docstring_jobs(service, tmp_path) as jobs:
        for name, value in jobs.environ.items():
            monkeypatch.setenv(name, value)
        where = ("--input", corpus, "--output", out, "--base-url", jobs.server.url)
        ended = engine.run(*where, *jobs.batch)
        assert ended.code == 0, ended.err
        jobs.check(out, corpus, tmp_path)
