"""On object stores a text is paid for once, wherever it occurs, as on a local disk."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import Ended
from support.stores import STORES, Store

from bulkembed.emulator.server import EmulatorServer

pytestmark = [pytest.mark.stores, pytest.mark.timeout(280)]

ROWS, UNIT_ROWS = 300, 20


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    try:
        running = STORES[request.param]()
        with running as store:
            yield store
    except LookupError as missing:
        pytest.skip(str(missing))


def parquet(texts: Sequence[str], ids: Sequence[int]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": ids, "text": texts}), sink)
    return sink.getvalue()


def go(store: Store, server: EmulatorServer, *args: object, output: str = "out") -> Ended:
    return store.run(
        "run", "--input", f"{store.root}/in", "--output", f"{store.root}/{output}",
        "--base-url", server.url, "--dim", 128, "--unit-rows", UNIT_ROWS, *args,
    )  # fmt: skip


def vectors_by_id(store: Store, folder: Path, output: str = "out") -> dict[int, list[float]]:
    table = pq.read_table(store.fetch(f"{store.root}/{output}", folder) / "vectors")
    return dict(zip(table["id"].to_pylist(), table["vector"].to_pylist(), strict=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_repeated_texts_are_paid_once_over_the_run(
    store: Store, tmp_path: Path, workers: int
) -> None:
    texts = [f"text {n % 70}" for n in range(ROWS)]
    store.write(f"{store.root}/in/a.parquet", parquet(texts, range(ROWS)))
    with EmulatorServer() as server:
        ended = go(store, server, "--workers", workers)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == 70
    assert "within units only" not in ended.err
    found = vectors_by_id(store, tmp_path)
    assert len(found) == ROWS
    assert all(found[n] == found[n % 70] for n in range(ROWS))
    left = store.files(f"{store.root}/out/_run/shared")
    assert {Path(name).suffix for name in left} == {".json"}


def test_shared_texts_of_a_stopped_run_are_not_paid_again(store: Store) -> None:
    texts = [f"text {n % 150}" for n in range(ROWS)]
    store.write(f"{store.root}/in/a.parquet", parquet(texts, range(ROWS)))
    with EmulatorServer() as server:
        ended = go(store, server, "--rpd", 100)
        assert ended.code == 75, ended.err
        assert 0 < server.stats()["texts"] <= 100
        ended = go(store, server, "--rpd", 0)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == 150
        assert server.stats()["texts_paid_twice"] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_catalogue_that_is_exported_again_costs_its_new_texts_only(
    store: Store, tmp_path: Path, workers: int
) -> None:
    first = [f"text {n}" for n in range(ROWS)]
    for number in range(3):
        rows = range(number * 100, number * 100 + 100)
        store.write(f"{store.root}/in/{number}.parquet", parquet([first[n] for n in rows], rows))
    with EmulatorServer() as server:
        ended = go(store, server)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == ROWS
        order = [n * 7 % ROWS for n in range(ROWS)]
        second = [f"edited {n}" if n % 33 == 0 else first[n] for n in range(ROWS)]
        for number in range(3):
            rows = order[number * 100 : number * 100 + 100]
            store.write(
                f"{store.root}/in/{number}.parquet", parquet([second[n] for n in rows], rows)
            )
        ended = go(store, server, "--workers", workers)
        assert ended.code == 0, ended.err
        edited = len([text for text in second if text.startswith("edited")])
        assert server.stats()["texts"] == ROWS + edited
        store.run(
            "run", "--input", f"{store.root}/in", "--output", f"{store.root}/afresh",
            "--base-url", server.url, "--dim", 128,
        )  # fmt: skip
    assert vectors_by_id(store, tmp_path / "again") == vectors_by_id(
        store, tmp_path / "afresh", "afresh"
    )
