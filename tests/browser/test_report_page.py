"""The page of `bulkembed report` in a real browser, at the sizes of a desktop and a phone."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page
from support.browser import Seen, chromium, opened
from support.cli import bulkembed, run, write_rows
from support.drawings import drawing
from support.topics import TEXTS

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.report.figures import PALETTE
from bulkembed.pipeline.report.row_media import SIDE

pytestmark = pytest.mark.browser

CHARTS = {
    "rows", "map", "lengths", "rate", "tokens", "latency", "problems", "cost", "dead_letters",
}  # fmt: skip
MARKUP = "poison <img src=x onerror=alert(1)></script><script>alert(2)</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as running:
            yield running
    except LookupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of a run with everything that a page may show."""
    folder = tmp_path_factory.mktemp("report")
    texts = [*TEXTS, *TEXTS[:20], MARKUP, "", "<b>a text with markup of its own</b>"]
    source = write_rows(folder / "in/a.parquet", texts)
    out = folder / "out"
    jobs = BatchSettings(outcomes=("failed", "succeeded"))
    with EmulatorServer(EmulatorSettings(poison="poison", batch=jobs)) as server:
        args = ("--dim", 128, "--unit-rows", 40, "--rpm", 3000)
        some = ("--mode", "batch", "--batch-poll", "0.1s", "--limit-rows", 10)
        assert run(server.url, source, out, *args, *some).code == 0
        ended = run(server.url, source, out, *args)
    assert ended.code == 0, ended.err
    assert bulkembed("report", out).code == 0
    return (out / "_run/report.html").as_uri()


