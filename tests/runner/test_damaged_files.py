"""Files whose damage shows only while their rows are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import Ended, bulkembed, read, run, summary, write_rows
from support.encrypted import write_encrypted

from bulkembed.emulator.server import EmulatorServer

pytestmark = pytest.mark.faults

ARGS = ("--dim", 128, "--unit-rows", 100)
BAD_GROUP = 3
ROWS = 600


def damaged(path: Path) -> Path:
    """A file of six row groups, with a broken page in the fourth behind a footer that is whole."""
    texts = [f"text {n} that fills the page {n * 7919}" for n in range(ROWS)]
    table = pa.table({"id": range(ROWS), "text": texts})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="snappy", row_group_size=100, use_dictionary=False)
    data = bytearray(path.read_bytes())
    at = pq.ParquetFile(path).metadata.row_group(BAD_GROUP).column(1).data_page_offset
    data[at + 200 : at + 260] = b"\xff" * 60
    path.write_bytes(data)
    return path


def encrypted(path: Path) -> Path:
    """A file with a footer that everybody can read, and a text column that nobody can."""
    table = pa.table({"id": range(ROWS), "text": [f"secret {n}" for n in range(ROWS)]})
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_encrypted(path, table, "text")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_rows(tmp_path / "in/a.parquet", ["good", "better"])
    write_rows(tmp_path / "in/c.parquet", ["good as well"])
    return tmp_path / "in"


def go(server: EmulatorServer, folder: Path, *args: object) -> Ended:
    return run(server.url, folder, folder.parent / "out", *ARGS, *args)


@pytest.mark.parametrize("make", [damaged, encrypted])
@pytest.mark.parametrize("dedupe", ["run", "off"])
def test_the_good_files_are_done_and_the_bad_one_is_listed(
    server: EmulatorServer, folder: Path, make: Any, dedupe: str
) -> None:
    make(folder / "b.parquet")
    output = folder.parent / "out"
    for _ in range(2):
        ended = go(server, folder, "--skip-bad-files", "--dedupe", dedupe)
        assert ended.code == 0, ended.err
        assert (output / "_SUCCESS").exists()
        assert "b.parquet cannot be read" in ended.out
        assert "with --skip-bad-files" not in ended.err + ended.out  # It was given.
        (line,) = summary(output)["skipped_files"]
        assert "b.parquet" in line
        counts = summary(output)["dataset"]
        files = read(output)["source_file"].to_pylist()
        assert (files.count("a.parquet"), files.count("c.parquet")) == (2, 1)
        assert counts["rows_in"] == counts["embedded"] == len(files)
        assert counts["left"] == summary(output)["run"]["left"] == 0
    # Looked at before anything is sent, the file is left out; met while embedding, its first rows
    # are there.
    before_damage = 100 * BAD_GROUP if make is damaged and dedupe == "off" else 0
    assert files.count("b.parquet") == before_damage
    against = bulkembed("verify", output, "--against", folder)
    assert against.code == 1
    assert "b.parquet" in against.out


def test_an_estimate_passes_a_damaged_file_over_as_the_run_would(folder: Path) -> None:
    damaged(folder / "b.parquet")
    args = ("estimate", "--input", folder, *ARGS)
    assert bulkembed(*args).code == 1
    ended = bulkembed(*args, "--skip-bad-files")
    assert ended.code == 0, ended.err
    assert "b.parquet cannot be read" in ended.err


def test_rows_of_a_bad_file_are_neither_gone_nor_pruned(
    server: EmulatorServer, folder: Path
) -> None:
    damaged(folder / "b.parquet")
    args = ("--skip-bad-files", "--prune")
    assert go(server, folder, *args, "--dedupe", "off").code == 0
    output = folder.parent / "out"
    assert len(read(output)) == 3 + 100 * BAD_GROUP
    write_rows(folder / "d.parquet", ["new"])
    ended = go(server, folder, *args)
    assert ended.code == 0, ended.err
    assert "file missing" not in ended.out
    assert len(read(output)) == 4 + 100 * BAD_GROUP
    (folder / "b.parquet").write_bytes(b"PAR1 cut short")
    ended = go(server, folder, *args)
    assert ended.code == 0, ended.err
    assert "file missing" not in ended.out
    assert len(read(output)) == 4 + 100 * BAD_GROUP


@pytest.mark.parametrize("dedupe", ["run", "off"])
def test_a_run_that_passes_all_of_its_files_over_is_no_success(
    server: EmulatorServer, tmp_path: Path, dedupe: str
) -> None:
    damaged(tmp_path / "in/b.parquet")
    (tmp_path / "in/a.jsonl").write_text("[1, 2]\n[3, 4]\n")
    ended = go(server, tmp_path / "in", "--skip-bad-files", "--dedupe", dedupe)
    assert ended.code == 1
    assert "none of the 2 input files can be read. The first error: a.jsonl" in ended.last
    assert not (tmp_path / "out/_SUCCESS").exists()
    (tmp_path / "in/b.parquet").unlink()
    assert go(server, tmp_path / "in", "--skip-bad-files").code == 1
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_without_the_flag_a_damaged_page_ends_the_run(server: EmulatorServer, folder: Path) -> None:
    damaged(folder / "b.parquet")
    ended = go(server, folder)
    assert ended.code == 1
    assert "b.parquet cannot be read" in ended.last
    assert "--skip-bad-files" in ended.last
    assert not (folder.parent / "out/_SUCCESS").exists()


def test_two_workers_pass_a_damaged_file_over(server: EmulatorServer, folder: Path) -> None:
    damaged(folder / "b.parquet")
    ended = go(server, folder, "--skip-bad-files", "--dedupe", "off", "--workers", 2)
    assert ended.code == 0, ended.err
    assert "b.parquet cannot be read" in ended.out
    counts = summary(folder.parent / "out")["dataset"]
    assert counts["rows_in"] == counts["embedded"] == len(read(folder.parent / "out"))
    assert not list((folder.parent / "out/_run/damaged").glob("*"))
