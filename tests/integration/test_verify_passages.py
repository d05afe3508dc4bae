"""`bulkembed verify` for passages: missing, duplicate and moved ones are found."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.cli import bulkembed, run, write_rows
from support.damage import findings, first_part, rewrite, with_column

from bulkembed.emulator.server import EmulatorServer

LINES = [f"Sentence {n} fills a passage of sixteen tokens, alone." for n in range(9)]


@pytest.fixture(scope="module")
def in_passages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows of three passages each."""
    folder = tmp_path_factory.mktemp("passages")
    write_rows(folder / "in/a.parquet", ["\n\n".join(LINES[n : n + 3]) for n in (0, 3, 6)])
    args = ("--long-text", "passages", "--passage-tokens", 16, "--passage-overlap", 0)
    with EmulatorServer() as server:
        ended = run(server.url, folder / "in", folder / "out", "--dim", 128, *args)
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture
def place(in_passages: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(in_passages, tmp_path / "copy"))


def taken(*rows: int) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.take(list(rows))


def moved(places: list[Any]) -> list[Any]:
    return [place + 1 for place in places]


@pytest.mark.parametrize(
    ("damage", "checks"),
    [
        pytest.param(taken(*range(8)), {"count"}, id="the-last-is-lost"),
        pytest.param(taken(0, *range(2, 9)), {"count", "passage"}, id="one-is-lost"),
        pytest.param(taken(*range(3), *range(4, 9)), {"count", "passage", "rows"}, id="first-lost"),
        pytest.param(taken(0, 1, 1, *range(3, 9)), {"passage"}, id="one-is-twice-there"),
        pytest.param(taken(*range(3), *range(3), *range(6, 9)), {"rows", "id"}, id="row-twice"),
        pytest.param(taken(0, 2, 1, *range(3, 9)), {"passage"}, id="another-order"),
        pytest.param(with_column("passage", lambda rows: [0] * len(rows)), {"rows", "id"}, id="0s"),
        pytest.param(with_column("start", moved), {"input"}, id="another-place"),
    ],
)
def test_damaged_passages_are_found(
    damage: Callable[[pa.Table], pa.Table], checks: set[str], place: Path
) -> None:
    rewrite(first_part(place), damage)
    found = findings(place, "--against", place / "in")
    assert {check for check, _, _ in found} == checks


def test_an_intact_dataset_of_passages_has_no_findings(in_passages: Path) -> None:
    assert findings(in_passages, "--against", in_passages / "in") == []
    assert "read     9 vectors" in bulkembed("verify", in_passages / "out").out
