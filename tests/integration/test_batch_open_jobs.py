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
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.transforms.clients.retry_policy import RetryPolicy
from bulkembed.transforms.core.hashing import keys, text_hash
from bulkembed.transforms.dataset.batch_answers import write_answers
from bulkembed.transforms.dataset.batch_ledger import NO_TEXTS, BatchLedger, job_texts, new_name
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.known_vectors import VectorBlock


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
    return OpenJobs(one.client, ledger, BatchConfig(poll_max_s=poll_max_s), retry)


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
