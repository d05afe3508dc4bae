"""`bulkembed check`: against emulators that are as bulkembed assumes, and others."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from support.cli import Ended, bulkembed

from bulkembed.emulator.command import emulator, settings_from
from bulkembed.emulator.found_service import read_facts
from bulkembed.emulator.media_rules import TokenDetails, VertexBatch
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings, OverLimit
from bulkembed.pipeline.check.check import tried
from bulkembed.pipeline.check.checked_model import CheckedModel, FactNotes, ProbeResult
from bulkembed.pipeline.check.probe_calls import ProbeCalls
from bulkembed.pipeline.check.probes import Probe
from bulkembed.schemas.embedding import EmbeddingConfig, Service, ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.models import MODELS, ModelSpec, UnitLength
from bulkembed.schemas.service_check import ErrorWords

KEY = "a-key-of-some-length"
ONE = ("--model", "gemini-embedding-001")
MEDIA = ("--model", "gemini-embedding-2")


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)


def checked(server: EmulatorServer, *args: object) -> Ended:
    return bulkembed("check", "--base-url", server.url, *args)


def found_in(ended: Ended) -> dict[str, dict[str, Any]]:
    """Return the lines of `--json -` by name."""
    return {one["name"]: one for one in json.loads(ended.out)["assumptions"]}


def differing(ended: Ended) -> set[str]:
    return {name for name, one in found_in(ended).items() if one["verdict"] == "differs"}


def test_the_emulator_is_as_assumed() -> None:
    ended = bulkembed("check", "--emulator")
    assert ended.code == 0, ended.out
    *rows, _, total = ended.out.splitlines()
    assert total == f"{len(rows) - 1} assumptions: {len(rows) - 1} as assumed"
    assert len(rows) > 30
    place = rows[0].index("verdict")
    assert {row[place:].split("  ")[0] for row in rows[1:]} == {"as assumed"}
    assert ended.err.startswith(
        "bulkembed: sending 24 small requests to the emulator, which count as"
    )


def test_so_is_its_vertex_ai_also_if_a_request_may_have_only_one_content() -> None:
    for batch in (VertexBatch.SERVE, VertexBatch.MISSING):
        with EmulatorServer(EmulatorSettings(vertex_batch=batch)) as server:
            ended = checked(server, "--vertexai", "--json", "-", *ONE)
        assert (ended.code, differing(ended)) == (0, set())
        assert json.loads(ended.out)["facts"]["batches_texts"] is (batch is VertexBatch.SERVE)
        assert "too_long" not in ended.err


def test_the_announced_requests_are_those_that_are_sent(server: EmulatorServer) -> None:
    ended = checked(server, "--json", "-", *ONE)
    stats = server.stats()
    sent = json.loads(ended.out)["requests"]
    assert f"sending {sent} small requests" in ended.err
    about_jobs = sum(sum(answers.values()) for answers in stats["batch"]["calls"].values())
    assert stats["calls"] + about_jobs == sent
    counted = int(ended.err.split("about ")[1].split(" ")[0].replace(",", ""))
    assert stats["tokens"] <= counted


def changed(model: str, **facts: Any) -> ModelSpec:
    return dataclasses.replace(MODELS[model], **facts)


CHANGES = {
    "lengths": (
        {"models": (changed("gemini-embedding-001", unit_length=UnitLength.ALWAYS),)},
        {"lengths"}, ONE,
    ),
    "cap": ({"max_texts": 50}, {"too many texts"}, ONE),
    "no cap": (
        {"max_texts": 500, "models": (changed("gemini-embedding-001", max_texts=500),)},
        {"too many texts"}, ONE,
    ),
    "small bodies": ({"max_body_bytes": 100_000}, {"large body"}, ONE),
    "large bodies": (
        {
            "max_body_bytes": 10**8,
            "models": (changed("gemini-embedding-001", max_body_bytes=10**8),),
        },
        {"larger body"}, ONE,
    ),
    "long texts rejected": ({"long_text": OverLimit.REFUSE}, {"long text"}, MEDIA),
    "long texts of -001 rejected": ({"refuse_long": ("gemini-embedding-001",)}, {"long text"}, ONE),
    "no counts": ({"usage_metadata": False}, {"token count"}, ONE),
    "no details": ({"token_details": TokenDetails.NONE}, {"images"}, MEDIA),
    "blank texts": ({"blank_texts": True}, {"blank text"}, ONE),
    "task types of -2": (
        {"models": (changed("gemini-embedding-2", prefixes=None),)},
        {"task type"}, MEDIA,
    ),
    "no media": (
        {"models": (changed("gemini-embedding-2", takes_media=False),)},
        {"images"}, MEDIA,
    ),
    "words": (
        {
            "error_words": (
                ("model_gone", ErrorWords(400, "Which {model}?")),
                ("dim", ErrorWords(422, "Too wide.")),
            )
        },
        {"unknown model", "wrong dim"}, ONE,
    ),
    "always indented": ({"pretty": True}, {"prettyPrint=false"}, ONE),
    "no prettyPrint": ({"unknown_parameters": ("prettyPrint",)}, {"prettyPrint=false"}, ONE),
    "model gone": ({"retired": ("gemini-embedding-001",)}, {"vectors"}, ONE),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "differs", "args"), CHANGES.values(), ids=CHANGES)
def test_a_difference_is_found_and_the_emulator_can_show_it_again(
    changes: dict[str, Any], differs: set[str], args: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "found.json"
    with EmulatorServer(EmulatorSettings(**changes)) as server:
        first = checked(server, "--json", file, *args)
    assert first.code == 1
    assert "Open an issue" in first.out
    report = json.loads(file.read_text())
    found = {one["name"]: one for one in report["assumptions"]}
    assert {name for name, one in found.items() if one["verdict"] == "differs"} >= differs

    context = emulator.make_context("emulator", ["--as", str(file)])
    with EmulatorServer(settings_from(context.params)) as server:
        again = checked(server, "--json", "-", *args)
    assert again.code == 1
    assert {name: one["verdict"] for name, one in found_in(again).items()} == {
        name: one["verdict"] for name, one in found.items()
    }
    for name in differs:
        assert found_in(again)[name] == found[name]


def test_a_file_of_what_is_as_assumed_changes_no_answer(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    first = bulkembed("check", "--emulator", "--json", file)
    context = emulator.make_context("emulator", ["--as", str(file)])
    with EmulatorServer(settings_from(context.params)) as server:
        again = checked(server)
    assert (first.code, again.code) == (0, 0)
    assert again.out == first.out


def test_options_take_precedence_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    with EmulatorServer(EmulatorSettings(max_texts=50, usage_metadata=False)) as server:
        checked(server, "--json", file, *ONE)
    context = emulator.make_context("emulator", ["--as", str(file), "--max-texts", "20"])
    settings = settings_from(context.params)
    assert (settings.max_texts, settings.usage_metadata) == (20, False)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}'])
def test_another_file_is_an_error_that_names_it(content: str, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"other\.json: this is no file of `bulkembed check"):
        read_facts(str(file))
    with pytest.raises(ConfigError, match=r"none\.json: No such file"):
        read_facts(str(tmp_path / "none.json"))


def test_a_status_that_is_no_rejection_is_an_error(server: EmulatorServer, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    checked(server, "--json", file, *ONE)
    file.write_text(file.read_text().replace('"status": 404', '"status": 9999', 1))
    with pytest.raises(ConfigError, match=r"facts\.errors\.model_gone\.status is 9999\. Use 400"):
        read_facts(str(file))


def test_a_file_of_a_later_format_is_an_error(server: EmulatorServer, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    checked(server, "--json", file, *ONE)
    file.write_text(file.read_text().replace('"format": 1', '"format": 2', 1))
    with pytest.raises(ConfigError, match="it has format 2, and this version reads 1"):
        read_facts(str(file))


def test_the_table_is_shown_although_the_file_cannot_be_written(
    server: EmulatorServer, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    ended = checked(server, "--json", full, *ONE)
    assert ended.code == 1
    assert "19 assumptions: 19 as assumed" in ended.out
    assert f"--json {full} cannot be written: No space left on device" in ended.err
    assert full.is_symlink()


def test_a_limit_that_several_429s_name_is_shown_once() -> None:
    with EmulatorServer(EmulatorSettings(rpm=7)) as server:
        ended = checked(server, *ONE)
    limits = [line for line in ended.out.splitlines() if "the quota was exceeded" in line]
    assert 1 <= len(limits) == len(set(limits))


def test_a_probe_that_fails_does_not_end_the_others() -> None:
    script = ("ok", "400", "short", "503", "ok", "503", "503")
    with EmulatorServer(EmulatorSettings(script=script)) as server:
        ended = checked(server, "--json", "-", *ONE)
    found = found_in(ended)
    verdicts = [one["verdict"] for one in found.values()]
    assert ended.code == 1
    assert found["SDK"]["verdict"] == found["dims"]["verdict"] == "differs"
    assert found["dims"]["found"] == "the answer has 0 embeddings for 1 texts"
    assert found["task types"]["verdict"] == "as assumed"
    assert found["long text"]["verdict"] == "not checked"
    assert verdicts.count("not checked") == 2
    assert verdicts[-1] == "as assumed"
    assert found["unknown model"]["verdict"] == "as assumed"


def test_a_429_is_kept_with_the_limit_that_it_names() -> None:
    with EmulatorServer(EmulatorSettings(tpm=2_000)) as server:
        ended = checked(server, "--json", "-", *ONE)
        shown = checked(server, *ONE)
    assert ended.code == 75
    long_text = found_in(ended)["long text"]
    assert long_text["verdict"] == "not checked"
    (limit,) = json.loads(ended.out)["limits"]
    assert limit["value"] == 2_000
    assert "InputTokensPerMinute" in limit["quota_id"]
    assert f"the quota was exceeded: {limit['quota_id']} of 2,000" in shown.out


def test_a_closed_batch_mode_is_as_assumed_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    with EmulatorServer(EmulatorSettings(free_tier=True)) as server:
        ended = checked(server, "--json", file, *ONE)
    assert ended.code == 0
    assert "closed: 429" in ended.out
    assert settings_from(emulator.make_context("emulator", ["--as", str(file)]).params).free_tier


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"api_key": "another-key"}, 1, "API key not valid"),
        ({"no_access": True}, 1, "has no quota for this model"),
        ({"rpd": 1}, 75, "You exceeded your current quota"),
        ({"script": ("page-403",)}, 1, "a page instead of JSON"),
    ],
)
def test_without_access_there_is_one_line_and_no_table(
    settings: dict[str, Any], code: int, words: str
) -> None:
    with EmulatorServer(EmulatorSettings(**settings)) as server:
        ended = checked(server)
    assert (ended.code, ended.out) == (code, "")
    price, line = ended.err.splitlines()
    assert "sending" in price
    assert words in line
    assert KEY not in ended.err


def test_without_a_network_there_is_one_line_and_an_earlier_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    file.write_text("earlier")
    ended = bulkembed("check", "--base-url", "http://127.0.0.1:1", "--json", file)
    assert list(tmp_path.iterdir()) == [file]
    assert (ended.code, ended.out, file.read_text()) == (75, "", "earlier")
    assert ended.last.startswith("bulkembed: no answer from the service: ConnectError")


def test_wrong_use_ends_with_2_and_sends_nothing(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = checked(server, "--model", "my-model")
    assert (ended.code, ended.out) == (2, "")
    assert "--model my-model: bulkembed assumes nothing about" in ended.err
    assert bulkembed("check", "--model", "text-embedding-005").code == 2
    monkeypatch.delenv("GEMINI_API_KEY")
    ended = bulkembed("check")
    assert (ended.code, ended.last[:22]) == (2, "bulkembed: no API key.")
    assert server.stats()["calls"] == 0


def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_sent(
    server: EmulatorServer, tmp_path: Path
) -> None:
    ended = checked(server, "--json", tmp_path / "none/found.json", *ONE)
    assert (ended.code, ended.out) == (1, "")
    assert "found.json cannot be written: No such file or directory" in ended.last
    assert server.stats()["calls"] == 0


def test_the_key_is_in_nothing_that_is_kept(server: EmulatorServer, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    ended = checked(server, "--json", file, *ONE)
    assert KEY not in file.read_text() + ended.out + ended.err


def test_the_price_is_said_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    ended = bulkembed("check")
    assert ended.code == 75
    price, _ = ended.err.splitlines()
    assert price == (
        "bulkembed: sending 24 small requests to the Developer API, at a list price of at most "
        "0.005 USD"
    )


def test_what_google_genai_does_not_send_is_not_checked(server: EmulatorServer) -> None:
    def refuse(_: CheckedModel) -> ProbeResult:
        raise ValueError("this method is only supported in Vertex AI")

    service = ServiceConfig(kind=Service.CUSTOM, base_url=server.url, api_version="v1beta")
    calls = ProbeCalls(service, EmbeddingConfig("custom", "gemini-embedding-001"), KEY)
    model = CheckedModel(calls, "gemini-embedding-001", FactNotes())
    line = tried(Probe("batch mode", lambda _: "open", refuse), model)
    calls.close()
    assert (line.verdict, line.found) == (
        "not checked", "this method is only supported in Vertex AI",
    )  # fmt: skip
