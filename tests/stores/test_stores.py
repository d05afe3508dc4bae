"""The job on object stores that speak the real protocols, with faults, kills and a count."""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import Ended, process, read, run
from support.killing import same_rows, wait_for
from support.store_proxy import Fault
from support.stores import SECRET, STORES, Store, finish

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.transforms.dataset.atomic_files import write_atomically
from bulkembed.transforms.dataset.part_files import part_writer
from bulkembed.transforms.inputs.filesystems import open_filesystem

pytestmark = [pytest.mark.stores, pytest.mark.timeout(280)]

FOLDER = "a folder/ä b%20#1"
FAULT_EVERY = {"s3": 7, "gs": 7, "az": 37}
"""Azure's SDK waits for seconds after each, and its files take more requests."""
MENDED_BY_ALL = (Fault.ERROR, Fault.SLOW, Fault.CUT, Fault.LOST)
ARGS = ("--dim", "128", "--rpm", "0", "--tpm", "0", "--rpd", "0")


def parquet(texts: list[str | None], first_id: int = 0) -> bytes:
    sink = io.BytesIO()
    ids = range(first_id, first_id + len(texts))
    pq.write_table(pa.table({"id": ids, "text": pa.array(texts, pa.string())}), sink)
    return sink.getvalue()


def write_input(write: Callable[[str, bytes], object]) -> int:
    """Two shards with names that are no plain ones; gives the rows that are paid for."""
    texts: list[str | None] = [f"text {n}" for n in range(120)]
    texts[7], texts[50] = "", "poison"
    write("in/ein Wörterbuch %41+&.parquet", parquet(texts))
    lines = "".join(f'{{"id": {n}, "text": "line {n}"}}\n' for n in range(1000, 1080))
    write("in/日本語 #2.jsonl", lines.encode())
    return 120 - 1 + 80


def job(store: Store, server: EmulatorServer, *args: object) -> list[object]:
    where = f"{store.root}/{FOLDER}"
    return [
        "run", "--input", f"{where}/in", "--output", f"{where}/out", "--base-url", server.url,
        *ARGS, *args,
    ]  # fmt: skip


def committed_rows(store: Store) -> int:
    sizes = store.files(f"{store.root}/{FOLDER}/out/_run/units")
    # On Azure's store a record is empty before it is whole; then it is none.
    return sum(int(name.split("-")[2]) for name, size in sizes.items() if size)


def faults_in_turn(every: int) -> Callable[[str, str, int], Fault | None]:
    """One request of so many goes wrong, each time in another way."""
    kinds = itertools.cycle(MENDED_BY_ALL)

    def fault(method: str, path: str, number: int) -> Fault | None:
        return None if number % every else next(kinds)

    return fault


def test_a_job_on_a_faulty_store_gives_what_it_gives_on_a_disk(
    store: Store, tmp_path: Path
) -> None:
    def write_local(name: str, data: bytes) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)

    write_input(write_local)
    rows = write_input(lambda name, data: store.write(f"{store.root}/{FOLDER}/{name}", data))
    more = ("--unit-rows", "40", "--max-dead-letters", "5")
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        assert run(server.url, tmp_path / "in", tmp_path / "disk", *ARGS, *more).code == 0
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        store.proxy.fault = faults_in_turn(FAULT_EVERY[store.name])
        ended = store.run(*job(store, server, *more))
        assert ended.code == 0, ended.err
        assert set(store.proxy.faults) == set(MENDED_BY_ALL)
        print(f"{store.name}: {dict(store.proxy.faults)}")
        assert server.stats()["texts_paid_twice"] == 0
        paid = server.stats()["texts"]
        store.proxy.fault = lambda *_: None
        again = store.run(*job(store, server, *more))
        assert again.code == 0, again.err
        assert server.stats()["texts"] == paid >= rows - 1
    output = store.fetch(f"{store.root}/{FOLDER}/out", tmp_path / "store")
    same_rows(output, tmp_path / "disk")
    assert not [path for path in output.rglob("*") if path.name.startswith(".tmp-")]
    assert not list((output / "_run").glob("claims/*.json"))
    said = ended.out + ended.err + again.out + again.err
    assert SECRET not in said
    assert not [p for p in output.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]


