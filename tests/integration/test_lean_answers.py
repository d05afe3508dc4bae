"""The query parameters that make answers small, and services that do not know them."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2
import numpy as np
import pytest
from support.gemini import TEXTS, embed, failing, items, with_client
from support.server_threads import in_thread

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.embedding import Compression, Wire
from bulkembed.schemas.errors import BadAnswer, CallError, CallRejected, JobRejected, QuotaExceeded
from bulkembed.transforms.clients.bodies import NoVectors
from bulkembed.transforms.clients.gemini import GeminiClient
from bulkembed.transforms.clients.lean_answers import DOUBT_AFTER, JSON_EVERY, LeanAnswers

DIM = 128
UNKNOWN = b'{"detail":[{"type":"extra_forbidden","loc":["query","prettyPrint"],"msg":"Extra"}]}'


class Service:
    """Answers calls; a call with a refused parameter gets `refusal`."""

    content_type = "application/json"

    def __init__(self, status: int, refusal: bytes, *, all_calls: bool = False) -> None:
        self.status, self.refusal, self.all_calls = status, refusal, all_calls
        self.queries: list[dict[str, str]] = []
        self.refuses = True
        self.lock = threading.Lock()

    def answer(self, query: Mapping[str, str], body: Any) -> tuple[int, bytes]:
        with self.lock:
            self.queries.append(dict(query))
        if self.refuses and (query or self.all_calls):
            return self.status, self.refusal
        vectors = [{"values": [1.0, n, *[0.5] * (DIM - 2)]} for n, _ in enumerate(body["requests"])]
        return 200, json.dumps({"embeddings": vectors}).encode()

    def note(self, headers: Mapping[str, str]) -> None:
        """Look at the headers of a call."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        server.service.note({name.lower(): value for name, value in self.headers.items()})
        status, content = server.service.answer(query, body)
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.send_header("content-type", server.service.content_type)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(service: Service) -> Iterator[str]:
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.service, server.daemon_threads = service, True
    with in_thread(server):
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(
    ("compression", "encoding"),
    [(Compression.AUTO, "gzip, deflate"), (Compression.OFF, "identity")],
)
def test_answers_may_be_compressed_unless_the_user_says_no(
    compression: Compression, encoding: str
) -> None:
    class Noting(Service):
        def note(self, headers: Mapping[str, str]) -> None:
            assert headers["accept-encoding"] == encoding
            assert headers["user-agent"].endswith("(gzip)") is ("gzip" in encoding)
            self.notes = 1 + getattr(self, "notes", 0)

    service = Noting(400, b"")
    service.refuses = False
    with serving(service) as url:
        with_client(url, call_many, dim=DIM, compression=compression)
        assert service.notes == 3
    with EmulatorServer() as server:
        found = embed(server.url, TEXTS, compression=compression)
        assert found.vectors.shape == (4, 3072)


async def call_many(client: GeminiClient, calls: int = 3) -> list[Any]:
    return [await client.embed(items(TEXTS, dim=DIM)) for _ in range(calls)]


@pytest.mark.parametrize("vertexai", [False, True])
def test_both_services_are_asked_for_compact_answers(vertexai: bool) -> None:
    with EmulatorServer(EmulatorSettings(unknown_parameters=("prettyPrint",))) as strict:
        facts: dict[str, Any] = {"vertexai": vertexai}
        if vertexai:
            facts["model"] = "text-embedding-005"
        found = embed(strict.url, TEXTS, **facts)
        assert strict.stats()["answers"] == {"400": 1, "200": 1}
        with EmulatorServer() as plain:
            expected = embed(plain.url, TEXTS, **facts)
            assert plain.stats()["answers"] == {"200": 1}
    assert np.array_equal(found.vectors, expected.vectors)


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        pytest.param(400, b'{"error":{"code":400,"message":"Unknown name \\"prettyPrint\\": '
                     b'Cannot bind query parameter.","status":"INVALID_ARGUMENT"}}', id="google"),
        pytest.param(422, UNKNOWN, id="fastapi"),
        pytest.param(400, b"unexpected query parameter", id="words-without-the-name"),
        pytest.param(404, b"<html>no route for ?pretty_print=false</html>", id="page"),
        pytest.param(404, b'{"error":{"message":"no route"}}', id="route"),
        pytest.param(403, b"<html>Blocked</html>", id="firewall"),
        pytest.param(501, b'{"error":{"message":"not implemented"}}', id="not-implemented"),
        pytest.param(400, b'{"error":{"message":"Request contains an invalid argument.",'
                     b'"status":"INVALID_ARGUMENT"}}', id="vague"),
    ],
)  # fmt: skip
def test_a_parameter_that_a_service_refuses_is_left_out_from_then_on(
    status: int, refusal: bytes
) -> None:
    service = Service(status, refusal)
    with serving(service) as url:
        answers = with_client(url, call_many, dim=DIM)
    assert [one.vectors.shape for one in answers] == [(4, DIM)] * 3
    assert service.queries == [{"prettyPrint": "false"}, {}, {}, {}]


