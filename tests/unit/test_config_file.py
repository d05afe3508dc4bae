from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from bulkembed.pipeline.cli.commands import usage_sentence
from bulkembed.pipeline.cli.run_command import run
from bulkembed.schemas.errors import ConfigError


def options(tmp_path: Path, text: str, *flags: str) -> dict[str, Any]:
    """Return the options of `bulkembed run --config FILE` for a file with that text."""
    file = tmp_path / "job.yaml"
    file.write_text(text, encoding="utf-8")
    args = ["--config", str(file), *flags]
    with run.make_context("run", args, auto_envvar_prefix="BULKEMBED_RUN") as ctx:
        return dict(ctx.params)


NEEDED = "input: a.parquet\noutput: out\n"


def test_the_file_takes_every_kind_of_option(tmp_path: Path) -> None:
    found = options(
        tmp_path,
        "input: [a.parquet, 'b/*.jsonl']\noutput: out\nrpm: 100\ntimeout: 2.5\n"
        "generate-ids: true\ntask-type: CLUSTERING\nkeep-columns: [a, b]\nunit_rows: 7\n"
        'text-template: "{title}\\n\\n{body}"\n',
    )
    assert found["patterns"] == ("a.parquet", "b/*.jsonl")
    assert (found["output"], found["rpm"], found["timeout_s"]) == ("out", 100, 2.5)
    assert (found["generate_ids"], found["task_type"]) == (True, "CLUSTERING")
    assert (found["keep_columns"], found["unit_rows"]) == ("a,b", 7)
    assert found["text_template"] == "{title}\n\n{body}"


@pytest.mark.parametrize(
    ("line", "expected"),
    [("normalize: false", False), ("no-normalize: true", False), ("normalize: true", True),
     ("no-normalize: false", True)],
)  # fmt: skip
def test_a_switch_can_be_written_in_both_ways(tmp_path: Path, line: str, expected: bool) -> None:
    assert options(tmp_path, NEEDED + line)["normalize"] is expected


def test_flags_override_the_environment_and_the_environment_overrides_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = NEEDED + "rpm: 1\ntpm: 1\nrpd: 1\n"
    monkeypatch.setenv("BULKEMBED_RUN_RPM", "2")
    monkeypatch.setenv("BULKEMBED_RUN_TPM", "2")
    found = options(tmp_path, text, "--rpm", "3", "--input", "c.parquet")
    assert (found["rpm"], found["tpm"], found["rpd"]) == (3, 2, 1)
    assert found["patterns"] == ("c.parquet",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (NEEDED + "rmp: 3", "unknown key 'rmp'. Did you mean rpm?"),
        (NEEDED + "zzzz: 3", "unknown key 'zzzz'. Allowed are"),
        (NEEDED + "config: other.yaml", "unknown key 'config'"),
        (NEEDED + "help: true", "unknown key 'help'"),
        ("- a\n- b\n", "invalid content. Write `option: value` lines"),
        ("just words", "invalid content. Write `option: value` lines"),
        ("a: [1,", "invalid YAML in line 1: "),
    ],
)
def test_unknown_keys_and_invalid_yaml_are_rejected(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(tmp_path, text)
    assert words in caught.value.message
    assert "job.yaml" in caught.value.message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dim: x", "--config {path}: dim: 'x' is not a whole number"),
        ("emulator: perhaps", "--config {path}: emulator: 'perhaps' is neither true nor false"),
    ],
)
def test_an_error_in_a_value_names_the_config_file(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        options(tmp_path, NEEDED + line)
    assert usage_sentence(caught.value) == message.format(path=tmp_path / "job.yaml")


def test_an_error_in_a_value_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BULKEMBED_RUN_DIM", "x")
    with pytest.raises(click.UsageError) as caught:
        options(tmp_path, NEEDED)
    assert usage_sentence(caught.value) == "BULKEMBED_RUN_DIM: 'x' is not a whole number"


@pytest.mark.parametrize("line", ["rpm: fast", "task-type: RETRIEVAL", "unit-rows: [1]"])
def test_a_value_of_the_wrong_type_is_a_usage_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(click.UsageError):
        options(tmp_path, NEEDED + line)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert options(tmp_path, "", "--input", "a", "--output", "b")["unit_rows"] == 2500


def test_the_error_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        run.make_context("run", ["--config", str(tmp_path / "none.yaml")])


def test_a_variable_of_a_repeatable_flag_holds_one_value_per_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BULKEMBED_RUN_OUTPUT", "out")
    for value, patterns in {
        "my shards/a.parquet": ("my shards/a.parquet",),
        "my shards/*.parquet\nb.jsonl\n": ("my shards/*.parquet", "b.jsonl"),
    }.items():
        monkeypatch.setenv("BULKEMBED_RUN_INPUT", value)
        with run.make_context("run", [], auto_envvar_prefix="BULKEMBED_RUN") as ctx:
            assert ctx.params["patterns"] == patterns
