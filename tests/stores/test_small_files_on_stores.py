"""Small files of a store are read several at a time, and committed in few parts."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import read
from support.damage import findings
from support.killing import leftovers
from support.store_proxy import SLOW_S, Fault
from support.stores import Store

from bulkembed.emulator.server import EmulatorServer

pytestmark = [pytest.mark.stores, pytest.mark.timeout(280)]

FILES = 20


def parquet(file: int, word: str = "text") -> bytes:
    sink = io.BytesIO()
    texts = [f"{word} {row} of file {file}" for row in range(3)]
    texts[1] = "" if file == 3 else texts[1]
    pq.write_table(pa.table({"id": [f"{file}-{row}" for row in range(3)], "text": texts}), sink)
    return sink.getvalue()


def files_read_at_once(reads: list[tuple[float, str]]) -> Iterator[int]:
    """At each read, the files that were begun to be read while one such read takes."""
    for at, _ in reads:
        yield len({path for other, path in reads if at <= other < at + SLOW_S / 2})


def test_small_files_of_a_store_share_parts_and_are_read_at_once(
    store: Store, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    (place / "in").mkdir(parents=True)

    def write(file: int, word: str = "text") -> None:
        store.write(f"{store.root}/in/f{file:02}.parquet", parquet(file, word))
        (place / f"in/f{file:02}.parquet").write_bytes(parquet(file, word))

    for file in range(FILES):
        write(file)
    begun = threading.Event()
    reads: list[tuple[float, str]] = []

    def slow(method: str, path: str, _: int) -> Fault | None:
        """The first reads of input files take a while, once the run has taken the dataset."""
        if method in ("PUT", "POST") and "/_run/run.json" in unquote(path):
            begun.set()
        if method != "GET" or not begun.is_set() or "/in/" not in unquote(path):
            return None
        reads.append((time.monotonic(), unquote(path)))
        return Fault.SLOW if len(reads) <= 8 else None

    output = f"{store.root}/out"
    embed = ("run", "--input", f"{store.root}/in", "--output", output, "--dim", 128)
    args = ("--dedupe", "unit")  # Then only the worker reads texts.
    with EmulatorServer() as server:
        store.proxy.fault = slow
        ended = store.run(*embed, *args, "--base-url", server.url)
        store.proxy.fault = lambda *_: None
        assert ended.code == 0, ended.err
        assert server.stats()["calls"] == 1
        assert max(files_read_at_once(reads)) > 3
        names = [name for name in store.files(output) if "/group-" in name]
        assert len(names) == 3  # With the record.
        write(12, "new text")
        ended = store.run(*embed, *args, "--base-url", server.url)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == 3 * FILES - 1 + 3
    fetched = store.fetch(output, place / "out")
    assert read(fetched).num_rows == 3 * FILES - 1
    assert [name for name in leftovers(fetched) if (fetched / name).stat().st_size] == []
    assert findings(place, "--against", place / "in") == []