def test_calls_in_flight_at_the_first_refusal_are_all_repeated() -> None:
    four_sent = threading.Barrier(4)

    class Together(Service):
        def answer(self, query: Mapping[str, str], body: Any) -> tuple[int, bytes]:
            if query:
                four_sent.wait(20)
            return super().answer(query, body)

    service = Together(400, UNKNOWN)

    async def at_once(client: GeminiClient) -> list[Any]:
        return await asyncio.gather(*(client.embed(items(TEXTS, dim=DIM)) for _ in range(4)))

    with serving(service) as url:
        answers = with_client(url, at_once, dim=DIM)
    assert [one.vectors.shape for one in answers] == [(4, DIM)] * 4
    assert len(service.queries) == 8


def test_a_refusal_for_another_reason_does_not_drop_the_parameter() -> None:
    """A service may repeat a text, which names the parameter by chance."""
    service = Service(400, b'{"error":{"message":"bad text: call it with prettyPrint=false"}}')
    service.all_calls = True

    async def twice(client: GeminiClient) -> None:
        for _ in range(2):
            with pytest.raises(CallRejected):
                await client.embed(items(TEXTS, dim=DIM))

    with serving(service) as url:
        with_client(url, twice, dim=DIM)
    assert service.queries == [{"prettyPrint": "false"}, {}] * 2


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (403, "no such thing", JobRejected),
        (400, "API key not valid", JobRejected),
        (400, "the input is too long", CallRejected),
    ],
)
def test_errors_with_a_clear_reason_are_not_repeated(
    status: int, words: str, kind: type[CallError]
) -> None:
    service = Service(status, json.dumps({"error": {"message": words}}).encode(), all_calls=True)
    with serving(service) as url:
        failing(kind, url)
    assert len(service.queries) == 1


def test_a_vague_error_is_repeated_without_a_parameter_until_the_service_has_accepted_it() -> None:
    service = Service(404, b'{"error":{"message":"no such thing"}}', all_calls=True)

    async def calls(client: GeminiClient) -> None:
        for service.refuses in (True, False, True):
            with contextlib.nullcontext() if not service.refuses else pytest.raises(JobRejected):
                await client.embed(items(TEXTS, dim=DIM))

    with serving(service) as url:
        with_client(url, calls, dim=DIM)
    compact = {"prettyPrint": "false"}
    assert service.queries == [compact, {}, compact, compact]


def test_rejections_of_texts_are_seldom_repeated() -> None:
    service = Service(400, b'{"error":{"message":"invalid argument"}}', all_calls=True)
    calls = 3 * DOUBT_AFTER

    async def all_rejected(client: GeminiClient) -> None:
        for _ in range(calls):
            with pytest.raises(CallRejected):
                await call_many(client, 1)

    with serving(service) as url:
        with_client(url, all_rejected, dim=DIM)
    assert 1 <= len(service.queries) - calls <= 1 + calls // (DOUBT_AFTER - 1)


def test_a_service_that_names_one_parameter_at_a_time_is_asked_without_both() -> None:
    queries: list[tuple[str, ...]] = []
    refused = set[str]()

    async def send(parameters: Mapping[str, str]) -> int:
        queries.append(tuple(parameters))
        for name in refused & set(parameters):
            raise NoVectors(400, httpx2.Headers(), f"unknown parameter {name}".encode())
        return len(queries)

    async def calls() -> None:
        lean = LeanAnswers(proto=True)
        await lean.call(send)
        await lean.call(send)
        refused.update(("prettyPrint", "alt"))
        await lean.call(send)
        await lean.call(send)

    asyncio.run(calls())
    assert [len(query) for query in queries] == [1, 2, 2, 1, 0, 0]


