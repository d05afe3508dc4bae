"""Killed while it writes or merges partitions, a job is resumed by the next one."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from support.cli import bulkembed, run, write_rows
from support.damage import findings
from support.killing import Job, Step, leftovers

from bulkembed.emulator.server import EmulatorServer

pytestmark = pytest.mark.kill

ARGS = (
    "--dim", "128", "--unit-rows", "10", "--no-report", "--keep-columns", "lang",
    "--partition-by", "lang",
)  # fmt: skip
LANGS = ["de", "en", "fr", "it"]
RUN_STEPS = (
    Step("open", "/vectors/lang=", 2),
    Step("os.rename", "/vectors/lang=de/", 1),
    Step("os.rename", "/vectors/lang=fr/", 2),
    Step("os.rename", "/_run/units/"),
    Step("os.rename", "/_run/units/", 3),
)
COMPACT_STEPS = (
    Step("open", "/vectors/lang=", 2),
    Step("os.rename", "/vectors/lang=en/group-"),
    Step("os.rename", "/_run/units/group-"),
    Step("os.rename", "/_run/manifest.json"),
    Step("os.rename", "_SUCCESS"),
)


@dataclasses.dataclass(frozen=True)
class Compaction(Job):
    """`bulkembed compact`, started again."""

    @property
    def command(self) -> list[str]:
        return ["compact", str(self.output)]


def rows(output: Path) -> pa.Table:
    schema = ds.partitioning(pa.schema([("lang", pa.string())]), flavor="hive")
    table = ds.dataset(output / "vectors", partitioning=schema).to_table()
    assert table.num_rows == len(set(table["id"].to_pylist()))
    return table.select(["id", "lang", "text_hash", "vector"]).sort_by("id")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`in` with 40 rows in four languages, and `out` in four units."""
    place = tmp_path_factory.mktemp("whole")
    write_rows(place / "in/a.parquet", [f"text {n}" for n in range(40)], lang=LANGS * 10)
    with EmulatorServer() as server:
        assert run(server.url, place / "in", place / "out", *ARGS).code == 0
    return place


@pytest.mark.parametrize("step", RUN_STEPS, ids=str)
def test_a_killed_run_leaves_no_row_twice(
    whole: Path, tmp_path: Path, server: EmulatorServer, step: Step
) -> None:
    shutil.copytree(whole / "in", tmp_path / "in")
    job = Job(server, tmp_path / "in", tmp_path / "out", ARGS)
    assert job.finish(step).code == -signal.SIGKILL
    ended = job.finish()
    assert ended.code == 0, ended.err
    assert rows(tmp_path / "out").equals(rows(whole / "out"))
    assert leftovers(tmp_path / "out") == []
    assert findings(tmp_path, "--against", tmp_path / "in") == []


@pytest.mark.parametrize("step", COMPACT_STEPS, ids=str)
def test_a_killed_compaction_leaves_no_row_twice(
    whole: Path, tmp_path: Path, server: EmulatorServer, step: Step
) -> None:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    compaction = Compaction(server, tmp_path / "in", tmp_path / "out", ())
    assert compaction.finish(step).code == -signal.SIGKILL
    if step is COMPACT_STEPS[2]:  # A run resumes it as well.
        ended = run(server.url, tmp_path / "in", tmp_path / "out", *ARGS)
        assert (ended.code, server.stats()["texts"]) == (0, 0), ended.err
    assert bulkembed("compact", tmp_path / "out").code == 0
    assert rows(tmp_path / "out").equals(rows(whole / "out"))
    assert leftovers(tmp_path / "out") == []
    assert findings(tmp_path, "--against", tmp_path / "in") == []
    assert len([*tmp_path.glob("out/vectors/*/*.parquet")]) == len(LANGS)
