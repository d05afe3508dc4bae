"""Calls in the form of Vertex AI."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

BASE = "/v1beta1/projects/p/locations/us-central1/publishers/google/models/"
OLD = "text-embedding-005"
NEW = "gemini-embedding-001"


@pytest.fixture(scope="module")
def http() -> Iterator[httpx2.Client]:
    with (
        EmulatorServer(EmulatorSettings(vertex_batch_texts=3)) as server,
        httpx2.Client(base_url=server.url, headers={"authorization": "Bearer t"}) as client,
    ):
        yield client


def predict(http: httpx2.Client, *texts: str, **parameters: Any) -> httpx2.Response:
    body = {"instances": [{"content": text} for text in texts], "parameters": parameters}
    return http.post(f"{BASE}{OLD}:predict", json=body)


def content(text: str) -> dict[str, Any]:
    return {"content": {"role": "user", "parts": [{"text": text}]}}


def test_predict_reports_tokens_and_truncation_of_each_text(http: httpx2.Client) -> None:
    response = predict(http, "short", "word " * 3000, outputDimensionality=256)
    found = [one["embeddings"] for one in response.json()["predictions"]]
    assert [len(one["values"]) for one in found] == [256, 256]
    assert found[0]["statistics"] == {"token_count": 1, "truncated": False}
    assert found[1]["statistics"] == {"token_count": 2048, "truncated": True}


@pytest.mark.parametrize(
    ("texts", "parameters", "words"),
    [
        pytest.param(["a"] * 251, {}, "limit of 250", id="texts"),
        pytest.param(["word " * 1500] * 14, {}, "supports up to 20000", id="tokens"),
        pytest.param(["word " * 3000], {"autoTruncate": False}, "(2048)", id="too-long"),
        pytest.param(["a", " "], {}, "empty", id="blank"),
        pytest.param(["a"], {"outputDimensionality": 769}, "dimension", id="dim"),
        pytest.param(["a"], {"shape": 1}, 'Unknown name "shape"', id="unknown-name"),
        pytest.param([], {}, "at least one", id="none"),
    ],
)
def test_invalid_predict_requests_are_errors(
    http: httpx2.Client, texts: list[str], parameters: dict[str, Any], words: str
) -> None:
    response = predict(http, *texts, **parameters)
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


def test_predict_accepts_requests_at_its_limits(http: httpx2.Client) -> None:
    response = predict(http, *["a"] * 250, outputDimensionality=8)
    assert len(response.json()["predictions"]) == 250


def test_gemini_embedding_001_accepts_one_text_per_predict(http: httpx2.Client) -> None:
    # As google-genai before 3.0 and LangChain send it.
    instance = {"content": "a", "task_type": "RETRIEVAL_DOCUMENT", "title": "t"}
    parameters = {"outputDimensionality": 64, "autoTruncate": True}
    body = {"instances": [instance], "parameters": parameters}
    [found] = http.post(f"{BASE}{NEW}:predict", json=body).json()["predictions"]
    body = content("a") | {"taskType": "RETRIEVAL_DOCUMENT", "title": "t"}
    answer = http.post(f"{BASE}{NEW}:embedContent", json=body | {"outputDimensionality": 64})
    assert found["embeddings"]["values"] == answer.json()["embedding"]["values"]
    tokens = answer.json()["usageMetadata"]["promptTokenCount"]
    assert found["embeddings"]["statistics"] == {"token_count": tokens, "truncated": False}
    rejected = http.post(f"{BASE}{NEW}:predict", json={"instances": [instance, instance]})
    assert rejected.status_code == 400
    assert "2 instance(s) is over the limit of 1" in rejected.json()["error"]["message"]


def test_gemini_embedding_2_needs_embed_content_and_older_models_predict(
    http: httpx2.Client,
) -> None:
    rejected = http.post(
        f"{BASE}gemini-embedding-2:predict", json={"instances": [{"content": "a"}]}
    )
    assert rejected.status_code == 400
    assert "predict" in rejected.json()["error"]["message"]
    rejected = http.post(f"{BASE}{OLD}:embedContent", json=content("a"))
    assert rejected.status_code == 400


def test_embed_content_reads_its_options_from_a_config(http: httpx2.Client) -> None:
    config = {"outputDimensionality": 768, "taskType": "CLUSTERING"}
    body = content("word " * 3000) | {"embedContentConfig": config}
    answer = http.post(f"{BASE}{NEW}:embedContent", json=body).json()
    assert len(answer["embedding"]["values"]) == 768
    assert answer["truncated"] is True
    assert answer["usageMetadata"]["promptTokenCount"] == 2048
    strict = body | {"embedContentConfig": config | {"autoTruncate": False}}
    assert http.post(f"{BASE}{NEW}:embedContent", json=strict).status_code == 400
    wrong = body | {"embedContentConfig": {"shape": 1}}
    rejected = http.post(f"{BASE}{NEW}:embedContent", json=wrong)
    assert "embed_content_config" in rejected.json()["error"]["message"]


def test_an_unset_task_means_a_query(http: httpx2.Client) -> None:
    found = [
        http.post(f"{BASE}{NEW}:embedContent", json=content("a") | more).json()["embedding"]
        for more in ({}, {"taskType": "RETRIEVAL_QUERY"}, {"taskType": "RETRIEVAL_DOCUMENT"})
    ]
    unset, query, document = (np.array(one["values"]) for one in found)
    assert (unset == query).all()
    assert not (unset == document).all()


def test_a_batch_has_its_own_limit(http: httpx2.Client) -> None:
    path = f"{BASE}{NEW}:batchEmbedContents"
    answer = http.post(path, json={"requests": [content(one) for one in "abc"]}).json()
    assert len(answer["embeddings"]) == 3
    rejected = http.post(path, json={"requests": [content(one) for one in "abcd"]})
    assert "at most 3 requests can be in one batch" in rejected.json()["error"]["message"]


def test_express_mode_and_count_tokens(http: httpx2.Client) -> None:
    path = f"/v1beta1/publishers/google/models/{NEW}"
    answer = http.post(f"{path}:countTokens", json={"contents": [content("a b")["content"]]})
    assert answer.json() == {"totalTokens": 2, "totalBillableCharacters": 2}
    answer = http.post(f"{path}:embedContent", json=content("a"))
    assert len(answer.json()["embedding"]["values"]) == 3072
    assert http.get(path).json()["name"] == f"publishers/google/models/{NEW}"
