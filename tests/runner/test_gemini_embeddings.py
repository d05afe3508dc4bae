"""Beam's own ML tools over the engine: MLTransform, its artifacts, ml.rag and RunInference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.internal.pickler import dumps
from apache_beam.ml.inference.base import RunInference
from apache_beam.ml.rag.types import EmbeddableItem
from apache_beam.ml.transforms.base import MLTransform
from apache_beam.testing.util import assert_that

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.clients.transport import service_from
from bulkembed.transforms.embed_rows import Gemini
from bulkembed.transforms.gemini_embeddings import GeminiEmbeddings

KEY = "AIza-this-is-the-key"
DIM = 128


@pytest.fixture
def gemini(server: EmulatorServer) -> Gemini:
    return Gemini(dim=DIM, service=service_from(base_url=server.url))


def lengths(row: Any) -> tuple[int, int]:
    return len(row["title"]), len(row["body"])


def are_vectors(found: list[Any]) -> None:
    assert [lengths(row) for row in found] == [(DIM, DIM)]
    assert {type(number) for row in found for number in row["body"]} == {float}


def test_columns_become_vectors_and_the_artifacts_reproduce_them(
    gemini: Gemini, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    rows = [{"title": "a", "body": "b"}]
    where = str(tmp_path / "artifacts")
    embeddings = GeminiEmbeddings(gemini, columns=["title", "body"])
    for transform in (
        MLTransform(write_artifact_location=where).with_transform(embeddings),
        MLTransform(read_artifact_location=where),
    ):
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            assert_that(pipeline | beam.Create(rows) | transform, are_vectors)
    for file in Path(where).rglob("*.json"):
        assert KEY not in file.read_text()
    assert KEY not in str(dumps(embeddings))


def test_a_bad_element_fails_alone(tmp_path: Path) -> None:
    rows = [{"title": "a", "body": "b"}, {"title": "poison", "body": "b"}]
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        gemini = Gemini(dim=DIM, service=service_from(base_url=server.url))
        embeddings = GeminiEmbeddings(gemini, columns=["title", "body"])
        transform = MLTransform(write_artifact_location=str(tmp_path / "artifacts"))
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            good, bad = (
                pipeline
                | beam.Create(rows)
                | transform.with_transform(embeddings).with_exception_handling()
            )
            assert_that(good, are_vectors, "Good")
            assert_that(bad, _is_the_poison, "Bad")


def _is_the_poison(found: list[Any]) -> None:
    (row,) = found
    assert row.element == {"title": "poison", "body": "b"}
    assert "invalid argument" in row.msg
    assert "refused" in row.stack
    assert row.transform_name == "GeminiEmbeddings"


def test_items_of_ml_rag_get_their_embedding(gemini: Gemini, tmp_path: Path) -> None:
    items = [EmbeddableItem.from_text(f"text {n}", id=str(n)) for n in range(3)]

    def check(found: list[EmbeddableItem]) -> None:
        assert sorted(item.id for item in found) == ["0", "1", "2"]
        assert {len(item.dense_embedding or ()) for item in found} == {DIM}

    transform = MLTransform(write_artifact_location=str(tmp_path / "artifacts"))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        out = pipeline | beam.Create(items) | transform.with_transform(GeminiEmbeddings(gemini))
        assert_that(out, check)


def test_the_model_handler_returns_vectors_in_order(gemini: Gemini) -> None:
    handler = GeminiEmbeddings(gemini).get_model_handler()
    model = handler.load_model()
    one, two, again = handler.run_inference(["one", "two", "one"], model)
    assert one == again != two
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        out = pipeline | beam.Create(["one"]) | RunInference(handler)
        assert_that(out, lambda found: _same(found, [one]))
    with pytest.raises(Exception, match="'' cannot be embedded: blank_text"):
        handler.run_inference(["one", ""], model)


def test_a_call_has_at_most_max_batch_size_texts(
    gemini: Gemini, server: EmulatorServer, tmp_path: Path
) -> None:
    embeddings = GeminiEmbeddings(gemini, columns=["body"], max_batch_size=10)
    transform = MLTransform(write_artifact_location=str(tmp_path / "artifacts"))
    rows = [{"body": f"text {n}"} for n in range(40)]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        out = pipeline | beam.Create(rows, reshuffle=False) | transform.with_transform(embeddings)
        assert_that(out | beam.combiners.Count.Globally(), lambda found: _same(found, [40]))
    assert server.stats()["texts"] == 40
    assert server.stats()["calls"] == 4


def test_the_arguments_of_all_managers_of_beam_are_accepted(gemini: Gemini) -> None:
    embeddings = GeminiEmbeddings(
        gemini,
        load_model_args={},
        min_batch_size=5,
        max_batch_size=20,
        large_model=True,
        inference_args={},
    )
    sizes = embeddings.get_model_handler().batch_elements_kwargs()
    assert (sizes["min_batch_size"], sizes["max_batch_size"]) == (5, 20)
    small = GeminiEmbeddings(gemini, max_batch_size=20).get_model_handler().batch_elements_kwargs()
    assert (small["min_batch_size"], small["max_batch_size"]) == (20, 20)
    with pytest.raises(ConfigError, match="max_batch_size=0"):
        GeminiEmbeddings(gemini, max_batch_size=0)


def _same(found: list[Any], expected: list[Any]) -> None:
    assert found == expected


def test_unsupported_arguments_are_rejected(gemini: Gemini, tmp_path: Path) -> None:
    transform = MLTransform(write_artifact_location=str(tmp_path / "artifacts"))
    transform.with_transform(GeminiEmbeddings(gemini)).with_exception_handling(threshold=0.5)
    with pytest.raises(ConfigError, match="takes no exc_class, use_subprocess or threshold"):
        _ = beam.Pipeline() | beam.Create([EmbeddableItem.from_text("a")]) | transform