def test_protobuf_gives_the_same_bits_and_json_the_counts_now_and_then() -> None:
    async def calls(client: GeminiClient) -> list[Any]:
        return await call_many(client, JSON_EVERY + 1)

    with EmulatorServer() as server:
        answers = with_client(server.url, calls, dim=DIM, wire=Wire.PROTO)
        (expected,) = with_client(server.url, lambda client: call_many(client, 1), dim=DIM)
    assert all(np.array_equal(one.vectors, expected.vectors) for one in answers)
    counts = [one.tokens for one in answers]
    assert counts == [expected.tokens, *[None] * (JSON_EVERY - 1), expected.tokens]


def test_a_service_that_refuses_protobuf_is_asked_for_json(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with EmulatorServer(EmulatorSettings(unknown_parameters=("alt",))) as server:
        answers = with_client(
            server.url, lambda client: call_many(client, 4), dim=DIM, wire=Wire.PROTO
        )
        assert server.stats()["answers"] == {"200": 4, "400": 1}
    assert None not in [one.tokens for one in answers]
    assert [one.levelname for one in caplog.records if "protobuf" in one.message] == ["WARNING"]


def test_a_service_that_answers_in_json_all_the_same_is_believed() -> None:
    service = Service(400, b"")
    service.refuses = False
    with serving(service) as url:
        with_client(url, lambda client: call_many(client, 4), dim=DIM, wire=Wire.PROTO)
    compact = {"prettyPrint": "false"}
    assert service.queries == [compact, compact | {"alt": "proto"}, compact, compact]


@pytest.mark.parametrize(
    ("content_type", "code"),
    [("application/x-protobuf", "proto"), ("application/octet-stream", "json")],
)
def test_protobuf_of_another_form_is_a_bad_answer_and_json_follows(
    content_type: str, code: str
) -> None:
    class Strange(Service):
        def answer(self, query: Mapping[str, str], body: Any) -> tuple[int, bytes]:
            found = super().answer(query, body)
            self.content_type = content_type if "alt" in query else "application/json"
            return (200, b"\x0a\x01") if "alt" in query else found

    async def calls(client: GeminiClient) -> None:
        await call_many(client, 1)
        with pytest.raises(BadAnswer) as caught:
            await call_many(client, 1)
        assert caught.value.code == code
        await call_many(client, 2)

    service = Strange(400, b"")
    service.refuses = False
    with serving(service) as url:
        with_client(url, calls, dim=DIM, wire=Wire.PROTO)
    assert ["alt" in query for query in service.queries] == [False, True, False, False]


@pytest.mark.parametrize("status", [200, 429])
def test_json_that_is_labelled_as_protobuf_is_read(status: int) -> None:
    service = Service(429, b'{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"wait"}}')
    service.content_type, service.refuses = "application/x-protobuf", status != 200
    with serving(service) as url:
        if status == 200:
            with_client(url, call_many, dim=DIM)
        else:
            assert failing(QuotaExceeded, url).service_message == "wait"


def test_parameters_are_in_doubt_after_several_vague_rejections_in_a_row() -> None:
    """A gateway may be replaced in the middle of a run; no row must fail because of that."""
    service = Service(400, b'{"error":{"message":"invalid argument"}}')
    service.refuses = False

    async def calls(client: GeminiClient) -> None:
        await call_many(client, 1)
        service.refuses = True
        for _ in range(DOUBT_AFTER - 1):
            with pytest.raises(CallRejected):
                await call_many(client, 1)
        await call_many(client, 2)

    with serving(service) as url:
        with_client(url, calls, dim=DIM)
    compact = {"prettyPrint": "false"}
    assert service.queries == [compact] * (1 + DOUBT_AFTER) + [{}, {}]


def test_a_429_in_protobuf_has_its_delay_and_limit() -> None:
    async def calls(client: GeminiClient) -> QuotaExceeded:
        await call_many(client, 1)
        with pytest.raises(QuotaExceeded) as caught:
            await call_many(client, 1)
        return caught.value

    found = []
    for wire in Wire:
        with EmulatorServer(EmulatorSettings(rpm=len(TEXTS))) as server:
            found.append(with_client(server.url, calls, dim=DIM, wire=wire))
    plain, proto = found
    assert proto.quota_value == plain.quota_value == len(TEXTS)
    assert proto.quota_id == plain.quota_id
    assert proto.service_message.split("limit")[0] == plain.service_message.split("limit")[0]
    assert proto.retry_delay_s == pytest.approx(plain.retry_delay_s, abs=5)
