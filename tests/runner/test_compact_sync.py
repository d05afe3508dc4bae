"""Compactions between synchronisations."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import Ended, bulkembed, parts, read, run, write_rows
from support.damage import findings
from support.killing import leftovers

from bulkembed.emulator.server import EmulatorServer


def embed(place: Path, server: EmulatorServer) -> Ended:
    return run(
        server.url, place / "in", place / "out", "--dim", "128", "--unit-rows", "4",
        "--no-report", "--sync", "--max-delete", "50%",
    )  # fmt: skip


@pytest.mark.parametrize("between", [True, False], ids=["between", "at-the-end"])
def test_a_synchronisation_removes_and_changes_rows_of_a_group(
    tmp_path: Path, server: EmulatorServer, between: bool
) -> None:
    ids = [f"id-{n}" for n in range(30)]
    write_rows(tmp_path / "in/a.parquet", [f"text of {one}" for one in ids], id=ids)
    assert embed(tmp_path, server).code == 0
    assert bulkembed("compact", tmp_path / "out").code == 0
    assert len(parts(tmp_path / "out", "vectors")) == 1
    (tmp_path / "in/a.parquet").unlink()
    for night in range(1, 4):
        kept = ids[night * 3 :]
        texts = [f"text of {one}{' again' * (n == night)}" for n, one in enumerate(kept)]
        write_rows(tmp_path / "in/b.parquet", texts, id=kept)
        ended = embed(tmp_path, server)
        assert ended.code == 0, ended.err
        if between:
            assert bulkembed("compact", tmp_path / "out").code == 0
        assert sorted(read(tmp_path / "out")["id"].to_pylist()) == sorted(kept)
        assert findings(tmp_path, "--against", tmp_path / "in") == []
        assert leftovers(tmp_path / "out") == []
    assert server.stats()["texts"] == 30 + 3
    if between:
        assert len(parts(tmp_path / "out", "vectors")) == 1
