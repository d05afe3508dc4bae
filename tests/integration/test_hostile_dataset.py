"""A dataset is data from somebody else: what its `run.json` says sends no key to anybody."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.cli import bulkembed, run, write_rows
from support.server_threads import in_thread

from bulkembed.emulator.server import EmulatorServer
from bulkembed.schemas.embedding import Service, ServiceConfig, digest_of
from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.inputs.filesystems import names_a_host

KEY = "AIzaSy-the-key-of-the-victim"


class Stranger:
    """A server that is neither Google's nor named on the command line; keeps what it was sent."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        heard = self.heard

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard.append(str(self.headers))
                self.send_error(403)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.2", 0), Handler)

    @property
    def url(self) -> str:
        """By a name that is this machine, but not one of those that are taken for it."""
        return f"http://127.0.0.2:{self.server.server_port}"


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stranger]:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    server = Stranger()
    with in_thread(server.server):
        yield server


@pytest.fixture
def output(tmp_path: Path, server: EmulatorServer) -> Path:
    write_rows(tmp_path / "in/a.parquet", ["a cat", "a dog", "a bird"])
    ended = run(server.url, tmp_path / "in", tmp_path / "out", "--dim", 128)
    assert ended.code == 0, ended.err
    return tmp_path / "out"


def says(output: Path, **settings: Any) -> None:
    """Changes what the dataset says of its last run."""
    path = output / "_run/run.json"
    pinned = orjson.loads(path.read_bytes())
    pinned["settings"].update(settings)
    if "base_url" in settings:
        host = ServiceConfig(kind=Service.CUSTOM, base_url=settings["base_url"]).host
        pinned["embedding"]["service"] = f"custom:{host}"
        forge_digest(output, pinned)
    path.write_bytes(orjson.dumps(pinned))


def forge_digest(output: Path, pinned: dict[str, Any]) -> None:
    """Makes the digests fit what the dataset says now, as somebody who means harm would."""
    old, new = pinned["embedding_digest"], digest_of(pinned["embedding"])
    pinned["embedding_digest"] = new
    for record in list((output / "_run/units").iterdir()):
        forged = record.with_name(record.name.replace(old, new))
        forged.write_text(record.read_text().replace(old, new))
        record.unlink()


COMMANDS = (("search", "a cat"), ("verify", "--sample", 2))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_no_key_is_sent_to_a_host_that_only_the_dataset_names(
    command: tuple[object, ...], output: Path, stranger: Stranger
) -> None:
    says(output, base_url=stranger.url)
    ended = bulkembed(command[0], output, *command[1:])
    assert stranger.heard == []
    assert ended.code == 2
    assert f"--base-url {stranger.url}" in ended.err
    assert KEY not in ended.err + ended.out


def test_a_host_on_the_command_line_is_called(output: Path, stranger: Stranger) -> None:
    says(output, base_url=stranger.url)
    ended = bulkembed("search", output, "a cat", "--base-url", stranger.url)
    assert ended.code == 1
    assert KEY in stranger.heard[0]


def test_against_calls_nobody_and_so_needs_no_host(output: Path, stranger: Stranger) -> None:
    says(output, base_url=stranger.url)
    ended = bulkembed("verify", output, "--against", output.parent / "in")
    assert f"compared with {output.parent / 'in'} row by row" in ended.out
    assert stranger.heard == []


@pytest.mark.parametrize("name", ["api_key_file", "api_key_secret", "rate_limit_service"])
def test_sources_of_keys_and_other_hosts_are_never_taken_from_it(
    name: str, output: Path, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = output.parent / "private"
    private.write_text("a-private-file-of-the-victim")
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    value = {
        "api_key_file": str(private),
        "api_key_secret": "projects/p/secrets/s",
        "rate_limit_service": "127.0.0.2:9",
    }[name]
    says(output, **{name: value})
    ended = bulkembed("search", output, "a cat", "--json")
    assert ended.code == 0, ended.err


def test_a_project_and_a_region_are_not_taken_from_it_either(output: Path) -> None:
    says(output, base_url="https://us-central1-aiplatform.googleapis.com", vertexai=True,
         vertex_project="p", vertex_location="us-central1")  # fmt: skip
    ended = bulkembed("search", output, "a cat")
    assert ended.code == 2
    assert "--vertex-project" in ended.err


@pytest.mark.parametrize(
    "service",
    [
        {"vertex_project": "p", "vertex_location": "evil.example/x?"},
        {"vertex_project": "p/../..", "vertex_location": "us-central1"},
        {"api_version": "v1/../../x"},
    ],
    ids=["region", "project", "version"],
)
def test_what_stands_in_the_url_of_a_call_is_a_word(service: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        ServiceConfig(kind=Service.VERTEX, vertexai=True, **service)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "does"),
    [
        ("s3://bucket/in?endpoint_override=evil.example", True),
        ("gs://bucket/in?scheme=http", True),
        ("s3://bucket/in?region=us-east-1&endpoint_override=x", True),
        ("s3://bucket/in?region=evil.example/", True),
        ("az://c@a/in?blob_storage_authority=.evil.example", True),
        ("s3://bucket/in?region=us-east-1", False),
        ("s3://bucket/in/*.parquet", False),
        ("/data/what?.parquet", False),
        ("file:///data/what?x=1", False),
    ],
)
def test_a_store_is_named_by_its_host_through_options_only(pattern: str, does: bool) -> None:
    assert names_a_host(pattern) is does


def test_no_credentials_go_to_a_store_that_only_the_dataset_names(
    output: Path, stranger: Stranger
) -> None:
    host = stranger.url.removeprefix("http://")
    says(output, patterns=[f"s3://bucket/in?endpoint_override={host}&scheme=http"])
    ended = bulkembed("verify", output, "--sample", 2)
    assert (ended.code, stranger.heard) == (2, [])
    assert "--against" in ended.err


@pytest.mark.parametrize("command", [("status",), ("search", "a cat"), ("verify",)], ids=str)
def test_escape_sequences_of_a_dataset_do_not_reach_the_terminal(
    command: tuple[str, ...], tmp_path: Path, server: EmulatorServer
) -> None:
    write_rows(tmp_path / "in/a.parquet", ["a cat"], note=["\x1b]0;owned\x07\x9b31m"])
    output = tmp_path / "out\x1b[2J"
    assert run(server.url, tmp_path / "in", output, "--keep-columns", "note").code == 0
    (output / "vectors/\x1b[31m.parquet").write_bytes(b"")
    ended = bulkembed(command[0], output, *command[1:])
    assert not {"\x1b", "\x9b", "\x07"} & set(ended.out + ended.err)
