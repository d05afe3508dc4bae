r"""Texts made of several columns, as they are sent: `\n` is a line break however it is typed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import bulkembed, dead_codes, process, read, run
from support.recorder import RecordingServer

from bulkembed.emulator.server import EmulatorServer

TYPED = r"{title}\n\n{body}"
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def recorder(server: EmulatorServer) -> Iterator[RecordingServer]:
    with RecordingServer(server.url) as recording:
        yield recording


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"id": 1, "title": "A dog", "body": "It barks."}) + "\n")
    return path


def make_old(output: Path) -> None:
    """Pin the template as versions that did not decode it did: as it was typed."""
    path = output / "_run/run.json"
    pinned = json.loads(path.read_text())
    pinned["settings"]["text_template"] = pinned["layout"]["text"]
    path.write_text(json.dumps(pinned))


def test_readmes_example_sends_line_breaks_when_it_is_typed_in_bash(
    workplace: Path, at_home: dict[str, str], recorder: RecordingServer
) -> None:
    (example,) = re.findall(
        r"```bash\n[^`]*(bulkembed run [^`]*--text-template[^`]*)```", README.read_text()
    )
    assert shlex.split(example)[shlex.split(example).index("--text-template") + 1] == TYPED
    at_home["GOOGLE_GEMINI_BASE_URL"] = recorder.url
    ended = process("bash", "-c", example, cwd=workplace, **at_home)
    assert ended.code == 0, ended.err
    assert recorder.texts == [f"title {n}\n\nbody {n}" for n in range(3)]


def test_every_way_to_write_a_template_sends_the_same_text(
    source: Path, tmp_path: Path, recorder: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "job.yaml"

    def sent(name: str, *args: object) -> bytes:
        ended = run(recorder.url, source, tmp_path / name, "--dim", 128, *args)
        assert ended.code == 0, ended.err
        return bytes(read(tmp_path / name)["text_hash"].to_pylist()[0])

    hashes = [sent("flag", "--text-template", TYPED)]
    hashes.append(sent("ansi-c", "--text-template", "{title}\n\n{body}"))
    for name, line in (("single", f"'{TYPED}'"), ("double", f'"{TYPED}"'), ("plain", TYPED)):
        config.write_text(f"text-template: {line}\n" if name != "plain" else "dim: 128\n")
        more = () if name != "plain" else ("--text-template", TYPED)
        hashes.append(sent(name, "--config", config, *more))
    config.write_text("text-template: |-\n  {title}\n\n  {body}\n")
    hashes.append(sent("block", "--config", config))
    monkeypatch.setenv("BULKEMBED_RUN_TEXT_TEMPLATE", TYPED)
    hashes.append(sent("environment"))
    assert len(set(hashes)) == 1
    assert recorder.texts == ["A dog\n\nIt barks."] * len(hashes)


def test_two_backslashes_become_one_and_tabs_are_decoded(
    source: Path, tmp_path: Path, recorder: RecordingServer
) -> None:
    ended = run(recorder.url, source, tmp_path / "out", "--text-template", r"{title}\t\\n\r{body}")
    assert ended.code == 0, ended.err
    assert recorder.texts == ["A dog\t\\n\rIt barks."]


@pytest.mark.parametrize(
    ("typed", "cure"), [(r"{title}\d{body}", r"'\\d'"), ("{title} \\", "'\\\\'")]
)
def test_an_unknown_escape_is_rejected_with_the_correct_form(
    source: Path, tmp_path: Path, typed: str, cure: str
) -> None:
    ended = run(None, source, tmp_path / "out", "--text-template", typed)
    assert ended.code == 2
    assert cure in ended.last
    assert r"\n (line break)" in ended.last


def test_rows_whose_template_fields_are_all_blank_are_skipped_and_not_sent(
    tmp_path: Path, recorder: RecordingServer
) -> None:
    rows = [
        {"id": 0, "title": "", "body": None},
        {"id": 1, "title": " \n", "body": "\t"},
        {"id": 2},
        {"id": 3, "title": " ", "body": "words"},
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    template = r"Title: {title}\n{body}"
    ended = run(recorder.url, source, tmp_path / "out", "--text-template", template)
    assert ended.code == 0, ended.err
    assert recorder.texts == ["Title:  \nwords"]
    assert dead_codes(tmp_path / "out") == dict.fromkeys(range(3), "blank_text")


def test_a_dataset_from_before_escapes_were_decoded_is_rejected_warned_about_and_can_be_resumed(
    source: Path, tmp_path: Path, recorder: RecordingServer
) -> None:
    output, twice = tmp_path / "out", TYPED.replace("\\", "\\\\")
    assert run(recorder.url, source, output, "--text-template", twice).code == 0
    assert recorder.texts == [r"A dog\n\nIt barks."]
    make_old(output)

    status = bulkembed("status", output)
    assert "did not decode" in status.out
    assert "--output" in status.out
    assert "did not decode" in json.loads(bulkembed("status", output, "--json").out)["warning"]

    again = run(recorder.url, source, output, "--text-template", TYPED)
    assert again.code == 2
    assert "did not decode" in again.last
    assert "--overwrite" in again.last
    assert f"--text-template '{twice}'" in again.last

    # The same input, read by what is pinned, has the texts that were embedded.
    verified = bulkembed("verify", output, "--against", source)
    assert verified.code == 0, verified.out

    with source.open("a") as lines:
        lines.write(json.dumps({"id": 2, "title": "A cat", "body": "It purrs."}) + "\n")
    goes_on = run(recorder.url, source, output, "--text-template", twice)
    assert goes_on.code == 0, goes_on.err
    assert "did not decode" in goes_on.err
    assert recorder.texts[1:] == [r"A cat\n\nIt purrs."]


def test_a_dataset_with_line_breaks_causes_no_message(
    source: Path, tmp_path: Path, recorder: RecordingServer
) -> None:
    output = tmp_path / "out"
    assert run(recorder.url, source, output, "--text-template", TYPED).code == 0
    assert "did not decode" not in bulkembed("status", output).out
    assert json.loads(bulkembed("status", output, "--json").out)["warning"] is None
    assert bulkembed("verify", output, "--against", source).code == 0
    again = run(recorder.url, source, output, "--text-template", "{title}\n\n{body}")
    assert again.code == 0, again.err
    assert len(recorder.texts) == 1
