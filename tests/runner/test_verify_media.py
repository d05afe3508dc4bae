"""`bulkembed verify --against` and `--sample` of datasets with media."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import media_catalogues
from support.cli import bulkembed, read, run
from support.damage import findings, vectors_that_were_swapped
from support.images import picture, pictures
from support.media_samples import wav
from support.web_pages import Exchange, serving

from bulkembed.emulator.server import EmulatorServer

MODEL = ("--model", "gemini-embedding-2", "--dim", 128, "--unit-rows", 8)
IMAGES = ("--content", r"{title}\n", "--content", "image:photo", "--content", "image:file")
ROWS = 20


@pytest.fixture
def place(server: EmulatorServer, tmp_path: Path) -> Path:
    """A dataset `out` of rows with a text, an image in the row, and one in a file."""
    folder = tmp_path / "in"
    for number in range(ROWS):
        media_catalogues.put(folder, f"img/{number}.jpg", picture(number))
    photos = [*pictures(ROWS - 2), b"<html>", None]
    files = [f"img/{n}.jpg" if n % 3 == 0 else None for n in range(ROWS)]
    table = pa.table({"id": range(ROWS), "title": ["t"] * ROWS, "photo": photos, "file": files})
    pq.write_table(table, folder / "a.parquet")
    ended = run(
        server.url, folder / "a.parquet", tmp_path / "out", *MODEL, *IMAGES,
        "--max-dead-letters", 1,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    return tmp_path


def test_a_dataset_with_media_is_compared_with_its_input_and_the_service(
    server: EmulatorServer, place: Path
) -> None:
    sent = server.stats()["texts"]
    flags = ("--against", place / "in/a.parquet", "--sample", 12, "--base-url", server.url)
    ended = bulkembed("verify", place / "out", *flags)
    assert ended.code == 0, ended.out + ended.err
    assert "12 rows embedded again, lowest cosine 1.0" in ended.out
    assert server.stats()["texts"] == sent + 12


def another_image(place: Path) -> None:
    media_catalogues.put(place / "in", "img/3.jpg", picture(99))


def no_image(place: Path) -> None:
    (place / "in/img/3.jpg").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(another_image, "1 row with other texts or media in a.parquet, first row 3",
                     id="another"),
        pytest.param(no_image, "1 row whose media cannot be read in a.parquet, first row 3: column "
                     "'file': img/3.jpg: there is no such file", id="none"),
    ],
)  # fmt: skip
def test_files_that_have_changed_are_found(
    damage: Callable[[Path], None], said: str, place: Path
) -> None:
    damage(place)
    [(check, _, message)] = findings(place, "--against", place / "in/a.parquet")
    assert (check, message) == ("input", said)


@pytest.mark.faults
def test_a_sample_finds_vectors_of_other_images(server: EmulatorServer, place: Path) -> None:
    vectors_that_were_swapped(place)
    found = findings(place, "--sample", 100, "--base-url", server.url)
    assert [check for check, _, _ in found] == ["sample", "sample"]


@pytest.mark.faults
def test_a_mirrored_dataset_is_compared_by_the_bytes_of_its_files(
    server: EmulatorServer, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    rows = media_catalogues.catalogue("path", source, 12)
    rows["missing"] = ("m", "img/none.jpg", 1)
    rows["blank"] = (None, None, 1)
    media_catalogues.write_export(source, rows, 0, pa.string())
    assert media_catalogues.sync(server, source, output, "--max-dead-letters", 1).code == 0
    flags = ("--against", source, "--sample", 100, "--base-url", server.url)
    ended = bulkembed("verify", output, *flags)
    assert ended.code == 0, ended.out + ended.err
    assert "12 rows embedded again, lowest cosine 1.0" in ended.out
    media_catalogues.put(source, "img/3.jpg", picture(103))
    found = findings(tmp_path, "--against", source)
    assert [check for check, _, _ in found] == ["input", "input"]
    assert "1 row with other texts or media, first row" in found[0][2]


@pytest.mark.faults
@pytest.mark.parametrize("flags", [(), ("--sync",)])
def test_pieces_are_compared_one_by_one(
    server: EmulatorServer, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for name, seconds in (("a", 50), ("b", 5)):
        media_catalogues.put(source, f"{name}.wav", wav(seconds))
    rows = media_catalogues.Catalogue()
    rows |= {"a": ("t", "a.wav", 1), "b": (None, "b.wav", 2), "text": ("only a text", None, 3)}
    media_catalogues.write_export(source, rows, 0, pa.string())
    ended = run(
        server.url, source, output, *MODEL, *flags, "--content", "{title}", "--content",
        "audio:photo", "--long-media", "pieces", "--piece-seconds", 20,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    total, sent = read(output).num_rows, server.stats()["texts"]
    assert total > 4
    words = ("--against", source, "--sample", 100, "--base-url", server.url)
    ended = bulkembed("verify", output, *words)
    assert ended.code == 0, ended.out + ended.err
    compared = 3 if flags else total
    assert f"{compared} rows embedded again, lowest cosine 1.0" in ended.out
    assert server.stats()["texts"] == sent + compared
    media_catalogues.put(source, "a.wav", wav(51))
    assert findings(tmp_path, "--against", source)


@pytest.mark.faults
def test_a_folder_and_private_addresses_of_media_are_given_again(
    server: EmulatorServer, tmp_path: Path
) -> None:
    source, root = tmp_path / "in", tmp_path / "root"
    media_catalogues.put(root, "0.jpg", picture(0))

    def page(exchange: Exchange) -> None:
        exchange.answer(200, picture(1))

    with serving({"/1.jpg": page}) as web:
        rows = media_catalogues.Catalogue()
        rows |= {"file": ("t", "0.jpg", 1), "url": ("t", f"{web.url}/1.jpg", 1)}
        media_catalogues.write_export(source, rows, 0, pa.string())
        flags = ("--media-root", root, "--allow-private-addresses")
        assert run(server.url, source, tmp_path / "out", *MODEL, *IMAGES[:4], *flags).code == 0
        ended = bulkembed("verify", tmp_path / "out", "--against", source)
        assert ended.code == 2, ended.out
        assert f"--media-root {root}" in ended.last
        [(_, _, message)] = findings(tmp_path, "--against", source, "--media-root", root)
        assert "--allow-private-addresses" in message
        assert findings(tmp_path, "--against", source, *flags) == []
