"""Requests on the network: proxies, private authorities, and the request itself."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import itertools
import json
import re
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.certificates import own_certificate
from support.gemini import TEXTS, config_of, embed, failing, items, with_client
from support.server_threads import in_thread

from bulkembed.emulator.server import EmulatorServer
from bulkembed.schemas.embedding import Service, ServiceConfig
from bulkembed.schemas.errors import CallError, ConfigError, Intercepted, JobRejected, Unavailable
from bulkembed.schemas.models import TaskType
from bulkembed.transforms.clients.bodies import BODIES_AT_ONCE
from bulkembed.transforms.clients.gemini import GeminiClient, check_client
from bulkembed.transforms.clients.whole_answers import AnswerKeeper, kept_answer
from bulkembed.transforms.core.content import REQUEST_BYTES


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with EmulatorServer() as server:
        yield server.url


class _Handler(http.server.BaseHTTPRequestHandler):
    """Forwards requests to another server, and keeps them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        server.seen.append((self.path, dict(self.headers), body))
        path = self.path if self.path.startswith("/") else "/" + self.path.split("/", 3)[3]
        request = urllib.request.Request(
            server.target + path, body,
            {"content-type": "application/json", "x-goog-api-key": self.headers["x-goog-api-key"]},
        )  # fmt: skip
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as response:
            data = response.read()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def between(target: str, context: ssl.SSLContext | None = None) -> Iterator[Any]:
    """Yield a server that keeps all requests and forwards them to the target."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.seen, server.target, server.daemon_threads = [], target, True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    with in_thread(server):
        yield server


def test_http_proxy_is_honoured(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with between(url) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        assert embed("http://embeddings.invalid", TEXTS).vectors.shape == (4, 3072)
        ((path, _, _),) = proxy.seen
        assert path.startswith("http://embeddings.invalid/v1beta/models/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert embed(url, TEXTS).vectors.shape == (4, 3072)
        assert len(proxy.seen) == 1


CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.mark.parametrize("name", CERTIFICATE_VARIABLES)
def test_a_private_authority_is_trusted_only_through_the_environment(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for known in CERTIFICATE_VARIABLES:
        monkeypatch.delenv(known, raising=False)
    certificate, key = own_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with between(url, context) as server:
        secure = f"https://127.0.0.1:{server.server_port}"
        error = failing(JobRejected, secure)
        assert error.code == "certificate"
        assert "self-signed certificate. Set SSL_CERT_FILE" in error.message
        monkeypatch.setenv(name, str(certificate))
        assert embed(secure, TEXTS).vectors.shape == (4, 3072)


def _answer_in_the_clear(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Receive a request over TLS, and answer without TLS."""
    plain, _ = listener.accept()
    plain.settimeout(20)
    with plain, context.wrap_socket(plain.dup(), server_side=True) as secure:
        request = b""
        while not _is_whole(request):
            data = secure.recv(65536)
            assert data, "the request was cut off"
            request += data
        plain.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
        # Closing with unread bytes would send a reset, which may overtake the answer.
        plain.shutdown(socket.SHUT_WR)
        while plain.recv(65536):
            pass


def _is_whole(request: bytes) -> bool:
    """Return whether a request with a content length is complete."""
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def test_a_tls_error_after_the_handshake_is_a_call_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = own_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer_in_the_clear, args=(listener, context))
        thread.start()
        error = failing(Intercepted, f"https://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert error.code == "tls"


def test_https_to_an_http_server_is_not_an_outage(url: str) -> None:
    error = failing(Intercepted, url.replace("http://", "https://"))
    assert error.code == "tls"
    assert "--base-url" in error.message


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "the file does not exist"), ("no certificate", "has no certificates in PEM form")],
    ids=["missing", "not PEM"],
)
def test_unreadable_certificates_are_an_error_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, words: str
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    error = failing(JobRejected, "https://127.0.0.1:1")
    assert f"SSL_CERT_FILE={path}: " in error.message
    assert words in error.message


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("socks5://me:secret@127.0.0.1:1", "pip install 'httpx2[socks]'"),
        ("socks5h://127.0.0.1:1", "pip install 'httpx2[socks]'"),
        ("ftp://me:secret@127.0.0.1:1", "Supported are http, https, socks5, socks5h"),
        ("http://me:secret@127.0.0.1:99999", "not the address of a proxy"),
    ],
)
@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy"])
def test_an_unusable_proxy_is_an_error_before_anything_is_sent(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str, words: str
) -> None:
    monkeypatch.setenv(name, proxy)
    with pytest.raises(ConfigError) as caught:
        embed("https://127.0.0.1:1", TEXTS)
    assert words in caught.value.message
    assert name.upper() in caught.value.message
    assert "secret" not in caught.value.message


