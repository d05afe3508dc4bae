"""Lists of changes are kept for some days, so that nightly runs do not fill a disk in years."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path

import pytest
from support.catalogues import catalogue, sync, write_export
from support.cli import Ended, bulkembed

from bulkembed.emulator.server import EmulatorServer
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.manifest import read_manifest, write_manifest

pytestmark = pytest.mark.faults


def night(server: EmulatorServer, tmp_path: Path, number: int, *args: object) -> str:
    """Add a row to the catalogue; return the id of the run."""
    source = write_export(tmp_path / "in", catalogue(5 + number), seed=number)
    ended = sync(server, source, tmp_path / "out", *args)
    assert ended.code == 0, ended.err
    return str(json.loads(bulkembed("parts", tmp_path / "out", "--json").out)["run_id"])


def make_older(output: Path, days: list[float]) -> list[str]:
    """Make the runs in the list of changes so old; return their ids, which begin with the time."""
    dataset = Dataset.open(str(output))
    manifest = read_manifest(dataset)
    assert manifest is not None
    now = dt.datetime.now(dt.UTC)
    older = []
    for run, age in zip(manifest.changes, days, strict=True):
        time = now - dt.timedelta(days=age)
        run_id = f"{time:%Y%m%dT%H%M%SZ}-{run.run_id[-6:]}"
        older.append(dataclasses.replace(run, run_id=run_id, time=time.isoformat()))
        (output / run.feed).rename(output / older[-1].feed)
    changed = dataclasses.replace(manifest, changes=tuple(older), run_id=older[-1].run_id)
    write_manifest(dataset, changed)
    return [run.run_id for run in older]


def changes(output: Path, *args: object) -> Ended:
    return bulkembed("changes", output, "--format", "jsonl", *args)


def ids(ended: Ended) -> set[str]:
    assert ended.code == 0, ended.err
    return {json.loads(line)["id"] for line in ended.out.splitlines()}


def feeds(output: Path) -> set[str]:
    return {path.stem for path in (output / "_run/changes").iterdir()}


def test_lists_older_than_keep_changes_are_deleted(server: EmulatorServer, tmp_path: Path) -> None:
    output = tmp_path / "out"
    for number in range(3):
        night(server, tmp_path, number)
    runs = make_older(output, [400, 366, 364])
    old_feed = (output / f"_run/changes/{runs[0]}.parquet").read_bytes()
    runs.append(night(server, tmp_path, 3))
    assert feeds(output) == {runs[2], runs[3]}
    assert ids(changes(output)) == {"p7"}
    assert ids(changes(output, "--since", runs[1])) == {"p6", "p7"}
    for since in (runs[0], "2024-01-01"):
        ended = changes(output, "--since", since)
        assert ended.code == 2
        assert f"the changes since {since} are not known" in ended.last
        assert "--keep-changes" in ended.last
        assert "Load the whole dataset again" in ended.last
    recent = (dt.datetime.now(dt.UTC) - dt.timedelta(days=365)).isoformat()
    assert ids(changes(output, "--since", recent)) == {"p6", "p7"}
    assert bulkembed("verify", output).code == 0
    # A run that was killed before it deleted the file.
    (output / f"_run/changes/{runs[0]}.parquet").write_bytes(old_feed)
    runs.append(night(server, tmp_path, 4))
    assert feeds(output) == {*runs[2:]}


@pytest.mark.parametrize(
    ("days", "kept"), [(0, 1), (1, 2), (30, 3), (100_000, 5)], ids=["0", "1", "30", "all"]
)
def test_keep_changes_sets_the_days(
    server: EmulatorServer, tmp_path: Path, days: int, kept: int
) -> None:
    for number in range(4):
        night(server, tmp_path, number)
    runs = make_older(tmp_path / "out", [10_000, 31, 29, 0.5])
    runs.append(night(server, tmp_path, 4, "--keep-changes", days))
    assert feeds(tmp_path / "out") == {*runs[-kept:]}
    assert ids(changes(tmp_path / "out")) == {"p8"}
    ended = changes(tmp_path / "out", "--since", runs[0])
    assert ended.code == (0 if kept == 5 else 2)
