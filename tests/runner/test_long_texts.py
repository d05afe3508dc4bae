"""Long texts in passages, or as their mean: the same promises as for whole texts."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from support.cli import (
    Ended,
    asked_alone,
    bulkembed,
    dead_codes,
    matrix,
    read,
    run,
    summary,
    write_rows,
)
from support.killing import Job, Step, leftovers, same_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.transforms.units import slices

SIZES = ("--passage-tokens", "32", "--passage-overlap", "8")
PASSAGES = ("--dim", "128", "--long-text", "passages", *SIZES)
MEAN = ("--dim", "128", "--long-text", "mean", *SIZES)


def long_text(number: int, paragraphs: int) -> str:
    lines = (
        f"Paragraph {n} of text {number} is about cats. It ends with a sentence on banks, and rain."
        for n in range(paragraphs)
    )
    return "\n\n".join(lines)


TEXTS = [long_text(n, n % 5) or None for n in range(12)] + ["short", "漢字の文。" * 40]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in/a.parquet", TEXTS, lang=["en"] * len(TEXTS))


def rejected(word: str) -> EmulatorServer:
    return EmulatorServer(EmulatorSettings(poison=word))


def sound(output: Path, *args: object) -> Ended:
    """Fails where `bulkembed verify` finds something."""
    ended = bulkembed("verify", output, *args)
    assert ended.code == 0, ended.out
    return ended


def test_each_passage_is_a_row_that_says_where_it_stands(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    ended = run(server.url, source, output, *PASSAGES, "--keep-columns", "text,lang")
    assert ended.code == 0, ended.err
    assert "14 in: 11 embedded, 3 skipped (blank)" in ended.out
    assert "duplicate ids" not in ended.out
    table = read(output)
    assert table.schema.names == [
        "id", "passage", "start", "end", "vector", "text", "lang", "text_hash", "truncated",
        "source_file", "source_row",
    ]  # fmt: skip
    rows, vectors = table.drop_columns(["vector"]).to_pylist(), matrix(table)
    assert {row["truncated"] for row in rows} == {False}
    short = next(row for row in rows if row["id"] == 12)
    assert (short["passage"], short["start"], short["end"]) == (0, 0, 5)
    for row in rows:
        assert row["text"] == (TEXTS[row["source_row"]] or "")[row["start"] : row["end"]]
    for row, vector in [*zip(rows, vectors, strict=True)][::7]:
        alone = asked_alone(server.url, row["text"], outputDimensionality=128)
        assert vector @ alone / np.linalg.norm(alone) == pytest.approx(1, abs=1e-5)
    place = ("--base-url", server.url)
    assert "11 rows" not in sound(output, "--against", source, "--sample", 20, *place).out
    found = bulkembed("search", output, "paragraph 3 of text 4", "-k", 1, *place)
    assert found.out.split()[:5] == ["score", "id", "passage", "start", "end"]


def test_a_mean_is_weighted_by_the_length_of_the_passages(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    assert run(server.url, source, tmp_path / "cut", *PASSAGES).code == 0
    assert run(server.url, source, tmp_path / "mean", *MEAN).code == 0
    passages, means = read(tmp_path / "cut"), read(tmp_path / "mean")
    assert "passage" not in means.schema.names
    assert means["id"].to_pylist() == [n for n, text in enumerate(TEXTS) if text]
    assert not any(means["truncated"].to_pylist())
    vectors = matrix(passages)
    lengths = passages["end"].to_numpy() - passages["start"].to_numpy()
    for row, vector in zip(means["id"].to_pylist(), matrix(means), strict=True):
        mine = passages["id"].to_numpy() == row
        mean = np.average(vectors[mine], axis=0, weights=lengths[mine])
        assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    checks = ("--against", source, "--sample", 20, "--base-url", server.url)
    assert "lowest cosine 1.0000" in sound(tmp_path / "mean", *checks).out


def test_a_rejected_passage_takes_its_row_and_a_retry_brings_it_whole(
    source: Path, tmp_path: Path
) -> None:
    output, bad = tmp_path / "out", [n for n in range(12) if n % 5 > 2]
    args = (*PASSAGES, "--max-dead-letters", "9", "--unit-rows", "5")
    with rejected("Paragraph 2") as server:
        ended = run(server.url, source, output, *args)
        assert ended.code == 0, ended.err
    assert f"{len(bad)} failed" in ended.out
    assert {row: code for row, code in dead_codes(output).items() if code != "blank_text"} == {
        row: "refused" for row in bad
    }
    letters = read(output, "dead_letters").to_pylist()
    assert letters[1]["message"].startswith("passage ")
    assert set(read(output)["id"].to_pylist()).isdisjoint(bad)
    sound(output, "--against", source)
    with EmulatorServer() as server:
        assert run(server.url, source, output, *args, "--retry-failed").code == 0
        assert run(server.url, source, tmp_path / "whole", *args).code == 0
    sound(output, "--against", source)
    assert summary(output)["dataset"]["embedded"] == 11
    same_rows(output, tmp_path / "whole")


def test_a_unit_of_many_passages_is_committed_in_parts_each_row_once(
    server: EmulatorServer, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [
        f"{text or n}\n\nA paragraph that many of the texts have, at their end."
        for n, text in enumerate(TEXTS)
    ]
    source = write_rows(tmp_path / "in/a.parquet", texts)
    assert run(server.url, source, tmp_path / "whole", *PASSAGES).code == 0
    paid = server.stats()["texts"]
    monkeypatch.setattr(slices, "MAX_TEXTS", 7)
    assert run(server.url, source, tmp_path / "out", *PASSAGES, "--limit-rows", 9).code == 0
    assert len(list((tmp_path / "out/_run/units").iterdir())) == 3
    assert run(server.url, source, tmp_path / "out", *PASSAGES).code == 0
    assert server.stats()["texts"] == 2 * paid
    sound(tmp_path / "out", "--against", source)
    same_rows(tmp_path / "out", tmp_path / "whole")


def test_a_stop_in_the_middle_commits_whole_rows_and_nothing_is_paid_twice(
    source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with EmulatorServer() as server:
        assert run(server.url, source, tmp_path / "whole", *PASSAGES).code == 0
        texts = server.stats()["texts"]
    with EmulatorServer(EmulatorSettings(max_texts=4)) as server:
        args = (*PASSAGES, "--concurrency", "1", "--rpd", str(texts // 2))
        ended = run(server.url, source, output, *args)
        assert ended.code == 75, ended.err
        rows = summary(output)["dataset"]
        assert rows["left"] > 0 < rows["embedded"]
        whole = read(tmp_path / "whole")
        there = read(output)
        assert there.equals(whole.slice(0, len(there)))
        assert whole["id"][len(there)].as_py() not in there["id"].to_pylist()
        again = run(server.url, source, output, *PASSAGES)
        assert again.code == 0, again.err
        assert (server.stats()["texts"], server.stats()["texts_paid_twice"]) == (texts, 0)
    same_rows(output, tmp_path / "whole")


def test_a_kill_in_the_middle_costs_at_most_the_calls_in_the_air(
    source: Path, tmp_path: Path
) -> None:
    args = (*PASSAGES, "--unit-rows", "4", "--concurrency", "1")
    with EmulatorServer() as server:
        assert run(server.url, source, tmp_path / "whole", *args).code == 0
        job = Job(server, source, tmp_path / "out", args)
        paid = server.stats()["texts"]
        ended = job.finish(Step("os.rename", "/vectors/part-", 2))
        assert ended.code == -signal.SIGKILL, ended.err
        assert run(server.url, source, job.output, *args).code == 0
        most_in_the_air = 4 * 5
        assert server.stats()["texts"] <= 2 * paid + most_in_the_air
    assert leftovers(job.output) == []
    same_rows(job.output, tmp_path / "whole")


def test_a_kept_column_may_not_take_the_name_of_one_of_ours(
    server: EmulatorServer, tmp_path: Path
) -> None:
    source = write_rows(tmp_path / "a.parquet", ["x"], passage=["1"])
    ended = run(server.url, source, tmp_path / "out", *PASSAGES, "--keep-columns", "*")
    assert ended.code == 2
    assert "--keep-columns: the input column 'passage'" in ended.last
    assert run(server.url, source, tmp_path / "out", *MEAN, "--keep-columns", "*").code == 0
    sound(tmp_path / "out")
