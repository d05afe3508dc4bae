from __future__ import annotations

from pathlib import Path

import pytest

from bulkembed.schemas.embedding import Service, ServiceConfig
from bulkembed.schemas.errors import ConfigError
from bulkembed.transforms.clients.keys import NO_KEY, find_key, mask, reject_in_flags

DEVELOPER = ServiceConfig()


def test_google_api_key_takes_precedence() -> None:
    both = {"GEMINI_API_KEY": "two", "GOOGLE_API_KEY": "one"}
    assert find_key(DEVELOPER, both) == ("one", "GOOGLE_API_KEY")
    assert find_key(DEVELOPER, {"GEMINI_API_KEY": " two\n"}) == ("two", "GEMINI_API_KEY")
    assert find_key(DEVELOPER, {**both, "GOOGLE_API_KEY": " "}) == ("two", "GEMINI_API_KEY")


def test_a_key_file_takes_precedence_over_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret\n")
    service = ServiceConfig(api_key_file=str(file))
    assert find_key(service, {"GOOGLE_API_KEY": "one"}) == ("secret", "--api-key-file")


def test_a_missing_key_is_an_error_with_its_cure() -> None:
    with pytest.raises(ConfigError, match=r"GEMINI_API_KEY or GOOGLE_API_KEY.*--api-key-file"):
        find_key(DEVELOPER, {})


@pytest.mark.parametrize("content", ["", "\n", "two words", "one\ntwo", "schlüssel"])
def test_a_file_without_a_key_is_an_error_that_does_not_show_it(
    tmp_path: Path, content: str
) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(ConfigError, match="nothing else") as caught:
        find_key(ServiceConfig(api_key_file=str(file)), {})
    assert not content.strip() or content not in caught.value.message


def test_a_missing_or_binary_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing: No such file"):
        find_key(ServiceConfig(api_key_file=str(tmp_path / "missing")), {})
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not a text file"):
        find_key(ServiceConfig(api_key_file=str(tmp_path / "binary")), {})


def test_a_local_server_and_the_emulator_need_no_key() -> None:
    here = ServiceConfig(kind=Service.CUSTOM, base_url="http://127.0.0.1:1")
    assert find_key(here, {}) == (NO_KEY, "no key needed")
    assert find_key(here, {"GEMINI_API_KEY": "k"})[0] == "k"
    assert find_key(ServiceConfig(kind=Service.EMULATOR), {"GEMINI_API_KEY": "k"})[0] == NO_KEY


def test_a_vertex_project_uses_no_key() -> None:
    service = ServiceConfig(vertexai=True, vertex_project="p", vertex_location="l")
    assert find_key(service, {"GOOGLE_API_KEY": "k"})[0] is None


def test_a_key_is_masked_in_the_text_of_others() -> None:
    assert mask("API key AIza-1 not valid", "AIza-1") == "API key *** not valid"
    assert mask("words", None) == mask("words", "") == mask("words", NO_KEY) == "words"


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(
            ['--environment_config={"command": "/boot", "env": {"GEMINI_API_KEY": "another"}}'],
            id="process",
        ),
        pytest.param(["--environment_options=process_variables=GOOGLE_API_KEY=x"], id="options"),
        pytest.param(["--parallelism=2", "--environment_config=AIza-the-key"], id="the-key-itself"),
    ],
)
def test_a_key_in_a_beam_flag_is_an_error_that_does_not_show_it(flags: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"--environment_\w+ after .*--api-key-secret") as caught:
        reject_in_flags(flags, "AIza-the-key")
    assert "AIza" not in caught.value.message
    assert "another" not in caught.value.message


def test_a_key_at_the_beginning_of_a_flag_is_not_shown_either() -> None:
    for flag in ("AIza-the-key", "--AIza-the-key=1"):
        with pytest.raises(ConfigError) as caught:
            reject_in_flags([flag], "AIza-the-key")
        assert "AIza" not in caught.value.message


def test_other_beam_flags_are_accepted() -> None:
    flags = ["--runner=FlinkRunner", '--environment_config={"command": "/boot"}']
    for key in (None, NO_KEY, "k", "AIza-the-key"):
        reject_in_flags(flags, key)
