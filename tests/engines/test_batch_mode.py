"""Batch mode on a real engine, whose workers commit the answers that the launcher collects."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import run, summary, write_rows
from support.docstring_jobs import SERVICES, docstring_jobs
from support.engines import Engine
from support.killing import leftovers, same_rows

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = [
    pytest.mark.runners,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("engine", ["prism"], indirect=True),
]
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
