from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
import pytest

from bulkembed.pipeline.cli.commands import (
    BEAM_ARGS,
    ByteSize,
    Duration,
    IsoDate,
    WordChoice,
    usage_sentence,
)
from bulkembed.pipeline.cli.options import OPTIONS
from bulkembed.pipeline.cli.pinned_run import request_of
from bulkembed.pipeline.cli.run_command import request_from, run
from bulkembed.schemas.embedding import LongText, Service
from bulkembed.schemas.errors import ConfigError
from bulkembed.schemas.models import TaskType
from dataflow.launch import command

NEEDED = ("--input", "a.parquet", "--output", "out")
FLAGS = sorted({flag for option in OPTIONS for flag in (*option.opts, *option.secondary_opts)})


def options(*flags: str) -> dict[str, Any]:
    with run.make_context("run", [*NEEDED, *flags]) as ctx:
        return dict(ctx.params)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.opts[0])
def test_every_flag_has_a_help_text_and_is_a_key_of_the_config_file(
    option: click.Option, tmp_path: Path
) -> None:
    assert option.help
    if option.name == "config":
        return
    value = option.default
    if isinstance(option.type, WordChoice):
        value = str(next(iter(option.type.words)))
    elif isinstance(option.type, ByteSize | IsoDate):
        value = _other_value(option)
    elif not isinstance(value, str | bool | int | float):
        value = "1"
    for flag in (*option.opts, *option.secondary_opts):
        file = tmp_path / "job.yaml"
        file.write_text(f"{flag.removeprefix('--')}: {str(value) or 'x'}\n")
        needed = ["--config", str(file)]
        needed += ["--input", "a"] if option.name != "patterns" else []
        needed += ["--output", "b"] if option.name != "output" else []
        with run.make_context("run", needed) as ctx:
            assert str(option.name) in ctx.params


EXPECTED_FLAGS = """
--input --output --id-column --text-column --text-template --title-column --keep-columns
--generate-ids --id-type --format --skip-bad-files --model --task-type --dim --normalize
--no-normalize --vector-type --vector-encoding --base-url --api-version --timeout --vertexai
--vertex-project --vertex-location --api-key-file --rpm --tpm --rpd --concurrency --unit-rows
--limit-rows --config --log-level --long-text --blank-text --runner
"""


def test_the_flags_that_users_depend_on_exist() -> None:
    assert set(EXPECTED_FLAGS.split()) <= set(FLAGS)


def test_no_flag_takes_a_key_itself() -> None:
    assert not {"--api-key", "--key", "--token"} & set(FLAGS)


def test_the_defaults_are_the_documented_ones() -> None:
    request = request_from(options())
    assert request.embedding.model == "gemini-embedding-001"
    assert request.embedding.task_type is TaskType.RETRIEVAL_DOCUMENT
    assert (request.embedding.dim, request.embedding.normalize) == (None, True)
    assert request.embedding.long_text is LongText.TRUNCATE
    assert (request.unit_rows, request.calls.concurrency, request.service.timeout_s) == (
        2500, 16, 60.0,
    )  # fmt: skip
    assert request.service.kind is Service.DEVELOPER
    assert request.service.api_version == "v1beta"
    columns = request.input.columns
    assert (columns.id_column, columns.text_column, columns.keep_columns) == ("id", "text", ())


def test_flags_set_the_fields_of_the_request() -> None:
    request = request_from(
        options(
            "--input", "b", "--format", "JSONL", "--generate-ids", "--text-template", "{a} {b}",
            "--keep-columns", " a , b,", "--dim", "768", "--no-normalize", "--limit-rows", "5",
            "--timeout", "2", "--runner", "FnApiRunner", "--skip-bad-files", "--workers", "2",
        )
    )  # fmt: skip
    assert request.input.patterns == ("a.parquet", "b")
    assert request.input.format == "jsonl"
    columns = request.input.columns
    assert (columns.id_column, columns.text_column) == (None, None)
    assert (columns.text_fields, columns.keep_columns) == (("a", "b"), ("a", "b"))
    assert (request.embedding.dim, request.embedding.normalize) == (768, False)
    assert (request.input.limit_rows, request.input.skip_bad_files) == (5, True)
    assert (request.service.timeout_s, request.runner, request.workers) == (2.0, "FnApiRunner", 2)


