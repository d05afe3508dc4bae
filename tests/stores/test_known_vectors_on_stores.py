"""On object stores a text is paid for once, wherever it occurs, as on a local disk."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import Ended, python
from support.killing import wait_for
from support.stores import Store, finish

from bulkembed.emulator.server import EmulatorServer

pytestmark = [
    pytest.mark.stores,
    pytest.mark.timeout(280),
    pytest.mark.parametrize("store", ["s3", "gs"], indirect=True),
]

ROWS, UNIT_ROWS = 300, 20
SMALL_PLANS = Path(__file__).parents[1] / "kill/small_plans.py"
"""`bulkembed` that has early units in small plans."""


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


@pytest.mark.parametrize("workers", [1, 2])
def test_repeated_texts_are_paid_once_if_the_plan_has_early_units(
    store: Store, tmp_path: Path, workers: int
) -> None:
    texts = [f"text {n % 110}" for n in range(ROWS)]
    store.write(f"{store.root}/in/a.parquet", parquet(texts, range(ROWS)))
    with EmulatorServer() as server:
        ended = python(
            str(SMALL_PLANS), "open", "no such file", "1",
            "run", "--input", f"{store.root}/in", "--output", f"{store.root}/out", "--base-url",
            server.url, "--dim", "128", "--unit-rows", "20", "--workers", str(workers),
            **store.environ,
        )  # fmt: skip
        assert ended.code == 0, ended.err
        assert "embedding the first 60 rows while" in ended.err
        assert server.stats()["texts"] == 110
    found = vectors_by_id(store, tmp_path)
    assert len(found) == ROWS
    assert all(found[n] == found[n % 110] for n in range(ROWS))
    left = store.files(f"{store.root}/out/_run/shared")
    assert {Path(name).suffix for name in left} <= {".json"}


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
        parts = [Path(name).name for name in store.files(f"{store.root}/out/vectors")]
        store.proxy.forget()
        ended = go(store, server, "--workers", workers)
        assert ended.code == 0, ended.err
        edited = len([text for text in second if text.startswith("edited")])
        assert server.stats()["texts"] == ROWS + edited
        # One worker has all units, and reads the parts where they are.
        assert ("to gather in _run/gather" in ended.err) == (workers == 2)
        # Each part is wanted by all units, and is read once: one request for its size, one for its
        # footer, and one or two for its columns.
        requests = [(request.kind, unquote(request.path)) for request in store.proxy.requests]
        puts = [at for at, (kind, path) in enumerate(requests) if kind in ("PUT", "POST")]
        begin = min(at for at in puts if "/_run/gather/" in requests[at][1])
        end = max(at for at in puts if "/_run/units/" in requests[at][1])
        read = Counter(
            part for kind, path in requests[begin:end] for part in parts
            if part in path and kind in ("GET", "HEAD")
        )  # fmt: skip
        assert set(read) == set(parts)
        assert max(read.values()) <= 4, requests[begin:end]
        assert not store.files(f"{store.root}/out/_run/gather")
        assert not [
            name for name in store.files(f"{store.root}/out/_run/shared") if "spill" in name
        ]
        store.run(
            "run", "--input", f"{store.root}/in", "--output", f"{store.root}/afresh",
            "--base-url", server.url, "--dim", 128,
        )  # fmt: skip
    assert vectors_by_id(store, tmp_path / "again") == vectors_by_id(
        store, tmp_path / "afresh", "afresh"
    )


def test_a_run_killed_while_it_gathers_pays_for_nothing_again(store: Store) -> None:
    texts = [f"text {n}" for n in range(ROWS)]
    store.write(f"{store.root}/in/a.parquet", parquet(texts, range(ROWS)))
    with EmulatorServer() as server:
        assert go(store, server).code == 0
        store.write(f"{store.root}/in/a.parquet", parquet([*texts[::-1], "new"], range(ROWS + 1)))
        process = store.start(
            "run", "--input", f"{store.root}/in", "--output", f"{store.root}/out",
            "--base-url", server.url, "--dim", 128, "--unit-rows", UNIT_ROWS,
        )  # fmt: skip
        wait_for(lambda: store.files(f"{store.root}/out/_run/gather"))
        process.kill()
        finish(process)
        assert store.files(f"{store.root}/out/_run/gather")
        ended = go(store, server)
        while ended.code == 5:  # The claim of the dead run expires.
            ended = go(store, server)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == ROWS + 1
    assert not store.files(f"{store.root}/out/_run/gather")


def test_a_dataset_on_a_store_is_reused_for_one_on_a_disk(store: Store, tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(ROWS)]
    store.write(f"{store.root}/in/a.parquet", parquet(texts, range(ROWS)))
    with EmulatorServer() as server:
        assert go(store, server).code == 0
        ended = store.run(
            "run", "--input", f"{store.root}/in", "--output", tmp_path / "new",
            "--base-url", server.url, "--dim", 128, "--generate-ids",
            "--reuse", f"{store.root}/out",
        )  # fmt: skip
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == ROWS
    assert pq.read_table(tmp_path / "new/vectors").num_rows == ROWS
