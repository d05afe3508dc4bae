"""Input files whose names are no UTF-8, through whole runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import bulkembed, read, run

LATIN = b"caf\xe9.jsonl"
READABLE = "caf\\xe9.jsonl"


@pytest.fixture
def folder(tmp_path: Path) -> bytes:
    """A folder with a name that is no UTF-8, and in it two such files and one that looks so."""
    place = os.fsencode(tmp_path) + b"/in-\xff"
    Path(os.fsdecode(place)).mkdir()
    names = (LATIN, READABLE.encode(), b"plain.jsonl")
    for number, name in enumerate(names):
        row = b'{"id": %d, "text": "text %d"}\n' % (number, number)
        Path(os.fsdecode(place + b"/" + name)).write_bytes(row)
    return place


SOURCES = ["caf\\x5cxe9.jsonl", READABLE, "plain.jsonl"]


@pytest.mark.parametrize("pattern", [b"", b"/*.jsonl", b"/../*/*.jsonl"])
def test_files_whose_names_are_no_utf8_are_embedded_and_resumed(
    folder: bytes, tmp_path: Path, pattern: bytes
) -> None:
    source, output = os.fsdecode(folder + pattern), tmp_path / "out"
    ended = run(None, source, output, "--dim", 128)
    assert ended.code == 0, ended.err
    found = [name.removeprefix("in-\\xff/") for name in read(output)["source_file"].to_pylist()]
    assert found == SOURCES
    again = run(None, source, output, "--dim", 128, "--log-json")
    assert again.code == 0, again.err
    assert "0 texts" in again.out or json.loads(again.out.splitlines()[-1])["summary"]["run"]
    assert bulkembed("verify", output, "--against", source).code == 0
    assert bulkembed("verify", output, "--sample", 2).code == 0
    assert bulkembed("status", output, "--json").code == 0


def test_a_file_that_is_named_outright_and_a_file_uri_are_found(
    folder: bytes, tmp_path: Path
) -> None:
    path = os.fsdecode(folder + b"/" + LATIN)
    ended = run(None, path, tmp_path / "out", "--dim", 128, "--generate-ids")
    assert ended.code == 0, ended.err
    assert read(tmp_path / "out")["id"].to_pylist() == [f"{READABLE}#0"]
    uri = f"file://{os.fsdecode(os.fsencode(tmp_path))}/in-%FF/caf%E9.jsonl"
    again = run(None, uri, tmp_path / "out", "--dim", 128, "--generate-ids")
    assert again.code == 0, again.err
    assert "requests  0" in again.out


def test_a_bad_file_is_named_in_log_and_summary(folder: bytes, tmp_path: Path) -> None:
    Path(os.fsdecode(folder + b"/b\xe4d.parquet")).write_bytes(b"not parquet")
    for more in ((), ("--log-json",)):
        stopped = run(None, os.fsdecode(folder), tmp_path / "out", *more)
        assert stopped.code == 1
        assert "b\\xe4d.parquet" in stopped.err.replace("\\\\", "\\")
    ended = run(None, os.fsdecode(folder), tmp_path / "out", "--skip-bad-files", "--dim", 128)
    assert ended.code == 0, ended.err
    assert "b\\xe4d.parquet" in ended.out


def test_a_missing_path_and_an_output_that_are_no_utf8_are_rejected_in_words(
    folder: bytes, tmp_path: Path
) -> None:
    missing = run(None, os.fsdecode(folder + b"/n\xffne.jsonl"), tmp_path / "out")
    assert missing.code == 2
    assert "n\\xffne.jsonl: no such file" in missing.err
    rejected = run(None, os.fsdecode(folder), os.fsdecode(folder + b"/../o\xffut"))
    assert rejected.code == 2
    assert "o\\xffut is not UTF-8" in rejected.err


def test_the_command_itself_takes_such_a_name_in_a_plain_locale(
    folder: bytes, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "bulkembed", "run", "--emulator", "--dim", "128", "--output"]
    ended = subprocess.run(
        [*map(os.fsencode, command), os.fsencode(tmp_path / "out"), b"--input", folder],
        capture_output=True, timeout=120, env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert read(tmp_path / "out").num_rows == 3