@pytest.mark.parametrize(
    ("flags", "kind", "version"),
    [
        ((), Service.DEVELOPER, "v1beta"),
        (("--vertexai",), Service.VERTEX, "v1beta1"),
        (("--base-url", "https://gateway.example"), Service.CUSTOM, "v1beta"),
        (("--emulator",), Service.EMULATOR, "v1beta"),
        (("--api-version", "v1"), Service.DEVELOPER, "v1"),
    ],
)
def test_the_flags_choose_the_service(flags: tuple[str, ...], kind: Service, version: str) -> None:
    service = request_from(options(*flags)).service
    assert (service.kind, service.api_version) == (kind, version)


def test_googles_own_variables_set_the_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "https://one.example")
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", "https://two.example")
    assert request_from(options()).service.identity == "custom:one.example"
    assert request_from(options("--vertexai")).service.identity == "custom:two.example"
    flag = request_from(options("--base-url", "https://three.example")).service
    assert flag.identity == "custom:three.example"
    assert request_from(options("--emulator")).service.identity == "emulator"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--text-column", "a", "--text-template", "{b}"), "not both"),
        (("--text-template", "no column"), "names no column"),
        (("--text-template", "{a!r}"), "without a format"),
        (("--text-template", "{a"), "for a brace"),
        (("--keep-columns", "vector,b"), "--keep-columns vector"),
        (("--emulator", "--base-url", "http://x"), "Remove --base-url."),
        (("--unit-rows", "0"), "--unit-rows 0"),
        (("--limit-rows", "0"), "--limit-rows 0"),
        (("--concurrency", "0"), "--concurrency 0"),
        (("--vertex-project", "p"), "--vertex-location"),
        (("--timeout", "0s"), "--timeout 0"),
        (("--workers", "0"), "--workers 0 is out of range. Use 1 to"),
        (("--workers", "5000"), "--workers 5000 is out of range. Use 1 to"),
        (("--workers", "2", "--runner", "FlinkRunner"), "--runner FlinkRunner, which has its own"),
        (("--workers", "2", "--concurrency", "1"), "--workers 2 is more than --concurrency 1"),
    ],
)
def test_options_that_exclude_each_other_are_rejected(flags: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        request_from(options(*flags))
    assert words in caught.value.message


@pytest.mark.parametrize(
    "beam_args",
    [
        ("--direct_num_workers=2",),
        ("--x=1", "--direct_running_mode", "y"),
        ("--runner=SparkRunner",),
    ],
)
def test_workers_and_beams_flags_for_them_exclude_each_other(beam_args: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        request_from(options("--workers", "2"), beam_args)
    assert "--workers 2" in caught.value.message
    assert "Remove one of them" in caught.value.message
    assert request_from(options("--workers", "1"), beam_args).beam_args == beam_args


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dim", "x"), "--dim: 'x' is not a whole number"),
        (("--dim",), "--dim needs a value. Write --dim NUMBER."),
        (("--task-type", "RETREIVAL_QUERY"), "--task-type: unknown value 'RETREIVAL_QUERY'. Did "
         f"you mean RETRIEVAL_QUERY? Allowed are {', '.join(TaskType)}."),
        (("--long-text", "cut"), "--long-text: unknown value 'cut'. Allowed are truncate, "
         "dead-letter, stop, passages, mean."),
        (("--rpm", "-1"), "--rpm: -1 is out of range. Give a number from 0."),
        (("--max-cost-usd", "0"), "--max-cost-usd: 0 is out of range. Give a number above 0."),
        (("--max-cost-usd", "nan"), "--max-cost-usd: nan is out of range. Give a number above 0."),
        (("--timeout", "-1"), "--timeout: invalid duration '-1'. Write 30s, 10m, 2h or 1h30m."),
        (("--max-runtime", "2hours"), "--max-runtime: invalid duration '2hours'. Write 30s, 10m, "
         "2h or 1h30m."),
        (("stray",), "unexpected argument 'stray'"),
        (("overwrite",), "unexpected argument 'overwrite'. Did you mean --overwrite?"),
        (("--rmp", "3"), "unknown option --rmp. Did you mean --rpm?"),
        (("--direct_num_workers=2",), "unknown option --direct_num_workers. Beam's own options "
         "come after a bare --."),
    ],
)  # fmt: skip
def test_a_usage_error_says_what_is_wrong_and_what_is_allowed(
    flags: tuple[str, ...], message: str
) -> None:
    with pytest.raises(click.UsageError) as caught:
        options(*flags)
    assert usage_sentence(caught.value) == message


