"""`--provenance`: which run wrote a row, and when."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from support.cli import Ended, bulkembed, parts, read, run, write_rows

from bulkembed.emulator.server import EmulatorServer


def go(server: EmulatorServer, folder: Path, out: Path, *args: object) -> Ended:
    return run(server.url, folder, out, "--dim", 128, *args)


def test_each_row_has_the_run_that_wrote_it_and_the_time(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    begin = dt.datetime.now(dt.UTC)
    ended = go(server, source.parent, output, "--provenance")
    assert ended.code == 0, ended.err
    write_rows(source.parent / "c.parquet", ["text 1", "new"])
    ended = go(server, source.parent, output, "--provenance", "--missing-files", "keep")
    assert ended.code == 0, ended.err
    runs = sorted(json.loads(p.read_bytes())["run_id"] for p in output.glob("_run/summaries/*"))
    table = read(output)
    found = dict(zip(table["source_file"].to_pylist(), table["run_id"].to_pylist(), strict=True))
    assert [found[f"{name}.parquet"] for name in "abc"] == [runs[0], runs[0], runs[1]]
    for time in table["embedded_at"].to_pylist():
        assert begin <= time <= dt.datetime.now(dt.UTC)
    assert bulkembed("verify", output, "--repeated-ids").code == 0
    ended = go(server, source.parent, output)
    assert ended.code == 2
    assert "provenance" in ended.last


def test_provenance_is_no_change_of_a_row(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output, "--provenance").code == 0
    source.rename(source.with_name("renamed.parquet"))
    source = source.with_name("renamed.parquet")
    ended = go(server, source, output, "--provenance", "--prune")
    assert ended.code == 0, ended.err
    assert "0 added, 0 changed, 0 deleted" in ended.out
    assert len(parts(output, "vectors")) == 1


def test_a_kept_column_with_that_name_is_rejected(
    server: EmulatorServer, tmp_path: Path, output: Path
) -> None:
    path = write_rows(tmp_path / "in/a.parquet", ["one"], run_id=["x"])
    ended = go(server, path, output, "--keep-columns", "run_id", "--provenance")
    assert ended.code == 2
    assert "--provenance writes" in ended.last
    assert go(server, path, output, "--keep-columns", "run_id").code == 0