def first_uploads(kind: Fault, most: int) -> Callable[[str, str, int], Fault | None]:
    """So many uploads of vectors go wrong, each at its first try."""
    begun: set[str] = set()

    def fault(method: str, path: str, number: int) -> Fault | None:
        upload = method == "PUT" and ("/vectors/" in unquote(path) or "upload_id=" in path)
        name = path.partition("&upload_id=")[0]
        if not upload or name in begun or len(begun) == most:
            return None
        begun.add(name)
        return kind

    return fault


@pytest.mark.parametrize("kind", [Fault.CUT, Fault.ERROR, Fault.LOST], ids=["cut", "500", "lost"])
def test_an_upload_that_fails_at_first_is_whole_in_the_end(
    store: Store, tmp_path: Path, kind: Fault
) -> None:
    texts: list[str | None] = [f"text {n}" for n in range(200)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.parquet").write_bytes(parquet(texts))
    store.write(f"{store.root}/{FOLDER}/in/a.parquet", parquet(texts))
    with EmulatorServer() as server:
        more = ("--unit-rows", "20")
        assert run(server.url, tmp_path / "in", tmp_path / "disk", *ARGS, *more).code == 0
        store.proxy.fault = first_uploads(kind, 8)
        ended = store.run(*job(store, server, *more))
        assert ended.code == 0, ended.err
    assert store.proxy.faults == {kind: 8}
    same_rows(store.fetch(f"{store.root}/{FOLDER}/out", tmp_path / "store"), tmp_path / "disk")


@pytest.mark.parametrize("store", ["gs"], indirect=True)
def test_a_part_of_which_the_store_keeps_half_is_uploaded_again(
    store: Store, tmp_path: Path
) -> None:
    # S3's and Azure's clients sign the length, so that a store notices; Google's does not.
    texts: list[str | None] = [f"text {n}" for n in range(200)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.parquet").write_bytes(parquet(texts))
    store.write(f"{store.root}/{FOLDER}/in/a.parquet", parquet(texts))
    with EmulatorServer() as server:
        more = ("--unit-rows", "20")
        assert run(server.url, tmp_path / "in", tmp_path / "disk", *ARGS, *more).code == 0
    with EmulatorServer() as server:
        store.proxy.fault = first_uploads(Fault.HALF, 8)
        ended = store.run(*job(store, server, *more))
        assert ended.code == 0, ended.err
    assert store.proxy.faults == {Fault.HALF: 8}
    same_rows(store.fetch(f"{store.root}/{FOLDER}/out", tmp_path / "store"), tmp_path / "disk")


@pytest.mark.parametrize("store", ["gs"], indirect=True)
def test_a_part_that_the_store_never_keeps_whole_is_not_committed(store: Store) -> None:
    texts: list[str | None] = [f"text {n}" for n in range(200)]
    store.write(f"{store.root}/{FOLDER}/in/a.parquet", parquet(texts))
    with EmulatorServer() as server:
        command = job(store, server, "--unit-rows", "20", "--concurrency", "1")
        store.proxy.fault = lambda method, path, number: (
            Fault.HALF if "upload_id=" in path and "vectors" in path else None
        )
        ended = store.run(*command)
        assert ended.code == 1, ended.err
        assert "the store holds" in ended.last
        assert committed_rows(store) == 0
        store.proxy.fault = lambda *_: None
        again = store.run(*command)
        assert again.code == 0, again.err
        assert committed_rows(store) == 200


def test_a_killed_job_goes_on_and_pays_only_for_what_was_not_committed(
    store: Store, tmp_path: Path
) -> None:
    texts: list[str | None] = [f"text {n}" for n in range(400)]
    store.write(f"{store.root}/{FOLDER}/in/a.parquet", parquet(texts))
    with EmulatorServer(EmulatorSettings(latency_ms=30)) as server:
        command = job(store, server, "--unit-rows", "10", "--concurrency", "2")
        process = store.start(*command)
        wait_for(lambda: committed_rows(store) >= 100 or process.poll() is not None)
        process.kill()
        killed = finish(process)
        assert killed.code == -9, killed.err
        wait_for(lambda: server.stats()["in_flight"] == 0)
        done, paid = committed_rows(store), server.stats()["texts"]
        assert 100 <= done < 400
        ended = store.run(*command)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] - paid == 400 - done
        print(f"{store.name}: killed at {done} rows; {paid - done} texts of open units paid twice")
        cost = json.loads(store.run("status", command[4], "--json").out)["cost"]
        # The note of the killed process says how much it may have paid until the next one.
        tokens = server.stats()["tokens"]
        assert cost["tokens"] - cost["unconfirmed_tokens"] <= tokens <= cost["tokens"]
        assert 0 < cost["unconfirmed_tokens"] < 60_000
        shown = store.run(*command)
        assert f"0 tokens in this run; {cost['tokens']:,} tokens in all runs" in shown.out
    output = store.fetch(f"{store.root}/{FOLDER}/out", tmp_path / "out")
    table = read(output)
    assert table["id"].to_pylist() == list(range(400))
    assert not [path for path in output.rglob("*") if path.name.startswith(".tmp-")]


def test_a_cap_on_cost_holds_over_runs(store: Store) -> None:
    texts: list[str | None] = [f"{n}: a text about the weather on day {n}" for n in range(800)]
    store.write(f"{store.root}/{FOLDER}/in/a.parquet", parquet(texts))
    cap = ("--max-cost-usd", "6000", "--price-usd-per-mtok", "1000000", "--unit-rows", "100")
    with EmulatorServer() as server:
        command = job(store, server, *cap, "--concurrency", "2")
        assert store.run(*command).code == 4
        stats = server.stats()
        assert 0 < stats["tokens"] <= 6000
        assert 0 < committed_rows(store) < 800
        assert store.run(*command).code == 4
        assert server.stats()["calls"] == stats["calls"]


UNITS = {"s3": 1010, "gs": 1010, "az": 200}
PAGES = {"s3": 2, "gs": 1, "az": 1}
"""Pages of a listing of the records: of 1,000 names; fake-gcs-server gives all in one."""
A_UNIT = {"s3": 4, "gs": 6, "az": 17}
"""Requests for a unit: its two files, of less than 10 MiB, and a look at the size of each."""
A_PART = {"s3": 2, "gs": 4, "az": 2}
"""Requests to read columns of a part: for the index of texts, or for the feed of changes."""
A_RUN = {"s3": 110, "gs": 120, "az": 220}
"""Most requests of a run beside; notes of other workers and the run's claim are not counted."""
A_LOOK = {"s3": 2, "gs": 3, "az": 3}
"""Requests to read `run.json`: before and after each commit, and with each look for notes."""
A_STATE = {"s3": 60, "gs": 90, "az": 120}
"""Requests to publish a complete state: its feed, its manifest and the indexes."""
LOOKS_OF_A_RUN = 20


@pytest.mark.timeout(500)
def test_the_requests_of_a_thousand_units_are_few_and_a_resume_lists_once(store: Store) -> None:
    units = UNITS[store.name]
    texts: list[str | None] = [f"text {n}" for n in range(units * 2)]
    store.write(f"{store.root}/{FOLDER}/in/a.parquet", parquet(texts))

    def requests(what: str, *args: object) -> int:
        store.proxy.forget()
        ended = store.run(*job(store, server, "--unit-rows", "2", *args))
        assert ended.code == 0, ended.err
        kinds = store.proxy.kinds()
        # Once a second, and every 30 seconds: more of them where the machine is slow.
        stops, looks = (store.proxy.touching(f"/_run/{name}") for name in ("stops/", "run.json"))
        assert looks <= A_LOOK[store.name] * (2 * units + stops + LOOKS_OF_A_RUN)
        polls = stops + looks + store.proxy.touching("/_run/claims/")
        total = sum(kinds.values()) - polls
        print(f"{store.name} {what:18} {total:6,} {polls:4}  {dict(sorted(kinds.items()))}")
        return total

    with EmulatorServer() as server:
        whole = requests(f"{units - 3} units", "--limit-rows", units * 2 - 6)
        assert whole <= (units - 3) * A_UNIT[store.name] + A_RUN[store.name]
        indexed = requests("1 unit, indexed", "--limit-rows", 2)
        assert indexed <= units * A_PART[store.name] + A_RUN[store.name]
        listed = requests("1 unit, resumed", "--limit-rows", 2)
        assert listed <= A_UNIT[store.name] + A_RUN[store.name]
        last = requests("1 unit, complete")
        assert last <= units * A_PART[store.name] + A_RUN[store.name] + A_STATE[store.name]
        finished = requests("nothing left")
        assert finished <= A_RUN[store.name]
        assert store.proxy.listings("/vectors/") == PAGES[store.name]
        assert store.proxy.listings("/_run/units/") == PAGES[store.name]
        more = pa.table({"id": [-1, -2], "text": ["new", "newer"]})
        sink = pa.BufferOutputStream()
        pq.write_table(more, sink)
        store.write(f"{store.root}/{FOLDER}/in/b.parquet", sink.getvalue().to_pybytes())
        added = requests("1 unit more")
        assert added <= A_UNIT[store.name] + A_RUN[store.name] + A_STATE[store.name]


def test_azures_store_shows_a_file_only_when_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        running = STORES["az"]()
        with running as store:
            for name, value in store.environ.items():
                monkeypatch.setenv(name, value)
            seen: list[int] = []

            def look(method: str, path: str, number: int) -> None:
                files = store.files(f"{store.root}/x")
                seen.extend(size for name, size in files.items() if name == "file")

            store.proxy.fault = look
            filesystem, path = open_filesystem(f"{store.root}/x/file")
            write_atomically(filesystem, path, b"1" * 1000)
            write_atomically(filesystem, path, b"2" * 3000)
            assert set(seen) == {1000, 3000}
            assert list(store.files(f"{store.root}/x")) == ["file"]
    except LookupError as missing:
        pytest.skip(str(missing))


READ_PART = """
import sys
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.part_files import open_sized_part, read_blocks
dataset, name, size = Dataset.open(sys.argv[1]), sys.argv[2], int(sys.argv[3])
part = open_sized_part(dataset, name, size)
blocks = read_blocks(part, name, ["id", "text_hash", "lang", "title"], 1000)
print(sum(block.num_rows for block in blocks))
"""
A_READ = {"s3": {"GET": 3}, "gs": {"GET": 5}, "az": {"GET": 3}}
"""One for the footer, one for the columns before the vectors, one for those after them."""


def test_columns_of_a_part_of_known_size_take_one_request_for_each_range(store: Store) -> None:
    rows, dim = 500, 64
    columns = {
        "id": pa.array(range(rows)),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array([0.5] * rows * dim), dim),
        "text_hash": pa.array([n.to_bytes(16, "big") for n in range(rows)], pa.binary(16)),
        "lang": pa.array(["de"] * rows),
        "title": pa.array([f"title {n}" for n in range(rows)]),
    }
    sink = pa.BufferOutputStream()
    part_writer(pa.table(columns))(sink)
    data = sink.getvalue().to_pybytes()
    store.write(f"{store.root}/out/vectors/a.parquet", data)

    def read_with(name: str, size: int) -> Ended:
        store.proxy.forget()
        return process(
            sys.executable, "-c", READ_PART, f"{store.root}/out", name, str(size), **store.environ
        )

    ended = read_with("vectors/a.parquet", len(data))
    assert ended.out == f"{rows}\n", ended.err
    assert store.proxy.kinds() == A_READ[store.name]
    for size in (len(data) - 1, len(data) + 1, 1):
        assert read_with("vectors/a.parquet", size).out == f"{rows}\n"
    assert "vectors/b.parquet is missing" in read_with("vectors/b.parquet", len(data)).err


READS = ("GET", "HEAD")
A_REMOVAL = {"s3": 10, "gs": 14, "az": 10}
"""Requests that read a part: to compare it, to copy it without a row, and for the change feed."""


def test_a_part_that_loses_a_row_is_read_by_few_requests(store: Store) -> None:
    units, rows = 12, 10
    where = f"{store.root}/{FOLDER}"
    texts: list[str | None] = [f"text {n}" for n in range(units * rows)]
    store.write(f"{where}/in/a.parquet", parquet(texts))
    flags = ("--unit-rows", rows, "--sync", "--max-delete", "100%")
    with EmulatorServer() as server:
        assert store.run(*job(store, server, *flags)).code == 0
        parts = [name for name in store.files(f"{where}/out") if name.startswith("vectors/")]
        assert len(parts) == units
        texts[::rows] = [f"edited {n}" for n in range(units)]
        store.write(f"{where}/in/a.parquet", parquet(texts))
        store.proxy.forget()
        ended = store.run(*job(store, server, *flags))
        assert ended.code == 0, ended.err
    reads = [
        sum(part in unquote(one.path) for one in store.proxy.requests if one.kind in READS)
        for part in parts
    ]
    assert max(reads) <= A_REMOVAL[store.name], reads
