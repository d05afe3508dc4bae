"""2,000 images in each form in which datasets keep them, with a text beside each."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.cli import matrix, read, summary
from support.images import column_forms, pictures
from support.media_jobs import embed, write
from support.tar_shards import tar_of
from support.web_pages import Exchange, serving

pytestmark = pytest.mark.faults

ROWS = 2000
PARTS = ("--id-column", "n", "--content", "a {txt}", "--content", "image:jpg")
IN_JSONL = ("struct of paths", "path", "uri", "data uri", "base64")


def titles() -> list[str | None]:
    """A few words, and for every seventh row none."""
    return [None if n % 7 == 6 else f"boot {n % 50}" for n in range(ROWS)]


def test_2000_images_have_the_same_vectors_in_each_form(url: str, tmp_path: Path) -> None:
    images = pictures(ROWS)

    def image(exchange: Exchange) -> None:
        exchange.answer(200, images[int(exchange.path[1:])])

    first = None
    with serving({f"/{n}": image for n in range(ROWS)}) as server:
        for name, source in sources(tmp_path / "in", images, server.url):
            ended = embed(url, source, tmp_path / name, *PARTS, "--allow-private-addresses")
            assert ended.code == 0, f"{name}: {ended.err}"
            assert summary(tmp_path / name)["counts"]["texts"] == ROWS, name
            table = read(tmp_path / name)
            first = table if first is None else first
            assert list(map(int, table["id"].to_pylist())) == list(range(ROWS)), name
            assert np.array_equal(matrix(table), matrix(first)), name
            assert table["text_hash"] == first["text_hash"], name
            if name == "url":
                uris = [row[0]["uri"] for row in table["media"].to_pylist()]
                assert uris == [f"{server.url}/{n}" for n in range(ROWS)]
    assert first is not None
    assert len(np.unique(matrix(first), axis=0)) == ROWS


def sources(folder: Path, images: list[bytes], url: str) -> Iterator[tuple[str, Path]]:
    """Yield the name and the file of each form, that of bytes first."""
    forms = column_forms(images, folder)
    forms["url"] = pa.array([f"{url}/{n}" for n in range(ROWS)])
    texts = {"n": range(ROWS), "txt": titles()}
    for name, column in forms.items():
        yield name, write(folder / f"{name}.parquet", **texts, jpg=column)
    for name in IN_JSONL:
        file = folder / f"{name}.jsonl"
        rows = zip(range(ROWS), titles(), forms[name].to_pylist(), strict=True)
        lines = (json.dumps({"n": n, "txt": txt, "jpg": jpg}) for n, txt, jpg in rows)
        file.write_text("\n".join(lines))
        yield f"{name} in JSONL", file
    # As img2dataset writes its table, whose column `jpg` has the images.
    yield "img2dataset", write(
        folder / "00000.parquet", **texts, jpg=images, url=["https://example.com"] * ROWS,
        key=[f"{n:09d}" for n in range(ROWS)], status=["success"] * ROWS,
        error_message=pa.nulls(ROWS, pa.string()),
    )  # fmt: skip
    shard = tar_of(members(images))
    (folder / "a.tar").write_bytes(shard)
    yield "tar", folder / "a.tar"
    (folder / "b.tar.gz").write_bytes(gzip.compress(shard, 1))
    yield "tar.gz", folder / "b.tar.gz"


def members(images: list[bytes]) -> Iterator[tuple[str, bytes]]:
    """The files of a WebDataset shard: an image, its text if it has one, and its number."""
    for number, (text, image) in enumerate(zip(titles(), images, strict=True)):
        yield f"{number:04d}.jpg", image
        if text is not None:
            yield f"{number:04d}.txt", text.encode()
        yield f"{number:04d}.json", json.dumps({"n": number}).encode()
