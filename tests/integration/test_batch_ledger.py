"""The ledger of batch jobs, and its answers, as files of a dataset."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bulkembed.schemas.dead_letters import DeadCode
from bulkembed.schemas.ledger_entry import BatchJob, LedgerState
from bulkembed.schemas.units import CallCounts
from bulkembed.transforms.core.hashing import keys, text_hash
from bulkembed.transforms.dataset.batch_answers import (
    RejectedText,
    read_rejected,
    rejected_keys,
    write_answers,
    write_rejected,
)
from bulkembed.transforms.dataset.batch_ledger import BatchLedger, digest_of, job_texts, new_name
from bulkembed.transforms.dataset.dataset import Dataset
from bulkembed.transforms.dataset.known_vectors import VectorBlock

HASHES = [text_hash(None, f"text {n}") for n in range(5)]
SUFFIXES = (".texts", ".missing")
TEXTS = job_texts(HASHES, [False, True, None, False, False])


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.open(str(tmp_path))


def entry(name: str | None = None, planned_at: float = 1.0) -> BatchJob:
    return BatchJob(
        name or new_name(), LedgerState.PLANNED, 5, 60, 80, 900, digest_of(TEXTS), "d", planned_at
    )


def test_jobs_are_read_again_in_the_order_of_their_planning(dataset: Dataset) -> None:
    ledger = BatchLedger(dataset)
    late, early = entry(planned_at=2.0), entry(planned_at=1.0)
    for one in (late, early):
        ledger.add(one, TEXTS)
    again = BatchLedger(dataset)
    assert again.jobs == (early, late)
    texts = again.texts(early)
    assert texts is not None
    assert sorted(texts["key"]) == sorted(keys(HASHES))
    assert dict(zip(texts["key"].tolist(), texts["flag"].tolist(), strict=True)) == dict(
        zip(keys(HASHES).tolist(), (0, 1, 2, 0, 0), strict=True)
    )


def test_a_damaged_entry_is_a_job_that_may_have_been_created(dataset: Dataset) -> None:
    job = entry()
    BatchLedger(dataset).add(job, TEXTS)
    path = Path(dataset.path("_run/batch", f"{job.display_name}.json"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (found,) = BatchLedger(dataset).jobs
    assert (found.display_name, found.state) == (job.display_name, LedgerState.UPLOADED)
    assert found.rows == len(TEXTS)


def test_a_damaged_list_of_texts_is_none(dataset: Dataset) -> None:
    job = entry()
    ledger = BatchLedger(dataset)
    ledger.add(job, TEXTS)
    path = Path(dataset.path("_run/batch", f"{job.display_name}.texts"))
    for data in (path.read_bytes()[:-1], path.read_bytes()[:-1] + b"\xff", b""):
        path.write_bytes(data)
        assert ledger.texts(job) is None


def test_the_texts_of_another_job_are_none(dataset: Dataset) -> None:
    ledger, job, other = BatchLedger(dataset), entry(), entry()
    ledger.add(job, TEXTS)
    others = job_texts([text_hash(None, "another text")], [False])
    ledger.add(dataclasses.replace(other, contents=digest_of(others)), others)
    path, swapped = (
        Path(dataset.path("_run/batch", f"{one.display_name}.texts")) for one in (job, other)
    )
    path.write_bytes(swapped.read_bytes())
    assert ledger.texts(job) is None


def test_the_keys_of_a_job_are_read_once_and_forgotten_with_its_answers(dataset: Dataset) -> None:
    ledger, job = BatchLedger(dataset), entry()
    ledger.add(job, TEXTS)
    ledger.write_missing(job, TEXTS[:2])
    ended = dataclasses.replace(job, state=LedgerState.COLLECTED, missing=2, answers="a")
    ledger.put(ended)
    again = BatchLedger(dataset)
    expected = (TEXTS["key"].tolist(), TEXTS["key"][:2].tolist())
    for _ in range(2):
        found = (again.text_keys(ended), again.unanswered_keys(ended))
        assert tuple(one.tolist() for one in found if one is not None) == expected
        dataset.delete([f"_run/batch/{job.display_name}{suffix}" for suffix in SUFFIXES])
    again.put(dataclasses.replace(ended, answers=""))
    assert again.text_keys(ended) is None
    assert again.unanswered_keys(ended) is not None
    again.close(ended)
    assert again.unanswered_keys(ended) is None


def test_a_job_that_is_planned_at_another_time_gets_its_place(dataset: Dataset) -> None:
    """The entry of a damaged job gets the time at which the service created it."""
    ledger = BatchLedger(dataset)
    late, early = entry(planned_at=2.0), entry(planned_at=1.0)
    for one in (late, early):
        ledger.add(one, TEXTS)
    assert ledger.jobs == (early, late)
    later = dataclasses.replace(early, planned_at=3.0)
    ledger.put(later)
    assert ledger.jobs == (late, later)


def test_unanswered_texts_are_those_missing_or_all_of_a_failed_job(dataset: Dataset) -> None:
    ledger = BatchLedger(dataset)
    job = entry()
    ledger.add(job, TEXTS)
    failed = dataclasses.replace(job, state=LedgerState.FAILED)
    collected = dataclasses.replace(job, state=LedgerState.COLLECTED)
    ledger.write_missing(job, TEXTS[:2])
    found = [ledger.unanswered(failed), ledger.unanswered(collected)]
    found.append(ledger.unanswered(dataclasses.replace(collected, missing=2)))
    assert [len(one) for one in found if one is not None] == [5, 0, 2]


def test_a_closed_job_keeps_its_entry_only(dataset: Dataset) -> None:
    ledger = BatchLedger(dataset)
    job = entry()
    ledger.add(job, TEXTS)
    write_rejected(dataset, job, [RejectedText("00" * 16, DeadCode.REJECTED, "no", 400)])
    blocks = [VectorBlock(HASHES, np.eye(5, 8, dtype=np.float32), [None] * 5)]
    write_answers(dataset, job, iter(blocks), {})
    assert read_rejected(dataset)[bytes(16)].message == "no"
    assert rejected_keys(dataset).tolist() == [0]
    ledger.close(job)
    assert dataset.names("_run/batch") == [
        f"{job.display_name}.closed", f"{job.display_name}.json"
    ]  # fmt: skip
    assert BatchLedger(dataset).jobs[0].state is LedgerState.CLOSED


@pytest.mark.parametrize("damaged", [".json", ".closed"])
@pytest.mark.parametrize("data", [b"", b'{"display_name": "bulk', None])
def test_the_cost_of_a_closed_job_is_there_twice(
    dataset: Dataset, damaged: str, data: bytes | None
) -> None:
    ledger, job = BatchLedger(dataset), entry()
    ledger.add(job, TEXTS)
    ledger.close(dataclasses.replace(job, counts=CallCounts(texts=5, tokens=77)))
    path = Path(dataset.path("_run/batch", f"{job.display_name}{damaged}"))
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    assert BatchLedger(dataset).jobs == ledger.jobs
    assert ledger.jobs[0].paid_tokens == 77
    ledger.drop(job)
    assert dataset.names("_run/batch") == []


def test_files_without_an_entry_are_leftovers(dataset: Dataset) -> None:
    ledger = BatchLedger(dataset)
    job, killed = entry(), entry()
    ledger.add(job, TEXTS)
    ledger.add(killed, TEXTS)
    dataset.delete([f"_run/batch/{killed.display_name}.json"])
    assert BatchLedger(dataset).leftovers == (f"_run/batch/{killed.display_name}.texts",)


def test_answers_that_a_lost_worker_writes_for_a_closed_job_are_left_over(dataset: Dataset) -> None:
    ledger, job = BatchLedger(dataset), entry()
    ledger.add(job, TEXTS)
    ledger.close(job)
    assert BatchLedger(dataset).leftovers == ()
    blocks = [VectorBlock(HASHES, np.eye(5, 8, dtype=np.float32), [None] * 5)]
    name = write_answers(dataset, job, iter(blocks), {})
    assert BatchLedger(dataset).leftovers == (name,)
