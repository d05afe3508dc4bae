"""What a run in batch mode shows while it waits for its jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.cli import run, summary, write_rows
from support.terminal import Terminal

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.batch import batch_run

pytestmark = pytest.mark.faults
ROWS = 300
SHAPE = ("--dim", 128, "--unit-rows", 100, "--mode", "batch", "--batch-job-rows", 100)
PRICE = ("--price-usd-per-mtok", 1000)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Units are committed in less time: their rows count although no moment of that was seen.
    monkeypatch.setenv("BULKEMBED_PROGRESS_S", "1.5")
    return write_rows(tmp_path / "a.parquet", [f"text {n + 100}" for n in range(ROWS)])


def serving(**settings: Any) -> EmulatorServer:
    return EmulatorServer(EmulatorSettings(batch=BatchSettings(**settings)))


@pytest.mark.parametrize("workers", [1, 2])
def test_lines_have_the_open_jobs_and_the_rows_of_those_that_have_ended(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(batch_run, "COMMIT_TEXTS", 100)
    out = tmp_path / "out"
    with serving(outcomes=("succeeded@0.1", "succeeded@12", "succeeded@12")) as server:
        args = (*SHAPE, *PRICE, "--workers", workers, "--log-json", "--enqueued-tokens", 100_000)
        ended = run(server.url, source, out, "--batch-poll", "1s", *args)
        assert ended.code == 0, ended.err
        tokens = server.stats()["batch"]["tokens"]
    events = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    lines = [one["progress"] for one in events if one["event"] == "progress"]
    waiting = [one for one in lines if one["waiting"] == "batch" and one["done"]]
    assert waiting
    last = waiting[0]
    assert (last["batch_open"], last["batch_ended"]) == (2, 1)
    assert (last["done"], last["embedded"], last["left"]) == (100, 100, 200)
    assert last["batch_texts"] == 200
    assert 0 < last["batch_tokens"] < last["batch_tokens_limit"] <= 100_000
    assert 0 < last["batch_oldest_s"] < 60
    assert 0 <= last["wait_s"] <= 1.2
    assert last["tokens"] == pytest.approx(tokens / 3)
    assert last["usd"] == pytest.approx(last["tokens"] / 2000)
    assert (last["tokens_all"], last["left_s"]) == (None, None)
    assert summary(out)["batch"]["jobs"] == 3


def test_the_panel_has_the_open_jobs(source: Path, tmp_path: Path) -> None:
    with serving(outcomes=("succeeded@0.1", "hang")) as server:
        where = ("--input", source, "--output", tmp_path / "out", "--base-url", server.url)
        args = ("--batch-poll", "3s", "--max-runtime", "60s", "--enqueued-tokens", 100_000)
        terminal = Terminal("run", *where, *SHAPE, "--batch-job-rows", 150, *args)
        try:

            def shows_jobs() -> bool:
                lines = terminal.lines
                return any(line.startswith("batch jobs  1 open with 150") for line in lines) and (
                    any("next look at the batch jobs" in line for line in lines)
                )

            terminal.read_until(shows_jobs)
            assert any(line.startswith("enqueued") for line in terminal.lines)
            assert not any(line.startswith("requests") for line in terminal.lines)
        finally:
            terminal.close()