def test_a_missing_option_is_named_with_its_value() -> None:
    with pytest.raises(click.UsageError) as caught:
        run.make_context("run", ["--input", "a"])
    assert usage_sentence(caught.value) == "--output is missing. Add --output PATH."


def test_csv_is_rejected_with_the_way_to_convert_it() -> None:
    with pytest.raises(
        click.UsageError, match=r"unknown value 'csv'\. Allowed are parquet, jsonl, webdataset\."
    ):
        options("--format", "csv")
    with pytest.raises(click.UsageError, match="Convert other files to Parquet or JSONL first"):
        options("--format", "csv")


def test_the_files_of_a_pattern_without_quotes_are_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jsonl", "c.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(click.UsageError) as caught:
        options("b.jsonl", "c.jsonl")
    assert usage_sentence(caught.value) == (
        "unexpected arguments 'b.jsonl' and 1 more. The shell expanded a pattern. Put it in "
        "quotes, as in --input 'in/*.jsonl'."
    )


MEDIA = ("--model", "gemini-embedding-2", "--content", "image:photo")
OF_MEDIA = (
    "--check-media", "--transcode", "--max-image-side", "--max-image-pixels", "--max-media-bytes",
    "--max-source-bytes", "--long-media", "--media-root", "--allow-private-addresses",
)  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--max-image-side", "99"), "--max-image-side needs media in --content"),
        (("--media-root", "img"), "--media-root needs media in --content"),
        (("--allow-private-addresses",), "--allow-private-addresses needs media in --content"),
        ((*MEDIA, "--piece-pages", "2"), "--piece-pages needs --long-media head or pieces"),
        (
            (*MEDIA, "--long-media", "head", "--piece-overlap-pages", "1"),
            "--piece-overlap-pages needs --long-media pieces",
        ),
        (("--content", "{a}", "--content", "{b}"), "names 2 texts and no media"),
    ],
)
def test_options_of_media_without_effect_are_refused(flags: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        request_from(options(*flags))


def test_every_option_reaches_the_request_or_is_only_for_the_command() -> None:
    """The request takes options by their names, so a misspelt name would be lost silently."""
    vertex = ("--vertexai", "--vertex-location", "l", "--vertex-project", "p")
    needs = {"--vertex-project": vertex, "--vertex-location": vertex,
             "--passage-tokens": ("--long-text", "passages", "--passage-overlap", "1"),
             "--passage-overlap": ("--long-text", "passages", "--passage-tokens", "99"),
             "--date": ("--output", "out/{date}"),
             **dict.fromkeys(
                 ("--detach", "--batch-attempts", "--batch-fallback", "--batch-poll",
                  "--keep-remote-files"),
                 ("--mode", "batch"),
             ),
             "--batch-bucket": (*vertex, "--mode", "batch", "--batch-bucket", "gs://a"),
             "--batch-max-wait": ("--mode", "auto"),
             "--enqueued-headroom": ("--enqueued-tokens", "1000"),
             "--content": ("--model", "gemini-embedding-2"),
             **dict.fromkeys(OF_MEDIA, MEDIA),
             "--document-ocr": (*vertex, *MEDIA, "--content", "pdf:a"),
             "--audio-track": (*vertex, *MEDIA, "--content", "video:a"),
             "--media-by-uri": (*vertex, *MEDIA),
             **dict.fromkeys(
                 ("--piece-seconds", "--piece-pages", "--piece-overlap-seconds",
                 "--piece-overlap-pages"), (*MEDIA, "--long-media", "pieces"),
             ),
             }  # fmt: skip
    values = {"--text-template": "{a}", "--rate-limit-service": "h:1", "--quota-share": "1/2",
              "--content": "image:a", "--passage-tokens": "100", "--max-image-side": "99",
              "--batch-bucket": "gs://b",
              "--api-key-secret": "projects/p/secrets/s", "--base-url": "http://h"}  # fmt: skip
    for option in OPTIONS:
        flag = option.opts[0]
        if str(option.name) in (
            "config",
            "log_level",
            "log_json",
            "report",
            "report_texts",
            "id_type",
        ):
            continue
        value = values.get(flag) or _other_value(option)
        given = [option.secondary_opts[0] if option.default is True else flag]
        given += [] if option.is_flag else [value]
        before = request_from(options(*needs.get(flag, ())))
        after = request_from(options(*needs.get(flag, ()), *given))
        assert dataclasses.replace(after, settings={}) != dataclasses.replace(
            before, settings={}
        ), flag


def _other_value(option: click.Option) -> str:
    if isinstance(option.type, WordChoice):
        return [str(word) for word in option.type.words if word != option.default][-1]
    examples = {Duration: "7s", ByteSize: "64MB", IsoDate: "2024-01-31"}
    return examples.get(type(option.type), "2")


def test_flags_after_a_bare_double_dash_are_beams() -> None:
    with run.make_context("run", [*NEEDED, "--", "--runner=FlinkRunner", "--x"]) as ctx:
        assert ctx.meta[BEAM_ARGS] == ("--runner=FlinkRunner", "--x")


FORMER = [
    ("grace", "shutdown_timeout_s", "7s", 7.0),
    ("deadline", "max_runtime_s", "2h", 7200.0),
    ("call-deadline", "retry_timeout_s", "5m", 300.0),
    ("max-in-flight", "concurrency", "3", 3),
    ("fresh", "overwrite", "true", True),
    ("retry-dead-letters", "retry_failed", "true", True),
]


@pytest.mark.parametrize(("name", "parameter", "typed", "value"), FORMER)
def test_a_former_name_of_a_flag_still_works(
    name: str,
    parameter: str,
    typed: str,
    value: object,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flag = [f"--{name}"] if typed == "true" else [f"--{name}", typed]
    assert options(*flag)[parameter] == value

    file = tmp_path / "job.yaml"
    for key in (name, name.replace("-", "_")):
        file.write_text(f"{key}: {typed}\n")
        assert options("--config", str(file))[parameter] == value

    words = command([f"--{name.replace('-', '_')}={typed}"])
    assert options(*words[1 : words.index("--")])[parameter] == value

    monkeypatch.setenv(f"BULKEMBED_RUN_{name.upper().replace('-', '_')}", typed)
    assert options()[parameter] == value


def test_help_shows_no_former_name_of_a_flag() -> None:
    with click.Context(run, info_name="run") as ctx:
        text = run.get_help(ctx)
    assert not [name for name, *_ in FORMER if f"--{name} " in text]


def test_the_settings_of_earlier_versions_are_read_by_their_former_names() -> None:
    settings = {"patterns": ["in"], "output": "out", "max_in_flight": 3, "call_deadline_s": 5.0}
    request = request_of({"settings": settings, "layout": {}}, {})
    assert (request.calls.concurrency, request.calls.retry_timeout_s) == (3, 5.0)
