"""The map of a dataset with media: small images, media in words, and what is not shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.cli import bulkembed, run
from support.images import STRUCT, picture
from support.media_samples import wav
from support.report_page import Page
from support.web_pages import Exchange, serving

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.report import row_media
from bulkembed.transforms.media.media_refs import MediaRef

pytestmark = pytest.mark.faults

MODEL = ("--model", "gemini-embedding-2", "--dim", 128)
ROWS = 40
IMAGES = [picture(number, side=200) for number in range(ROWS)]
TITLES = [f"{'boot' if number % 2 else 'coat'} number {number}" for number in range(ROWS)]
FORMS = ("bytes", "path", "URI", "struct", "data URI", "media root")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with EmulatorServer() as server:
        yield server.url


def photos(form: str, folder: Path) -> pa.Array:
    """The images in a form of a column; files are in `img/` of the folder."""
    (folder / "img").mkdir(parents=True, exist_ok=True)
    names = [f"img/{number}.bin" for number in range(ROWS)]
    for name, data in zip(names, IMAGES, strict=True):
        (folder / name).write_bytes(data)
    match form:
        case "bytes":
            return pa.array(IMAGES, pa.binary())
        case "path" | "media root":
            return pa.array(names)
        case "URI":
            return pa.array([(folder / name).as_uri() for name in names])
        case "struct":
            return pa.array([{"bytes": None, "path": name} for name in names], STRUCT)
    return pa.array([f"data:;base64,{base64.b64encode(one).decode()}" for one in IMAGES])


def dataset(url: str, folder: Path, form: str = "bytes", *args: object) -> Path:
    files = folder / ("elsewhere" if form == "media root" else "in")
    (folder / "in").mkdir()
    table = pa.table({"id": range(ROWS), "title": TITLES, "photo": photos(form, files)})
    pq.write_table(table, folder / "in/a.parquet")
    root = ("--media-root", files) if form == "media root" else ()
    args = args or ("--content", "{title}", "--content", "image:photo")
    ended = run(url, folder / "in/a.parquet", folder / "out", *MODEL, *args, *root)
    assert ended.code == 0, ended.err
    return folder / "out"


def report(out: Path, *args: str) -> Page:
    ended = bulkembed("report", out, *args)
    assert (ended.code, ended.err) == (0, "")
    return Page(out / "_run/report.html")


def send(data: bytes, exchange: Exchange) -> None:
    exchange.answer(200, data)


def points(page: Page) -> dict[int, dict[str, Any]]:
    return {int(row["id"]): row for row in page.rows("map") if "from" in row}


def decoded(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def looks_like(small: Image.Image, data: bytes) -> bool:
    """Whether the halves of an image have about the colours of another one."""
    one, other = (
        image.convert("RGB").resize((8, 8)) for image in (small, Image.open(io.BytesIO(data)))
    )
    places = [(1, 0), (6, 6)]
    return all(
        abs(a - b) < 40
        for place in places
        for a, b in zip(one.getpixel(place), other.getpixel(place), strict=True)  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("form", FORMS)
def test_each_point_has_the_small_image_of_its_row(url: str, form: str, tmp_path: Path) -> None:
    page = report(dataset(url, tmp_path, form))
    found = points(page)
    assert len(found) == ROWS
    for number, row in found.items():
        small = decoded(row["image"])
        assert small.size == (row_media.SIDE, row_media.SIDE)
        assert looks_like(small, IMAGES[number]), number
        assert row["text"] == TITLES[number]
        assert row["media"].startswith("image ")
        if form in ("path", "struct", "media root"):
            assert row["media"].endswith(f" img/{number}.bin")
    assert "Images available: 40" in page.text
    pictures = [attrs["src"] for tag, attrs in page.tags if tag == "img"]
    assert pictures
    assert set(pictures) <= {row["image"] for row in found.values()}


def test_images_without_texts_make_a_map_without_texts(url: str, tmp_path: Path) -> None:
    page = report(dataset(url, tmp_path, "bytes", "--content", "image:photo"))
    assert all(row["image"] and not row["text"] for row in points(page).values())
    assert "text not available" not in page.text + str(page.charts)
    assert "no distinctive words" not in page.text


def test_without_excerpts_there_is_nothing_of_the_media(url: str, tmp_path: Path) -> None:
    page = report(dataset(url, tmp_path, "path"), "--no-report-texts")
    assert points(page)
    assert not any("image" in row or "media" in row for row in points(page).values())
    assert ".bin" not in str(page.charts)
    assert not [tag for tag, _ in page.tags if tag == "img"]


def test_a_file_that_has_changed_or_is_gone_is_named_and_not_shown(
    url: str, tmp_path: Path
) -> None:
    out = dataset(url, tmp_path, "path")
    (tmp_path / "in/img/3.bin").write_bytes(picture(99, side=200))
    (tmp_path / "in/img/4.bin").unlink()
    (tmp_path / "in/img/5.bin").unlink()
    (tmp_path / "in/img/5.bin").symlink_to(tmp_path / "in/img/6.bin")
    found = points(report(out))
    assert {number for number, row in found.items() if not row["image"]} == {3, 4, 5}
    assert found[4]["media"].endswith(" img/4.bin")


@pytest.mark.parametrize("form", ["bytes", "data URI"])
def test_kept_bytes_are_shown_after_the_input_was_deleted(
    url: str, form: str, tmp_path: Path
) -> None:
    kept = ("--content", "image:photo", "--keep-columns", "photo", "--unit-rows", 15)
    out = dataset(url, tmp_path, form, *kept)
    (tmp_path / "in/a.parquet").unlink()
    found = points(report(out))
    assert all(looks_like(decoded(row["image"]), IMAGES[at]) for at, row in found.items())
    assert len(found) == ROWS


def test_nothing_is_downloaded_for_a_report(url: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shown = {f"/{at}": partial(send, data) for at, data in enumerate(IMAGES)}
    with serving(shown) as pages:
        urls = [f"{pages.url}/{at}" for at in range(ROWS)]
        pq.write_table(pa.table({"id": range(ROWS), "photo": urls}), tmp_path / "in/a.parquet")
        args = ("--content", "image:photo", "--allow-private-addresses")
        ended = run(url, tmp_path / "in", tmp_path / "out", *MODEL, *args)
        assert ended.code == 0, ended.err
        before = pages.asked.total()
        assert before >= ROWS
        page = report(tmp_path / "out")
        assert pages.asked.total() == before
    assert all(not row["image"] and pages.url in row["media"] for row in points(page).values())


def test_the_images_of_a_page_are_bounded(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = dataset(url, tmp_path)
    monkeypatch.setattr(row_media, "MAX_ROWS", 12)
    assert sum(bool(row["image"]) for row in points(report(out)).values()) == 12
    first = {at for at, row in points(report(out)).items() if row["image"]}
    assert first == {at for at, row in points(report(out)).items() if row["image"]}
    monkeypatch.setattr(row_media, "MAX_IMAGE_BYTES", 4000)
    few = [row["image"] for row in points(report(out)).values() if row["image"]]
    assert 0 < len(few) < 12
    assert sum(len(base64.b64decode(one.partition(",")[2])) for one in few) <= 4000
    monkeypatch.setattr(row_media, "MAX_ROW_BYTES", 10)
    assert not any(row["image"] for row in points(report(out)).values())


def test_reading_ends_in_time_also_if_no_image_can_be_shown(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = dataset(url, tmp_path, "path")
    for number in range(ROWS):
        (tmp_path / f"in/img/{number}.bin").unlink()
    tried: list[MediaRef] = []
    bytes_of = row_media._bytes_of

    def counted(ref: MediaRef) -> bytes:
        tried.append(ref)
        return bytes_of(ref)

    monkeypatch.setattr(row_media, "_bytes_of", counted)
    monkeypatch.setattr(row_media, "MAX_S", 0.0)
    report(out)
    assert len(tried) == 1


def test_dead_letters_of_media_are_shown_with_their_reasons(url: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    values = [*IMAGES[:3], b"<html>404</html>", b"", IMAGES[3][:60]]
    table = pa.table({"id": range(6), "photo": pa.array(values, pa.binary())})
    pq.write_table(table, tmp_path / "in/a.parquet")
    run(url, tmp_path / "in", tmp_path / "out", *MODEL, "--content", "image:photo")
    page = report(tmp_path / "out")
    rows = {cells[1]: cells for cells in page.cells["examples"][1:]}
    assert rows["3"][0] == "unsupported_type"
    assert "an HTML page instead of an image" in rows["3"][3]
    assert {rows["4"][0], rows["5"][0]} == {"corrupt_media"}
    codes = {row["code"]: row["rows"] for row in page.rows("dead_letters")}
    assert codes == {"unsupported_type": 1, "corrupt_media": 2}


def test_pieces_of_long_media_are_points_of_their_own(url: str, tmp_path: Path) -> None:
    calls = pa.array([wav(25), *[wav(1)] * (ROWS - 1)], pa.binary())
    table = pa.table({"id": range(ROWS), "title": TITLES, "call": calls})
    pq.write_table(table, tmp_path / "in.parquet")
    args = ("--content", "{title}", "--content", "audio:call", "--long-media", "pieces")
    args = (*args, "--piece-seconds", 10)
    ended = run(url, tmp_path / "in.parquet", tmp_path / "out", *MODEL, *args)
    assert ended.code == 0, ended.err
    page = report(tmp_path / "out")
    ids = [int(row["id"]) for row in page.rows("map") if "id" in row]
    assert ids.count(0) == 3
