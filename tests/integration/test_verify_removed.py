"""`bulkembed verify` of units of which rows were removed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.cli import bulkembed, run
from support.damage import a_row_less, findings

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.run.publish import PublishedRun, publish_state
from bulkembed.schemas.job import RunStamp
from bulkembed.transforms.dataset import run_file
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.replace import replace_rows


@pytest.fixture
def removed(place: Path) -> Path:
    """A dataset without two of its rows with vectors, and without one dead letter."""
    dataset = Dataset.open(str(place / "out"))
    pinned = run_file.read(dataset)
    run = RunStamp("later", pinned["run_number"], pinned["embedding_digest"])
    first = next(one for one in dataset.state().records if one.dead)
    assert replace_rows(dataset, run, first, np.array([0, 5]), np.array([0]))
    publish_state(dataset, PublishedRun("later", 1, ("lang",)), dataset.state())
    return place


def test_removed_rows_are_no_finding(removed: Path) -> None:
    assert findings(removed, "--against", removed / "in") == []
    report = json.loads(bulkembed("verify", removed / "out", "--json").out)
    assert (report["vectors"], report["dead_letters"]) == (25, 2)
    status = json.loads(bulkembed("status", removed / "out", "--json").out)
    assert (status["rows"]["rows_in"], status["rows"]["embedded"]) == (27, 25)


def test_a_row_that_is_missing_besides_is_found(removed: Path) -> None:
    a_row_less(removed)
    assert {check for check, _, _ in findings(removed)} == {"count", "rows"}
    message = "4 rows of a.parquet missing, although 3 were removed, first row 0"
    assert message in [found for _, _, found in findings(removed)]


def test_a_lost_record_is_rebuilt_with_its_removed_rows(removed: Path) -> None:
    before = Dataset.open(str(removed / "out")).state().records
    for record in (removed / "out/_run/units").iterdir():
        record.unlink()
    assert bulkembed("verify", "--repair", removed / "out").code == 0
    assert Dataset.open(str(removed / "out")).state().records == before
    assert findings(removed) == []


def test_failed_rows_of_a_unit_with_removed_rows_are_retried(removed: Path) -> None:
    with EmulatorServer(EmulatorSettings()) as server:
        ended = run(
            server.url, removed / "in", removed / "out", "--dim", 128, "--keep-columns", "lang",
            "--retry-failed",
        )  # fmt: skip
    assert ended.code == 0, ended.err
    assert findings(removed) == []
    assert sum(one.removed for one in Dataset.open(str(removed / "out")).state().records) == 3
