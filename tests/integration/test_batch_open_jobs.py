"""Jobs that may exist at the service are never created twice, and never forgotten."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.batches import Batches, batches

from bulkembed.pipeline.batch.open_jobs import OpenJobs
from bulkembed.schemas.batch import BatchConfig
from bulkembed.schemas.embedding import EmbeddingConfig
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.core.hashing import keys, text_hash
from bulkembed.transforms.dataset.batch_answers import write_answers
from bulkembed.transforms.dataset.batch_ledger import NO_TEXTS, BatchLedger, job_texts, new_name
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.known_vectors import VectorBlock

EMBEDDING = EmbeddingConfig("developer", "gemini-embedding-001")


def uploaded(one: Batches, ledger: BatchLedger) -> BatchJob:
    """A job whose upload took more than ten minutes."""
    name = new_name()
    file = one.upload(one.job_file(["a", "b"]), name)
    entry = BatchJob(
        display_name=name, state=LedgerState.UPLOADED, rows=2, tokens=2, token_bound=2,
        file_bytes=100, contents="", embedding_digest="", planned_at=time.time() - 3600, file=file,
    )  # fmt: skip
    ledger.add(entry, NO_TEXTS)
    return entry


def jobs_of(
    one: Batches,
    ledger: BatchLedger,
    stopped: Callable[[], bool] = lambda: False,
    poll_max_s: float = 1.0,
) -> OpenJobs:
    def sleep(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not stopped():
            time.sleep(0.01)

    retry = RetryPolicy(10.0, stopped, sleep)
    return OpenJobs(one.client, ledger, BatchConfig(poll_max_s=poll_max_s), retry, EMBEDDING)


def appearing(one: Batches, after_s: float) -> Callable[[], bool]:
    """Move the emulator's clock on with real time, so that a new job gets into the list."""
    begun, before = time.monotonic(), one.time.now_s

    def stopped() -> bool:
        one.time.now_s = before + min(after_s, time.monotonic() - begun)
        return False

    return stopped


def test_a_job_that_is_not_in_the_list_yet_is_not_created_again(tmp_path: Path) -> None:
    with batches(tmp_path, call_script=("create:lost",), list_lag_s=1.0) as one:
        ledger = BatchLedger(Dataset.open(str(tmp_path / "out")))
        entry = uploaded(one, ledger)
        created = jobs_of(one, ledger, appearing(one, 2.0)).creation.create(entry)
        assert created.state is LedgerState.CREATED
        assert one.counts["jobs_created"] == 1


def passing(one: Batches, waits: list[float]) -> RetryPolicy:
    """Waits no real time: the emulator's clock is moved on."""

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        one.time.now_s += seconds

    return RetryPolicy(600.0, sleep=sleep, clock=lambda: sum(waits))


def test_the_look_for_a_new_job_does_not_depend_on_the_interval_of_polls(tmp_path: Path) -> None:
    with batches(tmp_path, call_script=("create:lost",), list_lag_s=3.0) as one:
        ledger = BatchLedger(Dataset.open(str(tmp_path / "out")))
        entry = uploaded(one, ledger)
        settings = BatchConfig(poll_max_s=0.1)
        jobs = OpenJobs(one.client, ledger, settings, passing(one, []), EMBEDDING)
        assert jobs.creation.create(entry).state is LedgerState.CREATED
        assert one.counts["jobs_created"] == 1


@pytest.mark.parametrize(
    ("tried_s_ago", "waits"),
    [
        pytest.param(None, 0.0, id="not-tried"),
        pytest.param(3600.0, 0.0, id="long-ago"),
        pytest.param(1.0, 15.0, id="just-now"),
        pytest.param(-600.0, 15.0, id="by-another-clock"),
        pytest.param("unknown", 15.0, id="by-an-earlier-version"),
    ],
)
def test_only_a_job_that_was_just_tried_is_waited_for(
    tmp_path: Path, tried_s_ago: float | str | None, waits: float
) -> None:
    with batches(tmp_path) as one:
        ledger = BatchLedger(Dataset.open(str(tmp_path / "out")))
        entry = uploaded(one, ledger)
        if tried_s_ago != "unknown":
            at = None if tried_s_ago is None else time.time() - float(tried_s_ago)
            ledger.put(dataclasses.replace(entry, tried_at=at))
        waited: list[float] = []
        jobs = OpenJobs(one.client, ledger, BatchConfig(), passing(one, waited), EMBEDDING)
        jobs.recover("")
        assert sum(waited) == waits
        assert ledger.jobs == ()


