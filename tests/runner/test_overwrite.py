"""`--overwrite` deletes once: what it began, the same command goes on with until it is complete."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from support.cli import Ended, matrix, read, run
from support.killing import Job, Step, ended, leftovers, wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = pytest.mark.faults

TEXTS = 25
A_CALL = 5
"""Texts that are in flight at most."""


def go(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, "--dim", 128, "--unit-rows", 5, *args)


def test_a_spent_day_after_another_the_same_command_finishes_and_pays_once(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output).code == 0
    codes = [
        go(server, source, output, "--overwrite", "--rpd", 10, "--quota-name", f"day {day}").code
        for day in range(3)
    ]
    assert codes == [75, 75, 0]
    assert server.stats()["texts"] == 2 * TEXTS
    assert len(read(output)) == TEXTS
    assert go(server, source, output, "--overwrite").code == 0
    assert server.stats()["texts"] == 3 * TEXTS, "a dataset that is complete is deleted again"


def test_what_sigterm_says_is_true_of_fresh(source: Path, output: Path) -> None:
    args = ("--dim", "128", "--unit-rows", "1", "--concurrency", "1", "--overwrite")
    with EmulatorServer(EmulatorSettings(latency_ms=200)) as server:
        assert run(server.url, source, output, "--dim", 128).code == 0
        job = Job(server, source, output, args)
        process = job.start()
        wait_for(lambda: server.stats()["texts"] > TEXTS + 2 or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        stopped = ended(process)
        assert stopped.code == 75
        assert "Rerun the same command to resume." in stopped.last
        assert job.finish().code == 0
        assert server.stats()["texts"] == 2 * TEXTS
    assert len(read(output)) == TEXTS


@pytest.mark.parametrize(
    "step",
    [
        Step("os.rename", "run.json"),
        Step("os.remove", "account.json"),
        Step("os.rename", "run.json", 2),
        Step("os.rename", "/_run/units/", 2),
        Step("os.rename", "_SUCCESS"),
        Step("os.rename", "run.json", 3),
    ],
    ids=str,
)
def test_a_kill_at_any_moment_of_fresh_leaves_no_row_of_before_and_costs_little(
    server: EmulatorServer, source: Path, output: Path, step: Step
) -> None:
    assert go(server, source, output, "--dim", 256).code == 0
    args = ("--dim", "128", "--unit-rows", "5", "--concurrency", "1", "--overwrite")
    killed = Job(server, source, output, args).finish(step)
    assert killed.code == -9, killed.err
    done = go(server, source, output, "--overwrite")
    assert done.code == 0, done.err
    assert matrix(read(output)).shape == (TEXTS, 128)
    assert leftovers(output) == []
    again = TEXTS if step == Step("os.rename", "run.json", 3) else 0
    least = 2 * TEXTS + again
    assert least <= server.stats()["texts"] <= least + A_CALL
    assert json.loads((output / "_run/run.json").read_bytes())["overwrite"] is None


def test_a_run_without_fresh_goes_on_with_what_fresh_began(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output).code == 0
    assert go(server, source, output, "--overwrite", "--rpd", 10, "--quota-name", "a").code == 75
    assert go(server, source, output).code == 0
    assert server.stats()["texts"] == 2 * TEXTS
    assert go(server, source, output, "--overwrite").code == 0
    assert server.stats()["texts"] == 3 * TEXTS


def test_other_settings_are_another_intention(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output, "--overwrite", "--rpd", 10, "--quota-name", "a").code == 75
    assert go(server, source, output, "--overwrite", "--dim", 256).code == 0
    assert matrix(read(output)).shape == (TEXTS, 256)
    assert leftovers(output) == []
    assert server.stats()["texts"] == 10 + TEXTS


def test_a_dataset_that_was_begun_without_fresh_is_deleted_by_it(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output, "--rpd", 10, "--quota-name", "a").code == 75
    assert go(server, source, output, "--overwrite").code == 0
    assert server.stats()["texts"] == 10 + TEXTS


def test_fresh_overwrites_a_dataset_whose_run_json_is_damaged(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output).code == 0
    (output / "_run/run.json").write_bytes(b"{")
    assert go(server, source, output).code == 1
    assert go(server, source, output, "--overwrite").code == 0
    assert len(read(output)) == TEXTS
    assert leftovers(output) == []
