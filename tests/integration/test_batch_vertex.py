"""Batch jobs of Vertex AI, with a bucket that is a local folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.batch_api import FakeTime
from support.batches import Batches, impatient
from support.gemini import TEXTS, config_of, embed, items
from support.google_login import credentials

from bulkembed.emulator.batch_settings import BatchSettings
from bulkembed.emulator.quotas import Clock
from bulkembed.emulator.server import EmulatorServer
from bulkembed.emulator.settings import EmulatorSettings
from bulkembed.schemas.embedding import Service, ServiceConfig
from bulkembed.schemas.errors import CallRejected, ConfigError, JobRejected, Unavailable
from bulkembed.transforms.clients.batch_service import open_batch_service
from bulkembed.transforms.clients.batch_vertex import VertexBatches
from bulkembed.transforms.clients.remote_jobs import MISSING_FILE, RemoteState
from bulkembed.transforms.clients.retry_policy import RetryPolicy

Opened = Callable[..., Any]


@pytest.fixture(autouse=True)
def _signed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with credentials(tmp_path) as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield


@contextmanager
def batches(
    folder: Path, *, model: str = "gemini-embedding-001", **batch: Any
) -> Iterator[Batches]:
    """A client of Vertex AI; `batch` are the emulator's settings of batch jobs."""
    time, waits = FakeTime(), list[float]()
    retry = impatient(waits)
    bucket = folder / "buckets/bucket"
    bucket.mkdir(parents=True)
    settings = EmulatorSettings(
        batch=BatchSettings(buckets=(("*", str(folder / "buckets")),), **batch)
    )
    with EmulatorServer(settings, Clock(time)) as server:
        location = "global" if model == "gemini-embedding-2" else "us-central1"
        service = ServiceConfig(
            kind=Service.CUSTOM, base_url=server.url, api_version="v1beta1", vertexai=True,
            vertex_project="p", vertex_location=location, timeout_s=20,
        )  # fmt: skip
        embedding = config_of(dim=128, model=model)
        client = VertexBatches(service, embedding, None, str(bucket), retry)
        try:
            yield Batches(client, server, service, embedding, time, folder, waits)
        finally:
            client.close()


@pytest.mark.parametrize("model", ["gemini-embedding-001", "gemini-embedding-2"])
def test_a_job_gives_the_vectors_of_online_calls(tmp_path: Path, model: str) -> None:
    with batches(tmp_path, model=model) as one:
        job = one.submit(TEXTS)
        assert job.name.startswith("projects/p/locations/")
        assert job.display_name == "job-1"
        found = one.client.get(job.name)
        assert found is not None
        assert (found.state, found.done, found.failed) == (RemoteState.SUCCEEDED, len(TEXTS), 0)
        assert found.results[0].startswith("gs://bucket/job-1/results/")
        lines = {line.key: line for line in one.lines(found)}
        online = embed(one.server.url, TEXTS, dim=128, model=model, key="x")
        for content, vector in zip(items(TEXTS, model=model), online.vectors, strict=True):
            line = lines.pop(content.hash)
            assert line.vector is not None
            np.testing.assert_array_equal(line.vector, vector)
            assert line.tokens
        assert not lines


def test_nothing_is_left_when_all_is_deleted(tmp_path: Path) -> None:
    with batches(tmp_path) as one:
        job = one.submit(TEXTS)
        found = one.client.get(job.name)
        assert found is not None
        for _ in range(2):  # What is gone already is no error.
            one.client.delete_file("gs://bucket/job-1/requests.jsonl")
            one.client.delete_file(found.results[0])
            one.client.delete_job(job.name)
        assert not [path for path in (tmp_path / "buckets").rglob("*") if path.is_file()]
        assert one.counts["jobs_left"] == 0
        assert one.client.get(job.name) is None


def test_a_job_that_is_not_over_yet_is_not_deleted(tmp_path: Path) -> None:
    with batches(tmp_path, seconds=100, cancel_seconds=50) as one:
        name = one.submit(TEXTS).name
        one.client.cancel(name)
        one.client.delete_job(name)
        one.time.now_s += 100
        assert one.counts["jobs_left"] == 1
        one.client.delete_job(name)
        assert one.counts["jobs_left"] == 0


def test_a_job_shows_its_states(tmp_path: Path) -> None:
    with batches(tmp_path, seconds=100) as one:
        name = one.submit(TEXTS).name
        seen = []
        for _ in range(3):
            job = one.client.get(name)
            assert job is not None
            seen.append(job.state)
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
        ("paused", RemoteState.PAUSED),
    ],
)
def test_a_job_that_ends_badly_says_why(tmp_path: Path, outcome: str, state: RemoteState) -> None:
    with batches(tmp_path, outcomes=(f"{outcome}@10",)) as one:
        name = one.submit(TEXTS).name
        one.time.now_s += 20
        job = one.client.get(name)
        assert job is not None
        assert job.state is state
        assert bool(job.reason) == (outcome in ("failed", "cancelled", "expired"))


