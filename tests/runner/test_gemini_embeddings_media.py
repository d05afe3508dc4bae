"""Images beside texts in Beam's MLTransform, ml.rag and RunInference."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.ml.inference.base import RunInference
from apache_beam.ml.rag.types import Content, EmbeddableItem
from apache_beam.ml.transforms.base import EmbeddingTypeAdapter, MLTransform
from apache_beam.testing.util import assert_that
from PIL import Image
from support.cli import matrix, read
from support.images import pictures
from support.media_jobs import embed, write_photos
from support.web_pages import serving

from bulkembed.schemas.embedding import LongText
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.fetch_settings import FetchSettings
from bulkembed.schemas.media_settings import MediaSettings
from bulkembed.transforms.clients.transport import service_from
from bulkembed.transforms.embed_rows import EmbedRows, Gemini
from bulkembed.transforms.gemini_embeddings import GeminiEmbeddings

pytestmark = pytest.mark.faults

MODEL = "gemini-embedding-2"
DIM = 128
ROWS = 6


@pytest.fixture
def gemini(url: str) -> Gemini:
    return Gemini(MODEL, dim=DIM, service=service_from(base_url=url))


@pytest.fixture
def images() -> list[bytes]:
    """PNG images: those of Pillow are sent as such."""
    return [png(one) for one in pictures(ROWS)]


def png(data: bytes) -> bytes:
    target = io.BytesIO()
    Image.open(io.BytesIO(data)).save(target, "PNG", compress_level=6)
    return target.getvalue()


def of_the_command(url: str, folder: Path, images: list[bytes], *parts: str) -> Any:
    """The vectors of `bulkembed run` for images, or for their title and the image."""
    titles = [f"thing {n}" for n in range(len(images))]
    source = write_photos(folder / "in/a.parquet", images, title=titles)
    flags = [arg for part in parts for arg in ("--content", part)]
    ended = embed(url, source, folder / "out", *flags)
    assert ended.code == 0, ended.err
    return matrix(read(folder / "out"))


def transformed(
    folder: Path, rows: list[Any], embeddings: GeminiEmbeddings, check: Callable[[Any], None]
) -> None:
    transform = MLTransform(write_artifact_location=str(folder / "artifacts"))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        out = pipeline | beam.Create(rows) | transform.with_transform(embeddings)
        assert_that(out, check)


def in_each_form(images: list[bytes], folder: Path) -> list[Any]:
    files = [folder / f"{number}.png" for number in range(len(images))]
    for file, data in zip(files, images, strict=True):
        file.write_bytes(data)
    return [
        images[0],
        {"bytes": images[1], "path": None},
        str(files[2]),
        files[3].as_uri(),
        f"data:image/png;base64,{base64.b64encode(images[4]).decode()}",
        Image.open(io.BytesIO(images[5])),
    ]


def test_the_parts_of_a_row_are_fused_as_by_the_command(
    url: str, gemini: Gemini, tmp_path: Path, images: list[bytes]
) -> None:
    parts = ("{title}", "image:photo")
    expected = of_the_command(url, tmp_path, images, *parts)
    photos = in_each_form(images, tmp_path)
    rows = [{"id": n, "title": f"thing {n}", "photo": one} for n, one in enumerate(photos)]

    def check(found: Iterable[Any]) -> None:
        vectors = {row["id"]: row["vector"] for row in found}
        assert np.allclose([vectors[n] for n in range(ROWS)], expected)

    transformed(tmp_path, rows, GeminiEmbeddings(gemini, content=parts), check)
    # The artifacts give the same, with the same settings.
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        transform = MLTransform(read_artifact_location=str(tmp_path / "artifacts"))
        assert_that(pipeline | beam.Create(rows) | transform, check)


def test_columns_of_images_and_of_texts_become_vectors_of_their_own(
    url: str, gemini: Gemini, tmp_path: Path, images: list[bytes]
) -> None:
    expected = of_the_command(url, tmp_path, images, "image:photo")
    photos = in_each_form(images, tmp_path)
    rows = [beam.Row(id=n, title="a", photo=one) for n, one in enumerate(photos)]

    def check(found: Iterable[Any]) -> None:
        by_id = {row.id: row for row in found}
        assert np.allclose([by_id[n].photo for n in range(ROWS)], expected)
        assert {tuple(row.title) for row in by_id.values()} == {tuple(by_id[0].title)}
        assert len(by_id[0].title) == DIM

    embeddings = GeminiEmbeddings(gemini, columns=["title", "image:photo"])
    assert embeddings.get_columns_to_apply() == ["title", "photo"]
    transformed(tmp_path, rows, embeddings, check)


def test_items_of_ml_rag_may_have_an_image_a_text_or_both(
    url: str, gemini: Gemini, tmp_path: Path, images: list[bytes]
) -> None:
    alone = of_the_command(url, tmp_path / "alone", images, "image:photo")
    both = of_the_command(url, tmp_path / "both", images, "{title}", "image:photo")
    (tmp_path / "1.png").write_bytes(images[1])
    items = [
        EmbeddableItem.from_image(images[0], id="bytes"),
        EmbeddableItem.from_image(str(tmp_path / "1.png"), id="path"),
        EmbeddableItem(Content(text="thing 2", image=images[2]), id="both"),
        EmbeddableItem.from_text("thing 3", id="text"),
    ]

    def check(found: Iterable[EmbeddableItem]) -> None:
        vectors = {item.id: item.dense_embedding for item in found}
        assert np.allclose(vectors["bytes"], alone[0])
        assert np.allclose(vectors["path"], alone[1])
        assert np.allclose(vectors["both"], both[2])
        assert len(vectors["text"] or ()) == DIM

    transformed(tmp_path, items, GeminiEmbeddings(gemini), check)


@pytest.mark.parametrize("with_image", [True, False])
def test_items_of_texts_alone_have_the_prefix_of_their_task(
    url: str, gemini: Gemini, tmp_path: Path, images: list[bytes], with_image: bool
) -> None:
    expected = of_the_command(url, tmp_path, images, "{title}")
    items = [EmbeddableItem.from_text(f"thing {n}", id=str(n)) for n in range(ROWS)]
    more = [EmbeddableItem.from_image(images[0], id="image")] if with_image else []

    def check(found: Iterable[EmbeddableItem]) -> None:
        vectors = {item.id: item.dense_embedding for item in found}
        assert np.allclose([vectors[str(n)] for n in range(ROWS)], expected)
        assert len(vectors) == ROWS + with_image

    transformed(tmp_path, items + more, GeminiEmbeddings(gemini), check)


def test_a_bad_image_fails_alone(gemini: Gemini, tmp_path: Path, images: list[bytes]) -> None:
    photos = [images[0], b"<html>", str(tmp_path / "no.png"), 7, None]
    rows = [{"id": n, "photo": one} for n, one in enumerate(photos)]

    def check_bad(found: Iterable[Any]) -> None:
        by_id = {row.element["id"]: (row.msg, row.stack) for row in found}
        assert sorted(by_id) == [1, 2, 3, 4]
        assert by_id[1][0] == "column 'photo': an HTML page instead of an image"
        for number, code in {
            1: "unsupported_type", 2: "not_found", 3: "unsupported_type", 4: "blank_text",
        }.items():  # fmt: skip
            assert code in by_id[number][1], by_id[number]

    transform = MLTransform(write_artifact_location=str(tmp_path / "artifacts"))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        good, bad = (
            pipeline
            | beam.Create(rows)
            | transform.with_transform(
                GeminiEmbeddings(gemini, columns=["image:photo"])
            ).with_exception_handling()
        )
        assert_that(good, lambda found: same([row["id"] for row in found], [0]), "Good")
        assert_that(bad, check_bad, "Bad")


@pytest.mark.parametrize("through", ["EmbedRows", "GeminiEmbeddings"])
@pytest.mark.parametrize("allowed", [True, False])
def test_urls_of_private_networks_are_read_only_if_that_is_allowed(
    gemini: Gemini, tmp_path: Path, images: list[bytes], through: str, allowed: bool
) -> None:
    fetch = FetchSettings(allow_private_addresses=True) if allowed else None
    content = ["image:photo"]
    page = {"/a.png": lambda exchange: exchange.answer(200, images[0])}
    with serving(page) as server, beam.Pipeline(runner="FnApiRunner") as pipeline:
        rows = pipeline | beam.Create([{"photo": f"{server.url}/a.png"}])
        if through == "EmbedRows":
            stage = EmbedRows(gemini, content=content, fetch=fetch).with_exception_handling()
        else:
            transform = MLTransform(write_artifact_location=str(tmp_path / "artifacts"))
            stage = transform.with_transform(
                GeminiEmbeddings(gemini, content=content, fetch=fetch)
            ).with_exception_handling()
        good, bad = rows | stage
        assert_that(good, lambda found: same(len(found), int(allowed)), "Good")
        assert_that(bad, lambda found: same(len(found), int(not allowed)), "Bad")


def same(found: object, expected: object) -> None:
    assert found == expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"model": "gemini-embedding-001"}, "takes texts only", id="model"),
        pytest.param({"long_text": LongText.MEAN}, "long_text='truncate'", id="long-text"),
    ],
)
def test_an_image_for_a_stage_of_texts_is_a_dead_letter(
    url: str, tmp_path: Path, images: list[bytes], settings: dict[str, Any], words: str
) -> None:
    service = service_from(base_url=url)
    gemini = Gemini(**{"model": MODEL, "dim": DIM, "service": service, **settings})
    items = [EmbeddableItem.from_image(images[0], id="a"), EmbeddableItem.from_text("b", id="b")]
    transform = MLTransform(write_artifact_location=str(tmp_path / "artifacts"))

    def check_bad(found: Iterable[Any]) -> None:
        ((item, message),) = [(row.element.id, row.msg) for row in found]
        assert item == "a"
        assert words in message

    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        good, bad = (
            pipeline
            | beam.Create(items)
            | transform.with_transform(GeminiEmbeddings(gemini)).with_exception_handling()
        )
        assert_that(good, lambda found: same([item.id for item in found], ["b"]), "Good")
        assert_that(bad, check_bad, "Bad")


def test_an_adapter_of_your_own_may_return_images_and_lists_of_parts(
    url: str, gemini: Gemini, tmp_path: Path, images: list[bytes]
) -> None:
    alone = of_the_command(url, tmp_path / "alone", images, "image:photo")
    both = of_the_command(url, tmp_path / "both", images, "{title}", "image:photo")
    adapter: EmbeddingTypeAdapter[Any, Any] = EmbeddingTypeAdapter(_read, _fill)

    def check(found: Iterable[Any]) -> None:
        vectors = dict(found)
        assert np.allclose(vectors[0], alone[0])
        assert np.allclose(vectors[1], both[1])

    rows = [(0, images[0]), (1, ["thing 1", Image.open(io.BytesIO(images[1]))])]
    transformed(tmp_path, rows, GeminiEmbeddings(gemini, type_adapter=adapter), check)


def _read(batch: Any) -> list[Any]:
    return [content for _, content in batch]


def _fill(batch: Any, vectors: Any) -> list[Any]:
    return [(key, vector) for (key, _), vector in zip(batch, vectors, strict=True)]


def test_the_model_handler_takes_the_same_contents(
    url: str, gemini: Gemini, tmp_path: Path, images: list[bytes]
) -> None:
    alone = of_the_command(url, tmp_path / "alone", images, "image:photo")
    both = of_the_command(url, tmp_path / "both", images, "{title}", "image:photo")
    handler = GeminiEmbeddings(gemini).get_model_handler()
    batch = [images[0], ["thing 1", images[1]], "a text"]
    found = handler.run_inference(batch, handler.load_model())
    assert np.allclose(found[:2], [alone[0], both[1]])
    with pytest.raises(Exception, match="'<html>' cannot be embedded: unsupported_type"):
        handler.run_inference([b"<html>"], handler.load_model())
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        out = pipeline | beam.Create([images[0]]) | RunInference(handler)
        assert_that(out, lambda vectors: same(vectors, [found[0]]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"columns": ["image:photo"], "gemini": Gemini()}, "takes texts only", id="1"),
        pytest.param({"content": ["{a}"]}, "content names no media", id="2"),
        pytest.param({"content": ["image:a"], "columns": ["a"]}, "not several", id="3"),
        pytest.param({"columns": ["a"], "media": MediaSettings()}, "media needs", id="4"),
        pytest.param(
            {"columns": ["pdf:a"], "media": MediaSettings(document_ocr=True)},
            "works on Vertex AI only", id="5",
        ),
        pytest.param(
            {"columns": ["image:a"], "media": MediaSettings(document_ocr=True)},
            "needs pdf:COLUMN", id="6",
        ),
        pytest.param({"columns": ["a"], "vector_column": "v"}, "vector_column needs", id="7"),
        pytest.param({"columns": ["a"], "fetch": FetchSettings()}, "fetch needs media", id="8"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GeminiEmbeddings(**{"gemini": Gemini(MODEL), **arguments})
