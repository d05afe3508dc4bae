"""Input files that are deleted or renamed between two runs, and what --prune may delete."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import Ended, bulkembed, parts, read, run, snapshot

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.run import missing_files
from bulkembed.transforms.dataset.layout import REFUSAL

pytestmark = pytest.mark.faults


def write(path: Path, ids: range) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": [f"id-{n}" for n in ids], "text": [f"text {n}" for n in ids]})
    pq.write_table(table, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files of 25 rows."""
    for number in range(4):
        write(tmp_path / f"in/{number}.parquet", range(25 * number, 25 * number + 25))
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def go(server: EmulatorServer, folder: Path, out: Path, *args: object) -> Ended:
    return run(server.url, folder, out, "--dim", 128, *args)


@pytest.mark.parametrize("partitions", [1, 16])
def test_prune_deletes_nothing_if_most_files_are_missing(
    server: EmulatorServer,
    folder: Path,
    out: Path,
    partitions: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(missing_files, "partitions_for", lambda rows, row_bytes: partitions)
    assert go(server, folder, out).code == 0
    for number in range(3):
        (folder / f"{number}.parquet").unlink()
    write(folder / "new.parquet", range(100, 110))
    before, texts = snapshot(out), server.stats()["texts"]
    ended = go(server, folder, out, "--prune")
    assert ended.code == 3, ended.err
    assert "3 input files are missing" in ended.last
    assert "delete 75 of 100 rows (75 %)" in ended.last
    assert "--max-delete 75" in ended.last
    assert snapshot(out, without=REFUSAL) == before
    assert server.stats()["texts"] == texts
    assert go(server, folder, out, "--prune", "--max-delete", "74%").code == 3
    ended = go(server, folder, out, "--prune", "--max-delete", 75)
    assert ended.code == 0, ended.err
    assert "deleting up to 75 of 100 rows" in ended.err
    assert sorted(set(read(out)["source_file"].to_pylist())) == ["3.parquet", "new.parquet"]
    assert bulkembed("verify", out).code == 0


def test_renamed_files_with_committed_ids_stop_the_run_before_it_spends(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    assert go(server, folder, out).code == 0
    (folder / "0.parquet").rename(folder / "renamed.parquet")
    before, calls = snapshot(out), server.stats()["calls"]
    ended = go(server, folder, out)
    assert ended.code == 2, ended.err
    assert "0.parquet" in ended.last
    assert "25 of their 25 ids are in input files that are not embedded yet (renamed.parquet)" in (
        ended.last
    )
    assert "--missing-files keep" in ended.last
    assert "--prune" in ended.last
    assert snapshot(out, without=REFUSAL) == before
    assert server.stats()["calls"] == calls
    ended = go(server, folder, out, "--missing-files", "keep")
    assert ended.code == 0, ended.err
    assert "0.parquet: its rows are kept" in ended.out
    assert len(read(out)) == 125
    # Now the ids are in the dataset twice, so no id is lost.
    ended = go(server, folder, out, "--prune")
    assert ended.code == 0, ended.err
    assert len(read(out)) == 100
    assert server.stats()["texts"] == 100


def test_an_export_with_other_names_and_another_split_is_pruned_by_its_ids(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    assert go(server, folder, out).code == 0
    for path in folder.iterdir():
        path.unlink()
    write(folder / "a.parquet", range(3, 60))
    write(folder / "b.parquet", range(60, 102))
    assert go(server, folder, out).code == 2
    ended = go(server, folder, out, "--prune")
    assert ended.code == 0, ended.err
    assert "deleting up to 3 of 100 rows" in ended.err
    assert sorted(read(out)["id"].to_pylist()) == sorted(f"id-{n}" for n in range(3, 102))
    assert server.stats()["texts"] == 102
    assert bulkembed("verify", out).code == 0


def test_rows_of_missing_files_stay_until_all_new_rows_are_committed(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    assert go(server, folder, out).code == 0
    old = {path.name for path in parts(out, "vectors")}
    for path in folder.iterdir():
        path.unlink()
    write(folder / "all.parquet", range(0, 100))
    args = ("--prune", "--unit-rows", 10)
    ended = go(server, folder, out, *args, "--limit-rows", 50)
    assert ended.code == 0, ended.err
    assert old <= {path.name for path in parts(out, "vectors")}
    ended = go(server, folder, out, *args)
    assert ended.code == 0, ended.err
    assert not old & {path.name for path in parts(out, "vectors")}
    assert len(read(out)) == 100


def test_a_deleted_file_whose_ids_are_nowhere_else_is_kept_and_named(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    assert go(server, folder, out).code == 0
    (folder / "0.parquet").unlink()
    write(folder / "new.parquet", range(100, 110))
    ended = go(server, folder, out)
    assert ended.code == 0, ended.err
    assert "0.parquet: its rows are kept" in ended.out
    assert len(read(out)) == 110


def test_ids_are_compared_for_jsonl_and_integers_and_dead_letters_too(
    server: EmulatorServer, tmp_path: Path, out: Path
) -> None:
    folder = tmp_path / "lines"
    folder.mkdir()
    rows = [{"id": 1, "text": "one"}, {"id": 2, "text": " "}, {"id": None, "text": "three"}]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "b.jsonl").write_text('{"id": 9, "text": "nine"}\n')
    args = ("--max-dead-letters", 5)
    assert go(server, folder, out, *args).code == 0
    (folder / "a.jsonl").unlink()
    (folder / "c.jsonl").write_text('{"id": 2, "text": "two"}\n')
    ended = go(server, folder, out, *args)
    assert ended.code == 2, ended.err
    assert "1 of their 3 ids" in ended.last


def test_generated_ids_hold_the_name_of_the_file_and_are_not_compared(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    args = ("--generate-ids",)
    assert go(server, folder, out, *args).code == 0
    (folder / "0.parquet").rename(folder / "renamed.parquet")
    ended = go(server, folder, out, *args)
    assert ended.code == 0, ended.err
    assert "0.parquet: its rows are kept" in ended.out


def test_prune_contradicts_keep(server: EmulatorServer, folder: Path, out: Path) -> None:
    ended = go(server, folder, out, "--prune", "--missing-files", "keep")
    assert ended.code == 2
    assert "Remove one of them" in ended.last
