"""Warnings about the model before the first call."""

from __future__ import annotations

import datetime as dt

import pytest

from bulkembed.pipeline.run.run import model_warnings
from bulkembed.schemas.embedding import Service, ServiceConfig
from bulkembed.schemas.models import find_model, nearest_models

TODAY = dt.date(2026, 11, 27)
GOOGLE_SERVICES = [
    ServiceConfig(),
    ServiceConfig(kind=Service.VERTEX, vertexai=True),
    ServiceConfig(kind=Service.CUSTOM, base_url="https://europe-west1-aiplatform.googleapis.com"),
]
OTHER_SERVICES = [
    ServiceConfig(kind=Service.CUSTOM, base_url="https://models.example"),
    ServiceConfig(kind=Service.CUSTOM, base_url="http://127.0.0.1:8000"),
    ServiceConfig(kind=Service.CUSTOM, base_url="https://fakegoogleapis.com"),
]


def warnings(model: str, service: ServiceConfig) -> str:
    return "\n".join(model_warnings(find_model(model), None, service, TODAY))


@pytest.mark.parametrize("service", GOOGLE_SERVICES)
def test_a_typo_in_a_model_is_reported_with_the_nearest_name_for_google(
    service: ServiceConfig,
) -> None:
    found = warnings("gemini-embeding-001", service)
    assert "Did you mean --model gemini-embedding-001" in found
    assert "`bulkembed models`" in found
    assert "Did you mean" not in warnings("my-own-model", service)
    assert warnings("gemini-embedding-001", service) == ""


@pytest.mark.parametrize("service", OTHER_SERVICES)
def test_a_private_endpoint_may_serve_a_model_of_any_name(service: ServiceConfig) -> None:
    found = warnings("gemini-embeding-001", service)
    assert "not in bulkembed's registry" in found
    assert "Did you mean" not in found


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("gemini-embedding-01", "gemini-embedding-001"),
        ("models/Gemini-Embedding-2", "gemini-embedding-2"),
        ("gemini-embeddings-2", "gemini-embedding-2"),
        ("text-embeding-005", "text-embedding-005"),
    ],
)
def test_the_nearest_name_comes_first(name: str, nearest: str) -> None:
    assert nearest_models(name)[0] == nearest


def test_a_name_unlike_any_model_has_no_suggestion() -> None:
    assert nearest_models("bge-m3") == []