def test_a_job_is_noted_as_tried_before_the_service_is_asked(tmp_path: Path) -> None:
    with batches(tmp_path, call_script=("create:reset",)) as one:
        ledger = BatchLedger(Dataset.open(str(tmp_path / "out")))
        entry = dataclasses.replace(uploaded(one, ledger), tried_at=None)
        ledger.put(entry)
        seen: list[float | None] = []

        def sleep(seconds: float) -> None:
            seen.extend(job.tried_at for job in BatchLedger(ledger.dataset).jobs)

        retry = RetryPolicy(600.0, sleep=sleep, clock=lambda: float(len(seen)))
        jobs = OpenJobs(one.client, ledger, BatchConfig(), retry, EMBEDDING)
        jobs.creation.create(entry)
        assert seen
        assert all(at is not None and abs(at - time.time()) < 60 for at in seen)


def test_a_job_that_used_up_the_quota_itself_is_found(tmp_path: Path) -> None:
    """Its answer was lost, so the second creation gets a 429."""
    script = ("create:lost", "create:429")
    with batches(tmp_path, call_script=script, list_lag_s=0.6) as one:
        ledger = BatchLedger(Dataset.open(str(tmp_path / "out")))
        entry = uploaded(one, ledger)
        created = jobs_of(one, ledger, appearing(one, 2.0), poll_max_s=0.1).creation.create(entry)
        assert created.state is LedgerState.CREATED
        assert one.counts["jobs_created"] == 1


def test_a_run_that_is_stopped_forgets_no_job(tmp_path: Path) -> None:
    with batches(tmp_path, list_lag_s=1.0) as one:
        ledger = BatchLedger(Dataset.open(str(tmp_path / "out")))
        entry = uploaded(one, ledger)
        one.client.create(entry.file, entry.display_name)
        jobs_of(one, ledger, lambda: True).recover("")
        assert ledger.jobs == (entry,)
        jobs_of(one, ledger, appearing(one, 2.0)).recover("")
        assert [job.state for job in ledger.jobs] == [LedgerState.CREATED]


def test_a_job_whose_end_is_not_waited_for_keeps_its_cost_for_the_next_run(tmp_path: Path) -> None:
    with batches(tmp_path, seconds=60.0, cancel_seconds=5.0) as one:
        ledger = BatchLedger(Dataset.open(str(tmp_path / "out")))
        jobs_of(one, ledger).creation.create(uploaded(one, ledger))
        jobs_of(one, ledger, lambda: True).end.finish()
        assert [job.state for job in ledger.jobs] == [LedgerState.CREATED]
        one.time.now_s += 10.0
        jobs_of(one, ledger).end.finish()
        assert [job.state for job in ledger.jobs] == [LedgerState.CLOSED]


MAX_TOKENS = EMBEDDING.max_billed_tokens
HASHES = [text_hash(None, f"text {n}") for n in range(5)]


def answered(ledger: BatchLedger, state: LedgerState) -> BatchJob:
    """A job whose answers are in the dataset, but for one text, and that the service lost."""
    entry = BatchJob(
        display_name=new_name(), state=state, rows=5, tokens=50, token_bound=80, file_bytes=100,
        contents="", embedding_digest="", planned_at=time.time(), job="batches/lost",
    )  # fmt: skip
    ledger.add(entry, job_texts(HASHES, [False] * 5))
    blocks = [VectorBlock(HASHES[:4], np.eye(4, 8, dtype=np.float32), [None] * 4)]
    answers = write_answers(ledger.dataset, entry, iter(blocks), {})
    if state is LedgerState.COLLECTED:
        ledger.write_missing(entry, job_texts(HASHES[4:], [False]))
        ledger.put(dataclasses.replace(entry, answers=answers, missing=1))
    return entry


