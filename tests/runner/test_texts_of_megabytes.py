"""Texts that are longer than any call can hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import bulkembed, dead_codes, read, run
from support.recorder import RecordingServer

from bulkembed.emulator.server import EmulatorServer
from bulkembed.transforms.core.hashing import text_hash

pytestmark = pytest.mark.faults

MOST_BODY = 4_194_304
LONG = {
    "words": "a word and another one " * 220_000,
    "one-word": "x" * 5_000_000,
    "chinese": "\u6f22" * 2_000_000,
    "emoji": "\U0001f600" * 1_300_000,
    "controls": "\x01" * 5_000_000,
    "spaces": "a" + " " * 5_000_000 + "b",
}


@pytest.mark.parametrize("model", ["gemini-embedding-001", "gemini-embedding-2"])
def test_a_text_of_megabytes_is_sent_as_far_as_the_model_can_read(
    tmp_path: Path, server: EmulatorServer, model: str
) -> None:
    source = tmp_path / "in.jsonl"
    rows = [{"id": name, "title": None, "text": text} for name, text in LONG.items()]
    rows.append({"id": "title", "title": "t" * 5_000_000, "text": "x" * 5_000_000})
    rows.append({"id": "short", "title": None, "text": "a word"})
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "out"
    flags = ("--dim", 128, "--model", model, "--title-column", "title")
    with RecordingServer(server.url) as recorder:
        ended = run(recorder.url, source, output, *flags)
    assert ended.code == 0, ended.err
    assert dead_codes(output) == {}
    assert max(recorder.sizes) <= MOST_BODY
    table = read(output)
    assert dict(zip(table["id"].to_pylist(), table["truncated"].to_pylist(), strict=True)) == {
        **dict.fromkeys(LONG, True),
        "title": True,
        "short": False,
    }
    if model == "gemini-embedding-001":
        # The hash is that of the whole text, so that another version finds the same.
        assert table["text_hash"].to_pylist()[0] == text_hash(None, LONG["words"])
        longest = next(text for text in recorder.texts if text.startswith("a word and"))
        assert LONG["words"].startswith(longest)
        assert len(longest) > 2048 * 100
    assert bulkembed("verify", output, "--against", source).code == 0


def test_a_text_of_megabytes_is_too_long_without_asking_the_service(
    tmp_path: Path, server: EmulatorServer
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(
        json.dumps({"id": 1, "text": LONG["words"]}) + "\n" + json.dumps({"id": 2, "text": "a"})
    )
    with RecordingServer(server.url) as recorder:
        flags = ("--dim", 128, "--long-text", "dead-letter")
        ended = run(recorder.url, source, tmp_path / "out", *flags)
    assert ended.code == 0, ended.err
    assert dead_codes(tmp_path / "out") == {0: "too_long"}
    assert recorder.texts == ["a"]


@pytest.mark.parametrize(
    ("line", "advised"), [("{broken", False), ('{"id": 3, "text": "poison"}', True)]
)
def test_a_retry_is_advised_only_where_it_can_help(
    tmp_path: Path, line: str, advised: bool
) -> None:
    from bulkembed.emulator.settings import EmulatorSettings

    source = tmp_path / "in.jsonl"
    source.write_text('{"id": 1, "text": "a"}\n' + line + "\n")
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        ended = run(server.url, source, tmp_path / "out", "--dim", 128)
    assert ended.code == 0, ended.err
    assert ("--retry-failed" in ended.out) is advised
    assert "see dead_letters/" in ended.out
