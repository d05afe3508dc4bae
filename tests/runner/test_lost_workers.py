"""A worker process of `--workers` that dies stops the run soon, cleanly and with a message."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from support.cli import Ended, read, run, write_rows
from support.dying_workers import START, environ
from support.killing import Job, Step, descendants, ended, is_running, leftovers, wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.runners.worker_processes import ProcessGroup
from bulkembed.schemas.errors import OutputError

ROWS = 2400
STEPS = (
    START,
    Step("open", ".spill", 3),
    Step("os.rename", "/vectors/part-"),
    Step("os.rename", "/_run/units/", 2),
)
START_S = 200.0
SOON_S = 40
"""How long a run on a busy machine may take to end, once a worker is lost; alone it takes two."""


pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def a_job(server: EmulatorServer, tmp_path: Path) -> Job:
    """Some ten seconds of work: each of two workers may have one call in flight."""
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(ROWS)])
    args = ("--workers", "2", "--dim", "128", "--unit-rows", "100", "--concurrency", "2")
    return Job(server, source, tmp_path / "out", args)


def start(job: Job, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bulkembed", *job.command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip


def lost(job: Job, tmp_path: Path, step: Step, deaths: int = 1, number: int = 9) -> Ended:
    """A run of which workers died at a step; it has ended soon after, and left no process."""
    marks = tmp_path / "marks"
    marks.mkdir()
    process = start(job, environ(step, marks, deaths, number))
    children: set[int] = set()

    def died() -> bool:
        children.update(descendants(process.pid))
        return len(list(marks.iterdir())) == deaths or process.poll() is not None

    wait_for(died, START_S)
    at = time.monotonic()
    try:
        while process.poll() is None and time.monotonic() < at + SOON_S:
            children.update(descendants(process.pid))
            time.sleep(0.05)
        assert process.poll() is not None, "the run hangs"
    finally:
        if process.poll() is None:
            kill(children)
        found = ended(process)
    assert not any(map(is_running, children))
    return found


def kill(processes: set[int]) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def is_told_plainly(found: Ended, *words: str) -> None:
    assert found.code == 75, found.err
    assert "Traceback" not in found.err, found.err
    assert len(found.err.strip().splitlines()) == 1, found.err
    for word in words:
        assert word in found.last


def goes_on(job: Job) -> None:
    """Another run does what is left, and nothing that is committed or kept is paid for again."""
    args = ("--dim", 128, "--unit-rows", 100)
    assert run(job.server.url, job.source, job.output, *args).code == 0
    assert leftovers(job.output) == []
    assert sorted(read(job.output)["id"].to_pylist()) == list(range(ROWS))
    assert job.server.stats()["texts"] <= ROWS + 2 * 100


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_run_of_which_a_worker_is_killed_ends_soon_and_says_which(
    step: Step, tmp_path: Path
) -> None:
    with EmulatorServer(EmulatorSettings(latency_ms=800)) as server:
        job = a_job(server, tmp_path)
        found = lost(job, tmp_path, step)
        pid = (tmp_path / "marks/0").read_text()
        is_told_plainly(found, f"worker process {pid}", "SIGKILL", "Rerun the same command")
        goes_on(job)


def test_a_run_of_which_every_worker_dies_ends_soon_too(tmp_path: Path) -> None:
    with EmulatorServer(EmulatorSettings(latency_ms=800)) as server:
        job = a_job(server, tmp_path)
        found = lost(job, tmp_path, Step("open", ".spill", 2), deaths=2, number=signal.SIGSEGV)
        is_told_plainly(found, "worker process", "SIGSEGV")
        goes_on(job)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_run_ends_although_the_other_workers_cannot_be_told() -> None:
    def on_loss(_: str) -> None:
        raise OutputError("the store is away")

    group = ProcessGroup(
        [sys.executable, "-c", "raise SystemExit(3)"], on_loss, shutdown_timeout_s=5
    )
    ended: list[BaseException] = []

    def run(runner: FnApiRunner) -> None:
        try:
            pipeline = beam.Pipeline(runner)
            _ = pipeline | beam.Create([1]) | beam.Map(str)
            pipeline.run()
        except RuntimeError as error:
            ended.append(error)

    with group.runner() as runner:
        thread = threading.Thread(target=run, args=(runner,), daemon=True)
        thread.start()
        thread.join(60)
    assert "exit code 3" in str(ended)
