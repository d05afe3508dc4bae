"""`bulkembed search` in a dataset of images, by words and by an image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.cli import Ended, bulkembed, matrix, read, run, write_rows
from support.drawings import drawing

from bulkembed.emulator.server import EmulatorServer

DRAWINGS = [
    (colour, shape) for colour in ("red", "green", "blue") for shape in ("circle", "square", "star")
]
MODEL = ("--model", "gemini-embedding-2", "--dim", 128)


@pytest.fixture(scope="module")
def service() -> Iterator[EmulatorServer]:
    with EmulatorServer() as running:
        yield running


@pytest.fixture(scope="module")
def made(service: EmulatorServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of drawings at paths, not to be changed."""
    folder = tmp_path_factory.mktemp("drawings")
    (folder / "in").mkdir()
    names = [f"{colour}-{shape}.png" for colour, shape in DRAWINGS]
    for name, (colour, shape) in zip(names, DRAWINGS, strict=True):
        (folder / "in" / name).write_bytes(drawing(colour, shape))
    pq.write_table(
        pa.table({"id": [name.removesuffix(".png") for name in names], "photo": names}),
        folder / "in/a.parquet",
    )
    ended = run(
        service.url, folder / "in/a.parquet", folder / "out", *MODEL, "--content", "image:photo"
    )
    assert ended.code == 0, ended.err
    return folder / "out"


def searched(output: Path, *args: object) -> Ended:
    shown = bulkembed("search", output, *args)
    assert shown.code == 0, shown.err
    return shown


def found(output: Path, *args: object) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(searched(output, *args, "--json").out)
    return report


def test_an_image_finds_itself_whatever_its_format_and_then_the_images_most_like_it(
    made: Path, tmp_path: Path
) -> None:
    vectors = matrix(read(made)).astype(np.float64)
    ids = read(made)["id"].to_pylist()
    cosines = vectors @ vectors[ids.index("green-star")]
    nearest = [ids[at] for at in np.argsort(-cosines, kind="stable")[:3]]
    for form in ("PNG", "WEBP"):
        image = tmp_path / f"query of {form}.jpg"
        options = {"lossless": True} if form == "WEBP" else {}
        image.write_bytes(drawing("green", "star", form=form, **options))
        report = found(made, "--image", image, "-k", 3)
        assert report["rows"][0]["id"] == "green-star", form
        if form == "PNG":
            assert [row["id"] for row in report["rows"]] == nearest
            assert report["rows"][0]["score"] == pytest.approx(1, abs=1e-5)
        assert (report["query"], report["task_type"]) == (None, None)
        assert report["image"] == str(image)
        assert report["tokens"] == 258


def test_an_image_is_one_request_whose_cost_is_said(
    made: Path, service: EmulatorServer, tmp_path: Path
) -> None:
    (tmp_path / "query.png").write_bytes(drawing("red", "circle"))
    before = sorted(made.rglob("*")), service.stats()["calls"]
    shown = searched(made, "--image", tmp_path / "query.png", "-k", 1)
    assert (sorted(made.rglob("*")), service.stats()["calls"] - 1) == before
    assert shown.out.splitlines()[-1] == "the image: 258 tokens"


def test_the_cost_of_an_image_has_its_own_price(
    service: EmulatorServer, made: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    source = made.parent / "in/a.parquet"
    priced = ("--content", "image:photo", "--price-usd-per-mtok", 0.4, "--limit-rows", 2)
    ended = run(service.url, source, output, *MODEL, *priced)
    assert ended.code == 0, ended.err
    image = made.parent / "in/red-star.png"
    assert found(output, "--image", image)["usd"] == pytest.approx(258 * 0.9e-6, rel=0.01)
    assert "258 tokens, 0.000232 USD" in searched(output, "--image", image).out
    text = found(output, "a red star")
    assert text["usd"] == pytest.approx(text["tokens"] * 0.4e-6)


def test_the_media_of_a_row_is_shown_in_words(made: Path) -> None:
    lines = searched(made, "a red circle", "-k", 1).out.splitlines()
    assert lines[0].split() == ["score", "id", "media"]
    size = (made.parent / "in/red-circle.png").stat().st_size
    shown = f"{size} bytes" if size < 1000 else f"{size / 1000:.1f} kB"
    assert lines[1].split(maxsplit=2)[1:] == ["red-circle", f"image {shown} red-circle.png"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param((), "give either a text to search for or --image FILE", id="nothing"),
        pytest.param(("boot", "--image", "x.png"), "and not both", id="both"),
        pytest.param(("--image", "nowhere.png"), "there is no such file", id="no-file"),
        pytest.param(("--image", "/"), "it is a folder, not a file", id="folder"),
        pytest.param(("--image", "page.png"), "an HTML page instead of an image", id="html"),
        pytest.param(("--image", "cut.png"), "--image cut.png: ", id="damaged"),
        pytest.param(("--image", "https://x.org/1.png"), "download the file", id="url"),
        pytest.param(
            ("--image", "page.png", "--task-type", "RETRIEVAL_QUERY"),
            "--task-type has no effect on --image",
            id="task-type",
        ),
    ],
)
def test_an_image_that_cannot_be_searched_for_is_an_error_of_usage(
    args: tuple[str, ...],
    said: str,
    made: Path,
    service: EmulatorServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.png").write_bytes(b"<html>not found</html>")
    Path("cut.png").write_bytes(drawing("red", "circle")[:200])
    before = service.stats()["calls"]
    shown = bulkembed("search", made, *args)
    assert shown.code == 2
    assert said in shown.err
    assert "Traceback" not in shown.err
    assert service.stats()["calls"] == before


@pytest.mark.parametrize(
    ("model", "said"),
    [
        pytest.param("gemini-embedding-001", "which takes texts only", id="model"),
        pytest.param("gemini-embedding-2", "has texts only", id="dataset"),
    ],
)
def test_an_image_is_refused_where_rows_are_texts(
    model: str, said: str, service: EmulatorServer, made: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in/a.parquet", ["one", "two"])
    args = ("--model", model, "--dim", 128)
    assert run(service.url, tmp_path / "in", tmp_path / "out", *args).code == 0
    shown = bulkembed("search", tmp_path / "out", "--image", made.parent / "in/red-star.png")
    assert shown.code == 2
    assert said in shown.err
