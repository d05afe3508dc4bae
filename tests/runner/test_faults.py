"""Under each fault, alone and together, every row is in its right place exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.cli import Ended, dead_codes, matrix, parts, read, run, summary, write_rows
from support.killing import leftovers

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings, Fault

pytestmark = pytest.mark.faults

FAULTS = {
    Fault.UNAVAILABLE: 0.1,
    Fault.RESET: 0.02,
    Fault.HANG: 0.01,
    Fault.SHORT: 0.02,
    Fault.BROKEN_JSON: 0.01,
    Fault.WRONG_DIM: 0.01,
    Fault.NULL: 0.01,
}
TEXTS = [f"text {n}, {n * 7919 % 1000} and {n * 104729 % 997}" for n in range(1200)]
POISONED = 777
ARGS = ("--dim", 128)
SHORT = ("--timeout", 3)
"""So that a call that hangs does not hold the test."""


def served(**settings: Any) -> EmulatorServer:
    return EmulatorServer(EmulatorSettings(**settings))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> npt.NDArray[np.float32]:
    """The vector of each text, from a server without a fault."""
    folder = tmp_path_factory.mktemp("expected")
    source = write_rows(folder / "a.parquet", TEXTS)
    with served() as server:
        assert run(server.url, source, folder / "out", *ARGS).code == 0
    return matrix(read(folder / "out"))


def everything_is_right(
    output: Path, expected: npt.NDArray[np.float32], dead: Sequence[int] = ()
) -> None:
    rows = [row for row in range(len(expected)) if row not in dead]
    table = read(output)
    assert table["id"].to_pylist() == table["source_row"].to_pylist() == rows
    assert np.array_equal(matrix(table), expected[rows])
    assert list(dead_codes(output)) == list(dead)
    assert leftovers(output) == []
    assert (output / "_SUCCESS").exists()


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_share_of_faults_changes_nothing_but_the_time(
    tmp_path: Path, fault: Fault, expected: npt.NDArray[np.float32]
) -> None:
    source = write_rows(tmp_path / "a.parquet", TEXTS)
    with served(faults=((fault, 0.2),), seed=3, max_texts=40) as server:
        ended = run(server.url, source, tmp_path / "out", *ARGS, *SHORT, "--unit-rows", 100)
        assert ended.code == 0, ended.err
        # One call with too many texts, and those without a fault.
        assert server.stats()["calls"] > 1 + len(TEXTS) // 40
    everything_is_right(tmp_path / "out", expected)


def test_all_faults_a_quota_and_a_poison_row_at_once(
    tmp_path: Path, expected: npt.NDArray[np.float32]
) -> None:
    texts = [*TEXTS[:POISONED], "this is poison", *TEXTS[POISONED + 1 :]]
    source = write_rows(tmp_path / "a.parquet", texts)
    settings: dict[str, Any] = {"faults": tuple(FAULTS.items()), "poison": "poison", "seed": 11}
    with served(**settings, rpm=3000, latency_ms=20, jitter_ms=20) as server:
        args = (*ARGS, *SHORT, "--rpm", 3000, "--unit-rows", 50)
        ended = run(server.url, source, tmp_path / "out", *args)
        assert ended.code == 0, ended.err
        assert server.stats()["answers"]["200"] < server.stats()["calls"]
    everything_is_right(tmp_path / "out", expected, [POISONED])
    assert dead_codes(tmp_path / "out") == {POISONED: "refused"}


def test_a_429_that_nobody_expected_loses_nothing(
    tmp_path: Path, expected: npt.NDArray[np.float32]
) -> None:
    source = write_rows(tmp_path / "a.parquet", TEXTS)
    with served(script=("ok", "429", "ok", "ok", "503", "429", "ok")) as server:
        ended = run(server.url, source, tmp_path / "out", *ARGS, "--unit-rows", 100)
        assert ended.code == 0, ended.err
        assert server.stats()["texts_paid_twice"] == 0
    everything_is_right(tmp_path / "out", expected)


@pytest.mark.parametrize("row", [0, 2617, 4999])
def test_one_bad_row_among_five_thousand_costs_at_most_15_calls_more(
    tmp_path: Path, row: int
) -> None:
    texts = [f"text {n}" + (" poison" if n == row else "") for n in range(5000)]
    source = write_rows(tmp_path / "a.parquet", texts)
    with served(poison="poison") as server:
        ended = run(server.url, source, tmp_path / "out", "--dim", 128)
        assert ended.code == 0, ended.err
        # The first call of a run may be rejected because of a parameter, so it is sent without one.
        assert server.stats()["calls"] <= 50 + 14 + (row == 0)
        assert server.stats()["texts"] == 4999
    assert dead_codes(tmp_path / "out") == {row: "refused"}
    assert len(read(tmp_path / "out")) == 4999


def test_a_row_that_always_fails_while_others_pass_is_given_up_on(tmp_path: Path) -> None:
    texts = [f"text {n}" + (" sick" if n == 250 else "") for n in range(600)]
    source = write_rows(tmp_path / "a.parquet", texts)
    with served(sick="sick", latency_ms=80) as server:
        args = (*ARGS, "--retry-timeout", "1s", "--unit-rows", 100, "--concurrency", 2)
        ended = run(server.url, source, tmp_path / "out", *args)
        assert ended.code == 0, ended.err
        assert server.stats()["texts"] == 599
    assert dead_codes(tmp_path / "out") == {250: "service_error"}
    (letter,) = read(tmp_path / "out", "dead_letters").to_pylist()
    assert letter["http_status"] == 503
    assert letter["attempts"] > 1
    assert len(read(tmp_path / "out")) == 599


def test_an_outage_longer_than_the_deadline_stops_the_run_and_loses_nothing(
    tmp_path: Path, expected: npt.NDArray[np.float32]
) -> None:
    source, output = write_rows(tmp_path / "a.parquet", TEXTS), tmp_path / "out"
    args = (*ARGS, "--unit-rows", 100, "--concurrency", 2)
    with served(script=("ok",) * 5 + ("503",) * 500) as server:
        ended = run(server.url, source, output, *args, "--retry-timeout", "2s")
        assert ended.code == 75
        assert "the service failed for 2 s" in ended.last
        assert server.stats()["calls"] < 50
        paid = server.stats()["texts"]
    assert paid == 500
    assert len(read(output)) == 500
    assert dead_codes(output) == {}
    with served() as server:
        assert run(server.url, source, output, *args).code == 0
        assert server.stats()["texts"] == 1200 - paid
    everything_is_right(output, expected)


BAD = 30


def with_bad_rows(tmp_path: Path, *args: object) -> tuple[Ended, dict[str, Any]]:
    """2,000 rows of which the first 30 are rejected, and 500 are blank."""
    texts = [f"poison {n}" if n < BAD else " " if n < 530 else f"text {n}" for n in range(2000)]
    source = write_rows(tmp_path / "a.parquet", texts)
    with served(poison="poison", latency_ms=40) as server:
        ended = run(
            server.url, source, tmp_path / "out", *ARGS, *args, "--unit-rows", 50,
            "--concurrency", 2,
        )  # fmt: skip
        return ended, server.stats()


@pytest.mark.parametrize("most", ["29", "1.4%", None])
def test_too_many_dead_letters_end_the_run_early_with_3(tmp_path: Path, most: str | None) -> None:
    ended, stats = with_bad_rows(tmp_path, *(("--max-dead-letters", most) if most else ()))
    assert ended.code == 3
    assert "--max-dead-letters" in ended.last
    assert stats["texts"] < 1470
    assert not (tmp_path / "out/_SUCCESS").exists()


@pytest.mark.parametrize("most", ["30", "1.5%"])
def test_as_many_dead_letters_as_may_be_are_no_failure_and_blank_rows_do_not_count(
    tmp_path: Path, most: str
) -> None:
    ended, _ = with_bad_rows(tmp_path, "--max-dead-letters", most)
    assert ended.code == 0, ended.err
    assert summary(tmp_path / "out")["dataset"] == {
        "rows_in": 2000, "embedded": 1470, "dead": BAD, "skipped": 500, "left": 0,
    }  # fmt: skip


def test_ten_rows_may_always_be_given_up_on(tmp_path: Path) -> None:
    for bad, code in ((10, 0), (11, 3)):
        texts = [f"poison {n}" if n < bad else f"text {n}" for n in range(40)]
        source = write_rows(tmp_path / f"{bad}/a.parquet", texts)
        with served(poison="poison") as server:
            assert run(server.url, source, tmp_path / f"out{bad}", *ARGS).code == code


def test_no_rows_are_lost_where_the_run_ends_by_its_dead_letters(tmp_path: Path) -> None:
    ended, _ = with_bad_rows(tmp_path, "--max-dead-letters", "5")
    assert ended.code == 3
    again, _ = with_bad_rows(tmp_path, "--max-dead-letters", "100%")
    assert again.code == 0, again.err
    counts = summary(tmp_path / "out")["dataset"]
    assert (counts["embedded"], counts["dead"], counts["left"]) == (1470, BAD, 0)
    assert parts(tmp_path / "out", "dead_letters")
