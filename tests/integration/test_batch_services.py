"""What callers of `BatchService` rely on, whichever service has the batch jobs."""

from __future__ import annotations

import concurrent.futures
import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.batches import TIMEOUT_S, Batches, batches, vertex_batches
from support.gemini import TEXTS, embed, items

from bulkembed.schemas.errors import CallRejected, JobRejected, OutputError, Unavailable
from bulkembed.transforms.clients.remote_jobs import MISSING_FILE, RemoteJob, RemoteState

Opener = Callable[..., AbstractContextManager[Batches]]
MANY = [f"text {number}" for number in range(40)]


@pytest.fixture(params=[batches, vertex_batches], ids=["developer", "vertex"])
def opener(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.param
    return opener


def present(one: Batches, name: str) -> RemoteJob:
    """A job that exists."""
    job = one.client.get(name)
    assert job is not None
    return job


def unused_name(one: Batches) -> str:
    """The name that a job could have."""
    known = one.submit(TEXTS, "another").name
    return f"{known.rpartition('/')[0]}/123"


# A job and its answers.


@pytest.mark.parametrize("model", ["gemini-embedding-001", "gemini-embedding-2"])
def test_a_job_gives_the_vectors_of_online_calls(
    opener: Opener, tmp_path: Path, model: str
) -> None:
    with opener(tmp_path, model=model) as one:
        created = one.submit(TEXTS)
        assert created.display_name == "job-1"
        assert created.created_at == pytest.approx(one.time.now_s)
        job = present(one, created.name)
        assert (job.state, job.done, job.failed, job.reason) == (
            RemoteState.SUCCEEDED, len(TEXTS), 0, "",
        )  # fmt: skip
        lines = {line.key: line for line in one.lines(job)}
        online = embed(one.server.url, TEXTS, dim=128, model=model, key=one.key)
        for content, vector in zip(items(TEXTS, model=model), online.vectors, strict=True):
            line = lines.pop(content.hash)
            assert line.vector is not None
            np.testing.assert_array_equal(line.vector, vector)
            assert line.tokens
        assert not lines


def test_failed_rows_carry_their_words(opener: Opener, tmp_path: Path) -> None:
    with opener(tmp_path, row_faults=(("400", 0.5), ("503", 0.5))) as one:
        job = present(one, one.submit(MANY).name)
        assert job.state in (RemoteState.PARTIAL, RemoteState.SUCCEEDED)
        assert job.failed == len(MANY)
        errors = [line.error for line in one.lines(job) if line.error is not None]
        assert len(errors) == len(MANY)
        found = {(error.http_status, error.about_row) for error in errors}
        assert found == {(400, True), (503, False)}


def test_a_job_shows_its_states(opener: Opener, tmp_path: Path) -> None:
    with opener(tmp_path, seconds=100) as one:
        name = one.submit(TEXTS).name
        seen = []
        for _ in range(3):
            seen.append(present(one, name).state)
            one.time.now_s += 50
        assert seen[0] in (RemoteState.QUEUED, RemoteState.PENDING)
        assert seen[1:] == [RemoteState.RUNNING, RemoteState.SUCCEEDED]


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        ("failed", RemoteState.FAILED),
        ("cancelled", RemoteState.CANCELLED),
        ("expired", RemoteState.EXPIRED),
        ("hang", RemoteState.RUNNING),
    ],
)
def test_a_job_that_ends_badly_says_why(
    opener: Opener, tmp_path: Path, outcome: str, state: RemoteState
) -> None:
    with opener(tmp_path, outcomes=(f"{outcome}@10",)) as one:
        name = one.submit(TEXTS).name
        one.time.now_s += 20
        job = present(one, name)
        assert job.state is state
        assert bool(job.reason) == job.state.is_over


def test_a_job_that_vanished_is_none(opener: Opener, tmp_path: Path) -> None:
    with opener(tmp_path, outcomes=("vanish@10",)) as one:
        name = one.submit(TEXTS).name
        present(one, name)
        one.time.now_s += 20
        assert one.client.get(name) is None
        one.client.cancel(name)
        one.client.delete_job(name)


def test_a_job_is_cancelled_once_and_may_be_over(opener: Opener, tmp_path: Path) -> None:
    with opener(tmp_path, seconds=100) as one:
        name = one.submit(TEXTS).name
        for _ in range(2):
            one.client.cancel(name)
            assert present(one, name).state is RemoteState.CANCELLED


def test_nothing_is_left_when_all_is_deleted(opener: Opener, tmp_path: Path) -> None:
    with opener(tmp_path) as one:
        job = present(one, one.submit(TEXTS).name)
        for _ in range(2):  # What is gone already is no error.
            one.client.delete_file(one.client.file_named("job-1"))
            one.client.delete_file(job.results[0])
            one.client.delete_job(job.name)
        assert one.counts["files_left"] == one.counts["jobs_left"] == 0
        assert not [path for path in (tmp_path / "buckets").rglob("*") if path.is_file()]
        assert one.client.get(job.name) is None


