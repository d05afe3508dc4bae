"""`make run`: its variables and its rules."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import Ended, called, read, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.pipeline.demo.demo import main

ROOT = Path(__file__).parents[2]
Demo = Callable[..., Ended]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "shards/a.parquet", ["cats", "dogs", "banks", "rain", "snow"])


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Demo:
    """What `make run` starts, in this process, with the variables of the Makefile."""
    monkeypatch.chdir(tmp_path)

    def run(**variables: str) -> Ended:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return called(main)

    return run


def test_own_files_are_not_embedded_without_a_key(demo: Demo, source: Path, tmp_path: Path) -> None:
    ended = demo(INPUT="shards/*.parquet", OUTPUT="out")
    assert ended.code == 2
    assert "EMULATOR=1" in ended.last
    assert not (tmp_path / "out").exists()


def test_the_emulator_embeds_own_files_if_the_user_chooses_it(
    demo: Demo, source: Path, tmp_path: Path
) -> None:
    own = {"INPUT": "shards/*.parquet", "OUTPUT": "out", "ARGS": "--dim 128 --unit-rows 2"}
    ended = demo(**own, EMULATOR="1")
    assert ended.code == 0, ended.err
    assert "5 in: 5 embedded" in ended.out
    assert len(read(tmp_path / "out")) == 5
    again = demo(**own, GEMINI_API_KEY="k")
    assert again.code == 2
    assert "service is 'emulator' in the dataset" in again.err


def test_a_key_is_used_and_named(demo: Demo, source: Path, tmp_path: Path) -> None:
    with EmulatorServer() as server:
        args = f"--base-url {server.url} --dim 128"
        ended = demo(INPUT="shards", OUTPUT="out", GEMINI_API_KEY="k", ARGS=args)
        assert server.stats()["texts"] == 5
    assert ended.code == 0, ended.err
    assert "Using the access of GEMINI_API_KEY" in ended.err


def test_an_input_without_an_output_is_rejected(demo: Demo, source: Path, tmp_path: Path) -> None:
    ended = demo(INPUT="shards", EMULATOR="1")
    assert ended.code == 2
    assert "OUTPUT" in ended.last


def test_the_corpus_is_embedded_and_three_rows_are_shown_with_their_neighbours(
    demo: Demo, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "corpus").symlink_to(corpus)
    ended = demo(ARGS="--limit-rows 200 --dim 128")
    assert ended.code == 0, ended.err
    assert "No API key is used" in ended.err
    blocks = ended.out.split("\n\n")[1:]
    assert len(blocks) == 3
    for block in blocks:
        scores = [float(line.split()[0]) for line in block.strip().splitlines()[1:]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)


def test_the_makefile_passes_its_variables_with_their_quotes(source: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            "make", "-C", str(ROOT), "run", f"INPUT={source}", f"OUTPUT={tmp_path / 'out'}",
            "EMULATOR=1", "ARGS=--dim 128 --text-template 'about {text}'",
        ],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    made = json.loads((tmp_path / "out/_run/run.json").read_text())
    assert made["layout"]["text"] == "about {text}"


def test_the_command_is_called_bulkembed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"bulkembed": "bulkembed.pipeline.cli.main:main"}
