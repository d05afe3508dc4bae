"""`--max-cost-usd`: no run, and no row of runs, makes a dataset cost more than that."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from support.cli import Ended, bulkembed, read, run, write_rows
from support.killing import Job, ended, leftovers, wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings, Fault

pytestmark = pytest.mark.faults

ROWS = 1500
TEXTS = [f"{n}: a text of some length about the weather on day {n}" for n in range(ROWS)]
USD_A_TOKEN = ("--price-usd-per-mtok", "1000000")
SHAPE = ("--dim", "128", "--unit-rows", "200", *USD_A_TOKEN)
CLUSTER = ("--", "--runner=FlinkRunner", "--flink_master=far:8081")
CAP = 12_000
"""USD, and so many tokens; all texts have more than twice as many."""
A_TEXT = 70
"""The most that a text can cost, by its bytes: so much may be left of the budget."""
A_CALL = 100 * A_TEXT


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in/a.parquet", TEXTS)


def capped(server: EmulatorServer, source: Path, output: Path, *args: str) -> Ended:
    return run(server.url, source, output, *SHAPE, "--max-cost-usd", CAP, *args)


def account(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "_run/account.json").read_text())
    return found


def killed_after(job: Job, calls: int) -> None:
    process = job.start()
    try:
        wait_for(lambda: job.server.stats()["calls"] >= calls)
    finally:
        process.send_signal(signal.SIGKILL)
        ended(process)


def with_code_4(found: Ended) -> None:
    assert found.code == 4, found.err
    assert found.last.startswith(
        "bulkembed: --max-cost-usd 12000 is reached: another request might"
    )
    assert "Traceback" not in found.err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_run_stops_cleanly_and_the_same_command_sends_nothing(
    server: EmulatorServer, source: Path, tmp_path: Path, workers: str
) -> None:
    output = tmp_path / "out"
    with_code_4(capped(server, source, output, "--workers", workers))
    stats = server.stats()
    assert CAP - A_TEXT < stats["tokens"] <= CAP
    assert account(output)["paid"] == stats["tokens"]
    assert account(output)["held"] == 0
    done = len(read(output))
    assert done > 0
    assert not (output / "_SUCCESS").exists()
    again = capped(server, source, output, "--workers", workers)
    with_code_4(again)
    assert server.stats()["calls"] == stats["calls"]
    assert re.search(r"requests +0 with 0 texts", again.out)
    assert run(server.url, source, output, *SHAPE, "--max-cost-usd", 10 * CAP).code == 0
    assert server.stats()["texts_paid_twice"] == 0
    assert sorted(read(output)["id"].to_pylist()) == list(range(ROWS))


def test_a_loop_on_75_cannot_pay_it_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = []
    with EmulatorServer(EmulatorSettings()) as server:
        for day in range(6):
            monkeypatch.setenv("BULKEMBED_CLOCK_OFFSET_S", str(86_400 * day))
            codes.append(capped(server, source, tmp_path / "out", "--rpd", "300").code)
            if codes[-1] != 75:
                break
        assert server.stats()["tokens"] <= CAP
    assert codes[0] == 75
    assert codes[-1] == 4


def test_what_runs_without_a_cap_have_paid_counts(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert run(server.url, source, output, *SHAPE, "--limit-rows", 500).code == 0
    assert account(output)["paid"] == server.stats()["tokens"]
    (output / "_run/account.json").unlink()  # Then the commit records tell.
    with_code_4(capped(server, source, output))
    assert CAP - A_TEXT < server.stats()["tokens"] <= CAP


def test_texts_that_units_share_count(server: EmulatorServer, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "in/a.parquet", TEXTS[:1000] * 2)
    output = tmp_path / "out"
    with_code_4(capped(server, source, output))
    (output / "_run/account.json").unlink()
    with_code_4(capped(server, source, output))
    assert CAP - A_TEXT < server.stats()["tokens"] <= CAP


@pytest.mark.parametrize("cap", [(), ("--max-cost-usd", str(CAP))], ids=["without", "with"])
def test_a_kill_is_not_forgotten(source: Path, tmp_path: Path, cap: tuple[str, ...]) -> None:
    """What was in the air counts as if it had been paid at its dearest."""
    output = tmp_path / "out"
    with EmulatorServer(EmulatorSettings(latency_ms=100)) as server:
        job = Job(server, source, output, (*SHAPE, "--concurrency", "2", *cap))
        killed_after(job, 1)
        with_code_4(capped(server, source, output))
        stats = server.stats()
        assert stats["tokens"] <= account(output)["paid"] <= CAP
        assert stats["tokens"] > CAP - 3 * A_CALL
        with_code_4(capped(server, source, output))
        assert server.stats()["calls"] == stats["calls"]
        assert run(server.url, source, output, *SHAPE, "--max-cost-usd", 10 * CAP).code == 0
    assert leftovers(output) == []


def test_calls_of_which_nobody_knows_count_in_full_and_rejected_ones_do_not(
    source: Path, tmp_path: Path
) -> None:
    script = ("ok", "reset", "503", "429", "short")
    with EmulatorServer(EmulatorSettings(script=script)) as server:
        with_code_4(capped(server, source, tmp_path / "out", "--concurrency", "1"))
        tokens = server.stats()["tokens"]
    lost = account(tmp_path / "out")["paid"] - tokens
    assert 100 * 50 < lost < 2 * A_CALL
    assert Fault.SHORT in script


def test_a_service_that_counts_no_tokens_is_taken_at_the_estimates(
    source: Path, tmp_path: Path
) -> None:
    with EmulatorServer(EmulatorSettings(usage_metadata=False)) as server:
        with_code_4(capped(server, source, tmp_path / "out"))
        tokens = server.stats()["tokens"]
    assert account(tmp_path / "out")["paid"] == pytest.approx(tokens, rel=0.3)


def test_fresh_begins_a_new_account(server: EmulatorServer, source: Path, tmp_path: Path) -> None:
    with_code_4(capped(server, source, tmp_path / "out"))
    assert capped(server, source, tmp_path / "out", "--overwrite", "--limit-rows", "100").code == 0


def test_a_cap_holds_over_all_runs_that_go_on_with_fresh(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    with_code_4(capped(server, source, tmp_path / "out", "--overwrite"))
    stats = server.stats()
    for _ in range(2):
        with_code_4(capped(server, source, tmp_path / "out", "--overwrite"))
    assert server.stats()["calls"] == stats["calls"]
    assert account(tmp_path / "out")["paid"] <= CAP


def test_status_tells_what_the_rows_cost_at_the_price_that_was_told(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    assert run(server.url, source, tmp_path / "out", *SHAPE, "--limit-rows", 100).code == 0
    told = json.loads(bulkembed("status", tmp_path / "out", "--json").out)
    assert told["cost"]["usd"] == server.stats()["tokens"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--max-cost-usd", "5"), "is not known. Set --price-usd-per-mtok"),
        (("--max-cost-usd", "0", *USD_A_TOKEN), "--max-cost-usd"),
        (("--max-cost-usd", "5", "--price-usd-per-mtok", "0"), "--price-usd-per-mtok"),
        (
            (
                "--max-cost-usd",
                "5",
                *USD_A_TOKEN,
                "--",
                "--runner=FlinkRunner",
                "--flink_master=far:8081",
            ),
            "workers are on this",
        ),
    ],
)
def test_a_cap_that_cannot_be_kept_is_wrong_usage(
    server: EmulatorServer, source: Path, tmp_path: Path, args: tuple[str, ...], words: str
) -> None:
    found = run(server.url, source, tmp_path / "out", *args)
    assert found.code == 2
    assert words in found.err
    assert server.stats()["calls"] == 0


def test_a_cap_of_the_run_is_none_of_a_search(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    assert capped(server, source, tmp_path / "out", "--limit-rows", "100").code == 0
    assert bulkembed("search", tmp_path / "out", "weather").code == 0
    other = bulkembed("search", tmp_path / "out", "weather", "--base-url", "http://a.example")
    assert (
        "the request would go to custom:a.example, and their vectors cannot be compared"
        in other.last
    )
