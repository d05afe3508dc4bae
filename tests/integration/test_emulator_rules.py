"""Each rule of the service, tested over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings, OverLimit
from bulkembed.schemas.models import MODELS

MODEL = "gemini-embedding-001"
TWO = "gemini-embedding-2"
VERTEX = "/v1beta1/projects/p/locations/us-central1/publishers/google/models/"


@pytest.fixture(scope="module")
def http() -> Iterator[httpx2.Client]:
    with (
        EmulatorServer(EmulatorSettings(extra_models=(("mine", 12),))) as server,
        httpx2.Client(base_url=server.url, headers={"x-goog-api-key": "k"}) as client,
    ):
        yield client


def request(text: str = "a", model: str = MODEL, **more: Any) -> dict[str, Any]:
    return {"model": f"models/{model}", "content": {"parts": [{"text": text}]}, **more}


def batch(http: httpx2.Client, *requests: Any, model: str = MODEL) -> httpx2.Response:
    body = {"requests": list(requests)}
    return http.post(f"/v1beta/models/{model}:batchEmbedContents", json=body)


def values(response: httpx2.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    body = response.json()
    found = [body["embedding"]] if "embedding" in body else body["embeddings"]
    return np.array([one["values"] for one in found])


def message(response: httpx2.Response, code: int = 400) -> str:
    assert response.status_code == code, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert error["status"].isupper()
    return str(error["message"])


def test_a_batch_returns_a_vector_per_text_and_the_total_tokens(http: httpx2.Client) -> None:
    response = batch(http, request("one"), request("two three"))
    assert values(response).shape == (2, 3072)
    count = http.post(
        f"/v1/models/{MODEL}:countTokens",
        json={"contents": [{"parts": [{"text": "one"}]}, {"parts": [{"text": "two three"}]}]},
    )
    assert response.json()["usageMetadata"] == {"promptTokenCount": count.json()["totalTokens"]}


def test_at_most_a_hundred_texts_are_accepted(http: httpx2.Client) -> None:
    assert len(values(batch(http, *[request(outputDimensionality=128)] * 100))) == 100
    words = message(batch(http, *[request()] * 101))
    assert "at most 100 requests can be in one batch" in words


def test_the_bytes_of_a_body_are_limited(http: httpx2.Client) -> None:
    path, limit = f"/v1beta/models/{MODEL}:batchEmbedContents", 4_194_304
    for spare, code in ((0, 200), (1, 400)):
        start, end = b'{"requests":[{"model":"models/%b","content":{"parts":[{"text":"', b'"}]}}]}'
        start %= MODEL.encode()
        body = start + b"a" * (limit + spare - len(start) - len(end)) + end
        response = http.post(path, content=body)
        assert response.status_code == code
    assert message(response) == "Request payload size exceeds the limit: 4194304 bytes."


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_one_blank_text_fails_the_whole_call(http: httpx2.Client, text: str) -> None:
    expected = "EmbedContentRequest.content contains an empty Part."
    assert message(batch(http, request("fine"), request(text))) == expected


@pytest.mark.parametrize(
    ("bad", "words", "field"),
    [
        pytest.param(
            request(dim=5),
            """Unknown name "dim" at 'requests[1]': Cannot find field.""",
            "requests[1]",
            id="unknown-name",
        ),
        pytest.param(
            {"content": {"parts": [{"txt": "a"}]}},
            """Unknown name "txt" at 'requests[1].content.parts[0]': Cannot find field.""",
            "requests[1].content.parts[0]",
            id="unknown-name-in-a-part",
        ),
        pytest.param(
            request(autoTruncate=False), 'Unknown name "autoTruncate"', "requests[1]",
            id="vertex-only",
        ),
        pytest.param(
            request(taskType="SEARCH"), "Invalid value at 'requests[1].task_type'",
            "requests[1].task_type", id="unknown-task",
        ),
        pytest.param(
            request(outputDimensionality="many"), "Invalid value",
            "requests[1].output_dimensionality", id="dim-no-number",
        ),
        pytest.param(
            {"model": f"models/{MODEL}", "content": {"parts": [{"text": 5}]}},
            "(TYPE_STRING), 5", "requests[1].content.parts[0].text", id="text-no-string",
        ),
        pytest.param("text", "Invalid value at 'requests[1]'", "requests[1]", id="no-object"),
    ],
)  # fmt: skip
def test_the_error_for_unexpected_json_names_its_place(
    http: httpx2.Client, bad: Any, words: str, field: str
) -> None:
    if isinstance(bad, dict):
        bad.setdefault("model", f"models/{MODEL}")
    response = batch(http, request(), bad)
    assert words in message(response)
    (detail,) = response.json()["error"]["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["field"] == field


def test_both_spellings_and_the_values_of_protobuf_are_accepted(http: httpx2.Client) -> None:
    plain = request(taskType="RETRIEVAL_DOCUMENT", title="t", outputDimensionality=256)
    other = request(task_type=2, title="t", output_dimensionality="256")
    null = request(taskType="RETRIEVAL_DOCUMENT", title="t", outputDimensionality=256.0)
    null["content"]["role"] = None
    found = values(batch(http, plain, other, null))
    assert found.shape == (3, 256)
    assert (found == found[0]).all()


@pytest.mark.parametrize("bad", [{}, {"requests": []}], ids=["nothing", "no-requests"])
def test_a_batch_needs_a_request(http: httpx2.Client, bad: Any) -> None:
    assert "not specified" in message(
        http.post(f"/v1beta/models/{MODEL}:batchEmbedContents", json=bad)
    )


@pytest.mark.parametrize(
    "name", ["", MODEL, "models/text-embedding-004"], ids=["none", "bare", "another"]
)
def test_each_request_must_name_the_model_of_the_url(http: httpx2.Client, name: str) -> None:
    assert "requests[0].model" in message(batch(http, request() | {"model": name}))


@pytest.mark.parametrize(
    ("model", "dim"),
    [(MODEL, 3073), (MODEL, 0), ("text-embedding-004", 769), ("embedding-001", 768)],
)
def test_an_unsupported_dim_is_an_error(http: httpx2.Client, model: str, dim: int) -> None:
    body = request(model=model, outputDimensionality=dim)
    assert "imension" in message(batch(http, body, model=model))


def test_a_dim_below_the_documented_range_is_served_with_a_warning(
    http: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    [whole] = values(batch(http, request()))
    for _ in range(2):
        [found] = values(batch(http, request(outputDimensionality=61)))
        np.testing.assert_allclose(found, whole[:61], atol=1e-6)
    assert [one.message[:19] for one in caplog.records] == ["dim 61 is below the"]


def test_each_request_can_have_its_own_dim(http: httpx2.Client) -> None:
    response = batch(http, request(outputDimensionality=128), request(), request("b"))
    assert [len(one["values"]) for one in response.json()["embeddings"]] == [128, 3072, 3072]


def test_a_title_is_for_documents_only_and_changes_the_vector(http: httpx2.Client) -> None:
    document = {"taskType": "RETRIEVAL_DOCUMENT"}
    found = values(batch(http, request(**document), request(title="Rivers", **document)))
    assert not np.allclose(*found)
    words = message(batch(http, request(title="Rivers", taskType="CLUSTERING")))
    assert "title is only applicable" in words


def test_gemini_embedding_2_ignores_the_task_and_reads_the_prefix(http: httpx2.Client) -> None:
    texts = ["a", "task: search result | query: a", "title: none | text: a"]
    plain = values(batch(http, *[request(one, TWO) for one in texts], model=TWO))
    with_task = [request(one, TWO, taskType="CLUSTERING", title="t") for one in texts]
    assert (values(batch(http, *with_task, model=TWO)) == plain).all()
    assert len({one.tobytes() for one in plain}) == 3
    assert (plain @ plain.T > 0.9).all()


def test_several_parts_give_one_vector(http: httpx2.Client) -> None:
    body = {"content": {"parts": [{"text": "dogs"}, {"text": "shares"}]}}
    fused = values(http.post(f"/v1beta/models/{TWO}:embedContent", json=body))
    apart = values(batch(http, request("dogs", TWO), request("shares", TWO), model=TWO))
    assert fused.shape == (1, 3072)
    assert (fused @ apart.T > apart[0] @ apart[1] + 0.1).all()


def test_a_long_text_is_cut_silently(http: httpx2.Client) -> None:
    response = batch(http, request("word " * 5000), request("word " * 9000))
    assert response.json()["usageMetadata"]["promptTokenCount"] == 2 * 2048
    first, second = values(response)
    assert (first == second).all()


def test_an_option_decides_what_gemini_embedding_2_does_with_a_long_text(
    http: httpx2.Client,
) -> None:
    long = request("word " * 9000, TWO)
    used = batch(http, long, model=TWO).json()["usageMetadata"]["promptTokenCount"]
    assert used == 8192
    with (
        EmulatorServer(EmulatorSettings(long_text=OverLimit.REFUSE)) as server,
        httpx2.Client(base_url=server.url, headers={"x-goog-api-key": "k"}) as strict,
    ):
        assert "(8192)" in message(batch(strict, long, model=TWO))


def test_a_missing_or_wrong_key_is_an_error_and_is_never_repeated() -> None:
    with (
        EmulatorServer(EmulatorSettings(api_key="sesame")) as server,
        httpx2.Client(base_url=server.url) as http,
    ):
        path, body = f"/v1beta/models/{MODEL}:embedContent", request()
        assert "unregistered callers" in message(http.post(path, json=body), 403)
        vertex = http.post(VERTEX + MODEL + ":embedContent", json=body)
        assert "authentication credential" in message(vertex, 401)
        wrong = http.post(path, json=body, headers={"x-goog-api-key": "open-up"})
        assert "API key not valid" in message(wrong)
        assert wrong.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
        assert "open-up" not in wrong.text
        assert http.post(path, json=body, params={"key": "sesame"}).status_code == 200


def test_missing_models_answer_404(http: httpx2.Client) -> None:
    for path in (
        "/v1beta/models/nothing:embedContent",
        "/v1beta/models/text-embedding-005:embedContent",
        VERTEX + "nothing:predict",
    ):
        assert "not found" in message(http.post(path, json=request()), 404)
    assert "not supported" in message(http.post(f"/v1/models/{MODEL}:generateContent"), 404)
    message(http.post(f"/v2/models/{MODEL}:embedContent", json=request()), 404)
    message(http.get("/v1beta/cachedContents"), 404)


def test_retired_models_are_served_by_default(http: httpx2.Client) -> None:
    old = "text-embedding-004"
    assert values(batch(http, request(model=old), model=old)).shape == (1, 768)
    for retired, gone in ((("all",), {old}), ((TWO,), {TWO})):
        settings = EmulatorSettings(retired=retired)
        with (
            EmulatorServer(settings) as server,
            httpx2.Client(base_url=server.url, headers={"x-goog-api-key": "k"}) as client,
        ):
            for model in (old, TWO, MODEL):
                code = batch(client, request(model=model), model=model).status_code
                assert code == (404 if model in gone else 200)


def test_an_extra_model_is_served(http: httpx2.Client) -> None:
    assert values(batch(http, request(model="mine"), model="mine")).shape == (1, 12)


def test_models_are_listed_page_by_page_and_described(http: httpx2.Client) -> None:
    names, token = [], ""
    while True:
        page = http.get("/v1beta/models", params={"pageSize": 3, "pageToken": token}).json()
        names += [one["name"] for one in page["models"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert names == [f"models/{one.name}" for one in MODELS.values() if not one.vertex_only] + [
        "models/mine"
    ]
    assert http.get(f"/v1beta/models/{MODEL}").json()["inputTokenLimit"] == 2048


def test_invalid_json_and_unknown_parameters_are_errors(http: httpx2.Client) -> None:
    path = f"/v1beta/models/{MODEL}:embedContent"
    assert "Invalid JSON payload" in message(http.post(path, content=b'{"content":'))
    assert '"shape"' in message(http.post(path, json=request(), params={"shape": "round"}))
