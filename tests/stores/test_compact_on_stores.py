"""A compaction on object stores, killed before requests that write or delete something."""

from __future__ import annotations

import io
import itertools
import signal
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.damage import findings
from support.killing import leftovers, same_rows
from support.stores import Store, finish

from bulkembed.emulator.server import EmulatorServer

pytestmark = [pytest.mark.stores, pytest.mark.timeout(280)]

FILES = 12


def parquet(file: int) -> bytes:
    sink = io.BytesIO()
    texts = [f"text {n} of file {file}" for n in range(5)]
    texts[2] = "" if file == 3 else texts[2]
    pq.write_table(pa.table({"id": [f"{file}-{n}" for n in range(5)], "text": texts}), sink)
    return sink.getvalue()


def kill_at_write(store: Store, output: str, number: int) -> None:
    """Kill a compaction just before one of its requests that write or delete something."""
    writes = itertools.count(1)
    killed = threading.Event()
    process = store.start("compact", output)

    def kill(method: str, _: str, __: int) -> None:
        if method in ("PUT", "POST", "DELETE") and next(writes) == number:
            process.kill()
            killed.set()

    store.proxy.fault = kill
    ended = finish(process)
    store.proxy.fault = lambda *_: None
    assert ended.code == (-signal.SIGKILL if killed.is_set() else 0), ended.err


def test_a_compaction_on_a_store_that_is_killed_merges_the_same_rows(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "place/in").mkdir(parents=True)
    for file in range(FILES):
        store.write(f"{store.root}/in/f{file:02}.parquet", parquet(file))
        (tmp_path / f"place/in/f{file:02}.parquet").write_bytes(parquet(file))
    output = f"{store.root}/out"
    embed = ("run", "--input", f"{store.root}/in", "--output", output, "--dim", 128)
    with EmulatorServer() as server:
        assert store.run(*embed, "--base-url", server.url).code == 0
        paid = server.stats()["texts"]
        whole = store.fetch(output, tmp_path / "whole")
        for number in (3, 6, 9, 12, 20):
            kill_at_write(store, output, number)
        done = store.run("compact", output)
        assert done.code == 0, done.err
        again = store.run(*embed, "--base-url", server.url)
        assert again.code == 0, again.err
        assert server.stats()["texts"] == paid == 5 * FILES - 1
    merged = store.fetch(output, tmp_path / "place/out")
    assert len(list((merged / "vectors").iterdir())) == 1
    assert len(list((merged / "dead_letters").iterdir())) == 1
    same_rows(merged, whole)
    # On Azure, a process that is killed while it creates its claim leaves an empty file, which does
    # not say whose it is. A run deletes it once it is five minutes old.
    left = [name for name in leftovers(merged) if (merged / name).stat().st_size]
    assert left == []
    assert all(name.startswith("_run/claims/.tmp-") for name in leftovers(merged))
    assert findings(tmp_path / "place") == []
