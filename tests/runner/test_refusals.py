"""What a run refuses because of missing files or deletes, and who says so afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.catalogues import catalogue, sync, write_export
from support.cli import Ended, bulkembed, run, snapshot

from bulkembed.emulator.server import EmulatorServer
from bulkembed.transforms.dataset.layout import REFUSAL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files of 25 rows, with other ids in each."""
    for number in range(4):
        write(tmp_path / f"in/{number}.parquet", range(25 * number, 25 * number + 25))
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def write(path: Path, ids: range) -> None:
    lines = "".join(json.dumps({"id": n, "text": f"text {n}"}) + "\n" for n in ids)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".jsonl").write_text(lines)


def go(server: EmulatorServer, folder: Path, out: Path, *args: object) -> Ended:
    return run(server.url, folder, out, "--dim", 128, *args)


def status(out: Path) -> tuple[str, dict[str, Any]]:
    shown = " ".join(bulkembed("status", out).out.split())
    return shown, json.loads(bulkembed("status", out, "--json").out)


def is_noted(ended: Ended, out: Path) -> None:
    shown, found = status(out)
    assert found["refused"]["exit_code"] == ended.code
    assert found["refused"]["message"] in ended.last
    assert f"code {ended.code}: {found['refused']['message']}" in shown
    assert found["refused"]["at"].replace("T", " ").replace("+00:00", " UTC") in shown


def test_status_says_what_was_refused_until_a_run_passes(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    assert go(server, folder, out).code == 0
    assert status(out)[1]["refused"] is None
    for number in range(3):
        (folder / f"{number}.jsonl").unlink()
    before = snapshot(out)
    ended = go(server, folder, out, "--prune")
    assert ended.code == 3
    is_noted(ended, out)
    assert "--max-delete 75" in status(out)[0]
    (folder / "3.jsonl").rename(folder / "renamed.jsonl")
    ended = go(server, folder, out)
    assert ended.code == 2
    is_noted(ended, out)
    assert snapshot(out, without=REFUSAL) == before
    assert bulkembed("verify", out).code == 0
    assert go(server, folder, out, "--prune", "--max-delete", 75).code == 0
    assert status(out)[1]["refused"] is None
    assert "refused" not in status(out)[0]


def test_a_run_with_nothing_to_do_ends_the_refusal(server: EmulatorServer, tmp_path: Path) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue()
    assert sync(server, write_export(source, rows), output).code == 0
    before = snapshot(output)
    ended = sync(server, write_export(source, catalogue(30), seed=1), output)
    assert ended.code == 3
    is_noted(ended, output)
    assert sync(server, write_export(source, rows, seed=2), output).code == 0
    assert snapshot(output) == before


def test_nothing_is_noted_where_there_is_no_dataset(server: EmulatorServer, tmp_path: Path) -> None:
    source = write_export(tmp_path / "in", catalogue(3), files=1)
    (source / "again.parquet").write_bytes(next(source.iterdir()).read_bytes())
    assert sync(server, source, tmp_path / "out").code == 2
    assert not (tmp_path / "out" / REFUSAL).exists()


def test_a_damaged_note_stops_nothing(server: EmulatorServer, folder: Path, out: Path) -> None:
    assert go(server, folder, out).code == 0
    for damage in (b"{", b"[]", b"{}"):
        (out / REFUSAL).write_bytes(damage)
        assert status(out)[1]["refused"] is None
    assert go(server, folder, out).code == 0
    assert not (out / REFUSAL).exists()


def test_status_counts_the_rows_of_missing_files(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    assert go(server, folder, out).code == 0
    assert status(out)[1]["kept"]["rows_in"] == 0
    (folder / "0.jsonl").rename(folder / "renamed.jsonl")
    (folder / "1.jsonl").unlink()
    write(folder / "new.jsonl", range(100, 110))
    ended = go(server, folder, out, "--missing-files", "keep")
    assert ended.code == 0, ended.err
    shown, found = status(out)
    assert (found["rows"]["embedded"], found["kept"]["embedded"]) == (85, 50)
    assert found["vectors"] == 135
    assert "kept 50 rows of missing input files: 50 embedded, 0 skipped (blank), 0 failed" in shown
    assert "passages" not in shown
    assert "135 rows in all" in shown


def test_an_incomplete_prune_says_when_rows_are_removed(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    assert go(server, folder, out).code == 0
    (folder / "0.jsonl").rename(folder / "renamed.jsonl")
    write(folder / "new.jsonl", range(100, 150))
    args = ("--prune", "--unit-rows", 10)
    ended = go(server, folder, out, *args, "--limit-rows", 30)
    assert ended.code == 0, ended.err
    assert "0.jsonl: its rows are removed when all rows of the input are committed" in ended.out
    assert "its rows are kept" not in ended.out
    assert "kept 25 rows of missing or changed input files" in status(out)[0]
    assert "missing" not in go(server, folder, out, *args).out


def test_an_estimate_warns_where_the_run_would_stop(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    assert go(server, folder, out).code == 0
    for number in range(3):
        (folder / f"{number}.jsonl").unlink()
    (folder / "3.jsonl").rename(folder / "renamed.jsonl")
    for args in ((), ("--prune",)):
        before = snapshot(out)
        warned = bulkembed(
            "estimate", "--input", folder, "--output", out, "--dim", 128,
            "--base-url", server.url, "--json", *args,
        )  # fmt: skip
        assert warned.code == 0, warned.err
        assert snapshot(out) == before
        found = json.loads(warned.out)
        refused = go(server, folder, out, *args)
        assert refused.code == found["refused"]["exit_code"] == (3 if args else 2)
        assert found["refused"]["message"] in refused.last
        assert f"code {refused.code}: {found['refused']['message']}" in warned.err
        assert found["rows"]["due"] == 25
        assert found["texts"]["value"] == 0


def test_an_estimate_of_a_sync_warns_where_the_run_would_stop(
    server: EmulatorServer, tmp_path: Path
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    assert sync(server, write_export(source, catalogue()), output).code == 0
    half = {**catalogue(30), "new": ("new", 1)}
    write_export(source, half, seed=1, files=1)
    export = next(source.iterdir())
    for code in (3, 2):
        fixed = ("--sync", "--dim", 128, "--keep-columns", "price", "--base-url", server.url)
        warned = bulkembed("estimate", "--input", source, "--output", output, *fixed, "--json")
        assert warned.code == 0, warned.err
        found = json.loads(warned.out)
        assert found["texts"]["value"] == 1
        refused = sync(server, source, output)
        assert refused.code == found["refused"]["exit_code"] == code
        assert found["refused"]["message"] in refused.last
        (source / "again.parquet").write_bytes(export.read_bytes())


def test_a_refusal_needs_no_place_to_note_it(
    server: EmulatorServer, folder: Path, out: Path
) -> None:
    assert go(server, folder, out).code == 0
    (folder / "0.jsonl").rename(folder / "renamed.jsonl")
    (out / REFUSAL).mkdir()
    ended = go(server, folder, out)
    assert ended.code == 2
    assert "25 of their 25 ids" in ended.last
