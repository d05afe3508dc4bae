"""Calls from threads: proxies, certificates, pages in place of answers, and where a key may go."""

from __future__ import annotations

import contextlib
import http.server
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.batches import TIMEOUT_S, impatient
from support.gemini import config_of
from support.server_threads import in_thread

from bulkembed.emulator.server import EmulatorServer
from bulkembed.schemas.embedding import Service, ServiceConfig
from bulkembed.schemas.errors import ConfigError, Intercepted, JobRejected, Unavailable
from bulkembed.transforms.clients.file_download import MAX_REDIRECTS, FileDownload
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.clients.service_calls import ServiceCalls
from bulkembed.transforms.clients.whole_answers import WholeAnswer

KEY = "a-key-of-some-length"
GOOGLE = ServiceConfig()


def custom(url: str) -> ServiceConfig:
    return ServiceConfig(kind=Service.CUSTOM, base_url=url, api_version="v1beta")


def opened(service: ServiceConfig) -> ServiceCalls:
    return ServiceCalls(service, config_of(), KEY)


def test_calls_go_through_the_proxy_of_the_environment(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    calls = opened(custom(server.url))
    for ask in (
        lambda: calls.ask(lambda: calls.sdk.batches.get(name="batches/a")),
        lambda: calls.send("GET", calls.url("v1beta/files/a"), {}),
    ):
        with pytest.raises(Unavailable):
            ask()
    assert not server.stats()["batch"]["calls"]
    calls.close()


def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy:80")
    with pytest.raises(ConfigError, match="HTTPS_PROXY names a ftp proxy"):
        opened(GOOGLE)


def test_certificates_that_cannot_be_read_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/none.pem")
    with pytest.raises(JobRejected, match=r"SSL_CERT_FILE=/none\.pem: the file does not exist"):
        opened(GOOGLE)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        pytest.param(200, b"<html>sign in</html>", Intercepted, id="page"),
        pytest.param(200, b'{"error": {"code": 503, "message": "m"}}', Unavailable, id="error"),
        pytest.param(302, b"", Intercepted, id="redirect"),
        pytest.param(200, b'{"name": "batches/a", "error": {"code": 3}}', None, id="failed-job"),
        pytest.param(200, b'{"error": half', None, id="half-an-answer"),
        pytest.param(204, b"", None, id="nothing"),
    ],
)
def test_what_is_no_answer_of_the_service_is_an_error(
    status: int, body: bytes, kind: type[Exception] | None
) -> None:
    calls = opened(GOOGLE)
    answer = WholeAnswer(status, httpx2.Headers(), body)
    if kind is None:
        calls.check(answer)
    else:
        with pytest.raises(kind):
            calls.check(answer)
    calls.close()


@pytest.mark.parametrize(
    ("base", "url", "may"),
    [
        (None, "https://generativelanguage.googleapis.com/upload?upload_id=1", True),
        (None, "https://storage.googleapis.com/x", True),
        (None, "http://storage.googleapis.com/x", False),
        (None, "https://evil.example/x", False),
        (None, "https://googleapis.com.evil.example/x", False),
        (None, "https://evilgoogleapis.com/x", False),
        ("http://gateway:8080/gemini", "http://gateway:8080/x", True),
        ("http://gateway:8080/gemini", "http://gateway:8081/x", False),
        ("http://gateway:8080/gemini", "https://storage.googleapis.com/x", False),
    ],
)
def test_the_key_goes_to_the_service_only(base: str | None, url: str, may: bool) -> None:
    calls = opened(GOOGLE if base is None else custom(base))
    assert calls.may_see_key(url) is may
    calls.close()


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (None, "https://generativelanguage.googleapis.com/upload/files?upload_id=1"),
        ("http://gateway:8080", "http://gateway:8080/upload/files?upload_id=1"),
        ("http://gateway:8080/gemini/", "http://gateway:8080/gemini/upload/files?upload_id=1"),
        ("http://gateway:8080/upload", "http://gateway:8080/upload/files?upload_id=1"),
    ],
)
def test_an_upload_behind_a_gateway_goes_through_it(base: str | None, expected: str) -> None:
    calls = opened(GOOGLE if base is None else custom(base))
    url = "https://generativelanguage.googleapis.com/upload/files?upload_id=1"
    assert calls.at_service(url) == expected
    calls.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Redirects to `target`, or sends a file; keeps the keys that it got."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.keys.append(self.headers.get("x-goog-api-key"))
        self.send_response(302 if server.target else 200)
        self.send_header("location" if server.target else "x-none", f"{server.target}{self.path}")
        self.send_header("content-length", "0" if server.target else "5")
        self.end_headers()
        self.wfile.write(b"" if server.target else b"lines")

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(target: str = "") -> Iterator[Any]:
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.target, server.keys = target, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    with in_thread(server):
        yield server


def test_a_download_follows_a_redirect_without_the_key(tmp_path: Path) -> None:
    with serving() as other, serving(other.url) as service:
        calls = opened(custom(service.url))
        FileDownload(calls, calls.url("file"), tmp_path / "file", RetryPolicy()).run()
        assert (tmp_path / "file").read_bytes() == b"lines"
        assert (service.keys, other.keys) == ([KEY], [None])
        calls.close()


def test_a_download_does_not_follow_redirects_for_ever(tmp_path: Path) -> None:
    with serving("") as service:
        service.target = service.url
        waits: list[float] = []
        calls = opened(custom(service.url))
        with pytest.raises(Intercepted, match="a redirect to"):
            FileDownload(calls, calls.url("file"), tmp_path / "file", impatient(waits)).run()
        assert len(service.keys) == (MAX_REDIRECTS + 1) * (len(waits) + 1)
        assert sum(waits) == pytest.approx(TIMEOUT_S)
        assert not list(tmp_path.iterdir())
        calls.close()
