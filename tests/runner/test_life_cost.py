"""What a dataset has cost in all of its runs, as `status` and the summaries report it."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from support.cli import Ended, bulkembed, run, write_rows
from support.killing import Job, ended, wait_for

from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

SHAPE = ("--dim", "128", "--unit-rows", "100", "--price-usd-per-mtok", "1000")


def texts(first: int, count: int) -> list[str]:
    return [f"{n}: a text about the weather on that day" for n in range(first, first + count)]


def status(output: Path) -> dict[str, Any]:
    shown = bulkembed("status", output, "--json")
    assert shown.code == 0, shown.err
    found: dict[str, Any] = json.loads(shown.out)
    return found


def summary(output: Path) -> dict[str, Any]:
    """The summary of the last run."""
    last = max((output / "_run/summaries").iterdir())
    found: dict[str, Any] = json.loads(last.read_text())
    return found


def complete(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    found = run(server.url, source, output, *SHAPE, *args)
    assert found.code == 0, found.err
    return found


def test_rows_that_were_replaced_or_removed_have_been_paid_for(
    server: EmulatorServer, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for name, first in (("a", 0), ("b", 1000)):
        write_rows(source / f"{name}.parquet", [*texts(first, 150), ""])
    first_shown = complete(server, source, output)
    first_run = server.stats()["tokens"]
    line = f"cost +{first_run:,} tokens, {first_run / 1000:,.4f} USD"
    assert re.search(f"^{line}$", first_shown.out, re.MULTILINE)
    write_rows(source / "a.parquet", [*texts(2000, 150), ""])
    (source / "b.parquet").unlink()
    shown = complete(server, source, output, "--prune", "--max-delete", "100%")
    paid = server.stats()["tokens"]
    wanted = {
        "tokens": paid,
        "usd": paid / 1000,
        "unconfirmed_tokens": 0,
        "last_run_tokens": paid - first_run,
        "last_run_usd": (paid - first_run) / 1000,
        "has_media": False,
    }
    found = status(output)
    assert found["cost"] == pytest.approx(wanted)
    assert summary(output)["cost"] == pytest.approx(wanted)
    assert found["counts"]["tokens"] == paid - first_run, "of the rows that exist now"
    assert f"in this run; {paid:,} tokens, {paid / 1000:,.4f} USD in all runs" in shown.out
    assert (found["rows"]["skipped"], found["codes"]) == (1, {"blank_text": 1})
    nothing = complete(server, source, output)
    assert f"0 tokens, 0.0000 USD in this run; {paid:,} tokens" in nothing.out


def test_rows_of_missing_files_are_in_no_count_of_the_present_rows(
    server: EmulatorServer, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for name in "ab":
        write_rows(source / f"{name}.parquet", [f"text {name}", "", " "])
    complete(server, source, output)
    (source / "b.parquet").unlink()
    complete(server, source, output)
    found = status(output)
    assert (found["rows"]["skipped"], found["codes"]) == (2, {"blank_text": 2})


def test_an_overwritten_dataset_starts_at_nothing(server: EmulatorServer, tmp_path: Path) -> None:
    source, output = write_rows(tmp_path / "in.parquet", texts(0, 250)), tmp_path / "out"
    complete(server, source, output)
    before = server.stats()["tokens"]
    complete(server, source, output, "--overwrite", "--dim", "64")
    found = status(output)["cost"]
    assert found["tokens"] == found["last_run_tokens"] == server.stats()["tokens"] - before


def test_a_lost_account_starts_from_records_and_summaries(
    server: EmulatorServer, tmp_path: Path
) -> None:
    source, output = tmp_path / "in/a.parquet", tmp_path / "out"
    for first in (0, 1000, 2000):
        complete(server, write_rows(source, texts(first, 150)), output)
        if first == 1000:
            (output / "_run/account.json").unlink()
    assert status(output)["cost"]["tokens"] == server.stats()["tokens"]


def test_a_damaged_account_is_named_and_fails_no_run(
    server: EmulatorServer, tmp_path: Path
) -> None:
    source, output = write_rows(tmp_path / "in.parquet", texts(0, 50)), tmp_path / "out"
    complete(server, source, output)
    (output / "_run/account.json").write_text("{")
    found = status(output)
    assert "account.json is damaged" in found["warning"]
    assert found["cost"]["tokens"] == server.stats()["tokens"]
    again = complete(server, source, output)
    assert "the cost of the dataset is not known" in again.err


def test_a_kill_leaves_what_may_have_been_paid_and_what_is_kept(tmp_path: Path) -> None:
    source, output = write_rows(tmp_path / "in.parquet", texts(0, 600)), tmp_path / "out"
    with EmulatorServer(EmulatorSettings(latency_ms=300)) as server:
        args = (*SHAPE, "--concurrency", "2", "--unit-rows", "600")
        job = Job(server, source, output, args)
        process = job.start()
        wait_for(lambda: server.stats()["calls"] >= 2)
        process.send_signal(signal.SIGKILL)
        ended(process)
        wait_for(lambda: server.stats()["in_flight"] == 0)
        paid = server.stats()["tokens"]
        killed = status(output)
        cost = killed["cost"]
        assert cost["tokens"] - cost["unconfirmed_tokens"] <= paid <= cost["tokens"]
        assert cost["unconfirmed_tokens"] > 0
        assert killed["kept_texts"] > 0
        assert killed["counts"]["tokens"] == 0, "no row is committed"
        lines = bulkembed("status", output).out
        assert f"{killed['kept_texts']:,} paid answers not committed yet" in lines
        assert "may not have been billed" in lines
        found = run(server.url, source, output, *args)
        assert found.code == 0, found.err
        last, paid_later = status(output), server.stats()["tokens"]
    cost = last["cost"]
    assert cost["tokens"] - cost["unconfirmed_tokens"] <= paid_later <= cost["tokens"]
    assert last["kept_texts"] == 0
    assert cost["last_run_tokens"] == paid_later - paid


def test_the_cost_of_a_run_that_failed_has_what_was_answered(tmp_path: Path) -> None:
    source, output = write_rows(tmp_path / "in.parquet", texts(0, 600)), tmp_path / "out"
    settings = EmulatorSettings(latency_ms=300, script=("ok", "ok", "ok", "401"))
    with EmulatorServer(settings) as server:
        stopped = run(server.url, source, output, *SHAPE, "--concurrency", "1", "--dedupe", "off")
        assert stopped.code != 0
        assert summary(output)["cost"]["tokens"] == server.stats()["tokens"]
