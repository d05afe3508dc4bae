"""Closed, full and unread standard streams, and signals during start-up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import bulkembed, process, run, write_rows
from support.dying_workers import environ
from support.killing import Job, Step, ended, wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

COMMAND = f"{sys.executable} -m bulkembed"
WAIT_S = 280
"""For a process on a busy machine."""

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete dataset, whose run has nothing to do."""
    folder = tmp_path_factory.mktemp("streams")
    source = write_rows(folder / "a.parquet", ["a cat", "a dog"])
    assert run(None, source, folder / "out").code == 0
    return folder


@pytest.mark.parametrize("streams", ["2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_a_run_completes_with_closed_or_full_streams(streams: str, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.parquet", ["a cat", "a dog"])
    args = f"run --input {source} --output {tmp_path}/out --emulator --dim 128"
    found = process("sh", "-c", f"exec {COMMAND} {args} {streams}", timeout_s=WAIT_S)
    assert found.code == 0, found.err
    assert (tmp_path / "out/_SUCCESS").exists()
    assert "Traceback" not in found.err
    assert "Exception ignored" not in found.err
    for part in (tmp_path / "out").rglob("*.*"):
        assert b"bulkembed: " not in part.read_bytes()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param("run --input {0}/a.parquet --output {0}/out --emulator", 0, id="run"),
        pytest.param("status {0}/out", 0, id="status"),
        pytest.param("verify {0}/out", 0, id="verify"),
        pytest.param("status {0}/none", 2, id="error"),
    ],
)
def test_a_closed_pipe_does_not_change_the_exit_code(command: str, code: int, made: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "bulkembed", *command.format(made).split()]
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(words, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=WAIT_S)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_full_device_is_reported(made: Path) -> None:
    found = process("sh", "-c", f"exec {COMMAND} status {made}/out >/dev/full", timeout_s=WAIT_S)
    assert found.code == 1
    assert "cannot be written to standard output: No space left on device" in found.err
    assert "Traceback" not in found.err


def a_job(server: EmulatorServer, tmp_path: Path) -> Job:
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(1200)])
    return Job(server, source, tmp_path / "out", ("--dim", "128", "--concurrency", "1"))


def test_sighup_stops_a_run_as_sigterm_does(tmp_path: Path) -> None:
    with EmulatorServer(EmulatorSettings(latency_ms=500)) as server:
        job = a_job(server, tmp_path)
        process = job.start()
        wait_for(lambda: server.stats()["texts"] > 100, WAIT_S)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)  # The kernel and the shell send one each.
        found = ended(process, WAIT_S)
        assert found.code == 75, found.err
        assert "SIGHUP" in found.last
        paid = server.stats()["texts"]
        assert run(server.url, job.source, job.output, "--dim", 128).code == 0
        assert server.stats()["texts"] == 1200 > paid


def test_a_run_under_nohup_ignores_sighup(tmp_path: Path) -> None:
    with EmulatorServer(EmulatorSettings(latency_ms=300)) as server:
        words = [sys.executable, "-m", "bulkembed", *a_job(server, tmp_path).command]
        process = subprocess.Popen(
            ["nohup", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        wait_for(lambda: server.stats()["texts"] > 100, WAIT_S)
        process.send_signal(signal.SIGHUP)
        found = ended(process, WAIT_S)
    assert found.code == 0, found.err


@pytest.mark.parametrize(
    "step",
    [
        Step("import", "click"),
        Step("open", "__pycache__/run_command."),
        Step("import", "pyarrow.parquet"),
        Step("open", "inputs/__pycache__/parquet."),
        Step("import", "apache_beam"),
    ],
    ids=str,
)
def test_ctrl_c_in_the_first_moments_ends_a_run_without_a_traceback(
    step: Step, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "in/a.parquet", ["a cat"])
    (tmp_path / "marks").mkdir()
    variables = environ(step, tmp_path / "marks", number=signal.SIGINT, who="bulkembed")
    args = ("run", "--input", str(source), "--output", str(tmp_path / "out"), "--emulator")
    found = process(sys.executable, "-m", "bulkembed", *args, timeout_s=WAIT_S, **variables)
    assert list((tmp_path / "marks").iterdir())
    assert found.code in (75, 130), found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize("command", ["status", "verify"])
def test_ctrl_c_ends_the_other_commands_with_130(command: str, made: Path, tmp_path: Path) -> None:
    step = Step("open", f"/{command}.cpython-")
    (tmp_path / "marks").mkdir()
    variables = environ(step, tmp_path / "marks", number=signal.SIGINT, who="bulkembed")
    words = (sys.executable, "-m", "bulkembed", command, str(made / "out"))
    found = process(*words, timeout_s=WAIT_S, **variables)
    assert list((tmp_path / "marks").iterdir())
    assert found.code == 130, found.err
    assert found.err == ""


@pytest.mark.parametrize("port", ["99999", "-1", "x"])
def test_an_invalid_port_is_a_usage_error(port: str) -> None:
    found = bulkembed("emulator", "--port", port)
    assert found.code == 2
    assert "--port" in found.err
    assert "Traceback" not in found.err


@pytest.mark.parametrize("where", ["http://127.0.0.1:99999", "http://127.0.0.1:x"])
def test_an_invalid_port_of_a_service_is_a_usage_error(where: str, made: Path) -> None:
    found = run(where, made / "a.parquet", made / "other")
    assert found.code == 2
    assert "Traceback" not in found.err
    host = where.removeprefix("http://")
    args = ("--rate-limit-service", host, "--emulator")
    found = bulkembed("run", "--input", made / "a.parquet", "--output", made / "other", *args)
    assert found.code == 2
    assert "--rate-limit-service" in found.err
