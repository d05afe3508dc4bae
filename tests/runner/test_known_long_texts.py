"""Long texts whose vectors the dataset has: they cost nothing when their rows are written again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.catalogues import catalogue, from_nothing, loaded, sync, write_export
from support.cli import Ended, bulkembed, matrix, read, run, summary, write_rows
from support.damage import a_flipped_bit_in_a_vector

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.run import text_search

pytestmark = pytest.mark.faults

PARAGRAPHS = [f"Paragraph {n} is in several texts, and fills a passage." for n in range(40)]
LONG = ["\n\n".join(PARAGRAPHS[n : n + 4]) for n in range(0, 24, 2)]
"""Neighbours have two passages in common."""
TEXTS: list[str | None] = [*LONG, None, "short", f"  {PARAGRAPHS[39]}  ", LONG[0]]
CUT = ("--passage-tokens", 16, "--passage-overlap", 0, "--dim", 128, "--unit-rows", 5)
MODES = pytest.mark.parametrize("mode", ["passages", "mean"])


def go(server: EmulatorServer, source: Path, output: Path, mode: str, *args: object) -> Ended:
    ended = run(server.url, source, output, *CUT, "--long-text", mode, *args)
    assert ended.code == 0, ended.err
    return ended


def rows_of(output: Path) -> list[tuple[int, bytes, bytes, bool | None]]:
    """Return id, hash, vector and flag of all rows, sorted."""
    table = read(output)
    names = ("id", "text_hash", "truncated")
    columns = (table[name].to_pylist() for name in names)
    rows = zip(*columns, (vector.tobytes() for vector in matrix(table)), strict=True)
    return sorted((id, text_hash, vector, flag) for id, text_hash, flag, vector in rows)


@pytest.mark.parametrize(
    ("mode", "where"),
    [
        pytest.param("passages", (), id="passages"),
        pytest.param("mean", (), id="mean"),
        pytest.param("mean", ("--workers", 2), id="two-workers"),
    ],
)
def test_a_sync_pays_nothing_for_rows_with_other_kept_columns(
    server: EmulatorServer, tmp_path: Path, mode: str, where: tuple[object, ...]
) -> None:
    output, source = tmp_path / "out", tmp_path / "in"
    settings = ("--long-text", mode, *CUT[:4])
    rows = catalogue(12)
    rows |= {f"long {n}": (text, 1) for n, text in enumerate(LONG)}
    assert sync(server, write_export(source, rows), output, *settings).code == 0
    paid = server.stats()["texts"]
    rows = {name: (text, price + 1) for name, (text, price) in rows.items()}
    write_export(source, rows, seed=1)
    estimated = bulkembed(
        "estimate", "--input", source, "--output", output, "--base-url", server.url, "--sync",
        "--dim", 128, "--keep-columns", "price", *settings, "--json",
    )  # fmt: skip
    assert json.loads(estimated.out)["texts"]["value"] == 0, estimated
    ended = sync(server, source, output, *settings, *where)
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] == paid
    assert "24 changed (24 only in kept columns)" in ended.out
    assert loaded(output) == from_nothing(source, tmp_path / "other", *settings)


@MODES
@pytest.mark.parametrize("memory", ["plenty", "little"])
def test_a_file_that_is_written_again_pays_for_its_new_passages_only(
    server: EmulatorServer, tmp_path: Path, mode: str, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if memory == "little":
        monkeypatch.setattr(text_search, "BUFFER_BYTES", 50)
        monkeypatch.setattr(text_search, "PARTITION_BYTES", 300)
    output, source = tmp_path / "out", tmp_path / "in"
    write_rows(source / "a.parquet", TEXTS)
    go(server, source, output, mode)
    paid = server.stats()["texts"]
    assert paid == 26 + 2
    new = "\n\n".join(["A new beginning fills a passage by itself.", PARAGRAPHS[36]])
    write_rows(source / "a.parquet", [new, *LONG[:1] * 3, *reversed(TEXTS), new])
    go(server, source, output, mode)
    assert server.stats()["texts"] == paid + 2
    with EmulatorServer() as another:
        go(another, source, tmp_path / "other", mode)
    assert rows_of(output) == rows_of(tmp_path / "other")
    counts = summary(output)["counts"]
    assert counts["texts"] == 2
    assert counts["reused"] == (16 if mode == "mean" else 16 * 4) + 2
    assert bulkembed("verify", output, "--against", source, "--sample", 5).code == 0


@MODES
def test_reuse_takes_long_texts(server: EmulatorServer, tmp_path: Path, mode: str) -> None:
    source = tmp_path / "in"
    write_rows(source / "a.parquet", TEXTS)
    go(server, source, tmp_path / "old", mode)
    paid = server.stats()["texts"]
    go(server, source, tmp_path / "new", mode, "--generate-ids", "--reuse", tmp_path / "old")
    assert server.stats()["texts"] == paid
    new, old = read(tmp_path / "new"), read(tmp_path / "old")
    assert new["text_hash"].equals(old["text_hash"])
    assert (matrix(new) == matrix(old)).all()


def test_passages_are_sent_if_the_vector_of_the_whole_text_is_damaged(
    server: EmulatorServer, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "in/a.parquet", LONG[:4])
    go(server, source, tmp_path / "out", "mean")
    a_flipped_bit_in_a_vector(tmp_path)
    write_rows(source, [*LONG[:4], "new"])
    ended = go(server, source, tmp_path / "out", "mean")
    assert "The texts are sent again." in ended.err
    assert summary(tmp_path / "out")["counts"]["texts"] == 10 + 1
    with EmulatorServer() as another:
        go(another, source, tmp_path / "other", "mean")
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "other")
