"""`--mode batch` writes the dataset that online requests write, and pays for each text once."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cli import Ended, bulkembed, matrix, read, run, summary, write_rows
from support.google_login import credentials

from bulkembed.emulator.batch_settings import BatchSettings, JobOutcome
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.pipeline.batch import batch_run, job_creation, unit_commits
from bulkembed.pipeline.batch.wanted_texts import PlanWindow, find_texts
from bulkembed.pipeline.run.plan import Plan
from bulkembed.schemas.embedding import digest_of

TEXTS = [f"text {n % 50}" for n in range(120)]
DISTINCT = 51
OF_DATASET = ("--dim", 128, "--unit-rows", 25)
FAST = ("--mode", "batch", "--batch-poll", "0.1s", *OF_DATASET)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_rows(tmp_path / "in/a.parquet", TEXTS)
    write_rows(tmp_path / "in/b.parquet", ["one more", "", "text 3"])
    return tmp_path / "in"


def serving(**settings: Any) -> EmulatorServer:
    return EmulatorServer(EmulatorSettings(batch=BatchSettings(**settings)))


def batch(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, *FAST, *args)


def online(server: EmulatorServer, source: Path, output: Path, *args: object) -> Ended:
    return run(server.url, source, output, *OF_DATASET, *args)


def jobs_of(output: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(bulkembed("batches", output, "--json").out)
    return found


def check_nothing_left(server: EmulatorServer) -> None:
    """Each text was paid for once, and the service has neither files nor jobs."""
    stats = server.stats()
    assert stats["texts_paid_twice"] == 0
    left = {name: stats["batch"][name] for name in ("jobs_left", "files_left", "uploads_open")}
    assert left == {"jobs_left": 0, "files_left": 0, "uploads_open": 0}
    assert not stats["batch"]["display_names_twice"]


def check_same(one: Path, other: Path) -> None:
    """Two datasets have the same rows and vectors."""
    order = [("source_file", "ascending"), ("source_row", "ascending")]
    first, second = (read(path).sort_by(order) for path in (one, other))
    assert first["text_hash"].equals(second["text_hash"])
    assert first["truncated"].equals(second["truncated"])
    assert np.array_equal(matrix(first), matrix(second))


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.faults)])
def test_a_batch_run_writes_the_dataset_of_an_online_run(
    server: EmulatorServer, source: Path, tmp_path: Path, workers: int
) -> None:
    args = ("--batch-job-rows", 20, "--workers", workers)
    ended = batch(server, source, tmp_path / "batch", *args)
    assert ended.code == 0, ended.err
    assert server.stats()["calls"] == 0
    check_nothing_left(server)
    assert online(server, source, tmp_path / "online").code == 0
    check_same(tmp_path / "batch", tmp_path / "online")
    one, other = (summary(tmp_path / name) for name in ("batch", "online"))
    assert one["dataset"] == other["dataset"]
    assert one["counts"]["repeated"] == other["counts"]["repeated"] == 122 - DISTINCT
    assert (one["batch"]["jobs"], one["batch"]["texts"]) == (3, DISTINCT)
    assert one["batch"]["tokens"] == other["counts"]["tokens"]
    assert bulkembed("verify", tmp_path / "batch", "--repeated-ids").code == 0


def test_only_the_entries_of_closed_jobs_are_left_in_the_dataset(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    assert batch(server, source, tmp_path / "out").code == 0
    (job,) = jobs_of(tmp_path / "out")
    assert (job["state"], job["texts"]) == ("closed", DISTINCT)
    assert sorted(path.name for path in (tmp_path / "out/_run/batch").iterdir()) == [
        f"{job['name']}.closed",
        f"{job['name']}.json",
    ]


def test_a_dataset_begun_online_is_finished_in_batch_mode(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    online(server, source, out, "--limit-rows", 40)
    assert batch(server, source, out).code == 0
    assert summary(out)["batch"]["texts"] == DISTINCT - 40
    check_nothing_left(server)


def test_a_dataset_begun_in_batch_mode_is_finished_online(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    batch(server, source, out, "--limit-rows", 40)
    assert online(server, source, out).code == 0
    assert summary(out)["counts"]["texts"] == DISTINCT - 40
    check_nothing_left(server)


def test_a_dataset_with_an_open_job_is_finished_online(source: Path, tmp_path: Path) -> None:
    """With a warning, or without paying for anything twice."""
    with serving(seconds=60.0) as server:
        for output in ("one", "two"):
            assert batch(server, source, tmp_path / output, "--detach").code == 75
        ended = online(server, source, tmp_path / "one")
        assert ended.code == 0, ended.err
        assert "1 batch job with 51 texts may be open" in ended.err
        args = ("--mode", "auto", "--batch-max-wait", "0s")
        ended = batch(server, source, tmp_path / "two", *args)
        assert ended.code == 0, ended.err
        assert "may be open" not in ended.err
        assert batch(server, source, tmp_path / "one").code == 0
        stats = server.stats()
    assert stats["texts"] == 2 * DISTINCT
    assert stats["batch"]["jobs_left"] == stats["batch"]["files_left"] == 0


def test_a_second_run_has_nothing_to_do_and_a_changed_file_costs_its_new_texts(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert batch(server, source, out).code == batch(server, source, out).code == 0
    write_rows(source / "b.parquet", ["one more", "text 5", "new"])
    assert batch(server, source, out).code == 0
    assert summary(out)["batch"]["texts"] == 1
    check_nothing_left(server)


@pytest.mark.faults
def test_a_detached_run_is_collected_by_the_same_command(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(seconds=2.0) as server:
        first = batch(server, source, out, "--detach")
        assert first.code == 75
        assert "1 batch job with 51 texts" in first.last
        assert "Run the same command again" in first.last
        assert [job["state"] for job in jobs_of(out)] == ["created"]
        assert "1 open job with 51 texts" in bulkembed("status", out).out
        codes = [batch(server, source, out, "--detach").code for _ in range(4)]
        while codes[-1] == 75:
            codes.append(batch(server, source, out, "--detach").code)
        assert codes[-1] == 0
        check_nothing_left(server)
    assert read(out).num_rows == 122


@pytest.mark.faults
def test_jobs_keep_within_the_enqueued_tokens(source: Path, tmp_path: Path) -> None:
    with serving(seconds=0.3, enqueued_tokens=60) as server:
        ended = batch(server, source, tmp_path / "out", "--enqueued-tokens", 40)
        assert ended.code == 0, ended.err
        refused = server.stats()["batch"]["calls"]["create"]
        assert set(refused) == {"200"}
        check_nothing_left(server)
    assert len(jobs_of(tmp_path / "out")) > 3


@pytest.mark.faults
def test_a_refused_creation_waits_for_open_jobs(source: Path, tmp_path: Path) -> None:
    with serving(seconds=0.3, enqueued_tokens=60) as server:
        ended = batch(server, source, tmp_path / "out", "--batch-job-rows", 10)
        assert ended.code == 0, ended.err
        assert server.stats()["batch"]["calls"]["create"]["429"] > 0
        check_nothing_left(server)


@pytest.mark.faults
def test_a_lost_answer_to_a_creation_is_found_by_the_display_name(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_creation, "LOOKUP_DELAYS_S", (0.0, 0.1))
    with serving(call_script=("create:lost", "create:reset", "create:lost")) as server:
        ended = batch(server, source, tmp_path / "out", "--batch-job-rows", 20)
        assert ended.code == 0, ended.err
        assert server.stats()["batch"]["jobs_created"] == 3
        check_nothing_left(server)


def test_a_job_that_is_not_created_is_not_announced(source: Path, tmp_path: Path) -> None:
    with serving(call_script=("create:400",)) as server:
        ended = batch(server, source, tmp_path / "out")
        assert ended.code == 0, ended.err
        assert server.stats()["batch"]["jobs_created"] == ended.err.count("tokens, batches/") == 1
        assert ended.err.count(", about ") == 1


@pytest.mark.faults
def test_a_run_that_waits_says_for_what_at_most_every_few_minutes(
    source: Path, tmp_path: Path
) -> None:
    with serving(seconds=2.0) as server:
        ended = batch(server, source, tmp_path / "out")
    lines = [line for line in ended.err.splitlines() if "waiting for" in line]
    assert len(lines) == 1
    words = r"waiting for 1 batch job with 51 texts, the oldest for \d s; next look in \d s"
    assert re.search(words, lines[0])


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans whose texts are searched, in order."""
    found: list[Plan] = []

    def noting(dataset: Any, job: Any, plan: Plan, *others: Any) -> PlanWindow:
        found.append(plan)
        return find_texts(dataset, job, plan, *others)

    monkeypatch.setattr(unit_commits, "find_texts", noting)
    return found


