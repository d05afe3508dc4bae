"""Killed at any moment, a compaction is resumed by the next one, or by a run."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from support.cli import Ended, bulkembed, parts, run, write_rows
from support.damage import findings
from support.killing import Job, Step, leftovers, same_rows, wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

FILES, ROWS = 60, 20
ARGS = ("--dim", "128", "--unit-rows", "10", "--no-report")
SIZE = "100KB"
"""About eight merged files."""
STEPS = (
    Step("os.rename", "run.copy.json"),
    Step("os.rename", "run.json"),
    Step("open", "/vectors/.tmp-", 3),
    Step("open", "/dead_letters/.tmp-", 2),
    Step("os.rename", "/vectors/group-"),
    Step("os.rename", "/vectors/group-", 4),
    Step("os.rename", "/dead_letters/group-"),
    Step("os.rename", "/_run/units/group-"),
    Step("os.rename", "/_run/units/group-", 3),
    Step("os.rename", "_SUCCESS"),
)
RANDOM = 10


@dataclasses.dataclass(frozen=True)
class Compaction(Job):
    """`bulkembed compact`, started again and again."""

    @property
    def command(self) -> list[str]:
        return ["compact", str(self.output), "--target-file-size", SIZE]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`in` with 60 files of 20 rows, one of them blank, and `out` in 120 units."""
    place = tmp_path_factory.mktemp("whole")
    for file in range(FILES):
        texts = [f"text {row} of file {file}" for row in range(ROWS)]
        texts[file % ROWS] = ""
        ids = [f"{file}-{row}" for row in range(ROWS)]
        write_rows(place / f"in/f{file:02}.parquet", texts, id=ids)
    with EmulatorServer(EmulatorSettings()) as server:
        assert run(server.url, place / "in", place / "out", *ARGS).code == 0
    return place


def number_of_run(output: Path) -> int:
    try:
        return int(json.loads((output / "_run/run.json").read_bytes())["run_number"])
    except (OSError, ValueError):
        return 0


def killed_at_random(job: Job, chance: random.Random) -> Ended:
    """Kill a compaction a moment after it has taken the dataset, if it has anything to do."""
    before = number_of_run(job.output)
    process = job.start()
    wait_for(lambda: number_of_run(job.output) > before or process.poll() is not None)
    time.sleep(chance.uniform(0, 0.15))
    process.send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    return Ended(process.returncode, out, err)


@pytest.mark.kill
@pytest.mark.timeout(900)
@pytest.mark.parametrize("ends_with", ["compact", "run"])
def test_twenty_kills_of_a_compaction_lose_nothing(
    whole: Path, tmp_path: Path, ends_with: str
) -> None:
    seed = 14 if ends_with == "compact" else 15
    chance = random.Random(seed)
    kills: list[Step | None] = [*STEPS, *[None] * RANDOM]
    chance.shuffle(kills)
    with EmulatorServer(EmulatorSettings()) as server:
        for number, step in enumerate(kills):
            print(step or "at random", flush=True)
            output = tmp_path / "out"
            if number % 4 == 0:  # From the beginning: else there soon is nothing left to merge.
                shutil.rmtree(output, ignore_errors=True)
                shutil.copytree(whole / "out", output)
            job = Compaction(server, whole / "in", output, ())
            ended = job.finish(step) if step is not None else killed_at_random(job, chance)
            assert ended.code in (0, -signal.SIGKILL), ended.err
            if number % 4 == 3:
                if ends_with == "run":
                    ended = run(server.url, whole / "in", output, *ARGS)
                    assert ended.code == 0, ended.err
                assert bulkembed(*job.command).code == 0
                check(whole, output)
        assert server.stats()["texts"] == 0


def check(whole: Path, output: Path) -> None:
    assert leftovers(output) == []
    assert (output / "_SUCCESS").exists()
    assert len(parts(output, "vectors")) < FILES / 2
    same_rows(output, whole / "out")
    assert findings(output.parent, "--against", whole / "in") == []
