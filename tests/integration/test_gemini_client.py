"""The client against a server on loopback: every model, both ways of calling, every failure."""

from __future__ import annotations

import asyncio
import datetime as dt
import http.server
import ipaddress
import json
import ssl
import threading
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from support.cli import asked_alone
from support.jobs import item

from emulator.server import EmulatorServer
from emulator.settings import EmulatorSettings
from schemas.embedding import EmbeddingConfig, LongText, Service, ServiceConfig
from schemas.errors import BadAnswer, CallError, CallRefused, JobRefused, QuotaExceeded, Unavailable
from schemas.models import MODELS, TaskStyle, TaskType
from transforms.clients.decode import Answer
from transforms.clients.gemini import GeminiClient
from transforms.core.packing import REQUEST_BYTES, TextItem
from transforms.core.prompts import as_sent

T = TypeVar("T")
TEXTS = ["I took my dog to the vet", "Shares fell", "Ein Satz über Äpfel", "\U0001f600"]
DEVELOPER = [name for name, spec in MODELS.items() if not spec.vertex_only]
WAYS = [(name, False) for name in DEVELOPER] + [(name, True) for name in MODELS]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with EmulatorServer() as server:
        yield server.url


def with_client(
    url: str, work: Callable[[GeminiClient], Awaitable[T]], *,
    vertexai: bool = False, key: str = "the-key", timeout_s: float = 60.0, **embedding: Any,
) -> T:  # fmt: skip
    service = ServiceConfig(
        kind=Service.CUSTOM, base_url=url, vertexai=vertexai, timeout_s=timeout_s,
        api_version="v1beta1" if vertexai else "v1beta",
    )  # fmt: skip
    config = config_of(**embedding)

    async def go() -> T:
        client = GeminiClient(service, config, key, connections=4)
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(go())


def config_of(**embedding: Any) -> EmbeddingConfig:
    return EmbeddingConfig(**{"service": "custom", "model": "gemini-embedding-001", **embedding})


def items(texts: list[str], titles: list[str | None] | None = None, **facts: Any) -> list[TextItem]:
    sent = [
        as_sent(config_of(**facts), title, text)
        for title, text in zip(titles or [None] * len(texts), texts, strict=True)
    ]
    return [item(text, index, title) for index, (title, text) in enumerate(sent)]


def embed(
    url: str, texts: list[str], titles: list[str | None] | None = None, **facts: Any
) -> Answer:
    embedding = {k: v for k, v in facts.items() if k in ("model", "dim", "task_type")}
    return with_client(url, lambda client: client.embed(items(texts, titles, **embedding)), **facts)


@pytest.mark.parametrize(("model", "vertexai"), WAYS)
def test_every_model_gives_a_vector_a_text_that_is_the_one_of_that_text_alone(
    url: str, model: str, vertexai: bool
) -> None:
    together = embed(url, TEXTS, model=model, vertexai=vertexai)
    assert together.vectors.shape == (len(TEXTS), MODELS[model].default_dim)
    assert together.tokens is not None
    alone = [embed(url, [text], model=model, vertexai=vertexai) for text in TEXTS]
    assert np.array_equal(together.vectors, np.concatenate([one.vectors for one in alone]))
    assert together.tokens == sum(one.tokens or 0 for one in alone)
    assert len(np.unique(together.vectors, axis=0)) == len(TEXTS)


@pytest.mark.parametrize("model", ["embedding-001", "gemini-embedding-001", "gemini-embedding-2"])
@pytest.mark.parametrize("task_type", TaskType)
def test_each_task_type_is_sent_as_the_model_wants_it(
    url: str, model: str, task_type: TaskType
) -> None:
    found = embed(url, TEXTS[:2], model=model, task_type=task_type).vectors
    prefixed = MODELS[model].task_style is TaskStyle.PREFIX
    sent = items(TEXTS[:1], model=model, task_type=task_type)[0].text
    alone = asked_alone(url, sent, model, taskType=None if prefixed else str(task_type))
    assert np.array_equal(found[0], alone)


def test_titles_of_one_call_are_each_texts_own(url: str) -> None:
    found = embed(url, ["x", "x", "x"], ["Cats", "Banks", None]).vectors
    for row, title in enumerate(("Cats", "Banks", None)):
        assert np.array_equal(found[row], asked_alone(url, "x", title=title))


@pytest.mark.parametrize("vertexai", [False, True])
@pytest.mark.parametrize("model", ["gemini-embedding-001", "gemini-embedding-2"])
def test_a_shorter_dim_is_asked_for(url: str, model: str, vertexai: bool) -> None:
    found = embed(url, TEXTS, model=model, dim=768, vertexai=vertexai).vectors
    assert found.shape == (4, 768)


@pytest.mark.parametrize("model", ["text-embedding-005", "gemini-embedding-001"])
def test_vertex_cuts_long_texts_unless_it_is_told_not_to(url: str, model: str) -> None:
    long = ["word " * 3000]
    cut = embed(url, long, model=model, vertexai=True)
    assert cut.truncated == (True,)
    with pytest.raises(CallRefused) as caught:
        embed(url, long, model=model, vertexai=True, long_text=LongText.DEAD_LETTER)
    assert caught.value.facts["code"] == "too_long"


@pytest.mark.parametrize("vertexai", [False, True])
def test_tokens_are_counted_by_the_service(url: str, vertexai: bool) -> None:
    count = with_client(url, lambda client: client.count_tokens(TEXTS[0]), vertexai=vertexai)
    assert count == embed(url, TEXTS[:1]).tokens


