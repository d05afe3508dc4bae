"""`--sync` on Prism, Flink and Spark: workers that install what is staged compare and remove."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.catalogues import SYNC, catalogue, from_nothing, loaded, sync, write_export
from support.engines import Engine

from bulkembed.emulator.server import EmulatorServer

pytestmark = [pytest.mark.runners, pytest.mark.timeout(600)]


def test_workers_compare_and_remove_rows(
    engine: Engine, server: EmulatorServer, tmp_path: Path
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    rows = catalogue()
    assert sync(server, write_export(source, rows), output).code == 0
    write_export(source, {name: rows[name] for name in list(rows)[:40]}, seed=1)
    where = ("--input", source, "--output", output, "--base-url", server.url)
    ended = engine.run(*where, *SYNC, "--sync-on", "workers", "--max-delete", 20)
    assert ended.code == 0, ended.err
    assert "the workers compare the rows" in ended.err
    assert "the workers remove rows" in ended.err
    assert "the Beam runner failed" not in ended.err
    assert "40 unchanged, 0 new, 0 changed, 20 deleted" in ended.out
    assert loaded(output) == from_nothing(source, tmp_path / "other")
