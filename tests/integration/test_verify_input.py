"""`bulkembed verify --against` and `--sample`: rows compared with the input and the service."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import bulkembed, run, write_rows
from support.damage import (
    a_record_is_deleted,
    findings,
    hashes_that_were_swapped,
    ids_that_were_swapped,
    rewrite,
    vectors_that_were_swapped,
    with_column,
)

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings


def more_input(place: Path) -> None:
    write_rows(place / "in/b.parquet", ["one", "two"], lang=["en"] * 2)


def less_input(place: Path) -> None:
    (place / "in/a.parquet").rename(place / "in/b.parquet")


def changed_input(place: Path) -> None:
    rewrite(place / "in/a.parquet", with_column("text", lambda texts: [*texts[:-1], "other"]))


def broken_input(place: Path) -> None:
    (place / "in/b.parquet").write_bytes(b"PAR1")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        pytest.param(more_input, "2 of 2 rows missing in the dataset, first row 0", id="more"),
        pytest.param(less_input, "not in the input, but the dataset has 30 rows of it", id="less"),
        pytest.param(changed_input, "its content has changed since it was embedded", id="changed"),
        pytest.param(broken_input, "b.parquet cannot be read", id="broken"),
        pytest.param(ids_that_were_swapped, "2 rows with another id in a.parquet", id="ids"),
        pytest.param(hashes_that_were_swapped, "2 rows with another text in", id="texts"),
        pytest.param(a_record_is_deleted, "10 of 30 rows missing in the dataset", id="unit"),
    ],
)
def test_differences_between_input_and_dataset_are_found(
    damage: Callable[[Path], None], said: str, place: Path
) -> None:
    damage(place)
    found = findings(place, "--against", place / "in")
    assert [message for check, _, message in found if check == "input" and said in message]


def test_a_file_with_unchanged_size_and_time_is_read_as_well(
    server: EmulatorServer, tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"id": 1, "text": "one"}')
    assert run(server.url, source, tmp_path / "out", "--dim", 128).code == 0
    stamp = source.stat().st_mtime_ns
    source.write_text('{"id": 1, "text": "two"}')
    os.utime(source, ns=(stamp, stamp))
    [(check, where, message)] = findings(tmp_path, "--against", source)
    assert (check, where) == ("input", "in.jsonl")
    assert "its content has changed since it was embedded" in message
    assert "Run the same command with --rescan" in message
    ended = run(server.url, source, tmp_path / "out", "--dim", 128, "--rescan")
    assert ended.code == 0, ended.err
    assert server.stats()["texts"] == 2
    assert findings(tmp_path, "--against", source) == []


def test_the_error_for_a_missing_input_names_the_flag(made: Path) -> None:
    for pattern in ("none.jsonl", "none-*.jsonl"):
        shown = bulkembed("verify", made / "out", "--against", made / pattern)
        assert shown.code == 2
        assert f"--against {made / pattern}: no " in shown.err


def test_the_service_returns_the_same_vectors_for_an_intact_dataset(made: Path) -> None:
    with EmulatorServer() as server:
        where = ("--base-url", server.url)
        shown = bulkembed("verify", made / "out", "--sample", 12, *where)
        assert shown.code == 0, shown.out + shown.err
        assert server.stats()["texts"] == 12
    assert "12 rows embedded again, lowest cosine 1.0" in shown.out


def test_a_sample_finds_vectors_of_other_texts(place: Path) -> None:
    vectors_that_were_swapped(place)
    assert findings(place) == []
    with EmulatorServer() as server:
        found = findings(place, "--sample", 1000, "--base-url", server.url)
    assert [check for check, _, _ in found] == ["sample", "sample"]
    assert "row 0 of a.parquet: cosine 0." in found[0][2]


def test_a_text_that_the_service_now_rejects_is_a_finding(made: Path) -> None:
    with EmulatorServer(EmulatorSettings(poison="text 7 ")) as server:
        [(check, _, message)] = findings(made, "--sample", 1000, "--base-url", server.url)
    assert check == "sample"
    assert "row 7 of a.parquet: the service no longer returns a vector" in message


def test_a_sample_needs_the_input_and_the_service_of_the_run(made: Path, tmp_path: Path) -> None:
    shown = bulkembed("verify", made / "out", "--sample", 3, "--emulator")
    assert shown.code == 2
    assert "the request would go to emulator, and their vectors cannot be compared" in shown.last
    write_rows(tmp_path / "b.parquet", ["one"], lang=["en"])
    with EmulatorServer() as server:
        where = ("--base-url", server.url)
        found = findings(made, "--sample", 3, "--against", tmp_path, *where)
        assert "Give the input of the run with --against" in found[-1][2]
        rejected = findings(made, "--sample", 3, "--base-url", f"{server.url}/nowhere")
    assert "the service answered 404" in rejected[0][2]


@pytest.mark.parametrize(
    "args",
    [
        ("--dim", "256", "--vector-type", "float16"),
        ("--dim", "256", "--vector-encoding", "byte_stream_split"),
        ("--dim", "256", "--no-normalize"),
        ("--no-normalize",),
        ("--generate-ids",),
        ("--model", "gemini-embedding-2", "--dim", "256"),
        ("--model", "nobody-knows-it"),
        ("--text-template", "{lang}: {text}", "--title-column", "lang"),
    ],
    ids=" ".join,
)
def test_datasets_of_all_settings_have_no_findings(args: tuple[str, ...], tmp_path: Path) -> None:
    write_rows(tmp_path / "in/a.parquet", [f"text {n}" for n in range(12)], lang=["en"] * 12)
    with EmulatorServer(EmulatorSettings(extra_models=(("nobody-knows-it", 64),))) as server:
        ended = run(server.url, tmp_path / "in", tmp_path / "out", *args)
        assert ended.code == 0, ended.err
        assert findings(tmp_path, "--against", tmp_path / "in", "--sample", 5) == []
