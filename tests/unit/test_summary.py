from __future__ import annotations

import io
import json
from typing import Any

import pytest

from bulkembed.pipeline.cli.show import show_lines
from bulkembed.pipeline.run.life_cost import LifeCost
from bulkembed.pipeline.run.request import parse_budget
from bulkembed.pipeline.run.summary import (
    BatchCounts,
    FailedFile,
    RowCounts,
    RunSummary,
    count_rows,
    summary_lines,
)
from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.errors import OutputError
from bulkembed.schemas.messages import number_of
from bulkembed.schemas.stop import ExitCode, Stop, StopReason
from bulkembed.schemas.units import CallCounts, Unit, UnitRecord

COUNTS = CallCounts(calls=12, retried=1, texts=1100, tokens=54321, repeated=7, reused=4780)


def summary(**changes: Any) -> RunSummary:
    rows = RowCounts(1234, 1200, 4, 30, 0)
    facts: dict[str, Any] = {
        "run_id": "r", "version": "1", "output": "out", "seconds": 2.0, "dataset": rows,
        "run": rows, "counts": COUNTS, "codes": {"refused": 3, "too_long": 1, "blank_text": 30},
    }  # fmt: skip
    return RunSummary(**{**facts, **changes})


def shown(found: RunSummary) -> str:
    out = io.StringIO()
    show_lines(summary_lines(found), out)
    return out.getvalue()


def test_the_summary_accounts_for_every_row() -> None:
    text = shown(summary())
    assert "1,234 in: 1,200 embedded, 30 skipped (blank), 4 failed, 0 remaining" in text
    assert "3 refused, 1 too_long" in text
    assert "blank_text" not in text
    assert "12 with 1,100 texts, 54,321 tokens; 7 duplicate texts not sent; 4,780 texts" in text
    assert "with a known vector" in text
    assert "600 rows/s" in text
    assert "out" in text


def test_a_slow_run_is_not_shown_as_one_without_rows() -> None:
    assert "3,000.0 s, 0.4 rows/s" in shown(summary(seconds=3000.0))


def test_a_summary_of_media_counts_contents() -> None:
    cost = LifeCost(tokens=54321, usd=None, unconfirmed_tokens=9, has_media=True)
    found = shown(summary(cost=cost, batch=BatchCounts(1, 5, 6, 2)))
    assert "12 with 1,100 contents, 54,321 tokens; 7 duplicate contents not sent" in found
    assert "1 job answered 5 contents" in found
    assert "the answers to their contents are lost" in found
    assert "text" not in found.replace("at the price of text", "")
    nothing = RowCounts(3, 0, 0, 3, 0)
    blank = shown(summary(cost=cost, dataset=nothing, run=nothing, codes={"blank_text": 3}))
    assert "every part of --content is null or empty in all 3 rows" in blank


def test_the_summary_names_duplicates_limits_and_files_left_out() -> None:
    text = shown(
        summary(
            duplicate_ids=5,
            skipped_files=("b.gz is cut off",),
            vanished_files=("c.parquet",),
            limit_rows=1234,
            dataset=RowCounts(9000, 1200, 4, 30, 7766),
            throttled_s=61.0,
        )
    )
    for words in (
        "5 rows with the id of an earlier row", "b.gz is cut off", "c.parquet: its rows are kept",
        "7,766 rows remaining", "61 s of it spent waiting for quota", "9,000 in",
    ):  # fmt: skip
        assert words in text


def test_a_run_that_was_not_stopped_says_what_to_do_about_dead_letters() -> None:
    none = RowCounts(1204, 1200, 0, 4, 0)
    assert "--retry-failed" in shown(summary())
    assert "--retry-failed" not in shown(summary(dataset=none, run=none))
    assert "--retry-failed" not in shown(summary(stop=Stop(StopReason.SIGNAL, "", 1.5)))