def test_a_cancelled_job_gives_the_rows_that_were_finished(tmp_path: Path) -> None:
    with batches(tmp_path, seconds=100, pending_share=0, vertex_files=1) as one:
        name = one.submit([f"text {number}" for number in range(40)]).name
        one.time.now_s += 50
        one.client.cancel(name)
        one.client.cancel(name)
        job = one.client.get(name)
        assert job is not None
        assert job.state is RemoteState.CANCELLED
        lines = one.lines(job)
        assert 0 < len(lines) < 40
        assert all(line.error is None for line in lines)


def test_failed_rows_carry_their_words(tmp_path: Path) -> None:
    with batches(tmp_path, row_faults=(("400", 0.5), ("503", 0.5))) as one:
        job = one.client.get(one.submit([f"text {number}" for number in range(40)]).name)
        assert job is not None
        assert job.state in (RemoteState.PARTIAL, RemoteState.SUCCEEDED)
        assert job.failed == 40
        lines = one.lines(job)
        assert len(lines) == 40
        errors = [line.error for line in lines if line.error is not None]
        assert {(error.http_status, error.about_row) for error in errors} == {
            (400, True), (503, False),
        }  # fmt: skip


@pytest.mark.parametrize("fault", ["lost", "lost-504", "503"])
def test_a_job_whose_creation_was_not_answered_is_found_by_its_name(
    tmp_path: Path, fault: str
) -> None:
    with batches(tmp_path, call_script=("create:ok", f"create:{fault}")) as one:
        one.submit(TEXTS, "job-0")
        file = one.upload(one.job_file(TEXTS))
        with pytest.raises(Unavailable):
            one.client.create(file, "job-1")
        job = one.client.find("job-1", one.time.now_s)
        assert (job is not None) == fault.startswith("lost")
        assert job is None or job.display_name == "job-1"
        assert one.counts["jobs_created"] == 1 + (job is not None)


def test_a_job_without_results_is_missing_a_file(tmp_path: Path) -> None:
    with batches(tmp_path, seconds=100) as one:
        job = one.submit(TEXTS)
        with pytest.raises(CallRejected) as caught:
            one.client.download(job, tmp_path / "results.jsonl")
        assert caught.value.code == MISSING_FILE


def test_a_region_without_batch_jobs_is_rejected(tmp_path: Path) -> None:
    with batches(tmp_path) as one:
        file = one.upload(one.job_file(TEXTS))
        service = ServiceConfig(
            kind=Service.CUSTOM, base_url=one.server.url, api_version="v1", vertexai=True,
            vertex_project="p", vertex_location="asia-east1",
        )  # fmt: skip
        client = open_batch_service(
            service, one.embedding, None, str(tmp_path / "buckets/bucket"), RetryPolicy()
        )
        with pytest.raises(CallRejected, match="asia-east1"):
            client.create(file, "job-1")
        client.close()


def test_without_credentials_the_way_to_sign_in_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with batches(tmp_path) as one, pytest.raises(JobRejected, match="gcloud auth"):
        one.client.get("projects/p/locations/l/batchPredictionJobs/1")


VERTEX: dict[str, Any] = {
    "kind": Service.VERTEX, "vertexai": True, "vertex_project": "p",
    "vertex_location": "us-central1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("service", "model", "bucket", "words"),
    [
        (VERTEX, "gemini-embedding-001", None, "needs a bucket"),
        (VERTEX, "gemini-embedding-001", "/tmp/folder", "use gs://BUCKET"),
        (VERTEX, "gemini-embedding-001", "s3://bucket?region=eu-west-1", "use gs://BUCKET"),
        (VERTEX, "gemini-embedding-001", "ftp://bucket", "ftp:// paths are not supported"),
        (VERTEX, "text-embedding-005", "gs://bucket", "does not support --model"),
        (
            {"kind": Service.VERTEX, "vertexai": True}, "gemini-embedding-001", "gs://bucket",
            "does not work with a key",
        ),
    ],
)  # fmt: skip
def test_what_vertex_cannot_do_in_batch_mode_is_said_at_once(
    service: dict[str, Any], model: str, bucket: str | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        open_batch_service(
            ServiceConfig(**service), config_of(model=model), None, bucket, RetryPolicy()
        )
