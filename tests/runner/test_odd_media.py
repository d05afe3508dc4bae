"""Broken and odd files beside good ones, in each form of input, through the whole job."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import Floats, bulkembed, dead_codes, matrix, read, run
from support.images import STRUCT
from support.media_samples import picture, saved
from support.odd_media import GOOD, IMAGE, ODD
from support.tar_shards import tar_of
from support.web_pages import Exchange, Page, serving

from bulkembed.emulator.server import EmulatorServer

pytestmark = pytest.mark.faults

TRANSCODED = [
    saved(picture("CMYK"), "JPEG"),
    saved(picture("P"), "PNG"),
    saved(picture().convert("I;16"), "PNG"),
    saved(picture(size=(31, 30)), "WEBP"),
    saved(picture(size=(32, 30)), "BMP"),
    saved(picture(size=(33, 30)), "TIFF"),
    saved(picture(), "GIF", save_all=True, append_images=[picture().rotate(90)]),
]
FILES = [
    *((kind, data, code) for _, kind, data, code, _ in ODD),
    *((kind, data, None) for _, kind, data, _ in GOOD),
    *((IMAGE, data, None) for data in TRANSCODED),
]
"""The kind of a part, its file, and the code of its dead letter; None if it is embedded."""
ENDINGS = {"image": "jpg", "audio": "wav", "video": "mp4", "pdf": "pdf"}
"""The columns of the kinds: those of the files in a tar."""
CONTENT = [arg for kind, name in ENDINGS.items() for arg in ("--content", f"{kind}:{name}")]
LIMITS = ("--max-image-pixels", 10_000, "--max-media-bytes", "100KB", "--max-source-bytes", "200KB")
"""Those of `odd_media.SETTINGS`."""
FORMS = ("bytes", "struct", "path", "url", "data uri", "tar")


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    """The URL of a server that has each file at its number."""

    def page(data: bytes) -> Page:
        def answer(exchange: Exchange) -> None:
            exchange.answer(200, data)

        return answer

    with serving({f"/{n}": page(data) for n, (_, data, _) in enumerate(FILES)}) as server:
        yield server.url


def source(form: str, folder: Path, url: str) -> Path:
    """Write the files in that form, in shuffled order; row N has file `order()[N]`."""
    rows = [(n, *FILES[n][:2]) for n in order()]
    if form == "tar":
        path = folder / "in.tar"
        members = [(f"{at:03d}.{ENDINGS[kind]}", data) for at, (_, kind, data) in enumerate(rows)]
        path.write_bytes(tar_of(members))
        return path
    values: dict[str, list[Any]] = {name: [None] * len(rows) for name in ENDINGS.values()}
    for at, (number, kind, data) in enumerate(rows):
        values[ENDINGS[kind]][at] = value(form, number, data, folder, url)
    types = {"bytes": pa.binary(), "struct": STRUCT}
    columns = {name: pa.array(one, types.get(form, pa.string())) for name, one in values.items()}
    pq.write_table(pa.table({"__key__": range(len(rows)), **columns}), folder / "in.parquet")
    return folder / "in.parquet"


def value(form: str, number: int, data: bytes, folder: Path, url: str) -> Any:
    """Return the value of a column with that file."""
    if form == "bytes":
        return data
    if form == "struct":
        return {"bytes": data, "path": f"{number}.bin"}
    if form == "url":
        return f"{url}/{number}"
    if form == "data uri":
        return f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"
    (folder / f"{number}.bin").write_bytes(data)
    return f"{number}.bin"


def order() -> list[int]:
    """Return the files of the rows: broken and good ones are mixed."""
    found: list[int] = np.random.default_rng(5).permutation(len(FILES)).tolist()
    return found


def run_over(server: EmulatorServer, path: Path, output: Path) -> None:
    """Run the job, which ends well whatever its files are."""
    args = ("--model", "gemini-embedding-2", "--dim", 128, "--id-column", "__key__", *CONTENT)
    args += (*LIMITS, "--max-dead-letters", "100%", "--allow-private-addresses")
    ended = run(server.url, path, output, *args)
    assert ended.code == 0, ended.err


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Floats:
    """The vectors of the good rows whose files are in the input, by an emulator of its own."""
    folder = tmp_path_factory.mktemp("bytes")
    with EmulatorServer() as server:
        run_over(server, source("bytes", folder, ""), folder / "out")
    return matrix(read(folder / "out"))


@pytest.mark.parametrize("form", FORMS)
def test_broken_files_cost_their_row_and_good_ones_have_the_vectors_of_their_bytes(
    form: str, web: str, vectors: Floats, tmp_path: Path
) -> None:
    codes = {at: FILES[number][2] for at, number in enumerate(order())}
    good = [at for at, code in codes.items() if code is None]
    output = tmp_path / "out"
    with EmulatorServer() as server:
        path = source(form, tmp_path, web)
        run_over(server, path, output)
        assert dead_codes(output) == {at: code for at, code in codes.items() if code}
        letters = read(output, "dead_letters").to_pylist()
        assert {letter["attempts"] for letter in letters} == {0}
        for letter in letters:
            kind = FILES[order()[letter["source_row"]]][0]
            assert f"column '{ENDINGS[kind]}'" in letter["message"]
        table = read(output)
        assert table["source_row"].to_pylist() == good
        assert np.array_equal(matrix(table), vectors)
        paid = server.stats()
        assert paid["texts"] == len(good)
        assert paid["answers"] == {"200": paid["calls"]}
        run_over(server, path, output)
        assert server.stats()["calls"] == paid["calls"]
    assert bulkembed("verify", output).code == 0


def test_good_files_have_the_vectors_that_the_service_gives_for_each_alone(
    vectors: Floats,
) -> None:
    first = len(ODD)
    rows = [at for at, number in enumerate(order()) if FILES[number][2] is None]
    with EmulatorServer() as server:
        for number, (_, _, data, mime) in enumerate(GOOD, first):
            body = {
                "content": {"parts": [{"inlineData": {
                    "mimeType": mime, "data": base64.b64encode(data).decode()
                }}]},
                "outputDimensionality": 128,
            }  # fmt: skip
            answer = httpx2.post(
                f"{server.url}/v1beta/models/gemini-embedding-2:embedContent", json=body,
                headers={"x-goog-api-key": "x"}, timeout=60,
            ).raise_for_status()  # fmt: skip
            alone = np.array(answer.json()["embedding"]["values"], np.float32)
            at = rows.index(order().index(number))
            assert np.allclose(vectors[at], alone / np.linalg.norm(alone), atol=1e-6)
