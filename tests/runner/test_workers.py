"""Several worker processes share one quota, one limit of requests in flight and one log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.cli import Ended, read, write_rows
from support.killing import Job, leftovers

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

ROWS = 900


def two_workers(tmp_path: Path, *args: str, **settings: Any) -> tuple[Ended, dict[str, Any]]:
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(ROWS)])
    with EmulatorServer(EmulatorSettings(**settings)) as server:
        shape = ("--workers", "2", "--dim", "128", "--unit-rows", "100", "--log-level", "info")
        found = Job(server, source, tmp_path / "out", (*shape, *args)).finish()
        return found, server.stats()


def test_two_workers_share_rows_and_requests_in_flight_and_warn_once(
    tmp_path: Path,
) -> None:
    found, stats = two_workers(
        tmp_path, "--concurrency", "3", script=("503", "503"), latency_ms=200
    )
    assert found.code == 0, found.err
    assert stats["most_in_flight"] == 2
    assert stats["texts_paid_twice"] == 0
    announced, warned = found.err.splitlines()
    assert f"{ROWS} input rows" in announced
    assert "503" in warned
    assert f"{ROWS} in: {ROWS} embedded" in found.out
    assert sorted(read(tmp_path / "out")["id"].to_pylist()) == list(range(ROWS))
    assert leftovers(tmp_path / "out") == []


def test_two_workers_share_one_quota(tmp_path: Path) -> None:
    found, stats = two_workers(tmp_path, "--rpd", "500", rpd=500)
    assert found.code == 75, found.err
    assert (stats["texts"], stats["answers_429"]) == (500, 0)
    assert len(read(tmp_path / "out")) == 500


@pytest.mark.faults
def test_an_error_of_the_job_ends_both_workers_with_one_line(tmp_path: Path) -> None:
    found, stats = two_workers(tmp_path, retired=("gemini-embedding-001",))
    assert found.code == 1
    assert "Check --model" in found.last
    assert len(found.err.splitlines()) == 2, found.err
    assert stats["calls"] <= 2
