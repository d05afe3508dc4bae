"""The forms of the emulator's answers: indented, compact, protobuf, gzip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

MODEL = "gemini-embedding-001"
DEVELOPER = f"/v1beta/models/{MODEL}:batchEmbedContents"
PREDICT = "/v1beta1/publishers/google/models/text-embedding-005:predict"
DIM = 128


def body_for(path: str, texts: int = 2, dim: int = DIM) -> dict[str, Any]:
    if path == PREDICT:
        return {
            "instances": [{"content": f"text {n}"} for n in range(texts)],
            "parameters": {"outputDimensionality": dim},
        }
    return {
        "requests": [
            {
                "model": f"models/{MODEL}",
                "content": {"parts": [{"text": f"text {n}"}]},
                "outputDimensionality": dim,
            }
            for n in range(texts)
        ]
    }


def post(url: str, path: str, query: str = "", encoding: str = "identity") -> httpx2.Response:
    headers = {"x-goog-api-key": "k", "accept-encoding": encoding}
    with httpx2.Client(base_url=url, headers=headers, trust_env=False) as http:
        return http.post(path + query, json=body_for(path))


@pytest.fixture(scope="module", params=[False, True], ids=["", "canned"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with EmulatorServer(EmulatorSettings(canned=request.param)) as server:
        yield server.url


@pytest.mark.parametrize("path", [DEVELOPER, PREDICT])
@pytest.mark.parametrize("query", ["", "?prettyPrint=true", "?alt=json", "?%24prettyPrint=1"])
def test_answers_have_a_float_per_line_as_googles_do(url: str, path: str, query: str) -> None:
    answer = post(url, path, query)
    depth = 10 if path == PREDICT else 8
    assert len(re.findall(rf"^ {{{depth}}}-?[\d.e-]+,?$", answer.text, re.MULTILINE)) == 2 * DIM


@pytest.mark.parametrize("path", [DEVELOPER, PREDICT])
@pytest.mark.parametrize("query", ["?prettyPrint=false", "?%24prettyPrint=0"])
def test_an_answer_is_compact_if_the_client_asks_for_it(url: str, path: str, query: str) -> None:
    answer = post(url, path, query)
    assert answer.content == answer.content.translate(None, b" \n")
    assert answer.json() == post(url, path).json()


@pytest.mark.parametrize("query", ["?prettyPrint=maybe", "?alt=csv", "?pretty=false"])
def test_an_unknown_parameter_or_value_is_a_bad_request(url: str, query: str) -> None:
    assert post(url, DEVELOPER, query).status_code == 400


def test_errors_and_other_answers_are_compact_too(url: str) -> None:
    headers = {"x-goog-api-key": "k"}
    with httpx2.Client(base_url=url, headers=headers, trust_env=False) as http:
        for path in (f"/v1beta/models/{MODEL}", "/v1beta/models/no-such-model"):
            assert "\n" in http.get(path).text
            assert "\n" not in http.get(f"{path}?prettyPrint=false").text


@pytest.mark.parametrize("query", ["", "?prettyPrint=false", "?alt=proto"])
def test_answers_are_compressed_for_clients_that_accept_gzip(url: str, query: str) -> None:
    plain, packed = post(url, DEVELOPER, query), post(url, DEVELOPER, query, "gzip, br")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content


def test_a_server_can_ignore_or_refuse_the_parameters() -> None:
    with EmulatorServer(EmulatorSettings(pretty=True, gzip=False)) as server:
        answer = post(server.url, DEVELOPER, "?prettyPrint=false", "gzip")
        assert len(answer.text.splitlines()) > 2 * DIM
        assert "content-encoding" not in answer.headers
    with EmulatorServer(EmulatorSettings(unknown_parameters=("prettyPrint",))) as server:
        answer = post(server.url, DEVELOPER, "?prettyPrint=false")
        assert answer.status_code == 400
        assert 'Unknown name "prettyPrint"' in answer.json()["error"]["message"]
        assert post(server.url, DEVELOPER, "?%24prettyPrint=false").status_code == 200


def vectors_of(data: bytes) -> list[list[float]]:
    """Read the vectors of an answer in protobuf, which has one level of messages per field 1."""
    return [
        np.frombuffer(values, "<f4").tolist()
        for embedding in fields(data, 1)
        for values in fields(embedding, 1)
    ]


def fields(data: bytes, wanted: int) -> list[bytes]:
    """Return the values of a field whose values have a length; other fields have one too."""
    found, at = [], 0
    while at < len(data):
        tag, at = varint(data, at)
        assert tag & 7 == 2
        size, at = varint(data, at)
        if tag >> 3 == wanted:
            found.append(data[at : at + size])
        at += size
    assert at == len(data)
    return found


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


@pytest.mark.parametrize("query", ["?alt=proto", "?%24alt=proto"])
def test_the_developer_api_answers_in_protobuf(url: str, query: str) -> None:
    answer = post(url, DEVELOPER, query)
    assert answer.headers["content-type"] == "application/x-protobuf"
    expected = post(url, DEVELOPER).json()["embeddings"]
    assert vectors_of(answer.content) == [
        np.array(one["values"], np.float32).tolist() for one in expected
    ]


def test_vertex_answers_in_json_whatever_is_asked_for(url: str) -> None:
    assert "json" in post(url, PREDICT, "?alt=proto").headers["content-type"]


def test_errors_in_protobuf_have_the_details_of_those_in_json() -> None:
    with EmulatorServer(EmulatorSettings(rpm=1)) as server:
        answer = post(server.url, DEVELOPER, "?alt=proto")
        expected = post(server.url, DEVELOPER).json()["error"]
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/x-protobuf"
    status = status_pb2.Status.FromString(answer.content)
    assert (status.code, status.message) == (8, expected["message"])
    quota, retry = error_details_pb2.QuotaFailure(), error_details_pb2.RetryInfo()
    assert any(detail.Unpack(quota) for detail in status.details)
    assert any(detail.Unpack(retry) for detail in status.details)
    assert quota.violations[0].quota_value == 1
    assert retry.retry_delay.ToTimedelta().total_seconds() > 0
    kinds = [one["@type"] for one in expected["details"]]
    assert [json_format.MessageToDict(one)["@type"] for one in status.details] == kinds