@pytest.fixture(scope="module")
def images_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of a dataset of images, some with a title, and one that cannot be sent."""
    folder = tmp_path_factory.mktemp("images")
    drawn = [
        drawing(colour, shape, at=(90 + 8 * place, 100))
        for colour in ("red", "green", "blue", "orange")
        for shape in ("circle", "square", "star", "triangle")
        for place in range(4)
    ]
    photos = [*drawn, b"<html>404</html>"]
    table = pa.table(
        {
            "id": range(len(photos)),
            "title": [None if at % 2 else f"Drawing {at}" for at in range(len(photos))],
            "photo": pa.array(photos, pa.binary()),
        }
    )
    pq.write_table(table, folder / "a.parquet")
    out = folder / "out"
    with EmulatorServer() as server:
        args = ("--model", "gemini-embedding-2", "--dim", 128, "--content", "{title}")
        run(server.url, folder / "a.parquet", out, *args, "--content", "image:photo")
    assert bulkembed("report", out).code == 0
    return (out / "_run/report.html").as_uri()


@pytest.fixture(params=[pytest.param(1280, id="desk"), pytest.param(390, id="phone")])
def seen_images(
    browser: Browser, images_url: str, request: pytest.FixtureRequest
) -> Iterator[Seen]:
    with opened(browser, images_url, request.param, 844, touch=request.param < 500) as seen:
        seen.page.wait_for_function("document.body.dataset.drawn", timeout=30_000)
        yield seen


@pytest.fixture(params=[pytest.param(1280, id="desk"), pytest.param(390, id="phone")])
def seen(browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Seen]:
    with opened(browser, url, request.param, 844, touch=request.param < 500) as seen:
        seen.page.wait_for_function("document.body.dataset.drawn", timeout=30_000)
        yield seen


def picture(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def colours(image: Image.Image) -> set[tuple[int, int, int]]:
    return {colour for _, colour in image.getcolors(image.width * image.height) or []}


def test_the_page_is_drawn_without_an_error_and_requests_nothing(seen: Seen, url: str) -> None:
    seen.page.mouse.wheel(0, 5000)
    assert seen.complaints == []
    assert [asked for asked in seen.requests if not asked.startswith("data:")] == [url]


def test_every_chart_exists_and_none_is_blank(seen: Seen, tmp_path: Path) -> None:
    names = {str(figure.get_attribute("id")) for figure in seen.page.query_selector_all(".figure")}
    assert names == {f"figure-{name}" for name in CHARTS}
    for name in names:
        png = seen.page.locator(f"#{name}").screenshot(path=tmp_path / f"{name}.png")
        assert len(colours(picture(png))) > 10, name
    whole = picture(seen.page.screenshot(path=tmp_path / "page.png", full_page=True))
    assert whole.height > 2 * 844
    assert len(colours(whole)) > 200


def test_nothing_is_wider_than_the_window(seen: Seen) -> None:
    window = seen.page.viewport_size
    assert window is not None
    assert seen.page.evaluate("document.documentElement.scrollWidth") == window["width"]
    for figure in seen.page.query_selector_all(".figure"):
        inner = figure.query_selector("svg, canvas")
        assert inner is not None
        assert inner.bounding_box()["width"] <= figure.bounding_box()["width"] + 1  # type: ignore[index]


def points_on(page: Page) -> Iterator[tuple[float, float]]:
    """Places in the window where a point of the map is."""
    canvas = page.locator("#figure-map canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    image = picture(canvas.screenshot())
    wanted = [tuple(bytes.fromhex(colour[1:])) for colour in PALETTE]
    for y in range(0, image.height, 3):
        for x in range(0, image.width, 3):
            pixel = image.getpixel((x, y))
            assert isinstance(pixel, tuple)
            if any(is_tint(pixel, full) for full in wanted):
                yield box["x"] + x, box["y"] + y


def is_tint(pixel: tuple[int, ...], full: tuple[int, ...], opacity: float = 0.7) -> bool:
    """Whether a pixel is a colour laid on white."""
    faded = (255 - opacity * (255 - channel) for channel in full)
    return all(abs(one - other) < 6 for one, other in zip(pixel, faded, strict=True))


def pointed(page: Page) -> Locator:
    """What the page shows after pointing at a point of the map, or touching it."""
    touches = page.evaluate("navigator.maxTouchPoints > 0")
    shown = page.locator("#picked:not(:empty)" if touches else "#vg-tooltip-element.visible")
    for x, y in points_on(page):
        if touches:
            page.touchscreen.tap(x, y)
        else:
            page.mouse.move(x, y)
        if shown.count():
            break
    return shown


def test_pointing_at_a_row_with_an_image_or_touching_it_shows_it(
    seen_images: Seen, images_url: str, tmp_path: Path
) -> None:
    page = seen_images.page
    shown = pointed(page)
    said = shown.inner_text(timeout=1000)
    assert "image " in said
    assert "undefined" not in said
    small = shown.locator("img")
    assert small.evaluate("image => [image.complete, image.naturalWidth]") == [True, SIDE]
    box, window = shown.bounding_box(), page.viewport_size
    assert box is not None
    assert window is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= window["width"]
    page.screenshot(path=tmp_path / "pointed.png")
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == window["width"]
    typical = page.locator("#map td img").evaluate_all("all => all.map(one => one.naturalWidth)")
    assert typical
    assert set(typical) == {SIDE}
    assert "unsupported_type" in page.locator("#examples").inner_text()
    assert seen_images.complaints == []
    assert [one for one in seen_images.requests if not one.startswith("data:")] == [images_url]


def test_pointing_at_a_point_or_touching_it_shows_its_text(seen: Seen, tmp_path: Path) -> None:
    shown = pointed(seen.page)
    said = shown.inner_text(timeout=1000)
    assert any(text in said for text in TEXTS), said
    assert "a.parquet, row" in said
    box, window = shown.bounding_box(), seen.page.viewport_size
    assert box is not None
    assert window is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= window["width"]
    seen.page.screenshot(path=tmp_path / "pointed.png")


def test_clusters_are_named_in_words(seen: Seen) -> None:
    said = seen.page.locator("#map").inner_text()
    assert all(word in said for word in ("dog", "shares", "ship"))


def test_a_batch_job_takes_a_line_with_its_name(seen: Seen, tmp_path: Path) -> None:
    seen.page.locator("#batch").screenshot(path=tmp_path / "batch.png")
    names = seen.page.locator("#batch td.id")
    assert names.count() == 2
    assert all(re.fullmatch(r"bulkembed-\w+", name) for name in names.all_inner_texts())
    first, line = names.first.locator("code").bounding_box(), seen.page.locator("#batch th").first
    head = line.bounding_box()
    assert first is not None
    assert head is not None
    assert first["height"] < head["height"]