@pytest.mark.faults
def test_rows_are_read_again_for_many_answers_only(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searches: list[Plan]
) -> None:
    """Not for each job that ends: the search reads all rows whose texts are in jobs."""
    monkeypatch.setattr(batch_run, "MAX_AHEAD", 30)
    monkeypatch.setattr(batch_run, "COMMIT_TEXTS", 30)
    outcomes = [f"succeeded@{seconds}" for seconds in (0.5, 1.5, 2.5, 0.5, 1.5, 2.5)]
    with serving(outcomes=tuple(outcomes)) as server:
        ended = batch(server, source, tmp_path / "out", "--batch-job-rows", 10)
        assert ended.code == 0, ended.err
        check_nothing_left(server)
    assert len(searches) == 4


def test_rows_are_not_read_again_for_each_refusal_of_the_only_job(
    source: Path, tmp_path: Path, searches: list[Plan]
) -> None:
    with serving(call_script=("create:429",) * 4) as server:
        ended = batch(server, source, tmp_path / "out")
        assert ended.code == 0, ended.err
        check_nothing_left(server)
    assert len(searches) == 2


@pytest.mark.faults
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"call_script": ("create:ok", "create:429", "create:429")}, id="others-jobs"),
        pytest.param({"enqueued_tokens": 60, "seconds": 0.2}, id="small-quota"),
    ],
)
def test_a_refusal_after_collected_answers_pays_for_nothing_twice(
    source: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    with serving(**settings) as server:
        ended = batch(
            server, source, tmp_path / "out", "--batch-job-rows", 30, "--max-runtime", "60s"
        )
        assert ended.code == 0, ended.err
        check_nothing_left(server)


@pytest.mark.faults
def test_refusals_for_a_while_leave_no_small_jobs(source: Path, tmp_path: Path) -> None:
    """Other jobs of the project use the quota until the job has been cut to a single text."""
    with serving(call_script=("create:429",) * 10) as server:
        ended = batch(server, source, tmp_path / "out")
        assert ended.code == 0, ended.err
        check_nothing_left(server)
        assert server.stats()["batch"]["jobs_created"] < 10


@pytest.mark.faults
def test_a_detached_run_fits_its_jobs_into_a_quota_that_it_does_not_know(
    source: Path, tmp_path: Path
) -> None:
    with serving(enqueued_tokens=60) as server:
        for _ in range(5):
            ended = batch(server, source, tmp_path / "out", "--detach")
            if ended.code != 75:
                break
        assert ended.code == 0, ended.err
        check_nothing_left(server)


def test_a_detached_run_ends_if_not_even_one_text_is_taken(source: Path, tmp_path: Path) -> None:
    with serving(call_faults=(("create", "429", 1.0),)) as server:
        ended = batch(server, source, tmp_path / "out", "--detach")
        assert ended.code == 75, ended.err
        assert "the service takes no batch job now" in ended.last
        assert server.stats()["batch"]["files_left"] == 0


@pytest.mark.faults
def test_texts_without_an_answer_do_not_wait_for_other_jobs(source: Path, tmp_path: Path) -> None:
    with serving(outcomes=("failed@0.3", "succeeded@5", "succeeded@0.1")) as server:
        ended = batch(server, source, tmp_path / "out", "--batch-job-rows", 30)
        assert ended.code == 0, ended.err
        check_nothing_left(server)
    entries = [
        json.loads(path.read_bytes()) for path in (tmp_path / "out/_run/batch").glob("*.json")
    ]
    _, slow, again = sorted(entries, key=lambda entry: entry["planned_at"])
    assert again["planned_at"] < slow["ended_at"]


def test_units_that_all_lack_an_answer_are_committed_in_the_end(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many texts as may be ahead are collected, and none of them can be committed."""
    monkeypatch.setattr(batch_run, "MAX_AHEAD", 20)
    with serving(outcomes=("succeeded", "failed")) as server:
        args = ("--batch-job-rows", 20, "--unit-rows", 120, "--max-runtime", "30s")
        ended = batch(server, source, tmp_path / "out", *args)
        assert ended.code == 0, ended.err
        check_nothing_left(server)


def test_a_rejected_download_ends_the_run_and_costs_nothing(source: Path, tmp_path: Path) -> None:
    with serving(call_script=("download:400",)) as server:
        first = batch(server, source, tmp_path / "out")
        assert first.code == 75, first.err
        assert [job["state"] for job in jobs_of(tmp_path / "out")] == ["created"]
        assert batch(server, source, tmp_path / "out").code == 0
        assert server.stats()["batch"]["jobs_created"] == 1
        check_nothing_left(server)


@pytest.mark.faults
@pytest.mark.parametrize("outcome", ["failed", "expired", "cancelled", "vanish"])
def test_texts_of_a_job_without_answers_go_into_another(
    source: Path, tmp_path: Path, outcome: str
) -> None:
    with serving(outcomes=(outcome,)) as server:
        ended = batch(server, source, tmp_path / "out")
        assert ended.code == 0, ended.err
        assert "gave no answers" in ended.err
        assert server.stats()["calls"] == 0
        if outcome != "vanish":  # The emulator still counts a job that it no longer shows.
            check_nothing_left(server)
    assert [job["texts"] for job in jobs_of(tmp_path / "out")] == [DISTINCT, DISTINCT]
    assert read(tmp_path / "out").num_rows == 122


@pytest.mark.faults
def test_after_all_attempts_texts_are_sent_online(source: Path, tmp_path: Path) -> None:
    with serving(outcome_shares=((JobOutcome.FAILED, 1.0),)) as server:
        ended = batch(server, source, tmp_path / "out", "--batch-attempts", 2)
        assert ended.code == 0, ended.err
        assert "They are sent online" in ended.err
        assert server.stats()["batch"]["jobs_created"] == 2
        check_nothing_left(server)
    assert summary(tmp_path / "out")["counts"]["texts"] == DISTINCT


@pytest.mark.faults
def test_after_all_attempts_the_run_stops_if_it_should(source: Path, tmp_path: Path) -> None:
    with serving(outcome_shares=((JobOutcome.FAILED, 1.0),)) as server:
        args = ("--batch-attempts", 2, "--batch-fallback", "stop")
        ended = batch(server, source, tmp_path / "out", *args)
        assert ended.code == 75
        assert "did not answer" in ended.last
        assert server.stats()["calls"] == 0


@pytest.mark.faults
def test_a_late_job_that_does_not_end_is_left(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_run, "CANCEL_LIMIT_S", 1.0)
    with serving(outcomes=("hang",), cancel_seconds=1000.0) as server:
        args = ("--mode", "auto", "--batch-max-wait", "1s", "--max-runtime", "30s")
        ended = batch(server, source, tmp_path / "out", *args)
        assert ended.code == 0, ended.err
        assert server.stats()["calls"] > 0
    assert "it was cancelled, and did not end" in ended.err
    assert [job["state"] for job in jobs_of(tmp_path / "out")] == ["closed"]


@pytest.mark.faults
@pytest.mark.parametrize("outcome", ["hang", "succeeded"])
def test_texts_that_do_not_come_back_in_time_are_sent_online(
    source: Path, tmp_path: Path, outcome: str
) -> None:
    with serving(seconds=60.0, outcomes=("succeeded@0.1", outcome)) as server:
        args = ("--mode", "auto", "--batch-max-wait", "4s", "--batch-job-rows", 30)
        ended = batch(server, source, tmp_path / "out", *args)
        assert ended.code == 0, ended.err
        assert "not done in time" in ended.err
        check_nothing_left(server)
    found = summary(tmp_path / "out")
    assert (found["batch"]["texts"], found["counts"]["texts"]) == (30, DISTINCT - 30)


@pytest.mark.faults
@pytest.mark.parametrize(
    "fault", ["missing", "double", "foreign", "wrong-dim", "null", "nan", "broken-json", "503"]
)
def test_faults_of_single_lines_cost_another_job_and_no_row(
    source: Path, tmp_path: Path, fault: str
) -> None:
    with serving(row_faults=((fault, 0.2),)) as server:
        ended = batch(server, source, tmp_path / "out", "--batch-attempts", 9)
        assert ended.code == 0, ended.err
        assert server.stats()["calls"] == 0
    assert read(tmp_path / "out").num_rows == 122


def test_a_rejected_text_is_a_dead_letter_with_the_words_of_the_service(
    source: Path, tmp_path: Path
) -> None:
    settings = EmulatorSettings(poison="one more")
    with EmulatorServer(settings) as server:
        ended = batch(server, source, tmp_path / "out")
        assert ended.code == 0, ended.err
        assert online(server, source, tmp_path / "online").code == 0
    one, other = (read(tmp_path / name, "dead_letters") for name in ("out", "online"))
    assert one.column_names == other.column_names
    assert one["code"].to_pylist() == other["code"].to_pylist()
    assert one["text"].to_pylist() == other["text"].to_pylist()


def test_the_cost_cap_counts_open_jobs(source: Path, tmp_path: Path) -> None:
    with serving(seconds=0.2) as server:
        price = ("--price-usd-per-mtok", 1000, "--max-cost-usd", 0.05)
        ended = batch(server, source, tmp_path / "out", *price, "--batch-job-rows", 5)
        assert ended.code == 4
        tokens = server.stats()["batch"]["tokens"]
        assert 0 < tokens * 1000 / 1e6 / 2 <= 0.05
        assert summary(tmp_path / "out")["cost"]["usd"] == pytest.approx(tokens * 0.0005)


@pytest.mark.parametrize("has_account", [True, False])
def test_the_cost_is_that_of_the_last_run_and_of_all_runs(
    server: EmulatorServer, source: Path, tmp_path: Path, has_account: bool
) -> None:
    """A dataset on a store has no account."""
    out, price = tmp_path / "out", ("--price-usd-per-mtok", 1000)
    assert batch(server, source, out, *price, "--limit-rows", 40).code == 0
    before = summary(out)["cost"]["tokens"]
    assert batch(server, source, out, *price).code == 0
    if not has_account:
        (out / "_run/account.json").unlink()
    cost = json.loads(bulkembed("status", out, "--json").out)["cost"]
    assert cost["tokens"] == server.stats()["batch"]["tokens"]
    assert cost["last_run_tokens"] == cost["tokens"] - before
    assert cost["last_run_usd"] == pytest.approx(cost["last_run_tokens"] * 0.0005)


def test_a_dataset_that_is_overwritten_costs_what_was_paid_since(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert batch(server, source, out).code == 0
    once = summary(out)["cost"]["tokens"]
    assert batch(server, source, out, "--overwrite").code == 0
    assert summary(out)["cost"]["tokens"] == once


def test_an_open_job_that_nobody_needs_is_cancelled(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(seconds=60.0) as server:
        assert batch(server, source, out, "--detach").code == 75
        assert online(server, source, out).code == 0
        assert batch(server, source, out).code == 0
        assert bulkembed("batches", out, "--cancel", "--base-url", server.url).code == 0
        assert server.stats()["batch"]["jobs_open"] == 0


@pytest.mark.faults
def test_a_run_without_rows_waits_for_the_service_for_some_seconds_only(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with serving(seconds=60.0) as server:
        assert batch(server, source, out, "--detach").code == 75
        assert online(server, source, out).code == 0
    begun = time.monotonic()
    ended = batch(server, source, out, "--retry-timeout", "60s")
    assert (ended.code, time.monotonic() - begun < 25) == (0, True)
    assert "batch jobs or their files may be left at the service" in ended.err


def test_the_cost_cap_of_online_runs_counts_batch_jobs(
    server: EmulatorServer, source: Path, tmp_path: Path
) -> None:
    out, price = tmp_path / "out", ("--price-usd-per-mtok", 1000, "--price-factor", 10)
    assert batch(server, source, out, *price, "--limit-rows", 40).code == 0
    cap = round(summary(out)["cost"]["usd"] + 0.01, 4)
    ended = online(server, source, out, *price, "--max-cost-usd", cap)
    assert (ended.code, server.stats()["calls"]) == (4, 0)
    assert f"--max-cost-usd {cap:g} is reached" in ended.err
    assert online(server, source, out, *price, "--max-cost-usd", cap, "--overwrite").code == 0


def test_cancelling_goes_by_the_digest_that_the_dataset_has(source: Path, tmp_path: Path) -> None:
    """Another version may have computed it otherwise."""
    out = tmp_path / "out"
    with serving(seconds=60.0) as server:
        assert batch(server, source, out, "--detach").code == 75
        pinned = json.loads((out / "_run/run.json").read_bytes())
        facts = pinned["embedding"] | {"another_fact": 1}
        changed = {"embedding": facts, "embedding_digest": digest_of(facts)}
        for path in (out / "_run/run.json", *(out / "_run/batch").glob("*.json")):
            content = json.loads(path.read_bytes())
            new = {name: changed.get(name, value) for name, value in content.items()}
            path.write_text(json.dumps(new))
        assert bulkembed("batches", out, "--cancel", "--base-url", server.url).code == 0
        assert server.stats()["batch"]["jobs_open"] == 0
        assert [job["state"] for job in jobs_of(out)] == ["created"]


@pytest.mark.faults
def test_a_transfer_that_keeps_failing_ends_with_the_run(source: Path, tmp_path: Path) -> None:
    with serving(call_faults=(("download", "503", 1.0),)) as server:
        begun = time.monotonic()
        ended = batch(server, source, tmp_path / "out", "--max-runtime", "4s")
        assert (ended.code, time.monotonic() - begun < 20) == (75, True)


VERTEX = ("--vertexai", "--vertex-project", "p", "--vertex-location", "us-central1")


@pytest.fixture
def buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is the bucket of Vertex AI, and a login."""
    (tmp_path / "buckets/bucket").mkdir(parents=True)
    with credentials(tmp_path) as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield tmp_path / "buckets"


@pytest.mark.parametrize("outcome", ["succeeded", "cancelled@0.2", "failed"])
def test_vertex_ai_writes_the_dataset_of_an_online_run(
    source: Path, tmp_path: Path, buckets: Path, outcome: str
) -> None:
    bucket = ("--batch-bucket", buckets / "bucket")
    jobs = {"buckets": (("*", str(buckets)),), "outcomes": (outcome,), "seconds": 0.2}
    with serving(**jobs) as server:
        ended = batch(server, source, tmp_path / "batch", *VERTEX, *bucket)
        assert ended.code == 0, ended.err
        assert server.stats()["calls"] == 0
        check_nothing_left(server)
        assert online(server, source, tmp_path / "online", *VERTEX).code == 0
    check_same(tmp_path / "batch", tmp_path / "online")
    assert not list((buckets / "bucket").rglob("*.jsonl"))


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [1.0, 12.0])
def test_a_job_that_nobody_needs_counts_with_the_rows_that_it_answered(
    source: Path, tmp_path: Path, buckets: Path, seconds: float
) -> None:
    """It is done, or is cancelled while it runs."""
    out = tmp_path / "out"
    vertex = (*VERTEX, "--batch-bucket", buckets / "bucket")
    with serving(
        buckets=(("*", str(buckets)),), seconds=seconds, pending_share=0.0, cancel_seconds=0.5
    ) as server:
        assert batch(server, source, out, *vertex, "--detach").code == 75
        assert online(server, source, out, *VERTEX).code == 0
        time.sleep(1.0)
        last = batch(server, source, out, *vertex)
        assert last.code == 0, last.err
        (job,) = jobs_of(out)
        assert job["state"] == "closed"
        assert job["tokens"] == server.stats()["batch"]["tokens"] > 0
        assert server.stats()["batch"]["files_left"] == 0
    assert "what it cost" not in last.err


def test_open_jobs_of_vertex_ai_are_cancelled(source: Path, tmp_path: Path, buckets: Path) -> None:
    out = tmp_path / "out"
    with serving(buckets=(("*", str(buckets)),), outcomes=("hang",)) as server:
        vertex = (*VERTEX, "--batch-bucket", buckets / "bucket")
        assert batch(server, source, out, *vertex, "--detach").code == 75
        cancelled = bulkembed("batches", out, "--cancel", "--base-url", server.url, *vertex)
        assert cancelled.code == 0, cancelled.err
        assert server.stats()["batch"]["jobs_open"] == 0
        assert batch(server, source, out, *vertex).code == 0
        check_nothing_left(server)


@pytest.mark.parametrize("keep", [(), ("--keep-remote-files",)])
def test_a_job_with_its_files_in_another_bucket_is_not_paid_again(
    source: Path, tmp_path: Path, buckets: Path, keep: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    (buckets / "other").mkdir()
    with serving(buckets=(("*", str(buckets)),), seconds=0.2) as server:
        there, elsewhere = (
            (*VERTEX, "--batch-bucket", buckets / name) for name in ("bucket", "other")
        )
        assert batch(server, source, out, *there, "--detach").code == 75
        time.sleep(0.3)
        stuck = batch(server, source, out, *elsewhere, *keep)
        assert stuck.code == 75
        assert "Use the --batch-bucket with which the job was created" in stuck.last
        assert batch(server, source, out, *there).code == 0
        assert server.stats()["batch"]["jobs_created"] == 1
        check_nothing_left(server)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (VERTEX, "--batch-bucket gs://BUCKET/FOLDER"),
        (("--batch-bucket", "gs://bucket"), "--batch-bucket works with --vertexai only"),
        (("--mode", "online"), "--batch-poll needs --mode batch"),
        (("--retry-failed",), "--retry-failed cannot be combined with --mode batch"),
        (("--dedupe", "off"), "--dedupe off"),
        (("--tier", "free"), "--tier free has no batch jobs"),
        (("--batch-max-wait", "1h"), "--batch-max-wait needs --mode auto"),
        (("--mode", "online", "--detach"), "--detach needs --mode batch"),
        (("--enqueued-tokens", "0"), "--enqueued-tokens"),
        (("--batch-job-rows", "0"), "--batch-job-rows"),
    ],
)
def test_options_that_contradict_batch_jobs_are_refused(
    server: EmulatorServer, source: Path, tmp_path: Path, args: tuple[str, ...], words: str
) -> None:
    ended = batch(server, source, tmp_path / "out", *args)
    assert (ended.code, server.stats()["batch"]["jobs_created"]) == (2, 0)
    assert words in ended.err
