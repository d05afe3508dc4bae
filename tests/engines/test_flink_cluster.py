"""The job on a session cluster of Flink, and what the cluster tells of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import read, write_rows
from support.engines import Engine, workers_of
from support.flink_cluster import jobs, session_cluster, told_of
from support.killing import ended, wait_for

from emulator.server import EmulatorServer
from emulator.settings import EmulatorSettings

from . import installed
from .test_engines import KEY, files_with_the_key

pytestmark = [pytest.mark.runners, pytest.mark.timeout(600)]
ROWS = 200


@pytest.fixture
def cluster(
    flink: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Its workers take the key from the environment of their task manager."""
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    jars = installed.job_server("flink").with_suffix("") / "lib"
    ports = (installed.free_port(), installed.free_port())
    with session_cluster(jars, tmp_path_factory.mktemp("flink"), ports) as address:
        yield address


def test_two_task_managers_keep_one_quota_and_tell_no_key(
    flink: Engine, cluster: str, tmp_path: Path
) -> None:
    # Each keeps half of 300; on one machine they keep it in one file, which makes 150 of both.
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(ROWS)])
    there = flink.with_flags(f"--flink_master={cluster}", "--parallelism=2")
    with EmulatorServer(EmulatorSettings(rpm=150, latency_ms=30, api_key=KEY)) as server:
        where = ("--input", source, "--output", tmp_path / "out", "--base-url", server.url)
        process = there.start(*where, "--dim", 128, "--unit-rows", 25, "--rpm", 300)
        wait_for(lambda: len(workers_of(os.getpid())) > 1 or process.poll() is not None, 120)
        wait_for(lambda: server.stats()["texts"] > 0 or process.poll() is not None, 120)
        told = [told_of(cluster, job) for job in jobs(cluster)]
        done = ended(process, 240)
        assert done.code == 0, done.err
        stats = server.stats()
    told += [told_of(cluster, job) for job in jobs(cluster)]
    assert len(told) == 2
    assert all("EmbedSlice" in "".join(pages.values()) for pages in told)
    assert not [path for pages in told for path, text in pages.items() if KEY in text]
    assert files_with_the_key(tmp_path, installed.HOME) == []
    assert (stats["texts"], stats["answers_429"]) == (ROWS, 0)
    assert read(tmp_path / "out")["id"].to_pylist() == list(range(ROWS))
