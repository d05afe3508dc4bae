"""Vectors in hive partitions, on object stores."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support.stores import Store

from bulkembed.emulator.server import EmulatorServer

pytestmark = [pytest.mark.stores, pytest.mark.timeout(280)]

LANGS = ["de", "a b", "a/b", "ä", "50%", "x=y", "a+b", "q?#&", "dot.", None]


def export(texts: list[str], first: int = 0) -> bytes:
    sink = io.BytesIO()
    langs = [LANGS[n % len(LANGS)] for n in range(len(texts))]
    ids = range(first, first + len(texts))
    pq.write_table(pa.table({"id": ids, "text": texts, "lang": langs}), sink)
    return sink.getvalue()


def rows(store: Store, output: str) -> dict[int, str | None]:
    """The language by id, as a reader of the store finds it."""
    schema = ds.partitioning(pa.schema([("lang", pa.string())]), flavor="hive")
    path = store.path(f"{output}/vectors")
    table = ds.dataset(path, filesystem=store.filesystem, partitioning=schema).to_table()
    found = dict(zip(table["id"].to_pylist(), table["lang"].to_pylist(), strict=True))
    assert len(found) == table.num_rows
    return found


def test_partitions_are_written_synchronised_merged_and_reused(
    store: Store, tmp_path: Path, server: EmulatorServer
) -> None:
    output, source = f"{store.root}/out", f"{store.root}/in"
    args = (
        "--input", source, "--base-url", server.url, "--dim", 128, "--keep-columns", "lang",
        "--partition-by", "lang", "--sync", "--unit-rows", 20, "--max-delete", "50%",
    )  # fmt: skip
    texts = [f"text {n}" for n in range(40)]
    store.write(f"{source}/a.parquet", export(texts))
    ended = store.run("run", *args, "--output", output)
    assert ended.code == 0, ended.err
    assert rows(store, output) == {n: LANGS[n % 10] for n in range(40)}
    # A part that no record names, as of a run that was killed.
    names = [name for name in store.files(output) if name.startswith("vectors/lang=de/")]
    stray = names[0].replace("-n1.", "-n0.")
    store.write(f"{output}/{stray}", store.read(f"{output}/{names[0]}"))
    texts = [f"text {n}{' edited' * (n == 3)}" for n in range(35)]
    store.write(f"{source}/a.parquet", export(texts))
    ended = store.run("run", *args, "--output", output)
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] == 41
    want = {n: LANGS[n % 10] for n in range(35)}
    assert rows(store, output) == want
    ended = store.run("compact", output)
    assert ended.code == 0, ended.err
    assert rows(store, output) == want
    assert len([one for one in store.files(output) if one.startswith("vectors/")]) == 10
    verified = store.run("verify", output, "--against", source)
    assert verified.code == 0, verified.out
    changes = store.run("changes", output, "--format", "jsonl")
    assert len(changes.out.splitlines()) == 6
    ended = store.run("run", *args, "--output", f"{store.root}/new", "--reuse", output)
    assert ended.code == 0, ended.err
    assert rows(store, f"{store.root}/new") == want
    assert server.stats()["texts"] == 41
