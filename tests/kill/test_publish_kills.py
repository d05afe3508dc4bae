"""A run that is killed while it publishes a complete state: the next one publishes the same."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import bulkembed, parts, read, run
from support.killing import Job, Step, leftovers

from bulkembed.emulator.server import EmulatorServer

pytestmark = pytest.mark.kill

ARGS = ("--dim", "128", "--unit-rows", "10")


def write(path: Path, texts: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": list(texts), "text": list(texts.values())}), path)


def changes(out: Path, since: str) -> dict[str, str]:
    ended = bulkembed("changes", out, "--since", since, "--format", "jsonl")
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in ended.out.splitlines()]
    for row in rows:
        if row["part"] is not None:
            found = pq.read_table(out / row["part"]).slice(row["row"], 1)
            assert found["id"].to_pylist() == [row["id"]]
    return {row["id"]: row["change"] for row in rows}


@pytest.mark.parametrize(
    "step",
    [
        Step("os.rename", "/_run/changes/"),
        Step("os.rename", "/_run/ids/"),
        Step("os.rename", "manifest.json"),
        Step("os.rename", "/_run/summaries/"),
        Step("os.rename", "_SUCCESS"),
    ],
    ids=str,
)
def test_the_next_run_publishes_the_same_state(
    server: EmulatorServer, tmp_path: Path, step: Step
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    write(folder / "a.parquet", {f"a{n}": f"text {n}" for n in range(25)})
    write(folder / "b.parquet", {f"b{n}": f"other {n}" for n in range(5)})
    assert run(server.url, folder, out, *ARGS).code == 0
    state = json.loads(bulkembed("parts", out, "--json").out)
    write(folder / "a.parquet", {f"a{n}": f"text {n + (n == 7)}" for n in range(1, 26)})
    job = Job(server, folder, out, ARGS)
    ended = job.finish(step)
    assert ended.code == -9, ended.err
    assert not (out / "_SUCCESS").exists()
    # A reader of the manifest has the old state or the new one, in whole.
    listed = json.loads(bulkembed("parts", out, "--json").out)
    if listed["run_id"] == state["run_id"]:
        assert listed == state
    assert sum(one["rows"] for one in listed["parts"]) == 30
    assert sum(pq.read_metadata(one["path"]).num_rows for one in listed["parts"]) == 30
    ended = run(server.url, folder, out, *ARGS)
    assert ended.code == 0, ended.err
    want = {"a0": "deleted", "a7": "changed", "a25": "added"}
    assert changes(out, state["run_id"]) == want
    names = [Path(line) for line in bulkembed("parts", out).out.splitlines()]
    assert names == parts(out, "vectors")
    assert len(read(out)) == 30
    assert leftovers(out) == []
    manifest = json.loads((out / "_run/manifest.json").read_bytes())
    feeds = {f"{one['run_id']}.parquet" for one in manifest["changes"]}
    assert {path.name for path in (out / "_run/changes").iterdir()} == feeds
    assert [path.name for path in (out / "_run/ids").iterdir()] == [
        manifest["ids"].rpartition("/")[2]
    ]
    assert bulkembed("verify", out).code == 0
