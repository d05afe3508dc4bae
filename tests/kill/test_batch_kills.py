"""A run in batch mode that is killed again and again pays for each text once and forgets no job."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from support.cli import Ended, bulkembed, run, write_rows
from support.google_login import credentials
from support.killing import Job, Step, ended, leftovers, same_rows, wait_for

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = [pytest.mark.kill, pytest.mark.timeout(900)]

KILLS = 30
DISTINCT = 300
TEXTS = [f"text {n % DISTINCT}" for n in range(400)]
OF_DATASET = ("--dim", "128", "--unit-rows", "30", "--no-report")
ARGS = (*OF_DATASET, "--mode", "batch", "--batch-poll", "0.1s", "--batch-job-rows", "10")
FAULTS = (
    *(
        (kind, fault, 0.1 / 3)
        for kind in ("start", "upload", "get", "list", "download", "delete", "delete-file")
        for fault in ("503", "lost", "reset")
    ),
    ("create", "lost", 0.1),
    # After these, a run looks for 15 s whether the job is there.
    ("create", "503", 0.01),
    ("create", "reset", 0.01),
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(4):
        write_rows(tmp_path / f"in/{number}.parquet", TEXTS[100 * number :][:100])
    return tmp_path / "in"


def serving(**settings: object) -> EmulatorServer:
    batch = BatchSettings(seconds=0.3, jobs=4, **settings)  # type: ignore[arg-type]
    return EmulatorServer(EmulatorSettings(batch=batch))


def check(server: EmulatorServer, source: Path, output: Path, *args: str) -> None:
    """The dataset is that of an undisturbed online run, and the service has nothing left."""
    stats = server.stats()
    assert stats["texts"] == stats["distinct_texts"] == DISTINCT
    # An upload whose start was killed is no file yet, and nobody else knows its address.
    assert (stats["batch"]["jobs_left"], stats["batch"]["files_left"]) == (0, 0)
    assert not stats["batch"]["display_names_twice"]
    assert leftovers(output) == []
    assert bulkembed("verify", output, "--repeated-ids").code == 0
    online = output.parent / "online"
    with EmulatorServer() as other:
        assert run(other.url, source, online, *OF_DATASET, *args).code == 0
    same_rows(output, online)


def killed_at_random(job: Job, chance: random.Random) -> None:
    """Kill a run some time after its first call about files or jobs."""
    before = job.server.stats()["batch"]["calls"]
    process = job.start()

    def has_called() -> bool:
        return bool(job.server.stats()["batch"]["calls"] != before or process.poll() is not None)

    wait_for(has_called)
    time.sleep(chance.uniform(0, 1.5))
    process.send_signal(signal.SIGKILL)
    ended(process)


def finished(job: Job) -> Ended:
    """The end of the last run; each is started again while the service fails for too long."""
    last = job.finish()
    for _ in range(5):
        if last.code != 75:
            break
        last = job.finish()
    return last


def test_kills_at_steps_of_the_ledger_pay_for_nothing_twice(source: Path, tmp_path: Path) -> None:
    chance = random.Random(15)
    with serving() as server:
        job = Job(server, source, tmp_path / "out", ARGS)
        for _ in range(KILLS):
            step = Step("os.rename", "/_run/batch/", chance.randint(1, 7))
            assert job.finish(step).code == -signal.SIGKILL
        last = job.finish()
        assert last.code == 0, last.err
        check(server, source, tmp_path / "out")


def test_kills_at_random_moments_amid_faults_pay_for_nothing_twice(
    source: Path, tmp_path: Path
) -> None:
    chance = random.Random(16)
    with serving(call_faults=FAULTS) as server:
        job = Job(server, source, tmp_path / "out", ARGS)
        for _ in range(KILLS // 2):
            killed_at_random(job, chance)
        last = finished(job)
        assert last.code == 0, last.err
        check(server, source, tmp_path / "out")
        answers = set().union(*server.stats()["batch"]["calls"].values())
        assert {"200", "503", "reset"} <= answers


def test_kills_amid_faults_of_vertex_ai_pay_for_nothing_twice(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(17)
    buckets = tmp_path / "buckets"
    (buckets / "bucket").mkdir(parents=True)
    vertex = (
        "--vertexai", "--vertex-project", "p", "--vertex-location", "us-central1",
        "--batch-bucket", str(buckets / "bucket"),
    )  # fmt: skip
    with (
        credentials(tmp_path) as environ,
        serving(call_faults=FAULTS, buckets=(("*", str(buckets)),)) as server,
    ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        job = Job(server, source, tmp_path / "out", (*ARGS, *vertex))
        for _ in range(KILLS // 4):
            killed_at_random(job, chance)
        last = finished(job)
        assert last.code == 0, last.err
        check(server, source, tmp_path / "out", *vertex[:-2])
    assert not list((buckets / "bucket").rglob("*.jsonl"))
