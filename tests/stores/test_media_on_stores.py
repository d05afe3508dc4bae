"""Media that is fetched from object stores."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from support.cli import read
from support.images import pictures
from support.stores import BUCKET, Store
from support.tar_shards import tar_of

from bulkembed.emulator.server import EmulatorServer
from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.media import MediaFault
from bulkembed.transforms.inputs.filesystems import Location, open_store
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
