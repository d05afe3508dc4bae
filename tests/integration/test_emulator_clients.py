"""Published clients work with the emulator as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from google import genai
from google.genai import errors, types

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.models import MODELS

DOG = "I took my dog to the vet"
CAT = "I took my cat to the vet"
SHARES = "The shares of the bank fell sharply"
TEXTS = [DOG, CAT, SHARES]
DEVELOPER = [name for name, spec in MODELS.items() if not spec.vertex_only]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with EmulatorServer() as server:
        yield server.url


def client(url: str, *, vertexai: bool = False, version: str | None = None) -> genai.Client:
    options = types.HttpOptions(base_url=url, api_version=version)
    return genai.Client(vertexai=vertexai, api_key="x", http_options=options)


def check(response: types.EmbedContentResponse, dim: int) -> None:
    assert response.embeddings is not None
    found = np.array([one.values for one in response.embeddings])
    assert found.shape == (3, dim)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.2


@pytest.mark.parametrize("version", ["v1", "v1beta"])
@pytest.mark.parametrize("model", DEVELOPER)
def test_google_genai_gets_a_vector_per_text_from_every_model(
    url: str, model: str, version: str
) -> None:
    with client(url, version=version) as api:
        response = api.models.embed_content(model=model, contents=[[text] for text in TEXTS])
        check(response, MODELS[model].default_dim)
        assert response.usage_metadata is not None
        assert response.usage_metadata.prompt_token_count == 24


@pytest.mark.parametrize("model", MODELS)
def test_google_genai_gets_a_vector_per_text_from_every_model_on_vertex(
    url: str, model: str
) -> None:
    with client(url, vertexai=True) as api:
        contents = TEXTS if "gemini" not in model else [[text] for text in TEXTS]
        response = api.models.embed_content(model=model, contents=contents)
        check(response, MODELS[model].default_dim)
        one = api.models.embed_content(model=model, contents=DOG)
        assert one.embeddings is not None
        statistics = one.embeddings[0].statistics
        assert statistics is not None
        assert statistics.token_count == 8


@pytest.mark.parametrize("vertexai", [False, True])
def test_google_genai_async_with_all_its_options(url: str, vertexai: bool) -> None:
    async def embed() -> types.EmbedContentResponse:
        api = client(url, vertexai=vertexai).aio
        async with api:
            return await api.models.embed_content(
                model="gemini-embedding-001",
                contents=[types.Content(parts=[types.Part(text=text)]) for text in TEXTS],
                config=types.EmbedContentConfig(
                    task_type="RETRIEVAL_DOCUMENT", title="News", output_dimensionality=768
                ),
            )

    check(asyncio.run(embed()), 768)


@pytest.mark.parametrize("vertexai", [False, True])
def test_the_sdk_joins_a_list_of_strings_for_gemini_embedding_2(url: str, vertexai: bool) -> None:
    with client(url, vertexai=vertexai) as api:
        response = api.models.embed_content(model="gemini-embedding-2", contents=TEXTS)
        assert response.embeddings is not None
        assert len(response.embeddings) == 1


def test_extra_body_replaces_the_requests(url: str) -> None:
    requests = [
        {
            "model": "models/gemini-embedding-001",
            "content": {"parts": [{"text": text}]},
            "taskType": "RETRIEVAL_DOCUMENT",
            "title": title,
        }
        for text, title in zip(TEXTS, ["One", "Two", "Three"], strict=True)
    ]
    with client(url) as api:
        response = api.models.embed_content(
            model="gemini-embedding-001",
            contents=["dummy"],
            config={"http_options": {"extra_body": {"requests": requests}}},
        )
    assert response.embeddings is not None
    assert len(response.embeddings) == 3


def test_google_genai_lists_gets_and_counts(url: str) -> None:
    with client(url) as api:
        assert [one.name for one in api.models.list()] == [f"models/{name}" for name in DEVELOPER]
        model = api.models.get(model="gemini-embedding-2")
        assert model.input_token_limit == 8192
        counted = api.models.count_tokens(model="gemini-embedding-2", contents=DOG)
        assert counted.total_tokens == 8
    with client(url, vertexai=True) as api:
        counted = api.models.count_tokens(model="gemini-embedding-001", contents=DOG)
        assert counted.total_tokens == 8


def test_google_genai_reads_the_429s_details() -> None:
    with (
        EmulatorServer(EmulatorSettings(rpm=2)) as server,
        client(server.url) as api,
        pytest.raises(errors.ClientError) as caught,
    ):
        api.models.embed_content(model="gemini-embedding-001", contents=[[t] for t in TEXTS])
    assert caught.value.code == 429
    details = caught.value.details["error"]["details"]
    violation = details[0]["violations"][0]
    assert violation["quotaId"] == "EmbedContentPerMinutePerProjectPerUserPerModel-PaidTier"
    assert violation["quotaValue"] == "2"


@pytest.mark.parametrize("gzip", [False, True])
def test_compressed_answers_give_the_same_numbers(url: str, gzip: bool) -> None:
    settings = EmulatorSettings(gzip=gzip)
    with EmulatorServer(settings) as server, client(server.url) as api, client(url) as plain:
        found, expected = (
            one.models.embed_content(model="gemini-embedding-001", contents=[[t] for t in TEXTS])
            for one in (api, plain)
        )
        assert found.embeddings == expected.embeddings
        assert found.sdk_http_response is not None
        headers = found.sdk_http_response.headers or {}
        assert (headers.get("content-encoding") == "gzip") is gzip


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_langchain_google_genai_embeds_documents_and_queries(url: str) -> None:
    langchain = pytest.importorskip("langchain_google_genai")
    embeddings = langchain.GoogleGenerativeAIEmbeddings(
        model="models/gemini-embedding-001",
        google_api_key="x",
        transport="rest",
        client_options={"api_endpoint": url},
    )
    documents = np.array(embeddings.embed_documents(TEXTS, titles=["a", "b", "c"]))
    query = np.array(embeddings.embed_query("my dog needs a vet", output_dimensionality=768))
    assert documents.shape == (3, 3072)
    assert query.shape == (768,)
    assert (documents[:, :768] @ query).argmax() == 0
    with pytest.raises(Exception, match="at most 100 requests can be in one batch"):
        embeddings.embed_documents(["a"] * 101, batch_size=101)
