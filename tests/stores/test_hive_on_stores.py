"""Keys of folder names, and a date in the paths, on object stores."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import read
from support.stores import Store

from bulkembed.emulator.server import EmulatorServer

pytestmark = [
    pytest.mark.stores,
    pytest.mark.timeout(280),
    pytest.mark.parametrize("store", ["s3", "gs"], indirect=True),
]


def test_keys_of_folders_are_columns_and_the_date_is_filled_in(
    store: Store, tmp_path: Path, server: EmulatorServer
) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"k": [{"id": 1}, {"id": 2}], "text": ["a dog", "a cat"]}), sink)
    store.write(f"{store.root}/in/dt=2024-01-31/lang=a%20b/part-0.parquet", sink.getvalue())
    ended = store.run(
        "run", "--input", f"{store.root}/in/dt={{date}}", "--output", f"{store.root}/out/{{date}}",
        "--date", "2024-01-31", "--id-column", "k.id", "--id-name", "sku",
        "--keep-columns", "dt,lang", "--base-url", server.url, "--dim", 128,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    table = read(store.fetch(f"{store.root}/out/2024-01-31", tmp_path / "out"))
    rows = table.select(["sku", "dt", "lang"]).to_pylist()
    day = dt.date(2024, 1, 31)
    assert rows == [{"sku": n, "dt": day, "lang": "a b"} for n in (1, 2)]
    against = ("--against", f"{store.root}/in/dt=2024-01-31")
    verified = store.run("verify", f"{store.root}/out/2024-01-31", *against)
    assert verified.code == 0, verified.out
