"""A run in batch mode with media that is killed pays for each file once, and forgets no job."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.cli import bulkembed, dead_codes
from support.images import picture
from support.killing import Job, Step, leftovers, same_rows
from support.media_jobs import write

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = [pytest.mark.kill, pytest.mark.timeout(900)]

ROWS = 48
OF_DATASET = (
    "--model", "gemini-embedding-2", "--dim", "128", "--content", "image:photo", "--content",
    "image:file", "--unit-rows", "10", "--max-dead-letters", "100",
)  # fmt: skip
ARGS = (*OF_DATASET, "--mode", "batch", "--batch-poll", "0.1s", "--batch-job-rows", "9")
STEPS = (
    # The first job: its texts, its entry, its upload, and the contents of the rows in its file.
    *(Step("os.rename", "/_run/batch/", number) for number in (1, 3)),
    Step("os.rename", ".rows"),
    # Before the service is asked for a job, and after it has answered.
    *(Step("os.rename", "/_run/batch/", number) for number in (5, 6)),
    Step("os.rename", ".parquet", 2),
    Step("os.rename", "/_run/units/"),
)


def test_kills_of_batch_jobs_with_media_pay_for_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "img").mkdir(parents=True)
    for number in range(20):
        (folder / f"img/{number}.png").write_bytes(picture(500 + number % 15))
    source = write(
        folder / "a.parquet", id=range(ROWS),
        photo=[picture(n % 21) if n % 7 else b"no image" for n in range(ROWS)],
        file=[f"img/{n % 22}.png" if n % 3 == 0 else None for n in range(ROWS)],
    )  # fmt: skip
    whole, output = tmp_path / "whole", tmp_path / "out"
    with EmulatorServer(EmulatorSettings(batch=BatchSettings(seconds=0.2, jobs=4))) as server:
        job = Job(server, source, output, ARGS)
        for step in STEPS:
            killed = job.finish(step)
            assert killed.code == -signal.SIGKILL, f"{step}: {killed.code} {killed.err}"
        ended = job.finish()
        assert ended.code == 0, ended.err
        stats = server.stats()
        assert (stats["calls"], stats["texts_paid_twice"]) == (0, 0)
        assert (stats["batch"]["jobs_left"], stats["batch"]["files_left"]) == (0, 0)
        assert not stats["batch"]["display_names_twice"]
    assert leftovers(output) == []
    assert list((output / "_run/batch").glob("*.rows")) == []
    assert bulkembed("verify", output, "--repeated-ids").code == 0
    with EmulatorServer() as server:
        assert Job(server, source, whole, OF_DATASET).finish().code == 0
        assert server.stats()["distinct_texts"] == stats["texts"]
    same_rows(output, whole)
    assert set(dead_codes(output).values()) == {"unsupported_type", "not_found"}
