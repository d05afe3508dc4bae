"""Images, audio and PDF files on real engines, whose workers install what looks at them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.cli import dead_codes, matrix, read, summary
from support.engines import Engine
from support.images import STRUCT, pictures
from support.killing import leftovers, same_rows
from support.media_jobs import MODEL, embed, write
from support.media_samples import pdf, picture, saved, wav

from bulkembed.emulator.server import EmulatorServer

pytestmark = [
    pytest.mark.runners,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("engine", ["prism", "flink"], indirect=True),
]
ROWS = 60
ARGS = (
    "--content", "a {title}", "--content", "image:photo", "--content", "audio:call",
    "--content", "pdf:manual", "--unit-rows", 10, "--max-dead-letters", 3,
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with images in structs and at paths, one of which repeats, and three bad ones."""
    folder = tmp_path_factory.mktemp("media")
    images = pictures(ROWS)
    images[40] = images[3]
    images[7] = b"<html>404</html>"
    images[8] = saved(picture(), "WEBP")
    (folder / "img").mkdir()
    photos = []
    for number, data in enumerate(images):
        path = f"img/{number}.jpg"
        if number % 2:
            (folder / path).write_bytes(data)
        photos.append({"bytes": None if number % 2 else data, "path": path})
    photos[21] = {"bytes": None, "path": "img/missing.jpg"}
    manuals = [pdf(1 + n % 3) if n % 15 == 4 else None for n in range(ROWS)]
    calls = [wav(1 + n / 8) if n % 10 == 5 else wav(200) if n == 30 else None for n in range(ROWS)]
    return write(
        folder / "a.parquet", id=range(ROWS), title=[f"thing {n % 20}" for n in range(ROWS)],
        photo=pa.array(photos, STRUCT), call=pa.array(calls, pa.binary()),
        manual=pa.array(manuals, pa.binary()),
    )  # fmt: skip


def test_media_has_the_vectors_of_this_process(
    engine: Engine, source: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with EmulatorServer() as server:
        assert embed(server.url, source, here, *ARGS).code == 0
    with EmulatorServer() as server:
        where = ("--input", source, "--output", there, "--base-url", server.url)
        ended = engine.run(*where, *MODEL, *ARGS)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == server.stats()["distinct_texts"]
    same_rows(there, here)
    assert np.array_equal(matrix(read(there)), matrix(read(here)))
    assert dead_codes(there) == {7: "unsupported_type", 21: "not_found", 30: "too_long"}
    assert read(there)["media"].to_pylist() == read(here)["media"].to_pylist()
    counts, expected = summary(there)["counts"], summary(here)["counts"]
    for name in ("texts", "tokens", "image_tokens", "audio_tokens"):
        assert counts[name] == expected[name], name
    assert leftovers(there) == []