@contextmanager
def served(**settings: Any) -> Iterator[EmulatorServer]:
    with EmulatorServer(EmulatorSettings(**settings)) as server:
        yield server


def failing(kind: type[CallError], url: str, **facts: Any) -> CallError:
    with pytest.raises(kind) as caught:
        embed(url, TEXTS, **facts)
    assert type(caught.value) is kind
    return caught.value


@pytest.mark.parametrize("vertexai", [False, True])
def test_a_wrong_key_refuses_the_job_and_is_not_shown(vertexai: bool) -> None:
    with served(api_key="right") as server:
        error = failing(JobRefused, server.url, key="AIza-wrong", vertexai=vertexai)
        assert error.facts["code"] == "key"
        assert "AIza-wrong" not in str(error) + repr(error.facts)
        assert embed(server.url, TEXTS, key="right").vectors.shape == (4, 3072)


def test_a_model_that_is_gone_names_its_successor() -> None:
    with served(retired=("embedding-001", "gemini-embedding-2-preview")) as server:
        error = failing(JobRefused, server.url, model="embedding-001")
        assert error.http_status == 404
        assert "--model gemini-embedding-001" in error.message
        error = failing(JobRefused, server.url, model="gemini-embedding-2-preview")
        assert "--model gemini-embedding-2 " in error.message


def test_each_status_becomes_the_error_that_says_what_it_is_about() -> None:
    for fault in ("500", "503", "504"):
        with served(script=(fault,)) as server:
            assert failing(Unavailable, server.url).http_status == int(fault)
    with served(rpm=2) as server:
        error = failing(QuotaExceeded, server.url)
        words: Any = error.facts["quota"]
        assert words.quota_value == 2
        assert words.delay_s is not None
    with served(no_access=True) as server:
        assert failing(JobRefused, server.url).facts["code"] == "no_quota"
    with served(max_texts=3) as server:
        assert failing(CallRefused, server.url).facts["most_texts"] == 3
    with served(poison="Shares") as server:
        assert failing(CallRefused, server.url).http_status == 400
    with served(max_body_bytes=300) as server:
        assert failing(CallRefused, server.url).facts["code"] == "payload"


@pytest.mark.parametrize(
    ("fault", "code"),
    [("short", "count"), ("broken-json", "json"), ("wrong-dim", "dim"), ("null", "values")],
)
def test_an_answer_that_is_wrong_is_a_bad_answer(fault: str, code: str) -> None:
    for vertexai in (False, True):
        with served(script=(fault,)) as server:
            assert failing(BadAnswer, server.url, vertexai=vertexai).facts["code"] == code


def test_a_call_that_hangs_ends_by_its_time_out_and_a_reset_is_no_answer() -> None:
    with served(script=("hang",)) as server:
        assert failing(Unavailable, server.url, timeout_s=0.3).facts["code"] == "timeout"
    with served(script=("reset",)) as server:
        assert failing(Unavailable, server.url).facts["code"] == "connection"
    assert failing(Unavailable, server.url).facts["code"] == "connection"


def test_the_environment_cannot_turn_a_developer_into_a_vertex_call(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    monkeypatch.setenv("GOOGLE_API_KEY", "other")
    assert embed(url, TEXTS).vectors.shape == (4, 3072)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Hands what comes on to another server, or answers by itself; keeps the requests."""

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
    """A server that keeps what it sees and hands it on to the target."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.seen, server.target, server.daemon_threads = [], target, True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_http_proxy_is_honoured(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with between(url) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.server_port}")
        assert embed("http://embeddings.invalid", TEXTS).vectors.shape == (4, 3072)
        ((path, _, _),) = proxy.seen
        assert path.startswith("http://embeddings.invalid/v1beta/models/")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert embed(url, TEXTS).vectors.shape == (4, 3072)
        assert len(proxy.seen) == 1


def _certificate(folder: Path) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a private authority")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "ca.pem", folder / "key.pem"


def test_a_private_authority_is_trusted_by_ssl_cert_file_and_only_then(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with between(url, context) as server:
        secure = f"https://127.0.0.1:{server.server_port}"
        assert failing(Unavailable, secure).facts["code"] == "connection"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert embed(secure, TEXTS).vectors.shape == (4, 3072)


def test_the_request_is_the_one_of_the_handbook_and_no_larger_than_was_reckoned(url: str) -> None:
    texts = [*TEXTS, "中" * 500, '"\\\n' * 100, "plain " * 50]
    sent = items(texts)
    with between(url) as server:
        with_client(
            f"http://127.0.0.1:{server.server_port}", lambda client: client.embed(sent),
            task_type=TaskType.RETRIEVAL_DOCUMENT, dim=768,
        )  # fmt: skip
        ((path, headers, body),) = server.seen
    assert path == "/v1beta/models/gemini-embedding-001:batchEmbedContents"
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


def test_gemini_embedding_2_is_never_sent_a_task_type_nor_a_title(url: str) -> None:
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


def test_many_calls_at_once_each_get_their_own_answer(url: str) -> None:
    texts = [f"text {n}" for n in range(24)]

    async def all_at_once(client: GeminiClient) -> list[Answer]:
        return await asyncio.gather(*(client.embed([item(text)]) for text in texts))

    found = with_client(url, all_at_once, dim=128)
    for text, answer in zip(texts, found, strict=True):
        assert np.array_equal(answer.vectors[0], asked_alone(url, text, outputDimensionality=128))
