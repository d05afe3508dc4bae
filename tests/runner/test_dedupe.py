"""A text is paid for once, wherever it occurs, and every row has its vector."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow.fs as pafs
import pytest
from support.cli import (
    Ended,
    bulkembed,
    dead_codes,
    matrix,
    parts,
    read,
    run,
    summary,
    write_rows,
)

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.run import text_search
from bulkembed.transforms.dataset.index_segment import IndexSegment

TEXTS = [f"text {n % 40 if n % 3 else n}" for n in range(200)]
MORE = [None, " ", *[f"text {n}" for n in range(60, 120)], "text 119"]
ALL = [text for text in [*TEXTS, *MORE] if text and text.strip()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_rows(tmp_path / "in/a.parquet", TEXTS)
    lines = [json.dumps({"id": n, "text": text}) for n, text in enumerate(MORE)]
    (tmp_path / "in/b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path / "in"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def go(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, "--dim", 128, "--unit-rows", 17, *args)


def same_vectors(one: Path, other: Path) -> bool:
    left, right = read(one), read(other)
    facts = ["id", "text_hash", "truncated", "source_file", "source_row"]
    assert left.select(facts).equals(right.select(facts))
    return bool(np.array_equal(matrix(left), matrix(right)))


@pytest.mark.parametrize(
    ("dedupe", "texts"),
    [
        pytest.param("run", len(set(ALL)), id="run"),
        pytest.param("off", len(ALL), id="off"),
    ],
)
def test_each_text_is_sent_as_often_as_dedupe_allows(
    server: EmulatorServer, source: Path, output: Path, dedupe: str, texts: int
) -> None:
    assert go(server, source, output, "--dedupe", dedupe).code == 0
    assert server.stats()["texts"] == texts
    assert len(read(output)) == len(ALL)
    counts = summary(output)["counts"]
    assert (counts["texts"], counts["repeated"]) == (texts, len(ALL) - texts)
    told = json.loads(bulkembed("status", output, "--json").out)["counts"]
    assert (told["texts"], told["repeated"]) == (texts, len(ALL) - texts)


def test_the_vectors_equal_those_of_a_run_that_sends_each_row(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    for dedupe in ("run", "unit", "off"):
        assert go(server, source, tmp_path / dedupe, "--dedupe", dedupe).code == 0
    assert same_vectors(tmp_path / "run", tmp_path / "off")
    assert same_vectors(tmp_path / "unit", tmp_path / "off")


def indexed_parts(output: Path) -> list[set[str]]:
    """The parts of each segment of the index of text hashes."""
    disk = pafs.LocalFileSystem()
    files = (output / "_run/index").glob("*")
    return [{part.name for part in IndexSegment.open(disk, str(file)).parts} for file in files]


def test_a_complete_run_indexes_its_parts_so_that_the_next_one_reads_none_for_it(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    for texts in (TEXTS, [*TEXTS[:-1], "new"], [f"other {n}" for n in range(200)]):
        write_rows(source / "a.parquet", texts)
        sent = server.stats()["texts"]
        assert go(server, source, output, "--prune", "--max-delete", "100%").code == 0
        named = {f"vectors/{path.name}" for path in parts(output, "vectors")}
        segments = indexed_parts(output)
        assert set().union(*segments) >= named
        assert all(own & named for own in segments)
        assert sum(len(own & named) for own in segments) == len(named)
        if texts[-1] == "new":
            assert server.stats()["texts"] == sent + 1


@pytest.mark.parametrize("dedupe", ["unit", "off"])
def test_a_run_that_does_not_need_the_index_does_not_write_it(
    server: EmulatorServer, source: Path, output: Path, dedupe: str
) -> None:
    assert go(server, source, output, "--dedupe", dedupe).code == 0
    assert indexed_parts(output) == []


def test_only_the_counts_of_shared_texts_remain(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output).code == 0
    assert {path.suffix for path in (output / "_run/shared").iterdir()} == {".json"}


def test_a_text_of_a_committed_row_is_not_paid_for_again(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output).code == 0
    paid = server.stats()["texts"]
    write_rows(source / "c.parquet", [*TEXTS[:50], "new", "new"])
    assert go(server, source, output).code == 0
    assert server.stats()["texts"] == paid + 1
    rows = read(output)
    assert len(rows) == len(ALL) + 52
    vectors, names = matrix(rows), rows["source_file"].to_pylist()
    old = [n for n, name in enumerate(names) if name.endswith("a.parquet")][:50]
    new = [n for n, name in enumerate(names) if name.endswith("c.parquet")][:50]
    assert np.array_equal(vectors[old], vectors[new])


def test_only_the_new_rows_of_a_file_that_grew_are_paid_for(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output).code == 0
    paid = server.stats()["texts"]
    write_rows(source / "a.parquet", [*TEXTS, "one more"])
    assert go(server, source, output).code == 0
    assert server.stats()["texts"] == paid + 1
    assert len(read(output)) == len(ALL) + 1


def test_known_vectors_are_not_copied_to_the_shared_ones_and_leave_no_file(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output).code == 0
    paid = server.stats()["texts"]
    write_rows(source / "c.parquet", [*TEXTS[::-1], *[f"new {n}" for n in range(60)]])
    for args in (["--limit-rows", 20], ["--workers", 2]):
        assert go(server, source, output, *args).code == 0
        assert not list((output / "_run/shared").glob("*.spill"))
        assert not list((output / "_run/gather").iterdir())
    counts = summary(output)["counts"]
    assert (counts["texts"], counts["reused"]) == (60, len(TEXTS) - 20)
    assert server.stats()["texts"] == paid + 60


def test_texts_with_different_titles_are_different(
    server: EmulatorServer, output: Path, tmp_path: Path
) -> None:
    texts = ["same"] * 40
    titles = ["one", "two", None, ""] * 10
    source = write_rows(tmp_path / "in/a.parquet", texts, title=titles)
    assert go(server, source, output, "--title-column", "title").code == 0
    assert server.stats()["texts"] == 3


def test_each_row_of_a_rejected_text_is_a_dead_letter(tmp_path: Path, output: Path) -> None:
    texts = [f"poison {n % 2}" if n % 10 == 0 else f"text {n % 30}" for n in range(100)]
    source = write_rows(tmp_path / "in/a.parquet", texts)
    bad = [n for n in range(100) if n % 10 == 0]
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        ended = go(server, source, output, "--max-dead-letters", 10)
        assert ended.code == 0
        assert server.stats()["texts"] == len({text for text in texts if "poison" not in text})
    assert sorted(dead_codes(output)) == bad
    assert len(read(output)) == 90
    assert "10 failed" in ended.out


def test_nothing_is_paid_twice_if_the_quota_of_the_day_ends_during_shared_texts(
    source: Path, output: Path
) -> None:
    with EmulatorServer(EmulatorSettings()) as server:
        assert go(server, source, output, "--rpd", 20).code == 75
        assert list((output / "_run/shared").glob("*.spill"))
        first = server.stats()["texts"]
        assert 0 < first <= 20
        assert go(server, source, output, "--rpd", 0).code == 0
        stats = server.stats()
    assert (stats["texts"], stats["texts_paid_twice"]) == (len(set(ALL)), 0)
    told = json.loads(bulkembed("status", output, "--json").out)["counts"]
    assert (told["texts"], told["repeated"]) == (len(set(ALL)), len(ALL) - len(set(ALL)))


def test_processes_share_the_vectors_that_one_of_them_has_paid_for(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    assert go(server, source, output, "--workers", 2).code == 0
    assert server.stats()["texts"] == len(set(ALL))


def test_texts_are_paid_once_if_the_search_does_not_fit_into_memory(
    server: EmulatorServer, source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_search, "BUFFER_BYTES", 100)
    monkeypatch.setattr(text_search, "PARTITION_BYTES", 300)
    assert go(server, source, output).code == 0
    assert server.stats()["texts"] == len(set(ALL))
    write_rows(source / "c.parquet", [*ALL, "new"])
    assert go(server, source, output).code == 0
    assert server.stats()["texts"] == len(set(ALL)) + 1
    assert len(read(output)) == 2 * len(ALL) + 1


PARAGRAPHS = [f"Paragraph {n} stands in several texts, and fills a passage." for n in range(12)]


@pytest.mark.parametrize("long_text", ["passages", "mean"])
def test_passages_that_several_texts_have_are_sent_once(
    server: EmulatorServer, output: Path, tmp_path: Path, long_text: str
) -> None:
    texts = ["\n\n".join(PARAGRAPHS[n % 5 : n % 5 + 4]) for n in range(20)]
    source = write_rows(tmp_path / "in/a.parquet", [*texts, None, PARAGRAPHS[0]])
    args = ("--long-text", long_text, "--passage-tokens", 16, "--passage-overlap", 0)
    assert run(server.url, source, output, "--dim", 128, "--unit-rows", 3, *args).code == 0
    assert server.stats()["texts"] == 8
    sent = 20 * 4 + 1
    counts = summary(output)["counts"]
    assert (counts["texts"], counts["repeated"]) == (8, sent - 8)
    assert len(read(output)) == (sent if long_text == "passages" else 21)
    write_rows(tmp_path / "in/b.parquet", ["\n\n".join(PARAGRAPHS[5:9])])
    again = run(server.url, tmp_path / "in", output, "--dim", 128, "--unit-rows", 3, *args)
    assert again.code == 0, again.err
    assert server.stats()["texts"] == (9 if long_text == "passages" else 12)
