"""Batch mode with its dataset, and the ledger of its jobs, on object stores."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import run, write_rows
from support.docstring_jobs import SERVICES, docstring_jobs
from support.killing import same_rows
from support.stores import Store

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = [pytest.mark.stores, pytest.mark.timeout(280)]

TEXTS = [f"text {n % 70}" for n in range(100)]
MORE = ["one more", "", "text 3"]
DISTINCT = 71
OF_DATASET = ("--dim", "128", "--unit-rows", "25")
BATCH = (*OF_DATASET, "--mode", "batch", "--batch-poll", "0.1s", "--batch-job-rows", "30")


def parquet(texts: list[str]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": range(len(texts)), "text": texts}), sink)
    return sink.getvalue()


def test_a_detached_run_on_a_store_is_collected_by_the_same_command(
    store: Store, tmp_path: Path
) -> None:
    output = f"{store.root}/out 1"
    for name, texts in (("a", TEXTS), ("b", MORE)):
        write_rows(tmp_path / f"in/{name}.parquet", texts)
        store.write(f"{store.root}/in/{name}.parquet", parquet(texts))
    with EmulatorServer() as server:
        assert run(server.url, tmp_path / "in", tmp_path / "online", *OF_DATASET).code == 0
    settings = EmulatorSettings(batch=BatchSettings(seconds=3.0))
    with EmulatorServer(settings) as server:
        where = ("--input", f"{store.root}/in", "--output", output, "--base-url", server.url)
        args = ("run", *where, *BATCH, "--workers", "2")
        first = store.run(*args, "--detach")
        assert first.code == 75, first.err
        second = store.run(*args)
        assert second.code == 0, second.err
        stats = server.stats()
        assert (stats["calls"], stats["texts"], stats["texts_paid_twice"]) == (0, DISTINCT, 0)
        assert (stats["batch"]["jobs_left"], stats["batch"]["files_left"]) == (0, 0)
    names = store.files(f"{output}/_run/batch")
    entries = {name.removesuffix(".json") for name in names if name.endswith(".json")}
    assert len(entries) == stats["batch"]["jobs_created"] == 3
    assert set(names) == {f"{one}{suffix}" for one in entries for suffix in (".json", ".closed")}
    same_rows(store.fetch(output, tmp_path / "store"), tmp_path / "online")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("service", SERVICES)
def test_docstrings_get_the_vectors_of_online_requests_on_a_store(
    store: Store,
    service: str,
    workers: int,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = f"{store.root}/out"
    with docstring_jobs(service, tmp_path) as jobs:
        for name, value in jobs.environ.items():
            monkeypatch.setenv(name, value)
        where = ("--input", corpus, "--output", output, "--base-url", jobs.server.url)
        ended = store.run("run", *where, *jobs.batch, "--workers", workers)
        assert ended.code == 0, ended.err
        jobs.check(store.fetch(output, tmp_path / "store"), corpus, tmp_path)
