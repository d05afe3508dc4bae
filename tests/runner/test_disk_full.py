"""An output that cannot be written: one clear line, and no partial file counts."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import (
    Ended,
    parts,
    read,
    run,
    write_rows,
)
from support.killing import Job, leftovers, wait_for
from support.killing import ended as finished

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = pytest.mark.faults


def go(server: EmulatorServer, source: object, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, "--dim", 128, *args)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs takes a root that may mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_too_little_disk_space_is_reported_before_anything_is_paid(
    server: EmulatorServer, source: Path, small_disk: Path
) -> None:
    write_rows(source, [f"text {n}" for n in range(200)])
    ended = run(server.url, source, small_disk / "out", "--dim", 3072)
    assert ended.code == 1
    assert "the disk has 1.0 MiB free" in ended.last
    assert server.stats()["calls"] == 0


def one_clear_line(ended: Ended, *words: str) -> None:
    assert ended.code == 1, ended.err
    assert "Traceback" not in ended.err
    assert ended.last.startswith("bulkembed: ")
    for word in words:
        assert word in ended.last


def test_a_disk_that_fills_up_stops_the_run_with_one_line_and_no_partial_files_count(
    source: Path, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,size=9m", str(small_disk)], check=True)
    write_rows(source, [f"text {n}" for n in range(1000)])
    output, ballast = small_disk / "out", small_disk / "ballast"
    with EmulatorServer(EmulatorSettings(latency_ms=250)) as server:
        args = ("--dim", "128", "--unit-rows", "200", "--concurrency", "1")
        job = Job(server, source, output, args)
        working = job.start()
        wait_for(lambda: server.stats()["texts"] >= 200)
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        one_clear_line(finished(working), "the disk is full", "Rerun the same command to resume")
        kept = len(read(output)) if parts(output, "vectors") else 0
        assert kept < 1000
        assert not (output / "_SUCCESS").exists()
        ballast.unlink()
        assert go(server, source, output).code == 0
        assert server.stats()["texts"] <= 1000 + 100
    assert read(output)["id"].to_pylist() == list(range(1000))
    assert leftovers(output) == []


def test_a_file_size_limit_stops_the_run_with_one_line(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    write_rows(source, [f"text {n}" for n in range(300)])
    args = ("--input", source, "--output", output, "--base-url", server.url, "--dim", "512")
    done = subprocess.run(
        [sys.executable, "-m", "bulkembed", "run", *map(str, args)],
        capture_output=True, text=True, timeout=60, env=dict(os.environ),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000)),
    )  # fmt: skip
    one_clear_line(Ended(done.returncode, done.stdout, done.stderr), "File too large")
    assert parts(output, "vectors") == []
    assert run(server.url, source, output, "--dim", 512).code == 0
    assert read(output)["id"].to_pylist() == list(range(300))
    assert server.stats()["texts"] < 2 * 300
    assert leftovers(output) == []


def test_an_unwritable_folder_is_reported_before_anything_is_paid(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    one_clear_line(go(server, source, tmp_path / "file/out"), "file/out", "cannot be written")
    assert server.stats()["calls"] == 0


def test_a_folder_without_permission_is_reported_before_anything_is_paid(
    server: EmulatorServer, source: Path, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    one_clear_line(go(server, source, small_disk / "out"), "read-only file system")
    assert server.stats()["calls"] == 0
