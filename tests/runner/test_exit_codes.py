"""Each exit code of a real run with its message, and how signals end a run."""

from __future__ import annotations

import dataclasses
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.cli import Ended, python, read, run, write_rows
from support.killing import Job, descendants, ended, is_running, leftovers, wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = pytest.mark.faults

TEXTS = [f"text {n}" for n in range(60)]
THREADS = ("--", "--direct_running_mode=multi_threading", "--direct_num_workers=2")
WORKERS = {"one process": (), "threads": THREADS, "processes": ("--workers", "2")}
SHUTDOWN_TIMEOUT_S = 10
BUSY_S = 1.5
"""What a machine that runs other tests at the same time may add."""


def outcome(tmp_path: Path, *args: object, texts: list[str] = TEXTS, **settings: Any) -> Ended:
    source = write_rows(tmp_path / "a.parquet", texts)
    with EmulatorServer(EmulatorSettings(**settings)) as server:
        return run(server.url, source, tmp_path / "out", "--dim", 128, *args)


def with_one_line(found: Ended, code: int, *words: str) -> None:
    assert found.code == code, found.err
    assert "Traceback" not in found.err
    assert found.last.startswith("bulkembed: ")
    for word in words:
        assert word in found.last


def test_0_is_a_complete_dataset(tmp_path: Path) -> None:
    found = outcome(tmp_path)
    assert found.code == 0
    assert (tmp_path / "out/_SUCCESS").exists()


def test_1_is_a_run_that_failed(tmp_path: Path) -> None:
    found = outcome(tmp_path, retired=("gemini-embedding-001",))
    with_one_line(found, 1, "404", "Check --model")
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_2_is_wrong_usage_or_other_settings_than_the_datasets(tmp_path: Path) -> None:
    assert outcome(tmp_path).code == 0
    with_one_line(
        outcome(tmp_path, "--dim", 256), 2, "dim is 128 in the dataset and 256 in this run"
    )
    with_one_line(outcome(tmp_path, "--unit-rows", 0), 2, "--unit-rows 0")
    with_one_line(outcome(tmp_path, "--max-dead-letters", "x%"), 2, "--max-dead-letters 'x%'")
    assert outcome(tmp_path, "--rmp", 3).code == 2


def test_3_is_too_many_dead_letters(tmp_path: Path) -> None:
    texts = ["poison " + text for text in TEXTS[:12]] + TEXTS
    found = outcome(tmp_path, texts=texts, poison="poison")
    with_one_line(found, 3, "the limit of 10", "--max-dead-letters")
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_5_is_a_dataset_that_another_run_is_writing(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(2000)])
    with EmulatorServer(EmulatorSettings(latency_ms=300)) as server:
        job = Job(server, source, tmp_path / "out", ("--dim", "128", "--concurrency", "1"))
        first = job.start()
        wait_for(lambda: server.stats()["texts"] > 0)
        second = run(server.url, source, tmp_path / "out", "--dim", 128)
        first.kill()
        ended(first)
        with_one_line(second, 5, "is being written by", f"process {first.pid} on")
        taken_over = run(server.url, source, tmp_path / "out", "--dim", 128)
    assert taken_over.code == 0
    assert "has died. This run takes over its output" in taken_over.err
    assert leftovers(tmp_path / "out") == []


def test_75_is_a_run_that_the_same_command_resumes(tmp_path: Path) -> None:
    args = ("--max-runtime", "4s", "--concurrency", 1, "--shutdown-timeout", "2s")
    texts = [f"text {n}" for n in range(2000)]
    found = outcome(tmp_path, *args, texts=texts, latency_ms=500)
    with_one_line(found, 75, "--max-runtime was reached", "Rerun the same command")
    done = len(read(tmp_path / "out"))
    assert 0 < done < 2000
    assert outcome(tmp_path, texts=texts).code == 0
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(2000))


def long_job(
    server: EmulatorServer, tmp_path: Path, workers: str, timeout_s: float = SHUTDOWN_TIMEOUT_S
) -> Job:
    """Some five seconds of work in nine units, which two workers may have at once."""
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(1800)])
    args = (
        "--dim", "128", "--unit-rows", "200", "--concurrency", "2",
        "--shutdown-timeout", f"{timeout_s}s", *WORKERS[workers],
    )  # fmt: skip
    return Job(server, source, tmp_path / "out", args)


def resume(job: Job) -> Ended:
    """The same job in this process, which has imported everything already."""
    return run(job.server.url, job.source, job.output, "--dim", 128, "--unit-rows", 300)


