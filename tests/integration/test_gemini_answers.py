"""How the client classifies the answers of a server, or of something in front of it."""

from __future__ import annotations

import asyncio
import http.server
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from support.gemini import TEXTS, failing, items, with_client
from support.jobs import item
from support.server_threads import in_thread

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import OK, EmulatorSettings
from bulkembed.schemas.errors import (
    BadAnswer,
    CallError,
    CallRejected,
    Intercepted,
    JobRejected,
    QuotaExceeded,
    Unavailable,
)
from bulkembed.transforms.clients.classification import Reply, classify
from bulkembed.transforms.clients.gemini import GeminiClient

PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head>" + b"<p>filler</p>" * 8000


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers every call with the same answer."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Any = self.server
        self.rfile.read(int(self.headers["content-length"]))
        server.calls += 1
        status, body, headers = server.answer
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """Yield the URL of a server that always gives the same answer."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.answer, server.calls = (status, body, headers), 0
    with in_thread(server):
        yield f"http://127.0.0.1:{server.server_port}"


def google(code: int, status: str, message: str = "words", **more: object) -> bytes:
    return json.dumps(
        {"error": {"code": code, "status": status, "message": message, **more}}
    ).encode()


def errors_of(faults: Sequence[str]) -> list[CallError]:
    """Return the errors of calls of one client that get these faults, in order.

    A call that passes comes before each. Without it, a client repeats a rejected call without its
    query parameters, which may be the reason.
    """

    async def all_of(client: GeminiClient) -> list[CallError]:
        found = []
        for _ in faults:
            await client.embed(items(TEXTS[:1]))
            with pytest.raises(CallError) as caught:
                await client.embed(items(TEXTS[:1]))
            found.append(caught.value)
        return found

    script = tuple(itertools.chain.from_iterable((OK, fault) for fault in faults))
    with EmulatorServer(EmulatorSettings(script=script)) as server:
        return with_client(server.url, all_of)


@pytest.mark.parametrize("form", ["", "page-"])
def test_every_http_status_gives_the_error_of_its_rule(form: str) -> None:
    statuses = [status for status in range(300, 600) if status != 304]
    found = errors_of([f"{form}{status}" for status in statuses])
    for status, error in zip(statuses, found, strict=True):
        row = classify(Reply(status, page=bool(form)))
        if status == 429 and not form:
            row = classify(Reply(429))
        assert (type(error), error.code, error.http_status) == (row.error, row.name, status)
        assert len(error.message) < 400
        assert "</p><p>" not in error.message


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ABORTED", 409, Unavailable), ("CANCELLED", 499, Unavailable),
        ("ABORTED", 400, Unavailable), ("UNAVAILABLE", 400, Unavailable),
        ("FAILED_PRECONDITION", 400, JobRejected), ("OUT_OF_RANGE", 400, CallRejected),
        ("RESOURCE_EXHAUSTED", 429, QuotaExceeded), ("UNIMPLEMENTED", 501, JobRejected),
    ],
)  # fmt: skip
def test_the_google_rpc_code_counts_too(code: str, status: int, kind: type[CallError]) -> None:
    with answering(status, google(status, code)) as url:
        assert "words" in failing(kind, url).message
    with answering(status, b"[" + google(status, code) + b"]") as url:
        assert "words" in failing(kind, url).message


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, Intercepted), (403, Intercepted), (502, Unavailable), (404, JobRejected)],
)
def test_only_the_beginning_of_a_page_is_shown(status: int, kind: type[CallError]) -> None:
    with answering(status, PAGE) as url:
        error = failing(kind, url)
    assert "<!DOCTYPE html> <html><head><title>Sign in" in error.message
    assert len(error.message) < 400
    assert len(str(vars(error))) < 800


def test_the_error_for_a_redirect_shows_its_target() -> None:
    with answering(302, b"", location="https://login.example/sign-in") as url:
        error = failing(Intercepted, url)
    assert "a redirect to https://login.example/sign-in" in error.message


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        pytest.param(200, google(503, "UNAVAILABLE"), Unavailable, "words", id="error in a 200"),
        pytest.param(
            200, google(403, "PERMISSION_DENIED"), JobRejected, "words", id="403 in a 200"
        ),
        pytest.param(403, b'{"message": "Forbidden"}', JobRejected, "Forbidden", id="message"),
        pytest.param(403, b'{"error": "no way"}', JobRejected, "no way", id="error as text"),
        pytest.param(500, b'{"detail": ["a"]}', Unavailable, '["a"]', id="detail"),
        pytest.param(500, b'"oops"', Unavailable, "oops", id="a JSON string"),
        pytest.param(503, b"\xff\xfe\x00 busy", Unavailable, "busy", id="not UTF-8"),
        pytest.param(400, b"", CallRejected, "400", id="empty"),
        pytest.param(200, b"", BadAnswer, "not JSON", id="empty 200"),
        pytest.param(200, b"[]", BadAnswer, "not a JSON object", id="a list"),
        pytest.param(200, b"\xff\xfe", BadAnswer, "not JSON", id="garbage"),
    ],
)
def test_a_body_of_any_form_is_classified(
    status: int, body: bytes, kind: type[CallError], words: str
) -> None:
    with answering(status, body) as url:
        assert words in failing(kind, url).message


def test_a_page_that_cannot_be_decompressed_is_classified() -> None:
    with answering(503, b"no gzip", **{"content-encoding": "gzip"}) as url:
        assert failing(Unavailable, url).http_status == 503


def count(url: str) -> int:
    return with_client(url, lambda client: client.count_tokens(item("x")))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"OK", BadAnswer), (b"", BadAnswer), (b"[1]", BadAnswer), (b"{}", BadAnswer),
        (b'{"totalTokens": "many"}', BadAnswer), (PAGE, Intercepted),
    ],
)  # fmt: skip
def test_a_missing_count_is_a_fault_of_the_service(body: bytes, kind: type[CallError]) -> None:
    with answering(200, body) as url, pytest.raises(kind):
        count(url)


def test_the_delay_that_a_busy_service_names_is_used() -> None:
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
    with answering(503, google(503, "UNAVAILABLE", details=[retry])) as url:
        assert failing(Unavailable, url).retry_delay_s == 7


@pytest.mark.parametrize("texts", [4, 100])
def test_the_limit_of_a_predict_is_read_from_its_error(texts: int) -> None:
    with EmulatorServer(EmulatorSettings(vertex_predict_texts=3)) as server:

        async def rejected(client: GeminiClient) -> CallError:
            with pytest.raises(CallRejected) as caught:
                await client.embed(items([f"text {n}" for n in range(texts)]))
            return caught.value

        error = with_client(server.url, rejected, model="text-embedding-005", vertexai=True)
    assert isinstance(error, CallRejected)
    assert (error.code, error.max_texts) == ("batch_size", 3)


def test_the_error_for_a_missing_model_suggests_similar_ones() -> None:
    with EmulatorServer() as server:
        error = failing(JobRejected, server.url, model="gemini-embeding-001")
    assert error.code == "model_gone"
    assert "--model gemini-embeding-001 is unknown" in error.message
    assert "Did you mean gemini-embedding-001" in error.message
    assert "`bulkembed models`" in error.message


@pytest.mark.parametrize(
    "body", [PAGE, google(404, "NOT_FOUND", "The requested URL was not found")]
)
def test_a_404_points_to_a_base_url_that_ends_with_a_version(body: bytes) -> None:
    with answering(404, body) as url:
        error = failing(JobRejected, f"{url}/v1beta")
    assert error.code == "path"
    assert "Remove /v1beta," in error.message
    assert "--model" not in error.message


def test_a_402_points_to_billing_and_not_to_a_proxy() -> None:
    with answering(402, google(402, "", "Payment Required")) as url:
        error = failing(JobRejected, url)
    assert "billing" in error.message
    assert "proxy" not in error.message


def test_simultaneous_failed_calls_each_get_their_own_error() -> None:
    with EmulatorServer(EmulatorSettings(script=("503", "409", "499", "425") * 5)) as server:

        async def all_at_once(client: GeminiClient) -> Sequence[object]:
            calls = [client.embed(items(["x"])) for _ in range(20)]
            return await asyncio.gather(*calls, return_exceptions=True)

        found = with_client(server.url, all_at_once)
    statuses = sorted(one.http_status or 0 for one in found if isinstance(one, Unavailable))
    assert statuses == sorted([503, 409, 499, 425] * 5)
