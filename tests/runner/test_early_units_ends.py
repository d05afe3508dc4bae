"""A run with early units that ends early: by a signal, a limit, or a damaged file."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.cli import read, run, summary, write_rows
from support.early import ALL_TEXTS, EARLY_ROWS, EARLY_TEXTS, TEXTS, go, small_sizes, write_input
from support.killing import leftovers, wait_for
from support.moments import just_before
from support.other_run import gathered_by_another_run, take_over
from test_damaged_files import damaged

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.run import early_units
from bulkembed.transforms.dataset.dataset import Dataset

pytestmark = pytest.mark.faults


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_sizes(monkeypatch)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_input(tmp_path / "in")


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def late_search(
    monkeypatch: pytest.MonkeyPatch,
    output: Path,
    then: Callable[[], None] = lambda: None,
    *,
    ends: bool = False,
) -> None:
    """Do something once the early units are committed; then search, or wait until the run ends."""
    find_sharing = early_units.find_sharing

    def search(*args: Any, **more: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            return find_sharing(*args, **more)
        wait_for(lambda: committed_rows(output) == EARLY_ROWS)
        then()
        while not ends:
            more["check"]()
            time.sleep(0.01)
        return find_sharing(*args, **more)

    monkeypatch.setattr(early_units, "find_sharing", search)


def committed_rows(output: Path) -> int:
    return sum(record.unit.rows for record in Dataset.open(str(output)).state().records)


def check_resumed(server: EmulatorServer, source: Path, output: Path) -> None:
    ended = go(server, source, output)
    assert ended.code == 0, ended.err
    stats = server.stats()
    assert (stats["texts"], stats["texts_paid_twice"]) == (ALL_TEXTS, 0)
    assert len(read(output)) == len(TEXTS)
    assert leftovers(output) == []


@pytest.mark.parametrize("number", [1, 5, 6, 12])
def test_a_signal_ends_either_part_cleanly(
    server: EmulatorServer, source: Path, output: Path, number: int
) -> None:
    with just_before("os.rename", "/_run/units/", stop, number):
        ended = go(server, source, output, "--concurrency", 1)
    assert ended.code == 75, ended.err
    if number < 5:
        assert server.stats()["texts"] <= EARLY_TEXTS
    check_resumed(server, source, output)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_between_the_parts_ends_the_search(
    server: EmulatorServer,
    source: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    with monkeypatch.context() as patch:
        late_search(patch, output, then=stop)
        ended = go(server, source, output, "--workers", workers)
    assert ended.code == 75, ended.err
    assert "interrupted by SIGTERM" in ended.err
    assert server.stats()["texts"] == EARLY_TEXTS
    check_resumed(server, source, output)


def test_a_limit_of_time_between_the_parts_ends_the_search(
    server: EmulatorServer, source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        late_search(patch, output)
        ended = go(server, source, output, "--max-runtime", "6s")
    assert ended.code == 75, ended.err
    assert "--max-runtime" in ended.err
    check_resumed(server, source, output)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_launcher_that_lost_its_dataset_between_the_parts_writes_nothing_more(
    server: EmulatorServer,
    source: Path,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    late_search(monkeypatch, output, then=lambda: take_over(output), ends=True)
    ended = go(server, source, output, "--workers", workers)
    assert ended.code == 5, ended.err
    assert "another-run has taken over" in ended.last
    assert server.stats()["texts"] == EARLY_TEXTS
    assert gathered_by_another_run(output).exists()


@pytest.mark.parametrize(("most", "code", "workers"), [(1, 3, 1), (4, 3, 1), (5, 0, 1), (5, 0, 2)])
def test_failed_rows_of_both_parts_count_together(
    tmp_path: Path, most: int, code: int, workers: int
) -> None:
    """Blank rows have not failed."""
    poison, blank = (3, 21, 102, 121, 122), (5, 6, 7, 8, 110)
    texts = [f"poison {n}" if n in poison else text for n, text in enumerate(TEXTS)]
    texts = ["" if n in blank else text for n, text in enumerate(texts)]
    source, output = write_input(tmp_path / "in", texts), tmp_path / "out"
    limit = ("--max-dead-letters", most, "--workers", workers)
    with EmulatorServer(EmulatorSettings(poison="poison")) as server:
        ended = go(server, source, output, *limit)
        assert ended.code == code, ended.err
        if most == 1:
            assert server.stats()["texts"] <= EARLY_TEXTS


@pytest.mark.parametrize("usd", [60, 150])
def test_a_limit_of_cost_holds_for_both_parts(
    server: EmulatorServer, source: Path, output: Path, usd: int
) -> None:
    price = ("--price-usd-per-mtok", "1000000", "--concurrency", 1)
    ended = go(server, source, output, *price, "--max-cost-usd", usd)
    assert ended.code == 4, ended.err
    assert 0 < server.stats()["tokens"] <= usd
    assert go(server, source, output, *price, "--max-cost-usd", 100_000).code == 0
    assert server.stats()["texts_paid_twice"] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_the_window_is_full_but_not_exceeded(source: Path, output: Path, workers: int) -> None:
    limit = EARLY_TEXTS + 30
    with EmulatorServer(EmulatorSettings(rpm=limit)) as server:

        def stop_late() -> None:
            wait_for(lambda: server.stats()["texts"] >= limit)
            time.sleep(1)  # Another request would be sent now, and answered with a 429.
            stop()

        stopping = threading.Thread(target=stop_late)
        stopping.start()
        ended = go(server, source, output, "--rpm", limit, "--workers", workers)
        stopping.join()
        stats = server.stats()
    assert ended.code == 75, ended.err
    assert (stats["texts"], stats["answers_429"]) == (limit, 0)


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("begins", [True, False])
def test_a_file_that_the_search_finds_damaged(
    server: EmulatorServer, tmp_path: Path, output: Path, *, skips: bool, begins: bool
) -> None:
    """It has early units, or all of its units are later ones."""
    folder = tmp_path / "in"
    write_rows(folder / "c.parquet", [f"good {n}" for n in range(EARLY_ROWS)])
    bad = damaged(folder / ("b.parquet" if begins else "d.parquet"))
    args = ["--skip-bad-files"] if skips else []
    ended = run(server.url, folder, output, "--dim", 128, "--unit-rows", 10, *args)
    assert ended.err.count(f"{bad.name} cannot be read") == 1
    assert ended.code == (0 if skips else 1), ended.err
    files = read(output)["source_file"].to_pylist()
    assert files.count(bad.name) == (EARLY_ROWS if begins else 0)
    if skips or not begins:
        assert files.count("c.parquet") == EARLY_ROWS
    assert (output / "_SUCCESS").exists() == skips
    if skips:
        (line,) = summary(output)["skipped_files"]
        assert bad.name in line
        assert summary(output)["dataset"]["left"] == 0


def test_a_file_that_is_damaged_while_its_early_units_are_embedded_is_skipped(
    server: EmulatorServer, source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The texts of early units are read again for the search of the rest."""
    distinct_keys = early_units.distinct_keys

    def of_damaged_texts(*args: Any) -> Any:
        path = source / "a.parquet"
        column = pq.read_metadata(path).row_group(0).column(1)
        assert column.path_in_schema == "text"
        begin = column.dictionary_page_offset or column.data_page_offset
        with path.open("r+b") as file:
            file.seek(begin)
            file.write(bytes(column.total_compressed_size))
        return distinct_keys(*args)

    monkeypatch.setattr(early_units, "distinct_keys", of_damaged_texts)
    ended = go(server, source, output, "--skip-bad-files")
    assert ended.code == 0, ended.err
    assert "skipped by --skip-bad-files: a.parquet" in ended.err
    assert read(output)["source_file"].to_pylist().count("b.parquet") == len(TEXTS) - 100
    (line,) = summary(output)["skipped_files"]
    assert "a.parquet" in line
