"""A run with early units can be killed in either part and in between; nothing is paid twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import bulkembed, run
from support.early import ALL_TEXTS, EARLY_TEXTS, write_input
from support.killing import Job, Step, ended, leftovers, same_rows

from bulkembed.emulator.server import EmulatorServer

pytestmark = [pytest.mark.kill, pytest.mark.timeout(200)]

DRIVER = Path(__file__).parent / "small_plans.py"
ARGS = ("--dim", "128", "--unit-rows", "10", "--concurrency", "1", "--no-report")
EARLY_UNITS = 5
STEPS = (
    (Step("os.rename", "/_run/units/", 2), 30),
    (Step("os.rename", "/_run/units/", EARLY_UNITS), 0),
    (Step("open", "-early-"), 0),
    (Step("open", "-shared-0-", 2), 60),
    (Step("os.rename", "/_run/units/", EARLY_UNITS + 3), 30),
)
"""In the early units, at their end, when their vectors are kept, and in the other units; and the
texts of a request whose answer may be lost then."""


def start(job: Job, step: Step) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DRIVER), step.event, step.part, str(step.number), *job.command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_input(tmp_path_factory.mktemp("early") / "in")


@pytest.fixture(scope="module")
def whole(source: Path) -> Path:
    with EmulatorServer() as server:
        assert run(server.url, source, source.parent / "whole", *ARGS).code == 0
    return source.parent / "whole"


@pytest.mark.parametrize(("step", "in_flight"), STEPS, ids=str)
def test_a_killed_run_is_resumed_and_pays_for_requests_in_flight_at_most(
    source: Path, whole: Path, tmp_path: Path, step: Step, in_flight: int
) -> None:
    with EmulatorServer() as server:
        job = Job(server, source, tmp_path / "out", ARGS)
        killed = ended(start(job, step))
        assert killed.code == -signal.SIGKILL, f"{killed.code} {killed.err}"
        if (step, in_flight) not in STEPS[-2:]:
            assert server.stats()["texts"] <= EARLY_TEXTS
        again = ended(start(job, Step("open", "never")))
        assert again.code == 0, again.err
        stats = server.stats()
        assert stats["distinct_texts"] == ALL_TEXTS
        assert stats["texts_paid_twice"] <= in_flight
    same_rows(job.output, whole)
    assert leftovers(job.output) == []
    verified = bulkembed("verify", job.output, "--against", source)
    assert verified.code == 0, verified.out
