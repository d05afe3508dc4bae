"""A job with images, killed at any moment and started again, ends as if nothing had happened."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import read, run
from support.images import picture
from support.killing import FIRST_STEPS, Job, leftovers, same_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

ROWS = 480
IN_FLIGHT = 2
ARGS = (
    "--model", "gemini-embedding-2", "--dim", "128", "--content", "image:photo", "--content",
    "image:file", "--unit-rows", "40", "--concurrency", str(IN_FLIGHT), "--max-dead-letters", "100",
)  # fmt: skip


@pytest.mark.faults
def test_kills_of_a_job_with_images_lose_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "img").mkdir(parents=True)
    for number in range(30):
        (folder / f"img/{number}.png").write_bytes(picture(500 + number))
    photos = [picture(n % 400) if n % 31 else b"no image" for n in range(ROWS)]
    files = [f"img/{n % 40}.png" if n % 3 == 0 else None for n in range(ROWS)]
    source = folder / "a.parquet"
    pq.write_table(pa.table({"id": range(ROWS), "photo": photos, "file": files}), source)
    settings = EmulatorSettings(latency_ms=60)
    whole, output = tmp_path / "whole", tmp_path / "out"
    with EmulatorServer(settings) as server:
        assert run(server.url, source, whole, *ARGS).code == 0
        paid = server.stats()["texts"]
    with EmulatorServer(settings) as server:
        job = Job(server, source, output, ARGS)
        for step in FIRST_STEPS[3:]:
            killed = job.finish(step)
            assert killed.code == -signal.SIGKILL, f"{step}: {killed.code} {killed.err}"
        ended, _ = job.signalled(signal.SIGKILL, random.Random(16), 0.2)
        assert ended.code == -signal.SIGKILL, ended.err
        ended = job.finish()
        assert ended.code == 0, ended.err
        assert leftovers(output) == []
        same_rows(output, whole)
        most = paid + 6 * IN_FLIGHT * 40
        assert paid <= server.stats()["texts"] <= most
    assert len(read(output)) < ROWS