@pytest.fixture
def slow() -> Any:
    with EmulatorServer(EmulatorSettings(latency_ms=500)) as server:
        yield server


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_waits_for_requests_in_flight_and_commits_them(
    slow: EmulatorServer, tmp_path: Path, workers: str, number: signal.Signals
) -> None:
    job = long_job(slow, tmp_path, workers)
    process = job.start()
    wait_for(lambda: slow.stats()["texts"] > 100 and slow.stats()["in_flight"] > 0)
    children = descendants(process.pid)
    process.send_signal(number)
    asked = time.monotonic()
    found = ended(process)
    assert time.monotonic() - asked < SHUTDOWN_TIMEOUT_S + 2 + BUSY_S
    assert not any(map(is_running, children))
    assert (workers == "processes") == bool(children)
    with_one_line(found, 75, number.name)
    paid = slow.stats()["texts"]
    assert slow.stats()["in_flight"] == 0
    assert resume(job).code == 0
    assert slow.stats()["texts"] == 1800
    assert paid < 1800
    assert leftovers(job.output) == []
    assert sorted(read(job.output)["id"].to_pylist()) == list(range(1800))


@pytest.mark.parametrize("workers", ["one process", "processes"])
def test_requests_without_a_response_are_dropped_after_the_shutdown_timeout(
    tmp_path: Path, workers: str
) -> None:
    script = ("ok",) * 2 + ("hang",) * 100
    with EmulatorServer(EmulatorSettings(script=script, latency_ms=200)) as server:
        job = long_job(server, tmp_path, workers, timeout_s=1)
        process = job.start()
        wait_for(lambda: server.stats()["texts"] > 100 and server.stats()["in_flight"] > 0)
        time.sleep(0.3)
        process.terminate()
        asked = time.monotonic()
        found = ended(process)
        assert time.monotonic() - asked < 1 + 2 + BUSY_S
    with_one_line(found, 75)


def test_the_first_signal_is_announced_and_a_second_one_ends_the_run_at_once(
    tmp_path: Path,
) -> None:
    with EmulatorServer(EmulatorSettings(script=("hang",) * 100)) as server:
        job = long_job(server, tmp_path, "one process", 60)
        job = dataclasses.replace(job, args=(*job.args, "--log-level", "info"))
        process = job.start()
        wait_for(lambda: server.stats()["in_flight"] > 0)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: any(job.output.glob("_run/stops/*")))
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        found = ended(process)
        assert time.monotonic() - asked < 0.5 + BUSY_S
    with_one_line(found, 128 + signal.SIGINT, "SIGINT: the run stops", "up to 60 s")


def soon(what: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not what() and time.monotonic() < until:
        time.sleep(0.05)
    return what()


def test_workers_end_when_their_launcher_is_killed(
    slow: EmulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    job = long_job(slow, tmp_path, "processes")
    process = job.start()
    wait_for(lambda: slow.stats()["texts"] > 100)
    children = descendants(process.pid)
    assert len(children) == 2
    process.kill()
    _, said = process.communicate()
    assert said == ""
    assert soon(lambda: not any(map(is_running, children)), 15)
    assert slow.stats()["texts"] < 1800
    assert list(scratch.iterdir())
    assert resume(job).code == 0
    assert list(scratch.iterdir()) == []
    assert leftovers(job.output) == []
    assert sorted(read(job.output)["id"].to_pylist()) == list(range(1800))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_in_the_middle_of_an_import_keeps_the_exit_code(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "job.py").write_text(
        "import sys\nfrom bulkembed.pipeline.runners import signals\n"
        "try:\n"
        "    with signals.raise_interrupts():\n"
        f"        exec('import os, time; os.kill(os.getpid(), {int(number)}); time.sleep(9)')\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(75)\n"
    )
    assert python("-m", "job", cwd=tmp_path).code == 75


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_before_the_first_request_stops_the_run_cleanly(
    slow: EmulatorServer, tmp_path: Path, number: signal.Signals
) -> None:
    """The lock is taken before Beam is imported, which lasts longer than the test needs."""
    job = long_job(slow, tmp_path, "one process")
    process = job.start()
    wait_for((job.output / "_run/lock.json").exists)
    process.send_signal(number)
    found = ended(process)
    with_one_line(found, 75, "Rerun the same command to resume.")
    assert slow.stats()["texts"] <= 200
    assert resume(job).code == 0
    assert leftovers(job.output) == []