def test_the_emulator_ignores_proxies_and_certificates_of_the_environment(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    service = ServiceConfig(kind=Service.EMULATOR, base_url=url, api_version="v1beta")
    check_client(service, config_of(), "key")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("407 Proxy Authentication Required", JobRejected),
        ("403 Forbidden", Intercepted),
        ("502 Bad Gateway", Unavailable),
    ],
)
def test_the_answer_of_a_proxy_to_a_connection_is_classified(
    monkeypatch: pytest.MonkeyPatch, answer: str, kind: type[CallError]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reject() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(f"HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n".encode())

        thread = threading.Thread(target=reject)
        thread.start()
        proxy = f"http://me:secret@127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        error = failing(kind, "https://gemini.invalid")
        thread.join()
    assert "secret" not in error.message + repr(vars(error))


@pytest.mark.parametrize("length", [10**13, 10**19])
def test_no_memory_is_taken_for_a_body_that_only_its_header_promises(length: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def promise() -> None:
            connection, _ = listener.accept()
            with connection:
                request = b""
                while not _is_whole(request):
                    request += connection.recv(65536)
                connection.sendall(
                    f"HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{{".encode()
                )

        thread = threading.Thread(target=promise)
        thread.start()
        error = failing(Unavailable, f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert error.code == "connection"


def test_stalled_bodies_do_not_hold_up_others() -> None:
    lock, numbers, resume = threading.Lock(), itertools.count(), threading.Event()
    vectors = [{"values": [1.0] * 128} for _ in TEXTS]

    class Stalling(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            data = json.dumps({"embeddings": vectors}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:100])
            with lock:
                stalls = next(numbers) < BODIES_AT_ONCE
            if stalls:
                assert resume.wait(20)
            self.wfile.write(data[100:])

        def log_message(self, *_: object) -> None:
            pass

    async def calls(client: GeminiClient) -> None:
        texts = items(TEXTS, dim=128)
        stalled = [asyncio.create_task(client.embed(texts)) for _ in range(BODIES_AT_ONCE)]
        await asyncio.sleep(0.3)  # They are in their places.
        await client.embed(texts)
        assert not any(one.done() for one in stalled)
        resume.set()
        await asyncio.gather(*stalled)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    server.daemon_threads = True
    with in_thread(server):
        url = f"http://127.0.0.1:{server.server_port}"
        with_client(url, calls, timeout_s=15, connections=BODIES_AT_ONCE + 1, dim=128)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_an_answer_to_a_thread_is_read_whatever_its_header_says(encoding: str) -> None:
    plain = b'{"done": true}'

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = plain if encoding == "gzip" else gzip.compress(plain)
            self.send_response(200)
            self.send_header("content-encoding", encoding)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    with in_thread(server), AnswerKeeper(trust_env=False) as client, kept_answer() as kept:
        client.get(f"http://127.0.0.1:{server.server_port}/")
    assert kept[0].body == plain


def test_a_header_that_cannot_be_sent_is_an_error_and_is_not_shown(url: str) -> None:
    for key in ("AIza\nbroken", "AIza-kl\u00fcssel"):
        error = failing(JobRejected, url, key=key)
        assert error.code == "header"
        assert "AIza" not in error.message + repr(vars(error))


def test_the_request_has_the_documented_form_and_at_most_the_estimated_size(url: str) -> None:
    texts = [*TEXTS, "中" * 500, '"\\\n' * 100, "plain " * 50]
    sent = items(texts)
    with between(url) as server:
        with_client(
            f"http://127.0.0.1:{server.server_port}", lambda client: client.embed(sent),
            task_type=TaskType.RETRIEVAL_DOCUMENT, dim=768,
        )  # fmt: skip
        ((path, headers, body),) = server.seen
    assert path == "/v1beta/models/gemini-embedding-001:batchEmbedContents?prettyPrint=false"
    assert {name.lower(): value for name, value in headers.items()}["x-goog-api-key"] == "the-key"
    assert json.loads(body) == {
        "requests": [
            {
                "content": {"parts": [{"text": text}]},
                "taskType": "RETRIEVAL_DOCUMENT",
                "outputDimensionality": 768,
                "model": "models/gemini-embedding-001",
            }
            for text in texts
        ]
    }
    assert len(body) <= sum(len(json.dumps(one.text)) + REQUEST_BYTES for one in sent)


@pytest.mark.parametrize(
    ("model", "vertexai"),
    [("gemini-embedding-001", False), ("gemini-embedding-2", False), ("gemini-embedding-2", True)],
)
@pytest.mark.parametrize("texts", [TEXTS[:1], TEXTS])
def test_a_copied_request_equals_one_that_the_sdk_makes(
    url: str, model: str, vertexai: bool, texts: list[str]
) -> None:
    sent = items(texts, model=model)

    async def twice(client: GeminiClient) -> None:
        await client.embed(items(TEXTS[:1], model=model))
        await client.embed(items(TEXTS[1:3], model=model))
        await client.embed(sent)

    facts: dict[str, Any] = {"model": model, "vertexai": vertexai}
    with between(url) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        with_client(address, twice, **facts)
        with_client(address, lambda client: client.embed(sent), **facts)
    *_, copied, made = server.seen
    assert copied == made


def test_gemini_embedding_2_gets_neither_a_task_type_nor_a_title(url: str) -> None:
    with between(url) as server:
        facts: dict[str, Any] = {"model": "gemini-embedding-2", "has_titles": True}
        with_client(
            f"http://127.0.0.1:{server.server_port}",
            lambda client: client.embed(items(["x"], ["T"], **facts)), **facts,
        )  # fmt: skip
        ((_, _, body),) = server.seen
    assert json.loads(body)["requests"] == [
        {
            "content": {"parts": [{"text": "title: T | text: x"}]},
            "model": "models/gemini-embedding-2",
        }
    ]


async def checked_on_a_loop() -> None:
    check_client(ServiceConfig(base_url="http://127.0.0.1:9"), config_of(), "key")


def test_the_check_of_the_client_works_inside_a_running_event_loop() -> None:
    """The cells of a notebook run inside one."""
    asyncio.run(checked_on_a_loop())
