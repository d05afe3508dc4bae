"""Parquet files of a store are known by its tags, without reading them."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import read
from support.store_proxy import SLOW_S, Fault
from support.stores import Store

from bulkembed.emulator.server import EmulatorServer
from bulkembed.transforms.core.hashing import text_hash

pytestmark = [pytest.mark.stores, pytest.mark.timeout(280)]

FILES, ROWS = 3, 40
BLOB_BYTES = 50_000
"""Of each row, in a column that is not read: 2 MB in each file."""
FOOTER_BYTES = 64 << 10
"""What is read of the end of a file at first."""
TEXT_BYTES = 20_000
"""More than the columns of ids and texts have, each read with what is beside it."""


def parquet(file: int, word: str = "text") -> bytes:
    """Return a file; its size is the same for words of one length."""
    noise = np.random.default_rng(file)
    columns = {
        "id": [f"{file}-{row}" for row in range(ROWS)],
        "text": [f"{word} {row} of file {file}" for row in range(ROWS)],
        "blob": [noise.bytes(BLOB_BYTES) for _ in range(ROWS)],
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="none", use_dictionary=False)
    return sink.getvalue()


def write_all(store: Store) -> None:
    for file in range(FILES):
        store.write(f"{store.root}/in/f{file}.parquet", parquet(file))


def read_bytes(store: Store) -> int:
    """The bytes of the input that a client was sent.

    Without a range, Google's client looks at the beginning of a file when it opens it, and hangs
    up.
    """
    return sum(
        request.answer_bytes
        for request in store.proxy.requests
        if request.method == "GET"
        and "/in/f" in unquote(request.path)
        and (request.status == 206 or store.name != "gs")
    )


def requests_of_a_file(store: Store) -> int:
    paths = [unquote(request.path) for request in store.proxy.requests]
    return sum("/in/f1.parquet" in path and "prefix=" not in path for path in paths)


def command(
    store: Store, server: EmulatorServer, *more: object, source: str = ""
) -> tuple[object, ...]:
    source, output = source or f"{store.root}/in", f"{store.root}/out"
    args = ("--input", source, "--output", output, "--dim", 128, "--base-url", server.url)
    return ("run", *args, "--no-report", *more)


def test_of_a_parquet_file_the_footer_is_read_and_what_is_embedded(store: Store) -> None:
    write_all(store)
    with EmulatorServer() as server:
        store.proxy.forget()
        ended = store.run(*command(store, server))
        assert ended.code == 0, ended.err
        assert read_bytes(store) < FILES * (3 * FOOTER_BYTES + TEXT_BYTES)
        store.proxy.forget()
        ended = store.run(*command(store, server, "--rescan"))
        assert ended.code == 0, ended.err
        assert read_bytes(store) == FILES * FOOTER_BYTES
        assert requests_of_a_file(store) <= 3
        assert server.stats()["texts"] == FILES * ROWS
        before = store.files(f"{store.root}/out/vectors")
        store.write(f"{store.root}/in/f0.parquet", parquet(0))
        store.write(f"{store.root}/in/f1.parquet", parquet(1, "news"))
        against = store.run("verify", f"{store.root}/out", "--against", f"{store.root}/in")
        assert against.code == 1
        assert ("f0.parquet" in against.out) == (store.name == "az")
        assert re.search("f1.parquet +written again after it was embedded", against.out)
        store.proxy.forget()
        ended = store.run(*command(store, server))
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == (FILES + 1) * ROWS
        assert read_bytes(store) < 2 * (3 * FOOTER_BYTES + TEXT_BYTES)
        after = store.files(f"{store.root}/out/vectors")
        # On Azure, each write gives a file another tag, unless its MD5 is known.
        assert len(before.keys() - after.keys()) == (2 if store.name == "az" else 1)


def embed_while_a_file_is_written(
    store: Store, out: Path, is_the_moment: Callable[[str, str], bool]
) -> None:
    """Write other content of the same size during a run, which has to notice it.

    Args:
        store: the store.
        out: a local folder for the output.
        is_the_moment: whether to do it before a request; called with its method and path.
    """
    write_all(store)
    written: list[str] = []

    def overwrite(method: str, path: str, _: int) -> None:
        if not written and is_the_moment(method, unquote(path)):
            written.append(path)
            store.write(f"{store.root}/in/f1.parquet", parquet(1, "news"))

    with EmulatorServer() as server:
        store.proxy.fault = overwrite
        store.proxy.forget()
        ended = store.run(*command(store, server))
        assert written
        assert ended.code == 0, ended.err
        assert "f1.parquet" in ended.err
        assert read_bytes(store) < 2 * FILES * (3 * FOOTER_BYTES + TEXT_BYTES)
        assert server.stats()["texts"] in (FILES * ROWS, (FILES + 1) * ROWS)
    rows = read(store.fetch(f"{store.root}/out", out))
    assert rows.num_rows == FILES * ROWS
    hashes = set(rows.column("text_hash").to_pylist())
    assert {text_hash(None, f"news {row} of file 1") for row in range(ROWS)} <= hashes


def test_a_file_that_is_written_again_during_a_run_is_noticed_without_reading_it(
    store: Store, tmp_path: Path
) -> None:
    embed_while_a_file_is_written(
        store, tmp_path, lambda method, path: method in ("PUT", "POST") and "/_run/units/" in path
    )


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_a_file_that_is_written_between_its_tag_and_its_footer_is_noticed(
    store: Store, tmp_path: Path
) -> None:
    embed_while_a_file_is_written(
        store, tmp_path, lambda method, path: method == "GET" and "/in/f1.parquet" in path
    )


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_many_files_of_a_store_are_scanned_at_once(store: Store) -> None:
    for file in range(20):
        store.write(f"{store.root}/in/f{file}.parquet", parquet(file % FILES))
    reads: list[float] = []

    def slow(method: str, path: str, _: int) -> Fault | None:
        if method != "GET" or "/in/f" not in unquote(path):
            return None
        reads.append(time.monotonic())
        return Fault.SLOW if len(reads) <= 20 else None

    store.proxy.fault = slow
    ended = store.run("estimate", "--input", f"{store.root}/in", "--dim", 128)
    assert ended.code == 0, ended.err
    assert sum(at < min(reads) + SLOW_S / 2 for at in reads) > 8


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_a_dataset_of_an_earlier_version_is_not_planned_again(store: Store) -> None:
    write_all(store)
    with EmulatorServer() as server:
        # Without a tag, files have the digest that earlier versions gave them.
        store.proxy.hidden = frozenset({"etag"})
        assert store.run(*command(store, server)).code == 0
        store.proxy.hidden = frozenset()
        before = store.files(f"{store.root}/out/vectors")
        write_all(store)
        ended = store.run(*command(store, server, "--rescan"))
        assert ended.code == 0, ended.err
        assert store.files(f"{store.root}/out/vectors") == before
        assert server.stats()["texts"] == FILES * ROWS


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_files_that_the_last_run_of_an_earlier_version_had_no_scan_of_are_not_planned_again(
    store: Store,
) -> None:
    write_all(store)
    one = f"{store.root}/in/f0.parquet"
    with EmulatorServer() as server:
        store.proxy.hidden = frozenset({"etag"})
        assert store.run(*command(store, server)).code == 0
        assert store.run(*command(store, server, source=one)).code == 0
        store.proxy.hidden = frozenset()
        before = store.files(f"{store.root}/out/vectors")
        store.write(f"{store.root}/in/new.parquet", parquet(FILES))
        ended = store.run(*command(store, server, "--dedupe", "unit"))
        assert ended.code == 0, ended.err
        after = store.files(f"{store.root}/out/vectors")
        assert before.keys() <= after.keys()
        assert server.stats()["texts"] == (FILES + 1) * ROWS
        assert store.run(*command(store, server, source=one)).code == 0
        store.proxy.forget()
        assert store.run(*command(store, server)).code == 0
        assert store.files(f"{store.root}/out/vectors") == after
        assert server.stats()["texts"] == (FILES + 1) * ROWS
