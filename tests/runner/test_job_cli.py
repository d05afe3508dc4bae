"""The messages and exit codes of the command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pyarrow as pa
import pytest
from support.cli import (
    bulkembed,
    matrix,
    process,
    python,
    read,
    run,
    snapshot,
    summary,
    write_rows,
)
from support.killing import wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.cli.main import COMMANDS, cli
from bulkembed.transforms.inputs.formats import FORMATS

SCRIPT = str(Path(sys.executable).with_name("bulkembed"))
KEY = "AIzaSy-this-is-the-secret-key"


def load(command: str) -> click.Command:
    loaded = cli.get_command(click.Context(cli), command)
    assert loaded is not None
    return loaded


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(8)])


def test_the_command_and_the_module_do_the_same(source: Path, tmp_path: Path) -> None:
    args = ("run", "--input", str(source), "--dim", "128", "--emulator", "--output")
    one = process(SCRIPT, *args, str(tmp_path / "one"))
    assert one.code == 0, one.err
    assert "8 in: 8 embedded" in one.out
    for args in (("status", str(tmp_path / "one")), ("run", "--input", "nowhere")):
        one, two = process(SCRIPT, *args), python("-m", "bulkembed", *args)
        assert (one.code, one.out, one.err) == (two.code, two.out, two.err)


def test_a_run_needs_no_pandas(tmp_path: Path) -> None:
    kept = {
        "price": pa.array([1.5, None], pa.float32()),
        "stock": pa.array([1, 2], pa.uint16()),
        "lang": pa.array(["de", "en"]).dictionary_encode(),
        "seen": pa.array([0, 1], pa.timestamp("us", "UTC")),
        "tags": pa.array([["a"], None], pa.list_(pa.string())),
    }
    source = write_rows(tmp_path / "a.parquet", ["one", "two"], **kept)
    args = ["run", "--sync", "--input", source, "--output", tmp_path / "out", "--emulator"]
    args += ["--dim", 128, "--keep-columns", "*"]
    assert python("-c", "import pandas").code == 1
    ended = python("-m", "bulkembed", *map(str, args))
    assert ended.code == 0, ended.err
    assert "2 new" in ended.out


def test_help_imports_no_slow_library() -> None:
    look = (
        "import sys\nfrom bulkembed.pipeline.cli.main import main\n"
        "for args in (['--help'], ['run', '--help'], ['models']):\n"
        "    try:\n        main(args)\n    except SystemExit as end:\n        assert not end.code\n"
        "heavy = {'apache_beam', 'google.genai', 'numpy', 'pandas', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    ended = python("-c", look)
    assert ended.code == 0, ended.err
    for words in ("run", "models", "emulator", "--input", "--rpm", "gemini-embedding-2-preview"):
        assert words in ended.out


def test_a_wrong_command_suggests_the_nearest_one() -> None:
    ended = bulkembed("serach", "out", "words")
    assert ended.code == 2
    assert ended.err == (
        "bulkembed: unknown command 'serach'. Did you mean search?\nTry 'bulkembed --help'.\n"
    )


def test_the_list_of_commands_shows_whole_lines() -> None:
    shown = bulkembed("--help").out
    for command in COMMANDS:
        first = (load(command).help or "").strip().splitlines()[0]
        assert re.search(rf"^  {command} +{re.escape(first)}$", shown, re.MULTILINE)


@pytest.mark.parametrize("command", ["run", "estimate", "status", "verify", "search", "report"])
def test_help_shows_examples_before_the_commands_own_options(command: str) -> None:
    shown = bulkembed(command, "--help").out
    assert f"Examples:\n  bulkembed {command} " in shown
    own = {"run": "--input", "estimate": "--sample", "verify": "--against", "search": "-k"}
    first = shown.index(own.get(command, "--help"), shown.index("Options:" * (command != "run")))
    assert shown.index("Examples:") < first
    assert command in ("run", "status", "report") or first < shown.index("--emulator")


def test_the_table_of_models_has_every_model_and_its_state() -> None:
    ended = bulkembed("models")
    rows = {line.split()[0]: line for line in ended.out.splitlines() if line.strip()}
    assert "shut down 2025-10-30" in rows["embedding-001"]
    assert "0.150" in rows["gemini-embedding-001"]
    assert "prefix" in rows["gemini-embedding-2"]
    assert "Vertex only" in rows["text-embedding-005"]
    assert "CODE_RETRIEVAL_QUERY" in ended.out


def test_a_dim_below_the_documented_range_logs_a_warning(
    source: Path, output: Path, server: EmulatorServer
) -> None:
    ended = run(server.url, source, output, "--dim", 64)
    assert ended.code == 0, ended.err
    assert matrix(read(output)).shape == (8, 64)
    below = "--dim 64 is below the range that Google documents for gemini-embedding-001 (128..3072)"
    assert below in ended.err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--rmp", "3"), "unknown option --rmp. Did you mean --rpm?"),
        (("--ouput", "x"), "unknown option --ouput. Did you mean --output?"),
        (("--task-type", "RETRIEVAL"), "Did you mean RETRIEVAL_QUERY?"),
        (("--format", "orc"), f"unknown value 'orc'. Allowed are {', '.join(FORMATS)}."),
        (("--dim", "4000"), "--dim 4000: gemini-embedding-001 supports 128..3072"),
        (("--model", "embedding-001", "--dim", "5"), "supports 768"),
        (("--title-column", "text", "--task-type", "CLUSTERING"), "Remove --title-column"),
        (("--model", "text-embedding-005"), "--vertexai"),
        (("--keep-columns", "id"), "--keep-columns id"),
        (("--text-column", "body"), "has no column 'body'. It has 'id', 'text'."),
        (("--text-column", "texts"), "has no column 'texts'. Did you mean text?"),
        (("--id-column", "key"), "'id', 'text'"),
        (("--unit-rows", "0"), "--unit-rows 0"),
        (("--input", "nothing-*.parquet"), "nothing-*.parquet"),
        (("--runner", "Flunk"), "--runner Flunk"),
        (("--", "--nonsense=1"), "--nonsense: Beam has no such flag"),
        (("--", "FlinkRunner"), "'FlinkRunner' after --"),
        (("stray",), "stray"),
    ],
)
def test_wrong_usage_exits_with_2_and_one_message_and_writes_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    ended = bulkembed("run", "--input", source, "--output", tmp_path / "out", *args)
    assert ended.code == 2
    assert words in ended.err
    lines = ended.err.splitlines()
    assert len(lines) <= 2
    assert lines[0].startswith("bulkembed: ")
    assert lines[1:] in ([], ["Try 'bulkembed run --help'."])
    assert KEY not in ended.err + ended.out
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_rejected(source: Path) -> None:
    before = source.read_bytes()
    ended = bulkembed("run", "--input", source, "--output", source, "--emulator")
    assert (ended.code, ended.err) == (
        2,
        f"bulkembed: --output {source} is a file. Choose a folder.\n",
    )
    assert source.read_bytes() == before


def test_beams_own_flags_follow_a_bare_double_dash(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    args = ("--dim", 128, "--", "--runner=FnApiRunner", "--direct_num_workers=2")
    assert run(server.url, source, tmp_path / "out", *args).code == 0


def test_the_config_file_and_the_environment_set_options(
    server: EmulatorServer, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job.yaml").write_text(
        f"input: {source}\noutput: {tmp_path / 'out'}\nbase-url: {server.url}\ndim: 256\n"
    )
    monkeypatch.setenv("BULKEMBED_RUN_DIM", "128")
    ended = bulkembed("run", "--config", tmp_path / "job.yaml", "--unit-rows", 3)
    assert ended.code == 0, ended.err
    assert matrix(read(tmp_path / "out")).shape == (8, 128)
    assert len(list((tmp_path / "out/_run/units").iterdir())) == 3


def test_the_error_for_a_missing_key_says_where_to_set_it(source: Path, tmp_path: Path) -> None:
    ended = bulkembed("run", "--input", source, "--output", tmp_path / "out")
    assert ended.code == 2
    assert "Set GEMINI_API_KEY or GOOGLE_API_KEY, or use --api-key-file" in ended.err
    assert len(ended.err.strip().splitlines()) == 1


@pytest.mark.parametrize("vertex", [(), ("--vertexai",)])
def test_a_wrong_key_ends_the_run_after_one_request_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vertex: tuple[str, ...]
) -> None:
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(1200)])
    monkeypatch.setenv("GEMINI_API_KEY", "AIza-wrong")
    with EmulatorServer(EmulatorSettings(api_key="right")) as server:
        args = ("--unit-rows", 200, "--dim", 128, *vertex)
        ended = run(server.url, source, tmp_path / "out", *args)
        assert server.stats()["calls"] == 1
    assert ended.code == 1
    lines = [line for line in ended.err.splitlines() if "400" in line or "Error" in line]
    assert len(lines) == 1
    assert "API key not valid" in ended.last
    assert "Check GOOGLE_API_KEY, GEMINI_API_KEY or --api-key-file" in ended.last
    assert "AIza-wrong" not in ended.err + ended.out
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_a_retired_model_ends_the_run_after_one_request_and_names_its_successor(
    source: Path, tmp_path: Path
) -> None:
    with EmulatorServer(EmulatorSettings(retired=("all",))) as server:
        args = ("--model", "text-embedding-004", "--unit-rows", 1)
        ended = run(server.url, source, tmp_path / "out", *args)
        assert server.stats()["calls"] == 1
    assert ended.code == 1
    assert "404" in ended.last
    assert "Use --model gemini-embedding-001" in ended.last
    assert "shut down text-embedding-004 on 2026-01-14" in ended.err.splitlines()[0]


def test_a_model_that_is_shut_down_still_works_where_it_is_available(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    ended = run(server.url, source, tmp_path / "out", "--model", "embedding-001")
    assert ended.code == 0
    assert matrix(read(tmp_path / "out")).shape == (8, 768)


def test_an_unknown_model_works_with_a_warning(source: Path, tmp_path: Path) -> None:
    with EmulatorServer(EmulatorSettings(extra_models=(("my-model", 64),))) as server:
        ended = run(server.url, source, tmp_path / "out", "--model", "my-model")
        assert ended.code == 0, ended.err
        assert "unknown model 'my-model'" in ended.err
        assert matrix(read(tmp_path / "out")).shape == (8, 64)
        rejected = run(
            server.url, source, tmp_path / "two", "--model", "my-model", "--dim", 99,
            "--unit-rows", 1,
        )  # fmt: skip
        assert rejected.code == 1
        assert "Check --dim" in rejected.last


def test_a_model_that_the_service_does_not_have_ends_the_run(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    ended = run(server.url, source, tmp_path / "out", "--model", "gemini-embedding-9")
    assert ended.code == 1
    assert "Did you mean gemini-embedding-2 or gemini-embedding-001?" in ended.last
    assert server.stats()["calls"] == 1


def test_missing_credentials_for_a_project_are_one_line(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    ended = bulkembed(
        "run", "--input", source, "--output", tmp_path / "out",
        "--vertexai", "--vertex-project", "p", "--vertex-location", "l",
    )  # fmt: skip
    assert ended.code == 1
    assert "no application-default credentials" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("where", ["environment", "file"])
def test_the_key_appears_in_no_file_and_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    source = write_rows(tmp_path / "in/a.parquet", ["one", " ", "two poison", "three"])
    args: tuple[object, ...] = ("--log-level", "debug", "--dim", 128, "--blank-text", "skip")
    if where == "file":
        (tmp_path / "key").write_text(KEY)
        args = (*args, "--api-key-file", tmp_path / "key")
    else:
        monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    settings = EmulatorSettings(api_key=KEY, poison="poison", script=("503", "429", "ok"))
    with EmulatorServer(settings) as server:
        ended = run(server.url, source, tmp_path / "out", *args)
    assert ended.code == 0, ended.err
    assert KEY not in ended.err + ended.out
    assert {
        path for path, data in snapshot(tmp_path / "out").items() if KEY.encode() in data
    } == set()
    assert len(read(tmp_path / "out")) == 2


def test_the_emulator_is_not_called_through_a_proxy(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    ended = run(None, source, tmp_path / "out", "--dim", 128)
    assert ended.code == 0, ended.err


def test_a_signal_stops_the_run_cleanly_and_the_same_command_resumes_it(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(900)])
    output = tmp_path / "out"
    with EmulatorServer(EmulatorSettings(latency_ms=500)) as server:
        args = [
            "--unit-rows",
            "100",
            "--concurrency",
            "1",
            "--dim",
            "128",
            "--log-level",
            "error",
        ]
        command = [sys.executable, "-m", "bulkembed", "run", "--input", str(source), *args]
        job = subprocess.Popen(
            [*command, "--output", str(output), "--base-url", server.url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
        )  # fmt: skip
        wait_for(lambda: any(output.glob("_run/units/*.json")))
        job.send_signal(signal.SIGTERM)
        _, err = job.communicate(timeout=40)
        assert job.returncode == 75, err
        assert "SIGTERM" in err.splitlines()[-1]
        assert "Traceback" not in err
        first = summary(output)
        assert 0 < first["dataset"]["embedded"] < 900
        assert not (output / "_SUCCESS").exists()
        assert run(server.url, source, output, *args[:2], "--dim", 128).code == 0
        assert server.stats()["texts_paid_twice"] == 0
    assert read(output)["id"].to_pylist() == list(range(900))
