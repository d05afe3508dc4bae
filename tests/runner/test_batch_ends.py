"""How runs in batch mode end when a job, the ledger or a limit is not as it should be."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from support.cli import Ended, bulkembed, read, run, summary, write_rows
from support.killing import Job, Step, ended, leftovers, same_rows, wait_for
from support.moments import just_before
from support.other_run import gathered_by_another_run, take_over

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings

pytestmark = pytest.mark.faults

DISTINCT = 40
TEXTS = [f"text {n % DISTINCT}" for n in range(60)]
OF_DATASET = ("--dim", "128", "--unit-rows", "20")
ARGS = (*OF_DATASET, "--mode", "batch", "--batch-poll", "0.1s")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in/a.parquet", TEXTS)


@pytest.fixture(scope="module")
def online(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows, embedded online."""
    folder = tmp_path_factory.mktemp("online")
    source = write_rows(folder / "in/a.parquet", TEXTS)
    with EmulatorServer() as server:
        assert run(server.url, source, folder / "out", *OF_DATASET).code == 0
    return folder / "out"


def serving(**settings: Any) -> EmulatorServer:
    return EmulatorServer(EmulatorSettings(batch=BatchSettings(**settings)))


def batch(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, *ARGS, *args)


def check_paid_once(server: EmulatorServer) -> None:
    stats = server.stats()
    assert stats["texts"] == stats["distinct_texts"] == DISTINCT
    assert (stats["batch"]["jobs_left"], stats["batch"]["files_left"]) == (0, 0)


def states(output: Path) -> list[str]:
    return [job["state"] for job in json.loads(bulkembed("batches", output, "--json").out)]


def file_of(output: Path, suffix: str) -> Path:
    (path,) = (output / "_run/batch").glob(f"*{suffix}")
    return path


@pytest.mark.parametrize("suffixes", [(".json",), (".texts",), (".json", ".texts")])
@pytest.mark.parametrize("seconds", [0.5, 4.0])
def test_a_ledger_cut_in_half_while_its_job_is_open_costs_nothing(
    source: Path, tmp_path: Path, online: Path, suffixes: tuple[str, ...], seconds: float
) -> None:
    out = tmp_path / "out"
    with serving(seconds=seconds) as server:
        assert batch(server, source, out, "--detach").code == 75
        for suffix in suffixes:
            path = file_of(out, suffix)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        last = batch(server, source, out)
        assert last.code == 0, last.err
        assert "damaged" in last.err
        check_paid_once(server)
        assert server.stats()["batch"]["jobs_created"] == 1
    same_rows(out, online)
    assert leftovers(out) == []


