"""One dataset over several runs: what is done stays done, and nothing is mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.cli import (
    Ended,
    matrix,
    parts,
    read,
    run,
    snapshot,
    summary,
    write_rows,
)

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in/a.parquet", [f"text {n}" for n in range(25)])


def go(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, "--dim", 128, *args)


def test_where_nothing_is_due_no_call_is_sent_and_no_byte_changed(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert go(server, source, output).code == 0
    calls, before = server.stats()["calls"], snapshot(output)
    ended = go(server, source, output)
    assert ended.code == 0
    assert "25 in: 25 embedded" in ended.out
    assert server.stats()["calls"] == calls
    assert snapshot(output) == before


def test_a_trial_then_the_whole_is_the_same_as_the_whole_at_once(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    ended = go(server, source, tmp_path / "two", "--limit-rows", 7, "--unit-rows", 4)
    assert ended.code == 0
    assert not (tmp_path / "two/_SUCCESS").exists()
    assert "18 rows remaining" in ended.out
    assert len(read(tmp_path / "two")) == 7
    assert go(server, source, tmp_path / "two", "--unit-rows", 10).code == 0
    assert (tmp_path / "two/_SUCCESS").exists()
    assert server.stats()["texts_paid_twice"] == 0
    assert go(server, source, tmp_path / "one").code == 0
    assert read(tmp_path / "two").equals(read(tmp_path / "one"))
    assert summary(tmp_path / "two")["dataset"]["embedded"] == 25


def test_a_new_file_is_added_and_the_old_one_is_not_paid_again(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert go(server, source.parent, output).code == 0
    write_rows(source.parent / "b.parquet", ["more", "rows"])
    assert go(server, source.parent, output).code == 0
    assert server.stats()["texts"] == 27
    assert len(read(output)) == 27
    assert (output / "_SUCCESS").exists()


def test_a_file_that_changed_replaces_its_rows(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert go(server, source, output).code == 0
    write_rows(source, ["quite", "another"])
    assert go(server, source, output).code == 0
    assert read(output)["source_row"].to_pylist() == [0, 1]
    assert summary(output)["dataset"]["rows_in"] == 2


def test_what_a_kill_leaves_behind_is_cleaned_up(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert go(server, source, output, "--limit-rows", 10).code == 0
    (part,) = parts(output, "vectors")
    orphan = output / "vectors/part-ffffffffffffffff-000000000000-00000005.parquet"
    orphan.write_bytes(part.read_bytes())
    temps = [output / "vectors/.tmp-1234-part.parquet", output / "_run/units/.tmp-99-x.json"]
    for temp in temps:
        temp.write_bytes(b"half")
    mine = output / "vectors/notes.txt"
    mine.write_text("not ours")
    assert go(server, source, output).code == 0
    assert not orphan.exists()
    assert not any(temp.exists() for temp in temps)
    assert mine.exists()
    assert read(output)["id"].to_pylist() == list(range(25))


def test_a_kill_between_the_last_commit_and_success_costs_nothing(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert go(server, source, output).code == 0
    (output / "_SUCCESS").unlink()
    (output / "vectors/.tmp-1-x.parquet").write_bytes(b"half")
    calls = server.stats()["calls"]
    assert go(server, source, output).code == 0
    assert (output / "_SUCCESS").exists()
    assert not (output / "vectors/.tmp-1-x.parquet").exists()
    assert server.stats()["calls"] == calls


def test_success_goes_before_the_first_change(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with EmulatorServer() as server:
        assert go(server, source.parent, output).code == 0
    write_rows(source.parent / "b.parquet", ["more"])
    with EmulatorServer(EmulatorSettings(retired=("gemini-embedding-001",))) as server:
        assert go(server, source.parent, output).code == 1
    assert not (output / "_SUCCESS").exists()
    assert len(read(output)) == 25


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--model", "gemini-embedding-2"), ("model is 'gemini-embedding-001' in the dataset",)),
        (("--dim", "256"), ("dim is 128 in the dataset and 256 in this run",)),
        (("--task-type", "CLUSTERING"), ("task_type", "RETRIEVAL_DOCUMENT", "CLUSTERING")),
        (("--no-normalize",), ("normalize is True in the dataset",)),
        (("--long-text", "stop"), ("long_text",)),
        (("--title-column", "text"), ("titles",)),
        (("--keep-columns", "text"), ("column 'text' is kept in this run only", "--reuse")),
        (("--id-type", "string"), ("id_type", "--reuse")),
        (("--vector-type", "float16"), ("vector_type", "--reuse")),
        (("--vector-encoding", "byte_stream_split"), ("vector_encoding",)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_other_settings_are_rejected_with_the_difference_and_change_nothing(
    server: EmulatorServer, source: Path, tmp_path: Path,
    args: tuple[str, ...], words: tuple[str, ...],
) -> None:  # fmt: skip
    output = tmp_path / "out"
    assert go(server, source, output).code == 0
    calls, before = server.stats()["calls"], snapshot(output)
    ended = go(server, source, output, *args)
    assert ended.code == 2
    assert len(ended.err.strip().splitlines()) == 1
    for word in (*words, "--output"):
        assert word in ended.err
    assert server.stats()["calls"] == calls
    assert snapshot(output) == before


def test_what_an_emulator_made_is_never_continued_elsewhere_nor_the_other_way_round(
    server: EmulatorServer, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulated, custom = tmp_path / "emulated", tmp_path / "custom"
    assert run(None, source, emulated, "--dim", 128).code == 0
    assert go(server, source, custom).code == 0
    calls = server.stats()["calls"]
    for ended in (go(server, source, emulated), run(None, source, custom, "--dim", 128)):
        assert ended.code == 2
        assert "service is" in ended.err
        assert "cannot be mixed" in ended.err
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    ended = run("https://generativelanguage.googleapis.com", source, emulated, "--dim", 128)
    assert ended.code == 2
    assert server.stats()["calls"] == calls


def test_a_dataset_goes_on_where_the_server_moved_to_another_port(
    source: Path, tmp_path: Path
) -> None:
    for limit in (10, 25):
        with EmulatorServer() as server:
            assert go(server, source, tmp_path / "out", "--limit-rows", limit).code == 0
    vectors = matrix(read(tmp_path / "out"))
    assert vectors.shape == (25, 128)
    assert np.isfinite(vectors).all()


def test_a_dataset_of_no_rows_takes_whatever_rows_come_first(
    server: EmulatorServer, tmp_path: Path
) -> None:
    source, output = write_rows(tmp_path / "a.parquet", []), tmp_path / "out"
    assert go(server, source, output).code == 0
    assert (output / "_SUCCESS").exists()
    assert (output / "_run/run.json").exists()
    assert read(output).schema.field("vector").type.list_size == 128
    write_rows(source, ["a row"])
    assert run(server.url, source, output, "--dim", 256).code == 0
    assert matrix(read(output)).shape == (1, 256)
    assert server.stats()["calls"] == 1


def test_a_first_run_that_was_rejected_ties_the_output_to_nothing(
    source: Path, tmp_path: Path
) -> None:
    settings = EmulatorSettings(retired=("text-embedding-004",))
    with EmulatorServer(settings) as server:
        assert go(server, source, tmp_path / "out", "--model", "text-embedding-004").code == 1
        assert go(server, source, tmp_path / "out").code == 0
    assert len(read(tmp_path / "out")) == 25
