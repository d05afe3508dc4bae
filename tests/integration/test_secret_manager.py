"""A key from Secret Manager, read from a server that answers like it."""

from __future__ import annotations

import base64
import http.server
import json
from collections.abc import Iterator

import pytest
import requests
from support.server_threads import in_thread

from bulkembed.schemas.embedding import ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.clients.keys import find_key, read_secret

NAME = "projects/p/secrets/gemini"


class SecretServer(http.server.ThreadingHTTPServer):
    """Answers each GET with `status` and `content`, and keeps the paths of the requests."""

    status = 200
    content: object = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(http.server.BaseHTTPRequestHandler):
    server: SecretServer

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps(self.server.content).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def secrets() -> Iterator[SecretServer]:
    server = SecretServer()
    with in_thread(server):
        yield server


def payload(data: bytes) -> object:
    return {"name": f"{NAME}/versions/3", "payload": {"data": base64.b64encode(data).decode()}}


def read(server: SecretServer, name: str = NAME) -> str:
    with requests.Session() as session:
        return read_secret(name, session, server.url)


def test_the_latest_version_is_read_unless_one_is_named(secrets: SecretServer) -> None:
    secrets.content = payload(b"the-key\n")
    assert read(secrets) == read(secrets, f"{NAME}/versions/3") == "the-key\n"
    assert secrets.paths == [
        f"/v1/{NAME}/versions/latest:access",
        f"/v1/{NAME}/versions/3:access",
    ]


def test_the_error_for_denied_access_names_the_missing_role(secrets: SecretServer) -> None:
    secrets.status = 403
    with pytest.raises(ConfigError, match=r"gemini: HTTP 403\. .*Secret Accessor"):
        read(secrets)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({}, id="no-payload"),
        pytest.param([], id="a-list"),
        pytest.param(payload(b"\xff\xfe"), id="no-text"),
        pytest.param({"payload": {"data": "!"}}, id="no-base64"),
    ],
)
def test_an_answer_without_a_text_is_an_error(secrets: SecretServer, content: object) -> None:
    secrets.content = content
    with pytest.raises(ConfigError, match="has no text"):
        read(secrets)


def test_the_error_for_an_unreachable_server_is_one_sentence() -> None:
    with requests.Session() as session, pytest.raises(ConfigError, match="ConnectionError"):
        read_secret(NAME, session, "http://127.0.0.1:1")


def test_without_google_credentials_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/not/there.json")
    with pytest.raises(ConfigError, match="DefaultCredentialsError"):
        find_key(ServiceConfig(api_key_secret=NAME), {"GEMINI_API_KEY": "another"})


@pytest.mark.parametrize("name", ["AIzaSy-a-key", "projects/p", "projects/p/secrets/a b", ""])
def test_an_invalid_secret_name_is_an_error_that_does_not_show_it(name: str) -> None:
    with pytest.raises(ConfigError, match="projects/PROJECT/secrets/NAME") as caught:
        ServiceConfig(api_key_secret=name)
    assert not name or name not in caught.value.message


def test_a_key_file_and_a_secret_are_an_error() -> None:
    with pytest.raises(ConfigError, match="not both"):
        ServiceConfig(api_key_secret=NAME, api_key_file="key")
