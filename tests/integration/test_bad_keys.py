"""An invalid key is an error before anything is sent; a valid key is never written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.cli import Ended, bulkembed, python, write_rows
from support.server_threads import in_thread

from bulkembed.emulator.server import EmulatorServer
from bulkembed.schemas.embedding import ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.secrets import forms_of
from bulkembed.transforms.clients.keys import find_key

pytestmark = pytest.mark.faults

BAD = {
    "line-break": "AIzaSyFirst0\nSecondHalf1",
    "carriage-return": "AIzaSyFirst0\rSecondHalf1",
    "crlf": "AIzaSyFirst0\r\nSecondHalf1\r\n",
    "not-ascii": "AIzaSyFirst0\u00fcSecondHalf1",
    "no-break-space-at-the-end": "AIzaSyFirst0SecondHalf1\u00a0",
    "blank": "AIzaSyFirst0 SecondHalf1",
    "json": json.dumps({"type": "service_account", "private_key": "AIzaSyFirst0SecondHalf1"}),
    "json-without-blanks": '{"private_key":"AIzaSyFirst0SecondHalf1"}',
    "json-of-lines": json.dumps({"private_key": "AIzaSyFirst0SecondHalf1"}, indent=2),
    "quotes": '"AIzaSyFirst0SecondHalf1"',
    "control": "AIzaSyFirst0\x07SecondHalf1",
}
GOOD = "AIzaSy-good+key/with=signs&0123456789"


def secret_in(*texts: str) -> list[str]:
    return re.findall("AIzaSyFirst0|SecondHalf1|private_key", "\n".join(texts))


def all_texts(folder: Path, shown: Ended, without: tuple[str, ...] = ()) -> list[str]:
    """Return what was shown and the contents of all files; tables as their rows."""
    texts = [shown.out, shown.err]
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            texts.append(
                str(
                    pq.read_table(path)
                    .drop_columns(["vector"] if "vectors" in str(path) else [])
                    .to_pylist()
                )
            )
        elif path.is_file() and path.name not in without:
            texts.append(path.read_bytes().decode(errors="replace"))
    return texts


@pytest.mark.parametrize("place", ["GOOGLE_API_KEY", "GEMINI_API_KEY", "file"])
@pytest.mark.parametrize("key", BAD.values(), ids=BAD)
def test_an_invalid_key_is_an_error_before_anything_is_sent_and_is_not_shown(
    key: str, place: str, tmp_path: Path, server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_rows(tmp_path / "a.parquet", ["a cat"])
    args = ["run", "--input", source, "--output", tmp_path / "out", "--base-url", server.url]
    if place == "file":
        (tmp_path / "key").write_bytes(key.encode())
        args += ["--api-key-file", tmp_path / "key"]
    else:
        monkeypatch.setenv(place, key)
    ended = bulkembed(*args)
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert ("--api-key-file" if place == "file" else place) in ended.err
    assert server.stats()["calls"] == 0
    assert secret_in(*all_texts(tmp_path, ended, without=("key",))) == []


@pytest.mark.parametrize("key", BAD.values(), ids=BAD)
def test_the_value_of_a_secret_is_checked_in_the_same_way(key: str) -> None:
    service = ServiceConfig(api_key_secret="projects/p/secrets/s")
    with pytest.raises(ConfigError, match="--api-key-secret projects/p/secrets/s") as caught:
        find_key(service, {}, secrets=lambda _: key)
    assert secret_in(str(caught.value), repr(caught.value)) == []


@pytest.mark.parametrize("key", ["AIzaSyFirst0SecondHalf1" * 2, BAD["json"]])
def test_a_key_instead_of_a_file_name_is_not_shown(key: str, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.parquet", ["a cat"])
    ended = bulkembed("run", "--input", source, "--output", tmp_path / "out", "--api-key-file", key)
    assert ended.code == 2
    assert secret_in(ended.err, ended.out) == []


class Echo:
    """A service that repeats the key, in several forms, in each of its errors."""

    def __init__(self, status: int) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                forms = " ".join(sorted(forms_of(self.headers["x-goog-api-key"])))
                error = {"code": status, "message": f"not so: {forms}", "status": "INTERNAL"}
                body = json.dumps({"error": error}).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(params=[400, 403, 500])
def echo(request: pytest.FixtureRequest) -> Iterator[Echo]:
    echo = Echo(request.param)
    with in_thread(echo.server):
        yield echo


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["here", "processes"])
def test_a_key_that_the_service_repeats_is_in_no_stream_and_no_file(
    workers: tuple[str, ...], echo: Echo, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(4)])
    ended = python(
        "-m", "bulkembed", "run", "--input", str(source), "--output", str(tmp_path / "out"),
        "--base-url", echo.url, "--retry-timeout", "2s", "--log-level", "debug", "--unit-rows", "2",
        *workers, GEMINI_API_KEY=GOOD, BULKEMBED_RUN_REPORT="1",
    )  # fmt: skip
    assert ended.code != 0
    assert "***" in ended.err
    written = "\n".join(all_texts(tmp_path, ended))
    assert not [form for form in forms_of(GOOD) if form in written]