def test_the_name_of_an_uploaded_file_is_known_before(opener: Opener, tmp_path: Path) -> None:
    with opener(tmp_path) as one:
        path = one.job_file(TEXTS)
        assert [one.upload(path), one.upload(path)] == [one.client.file_named("job-1")] * 2


def test_the_names_of_another_service_are_rejected(opener: Opener, tmp_path: Path) -> None:
    with opener(tmp_path) as one:
        for name in ("jobs/1", "batches/1/2", "projects/p/batchPredictionJobs/1", ""):
            for call in (one.client.get, one.client.cancel, one.client.delete_job):
                with pytest.raises(JobRejected, match="no batch job of this service"):
                    call(name)
        assert not one.counts["calls"]


def test_threads_get_the_answers_to_their_own_calls(opener: Opener, tmp_path: Path) -> None:
    with opener(tmp_path) as one:
        names = [f"job-{number}" for number in range(12)]

        def work(name: str) -> tuple[str, str]:
            path = one.job_file(TEXTS, f"{name}.jsonl")
            job = one.client.create(one.upload(path, name), name)
            listed = one.client.find(name, one.time.now_s)
            assert listed is not None
            return present(one, job.name).display_name, listed.display_name

        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            assert list(threads.map(work, names)) == [(name, name) for name in names]


# Results that cannot be had.


def test_results_that_are_gone_are_a_missing_file(opener: Opener, tmp_path: Path) -> None:
    with opener(tmp_path) as one:
        job = present(one, one.submit(TEXTS).name)
        one.client.delete_file(job.results[0])
        with pytest.raises(CallRejected) as caught:
            one.client.download(job, tmp_path / "results.jsonl")
        assert caught.value.code == MISSING_FILE
        assert not list(tmp_path.glob("results*"))


def test_a_job_that_is_not_over_is_missing_its_results(opener: Opener, tmp_path: Path) -> None:
    with opener(tmp_path, seconds=100) as one:
        job = one.submit(TEXTS)
        with pytest.raises(CallRejected) as caught:
            one.client.download(job, tmp_path / "results.jsonl")
        assert caught.value.code == MISSING_FILE


def test_a_download_to_a_folder_that_is_not_there_is_an_error_of_the_output(
    opener: Opener, tmp_path: Path
) -> None:
    with opener(tmp_path) as one:
        job = present(one, one.submit(TEXTS).name)
        with pytest.raises(OutputError, match="No such file"):
            one.client.download(job, tmp_path / "none/results.jsonl")


# Failing calls.


@pytest.mark.parametrize("fault", ["lost", "lost-504", "reset", "503"])
def test_a_creation_is_sent_once_and_its_job_is_found_by_its_name(
    opener: Opener, tmp_path: Path, fault: str
) -> None:
    with opener(tmp_path, call_script=("create:ok", f"create:{fault}")) as one:
        one.submit(TEXTS, "job-0")
        file = one.upload(one.job_file(TEXTS))
        before = one.time.now_s
        with pytest.raises(Unavailable):
            one.client.create(file, "job-1")
        job = one.client.find("job-1", before)
        assert (job is not None) == fault.startswith("lost")
        assert job is None or job.display_name == "job-1"
        assert one.counts["jobs_created"] == 1 + (job is not None)
        assert not one.waits


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        *itertools.product(("get", "list", "cancel", "delete"), ("503", "reset")),
        *[("get", fault) for fault in ("429", "hang", "page-200")],
    ],
)
def test_every_other_call_is_retried(opener: Opener, tmp_path: Path, kind: str, fault: str) -> None:
    with opener(tmp_path, call_script=(f"{kind}:{fault}",) * 2, timeout_s=0.5) as one:
        name = one.submit(TEXTS).name
        calls: dict[str, Callable[[], Any]] = {
            "get": lambda: present(one, name),
            "list": lambda: one.client.find("job-1", one.time.now_s),
            "cancel": lambda: one.client.cancel(name),
            "delete": lambda: one.client.delete_job(name),
        }
        calls[kind]()
        assert len(one.waits) == 2
        assert one.counts["jobs_left"] == (kind != "delete")


def test_a_service_that_is_down_is_unavailable_after_a_while(
    opener: Opener, tmp_path: Path
) -> None:
    with opener(tmp_path) as one:
        name = unused_name(one)
        one.server.stop()
        for call in (lambda: one.client.get(name), lambda: one.client.find("a", 0)):
            one.waits.clear()
            with pytest.raises(Unavailable):
                call()
            assert sum(one.waits) == pytest.approx(TIMEOUT_S)
