"""Jobs over WebDataset shards."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path
from typing import Any

from support.cli import bulkembed, dead_codes, read, run
from support.tar_shards import tar_of

from bulkembed.emulator.server import EmulatorServer

ROWS = 60
SHARD_ROWS = 20
ARGS = ("--dim", 128, "--keep-columns", "price", "--unit-rows", 7)
TAR_ARGS = ("--id-column", "__key__", "--text-column", "txt")


def row(number: int) -> list[tuple[str, bytes]]:
    key, price = f"{number:04d}", json.dumps({"price": number}).encode()
    text = f"text {number}" if number != 33 else ""
    return [(f"{key}.txt", text.encode()), (f"{key}.json", price), (f"{key}.jpg", bytes(3000))]


def shard(number: int) -> bytes:
    first = number * SHARD_ROWS
    return tar_of(itertools.chain.from_iterable(map(row, range(first, first + SHARD_ROWS))))


def shards(folder: Path) -> Path:
    folder.mkdir()
    (folder / "0.tar").write_bytes(shard(0))
    (folder / "1.tar.gz").write_bytes(gzip.compress(shard(1)))
    (folder / "2.tgz").write_bytes(gzip.compress(shard(2)))
    return folder


def rows_of(output: Path) -> dict[str, tuple[int, Any]]:
    table = read(output)
    columns = (table.column(name).to_pylist() for name in ("id", "price", "vector"))
    return {key: (price, vector) for key, price, vector in zip(*columns, strict=True)}


def test_shards_give_the_vectors_of_the_same_rows_in_jsonl(
    tmp_path: Path, server: EmulatorServer
) -> None:
    source = shards(tmp_path / "in")
    ended = run(server.url, source, tmp_path / "out", *ARGS, *TAR_ARGS)
    assert ended.code == 0, ended.err
    lines = [
        {"id": f"{n:04d}", "text": f"text {n}" if n != 33 else "", "price": n} for n in range(ROWS)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(server.url, tmp_path / "rows.jsonl", tmp_path / "out2", *ARGS).code == 0
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "out2")
    assert dead_codes(tmp_path / "out") == {33 - SHARD_ROWS: "blank_text"}
    assert bulkembed("verify", tmp_path / "out", "--against", source).code == 0


def test_a_shard_that_is_cut_off_is_skipped_and_read_once_it_is_whole(
    tmp_path: Path, server: EmulatorServer
) -> None:
    source, output = shards(tmp_path / "in"), tmp_path / "out"
    (source / "0.tar").write_bytes(shard(0)[: 17 * 512])
    ended = run(server.url, source, output, *ARGS, *TAR_ARGS)
    assert ended.code == 1
    assert "0.tar cannot be read" in ended.err
    ended = run(server.url, source, output, *ARGS, *TAR_ARGS, "--skip-bad-files")
    assert ended.code == 0, ended.err
    assert len(rows_of(output)) == ROWS - SHARD_ROWS - 1
    (source / "0.tar").write_bytes(shard(0))
    ended = run(server.url, source, output, *ARGS, *TAR_ARGS)
    assert ended.code == 0, ended.err
    assert len(rows_of(output)) == ROWS - 1