def test_a_damaged_entry_is_listed_with_its_texts(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(seconds=60.0) as server:
        assert batch(server, source, out, "--detach").code == 75
        path = file_of(out, ".json")
        path.write_bytes(path.read_bytes()[:50])
        (job,) = json.loads(bulkembed("batches", out, "--json").out)
    assert job["texts"] == DISTINCT


def test_a_job_whose_results_are_gone_counts_with_what_it_can_have_cost(
    source: Path, tmp_path: Path, online: Path
) -> None:
    out = tmp_path / "out"
    with serving(seconds=0.2) as server:
        assert batch(server, source, out, "--detach").code == 75
        time.sleep(0.3)
        key = {"x-goog-api-key": "a-key"}
        (job,) = httpx2.get(f"{server.url}/v1beta/batches", headers=key).json()["operations"]
        results = job["metadata"]["output"]["responsesFile"]
        assert httpx2.delete(f"{server.url}/v1beta/{results}", headers=key).status_code == 200
        last = batch(server, source, out)
        assert (last.code, "what it cost is not known" in last.err) == (0, True), last.err
        billed = server.stats()["batch"]["tokens"]
    same_rows(out, online)
    cost = summary(out)["cost"]
    assert cost["tokens"] - cost["unconfirmed_tokens"] == billed / 2
    assert cost["tokens"] >= billed
    lost, again = json.loads(bulkembed("batches", out, "--json").out)
    assert (lost["unconfirmed_tokens"], again["unconfirmed_tokens"]) == (
        cost["unconfirmed_tokens"], 0,
    )  # fmt: skip
    assert f"up to {lost['tokens']:,}" in bulkembed("batches", out).out


@pytest.fixture
def hanging() -> Iterator[EmulatorServer]:
    """The first job runs until somebody cancels it."""
    with serving(outcomes=("hang",)) as server:
        yield server


def test_a_second_launch_ends_while_the_first_one_waits(
    source: Path, tmp_path: Path, online: Path, hanging: EmulatorServer
) -> None:
    out = tmp_path / "out"
    job = Job(hanging, source, out, (*ARGS, "--no-report"))
    first = job.start()
    try:
        wait_for(lambda: hanging.stats()["batch"]["jobs_created"] == 1 or is_over(first))
        for args in (("--detach",), ()):
            second = batch(hanging, source, out, *args)
            assert second.code == 5, second.err
        cancelling = bulkembed("batches", out, "--cancel", "--base-url", hanging.url)
        assert cancelling.code == 5, cancelling.err
        first.terminate()
        assert ended(first).code == 75
    finally:
        first.kill()
    assert hanging.stats()["batch"]["jobs_created"] == 1


def is_over(process: subprocess.Popen[str]) -> bool:
    return process.poll() is not None


def test_a_job_that_hangs_is_left_cancelled_and_replaced(
    source: Path, tmp_path: Path, online: Path, hanging: EmulatorServer
) -> None:
    out = tmp_path / "out"
    first = batch(hanging, source, out, "--max-runtime", "3s")
    assert first.code == 75, first.err
    assert states(out) == ["created"]
    cancelled = bulkembed("batches", out, "--cancel", "--base-url", hanging.url)
    assert cancelled.code == 0, cancelled.err
    assert "1 open batch job cancelled" in cancelled.last
    assert hanging.stats()["batch"]["jobs_open"] == 0
    last = batch(hanging, source, out)
    assert last.code == 0, last.err
    assert states(out) == ["closed", "closed"]
    check_paid_once(hanging)
    same_rows(out, online)


def test_a_quota_smaller_than_a_unit_takes_several_jobs(
    source: Path, tmp_path: Path, online: Path
) -> None:
    out = tmp_path / "out"
    with serving(seconds=0.2, enqueued_tokens=30) as server:
        last = batch(server, source, out, "--enqueued-tokens", 12, "--unit-rows", 60)
        assert last.code == 0, last.err
        check_paid_once(server)
        assert set(server.stats()["batch"]["calls"]["create"]) == {"200"}
        assert server.stats()["batch"]["jobs_created"] > 5
    assert read(out).num_rows == len(TEXTS)


def test_a_quota_smaller_than_a_text_is_refused(source: Path, tmp_path: Path) -> None:
    with serving() as server:
        last = batch(server, source, tmp_path / "out", "--enqueued-tokens", 1)
        assert last.code == 1, last.err
        assert "--enqueued-tokens leaves room for" in last.err
        assert server.stats()["batch"]["jobs_created"] == 0


def test_without_a_fallback_a_later_run_with_more_attempts_finishes(
    source: Path, tmp_path: Path, online: Path
) -> None:
    out = tmp_path / "out"
    stop = ("--batch-fallback", "stop")
    with serving(outcomes=("failed", "failed")) as server:
        first = batch(server, source, out, "--batch-attempts", 2, *stop)
        assert first.code == 75, first.err
        again = batch(server, source, out, "--batch-attempts", 2, *stop)
        assert again.code == 75, again.err
        assert server.stats()["batch"]["jobs_created"] == 2
        last = batch(server, source, out, "--batch-attempts", 3, *stop)
        assert last.code == 0, last.err
        assert server.stats()["calls"] == 0
        check_paid_once(server)
    same_rows(out, online)


def test_a_limited_run_leaves_the_answers_of_other_rows_to_later_runs(
    source: Path, tmp_path: Path, online: Path
) -> None:
    out = tmp_path / "out"
    with serving(seconds=0.3) as server:
        assert batch(server, source, out, "--detach", "--batch-job-rows", 30).code == 75
        assert batch(server, source, out, "--limit-rows", 20).code == 0
        assert batch(server, source, out).code == 0
        check_paid_once(server)
    same_rows(out, online)


def test_answers_to_texts_that_the_input_no_longer_has_are_counted(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with serving(seconds=0.3) as server:
        assert batch(server, source, out, "--detach").code == 75
        write_rows(source, ["another", "text 3", "text 5"])
        found = batch(server, source, out)
        assert found.code == 0, found.err
    assert read(out)["id"].to_pylist() == [0, 1, 2]
    assert f"{DISTINCT - 2} not used: the input no longer has their texts" in found.out
    counts = summary(out)["batch"]
    assert (counts["jobs"], counts["texts"], counts["unused"]) == (2, DISTINCT + 1, DISTINCT - 2)


def test_a_run_without_rows_deletes_what_a_killed_one_left_of_its_jobs(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    job = Job(server := serving(seconds=0.2), source, out, ARGS)
    with server:
        # After the last commit: the job's entry is written once it has been deleted there.
        job.finish(Step("os.rename", "/_run/batch/", 10))
        assert read(out).num_rows == len(TEXTS)
        assert "closed" not in states(out)
        assert batch(server, source, out).code == 0
        check_paid_once(server)
    assert states(out) == ["closed"]
    assert {path.suffix for path in (out / "_run/batch").iterdir()} == {".json", ".closed"}


def test_a_launcher_that_lost_its_dataset_leaves_the_files_of_the_other_run(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    taken_over = just_before("os.rename", ".parquet", lambda: take_over(out))
    with serving(seconds=0.2) as server, taken_over:
        last = batch(server, source, out)
    assert last.code == 5, last.err
    assert gathered_by_another_run(out).exists()