def test_rows_that_do_not_add_up_are_an_error() -> None:
    RowCounts(10, 5, 2, 2, 1).check()
    with pytest.raises(OutputError, match="do not add up: 10 in, 5 embedded"):
        RowCounts(10, 5, 2, 2, 2).check()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ExitCode.COMPLETE),
        ({"run": RowCounts(5, 1, 0, 0, 4)}, ExitCode.INCOMPLETE),
        ({"dataset": RowCounts(5, 1, 0, 0, 4)}, ExitCode.COMPLETE),
        ({"stop": Stop(StopReason.REJECTED, "", 1.5)}, ExitCode.FAILED),
        ({"stop": Stop(StopReason.SIGNAL, "", 1.5)}, ExitCode.INCOMPLETE),
    ],
)
def test_the_exit_code_follows_the_rows_and_the_stop_reason(
    changes: dict[str, Any], code: ExitCode
) -> None:
    assert summary(**changes).exit_code == code
    assert summary(**changes).to_json()["exit_code"] == int(code)


def test_the_summary_can_be_saved() -> None:
    saved = json.loads(json.dumps(summary(stop=Stop(StopReason.SIGNAL, "SIGINT", 1.5)).to_json()))
    assert saved["dataset"]["rows_in"] == 1234
    assert saved["stop"] == {"reason": "signal", "message": "SIGINT", "at": 1.5}


def test_the_records_of_a_run_are_summed() -> None:
    records = [
        UnitRecord(
            Unit("a" * 16, 0, 10), 7, 1, 2,
            codes=((DeadCode.BLANK_TEXT, 2), (DeadCode.REJECTED, 1)), counts=COUNTS,
        )
        for _ in range(2)
    ]  # fmt: skip
    assert count_rows(records, 25) == RowCounts(25, 14, 2, 4, 5)


def test_the_summary_mentions_blank_rows_only_if_there_are_any() -> None:
    assert "3 of 3 rows failed\n" in shown(summary(dataset=RowCounts(3, 0, 3, 0, 0)))
    some = shown(summary(dataset=RowCounts(3, 0, 2, 1, 0)))
    assert "2 of 3 rows failed, and the others are blank\n" in some


@pytest.mark.parametrize(
    ("rows", "failed", "budget", "words"),
    [
        pytest.param((100, 90, 10, 0, 0), [], None, None, id="ten-rows-here-and-there"),
        pytest.param((100, 89, 11, 0, 0), [], None, "limit of 10", id="more-than-ten"),
        pytest.param((8, 0, 8, 0, 0), [8], None, "no row", id="nothing-embedded"),
        pytest.param((8, 0, 1, 7, 0), [1], "100%", "no row", id="whatever-the-budget"),
        pytest.param((800, 0, 8, 0, 792), [8], None, "no row", id="nothing-so-far"),
        pytest.param((40, 32, 8, 0, 0), [8], None, "f0: no row", id="one-of-the-files"),
        pytest.param((40, 32, 8, 0, 0), [3, 5], None, "f1: no row", id="two-of-the-files"),
        pytest.param((40, 32, 8, 0, 0), [8], "8", None, id="as-many-as-the-user-allows"),
        pytest.param((1000, 991, 9, 0, 0), [1] * 9, None, None, id="one-in-a-hundred"),
        pytest.param((8, 0, 0, 8, 0), [], None, None, id="blank-rows-have-not-failed"),
    ],
)
def test_the_default_limit_does_not_hide_a_file_in_which_all_rows_failed(
    rows: tuple[int, ...], failed: list[int], budget: str | None, words: str | None
) -> None:
    counts = RowCounts(*rows)
    files = tuple(FailedFile(f"f{n}", dead) for n, dead in enumerate(failed))
    found = summary(dataset=counts, run=counts, failed_files=files).with_dead_letter_limit(
        parse_budget(budget), retry=False
    )
    if words is None:
        assert found.stop is None
    else:
        assert found.stop is not None
        assert found.exit_code == ExitCode.TOO_MANY_DEAD_LETTERS
        assert words in found.stop.message
    for file in files:
        assert f"{file.name}: {number_of(file.rows, 'row')} failed" in shown(found)
