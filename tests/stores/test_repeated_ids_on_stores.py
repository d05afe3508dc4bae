"""The summary of a run on a store counts rows with a repeated id."""

from __future__ import annotations

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.stores import Store

from bulkembed.emulator.server import EmulatorServer

pytestmark = [pytest.mark.stores, pytest.mark.timeout(120)]


def parquet(ids: list[str]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": ids, "text": [f"text of {one}" for one in ids]}), sink)
    return sink.getvalue()


def test_repeated_ids_are_counted(store: Store) -> None:
    store.write(f"{store.root}/ids/a.parquet", parquet(["x", "y", "x", "z"]))
    output = f"{store.root}/repeated"
    embed = ("run", "--input", f"{store.root}/ids", "--output", output, "--dim", 128, "--log-json")
    with EmulatorServer() as server:
        for name, ids, repeated in (("a", None, 1), ("b", ["new", "y", "x"], 3), ("c", ["w"], 3)):
            if ids is not None:
                store.write(f"{store.root}/ids/{name}.parquet", parquet(ids))
            ended = store.run(*embed, "--base-url", server.url)
            assert ended.code == 0, ended.err
            summary = json.loads(ended.out.splitlines()[-1])["summary"]
            assert summary["duplicate_ids"] == repeated
