"""A model that is only added to the registry works everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.cli import bulkembed, read, run, write_rows
from support.gemini import embed, failing, items

from bulkembed.emulator.rules import read_prefix
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.embedding import EmbeddingConfig, Service, ServiceConfig
from bulkembed.schemas.errors import CallRejected, ConfigError
from bulkembed.schemas.job import CallSettings, EmbedderConfig
from bulkembed.schemas.models import (
    MODELS,
    ModelSpec,
    TaskType,
    UnitLength,
    VertexMethod,
    find_model,
    largest_dim,
)
from bulkembed.schemas.prices import price_of
from bulkembed.transforms.core.content import as_sent
from bulkembed.transforms.core.packing import pack
from bulkembed.transforms.core.quota_limits import max_call_size, resolve_limits

NAME = "gemini-embedding-vast"
PREFIXES = {
    **{task: f"<{task.lower()}> " for task in TaskType},
    TaskType.RETRIEVAL_DOCUMENT: "<doc name='{title}'> ",
}
SPEC = ModelSpec(
    NAME, 4096, 256, 1000, PREFIXES, no_title="-",
    unit_length=UnitLength.ALWAYS, max_texts=7, max_body_bytes=300_000,
    vertex_methods=(VertexMethod.EMBED_CONTENT,), vertex_quota=(60, 600, None),
    price=2.0, batch_price=0.5, advised_dims=(1024,),
)  # fmt: skip
TEXTS = [f"text {n} about the vet and the dog" for n in range(20)]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelSpec]:
    monkeypatch.setitem(MODELS, NAME, SPEC)
    find_model.cache_clear()
    yield SPEC
    find_model.cache_clear()


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(EmulatorSettings()) as server:
        yield server


def config(task_type: TaskType = TaskType.RETRIEVAL_DOCUMENT, **more: object) -> EmbeddingConfig:
    return EmbeddingConfig("vertex", NAME, task_type, **more)  # type: ignore[arg-type]


def test_its_dims_decide_what_a_configuration_accepts() -> None:
    assert config().out_dim == 4096
    assert config(dim=1024).sent_dim == 1024
    with pytest.raises(ConfigError, match=r"supports 256\.\.4096 \(advised: 1024\)"):
        config(dim=4097)
    assert config().digest != config(dim=1024).digest
    assert largest_dim() == 4096


@pytest.mark.parametrize("task", TaskType)
def test_its_prefixes_are_written_and_understood(task: TaskType) -> None:
    title, text = as_sent(config(task), None, "x")
    assert (title, text) == (None, PREFIXES[task].replace("{title}", "-") + "x")
    assert config(task).sent_task_type is None
    assert read_prefix(SPEC, text) == (task, "x")
    assert read_prefix(SPEC, "title: none | text: x") == ("", "title: none | text: x")


def test_its_limits_size_the_calls() -> None:
    embedder = EmbedderConfig(ServiceConfig(), config(), CallSettings())
    limits = max_call_size(embedder)
    assert (limits.texts, limits.tokens) == (7, None)
    contents = items(TEXTS, model=NAME)
    assert [len(call) for call in pack(contents, limits)] == [7, 7, 6]
    assert limits.body_bytes is not None
    assert limits.body_bytes < 300_000


def test_its_quota_and_its_price_are_known() -> None:
    limits = resolve_limits(Service.VERTEX, NAME)
    assert (limits.rpm, limits.tpm, limits.rpd) == (60, 600, None)
    price = price_of(Service.DEVELOPER, NAME)
    assert price is not None
    assert (price.online, price.batch) == (2.0, 0.5)


@pytest.mark.parametrize("vertexai", [False, True])
@pytest.mark.parametrize("dim", [None, 1024])
def test_the_client_gets_its_vectors_from_the_emulator(
    server: EmulatorServer, dim: int | None, vertexai: bool
) -> None:
    facts = {"model": NAME, "dim": dim, "vertexai": vertexai}
    vectors = embed(server.url, TEXTS[:5], **facts).vectors
    assert vectors.shape == (5, dim or 4096)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    titled = embed(server.url, ["x", "x", "x"], ["T", "-", None], **facts).vectors
    assert np.array_equal(titled[1], titled[2])
    assert not np.array_equal(titled[0], titled[2])


def test_the_emulator_keeps_its_limits(server: EmulatorServer) -> None:
    error = failing(CallRejected, server.url, model=NAME, texts=TEXTS[:8])
    assert isinstance(error, CallRejected)
    assert error.max_texts == 7


def test_a_job_with_it_runs_from_rows_to_vectors(server: EmulatorServer, tmp_path: Path) -> None:
    source, output = write_rows(tmp_path / "in/a.parquet", TEXTS), tmp_path / "out"
    ended = run(server.url, source, output, "--model", NAME)
    assert ended.code == 0, ended.err
    vectors = read(output)["vector"]
    assert vectors.type.list_size == 4096
    assert len(vectors) == len(TEXTS)
    assert server.stats()["calls"] == 3
    assert NAME in bulkembed("models").out