@pytest.mark.parametrize("state", [LedgerState.COLLECTED, LedgerState.CREATED])
def test_answers_in_the_dataset_outlive_the_job_at_the_service(
    tmp_path: Path, state: LedgerState
) -> None:
    """The entry of a collected job is damaged, or a run was killed before it wrote the entry."""
    dataset = Dataset.open(str(tmp_path / "out"))
    entry = answered(BatchLedger(dataset), state)
    if state is LedgerState.COLLECTED:
        path = Path(dataset.path("_run/batch", f"{entry.display_name}.json"))
        path.write_bytes(path.read_bytes()[:50])
    with batches(tmp_path) as one:
        ledger = BatchLedger(dataset)
        jobs = jobs_of(one, ledger)
        jobs.recover("")
        assert list(jobs.take_ended()) == []
    assert BatchLedger(dataset).jobs == ledger.jobs != ()
    for found in ledger.jobs:
        assert (found.state, found.counts.texts) == (LedgerState.COLLECTED, 4)
        assert Path(dataset.path(found.answers)).is_file()
        unanswered = ledger.unanswered(found)
        assert unanswered is not None
        assert unanswered["key"].tolist() == keys(HASHES[4:]).tolist()
        assert abs(found.planned_at - time.time()) < 60
        assert (found.counts.tokens, found.unconfirmed) == (
            (0, 4 * MAX_TOKENS) if state is LedgerState.COLLECTED else (40, 40)
        )


def created(one: Batches, ledger: BatchLedger, jobs: OpenJobs) -> BatchJob:
    """A job with 40 texts at the service."""
    name, texts = new_name(), [f"text {number}" for number in range(40)]
    file = one.upload(one.job_file(texts), name)
    hashes = job_texts([text_hash(None, text) for text in texts], [False] * 40)
    entry = BatchJob(
        display_name=name, state=LedgerState.UPLOADED, rows=40, tokens=200, token_bound=300,
        file_bytes=100, contents="", embedding_digest="", planned_at=time.time(), file=file,
    )  # fmt: skip
    ledger.add(entry, hashes)
    return jobs.creation.create(entry)


@pytest.mark.parametrize(
    ("outcome", "cost"),
    [
        pytest.param("vanish@10", 300, id="vanished"),
        pytest.param("failed@10", 0, id="failed"),
        pytest.param("expired@10", 300, id="expired"),
    ],
)
def test_a_job_whose_answers_are_lost_costs_at_most_what_is_counted(
    tmp_path: Path, outcome: str, cost: int
) -> None:
    with batches(tmp_path, outcomes=(outcome,)) as one:
        ledger = BatchLedger(Dataset.open(str(tmp_path / "out")))
        jobs = jobs_of(one, ledger)
        created(one, ledger, jobs)
        one.time.now_s += 20
        assert list(jobs.take_ended()) == []
        (entry,) = ledger.jobs
        assert entry.state is LedgerState.FAILED
        assert (entry.counts.tokens, entry.unconfirmed, entry.paid_tokens) == (0, cost, cost)


def test_a_job_that_takes_long_to_cancel_costs_at_most_what_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bulkembed.pipeline.batch.job_end.CANCEL_WAIT_S", 0.2)
    with batches(tmp_path, seconds=100, cancel_seconds=60.0) as one:
        ledger = BatchLedger(Dataset.open(str(tmp_path / "out")))
        jobs = jobs_of(one, ledger, poll_max_s=0.1)
        created(one, ledger, jobs)
        jobs.end.finish()
        (entry,) = ledger.jobs
        assert (entry.state, entry.paid_tokens) == (LedgerState.CLOSED, 300)


def test_a_damaged_entry_of_a_job_that_is_gone_costs_at_most_what_is_counted(
    tmp_path: Path,
) -> None:
    with batches(tmp_path) as one:
        dataset = Dataset.open(str(tmp_path / "out"))
        ledger = BatchLedger(dataset)
        entry = created(one, ledger, jobs_of(one, ledger))
        one.client.delete_job(entry.job)
        path = Path(dataset.path("_run/batch", f"{entry.display_name}.json"))
        path.write_bytes(b"{")
        jobs_of(one, BatchLedger(dataset)).recover("")
        (found,) = BatchLedger(dataset).jobs
        assert (found.state, found.paid_tokens) == (LedgerState.CLOSED, 40 * MAX_TOKENS)
        assert one.counts["files_left"] == 1  # Nobody knows the name of the results.
