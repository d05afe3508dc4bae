"""Quotas in whole runs: their messages, their exit codes, and what the next run knows."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.cli import Ended, run, summary, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings, QuotaDetails
from bulkembed.transforms.calls.embedder import CLOCK_OFFSET
from bulkembed.transforms.calls.shared_quota import default_folder, quota_file

DAY_S = 86_400


@pytest.fixture(autouse=True)
def _any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "anything")


def served(**settings: Any) -> EmulatorServer:
    return EmulatorServer(EmulatorSettings(**settings))


def embed(server: EmulatorServer, tmp_path: Path, rows: int, name: str, *args: object) -> Ended:
    source = write_rows(tmp_path / f"{name}.parquet", [f"{name} {n}" for n in range(rows)])
    return run(server.url, source, tmp_path / name, "--dim", 128, *args)


def later(server: EmulatorServer, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setenv(CLOCK_OFFSET, str(seconds))
    httpx2.post(f"{server.url}/clock", json={"offset_s": seconds}).raise_for_status()


def committed(output: Path) -> int:
    rows: int = summary(output)["run"]["embedded"]
    return rows


def test_a_quota_of_zero_is_an_error_that_explains_it(tmp_path: Path) -> None:
    with served(no_access=True) as server:
        ended = embed(server, tmp_path, 5, "a")
        assert server.stats()["calls"] == 1
    assert ended.code == 1
    assert "The project has no quota for this model." in ended.err


def test_a_lower_limit_is_adopted_with_one_warning_that_names_both_limits(tmp_path: Path) -> None:
    with served(rpm=20) as server:
        ended = embed(server, tmp_path, 60, "a", "--rpm", 50, "--max-runtime", "5s")
        assert server.stats()["answers_429"] <= 2
    assert ended.err.count("the service's limit is lower: 20 instead of 50") == 1
    assert ended.code == 75


def test_a_spent_day_ends_the_run_and_the_message_says_when_it_resets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(rpd=50) as server:
        for day, (code, rows) in enumerate([(75, 50), (75, 50), (0, 20)]):
            later(server, monkeypatch, day * DAY_S)
            ended = embed(server, tmp_path, 120, "a", "--rpd", 50)
            assert (ended.code, committed(tmp_path / "a")) == (code, rows)
            message = re.search(r"resets at \d{4}-\d\d-\d\d \d\d:\d\d \w+", ended.out + ended.err)
            assert bool(message) is (code == 75)
        stats = server.stats()
    assert (stats["answers_429"], stats["texts_paid_twice"]) == (0, 0)


def test_one_429_for_the_day_ends_the_run(tmp_path: Path) -> None:
    with served(rpd=30) as server:
        ended = embed(server, tmp_path, 90, "a", "--unit-rows", 30, "--concurrency", 1)
        assert server.stats()["answers_429"] == 1
    assert ended.code == 75
    assert "the day's quota is spent and resets at" in ended.out + ended.err


def test_the_next_run_and_other_keys_of_a_quota_name_know_the_days_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("--rpd", 100, "--quota-name", "project-7")
    with served() as server:
        assert embed(server, tmp_path, 60, "a", *args).code == 0
        monkeypatch.setenv("GEMINI_API_KEY", "another-key-of-the-same-project")
        assert embed(server, tmp_path, 60, "b", *args).code == 75
        assert committed(tmp_path / "b") == 40
        assert embed(server, tmp_path, 60, "c", "--rpd", 100).code == 0


def test_a_second_run_in_the_same_minute_knows_the_use_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(rpm=100) as server:
        assert embed(server, tmp_path, 100, "a", "--rpm", 100).code == 0
        later(server, monkeypatch, 59)
        assert embed(server, tmp_path, 100, "b", "--rpm", 100).code == 0
        stats = server.stats()
    assert stats["answers_429"] == 0
    assert stats["last_counted_s"] - stats["first_counted_s"] >= 60


def test_a_share_is_a_part_of_the_day_and_calls_can_count_instead_of_texts(tmp_path: Path) -> None:
    with served() as server:
        assert embed(server, tmp_path, 90, "a", "--rpd", 100, "--quota-share", "1/4").code == 75
        assert committed(tmp_path / "a") == 25
        counted = ("--rpm-counts", "calls", "--rpd", 2, "--quota-name", "calls")
        assert embed(server, tmp_path, 90, "b", *counted).code == 0


@pytest.mark.parametrize("details", [QuotaDetails.ZERO_DELAY, QuotaDetails.NONE])
def test_a_429_with_few_details_pauses_all_calls(details: QuotaDetails, tmp_path: Path) -> None:
    with served(script=("ok", "429", "ok"), quota_details=details) as server:
        ended = embed(server, tmp_path, 240, "a")
        stats = server.stats()
    assert (ended.code, stats["texts"], stats["answers_429"]) == (0, 240, 1)


def test_a_token_limit_is_kept_without_counts_of_the_service(tmp_path: Path) -> None:
    with served(usage_metadata=False, tpm=2000) as server:
        ended = embed(server, tmp_path, 200, "a", "--tpm", 2000)
        stats = server.stats()
    assert (ended.code, stats["answers_429"], stats["texts"]) == (0, 0, 200)


def test_time_spent_waiting_for_quota_is_counted(tmp_path: Path) -> None:
    with served() as server:
        embed(server, tmp_path, 30, "a", "--rpm", 10, "--max-runtime", "5s")
    assert summary(tmp_path / "a")["throttled_s"] > 0.3


def test_old_quota_files_are_deleted_and_current_ones_are_not(tmp_path: Path) -> None:
    old, young = (quota_file("http://127.0.0.1:1", name, "m") for name in ("old", "young"))
    for path, age_s in ((old, 4 * DAY_S), (young, 2 * DAY_S)):
        path.touch()
        os.utime(path, (time.time() - age_s,) * 2)
    with served() as server:
        assert embed(server, tmp_path, 5, "a", "--rpm", 100).code == 0
    assert not old.exists()
    assert young.exists()
    assert len(list(default_folder().glob("*.quota"))) == 2
