"""Media that is fetched from object stores."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import read
from support.google_login import credentials
from support.images import pictures
from support.inputs import find_files
from support.report_page import Page
from support.stores import BUCKET, Store
from support.tar_shards import tar_of

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.content_parts import parse_part
from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.inputs import InputColumns
from bulkembed.schemas.media import MediaFault
from bulkembed.transforms.inputs.filesystems import Location, open_found, open_store
from bulkembed.transforms.inputs.input_files import read_batches, scan_file
from bulkembed.transforms.media.fetching import MediaFetcher
from bulkembed.transforms.media.media_refs import MediaRef

pytestmark = [pytest.mark.stores, pytest.mark.timeout(280)]

DATA = bytes(range(256)) * 40


def test_media_is_fetched_from_a_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in store.environ.items():
        monkeypatch.setenv(name, value)
    open_store.cache_clear()
    store.write(f"{store.root}/in/img/a b%20.jpg", DATA)
    store.write(f"{store.root}/in/large", bytes(200_000))
    store.write(f"{store.root}/in/empty", b"")
    base = Location(f"{store.root}/", f"{BUCKET}/in")
    uris = [f"{store.root}/in/img/a b%20.jpg", "img/a b%20.jpg", "../in/img/a b%20.jpg", "empty"]
    bad = [f"{store.root}/in/missing", "missing", "img", "large"]
    opened = MediaFetcher(FetchSettings(max_bytes=100_000))
    try:
        found = list(opened.fetch_ahead(MediaRef(uri=uri, base=base) for uri in [*uris, *bad]))
    finally:
        opened.close()
        open_store.cache_clear()
    assert found[:4] == [DATA, DATA, DATA, b""]
    faults = [fault for fault in found[4:] if isinstance(fault, MediaFault)]
    assert [fault.code for fault in faults] == [DeadCode.NOT_FOUND] * 3 + [DeadCode.TOO_LARGE]
    assert "bucket/in/missing" in faults[0].what


def test_large_pages_of_parquet_are_read_by_few_requests(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store.name == "gs":
        pytest.skip("pyarrow holds the GIL while this store answers, which needs it here")
    for name, value in store.environ.items():
        monkeypatch.setenv(name, value)
    open_store.cache_clear()
    noise = np.random.default_rng(1).bytes(300_000)
    images = [noise[row * 100 : row * 100 + 200_000] for row in range(100)]
    pq.write_table(pa.table({"id": range(100), "photo": images}), tmp_path / "a.parquet")
    store.write(f"{store.root}/in/a.parquet", (tmp_path / "a.parquet").read_bytes())
    columns = InputColumns(text_column=None, content=(parse_part("image:photo"),))
    schema, ranges = pa.schema([("id", pa.int64())]), [(row, 10) for row in range(0, 100, 10)]
    try:
        (found,) = find_files([f"{store.root}/in/a.parquet"])
        filesystem = open_found(found)
        scanned = scan_file(filesystem, found, columns)
        store.proxy.forget()
        batches = read_batches(filesystem, scanned.input_file, columns, schema, ranges)
        parts = [row for batch in batches for row in batch.parts or ()]
    finally:
        open_store.cache_clear()
    assert [row[0].value for row in parts if not isinstance(row[0], str)] == images
    # 20 MB: the dictionary by 4 MB, and then the page with its indices.
    assert store.proxy.kinds()["GET"] <= 14


def test_a_tar_with_images_is_embedded_from_a_store(
    store: Store, tmp_path: Path, server: EmulatorServer
) -> None:
    images = pictures(30)
    members = []
    for number, image in enumerate(images):
        members += [(f"{number:04d}.txt", b"a boot"), (f"{number:04d}.png", image)]
    store.write(f"{store.root}/in/0.tar", tar_of(members))
    store.write(f"{store.root}/in/1.tar.gz", gzip.compress(tar_of(members[:20])))
    ended = store.run(
        "run", "--input", f"{store.root}/in", "--output", f"{store.root}/out", "--base-url",
        server.url, "--dim", 128, "--model", "gemini-embedding-2", "--id-column", "__key__",
        "--content", "{txt}", "--content", "image:png", "--unit-rows", 7,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    table = read(store.fetch(f"{store.root}/out", tmp_path / "out"))
    assert len(table) == 40
    assert len(set(table["text_hash"].to_pylist())) == 30


def test_a_night_looks_at_the_files_of_a_store_and_reads_those_that_changed(
    store: Store, tmp_path: Path, server: EmulatorServer
) -> None:
    images = pictures(12)
    for number, image in enumerate(images):
        store.write(f"{store.root}/in/img/{number}.png", image)

    def night(number: int, *names: str) -> str:
        rows = [{"id": at, "photo": f"img/{name}.png"} for at, name in enumerate(names)]
        lines = "\n".join(map(json.dumps, rows)).encode()
        store.write(f"{store.root}/night-{number}/a.jsonl", lines)
        ended = store.run(
            "run", "--sync", "--input", f"{store.root}/night-{number}", "--output",
            f"{store.root}/out", "--base-url", server.url, "--dim", 128, "--model",
            "gemini-embedding-2", "--content", "image:photo", "--media-root", f"{store.root}/in",
            "--max-dead-letters", 1,
        )  # fmt: skip
        assert ended.code == 0, ended.err
        return ended.out

    names = [*map(str, range(10)), "none"]
    night(0, *names)
    assert "11 unchanged, 0 new, 0 changed" in night(1, *names)
    assert server.stats()["texts"] == 10
    store.write(f"{store.root}/in/img/none.png", images[10])
    store.write(f"{store.root}/in/img/3.png", images[11])
    assert "9 unchanged, 0 new, 2 changed" in night(2, *names)
    assert server.stats()["texts"] == 12
    table = read(store.fetch(f"{store.root}/out", tmp_path / "out"))
    assert len(set(table["text_hash"].to_pylist())) == 11
    verified = store.run(
        "verify", f"{store.root}/out", "--against", f"{store.root}/night-2", "--media-root",
        f"{store.root}/in", "--sample", 5, "--base-url", server.url,
    )  # fmt: skip
    assert verified.code == 0, verified.out + verified.err


def test_an_image_in_a_store_is_searched_for_and_shown_in_the_report(
    store: Store, tmp_path: Path, server: EmulatorServer
) -> None:
    images = pictures(40)
    for number, image in enumerate(images):
        store.write(f"{store.root}/in/img/{number}.png", image)
    names = [f"{'' if at % 2 else f'{store.root}/in/'}img/{at}.png" for at in range(len(images))]
    rows = [json.dumps({"id": at, "photo": name}) for at, name in enumerate(names)]
    store.write(f"{store.root}/in/a.jsonl", "\n".join(rows).encode())
    out = f"{store.root}/out"
    ended = store.run(
        "run", "--input", f"{store.root}/in/a.jsonl", "--output", out, "--base-url", server.url,
        "--dim", 128, "--model", "gemini-embedding-2", "--content", "image:photo",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    image = f"{store.root}/in/img/7.png"
    found = store.run("search", out, "--image", image, "-k", 1, "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["rows"][0]["id"] == 7
    missing = store.run("search", out, "--image", f"{store.root}/in/none.png")
    assert (missing.code, "there is no such file" in missing.err) == (2, True)
    assert store.run("report", out).code == 0
    page = Page(store.fetch(out, tmp_path / "out") / "_run/report.html")
    assert sum(bool(row.get("image")) for row in page.rows("map")) == len(images)


@pytest.mark.parametrize("store", ["gs"], indirect=True)
def test_vertex_ai_reads_the_files_of_a_bucket_itself(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generation of a file is embedded once."""
    images = [image + bytes(100_000) for image in pictures(8)]
    rows = []
    for number, image in enumerate(images):
        store.write(f"{store.root}/in/img/{number}.png", image)
        path = f"img/{number}.png"
        rows.append({"id": number, "photo": f"{store.root}/in/{path}" if number % 2 else path})
    place = store.environ["STORAGE_EMULATOR_HOST"]
    settings = EmulatorSettings(batch=BatchSettings(buckets=(("bucket", place),)))
    with credentials(tmp_path) as environ, EmulatorServer(settings) as server:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        run = (
            "run", "--input", f"{store.root}/in/*.jsonl", "--base-url", server.url, "--dim", 128,
            "--model", "gemini-embedding-2", "--content", "image:photo", "--vertexai",
            "--vertex-project", "p", "--vertex-location", "global", "--output",
        )  # fmt: skip
        batch = ("--mode", "batch", "--batch-poll", "0.1s", "--batch-bucket", f"{store.root}/jobs")
        for title in ("one", "two"):
            rows[0]["title"] = title
            store.write(f"{store.root}/in/a.jsonl", "\n".join(map(json.dumps, rows)).encode())
            store.write(f"{store.root}/in/img/3.png", images[3])
            ended = store.run(*run, f"{store.root}/out", "--media-by-uri", *batch)
            assert ended.code == 0, ended.err
        assert (server.stats()["texts"], server.stats()["calls"]) == (9, 0)
        ended = store.run(*run, f"{store.root}/inline")
        assert ended.code == 0, ended.err
    vectors = [
        read(store.fetch(f"{store.root}/{name}", tmp_path / name)).sort_by("id")["vector"]
        for name in ("out", "inline")
    ]
    assert vectors[0].to_pylist() == vectors[1].to_pylist()
