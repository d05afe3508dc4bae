"""The first units of a large plan are embedded while the texts of the others are searched."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.cli import bulkembed, read, run, summary, write_rows
from support.early import ALL_TEXTS, EARLY_TEXTS, OWN, TEXTS, go, small_sizes, write_input
from support.images import picture
from support.killing import same_rows, wait_for
from support.media_jobs import PHOTO, embed, write_photos
from support.moments import just_before
from test_progress_lines import progress_lines

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.run import early_units

BEGINS = "are searched for duplicates"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_sizes(monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_input(tmp_path / "in")


def test_the_first_request_is_sent_before_the_search_of_the_other_units_ends(
    server: EmulatorServer, source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_sharing = early_units.find_sharing

    def when_texts_were_sent(*args: Any, **more: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            wait_for(lambda: server.stats()["texts"] == EARLY_TEXTS)
        return find_sharing(*args, **more)

    monkeypatch.setattr(early_units, "find_sharing", when_texts_were_sent)
    ended = go(server, source, output)
    assert ended.code == 0, ended.err
    assert BEGINS in ended.err
    stats = server.stats()
    assert (stats["texts"], stats["texts_paid_twice"]) == (ALL_TEXTS, 0)
    counts = summary(output)["counts"]
    assert (counts["texts"], counts["repeated"]) == (ALL_TEXTS, len(TEXTS) - ALL_TEXTS)


@pytest.mark.faults
@pytest.mark.parametrize("workers", [1, 2])
def test_the_rows_equal_those_of_a_run_without_early_units(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    failing = ("--max-dead-letters", 50)
    with EmulatorServer(EmulatorSettings(poison="later 7")) as server:
        ended = go(server, source, tmp_path / "early", *failing, "--workers", workers)
        assert ended.code == 0, ended.err
        paid = server.stats()["texts"]
        monkeypatch.setattr(early_units, "MIN_ROWS", 10_000)
        whole = go(server, source, tmp_path / "whole", *failing)
        assert whole.code == 0, whole.err
        assert server.stats()["texts"] == 2 * paid
    assert BEGINS in ended.err
    assert BEGINS not in whole.err
    same_rows(tmp_path / "early", tmp_path / "whole")
    for name in ("dataset", "run", "counts", "codes"):
        first, second = summary(tmp_path / "early")[name], summary(tmp_path / "whole")[name]
        if name == "counts":
            first, second = ({**one, "calls": 0, "retried": 0} for one in (first, second))
        assert first == second, name
    verified = bulkembed("verify", tmp_path / "early", "--against", source)
    assert verified.code == 0, verified.out


@pytest.mark.faults
def test_early_units_follow_committed_rows_and_a_limit_of_rows(
    server: EmulatorServer, source: Path, output: Path
) -> None:
    ended = go(server, source, output, "--limit-rows", 30)
    assert ended.code == 0, ended.err
    assert BEGINS not in ended.err
    for limit in (["--limit-rows", 100], []):
        ended = go(server, source, output, *limit)
        assert ended.code == 0, ended.err
        assert BEGINS in ended.err
    assert server.stats()["texts"] == ALL_TEXTS
    assert len(read(output)) == len(TEXTS)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["a.parquet", "b.parquet"])
def test_a_file_that_is_rewritten_meanwhile_is_embedded_as_it_is_in_the_end(
    server: EmulatorServer, source: Path, output: Path, name: str
) -> None:
    def rewrite() -> None:
        """Another content of the same size, and with the same time of modification."""
        path = source / name
        stat, rows = path.stat(), pq.read_table(path)
        texts = [text.capitalize() for text in rows["text"].to_pylist()]
        write_rows(path, texts, id=rows["id"].to_pylist())
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert path.stat().st_size == stat.st_size

    with just_before("os.rename", "/_run/units/", rewrite, 2):
        ended = go(server, source, output)
    assert ended.code == 0, ended.err
    assert f"Embedding them again: {name}" in ended.err
    assert len(read(output)) == len(TEXTS)
    verified = bulkembed("verify", output, "--against", source)
    assert verified.code == 0, verified.out


@pytest.mark.faults
@pytest.mark.parametrize("most", [0, 1000])
def test_if_early_units_want_many_known_vectors_all_units_are_searched(
    server: EmulatorServer, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(early_units, "MAX_KNOWN", most)
    write_rows(tmp_path / "other/a.parquet", [*OWN, "later 3"])
    assert go(server, tmp_path / "other", tmp_path / "reused").code == 0
    ended = go(server, source, tmp_path / "out", "--reuse", tmp_path / "reused")
    assert ended.code == 0, ended.err
    assert (BEGINS in ended.err) == (most > 0)
    assert server.stats()["texts"] == ALL_TEXTS
    assert len(read(tmp_path / "out")) == len(TEXTS)


@pytest.mark.faults
def test_passages_are_sent_once(server: EmulatorServer, output: Path, tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {n} is in several texts, and fills a passage." for n in range(40)]
    texts = ["\n\n".join(paragraphs[n % 37 : n % 37 + 4]) for n in range(90)]
    source = write_input(tmp_path / "in", [*texts, *paragraphs])
    cut = ("--long-text", "passages", "--passage-tokens", 16, "--passage-overlap", 0)
    ended = run(server.url, source, output, "--dim", 128, "--unit-rows", 3, *cut)
    assert ended.code == 0, ended.err
    assert BEGINS in ended.err
    assert server.stats()["texts"] == len(paragraphs)


@pytest.mark.faults
@pytest.mark.parametrize(
    "args",
    [
        ["--dedupe", "unit"],
        ["--long-text", "mean"],
        ["--sync"],
    ],
)
def test_some_runs_have_no_early_units(
    server: EmulatorServer, source: Path, output: Path, args: list[object]
) -> None:
    source = write_rows(source.parent / "one/a.parquet", TEXTS)
    ended = go(server, source, output, *args)
    assert ended.code == 0, ended.err
    assert BEGINS not in ended.err


@pytest.mark.faults
def test_rows_with_media_have_no_early_units(
    server: EmulatorServer, output: Path, tmp_path: Path
) -> None:
    source = write_photos(tmp_path / "a.parquet", [picture(0)] * 100)
    ended = embed(server.url, source, output, *PHOTO, "--unit-rows", 10)
    assert ended.code == 0, ended.err
    assert BEGINS not in ended.err


@pytest.mark.faults
def test_what_was_learned_and_the_progress_stay_over_both_parts(
    source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BULKEMBED_PROGRESS_S", "0.05")
    settings = EmulatorSettings(unknown_parameters=("prettyPrint",), latency_ms=100)
    with EmulatorServer(settings) as server:
        ended = go(server, source, output, "--concurrency", 1)
        stats = server.stats()
    assert ended.code == 0, ended.err
    assert stats["answers"].get("400") == 1
    assert stats["texts"] == ALL_TEXTS
    lines = progress_lines(ended.err)
    done = [int(line["done"]) for line in lines]
    assert done == sorted(done)
    assert {line["rows"] for line in lines} == {str(len(TEXTS))}
    assert all(int(line["shared"]) <= int(line["shared_all"]) for line in lines)
    shared = sum(TEXTS[:50].count(text) > 1 for text in {*TEXTS[:50]})
    assert {int(line["shared_all"]) for line in lines} >= {shared}
    assert int(lines[-1]["shared_all"]) > shared
