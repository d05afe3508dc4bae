"""A run that is killed while it gathers known vectors pays for none of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import run, write_rows
from support.killing import Job, Step, leftovers, same_rows

from bulkembed.emulator.server import EmulatorServer

pytestmark = pytest.mark.kill

ROWS = 120
ARGS = ("--dim", "128", "--unit-rows", "10")


@pytest.mark.parametrize(
    ("step", "workers"),
    [
        pytest.param(Step("os.rename", "/_run/gather/", 1), 2, id="first-list"),
        pytest.param(Step("os.rename", "/_run/gather/", 3), 2, id="third-list"),
        pytest.param(Step("os.rename", "/_run/summaries/"), 2, id="summary"),
        pytest.param(Step("os.rename", "/_run/units/"), 1, id="first-commit"),
    ],
)
def test_known_vectors_are_never_paid_for_again(
    server: EmulatorServer, tmp_path: Path, step: Step, workers: int
) -> None:
    texts = [f"text {n}" for n in range(ROWS)]
    source = write_rows(tmp_path / "in/a.parquet", texts)
    output = tmp_path / "out"
    assert run(server.url, source, output, *ARGS).code == 0
    write_rows(source, [texts[n * 7 % ROWS] for n in range(ROWS)])
    job = Job(server, source, output, (*ARGS, "--workers", str(workers)))
    assert job.finish(step).code == -9
    ended = job.finish()
    assert ended.code == 0, ended.err
    assert leftovers(output) == []
    assert not list((output / "_run/gather").iterdir())
    assert server.stats()["texts"] == ROWS
    with EmulatorServer() as other:
        assert run(other.url, source, tmp_path / "undisturbed", *ARGS).code == 0
    same_rows(output, tmp_path / "undisturbed")
