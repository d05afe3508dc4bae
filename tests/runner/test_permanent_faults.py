"""Faults that time does not heal end a run at once, with one line that says what to do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from support.cli import Ended, run, snapshot, summary, write_rows

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings, QuotaDetails

pytestmark = pytest.mark.faults

ARGS = ("--dim", 128)


def outcome(
    tmp_path: Path, *args: object, rows: int = 20, **settings: Any
) -> tuple[Ended, dict[str, Any], float]:
    """How a run ends, what the server has counted, and the seconds since its first call."""
    source = write_rows(tmp_path / "a.parquet", [f"text {n}" for n in range(rows)])
    began = time.monotonic()
    with EmulatorServer(EmulatorSettings(**settings)) as server:
        ended = run(server.url, source, tmp_path / "out", *ARGS, *args)
        return ended, server.stats(), time.monotonic() - began


@pytest.mark.parametrize(
    ("name", "value", "code", "words"),
    [
        ("SSL_CERT_FILE", "/no/such/ca.pem", 1, "SSL_CERT_FILE=/no/such/ca.pem"),
        ("REQUESTS_CA_BUNDLE", "/no/such/ca.pem", 1, "REQUESTS_CA_BUNDLE=/no/such/ca.pem"),
        ("ALL_PROXY", "socks5://me:secret@127.0.0.1:1080", 2, "pip install 'httpx2[socks]'"),
        ("ALL_PROXY", "ftp://127.0.0.1:1080", 2, "ALL_PROXY names a ftp proxy"),
    ],
)
def test_what_cannot_be_used_is_known_before_anything_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, code: int, words: str
) -> None:
    monkeypatch.setenv(name, value)
    ended, stats, _ = outcome(tmp_path)
    assert ended.code == code, ended.err
    assert words in ended.last
    assert "Traceback" not in ended.err
    assert "secret" not in ended.err
    assert stats["calls"] == 0
    assert not (tmp_path / "out/_run/run.json").exists()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("402", "billing"),
        ("page-404", "--base-url"),
        ("418", "--base-url"),
    ],
)
@pytest.mark.parametrize("passes_first", [0, 2], ids=["first call", "in the middle"])
def test_a_status_that_is_about_the_job_ends_the_run_at_once(
    tmp_path: Path, script: str, words: str, passes_first: int
) -> None:
    args = ("--concurrency", 1)
    steps = ("ok",) * passes_first + (script,) * 50
    ended, stats, _ = outcome(tmp_path, *args, rows=500, script=steps)
    assert ended.code == 1, ended.err
    assert words in ended.last
    # The first call is also tried without parameters, unless its status has a clear reason.
    repeats = not passes_first and script != "402"
    assert stats["calls"] == passes_first + 1 + repeats
    assert (tmp_path / "out/_run/summaries").exists()
    assert summary(tmp_path / "out")["run"]["embedded"] == 100 * passes_first


@pytest.mark.parametrize("status", [200, 302, 403])
def test_a_sign_in_page_ends_the_run_after_several_tries_and_is_shown_in_part(
    tmp_path: Path, status: int
) -> None:
    ended, stats, _ = outcome(tmp_path, script=(f"page-{status}",) * 100)
    assert ended.code == 1, ended.err
    assert "Sign in to the network" in ended.last
    assert "HTTPS_PROXY" in ended.last
    assert 3 <= stats["calls"] <= 8
    written = b"".join(snapshot(tmp_path / "out").values())
    assert b"</p><p>" not in written + ended.err.encode() + ended.out.encode()


def test_a_429_without_details_that_never_ends_stops_the_run_with_75(tmp_path: Path) -> None:
    ended, stats, took_s = outcome(
        tmp_path, "--retry-timeout", "5s", rows=2000,
        script=("ok",) * 3 + ("429",) * 500, quota_details=QuotaDetails.NONE,
    )  # fmt: skip
    assert ended.code == 75, ended.err
    assert "every request was rate-limited (429) for 5 s" in ended.last
    assert "credits" in ended.last
    assert took_s < 40
    assert stats["texts"] == 300


@pytest.mark.parametrize("fault", ["short", "wrong-dim", "nan"])
def test_answers_of_no_use_end_the_run_and_cost_two_thousand_texts_at_most(
    tmp_path: Path, fault: str
) -> None:
    ended, stats, _ = outcome(
        tmp_path, "--retry-timeout", "4s", "--unit-rows", 100, rows=8000,
        script=("ok",) * 30 + (fault,) * 5000,
    )  # fmt: skip
    assert ended.code == 1, ended.err
    assert "are unusable" in ended.last or "the service failed for 4 s" in ended.last
    assert stats["texts"] <= 3000 + 2000
    assert summary(tmp_path / "out")["run"]["embedded"] == 3000
    assert summary(tmp_path / "out")["stop"]["reason"] == "useless"


@pytest.mark.parametrize("status", [409, 499])
@pytest.mark.parametrize("passes_first", [0, 2], ids=["first call", "in the middle"])
def test_a_status_that_is_the_services_state_is_sent_again(
    tmp_path: Path, status: int, passes_first: int
) -> None:
    steps = ("ok",) * passes_first + (str(status),) * 2
    ended, stats, _ = outcome(tmp_path, rows=500, script=steps)
    assert ended.code == 0, ended.err
    assert (stats["texts"], stats["texts_paid_twice"]) == (500, 0)
